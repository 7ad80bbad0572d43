"""Equilibrium when providers set prices freely: a flat fee, or level and price chosen together.

For any V that a provider wants to offer, its profit is largest at the level with the largest
surplus w, whatever the rivals do: compute is efficient. What is left is market power over the
markup (GAME.md, theorem 8; derived in docs, not in the paper; Anderson, de Palma and Thisse 1992;
Nocke and Schutz 2018). So over-compute comes from tying the price to tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.demand import log_rivals, logits
from ttc_env.game.replies import Index
from ttc_env.game.types import Array, PostedPriceGame

MOST_GAP = 1e-9
"""An equilibrium whose `gap` is larger has not converged."""


@dataclass(frozen=True, eq=False)
class FreePriceEquilibrium:
    """The one equilibrium of the game in which each provider chooses its level and its price."""

    levels: Index  # [n] argmax of surplus; of equal ones the first
    markup: Array  # [n] USD/query, price - cost = 1 / (beta (1 - share))
    share: Array  # [n]
    outside_share: float
    utility: Array  # [n] USD per arriving user
    welfare: float  # USD per arriving user
    user_value: float  # USD per arriving user, share-weighted V
    log_sum: float  # USD per arriving user, log A / beta
    converged: bool  # the root was found, and the gap is at most `MOST_GAP`
    gap: float  # largest relative distance of a markup from its provider's best reply
    iterations: int


def best_markup(
    surplus: ArrayLike, beta: ArrayLike, log_rivals: ArrayLike, outside_value: ArrayLike = 0.0
) -> Array:
    """The price over cost that earns most: (1 + W0(exp(beta (w - V_0) - 1) / A_-i)) / beta,
    USD/query.

    Args:
        surplus: w, USD/query. Any shape, with which all others broadcast.
        beta: 1/USD, positive.
        log_rivals: log A_-i in units of e_0 (`demand.log_rivals`).

    Source: derived in docs, not in the paper (GAME.md, theorem 8).
    """
    _check_beta(beta)
    x = np.subtract(logits(surplus, beta, outside_value), log_rivals) - 1.0
    return np.divide(1.0 + np.exp(_log_lambert(np.asarray(x))), beta)


def free_price_equilibrium(
    game: PostedPriceGame | ArrayLike,
    beta: float | None = None,
    outside_value: float | None = None,
    *,
    tolerance: float = 1e-13,
    max_iterations: int = 200,
) -> FreePriceEquilibrium:
    """The unique equilibrium in prices and levels.

    Args:
        game: a `PostedPriceGame`, of which only surplus, beta and outside_value are used; or `[n,
            m]` surplus w in USD/query (NaN-padded).
        beta: 1/USD, positive; the game's own if None.
        outside_value: V_0, USD/query; the game's own, or 0, if None.
        tolerance: on log A, relative to its size where that exceeds 1; A in units of the second
            best of all w and V_0, so that its log stays small however large beta is.
        max_iterations: most evaluations of the scalar equation.

    Raises:
        ValueError: beta is not a positive finite number (at beta = 0 users ignore prices, and
            markups are unbounded).

    Source: derived in docs, not in the paper (GAME.md, theorem 8): the root in A of 1 = e_0/A +
    sum_i s_i(A), s exp(1/(1-s)) = exp(beta w_i)/A.
    """
    if isinstance(game, PostedPriceGame):
        surplus = game.surplus
        beta = game.beta if beta is None else beta
        outside_value = game.outside_value if outside_value is None else outside_value
    else:
        surplus = np.asarray(game, dtype=np.float64)
        if surplus.ndim != 2:
            raise ValueError(f"surplus must be [n, m]; got shape {surplus.shape}")
    outside_value = 0.0 if outside_value is None else float(outside_value)
    if beta is None:
        raise ValueError("give beta (1/USD) with a surplus table")
    _check_beta(beta)
    # 1. Efficient levels.
    levels = np.where(np.isnan(surplus), -np.inf, surplus).argmax(axis=1)
    best = surplus[np.arange(len(surplus)), levels]
    # Whoever is best can take no more than its lead over the next, so that log A is near the
    # next one's logit: in that unit beta V loses no digits where it matters.
    unit = float(np.sort(np.append(best, outside_value))[-2])
    y, y_0 = np.asarray(logits(best, beta, unit)), float(logits(outside_value, beta, unit))
    # 2. The root in a = log A. Where A = e_0 the shares add up to more than 1; s <= exp(y - a - 1)
    # bounds it from above.
    low, high = y_0, float(np.logaddexp.reduce(np.append(y - 1.0, y_0)))
    a, converged, iteration = high, False, 0
    for iteration in range(1, max_iterations + 1):  # noqa: B007 (it is returned)
        excess, slope = _excess(y, y_0, a)
        if excess > 0.0:
            low = a
        else:
            high = a
        newton = a - excess / slope if slope < 0.0 else a
        step = newton if low < newton < high else 0.5 * (low + high)
        converged = abs(step - a) <= tolerance * max(1.0, abs(a)) or high - low <= tolerance * max(
            1.0, abs(a)
        )
        a = step
        if converged:
            break
    # 3. Markups and what they imply. Shares are computed from the offers, so that they are those of
    # an actual market.
    odds = np.exp(_log_odds(y - a))
    z = y - 1.0 - odds  # beta V in that unit, as beta markup = 1/(1-s) = 1 + odds
    markup = (1.0 + odds) / beta
    total = float(np.logaddexp.reduce(np.append(z, y_0)))
    share, outside_share = np.exp(z - total), float(np.exp(y_0 - total))
    reply = best_markup(best, beta, log_rivals(z, y_0), unit)
    gap = float(np.max(np.abs(markup / reply - 1.0)))
    return FreePriceEquilibrium(
        levels=levels,
        markup=markup,
        share=share,
        outside_share=outside_share,
        utility=share * markup,
        welfare=float(share @ best + outside_share * outside_value),
        user_value=float(share @ (best - markup) + outside_share * outside_value),
        log_sum=unit + total / beta,
        converged=converged and gap <= MOST_GAP,
        gap=gap,
        iterations=iteration,
    )


def _check_beta(beta: ArrayLike) -> None:
    if not (np.isfinite(beta) & np.greater(beta, 0)).all():
        raise ValueError(
            f"beta is {np.asarray(beta)}; free prices need a positive finite beta (1/USD): users"
            " who do not look at prices (beta = 0) can be charged anything"
        )


def _excess(y: Array, y_0: float, a: float) -> tuple[float, float]:
    """log(e_0/A + shares of all but the largest) - log(1 - largest share): decreasing in a = log A,
    0 at equilibrium; and its slope.
    """
    log_odds = _log_odds(y - a)
    odds = np.exp(log_odds)
    elasticity = 1.0 / (1.0 + odds * (1.0 + odds))  # d log s / du, where log s + 1/(1-s) = u
    top = int(y.argmax())
    log_share = log_odds - np.log1p(odds)
    # the outside option takes the largest provider's place in the sum
    log_share[top], elasticity_top = y_0 - a, elasticity[top]
    elasticity[top] = 1.0
    largest = log_share.max()
    part = np.exp(log_share - largest)
    rest = part.sum()
    # d log(1 - s) / du = -odds elasticity
    slope = -(part @ elasticity) / rest - odds[top] * elasticity_top
    return float(largest + np.log(rest) + np.log1p(odds[top])), float(slope)


def _log_odds(u: Array) -> Array:
    """t = log(s / (1 - s)) where log s + 1/(1 - s) = u, that is t - log(1 + e^t) + 1 + e^t = u.

    Convex and increasing in t.
    """
    start = np.minimum(u - 1.0, np.log(np.maximum(u - 1.0 + np.log(2.0), 1.0)))

    def step(t: Array) -> Array:
        odds = np.exp(t)
        return (t - np.log1p(odds) + 1.0 + odds - u) / (1.0 / (1.0 + odds) + odds)

    return _newton_from_above(step, start)


def _log_lambert(x: Array) -> Array:
    """log W0(exp x): the root of t + e^t = x, safe where exp x overflows.

    Convex and increasing in t.
    """
    start = np.minimum(x, np.log(np.maximum(x, 1.0)))
    return _newton_from_above(lambda t: (t + np.exp(t) - x) / (1.0 + np.exp(t)), start)


def _newton_from_above(
    step: Callable[[Array], Array], start: Array, max_iterations: int = 60
) -> Array:
    """Newton's method from above the root of a convex increasing function: falls monotonically to
    it; stops at rounding.
    """
    t = start
    for _ in range(max_iterations):
        change = step(t)
        t = t - change
        if (np.abs(change) <= 4.0 * np.finfo(np.float64).eps * np.maximum(1.0, np.abs(t))).all():
            break
    return t
