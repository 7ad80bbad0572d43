"""Lies in the environments: what is shown, what is drawn, and continuous prices."""

import gymnasium
import numpy as np
import pettingzoo
import pytest

import ttc_env
from tests.variants import UNEVEN
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.solve import solve

LIES = {"misreport": {"over_report": 2.0, "under_serve": 1}, "prices": "fixed", "market": UNEVEN}


def test_observations_show_what_users_see():
    env = ttc_env.parallel_env(**LIES, users=10)
    env.reset(seed=0)
    honest = {agent: np.array([0, 0]) for agent in env.agents}
    announced = {**honest, "provider_0": np.array([1, 0])}
    lie = {**honest, "provider_0": np.array([0, 2])}  # announces level 1, serves level 0
    at = env.unwrapped.layout.slices["public_quality"]
    seen = []
    for actions in (honest, announced, lie):
        env.reset(seed=0)
        observations, _, _, _, infos = env.step(actions)
        seen.append(observations["provider_1"][at])
    np.testing.assert_array_equal(seen[2], seen[1])
    assert (seen[2] != seen[0]).any()
    info = infos["provider_0"]
    assert (info["level"], info["report"]) == (0, 2)
    assert info["quality"] == UNEVEN.quality[0, 0]
    assert info["seen"] == UNEVEN.quality[0, 1]
    assert info["price"] == info["payment"] == UNEVEN.price[0, 1]
    assert "report" not in ttc_env.parallel_env().reset()[1]["provider_0"]


def test_an_over_report_is_in_the_bill_alone():
    env = ttc_env.parallel_env(**LIES, users=10)
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step({agent: np.array([0, 1]) for agent in env.agents})
    info = infos["provider_0"]
    assert info["payment"] == pytest.approx(2 * info["price"])
    cost = UNEVEN.cost[0, 0]
    assert rewards["provider_0"] == pytest.approx(
        10 * info["share"] * (2 * UNEVEN.price[0, 0] - cost), rel=1e-12
    )


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_fines_are_drawn_as_lies_are_found(backend):
    if backend == "torch":
        pytest.importorskip("torch")
    options = {**LIES, "audit_rate": 0.3, "fine": 0.4, "demand": "sampled", "users": 50}
    count = 4000 if backend == "numpy" else 300  # torch's binomial draws are slow on a CPU
    env = ttc_env.vector_env(count, backend=backend, infos="full", **options)
    env.reset(seed=1)
    actions = np.zeros((count, 3, 2), np.int64)
    actions[:, 0, 1] = 1  # one provider bills twice its tokens
    if backend == "torch":
        import torch

        actions = torch.as_tensor(actions)
    _, rewards, *_, infos = env.step(actions)
    rewards = np.asarray(rewards)
    served, caught = infos["served"], infos["caught"]
    assert (caught <= served).all()
    assert (caught[:, 1:] == 0).all()
    bill = np.array([2 * UNEVEN.price[0, 0], UNEVEN.price[1, 0], UNEVEN.price[2, 0]])
    expected = served * (bill - UNEVEN.cost[:, 0]) - 0.4 * caught
    np.testing.assert_allclose(rewards, expected, rtol=1e-12, atol=1e-12)
    assert caught[:, 0].sum() / served[:, 0].sum() == pytest.approx(
        0.3, abs=5 * np.sqrt(0.21 / served[:, 0].sum())
    )
    error = rewards.std(axis=0) / np.sqrt(len(rewards))
    assert (np.abs(rewards.mean(axis=0) - 50 * infos["utility"][0]) < 5 * error).all()
    # the same in one environment
    one = ttc_env.parallel_env(**options)
    one.reset(seed=3)
    _, rewards, _, _, infos = one.step(
        dict(zip(one.agents, np.array([[0, 1], [0, 0], [0, 0]]), strict=True))
    )
    info = infos["provider_0"]
    assert rewards["provider_0"] == pytest.approx(
        info["served"] * (bill[0] - UNEVEN.cost[0, 0]) - 0.4 * info["caught"]
    )


def test_continuous_prices_with_bills_that_are_not_the_price():
    options = {"misreport": {"over_report": 2.0}, "actions": "continuous", "market": UNEVEN}
    with pytest.raises(ValueError, match=r"no formula for best replies.*infos='basic'"):
        ttc_env.parallel_env(**options)
    env = ttc_env.parallel_env(**options, infos="basic", users=1)
    env.reset(seed=0)
    config = env.unwrapped.config
    box = {
        agent: config.box_action(i, 0, 1.0, report=1 if i == 0 else 0)
        for i, agent in enumerate(env.agents)
    }
    _, rewards, *_ = env.step(box)
    mechanism = make_mechanism("market", misreport={"over_report": 2.0})
    played = mechanism.play(mechanism.offers(UNEVEN).take(np.array([1, 0, 0])), UNEVEN)
    np.testing.assert_allclose(list(rewards.values()), played.utility, rtol=1e-6)
    assert env.unwrapped.last_round.payment[0] == pytest.approx(2 * UNEVEN.price[0, 0])
    with pytest.raises(ValueError, match="a liar bills another price"):
        env.unwrapped.solve()


def test_continuous_prices_with_lies_are_the_limit_of_fine_grids():
    world = UNEVEN.replace(beta=8.0)
    options = {"misreport": {"under_serve": "every"}, "fine": 0.03}
    dial = ttc_env.parallel_env(market=world, actions="continuous", **options).unwrapped
    found = dial.solve()
    fine = solve(world, make_mechanism("market", tuple(np.geomspace(0.8, 64, 500)), **options))
    assert found.converged
    assert found.welfare == pytest.approx(fine.welfare, rel=2e-3)
    level, _, report = fine.split(fine.worst)
    np.testing.assert_array_equal(found.lowest_levels, level)
    np.testing.assert_array_equal(found.lowest_reports, report)
    assert report.any()
    # opponents play it
    env = gymnasium.make(
        "ttc_env/Provider-v0", opponent="equilibrium", market=world, actions="continuous", **options
    )
    env.reset(seed=0)
    seen, _ = dial.config.mechanism.terms(world)
    choice = float(found.lowest.price[0] / seen[0][0, level[0], report[0]])
    own = env.unwrapped.config.box_action(0, int(level[0]), choice, int(report[0]))
    *_, info = env.step(own)
    assert info["regret"] <= 1e-4 * abs(info["utility"])


@pytest.mark.parametrize("opponent", ["equilibrium", "truthful", "best_response"])
def test_one_provider_s_view_of_liars(opponent):
    env = gymnasium.make("ttc_env/Provider-v0", opponent=opponent, **LIES, max_cycles=5)
    env.reset(seed=0)
    for _ in range(5):
        *_, info = env.step(np.array([0, 1]))
    assert info["report"] == 1


@pytest.mark.skipif(not hasattr(pettingzoo, "make"), reason="ids: PettingZoo 1.27 or newer")
def test_the_id_with_misreports():
    env = pettingzoo.make("parallel", "ttc_env/AuctionMisreport-v0", benchmark="aime")
    mechanism = env.unwrapped.config.mechanism
    assert [str(report) for report in mechanism.reports(env.unwrapped.market)] == [
        "truth", "over_claim 0.8", "over_claim 1.25",
    ]  # fmt: skip
    assert env.unwrapped.solve().lies.all()
