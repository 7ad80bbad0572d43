"""Figures of learned play: NashConv over time, welfare beside equilibrium and optimum, the impulse
response (extra `plot`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from baselines.statistics import profile
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


COLOURS = {
    "best_response": "#000000",
    "nearest_improving": "#7f7f7f",
    "logit_response": "#bcbd22",
    "fictitious_play": "#8c564b",
    "hedge": "#1f77b4",
    "optimistic_hedge": "#0b3c6f",
    "replicator": "#d8a0ff",
    "double_oracle": "#ff7f0e",
    "regret_matching": "#17becf",
    "regret_matching_plus": "#9edae5",
    "epsilon_greedy": "#e377c2",
    "ucb": "#9467bd",
    "thompson": "#5e2d91",
    "exp3": "#c5b0d5",
    "q_learning": "#ffbf00",
    "ppo": "#d62728",
    "a2c": "#ff9896",
    "dqn": "#98df8a",
    "ppo_torch": "#2ca02c",
    "mappo": "#1b6e1b",
    "random": "#aec7e8",
    "truthful": "#c7c7c7",
    "shaded": "#dbdb8d",
    "planner": "#c49c94",
    "equilibrium": "#393b79",
}
"""A colour for every learner, the same in all figures."""


def profiles(final: pd.DataFrame) -> Figure:
    """Performance profiles: the share of runs whose relative regret is at most x."""
    settings = [s for s in SETTINGS if (final.setting == s).any()]
    figure = Figure(figsize=(5.0 * len(settings), 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(settings), sharey=True))
    x = np.logspace(-6, 0, 200)
    handles: dict[str, Any] = {}
    for axis, setting in zip(axes, settings, strict=True):
        part = final[final.setting == setting]
        for learner, colour in COLOURS.items():
            runs = part[part.learner == learner]
            if not len(runs) or runs.family.iloc[0] == "none":
                continue
            y = profile(runs.relative_regret.to_numpy(), x)
            (handles[learner],) = axis.plot(x, 100 * y, color=colour, lw=2)
        axis.set(xscale="log", xlabel="relative regret at most", title=setting, ylim=(0, 102))
        axis.axvline(0.01, color="grey", lw=0.8, ls=":")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("percent of runs")
    figure.legend(
        handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False
    )
    return figure


DEVIATOR, RIVAL = "#b5482d", "#2b6a99"
CONDITIONS = {
    ("market", 0.95): ("market", "#b5482d"),
    ("market", 0.0): ("market, no future (discount 0)", "#8a8a8a"),
    ("auction", 0.95): ("auction", "#2b6a99"),
}
"""(mechanism, discount) of `baselines.impulse` -> label, colour."""


def impulse(summary: pd.DataFrame, paths: pd.DataFrame) -> Figure:
    """Q-learning duopolies: over-compute in market, control and auction; and what a forced
    deviation does in the market, all against the same rounds without it.
    """
    figure = Figure(figsize=(13, 4.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    cases = list(dict.fromkeys(zip(summary.benchmark, summary.providers, strict=True)))
    for y, (benchmark, providers) in enumerate(cases):
        here = summary[(summary.benchmark == benchmark) & (summary.providers == providers)]
        for k, ((mechanism, discount), (label, colour)) in enumerate(CONDITIONS.items()):
            row = here[(here.mechanism == mechanism) & (here.discount == discount)]
            if not len(row):
                continue
            value = float(row.overcompute.iloc[0])
            left.barh(y + 0.27 * (k - 1), value, height=0.24, color=colour)
            left.text(
                max(value, 0.0) + 0.06,
                y + 0.27 * (k - 1),
                label if y == 0 else f"{value:+.1f}",
                va="center",
                fontsize=8,
                color=colour,
            )
    left.axvline(0, color="black", lw=0.8)
    left.set_xlim(min(-0.4, left.get_xlim()[0]), 1.45 * left.get_xlim()[1])
    left.set_ylim(len(cases) - 0.5, -0.5)
    left.set_yticks(
        range(len(cases)),
        [f"{benchmark}\n{providers.replace(' / ', chr(10))}" for benchmark, providers in cases],
        fontsize=8,
    )
    left.set_xlabel("doublings of compute above the social optimum")
    left.set_title("Learned compute", fontsize=11)
    market = paths[(paths.mechanism == "market") & (paths.discount > 0)]
    weighted = market.assign(
        deviator=market.n * (market.level_0 - market.level_0_cf),
        rival=market.n * (market.level_1 - market.level_1_cf),
        gain=100 * market.n * (market.profit_0 / market.profit_0_cf - 1.0),
    )
    mean = weighted.groupby("round")[["deviator", "rival", "gain", "n"]].sum()
    mean = mean[mean.index <= 8]
    rounds = mean.index.to_numpy()
    for column, colour in (("deviator", DEVIATOR), ("rival", RIVAL)):
        y = (mean[column] / mean.n).to_numpy()
        middle.plot(rounds, y, color=colour, lw=2.2, marker="o", ms=4)
        at = int(np.abs(y).argmax())
        side = "right" if column == "deviator" else "left"
        middle.annotate(
            column,
            (rounds[at], y[at]),
            xytext=(-8 if side == "right" else 8, 0),
            textcoords="offset points",
            color=colour,
            fontsize=10,
            va="center",
            ha=side,
        )
    total = (mean.gain / mean.n).cumsum()
    right.plot(rounds, total, color=DEVIATOR, lw=2.2, marker="o", ms=4)
    for axis in (middle, right):
        axis.axhline(0, color="black", lw=0.8)
        axis.axvline(0, color="grey", lw=0.8, ls=":")
        axis.set_xlabel("rounds since the forced deviation")
    middle.set_ylabel("levels, against the same\nround without the deviation")
    middle.set_title("The rival follows, then both return", fontsize=11)
    right.set_ylabel("deviator's gain so far,\npercent of a round's profit")
    right.set_title("It pays at once, then costs more", fontsize=11)
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    n = int(market.groupby(["benchmark", "providers"]).n.first().sum())
    deviations = int(
        summary[(summary.mechanism == "market") & (summary.discount > 0)].deviations.sum()
    )
    figure.suptitle(
        "Q-learners agree on too much compute in the market, and the auction ends that"
        f" (right: the market, {n} of {deviations} sessions; the others run in cycles)",
        fontsize=12,
    )
    return figure


def collusion_map(table: pd.DataFrame) -> Figure:
    """The collusion index by the value of a right answer and the rationality of users."""
    alphas, betas = sorted(table.alpha.unique()), sorted(table.beta.unique())
    values = table.pivot(index="alpha", columns="beta", values="collusion_index")
    values = values.reindex(index=alphas, columns=betas).to_numpy()
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(values, cmap="YlOrBr", vmin=0, vmax=1, aspect="auto", origin="lower")
    for i in range(len(alphas)):
        for j in range(len(betas)):
            text = "-" if np.isnan(values[i, j]) else f"{values[i, j]:.2f}"
            dark = values[i, j] > 0.6
            axis.text(
                j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black"
            )
    axis.set_xticks(range(len(betas)), [f"{x:g}" for x in betas])
    axis.set_yticks(range(len(alphas)), [f"{1e3 * x:g}" for x in alphas])
    axis.set_xlabel("user rationality beta, 1/USD")
    axis.set_ylabel("value of a right answer alpha, USD per 1000")
    figure.colorbar(image, label="collusion index: 0 equilibrium, 1 cartel")
    row = table.iloc[0]
    figure.suptitle(
        f"Collusion on compute: {row.benchmark} {row.method}, {row.providers}\n"
        "(- where a cartel could gain less than 1%)",
        fontsize=10,
    )
    return figure


def all_figures(rows: pd.DataFrame, final: pd.DataFrame, out: Path) -> dict[str, Figure]:
    """Name -> figure. What `baselines.impulse` left in `out`/results is drawn where it is there."""
    return {"nash_conv": nash_conv(rows), **final_figures(final, out)}


def final_figures(final: pd.DataFrame, out: Path) -> dict[str, Figure]:
    """The figures that need the last evaluations alone."""
    figures = {"welfare": welfare(final), "profiles": profiles(final)}
    return {**figures, **impulse_figures(out / "results")}


def impulse_figures(results: Path) -> dict[str, Figure]:
    """Figures of the Q-learning duopolies whose tables are in `results`."""
    tables = {
        name: pd.read_csv(results / f"{name}.csv")
        for name in ("impulse", "impulse_paths", "collusion_map")
        if (results / f"{name}.csv").exists()
    }
    figures = {}
    if {"impulse", "impulse_paths"} <= set(tables):
        figures["impulse"] = impulse(tables["impulse"], tables["impulse_paths"])
    if "collusion_map" in tables:
        figures["collusion_map"] = collusion_map(tables["collusion_map"])
    return figures
