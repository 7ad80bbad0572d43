"""Misreports: what they put on the table, the equilibria with them, the fine that deters them, and
who pays. Everything against plain loops.
"""

import itertools

import numpy as np
import pytest

import ttc_env
from tests.game.bruteforce import log_regrets, playable_profiles
from ttc_env.game import enumeration
from ttc_env.game.deterrence import Fines
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.misreports import Misreports, read_misreport
from ttc_env.game.regret import assess
from ttc_env.game.solve import solve

NAMES = ttc_env.mechanisms()
POSTED = ("market", "flat_fee", "pay_per_correct", "two_part", "price_cap", "per_character")
COUNTED = ("market", "two_part", "price_cap", "per_character")


def random_market(rng, n=None, m=None, beta=None):
    """With everything that a tariff may read; sometimes with providers of fewer levels."""
    n, m = n or int(rng.integers(1, 4)), m or int(rng.integers(1, 4))
    accuracy = rng.uniform(0.1, 1.0, (n, m))
    price = np.sort(rng.uniform(0.02, 0.5, (n, m)), axis=1)
    tables = [0.1 + 0.9 * accuracy, price, price / rng.uniform(1.05, 2.0), accuracy]
    tables.append(rng.integers(1, 9, (n, m)) * 100.0)
    if m > 1 and rng.random() < 0.3:
        for table in tables:
            table[0, -1] = np.nan
    if n == 1 and np.isnan(tables[0]).any():
        tables = [table[:, :-1] for table in tables]
    quality, price, cost, accuracy, characters = tables
    return ttc_env.Market.from_arrays(
        quality, price, cost, accuracy=accuracy, characters=characters, alpha=1.0, baseline=0.1,
        beta=beta if beta is not None else float(10.0 ** rng.uniform(-0.5, 2.5)),
        outside_value=0.0 if rng.random() < 0.5 else float(rng.uniform(-0.3, 0.5)),
    )  # fmt: skip


def price_by_hand(name, market, i, level, x, factor=1.0):
    """GAME.md's table of prices, with `factor` times the tokens or characters."""
    q, p, c = (t[i] for t in (market.quality, market.price, market.cost))
    star = int(np.nanargmax(q - c))
    if name == "market":
        return x * factor * p[level]
    if name == "flat_fee":
        return x * p[star]
    if name == "pay_per_correct":
        return x * p[star] / market.accuracy[i, star] * market.accuracy[i, level]
    if name == "two_part":
        return factor * c[level] + x * (p[star] - c[star])
    if name == "price_cap":
        return min(x * factor * p[level], p[star])
    chars = market.characters[i]
    return x * p[star] / chars[star] * factor * chars[level]


def offer_by_hand(name, market, i, level, x, report, fine, noticed):
    """(quality, seen, price, cost, paid, penalty), or None where the action does not exist."""
    kind, size = report
    levels = int(market.available[i].sum())
    announced = level + (int(size) if kind == "under_serve" else 0)
    if level >= levels or announced >= levels:
        return None
    q, c = market.quality[i], market.cost[i]
    penalty = 0.0 if kind == "truth" else fine
    if "auction" in name or name == "first_score":
        seen = q[announced] * (size if kind == "over_claim" else 1.0)
        bid = (1 + x) * c[level] + penalty
        return q[level], seen, bid, c[level], bid, penalty
    factor = size if kind == "over_report" else 1.0
    paid = price_by_hand(
        name, market, i, level if name == "pay_per_correct" else announced, x, factor
    )
    price = paid if noticed else price_by_hand(name, market, i, announced, x)
    return q[level], q[announced], price, c[level], paid, penalty


def mechanism_with_lies(name, rng, prices, expected_fine=0.0):
    sizes = {
        "over_report": tuple(np.sort(rng.uniform(1.02, 2.5, 2))),
        "under_serve": "every" if rng.random() < 0.7 else 1,
        "over_claim": tuple(np.sort(rng.uniform(0.5, 2.0, 2))),
    }
    known = make_mechanism(name).tariff.lies
    misreport = {kind: sizes[kind] for kind in known}
    rate = float(rng.uniform(0.05, 1.0))
    options = {"misreport": misreport, "audit_rate": rate, "fine": expected_fine / rate}
    if name in COUNTED:
        options["noticed"] = bool(rng.random() < 0.5)
    return make_mechanism(name, prices, **options)


