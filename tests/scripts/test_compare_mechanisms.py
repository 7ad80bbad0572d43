"""Rules compared with learners: what is written, what is not done twice, what is refused."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

import ttc_env
from baselines import comparison
from scripts import compare_mechanisms
from ttc_env.game.comparison import COLUMNS, entries

SMALL = (
    *("--benchmark", "gsm8k", "--method", "reasoning", "--resamples", "2", "--quiet"),
    *("--mechanisms", "market,auction", "--learners", "best_response,regret_matching"),
    *("--seeds", "2", "--no-figure"),
)


def test_learners_stand_beside_the_solver_and_no_part_is_done_twice(tmp_path, monkeypatch):
    out = tmp_path / "c"
    assert compare_mechanisms.main([*SMALL, "--out", str(out)]) == 0
    table = pd.read_csv(out / "table.csv", dtype={"options": str}).fillna({"options": ""})
    assert set(COLUMNS) <= set(table.columns)
    assert {"equilibrium", "best_response", "regret_matching"} <= set(table.played_by)
    assert not table.audit_gain.isna().any()
    key = ["mechanism", "options", "prices", "reading"]
    wide = table.pivot_table(index=key, columns="played_by", values="welfare")
    np.testing.assert_allclose(wide.best_response, wide.equilibrium, rtol=1e-9)
    learned = table[table.played_by == "best_response"]
    assert (learned.nash_conv < 1e-9).all()
    for row in learned.itertuples():
        assert row.welfare_low <= row.welfare * (1 + 1e-6)
        assert row.welfare_high >= row.welfare * (1 - 1e-6)
    first = (out / "table.csv").read_bytes()
    monkeypatch.setattr(comparison.Part, "run", lambda *_: pytest.fail("done before"))
    assert compare_mechanisms.main([*SMALL, "--out", str(out)]) == 0
    assert (out / "table.csv").read_bytes() == first


def test_an_interrupted_comparison_goes_on(tmp_path, monkeypatch, capsys):
    out, run = tmp_path / "c", comparison.Part.run
    done = []

    def stop_at_the_third(part, drawn):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part.file)
        return run(part, drawn)

    monkeypatch.setattr(comparison.Part, "run", stop_at_the_third)
    assert compare_mechanisms.main([*SMALL, "--out", str(out)]) == 130
    assert "goes on" in capsys.readouterr().err
    assert len(list((out / "parts").rglob("*.csv"))) == 2
    monkeypatch.setattr(comparison.Part, "run", run)
    assert compare_mechanisms.main([*SMALL, "--out", str(out)]) == 0


def test_parts_of_another_comparison_are_refused(tmp_path, capsys):
    arguments = [*SMALL, "--learners", "", "--out", str(tmp_path)]
    assert compare_mechanisms.main(arguments) == 0
    assert compare_mechanisms.main([*arguments, "--alpha", "0.01"]) == 2
    assert "another comparison (alpha" in capsys.readouterr().err
    assert compare_mechanisms.main([*arguments, "--learners", "nobody"]) == 2
    assert "choose from best_response" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare_mechanisms.main([*arguments, "--seeds", "0"])


@pytest.mark.slow
def test_ppo_plays_every_rule():
    market = ttc_env.load_market("gsm8k", "reasoning", beta=200)
    learner = comparison.Learner("ppo_torch", rounds=16, seeds=2, parallel=4)
    for entry in entries(market)[0]:
        rows = comparison.learner_rows(entry, market, learner)
        assert {row["played_by"] for row in rows} == {"ppo_torch"}
        for row in rows:
            assert row["welfare"] <= row["first_best"] + 1e-9
            assert row["nash_conv"] >= 0
            assert row["band"] == "least and most of 2 seeds"
