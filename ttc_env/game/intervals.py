"""For each action, the range of the total A in which it can be a best reply, and all profiles
consistent with some A.

This is GAME.md, theorem 3, "All PNE without search" (derived in docs, not in the paper). A pure
equilibrium is a profile whose A lies in the interval of every provider's own action. For an earning
provider the intervals of actions of different V are disjoint, so each A allows at most one action
per provider, and no search over profiles is needed. What is returned here are *candidates*: a
superset of the equilibria, widened by a slack against rounding, for the caller to verify one by
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_env.game.replies import Index, Mask, ReplyTable
from ttc_env.game.types import Array

_PAIRS = 1 << 20  # (provider, action, action) triples per pass
_PARTIAL = 1 << 19  # steps of building profiles provider by provider
_ENTRIES = 1 << 24  # entries of the largest table of profiles


@dataclass(frozen=True, eq=False)
class Intervals:
    """Actions that differ in z, and where in log A each can be a best reply.

    Rows: the providers whose action is still open.
    """

    column: Index  # [r, c] the game's column of each action
    z: Array  # [r, c] ascending logits, padded at the end
    low: Array  # [r, c] log A; inf in the padding
    high: Array  # [r, c] log A; -inf in the padding

    @classmethod
    def of(cls, table: ReplyTable, z_low: Array, z_high: Array, slack: float) -> Intervals:
        """table: the open providers' rows `[r, m]`; z_low, z_high `[r]`: the bracket.

        Ends are widened by `slack` (in log units).
        """
        # 1. Distinct logits inside the bracket, ascending; of equal ones the action with the best
        # profit stands for all.
        inside = table.candidate & (table.z >= z_low[:, None]) & (table.z <= z_high[:, None])
        log_size = np.where(inside, -np.log(table.inverse), 0.0)  # log |pi|; 0 for idle providers
        column = np.lexsort(
            (-table.sign[:, None] * log_size, np.where(inside, table.z, np.inf)), axis=1
        )
        z = np.take_along_axis(np.where(inside, table.z, np.inf), column, axis=1)
        keep = np.isfinite(z)
        keep[:, 1:] &= z[:, 1:] > z[:, :-1]
        front = np.argsort(~keep, axis=1, kind="stable")[:, : int(keep.sum(axis=1).max())]
        column = np.take_along_axis(column, front, axis=1)
        keep = np.take_along_axis(keep, front, axis=1)
        z = np.where(keep, np.take_along_axis(table.z, column, axis=1), -np.inf)
        log_size = np.take_along_axis(log_size, column, axis=1)
        # 2. Intervals in log A_-i, then in log A = log(A_-i + e_l).
        low, high = np.empty(z.shape), np.empty(z.shape)
        step = max(1, _PAIRS // z.shape[1] ** 2)
        for start in range(0, len(z), step):
            rows = slice(start, start + step)
            rival_low, rival_high = _rival_range(
                log_size[rows], z[rows], keep[rows], table.sign[rows], 2.0 * slack
            )
            # A >= e_l holds for every profile with this action: where nothing else bounds A from
            # below, that is no end to cut at.
            low[rows] = np.where(
                np.isneginf(rival_low), -np.inf, np.logaddexp(rival_low, z[rows]) - slack
            )
            high[rows] = np.where(
                np.isneginf(rival_high), -np.inf, np.logaddexp(rival_high, z[rows]) + slack
            )
            low[rows][rival_low > rival_high] = np.inf
        return cls(column, z, np.where(keep, low, np.inf), np.where(keep, high, -np.inf))


def _rival_range(
    log_size: Array, z: Array, keep: Mask, sign: NDArray[np.int8], tolerance: float
) -> tuple[Array, Array]:
    """Where in log A_-i no other action of the provider beats this one by more than `tolerance` in
    log U. `[r, c]` each.
    """
    # padding: its entries are overwritten below
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        low, high = _not_above(
            log_size[:, None, :], z[:, None, :], log_size[:, :, None], z[:, :, None], tolerance
        )
        losing = sign < 0
        if losing.any():  # log |U| of mine must not exceed the other's: the roles change
            size, own = log_size[losing], z[losing]
            low[losing], high[losing] = _not_above(
                size[:, :, None], own[:, :, None], size[:, None, :], own[:, None, :], tolerance
            )
    irrelevant = ~keep[:, None, :] | (sign == 0)[:, None, None]
    low, high = np.where(irrelevant, -np.inf, low), np.where(irrelevant, np.inf, high)
    return low.max(axis=2), high.min(axis=2)


def _not_above(
    log_size_a: Array, z_a: Array, log_size_b: Array, z_b: Array, tolerance: float
) -> tuple[Array, Array]:
    """The range of log A_-i in which log U_a <= log U_b + tolerance.

    h(A) = log U_a - log U_b - tolerance runs from `at_zero` (A_-i = 0) to `at_infinity`,
    monotonically: up if z_a > z_b, down otherwise. Its root solves 1 + A/e_b = g (1 + A/e_a) with g
    = exp(-at_zero):  A = (g - 1) / (1/e_b - g/e_a).
    """
    at_zero = log_size_a - log_size_b - tolerance
    at_infinity = at_zero + (z_a - z_b)
    up = at_infinity > at_zero
    # log(g - 1) - log(1/e_b - g/e_a), with both differences positive, as logs of 1 - exp(-x)
    rising = z_b - at_zero + _log1mexp(-at_zero) - _log1mexp(at_infinity)
    falling = z_b + _log1mexp(at_zero) + at_infinity - _log1mexp(-at_infinity)
    high = np.where(
        up, np.where(at_infinity <= 0, np.inf, np.where(at_zero >= 0, -np.inf, rising)), np.inf
    )
    low = np.where(
        up, -np.inf, np.where(at_zero <= 0, -np.inf, np.where(at_infinity >= 0, np.inf, falling))
    )
    return low, high


def _log1mexp(x: Array) -> Array:
    """log(1 - exp(-x)) for x > 0."""
    return np.log(-np.expm1(-x))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Profiles of the open providers that are consistent with some A."""

    columns: Index  # [k, r]
    complete: bool  # every consistent profile is among them
    cells: int  # ranges of A looked at


