"""Regret of pure and mixed profiles, against enumeration of every joint action."""

import itertools

import numpy as np
import pytest

import ttc_env
from ttc_env.game import demand
from ttc_env.game.mechanisms import get_mechanism, make_mechanism
from ttc_env.game.mixed import expected_log_shares
from ttc_env.game.regret import assess, nash_conv, regret, relative_regret
from ttc_env.game.rules.score_auction import second_price_auction
from ttc_env.game.types import Market

MECHANISMS = [
    get_mechanism("market"),
    make_mechanism("market", (0.5, 2.0)),
    second_price_auction((-0.5, 0.0, 1.0)),
    second_price_auction((0.0,), "claimed", misreport={"over_claim": 1.5}),
]


def random_market(rng, n, m):
    # Tenths, so that scores and utilities tie often.
    quality, price, cost = (
        rng.integers(low, high, (n, m)) / 10 for low, high in ((1, 5), (0, 4), (0, 3))
    )
    return Market.from_arrays(
        quality,
        price,
        cost,
        beta=rng.choice([0.0, 1.0, 10.0, 1000.0, 1e5, 1e7]),
        outside_value=rng.choice([0.0, 0.1]),
    )


def enumerate_utilities(mixture, mechanism, market):
    """E[U_i(action)] by summing over every joint action."""
    table = mechanism.offers(market)
    n, a = table.quality.shape
    utility = np.zeros((n, a))
    for profile in itertools.product(range(a), repeat=n):
        played = mechanism.play(table.take(np.array(profile)), market).utility
        for i in range(n):
            others = np.prod([mixture[j, profile[j]] for j in range(n) if j != i])
            utility[i, profile[i]] += others * played[i]
    return utility


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", range(12))
def test_mixed_profiles_against_enumeration(mechanism, seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    choices = len(mechanism.tariff.choices) * len(mechanism.misreports.reports(1))
    while (m * choices) ** n > 1500:  # joint actions to enumerate
        n -= 1
    market = random_market(rng, n, m)
    table = mechanism.offers(market)
    a = table.quality.shape[1]
    mixture = rng.dirichlet(np.full(a, 0.7), n)
    expected = enumerate_utilities(mixture, mechanism, market)
    found = mechanism.rule.expected_utilities(mixture, table, market)
    rounding = 1e-12 + 1e-15 * market.beta  # of beta V
    np.testing.assert_allclose(
        found.amount * np.exp(found.log_factor), expected, rtol=rounding, atol=1e-14
    )
    result = assess(mixture, mechanism, market)
    np.testing.assert_allclose(
        result.regret, expected.max(axis=1) - (mixture * expected).sum(axis=1), atol=rounding
    )


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", range(6))
def test_a_pure_profile_and_the_same_profile_as_a_mixture_agree(mechanism, seed):
    rng = np.random.default_rng(seed)
    market = random_market(rng, 3, 3)
    a = mechanism.offers(market).quality.shape[1]
    profile = rng.integers(0, a, 3)
    pure, mixed = assess(profile, mechanism, market), assess(np.eye(a)[profile], mechanism, market)
    rounding = 1e-12 + 1e-15 * market.beta  # of beta V
    np.testing.assert_allclose(pure.regret, mixed.regret, atol=rounding)
    np.testing.assert_allclose(pure.relative, mixed.relative, atol=10 * rounding)


@pytest.mark.parametrize("benchmark", ["gsm8k", "aime"])
@pytest.mark.parametrize("beta", [200.0, 1e5, 1e7])
@pytest.mark.parametrize("factors", [(1.0,), (0.8, 1.0, 4.0, 64.0)])
def test_expected_shares_of_published_games(benchmark, beta, factors):
    """Expected shares add up to at most 1; and against rivals who surely play one action they are
    the plain ones.
    """
    market = ttc_env.load_market(benchmark, "majority", beta=beta)
    mechanism = make_mechanism("market", factors)
    table = mechanism.offers(market)
    z = demand.logits(table.score, beta)
    n, a = z.shape
    even = np.full((n, a), 1 / a)
    total = (even * np.exp(expected_log_shares(even, z))).sum()
    assert 0.9 < total <= 1 + 1e-12
    profile = np.arange(n) % a
    expected = mechanism.deviations(table, table.take(profile), market)[1]
    np.testing.assert_allclose(
        expected_log_shares(np.eye(a)[profile], z), expected, rtol=1e-9, atol=1e-9
    )


def test_relative_regret_sees_what_underflows():
    """Two providers, one far behind at beta = 1e7: its utilities are 0 as doubles, yet it halves
    its profit by the wrong level.
    """
    market = Market.from_arrays(
        [[1.0, 1.0], [0.5, 0.5]], [[0.1, 0.1], [0.1, 0.1]], [[0.0, 0.05], [0.0, 0.05]], beta=1e7
    )
    profile = np.array([0, 1])
    assert regret(market, profile)[1] == 0.0
    np.testing.assert_allclose(relative_regret(market, profile), [0, 0.5], atol=1e-9)
    np.testing.assert_allclose(relative_regret(market, np.eye(2)[profile]), [0, 0.5], atol=1e-9)


def test_losses_and_zeros():
    # the first level sells below cost
    market = Market.from_arrays([[1.0, 1.0]], [[0.1, 0.3]], [[0.2, 0.2]], beta=1)
    result = assess(np.array([0]), get_mechanism("market"), market)
    assert result.utility[0] < 0 < result.best_utility[0]
    assert result.relative[0] > 1
    assert nash_conv(market, np.array([1])) == 0


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ([0, 0, 0], "2 integers"),
        ([0.0, 1.0], "2 integers"),
        ([0, 2], "no action 2"),
        ([1, 0], "no action 1; its actions are 0..0"),
        ([[0.5, 0.5], [0.5, 0.5]], "does not exist"),
        ([[1.0, 0.0], [0.5, 0.4]], "sum to 1"),
        ([[1.0], [1.0]], "mixed profile is"),
    ],
)
def test_bad_profiles_are_refused(profile, words):
    nan = np.nan
    market = Market.from_arrays(
        [[1.0, nan], [1.0, 1.0]], [[0.1, nan], [0.1, 0.2]], [[0.0, nan], [0.0, 0.0]], beta=1
    )
    with pytest.raises(ValueError, match=words):
        regret(market, np.array(profile))