@pytest.mark.parametrize("name", NAMES)
def test_offers_are_those_of_the_formulas(name):
    rng = np.random.default_rng(0)
    for _ in range(25):
        market = random_market(rng)
        neutral = make_mechanism(name).tariff.neutral
        mechanism = mechanism_with_lies(name, rng, (neutral, neutral + 0.5), 0.07)
        table = mechanism.offers(market)
        for i in range(market.num_providers):
            for action in range(table.quality.shape[1]):
                level, price, report = (int(x) for x in mechanism.split(action, market))
                expected = offer_by_hand(
                    name, market, i, level, mechanism.tariff.choices[price],
                    mechanism.reports(market)[report], 0.07, mechanism.misreports.noticed,
                )  # fmt: skip
                found = [
                    np.broadcast_to(getattr(table, field), table.quality.shape)[i, action]
                    for field in ("quality", "seen", "price", "cost", "paid", "penalty")
                ]
                if expected is None:
                    assert np.isnan(found).all()
                else:
                    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_what_does_not_exist_is_the_nearest_that_does():
    market = ttc_env.Market.from_arrays(
        [[1.0, 2.0, 3.0], [1.0, 2.0, np.nan]],
        [[1.0, 1.0, 1.0], [1.0, 1.0, np.nan]],
        [[0.5, 0.5, 0.5], [0.5, 0.5, np.nan]],
        beta=1.0,
    )
    mechanism = make_mechanism("market", misreport=("over_report", "under_serve"))
    assert [str(report) for report in mechanism.reports(market)] == [
        *("truth", "over_report 1.25", "over_report 1.5", "over_report 2"),
        *("under_serve 1", "under_serve 2"),
    ]
    played = mechanism.existing([3, 2], market)
    exists = ~np.isnan(mechanism.offers(market).quality)
    for i, row in enumerate(played):
        assert exists[i, row].all()
        np.testing.assert_array_equal(row[exists[i]], np.flatnonzero(exists[i]))
    join = mechanism.join
    # from level 1 two levels up: the highest; from the highest: the truth; an absent level likewise
    assert played[0, join(1, 0, 5, market=market)] == join(1, 0, 4, market=market)
    assert played[0, join(2, 0, 5, market=market)] == join(2, 0, 0, market=market)
    assert played[1, join(2, 0, 3, market=market)] == join(1, 0, 3, market=market)
    env = ttc_env.parallel_env(
        market=market, misreport=("over_report", "under_serve"), prices="fixed", actions="flat"
    )
    np.testing.assert_array_equal(np.stack(env.unwrapped.config.action_masks), exists)


@pytest.mark.parametrize(
    ("mechanism", "options", "words"),
    [
        (
            "flat_fee",
            {"misreport": "over_report"},
            "no sense in mechanism 'flat_fee'.*'under_serve'",
        ),
        ("market", {"misreport": "over_claim"}, "choose among 'over_report', 'under_serve'"),
        ("auction", {"misreport": "over_report"}, "choose among 'under_serve', 'over_claim'"),
        ("market", {"misreport": "lie"}, "'lie' is unknown; choose among 'over_report'"),
        ("market", {"fine": 1.0}, "none can be told"),
        ("market", {"misreport": {"over_report": 0.5}}, "factors > 1"),
        ("market", {"misreport": {"under_serve": 0.5}}, "whole numbers of levels"),
        ("market", {"misreport": {"under_serve": "some"}}, "give 'every'"),
        ("auction", {"misreport": {"over_claim": (1.0, 2.0)}}, "and not 1"),
        ("auction", {"misreport": {"over_claim": "much"}}, "must be numbers"),
        ("market", {"misreport": "over_report", "audit_rate": 2.0}, "a probability"),
        ("market", {"misreport": "over_report", "audit_rate": "often"}, "audit_rate is 'often'"),
        ("market", {"misreport": "over_report", "audit_rate": True}, "audit_rate is True"),
        ("market", {"misreport": "over_report", "fine": -1.0}, "number >= 0"),
        ("market", {"misreport": "over_report", "fine": None}, "fine is None"),
        ("market", {"misreport": {"over_report": np.inf}}, "they must be finite numbers"),
        ("market", {"misreport": 5}, "misreport is 5; give the name"),
        ("market", {"misreport": None}, "misreport is None; give the name"),
        ("market", {"misreport": "under_serve", "noticed": True}, "name 'over_report'"),
    ],
)
def test_senseless_lies_are_refused_by_name(mechanism, options, words):
    with pytest.raises(ValueError, match=words):
        make_mechanism(mechanism, **options)
    with pytest.raises(ValueError, match=words):
        ttc_env.parallel_env(mechanism, **options)


