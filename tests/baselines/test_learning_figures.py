"""What the figures of learned play say in words is what the kept numbers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from baselines import duopoly_figures
from baselines import learning_figures as figures
from baselines.impulse import Yardstick, duopoly

RESULTS = Path(__file__).parents[2] / "baselines" / "results"


def kept(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def made(regrets: dict[str, list[float]]) -> pd.DataFrame:
    """Runs of one setting with these relative regrets."""
    return pd.DataFrame(
        {"learner": x, "family": "bandit", "setting": "auction", "relative_regret": value}
        for x, values in regrets.items()
        for value in values
    )


def test_profiles_draw_the_learners_that_are_not_perfect_and_name_the_others() -> None:
    runs = made({"exp3": [0.0, 0.5], "ucb": [0.0, 1e-7], "hedge": [0.0, 1e-3, 1e-3]})
    assert figures.perfect(runs) == ["ucb"]
    figure = figures.profiles(runs)
    (axis,) = figure.axes
    names = {text.get_text(): text for text in axis.texts}
    assert "at 100% everywhere: ucb" in names
    # One curve a learner, and the line at 1%; labels in the order of the curves' left ends.
    assert len(axis.lines) == 3
    assert names["exp3"].get_position()[1] == pytest.approx(50)
    assert names["hedge"].get_position()[1] == pytest.approx(100 / 3)
    assert "bandits 85.7%" in figure.get_suptitle()


def test_labels_of_near_curves_keep_their_order() -> None:
    runs = made({"exp3": [0.0, 0.5], "hedge": [0.0] * 49 + [0.5] * 51, "ucb": [0.0, 0.1]})
    (axis,) = figures.profiles(runs).axes
    heights = {x.get_text(): x.get_position()[1] for x in axis.texts}
    order = sorted(("exp3", "hedge", "ucb"), key=heights.__getitem__)
    assert order[0] == "hedge", "the lowest curve has the lowest label"
    gaps = np.diff([heights[x] for x in order])
    assert (gaps > 4).all()


def test_profiles_of_the_kept_runs_leave_no_learner_out() -> None:
    final = kept("final")
    for axis in figures.profiles(final).axes:
        setting = axis.get_title()
        runs = final[(final.setting == setting) & (final.family != "none")]
        labels = [x.get_text() for x in axis.texts]
        (named,) = (x for x in labels if x.startswith("at 100%"))
        perfect = {
            x for x, values in runs.groupby("learner") if values.relative_regret.max() <= 1e-6
        }
        assert set(named.replace("\n", " ").split(": ")[1].split(", ")) == perfect
        assert perfect | set(labels) >= set(runs.learner)
        assert not perfect & set(labels)


def test_learners_still_far_from_the_equilibrium_are_named() -> None:
    rows = [("a", 1.0, 0.02), ("b", 1.0, 0.009), ("random", 1.0, 1.0)]
    curves = pd.DataFrame(
        {"learner": x, "family": "none" if x == "random" else "RL", "step": step, "nash_conv": y}
        for x, *values in rows
        for step, y in enumerate(values)
    )
    assert figures.still_far(curves) == ["a"]


def test_nash_conv_counts_the_curves_that_are_drawn() -> None:
    curves = kept("curves")
    figure = figures.nash_conv(curves)
    learning = curves[curves.family != "none"]
    ends = learning.groupby(["setting", "learner"]).nash_conv
    near = ends.last() < 0.01 * ends.first()
    assert f"{near.sum()} of {len(near)} curves" in figure.get_suptitle()
    title = next(x.get_title() for x in figure.axes if "fixed prices" in x.get_title())
    for learner, reached in near["market, fixed prices"].items():
        assert (f" {learner}" in title.replace(",", " ")) != reached


def test_the_impulse_figure_names_the_duopoly_that_it_does_not_draw() -> None:
    summary, paths = kept("impulse"), kept("impulse_paths")
    left, middle, _ = duopoly_figures.impulse(summary, paths).axes
    labels = [x.get_text() for x in middle.get_legend().get_texts()]
    assert labels == duopoly_figures.case_labels(summary)
    drawn = set(paths[paths.mechanism == "market"].benchmark)
    for label in labels:
        benchmark = label.split(":")[0]
        assert ("cycles" in label) == (benchmark not in drawn)
        here = paths[(paths.benchmark == benchmark) & (paths.mechanism == "market")]
        assert f": {here.n.max() if len(here) else 0} of " in label
    marks = [x.get_xdata()[0] for x in left.lines if x.get_marker() == "D" and len(x.get_xdata())]
    assert marks == pytest.approx(list(summary.overcompute_equilibrium))


def test_cells_of_the_map_say_whether_all_sessions_end_alike() -> None:
    table = kept("collusion_map")
    figure = duopoly_figures.collusion_map(table)
    cells = [x.get_text() for x in figure.axes[0].texts]
    assert len(cells) == len(table)
    for row, cell in zip(table.itertuples(), cells, strict=True):
        assert (cell == "-") == (row.sessions == 0)
        if row.at_equilibrium == 1:
            assert cell.startswith("0.00 (all)")
    played = table[table.sessions > 0]
    low = played.collusion_index - played.collusion_index_ci95
    assert f"{(low > 0).sum()} of the {len(played)} cells" in figure.get_suptitle()


def test_few_levels_lie_between_equilibrium_and_cartel() -> None:
    steps = []
    for row in kept("collusion_map").itertuples():
        if row.sessions:
            pair = tuple(row.providers.split(" / "))
            y = Yardstick(duopoly(row.benchmark, row.method, pair, row.beta, alpha=row.alpha))
            cartel = np.unravel_index(np.nanargmax(y.joint), y.joint.shape)
            assert len(y.equilibria) == 1
            steps.append(int(np.abs(y.equilibria[0] - cartel).max()))
    assert (min(steps), max(steps)) == duopoly_figures.STEPS
