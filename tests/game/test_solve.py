"""`solve`: the auction against a loop, the solution object against its parts, and continuous prices
against fine grids.
"""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ttc_env
from tests.game.test_mechanisms import auction_by_hand, markets
from ttc_env.game import enumeration
from ttc_env.game.continuous import PriceRange, continuous_regret, solve_continuous
from ttc_env.game.mechanisms import get_mechanism, make_mechanism
from ttc_env.game.regret import assess
from ttc_env.game.rules.score_auction import second_price_auction
from ttc_env.game.solve import auction_gain, solve
from ttc_env.game.types import Market
from ttc_env.game.yardstick import account


@given(markets())
def test_auction_solution_is_truthful_play_by_hand(market):
    solution = solve(market, "auction")
    levels = [
        int(np.argmax(market.quality[i] - market.cost[i])) for i in range(market.num_providers)
    ]
    rows = np.arange(len(levels))
    q, c = market.quality[rows, levels], market.cost[rows, levels]
    profit, user, total = auction_by_hand(q, q, c, c, market.outside_value, "delivered")
    np.testing.assert_allclose(
        market.quality[rows, solution.levels] - market.cost[rows, solution.levels],
        q - c,
        atol=1e-15,
    )
    np.testing.assert_allclose(solution.provider_profit, profit, atol=1e-12)
    assert solution.user_value == pytest.approx(user, abs=1e-12)
    assert solution.welfare == pytest.approx(total, abs=1e-12)
    w = np.sort(q - c)[::-1]
    if w[0] < market.outside_value:
        assert (solution.winner, solution.runner_up, solution.payment) == (None, None, 0.0)
    else:
        assert (q - c)[solution.winner] == w[0]
        assert solution.runner_up is None or (q - c)[solution.runner_up] == w[1]
        assert (solution.runner_up is None) == (len(w) == 1)
        second = max(w[1] if len(w) > 1 else -np.inf, market.outside_value)
        assert solution.payment == pytest.approx(q[solution.winner] - second, abs=1e-12)


NEGATIVE_QUALITY = Market.from_arrays(
    [[-0.1, 0.0, 0.0]], [[0.1, 0.2, 0.2]], [[0.1, 0.2, 0.2]], beta=0, outside_value=-0.2
)


@example(NEGATIVE_QUALITY, "claimed")
@given(markets(positive_cost=True), st.sampled_from(["delivered", "claimed"]))
def test_dominant_strategies_leave_no_regret(market, settlement):
    auction = second_price_auction(
        (-0.5, 0.0, 1.0), settlement, misreport={"over_claim": (0.5, 2.0)}
    )
    solution = solve(market, auction)
    assert solution.gap == pytest.approx(0, abs=1e-12)
    # Dominant: none against anybody's other bids either.
    rng = np.random.default_rng(0)
    actions = rng.integers(0, auction.offers(market).quality.shape[1], market.num_providers)
    for i in range(market.num_providers):
        profile = actions.copy()
        profile[i] = solution.actions[i]
        assert assess(profile, auction, market).regret[i] == pytest.approx(0, abs=1e-12)


@given(markets(max_n=3, max_m=3))
def test_market_solution_fits_its_parts(market):
    solution = solve(market)
    for profile in solution.equilibria:
        assert assess(profile, get_mechanism("market"), market).relative.max() <= 1e-6
    outcome = solution.outcome
    assert solution.welfare == pytest.approx(
        float((solution.shares * (outcome.offer.quality - outcome.offer.cost)).sum())
        + solution.outside_share * market.outside_value,
        abs=1e-12,
    )
    assert solution.welfare <= solution.optimal_welfare + 1e-12
    assert solution.mean_price == pytest.approx(
        float((solution.shares * outcome.offer.price).sum()), abs=1e-15
    )
    if solution.welfare > 0:
        assert solution.price_of_anarchy >= solution.price_of_stability >= 1 - 1e-12
    else:
        assert np.isnan(solution.price_of_anarchy)
        assert "not positive" in solution.ratio_reason


@given(markets(max_n=3, max_m=2))
def test_auction_beats_every_market(market):
    gain = auction_gain(market)
    assert (
        gain.auction.welfare >= gain.market.optimal_welfare - 1e-12 >= gain.market.welfare - 2e-12
    )


def test_price_grid_is_flattened_into_one_game():
    market = ttc_env.load_market("gpqa", "reasoning", beta=500)
    factors = (0.9, 1.0, 3.0)
    solution = solve(market, make_mechanism("market", factors))
    level, price, report = solution.split(solution.worst)
    assert report.max() == 0
    offer = solution.outcome.offer
    np.testing.assert_allclose(
        offer.price, market.price[np.arange(3), level] * np.array(factors)[price]
    )
    assert assess(solution.worst, make_mechanism("market", factors), market).nash_conv <= 1e-15


def test_an_auction_without_the_truth_on_its_grid_is_not_solved():
    market = ttc_env.load_market()
    with pytest.raises(ValueError, match="leaves out the truthful bid"):
        solve(market, second_price_auction((0.5, 1.0)))
    with pytest.raises(ValueError, match="choose auction, first_score"):
        solve(market, "raffle")


