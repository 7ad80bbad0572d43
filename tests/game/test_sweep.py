"""Sweeps over markets and betas give what the solvers give one by one."""

import dataclasses
import importlib
import inspect

import numpy as np
import pytest

import ttc_env
from ttc_env.game.curves import BENCHMARKS, METHODS
from ttc_env.game.equilibrium import equilibria, highest_equilibrium, lowest_equilibrium
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.random_markets import random_markets
from ttc_env.game.sweep import sweep
from ttc_env.game.tariffs import PerToken
from ttc_env.game.types import PostedPriceGame

sweep_module = importlib.import_module("ttc_env.game.sweep")


def check(found, at, market, mechanism="market"):
    one = ttc_env.solve(market, mechanism)
    n = market.num_providers
    # beta V is known to its last digit only, which shares near a tie magnify
    rtol = 1e-12 + 1e-17 * market.beta
    for profile, expected in (
        (found.lowest, one.lowest),
        (found.highest, one.highest),
        (found.optimum, one.optimum),
    ):
        np.testing.assert_array_equal(
            profile[at][:n], expected if expected is not None else np.full(n, -1)
        )
        assert (profile[at][n:] == -1).all()
    for name in ("welfare", "optimal_welfare", "price_of_anarchy", "price_of_stability"):
        np.testing.assert_allclose(
            getattr(found, name)[at], getattr(one, name), rtol=rtol, err_msg=name
        )
    assert found.unique[at] == one.unique
    assert found.complete[at]
    assert found.converged[at]


def test_the_nine_published_games():
    markets = [
        ttc_env.load_market(benchmark, method) for benchmark in BENCHMARKS for method in METHODS
    ]
    betas = np.logspace(0, 6, 13)
    found = sweep(markets, betas)
    assert found.welfare.shape == (9, 13)
    assert (found.betas == betas).all()
    for j, market in enumerate(markets):
        for k in range(j % 3, 13, 3):
            check(found, (j, k), market.replace(beta=betas[k]))


def test_random_games_with_several_equilibria():
    batch = random_markets(150, "gsm8k", seed=0, beta=(100.0, 1e6), spread=2.0)
    found = sweep(batch)
    assert not found.unique.all()
    for j in range(150):
        check(found, (j, 0), batch.market(j))
    np.testing.assert_array_equal(found.betas[:, 0], batch.beta)


def test_odd_markets():
    # profit 0 or a loss
    flat = ttc_env.Market.from_arrays([[1.0, 1.0]], [[0.5, 0.5]], [[0.5, 0.6]], beta=3.0)
    # users do better with nobody
    below = ttc_env.Market.from_arrays(
        [[0.1, 0.2]] * 2, [[0.5, 0.7]] * 2, [[0.4, 0.5]] * 2, beta=50.0
    )
    short = ttc_env.Market.from_arrays(
        [[0.5, 0.7], [0.6, np.nan]],
        [[0.1, 0.2], [0.1, np.nan]],
        [[0.05, 0.1], [0.05, np.nan]],
        beta=5.0,
    )
    markets = [flat, below, short, short.replace(beta=0.0), short.replace(beta=1e7)]
    found = sweep(markets)
    for j, market in enumerate(markets):
        check(found, (j, 0), market)
    assert np.isnan(found.price_of_anarchy[1, 0]) == np.isnan(ttc_env.solve(below).price_of_anarchy)


@pytest.mark.parametrize("choices", [(0.8, 1.0, 3.0, 9.0), PerToken().choices])
def test_levels_and_prices(choices):
    """Prices on a grid: 0.8 is cost, so that many actions earn exactly nothing; in one batch with a
    market of fewer levels, and at beta 0.
    """
    mechanism = make_mechanism("market", choices)
    batch = random_markets(40, "aime", seed=1, num_providers=4, beta=(30.0, 1e5), spread=2.0)
    short = ttc_env.Market.from_arrays(
        [[0.5, 0.7], [0.6, np.nan]],
        [[0.1, 0.2], [0.1, np.nan]],
        [[0.05, 0.1], [0.05, np.nan]],
        beta=5.0,
    )
    markets = [
        *(batch.market(j) for j in range(40)),
        short,
        short.replace(beta=0.0),
        ttc_env.load_market("gpqa"),
    ]
    found = sweep(markets, mechanism=mechanism)
    for j, market in enumerate(markets):
        check(found, (j, 0), market, mechanism)
    assert found.lowest.max() >= markets[-1].num_levels  # flat actions


