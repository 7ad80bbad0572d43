"""Continuous prices, between the tariff's lowest and highest choice: exact replies and equilibria.

Derived in docs, not in the paper: at a given level, U(p) = s(p) (p - c) is single-peaked in p, so
the best price is the unbounded one (GAME.md, theorem 8) clipped to the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import demand
from ttc_env.game.display import Columns, Tabular, offers_of, together
from ttc_env.game.free_prices import best_markup
from ttc_env.game.regret import compare
from ttc_env.game.rules.base import Round, UsersLike, regrets
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market
from ttc_env.game.welfare import price_of_anarchy

if TYPE_CHECKING:
    from ttc_env.game.market_batch import MarketBatch
    from ttc_env.game.mechanisms import Mechanism


@dataclass(frozen=True, eq=False)
class ContinuousSolution(Tabular):
    """Equilibria of a market with continuous prices.

    USD per arriving user, unless it says otherwise.
    """

    market: Market
    mechanism: Mechanism
    lowest: Offer  # [n] the offers at the lowest equilibrium (least value to users)
    highest: Offer  # [n] at the highest
    lowest_levels: np.ndarray  # [n]
    highest_levels: np.ndarray  # [n]
    lowest_reports: np.ndarray  # [n] what is reported; 0 is the truth
    highest_reports: np.ndarray  # [n]
    outcome: Round  # at the equilibrium of less welfare of the two
    # W*: attained with every price at one end of its range, so that the grid's optimum is exact
    optimal_welfare: float
    unique: bool  # lowest and highest coincide, up to `tolerance`
    converged: bool
    iterations: int
    gap: float  # largest relative regret at either of the two
    tolerance: float  # USD/query, of prices

    def __repr__(self) -> str:
        return (
            f"ContinuousSolution({self.market!r}: {'one PNE' if self.unique else 'several PNE'},"
            f" welfare {self.welfare:.6g} of {self.optimal_welfare:.6g})"
        )

    def columns(self) -> Columns:
        """One row for each provider at the lowest equilibrium, then at the highest: what it offers,
        its share of users and its profit (USD per arriving user).
        """
        ends = {
            "lowest": (self.lowest_levels, self.lowest),
            "highest": (self.highest_levels, self.highest),
        }
        play = self.mechanism.play
        return together(
            [(k, offers_of(self.market, at, play(o, self.market))) for k, (at, o) in ends.items()],
            "play",
        )

    @property
    def welfare(self) -> float:
        return float(self.outcome.welfare)

    @property
    def price_of_anarchy(self) -> float:
        """W* / welfare; NaN where that is not positive."""
        return price_of_anarchy(self.optimal_welfare, self.welfare)[0]

    @property
    def user_value(self) -> float:
        return float(self.outcome.user_value)

    @property
    def shares(self) -> Array:
        return self.outcome.share

    @property
    def provider_profit(self) -> Array:
        return self.outcome.utility


class PriceRange(NamedTuple):
    """What providers can offer: with every promise, any price or bid between two ends.

    A promise is a level, or a pair of a level and a report where lies can be told, `promise = level
    * reports + report`. A batch axis may follow. NaN where a promise does not exist.
    """

    quality: Array  # [n, m, ...] USD/query, delivered
    seen: Array  # [n, m, ...] USD/query, as users or the auctioneer see it
    cost: Array  # [n, m, ...] USD/query
    penalty: Array  # [n, m, ...] USD/query, the expected fine
    lowest: Array  # [n, m, ...] USD/query, price or bid
    highest: Array  # [n, m, ...] USD/query

    @classmethod
    def of(cls, mechanism: Mechanism, market: Market) -> PriceRange:
        """`[n, m]`."""
        promise = mechanism.promises(market)
        ends = mechanism.tariff.price_range(mechanism.terms(market)[0])
        penalty = promise.penalty + np.zeros_like(promise.quality)
        tables = (promise.quality, promise.seen, promise.cost, penalty, *ends)
        absent = np.isnan(promise.quality)
        return cls(*(np.where(absent, np.nan, x).reshape(len(x), -1) for x in tables))

    @classmethod
    def of_batch(cls, mechanism: Mechanism, batch: MarketBatch) -> PriceRange:
        """`[n, m, G]`."""
        shape = batch.num_providers, len(batch), -1
        one = cls.of(mechanism, batch.stacked)
        return cls(*(np.moveaxis(x.reshape(shape), 1, 2) for x in one))


def best_offers(
    prices: PriceRange, users: UsersLike, log_rivals: Array
) -> tuple[np.ndarray, Offer]:
    """Under posted prices, each provider's best promise and price against log A_-i `[n, ...]`; at
    equal utility the one of more value to users.
    """
    beta, rivals = np.asarray(users.beta, dtype=np.float64), np.expand_dims(log_rivals, 1)
    quality, seen, cost, penalty, low, high = prices
    own = cost + penalty  # what serving takes from the provider
    blind = beta == 0  # shares do not depend on the price
    markup = best_markup(
        np.subtract(seen - own, users.outside_value), np.where(blind, 1.0, beta), rivals
    )
    price = np.where(blind, high, np.clip(own + markup, low, high))
    z = demand.logits(seen - price, beta, np.asarray(users.outside_value))
    log_share = demand.log_share_against(np.where(np.isnan(z), -np.inf, z), rivals)
    tables = (price - own, log_share, quality, seen, price, cost, penalty)
    by_promise = [np.moveaxis(x, 1, -1) for x in np.broadcast_arrays(*tables)]
    rows = [x.reshape(-1, x.shape[-1]) for x in by_promise]
    nothing = np.zeros(len(rows[0]))
    best = compare(rows[0], rows[1], nothing, nothing)[0]
    q, seen, p, c, fine = (
        x[np.arange(len(best)), best].reshape(np.shape(log_rivals)) for x in rows[2:]
    )
    return best.reshape(np.shape(log_rivals)), Offer(q, seen, p, c, penalty=fine)


def continuous_regret(
    mechanism: Mechanism,
    users: UsersLike,
    played: Round,
    prices: PriceRange,
    *,
    noise: ArrayLike = 0.0,
) -> tuple[Array, Array]:
    """Exact regret, USD per arriving user, and relative regret, `[n, ...]`, where every price
    between the tariff's lowest and highest choice may be asked (`Rule.continuous_replies`).

    Args:
        users: a `Market`, or `Users` of arrays `[...]`.
        played: the round, `[n, ...]`.
        prices: what providers can offer.
        noise: USD/query; profits closer to 0 count as 0 (`Rule.noise`). A number or `[...]`.

    Raises:
        ValueError: a rule without a formula for continuous prices.
    """
    found = mechanism.rule.continuous_replies(prices, played, users)
    return regrets(found, noise)


def solve_continuous(
    mechanism: Mechanism, market: Market, *, tolerance: float = 1e-12, max_sweeps: int = 100_000
) -> ContinuousSolution:
    """The lowest and the highest equilibrium with continuous prices, by monotone sweeps (GAME.md,
    theorem 3, which holds for any action set).

    Args:
        tolerance: the sweeps end when no value moves by more than this share of the largest
            quality.
        max_sweeps: most sweeps from each end.

    mechanism's rule must be posted prices; it calls this function itself (`Rule.solve_continuous`).

    Raises:
        ValueError: a liar's bill is not the price that users see.
    """
    mechanism.check_continuous(market)
    # At given rivals e (w - lambda) is monotone in the price, so the planner's prices are the
    # lowest and the highest, which the grid holds.
    best_possible = mechanism.rule.optimal_welfare(mechanism, market)
    prices = PriceRange.of(mechanism, market)
    ends = []
    iterations = 0
    converged = True
    scale = float(np.nanmax(np.abs(market.quality)))
    for value in (
        np.nanmin(prices.seen - prices.highest, axis=1),
        np.nanmax(prices.seen - prices.lowest, axis=1),
    ):
        for _ in range(max_sweeps):
            log_rivals = demand.log_rivals(demand.logits(value, market.beta, market.outside_value))
            levels, offer = best_offers(prices, market, log_rivals)
            iterations += 1
            moved = np.abs(offer.score - value).max()
            value = offer.score
            if moved <= tolerance * scale:
                break
        else:
            converged = False
        ends.append((levels, offer, mechanism.play(offer, market)))
    (low_promises, lowest, at_low), (high_promises, highest, at_high) = ends
    gap = max(
        float(continuous_regret(mechanism, market, played, prices)[1].max()) for *_, played in ends
    )
    worst = at_low if at_low.welfare <= at_high.welfare else at_high
    unique = bool(
        (low_promises == high_promises).all()
        and np.abs(lowest.price - highest.price).max() <= 1e3 * tolerance * scale
    )
    count = len(mechanism.reports(market))
    return ContinuousSolution(
        market,
        mechanism,
        lowest,
        highest,
        low_promises // count,
        high_promises // count,
        low_promises % count,
        high_promises % count,
        worst,
        best_possible,
        unique,
        converged,
        iterations,
        gap,
        tolerance,
    )