def test_the_option_as_text():
    assert read_misreport("over_report=1.25/2, under_serve") == {
        "over_report": ["1.25", "2"],
        "under_serve": "every",
    }
    assert Misreports.of(read_misreport("over_report=1.25/2")).over_report == (1.25, 2.0)
    assert Misreports.of(read_misreport("over_claim")).over_claim == (1.25, 1.5, 2.0)
    with pytest.raises(ValueError, match="'lies' is unknown"):
        read_misreport("lies=2")


def equilibria_with_lies(count, seed):
    """Equilibria of posted prices with lies against all profiles in long double."""
    rng = np.random.default_rng(seed)
    several = 0
    for _ in range(count):
        market = random_market(rng, m=2)
        name = POSTED[rng.integers(len(POSTED))]
        mechanism = mechanism_with_lies(name, rng, "fixed", float(rng.choice([0.0, 0.02, 0.1])))
        solution = solve(market, mechanism)
        profiles, worst = log_regrets(solution.game)
        keep = playable_profiles(solution.game, profiles)
        expected = {tuple(p) for p in profiles[keep & (worst <= solution.tolerance)]}
        close = {tuple(p) for p in profiles[worst <= 3 * solution.tolerance]}
        found = {tuple(p) for p in solution.equilibria}
        assert expected <= found <= close
        for profile, lies in zip(solution.equilibria, solution.lies, strict=True):
            reports = mechanism.split(profile, market)[2]
            assert ((reports > 0) == lies).all()
        several += len(found) > 1
    return several


def test_equilibria_with_lies_are_all_that_there_are():
    equilibria_with_lies(150, 1)


@pytest.mark.slow
def test_equilibria_with_lies_are_all_that_there_are_in_thousands_of_games():
    assert equilibria_with_lies(3000, 2) > 4  # several equilibria are rare


def frontier_by_loops(name, mechanism, market, honest):
    """GAME.md, theorem 18, in plain loops and long double, for an honest profile [(level, x)]."""
    n = market.num_providers
    values = []
    for i, (level, x) in enumerate(honest):
        q, _, p, *_ = offer_by_hand(name, market, i, level, x, ("truth", 1.0), 0.0, False)
        values.append(np.longdouble(q) - np.longdouble(p))
    beta, line = np.longdouble(market.beta), np.longdouble(0.0)
    for i in range(n):
        rivals = [np.longdouble(market.outside_value), *(v for j, v in enumerate(values) if j != i)]

        def log_share(value, rivals=rivals):
            return -np.log1p(sum(np.exp(beta * (v - value)) for v in rivals))

        level, x = honest[i]
        _, _, _, cost, paid, _ = offer_by_hand(
            name, market, i, level, x, ("truth", 1.0), 0.0, False
        )
        log_own, earned = log_share(values[i]), np.longdouble(paid) - np.longdouble(cost)
        for report in mechanism.reports(market)[1:]:
            for served, choice in itertools.product(
                range(market.num_levels), mechanism.tariff.choices
            ):
                lie = offer_by_hand(
                    name, market, i, served, choice, report, 0.0, mechanism.misreports.noticed
                )
                if lie is None:
                    continue
                _, seen, price, cost, paid, _ = map(np.longdouble, lie)
                kept = np.exp(log_own - log_share(seen - price)) * earned if earned else 0.0
                line = max(line, paid - cost - kept)
    return float(line)


