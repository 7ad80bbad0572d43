"""From traces to curve files: any estimator, any levels, without drawing a sample again.

    python -m scripts.estimate runs/gsm8k/traces/*.jsonl --methods majority,best_of_n,pass_at_k
    --levels 1,2,4,8 --out runs/again

Traces of parallel samples give a curve for each of `--methods` (and `reasoning_observational`, the
paper's effort bins, if asked for); traces of thinking budgets give `reasoning`. One file for each
method: `<task>-<method>.csv`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ttc_env.measure.curve_file import (
    MeasuredCurve,
    budget_curve,
    observational_curve,
    parallel_curve,
    write_curves,
)
from ttc_env.measure.samples import METHODS, SCORES, Samples, from_trace
from ttc_env.measure.traces import Trace, TraceError, read_trace

OBSERVATIONAL = "reasoning_observational"


def price_options(parser: argparse.ArgumentParser) -> None:
    """Options that this command shares with measure_curves."""
    group = parser.add_argument_group("curves")
    group.add_argument(
        "--methods",
        type=lambda text: text.split(","),
        default=["majority", "best_of_n"],
        help=f"of {', '.join((*METHODS, OBSERVATIONAL))}",
    )
    group.add_argument(
        "--levels",
        type=lambda text: [int(k) for k in text.split(",")],
        help="numbers of samples; powers of two by default",
    )
    group.add_argument(
        "--score",
        choices=SCORES,
        default="logprob",
        help="what best_of_n and weighted_majority go by",
    )
    group.add_argument(
        "--reward-model",
        help=(
            "score samples by this sequence classifier first (folder or hub name); implies --score"
            " reward"
        ),
    )
    group.add_argument(
        "--prices",
        type=lambda text: [float(p) for p in text.split(",")],
        help="USD per 1M tokens, in the order of the models",
    )
    group.add_argument(
        "--margin",
        type=float,
        help="mu: cost = price / (1 + mu); the loader's default where not given",
    )
    group.add_argument(
        "--resamples", type=int, default=2000, help="of the bootstrap over questions"
    )


def read_prices(args: argparse.Namespace, names: Sequence[str]) -> dict[str, float]:
    """Provider -> USD per token; empty without --prices (the curve file then has no price column,
    and the loader asks for one).
    """
    if args.prices is None:
        return {}
    if len(args.prices) != len(names):
        raise SystemExit(
            f"--prices gives {len(args.prices)} numbers for {len(names)} providers"
            f" ({', '.join(names)})"
        )
    return {name: price * 1e-6 for name, price in zip(names, args.prices, strict=True)}


def load(path: Path, reward_model: str | None) -> tuple[Trace, Samples]:
    trace = read_trace(path)
    if reward_model is None:
        return trace, from_trace(trace)
    from ttc_env.measure.rewards import RewardModel, score_trace

    rewards = score_trace(trace, RewardModel(reward_model), path.with_suffix(".rewards.jsonl"))
    return trace, from_trace(trace, rewards)


def curves_of(
    paths: Sequence[Path], args: argparse.Namespace, prices: dict[str, float]
) -> dict[tuple[str, str], list[MeasuredCurve]]:
    """(task, method) -> one curve for each provider."""
    curves: dict[tuple[str, str], list[MeasuredCurve]] = defaultdict(list)
    budgets: dict[tuple[str, str], dict[int, Samples]] = defaultdict(dict)
    for path in paths:
        trace, samples = load(path, args.reward_model)
        task, provider = trace.settings["task"], trace.settings["provider"]
        if trace.settings["dial"] == "thinking_budget":
            budgets[task, provider][trace.settings["budget"]] = samples
            continue
        levels = args.levels or [2**e for e in range(samples.num_samples.bit_length())]
        price = {"price_per_token": prices.get(provider), "margin": args.margin}
        for method in args.methods:
            if method == OBSERVATIONAL:
                curve = observational_curve(samples, provider, **price)
            else:
                curve = parallel_curve(
                    samples,
                    provider,
                    method,
                    levels,
                    score="reward" if args.reward_model else args.score,
                    **price,
                )
            curves[task, method].append(curve)
    for (task, provider), by_budget in budgets.items():
        curves[task, "reasoning"].append(
            budget_curve(
                by_budget, provider, price_per_token=prices.get(provider), margin=args.margin
            )
        )
    return curves


def curve_tables(
    paths: Sequence[Path], args: argparse.Namespace, prices: dict[str, float]
) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """(task, method) -> tidy rows of each provider."""
    curves = curves_of(paths, args, prices)
    return {
        key: [curve.table(resamples=args.resamples) for curve in group]
        for key, group in curves.items()
    }


def write_curve_files(tables: dict[tuple[str, str], list[pd.DataFrame]], out: Path) -> list[Path]:
    files = []
    for (task, method), frames in tables.items():
        path = out / f"{task.replace(':', '-')}-{method}.csv"
        write_curves(path, frames)
        files.append(path)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", type=Path, nargs="+", help="trace files, .jsonl or .jsonl.gz")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for curve files")
    price_options(parser)
    args = parser.parse_args()
    try:
        names = (
            list(dict.fromkeys(read_trace(path).settings["provider"] for path in args.traces))
            if args.prices
            else []
        )
        tables = curve_tables(args.traces, args, read_prices(args, names))
    except (TraceError, ValueError) as error:
        raise SystemExit(str(error)) from None
    for (task, method), frames in tables.items():
        print(f"\n{task}, {method}")
        print(pd.concat(frames).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for path in write_curve_files(tables, args.out):
        print(path)


if __name__ == "__main__":
    main()
