"""Figures of `baselines.impulse`, Q-learning duopolies: impulse responses and the map of the
collusion index (extra `plot`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baselines.labels import apart

DEVIATOR, RIVAL = "#b5482d", "#2b6a99"
CASE_LINES = {"gsm8k": "-", "aime": "--", "gpqa": ":"}
CONDITIONS = {
    ("market", 0.95): ("market", "#b5482d"),
    ("market", 0.0): ("market, no future (discount 0)", "#8a8a8a"),
    ("auction", 0.95): ("auction", "#2b6a99"),
}
"""(mechanism, discount) of `baselines.impulse` -> label, colour."""


def impulse(summary: pd.DataFrame, paths: pd.DataFrame) -> Figure:
    """Q-learning duopolies: over-compute in market, control and auction, beside the equilibrium's;
    and what a forced deviation does in the market, a line a duopoly, all against the same rounds
    without it. Bars and bands are 95% over sessions.
    """
    figure = Figure(figsize=(13.5, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    _compute(left, summary)
    market = paths[(paths.mechanism == "market") & (paths.discount > 0) & (paths["round"] <= 8)]
    _deviation(middle, market)
    styles = [CASE_LINES[x.benchmark] if x.steady else "" for x in _deviating(summary)]
    handles = [middle.plot([], [], color="#444444", lw=2, ls=style)[0] for style in styles]
    middle.legend(
        handles, case_labels(summary), fontsize=8, frameon=False, loc="lower right",
        title="sessions whose play was\nsteady before, of all\nthat deviate", title_fontsize=8,
        handlelength=2.6, alignment="left", borderaxespad=0,
    )  # fmt: skip
    _gain(right, market)
    for axis in (middle, right):
        axis.axhline(0, color="black", lw=0.8)
        axis.axvline(0, color="grey", lw=0.8, ls=":")
        axis.set_xlabel("rounds since the forced deviation")
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.suptitle(
        "Q-learners agree on too much compute in the market, and the auction ends that", fontsize=13
    )
    return figure


def _deviating(summary: pd.DataFrame) -> list[Any]:
    """The rows of the market's experiments with a deviation, one a duopoly."""
    rows = summary[(summary.mechanism == "market") & (summary.discount > 0)]
    return list(rows.itertuples())


def case_labels(summary: pd.DataFrame) -> list[str]:
    """How many of a duopoly's sessions the deviation's lines show: those whose play was the same in
    every round before it. The others go through a cycle, and a mean of cycles is a zigzag.
    """
    return [
        f"{row.benchmark}: {row.steady} of {row.deviations}"
        + ("" if row.steady else ",\nall play cycles")
        for row in _deviating(summary)
    ]


def _compute(axis: Axes, summary: pd.DataFrame) -> None:
    """Bars of over-compute, and a diamond where the exact equilibrium is."""
    cases = list(dict.fromkeys(zip(summary.benchmark, summary.providers, strict=True)))
    ticks = []
    for y, (benchmark, providers) in enumerate(cases):
        here = summary[(summary.benchmark == benchmark) & (summary.providers == providers)]
        for k, ((mechanism, discount), (label, colour)) in enumerate(CONDITIONS.items()):
            row = here[(here.mechanism == mechanism) & (here.discount == discount)]
            if not len(row):
                continue
            value, half, exact = (
                float(row[x].iloc[0])
                for x in ("overcompute", "overcompute_ci95", "overcompute_equilibrium")
            )
            height = y + 0.27 * (k - 1)
            axis.barh(height, value, height=0.24, color=colour, xerr=half, ecolor="#222222")
            axis.plot(exact, height, "D", ms=5.5, color="#f2a900", mec="black", mew=0.7)
            text = f"{label} {value:+.1f}" if y == 0 else f"{value:+.1f}"
            end = max(value + half, exact) + 0.18
            axis.text(end, height, text, va="center", fontsize=8, color=colour)
        names = providers.replace(" / ", "\n")
        ticks.append(f"{benchmark}\n{names}\n{int(here.sessions.min())} sessions each")
    axis.axvline(0, color="black", lw=0.8)
    axis.set_xlim(min(-0.9, axis.get_xlim()[0]), 1.55 * axis.get_xlim()[1])
    axis.set_ylim(len(cases) - 0.5, -0.5)
    axis.set_yticks(range(len(cases)), ticks, fontsize=8)
    axis.plot([], [], "D", ms=5.5, color="#f2a900", mec="black", mew=0.7, label="exact equilibrium")
    axis.legend(loc="lower right", fontsize=9, frameon=False, handletextpad=0.2)
    axis.set_xlabel("doublings of compute above the social optimum")
    axis.set_title("Learned compute, and the equilibrium's", fontsize=11)


