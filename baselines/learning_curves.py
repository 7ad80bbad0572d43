"""How learners come to the exact equilibrium: play and regret against steps (extra `plot`).

    python -m baselines.learning_curves         # short runs of several learners, and the figure
    python -m scripts.plot_run DIR [DIR ...]    # the same for runs of scripts.train

Above, compute in doublings above the social optimum; below it, welfare as a share of the first
best, the most that any rule could reach. The band lies between the lowest and the highest exact
equilibrium (a line where there is one alone), the black line is the game's social optimum, the
dashed one random play. The last panels show the relative regret, what a provider could still gain
by another action, on a log axis. Lines are interquartile means over seeds with 95% bootstrap bands.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from baselines.errors import failed
from baselines.interrupts import Interrupted
from baselines.learned import Curves, Landmarks, Reference
from baselines.learning_figures import COLOURS, START, apart
from baselines.plan import Plan, TrainConfig
from baselines.records import write_atomically
from baselines.training import Run
from ttc_env.game.yardstick import first_best

FLOOR = 1e-5
"""Smaller relative regrets are drawn here."""
EQUILIBRIUM, OPTIMUM, RANDOM = "#f2a900", "#333333", "#999999"

LEARNERS = (
    ("best_response", 2_000, 10),
    ("hedge", 10_000, 10),
    ("ucb", 10_000, 10),
    ("ppo_torch", 20_480, 5),
)
"""Of the front figure: learner, steps, seeds."""
SETTINGS = {
    "Pay-per-token market": {"mechanism": "market", "prices": "fixed"},
    "Reverse second-price auction": {"mechanism": "auction", "prices": "grid"},
}


def _read(folder: Path) -> Curves:
    """A run, in its learner's colour."""
    run = Curves.read(folder)
    run.colour = COLOURS.get(run.label.split(":")[0], "#1f77b4")
    return run


@dataclass(frozen=True)
class Panel:
    """A row of the figure: a column of metrics, and what it is called."""

    column: str
    label: str
    thin: float = 0.0  # height of the band of a single equilibrium


PLAY = (
    Panel("overcompute", "compute users get,\ndoublings above the social optimum", 0.12),
    Panel("welfare", "welfare, share of the most\nthat any rule could reach", 0.008),
)
REGRET = Panel("relative_regret", f"relative regret\n(far from equilibrium; {FLOOR:g}: less)")


@dataclass(frozen=True)
class Label:
    """A word at the right end of a panel, at the height of what it names."""

    height: float
    text: str
    colour: str
    bold: bool = False


def figure(columns: Mapping[str, Sequence[Curves]]) -> Figure:
    """One column of panels for each setting. All runs of a column are in the same game.

    Raises:
        ValueError: a column without runs, or whose game has no pure equilibrium.
    """
    drawn = Figure(figsize=(5.6 * len(columns) + 0.6, 8.4), layout="constrained")
    panels = (*PLAY, REGRET)
    axes = drawn.subplots(len(panels), len(columns), squeeze=False, sharex="col", sharey="row")
    labels: list[tuple[Axes, list[Label]]] = []
    for (title, runs), column in zip(columns.items(), axes.T, strict=True):
        if not runs:
            raise ValueError(f"{title}: no runs to draw")
        reference = Reference(runs[0].plan)
        first = first_best(runs[0].plan.environment.market)
        for axis, panel in zip(column, panels, strict=True):
            unit = first if panel.column == "welfare" else 1.0
            ends = [_curve(axis, run, panel, unit) for run in runs]
            if panel is not REGRET:
                ends = _exact(axis, panel, reference.landmarks(panel.column), unit)
            labels.append((axis, ends))
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=9)
        end = max(int(run.rows.step.max()) for run in runs)
        decades = [10**k for k in range(int(np.log10(end)) + 1)]
        column[0].set_title(title, fontsize=12)
        column[-1].set(xscale="log", xlabel="rounds that each provider has played")
        column[-1].set_xlim(START, end)
        column[-1].set_xticks([START, *decades], ["0", *(f"{x:,}" for x in decades)])
    for row, panel in zip(axes, panels, strict=True):
        row[0].set_ylabel(panel.label)
    axes[-1, 0].set_yscale("log")
    axes[1, 0].yaxis.set(
        major_formatter=PercentFormatter(1.0, decimals=0),
        major_locator=MaxNLocator(6, steps=[1, 2, 5, 10]),
    )
    for axis, words in labels:  # when all limits are known
        _name(axis, words)
    return drawn


def _curve(axis: Axes, run: Curves, panel: Panel, unit: float) -> Label:
    """Draw a run, and say where it ends."""
    band = run.band(panel.column)
    shown = band[["value", "low", "high"]] / unit
    if panel is REGRET:
        shown = shown.clip(lower=FLOOR)
    x = band.step.where(band.step > 0, START)
    axis.plot(x, shown.value, color=run.colour, lw=2.2)
    axis.fill_between(x, shown.low, shown.high, color=run.colour, alpha=0.18, lw=0)
    return Label(float(shown.value.iloc[-1]), run.label, run.colour, bold=True)


