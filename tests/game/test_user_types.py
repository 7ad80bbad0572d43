"""User types: against plain Python loops, against one type, against drawn users, and the games that
have no pure equilibrium.
"""

import datetime
import itertools
import pickle

import numpy as np
import pandas as pd
import pytest

import ttc_env
from ttc_env import UserType
from ttc_env.game import branching, enumeration
from ttc_env.game.branching import TypedGame, _Actions, most_welfare
from ttc_env.game.history import HistoryPoint, history, market_facts
from ttc_env.game.mechanisms import make_mechanism, mechanism_options
from ttc_env.game.rules.base import Users
from ttc_env.game.rules.user_types import user_types

POSTED = [name for name in ttc_env.mechanisms() if "types" in mechanism_options(name)]
PAIR = [UserType(0.3, beta=20.0), UserType(0.7, beta=2.0, alpha=2.0, baseline=0.3)]


# --- the second method: plain Python, from the formulas in GAME.md ------------------------------


class Loops:
    """A market with types, worked out number by number."""

    def __init__(self, market, types):
        self.v0, self.types = market.outside_value, types
        self.actions = []  # of each provider, (q, p, c) by level
        for provider in market.providers:
            rows = zip(provider.quality, provider.price, provider.cost, strict=True)
            self.actions.append([tuple(map(float, row)) for row in rows])
        self.market = market

    def quality(self, kind, q):
        market = self.market
        accuracy = (q / market.alpha - market.baseline) / (1.0 - market.baseline)
        alpha = market.alpha if kind.alpha is None else kind.alpha
        b = market.baseline if kind.baseline is None else kind.baseline
        return alpha * (b + (1.0 - b) * accuracy)

    def shares(self, kind, profile):
        """Everybody's share among users of one type, and who buys from nobody."""
        beta = self.market.beta if kind.beta is None else kind.beta
        z = []
        for i, a in enumerate(profile):
            q, p, _ = self.actions[i][a]
            z.append(beta * (self.quality(kind, q) - p - self.v0))
        top = max(0.0, *z)
        e = [np.exp(np.longdouble(x - top)) for x in z]  # far smaller than a float can be
        none = np.exp(np.longdouble(-top))
        total = none + sum(e)
        return [x / total for x in e], none / total

    def utilities(self, profile):
        found = [0.0] * len(profile)
        for kind in self.types:
            share, _ = self.shares(kind, profile)
            for i, a in enumerate(profile):
                _, p, c = self.actions[i][a]
                found[i] += kind.weight * share[i] * (p - c)
        return found

    def welfare(self, profile):
        total = 0.0
        for kind in self.types:
            share, outside = self.shares(kind, profile)
            for i, a in enumerate(profile):
                q, _, c = self.actions[i][a]
                total += kind.weight * share[i] * (self.quality(kind, q) - c)
            total += kind.weight * outside * self.v0
        return total

    def profiles(self):
        return itertools.product(*(range(len(rows)) for rows in self.actions))

    def regret(self, profile):
        """The largest relative regret of any provider."""
        worst, own = 0.0, self.utilities(profile)
        for i in range(len(profile)):
            tried = []
            for a in range(len(self.actions[i])):
                changed = list(profile)
                changed[i] = a
                tried.append(self.utilities(changed)[i])
            best = max(tried)
            if best > 0:
                worst = max(worst, 1.0 - own[i] / best)
            elif own[i] < best - 1e-9 * abs(best):
                worst = max(worst, 1.0)
        return worst

    def playable(self, i, a):
        """Whether no other action is at least as good for everybody, or an earlier copy."""
        q, p, c = self.actions[i][a]
        looking = [t for t in self.types if t.beta != 0 and (t.beta or self.market.beta != 0)]
        for b, (q_b, p_b, c_b) in enumerate(self.actions[i]):
            if b == a:
                continue
            seen = [(self.quality(t, x) - y) for t in self.types for x, y in ((q, p), (q_b, p_b))]
            if seen[::2] == seen[1::2] and (p_b - c_b, q_b - c_b) == (p - c, q - c):
                if b < a:
                    return False
                continue
            mine = [p - c, *(self.quality(t, q) - p for t in looking)]
            other = [p_b - c_b, *(self.quality(t, q_b) - p_b for t in looking)]
            good = all(y >= x for x, y in zip(mine, other, strict=True))
            if p - c > 0 and good and other != mine:
                return False
        return True

    def equilibria(self, tolerance=1e-9):
        return [
            profile
            for profile in self.profiles()
            if all(self.playable(i, a) for i, a in enumerate(profile))
            and self.regret(profile) <= tolerance
        ]


