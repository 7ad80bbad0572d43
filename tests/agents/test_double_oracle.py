"""Double oracle ends in equilibria of the whole game, and says whether it did."""

from __future__ import annotations

import numpy as np
import pytest

import ttc_env
from agents import Arena, make_agents
from agents.double_oracle import DoubleOracle
from baselines.evaluation import Evaluator
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.game.rules.user_types import UserType

SMALL = ["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"]


def run(config: EnvConfig, learner: str, rounds: int, seeds: range) -> tuple[Arena, DoubleOracle]:
    arena = Arena(config, make_agents(config, learner, seeds=seeds, horizon=rounds), seeds)
    for _ in range(rounds):
        arena.step()
    (agent,) = arena.agents
    assert isinstance(agent, DoubleOracle)
    return arena, agent


@pytest.mark.parametrize("prices", ["fixed", "grid"])
@pytest.mark.parametrize("game", [("gsm8k", "majority"), ("aime", "reasoning")])
def test_certifies_an_equilibrium_of_the_market(game: tuple[str, str], prices: str) -> None:
    config = make_config("market", *game, prices=prices, infos="basic")
    arena, agent = run(config, "double_oracle", 25, range(4))
    assert agent.certified.all()
    evaluator = Evaluator(config)
    for strategy in np.moveaxis(arena.strategies(), 2, 0):
        row = evaluator.score(strategy)
        assert row["nash_conv"] <= 1e-9 * row["welfare"]
        assert row["levels_off"] == 0.0
        assert row["welfare_to_equilibrium"] == pytest.approx(1.0, rel=1e-9)
    # It looked at a part of the game alone.
    there = ~np.isnan(config.table.quality)
    assert (agent.chosen.sum(axis=1) < there.sum(axis=1)[:, None]).any()


def test_ends_in_an_equilibrium_of_the_auction() -> None:
    """One in which nobody gains: rivals that cannot win may still ask anything."""
    config = make_config("auction", "gsm8k", "majority", prices="grid", infos="basic")
    arena, agent = run(config, "double_oracle", 40, range(4))
    assert agent.certified.all()
    for strategy in np.moveaxis(arena.strategies(), 2, 0):
        profile = strategy.argmax(axis=1)
        assert ttc_env.nash_conv(config.market, profile, config.mechanism) == 0.0


def test_is_not_done_before_every_reply_was_asked() -> None:
    config = make_config("market", "gsm8k", "majority", prices="fixed", infos="basic")
    _, agent = run(config, "double_oracle", 1, range(4))
    assert not agent.certified.any()
    assert (agent.gap > 0.01).all()


def test_mixes_where_no_pure_equilibrium_exists() -> None:
    """Half of the users ten times as careful: no pure equilibrium (tests/game/test_user_types)."""
    config = make_config(
        "market", "gsm8k", prices="fixed", infos="basic", types=[UserType(0.5), UserType(0.5, 1e4)]
    )
    solution = config.solve()
    assert solution.no_equilibrium  # type: ignore[union-attr]
    nearest = solution.least_regret.relative  # type: ignore[union-attr]
    _, agent = run(config, "double_oracle", 12, range(1))
    assert agent.done.all()
    assert not agent.certified.any()
    assert agent.meta.max(axis=1).min() < 0.99
    # Nearer to an equilibrium than any pure profile is.
    assert (agent.gap < 0.5 * nearest).all()


def test_a_learning_oracle_finds_the_equilibrium() -> None:
    config = make_config(
        "market", "gsm8k", "majority", providers=SMALL, prices="fixed", infos="basic"
    )
    learner = "double_oracle:oracle=ucb:oracle_rounds=400:oracle_markets=4"
    arena, agent = run(config, learner, 8, range(2))
    assert agent.done.all()
    evaluator = Evaluator(config)
    for strategy in np.moveaxis(arena.strategies(), 2, 0):
        assert evaluator.score(strategy)["relative_regret"] <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("oracle", ["ppo_torch", "dqn"])
def test_a_deep_oracle_finds_the_equilibrium(oracle: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("stable_baselines3")
    config = make_config(
        "market", "gsm8k", "majority", providers=SMALL, prices="fixed", infos="basic"
    )
    learner = f"double_oracle:oracle={oracle}:oracle_rounds=150:oracle_markets=32"
    arena, agent = run(config, learner, 6, range(1))
    assert agent.done.all()
    row = Evaluator(config).score(arena.strategies()[:, :, 0])
    assert row["relative_regret"] <= 0.03


def test_an_oracle_that_knows_the_solution_is_refused() -> None:
    config = make_config("market", "gsm8k", prices="fixed", infos="basic")
    with pytest.raises(ValueError, match="knows the game's solution"):
        make_agents(config, "double_oracle:oracle=equilibrium", seeds=[0], horizon=5)
    with pytest.raises(ValueError, match="oracle_markets is 0"):
        make_agents(config, "double_oracle:oracle_markets=0", seeds=[0], horizon=5)
