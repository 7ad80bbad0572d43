"""fit_beta: every crossing of the elasticity, and the likelihood of shares."""

import numpy as np
import pytest

import ttc_env
from ttc_env.game.curves import BENCHMARKS, METHODS
from ttc_env.game.fit_beta import POINTS_PER_DECADE, mean_elasticity

NBER = -1.11


def one_offer(quality=1.0, price=0.3, cost=0.1, **kwargs):
    return ttc_env.Market.from_arrays([[quality]], [[price]], [[cost]], **{"beta": 1.0, **kwargs})


def elasticity_of_solution(market, beta):
    """From the solution of the market at beta, by the formula."""
    s = ttc_env.solve(market.replace(beta=beta))
    each = -beta * s.outcome.offer.price * (1.0 - s.shares)
    return float((s.shares * each).sum() / s.shares.sum())


@pytest.mark.slow
def test_published_markets_are_crossed_as_often_as_theorem_21_says():
    firsts = []
    for benchmark in BENCHMARKS:
        for method in METHODS:
            market = ttc_env.load_market(benchmark, method)
            fit = ttc_env.fit_beta(market, elasticity=NBER, betas=(1.0, 1e5))
            if method == "reasoning":
                assert np.isnan(fit.beta)
                assert "at every beta" in fit.reason
                continue
            # from 0 and past -1.11 again and again; jumps that pass it count
            assert 2 <= len(fit.crossings) + len(fit.passed) <= 11
            assert fit.reason == ""
            firsts.append(fit.beta)
            for beta in fit.crossings:
                assert elasticity_of_solution(market, beta) == pytest.approx(NBER, rel=1e-6)
    assert round(min(firsts)) == 768
    assert round(max(firsts)) == 1114


def test_jumps_are_where_levels_change():
    market = ttc_env.load_market("gpqa", "best_of_n")
    fit = ttc_env.fit_beta(market, elasticity=NBER, betas=(800.0, 1600.0))
    assert len(fit.jumps) > 2
    for jump in fit.jumps[:3]:
        sides = [ttc_env.solve(market.replace(beta=jump.beta * x)) for x in (1 - 1e-7, 1 + 1e-7)]
        assert (sides[0].worst != sides[1].worst).any()
        for side, value in zip(sides, (jump.before, jump.after), strict=True):
            assert elasticity_of_solution(market, side.market.beta) == pytest.approx(
                value, rel=1e-5
            )
    assert {j.beta for j in fit.passed} <= {j.beta for j in fit.jumps}


def test_one_offer_is_crossed_where_the_closed_form_is():
    """-beta p / (1 + exp(beta V)) falls to its minimum and returns to 0: two crossings or none."""
    price, value = 0.3, 0.02
    market = one_offer(price + value, price)

    def elasticity(beta):
        return -beta * price / (1.0 + np.exp(beta * value))

    fit = ttc_env.fit_beta(market, elasticity=-1.0, betas=(1.0, 3e3))
    assert len(fit.crossings) == 2
    assert fit.beta == fit.crossings[0]
    np.testing.assert_allclose(elasticity(fit.crossings), -1.0, rtol=1e-8)
    assert not fit.jumps
    assert fit.unique
    none = ttc_env.fit_beta(market, elasticity=-50.0, betas=(0.1, 1e4))
    assert np.isnan(none.beta)
    least = elasticity(np.geomspace(0.1, 1e4, 100_000)).min()
    assert none.least == pytest.approx(least, rel=1e-4)
    assert f"{none.least:.4g}" in none.reason


#: Two providers alike but for a fifth of a cent: they change their levels at betas so near together
#: that no scanned one lies between.
ALIKE = ttc_env.Market.from_arrays(
    [[0.14, 0.39], [0.137, 0.387]], [[0.3, 0.59]] * 2, [[0.15, 0.295]] * 2, beta=1.0
)


