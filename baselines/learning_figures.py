"""Figures of learned play: NashConv over time, welfare beside equilibrium and optimum, the impulse
response (extra `plot`).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from baselines.statistics import estimate, profile
from baselines.suite import SETTINGS

FLOOR = 1e-9
"""USD per user: smaller NashConv is drawn here."""
START = 0.5
"""Where step 0 stands on a log axis."""

FAMILIES = {
    "dynamics": "dynamics (told all payoffs)",
    "no regret": "no regret (told all payoffs)",
    "bandit": "bandits (told own profit)",
    "RL": "reinforcement learning (own profit)",
}
"""Families of learners that learn, and their titles."""

COLOURS = {
    "best_response": "#000000",
    "nearest_improving": "#8a8a8a",
    "logit_response": "#a3a300",
    "fictitious_play": "#8c564b",
    "replicator": "#d16ba5",
    "double_oracle": "#e8590c",
    "hedge": "#1f77b4",
    "optimistic_hedge": "#b5179e",
    "regret_matching": "#17becf",
    "regret_matching_plus": "#0b5351",
    "epsilon_greedy": "#e377c2",
    "ucb": "#9467bd",
    "thompson": "#b8860b",
    "exp3": "#3f2b63",
    "q_learning": "#e0a800",
    "ppo": "#d62728",
    "a2c": "#7a3b10",
    "dqn": "#5aa9f0",
    "ppo_torch": "#2ca02c",
    "mappo": "#1b6e1b",
    "random": "#b0b0b0",
    "truthful": "#c7c7c7",
    "shaded": "#dbdb8d",
    "planner": "#c49c94",
    "equilibrium": "#393b79",
}
"""A colour for every learner, the same in all figures."""


def apart(values: list[float], step: float) -> list[float]:
    """Places for labels: those of `values`, moved up so that they are `step` apart."""
    places = np.array(values, dtype=np.float64)
    order = np.argsort(places, kind="stable")
    for before, after in pairwise(order):
        places[after] = max(places[after], places[before] + step)
    return places.tolist()


def nash_conv(curves: pd.DataFrame) -> Figure:
    """NashConv against steps, from before the first round: interquartile means over games, betas
    and seeds with 95% bands over seeds (`report.curves`); a row a family, a column a setting.
    """
    settings = [s for s in SETTINGS if (curves.setting == s).any()]
    families = [f for f in FAMILIES if (curves.family == f).any()]
    size = 4.4 * len(settings) + 0.6, 2.5 * len(families) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(families), len(settings), squeeze=False, sharey=True)
    top = float(curves.nash_conv.max())
    for family, row in zip(families, axes, strict=True):
        for setting, axis in zip(settings, row, strict=True):
            here = curves[curves.setting == setting]
            part = here[here.family == family]
            end = max(part.step.max() if len(part) else 1, 2)
            axis.set(xscale="log", yscale="log", xlim=(START, end), ylim=(FLOOR / 2, 3 * top))
            decades = [10**k for k in range(int(np.log10(end)) + 1)]
            axis.set_xticks([START, *decades], ["0", *(f"{x:,}" for x in decades)])
            axis.minorticks_off()
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8)
            random = here[here.learner == "random"].nash_conv
            if len(random):
                axis.axhline(random.iloc[-1], color=COLOURS["random"], lw=1.2, ls="--")
                axis.text(
                    START * 1.15, random.iloc[-1] * 1.25, "random play", fontsize=7, color="#777777"
                )
            ends = []
            for learner, runs in part.groupby("learner", sort=False):
                x = runs.step.clip(lower=START)
                low, value, high = (
                    runs[f"nash_conv{end_}"].clip(lower=FLOOR) for end_ in ("_low", "", "_high")
                )
                axis.plot(x, value, color=COLOURS[learner], lw=2)
                axis.fill_between(x, low, high, color=COLOURS[learner], alpha=0.18, lw=0)
                ends.append((float(np.log10(value.iloc[-1])), learner))
            places = apart([y for y, _ in ends], step=0.62)
            for place, (_, learner) in zip(places, ends, strict=True):
                axis.annotate(
                    learner, (end, 10.0**place), xytext=(4, 0), textcoords="offset points",
                    va="center", fontsize=8, color=COLOURS[learner], annotation_clip=False,
                    fontweight="bold",
                )  # fmt: skip
        row[0].set_ylabel(FAMILIES[family].replace(" (", "\n("), fontsize=9)
    for setting, axis in zip(settings, axes[0], strict=True):
        axis.set_title(setting, fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("rounds that each provider has played", fontsize=9)
    figure.suptitle(
        f"NashConv, USD per user ({FLOOR:g}: less): interquartile mean over games and seeds, 95%"
        " band",
        fontsize=11,
    )
    return figure


def welfare(final: pd.DataFrame) -> Figure:
    """Welfare over the equilibrium's where play ended, for every learner and setting: a dot a game
    (mean over seeds), and the interquartile mean with its 95% band over games and seeds.
    """
    settings = [s for s in SETTINGS if (final.setting == s).any()]
    learners = [x for x in COLOURS if x in set(final.learner) and x != "equilibrium"][::-1]
    size = 4.0 * len(settings) + 1.6, 0.27 * len(learners) + 1.5
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    for setting, axis in zip(settings, axes, strict=True):
        here = final[final.setting == setting]
        for y, learner in enumerate(learners):
            runs = here[here.learner == learner]
            if not len(runs):
                axis.text(
                    0.03, y, "not run", fontsize=7, color="#999999", va="center",
                    transform=axis.get_yaxis_transform(),
                )  # fmt: skip
                continue
            games = runs.groupby(["benchmark", "method", "beta"]).welfare_to_equilibrium
            found = estimate([x.to_numpy() for _, x in games], repetitions=500)
            colour = COLOURS[learner] if runs.family.iloc[0] != "none" else "#777777"
            axis.plot(
                games.mean(), [y] * games.ngroups, "o", ms=3.5, color=colour, alpha=0.3, mew=0
            )
            axis.plot(found.games, [y, y], color=colour, lw=2.5, solid_capstyle="butt")
            axis.plot(found.value, y, "D", ms=5, color=colour, mec="white", mew=0.6)
        axis.axvline(1.0, color="#f2a900", lw=1.5, zorder=0)
        axis.set(xlabel="welfare / equilibrium's welfare", ylim=(-0.7, len(learners) - 0.3))
        axis.set_title(setting, fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", lw=0.3)
    axes[0].set_yticks(range(len(learners)), learners, fontsize=9)
    for label, learner in zip(axes[0].get_yticklabels(), learners, strict=True):
        label.set_color(COLOURS[learner] if learner in _learning(final) else "#777777")
    figure.suptitle(
        "Where play ends, beside the exact equilibrium (1, the line). A dot: a game, mean over"
        " seeds.\nDiamond and bar: interquartile mean, 95% band over games and seeds",
        fontsize=10,
    )
    return figure


def _learning(final: pd.DataFrame) -> set[str]:
    return set(final[final.family != "none"].learner)


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
CASE_LINES = {"gsm8k": "-", "aime": "--", "gpqa": ":"}
CONDITIONS = {
    ("market", 0.95): ("market", "#b5482d"),
    ("market", 0.0): ("market, no future (discount 0)", "#8a8a8a"),
    ("auction", 0.95): ("auction", "#2b6a99"),
}
"""(mechanism, discount) of `baselines.impulse` -> label, colour."""


def impulse(summary: pd.DataFrame, paths: pd.DataFrame) -> Figure:
    """Q-learning duopolies: over-compute in market, control and auction; and what a forced
    deviation does in the market, a line a duopoly, all against the same rounds without it. Bars and
    bands are 95% over sessions.
    """
    figure = Figure(figsize=(13.5, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    cases = list(dict.fromkeys(zip(summary.benchmark, summary.providers, strict=True)))
    ticks = []
    for y, (benchmark, providers) in enumerate(cases):
        here = summary[(summary.benchmark == benchmark) & (summary.providers == providers)]
        for k, ((mechanism, discount), (label, colour)) in enumerate(CONDITIONS.items()):
            row = here[(here.mechanism == mechanism) & (here.discount == discount)]
            if not len(row):
                continue
            value, half = (float(row[x].iloc[0]) for x in ("overcompute", "overcompute_ci95"))
            height = y + 0.27 * (k - 1)
            left.barh(height, value, height=0.24, color=colour, xerr=half, ecolor="#222222")
            left.text(
                max(value, 0.0) + half + 0.08,
                height,
                f"{label} {value:+.1f}" if y == 0 else f"{value:+.1f}",
                va="center",
                fontsize=8,
                color=colour,
            )
        names = providers.replace(" / ", "\n")
        ticks.append(f"{benchmark}\n{names}\n{int(here.sessions.min())} sessions each")
    left.axvline(0, color="black", lw=0.8)
    left.set_xlim(min(-0.9, left.get_xlim()[0]), 1.55 * left.get_xlim()[1])
    left.set_ylim(len(cases) - 0.5, -0.5)
    left.set_yticks(range(len(cases)), ticks, fontsize=8)
    left.set_xlabel("doublings of compute above the social optimum")
    left.set_title("Learned compute", fontsize=11)
    market = paths[(paths.mechanism == "market") & (paths.discount > 0) & (paths["round"] <= 8)]
    deviations = summary[(summary.mechanism == "market") & (summary.discount > 0)]
    ends = []
    for (benchmark, _), path in market.groupby(["benchmark", "providers"], sort=False):
        style = {"lw": 2.0, "ls": CASE_LINES[benchmark], "marker": "o", "ms": 3}
        for column, colour in (("deviator", DEVIATOR), ("rival", RIVAL)):
            middle.plot(path["round"], path[column], color=colour, **style)
            _shade(middle, path, column, colour)
        percent = path.assign(
            gain_so_far=100 * path.gain_so_far, gain_so_far_ci95=100 * path.gain_so_far_ci95
        )
        right.plot(path["round"], percent.gain_so_far, color=DEVIATOR, **style)
        _shade(right, percent, "gain_so_far", DEVIATOR)
        count = int(deviations[deviations.benchmark == benchmark].deviations.iloc[0])
        label = f"{benchmark}: {int(path.n.iloc[0])} of {count}"
        ends.append((float(percent.gain_so_far.iloc[-1]), label))
    span = max(y for y, _ in ends) - min(y for y, _ in ends)
    for y, (_, label) in zip(apart([y for y, _ in ends], 0.09 * span), ends, strict=True):
        right.annotate(
            label, (8, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
            color=DEVIATOR, annotation_clip=False,
        )  # fmt: skip
    for column, colour, x in (("deviator", DEVIATOR, 0.02), ("rival", RIVAL, 0.30)):
        middle.text(
            x, 0.04, column, color=colour, fontsize=10, fontweight="bold",
            transform=middle.transAxes,
        )  # fmt: skip
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
    figure.suptitle(
        "Q-learners agree on too much compute in the market, and the auction ends that\n(right: the"
        " market, sessions at a fixed profile, of all that deviate; in the others play is a cycle,"
        " whose mean would be a zigzag)",
        fontsize=11,
    )
    return figure


def _shade(axis: Any, path: pd.DataFrame, column: str, colour: str) -> None:
    half = path[f"{column}_ci95"].fillna(0.0)
    axis.fill_between(
        path["round"], path[column] - half, path[column] + half, color=colour, alpha=0.18, lw=0
    )


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


def all_figures(final: pd.DataFrame, out: Path) -> dict[str, Figure]:
    """Name -> figure: of the kept runs, and of those tables in `out`/results that are there."""
    results = out / "results"
    tables = {
        name: pd.read_csv(results / f"{name}.csv")
        for name in ("curves", "impulse", "impulse_paths", "collusion_map")
        if (results / f"{name}.csv").exists()
    }
    figures = {"welfare": welfare(final), "profiles": profiles(final)}
    if "curves" in tables:
        figures["nash_conv"] = nash_conv(tables["curves"])
    if "impulse" in tables and "impulse_paths" in tables:
        figures["impulse"] = impulse(tables["impulse"], tables["impulse_paths"])
    if "collusion_map" in tables:
        figures["collusion_map"] = collusion_map(tables["collusion_map"])
    return figures
