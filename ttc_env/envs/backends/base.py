"""What computes rounds: one interface, four ways to do it, chosen here.

| name | plays | with |
| --- | --- | --- |
| `python` | one environment | plain Python, where the rule has such a round; else a batch of one |
| `numpy` | batches | NumPy |
| `numba` | batches | compiled loops (extra `fast`), where the rule has them |
| `torch` | batches | torch, on any device |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ttc_env.envs.observations import BatchObservation
from ttc_env.envs.rounds import BatchRounds, Played
from ttc_env.envs.world.stage import Stage
from ttc_env.envs.world.world import hold

if TYPE_CHECKING:
    from ttc_env.envs.config import EnvConfig
    from ttc_env.envs.tables import RoundTables

BATCH_BACKENDS = ("numpy", "numba", "torch")
"""Those that `ttc_env.vector_env` takes."""


def make_backend(
    name: str,
    tables: RoundTables,
    num_envs: int,
    *,
    device: Any = None,
    compile: bool = False,
) -> Backend:
    """A batch's backend by name. device, compile: torch's. (One environment: `PythonBackend`.)"""
    if name == "torch":
        from ttc_env.envs.backends.torch import TorchBackend

        return TorchBackend(tables, num_envs, device, compiled=compile)
    if name == "numba":
        from ttc_env.envs.backends.numba import NumbaBackend

        return NumbaBackend(tables, num_envs)
    from ttc_env.envs.backends.numpy import NumpyBackend

    return NumpyBackend(tables, num_envs)


class OneRound(NamedTuple):
    """A round of one environment, for its dicts."""

    observations: np.ndarray  # [n, d] float32, new
    reward: list[float]  # USD
    played: Callable[[], Played]  # as columns [n, 1]
    seen: Callable[[], BatchObservation]  # of a batch of one


class Backend(ABC):
    """Plays rounds of `num_envs` environments. Actions: `[b, n]`, or `[b, n, k]` of k parts."""

    config: EnvConfig
    rounds: BatchRounds

    @abstractmethod
    def generator(self, seed: int | Sequence[int] | None) -> Any:
        """A generator for the batch; or, of a seed per environment, one each.

        Raises:
            ValueError: a seed per environment, where the backend draws for all at once.
        """

    @abstractmethod
    def generator_state(self, rng: Any) -> Any:
        """To make the generator again, by `generator_from`."""

    @abstractmethod
    def generator_from(self, state: Any) -> Any:
        """A generator that goes on from its state."""

    @abstractmethod
    def first(self) -> BatchObservation:
        """What is seen before the first round."""

    @abstractmethod
    def play(
        self, actions: Any, rng: Any, time_left: float, stage: Stage | None = None
    ) -> tuple[BatchObservation, Played]:
        """A round. actions: as `checked` returned them; stage: what it is played in, where the
        world moves. `World.show` then writes what is known of the next.
        """

    @abstractmethod
    def rewards(self, actions: Any, rng: Any, stage: Stage | None = None) -> Any:
        """Rewards `[n, b]` of one round, and nothing else."""

    @abstractmethod
    def array(self, actions: Any) -> Any:
        """Actions as this backend's own array.

        Raises:
            TypeError, ValueError: actions that it cannot take.
        """

    @abstractmethod
    def checked(self, actions: Any, check: bool) -> Any:
        """Actions as `play` takes them; shapes are the caller's business.

        Raises:
            ValueError: actions of another kind; and, if `check`, outside their space.
        """

    @abstractmethod
    def flags(self, over: bool) -> tuple[Any, Any]:
        """Terminations and truncations `[num_envs]`."""

    @abstractmethod
    def copied(self, x: Any) -> Any:
        """An array, or observations, in memory that no later round writes to."""

    def host(self, x: Any) -> np.ndarray:
        """An array of this backend as NumPy's."""
        return self.rounds.host(x)

    def held(self, actions: Any, stage: Stage | None) -> tuple[Any, Any]:
        """Actions, and everybody's price `[n, b]`, with the prices that may not be changed as they
        are; None where prices never hold.
        """
        if stage is None or stage.held is None:
            return actions, None
        return hold(self.config, actions, stage.held, self.rounds.xp)


def refused(actions: Any, b: int, i: int, config: EnvConfig) -> str:
    """What is wrong with an action outside its space."""
    shown = actions[b, i].tolist()
    return f"environment {b}, {config.agents[i]}: action {shown} is not in {config.action_space()}"


def parts_of(actions: Any) -> list[Any]:
    """Actions `[b, n]` or `[b, n, k]` part by part."""
    if len(actions.shape) == 2:
        return [actions]
    return [actions[..., j] for j in range(actions.shape[2])]
