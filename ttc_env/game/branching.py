"""Users of several types: all pure equilibria, and the optimum, by branching on actions and
bounding what is left.

A provider earns U = pi sum_k g_k e_k / (e_k + A_k): it depends on its rivals through one number per
type, A_k. Where every A_k is known to lie within bounds, an action is ruled out if another one
earns more at every A within them. The difference of two actions' utilities is a sum of functions of
one A_k each, so that its minimum over the bounds is exact: every term has at most one turning
point,

    sqrt(pi e) / (e + A) = sqrt(pi' e') / (e' + A).

Fewer actions make tighter bounds, and these rule out more actions; where that comes to rest, one
provider's actions are tried one after the other. Nothing that is ruled out can be in an
equilibrium, so what is left is complete (GAME.md, theorem 22).

Welfare is a sum over types, each of which has its own optimum in closed form (theorem 4). What
these are worth together bounds the welfare of every profile (theorem 23). [own]
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_env.game.demand import log_rivals, log_total
from ttc_env.game.optimum import Optimum, maximise_share_weighted
from ttc_env.game.types import Array

MOST_ENTRIES = 1 << 26
"""Most comparisons of two actions for one type."""

MOST_SETS = 1_000
"""Most sets of actions that the optimum is looked for in."""

_LEAF = 128  # sets of at most so many profiles are handed back as they are
_MARGIN = 1e-11  # relative: what rounding of a bound may do
_FLAT = 600.0  # e-folds below the rivals' weight at which exponentials come near underflow


@dataclass(frozen=True, eq=False)
class TypedGame:
    """A game of posted prices with users of K types."""

    z: Array  # [n, a, K] logits beta_k (V_k - V_0); anything where an action does not exist
    log_weight: Array  # [K] log g_k
    profit: Array  # [n, a] USD/query
    exists: NDArray[np.bool_]  # [n, a]

    def candidates(
        self, tolerance: float, most_entries: int = MOST_ENTRIES
    ) -> NDArray[np.intp] | None:
        """`[k, n]` profiles among which every equilibrium is, within a relative regret; None if
        that takes more than `most_entries` comparisons of two actions for one type.
        """
        n, _, types = self.z.shape
        earns = self.exists & (self.profit > 0.0)
        # Who can earn something never plays what earns nothing.
        pending = [np.where(earns.any(axis=1, keepdims=True), earns, self.exists)]
        found, entries = [], 0
        while pending:
            alive = pending.pop()
            while True:
                columns = int(alive.sum(axis=1).max())
                entries += n * columns**2 * types
                if entries > most_entries:
                    return None
                order = np.argsort(~alive, axis=1, kind="stable")[:, :columns]
                some = _Actions.of(self, order, np.take_along_axis(alive, order, axis=1), tolerance)
                beaten = some.beaten()
                if not beaten.any():
                    break
                alive = alive.copy()
                np.put_along_axis(alive, order, some.alive & ~beaten, axis=1)
            if float(np.prod(alive.sum(axis=1).astype(float))) <= _LEAF:
                found.append(_product([np.flatnonzero(row) for row in alive]))
                continue
            i = some.widest()
            for action in np.flatnonzero(alive[i])[::-1]:
                branch = alive.copy()
                branch[i] = False
                branch[i, action] = True
                pending.append(branch)
        return np.concatenate(found) if found else np.empty((0, n), np.intp)


def _product(sets: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """`[k, n]` all combinations of one entry of each set, in lexicographic order."""
    rows = np.zeros((1, 0), np.intp)
    for entries in sets:  # NumPy's own grids end at 64 providers, or at 32
        own = np.tile(entries, len(rows))[:, None]
        rows = np.concatenate([np.repeat(rows, len(entries), axis=0), own], axis=1)
    return rows


@dataclass(frozen=True, eq=False)
class _Actions:
    """Sets of actions that providers may play, and what is known of rivals who play them."""

    z: Array  # [n, a, K]
    log_pay: Array  # [n, a, K] log g_k pi; NaN where pi <= 0
    alive: NDArray[np.bool_]  # [n, a]
    kept: float  # log of 1 - tolerance

    @classmethod
    def of(
        cls, game: TypedGame, order: NDArray[np.intp], alive: NDArray[np.bool_], tolerance: float
    ) -> _Actions:
        profit = np.take_along_axis(game.profit, order, axis=1)
        log_profit = np.log(np.where(profit > 0.0, profit, np.nan))
        z = np.take_along_axis(game.z, order[:, :, None], axis=1)
        kept = np.log1p(-min(tolerance, 1.0 - 1e-12))
        return cls(np.nan_to_num(z), log_profit[:, :, None] + game.log_weight, alive, float(kept))

    def _ends(self) -> tuple[Array, Array]:
        """`[n, K]` the lowest and the highest logit of every provider."""
        there = self.alive[:, :, None]
        low = np.where(there, self.z, np.inf).min(axis=1)
        return low, np.where(there, self.z, -np.inf).max(axis=1)

    def widest(self) -> int:
        """The provider whose choice moves the total weight of all offers most."""
        low, high = self._ends()
        total = log_total(high)
        moves = (np.exp(high - total) - np.exp(low - total)).sum(axis=1)
        return int(np.where(self.alive.sum(axis=1) > 1, moves, -1.0).argmax())

    def beaten(self) -> NDArray[np.bool_]:
        """`[n, a]` actions that another one beats at every weight that the rivals can have."""
        z, alive = self.z, self.alive
        low, high = map(log_rivals, self._ends())
        low, high = low - _MARGIN * (1.0 + np.abs(low)), high + _MARGIN * (1.0 + np.abs(high))
        low, high = low[:, None], high[:, None]  # [n, 1, K] bounds on log A_-i
        # log of pi g s at both ends; NaN where pi <= 0, and NaN compares as False
        most, least = (self.log_pay - np.logaddexp(0.0, end - z) for end in (low, high))
        # Type by type: the ratio of two utilities is monotone in A, so that its ends decide.
        by_type = np.minimum(_pairs(most, self.kept), _pairs(least, self.kept)).min(axis=3)
        beats = by_type > _MARGIN
        # All types together.
        top = np.where(alive[:, :, None], most, -np.inf).max(axis=(1, 2), keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0)
        at_low, at_high = (np.exp(np.minimum(x - top, 700.0)) for x in (most, least))
        gain = np.exp(self.kept)
        ends = np.minimum(_differences(at_low, gain), _differences(at_high, gain))
        turning = self._turning(low, high, top, gain)
        crude = gain * at_high[:, :, None] - at_low[:, None]
        flat = z < high - _FLAT
        unsafe = flat[:, :, None] | flat[:, None] | (top < -_FLAT)[:, None]
        difference = np.where(unsafe, crude, np.fmin(ends, turning)).sum(axis=3)
        size = at_low.sum(axis=2)
        beats |= difference > _MARGIN * (size[:, :, None] + size[:, None])
        beats &= alive[:, :, None] & alive[:, None]
        return np.asarray(beats.any(axis=1))

    def _turning(self, low: Array, high: Array, top: Array, gain: float) -> Array:
        """The difference of utilities at the turning point, `[n, better, worse, K]`; NaN where
        there is none within the bounds. All A in units of exp(high).
        """
        e = np.exp(np.clip(self.z - high, -700.0, 300.0))
        pay = np.exp(np.clip(self.log_pay - top, -700.0, 700.0))  # g pi, in units of exp(top)
        root = np.sqrt(pay * e)
        better, worse = np.sqrt(gain) * root[:, :, None], root[:, None]
        e_better, e_worse = e[:, :, None], e[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            at = (better * e_worse - worse * e_better) / (worse - better)
            inside = (at > np.exp(low - high)[:, None]) & (at < 1.0)
            at = np.where(inside, at, 1.0)
            value = better**2 / (e_better + at) - worse**2 / (e_worse + at)
        return np.where(inside, value, np.nan)


def _pairs(log: Array, kept: float) -> Array:
    """log of the ratio of two actions' utilities, `[n, better, worse, K]`."""
    return log[:, :, None] + kept - log[:, None]


