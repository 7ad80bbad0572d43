"""Runs in few numbers: of a cell, of a learner in a setting, and over time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from baselines.statistics import estimate, profile
from ttc_env.game.curves import load_market
from ttc_env.game.yardstick import first_best

KEY = ["learner", "family", "setting", "benchmark", "method", "beta"]
"""A cell in a table of runs."""
THRESHOLDS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of relative regret, for the performance profiles in the tables."""


def interval(final: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean over runs, and the half-width of its 95% interval over seeds."""
    from scipy.stats import t

    by_seed = final.groupby("seed")[column].mean().dropna()
    if len(by_seed) < 2:
        return float(by_seed.mean()) if len(by_seed) else float("nan"), float("nan")
    return float(by_seed.mean()), float(
        t.ppf(0.975, len(by_seed) - 1) * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    )


def aggregate(final: pd.DataFrame) -> pd.DataFrame:
    """One row a cell: means over seeds, 95% half-widths of the main columns, and the worst run."""
    rows = []
    for key, group in final.groupby(KEY, sort=False):
        row = dict(zip(KEY, key, strict=True))
        row.update(
            seeds=len(group),
            steps=int(group.step.max()),
            cpu_seconds_per_run=float(group.cpu_seconds.mean()),
        )
        for column in (
            "nash_conv",
            "relative_regret",
            "welfare_to_equilibrium",
            "welfare_ratio",
            "levels_off",
        ):
            row[column], row[f"{column}_ci95"] = interval(group, column)
        for column in (
            "median_relative_regret",
            "levels_exact",
            "inside_bracket",
            "user_value",
            "overcompute",
            "collusion",
            "shading",
            "efficient_winner",
        ):
            row[column] = float(group[column].mean()) if column in group else float("nan")
        row["worst_relative_regret"] = float(group.relative_regret.max())
        rows.append(row)
    return pd.DataFrame(rows)


def statistics(final: pd.DataFrame) -> pd.DataFrame:
    """Interquartile mean of the relative regret and of W / W(equilibrium) for every setting and
    learner, with bootstrap bands over seeds, and over games and seeds; and the share of runs within
    each threshold of regret. A game is a benchmark, a method and a beta.
    """
    rows = []
    for (setting, learner), runs in final.groupby(["setting", "learner"], sort=False):
        row = {"setting": setting, "learner": learner, "runs": len(runs)}
        for column in ("relative_regret", "welfare_to_equilibrium", "worst_provider_regret"):
            games = [x.to_numpy() for _, x in runs.groupby(["benchmark", "method", "beta"])[column]]
            found = estimate(games)
            row[f"games_{column}"] = len(games)
            row[f"iqm_{column}"] = found.value
            for name in ("seeds", "games"):
                low, high = getattr(found, name)
                row[f"iqm_{column}_low_{name}"], row[f"iqm_{column}_high_{name}"] = low, high
        shares = profile(runs.relative_regret.to_numpy(), np.array(THRESHOLDS))
        row.update({f"within_{x:g}": y for x, y in zip(THRESHOLDS, shares, strict=True)})
        rows.append(row)
    return pd.DataFrame(rows)


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Interquartile means over games and seeds at every evaluation, for every setting and learner,
    with 95% bootstrap bands over seeds; step 0 is before the first round.
    """
    found = []
    for key, runs in rows.groupby([*KEY[:3], "step"], sort=False):
        row = dict(zip((*KEY[:3], "step"), key, strict=True))
        for column in ("nash_conv", "relative_regret", "welfare_to_equilibrium"):
            games = [x.to_numpy() for _, x in runs.groupby(["benchmark", "method", "beta"])[column]]
            one = estimate(games, repetitions=500)
            row[column] = one.value
            row[f"{column}_low"], row[f"{column}_high"] = one.seeds
        found.append(row)
    return pd.DataFrame(found)


def first_bests(final: pd.DataFrame) -> pd.Series:
    """The first best of every row's game, USD per arriving user: one number for all rules (GAME.md,
    theorem 20), where each rule's own optimum would be another.
    """
    games = {
        game: first_best(load_market(game[0], game[1], beta=float(game[2])))
        for game in set(zip(final.benchmark, final.method, final.beta, strict=True))
    }
    rows = zip(final.benchmark, final.method, final.beta, strict=True)
    return pd.Series([games[game] for game in rows], index=final.index)