def random_case(rng):
    """A small market and types: ties, losses, one provider, an outside option, uneven grids."""
    n, m = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    ties, curves = rng.random(2) < (0.3, 0.6)
    if curves:
        n, m = int(rng.integers(2, 4)), 3
    counts = rng.integers(2 if curves else 1, m + 1, n).clip(max=m)
    counts[rng.integers(n)] = m
    if ties:  # halves and quarters, so that equal numbers are equal in the last bit
        accuracy = rng.integers(0, 5, (n, m)) / 4
        price = rng.integers(1, 5, (n, m)) / 16
        cost = rng.integers(0, 5, (n, m)) / 16
    else:
        accuracy = rng.uniform(0, 1, (n, m))
        price = rng.uniform(0.02, 0.6, (n, m))
        cost = price * rng.uniform(0.3, 1.1, (n, m))
    if curves:  # more compute is better and dearer, with less and less effect
        accuracy, price = np.sort(accuracy, axis=1), np.sort(price, axis=1)
        cost = price / 1.25 if not ties else price / 2
    quality = 0.5 * accuracy + 0.5 if ties else 0.1 + 0.9 * accuracy
    if free := not curves and not ties:  # any V and any profit, losses now and then
        n, m, counts = 3, 3, np.full(3, 3)
        price = rng.uniform(0.1, 0.6, (n, m))
        quality, cost = price + rng.uniform(-1, 1, (n, m)), price - rng.uniform(-0.05, 1, (n, m))
        accuracy = np.zeros((n, m))
    for table in (quality, price, cost, accuracy):
        table[np.arange(m) >= counts[:, None]] = np.nan
    market = ttc_env.Market.from_arrays(
        quality,
        price,
        cost,
        beta=float(rng.choice([0.0, 1.0, 10 ** rng.uniform(0, 2)])),
        outside_value=float(rng.choice([0.0, 0.5, -0.25])),
        alpha=1.0,
        baseline=0.5 if ties else 0.1,
    )
    k = 2 if curves or free else int(rng.integers(1, 4))
    weights = [0.5, 0.5] if k == 2 else rng.dirichlet(np.ones(k))
    low = 10 ** (rng.uniform(-0.5, 0.5) if free else rng.uniform(0.0, 1.5))
    types = []
    for j, weight in enumerate(weights):
        ratio = float(rng.choice([1.0, 10.0, 100.0])) if not curves and not free else 50.0**j
        types.append(
            UserType(
                float(weight),
                beta=rng.choice([None, 0.0, low * ratio], p=[0.1, 0.05, 0.85]),
                alpha=rng.choice([None, 0.5, 2.0], p=[0.5, 0.25, 0.25]),
                baseline=rng.choice([None, 0.0, 0.25], p=[0.5, 0.25, 0.25]),
            )
        )
    return market, types


def check_against_loops(rng):
    """One random game; returns how many equilibria it has."""
    market, types = random_case(rng)
    loops = Loops(market, types)
    mechanism = make_mechanism("market", types=types)
    solution = ttc_env.solve(market, mechanism)
    expected = loops.equilibria()
    assert solution.complete
    assert [tuple(p) for p in solution.equilibria.tolist()] == expected
    assert solution.unique == (len(expected) == 1)
    best = max(map(loops.welfare, loops.profiles()))
    assert solution.optimal_welfare == pytest.approx(best, rel=1e-11, abs=1e-14)
    profile = tuple(int(rng.integers(len(rows))) for rows in loops.actions)
    played = solution.at(np.array(profile))
    np.testing.assert_allclose(played.utility, loops.utilities(profile), rtol=1e-10, atol=1e-15)
    assert played.welfare == pytest.approx(loops.welfare(profile), rel=1e-11, abs=1e-14)
    outside = sum(t.weight * loops.shares(t, profile)[1] for t in types)
    assert played.outside_share == pytest.approx(outside, rel=1e-10)
    if expected:
        worst = min(map(loops.welfare, expected))
        assert solution.welfare == pytest.approx(worst, rel=1e-11, abs=1e-14)
    else:
        least = min(map(loops.regret, loops.profiles()))
        assert solution.least_regret.exact
        assert solution.least_regret.relative == pytest.approx(least, rel=1e-8)
        assert np.isnan(solution.welfare)
    return len(expected)


def test_solutions_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    counts = [check_against_loops(rng) for _ in range(250)]
    assert counts.count(0) > 0
    assert max(counts) > 1


@pytest.mark.slow
def test_solutions_are_those_of_plain_loops_on_thousands_of_games():
    rng = np.random.default_rng(1)
    counts = [check_against_loops(rng) for _ in range(4000)]
    assert counts.count(0) > 20


# --- one type is the posted price -----------------------------------------------------------------


def world(seed, beta=5.0):
    """With everything that a tariff may read."""
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(0.2, 1.0, (3, 3))
    price = np.sort(rng.uniform(0.02, 0.5, (3, 3)), axis=1)
    tables = [0.1 + 0.9 * accuracy, price, price / 1.25, accuracy, np.sort(accuracy) * 900]
    for table in tables:
        table[1, 2] = np.nan
    return ttc_env.Market.from_arrays(
        *tables[:3], accuracy=tables[3], characters=tables[4], alpha=1.0, beta=beta
    )