def consistent_profiles(
    intervals: Intervals, log_fixed: float, slack: float, max_search: int
) -> Candidates:
    """All choices of the open providers whose total A lies in the interval of each of them.

    Args:
        log_fixed: log of e_0 and of the providers whose action is known.
        slack: log units by which sums may be off.
        max_search: ranges of A and candidates, together, to look at before giving up.

    A range [a, b] of log A is narrowed to the sums that its admissible actions can reach, then
    dropped, resolved, or cut at the median interval end inside. With 2 r c ends there are at most
    as many ranges as ends, and few survive the narrowing.
    """
    stack = [(-np.inf, np.inf)]
    found: list[Index] = []
    complete, cells, left = True, 0, max_search
    while stack:
        if left <= 0:
            complete = False
            break
        a, b = stack.pop()
        cells, left = cells + 1, left - 1
        # 1. Narrow.
        while True:
            admissible = (intervals.low <= b) & (intervals.high >= a)
            if not admissible.any(axis=1).all():
                break
            z_low = np.where(admissible, intervals.z, np.inf).min(axis=1)
            z_high = np.where(admissible, intervals.z, -np.inf).max(axis=1)
            narrow_a = max(a, _log_sum(log_fixed, z_low) - slack)
            narrow_b = min(b, _log_sum(log_fixed, z_high) + slack)
            if narrow_a > narrow_b or (narrow_a <= a and narrow_b >= b):
                break
            a, b = narrow_a, narrow_b
        if not admissible.any(axis=1).all() or narrow_a > narrow_b:
            continue
        # 2. Resolve: one action each, or a range too short to cut, or nothing to cut at.
        ends = np.concatenate([intervals.low[admissible], intervals.high[admissible]])
        ends = ends[(ends >= a) & (ends <= b)]
        single = (admissible.sum(axis=1) == 1).all()
        if single or b - a <= 4.0 * slack or not len(ends):
            columns, whole = _combinations(
                intervals, admissible, log_fixed, (a - slack, b + slack), left
            )
            found.append(columns)
            complete, left = complete and whole, left - len(columns)
            continue
        # 3. Cut. The middle end gets a range of its own, so that actions which meet only there do
        # not multiply elsewhere.
        middle = float(np.partition(ends, len(ends) // 2)[len(ends) // 2])
        pieces = (
            (a, middle - slack),
            (max(a, middle - slack), min(b, middle + slack)),
            (middle + slack, b),
        )
        stack.extend(piece for piece in pieces if piece[0] <= piece[1])
    columns = np.concatenate(found) if found else np.empty((0, len(intervals.z)), dtype=np.intp)
    return Candidates(columns, complete, cells)


def _combinations(
    intervals: Intervals,
    admissible: Mask,
    log_fixed: float,
    window: tuple[float, float],
    max_search: int,
) -> tuple[Index, bool]:
    """Every combination of admissible actions whose log A lies in the window: `[k, r]` columns, and
    whether none was cut off.
    """
    first = admissible.argmax(axis=1)
    last = admissible.shape[1] - 1 - admissible[:, ::-1].argmax(axis=1)
    every = np.arange(len(first))
    several = np.flatnonzero(admissible.sum(axis=1) > 1)
    known = np.setdiff1d(every, several)
    if len(known):
        log_fixed = _log_sum(log_fixed, intervals.z[known, first[known]])
    # log of what the providers after this one add at least and at most
    after_low = np.append(
        np.logaddexp.accumulate(intervals.z[several, first[several]][::-1])[::-1], -np.inf
    )[1:]
    after_high = np.append(
        np.logaddexp.accumulate(intervals.z[several, last[several]][::-1])[::-1], -np.inf
    )[1:]
    width = max(2, min(max_search, _PARTIAL // max(1, len(several)), _ENTRIES // len(first)))
    total, whole = np.array([log_fixed]), True
    # of every provider: where each partial profile came from, and the column it takes
    layers: list[tuple[Index, Index]] = []
    for i, low, high in zip(several, after_low, after_high, strict=True):
        options = np.flatnonzero(admissible[i])
        total = np.logaddexp(total[:, None], intervals.z[i, options]).ravel()
        index = np.flatnonzero(
            (np.logaddexp(total, high) >= window[0]) & (np.logaddexp(total, low) <= window[1])
        )
        if len(index) > width:
            whole, index = False, index[:width]
        total = total[index]
        layers.append((index // len(options), intervals.column[i, options[index % len(options)]]))
    profiles = np.tile(intervals.column[every, first], (len(total), 1))
    row = np.arange(len(total))
    for i, (parent, column) in zip(several[::-1], reversed(layers), strict=True):
        profiles[:, i] = column[row]
        row = parent[row]
    return profiles, whole


def _log_sum(log_fixed: float, z: Array) -> float:
    top = max(log_fixed, float(z.max()))
    return top + float(np.log(np.exp(log_fixed - top) + np.exp(z - top).sum()))
