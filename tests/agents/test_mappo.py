"""MAPPO's critics read the global state, and its actors do not."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import agents  # noqa: E402
import ttc_env  # noqa: E402
from agents import Arena, make_agents  # noqa: E402
from agents.mappo import MAPPO  # noqa: E402
from baselines.evaluation import Evaluator  # noqa: E402
from ttc_env.envs.config import EnvConfig, make_config  # noqa: E402

SMALL = ["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"]


def small(**options: object) -> EnvConfig:
    return make_config(
        "market", "gsm8k", "majority", providers=SMALL, prices="fixed", infos="basic", **options
    )


def test_critics_are_told_the_state_that_the_environment_gives() -> None:
    config = small(max_cycles=3)
    env = ttc_env.parallel_env(
        benchmark="gsm8k", method="majority", providers=SMALL, prices="fixed", max_cycles=3
    )
    env.reset(seed=0)
    arena = Arena(config, make_agents(config, "mappo:steps=8", seeds=[4], horizon=8), [4])
    (agent,) = arena.agents
    for t in range(6):
        before = env.state()
        arena.step()
        told = agent.last
        assert told is not None
        assert told.state is not None
        assert told.next_state is not None
        np.testing.assert_array_equal(told.state[0], before)
        env.step(dict(zip(env.agents, told.action[:, 0].tolist(), strict=True)))
        np.testing.assert_array_equal(told.next_state[0], env.state())
        if not env.agents:
            assert t % 3 == 2
            env.reset()


def test_an_actor_does_not_see_its_rivals_costs() -> None:
    """The critic's input is the longer; the actor's is what one provider observes."""
    config = small()
    arena = Arena(config, make_agents(config, "mappo", seeds=[0, 1], horizon=8), [0, 1])
    (agent,) = arena.agents
    assert isinstance(agent, MAPPO)
    weights = agent.networks.weights
    assert weights["actor1.weight"].shape[1] == agent.role.observation_size
    assert weights["critic1.weight"].shape[1] == agent.role.state_size
    assert agent.role.state_size > agent.role.observation_size
    (one, *_) = agent.policies()
    assert len(one["layers"][0]["weight"]) == agent.role.observation_size


def test_opponents_cannot_train_by_a_state_that_is_not_shown() -> None:
    with pytest.raises(ValueError, match="global state"):
        ttc_env.ProviderEnv(opponent=agents.opponents("mappo"), prices="fixed")


@pytest.mark.slow
@pytest.mark.parametrize("discount", ["0", "0.5"])
def test_finds_the_equilibrium_of_a_small_market(discount: str) -> None:
    config, seeds = small(), range(32)
    learner = f"mappo:discount={float(discount)}"
    arena = Arena(config, make_agents(config, learner, seeds=seeds, horizon=200), seeds)
    for _ in range(200):
        arena.step()
    row = Evaluator(config).score(arena.strategies()[:, :, 0])
    assert row["relative_regret"] <= 0.03
    assert row["welfare_to_equilibrium"] == pytest.approx(1.0, abs=0.03)
