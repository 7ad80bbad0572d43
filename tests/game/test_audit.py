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
        make_mechanism("auction", "grid", misreport={"over_claim": (0.8, 1.25)}),
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
    level, price, _ = found.deviation
    assert price > market.cost[found.provider, level]
    assert found.deviation.claim > 0


@pytest.mark.parametrize("name", ["auction", "taste_auction"])
@pytest.mark.parametrize("lies", [(), {"over_claim": 1.25}])
def test_claims_that_are_paid_for_are_lied_about(name, lies):
    market = random_market(2)
    mechanism = make_mechanism(name, settlement="claimed", misreport=lies)
    found = ttc_env.audit(mechanism, market, claims=(0.5, 2.0))
    assert found.max_gain > 0.1
    assert found.deviation.claim == pytest.approx(2.0)
    assert (found.grid_gain > 0) == bool(lies)
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
    i, (level, price, _), claim = found.provider, found.deviation, found.deviation.claim
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


@pytest.mark.parametrize("claims", [5, (1,), (0.5, 1, 2)])
def test_claims_are_two_factors(claims):
    with pytest.raises(ValueError, match="two factors"):
        ttc_env.audit("market", ttc_env.load_market(), claims=claims)


def test_a_name_is_no_market():
    for name, call in {
        "audit": lambda: ttc_env.audit("market", "gsm8k"),
        "compare": lambda: ttc_env.compare("gsm8k"),
        "deterrence": lambda: ttc_env.deterrence("gsm8k"),
        "fit_beta": lambda: ttc_env.fit_beta("gsm8k", shares=[1.0]),
        "first_best": lambda: ttc_env.first_best("gsm8k"),
        "regret": lambda: ttc_env.regret("gsm8k", [0]),
        "resample": lambda: ttc_env.resample("gsm8k", 1),
        "solve": lambda: ttc_env.solve("gsm8k"),
        "who_pays": lambda: ttc_env.who_pays("gsm8k", "market", [0], [0]),
    }.items():
        with pytest.raises(TypeError, match=f"{name} needs a Market, not str; see ttc_env.load"):
            call()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="choose 'truthful', 'random'"):
        ttc_env.audit("auction", MARKET, "angels")
    with pytest.raises(ValueError, match="seed is"):
        ttc_env.audit("auction", MARKET, "random", seed="a")
    with pytest.raises(ValueError, match="flat actions from 0 to 5"):
        ttc_env.audit("auction", MARKET, [0, 0, 6])
    with pytest.raises(ValueError, match="low <= 1 <= high"):
        ttc_env.audit("auction", MARKET, claims=(1.5, 2.0))


def posted(name, seed, **options):
    rng = np.random.default_rng(seed)
    price = np.sort(rng.uniform(0.02, 0.5, (3, 3)), axis=1)
    quality = np.sort(rng.uniform(0.3, 1.0, (3, 3)), axis=1)
    market = ttc_env.Market.from_arrays(quality, price, price / 1.25, beta=20.0)
    return market, make_mechanism(name, misreport=make_mechanism(name).tariff.lies, **options)


@pytest.mark.parametrize("name", ["market", "flat_fee", "two_part", "price_cap"])
def test_the_audit_certifies_that_a_fine_deters_and_finds_the_lie_where_it_does_not(name):
    """Against honest equilibria, on both sides of the frontier (GAME.md, theorem 18)."""
    for seed in range(4):
        market, mechanism = posted(name, seed)
        frontier = ttc_env.deterrence(market, mechanism)
        line, lie = frontier.line[0], frontier.binding()
        if lie is None:
            continue
        for factor, deterred in ((0.0, False), (0.999, False), (1.0 + 1e-9, True), (2.0, True)):
            _, fined = posted(name, seed, audit_rate=0.25, fine=4.0 * line * factor)
            found = ttc_env.audit(fined, market, frontier.honest[0])
            assert found.deterred == deterred
            assert (found.lie is None) == (found.report_gain == 0)
            # the same, by the regret of the honest profile
            regret = ttc_env.regret(market, frontier.honest[0], fined).max()
            assert found.report_gain == pytest.approx(regret, rel=1e-9, abs=1e-15)
            if factor == 0.999:
                provider, deviation = found.lie
                assert (provider, deviation.level) == (lie.provider, lie.level)
                assert deviation.report == lie.report
            same = ttc_env.audit(fined, market, "honest")
            assert same.deterred == deterred


def test_fines_make_the_auction_on_claims_truthful():
    market = random_market(3)
    options = {"settlement": "claimed", "misreport": {"over_claim": (1.25, 1.5)}}
    line = ttc_env.deterrence(market, "auction", **options).line[0]
    for factor, truthful in ((0.999, False), (1.001, True)):
        mechanism = make_mechanism("auction", fine=line * factor, **options)
        found = ttc_env.audit(mechanism, market)
        assert found.truthful == found.deterred == truthful
        assert found.certificate.startswith("exact")
        if not truthful:
            assert found.deviation.claim == pytest.approx(1.5)
            assert found.max_gain == pytest.approx(0.001 * line, rel=1e-6)


def test_lies_between_the_sizes_of_the_grid_are_searched():
    """Users see an over-report: the best size lies inside, and the search finds it."""
    market = ttc_env.Market.from_arrays([[1.0], [0.9]], [[0.1], [0.1]], [[0.09], [0.09]], beta=8.0)
    lies = {"misreport": {"over_report": 4.0}, "noticed": True}
    mechanism = make_mechanism("market", **lies)
    found = ttc_env.audit(mechanism, market, "truthful")
    # one lie at a time, on prices that the tariff allows: the audit tries prices from 1/4 to 4
    # times the list price, so that with r the bill is 1/4 to 16 times
    utility = []
    for bill in np.linspace(0.025, 1.6, 20001):
        rest = 1 + np.exp(8.0 * (0.9 - 0.1))
        share = np.exp(8.0 * (1.0 - bill)) / (rest + np.exp(8.0 * (1.0 - bill)))
        utility.append(share * (bill - 0.09))
    own = np.exp(8.0 * 0.9) / (1 + np.exp(8.0 * 0.8) + np.exp(8.0 * 0.9)) * 0.01
    assert found.gains[0] == pytest.approx(max(utility) - own, rel=1e-5)
    unnoticed = make_mechanism("market", misreport={"over_report": 4.0})
    found = ttc_env.audit(unnoticed, market, "truthful")
    assert found.deviation.report == ("over_report", 4.0)
    assert "search" in found.certificate


def test_random_rivals_lie_too():
    market, mechanism = posted("market", 1, fine=0.01)
    found = ttc_env.audit(mechanism, market, "random", 0)
    assert found.report_gain > 0
    assert np.isfinite(found.max_gain)
