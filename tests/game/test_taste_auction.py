"""The second-score auction with tastes: closed forms against drawn users, truth against lies."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test

import ttc_env
from tests.game.test_mechanisms import markets
from ttc_env.game import enumeration
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.regret import assess
from ttc_env.game.rules.base import Users
from ttc_env.game.tariffs import Offer
from ttc_env.testing import check_env

SMALL = {"providers": ["Qwen2-7B", "Qwen2.5-7B", "Llama-3-8B"], "prices": (-0.5, 0.0, 2.0)}


def drawn(offer, settled, beta, outside, rng, count=400_000):
    """Users one by one: shares, providers' utility, users' surplus; Euler's constant left out."""
    n = len(offer.quality)
    score = np.append(offer.seen - offer.price, outside)
    scores = score + (rng.gumbel(size=(count, n + 1)) - np.euler_gamma) / beta
    winner, ordered = scores.argmax(axis=1), np.sort(scores, axis=1)
    second = ordered[:, -2]
    share, utility = np.zeros(n), np.zeros(n)
    surplus = ordered[:, -1].copy()
    for i in range(n):
        mine = winner == i
        taste = scores[mine, i] - score[i]
        payment = settled[i] + taste - second[mine]
        share[i], utility[i] = mine.mean(), (payment - offer.cost[i]).sum() / count
        surplus[mine] = offer.quality[i] + taste - payment
    return share, utility, surplus.mean()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settlement", ["delivered", "claimed"])
def test_rounds_are_the_mean_over_drawn_users(seed, settlement):
    rng = np.random.default_rng(seed)
    n = [1, 2, 3, 5, 3, 2][seed]
    cost = rng.uniform(0.1, 0.5, n)
    quality = rng.uniform(0.3, 1.2, n)
    offer = Offer(quality, quality * rng.uniform(0.7, 1.4, n), cost * rng.uniform(0.5, 2, n), cost)
    beta, outside = [2.0, 5.0, 0.5, 8.0, 20.0, 3.0][seed], rng.uniform(-0.2, 0.5)
    rule = make_mechanism("taste_auction", settlement=settlement).rule
    found = rule.play(offer, Users(beta, outside))
    settled = offer.seen if settlement == "claimed" else offer.quality
    share, utility, surplus = drawn(offer, settled, beta, outside, rng)
    np.testing.assert_allclose(found.share, share, atol=4e-3)
    np.testing.assert_allclose(found.utility, utility, atol=8e-3 / beta)
    assert float(found.user_value) == pytest.approx(surplus, abs=8e-3 / beta + 4e-3 * (seed > 3))
    assert float(found.welfare) == pytest.approx(
        float(found.user_value) + found.utility.sum(), abs=1e-12
    )
    assert found.share.sum() + found.outside_share == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("settlement", ["delivered", "claimed"])
@pytest.mark.parametrize("bids", [(-0.5, 0.0, 1.0), (0.5, 1.0)])
def test_the_optimum_is_one_that_the_grid_reaches(settlement, bids):
    rng = np.random.default_rng(3)
    for _ in range(20):
        cost = rng.uniform(0.05, 0.5, (2, 2))
        market = ttc_env.Market.from_arrays(
            rng.uniform(0.2, 1.0, (2, 2)), cost * 1.25, cost, beta=10.0, outside_value=0.1
        )
        mechanism = make_mechanism(
            "taste_auction", bids, settlement=settlement, misreport={"over_claim": (0.5, 2.0)}
        )
        found = mechanism.rule.optimum(mechanism, market)
        expected = enumeration.optimum(mechanism, market).welfare
        assert found.welfare == pytest.approx(expected, rel=1e-12)
        assert mechanism.rule.optimal_welfare(mechanism, market) == pytest.approx(
            expected, rel=1e-12
        )
        assert float(
            mechanism.play(mechanism.offers(market).take(found.profile), market).welfare
        ) == pytest.approx(expected, rel=1e-12)


def test_continuous_bids_reach_the_truth_between_their_ends():
    options = {"mechanism": "taste_auction", "actions": "continuous", "infos": "basic"}
    ends = ttc_env.parallel_env(prices=(-0.5, 1.0), **options).unwrapped.config
    truth = ttc_env.parallel_env(prices=(-0.5, 0.0, 1.0), **options).unwrapped.config
    assert ends.optimal_welfare == truth.optimal_welfare


