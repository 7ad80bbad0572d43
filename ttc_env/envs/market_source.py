"""Where an environment's market comes from: one for ever, or one drawn at each reset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ttc_env.game.market_batch import MarketBatch, listed
from ttc_env.game.types import Market

Markets: TypeAlias = (
    Market | Sequence[Market] | MarketBatch | Callable[[np.random.Generator], Market]
)
"""What `market=` takes: a market; several, of which each reset draws one; or a function that makes
one from a generator."""

_STREAM = 0x4D61726B  # so that markets are drawn apart from users' choices under the same seed


class MarketSource:
    """Draws a market at each reset. All have as many providers, and levels, as the first."""

    def __init__(self, markets: Any):
        self._make: Callable[[np.random.Generator], Market] | None = None
        self._markets: list[Market] = []
        if callable(markets):
            self._make = markets
        else:
            many = (
                [markets[g] for g in range(len(markets))]
                if isinstance(markets, MarketBatch)
                else listed(markets)
            )
            self._markets = many
        self._rng = self._generator(None)
        self.first = self._drawn(self._generator(0)) if self._make else self._markets[0]
        for market in self._markets:
            self._check(market)

    def _generator(self, seed: int | None) -> np.random.Generator:
        return np.random.default_rng(None if seed is None else (int(seed), _STREAM))

    def draw(self, seed: int | None) -> Market:
        """The market of the next episode. A seed starts the draws again; None goes on.

        Raises:
            TypeError: the function returned something else than a market.
            ValueError: a market of another shape than the first.
        """
        if seed is not None:
            self._rng = self._generator(seed)
        if self._make is None:
            return self._markets[int(self._rng.integers(len(self._markets)))]
        market = self._drawn(self._rng)
        self._check(market)
        return market

    def _drawn(self, rng: np.random.Generator) -> Market:
        assert self._make is not None
        market = self._make(rng)
        if not isinstance(market, Market):
            raise TypeError(
                f"market=function must return a Market; it returned a {type(market).__name__}."
                " For instance: market=lambda rng: ttc_env.random_markets(1, seed=rng)[0]"
            )
        return market

    def _check(self, market: Market) -> None:
        shapes = [(m.num_providers, m.num_levels) for m in (self.first, market)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "the spaces of an environment do not change, so all of its markets need one number"
                f" of providers and of levels; got (providers, levels) {shapes[0]} and {shapes[1]}"
            )


def market_source(markets: Any) -> MarketSource | None:
    """None where one market is played for ever, or none is given."""
    return None if markets is None or isinstance(markets, Market) else MarketSource(markets)
