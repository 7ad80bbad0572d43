"""A market as other questions might have shown it: accuracies redrawn, everything else equal.

Carries the sampling error of accuracy through to whatever is solved: solve every drawn market, and
take quantiles of the answers. Derived for this project, not in the paper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import frontier
from ttc_env.game.types import Array, Curve, Market, Provider, check_market
from ttc_env.game.validation import generator

QUESTIONS = {"gsm8k": 1319, "aime": 933, "gpqa": 546, **frontier.TASKS}
"""Questions behind the accuracies of each packaged benchmark (data/SOURCES.md)."""


def resample(
    market: Market, n: int, seed: int | np.random.Generator | None = None
) -> Iterator[Market]:
    """Yield n markets whose accuracies are redrawn around those of `market`.

    Where the benchmark is a packaged one, the number Q of its questions is known, and an accuracy
    is redrawn as Binomial(Q, a) / Q. That is what answers drawn once to each question give. For the
    published curves, whose accuracies are means of 50 resamples, it is an upper bound: for
    questions that are always or never solved nothing varies. Elsewhere `Curve.accuracy_se` is used:
    a normal draw, moved into [0, 1] where it leaves it.

    Levels and providers are drawn independently, although they answered the same questions; levels,
    prices, costs, beta and everything else stay. A packaged market is recognised by
    `market.benchmark`. For curves measured question by question,
    `ttc_env.measure.curve_file.resampled_markets` resamples the questions themselves.

    Args:
        n: how many markets, at least 0.
        seed: a number, a generator, or None for a fresh one; the same number gives the same
            markets.

    Raises:
        ValueError: at once, not at the first draw: n out of range, providers given as arrays, or
            curves of which neither the number of questions nor the standard error is known.
    """
    check_market("resample", market)
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 0:
        raise ValueError(f"n is {n!r}; it must be a whole number of markets, at least 0")
    questions = QUESTIONS.get(market.benchmark or "")
    curves = []
    for provider in market.providers:
        curve = provider.curve
        if curve is None or market.alpha is None:
            raise ValueError(
                f"provider {provider.name!r} was given as arrays and has no accuracies to redraw;"
                " load curves with ttc_env.load_market"
            )
        if questions is None and curve.accuracy_se is None:
            raise ValueError(
                f"provider {provider.name!r}: neither the number of questions nor the standard"
                " error of accuracy is known; add a column se to the curves, or use one of"
                f" {', '.join(QUESTIONS)}"
            )
        curves.append(curve)
    return _draws(market, curves, int(n), questions, generator(seed))


def interval(
    estimate: float,
    redrawn: ArrayLike,
    chance: float = 0.9,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float]:
    """An interval for a number of the true market, from the same number of redrawn ones.

    What is solved takes the best of noisy levels and providers, so that an estimate is too high on
    average, and redrawn ones are higher still: by their quantiles alone (the percentile interval)
    the truth is often missed. Quantiles mirrored at the estimate (the basic interval; Davison and
    Hinkley 1997, chapter 5) mend this, and are worse for ratios such as the price of anarchy. This
    is the hull of both, which contains the estimate. Coverage: `tests/game/test_resampling.py`.

    Args:
        estimate: the number in the market as it was measured.
        redrawn: `[n]` the number in redrawn markets; NaN where it does not exist.
        chance: nominal, cut equally at both ends.
        within: the least and the most that the number can be.
    """
    values = np.asarray(redrawn, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values) or np.isnan(estimate):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1.0 - chance) / 2.0, (1.0 + chance) / 2.0])
    ends = min(low, 2.0 * estimate - high, estimate), max(high, 2.0 * estimate - low, estimate)
    return float(max(ends[0], within[0])), float(min(ends[1], within[1]))


def _draws(
    market: Market, curves: list[Curve], n: int, questions: int | None, rng: np.random.Generator
) -> Iterator[Market]:
    assert market.alpha is not None
    for _ in range(n):
        providers = []
        for curve in curves:
            drawn = dataclasses.replace(curve, accuracy=_redraw(curve, questions, rng))
            providers.append(
                Provider.from_curve(drawn, market.alpha, market.baseline, market.quality_function)
            )
        yield dataclasses.replace(market, providers=tuple(providers))


def _redraw(curve: Curve, questions: int | None, rng: np.random.Generator) -> Array:
    if questions is not None:
        return rng.binomial(questions, curve.accuracy.clip(0.0, 1.0)) / questions
    assert curve.accuracy_se is not None
    return rng.normal(curve.accuracy, curve.accuracy_se).clip(0.0, 1.0)
