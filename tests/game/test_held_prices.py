"""Prices that are held: a tariff that holds nobody's is the tariff itself, in every solver."""

import dataclasses

import numpy as np
import pytest

import ttc_env
from ttc_env.game.audit import audit
from ttc_env.game.held_prices import HeldTariff
from ttc_env.game.mechanisms import make_mechanism

CASES = {
    "market": {"misreport": {"over_report": (1.5, 2.0), "under_serve": (1,)}, "fine": 1e-4},
    "flat_fee": {"misreport": "under_serve"},
    "auction": {"misreport": {"under_serve": (1,), "over_claim": (0.8, 1.5)}, "fine": 1e-4},
}


def holding(mechanism, held):
    tariff = HeldTariff(mechanism.tariff.choices, mechanism.tariff, held)
    return dataclasses.replace(mechanism, tariff=tariff)


@pytest.mark.parametrize("name", CASES)
def test_who_holds_nobody_changes_nothing(name):
    market = ttc_env.load_market("gsm8k", beta=200, providers=["Qwen2-7B", "Qwen2.5-7B"])
    mechanism = make_mechanism(name, "grid", **CASES[name])
    free = holding(mechanism, (np.nan, np.nan))
    inner, tariff = mechanism.tariff, free.tariff
    assert tariff.neutral == inner.neutral
    assert tariff.lies == inner.lies
    assert tariff.passes_fines_on == inner.passes_fines_on
    for multiple in (0.3, 1.0, 7.0):
        assert tariff.choice(multiple) == inner.choice(multiple)
        assert tariff.multiple(inner.choice(multiple)) == pytest.approx(multiple, rel=1e-15)
    ours, theirs = free.offers(market), mechanism.offers(market)
    for field in ("quality", "seen", "price", "cost", "paid", "penalty"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    fines = [ttc_env.deterrence(market, x).least for x in (free, mechanism)]
    np.testing.assert_array_equal(*fines)
    gains = [audit(x, market).gains for x in (free, mechanism)]
    np.testing.assert_allclose(*gains, rtol=1e-12)


def test_who_is_held_has_one_price_whatever_it_chooses():
    market = ttc_env.load_market("gsm8k", beta=200, providers=["Qwen2-7B", "Qwen2.5-7B"])
    mechanism = make_mechanism("auction", (0.0, 1.0))
    table = holding(mechanism, (0.5, np.nan)).offers(market)
    cost = market.cost
    np.testing.assert_allclose(
        table.price[0].reshape(-1, 2), np.repeat(1.5 * cost[0], 2).reshape(-1, 2)
    )
    np.testing.assert_allclose(table.price[1].reshape(-1, 2), np.outer(cost[1], [1.0, 2.0]))
    assert np.isnan(holding(mechanism, (0.5, np.nan)).tariff.neutral)  # truth cannot be bid
    assert holding(mechanism, (0.0, np.nan)).tariff.neutral == 0.0
