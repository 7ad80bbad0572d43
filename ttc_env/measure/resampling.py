"""Uncertainty of measured curves: the bootstrap over questions, for one curve or for a whole market
at once.

The sampling unit is the question: another benchmark of the same kind would hold other questions.
Subsets of a fixed set of samples are never resampled (the estimators average over all of them).
Providers measured on the same questions are resampled *jointly*, with the same questions for all: a
hard draw is hard for everybody, and only so do differences between providers get honest intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def question_weights(num_questions: int, resamples: int, seed: int) -> Array:
    """`[B, Q]` how often each question is drawn in each resample, over Q: rows sum to 1."""
    if num_questions < 1 or resamples < 1:
        raise ValueError(
            f"{num_questions} questions and {resamples} resamples; both must be at least 1"
        )
    rng = np.random.default_rng(seed)
    return (
        rng.multinomial(num_questions, np.full(num_questions, 1.0 / num_questions), size=resamples)
        / num_questions
    )


def bootstrap_means(per_question: Array, *, resamples: int = 2000, seed: int = 0) -> Array:
    """`[B, K]` means of `per_question` (`[Q, K]`) over resampled questions."""
    return question_weights(len(per_question), resamples, seed) @ np.asarray(
        per_question, dtype=np.float64
    )


def interval(means: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Percentile interval of resampled means `[B, K]`: two arrays `[K]`."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it must lie strictly between 0 and 1")
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    return low, high


#: Right (or wrong) answers below which the bootstrap is not trusted: with three right answers of 30
#: it knows three values, and with none it claims certainty.
FEW = 5.0


def mean_interval(
    per_question: Array, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Array, Array]:
    """Interval of the mean over questions of values in [0, 1] (`[Q, K]`): two arrays `[K]`.

    The percentile interval of the bootstrap; where fewer than `FEW` answers are right, or wrong, in
    all, widened to Wilson's interval for Q yes-or-no questions. That holds for any values in [0,
    1],
    whose variance is at most p (1 - p), so it is too wide where a question's chance is known well.
    At 30 questions and p = 0.02 the bootstrap alone covers 45%, this 95% or more.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    table = np.asarray(per_question, dtype=np.float64)
    low, high = interval(bootstrap_means(table, resamples=resamples, seed=seed), level)
    count, mean = len(table), table.mean(axis=0)
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    centre = (mean + z**2 / (2 * count)) / (1 + z**2 / count)
    spread = z * np.sqrt(np.maximum(mean * (1 - mean), 0.0) / count + (z / (2 * count)) ** 2)
    half = spread / (1 + z**2 / count)
    few = np.minimum(mean, 1 - mean) * count < FEW
    low = np.where(few, np.minimum(low, centre - half), low)
    high = np.where(few, np.maximum(high, centre + half), high)
    # the mean itself belongs to it, whatever rounding says
    return np.clip(np.minimum(low, mean), 0.0, 1.0), np.clip(np.maximum(high, mean), 0.0, 1.0)


def standard_error(per_question: Array) -> Array:
    """`[K]` standard error of the mean over questions; NaN with a single question."""
    table = np.asarray(per_question, dtype=np.float64)
    if len(table) < 2:
        return np.full(table.shape[1], np.nan)
    return table.std(axis=0, ddof=1) / np.sqrt(len(table))


def joint_bootstrap(
    per_question: Mapping[str, Array], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Array]:
    """Resampled means of several tables `[Q, K_i]` with the *same* questions drawn for all: name ->
    `[B, K_i]`.

    Row q must be the same question in every table.

    Raises:
        ValueError: the tables differ in their number of questions.
    """
    sizes = {name: len(table) for name, table in per_question.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"numbers of questions differ: {sizes}; keep the questions that all providers answered,"
            " in one order"
        )
    weights = question_weights(next(iter(sizes.values())), resamples, seed)
    return {
        name: weights @ np.asarray(table, dtype=np.float64) for name, table in per_question.items()
    }
