"""How the time of a step grows with environments, providers and levels; part of
`scripts/benchmark_speed.py`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

import ttc_env
from ttc_env.game.types import PostedPriceGame

BACKENDS = (("numpy", ""), ("numba", ", compiled"))[: 2 if importlib.util.find_spec("numba") else 1]
"""Backends on the host that are there, and how rows call them."""


def random_game(n: int, m: int, seed: int = 0) -> PostedPriceGame:
    """Concave quality, proportional cost: curves of the published kind, at any size."""
    rng = np.random.default_rng(seed)
    tokens = np.sort(rng.uniform(0.01, 1.0, (n, m)), axis=1)
    quality = rng.uniform(0.5, 1.0, (n, 1)) * tokens ** rng.uniform(0.1, 0.5, (n, 1))
    price = rng.uniform(0.1, 0.6, (n, 1)) * tokens
    return PostedPriceGame(quality - price, 0.2 * price, quality - 0.8 * price, beta=10.0)


def scaling(bench: Any, figure: Path | None) -> None:
    """Time against batch, providers and levels, and the slope of its logarithm; a plot of it where
    matplotlib is there.
    """
    sizes = {
        "environments": [2**k for k in range(0, 15 if bench.quick else 19, 2)],
        "providers": [2**k for k in range(1, 8)],
        "levels": [2**k for k in range(1, 8)],
    }
    curves: dict[str, dict[str, tuple[list[float], float]]] = {axis: {} for axis in sizes}
    for backend, how in BACKENDS:
        for axis in sizes:
            seconds = [_step_seconds(bench, backend, axis, size) for size in sizes[axis]]
            half = len(seconds) // 2
            slope = float(np.polyfit(np.log(sizes[axis][half:]), np.log(seconds[half:]), 1)[0])
            curves[axis][backend] = seconds, slope
            note = f"{min(sizes[axis])}..{max(sizes[axis])}"
            bench.add(
                f"slope of log time against log {axis} (upper half){how}", slope, None, note=note
            )
    if figure is not None:
        _draw(sizes, curves, figure)


def _step_seconds(bench: Any, backend: str, axis: str, size: int) -> float:
    if axis == "environments":
        env = ttc_env.vector_env(size, copy=False, backend=backend)
    else:
        n, m = (size, 6) if axis == "providers" else (9, size)
        game = random_game(n, m)
        market = ttc_env.Market.from_arrays(
            game.surplus + 0.8 * 5 * game.profit, 5 * game.profit, 4 * game.profit, beta=10.0
        )
        env = ttc_env.vector_env(1024, market=market, copy=False, backend=backend)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = np.ascontiguousarray(env.action_space.sample().transpose(2, 1, 0)).transpose(2, 1, 0)
    env.step(actions)
    return bench.seconds(lambda: [env.step(actions) for _ in range(3)]) / 3


def _draw(
    sizes: dict[str, list[int]],
    curves: dict[str, dict[str, tuple[list[float], float]]],
    figure: Path,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9.6, 3.2), layout="constrained")
    FigureCanvasAgg(canvas)
    where = {
        "environments": "9 providers, 6 levels",
        "providers": "1,024 environments, 6 levels",
        "levels": "1,024 environments, 9 providers",
    }
    panels = canvas.subplots(1, 3, sharey=True)
    for panel, (axis, lines) in zip(panels, curves.items(), strict=True):
        for backend, (seconds, slope) in lines.items():
            name, color = {"numpy": ("NumPy", "#4878a8"), "numba": ("compiled", "#c0682c")}[backend]
            label = (
                f"{name}: slope {abs(round(slope, 1)) if abs(slope) < 0.05 else round(slope, 1)}"
            )
            panel.loglog(
                sizes[axis],
                np.array(seconds) * 1e6,
                marker="o",
                markersize=4,
                color=color,
                label=label,
            )
        panel.set_title(f"{axis} ({where[axis]})", fontsize=9)
        panel.set_xlabel(f"number of {axis}")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize=9, loc="upper left")
    panels[0].set_ylabel("CPU time of a step, microseconds")
    canvas.suptitle(
        "Time of a batched step, log-log; slopes of the upper half of each range", fontsize=10
    )
    figure.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(figure, dpi=110)
