"""A run of `scripts.train`, read back, and where exact play stands: what figures and pages of
learned play are made of.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from baselines.evaluation import Evaluator
from baselines.plan import Plan, TrainConfig
from baselines.statistics import estimate


@dataclass(eq=False)
class Curves:
    """A run's metrics and the environment that they are about."""

    label: str
    rows: pd.DataFrame
    plan: Plan
    colour: str = ""

    @classmethod
    def read(cls, folder: Path) -> Curves:
        """Of a folder of `scripts.train`.

        Raises:
            ValueError: there is no run.
        """
        if not (folder / "manifest.json").exists() or not (folder / "metrics.csv").exists():
            raise ValueError(
                f"{folder} holds no run; train first: python -m scripts.train --out {folder}"
            )
        known = TrainConfig.__dataclass_fields__
        config = json.loads((folder / "manifest.json").read_text())["config"]
        if config["learner"].startswith("ppo_continuous"):
            raise ValueError(
                f"{folder} holds a run with continuous actions, which are not shown here; its"
                " numbers are in metrics.csv"
            )
        plan = Plan.of(TrainConfig(**{k: x for k, x in config.items() if k in known}), folder)
        return cls(plan.config.learner, pd.read_csv(folder / "metrics.csv"), plan)

    def band(self, column: str) -> pd.DataFrame:
        """`step`, `value`, `low`, `high`: the interquartile mean over seeds, and its band."""
        lines = []
        for step, values in self.rows.groupby("step")[column]:
            found = estimate([values.to_numpy()], repetitions=500)
            lines.append((step, found.value, *found.seeds))
        return pd.DataFrame(lines, columns=["step", "value", "low", "high"])


@dataclass(frozen=True)
class Landmarks:
    """Where exact play and random play stand in one column of metrics."""

    lowest: float  # of the exact pure equilibria; NaN where there are none
    highest: float
    optimum: float  # of the game's own rule
    random: float  # every action of a provider as likely as the others


class Reference:
    """Where exact play stands in the game of a run."""

    def __init__(self, plan: Plan):
        self.evaluator = Evaluator(plan.environment)

    @cached_property
    def _equilibria(self) -> list[dict[str, float]]:
        return [self.evaluator.score_actions(one) for one in self.evaluator.equilibria]

    @cached_property
    def _random(self) -> dict[str, float]:
        there = ~np.isnan(self.evaluator.config.table.quality)
        return self.evaluator.score(there / there.sum(axis=1, keepdims=True))

    def landmarks(self, column: str) -> Landmarks:
        """Of `overcompute` (doublings above the social optimum) or `welfare` (USD per user)."""
        found = [row[column] for row in self._equilibria] or [float("nan")]
        optimum = {"overcompute": 0.0, "welfare": self.evaluator.config.optimal_welfare}[column]
        return Landmarks(min(found), max(found), optimum, self._random[column])
