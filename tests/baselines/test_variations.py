"""Held-out markets and other hyperparameters: what is run is what the tables say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from baselines import variations
from baselines.suite import SETTINGS
from ttc_env.game.curves import STUDIED_BETAS, load_market


def test_held_out_games_are_none_of_the_kept_table() -> None:
    found = list(variations.held_out())
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert one.beta not in STUDIED_BETAS or one.alpha != 1.0 or one.draw >= 0
    for setting in SETTINGS:
        assert {one.learner for one in found if one.setting == setting} == set(variations.LEARNERS)


def test_a_variation_is_the_game_that_it_names() -> None:
    found = {one.change: one for one in variations.held_out()}
    market = found["other alpha"].plan.environment.market
    assert market.alpha == pytest.approx(2.0 * load_market("gpqa").alpha)
    draws = [dataclasses.replace(found["random market"], draw=k).plan for k in (0, 1)]
    first, second = (plan.environment.market for plan in draws)
    assert first.num_providers == second.num_providers == 9
    assert first.beta != second.beta
    assert 100 <= first.beta <= 10_000
    assert draws[0].environment.mechanism.name == "auction"


def test_one_thing_changes_at_a_time() -> None:
    options = [learner.partition(":")[2] for _, learner, _ in variations.CHANGES]
    assert all(text.count("=") <= 1 for text in options)
    steps = {s for _, learner, s in variations.CHANGES if ":" in learner}
    assert steps == {variations.BASE_STEPS}


def test_runs_are_rows_and_the_command_goes_on(tmp_path: Path) -> None:
    where = ["--quick", "--only", "held_out", "--cells", str(tmp_path), "--out", str(tmp_path)]
    assert variations.main(where) == 0
    table = pd.read_csv(tmp_path / "held_out.csv")
    assert set(table.change) == {"other beta", "other alpha", "random market"}
    assert (table.step == 100).all()
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "cells").glob("*.json")}
    assert variations.main(where) == 0
    assert files == {f: f.stat().st_mtime_ns for f in (tmp_path / "cells").glob("*.json")}


@pytest.mark.slow
def test_every_change_of_hyperparameters_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    where = ["--quick", "--only", "sensitivity", "--cells", str(tmp_path), "--out", str(tmp_path)]
    assert variations.main(where) == 0
    table = pd.read_csv(tmp_path / "sensitivity.csv")
    assert list(table.change) == [change for change, *_ in variations.CHANGES]
