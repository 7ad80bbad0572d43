"""What compiled rounds of all rules share (extra `fast`): looking up, and what observations show.

A rule's own kernel (`posted_price_numba.py`, ...) stands between the two. It looks up the same
tables as NumPy's round and does the same operations in the same order, so its answers have the same
bits (tests/test_speed_equality.py); it is several times faster in a batch (BENCHMARKS.md), where
NumPy walks through memory once per operation. Nothing imports these modules before a numba
environment is made; the first round then waits some seconds for the compiler, later processes read
its cache.

Arrays are columns, `[n, b]`: provider, environment. Loops run over blocks of environments, so that
what one pass leaves is still in the cache for the next; inside, over a block's environments, so
that the compiler can do several at once.

Two buffers `[n, b]` are worked through in place, from what the tables have for an action to what
the round comes to (GAME.md's names):

    share    posted prices: e_i, or f_i which `scale` makes e_i 2^-K; auction: score_i     ->  s_i
    reward   posted prices: users pi_i; auction: what serving is worth        ->  reward in USD
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

BLOCK = 512  # environments

compiled = njit(cache=True, error_model="numpy")


class Tables(NamedTuple):
    """What rounds look up, flat: one entry per (provider, market, action)."""

    weight: Any  # [entries] what decides who serves: attraction e; its fraction f; or score
    exponent: Any  # [entries] int64, k; where attractions are fractions
    gain: Any  # [entries] USD, profit if all users came; or USD/query, what serving is worth
    seen: Any  # [rows, entries] float32: what observations show of an action
    seen_by_all: int  # how many of these rows everybody sees; the others are a provider's own
    # 2 numbers: entries from one level to the next, and from one price and claim to the next (0 if
    # there is one only)
    strides: Any
    start: Any  # [n, 1] or [n, b] int64: entry of a provider's first action
    threshold: Any  # [1] or [b] USD/query: what the best score has to reach
    profit_scale: Any  # [1] or [b]: rewards times this are what observations show
    users: float


@compiled
def first_outside(actions: Any, sizes: Any) -> int:
    """Where `actions.flat` first leaves its space, else -1. actions: `[k, n, b]`; sizes: `[k]`, how
    many choices each part has.
    """
    k, n, b = actions.shape
    for part in range(k):
        for i in range(n):
            row, outside = actions[part, i], 0
            for j in range(b):
                outside |= (row[j] < 0) | (row[j] >= sizes[part])
            if outside:
                j = 0
                while 0 <= row[j] < sizes[part]:
                    j += 1
                return (part * n + i) * b + j
    return -1


@compiled
def look_up(tables: Any, actions: Any, first: int, size: int, share: Any, reward: Any) -> None:
    """What the tables have for each action: its weight, in `share`, and its gain, in `reward`."""
    weight, gain, start = tables.weight, tables.gain, tables.start
    p, q = tables.strides
    to, last = first + size, len(actions) - 1
    for i in range(len(share)):
        x, y = actions[0, i, first:to], actions[last, i, first:to]
        s, r = share[i, first:to], reward[i, first:to]
        if start.shape[1] == 1:
            here = start[i, 0]
            for j in range(size):
                entry = np.uint64(here + x[j] * p + y[j] * q)
                s[j], r[j] = weight[entry], gain[entry]
        else:
            there = start[i, first:to]
            for j in range(size):
                entry = np.uint64(there[j] + x[j] * p + y[j] * q)
                s[j], r[j] = weight[entry], gain[entry]


@compiled
def entries(tables: Any, actions: Any, first: int, size: int, index: Any) -> None:
    """Where the tables have each action."""
    start = tables.start
    p, q = tables.strides
    to, last = first + size, len(actions) - 1
    for i in range(len(index)):
        x, y, at = actions[0, i, first:to], actions[last, i, first:to], index[i, first:to]
        if start.shape[1] == 1:
            here = start[i, 0]
            for j in range(size):
                at[j] = here + x[j] * p + y[j] * q
        else:
            there = start[i, first:to]
            for j in range(size):
                at[j] = there[j] + x[j] * p + y[j] * q


@compiled
def show(
    tables: Any, index: Any, first: int, size: int, share: Any, reward: Any, public: Any, own: Any
) -> None:
    """What observations show of a round, as float32."""
    n, to, everybody = len(share), first + size, tables.seen_by_all
    own_rows = len(tables.seen) - everybody
    unit = np.empty(size)
    if len(tables.profit_scale) == 1:
        unit[:] = tables.profit_scale[0]
    else:
        unit[:] = tables.profit_scale[first:to]
    for i in range(n):
        at, s, r = index[i, first:to], share[i, first:to], reward[i, first:to]
        for column in range(len(tables.seen)):
            seen = tables.seen[column]
            if column < everybody:
                row = public[column * n + i, first:to]
            else:
                row = own[column - everybody, i, first:to]
            for j in range(size):
                row[j] = seen[np.uint64(at[j])]
        row, profit = public[everybody * n + i, first:to], own[own_rows, i, first:to]
        for j in range(size):
            row[j], profit[j] = s[j], r[j] * unit[j]
