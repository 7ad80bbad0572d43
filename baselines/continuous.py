"""Training runs of PPO with continuous actions (`agents/ppo_continuous.py`): folders, checkpoints
and policies are those of `baselines.training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents import check_options, load_policies, read_learner
from agents.base import options_of
from agents.policies import read_policies
from agents.ppo_continuous import ContinuousPPO, score
from baselines.plan import Plan, TrainConfig
from baselines.training import Run
from ttc_env.settings import described


@dataclass(frozen=True)
class ContinuousConfig(TrainConfig):
    """Everything that decides a run's numbers."""

    learner: str = described(
        ContinuousPPO.name,
        f"{ContinuousPPO.name}, with options after colons:"
        f" {ContinuousPPO.name}:distribution=gaussian:entropy=0.01",
    )
    prices: str = described(
        "grid", "the range: from the lowest to the highest of grid, or of such as 0.5,2"
    )

    def environment_options(self) -> dict[str, Any]:
        return {**super().environment_options(), "actions": "continuous"}


class ContinuousArena:
    """One seed's learner as `baselines.training.Run` drives an arena."""

    def __init__(self, learner: ContinuousPPO):
        self.learner = learner

    @property
    def round(self) -> int:
        return self.learner.t

    def step(self) -> None:
        self.learner.train(1)

    def score(self) -> dict[str, float]:
        """Of what everybody has learned, without exploration, the mean over parallel markets."""
        return score(self.learner.config, self.learner.play())

    def state_dict(self) -> dict[str, Any]:
        return {"round": self.round, "learner": self.learner.state_dict()}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(content["learner"])


class ContinuousPlan(Plan):
    """A config, worked out."""

    @classmethod
    def of(cls, config: TrainConfig, folder: Path | None = None) -> ContinuousPlan:
        """The plan of a config. folder: of the run, which may hold a copy of the curves.

        Raises:
            ValueError, TypeError, ImportError, OSError: something in the config that does not
                exist.
        """
        name, options = read_learner(config.learner)
        if name != ContinuousPPO.name:
            raise ValueError(
                f"learner is {name!r}; with continuous actions it is {ContinuousPPO.name!r}, and"
                " scripts.train has the others"
            )
        given = ("config", "markets", "seed", "horizon")  # by the plan
        check_options(name, options_of(ContinuousPPO.__init__, given), options)
        environment = config.environment(folder)
        if len(environment.mechanism.tariff.choices) < 2:
            raise ValueError(
                f"prices is {config.prices!r}, which is no range of prices; write grid, or its ends"
                " as 0.5,2, or use scripts.train"
            )
        learners = dict.fromkeys(range(environment.market.num_providers), (name, options))
        rounds = -(-config.steps // config.parallel) or ContinuousPPO.rounds
        batches = tuple((seed,) for seed in config.seed_list())
        plan = cls(config, environment, learners, rounds, True, batches)
        plan.arena(plan.batches[0]).score()  # not every game has a formula for best replies
        return plan

    def arena(self, seeds: tuple[int, ...]) -> Any:
        (seed,) = seeds
        _, options = self.learners[0]
        return ContinuousArena(
            ContinuousPPO(
                self.environment, self.config.parallel, seed, horizon=self.rounds, **options
            )
        )


class ContinuousRun(Run):
    """A run and its folder."""

    def _score(self, arena: Any) -> list[dict[str, float]]:
        return [arena.score()]

    @staticmethod
    def _diagnostics(arena: Any) -> dict[str, float]:
        return {}

    def _policies(self, arena: Any, k: int, seed: int) -> dict[str, Any]:
        learner: ContinuousPPO = arena.learner
        return {
            "seed": seed,
            "step": arena.round * self.plan.steps_per_round,
            "markets": self.plan.config.parallel,
            "environment": self.plan.config.environment_options(),
            "grid": list(self.plan.environment.grid),
            "providers": [{"learner": learner.name, **one} for one in learner.policies()],
            "observations": learner.seen,
        }


def evaluate_policies(run: Path, seed: int) -> tuple[int, dict[str, float]]:
    """For one seed of a saved run, from its policy file: its step, and a row of metrics.

    Raises:
        ValueError: no such policy.
    """
    policies = load_policies(run, seed=seed)
    seen = np.asarray(read_policies(run, seed)["observations"])  # [n, markets, d]
    actions = policies.joint(seen.swapaxes(0, 1))  # [markets, n, parts]
    return policies.step, score(policies.config, actions.swapaxes(0, 1))
