"""Tariffs: their prices written out, their games against every profile in long double, and what is
proved of them.
"""

import numpy as np
import pytest

import ttc_env
from tests.game.bruteforce import log_regrets, playable_profiles, profiles_of, share_weighted
from ttc_env.game.continuous import PriceRange
from ttc_env.game.demand import logits
from ttc_env.game.free_prices import best_markup
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.tariffs import PayPerCorrect, PriceCap, TwoPart, reference_level

OPTIONS = {
    "market": [{}],
    "flat_fee": [{}],
    "pay_per_correct": [{"base": "list"}, {"base": "value"}],
    "two_part": [{}],
    "price_cap": [{}, {"cap": 0.4}],
    "per_character": [{}],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]
ALPHA, BASELINE = 1.0, 0.1


def random_market(rng, *, flavour="smooth", proportional=False):
    """A small market with everything that a tariff may read; of the flavours, "ties" has exact
    ties, "negative" some surplus below 0, and "losses" list prices below cost.
    """
    n, m = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    accuracy = rng.uniform(0.05, 1.0, (n, m))
    price = np.sort(rng.uniform(0.01, 0.6, (n, m)), axis=1)
    if flavour == "ties":
        accuracy = rng.integers(1, 4, (n, m)) / 4
        price = rng.integers(1, 4, (n, m)) / 8
    quality = ALPHA * (BASELINE + (1 - BASELINE) * accuracy)
    cost = (
        price / 1.25
        if proportional or flavour == "ties"
        else price * rng.uniform(0.2, 1, n)[:, None]
    )
    if flavour == "negative":
        price, cost = 3 * price, 3 * cost
    if flavour == "losses":
        cost = price * rng.uniform(0.5, 1.5, (n, m))
    characters = rng.integers(1, 9, (n, m)) * 100.0
    tables = [quality, price, cost, accuracy, characters]
    if rng.random() < 0.4 and m > 1:
        for i in range(n):
            gone = int(rng.integers(0, m))
            for table in tables:
                table[i, m - gone :] = np.nan
        if np.isnan(quality[:, -1]).all():
            tables = [table[:, : int((~np.isnan(quality)).sum(axis=1).max())] for table in tables]
    return ttc_env.Market.from_arrays(
        *tables[:3],
        accuracy=tables[3],
        characters=tables[4],
        alpha=ALPHA,
        baseline=BASELINE,
        beta=float(10 ** rng.uniform(-1, 2.5)),
        outside_value=0.0 if rng.random() < 0.5 else float(rng.uniform(-0.3, 0.6)),
    )


FLAVOURS = ("smooth", "ties", "negative", "losses")


def price_by_hand(name, options, market, i, level, x):
    """RULES of the tariffs, one number at a time."""
    quality, price, cost = market.quality[i], market.price[i], market.cost[i]
    star = max(
        (k for k in range(len(quality)) if not np.isnan(quality[k])),
        key=lambda k: (quality[k] - cost[k], -k),
    )
    if name == "market":
        return x * price[level]
    if name == "flat_fee":
        return x * price[star]
    if name == "pay_per_correct":
        right = (
            price[star] / market.accuracy[i, star]
            if options["base"] == "list"
            else market.alpha * (1 - market.baseline)
        )
        return x * right * market.accuracy[i, level]
    if name == "two_part":
        return cost[level] + x * (price[star] - cost[star])
    if name == "price_cap":
        return min(x * price[level], options.get("cap", price[star]))
    kappa = price[star] / market.characters[i, star]
    return x * kappa * market.characters[i, level]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_prices_are_the_formulas_in_a_market_and_in_a_batch(name, options):
    rng = np.random.default_rng(0)
    mechanism = make_mechanism(name, (0.5, 1.0, 3.0), **options)
    for flavour in FLAVOURS * 5:
        market = random_market(rng, flavour=flavour)
        table = mechanism.offers(market)
        for i, provider in enumerate(market.providers):
            for action in range(table.price.shape[1]):
                level, at, _ = (int(part) for part in mechanism.split(action, market))
                if level >= len(provider.levels):
                    assert np.isnan(table.price[i, action])
                    continue
                x = mechanism.tariff.choices[at]
                expected = price_by_hand(name, options, market, i, level, x)
                assert table.price[i, action] == pytest.approx(expected, rel=1e-14)
        low, high = mechanism.tariff.price_range(mechanism.tariff.terms(market))
        everything = mechanism.tariff.prices(market)
        np.testing.assert_array_equal(low, everything.min(axis=2))
        np.testing.assert_array_equal(high, everything.max(axis=2))
    markets = [m for m in (random_market(rng) for _ in range(400)) if m.quality.shape == (3, 3)]
    batch = MarketBatch.of(markets)
    for found in (batch, batch.with_betas([1.0, 2.0])):
        table, step = found.offers(mechanism), len(found) // len(markets)
        for g, market in enumerate(markets):
            np.testing.assert_array_equal(table.price[:, g * step], mechanism.offers(market).price)
            again = mechanism.offers(found.market(g * step))
            np.testing.assert_array_equal(again.price, mechanism.offers(market).price)
    ends = PriceRange.of_batch(mechanism, batch)
    assert (ends.highest >= ends.lowest)[~np.isnan(ends.lowest)].all()
    assert len(markets) > 3


