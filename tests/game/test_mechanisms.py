"""The two mechanisms: their rules against plain loops, and the economics as properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_env.game.mechanisms import get_mechanism, make_mechanism
from ttc_env.game.rules.score_auction import second_price_auction
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Market

tenths = st.integers(-3, 12).map(lambda k: k / 10)


@st.composite
def markets(draw, max_n=4, max_m=3, positive_cost=False):
    n, m = draw(st.integers(1, max_n)), draw(st.integers(1, max_m))
    grid = st.lists(st.lists(tenths, min_size=m, max_size=m), min_size=n, max_size=n)
    quality, cost = (
        np.array(draw(grid)),
        np.abs(np.array(draw(grid))) + (0.1 if positive_cost else 0.0),
    )
    price = cost + np.abs(np.array(draw(grid)))
    return Market.from_arrays(
        quality,
        price,
        cost,
        beta=draw(st.sampled_from([0.0, 1.0, 50.0, 1e5])),
        outside_value=draw(tenths),
    )


def auction_by_hand(quality, claim, bid, cost, outside, settlement):
    """GAME.md's auction as a loop over the draw of ties: expected profit of each provider, user's
    value, welfare.
    """
    n = len(quality)
    score = [claim[i] - bid[i] for i in range(n)]
    top = max(score)
    if top < outside:
        return np.zeros(n), outside, outside
    winners = [i for i in range(n) if score[i] == top]
    profit, user, total = np.zeros(n), 0.0, 0.0
    for w in winners:
        others = [score[j] for j in range(n) if j != w]
        payment = (quality[w] if settlement == "delivered" else claim[w]) - max([*others, outside])
        profit[w] += (payment - cost[w]) / len(winners)
        user += (quality[w] - payment) / len(winners)
        total += (quality[w] - cost[w]) / len(winners)
    return profit, user, total


@given(markets(), st.data(), st.sampled_from(["delivered", "claimed"]))
def test_auction_is_the_loop(market, data, settlement):
    lies = {"over_claim": (0.5, 2.0)}
    auction = second_price_auction((-0.5, 0.0, 1.0), settlement, misreport=lies)
    table = auction.offers(market)
    actions = np.array(
        [data.draw(st.integers(0, table.quality.shape[1] - 1)) for _ in range(market.num_providers)]
    )
    offer = table.take(actions)
    outcome = auction.play(offer, market)
    profit, user, total = auction_by_hand(
        offer.quality, offer.seen, offer.price, offer.cost, market.outside_value, settlement
    )
    np.testing.assert_allclose(outcome.utility, profit, atol=1e-12)
    assert outcome.user_value == pytest.approx(user, abs=1e-12)
    assert outcome.welfare == pytest.approx(total, abs=1e-12)


@given(
    markets(),
    st.sampled_from(
        [
            make_mechanism("market", (0.5, 1.0, 3.0)),
            second_price_auction((-0.5, 0.0, 1.0), misreport={"over_claim": 0.5}),
        ]
    ),
    st.data(),
)
def test_surplus_adds_up_and_deviations_agree_with_play(market, mechanism, data):
    table = mechanism.offers(market)
    n, a = table.quality.shape
    actions = np.array([data.draw(st.integers(0, a - 1)) for _ in range(n)])
    outcome = mechanism.play(table.take(actions), market)
    assert outcome.share.sum() + outcome.outside_share == pytest.approx(1, abs=1e-12)
    assert outcome.welfare == pytest.approx(outcome.user_value + outcome.utility.sum(), abs=1e-12)
    profit, log_share = mechanism.deviations(table, table.take(actions), market)
    i, other = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, a - 1))
    changed = actions.copy()
    changed[i] = other
    replay = mechanism.play(table.take(changed), market)
    assert np.exp(log_share[i, other]) * profit[i, other] == pytest.approx(
        replay.utility[i], abs=1e-14
    )


@given(
    markets(positive_cost=True),
    st.data(),
    st.sampled_from([0.3, 0.8, 1.0, 1.3, 3.0]),
    st.floats(0.01, 5),
    st.one_of(st.just(-np.inf), st.floats(-1, 2)),
)
def test_no_profitable_misreport_when_delivered_quality_is_paid(
    market, data, claim_factor, bid_factor, reserve
):
    """Best level, bid at cost, true claim: no level, bid or claim earns more, whatever the others
    do and whatever the reserve ([TTC], dominant strategy; GAME.md, "Score auctions").
    """
    auction = second_price_auction(reserve=reserve)
    n = market.num_providers
    i = data.draw(st.integers(0, n - 1))
    levels = np.array([data.draw(st.integers(0, market.num_levels - 1)) for _ in range(n)])
    rows = np.arange(n)
    quality, cost = market.quality[rows, levels], market.cost[rows, levels]
    factors = np.array([data.draw(st.sampled_from([0.2, 0.9, 1.0, 2.0])) for _ in range(n)])
    rivals = Offer(quality, quality * factors, cost * factors[::-1], cost)

    def profit_of(level, bid, claim):
        arrays = [x.copy() for x in (rivals.quality, rivals.seen, rivals.price, rivals.cost)]
        for array, value in zip(
            arrays, (market.quality[i, level], claim, bid, market.cost[i, level]), strict=True
        ):
            array[i] = value
        return auction.play(Offer(*arrays), market).utility[i]

    best = int(np.argmax(market.quality[i] - market.cost[i]))
    truthful = profit_of(best, market.cost[i, best], market.quality[i, best])
    for level in range(market.num_levels):
        lie = profit_of(
            level, bid_factor * market.cost[i, level], claim_factor * market.quality[i, level]
        )
        assert lie <= truthful + 1e-12


def test_overclaiming_wins_but_pays_only_when_claims_are_settled():
    market = Market.from_arrays([[1.0], [0.9]], [[0.2], [0.2]], [[0.1], [0.1]], beta=1)
    for settlement, sign in (("delivered", -1), ("claimed", 1)):
        auction = second_price_auction((0.0,), settlement, misreport={"over_claim": 2.0})
        # the worse provider claims twice its quality
        outcome = auction.play(auction.offers(market).take(np.array([0, 1])), market)
        assert outcome.share.tolist() == [0, 1]
        assert np.sign(outcome.utility[1]) == sign


def test_actions_flatten_and_split_back():
    market = Market.from_arrays(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), beta=1)
    auction = second_price_auction((0.0, 1.0), misreport={"over_claim": (0.5, 2.0)})
    actions = np.arange(18)
    level, price, report = auction.split(actions, market)
    np.testing.assert_array_equal(auction.join(level, price, report, market=market), actions)
    offer = auction.offers(market)
    np.testing.assert_allclose(offer.price[0], np.array([1.0, 2.0])[price])
    np.testing.assert_allclose(offer.seen[0], np.array([1.0, 0.5, 2.0])[report])


def test_relabelling_providers_permutes_the_outcome():
    rng = np.random.default_rng(0)
    quality, cost = rng.random((5, 1)), rng.random((5, 1)) / 4
    order = rng.permutation(5)
    for mechanism in (get_mechanism("market"), second_price_auction()):
        a, b = (
            Market.from_arrays(quality[o], 2 * cost[o], cost[o], beta=3)
            for o in (np.arange(5), order)
        )
        one, two = (mechanism.play(mechanism.offers(x).take(np.zeros(5, int)), x) for x in (a, b))
        np.testing.assert_allclose(one.utility[order], two.utility, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: make_mechanism("market", ()), "rising order"),
        (lambda: make_mechanism("market", (1.0, 1.0)), "rising order"),
        (lambda: make_mechanism("market", (0.0, 1.0)), "above 0"),
        (lambda: second_price_auction((-1.0, 0.0)), "above -1"),
        (lambda: second_price_auction(settlement="hoped for"), "'delivered' or 'claimed'"),
        (lambda: second_price_auction(misreport={"over_claim": (2.0, 0.5)}), "rising order"),
    ],
)
def test_bad_rules_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
