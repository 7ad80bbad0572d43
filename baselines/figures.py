"""Figures of the published games.

Each takes numbers that `published.py` computed, and returns a matplotlib figure (extra `plot`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import ttc_env
from baselines.published import GAMES, Trajectory

TITLES = {
    "gsm8k": "GSM8K",
    "aime": "AIME",
    "gpqa": "GPQA",
    "majority": "majority vote",
    "best_of_n": "best of n",
    "reasoning": "reasoning effort",
}
MARKET, AUCTION, OPTIMUM, USERS = "#b5482d", "#2b6a99", "#4f8f5b", "#7a5195"
BENCHMARK_COLOURS = {"gsm8k": "#2b6a99", "aime": "#b5482d", "gpqa": "#4f8f5b"}
METHOD_LINES = {"majority": "-", "best_of_n": "--", "reasoning": ":"}
SAVE: dict[str, Any] = {"dpi": 150}


def _clean(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _title(benchmark: str, method: str) -> str:
    return f"{TITLES[benchmark]}, {TITLES[method]}"


def curves() -> Figure:
    """Quality and value of every provider at every level, all nine games."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(3, 3)
    handles: dict[str, Any] = {}
    for (benchmark, method), axis in zip(GAMES, axes.flat, strict=True):
        market = ttc_env.load_market(benchmark, method)
        for i, provider in enumerate(market.providers):
            (line,) = axis.plot(provider.levels, 1e3 * provider.quality, color=f"C{i}", lw=1.4)
            axis.plot(
                provider.levels,
                1e3 * (provider.quality - provider.price),
                color=f"C{i}",
                lw=1.2,
                ls="--",
            )
            if method != "reasoning":
                handles[provider.name] = line
        if method == "reasoning":
            if benchmark == "aime":  # One legend per column; this panel has the room.
                axis.legend(
                    axis.lines[::2], market.names, fontsize=8, frameon=False, loc="lower right"
                )
            axis.set_xlabel("effort bin", fontsize=8)
            axis.set_xticks(range(1, 6))
        else:
            axis.set_xscale("log", base=2)
            axis.set_xticks(provider.levels, [f"{x:g}" for x in provider.levels])
            axis.minorticks_off()
            axis.set_xlabel("samples", fontsize=8)
        axis.set_title(_title(benchmark, method), fontsize=10)
        axis.set_ylabel("USD per 1000 queries", fontsize=8)
        _clean(axis)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=9,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(
        "Quality (solid) usually rises with samples; what users keep of it, quality minus list"
        " price (dashed), soon falls",
        fontsize=12,
    )
    return figure


def dynamics(trajectories: dict[str, Trajectory], title: str) -> Figure:
    """Levels, shares and potential along the dynamics; one column per trajectory."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(3, len(trajectories), squeeze=False)
    for column, (name, run) in zip(axes.T, trajectories.items(), strict=True):
        moves = np.arange(len(run.path.profiles))
        labels = run.market.providers[0].levels
        for i, provider in enumerate(run.market.providers):
            # A small offset keeps lines apart that lie on one level.
            column[0].plot(
                moves,
                run.path.profiles[:, i] + 0.05 * (i - 4),
                color=f"C{i}",
                lw=1.3,
                label=provider.name,
            )
            column[1].plot(moves, run.share[:, i], color=f"C{i}", lw=1.3)
        column[0].set_yticks(range(len(labels)), [f"{x:g}" for x in labels])
        column[0].set_title(name, fontsize=10)
        column[1].set_ylim(0, None)
        column[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        column[2].plot(moves, run.path.potential - run.path.potential[0], color="black", lw=1.5)
        column[2].set_xlabel("moves made", fontsize=8)
        for axis in column:
            _clean(axis)
    for axis, text in zip(
        axes[:, 0],
        ("level (samples)", "share of users", "potential, rise since the start"),
        strict=True,
    ):
        axis.set_ylabel(text, fontsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=9,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(title, fontsize=12)
    return figure


def inefficiency(sweep: pd.DataFrame) -> Figure:
    """Welfare lost at equilibrium, in percent of it, against beta, all nine games, with bands."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    for benchmark, method in GAMES:
        rows = sweep[(sweep.benchmark == benchmark) & (sweep.method == method)]
        axis.plot(
            rows.beta,
            rows.inefficiency_percent,
            color=BENCHMARK_COLOURS[benchmark],
            ls=METHOD_LINES[method],
            lw=1.7,
            label=_title(benchmark, method),
        )
        axis.fill_between(
            rows.beta,
            rows.inefficiency_low,
            rows.inefficiency_high,
            color=BENCHMARK_COLOURS[benchmark],
            alpha=0.12,
            lw=0,
        )
    for beta in (200, 1000, 100000):
        axis.axvline(beta, color="grey", lw=0.6, alpha=0.6)
    axis.set_xscale("log")
    axis.set_xlabel(
        "user rationality beta (1/USD); grey: the studied ones; bands: 90% over redrawn accuracies"
    )
    axis.set_ylabel("inefficiency 100 (PoA - 1), percent")
    top = sweep.inefficiency_percent.max()
    axis.set_ylim(0, 1.25 * top)
    axis.legend(fontsize=8, frameon=False, ncols=3, loc="upper right")
    _clean(axis)
    figure.suptitle(
        f"Pay per token: the social optimum beats the equilibrium by up to {top:.0f}%", fontsize=12
    )
    return figure