def test_continuous_prices_are_the_limit_of_fine_grids():
    market = ttc_env.load_market("aime", "majority", ["Qwen2-7B", "Llama-3.2-3B"], beta=400)
    fine = solve(market, make_mechanism("market", tuple(np.geomspace(0.8, 64, 400))))
    continuous = solve_continuous(make_mechanism("market", (0.8, 64.0)), market)
    assert continuous.converged
    assert continuous.unique
    assert continuous.gap <= 1e-9
    assert continuous.optimal_welfare == pytest.approx(fine.optimal_welfare, rel=1e-12)
    assert continuous.price_of_anarchy == pytest.approx(fine.price_of_anarchy, rel=1e-3)
    assert continuous.welfare == pytest.approx(fine.welfare, rel=1e-3)
    np.testing.assert_allclose(continuous.provider_profit, fine.provider_profit, rtol=5e-3)


def test_continuous_prices_without_binding_bounds_are_the_free_price_equilibrium():
    market = Market.from_arrays(
        [[0.5, 0.9], [0.6, 0.8]], [[0.1, 0.3], [0.1, 0.2]], [[0.1, 0.3], [0.1, 0.2]], beta=20
    )
    continuous = solve_continuous(make_mechanism("market", (0.5, 50.0)), market)
    free = solve(market).free_prices
    np.testing.assert_allclose(continuous.shares, free.share, rtol=1e-7)
    assert continuous.welfare == pytest.approx(free.welfare, rel=1e-9)
    # Compute is efficient when prices are free: each level maximises w (GAME.md, theorem 8).
    np.testing.assert_array_equal(
        continuous.highest_levels, np.argmax(market.quality - market.cost, axis=1)
    )


def test_environments_with_continuous_prices_solve_themselves():
    env = ttc_env.parallel_env("market", "gpqa", actions="continuous", beta=300)
    solution = env.unwrapped.solve()
    config = env.unwrapped.config
    prices = PriceRange.of(config.mechanism, config.market)
    played = config.mechanism.play(solution.highest, config.market)
    assert continuous_regret(config.mechanism, config.market, played, prices)[1].max() <= 1e-8
    assert (
        ttc_env.parallel_env("auction", "gpqa", actions="continuous").unwrapped.solve().welfare
        == solve(config.market, "auction").welfare
    )


def test_a_game_without_equilibrium_says_so():
    """A provider that can only lose wants the opposite of what its rivals' replies make of it:
    matching pennies.
    """
    rng = np.random.default_rng(0)
    for _ in range(2000):
        quality, cost = rng.random((2, 2)), rng.random((2, 2)) / 2
        price = cost + np.array([[0.2, 0.1], [-0.2, -0.1]]) * rng.random((2, 2))
        solution = solve(Market.from_arrays(quality, price, cost, beta=10))
        if not len(solution.equilibria):
            break
    assert solution.complete
    assert solution.lowest is None
    assert not solution.unique
    assert np.isnan(
        [solution.welfare, solution.price_of_anarchy, solution.price_of_stability]
    ).all()
    assert np.isnan([solution.user_value, solution.log_sum, *solution.shares]).all()
    assert "loses money whatever it does" in solution.no_equilibrium
    assert solution.ratio_reason == solution.no_equilibrium
    nearest = solution.least_regret
    assert nearest.exact
    every = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    regrets = [ttc_env.relative_regret(solution.market, profile).max() for profile in every]
    assert nearest.relative == min(regrets) > 0
    assert tuple(nearest.profile) == tuple(every[np.argmin(regrets)])
    with pytest.raises(ValueError, match="no pure Nash equilibrium"):
        _ = solution.worst
    page = solution._repr_html_()
    assert "the social optimum:" in page
    rows = solution.to_frame()
    assert set(rows.play) == {"optimum"}
    assert list(rows.provider) == ["provider_0", "provider_1"]


def test_the_auctions_gain_in_the_reading_with_tastes_is_the_yardsticks():
    for benchmark in ("gsm8k", "gpqa"):
        market = ttc_env.load_market(benchmark, beta=300)
        gain = auction_gain(market)
        posted, auction = (
            account(x.mechanism, market, x.worst, tastes=True)
            for x in (gain.market, solve(market, make_mechanism("auction")))
        )
        expected = float(auction.user_value - posted.user_value)
        assert gain.users_with_tastes == pytest.approx(expected, rel=1e-9)
        assert gain.users_with_tastes < gain.users  # choosing oneself is worth something


def test_every_benchmark_of_a_solution_is_there():
    solution = solve(ttc_env.load_market("gpqa", "best_of_n", beta=300))
    # the only equilibrium there is
    np.testing.assert_array_equal(solution.potential_maximiser, solution.worst)
    joint = float(solution.at(solution.collusive).utility.sum())
    assert joint >= float(solution.provider_profit.sum())
    assert solution.beta_zero.profile.tolist() == [5] * 9  # most compute: the most profit per query
    assert solution.free_prices.converged
    assert solution.log_sum >= solution.user_value  # choice is worth something if it is taste


