"""Rules in one yardstick: first best, where it is lost, one grid of markups, and the table."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ttc_env
from tests.test_mechanism_contract import CASES
from tests.test_mechanism_contract import market as small_market
from ttc_env.cli._output import csv_bytes
from ttc_env.game import comparison, enumeration
from ttc_env.game.comparison import BANDED, COLUMNS, Entry, exact_rows
from ttc_env.game.markups import Markups, markup_grid, on_markups
from ttc_env.game.mechanisms import Mechanism, make_mechanism
from ttc_env.game.tariffs import PerToken, at_reference, reference_level
from ttc_env.game.yardstick import account, first_best

NAMES = ttc_env.mechanisms()


def cheap_market(seed, beta, outside_value=0.0):
    """Profitable at list prices everywhere, with all that a tariff may read."""
    return small_market(seed, beta).replace(outside_value=outside_value)


def all_profiles(table):
    """`[n, many]`"""
    choices = [np.flatnonzero(~np.isnan(row)) for row in table.quality]
    return np.array(np.meshgrid(*choices, indexing="ij")).reshape(len(choices), -1)


@given(
    st.integers(0, 500),
    st.sampled_from([0.5, 5.0, 50.0]),
    st.sampled_from([0.0, 0.4, -0.3, 2.0]),
    st.sampled_from(list(CASES.values())),
)
def test_the_first_best_bounds_every_profile_and_its_parts_add_up(seed, beta, outside, case):
    market, (name, options) = cheap_market(seed, beta, outside), case
    mechanism = make_mechanism(name, "fixed", **options)
    profiles = all_profiles(mechanism.offers(market))
    for tastes in (False, True):
        found = account(mechanism, market, profiles, tastes=tastes)
        if found is None:
            assert mechanism.rule.counts_tastes
            assert not tastes
            continue
        best = first_best(market, tastes=tastes, rule=mechanism.rule)
        assert (found.welfare <= best + 1e-12 * abs(best)).all()
        lost = found.lost_to_compute + found.lost_to_choice + found.lost_to_exclusion
        np.testing.assert_allclose(found.welfare + lost, best, rtol=1e-10, atol=1e-12)
        for part in (found.lost_to_compute, found.lost_to_choice, found.lost_to_exclusion):
            assert (part >= -1e-12).all()
        np.testing.assert_allclose(
            found.user_value + found.provider_profit, found.welfare, rtol=1e-10, atol=1e-12
        )
        at_best = reference_level(market)
        efficient = (mechanism.split(profiles, market)[0] == at_best[:, None]).all(axis=0)
        if not options:  # each type of users has efficient levels of its own
            np.testing.assert_allclose(found.lost_to_compute[efficient], 0.0, atol=1e-15)
        np.testing.assert_allclose(found.overcompute[efficient & ~np.isnan(found.overcompute)], 0.0)


def test_with_tastes_users_choices_are_worth_what_drawing_them_says():
    """Monte Carlo of posted prices and of the auction: value plus taste of who serves."""
    market, rng = cheap_market(3, 5.0, 0.1), np.random.default_rng(0)
    taste = (rng.gumbel(size=(4, 400_000)) - np.euler_gamma) / market.beta
    for name in ("market", "auction"):
        mechanism = make_mechanism(name, "fixed")
        profile = reference_level(market)
        played = mechanism.play(mechanism.offers(market).take(profile), market)
        value = np.append(played.offer.quality - played.payment, market.outside_value)
        if name == "market":
            drawn = (value[:, None] + taste).max(axis=0).mean()
        else:
            winner = int(played.share.argmax())
            drawn = (value[winner] + taste[winner]).mean()
        found = account(mechanism, market, profile, tastes=True)
        assert float(found.user_value) == pytest.approx(drawn, abs=4e-3)


def test_with_tastes_exclusion_and_choice_are_relative_entropies():
    """Plain sums of s log(s / s*) / beta, of buying or not and of whom among those who buy."""
    market = cheap_market(3, 5.0, 0.1)
    mechanism = make_mechanism("market", "fixed")
    profile = np.zeros(market.num_providers, dtype=int)
    found = account(mechanism, market, profile, tastes=True)
    played = mechanism.play(mechanism.offers(market).take(profile), market)
    w = np.append(np.nanmax(market.quality - market.cost, axis=1), market.outside_value)
    best = np.exp(market.beta * (w - w.max()))
    best /= best.sum()
    share = np.append(played.share, 1.0 - played.share.sum())

    def entropy(s, reference):
        return float((s * np.log(s / reference)).sum() / market.beta)

    split, best_split = (np.array([s[-1], s[:-1].sum()]) for s in (share, best))
    exclusion = entropy(split, best_split)
    assert exclusion > 1e-3
    assert float(found.lost_to_exclusion) == pytest.approx(exclusion, rel=1e-9)
    lost = float(found.lost_to_choice) + exclusion
    assert lost == pytest.approx(entropy(share, best), rel=1e-9)


@given(st.integers(0, 300), st.sampled_from(NAMES))
def test_on_markups_every_rule_asks_the_same_prices_at_the_efficient_level(seed, name):
    market = cheap_market(seed, 5.0)
    grid = [0.0, 0.5, 1.0]
    tariff = on_markups(make_mechanism(name, "fixed").tariff, market, grid)
    level = reference_level(market)
    price = tariff.prices(market)[np.arange(len(level)), level]
    cost = at_reference(market, market.cost)
    markup = at_reference(market, market.price) - cost
    np.testing.assert_allclose(price, cost + markup * np.array(grid), rtol=1e-12)
    assert tariff.neutral in grid
    assert np.isnan(tariff.prices(market)[np.isnan(market.quality)]).all()


def test_markups_keep_how_a_tariff_prices_other_levels():
    market = ttc_env.load_market("gsm8k", beta=200)
    k = (0.0, 1.0, 3.0)
    for name in ("market", "flat_fee", "two_part", "auction"):
        plain = make_mechanism(name, "fixed")
        laid_out = on_markups(plain.tariff, market, k)
        # margins are equal here, so that some choice x of the tariff's own does the same for all
        x = {"two_part": np.array(k), "auction": 0.25 * np.array(k)}.get(
            name, 0.8 + 0.2 * np.array(k)
        )
        terms = tuple(term[:, :, None] for term in plain.tariff.terms(market))
        np.testing.assert_allclose(
            laid_out.prices(market), plain.tariff.price(terms, x), rtol=1e-12
        )


def test_the_grid_reaches_the_equilibrium_in_free_prices_and_posted_rules_meet_there():
    """GAME.md, theorems 8 and 13: on a fine grid compute is efficient whatever the tariff."""
    for beta in (200.0, 1000.0):
        market = ttc_env.load_market("gsm8k", beta=beta)
        free = ttc_env.solve(market).free_prices
        grid = markup_grid(market)
        markup = at_reference(market, market.price - market.cost)[:, 0]
        assert (free.markup <= grid[-1] * markup).all()
        assert (free.markup >= grid[1] * markup).all()
        assert {0.0, 1.0} <= set(grid.tolist())
        for name in ("market", "flat_fee", "pay_per_correct", "two_part"):
            tariff = on_markups(make_mechanism(name, "fixed").tariff, market, grid)
            mechanism = Mechanism(name, tariff, make_mechanism(name).rule)
            solution = ttc_env.solve(market, mechanism)
            found = account(mechanism, market, solution.worst)
            assert abs(found.overcompute) < 0.02
            assert float(found.welfare) == pytest.approx(free.welfare, rel=0.01)


@given(st.integers(0, 2000), st.sampled_from([0.5, 5.0, 50.0]), st.floats(-0.3, 1.0))
def test_a_reserve_at_what_users_keep_leaves_nobody_worse_off(seed, beta, outside):
    """GAME.md, theorem 20: and it costs no welfare. Nobody sells at a loss here."""
    market = cheap_market(seed, beta, outside)
    users = ttc_env.solve(market).user_value
    reserved = ttc_env.solve(market, make_mechanism("auction", reserve=users - 1e-12))
    assert reserved.user_value >= users - 1e-11
    assert reserved.welfare == pytest.approx(first_best(market), rel=1e-12)


def test_what_theory_says_of_list_prices_is_in_the_table():
    market = ttc_env.load_market("gsm8k", "majority", beta=200)
    rows = {
        (row["mechanism"], row["options"].partition("=")[0], row["prices"], row["played_by"]): row
        for row in ttc_env.compare(market, resamples=0).rows
        if row["reading"] == "without tastes"
    }
    at_list = {
        key[0]: row for key, row in rows.items() if key[1:3] == ("", "neutral") and "eq" in key[3]
    }
    assert at_list["market"]["overcompute"] > 1
    assert at_list["flat_fee"]["overcompute"] < -1
    for efficient in ("two_part", "price_cap"):
        assert at_list[efficient]["overcompute"] == 0
        assert at_list[efficient]["lost_to_compute"] == 0
        assert at_list[efficient]["lost_to_choice"] > 0
        assert at_list[efficient]["audit_gain"] == pytest.approx(0, abs=1e-12)
    auction = rows["auction", "", "markups", "equilibrium"]
    assert auction["efficiency"] == pytest.approx(1)
    assert auction["audit_gain"] == pytest.approx(0, abs=1e-9)
    assert rows["first_score", "", "markups", "equilibrium, worst"]["audit_gain"] > 0.01
    # one number for all, where each rule's own optimum is another
    assert len({row["first_best"] for row in rows.values()}) == 1
    own = {k[0]: r["welfare"] for k, r in rows.items() if k[2:] == ("neutral", "own optimum")}
    assert own["market"] == pytest.approx(5.953, abs=1e-3)
    assert own["flat_fee"] != pytest.approx(own["market"], rel=1e-4)


def test_a_row_is_what_enumeration_finds():
    market = cheap_market(1, 5.0)
    grid = (0.0, 1.0, 2.0)
    for name in NAMES:
        plain = make_mechanism(name, "fixed")
        mechanism = Mechanism(name, on_markups(plain.tariff, market, grid), plain.rule)
        rows = exact_rows(Entry(name, (), "markups", mechanism), market)
        exhaustive = enumeration.solve(mechanism, market)
        reading = "with tastes" if plain.rule.counts_tastes else "without tastes"
        worst = next(
            r
            for r in rows
            if r["reading"] == reading and r["played_by"] in ("equilibrium", "equilibrium, worst")
        )
        if len(exhaustive.equilibria) and not hasattr(mechanism.rule, "settlement"):
            assert worst["welfare"] == pytest.approx(1e3 * exhaustive.welfare)
        planner = next(r for r in rows if r["played_by"] == "own optimum")
        assert planner["welfare"] == pytest.approx(1e3 * exhaustive.optimal_welfare, rel=1e-9)
        assert {r["equilibria"] for r in rows} == {rows[0]["equilibria"]}
        assert all(set(r) == set(COLUMNS) for r in rows)


def test_rows_say_how_many_equilibria_there_are():
    """Proofs, and the equilibrium in which nobody plays a dominated action."""
    one = ttc_env.compare(cheap_market(1, 5.0), "market", resamples=0).rows
    assert {r["mechanism"] for r in one} == {"market"}
    proofs = {
        r["played_by"]: r["certificate"].partition(";")[0]
        for r in one
        if r["reading"] == "without tastes"
    }
    assert proofs["equilibrium"] == "the only equilibrium"
    score = make_mechanism("first_score", "fixed")
    market = cheap_market(1, 5.0)
    mechanism = Mechanism(
        "first_score", on_markups(score.tariff, market, (0.0, 1.0, 2.0)), score.rule
    )
    solution = ttc_env.solve(market, mechanism)
    rows = exact_rows(Entry("first_score", (), "markups", mechanism), market)
    said = {r["played_by"]: r["certificate"].partition(";")[0] for r in rows}
    assert len(solution.equilibria) > 1
    assert f"one of {len(solution.equilibria)} equilibria" in said["equilibrium, worst"]
    assert len(solution.undominated)
    assert said["equilibrium, undominated"] == "nobody plays a dominated action"


def test_bands_hold_the_estimate_and_a_market_without_curves_has_none():
    market = ttc_env.load_market("gpqa", "reasoning", beta=1000)
    found = ttc_env.compare(market, ["market", "auction"], resamples=8, seed=1)
    again = ttc_env.compare(market, ["market", "auction"], resamples=8, seed=1)
    assert csv_bytes(found.rows) == csv_bytes(again.rows)
    for row in found.rows:
        for name in BANDED:
            if not np.isnan(row[name]):
                assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["band"].startswith("90% of 8 markets")
    with pytest.raises(ValueError, match="given as arrays"):
        ttc_env.compare(cheap_market(0, 5.0), ["market"], resamples=3)
    rows = ttc_env.compare(cheap_market(0, 5.0), ["per_character"], resamples=0).rows
    assert len(list(csv.reader(io.StringIO(csv_bytes(rows).decode())))) == len(rows) + 1
    assert np.isnan(rows[0]["tokens"])


def test_no_pure_equilibrium_is_a_row(monkeypatch):
    """Games without one are rare among the rules here, so that a solution is emptied by hand."""
    market = ttc_env.load_market("gsm8k", beta=200)
    mechanism = make_mechanism("market")
    solution = ttc_env.solve(market)
    none = dataclasses.replace(
        solution.pne, profiles=np.empty((0, 9), int), lowest=None, highest=None, unique=False
    )
    empty = dataclasses.replace(solution, pne=none)
    monkeypatch.setattr(comparison, "solve", lambda *_: empty)
    rows = exact_rows(Entry("market", (), "neutral", mechanism), market, [market, market])
    lines = [row for row in rows if row["played_by"] == "equilibrium"]
    assert len(lines) == 2  # one a reading
    for row in lines:
        assert np.isnan(row["welfare"])
        assert row["equilibria"] == 0
        assert "no pure equilibrium" in row["certificate"]
        assert row["band"] == ""
    assert any(row["played_by"] == "own optimum" for row in rows)


def test_redrawn_markets_without_an_equilibrium_are_counted(monkeypatch):
    market = ttc_env.load_market("gsm8k", beta=200)
    others = [market.replace(alpha=market.alpha * x) for x in (1.0, 1.1, 1.2)]
    mechanism = make_mechanism("market")

    def solved(one, mechanism):
        solution = ttc_env.solve(one, mechanism)
        if one is not others[1]:
            return solution
        nothing = {"profiles": np.empty((0, 9), int), "lowest": None, "highest": None}
        return dataclasses.replace(solution, pne=dataclasses.replace(solution.pne, **nothing))

    monkeypatch.setattr(comparison, "solve", solved)
    rows = exact_rows(Entry("market", (), "neutral", mechanism), market, others)
    by_name = {r["played_by"]: r for r in rows if r["reading"] == "without tastes"}
    note = by_name["equilibrium"]["band"]
    assert note.endswith("of 2 markets with redrawn accuracies; 1 more have no such equilibrium")
    assert by_name["own optimum"]["band"].endswith("of 3 markets with redrawn accuracies")


def test_what_cannot_be_compared_is_said():
    market = ttc_env.load_market("gsm8k", beta=200)
    with pytest.raises(ValueError, match="unknown"):
        ttc_env.compare(market, ["lottery"])
    with pytest.raises(ValueError, match="band is"):
        ttc_env.compare(market, band=1.5)
    with pytest.raises(ValueError, match="margin"):
        ttc_env.compare(ttc_env.load_market("gsm8k", margin=0.0), ["market"])
    found = ttc_env.compare(market, ["per_character"], resamples=0)
    assert not found.rows
    assert "characters" in found.left_out["per_character"]
    with pytest.raises(ValueError, match="cannot ask the list price"):
        Markups((1.0,), ZeroPrice((1.0,))).prices(market)
    cost = market.cost.copy()
    at = reference_level(market)[4]
    cost[4, at] = market.price[4, at]
    free = ttc_env.Market.from_arrays(market.quality, market.price, cost, beta=200)
    assert reference_level(free)[4] == at
    with pytest.raises(ValueError, match=r"provider 4 sells its efficient .*raise the margin"):
        Markups((1.0,), PerToken((1.0,))).prices(free)


class ZeroPrice(PerToken):
    """Asks nothing whatever is chosen."""

    def price(self, terms, choice):
        return 0.0 * terms[0] * choice


def test_more_markets_than_fit_are_refused_at_once():
    with pytest.raises(ValueError, match="at most 100,000"):
        ttc_env.compare(ttc_env.load_market(), ["market"], resamples=10**9)
    with pytest.raises(ValueError, match="no mechanism is named"):
        ttc_env.compare(ttc_env.load_market(), [], resamples=0)
