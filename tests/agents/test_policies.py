"""What was learned is kept, loaded and played: in PettingZoo, in Provider-v0, in any batch."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import ttc_env
from agents import AGENTS, NEED_SB3, NEED_TORCH, Policies, load_policies, load_policy
from baselines.evaluation import Evaluator
from baselines.plan import Plan, TrainConfig
from baselines.training import Run, evaluate_policies

SMALL = {"providers": "Llama-3-8B,Qwen2-7B,Qwen2.5-3B", "max_cycles": 5}


def trained(learner: str, folder: Path, **options: object) -> Run:
    """A short run of two seeds in a small market."""
    names = {part.split("=")[-1] for part in learner.split(",")}
    if names & NEED_TORCH:
        pytest.importorskip("torch")
    if names & NEED_SB3:
        pytest.importorskip("stable_baselines3")
    config = TrainConfig(
        learner=learner,
        **{"steps": 40, "parallel": 4, "seeds": "3,8", "evaluations": 1, **SMALL, **options},
    )
    run = Run(Plan.of(config), folder)
    run.train()
    return run


def play(policies: Policies, rounds: int = 4) -> list[list[float]]:
    """Rewards of a PettingZoo episode."""
    env = ttc_env.parallel_env(**policies.options)
    seen, _ = env.reset(seed=1)
    rewards = []
    for _ in range(rounds):
        seen, earned, *_ = env.step({agent: policies[agent](seen[agent]) for agent in env.agents})
        rewards.append(list(earned.values()))
    return rewards


@pytest.mark.parametrize("prices", ["fixed", "grid"])
@pytest.mark.parametrize("learner", AGENTS)
def test_every_learner_plays_everywhere_after_loading(
    learner: str, prices: str, tmp_path: Path
) -> None:
    trained(learner, tmp_path, prices=prices)
    policies = load_policies(tmp_path, seed=8)
    assert list(policies) == ["provider_0", "provider_1", "provider_2"]
    rewards = play(policies)
    # The same in a batch of another size than in training, and from a fresh load.
    again = load_policies(tmp_path, seed=8)
    env = ttc_env.vector_env(1, **again.options, observations="full")
    seen, _ = env.reset(seed=1)
    for expected in rewards:
        seen, earned, *_ = env.step(again.joint(seen))
        np.testing.assert_array_equal(earned[0], expected)
    many = ttc_env.vector_env(7, **again.options, observations="full")
    seen, _ = many.reset(seed=1)
    assert again.joint(seen).shape[:2] == (7, 3)
    many.step(again.joint(seen))
    # As the policy of one provider, and of its opponents.
    single = gymnasium.make(
        "ttc_env/Provider-v0", opponent=policies, provider=1, **policies.options
    )
    policy = load_policy(tmp_path, seed=8, provider="provider_1")
    own, _ = single.reset(seed=1)
    assert single.action_space.contains(policy(own))
    own, reward, *_ = single.step(policy(own))
    if "mixed" not in {p.content["form"] for p in policies.values()}:
        assert reward == rewards[0][1]


@pytest.mark.parametrize("learner", ["ppo_torch", "hedge", "q_learning", "provider_0=ppo,rest=ucb"])
def test_loaded_policies_score_as_the_run_did(learner: str, tmp_path: Path) -> None:
    run = trained(learner, tmp_path)
    for row in run.final().to_dict("records"):
        step, scores = evaluate_policies(tmp_path, row["seed"])
        assert step == row["step"]
        for name, value in scores.items():
            assert value == pytest.approx(row[name], rel=1e-12, nan_ok=True), name
    first, second = (load_policy(tmp_path, seed=seed).content for seed in (3, 8))
    assert str(first) != str(second), "each seed has its own policy"


def test_a_mixed_strategy_is_drawn_as_often_as_it_says(tmp_path: Path) -> None:
    trained("hedge", tmp_path)
    policy = load_policy(tmp_path, provider=2)
    chance = policy.strategy()[0]
    assert chance.max() < 0.999
    drawn = np.bincount(policy(np.zeros((20_000, 1))), minlength=len(chance)) / 20_000
    np.testing.assert_allclose(drawn, chance, atol=0.02)


@pytest.mark.parametrize("information", ["full", "prices"])
def test_a_q_learner_reads_its_state_off_what_it_sees(information: str, tmp_path: Path) -> None:
    """In every batch the action is that of its table after the round that was played."""
    run = trained("q_learning", tmp_path, information=information)
    agent = run._arena.agents[0]
    policies = load_policies(tmp_path, seed=3)
    env = ttc_env.vector_env(5, **policies.options, observations="full")
    env.reset(seed=0)
    levels = np.random.default_rng(0).integers(0, 6, (5, 3))
    seen, *_ = env.step(levels)
    states = levels @ np.array([36, 6, 1])
    for i, policy in enumerate(policies.values()):
        np.testing.assert_array_equal(policy(seen[:, i]), agent.table[i, states, :, 0].argmax(1))


def test_a_q_learner_among_many_remembers_the_leading_rival(tmp_path: Path) -> None:
    run = trained("q_learning", tmp_path, providers="", steps=60)
    agent = run._arena.agents[0]
    assert not agent.joint
    policies = load_policies(tmp_path, seed=3)
    env = ttc_env.vector_env(4, **policies.options, observations="full")
    env.reset(seed=0)
    levels = np.random.default_rng(0).integers(0, 6, (4, 9))
    seen, *_ = env.step(levels)
    expected = agent.successor(levels.T, env.last.share)
    for i, policy in enumerate(policies.values()):
        best = agent.table[i, expected[i], :, 0].argmax(axis=1)
        np.testing.assert_array_equal(policy(seen[:, i]), best)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no policies; train first"):
        load_policy(tmp_path)
    trained("ucb", tmp_path)
    with pytest.raises(ValueError, match="no policy of seed 4; it has seeds 3, 8"):
        load_policy(tmp_path, seed=4)
    with pytest.raises(ValueError, match="the run has provider_0, provider_1, provider_2"):
        load_policy(tmp_path, provider=3)


def test_another_observation_is_refused(tmp_path: Path) -> None:
    trained("ppo_torch", tmp_path)
    with pytest.raises(ValueError, match="observation has 7 entries"):
        load_policy(tmp_path)(np.zeros(7))


def test_a_run_on_own_curves_can_be_moved(tmp_path: Path) -> None:
    curves = tmp_path / "mine.csv"
    curves.write_text(
        "provider,level,accuracy,tokens,price_per_token\n"
        + "".join(
            f"{name},{level},{accuracy},{100 * level},1e-6\n"
            for name, start in (("A", 0.4), ("B", 0.5))
            for level, accuracy in ((1, start), (2, start + 0.2), (4, start + 0.25))
        )
    )
    trained("best_response", tmp_path / "run", market=str(curves), alpha=0.01, providers="")
    curves.unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    policies = load_policies(tmp_path / "moved", seed=3)
    assert policies.config.market.names == ("A", "B")
    assert Evaluator(policies.config).solution.welfare > 0
    assert len(play(policies)) == 4
