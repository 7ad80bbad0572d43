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
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from baselines.errors import failed
from baselines.interrupts import Interrupted
from baselines.labels import apart
from baselines.learned import Curves, Landmarks, Reference
from baselines.learning_figures import COLOURS, START
from baselines.plan import Plan, TrainConfig
from baselines.records import write_atomically
from baselines.training import Run
from ttc_env.game.yardstick import first_best
from ttc_env.settings import content

FLOOR, SAME = 1e-5, 1e-9
"""Smaller relative regrets are drawn here; smaller differences of play are none."""
EQUILIBRIUM, OPTIMUM, RANDOM = "#f2a900", "#333333", "#999999"

LEARNERS = (
    ("best_response", 2_000, 10),
    ("hedge", 10_000, 10),
    ("ucb", 10_000, 10),
    ("ppo_torch", 20_480, 5),
)
"""Of the front figure: learner, steps, seeds."""
TOLD = ("mechanism", "benchmark", "method", "market", "prices", "beta")
OF_THE_RUN = ("learner", "seeds", "steps", "parallel", "evaluations", "spacing", "threads")
"""Options of `TrainConfig` that every title tells, and those that are not the game's."""
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


PLAY = (
    Panel("overcompute", "compute users get,\ndoublings above the social optimum"),
    Panel("welfare", "welfare, share of the most\nthat any rule could reach"),
)
REGRET = Panel("relative_regret", f"relative regret\n(far from equilibrium; {FLOOR:g}: less)")


@dataclass(frozen=True)
class Label:
    """A word at the right end of a panel, at the height of what it names."""

    height: float
    text: str
    colour: str
    bold: bool = False


@dataclass(frozen=True)
class Game:
    """A column of the figure: runs in one game."""

    title: str
    runs: list[Curves]

    @property
    def log(self) -> bool:
        """Whether evaluations are closer at the start, and the axis of rounds with them."""
        return any(run.plan.config.spacing == "log" for run in self.runs)


def figure(games: Sequence[Game]) -> Figure:
    """One column of panels for each game.

    Raises:
        ValueError: a game without runs.
    """
    drawn = Figure(figsize=(5.6 * len(games) + 0.6, 8.4), layout="constrained")
    panels = (*PLAY, REGRET)
    axes = drawn.subplots(len(panels), len(games), squeeze=False, sharex="col", sharey="row")
    labels: list[tuple[Axes, list[Label]]] = []
    for game, column in zip(games, axes.T, strict=True):
        if not game.runs:
            raise ValueError(f"{game.title}: no runs to draw")
        reference = Reference(game.runs[0].plan)
        first = first_best(game.runs[0].plan.environment.market)
        for axis, panel in zip(column, panels, strict=True):
            unit = first if panel.column == "welfare" else 1.0
            ends = [_curve(axis, run, panel, unit, START if game.log else 0.0) for run in game.runs]
            if panel is not REGRET:
                ends = _exact(axis, reference.landmarks(panel.column), unit)
            labels.append((axis, ends))
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=9)
        end = max(int(run.rows.step.max()) for run in game.runs)
        column[0].set_title("\n".join(wrap(game.title, 56)), fontsize=12)
        column[-1].set_xlabel("rounds that each provider has played")
        column[-1].set_xlim(0, end)
        if game.log:
            decades = [10**k for k in range(int(np.log10(end)) + 1)]
            column[-1].set(xscale="log", xlim=(START, end))
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


def _curve(axis: Axes, run: Curves, panel: Panel, unit: float, start: float) -> Label:
    """Draw a run, with step 0 at `start`, and say where it ends."""
    band = run.band(panel.column)
    shown = band[["value", "low", "high"]] / unit
    if panel is REGRET:
        shown = shown.clip(lower=FLOOR)
    x = band.step.where(band.step > 0, start)
    axis.plot(x, shown.value, color=run.colour, lw=2.2)
    axis.fill_between(x, shown.low, shown.high, color=run.colour, alpha=0.18, lw=0)
    return Label(float(shown.value.iloc[-1]), run.label, run.colour, bold=True)