def gains(summary: pd.DataFrame) -> Figure:
    """What the auction changes for users, winner and others, as a share of market welfare, all 27
    cells.
    """
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    labels = [
        f"{_title(r.benchmark, r.method)}, {r.beta:g}".replace("100000", "1e5").replace(
            "1e+05", "1e5"
        )
        for r in summary.itertuples()
    ]
    rows = np.arange(len(summary))[::-1]
    base = summary.equilibrium_welfare

    def stack(axis: Any, parts: dict[str, tuple[str, str]]) -> None:
        up, down = np.zeros(len(summary)), np.zeros(len(summary))
        for column, (label, colour) in parts.items():
            width = (100 * summary[column] / base).to_numpy()
            axis.barh(
                rows,
                width,
                left=np.where(width >= 0, up, down),
                color=colour,
                label=label,
                height=0.75,
            )
            up, down = up + np.maximum(width, 0), down + np.minimum(width, 0)
        axis.axvline(0, color="black", lw=0.8)
        axis.set_xlabel("percent of welfare in the pay-per-token market", fontsize=9)
        axis.legend(fontsize=9, frameon=False, loc="lower right")
        _clean(axis)

    stack(
        axes[0],
        {
            "gain_compute": ("over-compute cured", MARKET),
            "gain_choice": ("everyone served by the best provider", AUCTION),
        },
    )
    stack(
        axes[1],
        {
            "gain_users": ("users", USERS),
            "gain_winner": ("winning provider", OPTIMUM),
            "gain_others": ("other providers", "#999999"),
        },
    )
    axes[0].set_yticks(rows, labels, fontsize=7)
    axes[0].set_ylim(-0.7, len(summary) - 0.3)
    axes[0].set_title("Where the gain comes from", fontsize=11)
    axes[1].set_title("Who gets it", fontsize=11)
    losing = int((summary.gain_users < 0).sum())
    figure.suptitle(
        f"The auction raises welfare in every cell; users keep less than before in {losing} of"
        f" {len(summary)}",
        fontsize=12,
    )
    return figure


def headline(
    market_run: Trajectory, auction_tokens: float, auction_welfare: float, optimal_welfare: float
) -> Figure:
    """The point of it all: compute and welfare as providers adapt in the market, against the
    auction.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    moves = np.arange(len(market_run.tokens))
    left.plot(moves, market_run.tokens, color=MARKET, lw=2.2, label="pay-per-token market")
    left.axhline(auction_tokens, color=AUCTION, lw=2.2, label="second-price auction")
    left.set_yscale("log")
    left.set_ylabel("tokens billed per query")
    left.set_title("Compute drifts up in the market...", fontsize=11)
    right.plot(moves, 1e3 * market_run.welfare, color=MARKET, lw=2.2, label="pay-per-token market")
    right.axhline(1e3 * auction_welfare, color=AUCTION, lw=2.2, label="second-price auction")
    right.axhline(
        1e3 * optimal_welfare, color="grey", lw=1.2, ls="--", label="market's social optimum"
    )
    right.set_ylabel("welfare, USD per 1000 users")
    right.set_title("...and welfare falls", fontsize=11)
    for axis in (left, right):
        axis.set_xlabel("moves, each to the nearest better level")
        _clean(axis)
    right.legend(fontsize=8, frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.68))
    return figure
