"""The free-price equilibrium: first-order conditions, a grid search over prices, SciPy's Wright
omega, and its limits.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_env.game import free_prices
from ttc_env.game.demand import log_rivals, logits
from ttc_env.game.equilibrium import equilibria
from ttc_env.game.free_prices import best_markup, free_price_equilibrium
from ttc_env.game.types import PostedPriceGame

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(max_examples=300, deadline=None)
def test_markups_shares_and_the_root_agree(seed):
    rng = np.random.default_rng(seed)
    n, beta = int(rng.integers(1, 10)), float(10 ** rng.uniform(-6, 7))
    surplus = rng.uniform(-0.5, 1.0, (n, 4))
    if rng.random() < 0.3:
        surplus = np.tile(surplus[:1], (n, 1))
    outside = float(rng.choice([0.0, rng.uniform(-1, 1)]))
    found = free_price_equilibrium(surplus, beta, outside)
    rounding = 1e-13 * (1 + beta * 2)  # beta V is known to eps beta V only
    assert found.converged
    assert found.gap <= 10 * rounding
    assert found.share.sum() + found.outside_share == pytest.approx(1.0, abs=1e-12 + 10 * rounding)
    best = surplus.max(axis=1)
    # markup = 1 / (beta (1 - s)), with 1 - s as the sum of the others, so that nothing cancels
    others = np.array([found.outside_share + np.delete(found.share, i).sum() for i in range(n)])
    np.testing.assert_allclose(found.markup * beta * others, 1.0, rtol=100 * rounding)
    np.testing.assert_array_equal(surplus[np.arange(n), found.levels], best)
    np.testing.assert_allclose(found.utility, found.share * found.markup)
    assert found.welfare == pytest.approx(
        found.user_value + found.utility.sum(), abs=1e-9 * (1 + found.utility.sum())
    )
    # the scalar equation of GAME.md, theorem 8: s exp(1/(1-s)) = exp(beta w)/A
    log_total = beta * (found.log_sum - outside)
    seen = found.share > 1e-300
    left = np.log(found.share[seen]) + 1.0 / others[seen]
    np.testing.assert_allclose(
        left, beta * (best[seen] - outside) - log_total, atol=1e3 * rounding, rtol=1e2 * rounding
    )


def test_no_price_on_a_fine_grid_does_better():
    rng = np.random.default_rng(41)
    for _ in range(50):
        n, beta = int(rng.integers(1, 6)), float(10 ** rng.uniform(-1, 3))
        surplus, outside = rng.uniform(0, 1, (n, 3)), float(rng.uniform(-0.5, 0.5))
        found = free_price_equilibrium(surplus, beta, outside)
        rivals = log_rivals(logits(surplus.max(axis=1) - found.markup, beta, outside))
        factor = np.concatenate([[1.0], np.geomspace(0.05, 20, 4001)])
        for i in range(n):
            # any level, any price
            markup = found.markup[i] * factor
            z = logits(surplus[i, :, None] - markup, beta, outside)
            log_profit = np.log(markup) - np.logaddexp(0.0, rivals[i] - z)
            assert log_profit.max() <= log_profit[found.levels[i], 0] + 1e-9


def test_wright_omega_of_scipy_agrees():
    special = pytest.importorskip("scipy.special")
    rng = np.random.default_rng(42)
    w, rivals = rng.uniform(-100, 1000, 2000), rng.uniform(0, 500, 2000)
    for beta in (1e-6, 1.0, 1e4):
        with np.errstate(under="ignore"):
            omega = special.wrightomega(beta * w - rivals - 1.0)
        np.testing.assert_allclose(best_markup(w, beta, rivals) * beta, 1.0 + omega, rtol=1e-14)


def test_level_and_price_grid_closes_in_on_it():
    """The same game with prices on a grid, flattened into actions, and solved by the general
    solver.
    """
    rng = np.random.default_rng(43)
    for _ in range(20):
        n, m, beta = 3, 3, float(rng.uniform(2, 20))
        surplus = rng.uniform(0, 1, (n, m))
        free = free_price_equilibrium(surplus, beta)
        markup = np.arange(1, 400) * (3.0 * free.markup.max() / 400)
        value = (surplus[:, :, None] - markup).reshape(n, -1)
        profit = np.broadcast_to(markup, (n, m, len(markup))).reshape(n, -1)
        found = equilibria(PostedPriceGame(value, profit, value + profit, beta))
        assert len(found.profiles) >= 1
        for profile in found.profiles:
            np.testing.assert_array_equal(profile // len(markup), free.levels)
            np.testing.assert_allclose(
                profit[0, profile], free.markup, atol=1.01 * (markup[1] - markup[0])
            )


def test_game_and_table_give_the_same():
    rng = np.random.default_rng(44)
    surplus = rng.uniform(0, 1, (4, 3))
    surplus[2, 1:] = np.nan
    game = PostedPriceGame(surplus - 0.1, surplus * 0 + 0.1, surplus, 7.0, 0.2)
    a, b = free_price_equilibrium(game), free_price_equilibrium(surplus, 7.0, 0.2)
    np.testing.assert_array_equal(a.markup, b.markup)
    assert a.levels[2] == 0


def test_limits_of_the_markup():
    # Perfectly rational users: Bertrand. The best provider charges its lead, and serves everybody.
    found = free_price_equilibrium([[1.0], [0.7], [0.2]], 1e6)
    assert found.markup[0] == pytest.approx(0.3, abs=1e-4)
    assert found.share[0] == pytest.approx(1.0, abs=1e-4)
    # A monopolist charges the lead over buying nothing.
    assert free_price_equilibrium([[1.0]], 1e7).markup[0] == pytest.approx(1.0, abs=1e-4)
    # Random users: 1 / (beta (1 - s)), s nearly equal.
    found = free_price_equilibrium([[1.0], [0.7]], 1e-6)
    np.testing.assert_allclose(found.markup, found.markup[0], rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.inf, np.nan])
def test_beta_must_be_positive(beta):
    with pytest.raises(ValueError, match="positive finite beta"):
        free_price_equilibrium([[1.0]], beta)
    with pytest.raises(ValueError, match="positive finite beta"):
        best_markup(1.0, beta, 0.0)


def test_a_table_needs_beta_and_two_axes():
    with pytest.raises(ValueError, match="beta"):
        free_price_equilibrium([[1.0]])
    with pytest.raises(ValueError, match="shape"):
        free_price_equilibrium([1.0], 1.0)


@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e6, 1e9, 1e12, 1e15])
def test_large_beta_costs_no_digits(beta):
    """The gap of what has converged does not grow with beta |w - V_0|."""
    rng = np.random.default_rng(0)
    for outside_value in (0.0, 0.3, 5.0, -1e3):
        for n in range(1, 5):
            surplus = rng.uniform(-1.0, 1.0, (n, 3))
            found = free_price_equilibrium(surplus, beta, outside_value)
            assert found.converged
            assert found.gap < 1e-12
            if (found.share < 0.999).all():  # 1 - share has its digits
                np.testing.assert_allclose(found.markup * beta * (1.0 - found.share), 1.0)
            assert found.share.sum() + found.outside_share == pytest.approx(1.0, abs=1e-12)


def test_an_equilibrium_that_is_not_near_its_replies_has_not_converged(monkeypatch):
    assert not free_price_equilibrium([[0.5], [0.4]], 10.0, max_iterations=1).converged
    monkeypatch.setattr(free_prices, "MOST_GAP", 0.0)
    found = free_price_equilibrium([[0.5], [0.4], [0.1]], 37.0)
    assert found.converged == (found.gap == 0.0)
