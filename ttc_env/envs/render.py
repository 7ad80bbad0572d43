"""The last round as text, and the episode so far as a figure (extra `plot`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ttc_env.game.rules.base import Round

if TYPE_CHECKING:
    from ttc_env.envs.config import EnvConfig
    from ttc_env.game.types import Market

_BLUE, _BROWN, _GREEN = "#3f6fa0", "#b5651d", "#3f8050"
_PANELS = {
    "level": ("test-time compute (level)", _BLUE),
    "price": ("price asked or bid", _BROWN),
    "share": ("share of users", _GREEN),
}
_LINES = {"welfare": ("welfare", "black"), "user_value": ("users' value", _BLUE)}


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


class Frames:
    """Figures of one game's episodes. What stays the same is drawn once and kept as pixels; a frame
    puts bars, lines and the round's number on top, so that it takes milliseconds.

    A frame depends on the episode alone, not on which frames were drawn before it.

    Raises:
        ImportError: matplotlib is missing.
    """

    def __init__(self, config: EnvConfig):
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ImportError(
                "render_mode='rgb_array' needs matplotlib: pip install 'ttc-env[plot]'"
            ) from error
        self.config = config
        market = config.market
        figure = Figure(figsize=(9.6, 5.4), dpi=100)
        figure.subplots_adjust(0.145, 0.1, 0.975, 0.87, wspace=0.12, hspace=0.5)
        self._canvas: Any = FigureCanvasAgg(figure)
        self._axes: Any = figure.subplot_mosaic(
            [["level", "price", "share"], ["welfare", "welfare", "welfare"]]
        )
        title = (
            f"{config.mechanism.name}: {market.benchmark or 'own curves'} {market.method or ''}"
            f", beta {market.beta:g}"
        )
        figure.suptitle(title, fontsize=12, x=0.145, y=0.96, ha="left", va="center")
        rows = np.arange(market.num_providers)
        self._bars = {}
        for key, (what, colour) in _PANELS.items():
            axis = self._axes[key]
            self._bars[key] = axis.barh(rows, 0.0 * rows, color=colour, height=0.7, animated=True)
            axis.set_title(what, fontsize=10, loc="left")
            axis.set_yticks(rows, market.names if key == "level" else [""] * len(rows), fontsize=8)
            axis.set_ylim(len(rows) - 0.4, -0.6)
        levels = self._axes["level"]
        levels.set_xlim(0, market.num_levels + 0.3)
        levels.set_xticks(range(1, market.num_levels + 1), _labels(market))
        self._axes["price"].set_xlabel("USD per query", fontsize=8)
        self._axes["price"].locator_params(axis="x", nbins=3)
        self._axes["share"].set_xlim(0, 1)
        welfare = self._axes["welfare"]
        self._lines = {
            key: welfare.plot([], [], color=colour, marker=".", label=label, animated=True)[0]
            for key, (label, colour) in _LINES.items()
        }
        if config.moves:
            best = welfare.plot([], [], color=_GREEN, linestyle="--", animated=True)[0]
        else:
            best = welfare.axhline(config.optimal_welfare, color=_GREEN, linestyle="--")
        best.set_label("social optimum")
        welfare.set_xlabel("round", fontsize=8)
        welfare.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        welfare.set_ylabel("USD per arriving user", fontsize=8)
        handles = [*self._lines.values(), best]
        if config.moves:
            self._lines["optimum"] = best
        welfare.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=3,
                       fontsize=8, frameon=False)  # fmt: skip
        self._round = figure.text(0.975, 0.96, "", fontsize=12, animated=True)
        self._round.set(ha="right", va="center")
        for axis in self._axes.values():
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8)
        self._limits: Any = None  # those of the kept pixels
        self._still: Any = None

    def __reduce__(self) -> Any:
        return Frames, (self.config,)  # pixels and canvas are made again

    def draw(
        self, history: list[Round], levels: list[np.ndarray], optima: list[float]
    ) -> np.ndarray:
        """`[540, 960, 3]` uint8: levels, prices and shares of the last round, and welfare over the
        episode. optima: the most welfare of each round.
        """
        n = self.config.market.num_providers
        last = history[-1] if history else None
        lines = {key: [float(getattr(o, key)) for o in history] for key in _LINES}
        if self.config.moves:
            lines["optimum"] = optima
        self._fit(
            len(history), max((float(o.offer.price.max()) for o in history), default=0.0), lines
        )
        self._canvas.restore_region(self._still)
        for key, values in {
            "level": levels[-1] + 1 if levels else np.zeros(n),
            "price": last.offer.price if last else np.zeros(n),
            "share": last.share if last else np.zeros(n),
        }.items():
            for bar, value in zip(self._bars[key], values, strict=True):
                bar.set_width(value)
                self._axes[key].draw_artist(bar)
        for key, values in lines.items():
            self._lines[key].set_data(np.arange(1, len(values) + 1), values)
            self._axes["welfare"].draw_artist(self._lines[key])
        self._round.set_text(f"round {len(history)}")
        self._axes["welfare"].draw_artist(self._round)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def _fit(self, rounds: int, price: float, lines: dict[str, list[float]]) -> None:
        """Keep the pixels of the axes that this episode needs, unless they are the kept ones."""
        shown = [0.0, self.config.optimal_welfare, *(v for line in lines.values() for v in line)]
        low, high = min(shown), max(shown)
        limits = (
            _reach(rounds, self.config.max_cycles),
            _rounded_up(price),
            -_rounded_up(-low),
            _rounded_up(high) if high > 1.05 * self.config.optimal_welfare else None,
        )
        if limits == self._limits:
            return
        most, dearest, bottom, top = limits
        self._axes["welfare"].set_xlim(0.5, max(most, 2) + 0.5)
        self._axes["price"].set_xlim(0, dearest or 1)
        if top is None:
            top = self.config.optimal_welfare + 0.1 * (self.config.optimal_welfare - bottom)
        self._axes["welfare"].set_ylim(bottom, top if top > bottom else bottom + 1)
        self._canvas.draw()
        self._still = self._canvas.copy_from_bbox(self._canvas.figure.bbox)
        self._limits = limits


def _labels(market: Market) -> list[str]:
    """Names of the levels, where all providers have the same; else 1, 2, ..."""
    longest = max((provider.levels for provider in market.providers), key=len)
    same = all((p.levels == longest[: len(p.levels)]).all() for p in market.providers)
    return [f"{label:g}" for label in (longest if same else range(1, len(longest) + 1))]


def _reach(rounds: int, horizon: int) -> int:
    """How many rounds the axis shows: all of a short episode; else twice as many at each end."""
    reach = min(horizon, 200)
    while reach < rounds:
        reach *= 2
    return min(reach, horizon)


def _rounded_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 5 and 7.5 times a power of ten; 0 for what is not positive."""
    if not 0 < value < np.inf:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.5, 2, 3, 5, 7.5, 10, 15) if power * step >= value)
