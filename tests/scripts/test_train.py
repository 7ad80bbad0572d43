"""`scripts.train` ends in one line where a run cannot begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.plan import Plan
from scripts import train


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_no_checkpoint_every_negative_number_of_seconds(
    seconds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([f"--keep-every={seconds}", "--quiet", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told == f"error: keep-every is {seconds}; it must be seconds >= 0\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [MemoryError(), OverflowError("too large")])
@pytest.mark.parametrize("where", ["of", "arena", "evaluation_rounds"])
def test_a_run_that_does_not_fit_into_memory_is_one_line(
    where: str,
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(Plan, where, full)
    assert train.main(["--learner", "ucb", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "does not fit into memory; lower --parallel, --seeds, --evaluations or --steps" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_ctrl_c_before_training_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Plan, "of", interrupted)
    assert train.main(["--learner", "ucb", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "interrupted; no training was under way\n"
    assert not (tmp_path / "run").exists()


def test_what_is_not_known_is_not_told() -> None:
    row = {"seed": 3, "nash_conv": 1e-5, "relative_regret": 0.1, "welfare_ratio": 0.9}
    nothing = {"levels_off": float("nan"), "welfare_to_equilibrium": float("nan")}
    assert train.summary(row | nothing) == (
        "seed 3: NashConv 1e-05 USD, relative regret 10.000%, welfare 90.00% of the optimum; the"
        " game has no pure equilibrium"
    )
    known = {"levels_off": 0.5, "welfare_to_equilibrium": 1.0}
    assert train.summary(row | known).endswith("and 100.00% of the equilibrium's, 0.50 levels off")