ONE_TYPE = {
    "nothing of its own": [UserType(1.0)],
    "everything of its own, as in the market": [UserType(1.0, beta=5.0, alpha=1.0, baseline=0.1)],
    "two alike": [UserType(0.25), UserType(0.75)],
    "one that nobody is of": [UserType(1.0), UserType(0.0, beta=1e4)],
}


@pytest.mark.parametrize("types", ONE_TYPE.values(), ids=ONE_TYPE)
@pytest.mark.parametrize("name", POSTED)
def test_one_type_is_the_posted_price(name, types):
    rng = np.random.default_rng(5)
    for seed in (1, 2):
        market = world(seed).replace(outside_value=0.1 * seed)
        plain, typed = (make_mechanism(name, (0.5, 1, 2), **o) for o in ({}, {"types": types}))
        table = plain.offers(market)
        profiles = np.where(np.isnan(table.quality[:, -1:]), 0, rng.integers(0, 9, (3, 20)))
        ours, theirs = (m.play(table.take(profiles), market) for m in (typed, plain))
        for field in ("log_share", "outside_share", "payment", "profit", "user_value", "welfare"):
            np.testing.assert_allclose(
                getattr(ours, field), getattr(theirs, field), rtol=1e-12, atol=1e-15, err_msg=field
            )
        ours, theirs = ttc_env.solve(market, typed), ttc_env.solve(market, plain)
        assert ours.complete
        np.testing.assert_array_equal(ours.equilibria, theirs.equilibria)
        for field in ("lowest", "highest", "worst", "best"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
        for field in ("welfare", "optimal_welfare", "user_value", "mean_price", "log_sum"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), rel=1e-11)
        mixture = np.where(np.isnan(table.quality), 0.0, rng.uniform(0, 1, table.quality.shape))
        mixture /= mixture.sum(axis=1, keepdims=True)
        for assess in (ttc_env.regret, ttc_env.relative_regret):
            for profile in (mixture, profiles[:, 0]):
                np.testing.assert_allclose(
                    assess(market, profile, typed),
                    assess(market, profile, plain),
                    rtol=1e-8,
                    atol=1e-13,
                )


def test_one_type_is_the_market_in_the_published_games():
    for benchmark, method in (("gsm8k", "majority"), ("aime", "best_of_n"), ("gpqa", "reasoning")):
        for beta in (200.0, 1000.0, 1e5):
            market = ttc_env.load_market(benchmark, method, beta=beta)
            typed = ttc_env.solve(market, make_mechanism("market", types=[UserType(1.0)]))
            plain = ttc_env.solve(market)
            np.testing.assert_array_equal(typed.equilibria, plain.equilibria)
            assert typed.complete
            assert typed.unique == plain.unique
            # above 2^18 profiles the optimum is searched, and a bound stands beside it
            assert typed.optimal_welfare == pytest.approx(plain.optimal_welfare, rel=1e-12)
            assert typed.best_possible.gap < 1e-12


def test_types_may_stand_in_any_order_and_be_split():
    market, types = world(3), [*PAIR[:1], UserType(0.4, beta=2.0), UserType(0.3, alpha=0.5)]
    split = [UserType(0.1, beta=20.0), UserType(0.2, beta=20.0), *types[1:]]
    solutions = [
        ttc_env.solve(market, make_mechanism("flat_fee", "grid", types=chosen))
        for chosen in (types, types[::-1], split)
    ]
    for other in solutions[1:]:
        np.testing.assert_array_equal(other.equilibria, solutions[0].equilibria)
        assert other.welfare == pytest.approx(solutions[0].welfare, rel=1e-12, nan_ok=True)
        assert other.optimal_welfare == pytest.approx(solutions[0].optimal_welfare, rel=1e-12)


def test_relabelling_providers_relabels_the_answer():
    market = ttc_env.load_market("gpqa", beta=200)
    turned = market.replace(providers=market.providers[::-1])
    mechanism = make_mechanism("market", types=[{"weight": 0.5, "beta": 20}, {"weight": 0.5}])
    ours, theirs = ttc_env.solve(market, mechanism), ttc_env.solve(turned, mechanism)
    np.testing.assert_array_equal(np.sort(ours.equilibria), np.sort(theirs.equilibria[:, ::-1]))
    assert ours.optimal_welfare == pytest.approx(theirs.optimal_welfare, rel=1e-12)


# --- users drawn one by one ---------------------------------------------------------------------


