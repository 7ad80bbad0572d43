"""The figure of how learners come to the exact equilibrium."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from baselines import learning_curves
from baselines.labels import apart
from baselines.learning_curves import Curves, Reference
from scripts import plot_run, train
from scripts.report import run_content
from ttc_env.game.yardstick import first_best


def trained(folder: Path, learner: str, *options: str) -> Path:
    arguments = ["--learner", learner, "--steps", "40", "--seeds", "0..2", "--evaluations", "8"]
    assert train.main([*arguments, "--quiet", "--out", str(folder), *options]) == 0
    return folder


def test_runs_are_drawn_from_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        trained(tmp_path / "a", "hedge", "--spacing", "log"),
        trained(tmp_path / "b", "best_response"),
        trained(tmp_path / "c", "hedge", "--mechanism", "auction", "--prices", "grid"),
    ]
    assert plot_run.main([str(run) for run in runs]) == 0
    assert (tmp_path / "a" / "learning.png").read_bytes().startswith(b"\x89PNG")
    assert plot_run.main([str(tmp_path / "nowhere")]) == 1
    assert "holds no run; train first" in capsys.readouterr().err


def test_different_games_are_in_columns_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(learning_curves, "figure", drawn.append)
    monkeypatch.setattr(learning_curves, "save", lambda *_: None)
    few = ("--providers", "Qwen2-7B,Qwen2.5-7B")
    runs = [
        trained(tmp_path / "a", "hedge"),
        trained(tmp_path / "b", "ucb", "--alpha", "0.1"),
        trained(tmp_path / "c", "best_response", *few),
        trained(tmp_path / "d", "ucb", *few),
    ]
    plot_run.main([str(run) for run in runs])
    (games,) = drawn
    assert [[run.label for run in game.runs] for game in games] == [
        ["hedge"],
        ["ucb"],
        ["best_response", "ucb"],
    ]
    assert games[1].title == "market, gsm8k majority, prices fixed, beta 1000, alpha 0.1"


def test_many_runs_of_one_learner_have_colours_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(learning_curves, "figure", drawn.append)
    monkeypatch.setattr(learning_curves, "save", lambda *_: None)
    run = trained(tmp_path, "hedge")
    learning_curves.plot_run([run] * 25, tmp_path / "x.png")
    colours = [one.colour for one in drawn[0][0].runs]
    assert len(set(colours)) == 20, "its own is among tab20"


def test_games_without_a_pure_equilibrium_are_drawn(tmp_path: Path) -> None:
    types = "types=weight=0.5 beta=10; weight=0.5 beta=100000"
    run = trained(tmp_path, "best_response", "--options", types)
    assert np.isnan(Reference(Curves.read(run).plan).landmarks("welfare").lowest)
    assert plot_run.main([str(run)]) == 0
    with pytest.raises(ValueError, match="no pure equilibrium"):
        run_content(run)


def test_curves_begin_before_the_first_round_and_carry_a_band(tmp_path: Path) -> None:
    curves = Curves.read(trained(tmp_path, "nearest_improving", "--spacing", "log"))
    band = curves.band("relative_regret")
    assert band.step.iloc[0] == 0
    assert list(band.step[1:4]) == [2, 3, 4]
    assert (band.low <= band.value).all()
    assert (band.value <= band.high).all()
    assert band.value.iloc[-1] < band.value.iloc[0]


def test_the_reference_is_the_solver(tmp_path: Path) -> None:
    run = Curves.read(trained(tmp_path, "best_response", "--steps", "200"))
    for column in ("overcompute", "welfare"):
        exact = Reference(run.plan).landmarks(column)
        assert exact.lowest == pytest.approx(exact.highest), "one equilibrium"
        assert run.band(column).value.iloc[-1] == pytest.approx(exact.lowest)
    assert exact.lowest < exact.optimum
    auction = Curves.read(trained(tmp_path / "x", "truthful", "--mechanism", "auction"))
    exact = Reference(auction.plan).landmarks("overcompute")
    assert (exact.lowest, exact.highest, exact.optimum) == (0.0, 0.0, 0.0)
    exact = Reference(auction.plan).landmarks("welfare")
    best = first_best(auction.plan.environment.market)
    assert (exact.lowest, exact.optimum) == pytest.approx((best, best))
    assert exact.random < exact.lowest


def test_labels_do_not_cover_each_other() -> None:
    places = apart([0.0, 2.0, 0.1, 0.1], step=0.5)
    assert places == pytest.approx([0.0, 2.0, 0.5, 1.0])
