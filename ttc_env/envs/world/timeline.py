"""The rounds of one environment where the world moves: what each was, and is to be, played in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ttc_env.envs.backends.base import OneRound
from ttc_env.envs.backends.numpy import NumpyBackend
from ttc_env.envs.observations import BatchObservation
from ttc_env.envs.world.stage import Stage
from ttc_env.envs.world.world import World, world_generator

_KEPT = 10_000  # rounds


class Timeline:
    """Plays an episode as a batch of one, and keeps its stages."""

    def __init__(self, backend: NumpyBackend):
        self._backend, self._world = backend, World(backend.config, backend.rounds)
        self._rng = world_generator(None)
        self._stages: deque[Stage] = deque(maxlen=_KEPT)
        self.seen: BatchObservation = backend.first().copy()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_backend": self._backend.rounds.tables}
        del state["_world"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._backend = NumpyBackend(state["_backend"], 1)  # of its tables
        self._world = World(self._backend.config, self._backend.rounds)

    def reset(self, backend: NumpyBackend, seed: int | None) -> BatchObservation:
        """Begin an episode. A seed starts the world's generator anew.

        backend: of the market that is played.
        """
        if backend is not self._backend:
            self._backend, self._world = backend, World(backend.config, backend.rounds)
        if seed is not None:
            self._rng = world_generator(seed)
        stage = self._world.first(self._rng)
        self._stages.clear()
        self._stages.append(stage)
        self.seen = self._world.show(backend.first().copy(), stage)
        return self.seen

    def play(self, actions: np.ndarray, rng: Any, time_left: float) -> OneRound:
        """A round. actions: `[1, n]` or `[1, n, k]`, in their space."""
        obs, played = self._backend.play(actions, rng, time_left, self._stages[-1])
        kept = played.kept()
        stage = self._world.after(self._stages[-1], kept, self._rng)
        self.seen = seen = self._world.show(obs.copy(), stage)
        self._stages.append(stage)
        reward = kept.reward[:, 0].tolist()
        return OneRound(seen.full()[0], reward, partial(_same, kept), partial(_same, seen))

    def masks(self) -> Sequence[np.ndarray | None]:
        """Of each provider, the choices of the coming round, read-only; None for a Box."""
        found = self._world.masks(self._stages[-1], self._backend.rounds.tables.batch)
        if found is None:
            return (None,) * len(self._backend.config.agents)
        found.setflags(write=False)
        return list(found[0])

    def at(self, t: int) -> Stage:
        """Round t's stage, from 0: a past one, the coming one, or a later one that is known.

        Raises:
            ValueError: it is not known yet, or was forgotten.
        """
        if not self._stages:
            raise ValueError("no episode has begun; call reset() first")
        last, first = self._stages[-1].t, self._stages[0].t
        if t < first:
            why = "rounds count from 0" if t < 0 else f"the last {_KEPT} rounds are kept"
            raise ValueError(f"round {t} is not known: {why}")
        if t <= last:
            return self._stages[t - first]
        known = self._world.later(self._stages[-1], t)
        if known is None:
            raise ValueError(
                f"round {t} is not known: the coming one is {last}, and what comes then is left to"
                " chance or to play"
            )
        return known


def _same(x: Any) -> Any:
    return x
