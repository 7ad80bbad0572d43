"""What a batch of environments shows: shared parts once, and the whole on request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class BatchObservation:
    """What all providers of all environments see, without repeating what they share. float32, in
    [-1, 1]; NumPy arrays or torch tensors.

    `full()` writes the vectors out as the PettingZoo environment shows them. The three parts, in
    the order of `ObservationLayout`:
    """

    # [G, n, s]: identity, existing levels, own curves; environment b has market b modulo G
    static: Any
    own: Any  # [num_envs, n, k + 1]: own last action, own last profit
    # [num_envs, 3 n + 2]: everybody's quality, price and share, then 1 once a round has been
    # played, and the time left
    public: Any
    # [n, d] bool: what `full` shows to nobody but whose it is; None where nothing is hidden.
    # `public` has it all
    hidden: Any = None

    @classmethod
    def first(cls, static: Any, num_envs: int, parts: int, hidden: Any) -> BatchObservation:
        """Before the first round: nothing but the constants, and all of the time left. parts: k, of
        an action.
        """
        n = static.shape[1]
        public = _zeros(static, (3 * n + 2, num_envs))
        public[-1] = 1.0
        own = _zeros(static, (num_envs, n, parts + 1))
        return cls(static, own, public.T, hidden)

    def copy(self) -> BatchObservation:
        """In memory of its own, laid out alike. NumPy."""
        return replace(self, own=self.own.copy(order="K"), public=self.public.copy(order="K"))

    def full(self) -> Any:
        """`[num_envs, n, d]`: every provider's observation vector."""
        b, n, own = self.own.shape
        s, d = self.static.shape[2], self.static.shape[2] + own + self.public.shape[1]
        out = _zeros(self.static, (b, n, d))
        out[:, :, :s] = self._each_static()
        out[:, :, s : s + own] = self.own
        out[:, :, s + own :] = self.public[:, None, :]
        if self.hidden is not None:
            if isinstance(out, np.ndarray):
                out[:, self.hidden] = 0.0
            else:
                out.masked_fill_(self.hidden, 0.0)  # an index would have to be counted, on the host
        return out

    def state(self) -> Any:
        """`[num_envs, state_size]`: the global state, as `MarketEnv.state` gives it."""
        b, n, own = self.own.shape
        s = self.static.shape[2] - n  # providers are told apart by their place
        private = _zeros(self.static, (b, n, s + own))
        private[:, :, :s] = self._each_static()[:, :, n:]
        private[:, :, s:] = self.own
        out = _zeros(self.static, (b, n * (s + own) + self.public.shape[1]))
        out[:, : n * (s + own)] = private.reshape(b, -1)
        out[:, n * (s + own) :] = self.public
        return out

    def _each_static(self) -> Any:
        """`static` of each environment's market, `[num_envs or 1, n, s]`."""
        b, g = len(self.own), len(self.static)
        if g == 1:
            return self.static
        times = -(-b // g), 1, 1
        return (
            np.tile(self.static, times)
            if isinstance(self.static, np.ndarray)
            else self.static.repeat(*times)
        )[:b]


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    return np.zeros(shape, np.float32) if isinstance(like, np.ndarray) else like.new_zeros(shape)
