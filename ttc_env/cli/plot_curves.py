"""Draw measured curves with their intervals: accuracy against billed tokens, a panel for each file.

    ttc-env plot-curves runs/gsm8k/*.csv --out curves.png

Reads the curve files that `measure` and `estimate` write, and any other with the columns `provider,
level, accuracy, tokens` (and `accuracy_lo, accuracy_hi` for intervals). Needs matplotlib:
`pip install 'ttc-env[plot]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

NO_CURVES = ("summary.csv", "solutions.csv")  # what `measure` writes beside its curve files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("curves", type=Path, nargs="+", help="curve files (.csv)")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help=".png, .svg or .pdf")
    parser.add_argument(
        "--x", choices=("tokens", "level"), default="tokens", help="what the x-axis shows"
    )


def run(args: argparse.Namespace) -> None:
    from ttc_env.measure import plots

    if args.out.suffix not in plots.FORMATS:
        raise ValueError(f"--out is {args.out}; it must end in one of {', '.join(plots.FORMATS)}")
    curves = [path for path in args.curves if path.name not in NO_CURVES]
    if not curves:
        raise ValueError(f"{args.curves[0]} is no curve file; a curve file has {plots.NEEDED}")
    tables = [(path.stem, plots.read_curves(path)) for path in curves]
    plots.save(plots.curves_figure(tables, args.x), args.out)
    print(args.out)
