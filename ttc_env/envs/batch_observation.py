"""What a batch of environments shows: shared parts once, and the whole on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttc_env.envs.observations import hidden


@dataclass(frozen=True, eq=False)
class BatchObservation:
    """What all providers of all environments see, without repeating what they share. float32, in [-1, 1].

    `full()` writes the vectors out as the PettingZoo environment shows them. The three parts, in the order of `ObservationLayout`:
    """

    static: Any  # [G, n, s]: identity, existing levels, own curves; environment b has market b modulo G
    own: Any  # [num_envs, n, k + 1]: own last action, own last profit
    public: Any  # [num_envs, 3 n + 2]: everybody's quality, price and share, then 1 once a round has been played, and the time left
    information: str  # what providers may see of `public`: applied by `full`, not here

    def full(self) -> Any:
        """`[num_envs, n, d]`: every provider's observation vector."""
        b, n, own = self.own.shape
        g, _, s = self.static.shape
        p = self.public.shape[1]
        if isinstance(self.own, np.ndarray):
            out: Any = np.empty((b, n, s + own + p), np.float32)
            static = self.static if g == 1 else self.static[np.arange(b) % g]
        else:
            out = self.own.new_empty((b, n, s + own + p))
            static = self.static if g == 1 else self.static.repeat(-(-b // g), 1, 1)[:b]
        out[:, :, :s] = static
        out[:, :, s : s + own] = self.own
        out[:, :, s + own :] = self.public[:, None, :]
        mask = hidden(n, self.information, s + own, s + own + p)
        if mask is not None:
            out[:, mask if isinstance(out, np.ndarray) else out.new_tensor(mask).bool()] = 0.0
        return out

    def state(self) -> Any:
        """`[num_envs, state_size]`: the global state, as `MarketEnv.state` gives it."""
        b, n, own = self.own.shape
        g, _, s = self.static.shape
        numpy = isinstance(self.own, np.ndarray)
        static = self.static[:, :, n:]
        private = np.empty((b, n, s - n + own), np.float32) if numpy else self.own.new_empty((b, n, s - n + own))
        private[:, :, : s - n] = static if g == 1 else static[np.arange(b) % g]
        private[:, :, s - n :] = self.own
        parts = [private.reshape(b, -1), self.public]
        if numpy:
            return np.concatenate(parts, axis=1)
        import torch

        return torch.cat(parts, dim=1)
