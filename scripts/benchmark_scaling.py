"""How the time of a step grows with environments, providers and levels; part of `scripts/benchmark_speed.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import ttc_env
from ttc_env.game.types import PostedPriceGame


def random_game(n: int, m: int, seed: int = 0) -> PostedPriceGame:
    """Concave quality, proportional cost: curves of the published kind, at any size."""
    rng = np.random.default_rng(seed)
    tokens = np.sort(rng.uniform(0.01, 1.0, (n, m)), axis=1)
    quality = rng.uniform(0.5, 1.0, (n, 1)) * tokens ** rng.uniform(0.1, 0.5, (n, 1))
    price = rng.uniform(0.1, 0.6, (n, 1)) * tokens
    return PostedPriceGame(quality - price, 0.2 * price, quality - 0.8 * price, beta=10.0)


def scaling(bench: Any, figure: Path | None) -> None:
    """Time against batch, providers and levels, and the slope of its logarithm; a plot of it where matplotlib is there."""
    largest = 14 if bench.quick else 18
    curves: dict[str, tuple[list[int], list[float]]] = {"environments": ([], []), "providers": ([], []), "levels": ([], [])}

    def step_seconds(env: Any) -> float:
        env.reset(seed=0)
        env.action_space.seed(0)
        actions = np.ascontiguousarray(env.action_space.sample().transpose(2, 1, 0)).transpose(2, 1, 0)
        return bench.seconds(lambda: [env.step(actions) for _ in range(3)]) / 3

    for power in range(0, largest + 1, 2):
        curves["environments"][0].append(2**power)
        curves["environments"][1].append(step_seconds(ttc_env.vector_env(2**power, copy=False)))
    for axis, sizes in (("providers", [2, 8, 32, 128]), ("levels", [2, 8, 32, 128])):
        for size in sizes:
            n, m = (size, 6) if axis == "providers" else (9, size)
            game = random_game(n, m)
            market = ttc_env.Market.from_arrays(game.surplus + 0.8 * 5 * game.profit, 5 * game.profit, 4 * game.profit, beta=10.0)
            curves[axis][0].append(size)
            curves[axis][1].append(step_seconds(ttc_env.vector_env(1024, market=market, copy=False)))
    for axis, (sizes, seconds) in curves.items():
        half = len(sizes) // 2
        slope = float(np.polyfit(np.log(sizes[half:]), np.log(seconds[half:]), 1)[0])
        bench.add(f"slope of log time against log {axis} (upper half)", slope, None, note=f"{min(sizes)}..{max(sizes)}")
    if figure is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9.6, 3.2), layout="constrained")
    FigureCanvasAgg(canvas)
    for panel, (axis, (sizes, seconds)) in zip(canvas.subplots(1, 3), curves.items(), strict=True):
        panel.loglog(sizes, np.array(seconds) * 1e6, marker="o", color="#4878a8")
        panel.set_xlabel(axis)
        panel.set_ylabel("CPU time of a step, microseconds")
        panel.grid(alpha=0.3, which="both")
    figure.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(figure, dpi=110)
