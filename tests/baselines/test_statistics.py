"""Interquartile means, stratified bootstrap and performance profiles against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.statistics import estimate, interquartile_mean, profile


def mean(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=-1)


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, 3.0, -50.0, 4.0, 5.0, 6.0])) == 3.5
    assert interquartile_mean(np.array([7.0])) == 7.0


def test_seeds_are_resampled_within_their_game_and_games_only_in_the_other_band() -> None:
    """Games that differ and seeds that do not: only other games could change anything."""
    found = estimate([np.full(5, 1.0), np.full(5, 2.0), np.full(7, 9.0)], mean, repetitions=500)
    assert found.value == pytest.approx(78 / 17)
    assert found.seeds == pytest.approx((78 / 17, 78 / 17))
    assert found.games[0] < 2.0
    assert found.games[1] > 6.0


def test_the_band_is_about_that_of_the_normal_distribution() -> None:
    x = np.random.default_rng(0).normal(size=400)
    found = estimate([x], mean)
    half = 1.96 * x.std(ddof=1) / 20
    assert found.seeds[0] == pytest.approx(x.mean() - half, abs=0.15 * half)
    assert found.seeds[1] == pytest.approx(x.mean() + half, abs=0.15 * half)
    assert estimate([x], mean).seeds == found.seeds, "a fixed seed"


def test_profile_counts_runs() -> None:
    shares = profile(np.array([0.0, 0.01, 0.5, 2.0]), np.array([0.0, 0.01, 1.0]))
    assert shares.tolist() == [0.25, 0.5, 0.75]


def test_nothing_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="no runs"):
        estimate([])
