"""Statistics of runs over games and seeds, after Agarwal et al. (NeurIPS 2021).

The formulas are those of the library `rliable` (interquartile mean, stratified bootstrap,
performance profiles); it needs four packages more than these lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import trim_mean

from ttc_env.game.types import Array

REPETITIONS = 2_000


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% bootstrap bands (2.5% and 97.5% quantiles).

    `seeds` resamples the seeds within every game: what other seeds would have given on these
    games. `games` resamples games too, then seeds within them: what other games of this kind would
    give.
    """

    value: float
    seeds: tuple[float, float]
    games: tuple[float, float]


def interquartile_mean(x: Array) -> Array:
    """The mean of the middle half along the last axis; a quarter of the values, rounded down, is
    cut off at each end.
    """
    return trim_mean(x, 0.25, axis=-1)


def estimate(
    by_game: Sequence[Array],
    statistic: Callable[[Array], Array] = interquartile_mean,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> Estimate:
    """A statistic of all runs, with its bands.

    Args:
        by_game: for each game (the strata) the runs' values, `[seeds]`.
        statistic: of the values of all games together, along the last axis.

    Raises:
        ValueError: no values.
    """
    games = [np.asarray(x, dtype=np.float64) for x in by_game if len(x)]
    if not games:
        raise ValueError("there are no runs to make statistics of")
    sizes = np.array([len(x) for x in games])
    values = np.full((len(games), sizes.max()), np.nan)
    for row, x in zip(values, games, strict=True):
        row[: len(x)] = x
    place = np.repeat(np.arange(len(games)), sizes)  # of each value of a sample: its game's place
    rng = np.random.default_rng(seed)

    def band(game: np.ndarray) -> tuple[float, float]:
        """game: `[repetitions, places]`, the game that stands at each place."""
        here = game[:, place]
        drawn = (rng.random(here.shape) * sizes[here]).astype(np.intp)
        low, high = np.quantile(statistic(values[here, drawn]), [0.025, 0.975])
        return float(low), float(high)

    same = np.broadcast_to(np.arange(len(games)), (repetitions, len(games)))
    others = rng.integers(len(games), size=(repetitions, len(games)))
    value = float(statistic(np.concatenate(games)))
    return Estimate(value, band(same), band(others))


def profile(x: Array, thresholds: Array) -> Array:
    """The performance profile: the share of runs with a value of at most each threshold."""
    return (np.asarray(x)[:, None] <= np.asarray(thresholds)).mean(axis=0)