def test_two_changes_between_scanned_betas_are_two_jumps():
    fit = ttc_env.fit_beta(ALIKE, elasticity=-1.0, betas=(10.0, 30.0))
    assert len(fit.jumps) == 2
    first, second = fit.jumps
    assert second.beta / first.beta < 10 ** (1 / POINTS_PER_DECADE)
    levels = []
    for beta in (10.0, (first.beta * second.beta) ** 0.5, 30.0):
        levels.append(ttc_env.solve(ALIKE.replace(beta=beta)).worst.tolist())
    assert levels == [[1, 1], [1, 0], [0, 0]]
    for jump in fit.jumps:
        for side, value in ((1 - 1e-7, jump.before), (1 + 1e-7, jump.after)):
            assert elasticity_of_solution(ALIKE, jump.beta * side) == pytest.approx(value, rel=1e-5)
    # crossings on either side of the two, and between them
    for target in (first.before + 0.01, 0.5 * (first.after + second.before), second.after - 0.01):
        found = ttc_env.fit_beta(ALIKE, elasticity=target, betas=(17.0, 18.2))
        for beta in found.crossings:
            assert elasticity_of_solution(ALIKE, beta) == pytest.approx(target, rel=1e-8)
        assert len(found.crossings) + len(found.passed) >= 1
    between = 0.5 * (first.after + second.before)
    found = ttc_env.fit_beta(ALIKE, elasticity=between, betas=(17.0, 18.2))
    assert ((found.crossings > first.beta) & (found.crossings < second.beta)).sum() == 1


def test_an_elasticity_that_is_jumped_over_has_no_beta():
    jump = ttc_env.fit_beta(ALIKE, elasticity=-1.0, betas=(10.0, 30.0)).jumps[0]
    target, near = (
        0.5 * (jump.before + jump.after),
        (jump.beta * (1 - 1e-4), jump.beta * (1 + 1e-4)),
    )
    fit = ttc_env.fit_beta(ALIKE, elasticity=target, betas=near)
    assert np.isnan(fit.beta)
    assert not len(fit.crossings)
    assert [j.beta for j in fit.passed] == [pytest.approx(jump.beta, rel=1e-9)]
    assert fit.least < target < fit.most
    assert fit.reason.endswith("passes the one asked for only where it jumps")


def test_a_crossing_at_the_lowest_beta_is_one():
    market = one_offer(0.32, 0.3)
    target = float(mean_elasticity(market, [0], 2.0)[0])
    assert target == pytest.approx(elasticity_of_solution(market, 2.0), rel=1e-12)
    fit = ttc_env.fit_beta(market, elasticity=target, betas=(2.0, 50.0))
    np.testing.assert_allclose(fit.crossings, [2.0], rtol=1e-15)


def test_several_equilibria_are_said_and_a_change_of_level_is_none():
    fit = ttc_env.fit_beta(ALIKE, elasticity=-1.0, betas=(1.0, 17.0))
    assert fit.unique
    assert not fit.jumps
    alone = ttc_env.Market.from_arrays([[0.4, 0.3]], [[0.2, 0.35]], [[0.1, 0.175]], beta=1.0)
    changes = ttc_env.fit_beta(alone, elasticity=-1.0, betas=(1.0, 100.0))
    assert len(changes.jumps) == 1
    assert changes.unique  # at a change two levels earn the same; nowhere else
    tables = [[0.44, 0.86, 0.9]], [[0.33, 0.41, 0.55]], [[0.165, 0.205, 0.275]]
    same = ttc_env.Market.from_arrays(*(np.repeat(x, 3, axis=0) for x in tables), beta=1.0)
    several = ttc_env.fit_beta(same, elasticity=-1.11, betas=(0.5, 200.0))
    assert not several.unique
    assert len(ttc_env.solve(same.replace(beta=4.3)).equilibria) == 2
    for beta in several.crossings:  # at the worst of them
        assert elasticity_of_solution(same, beta) == pytest.approx(-1.11, rel=1e-8)


def test_two_offers_by_shares_have_a_closed_form():
    market = one_offer(price=0.3)
    share, n = 0.8, 400
    fit = ttc_env.fit_beta(market, shares=[share], users=n)
    assert fit.beta == pytest.approx(np.log(share / (1 - share)) / 0.7, rel=1e-12)
    assert fit.standard_error == pytest.approx(1 / np.sqrt(n * share * (1 - share)) / 0.7)
    counted = ttc_env.fit_beta(market, shares=[320], users=n)
    assert counted.beta == pytest.approx(fit.beta, rel=1e-12)
    likelihood = n * (share * np.log(share) + (1 - share) * np.log(1 - share))
    assert fit.log_likelihood == pytest.approx(likelihood)


