"""Scores of kept policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts import evaluate as evaluate_script
from scripts import train as train_script

QUICK = ["--steps", "60", "--seeds", "0..1", "--evaluations", "3", "--quiet"]


def final(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "final.csv")


def test_evaluate_scores_every_seed_of_a_learner_that_trains_them_in_turn(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    options = ["--learner", "ppo_torch", "--parallel", "2", *QUICK, "--out", str(tmp_path)]
    assert train_script.main(options) == 0
    assert evaluate_script.main([str(tmp_path)]) == 0
    scored = pd.read_csv(tmp_path / "evaluation.csv")
    assert list(scored.seed) == [0, 1]
    np.testing.assert_allclose(scored.nash_conv, final(tmp_path).nash_conv, rtol=1e-9)


def test_evaluate_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_script.main([str(tmp_path)]) == 1
    assert "holds no policies; train first" in capsys.readouterr().err
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "seed_0.npz").write_bytes(b"PK\x03\x04 nonsense")
    assert evaluate_script.main([str(tmp_path)]) == 1
