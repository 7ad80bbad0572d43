"""Pure equilibria against every profile in long double, against QuantEcon, and by the properties
that theory gives them.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.game.bruteforce import FLAVOURS, log_regrets, playable_profiles, random_game
from ttc_env.game.demand import log_rivals, logits
from ttc_env.game.dynamics import best_response_dynamics
from ttc_env.game.equilibrium import (
    equilibria,
    highest_equilibrium,
    log_potential,
    lowest_equilibrium,
    potential_maximiser,
)
from ttc_env.game.replies import best_reply
from ttc_env.game.types import PostedPriceGame


def as_set(profiles) -> set[tuple[int, ...]]:
    return {tuple(int(c) for c in profile) for profile in profiles}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_equilibrium_and_no_other(flavour):
    rng = np.random.default_rng([1, FLAVOURS.index(flavour)])
    for _ in range(250):
        game = random_game(rng, flavour=flavour)
        found = equilibria(game)
        profiles, regret = log_regrets(game)
        kept = playable_profiles(game, profiles)
        profiles, regret = profiles[kept], regret[kept]
        surely, perhaps = (
            as_set(profiles[regret <= 0.999 * found.tolerance]),
            as_set(profiles[regret <= 1.001 * found.tolerance]),
        )
        listed = [tuple(int(c) for c in p) for p in found.profiles]
        assert surely <= set(listed) <= perhaps, (game, listed, surely)
        assert listed == sorted(set(listed))
        assert found.complete
        assert found.converged
        assert found.reason == ""
        assert found.unique == (len(listed) == 1)
        assert found.gap <= found.tolerance
        row = np.arange(len(game.value))
        if (np.nanmax(game.profit, axis=1) >= 0).all():
            assert tuple(found.lowest) in listed
            assert tuple(found.highest) in listed
            values = game.value[row, found.profiles]
            assert (game.value[row, found.lowest] <= values).all()
            assert (game.value[row, found.highest] >= values).all()
            assert lowest_equilibrium(game).converged
            np.testing.assert_array_equal(
                game.value[row, lowest_equilibrium(game).profile], game.value[row, found.lowest]
            )
            np.testing.assert_array_equal(
                game.value[row, highest_equilibrium(game).profile], game.value[row, found.highest]
            )


def test_flavours_have_several_equilibria_often_enough_to_mean_something():
    rng = np.random.default_rng(2)
    several = {
        f: sum(len(equilibria(random_game(rng, flavour=f)).profiles) > 1 for _ in range(100))
        for f in FLAVOURS
    }
    assert several["zero_margin"] > 50
    assert several["beta_zero"] > 30
    assert several["indifferent"] > 10
    assert several["fractions"] >= 1
    assert several["multiple"] >= 2


def test_multiple_isolated_equilibria_are_found():
    """Two providers, strong complements: whatever one does, the other wants to match.

    Both profiles are strict equilibria.
    """
    game = PostedPriceGame(
        [[0.0, 3.0]] * 2, [[1.0, 0.35]] * 2, [[1.0, 3.35]] * 2, beta=1.0, outside_value=-10.0
    )
    found = equilibria(game)
    assert as_set(found.profiles) == {(0, 0), (1, 1)}
    assert tuple(found.lowest) == (0, 0)
    assert tuple(found.highest) == (1, 1)
    assert not found.unique


def test_exact_tie_at_an_interval_end():
    """A_-i = 2 exactly where e in {1, 2} earn the same: pi = 3/2 at e = 1 and 1 at e = 2 (U = 1/2
    both).
    """
    game = PostedPriceGame(
        [[0.0, 1.0], [0.0, np.nan]],
        [[1.5, 1.0], [1.0, np.nan]],
        [[1.5, 2.0], [1.0, np.nan]],
        beta=np.log(2.0),
    )
    assert as_set(equilibria(game).profiles) == {(0, 0), (1, 0)}


def test_columns_are_those_of_the_game_behind_padding_and_duplicates():
    nan = np.nan
    game = PostedPriceGame(
        [[0.5, 0.2, 0.5, nan], [0.1, nan, 0.3, 0.3]],
        [[0.1, 0.9, 0.1, nan], [0.1, nan, 5.0, 5.0]],
        np.zeros((2, 4)),
        50.0,
    )
    profiles, regret = log_regrets(game)
    assert as_set(profiles[regret < 1e-9]) == {(0, 2), (0, 3), (2, 2), (2, 3)}
    found = equilibria(game)
    assert as_set(found.profiles) == {(0, 2)}  # of copies the first
    assert found.unique
    assert (found.dominated, found.copies) == (1, 2)
    assert "2 actions are copies" in found.note


def test_nothing_left_out_is_no_note():
    game = PostedPriceGame([[0.0, 0.5]], [[2.0, 1.0]], [[2.0, 1.5]], 1.0)
    assert equilibria(game).note == ""
    copied = PostedPriceGame([[0.0, 0.0]], [[2.0, 2.0]], [[2.0, 2.0]], 1.0)
    assert equilibria(copied).note.startswith("1 actions are copies")


def test_dominated_actions_are_left_out_however_little_is_lost_by_them():
    """GAME.md, theorem 10: beyond 1e-9 of log utility the tolerance would list them."""
    game = PostedPriceGame(
        [[0.5, 0.5 + 1e-12, 0.4], [0.1, 0.2, np.nan]],
        [[0.1, 0.1, 0.1 * (1 - 1e-12)], [0.1, 0.1 * (1 - 1e-12), np.nan]],
        np.zeros((2, 3)),
        1e3,
    )
    found = equilibria(game)
    assert as_set(found.profiles) == {(1, 1)}
    assert (found.dominated, found.copies) == (2, 0)
    assert "2 dominated" in found.note
    # at beta = 0 nobody looks at V, so that only profits count
    blind = PostedPriceGame(game.value, game.profit, game.surplus, 0.0)
    assert as_set(equilibria(blind).profiles) == {(0, 0), (1, 0)}
    # providers that earn nothing are indifferent, and those that lose have nothing dominated
    idle = PostedPriceGame(game.value, np.where(game.available, 0.0, np.nan), game.surplus, 1.0)
    assert len(equilibria(idle).profiles) == 6


def test_settled_profits_are_equal_where_rounding_alone_tells_them_apart():
    from ttc_env.game.dominance import settle

    cost = np.array([[0.1, 0.2, 0.7, 0.5, np.nan]])
    price = cost + 0.3
    price[0, 3] += 1e-12
    profit = price - cost
    assert len(set(profit[0, :3])) > 1
    settled = settle(profit, price)
    assert len(set(settled[0, :3])) == 1
    assert settled[0, 3] == profit[0, 3]
    assert np.isnan(settled[0, 4])
    np.testing.assert_allclose(settled, profit, rtol=1e-14)
    zero = np.array([[0.0, 1e-17, -1e-17]])
    np.testing.assert_array_equal(settle(zero, np.ones((1, 3))), zero)


def test_too_many_equilibria_are_cut_and_said_so():
    zero = np.zeros((9, 6))
    found = equilibria(PostedPriceGame(zero + np.arange(6), zero, zero, 1.0), max_equilibria=100)
    assert len(found.profiles) == 100
    assert not found.complete
    assert not found.unique
    assert "max_equilibria=100" in found.reason


def test_two_hundred_identical_providers_do_not_multiply():
    game = PostedPriceGame(
        np.tile([0.0, 0.5, 1.0], (200, 1)),
        np.tile([1.0, 0.9, 0.5], (200, 1)),
        np.ones((200, 3)),
        2.0,
    )
    found = equilibria(game)
    assert found.complete
    assert len(found.profiles) >= 1


def test_many_exactly_tied_providers_stop_at_the_cap():
    """Far below the outside option every provider is indifferent between two actions: 2^60
    equilibria.
    """
    game = PostedPriceGame(
        np.tile([-60.0, -61.0], (60, 1)), np.tile([1.0, np.e], (60, 1)), np.ones((60, 2)), 1.0
    )
    found = equilibria(game, max_equilibria=50, max_search=500)
    assert not found.complete
    assert len(found.profiles) == 50
    assert found.gap <= found.tolerance


def test_losing_providers_may_leave_no_equilibrium_and_none_is_claimed():
    rng = np.random.default_rng(6)
    empty = 0
    for _ in range(300):
        game = random_game(rng, flavour="losing", max_providers=3, max_levels=3)
        found = equilibria(game)
        empty += not len(found.profiles)
        profiles, regret = log_regrets(game)
        assert as_set(found.profiles) == as_set(profiles[regret < 1e-9])
        if not len(found.profiles):
            assert found.lowest is None
            assert found.highest is None
            assert not found.unique
            assert potential_maximiser(game, found) is None
    assert 0 < empty < 300


def test_equilibria_of_losing_providers_need_not_be_a_lattice():
    """Each has its least V in one of the two; then the total weight of all offers orders them."""
    value = [[0.76, 0.427, 0.237], [0.623, 0.266, 0.296], [0.124, 0.74, -0.015]]
    profit = [[-0.5, -0.448, -0.986], [-0.119, -0.57, -0.23], [-0.951, -0.134, -0.917]]
    game = PostedPriceGame(value, profit, np.add(value, profit), 8.647)
    found = equilibria(game)
    assert as_set(found.profiles) == {(1, 2, 2), (2, 0, 2)}
    chosen = game.value[np.arange(3), found.profiles]
    assert not (chosen <= chosen.min(axis=0)).all(axis=1).any()
    weight = np.exp(game.beta * chosen).sum(axis=1)
    np.testing.assert_array_equal(found.lowest, found.profiles[weight.argmin()])
    np.testing.assert_array_equal(found.highest, found.profiles[weight.argmax()])


def test_quantecon_agrees():
    gt = pytest.importorskip("quantecon.game_theory")
    rng = np.random.default_rng(4)
    for _ in range(150):
        game = random_game(
            rng, flavour=("smooth", "curve", "multiple", "ties")[int(rng.integers(4))]
        )
        n, m = game.value.shape
        if n < 2 or not game.available.all():
            continue
        table = np.empty((m,) * n + (n,))
        for profile in np.ndindex(*(m,) * n):
            z = logits(game.value[np.arange(n), profile], game.beta, game.outside_value)
            # log U: a rising transformation of one's own utility leaves pure equilibria where they
            # are, and never underflows
            table[profile] = (
                np.log(game.profit[np.arange(n), profile])
                + z
                - np.logaddexp.reduce(np.append(z, 0.0))
            )
        found = equilibria(game)
        theirs = {
            tuple(int(a) for a in p)
            for p in gt.pure_nash_brute(gt.NormalFormGame(table), tol=found.tolerance)
        }
        profiles, regret = log_regrets(game)
        theirs &= as_set(profiles[playable_profiles(game, profiles)])
        unclear = as_set(profiles[np.abs(regret - found.tolerance) < 1e-3 * found.tolerance])
        assert as_set(found.profiles) ^ theirs <= unclear


@pytest.mark.parametrize("flavour", ["smooth", "ties", "curve", "losing_ties", "beta_large"])
def test_best_reply_against_all_actions(flavour):
    rng = np.random.default_rng([5, FLAVOURS.index(flavour)])
    for _ in range(200):
        game = random_game(rng, flavour=flavour)
        n = len(game.value)
        profile = np.array([rng.choice(np.flatnonzero(row)) for row in game.available])
        z = logits(game.value, game.beta, game.outside_value)
        rivals = log_rivals(z[np.arange(n), profile])
        low, high = (
            best_reply(game, rivals, ties="lowest"),
            best_reply(game, rivals, ties="highest"),
        )
        for i in range(n):
            with np.errstate(divide="ignore", invalid="ignore"):
                size = np.log(np.abs(game.profit[i])) - np.logaddexp(0, rivals[i] - z[i])
            best = np.nanmax(game.profit[i])
            rank = (
                np.where(game.profit[i] > 0, size, -np.inf)
                if best > 0
                else np.where(game.profit[i] == best, 0, -np.inf)
                if best == 0
                else -size
            )
            ties = np.flatnonzero(
                rank >= np.nanmax(rank) - 1e-9 * (1 + 1e-6 * np.nanmax(np.abs(z)))
            )
            assert low[i] == ties[game.value[i, ties].argmin()]
            assert high[i] == ties[game.value[i, ties].argmax()]
            assert best_reply(game, rivals[i], i) == low[i]


def test_questions_that_best_replies_do_not_answer_are_refused():
    game = random_game(np.random.default_rng(0), flavour="smooth")
    n = len(game.value)
    with pytest.raises(ValueError, match="ties is 'first'; choose 'lowest' or 'highest'"):
        best_reply(game, np.zeros(n), ties="first")
    with pytest.raises(ValueError, match=rf"one number per provider, \({n},\)"):
        best_reply(game, np.zeros(n + 1))


seeds = st.integers(0, 2**32 - 1)
earning = st.sampled_from(
    ["smooth", "ties", "curve", "multiple", "beta_large", "equal", "far_below"]
)


@given(seeds, earning)
@settings(max_examples=150, deadline=None)
def test_relabelling_providers_permutes_the_answer(seed, flavour):
    rng = np.random.default_rng(seed)
    game = random_game(rng, flavour=flavour)
    order = rng.permutation(len(game.value))
    other = PostedPriceGame(
        game.value[order], game.profit[order], game.surplus[order], game.beta, game.outside_value
    )
    assert as_set(equilibria(other).profiles) == as_set(equilibria(game).profiles[:, order])


@given(seeds, earning, st.floats(-5, 5))
@settings(max_examples=150, deadline=None)
def test_shifting_all_values_changes_nothing(seed, flavour, shift):
    game = random_game(np.random.default_rng(seed), flavour=flavour)
    other = PostedPriceGame(
        game.value + shift, game.profit, game.surplus, game.beta, game.outside_value + shift
    )
    assert as_set(equilibria(other, tolerance=1e-7).profiles) >= as_set(equilibria(game).profiles)
    assert as_set(equilibria(game, tolerance=1e-7).profiles) >= as_set(equilibria(other).profiles)


@given(seeds, earning, st.integers(-20, 20))
@settings(max_examples=150, deadline=None)
def test_the_unit_of_money_does_not_matter(seed, flavour, power):
    game = random_game(np.random.default_rng(seed), flavour=flavour)
    c = 2.0**power
    other = PostedPriceGame(
        game.value * c, game.profit * c, game.surplus * c, game.beta / c, game.outside_value * c
    )
    assert as_set(equilibria(other).profiles) == as_set(equilibria(game).profiles)


@given(seeds, earning)
@settings(max_examples=150, deadline=None)
def test_potential_changes_as_the_movers_log_utility(seed, flavour):
    rng = np.random.default_rng(seed)
    game = random_game(rng, flavour=flavour)
    n = len(game.value)
    profile = np.array([rng.choice(np.flatnonzero(row)) for row in game.available])
    i = int(rng.integers(n))
    other = profile.copy()
    other[i] = rng.choice(np.flatnonzero(game.available[i]))
    z = logits(game.value, game.beta, game.outside_value)
    rivals = log_rivals(z[np.arange(n), profile])[i]
    with np.errstate(invalid="ignore"):  # padding
        log_u = np.log(game.profit[i]) + z[i] - np.logaddexp(rivals, z[i])
    change = log_potential(game, other) - log_potential(game, profile)
    scale = 1e-13 * (1 + np.nanmax(np.abs(z))) * n
    assert abs(change - (log_u[other[i]] - log_u[profile[i]])) <= 10 * scale


@pytest.mark.parametrize("flavour", ["smooth", "multiple", "ties", "equal"])
def test_potential_maximiser_is_the_maximum_over_all_profiles(flavour):
    rng = np.random.default_rng([6, FLAVOURS.index(flavour)])
    for _ in range(100):
        game = random_game(rng, flavour=flavour)
        found = equilibria(game)
        best = potential_maximiser(game, found)
        assert log_potential(game, best) >= log_potential(game, log_regrets(game)[0]).max() - 1e-9


def test_nothing_is_written_into_the_game():
    game = random_game(np.random.default_rng(7), flavour="losing")
    before = [a.copy() for a in (game.value, game.profit, game.surplus)]
    equilibria(game)
    for a, b in zip(before, (game.value, game.profit, game.surplus), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("flavour", ["smooth", "curve", "multiple", "beta_large", "equal"])
def test_bracket_of_hundreds_of_providers_is_where_best_replies_in_turn_end(flavour):
    """Big games take the roads that small ones do not: providers whose bracket has closed leave the
    sweeps, tables are cut into blocks.
    """
    rng = np.random.default_rng([9, FLAVOURS.index(flavour)])
    for n in (70, 150, 400):
        small = [random_game(rng, flavour=flavour, max_providers=1) for _ in range(n)]
        m = 5
        table = np.full((3, n, m), np.nan)
        for i, game in enumerate(small):
            width = game.value.shape[1]
            table[:, i, :width] = game.value[0], game.profit[0], game.surplus[0]
        game = PostedPriceGame(*table, float(10 ** rng.uniform(0, 3)), 0.5)
        found = equilibria(game)
        assert found.complete
        row = np.arange(n)
        lowest = np.nanargmin(np.where(game.available, game.value, np.nan), axis=1)
        highest = np.nanargmax(np.where(game.available, game.value, np.nan), axis=1)
        up, down = best_response_dynamics(game, lowest), best_response_dynamics(game, highest)
        np.testing.assert_array_equal(
            game.value[row, up.profiles[-1]], game.value[row, found.lowest]
        )
        np.testing.assert_array_equal(
            game.value[row, down.profiles[-1]], game.value[row, found.highest]
        )


def test_bystanders_do_not_hide_equilibria():
    """Five hundred providers whose last action dominates stand beside two complements: they only
    shift the outside option.
    """
    rng = np.random.default_rng(10)
    seen = set()
    for _ in range(40):
        weight = rng.dirichlet(np.ones(500))
        value = np.log(weight)[:, None] + np.array([-2.0, -1.0, 0.0])
        profit = np.tile([0.5, 0.7, 1.0], (500, 1))
        pair_value, pair_profit = (
            np.array([[0.0, 2.0, 3.0]] * 2),
            np.array([[1.0, rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.6)]] * 2),
        )
        outside = float(rng.uniform(-4, 0))
        crowd = PostedPriceGame(
            np.concatenate([value, pair_value]),
            np.concatenate([profit, pair_profit]),
            np.ones((502, 3)),
            1.0,
            outside,
        )
        alone = PostedPriceGame(
            pair_value, pair_profit, np.ones((2, 3)), 1.0, float(np.logaddexp(outside, 0.0))
        )
        with_crowd, without = equilibria(crowd), equilibria(alone)
        assert with_crowd.complete
        assert (with_crowd.profiles[:, :500] == 2).all()
        np.testing.assert_array_equal(with_crowd.profiles[:, 500:], without.profiles)
        seen.add(len(without.profiles))
    assert max(seen) > 1


@pytest.mark.slow
def test_ten_thousand_providers():
    rng = np.random.default_rng(8)
    tokens = np.sort(10 ** rng.uniform(-2, 0.6, (10_000, 64)), axis=1)
    quality = rng.uniform(0.1, 0.9, (10_000, 1)) * (
        1 - np.exp(-rng.uniform(0.5, 5, (10_000, 1)) * tokens)
    )
    price = tokens * rng.uniform(0.05, 0.3, (10_000, 1))
    for beta in (0.0, 3.0, 100.0, 1e6):
        game = PostedPriceGame(quality - price, 0.2 * price, quality - 0.8 * price, beta)
        found = equilibria(game)
        assert found.complete
        assert found.converged
        z = logits(game.value, beta, 0.0)
        for profile in found.profiles:
            rivals = log_rivals(z[np.arange(10_000), profile])
            log_u = np.log(game.profit) - np.logaddexp(0.0, rivals[:, None] - z)
            assert (
                log_u.max(axis=1) - log_u[np.arange(10_000), profile]
            ).max() <= 2 * found.tolerance