def _exact(axis: Axes, panel: Panel, exact: Landmarks, unit: float) -> list[Label]:
    """Draw the band between the exact equilibria, the optimum and random play."""
    low, high = exact.lowest / unit, exact.highest / unit
    optimum, random = exact.optimum / unit, exact.random / unit
    middle, half = (low + high) / 2, max(high - low, panel.thin) / 2
    axis.axhspan(middle - half, middle + half, color=EQUILIBRIUM, alpha=0.45, lw=0)
    axis.axhline(optimum, color=OPTIMUM, lw=1.2)
    axis.axhline(random, color=RANDOM, lw=1.2, ls="--")
    several = high - low > 1e-9 * max(abs(high), 1.0)
    name = "between the exact equilibria" if several else "exact equilibrium"
    labels = [Label(random, "random play", "#777777")]
    if abs(middle - optimum) > 2 * panel.thin:
        return [
            *labels,
            Label(middle, name, "#9a6c00"),
            Label(optimum, "social optimum", OPTIMUM),
        ]
    return [*labels, Label(middle, f"{name}\n= social optimum", "#9a6c00")]


def _name(axis: Axes, labels: Sequence[Label]) -> None:
    """Write labels beside a panel, none over another."""
    low, high = axis.get_ylim()
    scale = np.log if axis.get_yscale() == "log" else np.asarray
    heights = [float((scale(x.height) - scale(low)) / (scale(high) - scale(low))) for x in labels]
    for height, label in zip(apart(heights, step=0.085), labels, strict=True):
        axis.annotate(
            label.text, (1.0, height), xycoords="axes fraction", xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=9, color=label.colour,
            annotation_clip=False, fontweight="bold" if label.bold else "normal",
        )  # fmt: skip


def front(folder: Path, seeds: int = 0, steps: int = 0) -> Figure:
    """Train the learners of the front figure into `folder` (runs that are there go on) and draw it.

    Args:
        seeds, steps: fewer than usual; 0: as in LEARNERS.
    """
    columns: dict[str, list[Curves]] = {}
    for title, setting in SETTINGS.items():
        columns[title] = []
        for learner, planned, count in LEARNERS:
            config = TrainConfig(
                learner=learner,
                **setting,
                steps=steps or planned,
                seeds=f"0..{(seeds or count) - 1}",
                evaluations=40,
                spacing="log",
            )
            out = folder / f"{setting['mechanism']}_{learner}"
            Run(Plan.of(config), out).train()
            columns[title].append(_read(out))
    lost = [_lost(runs[0].plan) for runs in columns.values()]
    drawn = figure(columns)
    drawn.suptitle(
        "Learners of every kind come to the solver's exact equilibrium: in the market users get too"
        f" much compute\nand {lost[0]:.0%} of the possible welfare is lost; in the auction"
        f" {lost[1]:.0%} (GSM8K, majority vote, beta = 1000)",
        fontsize=12.5,
    )
    return drawn


def _lost(plan: Plan) -> float:
    """The share of the first best that is lost at the equilibrium of least welfare."""
    welfare = Reference(plan).landmarks("welfare").lowest
    return 1.0 - welfare / first_best(plan.environment.market)


def save(drawn: Figure, path: Path) -> None:
    """Write a figure, whole or not at all."""
    write_atomically(path, lambda temporary: drawn.savefig(temporary, dpi=140))


def plot_run(folders: Sequence[Path], path: Path) -> Path:
    """Draw runs of `scripts.train` and write the figure; runs of one game share a column.

    Raises:
        ValueError: a folder without a run.
    """
    spare: list[Any] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"]
    columns: dict[str, list[Curves]] = {}
    for folder in folders:
        run = _read(folder)
        config = run.plan.config
        market = run.plan.environment.market
        game = f"{market.benchmark or 'own curves'} {market.method or ''}".strip()
        if config.curve_file:
            game = Path(config.curve_file).stem
        title = f"{config.mechanism}, {game}, prices {config.prices}, beta {config.beta:g}"
        column = columns.setdefault(title, [])
        if run.colour in [other.colour for other in column]:
            run.colour = next(c for c in spare if c not in [o.colour for o in column])
        column.append(run)
    save(figure(columns), path)
    return path


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.learning_curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("results/learning_curves"), help="folder of the runs"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "learning_curves.png"
    )
    parser.add_argument("--seeds", type=int, default=0, help="fewer seeds, for a quick look")
    parser.add_argument("--steps", type=int, default=0, help="fewer steps, for a quick look")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        save(front(options.runs, options.seeds, options.steps), options.out)
    except (ValueError, ImportError, OSError) as error:
        return failed(error, 1)
    except Interrupted as error:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + error.number
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