def test_users_drawn_with_their_type_choose_and_gain_as_the_formulas_say():
    """Each user draws a type and tastes, and takes what it likes best."""
    rng, market, n = np.random.default_rng(7), world(2).replace(outside_value=0.3), 400_000
    rule = make_mechanism("market", types=PAIR).rule
    solution = ttc_env.solve(market, make_mechanism("market", types=PAIR))
    offer = solution.mechanism.offers(market).take(np.array([1, 0, 2]))
    kinds = rng.choice(2, n, p=[t.weight for t in PAIR])
    value = np.empty((n, 4))
    beta = np.empty(n)
    for k, kind in enumerate(PAIR):
        accuracy = (offer.quality - 0.1) / 0.9
        b, alpha = (0.1, 1.0) if kind.alpha is None else (kind.baseline, kind.alpha)
        worth = alpha * (b + (1 - b) * accuracy) - offer.price
        value[kinds == k] = [*worth, market.outside_value]
        beta[kinds == k] = kind.beta
    tastes = rng.gumbel(size=value.shape) / beta[:, None]
    chosen = (value + tastes).argmax(axis=1)
    share = np.bincount(chosen, minlength=4) / n
    played = rule.play(offer, market)
    np.testing.assert_allclose(share, [*played.share, played.outside_share], atol=0.004)
    got = value[np.arange(n), chosen]
    assert got.mean() == pytest.approx(float(played.user_value), abs=5 * got.std() / n**0.5)
    of_types = rule.by_type(offer, market)
    for k in range(2):
        mine = kinds == k
        np.testing.assert_allclose(
            np.bincount(chosen[mine], minlength=4)[:3] / mine.sum(),
            of_types.share[:, k],
            atol=0.006,
        )
        liked = (value + tastes)[mine].max(axis=1) - np.euler_gamma / beta[mine]
        assert liked.mean() == pytest.approx(
            of_types.log_sum[k], abs=5 * liked.std() / mine.sum() ** 0.5
        )
    np.testing.assert_allclose(of_types.share @ of_types.weight, played.share, rtol=1e-12)
    assert of_types.weight @ of_types.user_value == pytest.approx(float(played.user_value))


@pytest.mark.parametrize("name", ["market", "two_part", "price_cap"])
def test_types_and_lies_together(name):
    """Lies are actions like others: all equilibria by enumeration, and users pay what is billed."""
    told = {"misreport": {"over_report": (1.5,), "under_serve": (1,)}, "audit_rate": 0.5}
    mechanism = make_mechanism(name, types=PAIR, fine=0.02, **told)
    lied = 0
    for seed in range(8):
        market = world(seed, beta=8.0)
        solution = ttc_env.solve(market, mechanism)
        every = {tuple(p) for p in enumeration.solve(mechanism, market).equilibria}
        assert {tuple(p) for p in solution.equilibria} <= every
        assert bool(every) == bool(len(solution.equilibria))
        if solution.no_equilibrium:
            continue
        lied += bool(solution.lies.any())
        offer, of_types = solution.outcome.offer, solution.by_type
        for k in range(2):
            value = mechanism.rule.value(k, offer, market)
            worth = mechanism.rule.quality(k, offer.quality, market) - offer.paid
            beta = mechanism.rule.beta(k, market)
            log_a = np.log(np.exp(beta * market.outside_value) + np.exp(beta * value).sum()) / beta
            lost = of_types.share[:, k] @ (value - worth)
            assert of_types.log_sum[k] == pytest.approx(log_a - lost, rel=1e-12)
    assert lied  # a small fine does not deter


def test_sampled_demand_agrees_in_the_mean():
    options = {"market": world(1), "types": PAIR, "prices": "fixed"}
    many = ttc_env.vector_env(4000, demand="sampled", **options)
    one = ttc_env.parallel_env(**options)
    many.reset(seed=0)
    one.reset()
    rewards = many.step(np.ones((4000, 3), int))[1]
    expected = list(one.step(dict.fromkeys(one.agents, 1))[1].values())
    error = rewards.std(axis=0) / 4000**0.5
    assert (np.abs(rewards.mean(axis=0) - expected) < 5 * error + 1e-12).all()


# --- no pure equilibrium --------------------------------------------------------------------------


def without_equilibrium():
    """GSM8K, half of the users ten times as careful as the others."""
    return ttc_env.load_market(), make_mechanism(
        "market", types=[UserType(0.5), UserType(0.5, 1e4)]
    )


def test_a_published_market_has_no_equilibrium_and_says_so():
    solution = ttc_env.solve(*without_equilibrium())
    assert solution.complete
    assert not solution.unique
    assert solution.equilibria.shape == (0, 9)
    assert solution.lowest is None
    assert solution.highest is None
    assert "no pure Nash equilibrium" in solution.no_equilibrium
    assert solution.ratio_reason == solution.no_equilibrium
    for name in ("welfare", "best_welfare", "price_of_anarchy", "price_of_stability"):
        assert np.isnan(getattr(solution, name)), name
    for name in ("user_value", "outside_share", "mean_price", "log_sum"):
        assert np.isnan(getattr(solution, name)), name
    for name in ("shares", "provider_profit"):
        assert np.isnan(getattr(solution, name)).all()
        assert getattr(solution, name).shape == (9,)
    assert np.isnan(solution.by_type.share).all()
    for name in ("worst", "best", "outcome"):
        with pytest.raises(ValueError, match="no pure Nash equilibrium"):
            getattr(solution, name)
    assert "no PNE" in repr(solution)
    nearest = solution.least_regret
    assert nearest.exact
    regret = ttc_env.relative_regret(solution.market, nearest.profile, solution.mechanism)
    assert nearest.relative == pytest.approx(regret.max())
    assert nearest.relative > 0.01
    # nobody is better off where one provider changes to its best reply
    rng = np.random.default_rng(0)
    others = rng.integers(0, 6, (50, 9))
    for other in [*others, np.array(solution.optimum)]:
        worst = ttc_env.relative_regret(solution.market, other, solution.mechanism).max()
        assert worst >= nearest.relative


