"""Regrets where prices are continuous, against many bids one by one."""

import numpy as np
import pytest

import ttc_env
from ttc_env.game.continuous import PriceRange, continuous_regret, solve_continuous
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.rules.score_auction import second_price_auction
from ttc_env.game.tariffs import Offer


def bids_one_by_one(mechanism, market, offer, i, count=4001):
    """The most that provider i comes to, over levels, reports and `count` bids between the ends of
    the range.
    """
    promise, (terms, _) = mechanism.promises(market), mechanism.terms(market)
    low, high = mechanism.tariff.price_range(terms)
    best = -np.inf
    for level, report in np.argwhere(~np.isnan(promise.quality[i])):
        offers = []
        for field, own in (
            ("quality", promise.quality[i, level, report]),
            ("seen", promise.seen[i, level, report]),
            ("price", np.linspace(low[i, level, report], high[i, level, report], count)),
            ("cost", promise.cost[i, level, report]),
        ):
            rows = np.repeat(getattr(offer, field)[:, None], count, axis=1)
            rows[i] = own
            offers.append(rows)
        penalty = np.zeros((len(offer.price), count))
        penalty[i] = (promise.penalty + np.zeros_like(promise.quality))[i, level, report]
        played = mechanism.play(Offer(*offers, penalty=penalty), market)
        best = max(best, played.utility[i].max())
    return best


AUCTIONS = {
    "wide": second_price_auction((-0.5, 8.0)),
    "bids above cost": second_price_auction((0.5, 3.0)),
    "bids below cost": second_price_auction((-0.5, -0.2)),
    "modest claims": second_price_auction((0.5, 2.0), misreport={"over_claim": (0.6, 0.8)}),
    "claims that are paid": second_price_auction(
        (-0.5, 2.0), "claimed", misreport={"over_claim": (0.5, 1.5)}
    ),
    "fined claims": second_price_auction(
        (-0.5, 2.0), "claimed", misreport={"over_claim": 1.5, "under_serve": 1}, fine=0.1
    ),
}


@pytest.mark.parametrize("name", AUCTIONS)
def test_regret_in_the_auction_is_against_bids_that_can_be_made(name):
    mechanism, rng = AUCTIONS[name], np.random.default_rng(0)
    binds = 0
    for _ in range(40):
        quality = rng.uniform(0.2, 1.0, (3, 2))
        quality[0, 1] = np.nan
        cost = quality * rng.uniform(0.2, 1.2, (3, 2))
        market = ttc_env.Market.from_arrays(
            quality, cost, cost, beta=1.0, outside_value=rng.choice([0.0, 0.2, -0.5])
        )
        level, unit = np.array([0, *rng.integers(0, 2, 2)]), rng.choice([0.0, 0.3, 1.0], 3)
        rows = np.arange(3)
        prices, at = PriceRange.of(mechanism, market), level * len(mechanism.reports(market))
        bid = prices.lowest[rows, at] + unit * (prices.highest - prices.lowest)[rows, at]
        q = market.quality[rows, level]
        offer = Offer(q, q * rng.choice([0.6, 1.0, 1.5], 3), bid, market.cost[rows, level])
        outcome = mechanism.play(offer, market)
        best = outcome.utility + continuous_regret(mechanism, market, outcome, prices)[0]
        expected = [bids_one_by_one(mechanism, market, offer, i) for i in range(3)]
        np.testing.assert_allclose(
            best, np.maximum(expected, outcome.utility), rtol=1e-9, atol=1e-12
        )
        worth = (
            np.nanmax(market.quality - market.cost, axis=1)
            - mechanism.rule.rivals(offer, market).score
        )
        binds += int((best < np.maximum(worth, 0.0) - 1e-9).sum())
    if name in ("bids above cost", "modest claims"):
        # the range's ends matter here: what would be earned if any score could be reached is more
        assert binds


@pytest.mark.parametrize("beta", [0.0, 1.0, 30.0, 1000.0])
def test_regret_in_the_market_is_against_every_price(beta):
    mechanism, rng = make_mechanism("market", (0.8, 16.0)), np.random.default_rng(1)
    for _ in range(20):
        price = np.sort(rng.uniform(0.01, 0.2, (3, 2)), axis=1)
        market = ttc_env.Market.from_arrays(
            rng.uniform(0.2, 1.0, (3, 2)), price, 0.8 * price, beta=beta, outside_value=0.1
        )
        level, factor = rng.integers(0, 2, 3), rng.uniform(0.8, 16.0, 3)
        quality, price, cost = (
            x[np.arange(3), level] for x in (market.quality, market.price, market.cost)
        )
        offer = Offer(quality, quality, factor * price, cost)
        outcome, prices = mechanism.play(offer, market), PriceRange.of(mechanism, market)
        best = outcome.utility + continuous_regret(mechanism, market, outcome, prices)[0]
        expected = [bids_one_by_one(mechanism, market, offer, i, 40_001) for i in range(3)]
        assert (best >= np.array(expected) * (1 - 1e-12)).all()
        # the grid of prices is that fine
        np.testing.assert_allclose(best, expected, rtol=1e-3)


@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_many_games_at_once(mechanism):
    markets = [
        ttc_env.load_market("gpqa", beta=beta, outside_value=v)
        for beta, v in ((0.0, 0.0), (300.0, 0.001), (1e6, 0.0))
    ]
    rules, batch = make_mechanism(mechanism, "grid"), MarketBatch.of(markets)
    rng = np.random.default_rng(0)
    prices = PriceRange.of_batch(rules, batch)
    level, unit = rng.integers(0, 6, (9, 1, 3)), rng.random((9, 3))
    quality, _, cost, _, low, high = (np.take_along_axis(x, level, 1)[:, 0] for x in prices)
    together = Offer(quality, quality, low + unit * (high - low), cost)
    found = continuous_regret(rules, batch, rules.play(together, batch), prices)
    for g, market in enumerate(markets):
        one = rules.play(together.map(lambda x, g=g: x[:, g]), market)
        expected = continuous_regret(rules, market, one, PriceRange.of(rules, market))
        np.testing.assert_allclose([x[:, g] for x in found], expected, rtol=1e-11, atol=1e-18)


def test_levels_are_whole_numbers():
    solution = solve_continuous(make_mechanism("market", "grid"), ttc_env.load_market("gpqa"))
    for levels in (solution.lowest_levels, solution.highest_levels):
        assert levels.dtype.kind == "i"


def test_sweeps_cut_short_say_so_and_the_gap_measures_it():
    market = ttc_env.load_market("gpqa", beta=1e4)
    mechanism = make_mechanism("market", (0.8, 64.0))
    whole = solve_continuous(mechanism, market)
    assert whole.converged
    assert whole.iterations > 4
    assert whole.gap < 1e-9
    cut = solve_continuous(mechanism, market, max_sweeps=1)
    assert not cut.converged
    assert cut.iterations == 2  # one from either end
    assert cut.gap > 1e-3


def test_what_users_and_providers_get_is_the_welfare():
    market = ttc_env.load_market("gpqa", beta=1e4)
    found = solve_continuous(make_mechanism("market", (0.8, 64.0)), market)
    assert found.welfare == pytest.approx(found.user_value + found.provider_profit.sum(), rel=1e-12)
    offer = found.outcome.offer
    told = found.shares @ (offer.quality - offer.price)
    assert found.user_value == pytest.approx(told, rel=1e-12)  # V_0 is 0