def test_the_reference_level_is_the_first_of_the_best():
    market = ttc_env.Market.from_arrays(
        [[0.5, 0.75, 1.0], [0.25, np.nan, np.nan]],
        [[0.5, 0.5, 0.5], [0.5, np.nan, np.nan]],
        [[0.25, 0.25, 0.5], [0.5, np.nan, np.nan]],
        beta=1.0,
    )
    assert reference_level(market).tolist() == [1, 0]  # surplus 0.25, 0.5, 0.5; and a loss


def test_the_fee_of_a_loss_makes_the_price_fall_in_the_choice():
    market = ttc_env.Market.from_arrays([[1.0]], [[0.1]], [[0.2]], beta=1.0)
    mechanism = make_mechanism("two_part", (0.5, 1.0, 2.0))
    np.testing.assert_allclose(mechanism.tariff.prices(market)[0, 0], [0.15, 0.1, 0.0], atol=1e-16)
    low, high = mechanism.tariff.price_range(mechanism.tariff.terms(market))
    assert low[0, 0] == pytest.approx(0.0, abs=1e-16)
    assert high[0, 0] == pytest.approx(0.15)


def test_what_a_tariff_cannot_price_is_an_error_that_says_so():
    plain = ttc_env.Market.from_arrays([[1.0]], [[0.1]], [[0.05]], beta=1.0)
    with pytest.raises(ValueError, match="chance of a right answer"):
        ttc_env.solve(plain, "pay_per_correct")
    with pytest.raises(ValueError, match="no column 'characters'"):
        ttc_env.solve(plain, "per_character")
    with pytest.raises(ValueError, match="no column 'characters'"):
        ttc_env.parallel_env(mechanism="per_character").reset()
    never = ttc_env.Market.from_arrays(
        [[0.1]], [[0.1]], [[0.05]], beta=1.0, accuracy=[[0.0]], characters=[[0.0]]
    )
    with pytest.raises(ValueError, match="is 0 for provider 0; use base='value'"):
        ttc_env.solve(never, "pay_per_correct")
    with pytest.raises(ValueError, match="needs alpha"):
        ttc_env.solve(never, make_mechanism("pay_per_correct", base="value"))
    with pytest.raises(ValueError, match="0 for provider 0"):
        ttc_env.solve(never, "per_character")
    with pytest.raises(ValueError, match=r"'list'.*or 'value'"):
        PayPerCorrect(base="both")
    for cap in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="positive number of USD/query"):
            PriceCap(cap=cap)
    with pytest.raises(ValueError, match="one number from 0 to 1 per level"):
        ttc_env.Market.from_arrays([[1.0]], [[0.1]], [[0.1]], beta=1.0, accuracy=[[1.5]])
    with pytest.raises(ValueError, match="give one of the same"):
        ttc_env.Market.from_arrays([[1.0]], [[0.1]], [[0.1]], beta=1.0, accuracy=[[0.5, 0.6]])
    with pytest.raises(ValueError, match="above 0"):
        TwoPart((0.0, 1.0))


def test_environments_take_a_tariffs_options():
    env = ttc_env.parallel_env(mechanism="price_cap", cap=2e-5)
    assert np.nanmax(env.config.table.price) == 2e-5
    env = ttc_env.vector_env(2, mechanism="pay_per_correct", base="value", prices="fixed")
    assert env.config.mechanism.tariff.base == "value"
    with pytest.raises(TypeError, match="no option base"):
        ttc_env.parallel_env(mechanism="flat_fee", base="value")