def test_the_equilibriums_own_shares_give_its_beta_back():
    for beta in (50.0, 1000.0, 20_000.0):
        market = ttc_env.load_market("gsm8k", beta=beta)
        s = ttc_env.solve(market)
        for seen in (True, False):
            fit = ttc_env.fit_beta(
                market, shares=s.shares, users=1e6, profile=s.worst, outside_seen=seen
            )
            assert fit.beta == pytest.approx(beta, rel=1e-6)


def test_errors_are_as_large_as_the_standard_error_says():
    beta, n, rng = 800.0, 500, np.random.default_rng(0)
    market = ttc_env.load_market("gpqa", beta=beta)
    s = ttc_env.solve(market)
    chances = np.append(s.shares, s.outside_share)
    z = []
    for counts in rng.multinomial(n, chances, size=400):
        fit = ttc_env.fit_beta(market, shares=counts[:-1], users=n, profile=s.worst)
        z.append((fit.beta - beta) / fit.standard_error)
    assert abs(np.mean(z)) < 0.2
    assert 0.9 < np.std(z) < 1.1
    assert 0.92 <= np.mean(np.abs(z) < 1.96) <= 0.98


def test_ends_of_the_range_are_said():
    market = ttc_env.Market.from_arrays([[1.0], [0.6]], [[0.3], [0.3]], [[0.1], [0.1]], beta=1.0)
    best = ttc_env.fit_beta(market, shares=[50, 0])
    assert best.beta == best.standard_error == np.inf
    assert "likelier" in best.reason
    worse = ttc_env.fit_beta(market, shares=[10, 40])
    assert worse.beta == 0.0
    assert worse.users == 50
    assert np.isfinite(worse.standard_error)
    assert "by value" in worse.reason


def test_wrong_arguments_are_refused():
    market = ttc_env.load_market("gsm8k")
    level = np.zeros(9, int)
    for message, options in (
        ("one of the two", {}),
        ("one of the two", {"elasticity": -1.0, "shares": [0.1] * 9}),
        ("below 0", {"elasticity": 1.11}),
        ("below 0", {"elasticity": -(10**400)}),
        ("finite number", {"shares": [0.1] * 9, "users": 10**400, "profile": level}),
        ("rising order", {"elasticity": -1.0, "betas": (10.0, 1.0)}),
        ("two positive numbers", {"elasticity": -1.0, "betas": (10.0,)}),
        ("at most 20 decades", {"elasticity": -1.0, "betas": (1e-300, 1e300)}),
        ("speak of shares", {"elasticity": -1.0, "users": 5}),
        ("9 numbers", {"shares": [0.1] * 8, "users": 5, "profile": level}),
        ("9 numbers", {"shares": [np.nan] * 9, "users": 5, "profile": level}),
        ("profile=", {"shares": [0.1] * 9, "users": 5}),
        ("level indices", {"shares": [0.1] * 9, "users": 5, "profile": level + 9}),
        ("how many choices", {"shares": [0.1] * 9, "profile": level}),
        ("more than users", {"shares": [10] * 9, "users": 5, "profile": level}),
        ("users is 0;", {"shares": [0.1] * 9, "users": 0, "profile": level}),
        ("users is inf;", {"shares": [0.1] * 9, "users": np.inf, "profile": level}),
    ):
        with pytest.raises(ValueError, match=message):
            ttc_env.fit_beta(market, **options)
    same = ttc_env.Market.from_arrays([[1.0], [1.0]], [[0.3]] * 2, [[0.1]] * 2, beta=1.0)
    with pytest.raises(ValueError, match="same value"):
        ttc_env.fit_beta(same, shares=[3, 5], outside_seen=False)


def test_elasticity_of_nobody_is_zero():
    """Users whose outside option is worth far more buy nothing at any price."""
    market = ttc_env.load_market("gsm8k", outside_value=1.0)
    found = mean_elasticity(market, [0] * market.num_providers, [1e-3, 1e6])
    assert found[1] == 0.0
    assert found[0] < 0.0
