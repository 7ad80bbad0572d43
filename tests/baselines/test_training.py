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
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agents import Arena, checkpoint, load_policies
from baselines.interrupts import Interrupted
from baselines.lock import locked
from baselines.plan import Plan, TrainConfig
from baselines.training import Run
from scripts import evaluate as evaluate_script
from scripts import train as train_script

ROOT = Path(__file__).parents[2]
QUICK = ["--steps", "60", "--seeds", "0..1", "--evaluations", "3", "--quiet"]


def trained(config: TrainConfig, out: Path | None = None) -> pd.DataFrame:
    """The metrics of a run, from its last checkpoint if there is one."""
    run = Run(Plan.of(config), out)
    run.train()
    return run.metrics()


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
    assert len(metrics) == 8  # 2 seeds: before the first round, and 3 evaluations
    assert sorted(metrics.step.unique()) == [0, 20, 40, 60]
    assert final(tmp_path)[["seed", "step"]].to_numpy().tolist() == [[0, 60], [1, 60]]
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
    whole = trained(config)
    interrupted = Run(Plan.of(config), tmp_path, keep_every=0.0)

    def stop(row: dict[str, object]) -> None:
        if row["step"] == 40 and row["seed"] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    interrupted.on_evaluation = stop
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    assert json.loads((tmp_path / "manifest.json").read_text())["state"] == "interrupted"
    resumed = trained(config, tmp_path)
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)


def test_a_folder_with_another_run_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main(["--learner", "hedge", *QUICK, "--out", str(tmp_path)]) == 0
    assert (
        train_script.main(["--learner", "hedge", "--beta", "200", *QUICK, "--out", str(tmp_path)])
        == 1
    )
    assert "beta: None there, 200.0 now" in capsys.readouterr().err
    shorter = ["--learner", "ucb", *QUICK, "--steps", "30", "--out", str(tmp_path)]
    assert train_script.main(shorter) == 1
    assert "learner: 'hedge' there, 'ucb' now" in capsys.readouterr().err