def _exact(axis: Axes, exact: Landmarks, unit: float) -> list[Label]:
    """Draw the band between the exact equilibria, the optimum and random play."""
    low, high = exact.lowest / unit, exact.highest / unit
    optimum, random = exact.optimum / unit, exact.random / unit
    axis.axhline(optimum, color=OPTIMUM, lw=1.2)
    axis.axhline(random, color=RANDOM, lw=1.2, ls="--")
    labels = [Label(random, "random play", "#777777")]
    if np.isnan(low):
        return [*labels, Label(optimum, "social optimum\n(no pure equilibrium)", OPTIMUM)]
    if high - low > SAME:
        axis.axhspan(low, high, color=EQUILIBRIUM, alpha=0.45, lw=0)
        name = "between the exact equilibria"
    else:  # a line that can be seen beneath the curves
        axis.axhline(low, color=EQUILIBRIUM, alpha=0.45, lw=5.5, zorder=1)
        name = "exact equilibrium"
        if abs(low - optimum) < SAME:
            return [*labels, Label(low, f"{name}\n= social optimum", "#9a6c00")]
    middle = Label((low + high) / 2, name, "#9a6c00")
    return [*labels, middle, Label(optimum, "social optimum", OPTIMUM)]


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
    games = []
    for title, setting in SETTINGS.items():
        runs = []
        for learner, planned, count in LEARNERS:
            config = TrainConfig(
                learner=learner,
                **setting,
                beta=1000.0,
                steps=steps or planned,
                seeds=f"0..{(seeds or count) - 1}",
                evaluations=40,
                spacing="log",
            )
            out = folder / f"{setting['mechanism']}_{learner}"
            Run(Plan.of(config), out).train()
            runs.append(_read(out))
        games.append(Game(title, runs))
    own, auction = (_lost(game.runs[0].plan) for game in games)
    drawn = figure(games)
    drawn.suptitle(
        "Learners of every kind come to the solver's exact equilibrium. In the market users get too"
        f" much compute,\nand {own:.0%} of the welfare that it could reach is lost; in the auction"
        f" {auction:.0%} (GSM8K, majority vote, beta = 1000)",
        fontsize=12.5,
    )
    return drawn


def _lost(plan: Plan) -> float:
    """The share of the game's own optimal welfare that is lost at its worst equilibrium."""
    exact = Reference(plan).landmarks("welfare")
    return 1.0 - exact.lowest / exact.optimum


def save(drawn: Figure, path: Path) -> None:
    """Write a figure, whole or not at all."""
    write_atomically(path, lambda temporary: drawn.savefig(temporary, dpi=140))


def plot_run(folders: Sequence[Path], path: Path) -> Path:
    """Draw runs of `scripts.train` and write the figure; runs of one game share a column.

    Raises:
        ValueError: a folder without a run.
    """
    games: dict[str, Game] = {}
    for folder in folders:
        run = _read(folder)
        options = run.plan.config.environment_options()
        game = games.setdefault(json.dumps(options, sort_keys=True), Game(_title(run), []))
        taken = {other.colour for other in game.runs}
        if run.colour in taken:
            spare = [to_hex(colour) for colour in colormaps["tab20"].colors]
            free = [colour for colour in spare if colour not in taken]
            run.colour = free[0] if free else spare[len(game.runs) % len(spare)]
        game.runs.append(run)
    save(figure(list(games.values())), path)
    return path


def _title(run: Curves) -> str:
    """The game of a run, with all options that are not their defaults."""
    config, market = run.plan.config, run.plan.environment.market
    game = f"{market.benchmark or 'own curves'} {market.method or ''}".strip()
    if config.curve_file:
        game = Path(config.curve_file).stem
    words = [config.mechanism, game, f"prices {config.prices}", f"beta {market.beta:g}"]
    others = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in content(config).items()
        if name not in TOLD and name not in OF_THE_RUN
    ]
    return ", ".join(words + others)


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
