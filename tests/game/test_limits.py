"""The limits against solving at a small and at a large beta."""

from __future__ import annotations

import numpy as np
import pytest

import ttc_env
from tests.game.bruteforce import random_game
from ttc_env.game.demand import shares
from ttc_env.game.equilibrium import equilibria
from ttc_env.game.limits import limit_beta_infinity, limit_beta_zero
from ttc_env.game.types import PostedPriceGame
from ttc_env.game.welfare import user_value, welfare


def at_beta(game: PostedPriceGame, beta: float) -> PostedPriceGame:
    return PostedPriceGame(game.value, game.profit, game.surplus, beta, game.outside_value)


def check(game: PostedPriceGame, limit, beta: float, tolerance: float, accuracy: float) -> bool:
    """The limit's profile is an equilibrium at `beta` (the only one if it says so), and its numbers
    are that profile's.
    """
    near = at_beta(game, beta)
    found = equilibria(near, tolerance=tolerance)
    listed = [p.tolist() for p in found.profiles]
    assert limit.profile.tolist() in listed, (game, limit)
    if limit.unique:
        assert listed == [limit.profile.tolist()], (game, limit, listed)
    row = np.arange(len(game.value))
    share, outside = shares(game.value[row, limit.profile], beta, game.outside_value)
    np.testing.assert_allclose(share, limit.share, atol=accuracy)
    np.testing.assert_allclose(outside, limit.outside_share, atol=accuracy)
    assert limit.share.sum() + limit.outside_share == pytest.approx(1.0, abs=1e-15)
    np.testing.assert_array_equal(limit.serves, limit.share > 0)
    chosen = row, limit.profile
    assert limit.welfare == pytest.approx(
        float(welfare(share, game.surplus[chosen], outside, game.outside_value)), abs=10 * accuracy
    )
    assert limit.user_value == pytest.approx(
        float(user_value(share, game.value[chosen], outside, game.outside_value)), abs=10 * accuracy
    )
    np.testing.assert_allclose(limit.utility, share * game.profit[chosen], atol=10 * accuracy)
    return limit.unique


@pytest.mark.parametrize(
    "flavour", ["smooth", "ties", "losses", "losing", "losing_ties", "some_zero", "equal"]
)
def test_beta_zero(flavour):
    rng = np.random.default_rng([31, len(flavour)])
    unique = 0
    for _ in range(200):
        game = random_game(rng, flavour=flavour)
        unique += check(
            game, limit_beta_zero(game), 1e-9, 0.0 if flavour != "some_zero" else 1e-15, 1e-8
        )
    assert unique > 10


@pytest.mark.parametrize("flavour", ["smooth", "ties", "equal"])
def test_beta_infinity(flavour):
    rng = np.random.default_rng([32, len(flavour)])
    unique = outside_wins = ties = kept = 0
    for _ in range(600):
        game = random_game(rng, flavour=flavour)
        outside = (
            float(rng.integers(0, 5) / 10)
            if flavour == "ties"
            else game.outside_value + float(rng.integers(0, 2))
        )
        game = PostedPriceGame(game.value, game.profit, game.surplus, 1.0, outside)
        offers = np.unique(np.append(game.value[game.available], outside))
        if len(offers) > 1 and np.diff(offers).min() * 1e5 < 60:
            continue  # 1e5 is not large for values this close
        kept += 1
        limit = limit_beta_infinity(game)
        unique += check(game, limit, 1e5, 1e-9, 1e-9)
        outside_wins += limit.outside_share == 1.0
        ties += limit.serves.sum() + (limit.outside_share > 0) > 1
    assert kept > 150
    assert unique > 50
    if flavour != "equal":
        assert outside_wins > 5
    if flavour != "smooth":
        assert ties > 5


def test_winner_shades_its_value_to_the_rivals_best():
    game = PostedPriceGame(
        [[5.0, 3.0, 2.0, 1.0], [2.0, 1.0, np.nan, np.nan]],
        [[1.0, 2.0, 5.0, 9.0], [1.0, 2.0, np.nan, np.nan]],
        np.ones((2, 4)),
        1.0,
    )
    limit = limit_beta_infinity(game)
    # V = 2 ties with the rival: half of 5 is more than all of 2. V = 1 would lose everything.
    assert limit.profile.tolist() == [2, 0]
    assert limit.share.tolist() == [0.5, 0.5]
    game = PostedPriceGame(
        game.value, np.where(game.profit == 5.0, 3.9, game.profit), game.surplus, 1.0
    )
    assert limit_beta_infinity(game).profile.tolist() == [1, 0]
    assert limit_beta_infinity(game).share.tolist() == [1.0, 0.0]


def test_no_profitable_action_leaves_the_limit_undetermined():
    limit = limit_beta_infinity(PostedPriceGame([[1.0]], [[0.0]], [[1.0]], 1.0))
    assert np.isnan(limit.welfare)
    assert "provider 0" in limit.reason
    assert not limit.unique


def test_at_beta_zero_one_best_level_a_provider_is_a_unique_limit():
    profit = [[0.1, 0.2], [0.3, 0.1]]
    limit = limit_beta_zero(PostedPriceGame(profit, profit, profit, 1.0))
    assert limit.unique
    assert limit.profile.tolist() == [1, 0]
    tied = [[0.2, 0.2], [0.3, 0.1]]
    assert not limit_beta_zero(PostedPriceGame(tied, tied, tied, 1.0)).unique


def test_decimal_ties_are_no_certificates():
    """0.4 - 0.2 is more than 0.3 - 0.1 by its last bit: nobody serves everybody for that."""
    assert 0.4 - 0.2 > 0.3 - 0.1

    def limits(quality, price, cost, outside_value=0.0):
        market = ttc_env.Market.from_arrays(
            quality, price, cost, beta=1.0, outside_value=outside_value
        )
        game = PostedPriceGame.from_market(market)
        return limit_beta_zero(game), limit_beta_infinity(game)

    decimal = limits([[0.4], [0.3]], [[0.2], [0.1]], [[0.1], [0.05]])[1]
    assert (decimal.share == [1.0, 0.0]).all()
    assert not decimal.unique
    assert "tied within rounding" in decimal.reason
    exact = limits([[0.5], [0.5]], [[0.25], [0.25]], [[0.1], [0.1]])[1]
    assert exact.unique  # they share
    assert (exact.share == 0.5).all()
    outside = limits([[0.3]], [[0.1]], [[0.05]], outside_value=0.2)[1]
    assert not outside.unique
    # the winner's lower V, against the rival's
    lower = limits([[0.9, 0.4], [0.3, np.nan]], [[0.1, 0.2], [0.1, np.nan]],
                   [[0.05, 0.05], [0.05, np.nan]])[1]  # fmt: skip
    assert not lower.unique
    apart = limits([[0.4], [0.35]], [[0.2], [0.1]], [[0.1], [0.05]])[1]
    assert apart.unique
    profits = limits([[0.8, 0.7]], [[0.4, 0.3]], [[0.2, 0.1]])[0]
    assert not profits.unique
    assert "profits of provider 0 are tied within rounding" in profits.reason
    assert limits([[0.8, 0.7]], [[0.45, 0.3]], [[0.2, 0.1]])[0].unique
