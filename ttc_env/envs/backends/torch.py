"""Rounds in torch, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from ttc_env.envs.backends.base import Backend, parts_of, refused
from ttc_env.envs.observations import BatchObservation
from ttc_env.envs.rounds import BatchRounds, Played, torch_module
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage


class TorchBackend(Backend):
    """Rounds in torch.

    Nothing waits for the device, nothing is copied from it or to it, and every round has new
    tensors. Shocks are the exception: the world moves on the host, and each round's goes to the
    device; only `capital` has to wait for rewards.
    """

    def __init__(
        self, tables: RoundTables, num_envs: int, device: Any = None, *, compiled: bool = False
    ):
        torch = torch_module()
        try:
            torch.empty(0, device=device)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"device {device!r} does not work here: {error}. Use device='cpu', or a torch"
                " built for it"
            ) from error
        self.num_envs, self.config = num_envs, tables.config
        self.rounds = BatchRounds(tables, num_envs, "torch", device)
        self._static = self.rounds.put(tables.static)
        self._layout, hidden = tables.layout, tables.layout.hidden
        self._hidden = None if hidden is None else self.rounds.put(hidden)
        self.device = self._static.device
        # of the public and of the private part: `World.show` fills them in
        self._world_rows = self._layout.world_rows
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
            if self.config.shocks is not None:
                raise ValueError(
                    "compile=True plays a world that does not move; use compile=False with shocks"
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
        return BatchObservation.first(self._layout, self._static, self.num_envs, self._hidden)

    def play(
        self, actions: Any, rng: Any, time_left: float, stage: Stage | None = None
    ) -> tuple[BatchObservation, Played]:
        """A round. actions: `[b, n]` or `[b, n, k]`, in their space."""
        actions, asked = self.held(actions, stage)
        moved = () if self.config.shocks is None else (stage,)
        played, public, own = self._seen_round(actions, rng, *moved)
        public[-1].fill_(
            time_left
        )  # here, so that the compiler does not bake the clock into the round
        played = played._replace(stage=stage, asked=asked)
        return BatchObservation(self._static, own.permute(2, 1, 0), public.T, self._hidden), played

    def _play_and_see(
        self, actions: Any, rng: Any, stage: Stage | None = None
    ) -> tuple[Played, Any, Any]:
        torch = self.rounds.xp
        played = self.rounds.play(actions, rng, stage=stage)
        shown, mine = self.rounds.seen(played)
        public = torch.cat(
            [
                *(rows.to(torch.float32) for rows in shown),
                shown[0].new_ones((2 + self._world_rows[0], self.num_envs), dtype=torch.float32),
            ]
        )
        own = [rows.to(torch.float32) for rows in mine]
        return played, public, torch.stack(own + own[-1:] * self._world_rows[1])

    def rewards(self, actions: Any, rng: Any, stage: Stage | None = None) -> Any:
        """Rewards `[n, b]` of one round."""
        actions, _ = self.held(actions, stage)
        moved = () if self.config.shocks is None else (stage,)
        return self._round(actions, rng, *moved)

    def _play(self, actions: Any, rng: Any, stage: Stage | None = None) -> Any:
        # and no more: what a compiled function returns it has to write
        return self.rounds.play(actions, rng, stage=stage).reward

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
        torch = self.rounds.xp
        looks = check and self.device.type == "cpu"
        # torch compares no wider unsigned integers
        whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
        if self.config.continuous:
            if not actions.is_floating_point() and actions.dtype not in whole:
                raise ValueError(f"actions are {actions.dtype}; expected numbers in [-1, 1]")
            if looks and torch.isnan(actions).any():
                raise ValueError(
                    "actions hold NaN; they must be numbers, which are clipped to [-1, 1]"
                )
            return actions
        if actions.dtype not in whole:
            raise ValueError(
                f"actions are {actions.dtype}; expected integers: actions.to(torch.int64)"
            )
        if looks:
            for part, size in zip(parts_of(actions), self.config.grid, strict=True):
                if ((part < 0) | (part >= size)).any():
                    b, i = ((part < 0) | (part >= size)).nonzero()[0].tolist()
                    raise ValueError(refused(actions, b, i, self.config))
        return actions
