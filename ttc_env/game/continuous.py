"""Games in which the price is a continuous dial between the tariff's lowest and highest choice:
exact replies and equilibria.

Derived in docs, not in the paper: at a given level, U(p) = s(p) (p - c) is single-peaked in p, so
the best price is the unbounded one (GAME.md, theorem 8) clipped to the dial's range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import demand
from ttc_env.game.free_prices import best_markup
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import BestRival, Mechanism, Offer, Outcome
from ttc_env.game.optimum import social_optimum
from ttc_env.game.regret import Regret, compare
from ttc_env.game.types import Array, Market
from ttc_env.game.welfare import price_of_anarchy


class Users(Protocol):
    """Those who choose: a `Market`, or the users of many environments."""

    @property
    def beta(self) -> ArrayLike: ...

    @property
    def outside_value(self) -> ArrayLike: ...


@dataclass(frozen=True, eq=False)
class ContinuousSolution:
    """Equilibria of a market with continuous prices.

    USD per arriving user, unless it says otherwise.
    """

    lowest: Offer  # [n] the offers at the lowest equilibrium (least value to users)
    highest: Offer  # [n] at the highest
    lowest_levels: np.ndarray  # [n]
    highest_levels: np.ndarray  # [n]
    outcome: Outcome  # at the equilibrium of less welfare of the two
    # W*: attained with every price at one end of its dial, so that the grid's optimum is exact
    optimal_welfare: float
    unique: bool  # lowest and highest coincide, up to `tolerance`
    converged: bool
    iterations: int
    gap: float  # largest relative regret at either of the two
    tolerance: float  # USD/query, of prices

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


class Dial(NamedTuple):
    """What providers can offer: at every level, any price or bid between two ends.

    A batch axis may follow the levels'.
    """

    quality: Array  # [n, m, ...] USD/query; NaN where a level does not exist, as in the others
    cost: Array  # [n, m, ...] USD/query
    lowest: Array  # [n, m, ...] USD/query, price or bid
    highest: Array  # [n, m, ...] USD/query

    @classmethod
    def of(cls, mechanism: Mechanism, market: Market) -> Dial:
        """`[n, m]`."""
        base = mechanism.tariff.base(market)
        return cls(
            market.quality,
            market.cost,
            *(mechanism.tariff.price(base, mechanism.tariff.choices[k]) for k in (0, -1)),
        )

    @classmethod
    def of_batch(cls, mechanism: Mechanism, batch: MarketBatch) -> Dial:
        """`[n, m, G]`."""
        shape = batch.num_providers, len(batch), batch.num_levels
        return cls(*(np.moveaxis(x.reshape(shape), 1, 2) for x in cls.of(mechanism, batch.stacked)))


def _best_offers(dial: Dial, users: Users, log_rivals: Array) -> tuple[np.ndarray, Offer]:
    """Each provider's best (level, price) against log A_-i `[n, ...]`; at equal utility the one of
    more value to users.
    """
    beta, rivals = np.asarray(users.beta, dtype=np.float64), np.expand_dims(log_rivals, 1)
    quality, cost, low, high = dial
    blind = beta == 0  # shares do not depend on the price
    markup = best_markup(
        np.subtract(quality - cost, users.outside_value), np.where(blind, 1.0, beta), rivals
    )
    price = np.where(blind, high, np.clip(cost + markup, low, high))
    z = demand.logits(quality - price, beta, users.outside_value)
    log_share = demand.log_share_against(np.where(np.isnan(z), -np.inf, z), rivals)
    profit = price - cost
    by_level = [
        np.moveaxis(x, 1, -1) for x in np.broadcast_arrays(profit, log_share, quality, price, cost)
    ]
    rows = [x.reshape(-1, x.shape[-1]) for x in by_level]
    nothing = np.zeros(len(rows[0]))
    best = compare(rows[0], rows[1], nothing, nothing)[0]
    q, p, c = (x[np.arange(len(best)), best].reshape(np.shape(log_rivals)) for x in rows[2:])
    return best.reshape(np.shape(log_rivals)), Offer(q, q, p, c)


def best_continuous_reply(
    mechanism: Mechanism,
    market: Users,
    offer: Offer,
    outcome: Outcome,
    *,
    dial: Dial | None = None,
    resolution: ArrayLike = 0.0,
) -> Regret:
    """Exact regrets against `offer` where every price between the tariff's lowest and highest
    choice may be asked.

    In the auction the bid does not change what a winner pays: it decides whether a provider wins,
    ties or stays out. The regret is against the best of what some level, claim and bid of its own
    brings about.

    Args:
        market: a `Market`; or, with `dial`, users alone, whose beta and outside value may be arrays
            `[...]`.
        offer, outcome: of the round, `[n, ...]`.
        dial: of a batch; None for the market's.
        resolution: USD/query; profits closer to 0 count as 0 (`regret.resolution`). A number or
            `[...]`.

    Raises:
        ValueError: a mechanism with rules of its own.
    """
    if mechanism.kind == "other":
        raise ValueError(
            f"mechanism {mechanism.name!r} has no formula for continuous prices; use"
            " actions='discrete'"
        )
    dial = Dial.of(mechanism, cast(Market, market)) if dial is None else dial
    rivals = mechanism.allocation.rivals(offer.score, cast(Market, market))
    if mechanism.posts_prices:
        log_rivals = demand.log_rivals(
            demand.logits(offer.score, market.beta, market.outside_value)
        )
        level, best = _best_offers(dial, market, log_rivals)
        profit = (best.price - best.cost)[..., None]
        log_share = mechanism.allocation.log_share(best.score, rivals, cast(Market, market))[
            ..., None
        ]
    else:
        profit, log_share = _bids(mechanism, dial, rivals, market.outside_value)
    own, own_log_share, noise = np.broadcast_arrays(
        outcome.profit_per_query, outcome.log_share, resolution
    )
    rows = profit.reshape(-1, profit.shape[-1]), log_share.reshape(-1, profit.shape[-1])
    found = compare(*rows, own.reshape(-1), own_log_share.reshape(-1), noise.reshape(-1))
    chosen, regret, relative = (x.reshape(own.shape) for x in found)
    if not mechanism.posts_prices:
        level = chosen % dial.quality.shape[1]
    utility = outcome.utility
    return Regret(utility, utility + regret, level, regret, relative)


def _bids(
    mechanism: Mechanism, dial: Dial, rivals: BestRival, outside_value: ArrayLike
) -> tuple[Array, Array]:
    """Profit and log share of all that bids on the dial can come to in the auction, `[n, ..., 3 c
    m]`: at every level and claim to win, to tie, or to stay out. NaN where no bid does it.
    """
    quality, cost, low, high = (np.moveaxis(x, 1, -1)[..., None, :] for x in dial)  # [n, ..., 1, m]
    claim = quality * np.array(mechanism.claims)[:, None]  # [n, ..., c, m]
    settled = mechanism.settled_quality(
        Offer(np.broadcast_to(quality, claim.shape), claim, low, cost)
    )
    rival, ties = rivals.score[..., None, None], rivals.ties[..., None, None]
    reserve = np.asarray(outside_value)[..., None, None]
    bottom, top = claim - high, claim - low  # scores that the dial reaches
    profit = settled - cost - np.maximum(rival, reserve)
    nan = np.full(np.broadcast_shapes(profit.shape, rival.shape), np.nan)
    wins = np.where((top > rival) & (top >= reserve), profit, nan)
    tied = np.where((bottom <= rival) & (rival <= top) & (rival >= reserve), profit, nan)
    out = np.where((bottom < rival) | (bottom < reserve), 0.0, nan)
    shape = (*nan.shape[:-2], -1)
    shares = (
        np.zeros_like(nan),
        np.broadcast_to(-np.log1p(ties), nan.shape),
        np.full_like(nan, -np.inf),
    )
    return tuple(
        np.concatenate([x.reshape(shape) for x in parts], axis=-1)
        for parts in ((wins, tied, out), shares)
    )  # type: ignore[return-value]


def solve_continuous(
    mechanism: Mechanism, market: Market, *, tolerance: float = 1e-12, max_sweeps: int = 100_000
) -> ContinuousSolution:
    """The lowest and the highest equilibrium with continuous prices, by monotone sweeps (GAME.md,
    theorem 3, which holds for any action set).

    Args:
        tolerance: the sweeps end when no value moves by more than this share of the largest
            quality.
        max_sweeps: most sweeps from each end.

    Raises:
        ValueError: not a posted-price mechanism. (For an auction a finer bid changes nothing: see
            `solve`.)
    """
    # At given rivals e (w - lambda) is monotone in the price, so the planner's prices are ends of
    # the dial, which the grid holds.
    best_possible = social_optimum(mechanism.game(market)).welfare
    dial = Dial.of(mechanism, market)
    ends = []
    iterations = 0
    converged = True
    scale = float(np.nanmax(np.abs(market.quality)))
    for value in (
        np.nanmin(dial.quality - dial.highest, axis=1),
        np.nanmax(dial.quality - dial.lowest, axis=1),
    ):
        for _ in range(max_sweeps):
            log_rivals = demand.log_rivals(demand.logits(value, market.beta, market.outside_value))
            levels, offer = _best_offers(dial, market, log_rivals)
            iterations += 1
            moved = np.abs(offer.score - value).max()
            value = offer.score
            if moved <= tolerance * scale:
                break
        else:
            converged = False
        ends.append((levels, offer, mechanism.play(offer, market)))
    (low_levels, lowest, at_low), (high_levels, highest, at_high) = ends
    gap = max(
        float(best_continuous_reply(mechanism, market, o, r).relative.max()) for _, o, r in ends
    )
    worst = at_low if at_low.welfare <= at_high.welfare else at_high
    unique = bool(
        (low_levels == high_levels).all()
        and np.abs(lowest.price - highest.price).max() <= 1e3 * tolerance * scale
    )
    return ContinuousSolution(
        lowest,
        highest,
        low_levels,
        high_levels,
        worst,
        best_possible,
        unique,
        converged,
        iterations,
        gap,
        tolerance,
    )