def test_sweeps_carry_games_without_equilibrium():
    market, mechanism = without_equilibrium()
    swept = ttc_env.sweep(market, [9000.0, 1000.0], mechanism=mechanism)
    assert swept.no_equilibrium.tolist() == [[False, True]]
    assert swept.complete.all()
    assert np.isnan(swept.welfare[0]).tolist() == [False, True]
    assert np.isnan(swept.price_of_anarchy[0]).tolist() == [False, True]
    assert (swept.lowest[0, 1] == -1).all()
    assert (swept.optimal_welfare > 0).all()


def test_bracket_ends_may_meet_where_another_equilibrium_exists():
    """Best replies from everybody's least and most value end in one profile, and there is another
    equilibrium: GAME.md, theorem 3, certifies nothing for users of several types.
    """
    rng, missed, met = np.random.default_rng(11), 0, 0
    for _ in range(1500):
        n, m = 2, 3
        value, profit = rng.uniform(-1, 1, (n, m, 1)), rng.uniform(0.05, 1, (n, m))
        beta = 10 ** rng.uniform(-0.5, 0.5)
        z = value * np.array([beta, beta * 30])
        game = TypedGame(z, np.log([0.5, 0.5]), profit, np.ones((n, m), bool))
        every, best = np.array(list(itertools.product(range(m), repeat=n))), _best(game)
        stable = [tuple(p) for p in every if all(best(p, i) == p[i] for i in range(n))]
        ends = {
            tuple(_rest(best, end)) for end in (value[..., 0].argmin(1), value[..., 0].argmax(1))
        }
        if len(ends) == 1 and ends <= set(stable):
            met += 1
            missed += len(stable) > 1
    assert met > 1000
    assert missed > 0


def _best(game):
    weight = np.exp(game.log_weight)

    def best(profile, i):
        e = np.exp(game.z)
        rest = 1.0 + sum(e[j, profile[j]] for j in range(len(e)) if j != i)
        return int((game.profit[i] * (weight * e[i] / (e[i] + rest)).sum(axis=1)).argmax())

    return best


def _rest(best, profile):
    profile = list(profile)
    for _ in range(50):
        before = list(profile)
        for i in range(len(profile)):
            profile[i] = best(profile, i)
        if profile == before:
            break
    return profile


def share_without_equilibrium(make_types, games):
    none = 0
    for market in games:
        solution = ttc_env.solve(market, make_mechanism("market", types=make_types(market)))
        assert solution.complete
        none += bool(solution.no_equilibrium)
    return none / len(games)


@pytest.mark.slow
def test_how_common_games_without_equilibrium_are():
    """GAME.md, theorem 17: common with different beta, more so the more they differ; rare with
    different alpha alone.
    """
    rng = np.random.default_rng(0)
    games = []
    for benchmark in ("gsm8k", "aime", "gpqa"):
        for method in ("majority", "best_of_n", "reasoning"):
            market = ttc_env.load_market(benchmark, method)
            for _ in range(12):
                chosen = sorted(rng.choice(market.num_providers, 3, replace=False))
                games.append(
                    market.replace(
                        providers=[market.providers[i] for i in chosen],
                        beta=float(10 ** rng.uniform(1.5, 3.5)),
                    )
                )

    def betas(ratio):
        return lambda market: [UserType(0.5), UserType(0.5, beta=market.beta * ratio)]

    ten, hundred = (share_without_equilibrium(betas(ratio), games) for ratio in (10, 100))
    alphas = share_without_equilibrium(
        lambda market: [UserType(0.5), UserType(0.5, alpha=4 * market.alpha)], games
    )
    assert 0.02 < ten < hundred
    assert hundred > 0.15
    assert alphas < 0.05


# --- large games, and what cannot be --------------------------------------------------------------


def test_branching_finds_what_enumeration_finds_in_larger_games():
    rng, none = np.random.default_rng(3), 0
    for _ in range(12):
        n, m = 5, 4
        price = rng.uniform(0.02, 0.5, (n, m))
        market = ttc_env.Market.from_arrays(
            rng.uniform(0.1, 1, (n, m)), price, price / 1.25, beta=float(10 ** rng.uniform(0, 1.5))
        )
        types = [UserType(0.5), UserType(0.5, beta=market.beta * 50)]
        mechanism = make_mechanism("market", types=types)
        found, expected = ttc_env.solve(market, mechanism), enumeration.solve(mechanism, market)
        np.testing.assert_array_equal(found.equilibria, expected.equilibria)
        none += not len(found.equilibria)
        nearest = enumeration.least_regret(mechanism, market)
        assert found.least_regret.relative == pytest.approx(nearest.relative, rel=1e-9, abs=1e-12)
    assert none


