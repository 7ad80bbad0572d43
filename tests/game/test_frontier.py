"""The frontier's market: what was sold when, at what price."""

import datetime

import numpy as np
import pytest

import ttc_env
from ttc_env.game.curves import frontier_curves, frontier_models


def test_the_file_is_what_its_source_entry_says():
    curves = frontier_curves()
    assert len(curves) == 265
    assert curves.provider.nunique() == 52
    assert curves.maker.nunique() == 10
    assert (curves.groupby("benchmark").provider.nunique() == 52).all()
    efforts = curves.groupby(["benchmark", "provider"]).size().groupby("provider").max()
    assert (efforts > 1).sum() == 29
    assert efforts.max() == 6


def test_models_agree_with_curves_and_current_is_the_newest_of_each_line():
    models = frontier_models()
    dates = frontier_curves().groupby("provider")[["maker", "released"]].first()
    assert (models.set_index("provider")[["maker", "released"]].sort_index() == dates).all().all()
    newest = models.groupby(["maker", "line"]).released.transform("max")
    assert ((models.released == newest) == (models.current == "yes")).all()
    assert (models.current == "yes").sum() == 18


@pytest.mark.parametrize(("benchmark", "tasks"), [("arc_agi_1", 100), ("arc_agi_2", 120)])
def test_a_market_is_the_rows_of_the_file(benchmark, tasks):
    market = ttc_env.load_market(benchmark, "effort", ["o3", "Claude Opus 4.5"])
    rows = frontier_curves().query("benchmark == @benchmark and provider == 'Claude Opus 4.5'")
    provider = market.providers[1]
    np.testing.assert_array_equal(provider.price, rows.usd_per_task)
    np.testing.assert_allclose(provider.cost, rows.usd_per_task / 1.25)
    np.testing.assert_allclose(provider.quality, 3.0 * (0.1 + 0.9 * rows.accuracy))
    se = np.sqrt(rows.accuracy * (1 - rows.accuracy) / tasks)
    np.testing.assert_allclose(provider.curve.accuracy_se, se)
    assert provider.curve.effort == tuple(rows.effort)
    assert provider.curve.tokens is None
    assert market.beta * market.alpha == pytest.approx(8.0)
    assert market.names == ("o3", "Claude Opus 4.5")


def test_as_of_is_everything_released_by_then():
    def count(as_of):
        return ttc_env.load_market("arc_agi_2", as_of=as_of).num_providers

    released = frontier_models().released
    for as_of, last in (
        ("2025-02", "2025-02-28"),
        ("2025-02-24", "2025-02-24"),
        ("2025-02-23", "2025-02-23"),
        ("2025", "2025-12-31"),
        ("2024-12", "2024-12-31"),
        (datetime.date(2025, 5, 14), "2025-05-14"),
        (datetime.datetime(2025, 5, 14, 12), "2025-05-14"),
        ("2026-06", "2026-06-30"),
    ):
        assert count(as_of) == (released <= last).sum(), as_of
    assert count("2026") == 52
    assert ttc_env.load_market("arc_agi_2").num_providers == 18


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"as_of": "May 2025"}, "YYYY-MM"),
        ({"as_of": "2025-13"}, "YYYY-MM"),
        ({"as_of": "2025-02-30"}, "YYYY-MM"),
        ({"as_of": "0000"}, "YYYY-MM"),
        ({"as_of": 2025}, "YYYY-MM"),
        ({"as_of": "2026-07"}, "copied on 2026-06-16"),
        ({"as_of": "2024-08"}, "first model .* released on 2024-09-12"),
        ({"as_of": "2025-01", "providers": ["o3"]}, "'o3' was released on 2025-04-16"),
        ({"as_of": "2025-01", "providers": ["o9"]}, "no provider 'o9'"),
        ({"method": "majority"}, "choose effort"),
        ({"prices_per_token": {"o3": 1e-6}, "providers": ["o3"]}, "price per query and a price"),
    ],
)
def test_what_cannot_be_had_is_said(options, words):
    with pytest.raises(ValueError, match=words):
        ttc_env.load_market("arc_agi_2", **options)


@pytest.mark.parametrize("benchmark", ["gsm8k", "measured"])
def test_other_curves_have_no_dates(benchmark):
    with pytest.raises(ValueError, match="no dates of release"):
        ttc_env.load_market(benchmark, as_of="2025")


def test_the_frontier_can_be_played_without_token_counts():
    env = ttc_env.parallel_env(benchmark="arc_agi_2", as_of="2025-05", prices="fixed")
    env.reset(seed=0)
    _, rewards, *_ = env.step({agent: 0 for agent in env.agents})
    assert len(rewards) == 16
    assert all(np.isfinite(reward) for reward in rewards.values())


def test_the_market_of_a_date_is_solved_as_by_brute_force():
    """Three models of May 2025: all 4 x 3 x 4 profiles tried."""
    names = ["Claude Sonnet 4", "o4-mini", "Gemini 2.5 Flash"]
    market = ttc_env.load_market("arc_agi_2", providers=names, as_of="2025-05")
    v, pi, w = (
        market.quality - market.price,
        market.price - market.cost,
        market.quality - market.cost,
    )
    beta, rows = market.beta, np.arange(3)

    def play(profile):
        e = np.exp(beta * v[rows, profile])
        s = e / (1 + e.sum())
        return s * pi[rows, profile], (s * w[rows, profile]).sum()

    counts = market.available.sum(axis=1)
    stable, best = [], -np.inf
    for profile in np.ndindex(*counts):
        profile = np.array(profile)
        utility, welfare = play(profile)
        best = max(best, welfare)
        replies = []
        for i in range(3):
            others = [np.where(rows == i, k, profile) for k in range(counts[i])]
            replies.append(max(play(other)[0][i] for other in others))
        if (utility >= np.array(replies) * (1 - 1e-12)).all():
            stable.append(welfare)
    solution = ttc_env.solve(market)
    assert len(solution.equilibria) == len(stable)
    assert solution.welfare == pytest.approx(min(stable), rel=1e-12)
    assert solution.optimal_welfare == pytest.approx(best, rel=1e-12)