def test_markets_without_an_equilibrium_leave_the_others_alone():
    quality = [[0.08, -0.08, 0.66], [-0.97, 0.84, 0.95], [-0.7, 0.74, 0.23]]
    price = [[0.91, 0.75, 0.66], [0.78, 0.28, 0.5], [0.49, 0.16, 0.23]]
    # the last two lose whatever they do
    cost = [[0.74, 1.06, 0.55], [0.68, 0.36, 0.7], [0.63, 0.21, 0.24]]
    none = ttc_env.Market.from_arrays(quality, price, cost, beta=5, outside_value=-3)
    assert not len(ttc_env.solve(none).equilibria)
    other = random_markets(1, num_providers=3, seed=0).market(0)
    found = sweep([none, other])
    assert found.lowest[0, 0].tolist() == [-1, -1, -1]
    assert np.isnan([found.welfare[0, 0], found.price_of_anarchy[0, 0]]).all()
    assert not found.unique[0, 0]
    check(found, (1, 0), other)


def test_users_who_do_not_look_leave_equal_profits_apart():
    """At beta = 0 all logits are equal, but actions of one profit and two values are two
    equilibria.
    """
    market = ttc_env.Market.from_arrays([[2.0, 7.0]], [[1.0, 1.0]], [[0.5, 0.5]], beta=0.0)
    found = sweep(market)
    check(found, (0, 0), market)
    assert not found.unique[0, 0]
    assert found.welfare[0, 0] < found.best_welfare[0, 0]


def test_a_sweep_that_is_cut_short_says_so(monkeypatch):
    market = ttc_env.load_market("gsm8k", beta=3000.0)
    assert sweep(market).iterations > 1
    short = sweep(market, max_sweeps=1)
    assert not short.converged[0, 0]
    assert not short.unique[0, 0]
    found = sweep_module.maximise_share_weighted

    def unfinished(*args):
        return dataclasses.replace(found(*args), converged=np.zeros(1, bool))

    monkeypatch.setattr(sweep_module, "maximise_share_weighted", unfinished)
    assert not sweep(market).converged[0, 0]
    assert sweep(market).unique[0, 0]  # which does not hang on the optimum


def posted(attraction, profit):
    """A market at beta 1 with e_l = attraction and pi_l = profit, the same for every provider (V =
    log e, cost 0).
    """
    attraction, profit = np.asarray(attraction, float), np.asarray(profit, float)
    return ttc_env.Market.from_arrays(
        [np.log(attraction) + profit] * 2, [profit] * 2, [0.0 * profit] * 2, beta=1.0
    )


# Two providers, each with e = 1 and pi = 1, or e = 3 and a profit that makes it indifferent against
# one rival total A_-i (1 / U_l = (1 + A_-i / e_l) / pi_l): against a low rival A_-i = 2 and pays
# 5/9, against a high rival A_-i = 4 and pays 7/15.
TIES = {
    "indifferent at the bottom, strict at the top": 5 / 9,
    "strict at the bottom, indifferent at the top": 7 / 15,
}


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_exact_ties_keep_the_bracket_open(tie, order):
    """Both corners are equilibria.

    The climb must take the lowest V of equal replies, the fall the highest, or the two meet in one
    corner.
    """
    attraction, profit = np.array([1.0, 3.0])[order], np.array([1.0, TIES[tie]])[order]
    market = posted(attraction, profit)
    found = sweep(market)
    check(found, (0, 0), market)
    low = order.index(0)
    assert found.lowest[0, 0].tolist() == [low, low]
    assert found.highest[0, 0].tolist() == [1 - low, 1 - low]
    assert not found.unique[0, 0]


def test_ties_up_to_rounding():
    """The same at beta V = 1e9, where doubles know logits to 1e-7 only: one such tie as good as
    another, for sweeps and for `equilibria`.
    """
    # against a low rival A_-i = 1, and 2 / 1 = (4 / 3) / (2 / 3)
    attraction, profit = np.array([1.0, 3.0]), np.array([1.0, 2 / 3])
    for base in 1.0 + np.arange(20) / 7:
        quality = base + np.log(attraction) / 1e9 + profit
        market = ttc_env.Market.from_arrays(
            [quality] * 2, [profit] * 2, [0.0 * profit] * 2, beta=1e9
        )
        found, one = sweep(market), ttc_env.solve(market)
        for mine, theirs, expected in (
            (found.lowest, one.lowest, [0, 0]),
            (found.highest, one.highest, [1, 1]),
        ):
            assert mine[0, 0].tolist() == theirs.tolist() == expected
        assert found.unique[0, 0] == one.unique == False  # noqa: E712


