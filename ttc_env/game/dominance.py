"""Actions of a posted-price game that no equilibrium needs: the dominated ones, and copies.

An action with pi > 0 is strictly dominated, whatever the rivals do, if another action of the same
provider has pi and V at least as large and one of them larger: U = pi s rises with both (at beta =
0 with pi alone). How much is lost by it can be less than any tolerance on log utility, so that a
solver which compares utilities lists profiles that are no equilibria; a comparison of pi and V
itself does not (GAME.md, theorem 10).

Copies, actions of one provider with equal V, pi and w, are one action to everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_env.game.types import Array, PostedPriceGame

_ROUNDINGS = 8.0  # how many roundings of a price a difference of prices may hold


@dataclass(frozen=True, eq=False)
class Kept:
    """Which actions are left."""

    mask: NDArray[np.bool_]  # [n, m]
    dominated: int  # actions dropped because another one is better
    copies: int  # actions dropped because an earlier one is equal


def kept_actions(game: PostedPriceGame) -> Kept:
    """The actions that are neither dominated nor a copy of an earlier one. O(n m log m).

    Source: derived in docs, not in the paper (GAME.md, theorem 10).
    """
    # at beta = 0 nobody looks at V
    counts = game.value if game.beta > 0 else np.where(game.available, 0.0, np.nan)

    def in_order(table: Any) -> Any:
        return np.take_along_axis(table, order, axis=1)

    # Falling V, then falling pi; NaN at the end.
    order = np.lexsort((-game.profit, -counts), axis=1)
    v, pi, exists = in_order(counts), in_order(game.profit), in_order(game.available)
    equal = _as_before(v) & _as_before(pi)
    copy = np.zeros_like(equal)
    if equal.any():
        order = np.lexsort((-game.surplus, -game.value, -game.profit, -counts), axis=1)
        copy = equal & _as_before(in_order(game.surplus)) & _as_before(in_order(game.value))
    # The best pi among actions of at least as much V, less those of equal V and pi.
    before = np.fmax.accumulate(np.pad(pi, ((0, 0), (1, 0)), constant_values=-np.inf), axis=1)
    first = np.maximum.accumulate(np.where(equal, 0, np.arange(v.shape[1])), axis=1)
    best = np.take_along_axis(before, first, axis=1)
    dominated = (pi > 0.0) & (best >= pi)
    mask = np.zeros_like(game.available)
    np.put_along_axis(mask, order, exists & ~dominated & ~copy, axis=1)
    return Kept(mask, int(dominated.sum()), int((copy & ~dominated).sum()))


def _as_before(table: Array) -> NDArray[np.bool_]:
    """Which entries of a row equal the one before."""
    same = np.zeros(table.shape, dtype=bool)
    same[:, 1:] = table[:, 1:] == table[:, :-1]
    return same


def settle(profit: Array, size: Array) -> Array:
    """Positive profits of a provider that differ by no more than rounding, set equal.

    A two-part tariff's profit, p - c with p = c + x pi*, is the same at every level but for the
    last digits of p and c; these would decide which action dominates which.

    Args:
        profit: `[n, m]` USD/query.
        size: `[n, m]` USD/query, the larger of the two amounts whose difference each profit is.
    """
    slack = _ROUNDINGS * float(np.finfo(np.float64).eps) * np.abs(size)
    order = np.argsort(profit, axis=1, kind="stable")
    pi = np.take_along_axis(profit, order, axis=1)
    near = np.zeros(pi.shape, dtype=bool)
    # the slack of the larger amount of two neighbours
    room = np.take_along_axis(slack, order, axis=1)
    close = np.diff(pi, axis=1) <= np.maximum(room[:, 1:], room[:, :-1])  # False for NaN
    near[:, 1:] = close & (pi[:, :-1] > 0.0)  # signs stay as they are
    if not near.any():
        return profit
    first = np.maximum.accumulate(np.where(near, 0, np.arange(pi.shape[1])), axis=1)
    settled = np.empty_like(profit)
    np.put_along_axis(settled, order, np.take_along_axis(pi, first, axis=1), axis=1)
    return settled
