"""Estimate quality curves from traces: any estimator, any levels, no sample drawn again.

    ttc-env estimate runs/gsm8k/traces/*.jsonl --methods majority,best_of_n,pass_at_k \\
        --levels 1,2,4,8 --out runs/again

Traces of parallel samples give a curve for each of `--methods` (and `reasoning_observational`, the
paper's effort bins, if asked for); traces of thinking budgets give `reasoning`. One file for each
method: `<task>-<method>.csv`, which `ttc_env.load_market` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ttc_env.cli._curves import add_curve_options, reward_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("traces", type=Path, nargs="+", help="trace files, .jsonl or .jsonl.gz")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for curve files")
    add_curve_options(parser)


def run(args: argparse.Namespace) -> None:
    import pandas as pd

    from ttc_env.measure.estimate import (
        CurveOptions,
        curve_tables,
        curves_of,
        named,
        read_prices,
        write_curve_files,
    )
    from ttc_env.measure.traces import read_trace

    options = CurveOptions(
        args.methods, args.levels, args.score, reward_options(args), args.margin, args.resamples
    )
    providers = list(dict.fromkeys(named(read_trace(path))[1] for path in args.traces))
    prices = read_prices(args.prices, providers)
    tables = curve_tables(curves_of(args.traces, options, prices), options.resamples)
    for (task, method), frames in tables.items():
        print(f"\n{task}, {method}")
        print(pd.concat(frames).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for path in write_curve_files(tables, args.out):
        print(path)
