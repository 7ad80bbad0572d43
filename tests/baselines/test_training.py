"""Training runs: files, exact resume, faults, and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from baselines import checkpoint
from baselines.training import Plan, Run, TrainConfig
from scripts import evaluate as evaluate_script
from scripts import train as train_script

ROOT = Path(__file__).parents[2]
QUICK = ["--steps", "60", "--seeds", "0..1", "--evaluations", "3", "--quiet"]


def final(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "final.csv")


@pytest.mark.parametrize(
    "learner, options",
    [
        ("best_response", []),
        ("hedge", ["--mechanism", "auction", "--prices", "grid"]),
        ("provider_0=q_learning,rest=best_response", ["--prices", "grid"]),
    ],
)
def test_a_run_leaves_the_promised_files(learner: str, options: list[str], tmp_path: Path) -> None:
    assert train_script.main(["--learner", learner, *options, *QUICK, "--out", str(tmp_path)]) == 0
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert list(metrics.columns[:2]) == ["seed", "step"]
    for column in (
        "nash_conv",
        "relative_regret",
        "levels_off",
        "welfare_ratio",
        "user_value",
        "overcompute",
    ):
        assert column in metrics
    assert len(metrics) == 6
    assert len(final(tmp_path)) == 2
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["state"] == "finished"
    assert manifest["config"]["learner"] == learner
    assert manifest["versions"]["numpy"] == np.__version__
    assert evaluate_script.main([str(tmp_path)]) == 0
    scored = pd.read_csv(tmp_path / "evaluation.csv")
    np.testing.assert_allclose(scored.nash_conv, final(tmp_path).nash_conv, rtol=1e-12)


@pytest.mark.parametrize(
    "learner", ["hedge", "epsilon_greedy", "q_learning", "nearest_improving", "exp3"]
)
def test_resume_gives_the_same_numbers(learner: str, tmp_path: Path) -> None:
    config = TrainConfig(learner=learner, steps=80, seeds="0,5", evaluations=4, demand="sampled")
    whole = Run(Plan.of(config)).train()
    interrupted = Run(Plan.of(config), tmp_path, keep_every=0.0)

    def stop(row: dict[str, object]) -> None:
        if row["step"] == 40 and row["seed"] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    interrupted.on_evaluation = stop
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    assert json.loads((tmp_path / "manifest.json").read_text())["state"] == "interrupted"
    resumed = Run(Plan.of(config), tmp_path).train()
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)


def test_a_folder_with_another_run_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main(["--learner", "hedge", *QUICK, "--out", str(tmp_path)]) == 0
    assert (
        train_script.main(["--learner", "hedge", "--beta", "200", *QUICK, "--out", str(tmp_path)])
        == 1
    )
    assert "beta: 1000.0 there, 200.0 now" in capsys.readouterr().err


def test_sigkill_while_writing_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from baselines import checkpoint, records
        target = Path({str(tmp_path)!r}) / "checkpoint.npz"
        checkpoint.save(target, {{"generation": 1, "weights": __import__("numpy").arange(1000.0)}})
        # The new file is written then, but not yet in place.
        records.os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
        checkpoint.save(target, {{"generation": 2}})
        """)
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    content = checkpoint.load(tmp_path / "checkpoint.npz")
    assert content["generation"] == 1
    assert content["weights"].sum() == 499500.0


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle of a run: the same command finishes it with the numbers of an unbroken
    run.
    """
    command = [
        sys.executable,
        "-m",
        "scripts.train",
        "--learner",
        "hedge",
        "--steps",
        "1500",
        "--seeds",
        "0..1",
        "--evaluations",
        "4",
        "--quiet",
        "--keep-every",
        "0.1",
    ]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], cwd=ROOT)
    path = tmp_path / "killed" / "checkpoint.npz"
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert path.exists()
    subprocess.run([*command, "--out", str(tmp_path / "killed")], cwd=ROOT, check=True)
    subprocess.run([*command, "--out", str(tmp_path / "whole")], cwd=ROOT, check=True)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "killed" / "metrics.csv"),
        pd.read_csv(tmp_path / "whole" / "metrics.csv"),
        check_exact=True,
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--learner", "wizard"], "learner 'wizard' is unknown; choose random, constant"),
        (
            ["--learner", "constant:level=5"],
            "level 5 is unknown: provider_0 has levels 1, 4, 8, 16, 32, 64",
        ),
        (["--learner", "provider_99=hedge,rest=ucb"], "provider 'provider_99' is unknown"),
        (["--mechanism", "lottery"], "mechanism 'lottery' is unknown; choose market, auction"),
        (["--seeds", "x"], "write 0..9, or 0,3,7"),
        (["--evaluations", "0"], "evaluations is 0"),
    ],
)
def test_bad_input_lists_what_exists(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main([*arguments, "--quiet", "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_evaluate_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_script.main([str(tmp_path)]) == 1
    assert "holds no checkpoint.npz; train first" in capsys.readouterr().err
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 nonsense")
    assert evaluate_script.main([str(tmp_path)]) == 1


def test_not_a_number_stops_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ttc_env.game import rounds

    shares = rounds.logit_shares
    monkeypatch.setattr(
        rounds, "logit_shares", lambda *args: tuple(x * np.nan for x in shares(*args))
    )
    assert train_script.main(["--learner", "ucb", *QUICK, "--out", str(tmp_path)]) == 1
    assert (
        "reward is nan in round 1 for provider_0 ('Llama-3-8B'), seed 0, market gsm8k majority"
        in capsys.readouterr().err
    )
    assert json.loads((tmp_path / "manifest.json").read_text())["state"] != "finished"


def test_help_names_every_option_and_learner(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train_script.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in (
        "--learner",
        "--mechanism",
        "--prices",
        "--benchmark",
        "--method",
        "--beta",
        "--seeds",
        "--steps",
        "--out",
        "regret_matching_plus",
        "ppo_torch",
    ):
        assert word in text


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["ppo", "ppo_torch", "a2c"])
def test_torch_learners_resume_and_log(learner: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("stable_baselines3")
    config = TrainConfig(
        learner=f"provider_0={learner},provider_1={learner},rest=best_response",
        steps=160,
        parallel=4,
        seeds="0..1",
        evaluations=4,
    )
    whole = Run(Plan.of(config)).train()
    interrupted = Run(Plan.of(config), tmp_path)

    def stop(row: dict[str, object]) -> None:
        if row["step"] == 80 and row["seed"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    interrupted.on_evaluation = stop
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    resumed = Run(Plan.of(config), tmp_path).train()
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    pytest.importorskip("tensorboard")
    assert list((tmp_path / "tensorboard" / "seed_0").iterdir())