def test_single_numbers_are_at_the_worst_of_several_equilibria():
    """Games with several equilibria of different welfare, found by search; brute force says which
    is worst.
    """
    rng = np.random.default_rng(1)
    seen = 0
    while seen < 20:
        quality, cost = rng.random((3, 3)) * [1, 2, 3], rng.random((3, 3)) * [0.2, 0.6, 1.0]
        price = cost + rng.random((3, 3)) * [0.1, 0.5, 1.5]
        solution = solve(
            Market.from_arrays(quality, price, cost, beta=float(rng.choice([3, 10, 30])))
        )
        if len(solution.equilibria) < 2:
            continue
        seen += 1
        welfares = [float(solution.at(profile).welfare) for profile in solution.equilibria]
        assert solution.welfare == pytest.approx(min(welfares), rel=1e-12)
        assert solution.best_welfare == pytest.approx(max(welfares), rel=1e-12)
        np.testing.assert_array_equal(solution.worst, solution.equilibria[np.argmin(welfares)])
        np.testing.assert_array_equal(solution.best, solution.equilibria[np.argmax(welfares)])
        assert not solution.unique
        if min(welfares) > 0:
            assert solution.price_of_anarchy == pytest.approx(
                solution.optimal_welfare / min(welfares)
            )
            assert solution.price_of_stability == pytest.approx(
                solution.optimal_welfare / max(welfares)
            )
        # Every value lies between the lowest and the highest equilibrium's (GAME.md, theorem 3).
        value = [
            solution.at(profile).offer.score
            for profile in (solution.lowest, *solution.equilibria, solution.highest)
        ]
        assert all((value[0] <= v + 1e-12).all() and (v <= value[-1] + 1e-12).all() for v in value)


def test_shares_keep_their_digits_at_high_beta():
    """Identical providers share evenly, exactly, however rational users are."""
    for beta in (1.0, 1e5, 1e7):
        solution = solve(Market.from_arrays([[2.0]] * 4, [[1.0]] * 4, [[0.5]] * 4, beta=beta))
        share = 1 / (4 + np.exp(-beta))
        np.testing.assert_allclose(solution.shares, share, rtol=1e-14)
        assert solution.price_of_anarchy == 1.0


@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_every_public_attribute_of_a_solution_answers(mechanism):
    solution = solve(ttc_env.load_market("gpqa", "reasoning"), mechanism)
    for name in dir(type(solution)):
        if not name.startswith("_"):
            getattr(solution, name)


def test_profiles_are_checked_before_they_are_played():
    solution = solve(ttc_env.load_market())
    for profile in ([-1] * 9, [6] * 9, [0] * 8, [0.5] * 9):
        with pytest.raises(ValueError, match="action index from 0 to 5"):
            solution.at(profile)
    with pytest.raises(TypeError, match="needs a Market"):
        solve(5)


def test_the_auction_says_what_is_tied():
    """0.4 - 0.2 is more than 0.3 - 0.1 by its last bit: neither a winner nor a level by more."""
    assert 0.4 - 0.2 > 0.3 - 0.1

    def auction(quality, cost, **options):
        return solve(Market.from_arrays(quality, cost, cost, beta=1, **options), "auction")

    apart = auction([[0.4], [0.35]], [[0.2], [0.1]])
    assert apart.unique
    assert not apart.tied_within_rounding
    decimal = auction([[0.4], [0.3]], [[0.2], [0.1]])
    assert (decimal.shares == [1, 0]).all()  # scores tie where they are equal as numbers
    assert decimal.tied_within_rounding
    assert not decimal.unique
    exact = auction([[0.5], [0.5]], [[0.25], [0.25]])
    assert exact.tied_within_rounding
    assert not exact.unique
    levels = auction([[0.4, 0.3], [0.2, 0.3]], [[0.2, 0.1], [0.1, 0.25]])
    assert not levels.tied_within_rounding
    assert not levels.unique
    assert auction([[0.4], [0.3]], [[0.2], [0.1]], outside_value=1.0).unique  # nobody serves
    # ... and whether anybody does, by less than h is known
    for quality, cost in ((0.3, 0.1), (0.4, 0.2)):
        at_threshold = auction([[quality]], [[cost]], outside_value=0.2)
        assert (at_threshold.winner is None) == (quality - cost < 0.2)
        assert at_threshold.tied_within_rounding
        assert not at_threshold.unique


def test_a_solution_keeps_its_tolerance():
    market = Market.from_arrays([[0.1, 0.2]], [[0.05, 0.1]], [[0.0, 0.0]], beta=1.0)
    for found in (solve, enumeration.solve):
        mechanism = get_mechanism("market")
        ways = {"market": market, "mechanism": mechanism, "tolerance": 1e-7}
        assert found(**ways).pne.tolerance == pytest.approx(1e-7, rel=1e-3)
