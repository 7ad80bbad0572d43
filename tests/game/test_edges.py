"""Numbers at the edges: what is refused, and what is no longer said with certainty."""

import numpy as np
import pytest

import ttc_env
from ttc_env.game import enumeration
from ttc_env.game.equilibrium import (
    MOST_ROUNDING,
    equilibria,
    highest_equilibrium,
    lowest_equilibrium,
)
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.replies import best_reply
from ttc_env.game.types import PostedPriceGame

MARKET = ttc_env.Market.from_arrays([[0.5, 0.8]], [[0.1, 0.3]], [[0.05, 0.1]], beta=5.0)
FAR_OUTSIDE = ttc_env.Market.from_arrays(
    [[0.1, 1.0]], [[0.1, 0.105]], [[0.0, 0.0]], beta=1e8, outside_value=-1e6
)


@pytest.mark.parametrize("tolerance", [np.nan, -1e-9, np.inf, -np.inf, "1e-9", None, True])
@pytest.mark.parametrize(
    "solver",
    [
        lambda t: ttc_env.solve(MARKET, tolerance=t),
        lambda t: ttc_env.solve(MARKET, "auction", tolerance=t),
        lambda t: ttc_env.sweep(MARKET, tolerance=t),
        lambda t: ttc_env.sweep(MARKET, mechanism="auction", tolerance=t),
        lambda t: equilibria(PostedPriceGame.from_market(MARKET), tolerance=t),
        lambda t: lowest_equilibrium(PostedPriceGame.from_market(MARKET), tolerance=t),
        lambda t: highest_equilibrium(PostedPriceGame.from_market(MARKET), tolerance=t),
        lambda t: best_reply(PostedPriceGame.from_market(MARKET), np.zeros(1), tolerance=t),
        lambda t: enumeration.solve(make_mechanism("market"), MARKET, tolerance=t),
    ],
)
def test_a_tolerance_that_certifies_nothing_is_refused(solver, tolerance):
    with pytest.raises(ValueError, match="finite number >= 0"):
        solver(tolerance)


def test_a_sweep_over_no_beta_is_refused():
    for betas in ([], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="give at least one number"):
            ttc_env.sweep(MARKET, betas)


def test_logits_that_hold_no_digits_certify_nothing():
    solution = ttc_env.solve(FAR_OUTSIDE)
    assert not solution.complete
    assert not solution.unique
    assert "rounding alone" in solution.reason
    assert np.isnan(solution.price_of_anarchy)
    assert np.isnan(solution.price_of_stability)
    assert "rounding alone" in solution.ratio_reason
    swept = ttc_env.sweep(FAR_OUTSIDE)
    assert not swept.complete
    assert not swept.unique
    assert np.isnan(swept.price_of_anarchy)
    assert np.isnan(swept.inefficiency)


@pytest.mark.parametrize("beta", [1e9, 1e12, 1e16, 1e18, 1e20, 1e100, 1e300])
def test_certificates_hold_at_any_beta_or_are_not_given(beta):
    rng = np.random.default_rng(0)
    for _ in range(20):
        quality, cost = rng.uniform(0.5, 1.0, (2, 3)), rng.uniform(0.01, 0.4, (2, 3))
        market = ttc_env.Market.from_arrays(quality, cost * 1.3, cost, beta=beta)
        for found in (ttc_env.solve(market), ttc_env.sweep(market)):
            assert np.all(found.complete) == (beta < MOST_ROUNDING / 4 / np.finfo(float).eps)


def test_certificates_end_where_beta_v_overflows():
    with pytest.raises(ValueError, match="overflows"):
        ttc_env.solve(MARKET.replace(beta=1e308, outside_value=-1e3))


def test_the_smallest_profits_are_right_or_refused():
    def game(small):
        return PostedPriceGame([[1.0, 1.0, 0.5]], [[small, 2 * small, small]], np.ones((1, 3)), 1.0)

    assert equilibria(game(1e-280)).profiles.tolist() == [[1]]
    for small in (5e-324, 1e-310):
        with pytest.raises(ValueError, match="must be at least"):
            game(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": [[np.inf, 1.0]]}, "value of provider 0, action 0, is inf"),
        ({"profit": [[1.0, np.nan]]}, "profit of provider 0, action 1, is nan"),
        ({"value": [[1.0, np.nan]]}, "profit of provider 0, action 1, is 1.0"),
        ({"surplus": [[np.nan, 1.0]]}, "surplus of provider 0, action 0, is nan"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"beta": np.nan}, "beta is nan"),
        ({"beta": np.inf}, "beta is inf"),
        ({"outside_value": np.nan}, "outside_value is nan"),
        ({"value": [["1", "2"]]}, "value is an array of"),
        ({"profit": [[1.0, 2.0], [1.0]]}, "profit: rows of different lengths"),
        ({"surplus": [[True, False]]}, "surplus is an array of bool"),
        ({"beta": "1"}, "beta is '1'"),
        ({"beta": True}, "beta is True"),
        ({"outside_value": None}, "outside_value is None"),
        ({"value": [1.0, 1.0]}, r"must be \[n, m\] and of one shape; got \(2,\), \(1, 2\)"),
        ({"surplus": [[1.0]]}, "of one shape"),
        ({"value": [[np.nan, np.nan]], "profit": [[np.nan, np.nan]]}, "provider 0 has no action"),
    ],
)
def test_a_game_of_ones_own_is_checked(change, message):
    fields = {name: [[1.0, 1.0]] for name in ("value", "profit", "surplus")}
    with pytest.raises(ValueError, match=message):
        PostedPriceGame(**{**fields, "beta": 1.0, **change})


def test_a_list_that_was_cut_off_gives_no_price_of_anarchy():
    """12 idle providers with 3 actions each: 531,441 equilibria."""
    rng = np.random.default_rng(0)
    price = rng.uniform(0.1, 0.5, (12, 3))
    market = ttc_env.Market.from_arrays(price + rng.uniform(0.1, 1, (12, 3)), price, price, beta=9)
    solution = ttc_env.solve(market)
    assert len(solution.equilibria) == 1000
    assert not solution.complete
    assert np.isnan(solution.price_of_anarchy)
    assert "max_equilibria" in solution.ratio_reason
    assert np.isnan(ttc_env.sweep(market).price_of_anarchy)
    assert solution.welfare > 0