def frontiers(count, seed):
    """The deterrence line against loops, and on both sides of it by solving and by regrets."""
    rng = np.random.default_rng(seed)
    lines = low = both = 0
    for _ in range(count):
        market = random_market(rng)
        name = POSTED[rng.integers(len(POSTED))]
        prices = "fixed" if rng.random() < 0.7 else (0.7, 1.0)
        mechanism = mechanism_with_lies(name, rng, prices)
        found = ttc_env.deterrence(market, mechanism)
        assert found.complete
        for k, profile in enumerate(found.honest):
            level, price, report = mechanism.split(profile, market)
            assert not report.any()
            honest = [
                (int(a), mechanism.tariff.choices[b]) for a, b in zip(level, price, strict=True)
            ]
            line = found.line[k]
            expected = frontier_by_loops(name, mechanism, market, honest)
            assert line == pytest.approx(expected, rel=1e-9, abs=1e-15)
            assert found.by_provider[k].max() == found.by_report[k].max() == line
            assert found.at_own_level[k] <= line
            if line < 1e-6 or line == np.inf:
                continue
            lines += 1
            low += found.at_own_level[k] < line * (1 - 1e-9)
            # a table with the fine in every column: the line from both sides
            fines = line * np.array([1 - 1e-3, 1 - 1e-7, 1 + 1e-12, 1.001, 2.0])
            table = Fines(mechanism, market).offers(fines)
            played = Fines(mechanism, market).table.take(np.tile(profile[:, None], 5))
            profit, log_share = mechanism.deviations(table, played, market)
            own = mechanism.play(played, market)
            gains = np.nanmax(
                (np.sign(profit) * np.exp(np.log(np.abs(profit) + 1e-300) + log_share)
                - own.utility[:, None])
                * mechanism.lies(np.arange(profit.shape[1]), market)[:, None],
                axis=(0, 1),
            )  # fmt: skip
            assert (gains[:2] > 0).all()
            assert (gains[2:] <= 1e-15).all()
            for factor, holds in ((0.999, False), (1.0 + 1e-9, True)):
                fined = with_fine(mechanism, line * factor)
                assert (assess(profile, fined, market).relative.max() <= 1e-9) == holds
                if prices == "fixed":
                    solution = solve(market, fined)
                    listed = solution.equilibria[~solution.lies.any(axis=1)]
                    assert (profile == listed).all(axis=1).any() == holds
                    both += solution.lies.any() and holds
    return lines, low, both


def with_fine(mechanism, expected_fine):
    from dataclasses import replace

    misreports = replace(mechanism.misreports, fine=expected_fine / mechanism.misreports.audit_rate)
    return replace(mechanism, misreports=misreports)


def test_the_frontier_is_exact_on_both_sides():
    lines, low, _ = frontiers(120, 3)
    assert lines > 60
    assert low > 5  # liars who change their level too need a higher fine


@pytest.mark.slow
def test_the_frontier_is_exact_on_both_sides_in_thousands_of_games():
    lines, low, both = frontiers(2500, 4)
    assert lines > 1500
    assert low > 0.15 * lines
    assert both > 10  # a lying equilibrium beside the honest one


def best_worths(market):
    return np.nanmax(market.quality - market.cost, axis=1)


@pytest.mark.parametrize("settlement", ["claimed", "delivered"])
@pytest.mark.parametrize("name", ["auction", "taste_auction", "first_score"])
def test_the_frontier_of_auctions(name, settlement):
    """GAME.md, theorem 19: closed forms, and both sides of the line by regrets."""
    rng = np.random.default_rng(5)
    positive = 0
    for _ in range(12):
        market = random_market(rng, beta=float(rng.choice([2.0, 30.0])))
        kinds = {"over_claim": tuple(np.sort(rng.uniform(0.5, 1.8, 2))), "under_serve": "every"}
        options = {"settlement": settlement, "misreport": kinds}
        prices = (0.0,) if name != "first_score" else (0.0, 0.3, 0.8)
        mechanism = make_mechanism(name, prices, **options)
        found = ttc_env.deterrence(market, mechanism)
        promise = mechanism.promises(market)
        settled = promise.seen if settlement == "claimed" else promise.quality
        worth = (settled - promise.cost)[:, :, 1:]
        w = best_worths(market)
        if name == "auction":
            expected = max(0.0, np.nanmax(worth) - max(w.max(), market.outside_value))
            assert found.line == pytest.approx([expected], rel=1e-9, abs=1e-13)
        elif name == "taste_auction":
            expected = max(0.0, np.nanmax(worth - w[:, None, None]))
            assert found.line == pytest.approx([expected], rel=1e-7, abs=1e-13)
        if settlement == "delivered" and name != "first_score":
            assert (found.line == 0).all()
        for profile, line in zip(found.honest, found.line, strict=True):
            if not 1e-6 < line < np.inf:
                continue
            positive += 1
            below, above = (with_fine(mechanism, line * x) for x in (0.999, 1.0 + 1e-6))
            assert assess(profile, below, market).regret.max() > 0
            assert assess(profile, above, market).regret.max() <= 1e-12
            solution = solve(market, above)
            honest = ~solution.lies.any(axis=1)
            assert honest.any()
            if name == "auction":
                assert (solution.equilibria[honest] == profile).all()
    assert (positive > 4) == (settlement == "claimed" or name == "first_score")


