"""Sweeps of learners: the table is what single runs end in, whoever computes it."""

import pandas as pd
import pytest

from baselines.plan import Plan, TrainConfig
from baselines.sweeps import LearnerSweepConfig
from baselines.training import Run
from scripts import sweep

SMALL = """
betas = [200, 1000]
providers = ["Qwen2-7B", "Qwen2.5-7B"]
learners = ["best_response", "epsilon_greedy"]
seeds = [3, 0]
steps = 20
out = "learned"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "learners.toml").write_text(SMALL)
    return tmp_path


def test_rows_are_single_runs_and_do_not_depend_on_workers(folder, capsys):
    assert sweep.main(["learners.toml"]) == 0
    path = folder / capsys.readouterr().out.strip()
    found = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    assert len(found) == 8
    for row in found.to_dict("records"):
        config = TrainConfig(
            learner=row["learner"],
            providers="Qwen2-7B,Qwen2.5-7B",
            beta=row["beta"],
            seeds="0,3",  # here both seeds play at once
            steps=20,
            evaluations=1,
        )
        run = Run(Plan.of(config))
        run.train()
        final = run.final().set_index("seed").loc[row["seed"]].to_dict()
        assert {name: row[name] for name in final} == pytest.approx(final, nan_ok=True)
    assert sweep.main(["learners.toml", "--out", "again", "--shard", "2/3"]) == 0
    for one in (folder / "learned/cells").iterdir():
        assert one.read_bytes() == (folder / "again/cells" / one.name).read_bytes()


def test_the_example_can_be_run_as_it_is(folder, capsys):
    assert sweep.main(["--example"]) == 0
    (folder / "example.toml").write_text(capsys.readouterr().out)
    assert sweep.main(["example.toml", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "270 of 270 cells are missing in results/learners" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learners", "hedge,unknown"], "unknown"),
        (["--learners", "hedge:speed=9"], "speed"),
        (["--seeds", "1,1"], "each once"),
        (["--workers", "0"], "must be positive"),
    ],
)
def test_bad_input_is_one_line_and_nothing_runs(folder, capsys, arguments, message):
    assert sweep.main(["learners.toml", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "learned").exists()


def test_names_tell_cells_apart():
    config = LearnerSweepConfig(learners=["ucb", "exp3"], betas=[1.0, 2.0], steps=10)
    names = [cell.name for cell in config.cells()]
    assert len(set(names)) == len(names) == 12
    assert set(names).isdisjoint(
        cell.name for cell in LearnerSweepConfig(learners=["ucb"], steps=11).cells()
    )
