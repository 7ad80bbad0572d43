"""The page about learners says what the kept numbers say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from baselines import page, report, run
from baselines.suite import SETTINGS, SUITE, Entry, cells
from baselines.summaries import KEY, curves, first_bests, statistics
from baselines.targets import targets

RESULTS = Path(__file__).parents[2] / "baselines" / "results"


@pytest.fixture(scope="module")
def final() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "final.csv")


def test_every_setting_is_held_to_its_targets(final: pd.DataFrame) -> None:
    met, misses = targets(final)
    for setting in SETTINGS:
        assert f"| {setting} |" in met
    # Counted independently: bandits on the price grid.
    part = final[(final.setting == "market, level and price") & (final.learner == "ucb")]
    passed = (part.welfare_to_equilibrium - 1).abs().le(0.02) & part.median_relative_regret.le(0.02)
    line = next(x for x in met.splitlines() if "level and price | ucb" in x)
    assert f"{passed.sum()} of {len(part)} runs" in line
    assert line.endswith("| missed |")
    number = line.split("|")[1].strip()
    counts = [
        int(x.split("|")[5].split(" of ")[0])
        for x in misses.splitlines()
        if x.startswith(f"| {number} |")
    ]
    assert sum(counts) == (~passed).sum()


def test_statistics_are_of_the_runs(final: pd.DataFrame) -> None:
    part = final[(final.learner == "exp3") & (final.setting == "auction")]
    row = statistics(part).iloc[0]
    middle = np.sort(part.relative_regret)[22:-22]  # a quarter of 90, rounded down, at each end
    assert row.iqm_relative_regret == pytest.approx(middle.mean())
    assert row.iqm_relative_regret_low_seeds <= row.iqm_relative_regret
    assert row.iqm_relative_regret <= row.iqm_relative_regret_high_games
    assert row["within_0.01"] == pytest.approx((part.relative_regret <= 0.01).mean())


def test_money_is_in_usd_per_thousand_users(final: pd.DataFrame) -> None:
    text = page.money_table(final)
    line = next(x for x in text.splitlines() if x.startswith("| equilibrium |"))
    part = final[(final.learner == "equilibrium") & (final.beta == 1000.0)]
    expected = 1e3 * part[part.setting == "auction"].user_value.mean()
    assert line.split("|")[-2].strip() == f"{expected:.2f}"
    assert "| ppo |" not in text, "it did not play all games"
    best = next(x for x in text.splitlines() if x.startswith("| first best"))
    assert (
        best.split("|")[-3].strip() == f"{1e3 * part[part.setting == 'auction'].welfare.mean():.2f}"
    )


def test_all_settings_are_held_to_one_first_best(final: pd.DataFrame) -> None:
    best = first_bests(final)
    assert (final.welfare <= best * (1 + 1e-5)).all(), "kept numbers have six digits"
    for setting in SETTINGS:
        text = page.setting_table(final, setting)
        line = next(x for x in text.splitlines() if x.startswith("| equilibrium |"))
        part = final[(final.setting == setting) & (final.learner == "equilibrium")]
        assert line.split("|")[9].strip() == f"{(part.welfare / best[part.index]).mean():.3f}"


def test_cells_that_were_not_run_again_keep_their_rows(tmp_path: Path) -> None:
    suite = tuple(
        Entry(learner, "bandit", steps, 2, games=(("gsm8k", "majority"),), settings=("auction",))
        for learner, steps in (("exp3", 20), ("ucb", 10), ("thompson", 30))
    )
    (auction,) = (cell.key for cell in cells(suite[:1]))

    def rows(learner: str, step: int, regret: float) -> pd.DataFrame:
        one = {**auction, "learner": learner, "step": step, "relative_regret": regret}
        return pd.DataFrame([{**one, "seed": seed} for seed in (0, 1)])

    old = [rows("ucb", 10, 0.5), rows("exp3", 20, 0.5), rows("thompson", 7, 0.5)]
    kept = pd.concat([*old, rows("hedge", 10, 0.5)])
    kept.to_csv(tmp_path / "final.csv", index=False)
    table = report.with_kept(rows("ucb", 10, 0.1), tmp_path / "final.csv", KEY, suite)
    # the suite's order; what is new; and neither other steps nor what the suite does not ask for
    assert list(table.learner) == ["exp3", "exp3", "ucb", "ucb"]
    assert list(table.relative_regret) == [0.5, 0.5, 0.1, 0.1]
    short = page.shortfall(table[1:], suite)
    assert [(cell.entry.learner, count) for cell, count in short] == [("exp3", 1), ("thompson", 2)]


def test_curves_carry_bands_of_their_runs() -> None:
    rng = np.random.default_rng(0)
    one = {"learner": "x", "family": "RL", "setting": "auction", "method": "majority", "beta": 1.0}
    rows = pd.DataFrame(
        {**one, "benchmark": game, "step": step, "nash_conv": value}
        for step in (0, 10)
        for game in ("a", "b")
        for value in rng.random(8)
    )
    rows = rows.assign(relative_regret=rows.nash_conv, welfare_to_equilibrium=1.0)
    found = curves(rows)
    assert list(found.step) == [0, 10]
    for row in found.itertuples():
        values = np.sort(rows[rows.step == row.step].nash_conv)
        assert row.nash_conv == pytest.approx(values[4:-4].mean())
        assert row.nash_conv_low < row.nash_conv < row.nash_conv_high


@pytest.mark.slow
def test_tables_write_the_page_without_cells(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    shutil.copy(RESULTS / "final.csv", tmp_path / "results")
    assert run.main(["--tables", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "README.md").read_text()
    assert f"of the suite's {sum(cell.entry.seeds for cell in cells(SUITE))} runs" in text
    assert "| target | setting | learner |" in text
    final = pd.read_csv(RESULTS / "final.csv")
    kept = pd.read_csv(tmp_path / "results" / "statistics.csv")
    assert len(kept) == len(final.drop_duplicates(["setting", "learner"]))
