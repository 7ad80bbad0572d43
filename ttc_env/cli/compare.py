"""Compare pricing rules on one market: who gets what, and what is lost, in one yardstick.

    ttc-env compare gsm8k --method majority --beta 200 --out results/compare
    ttc-env compare curves.csv --alpha 0.01 --mechanisms market,auction --resamples 0

Writes table.csv (a row for each rule and equilibrium; USD per 1000 users) and comparison.png (needs
matplotlib, extra `plot`), and prints the table in short. Rules are played at list prices and on one
grid of markups (`help(ttc_env.compare)`). Exact rows alone: rows of learners need a checkout, and
`python -m scripts.compare_mechanisms`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ttc_env.cli._market import add_market_options, read_market


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_market_options(parser, mechanism=False)
    parser.set_defaults(beta=200.0)
    parser.add_argument("--mechanisms", help="names, separated by commas; default all")
    parser.add_argument(
        "--out", type=Path, default=Path("results/compare"), help="folder to write to"
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=50,
        help="markets with redrawn accuracies, for the bands (default 50); 0 for none",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the redrawing (default 0)")
    parser.add_argument("--no-figure", action="store_true", help="tables only: no matplotlib")
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")


def run(args: argparse.Namespace) -> None:
    import ttc_env
    from ttc_env.atomic import write_bytes
    from ttc_env.cli import _compare
    from ttc_env.cli._output import (
        csv_bytes,
        need_matplotlib,
        png_bytes,
        progress,
        rounded,
    )

    for name in ("resamples", "seed"):
        if getattr(args, name) < 0:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be at least 0")
    if not args.no_figure:
        need_matplotlib("--no-figure")
    market = read_market(args)
    args.out.mkdir(parents=True, exist_ok=True)  # refused now, not when all is solved
    names = None if args.mechanisms is None else [x.strip() for x in args.mechanisms.split(",")]
    found = ttc_env.compare(
        market,
        names,
        resamples=args.resamples,
        seed=args.seed,
        progress=progress("rules", args.quiet),
    )
    if not found.rows:
        raise ValueError(
            "no rule can be played on this market: "
            + "; ".join(f"{name}: {why}" for name, why in found.left_out.items())
        )
    write_bytes(args.out / "table.csv", csv_bytes([rounded(row) for row in found.rows]))
    title = f"{market.benchmark or 'own curves'} {market.method or ''}, beta {market.beta:g}"
    if not args.no_figure:
        panels = {"": found.rows}
        chart = _compare.figure(panels, f"Who gets the first best, by pricing rule: {title}")
        write_bytes(args.out / "comparison.png", png_bytes(chart))
    if not args.quiet:
        _compare.show(title, found.rows)
        for name, why in found.left_out.items():
            print(f"left out: {name}: {why}")
        print(f"written to {args.out}; learners: python -m scripts.compare_mechanisms (a checkout)")