def _deviation(axis: Axes, market: pd.DataFrame) -> None:
    """Levels of deviator and rival around the forced deviation."""
    for benchmark, path in market.groupby("benchmark", sort=False):
        for column, colour in (("deviator", DEVIATOR), ("rival", RIVAL)):
            _path(axis, path, column, colour, CASE_LINES[benchmark])
    for column, colour, y in (("deviator", DEVIATOR, 0.12), ("rival", RIVAL, 0.04)):
        axis.text(
            0.02, y, column, color=colour, fontsize=10, fontweight="bold", transform=axis.transAxes
        )
    axis.set_ylabel("levels, against the same\nround without the deviation")
    axis.set_title("The rival follows, then both return", fontsize=11)


def _gain(axis: Axes, market: pd.DataFrame) -> None:
    """What the deviation has earned the deviator so far."""
    ends = {}
    for benchmark, path in market.groupby("benchmark", sort=False):
        percent = path.assign(
            gain_so_far=100 * path.gain_so_far, gain_so_far_ci95=100 * path.gain_so_far_ci95
        )
        _path(axis, percent, "gain_so_far", DEVIATOR, CASE_LINES[benchmark])
        ends[benchmark] = float(percent.gain_so_far.iloc[-1])
    low, high = axis.get_ylim()
    places = apart(list(ends.values()), 0.05 * (high - low))
    for benchmark, place in zip(ends, places, strict=True):
        axis.annotate(
            benchmark, (8, place), xytext=(6, 0), textcoords="offset points", va="center",
            fontsize=8, color=DEVIATOR, annotation_clip=False,
        )  # fmt: skip
    axis.set_ylabel("deviator's gain so far,\npercent of a round's profit")
    axis.set_title("It pays at once, then costs more", fontsize=11)


def _path(axis: Axes, path: pd.DataFrame, column: str, colour: str, style: str) -> None:
    """One column against rounds, with its band."""
    axis.plot(path["round"], path[column], color=colour, lw=2, ls=style, marker="o", ms=3)
    half = path[f"{column}_ci95"].fillna(0.0)
    axis.fill_between(
        path["round"], path[column] - half, path[column] + half, color=colour, alpha=0.18, lw=0
    )


STEPS = 1, 3
"""Of the kept map: the levels between equilibrium and cartel, of the provider that is farther from
its own; the least and the most over cells.
"""


def collusion_map(table: pd.DataFrame) -> Figure:
    """The collusion index by the value of a right answer and the rationality of users."""
    alphas, betas = sorted(table.alpha.unique()), sorted(table.beta.unique())
    values = table.pivot(index="alpha", columns="beta", values="collusion_index")
    values = values.reindex(index=alphas, columns=betas).to_numpy()
    figure = Figure(figsize=(8.6, 5.0), layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("#eeeeee")
    image = axis.imshow(values, cmap="YlOrBr", vmin=0, vmax=1, aspect="auto", origin="lower")
    for row in table.itertuples():
        place = betas.index(row.beta), alphas.index(row.alpha)
        colour = "white" if row.collusion_index > 0.6 else "black"
        axis.text(*place, map_cell(row), ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(betas)), [f"{x:g}" for x in betas])
    axis.set_yticks(range(len(alphas)), [f"{1e3 * x:g}" for x in alphas])
    axis.set_xlabel("user rationality beta, 1/USD")
    axis.set_ylabel("value of a right answer alpha, USD per 1000")
    figure.colorbar(image, label="collusion index: 0 equilibrium, 1 cartel")
    _map_title(figure, table)
    return figure


def map_cell(row: Any) -> str:
    """The index with its 95% interval over sessions ("all": they have the same index), and what a
    cartel would earn beyond the equilibrium; a dash where that is too little to collude on.
    """
    if np.isnan(row.collusion_index):
        return "-"
    half = row.collusion_index_ci95
    interval = "(all)" if half < 1e-9 else f"± {half:.2f}"
    return f"{row.collusion_index:.2f} {interval}\ncartel +{row.room:.0%}"


def _map_title(figure: Figure, table: pd.DataFrame) -> None:
    """The finding, and how to read a cell."""
    first, played = table.iloc[0], table[table.sessions > 0]
    above = int((played.collusion_index > played.collusion_index_ci95).sum())
    figure.suptitle(
        f"Q-learners in the market collude on compute in {above} of the {len(played)} cells"
        " where a cartel would pay",
        fontsize=12,
    )
    figure.axes[0].set_title(
        f"{first.benchmark} {first.method}, {first.providers}; {int(table.sessions.max())}"
        " sessions a cell. Collusion: the index's 95% interval lies above 0.\nIn a cell: index ±"
        " interval (all: every session the same); a cartel's gain over the equilibrium (grey: less"
        f" than 1%).\nCompute has few levels, {STEPS[0]} to {STEPS[1]} between equilibrium and"
        " cartel, so that one level more or less moves the index far.",
        fontsize=9, loc="left",
    )  # fmt: skip
