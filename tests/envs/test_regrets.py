"""Regrets in infos: the environment in plain Python, the batch in NumPy, and `regret.assess`, which
tries every action, agree.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ttc_env
from ttc_env.game import demand
from ttc_env.game.mechanisms import get_mechanism, make_mechanism
from ttc_env.game.regret import assess
from ttc_env.game.rules.score_auction import second_price_auction

MECHANISMS = {
    "list prices": get_mechanism("market"),
    "price grid": make_mechanism("market", (0.5, 0.8, 1.0, 2.0, 8.0)),
    "truthful bids": second_price_auction(),
    "bids": second_price_auction((-0.5, 0.0, 1.0)),
    "claims": second_price_auction(
        (-0.5, 0.0, 0.5), "claimed", misreport={"over_claim": (0.8, 1.25)}
    ),
}


def random_market(rng, n, m, beta, tenths):
    quality, price, cost = (
        rng.integers(low, high, (n, m)) / 10 if tenths else rng.uniform(low, high, (n, m)) / 10
        for low, high in ((1, 6), (0, 4), (0, 5))
    )
    for row, count in enumerate(rng.integers(1, m + 1, n)):
        for table in (quality, price, cost):
            table[row, count:] = np.nan
    price[:, 0] = np.where(np.nansum(price, axis=1) == 0, 0.1, price[:, 0])
    return ttc_env.Market.from_arrays(
        quality, price, cost, beta=beta, outside_value=rng.choice([0.0, 0.1, 0.3])
    )


def regrets_of(infos):
    return [
        [info[name] for info in infos.values()] for name in ("utility", "regret", "relative_regret")
    ]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 5),
    mechanism=st.sampled_from(sorted(MECHANISMS)),
    beta=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e3, 1e5, 1e7]),
    tenths=st.booleans(),
)
def test_three_roads_to_regret(seed, n, mechanism, beta, tenths):
    rng = np.random.default_rng(seed)
    market = random_market(rng, n, 3, beta, tenths)
    options = {"mechanism": MECHANISMS[mechanism], "market": market}
    single, batch = ttc_env.parallel_env(**options), ttc_env.vector_env(5, **options)
    batch.reset(seed=0)
    grid = single.config.grid
    flat = rng.integers(np.prod(grid), size=(5, n))
    if rng.random() < 0.5:  # near an equilibrium, where regrets are zero or small
        flat[:] = assess(
            single.config.choose(list(zip(*np.unravel_index(flat[0], grid), strict=True))),
            MECHANISMS[mechanism],
            market,
        ).best_action
    actions = np.stack(np.unravel_index(flat, grid), axis=-1)
    batch.step(actions)
    many = batch.round_infos()
    amount = float(np.nanmax(np.abs(single.config.table.score)))
    posted = MECHANISMS[mechanism].name == "market"
    rounding = 1e-12 + 4e-16 * beta * amount * posted
    for b in range(5):
        single.reset()
        infos = single.step(
            {
                agent: actions[b, i] if len(grid) > 1 else actions[b, i, 0]
                for i, agent in enumerate(single.agents)
            }
        )[4]
        exact = assess(single.config.choose(actions[b]), MECHANISMS[mechanism], market)
        expected = exact.utility, exact.regret, exact.relative
        for found in (
            regrets_of(infos),
            [many[name][b] for name in ("utility", "regret", "relative_regret")],
        ):
            np.testing.assert_allclose(found[0], expected[0], rtol=rounding, atol=1e-14 * amount)
            np.testing.assert_allclose(
                found[1],
                expected[1],
                rtol=rounding,
                atol=rounding * np.abs(exact.best_utility).max() + 1e-14 * amount,
            )
            np.testing.assert_allclose(
                found[2], expected[2], rtol=10 * rounding, atol=10 * rounding
            )
        np.testing.assert_allclose(
            many["relative_regret"][b], regrets_of(infos)[2], rtol=10 * rounding, atol=10 * rounding
        )


@pytest.mark.parametrize("prices", ["fixed", "grid"])
@pytest.mark.parametrize("benchmark, beta", [("gsm8k", 200.0), ("aime", 1e5), ("aime", 1e7)])
def test_equilibria_of_published_markets_leave_no_regret(benchmark, beta, prices):
    env = ttc_env.parallel_env("market", benchmark, prices=prices, beta=beta)
    solution = env.solve()
    grid = env.config.grid
    env.reset()
    parts = np.stack(np.unravel_index(solution.lowest, grid), axis=-1)
    infos = env.step(
        {agent: parts[i] if len(grid) > 1 else parts[i, 0] for i, agent in enumerate(env.agents)}
    )[4]
    assert max(regrets_of(infos)[2]) <= 1e-9
    batch = ttc_env.vector_env(2, "market", benchmark, prices=prices, beta=beta)
    batch.reset()
    batch.step(np.stack([parts, parts]) if len(grid) > 1 else np.stack([parts[:, 0]] * 2))
    assert batch.round_infos()["relative_regret"].max() <= 1e-9


def test_each_market_of_a_batch_has_its_own_best_replies():
    """And its own resolution: G markets, each played by several environments."""
    rng = np.random.default_rng(0)
    markets = [random_market(rng, 3, 3, beta, False) for beta in (1.0, 100.0, 1e5)]
    for name, mechanism in MECHANISMS.items():
        batch = ttc_env.vector_env(7, mechanism, market=markets)
        batch.reset()
        flat = rng.integers(np.prod(batch.config.grid), size=(7, 3))
        batch.step(np.stack(np.unravel_index(flat, batch.config.grid), axis=-1))
        found = batch.round_infos()
        for b in range(7):
            exact = assess(
                batch.tables.played[np.arange(3), b % 3, found["action"][b]],
                mechanism,
                markets[b % 3],
            )
            np.testing.assert_allclose(
                found["regret"][b], exact.regret, rtol=1e-11, atol=1e-14, err_msg=name
            )
            np.testing.assert_allclose(
                found["relative_regret"][b], exact.relative, rtol=1e-9, atol=1e-9, err_msg=name
            )


def test_what_underflows_is_still_compared():
    """Far behind at beta = 1e7 utilities are 0 as doubles; relative regret sees that the wrong
    level halves them.
    """
    market = ttc_env.Market.from_arrays(
        [[1.0, 1.0], [0.5, 0.5]], [[0.1, 0.1], [0.1, 0.1]], [[0.0, 0.05], [0.0, 0.05]], beta=1e7
    )
    env = ttc_env.parallel_env(market=market, prices="fixed")
    env.reset()
    infos = env.step({"provider_0": 0, "provider_1": 1})[4]
    assert infos["provider_1"]["regret"] == 0.0
    assert infos["provider_1"]["relative_regret"] == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("cost", [0.3, 0.2], ids=["losing", "idle"])
def test_losses(cost):
    """A provider that cannot earn: a greater loss than need be is a relative regret of 1."""
    market = ttc_env.Market.from_arrays([[1.0, 1.0]], [[0.1, 0.2]], [[cost, cost]], beta=1.0)
    single, batch = (
        make(market=market, prices="fixed", infos="full")
        for make in (ttc_env.parallel_env, lambda **o: ttc_env.vector_env(1, **o))
    )
    utility = [
        demand.shares(np.array([1.0 - price]), 1.0)[0][0] * (price - cost) for price in (0.1, 0.2)
    ]
    for level in (0, 1):
        single.reset()
        batch.reset()
        info, many = (
            single.step({"provider_0": level})[4]["provider_0"],
            batch.step(np.array([[level]]))[4],
        )
        for regret, relative in (
            (info["regret"], info["relative_regret"]),
            (many["regret"][0, 0], many["relative_regret"][0, 0]),
        ):
            assert regret == pytest.approx(utility[1] - utility[level], rel=1e-12, abs=1e-16)
            assert relative == 1 - level


def test_a_tie_that_cannot_be_broken_is_no_regret():
    """Two equal bidders with one bid each, q - 2c: both serve half the users for c more than it
    costs, and neither could do better.
    """
    market = ttc_env.Market.from_arrays([[1.0]] * 2, [[0.2]] * 2, [[0.1]] * 2, beta=1.0)
    single, batch = (
        make(mechanism="auction", market=market, prices=(1.0,), infos="full")
        for make in (ttc_env.parallel_env, lambda **o: ttc_env.vector_env(1, **o))
    )
    single.reset()
    batch.reset()
    utility, regret, relative = regrets_of(single.step({"provider_0": 0, "provider_1": 0})[4])
    many = batch.step(np.zeros((1, 2), int))[4]
    np.testing.assert_allclose(utility, 0.05, rtol=1e-12)
    assert (
        regret
        == relative
        == [0, 0]
        == many["regret"][0].tolist()
        == many["relative_regret"][0].tolist()
    )