def _differences(amount: Array, gain: float) -> Any:
    """`[n, better, worse, K]`"""
    return gain * amount[:, :, None] - amount[:, None]


def most_welfare(
    z: Array,
    surplus: Array,
    weight: Array,
    outside_value: float,
    welfare: Callable[[NDArray[np.intp]], Array],
    climb: Callable[[NDArray[np.intp]], tuple[NDArray[np.intp], float]],
) -> Optimum:
    """The profile of most welfare, the set of actions with the best bound first (GAME.md, theorem
    23).

    Args:
        z: `[n, a, K]` logits.
        surplus: `[n, a, K]` USD/query, what a type's query is worth less its cost; NaN where an
            action does not exist.
        weight: `[K]` g.
        outside_value: USD/query.
        welfare: of profiles `[k, n]`.
        climb: from profiles `[k, n]` to one of at least as much welfare, and that.
    """

    def bound(alive: NDArray[np.bool_]) -> tuple[float, NDArray[np.intp]]:
        """What no profile of these actions exceeds, and each type's own optimum, `[n, K]`."""
        left = np.where(alive[:, :, None], surplus, np.nan)
        found = maximise_share_weighted(z, left, outside_value)
        return float(weight @ np.asarray(found.value)), found.profile

    alive = ~np.isnan(surplus[:, :, 0])
    top, own = bound(alive)
    best, value = climb(own.T)
    pending, sets = [(-top, 0, alive, own)], 1
    while True:  # what is left is never empty: a set is taken out, and its two halves are put in
        top, _, alive, own = heapq.heappop(pending)
        if -top <= value + 1e-13 * abs(value):
            return Optimum(best, value, sets, True, max(-top - value, 0.0))
        if sets > MOST_SETS:
            return Optimum(best, value, sets, False, -top - value)
        values = welfare(own.T)
        if values.max() > value:
            best, value = own[:, values.argmax()], float(values.max())
        # Where types want different actions, cut between them, in the order of their weight.
        score = np.where(alive, z[:, :, 0], -np.inf)
        chosen = np.take_along_axis(z[:, :, 0], own, axis=1)
        differ = (own != own[:, :1]).any(axis=1)
        if not differ.any():  # all types agree: what they want is worth the bound, but for rounding
            return Optimum(best, value, sets, True, max(-top - value, 0.0))
        share = np.exp(chosen - log_total(chosen.max(axis=1))).max(axis=1)
        i = int(np.where(differ, share, -1.0).argmax())
        order = np.argsort(-score[i], kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        at = np.sort(place[own[i]])
        cut = int((at[0] + at[-1] + 1) // 2)
        for half in (order[:cut], order[cut:]):
            branch = alive.copy()
            branch[i] = False
            branch[i, half] = alive[i, half]
            sets += 1
            limit, wanted = bound(branch)
            heapq.heappush(pending, (-limit, sets, branch, wanted))
