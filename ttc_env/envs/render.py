"""The last round as text, and the episode so far as a figure (extra `plot`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ttc_env.game.rules.base import Round

if TYPE_CHECKING:
    from ttc_env.envs.config import EnvConfig


def text(
    config: EnvConfig, history: list[Round], levels: list[np.ndarray], optima: list[float]
) -> str:
    """A table of the last round, one line per provider. optima: the most welfare of each round."""
    market = config.market
    title = (
        f"{config.mechanism.name}  {market.benchmark or 'own curves'} {market.method or ''}  beta"
        f" {market.beta:g}".rstrip()
    )
    if not history:
        return f"{title}\nno round played yet"
    outcome = history[-1]
    lines = [
        f"{title}  round {len(history)}",
        (
            f"{'provider':<18}{'level':>7}{'quality':>11}{'price':>11}{'cost':>11}{'share':>8}{'U':>11}"
            "   USD/query"
        ),
    ]
    for i, provider in enumerate(market.providers):
        lines.append(
            f"{provider.name:<18}{provider.levels[levels[-1][i]]:>7g}{outcome.offer.quality[i]:>11.6f}{outcome.offer.price[i]:>11.6f}"
            f"{outcome.offer.cost[i]:>11.6f}{outcome.share[i]:>8.1%}{outcome.utility[i]:>11.2e}"
        )
    lines.append(
        f"welfare {float(outcome.welfare):.6f} of {optima[-1]:.6f}   users' value"
        f" {float(outcome.user_value):.6f}"
    )
    return "\n".join(lines)


def figure(
    config: EnvConfig, history: list[Round], levels: list[np.ndarray], optima: list[float]
) -> np.ndarray:
    """`[height, width, 3]` uint8: levels, prices and shares of the last round, and welfare over the
    episode.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "render_mode='rgb_array' needs matplotlib: pip install 'ttc-env[plot]'"
        ) from error

    market = config.market
    n = market.num_providers
    canvas_figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(canvas_figure)
    axes: Any = canvas_figure.subplot_mosaic(
        [["level", "price", "share"], ["welfare", "welfare", "welfare"]]
    )
    names = [provider.name for provider in market.providers]
    rows = np.arange(n)
    outcome = history[-1] if history else None
    panels = {
        "level": (
            "test-time compute (level)",
            (levels[-1] + 1) if levels else np.zeros(n),
            "#4878a8",
        ),
        "price": (
            "price asked or bid",
            outcome.offer.price if outcome else np.zeros(n),
            "#b5651d",
        ),
        "share": ("share of users", outcome.share if outcome else np.zeros(n), "#4f8f5b"),
    }
    for key, (title, values, colour) in panels.items():
        axes[key].barh(rows, values, color=colour)
        axes[key].set_title(title, fontsize=10)
        axes[key].set_yticks(rows, names if key == "level" else [""] * n, fontsize=8)
        axes[key].invert_yaxis()
        axes[key].tick_params(axis="x", labelsize=8)
    axes["level"].set_xlim(0, market.num_levels)
    axes["level"].set_xticks(range(1, market.num_levels + 1))
    axes["price"].set_xlabel("USD per query", fontsize=8)
    axes["price"].ticklabel_format(axis="x", style="sci", scilimits=(-3, 3))
    axes["share"].set_xlim(0, 1)
    welfare = axes["welfare"]
    rounds = np.arange(1, len(history) + 1)
    welfare.plot(
        rounds, [float(o.welfare) for o in history], color="black", marker=".", label="welfare"
    )
    welfare.plot(
        rounds,
        [float(o.user_value) for o in history],
        color="#4878a8",
        marker=".",
        label="users' value",
    )
    if config.moves:
        welfare.plot(rounds, optima, color="#4f8f5b", linestyle="--", label="social optimum")
    else:
        optimum = config.optimal_welfare
        welfare.axhline(optimum, color="#4f8f5b", linestyle="--", label="social optimum")
    welfare.set_xlim(0.5, max(len(history), 2) + 0.5)
    welfare.set_xlabel("round", fontsize=8)
    welfare.set_ylabel("USD per arriving user", fontsize=8)
    welfare.tick_params(labelsize=8)
    welfare.legend(loc="lower right", fontsize=8, frameon=False)
    canvas_figure.suptitle(
        f"{config.mechanism.name}: {market.benchmark or 'own curves'} {market.method or ''}, beta"
        f" {market.beta:g}",
        fontsize=11,
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
