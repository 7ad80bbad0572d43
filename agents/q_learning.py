"""Tabular Q-learning with memory of the last round, as in Calvano, Calzolari, Denicolo and
Pastorello (AER 2020).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.base import Actions, Agent, Feedback, Role, best, pure, sample
from agents.checks import fraction
from agents.scale import check_scale, scaled
from ttc_env.game.types import Array

MAX_STATES = 4096


class QLearning(Agent):
    """Q(state, action) += step (reward + discount max Q(next state) - Q(state, action)); explores
    with probability exp(-decay t).

    State: what everybody did last round, where that has at most MAX_STATES values (the memory of
    Calvano et al.: two or three providers); otherwise the own last level and the level of the rival
    with the largest share. Step 0.15 and discount 0.95 are theirs. Their decay is 4e-6 over
    millions of rounds; here exploration falls from 1 to `final_exploration` over the planned
    rounds, the same schedule at any length. Starts from Q = 0.

    Unlike the other bandits it learns from USD by default: discounted sums of log profits are not
    what a provider earns. Tables have no scale to fear.
    """

    name = "q_learning"
    sees_rivals = True
    stochastic = True
    learns = True
    rounds = 50_000
    state = ("draws", "table", "at")

    def __init__(
        self,
        role: Role,
        step: float = 0.15,
        discount: float = 0.95,
        final_exploration: float = 1e-3,
        scale: str = "raw",
    ):
        super().__init__(role)
        self.step = fraction(f"{self.name}: step", step)
        self.discount = fraction(f"{self.name}: discount", discount)
        self.final_exploration = fraction(f"{self.name}: final_exploration", final_exploration)
        self.scale = check_scale(self.name, scale)
        self.draws = role.draws()
        k, a, seeds = role.shape
        self.joint = a**role.num_providers <= MAX_STATES
        states = a**role.num_providers if self.joint else role.grid[0] ** 2
        there = np.broadcast_to(role.available[:, None, :, None], (k, states, a, seeds))
        self.table = np.where(there, 0.0, -np.inf)
        self.at = np.zeros((k, seeds), dtype=np.intp)
        self._rows = np.arange(k)[:, None], np.arange(seeds)

    def values(self, at: Actions) -> Array:
        """Q of the states `at` `[k, seeds]`: `[k, a, seeds]`."""
        return np.moveaxis(self.table[self._rows[0], at, :, self._rows[1]], 2, 1)

    def act(self, observation: Array | None = None) -> Actions:
        epsilon = self.final_exploration ** min(1.0, self.t / max(1, self.role.horizon - 1))
        explores, choice = self.draws() < epsilon, self.draws()
        return np.where(
            explores, sample(self.role.uniform(), choice), best(self.values(self.at), choice)
        )

    def successor(self, actions: Actions, shares: Array) -> Actions:
        """The state after a round, `[k, seeds]`. actions, shares: `[n, seeds]`."""
        if self.joint:
            code = np.zeros(actions.shape[1], dtype=np.intp)
            for row in actions:
                code = code * self.role.shape[1] + row
            return np.repeat(code[None], len(self.role.index), axis=0)
        level = actions // (self.role.grid[1] * self.role.grid[2])
        rivals = np.repeat(shares[None], len(self.role.index), axis=0)  # [k, n, seeds]
        rivals[np.arange(len(self.role.index)), list(self.role.index)] = -1.0
        leader = rivals.argmax(axis=1)
        return (
            level[list(self.role.index)] * self.role.grid[0]
            + level[leader, np.arange(level.shape[1])]
        )

    def update(self) -> None:
        feedback = self.last
        assert feedback is not None
        assert feedback.actions is not None
        assert feedback.shares is not None
        self.t += 1
        following = self.successor(feedback.actions, feedback.shares)
        target = scaled(feedback.reward, self.scale) + self.discount * self.values(following).max(
            axis=1
        )
        where = self._rows[0], self.at, feedback.action, self._rows[1]
        self.table[where] += self.step * (target - self.table[where])
        self.at = following

    def strategy(self) -> Array:
        return pure(self.values(self.at).argmax(axis=1), self.role.shape[1])

    def policies(self) -> list[dict[str, Any]]:
        return [
            {
                "form": "memory",
                "joint": self.joint,
                "table": np.ascontiguousarray(np.moveaxis(table, 2, 0)),  # [seeds, states, a]
                "at": at,
            }
            for table, at in zip(self.table, self.at, strict=True)
        ]

    def follow(self, feedback: Feedback) -> None:
        """Move to the state that a round leads to, without learning from it."""
        assert feedback.actions is not None
        assert feedback.shares is not None
        self.at = self.successor(feedback.actions, feedback.shares)
