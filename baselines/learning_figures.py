"""Figures of learned play: NashConv over time, welfare beside equilibrium and optimum, performance
profiles (extra `plot`).
"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baselines.duopoly_figures import collusion_map, impulse
from baselines.labels import apart
from baselines.statistics import estimate, profile
from baselines.suite import SETTINGS

FLOOR = 1e-9
"""USD per user: smaller NashConv is drawn here."""
START = 0.5
"""Where step 0 stands on a log axis."""
FALL = 0.01
"""A learner has come to the equilibrium if its NashConv ends below this part of its first."""
EXACT, NEAR = 1e-6, 0.01
"""Relative regret: where profiles begin, and what their title counts as near."""

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


def nash_conv(curves: pd.DataFrame) -> Figure:
    """NashConv against steps, from before the first round: interquartile means over games, betas
    and seeds with 95% bands over seeds (`summaries.curves`); a row a family, a column a setting.
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
                    end, random.iloc[-1] * 1.25, "random play", fontsize=7, color="#777777",
                    ha="right",
                )  # fmt: skip
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
    far = {x: still_far(curves[curves.setting == x]) for x in settings}
    for setting, axis in zip(settings, axes[0], strict=True):
        which = f"all but {', '.join(far[setting])}" if far[setting] else "all"
        axis.set_title(f"{setting}\ncome to the equilibrium: {which}", fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("rounds that each provider has played", fontsize=9)
    drawn = len(curves[curves.family.isin(families)].groupby(["setting", "learner"]))
    figure.suptitle(
        "Most learners come to the exact equilibrium: NashConv falls below"
        f" {FALL:.0%} of where it began in {drawn - sum(map(len, far.values()))} of {drawn} curves",
        fontsize=15,
    )
    figure.supylabel(
        f"NashConv, USD per user (interquartile mean over games and seeds, 95% band; {FLOOR:g}:"
        " less)",
        fontsize=10,
    )
    return figure


def still_far(curves: pd.DataFrame) -> list[str]:
    """Of one setting: the learners whose NashConv does not end below `FALL` times its first."""
    ends = curves[curves.family.isin(FAMILIES)].groupby("learner", sort=False).nash_conv
    return list(ends.last().index[ends.last() >= FALL * ends.first()])


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
    """Performance profiles: the share of runs whose relative regret is at most x. Learners at 100%
    everywhere are named above their panel.
    """
    settings = [s for s in SETTINGS if (final.setting == s).any()]
    learning = final[final.family.isin(FAMILIES)]
    figure = Figure(figsize=(5.2 * len(settings), 5.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(settings), sharey=True))
    for axis, setting in zip(axes, settings, strict=True):
        _profile(axis, learning[learning.setting == setting])
        axis.set_title(setting, fontsize=11, pad=58)
    axes[0].set_ylabel("percent of runs")
    figure.suptitle(
        f"Runs that end within {NEAR:.0%} of the exact equilibrium: {_near(learning)}", fontsize=13
    )
    return figure


def perfect(runs: pd.DataFrame) -> list[str]:
    """The learners that have no run with a relative regret above `EXACT`, in the order of COLOURS;
    runs: of one setting.
    """
    worst = runs.groupby("learner").relative_regret.max()
    return [x for x in COLOURS if x in worst.index and worst[x] <= EXACT]


def _near(runs: pd.DataFrame) -> str:
    """What part of each family's runs ends with a relative regret of at most `NEAR`."""
    near = (runs.relative_regret <= NEAR).groupby(runs.family).mean()
    return ", ".join(
        f"{title.split(' (')[0]} {near[x]:.1%}" for x, title in FAMILIES.items() if x in near.index
    )


def _profile(axis: Axes, runs: pd.DataFrame) -> None:
    """Profiles of one setting, labelled at their left ends: at the right ones all are at 100%."""
    x = np.logspace(np.log10(EXACT), 0, 200)
    at_the_top = perfect(runs)
    curves = {
        learner: 100 * profile(runs[runs.learner == learner].relative_regret.to_numpy(), x)
        for learner in COLOURS
        if learner in set(runs.learner) and learner not in at_the_top
    }
    for learner, y in curves.items():
        axis.plot(x, y, color=COLOURS[learner], lw=2)
    places = apart([-y[0] for y in curves.values()], step=4.3)  # moved down
    for (learner, y), place in zip(curves.items(), places, strict=True):
        axis.annotate(
            learner, (EXACT, y[0]), (EXACT / 2.5, -place), color=COLOURS[learner], ha="right",
            va="center", fontsize=8, fontweight="bold",
            arrowprops={
                "arrowstyle": "-", "color": COLOURS[learner], "lw": 0.8, "shrinkA": 0,
                "shrinkB": 0, "relpos": (1, 0.5),
            },
        )  # fmt: skip
    axis.annotate(
        fill(f"at 100% everywhere: {', '.join(at_the_top) or 'none'}", 66), (0, 1), (0, 54),
        xycoords="axes fraction", textcoords="offset points", va="top", fontsize=8.5,
    )  # fmt: skip
    axis.axvline(NEAR, color="grey", lw=1, ls=":")
    axis.text(NEAR, 102.5, f"within {NEAR:.0%}", fontsize=8, color="#555555", ha="center")
    axis.set(xscale="log", xlim=(EXACT / 1500, 1), ylim=(-2, 102))
    axis.set_xticks([1e-6, 1e-4, 1e-2, 1], ["0.0001%", "0.01%", "1%", "100%"])
    axis.minorticks_off()
    axis.set_xlabel("relative regret at most: profit given up,\npercent of the best action's")
    axis.grid(axis="y", lw=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines["bottom"].set_bounds(EXACT, 1)


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
