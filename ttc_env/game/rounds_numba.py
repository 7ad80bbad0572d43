"""The rounds of `ttc_env.game.rounds` as loops, compiled by numba: what `backend="numba"` plays
(extra `fast`).

A second implementation, for speed alone: several times faster than NumPy's in a batch
(BENCHMARKS.md), where NumPy walks through memory once per operation. It looks up the same tables
and does the same operations in the same order, so its answers have the same bits
(tests/test_speed_equality.py). Nothing imports this module before a numba environment is made; the
first round then waits some seconds for the compiler, later processes read its cache.

Arrays are columns, `[n, b]`: provider, environment. Loops run over blocks of environments, so that
what one pass leaves is still in the cache for the next; inside, over a block's environments, so
that the compiler can do several at once.

Two buffers `[n, b]` are worked through in place, from what the tables have for an action to what
the round comes to (GAME.md's names):

    share    market: e_i, or f_i which `scale` makes e_i 2^-K; auction: score_i     ->  s_i
    reward   market: users pi_i; auction: omega_i, settled quality less cost        ->  reward in
        USD
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

BLOCK = 512  # environments

MARKET, SCALED_MARKET, AUCTION = 0, 1, 2
"""Kinds of rounds: attractions as they are, attractions as f 2^k, and the second-score auction."""

POWERS = np.append(0.5 ** np.arange(1023.0), 0.0)
"""2^-k by k, exactly, as `rounds.power_of_two`: below 2^-1022 it is 0."""

compiled = njit(cache=True, error_model="numpy")


class Tables(NamedTuple):
    """What rounds look up, flat: one entry per (provider, market, action)."""

    kind: int
    weight: Any  # [entries] what decides who serves: attraction e; its fraction f; or score
    exponent: Any  # [entries] int64, k; empty if kind is not SCALED_MARKET
    # [entries] USD, profit if all users came; or USD/query, what serving is worth before the
    # rivals' score is paid
    gain: Any
    # [2 + k, entries] float32: quality, price, and the k parts of an action, as observations show
    # them
    seen: Any
    # 2 numbers: entries from one level to the next, and from one price and claim to the next (0 if
    # there is one only)
    strides: Any
    start: Any  # [n, 1] or [n, b] int64: entry of a provider's first action
    outside_value: Any  # [1] or [b] USD/query
    profit_scale: Any  # [1] or [b]: rewards times this are what observations show
    users: float


@compiled
def play(
    tables: Any,
    actions: Any,
    share: Any,
    reward: Any,
    shown: bool,
    index: Any,
    public: Any,
    own: Any,
) -> None:
    """One round of every environment.

    Args:
        tables: `Tables`.
        actions: int64, in their space (`first_outside`): levels `[1, n, b]`; or `[2, n, b]`, with
            prices, or price * claims + claim.
        share, reward: `[n, b]`, are written: chances to serve, and USD.
        shown: whether to write the rest too. If not, they may have any content.
        index: `[n, b]` integers, the tables' entries that were played.
        public, own: `[3 n + 2, b]` and `[k + 1, n, b]` float32, what observations show
            (`ttc_env.envs.batch_observation`).
    """
    b = share.shape[1]
    for first in range(0, b, BLOCK):
        size = min(BLOCK, b - first)
        look_up(tables, actions, first, size, share, reward)
        if shown or tables.kind == SCALED_MARKET:
            entries(tables, actions, first, size, index)
        if tables.kind == AUCTION:
            auction_shares(tables, first, size, share, reward)
        else:
            total = np.ones(size)
            if tables.kind == SCALED_MARKET:
                scale(tables.exponent, index, first, share, total)
            logit_shares(total, first, share, reward)
        if shown:
            show(tables, index, first, size, share, reward, public, own)


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
                for j in range(b):
                    if (row[j] < 0) | (row[j] >= sizes[part]):
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
def scale(exponent: Any, index: Any, first: int, share: Any, total: Any) -> None:
    """From fractions f_i in `share`: e_i = f_i 2^(k_i - K) in units of 2^K, K = max(0, max_i k_i),
    and the outside option's in `total`.
    """
    n, size = len(share), len(total)
    to = first + size
    top = np.zeros(size, np.int64)
    for i in range(n):
        at = index[i, first:to]
        for j in range(size):
            top[j] = max(top[j], exponent[np.uint64(at[j])])
    for j in range(size):
        total[j] = POWERS[min(top[j], 1023)]
    for i in range(n):
        at, s = index[i, first:to], share[i, first:to]
        for j in range(size):
            s[j] *= POWERS[min(top[j] - exponent[np.uint64(at[j])], 1023)]


@compiled
def logit_shares(total: Any, first: int, share: Any, reward: Any) -> None:
    """s_i = e_i / (e_0 + sum_j e_j) and the reward, gain_i s_i. total: `[size]`, e_0."""
    n, size = len(share), len(total)
    for i in range(n):
        s = share[i, first : first + size]
        for j in range(size):
            total[j] += s[j]
    inverse = total  # its memory serves again
    for j in range(size):
        inverse[j] = 1.0 / total[j]
    for i in range(n):
        s, r = share[i, first : first + size], reward[i, first : first + size]
        for j in range(size):
            s[j] *= inverse[j]
            r[j] *= s[j]


@compiled
def auction_shares(tables: Any, first: int, size: int, share: Any, reward: Any) -> None:
    """The highest score serves, if it is at least V_0, and pays the best rival's or V_0 out of what
    serving is worth. Ties share.
    """
    n, users = len(share), tables.users
    best, second, leaders = np.full(size, -np.inf), np.full(size, -np.inf), np.zeros(size)
    reserve = np.empty(size)
    if len(tables.outside_value) == 1:
        reserve[:] = tables.outside_value[0]
    else:
        reserve[:] = tables.outside_value[first : first + size]
    for i in range(n):
        score = share[i, first : first + size]
        for j in range(size):
            x = score[j]
            second[j] = max(second[j], min(best[j], x))
            best[j] = max(best[j], x)
    for i in range(n):
        score = share[i, first : first + size]
        for j in range(size):
            leaders[j] += score[j] == best[j]
    for i in range(n):
        s, r = share[i, first : first + size], reward[i, first : first + size]
        for j in range(size):
            x = 1.0 / leaders[j] if (s[j] == best[j]) & (best[j] >= reserve[j]) else 0.0
            # Those who do not serve earn 0, whatever they would be charged.
            s[j], r[j] = x, x * (users * (r[j] - max(second[j], reserve[j]))) + 0.0


@compiled
def show(
    tables: Any, index: Any, first: int, size: int, share: Any, reward: Any, public: Any, own: Any
) -> None:
    """What observations show of a round, as float32."""
    n, k, to = len(share), len(own) - 1, first + size
    unit = np.empty(size)
    if len(tables.profit_scale) == 1:
        unit[:] = tables.profit_scale[0]
    else:
        unit[:] = tables.profit_scale[first:to]
    for i in range(n):
        at, s, r = index[i, first:to], share[i, first:to], reward[i, first:to]
        for column in range(2 + k):
            seen, row = (
                tables.seen[column],
                (public[column * n + i, first:to] if column < 2 else own[column - 2, i, first:to]),
            )
            for j in range(size):
                row[j] = seen[np.uint64(at[j])]
        row, profit = public[2 * n + i, first:to], own[k, i, first:to]
        for j in range(size):
            row[j], profit[j] = s[j], r[j] * unit[j]


class OneTables(NamedTuple):
    """What the rounds of one environment look up.

    Passed as a plain tuple of arrays, which reach compiled code in half the time.
    """

    # [4 + k] users, V_0, profit scale, kind; and how many choices each part of an action has
    rules: Any
    numbers: Any  # [n, a, 3] weight, exponent and gain, as in `Tables`
    seen: Any  # [n, a, 2 + k] float32, likewise
    static: Any  # [n, s] float32: how every provider's observation starts


@compiled
def play_one(tables: Any, keys: Any, time_left: float, result: Any, observations: Any) -> int:
    """One round of one environment, with everybody's observations in full.

    Args:
        tables: `tuple(OneTables(...))`.
        keys: actions `[n k]` int64, provider by provider, as bytes.
        time_left: the last entry of observations.
        result: `[2, n]`, is written: shares, and rewards in USD.
        observations: `[n, d]` float32, likewise.

    Returns:
        The first provider whose action is outside the space, else -1.
    """
    rules, numbers, seen, static = tables
    users, outside_value, profit_scale, kind, sizes = (
        rules[0],
        rules[1],
        rules[2],
        rules[3],
        rules[4:],
    )
    actions = np.frombuffer(keys, np.int64)
    n, s = static.shape
    k, d = len(sizes), observations.shape[1]
    share, reward = result[0], result[1]
    exponent = np.empty(n)
    public = observations[0, s + k + 1 :]  # provider 0's copy of the public block is written first
    for i in range(n):
        action = np.int64(0)
        for part in range(k):
            choice = actions[i * k + part]
            if choice < 0 or choice >= sizes[part]:
                return i
            action = action * np.int64(sizes[part]) + choice
        share[i], exponent[i], reward[i] = numbers[i, action]
        public[i], public[n + i] = seen[i, action, 0], seen[i, action, 1]
        for part in range(k):
            observations[i, s + part] = seen[i, action, 2 + part]
    if kind == AUCTION:
        auction_one(users, outside_value, share, reward)
    else:
        market_one(exponent, kind == SCALED_MARKET, share, reward)
    for i in range(n):
        public[2 * n + i] = share[i]
        observations[i, s + k] = reward[i] * profit_scale
    public[3 * n], public[3 * n + 1] = 1.0, time_left
    for i in range(n):
        for j in range(s):
            observations[i, j] = static[i, j]
    for i in range(1, n):
        for j in range(s + k + 1, d):
            observations[i, j] = observations[0, j]
    return -1


@compiled
def market_one(exponent: Any, scaled: bool, share: Any, reward: Any) -> None:
    """`scale` and `logit_shares` for one environment: share holds f_i or e_i, reward the gains; all
    `[n]`.
    """
    n = len(share)
    total = 1.0
    if scaled:
        top = 0.0
        for i in range(n):
            top = max(top, exponent[i])
        for i in range(n):
            share[i] *= POWERS[int(min(top - exponent[i], 1023.0))]
        total = POWERS[int(min(top, 1023.0))]
    for i in range(n):
        total += share[i]
    inverse = 1.0 / total
    for i in range(n):
        share[i] *= inverse
        reward[i] *= share[i]


@compiled
def auction_one(users: float, outside_value: float, share: Any, reward: Any) -> None:
    """`auction_shares` for one environment: share holds scores, reward what serving is worth; both
    `[n]`.
    """
    best, second, leaders = -np.inf, -np.inf, 0.0
    for score in share:
        second = max(second, min(best, score))
        best = max(best, score)
    for score in share:
        leaders += score == best
    charge = max(second, outside_value)
    for i in range(len(share)):
        share[i] = 1.0 / leaders if share[i] == best and best >= outside_value else 0.0
        reward[i] = share[i] * (users * (reward[i] - charge)) + 0.0
