"""Figures of learned play: NashConv over time, welfare beside equilibrium and optimum, the impulse
response (extra `plot`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from baselines.suite import SETTINGS

FLOOR = 1e-12
"""USD: smaller NashConv is drawn here."""


def nash_conv(rows: pd.DataFrame) -> Figure:
    """Mean NashConv over games, betas and seeds against steps, one line a learner."""
    settings = [s for s in SETTINGS if (rows.setting == s).any()]
    figure = Figure(figsize=(5.2 * len(settings), 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(settings), sharey=True))
    names = list(dict.fromkeys(rows.learner))
    for axis, setting in zip(axes, settings, strict=True):
        part = rows[rows.setting == setting]
        for k, learner in enumerate(names):
            mean = part[part.learner == learner].groupby("step").nash_conv.mean()
            if len(mean) > 1:
                axis.plot(
                    mean.index,
                    np.maximum(mean, FLOOR),
                    marker="o",
                    ms=3,
                    lw=1.2,
                    color=f"C{k % 10}",
                    ls=["-", "--"][k // 10],
                    label=learner,
                )
        axis.set(xscale="log", yscale="log", xlabel="rounds per provider", title=setting)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"NashConv, USD per user ({FLOOR:g}: zero)")
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False
    )
    return figure


def welfare(final: pd.DataFrame) -> Figure:
    """Welfare over the optimum, learned and at the equilibrium, per game and learner (fixed
    prices).
    """
    part = final[final.setting == next(iter(SETTINGS))]
    part = part[~part.learner.isin(["random", "truthful", "shaded"])]
    games = list(dict.fromkeys(zip(part.benchmark, part.method, part.beta, strict=True)))
    learners = list(dict.fromkeys(part.learner))
    figure = Figure(figsize=(11, 0.27 * len(games) + 1.2), layout="constrained")
    axis = figure.subplots()
    for y, (benchmark, method, beta) in enumerate(games):
        here = part[(part.benchmark == benchmark) & (part.method == method) & (part.beta == beta)]
        equilibrium = (here.welfare_ratio / here.welfare_to_equilibrium).median()
        axis.plot(
            [equilibrium] * 2,
            [y - 0.4, y + 0.4],
            color="black",
            lw=2,
            label="equilibrium" if y == 0 else None,
        )
        for k, learner in enumerate(learners):
            mean = here[here.learner == learner].welfare_ratio.mean()
            if not np.isnan(mean):
                axis.plot(
                    mean,
                    y + 0.35 - 0.7 * k / len(learners),
                    "o",
                    ms=3.5,
                    color=f"C{k % 10}",
                    mfc=["C" + str(k % 10), "white"][k // 10],
                )
    for k, learner in enumerate(learners):
        axis.plot(
            [],
            [],
            "o",
            ms=4,
            color=f"C{k % 10}",
            mfc=["C" + str(k % 10), "white"][k // 10],
            label=learner,
        )
    axis.axvline(1.0, color="#4f8f5b", lw=1.5, label="optimum")
    axis.set_yticks(range(len(games)), [f"{b} {m}, {beta:g}" for b, m, beta in games], fontsize=7)
    axis.set(xlabel="welfare over optimal welfare (fixed prices)", ylim=(len(games) - 0.5, -0.5))
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def impulse(paths: pd.DataFrame) -> Figure:
    """Mean levels of both Q-learners around the forced deviation."""
    cases = list(paths.groupby(["benchmark", "method", "providers", "beta"], sort=False))
    figure = Figure(figsize=(4.2 * len(cases), 3.2), layout="constrained")
    for axis, ((benchmark, method, providers, beta), part) in zip(
        np.atleast_1d(figure.subplots(1, len(cases))), cases, strict=True
    ):
        for k, name in enumerate(providers.split(" / ")):
            axis.plot(
                part["round"],
                part[f"level_{k}"],
                marker="o",
                ms=3,
                label=name + (" (deviates at 0)" if k == 0 else ""),
            )
        axis.axvline(0, color="grey", lw=0.8, ls=":")
        axis.set(
            xlabel="round", ylabel="level index, mean", title=f"{benchmark} {method}, beta {beta:g}"
        )
        axis.legend(fontsize=7, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def all_figures(rows: pd.DataFrame, final: pd.DataFrame, out: Path) -> dict[str, Figure]:
    """Name -> figure. `out`/results/impulse_paths.csv is drawn where it is there."""
    figures = {"nash_conv": nash_conv(rows), "welfare": welfare(final)}
    paths = out / "results" / "impulse_paths.csv"
    if paths.exists():
        figures["impulse"] = impulse(pd.read_csv(paths))
    return figures
