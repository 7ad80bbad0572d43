"""Games in which the price is a continuous dial between the tariff's lowest and highest choice: exact replies and equilibria.

Derived in docs, not in the paper: at a given level, U(p) = s(p) (p - c) is single-peaked in p, so the best price is the unbounded one
(GAME.md, theorem 8) clipped to the dial's range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttc_env.game import demand
from ttc_env.game.free_prices import best_markup
from ttc_env.game.mechanisms import Mechanism, Offer, Outcome
from ttc_env.game.optimum import social_optimum
from ttc_env.game.regret import Regret, compare
from ttc_env.game.types import Array, Market
from ttc_env.game.welfare import price_of_anarchy


@dataclass(frozen=True, eq=False)
class ContinuousSolution:
    """Equilibria of a market with continuous prices. USD per arriving user, unless it says otherwise."""

    lowest: Offer  # [n] the offers at the lowest equilibrium (least value to users)
    highest: Offer  # [n] at the highest
    lowest_levels: np.ndarray  # [n]
    highest_levels: np.ndarray  # [n]
    outcome: Outcome  # at the equilibrium of less welfare of the two
    optimal_welfare: float  # W*: attained with every price at one end of its dial, so that the grid's optimum is exact
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


def _best_offers(mechanism: Mechanism, market: Market, log_rivals: Array) -> tuple[np.ndarray, Offer]:
    """Each provider's best (level, price) against log A_-i `[n]`; at equal utility the one of more value to users."""
    tariff = mechanism.tariff
    base = tariff.base(market)
    low, high = (tariff.price(base, tariff.choices[k]) for k in (0, -1))  # [n, m]
    if market.beta == 0:
        price = high  # Shares do not depend on the price.
    else:
        markup = best_markup(market.quality - market.cost - market.outside_value, market.beta, log_rivals[:, None])
        price = np.clip(market.cost + markup, low, high)
    quality = market.quality
    z = np.where(market.available, demand.logits(quality - price, market.beta, market.outside_value), -np.inf)
    profit = price - market.cost
    best, _, _ = compare(profit, demand.log_share_against(z, log_rivals[:, None]), np.zeros(len(z)), np.zeros(len(z)))
    rows = np.arange(len(z))
    q = quality[rows, best]
    return best, Offer(q, q, price[rows, best], market.cost[rows, best])


def best_continuous_reply(mechanism: Mechanism, market: Market, offer: Offer, outcome: Outcome) -> Regret:
    """Exact regrets against `offer` where every price between the tariff's lowest and highest choice may be asked.

    In the auction the bid does not change what a winner pays, so the supremum is the best level's worth less the rivals' score.
    """
    utility = outcome.utility
    rivals = mechanism.allocation.rivals(offer.score, market)
    if mechanism.posts_prices:
        log_rivals = demand.log_rivals(demand.logits(offer.score, market.beta, market.outside_value))
        level, best = _best_offers(mechanism, market, log_rivals)
        log_share = mechanism.allocation.log_share(best.score, rivals, market)
        profit = best.price - best.cost
        _, regret, relative = compare(profit[:, None], log_share[:, None], outcome.profit_per_query, outcome.log_share)
        return Regret(utility, utility + regret, level, regret, relative)
    if mechanism.kind != "auction":
        raise ValueError(f"mechanism {mechanism.name!r} has no formula for continuous prices; use actions='discrete'")
    claim = market.quality * max(mechanism.claims)
    worth = mechanism.settled_quality(Offer(market.quality, claim, market.price, market.cost)) - market.cost
    level = np.nanargmax(worth, axis=1)
    margin = worth[np.arange(len(level)), level] - np.maximum(rivals.score, market.outside_value)
    best_utility = np.maximum(np.maximum(margin, 0.0), utility)
    regret = best_utility - utility
    relative = np.where(best_utility > 0, regret / np.where(best_utility > 0, best_utility, 1.0), np.where(regret > 0, 1.0, 0.0))
    return Regret(utility, best_utility, level, regret, relative)


def solve_continuous(mechanism: Mechanism, market: Market, *, tolerance: float = 1e-12, max_sweeps: int = 100_000) -> ContinuousSolution:
    """The lowest and the highest equilibrium with continuous prices, by monotone sweeps (GAME.md, theorem 3, which holds for any action set).

    Args:
        tolerance: the sweeps end when no value moves by more than this share of the largest quality.
        max_sweeps: most sweeps from each end.

    Raises:
        ValueError: not a posted-price mechanism. (For an auction a finer bid changes nothing: see `solve`.)
    """
    # At given rivals e (w - lambda) is monotone in the price, so the planner's prices are ends of the dial, which the grid holds.
    best_possible = social_optimum(mechanism.game(market)).welfare
    base = mechanism.tariff.base(market)
    low, high = (mechanism.tariff.price(base, mechanism.tariff.choices[k]) for k in (0, -1))
    ends = []
    iterations = 0
    converged = True
    scale = float(np.nanmax(np.abs(market.quality)))
    for value in (np.nanmin(market.quality - high, axis=1), np.nanmax(market.quality - low, axis=1)):
        for _ in range(max_sweeps):
            log_rivals = demand.log_rivals(demand.logits(value, market.beta, market.outside_value))
            levels, offer = _best_offers(mechanism, market, log_rivals)
            iterations += 1
            moved = np.abs(offer.score - value).max()
            value = offer.score
            if moved <= tolerance * scale:
                break
        else:
            converged = False
        ends.append((levels, offer, mechanism.play(offer, market)))
    (low_levels, lowest, at_low), (high_levels, highest, at_high) = ends
    gap = max(float(best_continuous_reply(mechanism, market, o, r).relative.max()) for _, o, r in ends)
    worst = at_low if at_low.welfare <= at_high.welfare else at_high
    unique = bool((low_levels == high_levels).all() and np.abs(lowest.price - highest.price).max() <= 1e3 * tolerance * scale)
    return ContinuousSolution(lowest, highest, low_levels, high_levels, worst, best_possible, unique, converged, iterations, gap, tolerance)
