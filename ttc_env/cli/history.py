"""Solve the frontier's market at every release date: tables, figures, and what they say.

    ttc-env history --out results/frontier --resamples 50

Writes history.csv (one row for each benchmark and release date), winners.csv (who would win the
auction, how often among redrawn markets), sensitivity.csv (price of anarchy under other
assumptions), frontier.png, details.png, README.md. Figures need matplotlib (extra `plot`).
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("results/frontier"), help="folder to write to"
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=200,
        help="markets with redrawn accuracies at each date (default 200; some minutes)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the redrawing (default 0)")
    parser.add_argument("--no-figures", action="store_true", help="tables only: no matplotlib")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> None:
    if args.resamples < 1:
        raise ValueError(f"--resamples is {args.resamples}; it must be at least 1")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must be at least 0")
    from ttc_env.cli._history import run

    run(args)
