"""MAPPO: PPO whose critics read the global state while they train (Yu et al. 2022).

Actors see what they saw before, and what is learned is played without the critic. The global state
(`MarketEnv.state`) holds everybody's private part, rivals' costs and last actions included.
BenchMARL has MAPPO (`docs/other-libraries.md`); this one is `ppo_torch` with another critic, for
all providers at once and with bit-exact resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from agents.base import Feedback, Role
from agents.ppo_torch import TorchPPO
from ttc_env.game.types import Array


class MAPPO(TorchPPO):
    """Multi-agent PPO with centralised critics. Options are those of `ppo_torch`.

    Every provider has a critic of its own, since each has its own profit; all read one state.
    """

    name = "mappo"
    needs_state = True

    def _critic_inputs(self, role: Role) -> int:
        return role.state_size

    def _judged(self, feedback: Feedback) -> dict[str, Array]:
        assert feedback.state is not None
        assert feedback.next_state is not None
        return {"state": feedback.state, "next_state": feedback.next_state}

    def _critic_sees(self, rollout: Mapping[str, Sequence[Any]], *, after: bool) -> Tensor:
        states = self._tensor(np.concatenate(rollout["next_state" if after else "state"]))
        return states.expand(len(self.role.index), *states.shape)
