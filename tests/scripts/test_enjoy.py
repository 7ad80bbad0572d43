"""Episodes of learned play, and of learners while they learn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agents import Arena, make_agents
from baselines.plan import TrainConfig
from scripts import enjoy
from scripts import train as train_script

QUICK = ["--steps", "60", "--seeds", "0..1", "--evaluations", "3", "--quiet"]


def test_enjoy_prints_every_round_and_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main(["--learner", "ucb", *QUICK, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert enjoy.main([str(tmp_path), "--seed", "1", "--rounds", "3"]) == 0
    text = capsys.readouterr().out
    assert "seed 1 after 60 steps; provider_0: ucb" in text
    assert text.count("users' value") == 3
    assert enjoy.main([str(tmp_path / "nowhere")]) == 1
    assert "train first" in capsys.readouterr().err
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    assert enjoy.main([str(tmp_path), "--rounds", "2", "--gif", str(tmp_path / "a.gif")]) == 0
    with image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 2


def test_enjoy_shows_learners_who_learn(capsys: pytest.CaptureFixture[str]) -> None:
    """Every round is that of the same learners in an arena of their own, up to the equilibrium."""
    options = ["--learner", "best_response", "--beta", "200", "--rounds", "12"]
    assert enjoy.main(options) == 0
    text = capsys.readouterr().out
    shown = re.findall(r"^Qwen2-7B +(\d+) .* ([\d.]+%)", text, flags=re.MULTILINE)
    config = TrainConfig(learner="best_response", beta=200.0).environment()
    arena = Arena(config, make_agents(config, "best_response", seeds=[0], horizon=12), [0])
    assert len(shown) == 12
    assert shown[0][0] != shown[-1][0] == "64"  # gsm8k's equilibrium
    for _, share in shown:
        arena.step()
        assert share == f"{arena.env.last.share.reshape(-1)[6]:.1%}"
    for wrong in (
        [],
        ["runs", "--learner", "ucb"],
        ["--learner", "ucb", "--video", "here"],
        ["runs", "--beta", "200"],
    ):
        with pytest.raises(SystemExit):
            enjoy.main(wrong)
