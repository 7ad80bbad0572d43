"""Compiled rounds of posted prices: `ttc_env.game.rounds` as loops (see `kernels_numba`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttc_env.game.rules.kernels_numba import BLOCK, compiled, entries, look_up, show

POWERS = np.append(0.5 ** np.arange(1023.0), 0.0)
"""2^-k by k, exactly, as `rounds.power_of_two`: below 2^-1022 it is 0."""


@compiled
def play_narrow(
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
        public, own: `[p, b]` and `[rows, n, b]` float32, what observations show.
    """
    b = share.shape[1]
    for first in range(0, b, BLOCK):
        size = min(BLOCK, b - first)
        look_up(tables, actions, first, size, share, reward)
        logit_shares(np.ones(size), first, share, reward)
        if shown:
            entries(tables, actions, first, size, index)
            show(tables, index, first, size, share, reward, public, own)


@compiled
def play_scaled(
    tables: Any,
    actions: Any,
    share: Any,
    reward: Any,
    shown: bool,
    index: Any,
    public: Any,
    own: Any,
) -> None:
    """The same where attractions are fractions and powers of two."""
    b = share.shape[1]
    for first in range(0, b, BLOCK):
        size = min(BLOCK, b - first)
        total = np.ones(size)
        look_up(tables, actions, first, size, share, reward)
        entries(tables, actions, first, size, index)
        scale(tables.exponent, index, first, share, total)
        logit_shares(total, first, share, reward)
        if shown:
            show(tables, index, first, size, share, reward, public, own)


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
