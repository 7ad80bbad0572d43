"""The frontier's history: each date's market, facts against plain formulas, bands by seed."""

import datetime

import numpy as np
import pytest

import ttc_env
from ttc_env.game.history import MEASURES, history, market_facts


@pytest.mark.parametrize(
    ("date", "models", "ratio"),
    [
        ("2025-02", 8, 1.18),
        ("2025-05", 16, 1.31),
        ("2025-08", 25, 1.24),
        ("2025-12", 36, 1.06),
        ("2026-06", 52, 1.03),
    ],
)
def test_the_price_of_anarchy_is_what_another_program_found(date, models, ratio):
    """Numbers handed over with the data, from throw-away code (to two digits)."""
    (point,) = history("arc_agi_2", dates=[date], resamples=0)
    assert point.market.num_providers == models
    assert point.facts.price_of_anarchy == pytest.approx(ratio, abs=0.006)
    assert np.isnan(point.row()["welfare_lo"])


def test_the_easier_benchmark_wastes_little_throughout():
    points = history("arc_agi_1", resamples=0)
    ratios = [point.facts.price_of_anarchy for point in points]
    assert len(points) == 39
    assert points[0].market.num_providers == 3
    assert [p.date for p in points] == sorted(p.date for p in points)
    assert min(ratios) >= 1 - 1e-12
    assert max(ratios) < 1.07


def test_facts_are_the_plain_formulas():
    market = ttc_env.load_market("arc_agi_2", as_of="2025-12")
    facts, solution = market_facts(market), ttc_env.solve(market)
    rows = np.arange(market.num_providers)

    def at(levels):
        q, p, c = (x[rows, levels] for x in (market.quality, market.price, market.cost))
        e = np.exp(market.beta * (q - p))
        share = e / (1 + e.sum())
        return share, q, p, c

    share, q, p, c = at(solution.worst)
    best_share, best_q, best_p, best_c = at(solution.optimum)
    served = share / share.sum()
    expected = {
        "welfare": share @ (q - c),
        "optimal_welfare": best_share @ (best_q - best_c),
        "price_of_anarchy": best_share @ (best_q - best_c) / (share @ (q - c)),
        "user_value": share @ (q - p),
        "mean_price": share @ p,
        "overcompute_usd": share @ c - best_share @ best_c,
        "overcompute_log2": served @ np.log2(p / best_p),
        "concentration": (served**2).sum(),
        "leader_share": share.max(),
        "auction_welfare": np.nanmax(market.quality - market.cost),
    }
    for name, value in expected.items():
        assert getattr(facts, name) == pytest.approx(value, rel=1e-9), name
    surplus = np.nanmax(market.quality - market.cost, axis=1)
    assert facts.winner == surplus.argmax()
    assert (
        facts.winner_accuracy == (market.providers[facts.winner].curve.accuracy[facts.winner_level])
    )
    assert facts.auction_user_value == pytest.approx(np.sort(surplus)[-2])


def test_bands_come_from_redrawn_markets_by_seed():
    day = datetime.date(2025, 5, 28)
    one, two = (history(dates=[day], resamples=8, seed=3)[0] for _ in range(2))
    other = history(dates=[day], resamples=8, seed=4)[0]
    assert one.bands == two.bands
    assert one.winners == two.winners
    assert one.bands != other.bands
    assert set(one.bands) == set(MEASURES)
    assert all(low <= high for low, high in one.bands.values())
    assert sum(one.winners.values()) == pytest.approx(1.0)
    assert one.unique == 1.0  # of the redrawn markets, each of which has one equilibrium
    assert np.isnan(history(dates=[day], resamples=0)[0].unique)
    # A date's band is the same whichever others were asked for, and however it is written.
    both = history(dates=["2025-04", "2025-05"], resamples=8, seed=3)
    assert both[1].bands == one.bands
    assert both[1].date == day


def test_a_market_of_arrays_and_a_bad_band_are_refused():
    with pytest.raises(ValueError, match="accuracy curves"):
        market_facts(ttc_env.Market.from_arrays([[1.0]], [[0.1]], [[0.0]], beta=1))
    with pytest.raises(ValueError, match="band is 95"):
        history(band=95)