@given(markets(positive_cost=True), st.sampled_from([0.5, 50.0, 1e5]))
def test_the_outcome_at_truth(market, beta):
    """GAME.md, theorem 16."""
    market = market.replace(beta=beta)
    solution = ttc_env.solve(market, make_mechanism("taste_auction", (-0.5, 0.0, 1.0)))
    w = (market.quality - market.cost).max(axis=1)
    z = np.append(w, market.outside_value).astype(np.longdouble) * beta
    top = z.max()
    log_total = top + np.log(np.exp(z - top).sum())
    assert solution.welfare == pytest.approx(float(log_total / beta), rel=1e-12, abs=1e-12)
    assert solution.optimal_welfare == pytest.approx(solution.welfare, rel=1e-12, abs=1e-12)
    users = log_total
    for i in range(len(w)):
        rest = np.delete(z, i)
        gain = log_total - (rest.max() + np.log(np.exp(rest - rest.max()).sum()))
        users -= gain
        assert solution.provider_profit[i] == pytest.approx(float(gain / beta), abs=1e-11)
    assert solution.user_value == pytest.approx(float(users / beta), abs=1e-11)
    if len(w) == 1:
        assert solution.user_value == pytest.approx(market.outside_value, rel=1e-13, abs=1e-14)
    assert solution.gap <= 1e-12
    assert solution.converged
    assert solution.complete


@given(
    markets(positive_cost=True),
    st.data(),
    st.sampled_from([0.5, 50.0, 1e5]),
    st.floats(0.01, 5),
    st.floats(0.3, 3),
)
def test_truth_is_dominant_on_the_grid_and_off_it(market, data, beta, bid_factor, claim_factor):
    """Best level, bid at cost, true claim: no level, bid or claim earns more, whatever the others
    do.
    """
    market = market.replace(beta=beta)
    mechanism = make_mechanism(
        "taste_auction", (-0.5, 0.0, 1.0), misreport={"over_claim": (0.5, 2.0)}
    )
    n, a = mechanism.offers(market).quality.shape
    solution = ttc_env.solve(market, mechanism)
    profile = np.array([data.draw(st.integers(0, a - 1)) for _ in range(n)])
    i = data.draw(st.integers(0, n - 1))
    profile[i] = solution.actions[i]
    assert assess(profile, mechanism, market).regret[i] <= 1e-12
    offer = mechanism.offers(market).take(profile)
    honest = mechanism.play(offer, market).utility[i]
    for level in range(market.num_levels):
        quality, cost = market.quality[i, level], market.cost[i, level]
        lie = Offer(*(x.copy() for x in (offer.quality, offer.seen, offer.price, offer.cost)))
        lie.quality[i], lie.cost[i] = quality, cost
        lie.seen[i], lie.price[i] = quality * claim_factor, cost * bid_factor
        assert mechanism.play(lie, market).utility[i] <= honest + 1e-12


def test_claims_that_are_paid_for_are_inflated():
    market = ttc_env.load_market()
    mechanism = make_mechanism(
        "taste_auction", settlement="claimed", misreport={"over_claim": 1.25}
    )
    solution = ttc_env.solve(market, mechanism)
    assert (mechanism.split(solution.actions, market)[2] == 1).all()
    assert solution.gap <= 1e-15
    assert solution.price_of_anarchy > 1.0


def test_mixed_play_is_what_enumeration_says():
    rng = np.random.default_rng(3)
    for _ in range(60):
        n, m = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        cost = rng.uniform(0.1, 0.6, (n, m))
        quality = rng.uniform(0.2, 1.5, (n, m))
        if m > 1:
            cost[0, -1] = quality[0, -1] = np.nan
        beta = float(10.0 ** rng.uniform(-1, 5))
        market = ttc_env.Market.from_arrays(
            quality, cost, cost, beta=beta, outside_value=rng.uniform(-0.3, 1.0)
        )
        mechanism = make_mechanism("taste_auction", (-0.5, 0.0, 1.0), misreport={"over_claim": 0.5})
        table = mechanism.offers(market)
        there = ~np.isnan(table.quality)
        mixture = rng.random(table.quality.shape) * there * (rng.random(there.shape) < 0.7)
        mixture[np.arange(n), there.argmax(axis=1)] += 0.1
        mixture /= mixture.sum(axis=1, keepdims=True)
        found = mechanism.rule.expected_utilities(mixture, table, market)
        expected = enumeration.expected_utilities(mechanism.rule, mixture, table, market)
        np.testing.assert_allclose(
            found.amount * np.exp(found.log_factor), expected.amount, rtol=1e-9, atol=1e-12
        )


