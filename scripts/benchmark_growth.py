"""Rows of `scripts.benchmark_speed` about what grows: many markets, many environments, many
providers; time, and memory at its peak.
"""

from __future__ import annotations

import importlib
import time
import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import ttc_env
from ttc_env.game.random_markets import random_markets

if TYPE_CHECKING:
    from scripts.benchmark_speed import Bench
    from ttc_env.game.market_batch import MarketBatch

_sweep = importlib.import_module("ttc_env.game.sweep")


def growth_rows(bench: Bench) -> None:
    count = 2_000 if bench.quick else 100_000
    # 16 microseconds a market: one pass over arrays
    bench.against(
        f"{count} random markets of 9 x 6, over 16 microseconds each",
        lambda: random_markets(count, seed=0, beta=(100.0, 10_000.0)),
        16e-6 * count,
        1.5,
    )
    markets = random_markets(count, seed=0, beta=(100.0, 10_000.0))
    # Three pairs: they take seconds each.
    pairs = [
        (_seconds(lambda: _sweep.sweep(markets)), _seconds(lambda: _in_one_block(markets)))
        for _ in range(3)
    ]
    low, middle, high = sorted(ours / theirs for ours, theirs in pairs)
    bench.add(
        f"sweep of {count} markets in blocks, over all in one block",
        middle,
        None if bench.quick else 1.0,
        spread=[low, high],
    )
    bench.add(
        f"memory of the sweep of {count} markets, over that of one block",
        _peak(lambda: _sweep.sweep(markets)) / _peak(lambda: _in_one_block(markets)),
        None if bench.quick else 0.67,
    )
    envs = 1 << (13 if bench.quick else 18)
    for name, ask, most in (
        ("deviations()", lambda env: env.deviations(), 1.2),
        ("round_infos()", lambda env: env.round_infos(), 1.5),
    ):
        env = ttc_env.vector_env(envs)
        env.reset(seed=0)
        env.action_space.seed(0)
        env.step(env.action_space.sample())
        answer = ask(env)  # and everything is tabulated
        size = sum(x.nbytes for x in (answer.values() if isinstance(answer, dict) else answer))
        del answer
        bench.add(
            f"memory of {name} of {envs} environments, over its answer",
            _peak(lambda ask=ask, env=env: ask(env)) / size,
            None if bench.quick else most,
        )
    # What integrating over every score took, as measured before.
    for n, seconds in ((9, 0.0004), (100, 0.026), *([] if bench.quick else [(1_000, 85.0)])):
        market = random_markets(1, num_providers=n, seed=0)[0]
        mixture = np.full(market.quality.shape, 1.0 / market.num_levels)
        bench.against(
            f"mixed regrets of an auction of {n} providers, over {seconds * 1e3:g} ms",
            lambda market=market, mixture=mixture: ttc_env.nash_conv(market, mixture, "auction"),
            seconds,
            None if n == 9 else 0.2,
        )


def _in_one_block(markets: MarketBatch) -> Any:
    kept, _sweep._ENTRIES = _sweep._ENTRIES, 1 << 60
    try:
        return _sweep.sweep(markets)
    finally:
        _sweep._ENTRIES = kept


def _seconds(f: Callable[[], Any]) -> float:
    start = time.process_time()
    f()
    return time.process_time() - start


def _peak(ask: Callable[[], Any]) -> float:
    """Bytes that are allocated at the most while something is worked out, its answer included."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        answer = ask()
        peak = tracemalloc.get_traced_memory()[1] - before
        del answer
        return float(peak)
    finally:
        tracemalloc.stop()