@pytest.mark.parametrize("name", ["auction", "taste_auction"])
def test_fined_lies_are_dominant_only_where_they_pay(name):
    """Dominant strategies with lies, against every action and any rivals."""
    rng = np.random.default_rng(6)
    lying = two = 0
    for _ in range(40):
        market = random_market(rng, beta=20.0)
        mechanism = make_mechanism(
            name, (-0.4, 0.0, 0.7), settlement="claimed", misreport=("over_claim", "under_serve"),
            fine=float(rng.choice([0.0, 0.3])),
        )  # fmt: skip
        if rng.random() < 0.5:
            mechanism = with_fine(mechanism, 1.01 * ttc_env.deterrence(market, mechanism).line[0])
        solution = solve(market, mechanism)
        table = mechanism.offers(market)
        for _ in range(5):
            rivals = np.array([rng.choice(np.flatnonzero(~np.isnan(r))) for r in table.quality])
            i = rng.integers(market.num_providers)
            rivals[i] = solution.actions[i]
            assert assess(rivals, mechanism, market).regret[i] <= 1e-12
        for profile in solution.equilibria:
            assert assess(profile, mechanism, market).regret.max() <= 1e-12
        lying += solution.lies[0].any()
        two += len(solution.equilibria) == 2
    assert lying > 3
    assert name != "auction" or two > 0  # a loser's lie changes nothing for itself


def test_who_pays_adds_up():
    rng = np.random.default_rng(7)
    for name in NAMES:
        for _ in range(10):
            market = random_market(rng)
            mechanism = mechanism_with_lies(name, rng, "fixed", 0.03)
            table = mechanism.offers(market)
            lying = np.array([rng.choice(np.flatnonzero(~np.isnan(r))) for r in table.quality])
            level, price, _ = mechanism.split(lying, market)
            honest = mechanism.join(level, price, market=market)
            found = ttc_env.who_pays(market, mechanism, lying, honest)
            parts = found.users + found.liars + found.rivals + found.fines
            assert parts == pytest.approx(found.welfare, abs=1e-12)
            assert found.who == tuple(np.flatnonzero(mechanism.split(lying, market)[2]))
            after, before = (
                mechanism.play(table.take(profile), market) for profile in (lying, honest)
            )
            fines = sum(0.03 * s for i, s in enumerate(after.share) if i in found.who)
            assert found.fines == pytest.approx(fines, rel=1e-12)
            if name in POSTED:
                offer = after.offer
                users = (after.share * (offer.quality - offer.paid)).sum()
                users += after.outside_share * market.outside_value - before.user_value
                assert found.users == pytest.approx(users, abs=1e-12)