def test_sigkill_while_writing_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from agents import checkpoint
        target = Path({str(tmp_path)!r}) / "checkpoint.npz"
        checkpoint.save(target, {{"generation": 1, "weights": __import__("numpy").arange(1000.0)}})
        # The new file is written then, but not yet in place.
        checkpoint.os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
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
    path = tmp_path / "killed" / "checkpoints" / "seed_0.npz"
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
        (["--mechanism", "lottery"], "mechanism 'lottery' is unknown; choose auction, first_score"),
        (["--seeds", "x"], "write 0..9, or 0,3,7"),
        (["--evaluations", "0"], "evaluations is 0"),
        (["--learner", "ucb:memory=abc"], "memory is 'abc'; it must be a number"),
        (["--learner", "ucb:speed=3"], "'ucb' has no option speed; it has memory, width, scale"),
        (
            ["--learner", "logit_response:temperature=-1"],
            "temperature is -1; it must be a finite number > 0",
        ),
        (["--market", "nowhere.csv", "--alpha", "1"], "no curve file nowhere.csv"),
        (["--prices", "1,x"], "prices is '1,x'; write numbers separated by commas"),
        (["--prices", "free"], "choose 'grid', 'fixed'"),
        (["--providers", "Qwen9"], "no provider 'Qwen9'; there are Llama-3-8B"),
        (["--misreport", "over_claim"], "misreport"),
        (["--options", "speed=3"], "speed"),
        (["--options", "speed"], "write key=value"),
    ],
)
def test_bad_input_lists_what_exists(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main([*arguments, "--quiet", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1, "one line"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "learner, message",
    [
        ("ppo:learning_rate=abc", "learning_rate is 'abc'; it must be a number"),
        ("ppo:n_steps=2.5", "n_steps is 2.5; it must be a whole number"),
        ("ppo:wings=2", "'ppo' has no option wings; it has share, scale, device, learning_rate"),
        ("dqn:buffer_size=true", "buffer_size is True; it must be a whole number"),
    ],
)
def test_bad_options_of_library_learners_list_what_exists(
    learner: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("stable_baselines3")
    arguments = ["--learner", learner, "--quiet", "--out", str(tmp_path / "run")]
    assert train_script.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_folder_that_cannot_be_written_to_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["--learner", "ucb", *QUICK, "--out", str(tmp_path / "file" / "run")]
    assert train_script.main(arguments) == 1
    told = capsys.readouterr().err
    assert "Not a directory; name another" in told
    assert told.count("\n") == 1


def test_a_longer_run_goes_on_where_the_shorter_one_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--learner", "hedge", "--seeds", "0..1", "--evaluations", "2", "--quiet"]
    folder = ["--out", str(tmp_path / "long")]
    assert train_script.main([*base, "--steps", "60", *folder]) == 0
    assert train_script.main([*base, "--steps", "120", *folder]) == 0
    at_once = ["--steps", "120", "--out", str(tmp_path / "at_once")]
    assert train_script.main([*base, *at_once]) == 0
    # Hedge has no schedule over the planned rounds.
    pd.testing.assert_frame_equal(
        final(tmp_path / "long"), final(tmp_path / "at_once"), check_exact=True
    )
    metrics = pd.read_csv(tmp_path / "long" / "metrics.csv")
    assert sorted(metrics[metrics.seed == 0].step) == [0, 30, 60, 120]
    notes = json.loads((tmp_path / "long" / "manifest.json").read_text())["notes"]
    assert notes == ["planned for 60 steps, then extended"]
    capsys.readouterr()
    assert train_script.main([*base, "--steps", "90", *folder]) == 1
    assert "a run of 120 steps; --steps can only grow" in capsys.readouterr().err
    # A finished run is not trained again.
    assert train_script.main([*base, "--steps", "120", *folder]) == 0


def test_two_processes_do_not_train_into_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path):
        program = (
            "import sys; from scripts import train;"
            f"sys.exit(train.main(['--learner', 'ucb', *{QUICK}, '--out', {str(tmp_path)!r}]))"
        )
        other = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert other.returncode == 1
    assert f"another process (process {os.getpid()}) is training into" in other.stderr
    assert train_script.main(["--learner", "ucb", *QUICK, "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_save_and_end_the_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(signal, name)
    config = ["--learner", "hedge", "--steps", "80", "--seeds", "0", "--evaluations", "4"]
    step = Arena.step

    def interrupted_step(arena: Arena) -> np.ndarray:
        if arena.round == 50:  # twice within a moment, as an impatient terminal does
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return step(arena)

    with monkeypatch.context() as patch:
        patch.setattr(Arena, "step", interrupted_step)
        before = signal.getsignal(signal.SIGINT)
        status = train_script.main([*config, "--quiet", "--out", str(tmp_path / "run")])
        signal.signal(signal.SIGINT, before)  # left ignored, so that nothing disturbs the exit
    assert status == 128 + number
    assert "interrupted; saved to" in capsys.readouterr().err
    assert load_policies(tmp_path / "run").step == 51
    assert train_script.main([*config, "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert train_script.main([*config, "--quiet", "--out", str(tmp_path / "whole")]) == 0
    pd.testing.assert_frame_equal(
        final(tmp_path / "run"), final(tmp_path / "whole"), check_exact=True
    )


def test_dqn_says_that_a_resumed_run_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("stable_baselines3")
    config = TrainConfig(
        learner="provider_0=dqn,rest=best_response",
        providers="Llama-3-8B,Qwen2-7B",
        steps=40,
        parallel=4,
        seeds="0",
        evaluations=2,
    )
    run = Run(Plan.of(config), tmp_path)
    run.on_evaluation = lambda row: os.kill(os.getpid(), signal.SIGTERM) if row["step"] else None
    with pytest.raises(Interrupted):
        run.train()
    again = Run(Plan.of(config), tmp_path)
    again.train()
    assert "empty replay buffer" in again.notes[0]
    assert json.loads((tmp_path / "manifest.json").read_text())["notes"] == again.notes


def test_logs_of_several_agents_have_tags_of_their_own_and_no_step_twice(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = TrainConfig(
        learner="provider_0=ppo_torch:hidden=8,rest=ppo_torch:hidden=4",
        providers="Llama-3-8B,Qwen2-7B",
        steps=128,
        parallel=2,
        seeds="0",
        evaluations=4,
    )
    run = Run(Plan.of(config), tmp_path)
    run.on_evaluation = lambda row: (
        os.kill(os.getpid(), signal.SIGTERM) if row["step"] == 64 else None
    )
    with pytest.raises(Interrupted):
        run.train()
    Run(Plan.of(config), tmp_path).train()
    events = accumulator.EventAccumulator(
        str(tmp_path / "tensorboard" / "seed_0"), purge_orphaned_data=False
    ).Reload()
    tags = events.Tags()["scalars"]
    assert {"ppo_torch_0/entropy", "ppo_torch_1/entropy", "play/nash_conv"} <= set(tags)
    for tag in tags:
        start = [0] if tag.startswith("play/") else []  # networks have nothing to tell before
        assert [event.step for event in events.Scalars(tag)] == [*start, 32, 64, 96, 128]


class StandIn:
    """Of Weights & Biases: what it was told."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.ended: list[int] = []

    def init(self, **options: Any) -> StandIn:
        self.runs.append(options)
        return self

    def finish(self, exit_code: int = 0) -> None:
        self.ended.append(exit_code)


def test_weights_and_biases_reads_the_tensorboard_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    told = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", told)
    command = ["--learner", "hedge", *QUICK, "--out", str(tmp_path / "run"), "--wandb", "games"]
    assert train_script.main(command) == 0
    # the same folder is the same run, which goes on
    assert train_script.main([*command, "--steps", "90"]) == 0
    first, second = told.runs
    assert first["project"] == "games"
    assert first["sync_tensorboard"] is True
    assert first["config"]["learner"] == "hedge"
    assert (first["id"], first["resume"]) == (second["id"], "allow")
    assert told.ended == [0, 0]
    events = list((tmp_path / "run" / "tensorboard" / "seed_1").glob("events*"))
    assert events, "hedge needs no torch, and is logged all the same"
    monkeypatch.setitem(sys.modules, "wandb", None)
    capsys.readouterr()
    assert train_script.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install wandb" in error


def test_a_stopped_run_ends_as_failed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    told = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", told)

    def interrupted(run: Run) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(Run, "train", interrupted)
    command = ["--learner", "hedge", *QUICK, "--out", str(tmp_path), "--wandb", "games"]
    handler = signal.getsignal(signal.SIGINT)  # a stopped command ignores it from then on
    try:
        assert train_script.main(command) == 128 + 15
    finally:
        signal.signal(signal.SIGINT, handler)
    assert told.ended == [1]


def test_a_killed_process_leaves_its_events_to_the_next_save(tmp_path: Path) -> None:
    """Logs are written with the checkpoint, so that going on from it repeats no step."""
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    config = TrainConfig(
        learner="ppo_torch:hidden=4",
        providers="Llama-3-8B,Qwen2-7B",
        steps=64,
        parallel=2,
        seeds="0",
        evaluations=2,
    )
    run = Run(Plan.of(config), tmp_path)

    def die(row: dict[str, object]) -> None:
        raise MemoryError  # stands for a kill: nothing is saved

    run.on_evaluation = die
    with pytest.raises(MemoryError):
        run.train()
    assert not (tmp_path / "tensorboard").exists()


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
    whole = trained(config)
    interrupted = Run(Plan.of(config), tmp_path)

    def stop(row: dict[str, object]) -> None:
        if row["step"] == 80 and row["seed"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    interrupted.on_evaluation = stop
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    resumed = trained(config, tmp_path)
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    pytest.importorskip("tensorboard")
    assert list((tmp_path / "tensorboard" / "seed_0").iterdir())