def test_branching_keeps_extreme_numbers():
    """At beta V = 1e6 most shares underflow, and what is compared are logarithms."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        price = rng.uniform(0.02, 0.5, (3, 4))
        market = ttc_env.Market.from_arrays(
            rng.uniform(0.1, 1, (3, 4)), price, price / 1.25, beta=1e3
        )
        mechanism = make_mechanism("market", types=[UserType(0.9, beta=1e6), UserType(0.1)])
        found, expected = ttc_env.solve(market, mechanism), enumeration.solve(mechanism, market)
        np.testing.assert_array_equal(found.equilibria, expected.equilibria)


def test_games_too_large_to_branch_are_searched_and_say_so(monkeypatch):
    monkeypatch.setattr(TypedGame, "candidates", lambda *_, **__: None)
    market, mechanism = without_equilibrium()
    solution = ttc_env.solve(market, mechanism)
    assert not solution.complete
    assert "there may be one" in solution.no_equilibrium
    assert "branching" in solution.reason
    assert not solution.least_regret.exact
    some = ttc_env.solve(market.replace(beta=9000.0), mechanism)
    assert len(some.equilibria) == 1
    assert not some.unique
    assert ttc_env.nash_conv(some.market, some.equilibria[0], mechanism) < 1e-12


def test_branching_gives_up_where_it_would_compare_too_much():
    market, mechanism = without_equilibrium()
    typed = mechanism.rule.typed_game(mechanism.offers(market), market)
    columns = int(typed.exists.sum(axis=1).max())
    first = 9 * columns**2 * 2  # pairs of actions of each provider, for each type
    assert typed.candidates(1e-9, first - 1) is None
    found = typed.candidates(1e-9)
    assert found.shape[1] == 9
    few = market.replace(providers=market.providers[:1])
    alone = mechanism.rule.typed_game(mechanism.offers(few), few)
    enough = int(alone.exists.sum()) ** 2 * 2 * 10
    np.testing.assert_array_equal(alone.candidates(1e-9, enough), alone.candidates(1e-9))


def test_types_that_agree_end_the_search_for_the_optimum():
    """Two types alike, and no welfare to be had: rounding keeps the bound above what is found."""
    rng, apart = np.random.default_rng(8), 0
    every = np.array(list(itertools.product(range(3), repeat=3)))
    weight = np.array([0.4, 0.6])
    for _ in range(40):
        z, surplus = (np.repeat(rng.uniform(*x, (3, 3, 1)), 2, axis=2) for x in ((-3, 3), (-1, 1)))
        outside = 0.2

        def welfare(profiles):
            rows = np.arange(3)
            e, w = np.exp(z[rows, profiles]), surplus[rows, profiles]  # noqa: B023 - used here
            total = (e * w).sum(axis=1) + outside  # noqa: B023
            return (total / (e.sum(axis=1) + 1.0)) @ weight

        for _ in range(2):  # so that the best profile is worth 0
            best = welfare(every).max()
            surplus, outside = surplus - best, outside - best
        found = most_welfare(z, surplus, weight, outside, welfare, lambda p: (p[0], welfare(p)[0]))
        assert found.converged
        assert found.iterations == 1
        assert found.welfare == pytest.approx(welfare(every).max(), abs=1e-15)
        assert 0 <= found.gap < 1e-15
        apart += found.gap > 0
    assert apart > 10


def test_an_optimum_that_is_cut_short_is_a_profile_with_its_bound(monkeypatch):
    monkeypatch.setattr(branching, "MOST_SETS", 1)
    market, mechanism = without_equilibrium()
    cut = ttc_env.solve(market, mechanism).best_possible
    monkeypatch.undo()
    best = ttc_env.solve(market, mechanism).best_possible
    assert not cut.converged
    played = mechanism.play(mechanism.offers(market).take(cut.profile), market)
    assert cut.welfare == pytest.approx(float(played.welfare))
    assert cut.welfare <= best.welfare + best.gap <= cut.welfare + cut.gap + 1e-15


def test_the_optimum_has_a_bound():
    market, mechanism = without_equilibrium()
    best = ttc_env.solve(market, mechanism).best_possible
    assert 0 <= best.gap < 0.01 * best.welfare
    rng = np.random.default_rng(0)
    table = mechanism.offers(market)
    some = mechanism.play(table.take(rng.integers(0, 6, (9, 3000))), market).welfare
    assert some.max() <= best.welfare


def test_bounds_on_a_difference_are_exact_between_their_ends():
    """A profile is kept although another action is better at both ends of what rivals may weigh: in
    between, at the turning point, it is not.
    """
    rng, inner = np.random.default_rng(0), 0
    for _ in range(400):
        # one provider with two actions, a rival with two that are far apart, and never ruled out
        value = np.array([[rng.uniform(-1, 1), rng.uniform(-1, 1)], [-6.0, 6.0]])
        z = np.stack([value * rng.uniform(0.5, 3), value * rng.uniform(0.5, 3) + 1], axis=-1)
        profit = rng.uniform(0.1, 1, (2, 2))
        actions = _Actions.of(
            TypedGame(z, np.log([0.5, 0.5]), profit, np.ones((2, 2), bool)),
            np.tile(np.arange(2), (2, 1)),
            np.ones((2, 2), bool),
            0.0,
        )
        low, high = (1 + np.exp(end) for end in (z[1].min(axis=0), z[1].max(axis=0)))
        rest = np.geomspace(low, high, 400).T  # [type, weight]
        e = np.exp(z[0])  # [action, type]
        part = 0.5 * profit[0, :, None, None] * e[:, :, None] / (e[:, :, None] + rest)
        by_type = part[:, None] - part[None]  # [better, worse, type, weight]
        least = by_type.min(axis=3).sum(axis=2)
        ends = np.minimum(by_type[..., 0], by_type[..., -1]).sum(axis=2)
        beaten = actions.beaten()[0]
        for worse in (0, 1):
            better = 1 - worse
            if abs(least[better, worse]) > 1e-3:
                assert beaten[worse] == (least[better, worse] > 0)
                inner += ends[better, worse] > 0 > least[better, worse]
    assert inner > 0


def test_the_nearest_profile_is_found_where_best_replies_do_not_pass_it(monkeypatch):
    """Branching over all that is no worse than what best-response play came upon."""
    market, mechanism = without_equilibrium()
    few = market.replace(providers=market.providers[-4:], beta=500.0)
    expected = enumeration.least_regret(mechanism, few)
    poor = np.array(
        [row[-1] for row in enumeration.Game(mechanism, few, mechanism.offers(few)).actions]
    )
    assert ttc_env.relative_regret(few, poor, mechanism).max() > expected.relative + 0.01
    searched = enumeration.Searched(np.empty((0, 4), np.intp), poor)
    monkeypatch.setattr(enumeration.Game, "search", lambda *_: searched)
    found = mechanism.rule.least_regret(mechanism, few)
    assert found.exact
    assert found.relative == pytest.approx(expected.relative, rel=1e-9)


def test_the_optimum_is_found_from_anywhere():
    """Bounds alone lead to it: here nothing climbs."""
    rng = np.random.default_rng(8)
    for _ in range(40):
        z, surplus = rng.uniform(-3, 3, (4, 4, 2)), rng.uniform(-0.5, 1, (4, 4, 2))
        weight = np.array([0.4, 0.6])

        def welfare(profiles, z=z, surplus=surplus, weight=weight):
            rows = np.arange(4)
            e, w = np.exp(z[rows, profiles]), surplus[rows, profiles]  # [k, n, K]
            return ((e * w).sum(axis=1) + 0.2) / (e.sum(axis=1) + 1.0) @ weight

        every = np.array(list(itertools.product(range(4), repeat=4)))
        found = most_welfare(z, surplus, weight, 0.2, welfare, lambda p, w=welfare: (p[0], w(p)[0]))
        assert found.converged
        assert found.welfare == pytest.approx(welfare(every).max(), rel=1e-12)
        assert welfare(found.profile[None])[0] == pytest.approx(found.welfare, rel=1e-13)


# --- how types are given --------------------------------------------------------------------------


def test_types_are_given_as_objects_dicts_columns_or_text():
    expected = (UserType(0.25, beta=10.0), UserType(0.75, alpha=0.01))
    nan = float("nan")
    for given in (
        expected,
        [{"weight": 0.25, "beta": 10}, {"weight": 0.75, "alpha": 0.01}],
        {"weight": [0.25, 0.75], "beta": [10, None], "alpha": [None, 0.01]},
        pd.DataFrame({"weight": [0.25, 0.75], "beta": [10, nan], "alpha": [nan, 0.01]}),
        "weight=0.25 beta=10; weight=0.75 alpha=0.01",
    ):
        assert user_types(given) == expected


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([], "empty"),
        ([UserType(0.5)], "sum to 1"),
        ([{"beta": 3.0}], "no weight"),
        ([{"weight": None, "beta": 3.0}], "no weight"),
        ([{"weight": float("nan")}], "no weight"),
        ("weight=nan", "has no weight"),
        ("weight=1 beta=1 beta=2", "cannot read 'beta=2' .* at most once"),
        ([{"weight": 1.0, "gamma": 3.0}], "some of weight, beta, alpha, baseline"),
        ({"weight": [1.0], "beta": [1.0, 2.0]}, "different lengths"),
        ({"weight": 1.0}, "holds a list per field"),
        ("two", "cannot read 'two' in the user types 'two'; write"),
        ("weight=1 gamma=2", "cannot read 'gamma=2' .* each of weight, beta, alpha, baseline"),
        ([{"weight": -0.5}, {"weight": 1.5}], "from 0 to 1"),
        ([{"weight": 1.0, "beta": -1.0}], "beta is -1"),
        ([{"weight": 1.0, "alpha": 0.0}], "alpha is 0"),
        ([{"weight": 1.0, "baseline": 1.5}], "baseline is 1.5"),
        ([{"weight": "much"}], "finite number"),
        (5, "types is 5; give a list"),
        ([5], "a user type is 5; give"),
    ],
)
def test_types_that_cannot_be_are_refused(types, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_mechanism("market", types=types)


def test_a_type_needs_the_markets_alpha_where_it_has_its_own():
    market = ttc_env.Market.from_arrays([[0.5]], [[0.1]], [[0.05]], beta=1.0)
    for types in ([UserType(1.0, alpha=2.0)], [UserType(1.0, baseline=0.5)]):
        with pytest.raises(ValueError, match="market has no alpha"):
            ttc_env.solve(market, make_mechanism("market", types=types))
        with pytest.raises(ValueError, match="market has no alpha"):
            ttc_env.parallel_env(market=market, types=types)
    assert ttc_env.parallel_env(market=market, types=[UserType(1.0, beta=3.0)])
    full = ttc_env.load_market(baseline=1.0)
    assert ttc_env.solve(full, make_mechanism("market", types=[UserType(1.0, alpha=2.0)]))
    with pytest.raises(ValueError, match="baseline 1"):
        ttc_env.solve(full, make_mechanism("market", types=[UserType(1.0, baseline=0.5)]))


def test_mechanisms_with_types_are_pickled_and_only_posted_prices_have_them():
    mechanism = make_mechanism("flat_fee", types=PAIR)
    assert pickle.loads(pickle.dumps(mechanism)).rule == mechanism.rule
    with pytest.raises(TypeError, match="no option types"):
        make_mechanism("auction", types=PAIR)


def test_a_batch_of_different_markets_uses_each_ones_alpha():
    markets = [world(0), world(0).replace(outside_value=0.2)]
    markets.append(
        ttc_env.Market.from_arrays(
            2 * world(0).quality, world(0).price, world(0).cost, beta=5.0, alpha=2.0
        )
    )
    mechanism = make_mechanism("market", types=PAIR)
    batch = ttc_env.vector_env(6, mechanism=mechanism, market=markets, infos="full")
    batch.reset()
    infos = batch.step(np.ones((6, 3), int))[4]
    for b, market in enumerate(markets):
        alone = mechanism.play(mechanism.offers(market).take(np.ones(3, int)), market)
        for field in ("share", "welfare", "user_value"):
            np.testing.assert_allclose(infos[field][b], getattr(alone, field), rtol=1e-12)
    users = Users.of(markets[0])
    assert users.alpha == 1.0


# --- where an equilibrium is asked for ------------------------------------------------------------


def test_the_provider_view_refuses_equilibrium_opponents_and_plays_others():
    market, mechanism = without_equilibrium()
    options = {"market": market, "mechanism": mechanism}
    with pytest.raises(ValueError, match=r"no pure Nash equilibrium.*'best_response'"):
        ttc_env.ProviderEnv(**options)
    env = ttc_env.ProviderEnv(opponent="best_response", **options)
    env.reset(seed=0)
    info = env.step(3)[4]
    assert 0 <= info["regret"] < np.inf
    assert info["optimal_welfare"] == pytest.approx(
        mechanism.rule.optimal_welfare(mechanism, market)
    )


def test_facts_of_a_market_are_nan_with_a_reason():
    market, mechanism = without_equilibrium()
    facts = market_facts(market, mechanism)
    assert "no pure Nash equilibrium" in facts.no_equilibrium
    assert facts.leader is None
    for name in ("price_of_anarchy", "welfare", "user_value", "mean_price", "concentration"):
        assert np.isnan(getattr(facts, name)), name
    assert np.isnan([facts.overcompute_usd, facts.overcompute_log2, facts.leader_share]).all()
    assert facts.optimal_welfare > 0
    some = market_facts(market.replace(beta=9000.0), mechanism)
    assert some.no_equilibrium == ""
    assert some.welfare > 0


def test_points_of_history_say_that_there_is_none():
    market, mechanism = without_equilibrium()
    facts = market_facts(market, mechanism)
    day = datetime.date(2025, 5, 1)
    row = HistoryPoint("gsm8k", day, market, facts, {}, 0.0, {}).row()
    assert row["leader"] == "no pure equilibrium"
    assert row["leader_effort"] == ""
    assert np.isnan(row["welfare"])
    assert row["winner"] == "Qwen2.5-7B"


def test_history_of_a_market_with_types():
    mechanism = make_mechanism("market", types="weight=0.5 beta=2; weight=0.5 beta=200")
    (point,) = history("arc_agi_2", mechanism=mechanism, dates=["2025-05"], resamples=2)
    solution = ttc_env.solve(point.market, mechanism)
    assert point.facts.welfare == solution.welfare > 0
    assert point.facts.unique
    assert np.isfinite(point.row()["welfare_lo"])