@pytest.mark.parametrize(("name", "options"), CASES)
def test_equilibria_and_optimum_are_those_of_every_profile(name, options):
    rng = np.random.default_rng([3, CASES.index((name, options))])
    for k in range(300):
        market = random_market(rng, flavour=FLAVOURS[k % 4])
        prices = "fixed" if k % 2 else (0.5, 1.0, 2.0)
        mechanism = make_mechanism(name, prices, **options)
        solution = ttc_env.solve(market, mechanism)
        check_against_every_profile(solution)


def check_against_every_profile(solution):
    game = solution.game
    profiles, regret = log_regrets(game)
    kept = playable_profiles(game, profiles)
    listed = {tuple(map(int, p)) for p in solution.equilibria}
    surely, perhaps = (
        {tuple(map(int, p)) for p in profiles[kept & (regret <= factor * solution.tolerance)]}
        for factor in (0.999, 1.001)
    )
    assert solution.complete
    assert surely <= listed <= perhaps
    welfare = share_weighted(game, profiles_of(game), game.surplus, game.outside_value)
    assert solution.optimal_welfare == pytest.approx(float(welfare.max()), rel=1e-12, abs=1e-14)
    assert listed or np.nanmax(game.profit, axis=1).min() < 0


def by_level(solution):
    """Levels of all equilibria, `[k, n]`."""
    return solution.split(solution.equilibria)[0]


def test_two_part_argmax_w_is_dominant_exactly_where_the_fee_is_positive():
    """GAME.md, theorem 10."""
    rng = np.random.default_rng(4)
    signs = set()
    for k in range(400):
        market = random_market(rng, flavour=FLAVOURS[k % 4]).replace(
            beta=float(10 ** rng.uniform(-1, 6))  # dominance of less than the solver's tolerance
        )
        x = float(rng.choice([0.1, 1.0, 40.0]))
        solution = ttc_env.solve(market, make_mechanism("two_part", x))
        star, row = reference_level(market), np.arange(market.num_providers)
        surplus = market.quality - market.cost
        fee = (market.price - market.cost)[row, star]
        signs |= set(np.sign(fee))
        if (fee > 0).all():
            # of levels with equal w, up to rounding, all are as good
            best = surplus >= surplus[row, star][:, None] - 1e-12
            assert len(solution.equilibria)
            assert best[row, by_level(solution)].all()
            assert solution.unique or (best.sum(axis=1) > 1).any()
        for profile in solution.equilibria:
            table = solution.mechanism.offers(market)
            profit, log_share = solution.mechanism.deviations(table, table.take(profile), market)
            utility = profit * np.exp(log_share)
            for i in np.flatnonzero(fee < -1e-9):
                least = utility[i, np.nanargmin(surplus[i])]
                assert least == pytest.approx(np.nanmax(utility[i]), rel=1e-9)
    assert signs == {-1.0, 1.0}
    # no fee: everything is an equilibrium
    flat = ttc_env.Market.from_arrays(
        [[0.5, 0.9]] * 2, [[0.1, 0.4]] * 2, [[0.1, 0.4]] * 2, beta=1.0
    )
    assert len(ttc_env.solve(flat, "two_part").equilibria) == 4


def test_two_part_in_the_published_games_is_unique_and_efficient_at_any_beta():
    """The trap of theorem 10: 5 of 9 cells used to list near-equilibria at beta = 1e5."""
    for benchmark in ("gsm8k", "aime", "gpqa"):
        for method in ("majority", "best_of_n", "reasoning"):
            market = ttc_env.load_market(benchmark, method, beta=1e5)
            solution = ttc_env.solve(market, "two_part")
            assert solution.unique
            np.testing.assert_array_equal(solution.worst, reference_level(market))
            swept = ttc_env.sweep(market, [1e3, 1e5], mechanism="two_part")
            assert swept.unique.all()
            np.testing.assert_array_equal(swept.lowest[0, 1], reference_level(market))


