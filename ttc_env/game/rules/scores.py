"""What score auctions share: who has the best score, what it must reach, and the best allocation.

A provider bids a price and claims a quality; its score is claim minus bid. The highest score serves
everybody if it reaches h = max(V_0, reserve) (GAME.md, "Score auctions"). Scores tie where they are
equal as numbers: a bid that is higher by any amount wins, and equal ones are equally likely to.

Functions alone: rules share these, and never a class. Axis 0 is the provider.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_env.game.arrays import array_module
from ttc_env.game.optimum import Optimum
from ttc_env.game.rules.base import UsersLike, leading
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism


class BestRival(NamedTuple):
    """What a provider needs to know of its rivals in an auction."""

    score: Any  # [n, ...] USD/query: the highest score among the others, -inf if there are none
    ties: Any  # [n, ...] how many of the others have it


def best_rival(score: Any) -> BestRival:
    """The highest score among the others, and how many have it. score: `[n, ...]`."""
    xp = array_module(score)
    best, second, leads = leading(score)
    zero = xp.zeros_like(score)
    leaders = xp.sum(leads + zero, axis=0)
    alone = leads & (leaders == 1)
    seconds = xp.sum((score == second) + zero, axis=0)
    ties = xp.where(alone, seconds, leaders - (leads + zero))
    return BestRival(xp.where(alone, second, best), ties)


def check_settlement(settlement: str) -> None:
    """Raise ValueError unless quality is settled as "delivered" or as "claimed"."""
    if settlement not in ("delivered", "claimed"):
        raise ValueError(f"settlement {settlement!r} is unknown; choose 'delivered' or 'claimed'")


def check_reserve(reserve: float) -> None:
    """Raise ValueError unless reserve is a number of USD/query, or -inf for none."""
    if np.isnan(reserve) or reserve == np.inf:
        raise ValueError(f"reserve is {reserve}; it must be a number of USD/query (-inf for none)")


def settled(offer: Offer, settlement: str) -> Any:
    """USD/query: the quality that the winner is paid for."""
    return offer.quality if settlement == "delivered" else offer.seen


def threshold(reserve: float, users: UsersLike) -> Any:
    """h = max(V_0, reserve), USD/query: what the highest score has to reach."""
    if reserve == -np.inf:
        return users.outside_value
    xp = array_module(users.outside_value)
    return xp.where(users.outside_value > reserve, users.outside_value, reserve)


def log_share(score: Any, rivals: BestRival, h: Any) -> Any:
    """log of the chance to serve: all, an equal part of a tie, or nothing. Shapes broadcast."""
    xp = array_module(score)
    trades = score >= h
    wins = trades & (score > rivals.score)
    ties = trades & (score == rivals.score)
    return xp.where(wins, 0.0, xp.where(ties, -xp.log1p(rivals.ties), -np.inf))


def outside_share(score: Any, h: Any) -> Any:
    """`[...]` 1 where no score reaches h, else 0. score: `[n, ...]`."""
    xp = array_module(score)
    return xp.where(xp.max(score, axis=0) >= h, 0.0, 1.0)


def truthful_bid(mechanism: Mechanism) -> int | None:
    """Which of the price choices is a bid at cost; None where the grid leaves it out."""
    choices, neutral = mechanism.tariff.choices, mechanism.tariff.neutral
    truth = np.flatnonzero(np.isclose(choices, neutral, rtol=0, atol=1e-12))
    return int(truth[0]) if len(truth) else None


def dominant_actions(
    mechanism: Mechanism, market: Market, worth: Array, settlement: str
) -> NDArray[np.intp]:
    """`[n]` flat actions of the dominant strategies where payments follow the second score: the
    level and report with which serving is worth most, and a bid at cost (expected fine included),
    so that the score is that worth. Of equally good reports the truth, under settlement on
    delivered quality always: nothing else is paid for.

    worth: `[n, a]` USD/query, of every action.

    Raises:
        ValueError: the grid leaves out the truthful bid, or bids are held elsewhere.
    """
    truth = truthful_bid(mechanism)
    if np.isnan(mechanism.tariff.neutral):
        raise ValueError(
            "bids are held away from cost, so that no strategy is dominant; with actions='discrete'"
            " or 'flat' such a round is enumerated"
        )
    if truth is None:
        raise ValueError(
            f"the auction's bid grid {mechanism.tariff.choices} leaves out the truthful bid"
            f" {mechanism.tariff.neutral}, so that no strategy is dominant; add it"
        )
    reports = np.arange(len(mechanism.reports(market)) if settlement == "claimed" else 1)[:, None]
    levels = np.arange(market.num_levels)
    # flat actions of each report and level
    at_cost = mechanism.join(levels, truth, reports, market=market).reshape(-1)
    return np.asarray(at_cost[np.nanargmax(worth[:, at_cost], axis=1)])


def best_worth(
    mechanism: Mechanism, market: Market, worth: Callable[[Offer], Any], settlement: str
) -> Array:
    """`[n, k]` USD/query: what serving is worth at each level, told truly; where claims are paid
    for, with each report. NaN where there is none.
    """
    table = np.asarray(worth(mechanism.offers(market)))
    by_part = table.reshape(len(table), *mechanism.grid(market))[:, :, 0]  # bids change nothing
    return by_part[:, :, : None if settlement == "claimed" else 1].reshape(len(table), -1)


def optimum(mechanism: Mechanism, market: Market, h: float) -> Optimum:
    """`best_allocation` of a market. h: USD/query, what the highest score has to reach."""
    table = mechanism.offers(market)
    profile, welfare = best_allocation(
        table.score, table.quality - table.cost, h, market.outside_value
    )
    return Optimum(profile, welfare, 1, True, 0.0)


def best_allocation(
    score: Array, surplus: Array, h: float, outside_value: float
) -> tuple[NDArray[np.intp], float]:
    """The profile of most welfare where the highest score serves, and that welfare (USD per
    arriving user).

    Whoever serves at a score s, the others must be able to score less; those who cannot, because s
    is their lowest, tie with it. So at each s the best single provider serves, or the tie that is
    forced, joined by those who raise its mean.

    Args:
        score, surplus: `[n, a]` USD/query; NaN where an action does not exist.
        h: USD/query, what the highest score has to reach.
        outside_value: USD/query, V_0: welfare without trade.
    """
    n = len(score)
    exists = ~np.isnan(score)
    low = np.where(exists, score, np.inf)
    bottom = low.argmin(axis=1)
    lowest = low[np.arange(n), bottom]
    floor = float(lowest.max())
    best, welfare = bottom, outside_value if floor < h else -np.inf
    # Above everybody's lowest score, and at it for a provider that alone has it, one serves.
    alone = (lowest == floor).sum() == 1
    free = exists & (score >= h) & (score > floor)
    if alone:
        free[lowest == floor] |= (exists & (score >= h) & (score == floor))[lowest == floor]
    if free.any():
        i, action = np.unravel_index(np.where(free, surplus, -np.inf).argmax(), score.shape)
        if surplus[i, action] > welfare:
            best, welfare = bottom.copy(), float(surplus[i, action])
            best[i] = action
    if floor >= h:
        here = np.where(exists & (score == floor), surplus, -np.inf)
        action, value = here.argmax(axis=1), here.max(axis=1)
        forced = lowest == floor
        order = np.lexsort((-value, ~forced))  # the forced ones first, then the best
        order = order[np.isfinite(value[order])]
        means = np.cumsum(value[order]) / np.arange(1, len(order) + 1)
        least = int(forced.sum())
        count = least + int(means[least - 1 :].argmax())
        if means[count - 1] > welfare:
            best, welfare = bottom.copy(), float(means[count - 1])
            best[order[:count]] = action[order[:count]]
    return best, float(welfare)
