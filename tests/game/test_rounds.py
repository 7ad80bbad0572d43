"""Rounds arranged for speed are the log-domain formulas and the auction's rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_env.game import rounds
from ttc_env.game.demand import log_total, shares
from ttc_env.game.rules.base import Users
from ttc_env.game.rules.posted_price_python import _lost
from ttc_env.game.rules.score_auction import SecondScore
from ttc_env.game.tariffs import Offer


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 500.0, 1e4, 1e7]),
)
def test_shares_from_mantissas_are_shares_from_logs(seed, n, scale):
    z = np.random.default_rng(seed).normal(size=(n, 50)) * scale
    fraction, exponent = rounds.split_exponential(z)
    assert ((fraction >= 1.0) & (fraction < 2.0)).all()
    share, outside = rounds.logit_shares(*rounds.attractions(fraction, exponent, np))
    expected, nobody = shares(z, 1.0)
    rtol = 1e-13 + 8e-16 * scale
    np.testing.assert_allclose(share, expected, rtol=rtol, atol=1e-300)
    np.testing.assert_allclose(outside, nobody, rtol=rtol, atol=1e-300)
    np.testing.assert_allclose(
        -np.log(np.maximum(outside, 1e-290)),
        np.minimum(log_total(z), -np.log(1e-290)),
        rtol=1e-9,
        atol=1e-9,
    )


def test_scaling_by_powers_of_two_changes_no_bit():
    z = np.random.default_rng(0).normal(size=(9, 500)) * 30
    fraction, exponent = rounds.split_exponential(z)
    scaled, _ = rounds.logit_shares(*rounds.attractions(fraction, exponent, np))
    plain, _ = rounds.logit_shares(np.ldexp(fraction, exponent), 1.0)
    np.testing.assert_array_equal(scaled, plain)


def test_powers_of_two_are_exact_down_to_the_smallest_normal_number():
    k = np.arange(-1100, 1)
    expected = np.where(k >= -1022, np.ldexp(1.0, k), 0.0)
    np.testing.assert_array_equal(rounds.power_of_two(k, np), expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 5),
    ties=st.booleans(),
    outside=st.sampled_from([-1.0, 0.0, 0.5, 5.0]),
    reserve=st.sampled_from([-np.inf, -0.5, 0.25, 1.0]),
)
def test_tabulated_auctions_are_the_definition(seed, n, ties, outside, reserve):
    rng = np.random.default_rng(seed)
    score = rng.integers(-2, 3, (n, 30)) / 2.0 if ties else rng.normal(size=(n, 30))
    rule, users = SecondScore(reserve=reserve), Users(1.0, np.full(30, outside))
    worth = rng.normal(size=score.shape)
    found = rule.tabulated({"score": score, "worth": worth}, users, 10)
    played = rule.play(Offer(worth, score, np.zeros_like(score), np.zeros_like(score)), users)
    np.testing.assert_allclose(found.share, played.share, rtol=1e-15)
    np.testing.assert_array_equal(found.outside, played.outside_share)
    np.testing.assert_allclose(found.gain, 10 * played.profit, rtol=1e-13, atol=1e-13)


def test_the_first_action_outside_its_space_is_found():
    """The compiled check against looking at every action in order."""
    pytest.importorskip("numba")
    from ttc_env.game.rules.kernels_numba import first_outside

    rng, sizes = np.random.default_rng(0), np.array([5, 3])
    for wrong in (0, 1, 3):
        for _ in range(20):
            actions = rng.integers(0, sizes[:, None, None], (2, 4, 6))
            for at in rng.integers(0, actions.size, wrong):
                actions.flat[at] = rng.choice([-1, 5, 2**40])
            outside = (actions < 0) | (actions >= sizes[:, None, None])
            expected = int(outside.argmax()) if outside.any() else -1
            assert first_outside(actions, sizes) == expected


def test_regret_of_who_earns_nothing_or_loses_in_plain_numbers():
    """Signs and logs in, regret and relative regret out; the size of a zero is not read."""
    two = float(np.log(2.0))
    assert _lost(0.0, 7.0, 1, two) == pytest.approx((2.0, 1.0))
    assert _lost(-1.0, 0.0, 1, two) == pytest.approx((3.0, 1.5))
    assert _lost(-1.0, two, 0, 7.0) == pytest.approx((2.0, 1.0))
    assert _lost(0.0, 7.0, 0, 7.0) == (0.0, 0.0)
    assert _lost(-1.0, two, -1, 0.0) == pytest.approx((1.0, 1.0))
    assert _lost(-1.0, two, -1, two) == (0.0, 0.0)
