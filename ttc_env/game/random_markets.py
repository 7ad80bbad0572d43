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
from ttc_env.game.types import Array, QualityFunction
from ttc_env.game.validation import generator, number, numbers, validate_margin, validate_quality


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
    tokens = np.log([curve.known_tokens() for curve in curves])
    price = np.log(np.array([[curve.price_per_token] for curve in curves], dtype=np.float64))
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
        baseline, outside_value, quality_function: as in `ttc_env.load_market`.
        margin: mu >= 0 for all providers, cost = list price / (1 + mu).
        spread: how far providers lie from the published mean, 1 as far as the published ones.

    Raises:
        ValueError: an argument out of range, or curves that are not published.

    One pass over arrays, no loop over markets: 100,000 markets of nine providers take 1.6 seconds
    of one core, and 130 bytes per provider and level at the peak.
    """
    for name, value in (("count", count), ("num_providers", num_providers)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1")
    spread = number("spread", spread, "0 for the published mean, 1 for the published spread")
    if spread < 0:
        raise ValueError(f"spread is {spread}; it must be at least 0")
    validate_margin(margin)
    outside_value = number("outside_value", outside_value, "USD/query (0 in the paper)")
    if quality_function is not None and not isinstance(quality_function, QualityFunction):
        raise ValueError(
            f"quality_function is {quality_function!r}; give a ttc_env.QualityFunction"
        )
    if benchmark not in BENCHMARKS:
        raise ValueError(
            f"random markets are fitted to published curves; benchmark {benchmark!r} is not one of"
            f" {', '.join(BENCHMARKS)}"
        )
    rng = generator(seed)
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
    alphas = _draw("alpha", BENCHMARKS[benchmark] if alpha is None else alpha, count, rng)
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
        _draw("beta", beta, count, rng),
        np.full(count, outside_value),
        markets_last(accuracy),
        alpha=alphas,
        baseline=baseline,
    )


def _draw(
    name: str,
    value: float | Sequence[float] | ArrayLike,
    count: int,
    rng: np.random.Generator,
) -> Array:
    """One number for each market: the one given, those given, or log-uniform draws from a pair (a
    tuple).
    """
    if isinstance(value, tuple) and len(value) == 2:
        low, high = (
            number(f"an end of the range of {name}", x, "a range is low, high") for x in value
        )
        if not 0 < low <= high:
            raise ValueError(f"{name} is the range {value}; log-uniform draws need 0 < low <= high")
        return np.exp(rng.uniform(np.log(low), np.log(high), count))
    given = numbers(name, value)
    if given.ndim and given.shape != (count,):
        raise ValueError(
            f"{name} has shape {given.shape}; give one number, a (low, high) tuple, or one number"
            f" for each of {count} markets"
        )
    if not np.isfinite(given).all():
        raise ValueError(f"{name} is {value!r}; every market needs a finite number")
    return np.broadcast_to(given, (count,)).copy()
