"""Learners end where theory says they must: inside the bracket of pure equilibria (GAME.md, theorem
3).
"""

from __future__ import annotations

import numpy as np
import pytest

import ttc_env
from agents import Arena, make_agents
from baselines.evaluation import Evaluator
from ttc_env.envs.config import EnvConfig, make_config

BETAS = (200.0, 1000.0, 100000.0)


def learned(config: EnvConfig, name: str, rounds: int, seeds: range) -> list[dict[str, float]]:
    arena = Arena(config, make_agents(config, name, seeds=seeds, horizon=rounds), seeds)
    for _ in range(rounds):
        arena.step()
    evaluator = Evaluator(config)
    return [evaluator.score(strategy) for strategy in np.moveaxis(arena.strategies(), 2, 0)]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(
    "name, rounds",
    [
        ("best_response", 200),
        ("nearest_improving", 700),
        ("fictitious_play", 600),
        ("double_oracle", 20),
    ],
)
def test_dynamics_end_at_an_equilibrium_from_anywhere(name: str, rounds: int, beta: float) -> None:
    config = make_config("market", "gpqa", "majority", prices="fixed", beta=beta, infos="basic")
    for row in learned(config, name, rounds, range(5)):
        assert row["largest_counted_regret"] <= 1e-6
        assert row["inside_bracket"] == 1.0


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(
    "name",
    ["hedge", "optimistic_hedge", "replicator", "regret_matching", "regret_matching_plus"],
)
def test_no_regret_play_is_near_equilibrium_at_any_beta(name: str, beta: float) -> None:
    config = make_config("market", "gsm8k", "majority", prices="fixed", beta=beta, infos="basic")
    for row in learned(config, name, 1000, range(3)):
        assert row["relative_regret"] <= 0.01
        assert row["welfare_to_equilibrium"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", ["optimistic_hedge", "replicator"])
def test_last_iterates_come_to_the_equilibrium_itself(name: str, beta: float) -> None:
    """At a constant rate; Hedge's falls, and after as long 0.1% of its play is still elsewhere."""
    config = make_config("market", "gsm8k", "majority", prices="fixed", beta=beta, infos="basic")
    for row in learned(config, name, 2000, range(2)):
        assert row["relative_regret"] <= 1e-7
        assert row["largest_counted_regret"] <= 1e-6


def test_best_response_from_the_lowest_and_highest_values_finds_both_ends_of_the_bracket() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        quality, price = rng.random((3, 4)), rng.random((3, 4)) * 0.8 + 0.1
        market = ttc_env.Market.from_arrays(
            quality, price, price * 0.8 * rng.random((3, 4)), beta=12.0
        )
        solution = ttc_env.solve(market)
        if len(solution.equilibria) == 2:
            break
    else:
        pytest.fail("no market with two equilibria among the draws")
    config = make_config("market", market=market, prices="fixed", infos="basic")
    ends = {tuple(level) for level in solution.equilibria}
    reached = set()
    for seed in range(30):
        arena = Arena(
            config, make_agents(config, "best_response", seeds=[seed], horizon=60), [seed]
        )
        for _ in range(60):
            arena.step()
        reached.add(tuple(arena.strategies()[:, :, 0].argmax(axis=1)))
    assert reached <= ends
    # Log-linear learning settles on the one with the larger potential.
    arena = Arena(
        config,
        make_agents(config, "logit_response:final_temperature=0.01", seeds=range(20), horizon=3000),
        range(20),
    )
    for _ in range(3000):
        arena.step()
    levels = arena.strategies().argmax(axis=1).T
    assert (levels == solution.potential_maximiser).all(axis=1).mean() > 0.5
    assert {tuple(level) for level in levels} <= ends


def test_bandits_find_the_equilibrium_of_a_small_market() -> None:
    config = make_config(
        "market",
        "gsm8k",
        "majority",
        providers=["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"],
        prices="fixed",
        infos="basic",
    )
    for name in ("epsilon_greedy", "ucb", "thompson", "exp3"):
        for row in learned(config, name, 3000, range(3)):
            assert row["welfare_to_equilibrium"] == pytest.approx(1.0, abs=0.02), name
            assert row["median_relative_regret"] <= 0.02, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, rounds",
    [("ppo_torch", 150), ("ppo", 150), ("ppo:share=true", 150), ("dqn", 250), ("a2c", 400)],
)
def test_rl_finds_the_equilibrium_of_a_small_market(name: str, rounds: int) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("stable_baselines3")
    config = make_config(
        "market",
        "gsm8k",
        "majority",
        providers=["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"],
        prices="fixed",
        infos="basic",
    )
    row = learned(config, name, rounds, range(32))[0]
    assert row["relative_regret"] <= 0.03
    assert row["welfare_to_equilibrium"] == pytest.approx(1.0, abs=0.03)
