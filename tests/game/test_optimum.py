"""The optimum against every profile: in long double on random games, and to 60 digits where one
share is near 1.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.game.bruteforce import FLAVOURS, profiles_of, random_game, share_weighted
from ttc_env.game import optimum
from ttc_env.game.optimum import joint_profit_maximum, maximise_share_weighted, social_optimum
from ttc_env.game.types import PostedPriceGame


def shifted(game: PostedPriceGame, by: float) -> PostedPriceGame:
    return PostedPriceGame(
        game.value, game.profit, game.surplus - by, game.beta, game.outside_value
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_optimum_equals_brute_force(flavour):
    rng = np.random.default_rng([11, FLAVOURS.index(flavour)])
    for k in range(250):
        game = random_game(rng, flavour=flavour)
        if k % 3 == 0:  # some or all surpluses negative
            game = shifted(game, rng.uniform(0, 1.5))
        profiles = profiles_of(game)
        social, cartel = social_optimum(game), joint_profit_maximum(game)
        for found, value, weight, outside in (
            (social, social.welfare, game.surplus, game.outside_value),
            (cartel, cartel.profit, game.profit, 0.0),
        ):
            every = share_weighted(game, profiles, weight, outside)
            mine = every[(profiles == found.profile).all(axis=1)]
            scale = max(np.nanmax(np.abs(weight)), abs(outside), 1e-300)
            assert len(mine) == 1, "the profile must exist"
            assert every.max() - mine[0] <= 1e-15 * scale, (game, found)
            assert abs(value - every.max()) <= 1e-13 * scale
            assert found.converged
            assert found.gap == 0.0


def test_sixty_digits_where_one_share_is_near_one():
    """GAME.md, theorem 4, the trap: in one double lambda swallows what everybody but the largest
    provider adds.
    """
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(12)
    with mpmath.workdps(60):
        for k in range(120):
            n, m = 3, 3
            value, surplus = rng.uniform(0, 0.05, (n, m)), rng.uniform(0, 0.05, (n, m))
            beta = float(10 ** rng.uniform(4, 6))
            if k % 4 == 0:
                surplus = rng.integers(1, 4, (n, m)) / 100
            game = PostedPriceGame(value, surplus - value, surplus, beta)
            found = social_optimum(game)
            e = [
                [mpmath.exp(mpmath.mpf(beta) * mpmath.mpf(float(v))) for v in row] for row in value
            ]
            w = [[mpmath.mpf(float(x)) for x in row] for row in surplus]
            profiles = profiles_of(game)
            welfare = [
                mpmath.fsum(e[i][c] * w[i][c] for i, c in enumerate(p))
                / (1 + mpmath.fsum(e[i][c] for i, c in enumerate(p)))
                for p in profiles.tolist()
            ]
            mine = welfare[profiles.tolist().index(found.profile.tolist())]
            assert (max(welfare) - mine) / max(welfare) <= mpmath.mpf("1e-15")
            assert abs(found.welfare - max(welfare)) / max(welfare) <= mpmath.mpf("1e-14")


def test_negligible_providers_still_choose_right():
    """Provider 0 holds all but exp(-4000) of the users; what the others add is far below one
    double's resolution, yet decides for them.
    """
    value = np.array([[1.0, 0.999], [0.6, 0.5], [0.4, 0.3]])
    surplus = np.array([[0.5, 0.5], [0.4, 0.3], [0.9, 0.8]])
    found = social_optimum(PostedPriceGame(value, surplus - value, surplus, 1e4))
    # Provider 1 is worse than provider 0's 0.5 and should lose share; provider 2 is better and
    # should gain.
    assert found.profile.tolist()[1:] == [1, 0]


def test_beta_zero_takes_everybodys_largest_surplus():
    game = random_game(np.random.default_rng(13), flavour="beta_zero")
    assert (
        game.surplus[np.arange(len(game.surplus)), social_optimum(game).profile]
        == np.nanmax(game.surplus, axis=1)
    ).all()


def test_batch_equals_one_by_one():
    rng = np.random.default_rng(14)
    z, weight, outside = (
        rng.normal(0, 30, (5, 4, 3, 7)),
        rng.normal(0, 1, (5, 4, 1, 7)),
        rng.normal(0, 1, (3, 7)),
    )
    weight[2, 3] = np.nan
    batch = maximise_share_weighted(z, weight, outside)
    assert batch.profile.shape == (5, 3, 7)
    assert batch.value.shape == (3, 7)
    assert batch.converged
    for a in range(3):
        for b in range(7):
            one = maximise_share_weighted(z[:, :, a, b], weight[:, :, 0, b], outside[a, b])
            np.testing.assert_array_equal(batch.profile[:, a, b], one.profile)
            assert batch.value[a, b] == pytest.approx(float(one.value), rel=1e-14)


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from(FLAVOURS))
@settings(max_examples=150, deadline=None)
def test_relabelling_and_shifting(seed, flavour):
    rng = np.random.default_rng(seed)
    game = random_game(rng, flavour=flavour)
    order = rng.permutation(len(game.value))
    other = PostedPriceGame(
        game.value[order] + 0.25,
        game.profit[order],
        game.surplus[order] + 0.25,
        game.beta,
        game.outside_value + 0.25,
    )
    scale = max(1.0, float(np.nanmax(np.abs(game.value))))
    slack = 1e-12 * scale * (1.0 + game.beta * scale * 1e-3)
    assert social_optimum(other).welfare == pytest.approx(
        social_optimum(game).welfare + 0.25, abs=slack
    )


@given(seeds, st.sampled_from(FLAVOURS))
@settings(max_examples=100, deadline=None)
def test_nobody_can_raise_welfare_alone(seed, flavour):
    game = random_game(np.random.default_rng(seed), flavour=flavour)
    found = social_optimum(game)
    row = np.arange(len(game.value))
    neighbours = [found.profile]
    for i, c in np.argwhere(game.available):
        neighbours.append(np.where(row == i, c, found.profile))
    every = share_weighted(game, np.array(neighbours), game.surplus, game.outside_value)
    assert every[0] >= every.max() - 1e-15 * max(1.0, float(np.nanmax(np.abs(game.surplus))))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_equal_weights_leave_nothing_to_choose(weight):
    """Every share-weighted sum is the weight itself: delta is exactly 0, and the first action
    stands.
    """
    z = np.random.default_rng(15).normal(0, 1e4, (4, 3, 5))
    found = maximise_share_weighted(z, np.full((4, 3, 1), weight), weight)
    assert (found.value == weight).all()
    assert found.converged
    assert not found.profile.any()


def test_nothing_is_the_outside_weight_unless_it_is_given():
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=(3, 4)), rng.uniform(-1.0, 0.5, (3, 4))
    found = maximise_share_weighted(z, x)
    sums = {}
    for profile in itertools.product(range(4), repeat=3):
        at = np.arange(3), profile
        e = np.exp(z[at])
        sums[profile] = (e @ x[at]) / (1.0 + e.sum())  # and e_0 x_0 = 0
    assert tuple(found.profile) == max(sums, key=sums.__getitem__)
    assert float(found.value) == pytest.approx(max(sums.values()), rel=1e-13)


def test_rounds_cut_short_say_so(monkeypatch):
    """By themselves, from a start that is as bad as can be: `_rough` usually finds the maximum."""
    rng = np.random.default_rng(0)
    cut = 0
    monkeypatch.setattr(optimum, "_rough", lambda z, x, x_0, first: x.argmin(axis=1))
    for _ in range(20):
        z, x = rng.normal(size=(5, 6)) * 3, rng.uniform(-1.0, 1.0, (5, 6))
        start = maximise_share_weighted(z, x, max_iterations=1)
        found = maximise_share_weighted(z, x)
        assert (found.converged, found.gap) == (True, 0.0)
        assert found.iterations > 1
        if not start.converged:
            cut += 1
            worst = x.argmin(axis=1)
            e = np.exp(z[np.arange(5), worst])
            value = (e @ x[np.arange(5), worst]) / (1.0 + e.sum())
            assert start.gap == pytest.approx(float(start.value) - value, rel=1e-9)
            assert start.iterations == 1
    assert cut > 10
