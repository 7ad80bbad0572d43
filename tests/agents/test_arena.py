"""The batched markets play exactly what the PettingZoo environment plays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import ttc_env
from agents import Arena, ParallelMarkets, parse_learners, seat
from agents.arena import NotFinite
from agents.base import Payoffs, best, sample
from ttc_env.envs.config import make_config
from ttc_env.game.regret import compare


@pytest.mark.parametrize("information", ["full", "prices", "own"])
@pytest.mark.parametrize("mechanism, prices", [("market", "fixed"), ("market", "grid"), ("auction", "grid")])
def test_rewards_and_observations_equal_the_environments(mechanism: str, prices: str, information: str) -> None:
    options = {
        "mechanism": mechanism,
        "benchmark": "aime",
        "method": "majority",
        "prices": prices,
        "information": information,
        "max_cycles": 4,
    }
    env = ttc_env.parallel_env(**options)
    markets = ParallelMarkets(env.config, [0, 1, 2])
    rng = np.random.default_rng(0)
    seen, _ = env.reset(seed=0)
    for _ in range(4):
        np.testing.assert_array_equal(markets.observations()[:, 1], np.stack(list(seen.values())))
        actions = rng.integers(0, env.config.table.quality.shape[1], size=(env.market.num_providers, 3))
        rewards, shares = markets.play(actions)
        parts = [
            part
            for part, size in zip(env.config.mechanism.split(actions[:, 1], env.market), env.config.mechanism.grid(env.market), strict=True)
            if size > 1
        ]
        joint = np.stack(parts, axis=1) if len(parts) > 1 else parts[0]
        seen, earned, _, _, _ = env.step(dict(zip(env.agents, joint, strict=True)))
        np.testing.assert_allclose(rewards[:, 1], list(earned.values()), rtol=1e-13, atol=0)
        assert shares.shape == (env.market.num_providers, 3)
    assert markets.over


def test_payoffs_are_the_deviations_of_each_run() -> None:
    config = make_config("market", "gpqa", "best_of_n", beta=1e5, prices="fixed")
    markets = ParallelMarkets(config, [0, 1])
    actions = np.random.default_rng(1).integers(0, 6, size=(config.market.num_providers, 2))
    markets.play(actions)
    payoffs = markets.payoffs()
    for run in range(2):
        profit, log_share = config.mechanism.deviations(config.table, config.table.take(actions[:, run]), config.market)
        np.testing.assert_allclose(payoffs.profit[:, :, run], profit, rtol=1e-14)
        np.testing.assert_allclose(payoffs.log_share[:, :, run], log_share, rtol=1e-12)


def test_loss_is_the_relative_regret_of_each_action() -> None:
    rng = np.random.default_rng(2)
    profit, log_share = rng.normal(size=(4, 6, 1)), np.log(rng.random((4, 6, 1)))
    profit[3] = -np.abs(profit[3])
    profit[3, 2] = 0.0
    loss = Payoffs(profit, log_share).loss()[:, :, 0]
    for action in range(6):
        _, _, relative = compare(profit[:, :, 0], log_share[:, :, 0], profit[:, action, 0], log_share[:, action, 0])
        np.testing.assert_allclose(loss[:, action], np.minimum(relative, 2.0), rtol=1e-12, atol=1e-15)


def test_sampled_demand_pays_the_expected_reward_on_average() -> None:
    options = {"benchmark": "gsm8k", "method": "majority", "prices": "fixed", "users": 100}
    drawn = ParallelMarkets(make_config("market", demand="sampled", **options), range(400))
    expected = ParallelMarkets(make_config("market", **options), [0])
    actions = np.full((9, 400), 2)
    mean = drawn.play(actions)[0].mean(axis=1)
    assert np.abs(mean / expected.play(actions[:, :1])[0][:, 0] - 1.0).max() < 0.2


def test_not_a_number_names_step_provider_and_market() -> None:
    config = make_config("market", "gsm8k", "majority", prices="fixed")
    cost = config.table.cost.copy()
    cost[4, :] = np.nan
    config.__dict__["table"] = dataclasses.replace(config.table, cost=cost)
    markets = ParallelMarkets(config, [7])
    with pytest.raises(NotFinite, match=r"round 1 for provider_4 .*seed 7, market gsm8k majority, mechanism market, beta 1000"):
        markets.play(np.zeros((9, 1), dtype=int))


def test_inversion_never_picks_what_has_no_weight() -> None:
    strategy = np.array([[0.0, 0.5, 0.5, 0.0]])[:, :, None]
    for u in (0.0, 0.25, 0.5, 1.0 - 2**-53):
        assert sample(strategy, np.array([[u]]))[0, 0] in (1, 2)
    assert best(np.array([[[1.0], [3.0], [3.0]]]), np.array([[0.9]]))[0, 0] == 2


def test_learner_text() -> None:
    chosen = parse_learners("provider_0=constant:level=16, rest=best_response:order=random:tolerance=1e-6", 3)
    assert chosen == {
        0: ("constant", {"level": 16}),
        1: ("best_response", {"order": "random", "tolerance": 1e-6}),
        2: ("best_response", {"order": "random", "tolerance": 1e-6}),
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("wizard", "learner 'wizard' is unknown; choose random, constant"),
        ("provider_7=hedge,rest=ucb", "provider 'provider_7' is unknown; this market has provider_0, provider_1, provider_2"),
        ("provider_0=hedge", "provider_1 has no learner"),
        ("constant:16", "options are written constant:key=value"),
    ],
)
def test_learner_text_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_learners(text, 3)


def test_bad_options_list_what_exists() -> None:
    config = make_config("market", "gsm8k", "majority", prices="fixed")
    with pytest.raises(ValueError, match="level 5 is unknown: provider_0 has levels 1, 4, 8, 16, 32, 64"):
        seat(config, "constant:level=5", seeds=[0], horizon=10)
    with pytest.raises(TypeError, match="'hedge' has no option speed; it has scale"):
        seat(config, "hedge:speed=3", seeds=[0], horizon=10)
    with pytest.raises(ValueError, match="exactly one agent"):
        Arena(config, [], [0])
