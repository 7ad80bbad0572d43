"""How learners come to the exact equilibrium: play and regret against steps (extra `plot`).

    python -m baselines.learning_curves         # short runs of several learners, and the figure
    python -m scripts.plot_run DIR [DIR ...]    # the same for runs of scripts.train

The upper panels show compute, in doublings above the social optimum: 0 is the optimum, the dashed
line is random play, and the band lies between the lowest and the highest exact equilibrium (a
line where there is one alone). The lower panels show the relative regret, what a provider could
still gain by another action, on a log axis. Lines are interquartile means over seeds with 95%
bootstrap bands.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from baselines.errors import failed
from baselines.interrupts import Interrupted
from baselines.learned import Curves, Reference
from baselines.learning_figures import COLOURS, START, apart
from baselines.plan import Plan, TrainConfig
from baselines.records import write_atomically
from baselines.training import Run

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


def figure(columns: Mapping[str, Sequence[Curves]]) -> Figure:
    """One column of panels for each setting. All runs of a column are in the same game.

    Raises:
        ValueError: a column without runs.
    """
    drawn = Figure(figsize=(5.6 * len(columns) + 0.6, 6.4), layout="constrained")
    axes = drawn.subplots(2, len(columns), squeeze=False, sharex="col", sharey="row")
    for (title, runs), (play, regret) in zip(columns.items(), axes.T, strict=True):
        if not runs:
            raise ValueError(f"{title}: no runs to draw")
        reference = Reference(runs[0].plan)
        low, high = reference.equilibria
        end = max(int(run.rows.step.max()) for run in runs)
        # A single equilibrium is a line; it gets the width of one that can be seen.
        width = max(high - low, 0.12)
        middle = (low + high) / 2
        play.axhspan(middle - width / 2, middle + width / 2, color=EQUILIBRIUM, alpha=0.45, lw=0)
        play.axhline(0.0, color=OPTIMUM, lw=1.2)
        play.axhline(reference.random, color=RANDOM, lw=1.2, ls="--")
        name = "exact equilibrium" if high - low < 1e-9 else "between the exact equilibria"
        two = abs(middle) > 0.25  # equilibrium and optimum are apart, and both are labelled
        labels = [(middle, name if two else f"{name}\n= social optimum", "#9a6c00")]
        labels += [(0.0, "social optimum", OPTIMUM)] if two else []
        labels.append((reference.random, "random play", "#777777"))
        places = apart([y for y, *_ in labels], step=0.3)
        for place, (_, text, colour) in zip(places, labels, strict=True):
            play.annotate(
                text, (end, place), xytext=(5, 0), textcoords="offset points", va="center",
                fontsize=9, color=colour, annotation_clip=False,
            )  # fmt: skip
        ends = []
        for run in runs:
            for axis, column in ((play, "overcompute"), (regret, "relative_regret")):
                band = run.band(column)
                shown = band.clip(lower=FLOOR) if axis is regret else band
                x = band.step.where(band.step > 0, START)
                axis.plot(x, shown.value, color=run.colour, lw=2.2)
                axis.fill_between(x, shown.low, shown.high, color=run.colour, alpha=0.18, lw=0)
            ends.append([float(shown.value.iloc[-1]), run.label, run.colour, int(x.iloc[-1])])
        heights = np.exp(apart(np.log([y for y, *_ in ends]).tolist(), step=0.75))
        for y, (_, label, colour, step) in zip(heights, ends, strict=True):
            regret.annotate(
                label, (max(step, end), y), xytext=(5, 0), textcoords="offset points", va="center",
                fontsize=9, color=colour, annotation_clip=False, fontweight="bold",
            )  # fmt: skip
        play.set_title(title, fontsize=12)
        regret.set(yscale="log", xscale="log", xlabel="rounds that each provider has played")
        regret.set_xlim(START, end)
        decades = [10**k for k in range(int(np.log10(end)) + 1)]
        regret.set_xticks([START, *decades], ["0", *(f"{x:,}" for x in decades)])
        for axis in (play, regret):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=9)
    axes[0, 0].set_ylabel("compute users get,\ndoublings above the social optimum")
    axes[1, 0].set_ylabel(f"relative regret\n(how far from equilibrium; {FLOOR:g}: less)")
    return drawn


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
    drawn = figure(columns)
    drawn.suptitle(
        "Learners of every kind come to the solver's exact equilibrium:\n"
        "too much compute in the market, the efficient amount in the auction"
        " (GSM8K, majority vote, beta = 1000)",
        fontsize=12.5,
    )
    return drawn


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
