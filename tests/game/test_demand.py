"""Logit demand against its formula in rational arithmetic's stead: the plain one at mild beta,
exact limits at extreme ones.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttc_env.game import demand, welfare

values = arrays(np.float64, st.integers(1, 6), elements=st.floats(-1, 1))


@given(values, st.floats(0, 20), st.floats(-1, 1))
def test_shares_are_the_formula(value, beta, outside):
    share, outside_share = demand.shares(value, beta, outside)
    attraction = np.exp(beta * value)
    total = np.exp(beta * outside) + attraction.sum()
    np.testing.assert_allclose(share, attraction / total, rtol=1e-12)
    np.testing.assert_allclose(outside_share, np.exp(beta * outside) / total, rtol=1e-12)


@given(values, st.floats(0, 1e7), st.floats(-1, 1))
def test_shares_add_up_at_every_beta(value, beta, outside):
    share, outside_share = demand.shares(value, beta, outside)
    assert share.sum() + outside_share == pytest.approx(1, abs=1e-12)


@given(values, st.floats(0, 20), st.floats(-1, 1))
def test_rivals_leave_one_out(value, beta, outside):
    z = demand.logits(value, beta, outside)
    for i in range(len(z)):
        rest = np.delete(z, i)
        assert demand.log_rivals(z)[i] == pytest.approx(np.log1p(np.exp(rest).sum()), abs=1e-12)
    share, _ = demand.shares(value, beta, outside)
    np.testing.assert_allclose(
        np.exp(demand.log_share_against(z, demand.log_rivals(z))), share, rtol=1e-12
    )


def test_rivals_survive_a_provider_that_holds_nearly_all():
    z = np.array([700.0, 1.0, 2.0])
    assert demand.log_rivals(z)[0] == pytest.approx(np.log(1 + np.exp(1) + np.exp(2)), rel=1e-15)


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.just(3)),
        elements=st.one_of(st.integers(-3, 3).map(lambda k: k / 10), st.floats(-1, 1)),
    ),
    st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e5, 1e7]),
    st.integers(-3, 3).map(lambda k: k / 10),
)
def test_rivals_in_the_unit_of_the_best_of_them(value, beta, outside):
    """log A_-i = log S_i + beta (r_i - V_0) is the leave-one-out sum in logs, and S_i counts the
    best rival as 1.
    """
    log_sum, reference = demand.best_rivals(value, beta, outside)
    expected = demand.log_rivals(demand.logits(value, beta, outside))
    np.testing.assert_allclose(
        log_sum + demand.logits(reference, beta, outside), expected, rtol=1e-14, atol=1e-14
    )
    assert (log_sum >= -1e-15).all()
    assert (log_sum <= np.log(len(value)) + 1e-15).all()
    for i in range(len(value)):
        np.testing.assert_array_equal(
            reference[i],
            np.maximum(np.delete(value, i, axis=0).max(axis=0, initial=-np.inf), outside),
        )


def test_shares_of_close_rivals_keep_their_digits_at_high_beta():
    """At beta = 1e7 logits are known to 1e-9 only, differences of values to 1e-16 of the values."""
    value, beta = np.array([0.5, 0.5 + 2**-20, 0.1]), 1e7
    log_sum, reference = demand.best_rivals(value, beta)
    log_share = demand.log_share_against(demand.logits(value, beta, reference), log_sum)
    gap = beta * 2**-20  # exact
    np.testing.assert_allclose(log_share[:2], -np.logaddexp(0.0, [gap, -gap]), rtol=1e-15)


def test_log_shares_do_not_underflow():
    z = demand.logits(np.array([0.05, 0.01]), 1e7, 0.0)
    log_share = demand.log_share_against(z, demand.log_rivals(z))
    np.testing.assert_allclose(log_share, [0.0, -4e5], rtol=1e-12)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1, 1)))
def test_batch_axes_come_last(value):
    share, outside_share = demand.shares(value, 3.0)
    for b in range(4):
        one, none = demand.shares(value[:, b], 3.0)
        np.testing.assert_allclose(share[:, b], one, rtol=1e-13)
        np.testing.assert_allclose(outside_share[b], none, rtol=1e-13)


def test_log_sum_is_the_integral_of_demand():
    """d(log A / beta) / dV_i = s_i (Williams, Daly and Zachary), by central differences."""
    value = np.array([0.3, -0.2, 0.1])
    for i, h in enumerate(np.eye(3) * 1e-6):
        slope = (welfare.log_sum(value + h, 5.0, 0.1) - welfare.log_sum(value - h, 5.0, 0.1)) / 2e-6
        assert slope == pytest.approx(demand.shares(value, 5.0, 0.1)[0][i], rel=1e-7)
    assert welfare.log_sum(value, 0.0) == np.inf


def test_price_of_anarchy_is_undefined_without_positive_welfare():
    ratio, reason = welfare.price_of_anarchy(1.0, 0.0)
    assert np.isnan(ratio)
    assert "not positive" in reason
    assert welfare.price_of_anarchy(3.0, 2.0) == (1.5, "")