def test_all_faces_play_it():
    parallel_api_test(ttc_env.parallel_env(mechanism="taste_auction", max_cycles=8), num_cycles=20)
    check_env(lambda: ttc_env.parallel_env(mechanism="taste_auction", max_cycles=4, **SMALL))
    actions = np.stack([np.random.default_rng(1).integers(0, k, (32, 3)) for k in (6, 3)], axis=2)
    full = ttc_env.vector_env(32, mechanism="taste_auction", infos="full", **SMALL)
    full.reset()
    rewards, infos = full.step(actions)[1], full.step(actions)[4]
    single = ttc_env.parallel_env(mechanism="taste_auction", **SMALL)
    table, market = single.config.table, single.config.market
    for b in range(32):
        single.reset()
        _, reward, *_, info = single.step(dict(zip(single.agents, actions[b], strict=True)))
        flat = actions[b, :, 0] * 3 + actions[b, :, 1]
        expected = single.config.mechanism.play(table.take(flat), market)
        np.testing.assert_allclose(list(reward.values()), 1000 * expected.utility, rtol=1e-12)
        np.testing.assert_allclose(rewards[b], list(reward.values()), rtol=1e-12)
        for i, one in enumerate(info.values()):
            assert one["welfare"] == pytest.approx(float(expected.welfare), rel=1e-12)
            assert one["regret"] == pytest.approx(infos["regret"][b, i], rel=1e-9, abs=1e-18)


def test_torch_plays_it_as_numpy_does():
    torch = pytest.importorskip("torch")
    actions = np.random.default_rng(1).integers(0, 6, (32, 3))
    rewards = {}
    for backend in ("numpy", "torch"):
        options = {**SMALL, "prices": "fixed"}
        env = ttc_env.vector_env(32, mechanism="taste_auction", backend=backend, **options)
        env.reset()
        sent = actions if backend == "numpy" else torch.as_tensor(actions)
        rewards[backend] = np.asarray(env.step(sent)[1])
    np.testing.assert_allclose(rewards["torch"], rewards["numpy"], rtol=1e-12)


def test_users_are_drawn_one_by_one_where_demand_is_sampled():
    sampled = ttc_env.vector_env(
        2000, mechanism="taste_auction", demand="sampled", infos="full", users=50, **SMALL
    )
    sure = ttc_env.vector_env(1, mechanism="taste_auction", users=50, **SMALL)
    sampled.reset(seed=0)
    sure.reset()
    actions = np.ones((2000, 3, 2), int)
    _, rewards, *_, infos = sampled.step(actions)
    assert (np.ptp(infos["served"], axis=0) > 5).all()  # not all or nobody
    np.testing.assert_allclose(rewards.mean(axis=0), sure.step(actions[:1])[1][0], rtol=0.03)


@settings(max_examples=25)
@given(markets(positive_cost=True), st.data())
def test_best_replies_in_continuous_bids(market, data):
    assume(market.beta > 0)
    env = ttc_env.parallel_env(
        mechanism="taste_auction", market=market, actions="continuous", prices=(-0.5, 0.0, 3.0)
    )
    env.reset(seed=0)
    draw = st.floats(-1, 1)
    actions = {
        a: np.array([data.draw(draw) for _ in range(env.action_space(a).shape[0])], np.float32)
        for a in env.agents
    }
    infos = env.step(actions)[4]
    # the truthful bid lies within the range
    solution = env.unwrapped.solve()
    for i, info in enumerate(infos.values()):
        offer = [np.array([one[k] for one in infos.values()]) for k in ("quality", "price", "cost")]
        played = Offer(offer[0], offer[0].copy(), offer[1], offer[2])
        for x, level in ((played.quality, market.quality), (played.seen, market.quality)):
            x[i] = level[i, solution.levels[i]]
        played.price[i] = played.cost[i] = market.cost[i, solution.levels[i]]
        best = env.unwrapped.config.mechanism.play(played, market).utility[i]
        assert info["regret"] == pytest.approx(best - info["utility"], abs=1e-9)


def test_without_rationality_there_is_no_game():
    market = ttc_env.load_market(beta=0.0)
    with pytest.raises(ValueError, match="beta > 0"):
        ttc_env.solve(market, "taste_auction")
    mechanism = make_mechanism("taste_auction")
    outcome = mechanism.play(mechanism.offers(market).take(np.zeros(9, int)), market)
    assert np.isinf(outcome.welfare)
    np.testing.assert_allclose(outcome.share, 0.1)
    alone = ttc_env.Market.from_arrays([[1.0]], [[0.5]], [[0.5]], beta=0.0, outside_value=0.2)
    outcome = mechanism.play(mechanism.offers(alone).take(np.zeros(1, int)), alone)
    assert outcome.user_value == 0.2