def test_pay_per_correct_at_the_value_leaves_users_the_baseline():
    """GAME.md, theorem 11: V = alpha b at every level, pi = w - alpha b, argmax w dominant."""
    rng = np.random.default_rng(5)
    mechanism = make_mechanism("pay_per_correct", base="value")
    dominant = 0
    for k in range(300):
        market = random_market(rng, flavour=FLAVOURS[k % 3])
        solution = ttc_env.solve(market, mechanism)
        game, there = solution.game, market.available
        np.testing.assert_allclose(game.value[there], ALPHA * BASELINE, rtol=1e-13)
        expected = (market.quality - market.cost - ALPHA * BASELINE)[there]
        np.testing.assert_allclose(game.profit[there], expected, atol=1e-14)
        row, star = np.arange(market.num_providers), reference_level(market)
        best = game.profit[row, star]
        if (best > 1e-9).all():
            dominant += 1
            profits = game.profit[row, solution.equilibria]
            np.testing.assert_allclose(profits, np.tile(best, (len(profits), 1)), rtol=1e-9)
            served = 1 - solution.outside_share
            expected = served * ALPHA * BASELINE + solution.outside_share * market.outside_value
            assert solution.user_value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert dominant > 100


@pytest.mark.parametrize("name", ["flat_fee", "price_cap", "market", "two_part"])
def test_which_way_a_rule_errs(name):
    """GAME.md, theorem 12, over all best replies to random rivals."""
    rng = np.random.default_rng(6)
    mechanism = make_mechanism(name)
    below = above = 0
    for _ in range(400):
        market = random_market(rng, proportional=name == "price_cap")
        game = mechanism.rule.game(mechanism, market)
        star = reference_level(market)
        z = logits(game.value, game.beta, game.outside_value)
        # A_-i holds at least the outside option, 1
        rivals = max(0.0, rng.uniform(-1.0, max(0.0, float(np.nanmax(z))) + 3.0))
        for i in range(market.num_providers):
            own = np.nanmax(game.profit[i])
            if own <= 0:
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                log_u = np.log(game.profit[i]) - np.logaddexp(0.0, rivals - z[i])
            replies = np.flatnonzero(log_u >= np.nanmax(log_u) - 1e-12)
            w = game.surplus[i, star[i]]
            markup = best_markup(w, game.beta, rivals, game.outside_value)
            value, profit = game.value[i], game.profit[i, star[i]]
            if profit <= markup:
                below += 1
                assert (value[replies] <= value[star[i]] + 1e-12).all()
                if name == "price_cap":
                    assert star[i] in replies
                if name == "flat_fee":
                    assert (market.quality[i, replies] <= market.quality[i, star[i]] + 1e-12).all()
            if profit >= markup:
                above += 1
                assert (value[replies] >= value[star[i]] - 1e-12).all()
    assert below > 50
    assert above > 50


def test_every_market_of_a_batch_has_its_own_value_of_an_answer():
    def market(alpha, baseline):
        right = np.array([[0.2, 0.9], [0.5, 0.6]])
        return ttc_env.Market.from_arrays(
            alpha * (baseline + (1 - baseline) * right),
            0.1 * right,
            0.05 * right,
            accuracy=right,
            alpha=alpha,
            baseline=baseline,
            beta=1.0,
        )

    markets = [market(1.0, 0.1), market(3.0, 0.5), market(7.0, 0.0)]
    mechanism = make_mechanism("pay_per_correct", base="value")
    table = MarketBatch.of(markets).offers(mechanism)
    for g, one in enumerate(markets):
        np.testing.assert_allclose(table.price[:, g], mechanism.offers(one).price, rtol=1e-15)
    mixed = MarketBatch.of(
        [*markets, ttc_env.Market.from_arrays(*[[[0.5, 0.6]] * 2] * 3, beta=1.0)]
    )
    with pytest.raises(ValueError, match="chance of a right answer"):
        mixed.offers(mechanism)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_sweeps_agree_with_solve(name, options):
    """Copies (price_cap) and dominated actions included."""
    rng = np.random.default_rng([7, CASES.index((name, options))])
    mechanism = make_mechanism(name, (0.5, 1.0, 2.0, 4.0), **options)
    markets = [random_market(rng, flavour=FLAVOURS[k % 4]) for k in range(60)]
    swept = ttc_env.sweep(markets, mechanism=mechanism)
    for k, market in enumerate(markets):
        solution, n = ttc_env.solve(market, mechanism), market.num_providers
        for found, expected in (
            (swept.lowest, solution.lowest),
            (swept.highest, solution.highest),
            (swept.optimum, solution.optimum),
        ):
            np.testing.assert_array_equal(found[k, 0, :n], -1 if expected is None else expected)
        for field in ("welfare", "best_welfare", "optimal_welfare", "price_of_anarchy"):
            np.testing.assert_allclose(
                getattr(swept, field)[k, 0], getattr(solution, field), rtol=1e-11, err_msg=field
            )
        assert swept.complete[k, 0] == solution.complete
