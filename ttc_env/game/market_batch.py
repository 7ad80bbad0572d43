"""Many markets of one shape, side by side: what batched rounds and batched solvers work on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market, restore_frozen
from ttc_env.game.validation import frozen_array

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism


@dataclass(frozen=True, eq=False)
class _Stacked:
    """What tariffs read of a market, of G at once: provider i of market g is row i G + g."""

    batch: MarketBatch

    @property
    def num_providers(self) -> int:
        return self.batch.num_providers * len(self.batch)

    @property
    def num_levels(self) -> int:
        return self.batch.num_levels

    @cached_property
    def quality(self) -> Array:
        """`[n G, m]`, as the next four."""
        return self._rows(self.batch.quality)

    @cached_property
    def price(self) -> Array:
        return self._rows(self.batch.price)

    @cached_property
    def cost(self) -> Array:
        return self._rows(self.batch.cost)

    @property
    def accuracy(self) -> Array | None:
        return None if self.batch.accuracy is None else self._rows(self.batch.accuracy)

    @property
    def characters(self) -> Array | None:
        return None if self.batch.characters is None else self._rows(self.batch.characters)

    @property
    def alpha(self) -> Array | None:
        """`[n G, 1]` USD, where a market has one number."""
        return None if self.batch.alpha is None else self._per_row(self.batch.alpha)

    @property
    def baseline(self) -> Array:
        """`[n G, 1]` likewise."""
        return self._per_row(self.batch.baseline)

    def _rows(self, table: Array) -> Array:
        """`[n, m, G]` -> `[n G, m]`."""
        return np.moveaxis(table, 2, 1).reshape(-1, self.num_levels)

    def _per_row(self, numbers: Array) -> Array:
        """`[G]` -> `[n G, 1]`."""
        return np.tile(numbers, self.batch.num_providers)[:, None]


@dataclass(frozen=True, eq=False)
class MarketBatch:
    """G markets with n providers and at most m levels each.

    Axis 0 is the provider, then the level; the market comes last.
    """

    quality: Array  # [n, m, G] USD/query; NaN where a provider has fewer levels, as in the next two
    price: Array  # [n, m, G] USD/query, list price
    cost: Array  # [n, m, G] USD/query
    beta: Array  # [G] 1/USD
    outside_value: Array  # [G] USD/query, V_0
    # [n, m, G] chance of a right answer; None where not every provider's is known
    accuracy: Array | None = None
    # [n, m, G] mean characters billed per query; None likewise
    characters: Array | None = None
    # [G] USD, value of a surely right answer; None where not every market has one
    alpha: Array | None = None
    baseline: Any = 0.1  # [G] share of alpha that any answer is worth, or one number

    __setstate__ = restore_frozen

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                object.__setattr__(self, field.name, frozen_array(getattr(self, field.name)))
        shape = self.quality.shape
        object.__setattr__(
            self, "baseline", frozen_array(np.broadcast_to(self.baseline, shape[2:]))
        )
        if len(shape) != 3 or self.price.shape != shape or self.cost.shape != shape:
            raise ValueError(
                "quality, price and cost must be [providers, levels, markets] and of one shape; "
                f"got {shape}, {self.price.shape}, {self.cost.shape}"
            )
        if self.beta.shape != shape[2:] or self.outside_value.shape != shape[2:]:
            raise ValueError(
                f"beta and outside_value need one number per market, {shape[2:]}; got"
                f" {self.beta.shape}, {self.outside_value.shape}"
            )
        _check_users(self.beta, self.outside_value)
        given = ~np.isnan(np.stack([self.quality, self.price, self.cost]))
        counts = given[0].sum(axis=1)  # [n, G] levels
        wrong = (counts == 0) | ~(given == (np.arange(shape[1])[:, None] < counts[:, None])).all(
            axis=(0, 2)
        )
        if wrong.any():
            i, g = np.argwhere(wrong)[0]
            raise ValueError(
                f"provider {i} of market {g}: NaN may only fill the end of a row, the same places"
                " in quality, price and cost, and at least one level must be left"
            )
        if not all(np.isfinite(x[given[0]]).all() for x in (self.quality, self.price, self.cost)):
            raise ValueError(
                "quality, price and cost must be finite, or NaN where a provider has fewer levels"
            )
        if counts.max() < shape[1]:
            raise ValueError(
                f"no provider of any market has more than {counts.max()} of {shape[1]} levels; drop"
                " the levels that are all NaN"
            )

    @cached_property
    def fullest(self) -> int:
        """A market that has all m levels."""
        return int(self.available[:, -1].any(axis=0).argmax())

    @classmethod
    def of(cls, markets: Market | Sequence[Market] | MarketBatch) -> MarketBatch:
        """Stack markets; a batch is returned as it is.

        Raises:
            ValueError: no market, or markets that differ in numbers of providers or of levels.
            TypeError: something else than markets.
        """
        if isinstance(markets, MarketBatch):
            return markets
        markets = listed(markets)
        shapes = {(market.num_providers, market.num_levels) for market in markets}
        if len(shapes) != 1:
            raise ValueError(
                "markets in one batch need one number of providers and of levels; got (providers,"
                f" levels) {sorted(shapes)}. Make one batch for each shape"
            )

        def stack(tables: list[Any], axis: int) -> Array | None:
            known = all(table is not None for table in tables)
            return np.stack(tables, axis=axis) if known else None

        return cls(
            np.stack([market.quality for market in markets], axis=2),
            np.stack([market.price for market in markets], axis=2),
            np.stack([market.cost for market in markets], axis=2),
            np.array([market.beta for market in markets]),
            np.array([market.outside_value for market in markets]),
            stack([market.accuracy for market in markets], 2),
            stack([market.characters for market in markets], 2),
            stack([market.alpha for market in markets], 0),
            np.array([market.baseline for market in markets]),
        )

    @property
    def num_providers(self) -> int:
        return self.quality.shape[0]

    @property
    def num_levels(self) -> int:
        return self.quality.shape[1]

    def __repr__(self) -> str:
        return (
            f"MarketBatch({len(self)} markets: {self.num_providers} providers, up to"
            f" {self.num_levels} levels)"
        )

    def __getitem__(self, g: int) -> Market:
        """Market g on its own."""
        return self.market(range(len(self))[g])

    def __len__(self) -> int:
        """G, the number of markets."""
        return self.quality.shape[2]

    @property
    def available(self) -> np.ndarray:
        """`[n, m, G]`: which levels exist."""
        return ~np.isnan(self.quality)

    def market(self, g: int) -> Market:
        """Market g on its own, its providers named by number."""
        return Market.from_arrays(
            self.quality[:, :, g],
            self.price[:, :, g],
            self.cost[:, :, g],
            beta=float(self.beta[g]),
            outside_value=float(self.outside_value[g]),
            accuracy=None if self.accuracy is None else self.accuracy[:, :, g],
            characters=None if self.characters is None else self.characters[:, :, g],
            alpha=None if self.alpha is None else float(self.alpha[g]),
            baseline=float(self.baseline[g]),
        )

    @cached_property
    def stacked(self) -> Market:
        """G markets seen as one with n G providers, provider i of market g at i G + g: tariffs are
        rules for one provider at a time.
        """
        return cast(Market, _Stacked(self))

    def offers(self, mechanism: Mechanism) -> Offer:
        """Every action's offer, `[n, G, a]`, NaN where a provider has fewer levels
        (`Mechanism.offers`).
        """
        table = mechanism.offers(self.stacked)
        shape = (self.num_providers, len(self), -1)
        return table.map(lambda values: values.reshape(shape))

    def at_costs(self, markets: np.ndarray, factor: Array) -> MarketBatch:
        """B markets: number b is market `markets[b]` with provider i's costs times `factor[i, b]`.

        Args:
            markets: `[B]` indices.
            factor: `[n, B]`, positive.
        """
        moved = object.__new__(MarketBatch)  # what was checked is not checked again
        for field in dataclasses.fields(self):
            table = getattr(self, field.name)
            moved.__dict__[field.name] = None if table is None else table[..., markets]
        moved.__dict__["cost"] = moved.cost * factor[:, None]
        return moved

    def with_betas(self, betas: Sequence[float] | Array) -> MarketBatch:
        """Every market at every beta: G x len(betas) markets, the betas of one market next to each
        other.
        """
        betas = np.asarray(betas, dtype=np.float64)
        _check_users(betas, self.outside_value)
        repeated = self._with_tables(lambda table: np.repeat(table, len(betas), axis=-1))
        object.__setattr__(repeated, "beta", frozen_array(np.tile(betas, len(self))))
        return repeated

    def part(self, markets: slice) -> MarketBatch:
        """Some of the markets, with as many levels as all have: views of these arrays."""
        return self._with_tables(lambda table: table[..., markets])

    def _with_tables(self, change: Callable[[Array], Array]) -> MarketBatch:
        """A batch whose arrays are made from these, which were checked when this one was made."""
        batch = object.__new__(MarketBatch)
        for field in dataclasses.fields(self):
            table = getattr(self, field.name)
            if table is not None:
                table = change(table)
                table.setflags(write=False)
            object.__setattr__(batch, field.name, table)
        return batch


def _check_users(beta: Array, outside_value: Array) -> None:
    """Raise ValueError unless beta is finite and >= 0, and V_0 finite, in every market."""
    if not (np.isfinite(beta) & (beta >= 0)).all() or not np.isfinite(outside_value).all():
        raise ValueError(
            "beta must be finite and >= 0 (1/USD), outside_value finite (USD/query), in every"
            " market"
        )


def listed(markets: Market | Sequence[Market]) -> list[Market]:
    """One market, or several, as a list.

    Raises:
        ValueError: none.
        TypeError: something else than markets.
    """
    if isinstance(markets, str):
        raise TypeError(
            f"market={markets!r} is a name, not a Market; use benchmark={markets!r}, or"
            f" ttc_env.load_market({markets!r})"
        )
    many = [markets] if isinstance(markets, Market) else list(markets)
    for market in many:
        if not isinstance(market, Market):
            raise TypeError(
                f"a {type(market).__name__} is not a Market; see ttc_env.load_market and"
                " Market.from_arrays"
            )
    if not many:
        raise ValueError("no market is given; give at least one")
    return many