def test_the_most_profitable_lie_is_the_best_of_all_of_them():
    rng = np.random.default_rng(8)
    found_some = 0
    for _ in range(20):
        market = random_market(rng, n=2)
        mechanism = mechanism_with_lies("market", rng, "fixed", 0.01)
        found = ttc_env.deterrence(market, mechanism)
        if not len(found.honest):
            continue
        best = found.best_lie()
        gains = {}
        table = mechanism.offers(market)
        honest = mechanism.play(table.take(found.honest[0]), market).utility
        for i in range(2):
            for action in np.flatnonzero(~np.isnan(table.quality[i])):
                if mechanism.lies(action, market):
                    profile = found.honest[0].copy()
                    profile[i] = action
                    gains[i, action] = (
                        mechanism.play(table.take(profile), market).utility[i] - honest[i]
                    )
        for i in range(2):  # of one provider alone
            most = max(gain for (j, _), gain in gains.items() if j == i)
            own = found.best_lie(provider=i)
            assert (own is None) == (most <= 0)
            if own is not None:
                assert own[0].provider == i
                assert own[1].liars == pytest.approx(most, rel=1e-9)
        if max(gains.values()) <= 0:
            assert best is None
            continue
        found_some += 1
        lie, paid = best
        assert paid.liars == pytest.approx(max(gains.values()), rel=1e-9)
        assert paid.who == (lie.provider,)
        assert (found.binding() is None) == (found.line[0] == 0)
    assert found_some > 5


def test_a_rule_of_ones_own_has_a_frontier_too():
    """Theorem 18 asks no more of a rule than that fines change neither shares nor payments."""
    from tests.game.test_own_rules import Luce
    from ttc_env.game.misreports import Misreports
    from ttc_env.game.tariffs import PerToken

    market = random_market(np.random.default_rng(9), n=2, m=2)
    lies = Misreports(over_report=(2.0,), under_serve=(1,))
    mechanism = ttc_env.Mechanism("luce", PerToken((1.0,)), Luce(), lies)
    found = ttc_env.deterrence(market, mechanism)
    for profile, line in zip(found.honest, found.line, strict=True):
        above, below = with_fine(mechanism, line * 1.0000001), with_fine(mechanism, line * 0.999)
        assert tuple(profile) in map(tuple, enumeration.solve(above, market).equilibria)
        assert tuple(profile) not in map(tuple, enumeration.solve(below, market).equilibria)


def test_deterrence_names_what_it_needs():
    market = ttc_env.load_market()
    with pytest.raises(ValueError, match="nobody can lie"):
        ttc_env.deterrence(market, make_mechanism("market"))
    with pytest.raises(TypeError, match="carries its own options"):
        ttc_env.deterrence(market, make_mechanism("market"), prices="grid")
    every = ttc_env.deterrence(market)  # every lie that makes sense there
    assert every.mechanism.misreports.kinds == ("over_report", "under_serve")
    alone = [ttc_env.deterrence(market, misreport=kind) for kind in every.by_kind]
    for kind, one in zip(every.by_kind, alone, strict=True):
        np.testing.assert_allclose(every.by_kind[kind], one.line, rtol=1e-12)
    np.testing.assert_allclose(every.line, np.max([one.line for one in alone], axis=0), rtol=1e-12)
    found = ttc_env.deterrence(market, misreport="under_serve")
    assert found.mechanism.misreports.kinds == ("under_serve",)
    assert found.fine(0.1) == pytest.approx(10 * found.line)
    assert not found.holds.any()
    with pytest.raises(ValueError, match="above 0"):
        found.fine(0.0)
    for k in (-1, len(found.honest)):
        for asked in (found.binding, found.best_lie):
            with pytest.raises(ValueError, match="no honest equilibrium"):
                asked(k)
    for provider in (-1, 9):  # a wrong index gained nothing by any lie
        with pytest.raises(ValueError, match=r"no provider .* from 0 to 8"):
            found.best_lie(provider=provider)


@pytest.mark.parametrize("profile", [[0] * 8 + [99], [0] * 8 + [-1], [0] * 8, [0.5] * 9])
def test_who_pays_refuses_actions_that_do_not_exist(profile):
    market, honest = ttc_env.load_market(), [0] * 9
    for lying, true in ((profile, honest), (honest, profile)):
        with pytest.raises(ValueError, match=r"no action|a pure profile is 9 integers"):
            ttc_env.who_pays(market, "market", lying, true)


@pytest.mark.parametrize("steps", [1e30, 1001, 0])
def test_steps_beyond_every_curve_are_refused(steps):
    with pytest.raises(ValueError, match="from 1 to 1000"):
        make_mechanism("market", misreport={"under_serve": [steps]})