def test_a_mixed_profile_may_be_padded_with_zeros():
    market = random_market(np.random.default_rng(3), 3, 2)
    mixture = np.random.default_rng(4).dirichlet(np.ones(2), 3)
    wide = np.column_stack([mixture, np.zeros(3), np.full(3, np.nan)])
    np.testing.assert_array_equal(regret(market, wide), regret(market, mixture))
    with pytest.raises(ValueError, match=r"a mixed profile is \(3, 2\).*got \(3, 3\)"):
        regret(market, np.column_stack([0.5 * mixture, np.full(3, 0.5)]))


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
@pytest.mark.parametrize("pure", [False, True])
def test_providers_with_fewer_levels_have_the_regrets_of_their_own(mechanism, pure):
    """What does not exist is no best reply, not even where everything that does loses money; and a
    loser's relative regret is 1 only if it loses.
    """
    rng = np.random.default_rng(0)
    for _ in range(20):
        quality, price, cost = (rng.uniform(0.1, 0.6, (3, 3)) for _ in range(3))
        for table in (quality, price, cost):
            table[1, 1:] = table[2, 2:] = np.nan
        market = Market.from_arrays(quality, price, cost, beta=10.0)
        exists = ~np.isnan(mechanism.offers(market).quality)
        drawn = rng.dirichlet(np.ones(exists.shape[1]), 3) * exists
        if pure:
            drawn = exists * (drawn == drawn.max(axis=1, keepdims=True))
        mixture = drawn / drawn.sum(axis=1, keepdims=True)
        if exists.sum(axis=1).prod() > 1500:
            continue
        expected = np.where(exists, _expected(mixture, mechanism, market, exists), -np.inf)
        found = assess(mixture, mechanism, market)
        mean = (mixture * np.where(exists, expected, 0.0)).sum(axis=1)
        best = expected.max(axis=1)
        np.testing.assert_allclose(found.utility, mean, atol=1e-14)
        np.testing.assert_allclose(found.best_utility, best, atol=1e-14)
        np.testing.assert_allclose(found.regret, best - mean, atol=1e-13)
        assert exists[np.arange(3), found.best_action].all()
        earns = best > 1e-12
        np.testing.assert_allclose(
            found.relative[earns], 1.0 - mean[earns] / best[earns], rtol=1e-9, atol=1e-12
        )
        loses = (best - mean > 1e-9) & (best <= 0)
        assert (found.relative[loses] == 1.0).all()
        assert (found.relative[(best - mean < 1e-13) & (best <= 0)] == 0.0).all()


def _expected(mixture, mechanism, market, exists):
    """E[U_i(action)] by summing over the joint actions that exist."""
    table, utility = mechanism.offers(market), np.zeros(mixture.shape)
    for profile in itertools.product(*map(np.flatnonzero, exists)):
        played = mechanism.play(table.take(np.array(profile)), market).utility
        for i in range(len(mixture)):
            others = np.prod([mixture[j, profile[j]] for j in range(len(mixture)) if j != i])
            utility[i, profile[i]] += others * played[i]
    return utility
