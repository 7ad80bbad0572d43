"""The command that counts games without a pure equilibrium, and what is kept of it."""

from pathlib import Path

import pandas as pd
import pytest

import ttc_env
from scripts import user_types

KEPT = Path(__file__).parents[2] / "baselines" / "user_types"


def test_the_command_writes_what_its_docstring_says(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert user_types.main(["--games", "1", "--out", str(tmp_path), "--quiet"]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"games.csv", "counts.csv", "user_types.png", "README.md"}
    games = pd.read_csv(tmp_path / "games.csv")
    assert len(games) == 9 * len(user_types.SETTINGS)
    assert games.complete.all()
    counted = capsys.readouterr().out
    for setting in user_types.SETTINGS:
        assert setting in counted


def test_what_is_kept_is_what_the_solver_finds():
    games, counts = (pd.read_csv(KEPT / name) for name in ("games.csv", "counts.csv"))
    assert (counts.games == 900).all()
    pd.testing.assert_frame_equal(user_types.counts(games), counts)
    for row in games.sample(6, random_state=0).itertuples():
        market = ttc_env.load_market(row.benchmark, row.method, beta=row.beta)
        found = user_types.game(market, row.setting)
        assert found["equilibria"] == row.equilibria
        assert found["least_regret"] == pytest.approx(row.least_regret, rel=1e-6, abs=1e-12)
