"""Rounds in NumPy, in columns on the host that are kept from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np
from gymnasium.utils import seeding

from ttc_env.envs.backends.base import Backend, OneRound, parts_of, refused
from ttc_env.envs.generators import SeparateGenerators, from_states, states_of
from ttc_env.envs.observations import BatchObservation
from ttc_env.envs.rounds import BatchRounds, Played
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage

_BLOCK = 2048  # environments per pass: a round's temporaries then stay in the processor's cache


class NumpyBackend(Backend):
    """Rounds in NumPy, written into columns `[n, num_envs]` that the next round overwrites."""

    def __init__(self, tables: RoundTables, num_envs: int):
        self.num_envs, self.config = num_envs, tables.config
        self.rounds = BatchRounds(tables, num_envs)
        n, layout = self.rounds.n, tables.layout
        self._static, self._hidden = tables.static, layout.hidden
        self._public = _aligned((layout.public_size, num_envs), np.float32)
        changing = layout.private_size - layout.constant_size
        self._own = _aligned((changing, n, num_envs), np.float32)
        self._reward, self._share = (_aligned((n, num_envs), np.float64) for _ in range(2))
        entries = n * len(tables.batch) * tables.num_actions
        # half the memory to write in every round
        self._index = _aligned((n, num_envs), np.int32 if entries < 2**31 else np.int64)
        # the buffers of `rewards`, once it is used
        self._aside: tuple[np.ndarray, ...] | None = None
        self._flags = np.zeros(num_envs, bool), np.ones(num_envs, bool)

    def generator(
        self, seed: int | Sequence[int] | None
    ) -> np.random.Generator | SeparateGenerators:
        """One for the batch; or, of a seed per environment, one each."""
        if seed is None or isinstance(seed, (int, np.integer)):
            return seeding.np_random(None if seed is None else int(seed))[0]
        return SeparateGenerators([seeding.np_random(int(one))[0] for one in seed])

    def generator_state(self, rng: Any) -> list[Any]:
        """To make the generator again, by `generator_from`."""
        return states_of(rng)

    def generator_from(self, states: Sequence[Any]) -> np.random.Generator | SeparateGenerators:
        """A generator that goes on from its state."""
        return from_states(states, lambda seed: seeding.np_random(seed)[0])

    def first(self) -> BatchObservation:
        """What is seen before the first round."""
        self._public[:], self._own[:] = 0.0, 0.0
        self._public[-1] = 1.0
        return self._views()

    def play(
        self, actions: np.ndarray, rng: Any, time_left: float, stage: Stage | None = None
    ) -> tuple[BatchObservation, Played]:
        actions, asked = self.held(actions, stage)
        kept = self._reward, self._share, self._index
        extra = self._play(actions, rng, *kept, shown=True, stage=stage)
        joined = {
            name: np.concatenate([getattr(part, name) for part in extra], axis=1)
            for name in ("price", "paid", "served", "correct", "caught")
            if extra and getattr(extra[0], name) is not None
        }
        self._public[-2], self._public[-1] = 1.0, time_left
        return self._views(), Played(*kept, **joined, stage=stage, asked=asked)

    def rewards(self, actions: np.ndarray, rng: Any, stage: Stage | None = None) -> np.ndarray:
        """In buffers of their own."""
        if self._aside is None:
            kept = self._reward, self._share, self._index
            self._aside = tuple(_aligned(x.shape, x.dtype) for x in kept)
        actions, _ = self.held(actions, stage)
        self._play(actions, rng, *self._aside, shown=False, stage=stage)
        return self._aside[0]

    def _play(
        self,
        actions: np.ndarray,
        rng: Any,
        reward: np.ndarray,
        share: np.ndarray,
        index: np.ndarray,
        *,
        shown: bool,
        stage: Stage | None = None,
    ) -> list[Played]:
        """A round, written into columns `[n, num_envs]`, block by block; and, if `shown`, what
        observations show of it. Returns the blocks, where they hold more than that.
        """
        extra: list[Played] = []
        for start in range(0, self.num_envs, _BLOCK):
            columns = slice(start, min(start + _BLOCK, self.num_envs))
            here = None if stage is None else stage.of(columns)
            played = self.rounds.play(actions[columns], _of(rng, columns), columns, here)
            reward[:, columns], share[:, columns] = played.reward, played.share
            if shown:
                index[:, columns] = played.index
                self.rounds.show(played, columns, self._public, self._own)
            if played.price is not None or played.served is not None:
                extra.append(played)
        return extra

    def play_one(self, chosen: Sequence[Any], rng: Any, time_left: float) -> OneRound:
        """A round of a batch of one, from PettingZoo's actions, provider by provider."""
        obs, played = self.play(self.config.stacked(chosen), rng, time_left)
        seen, kept = obs.copy(), played.kept()
        reward = kept.reward[:, 0].tolist()
        return OneRound(seen.full()[0], reward, partial(_same, kept), partial(_same, seen))

    def flags(self, over: bool) -> tuple[np.ndarray, np.ndarray]:
        """Terminations and truncations `[num_envs]`."""
        return self._flags[0], self._flags[over]

    def copied(self, x: Any) -> Any:
        """An array, or observations, in memory that no later round writes to."""
        return x.copy()

    def array(self, actions: Any) -> np.ndarray:
        """Actions as an array.

        Raises:
            ValueError: rows of different lengths.
        """
        try:
            return np.asarray(actions)
        except ValueError as error:
            raise ValueError(
                "actions are rows of different lengths; give one array [num_envs, providers, parts]"
            ) from error

    def checked(self, actions: Any, check: bool) -> np.ndarray:
        if self.config.actions == "continuous":
            if actions.dtype.kind not in "fiu":
                raise ValueError(f"actions are {actions.dtype}; expected numbers in [-1, 1]")
            if check and np.isnan(actions).any():
                raise ValueError(
                    "actions hold NaN; they must be numbers, which are clipped to [-1, 1]"
                )
            return actions
        if actions.dtype.kind not in "iu":
            raise ValueError(f"actions are {actions.dtype}; expected integers")
        actions = actions.astype(np.int64, copy=False)
        if check:
            for part, size in zip(parts_of(actions), self.config.grid, strict=True):
                if part.view(np.uint64).max() >= size:  # where negative numbers are large ones
                    self._refuse(actions, *np.argwhere((part < 0) | (part >= size))[0])
        return actions

    def _refuse(self, actions: np.ndarray, b: int, i: int) -> NoReturn:
        raise ValueError(refused(actions, b, i, self.config))

    def _views(self) -> BatchObservation:
        return BatchObservation(
            self._static, self._own.transpose(2, 1, 0), self._public.T, self._hidden
        )


def _same(x: Any) -> Any:
    return x


def _of(rng: Any, columns: slice) -> Any:
    """The generator of these environments."""
    return rng[columns] if isinstance(rng, SeparateGenerators) else rng


def _aligned(shape: tuple[int, ...], dtype: Any, line: int = 64) -> np.ndarray:
    """A new array that starts where a cache line does: vector instructions then write whole lines,
    a tenth faster.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(size + line, np.uint8)
    start = -buffer.ctypes.data % line
    return buffer[start : start + size].view(dtype).reshape(shape)
