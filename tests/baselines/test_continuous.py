"""Runs of PPO with continuous actions: files, exact resume, kept policies, and the command line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

import ttc_env
from agents import checkpoint, load_policies, load_policy
from baselines.continuous import ContinuousArena, ContinuousConfig, ContinuousPlan, ContinuousRun
from baselines.learned import Curves
from scripts import evaluate as evaluate_script
from scripts import train as train_script
from scripts import train_continuous as script

SMALL = ["--providers", "Llama-3-8B,Qwen2-7B", "--parallel", "4", "--max-cycles", "5", "--quiet"]
QUICK = [*SMALL, "--seeds", "3..4", "--steps", "80", "--evaluations", "2"]


def trained(folder: Path, *arguments: str) -> Path:
    assert script.main([*QUICK, *arguments, "--out", str(folder)]) == 0
    return folder


def table(folder: Path, name: str = "metrics") -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


def test_a_run_leaves_the_files_of_every_run(tmp_path: Path) -> None:
    trained(tmp_path)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")}
    seeds = {f"{part}/seed_{seed}.npz" for part in ("policies", "checkpoints") for seed in (3, 4)}
    assert files >= {"manifest.json", "metrics.csv", "final.csv", *seeds}
    assert table(tmp_path)[["seed", "step"]].to_numpy().tolist() == [
        [seed, step] for seed in (3, 4) for step in (0, 40, 80)
    ]
    assert table(tmp_path, "final")[["seed", "step"]].to_numpy().tolist() == [[3, 80], [4, 80]]
    with pytest.raises(ValueError, match="continuous actions, which are not shown here"):
        Curves.read(tmp_path)


@pytest.mark.parametrize("distribution", ["beta", "gaussian"])
@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_kept_policies_play_what_was_learned(
    mechanism: str, distribution: str, tmp_path: Path
) -> None:
    learner = f"ppo_continuous:rate=0.01:distribution={distribution}"
    trained(tmp_path, "--mechanism", mechanism, "--learner", learner)
    policies = load_policies(tmp_path, seed=4)
    # as the learner itself, in torch, from its checkpoint
    kept = checkpoint.load(tmp_path / "checkpoints" / "seed_4.npz")
    config = ContinuousConfig(**kept["config"])
    arena = ContinuousPlan.of(config).arena((4,))
    arena.load_state_dict(kept["arena"])
    joint = policies.joint(arena.learner.seen.swapaxes(0, 1))
    np.testing.assert_allclose(joint.swapaxes(0, 1), arena.learner.play(), rtol=0, atol=1e-5)
    other = load_policies(tmp_path, seed=3).joint(arena.learner.seen.swapaxes(0, 1))
    assert not np.allclose(joint, other, rtol=0, atol=1e-3)
    # in PettingZoo, and as the policy of one provider and of its opponents
    env = ttc_env.parallel_env(**policies.options)
    seen, _ = env.reset(seed=1)
    rewards = []
    for _ in range(4):
        actions = {agent: policies[agent](seen[agent]) for agent in env.agents}
        assert all(env.action_space(agent).contains(x) for agent, x in actions.items())
        seen, earned, *_ = env.step(actions)
        rewards.append(list(earned.values()))
    single = gymnasium.make(
        "ttc_env/Provider-v0", opponent=policies, provider=1, **policies.options
    )
    policy = load_policy(tmp_path, seed=4, provider=1)
    own, _ = single.reset(seed=1)
    assert single.action_space.contains(policy(own))
    _, reward, *_ = single.step(policy(own))
    assert reward == pytest.approx(rewards[0][1])
    with pytest.raises(ValueError, match="call the policy"):
        policy.strategy(own[None])


def test_evaluate_scores_a_saved_run_as_the_run_did(tmp_path: Path) -> None:
    trained(tmp_path)
    assert evaluate_script.main([str(tmp_path)]) == 0
    again, final = table(tmp_path, "evaluation"), table(tmp_path, "final")
    pd.testing.assert_frame_equal(again, final, rtol=1e-4)
    assert len(set(final.nash_conv)) == 2


def test_an_interrupted_run_goes_on_exactly_and_trains_no_seed_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = ContinuousArena.step, []

    def interrupted_step(arena: ContinuousArena) -> None:
        seen.append(arena.round)
        if len(seen) == 33:  # in the second seed
            os.kill(os.getpid(), signal.SIGINT)
        step(arena)

    out = [*QUICK, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(ContinuousArena, "step", interrupted_step)
        before = signal.getsignal(signal.SIGINT)
        status = script.main(out)
        signal.signal(signal.SIGINT, before)
        assert status == 130
        assert "saved to" in capsys.readouterr().err
        assert seen == [*range(20), *range(13)]
        assert not (tmp_path / "run" / "final.csv").exists()
        seen[:] = [0] * 40
        assert script.main(out) == 0
        assert seen[40:] == list(range(13, 20)), "only what was left is trained"
        assert script.main(out) == 0
        assert len(seen) == 47
    trained(tmp_path / "whole")
    for name in ("metrics", "final"):
        pd.testing.assert_frame_equal(
            table(tmp_path / "run", name), table(tmp_path / "whole", name), check_exact=True
        )


def test_curves_of_ones_own_are_trained_on_and_kept(tmp_path: Path) -> None:
    curves = tmp_path / "own.csv"
    curves.write_text(
        "provider,level,accuracy,tokens,price_per_token\n"
        "A,1,0.4,100,1e-6\nA,4,0.6,400,1e-6\nB,1,0.5,100,2e-6\nB,4,0.7,400,2e-6\n"
    )
    run = tmp_path / "run"
    arguments = ["--market", str(curves), "--alpha", "0.01", "--parallel", "4", "--steps", "40"]
    arguments += ["--seeds", "0", "--evaluations", "1", "--quiet", "--out", str(run)]
    assert script.main(arguments) == 0
    curves.unlink()
    assert load_policies(run).config.market.num_providers == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--learner", "ucb"], "with continuous actions it is 'ppo_continuous'"),
        (["--learner", "ppo_continuous:rate=-1"], "rate is -1; it must be a finite number > 0"),
        (["--learner", "ppo_continuous:speed=1"], "has no option speed; it has steps, epochs"),
        (["--learner", "ppo_continuous:horizon=1"], "has no option horizon"),
        (["--prices", "fixed"], "prices is 'fixed', which is no range of prices"),
        (["--misreport", "over_report=1.25"], "no formula for best replies"),
        (["--seeds", "x"], "write 0..9, or 0,3,7"),
        (["--parallel", "0"], "parallel is 0"),
        (["--market", "nowhere.csv", "--alpha", "1"], "no curve file nowhere.csv"),
        (["--providers", "Qwen9"], "no provider 'Qwen9'"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([*SMALL, *arguments, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1, "one line"
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_to_is_one_line_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(ContinuousRun, "train", lambda _: pytest.fail("trained"))
    assert script.main([*QUICK, "--out", str(tmp_path / "file" / "run")]) == 1
    told = capsys.readouterr().err
    assert "Not a directory; name another" in told
    assert told.count("\n") == 1


def test_another_run_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path)
    changed = [*QUICK, "--beta", "200", "--out", str(tmp_path)]
    assert script.main(changed) == 1
    assert "a run with another config (beta: None there, 200.0 now)" in capsys.readouterr().err
    other = ["--learner", "ppo_torch", *QUICK, "--out", str(tmp_path)]
    assert train_script.main(other) == 1
    assert "another config (learner: 'ppo_continuous' there" in capsys.readouterr().err
