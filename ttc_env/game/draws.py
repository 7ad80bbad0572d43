"""What is left to chance under sampled demand: users' choices, ties in an auction, and whether
answers are right.

Arrays are columns, `[n, b]`: provider, environment; NumPy's with a NumPy generator (or what has its
methods), or torch's with a torch generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def choices(share: Any, outside: Any, users: Any, rng: Any) -> Any:
    """Users served by each provider, `[n, b]`: a multinomial draw per environment. share: `[n, b]`;
    outside: `[b]`; users: a number, or `[b]`.
    """
    if isinstance(share, np.ndarray):
        chances = np.concatenate([share, np.broadcast_to(outside, share.shape[1:])[None]]).T
        return rng.multinomial(users, chances / chances.sum(axis=1, keepdims=True)).T[:-1]
    import torch

    left = torch.zeros_like(share[0]) + users
    rest = share.sum(dim=0) + outside
    served = []
    # conditional binomials: each provider draws from the users whom the ones before left
    for row in share:
        drawn = torch.binomial(left, (row / rest.clamp(min=1e-300)).clamp(0.0, 1.0), generator=rng)
        left, rest = left - drawn, rest - row
        served.append(drawn)
    return torch.stack(served)


def winners(share: Any, users: Any, rng: Any) -> Any:
    """Users served, `[n, b]`, in one auction a round: a tie is drawn once, and its winner serves
    everybody. share: `[n, b]`; users: a number, or `[b]`.
    """
    tied = share > 0
    if isinstance(share, np.ndarray):
        u, count = rng.random(share.shape[1]), tied.sum(axis=0)
        rank = np.minimum((u * count).astype(np.int64), count - 1) + 1
        return (tied & (np.cumsum(tied, axis=0) == rank)) * users
    import torch

    u, count = (
        torch.rand(share.shape[1], generator=rng, device=share.device, dtype=share.dtype),
        tied.sum(dim=0),
    )
    rank = torch.minimum((u * count).to(torch.int64), count - 1) + 1
    return (tied & (torch.cumsum(tied, dim=0) == rank)) * (torch.zeros_like(share) + users)


def answers(served: Any, accuracy: Any, rng: Any) -> Any:
    """Right answers among those served, `[n, b]`. served, accuracy: `[n, b]`."""
    if isinstance(served, np.ndarray):
        return rng.binomial(served, accuracy)
    import torch

    return torch.binomial(served.to(accuracy.dtype), accuracy, generator=rng)