@pytest.mark.parametrize("columns", [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
@pytest.mark.parametrize("high_profit", [0.4, 0.6])
def test_of_identical_actions_the_first(columns, high_profit):
    """A bracket closed in one V: the first of the columns that offer it, as one by one.

    Equally good optima: the first, too.
    """
    market = posted(np.array([1.0, 3.0])[columns], np.array([1.0, high_profit])[columns])
    found, one = sweep(market), ttc_env.solve(market)
    first = columns.index(int(high_profit > 0.5))
    assert found.lowest[0, 0].tolist() == found.highest[0, 0].tolist() == [first, first]
    assert found.unique[0, 0]  # up to actions of equal value
    for mine, expected in (
        (found.lowest, one.lowest),
        (found.highest, one.highest),
        (found.optimum, one.optimum),
    ):
        np.testing.assert_array_equal(mine[0, 0], expected)
    optimum = columns.index(columns[int(found.optimum[0, 0, 0])])
    assert found.optimum[0, 0].tolist() == [optimum, optimum]


def test_errors():
    with pytest.raises(ValueError, match="at least one"):
        sweep([])
    with pytest.raises(ValueError, match="beta"):
        sweep(ttc_env.load_market(), [-1.0])


def test_a_batch_whose_tables_differ_in_shape_is_refused():
    table, users = np.ones((2, 3, 4)), (np.ones(4), np.zeros(4))
    for tables in ([table, table, table[:1]], [table[0], table[0], table[0]]):
        with pytest.raises(ValueError, match=r"must be \[providers, levels, markets\].*one shape"):
            ttc_env.MarketBatch(*tables, *users)
    with pytest.raises(ValueError, match=r"one number per market, \(4,\)"):
        ttc_env.MarketBatch(table, table, table, np.ones(3), np.zeros(4))


class Surcharge(PerToken):
    """The list price, and as much more as there are providers and levels: what a tariff may read
    of a market that is one of many.
    """

    def price(self, terms, choice):
        return terms[0] * choice + terms[1]

    def terms(self, market):
        shape = market.num_providers, market.num_levels
        assert market.quality.shape == shape
        return market.price, np.full(shape, 1e-4 * market.num_levels)


def test_a_tariff_reads_of_a_batch_what_it_reads_of_one_market():
    markets = [ttc_env.load_market("gpqa", beta=beta) for beta in (100.0, 1e4)]
    mechanism = ttc_env.Mechanism("dear", Surcharge((0.8, 1.0)), make_mechanism("market").rule)
    found = sweep(markets, mechanism=mechanism)
    for g, market in enumerate(markets):
        one = ttc_env.solve(market, mechanism)
        assert found.welfare[g, 0] == pytest.approx(one.welfare, rel=1e-12)
        np.testing.assert_array_equal(found.lowest[g, 0], one.lowest)


def test_other_rules_are_swept_game_by_game():
    market = ttc_env.load_market("gpqa")
    found = sweep(market, [10.0, 1000.0], mechanism="auction")
    expected = ttc_env.solve(market, "auction")
    assert found.welfare.tolist() == [[expected.welfare] * 2]
    np.testing.assert_array_equal(found.lowest[0, 0], expected.actions)


@pytest.mark.parametrize("betas", [None, [10.0, 1e5]])
@pytest.mark.parametrize("shapes", ["one", "two"])
def test_blocks_of_markets_change_nothing(betas, shapes, monkeypatch):
    """Of a batch in which not every market has all levels, or of markets of two shapes."""
    drawn = random_markets(21, "gsm8k", num_providers=3, seed=0, beta=(100.0, 1e6), spread=2.0)
    gone = np.zeros(drawn.quality.shape, bool)
    gone[:, -1, ::2] = True
    tables = (np.where(gone, np.nan, x) for x in (drawn.quality, drawn.price, drawn.cost))
    batch = ttc_env.MarketBatch(*tables, drawn.beta, drawn.outside_value)
    markets = batch if shapes == "one" else [batch.market(g) for g in range(21)]
    whole = sweep(markets, betas)
    for entries in (1, 3 * 6 * 5):
        monkeypatch.setattr(sweep_module, "_ENTRIES", entries)
        found = sweep(markets, betas)
        for field in dataclasses.fields(found):
            np.testing.assert_allclose(
                getattr(found, field.name), getattr(whole, field.name), rtol=1e-13
            )


def test_max_sweeps_is_one_number_everywhere():
    solvers = equilibria, lowest_equilibrium, highest_equilibrium, sweep
    defaults = [inspect.signature(solver).parameters["max_sweeps"].default for solver in solvers]
    assert defaults == [10_000] * 4
    market = random_markets(1, "gsm8k", num_providers=9, seed=0, beta=1e5, spread=2.0)[0]
    game = PostedPriceGame.from_market(market)
    assert equilibria(game).iterations > 1
    assert "max_sweeps=1" in equilibria(game, max_sweeps=1).reason
    assert not lowest_equilibrium(game, max_sweeps=1).converged
    assert not highest_equilibrium(game, max_sweeps=1).converged
