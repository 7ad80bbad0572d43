"""Who buys from whom: logit demand, in the log domain.

beta V reaches 1e5 and more, so exp(beta V) overflows and small shares underflow; a comparison of
underflowed utilities is a comparison of zeros. Every function here works with logits z = beta (V -
V_0): subtracting the outside value first costs no precision, and makes e_0 = exp(0) = 1. All logs
of A below are in that unit: log A = log(1 + sum_j exp z_j).

Axis 0 is the provider; any further axes are batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.arrays import array_module
from ttc_env.game.types import Array


def logits(value: Any, beta: Any, outside_value: Any = 0.0) -> Any:
    """z = beta (V - V_0), without unit. Any shape; NumPy arrays or torch tensors."""
    return beta * (value - outside_value)


def log_total(z: ArrayLike) -> Array:
    """log A = log(1 + sum_i exp z_i) (GAME.md, "The pay-per-token market"). z: `[n, ...]`; returns
    `[...]`.
    """
    z = np.asarray(z)
    top = np.maximum(z.max(axis=0), 0.0)
    return top + np.log(np.exp(-top) + np.exp(z - top).sum(axis=0))


def log_rivals(z: ArrayLike, outside: ArrayLike = 0.0) -> Array:
    """log A_-i = log(exp z_0 + sum_{j != i} exp z_j) for every i. z and the result: `[n, ...]`;
    outside is z_0, `[...]`.

    Leave-one-out by sums from both ends: subtracting a provider that holds nearly all of A would
    leave only rounding.
    """
    z = np.asarray(z, dtype=np.float64)
    before, after = np.empty_like(z), np.empty_like(z)
    # log of the outside option and everybody before i
    before[0], before[1:] = outside, z[:-1]
    np.logaddexp.accumulate(before, axis=0, out=before)
    # log of everybody after i
    after[-1] = -np.inf
    np.logaddexp.accumulate(z[:0:-1], axis=0, out=after[-2::-1])
    return np.logaddexp(before, after)


def best_rivals(value: Any, beta: Any, outside_value: Any = 0.0) -> tuple[Any, Any]:
    """A_-i = S_i exp(beta r_i) for every i: r_i the highest value on offer but i's own (V_0
    included), and S_i between 1 and n.

    In this unit beta (V - r_i) is exact where V is near r_i: at beta V = 1e7, beta V - beta r_i has
    lost nine digits and beta (V - r_i) none.

    Args:
        value: `[n, ...]` USD/query; a NumPy array or a torch tensor.
        beta: 1/USD, a number or `[...]`.
        outside_value: USD/query, a number or `[...]`.

    Returns:
        log S_i and r_i, both `[n, ...]`.
    """
    xp = array_module(value)
    none = xp.zeros_like(value[0]) + outside_value  # V_0 in the shape of one provider's values
    best = xp.maximum(xp.max(value, axis=0), none)
    attraction = xp.exp(beta * (value - best))
    # All but a provider alone at the top leave a rival with attraction 1, so that nothing is lost
    # in subtracting their own.
    rest = xp.exp(beta * (none - best)) + attraction.sum(axis=0) - attraction
    at_top = value == best
    leaders = at_top.sum(axis=0) + xp.where(none == best, 1, 0)
    alone = at_top & (leaders == 1)
    second = xp.maximum(xp.max(xp.where(alone, -np.inf, value), axis=0), none)
    others = xp.where(alone, 0.0, xp.exp(beta * (xp.minimum(value, second) - second)))
    rest_of_best = xp.exp(beta * (none - second)) + others.sum(axis=0)
    return xp.log(xp.where(alone, rest_of_best, rest)), xp.where(alone, second, best)


def log_share_against(z: Any, log_rivals: Any) -> Any:
    """log s_i = -log(1 + A_-i exp(-z_i)): the share of an offer with logit z against rivals A_-i.

    Shapes broadcast; NumPy arrays or torch tensors.
    """
    against = log_rivals - z
    xp = array_module(against)
    return -xp.logaddexp(xp.zeros_like(against), against)


def shares(value: Any, beta: Any, outside_value: Any = 0.0) -> tuple[Any, Any]:
    """s_i and s_0: the chance that a user picks provider i, or nobody.

    Args:
        value: `[n, ...]` USD/query, V_i = q_i - p_i; a NumPy array or a torch tensor.
        beta: 1/USD, a number or `[...]`.
        outside_value: USD/query, a number or `[...]`.

    Returns:
        share `[n, ...]` and outside_share `[...]`; they sum to 1.

    Source: [TTC], logit choice (GAME.md, "The pay-per-token market").
    """
    xp = array_module(value)
    none = xp.zeros_like(value[0]) + outside_value
    reference = xp.maximum(xp.max(value, axis=0), none)
    attraction, outside = (xp.exp(beta * (v - reference)) for v in (value, none))
    total = outside + attraction.sum(axis=0)
    return attraction / total, outside / total


def outside_share(value: Any, beta: Any, outside_value: Any = 0.0) -> Any:
    """s_0 alone: the chance that a user buys from nobody; see `shares`."""
    xp = array_module(value)
    none = xp.zeros_like(value[0]) + outside_value
    reference = xp.maximum(xp.max(value, axis=0), none)
    outside = xp.exp(beta * (none - reference))
    return outside / (outside + xp.exp(beta * (value - reference)).sum(axis=0))


def utility(profit: ArrayLike, log_share: ArrayLike) -> Array:
    """U_i = s_i pi_i, USD per arriving user. Shapes broadcast."""
    return np.multiply(profit, np.exp(log_share))
