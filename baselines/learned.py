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
        plan = Plan.of(TrainConfig(**{k: x for k, x in config.items() if k in known}), folder)
        return cls(plan.config.learner, pd.read_csv(folder / "metrics.csv"), plan)

    def band(self, column: str) -> pd.DataFrame:
        """`step`, `value`, `low`, `high`: the interquartile mean over seeds, and its band."""
        lines = []
        for step, values in self.rows.groupby("step")[column]:
            found = estimate([values.to_numpy()], repetitions=500)
            lines.append((step, found.value, *found.seeds))
        return pd.DataFrame(lines, columns=["step", "value", "low", "high"])


class Reference:
    """Where exact play stands, in doublings of compute above the social optimum."""

    def __init__(self, plan: Plan):
        self.evaluator = Evaluator(plan.environment)

    @cached_property
    def equilibria(self) -> tuple[float, float]:
        """The least and the most compute of all equilibria."""
        found = [
            self.evaluator.score_actions(one)["overcompute"] for one in self.evaluator.equilibria
        ]
        return min(found), max(found)

    @cached_property
    def random(self) -> float:
        """Compute of uniformly random play."""
        there = ~np.isnan(self.evaluator.config.table.quality)
        return self.evaluator.score(there / there.sum(axis=1, keepdims=True))["overcompute"]
