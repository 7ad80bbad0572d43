"""Compiled rounds of the second-score auction (see `kernels_numba`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttc_env.game.rules.kernels_numba import BLOCK, compiled, entries, look_up, show


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
        public, own: `[p, b]` and `[rows, n, b]` float32, what observations show.
    """
    b = share.shape[1]
    for first in range(0, b, BLOCK):
        size = min(BLOCK, b - first)
        look_up(tables, actions, first, size, share, reward)
        auction_shares(tables, first, size, share, reward)
        if shown:
            entries(tables, actions, first, size, index)
            show(tables, index, first, size, share, reward, public, own)


@compiled
def auction_shares(tables: Any, first: int, size: int, share: Any, reward: Any) -> None:
    """The highest score serves, if it is at least V_0, and pays the best rival's or V_0 out of what
    serving is worth. Ties share.
    """
    n, users = len(share), tables.users
    best, second, leaders = np.full(size, -np.inf), np.full(size, -np.inf), np.zeros(size)
    reserve = np.empty(size)
    if len(tables.threshold) == 1:
        reserve[:] = tables.threshold[0]
    else:
        reserve[:] = tables.threshold[first : first + size]
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
