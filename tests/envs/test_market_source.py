"""Markets that are drawn at each reset: which one is played, and by whom it depends."""

import pickle

import gymnasium
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

import ttc_env
from ttc_env.testing import check_env


def of_rng(rng):
    return ttc_env.random_markets(1, num_providers=3, seed=rng)[0]


def several():
    return [ttc_env.load_market("gsm8k", beta=beta) for beta in (50.0, 1000.0, 1e5)]


SOURCES = {
    "a list": several,
    "a batch": lambda: ttc_env.random_markets(5, num_providers=3, seed=0),
    "a function": lambda: of_rng,
}


@pytest.mark.parametrize("name", SOURCES)
def test_each_reset_draws_one_and_all_is_about_it(name):
    env = ttc_env.parallel_env(market=SOURCES[name](), prices="fixed").unwrapped
    seen = set()
    for seed in range(12):
        observations, _ = env.reset(seed=seed)
        market = env.market
        seen.add(float(market.quality[0, 0]) + market.beta)
        curve = env.layout.slices["quality_curve"]
        scale = observations["provider_1"][curve] / market.quality[1]
        np.testing.assert_allclose(scale, scale[0], rtol=1e-5)
        infos = env.step({agent: 2 for agent in env.agents})[4]
        assert [info["quality"] for info in infos.values()] == market.quality[:, 2].tolist()
        assert infos["provider_0"]["optimal_welfare"] == pytest.approx(
            env.solve().optimal_welfare, rel=1e-12
        )
    assert len(seen) > 2


def test_a_seed_draws_the_same_market_and_an_unseeded_reset_another():
    one, two = (ttc_env.parallel_env(market=of_rng) for _ in range(2))
    one.reset(seed=3)
    two.reset(seed=3)
    np.testing.assert_array_equal(one.market.quality, two.market.quality)
    one.reset()
    two.reset()
    np.testing.assert_array_equal(one.market.quality, two.market.quality)
    before = one.market.quality
    one.reset()
    assert not np.array_equal(one.market.quality, before)


def test_infos_read_late_are_of_the_market_that_was_played():
    env = ttc_env.parallel_env(market=of_rng, prices="fixed")
    env.reset(seed=0)
    quality = env.market.quality[0, 1]
    infos = env.step({agent: 1 for agent in env.agents})[4]
    env.reset(seed=1)
    assert infos["provider_0"]["quality"] == quality


def test_conformance():
    make = lambda: ttc_env.parallel_env(market=several(), prices="fixed", max_cycles=5)  # noqa: E731
    check_env(make)
    parallel_api_test(make(), num_cycles=12)
    parallel_seed_test(make)
    env = pickle.loads(pickle.dumps(make()))
    env.reset(seed=0)


def test_the_view_of_one_provider_draws_too():
    env = gymnasium.make("ttc_env/Provider-v0", market=of_rng, opponent="truthful", prices="fixed")
    welfares = set()
    for seed in range(5):
        env.reset(seed=seed)
        welfares.add(env.step(1)[4]["optimal_welfare"])
    assert len(welfares) == 5


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="spaces of an environment do not change"):
        ttc_env.parallel_env(
            market=[ttc_env.load_market(), ttc_env.load_market(providers=["Qwen2-7B"])]
        )
    with pytest.raises(TypeError, match="must return a Market; it returned a MarketBatch"):
        ttc_env.parallel_env(market=lambda rng: ttc_env.random_markets(1, seed=rng))
    with pytest.raises(ValueError, match=r"market=\.\.\. is given"):
        ttc_env.parallel_env(market=several(), beta=3.0)
