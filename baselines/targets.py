"""What is asked of learners in each setting, held against their runs.

Counted providers and the bracket of pure Nash equilibria (PNE): see `baselines/evaluation.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from baselines.summaries import KEY

PURE_LEARNERS = ("best_response", "nearest_improving", "fictitious_play", "double_oracle")
MIXED_LEARNERS = (
    "hedge",
    "optimistic_hedge",
    "replicator",
    "regret_matching",
    "regret_matching_plus",
)
BANDITS = ("epsilon_greedy", "ucb", "thompson", "exp3")
PPOS = ("ppo", "ppo_torch")


@dataclass(frozen=True)
class Target:
    """What is asked of some learners in a setting. needed: share of runs that must meet it."""

    learners: tuple[str, ...]
    text: str
    met: Callable[[pd.DataFrame], pd.Series]
    needed: float = 1.0


def _within(column: pd.Series, distance: float) -> pd.Series:
    return (column - 1).abs() <= distance


MARKET_TARGETS = (
    Target(
        PURE_LEARNERS,
        "inside the PNE bracket, every counted regret <= 1e-6, all runs",
        lambda x: (x.largest_counted_regret <= 1e-6) & (x.inside_bracket >= 1 - 1e-9),
    ),
    Target(
        MIXED_LEARNERS,
        "inside the PNE bracket with chance >= 99% for every provider, relative regret <= 1%, all"
        " runs",
        lambda x: (x.relative_regret <= 0.01) & (x.inside_bracket >= 0.99),
    ),
    Target(MIXED_LEARNERS, "relative regret <= 1% alone", lambda x: x.relative_regret <= 0.01),
    Target(
        BANDITS,
        "welfare within 2% of equilibrium, median relative regret <= 2%, all runs",
        lambda x: _within(x.welfare_to_equilibrium, 0.02) & (x.median_relative_regret <= 0.02),
    ),
    Target(
        PPOS,
        "relative regret <= 1% and welfare within 1% in >= 90% of runs",
        lambda x: (x.relative_regret <= 0.01) & _within(x.welfare_to_equilibrium, 0.01),
        0.9,
    ),
    Target(
        PPOS,
        "no counted provider off its PNE level at a cost over 3%, all runs",
        lambda x: (x.levels_exact == 1) | (x.largest_counted_regret <= 0.03),
    ),
)
AUCTION_TARGETS = (
    Target(
        PPOS,
        "efficient winner and its level exact in >= 95% of runs",
        lambda x: (x.efficient_winner >= 0.99) & (x.levels_off == 0),
        0.95,
    ),
)
TARGETS = {
    "market, fixed prices": MARKET_TARGETS,
    "market, level and price": MARKET_TARGETS,
    "auction": AUCTION_TARGETS,
}
"""Setting -> what is asked there. The market's targets are the same with a price grid."""


def targets(final: pd.DataFrame) -> tuple[str, str]:
    """The targets beside what was measured, and where runs miss them, by learner and beta."""
    rows: list[str] = []
    misses: list[str] = []
    for setting, wanted in TARGETS.items():
        part = final[final.setting == setting]
        for target in wanted:
            for learner in target.learners:
                runs = part[part.learner == learner]
                head = f"| {len(rows) + 1} | {setting} | {learner} | {target.text} |"
                if not len(runs):
                    rows.append(f"{head} not run | |")
                    continue
                passed = target.met(runs)
                share = float(passed.mean())
                rows.append(
                    f"{head} {int(passed.sum())} of {len(runs)} runs in"
                    f" {len(runs.drop_duplicates(KEY))} cells ({share:.1%}) |"
                    f" {'met' if share >= target.needed else 'missed'} |"
                )
                if share < target.needed:
                    misses += _misses(len(rows), setting, learner, runs, passed)
    head = "| target | setting | learner | asked | measured | |\n" + "| --- " * 6 + "|\n"
    miss = (
        "| target | setting | learner | beta | runs that miss | in the games | largest relative"
        " regret | largest median regret | W / W(equilibrium) |\n" + "| --- " * 9 + "|\n"
    )
    return head + "\n".join(rows), (miss + "\n".join(misses)) if misses else "None."


def _misses(
    number: int, setting: str, learner: str, runs: pd.DataFrame, passed: pd.Series
) -> list[str]:
    lines = []
    for beta, group in runs[~passed].groupby("beta"):
        games = [
            f"{benchmark} {method} {count}"
            for (benchmark, method), count in group.groupby(
                ["benchmark", "method"], sort=False
            ).size().items()
        ]  # fmt: skip
        lines.append(
            f"| {number} | {setting} | {learner} | {beta:g} |"
            f" {len(group)} of {int((runs.beta == beta).sum())} | {', '.join(games)} |"
            f" {percent(group.relative_regret.max())} |"
            f" {percent(group.median_relative_regret.max())} |"
            f" {group.welfare_to_equilibrium.min():.4f} to"
            f" {group.welfare_to_equilibrium.max():.4f} |"
        )
    return lines


def percent(x: float, digits: int = 2) -> str:
    if np.isnan(x):
        return "-"
    return "0" if x == 0 else f"{x:.{digits}%}" if abs(x) >= 10 ** -(digits + 2) else f"{x:.0e}"
