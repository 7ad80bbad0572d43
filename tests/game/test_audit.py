"""The auditor: it certifies what is proved truthful, and finds every planted lie."""

from dataclasses import dataclass

import numpy as np
import pytest

import ttc_env
from ttc_env.game.arrays import array_module
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.rules import scores
from ttc_env.game.rules.base import Rule
from ttc_env.game.tariffs import CostPlus, Offer

MARKET = ttc_env.load_market(providers=["Qwen2-7B", "Qwen2.5-7B", "Llama-3-8B"])


def random_market(seed):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.1, 0.6, (3, 2))
    return ttc_env.Market.from_arrays(
        rng.uniform(0.3, 1.5, (3, 2)), cost, cost, beta=8.0, outside_value=rng.uniform(-0.2, 0.4)
    )


@dataclass(frozen=True)
class Broken(Rule):
    """A second-score auction with a planted lie."""

    lie: str

    def rivals(self, offer, users):
        return scores.best_rival(offer.score)

    def log_share(self, offer, rivals, users):
        return scores.log_share(offer.score, rivals, users.outside_value)

    def outside_share(self, offer, share, users):
        return scores.outside_share(offer.score, users.outside_value)

    def payment(self, offer, rivals, users):
        xp = array_module(offer.score)
        beaten = xp.where(rivals.score > users.outside_value, rivals.score, users.outside_value)
        honest = offer.quality - beaten
        if self.lie == "bid":  # a hundredth of the own bid comes on top
            return honest + 0.01 * offer.price
        if self.lie == "claim":  # a thousandth of the promise too
            return honest + 0.001 * (offer.seen - offer.quality)
        if self.lie == "level":  # a bonus for compute
            return honest + 1.5 * offer.cost
        return honest


def broken(lie):
    return ttc_env.Mechanism("broken", CostPlus((0.0,)), Broken(lie))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rivals", ["truthful", "random"])
@pytest.mark.parametrize(
    "mechanism",
    [
        make_mechanism("auction"),
        make_mechanism("auction", "grid", reserve=0.3),
        make_mechanism("auction", "grid", claims=(0.8, 1.0, 1.25)),
        make_mechanism("taste_auction", "grid"),
        broken("none"),
    ],
)
def test_second_score_auctions_are_certified(mechanism, rivals, seed):
    found = ttc_env.audit(mechanism, random_market(seed), rivals, seed)
    assert found.max_gain <= 1e-14
    assert found.truthful
    assert found.individually_rational
    assert found.payment_independent
    assert found.budget_balanced
    exact = mechanism.name != "broken"
    assert found.certificate.startswith("exact" if exact else "a search")


def test_efficiency_is_welfare_over_the_first_best():
    assert ttc_env.audit("auction", MARKET).efficient
    assert ttc_env.audit("taste_auction", MARKET).efficient
    market = ttc_env.load_market(beta=200)
    found = ttc_env.audit("market", market, claims=(1, 1))
    w = np.nanmax(market.quality - market.cost)
    levels = np.nanargmax(market.quality - market.cost, axis=1)
    assert not found.efficient
    mechanism = make_mechanism("market")
    welfare = mechanism.play(mechanism.offers(market).take(levels), market).welfare
    assert found.efficiency == pytest.approx(float(welfare) / w, rel=1e-12)
    reserve = make_mechanism("auction", reserve=1.0)
    assert ttc_env.audit(reserve, MARKET).efficiency == 0.0


def test_first_score_rewards_shading():
    market = random_market(1)
    found = ttc_env.audit("first_score", market)
    w = np.sort((market.quality - market.cost).max(axis=1))[::-1]
    # the winner bids up to the second score: w_(1) - max(w_(2), V_0) at most, off the grid
    assert found.max_gain == pytest.approx(w[0] - max(w[1], market.outside_value), rel=1e-6)
    assert found.provider == (market.quality - market.cost).max(axis=1).argmax()
    assert 0 <= found.grid_gain <= found.max_gain
    assert not found.truthful
    assert not found.payment_independent
    assert "search" in found.certificate
    level, price, claim = found.deviation
    assert price > market.cost[found.provider, level]
    assert claim > 0


@pytest.mark.parametrize("name", ["auction", "taste_auction"])
@pytest.mark.parametrize("claims", [(1.0,), (1.0, 1.25)])
def test_claims_that_are_paid_for_are_lied_about(name, claims):
    market = random_market(2)
    found = ttc_env.audit(make_mechanism(name, settlement="claimed", claims=claims), market)
    assert found.max_gain > 0.1
    assert found.deviation.claim == pytest.approx(2.0)
    assert (found.grid_gain > 0) == (len(claims) > 1)
    # GAME.md, theorem 19: the gain of over-claiming by 2, against truthful rivals
    if name == "auction":
        i, best = found.provider, 2.0 * market.quality - market.cost
        w = (market.quality - market.cost).max(axis=1)
        beaten = max(np.delete(w, i).max(), market.outside_value)
        truth = max(w[i] - beaten, 0.0)
        assert found.max_gain == pytest.approx(best[i].max() - beaten - truth, rel=1e-9)


@pytest.mark.parametrize("lie", ["bid", "claim", "level"])
def test_planted_lies_are_found(lie):
    market = random_market(0)
    found = ttc_env.audit(broken(lie), market)
    assert found.max_gain > 1e-4
    assert not found.truthful
    i, (level, price, claim) = found.provider, found.deviation
    truth = int((market.quality[i] - market.cost[i]).argmax())
    if lie == "bid":
        assert price > market.cost[i, level]
        assert not found.payment_independent
    if lie == "claim":
        assert claim == pytest.approx(2.0)
    if lie == "level":
        assert level != truth or price != market.cost[i, level]
    # the deviation earns what is said
    mechanism = broken(lie)
    levels = (market.quality - market.cost).argmax(axis=1)
    rows = np.arange(3)
    quality, cost = market.quality[rows, levels], market.cost[rows, levels]
    honest = mechanism.play(Offer(quality, quality, cost, cost), market)
    quality2, seen, bid, cost2 = quality.copy(), quality.copy(), cost.copy(), cost.copy()
    quality2[i], cost2[i] = market.quality[i, level], market.cost[i, level]
    seen[i], bid[i] = quality2[i] * claim, price
    lied = mechanism.play(Offer(quality2, seen, bid, cost2), market)
    assert lied.utility[i] - honest.utility[i] == pytest.approx(found.max_gain, rel=1e-9)


def test_grid_gain_is_the_largest_regret_of_the_truth():
    mechanism = make_mechanism("first_score", (0.0, 0.2, 0.7))
    market = random_market(4)
    truth = mechanism.join((market.quality - market.cost).argmax(axis=1), 0, market=market)
    found = ttc_env.audit(mechanism, market, truth)
    assert found.rivals == "profile"
    expected = ttc_env.regret(market, truth, mechanism)
    assert found.grid_gain == pytest.approx(expected.max(), rel=1e-12)


def test_random_rivals_follow_the_seed():
    market = random_market(5)
    first, again, other = (
        ttc_env.audit("taste_auction", market, "random", seed).least_profit for seed in (1, 1, 2)
    )
    assert first == again != other


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="choose 'truthful', 'random'"):
        ttc_env.audit("auction", MARKET, "honest")
    with pytest.raises(ValueError, match="flat actions from 0 to 5"):
        ttc_env.audit("auction", MARKET, [0, 0, 6])
    with pytest.raises(ValueError, match="low <= 1 <= high"):
        ttc_env.audit("auction", MARKET, claims=(1.5, 2.0))
