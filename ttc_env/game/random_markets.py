"""Markets that do not exist but could: new providers drawn from the spread of the published ones,
for studies of generalisation.

A provider is the vector x = (logit of accuracy at each level, log of tokens at each level, log of
its list price). New vectors come from the normal distribution with the published vectors' mean and
covariance, which needs no covariance matrix: with N published providers,

    x = mean + spread / sqrt(N - 1) * sum_j c_j (x_j - mean),      c_j independent standard normal

has exactly that law (at spread = 1). Accuracies therefore stay in (0, 1), curves bend as published
ones do, and with sampling methods tokens stay proportional to samples. Derived for this project,
not in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.curves import BENCHMARKS, DEFAULT_BETA, DEFAULT_MARGIN, load_market
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.types import Array, QualityFunction, validate_quality


def published_vectors(benchmark: str = "gsm8k", method: str | None = None) -> Array:
    """`[N, 2 m + 1]`: logit accuracy per level, log tokens per level, log USD/token, of every
    published provider with a full level grid.
    """
    market = load_market(benchmark, method)
    curves = [
        p.curve
        for p in market.providers
        if p.curve is not None and len(p.levels) == market.num_levels
    ]
    accuracy = np.clip([curve.accuracy for curve in curves], 1e-4, 1.0 - 1e-4)
    tokens = np.log([curve.tokens for curve in curves])
    price = np.log([[curve.price_per_token] for curve in curves])
    return np.concatenate([np.log(accuracy) - np.log1p(-accuracy), tokens, price], axis=1)


def random_markets(
    count: int,
    benchmark: str = "gsm8k",
    method: str | None = None,
    *,
    num_providers: int = 9,
    seed: int | np.random.Generator | None = None,
    beta: float | tuple[float, float] | ArrayLike = DEFAULT_BETA,
    alpha: float | tuple[float, float] | None = None,
    baseline: float = 0.1,
    outside_value: float = 0.0,
    margin: float = DEFAULT_MARGIN,
    spread: float = 1.0,
    quality_function: QualityFunction | None = None,
) -> MarketBatch:
    """Draw markets of providers that resemble the published ones.

    Args:
        count: G, the number of markets.
        benchmark, method: whose curves to resemble (`ttc_env.load_market`).
        num_providers: n, independent draws within a market.
        seed: a number, a generator, or None for a fresh one.
        beta: one number; (low, high) for a log-uniform draw per market; or one number per market.
            1/USD.
        alpha: one number, (low, high) for a log-uniform draw per market, or None for the
            benchmark's. USD.
        spread: how far providers lie from the published mean, 1 as far as the published ones.

    Raises:
        ValueError: count, num_providers or spread out of range, or curves that are not published.
    """
    if count < 1 or num_providers < 1 or not spread >= 0:
        raise ValueError(
            f"count={count}, num_providers={num_providers} must be at least 1, and spread={spread}"
            " at least 0"
        )
    if benchmark not in BENCHMARKS:
        raise ValueError(
            f"random markets are fitted to published curves; benchmark {benchmark!r} is not one of"
            f" {', '.join(BENCHMARKS)}"
        )
    rng = np.random.default_rng(seed)
    known = published_vectors(benchmark, method)
    weights = rng.standard_normal((count, num_providers, len(known))) * (
        spread / np.sqrt(max(len(known) - 1, 1))
    )
    centre = known.mean(axis=0)
    x = centre + weights @ (known - centre)  # [G, n, 2 m + 1]
    m = (x.shape[2] - 1) // 2
    accuracy = 1.0 / (1.0 + np.exp(-x[:, :, :m]))
    tokens = np.sort(np.exp(x[:, :, m : 2 * m]), axis=2)  # more compute never costs less
    price = np.exp(x[:, :, 2 * m :]) * tokens
    alphas = _draw(BENCHMARKS[benchmark] if alpha is None else alpha, count, rng)
    for value in (alphas.min(), alphas.max()):
        validate_quality(float(value), baseline)
    f = quality_function or QualityFunction()
    quality = alphas[:, None, None] * (baseline + (1.0 - baseline) * f(accuracy))

    def markets_last(table: Array) -> Array:
        return np.moveaxis(table, 0, 2)

    return MarketBatch(
        markets_last(quality),
        markets_last(price),
        markets_last(price / (1.0 + margin)),
        _draw(beta, count, rng),
        np.full(count, float(outside_value)),
        markets_last(accuracy),
        alpha=alphas,
        baseline=baseline,
    )


def _draw(
    value: float | Sequence[float] | ArrayLike, count: int, rng: np.random.Generator
) -> Array:
    """One number for each market: the one given, those given, or log-uniform draws from a pair (a
    tuple).
    """
    if isinstance(value, tuple) and len(value) == 2:
        low, high = value
        if not 0 < low <= high:
            raise ValueError(f"a range for log-uniform draws needs 0 < low <= high; got {value}")
        return np.exp(rng.uniform(np.log(low), np.log(high), count))
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.ndim and numbers.shape != (count,):
        raise ValueError(
            f"give one number, a (low, high) tuple, or one number for each of {count} markets; got"
            f" shape {numbers.shape}"
        )
    return np.broadcast_to(numbers, (count,)).copy()
