"""What plays a batch's rounds: NumPy or numba, in columns on the host that are kept from step to
step; or torch, on its device.

Both have the same few methods, so that `VectorMarketEnv` need not know which one it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any, NoReturn

import numpy as np
from gymnasium.utils import seeding

from ttc_env.envs.batch import BatchRounds, Played, torch_module
from ttc_env.envs.batch_observation import BatchObservation
from ttc_env.envs.compiled import CompiledRounds
from ttc_env.envs.config import EnvConfig
from ttc_env.envs.draws import SeparateGenerators
from ttc_env.envs.tables import RoundTables

_BLOCK = 2048  # environments per pass: a round's temporaries then stay in the processor's cache


class NumpyBackend:
    """Rounds in NumPy, or compiled by numba, written into columns `[n, num_envs]` that the next
    round overwrites.
    """

    def __init__(self, tables: RoundTables, num_envs: int, *, compiled: bool = False):
        self.num_envs, self.config = num_envs, tables.config
        self.rounds = BatchRounds(tables, num_envs)
        n, k = self.rounds.n, len(self.config.grid)
        self._static, self._hidden = tables.static, tables.hidden
        self._public = _aligned((3 * n + 2, num_envs), np.float32)
        self._own = _aligned((k + 1, n, num_envs), np.float32)
        self._reward, self._share = (_aligned((n, num_envs), np.float64) for _ in range(2))
        entries = n * len(tables.batch) * tables.num_actions
        # half the memory to write in every round
        self._index = _aligned((n, num_envs), np.int32 if entries < 2**31 else np.int64)
        # the buffers of `rewards`, once it is used
        self._aside: tuple[np.ndarray, ...] | None = None
        self._flags = np.zeros(num_envs, bool), np.ones(num_envs, bool)
        rounds = self.rounds
        self._compiled = (
            CompiledRounds(tables, rounds.start, rounds.outside_value, rounds.profit_scale)
            if compiled
            else None
        )

    def generator(
        self, seed: int | Sequence[int] | None
    ) -> np.random.Generator | SeparateGenerators:
        """One for the batch; or, of a seed per environment, one each."""
        if seed is None or isinstance(seed, (int, np.integer)):
            return seeding.np_random(None if seed is None else int(seed))[0]
        return SeparateGenerators([seeding.np_random(int(one))[0] for one in seed])

    def generator_state(self, rng: Any) -> list[Any]:
        """To make the generator again, by `generator_from`."""
        return [
            g.bit_generator.state
            for g in (rng.generators if isinstance(rng, SeparateGenerators) else [rng])
        ]

    def generator_from(self, states: Sequence[Any]) -> np.random.Generator | SeparateGenerators:
        """A generator that goes on from its state."""
        rng = self.generator(0 if len(states) == 1 else [0] * len(states))
        for one, state in zip(
            rng.generators if isinstance(rng, SeparateGenerators) else [rng], states, strict=True
        ):
            one.bit_generator.state = state
        return rng

    def first(self) -> BatchObservation:
        """What is seen before the first round."""
        self._public[:], self._own[:] = 0.0, 0.0
        self._public[-1] = 1.0
        return self._views()

    def play(
        self, actions: np.ndarray, rng: Any, time_left: float
    ) -> tuple[BatchObservation, Played]:
        """A round. actions: `[b, n]` or `[b, n, k]`, in their space."""
        public, own = self._public, self._own
        extra: list[Played] = []
        if self._compiled is not None:
            self._compiled.play(
                actions, self._share, self._reward, self._index, public, own, shown=True
            )
        for columns in self._blocks() if self._compiled is None else ():
            played = self.rounds.play(actions[columns], _of(rng, columns), columns)
            self.rounds.show(played, columns, public, own)
            self._reward[:, columns], self._share[:, columns], self._index[:, columns] = (
                played.reward,
                played.share,
                played.index,
            )
            if played.price is not None or played.served is not None:
                extra.append(played)
        price, served, correct = (
            (
                np.concatenate([getattr(p, name) for p in extra], axis=1)
                if extra and getattr(extra[0], name) is not None
                else None
            )
            for name in ("price", "served", "correct")
        )
        public[-2], public[-1] = 1.0, time_left
        return self._views(), Played(
            self._reward, self._share, self._index, price, None, served, correct
        )

    def rewards(self, actions: np.ndarray, rng: Any) -> np.ndarray:
        """Rewards `[n, b]` of one round, in buffers of their own."""
        if self._aside is None:
            self._aside = tuple(
                _aligned(x.shape, x.dtype) for x in (self._reward, self._share, self._index)
            )
        reward, share, index = self._aside
        if self._compiled is not None:
            self._compiled.play(actions, share, reward, index, self._public, self._own, shown=False)
        else:
            for columns in self._blocks():
                played = self.rounds.play(actions[columns], _of(rng, columns), columns)
                reward[:, columns], share[:, columns] = played.reward, played.share
        return reward

    def flags(self, over: bool) -> tuple[np.ndarray, np.ndarray]:
        """Terminations and truncations `[num_envs]`."""
        return self._flags[0], self._flags[over]

    def copied(self, x: Any) -> Any:
        """An array, or observations, in memory that no later round writes to."""
        return x.copy()

    def array(self, actions: Any) -> np.ndarray:
        """Actions as an array."""
        return np.asarray(actions)

    def checked(self, actions: Any, check: bool) -> np.ndarray:
        """Actions as `play` takes them; shapes are the caller's business.

        Raises:
            ValueError: actions of another kind; and, if `check`, outside their space.
        """
        if self.config.continuous:
            if check and np.isnan(actions).any():
                raise ValueError(
                    "actions hold NaN; they must be numbers, which are clipped to [-1, 1]"
                )
            return actions
        if actions.dtype.kind not in "iu":
            raise ValueError(f"actions are {actions.dtype}; expected integers")
        actions = actions.astype(np.int64, copy=False)
        if self._compiled is not None:
            columns = self._compiled.columns(actions)
            if check and (outside := self._compiled.outside(columns)) is not None:
                self._refuse(actions, *outside)
            return columns.transpose(2, 1, 0)  # so that it is not made again
        if check:
            for part, size in zip(_parts(actions), self.config.grid, strict=True):
                if part.view(np.uint64).max() >= size:  # where negative numbers are large ones
                    self._refuse(actions, *np.argwhere((part < 0) | (part >= size))[0])
        return actions

    def _refuse(self, actions: np.ndarray, b: int, i: int) -> NoReturn:
        raise ValueError(_refused(actions, b, i, self.config))

    def _blocks(self) -> Iterator[slice]:
        return (
            slice(start, min(start + _BLOCK, self.num_envs))
            for start in range(0, self.num_envs, _BLOCK)
        )

    def _views(self) -> BatchObservation:
        return BatchObservation(
            self._static, self._own.transpose(2, 1, 0), self._public.T, self._hidden
        )


class TorchBackend:
    """Rounds in torch.

    Nothing waits for the device, nothing is copied from it or to it, and every round has new
    tensors.
    """

    def __init__(
        self, tables: RoundTables, num_envs: int, device: Any = None, *, compiled: bool = False
    ):
        torch = torch_module()
        try:
            torch.empty(0, device=device)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"device {device!r} is not to be had here: {error}. Use device='cpu', or a torch"
                " built for it"
            ) from error
        self.num_envs, self.config = num_envs, tables.config
        self.rounds = BatchRounds(tables, num_envs, "torch", device)
        self._static = self.rounds.put(tables.static)
        self._hidden = None if tables.hidden is None else self.rounds.put(tables.hidden)
        self.device = self._static.device
        self._flags = tuple(
            torch.full((num_envs,), flag, device=self.device) for flag in (False, True)
        )
        self._round, self._seen_round = self._play, self._play_and_see
        if compiled:
            if self.config.demand == "sampled":
                raise ValueError(
                    "torch's compiler cannot draw from a generator; use compile=False with"
                    " demand='sampled'"
                )
            # Else eight environments would fill the compiler's list of versions of one function
            # (torch before 2.13: they do).
            alone = (
                {"isolate_recompiles": True}
                if "isolate_recompiles" in signature(torch.compile).parameters
                else {}
            )
            self._round, self._seen_round = (
                torch.compile(f, fullgraph=True, dynamic=False, **alone)
                for f in (self._round, self._seen_round)
            )

    def generator(self, seed: int | Sequence[int] | None) -> Any:
        """One for the batch, on the device.

        Raises:
            ValueError: a seed per environment.
        """
        generator = self.rounds.xp.Generator(device=self.device)
        if seed is None:
            generator.seed()
        elif isinstance(seed, (int, np.integer)):
            generator.manual_seed(int(seed))
        else:
            raise ValueError(
                "torch draws for the whole batch from one generator: give one seed, or use"
                " backend='numpy'"
            )
        return generator

    def generator_state(self, rng: Any) -> np.ndarray:
        """To make the generator again, by `generator_from`."""
        return rng.get_state().numpy()

    def generator_from(self, state: np.ndarray) -> Any:
        """A generator that goes on from its state."""
        rng = self.generator(0)
        rng.set_state(self.rounds.xp.from_numpy(np.array(state, np.uint8)))
        return rng

    def first(self) -> BatchObservation:
        """What is seen before the first round."""
        return BatchObservation.first(
            self._static, self.num_envs, len(self.config.grid), self._hidden
        )

    def play(self, actions: Any, rng: Any, time_left: float) -> tuple[BatchObservation, Played]:
        """A round. actions: `[b, n]` or `[b, n, k]`, in their space."""
        played, public, own = self._seen_round(actions, rng)
        public[-1].fill_(time_left)  # here, lest the clock be compiled into the round
        return BatchObservation(self._static, own.permute(2, 1, 0), public.T, self._hidden), played

    def _play_and_see(self, actions: Any, rng: Any) -> tuple[Played, Any, Any]:
        torch = self.rounds.xp
        played = self.rounds.play(actions, rng)
        shown, mine = self.rounds.seen(played)
        public = torch.cat(
            [
                *(rows.to(torch.float32) for rows in shown),
                shown[0].new_ones((2, self.num_envs), dtype=torch.float32),
            ]
        )
        return played, public, torch.stack([rows.to(torch.float32) for rows in mine])

    def rewards(self, actions: Any, rng: Any) -> Any:
        """Rewards `[n, b]` of one round."""
        return self._round(actions, rng)

    def _play(self, actions: Any, rng: Any) -> Any:
        # and no more: what a compiled function returns it has to write
        return self.rounds.play(actions, rng).reward

    def flags(self, over: bool) -> tuple[Any, Any]:
        """Terminations and truncations `[num_envs]`."""
        return self._flags[0], self._flags[over]

    def copied(self, x: Any) -> Any:
        """Observations and rewards are new in every round; flags are not."""
        return x if isinstance(x, BatchObservation) else x.clone()

    def array(self, actions: Any) -> Any:
        """Actions, which are a tensor on the device.

        Raises:
            TypeError: they are no tensor.
            ValueError: they are elsewhere.
        """
        if not isinstance(actions, self.rounds.xp.Tensor):
            raise TypeError(
                f"actions are a {type(actions).__name__}; backend='torch' plays tensors:"
                " torch.as_tensor(actions, device=...)"
            )
        if actions.device != self.device:
            raise ValueError(
                f"actions are on {actions.device}, the environment is on {self.device}; make them"
                " there, or move them there"
            )
        return actions

    def checked(self, actions: Any, check: bool) -> Any:
        """Actions as they are. To look at numbers on another device than the CPU would be to wait
        for it, so that these are not checked.

        Raises:
            ValueError: a tensor of another kind; or, if `check` and on the CPU, actions outside
                their space.
        """
        if not self.config.continuous and (
            actions.is_floating_point() or actions.dtype == self.rounds.xp.bool
        ):
            raise ValueError(f"actions are {actions.dtype}; expected integers")
        if check and self.device.type == "cpu" and not self.config.continuous:
            for part, size in zip(_parts(actions), self.config.grid, strict=True):
                if ((part < 0) | (part >= size)).any():
                    b, i = ((part < 0) | (part >= size)).nonzero()[0].tolist()
                    raise ValueError(_refused(actions, b, i, self.config))
        return actions


def _parts(actions: Any) -> list[Any]:
    """Actions `[b, n]` or `[b, n, k]` part by part."""
    return (
        [actions] if len(actions.shape) == 2 else [actions[..., j] for j in range(actions.shape[2])]
    )


def _refused(actions: Any, b: int, i: int, config: EnvConfig) -> str:
    return (
        f"environment {b}, provider_{i}: action {actions[b, i].tolist()} is not in"
        f" {config.action_space()}"
    )


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
