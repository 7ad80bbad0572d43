"""Build the embedded data set `measured` from its traces: `ttc_env/data/measured_curves.csv`.

    python -m scripts.build_measured                             # from the traces shipped
    python -m scripts.build_measured --pack runs/chains/traces   # take over a new run's first

Anybody can check the curves against the raw samples with it. How the traces came about:
`ttc_env/data/SOURCES.md`.
"""

from __future__ import annotations

import argparse
import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import pandas as pd

from scripts.estimate import OBSERVATIONAL, curves_of
from ttc_env.atomic import write_text
from ttc_env.measure.curve_file import MeasuredCurve
from ttc_env.measure.traces import compress_trace

DATA = Path(str(resources.files("ttc_env"))) / "data"
TRACES = "measured_traces"
LEVELS = [1, 2, 4, 8, 16, 32, 64]

#: Parameters of each model, which its price follows.
PARAMETERS = {
    "chain-0.1M": 137_232,
    "chain-0.2M": 210_624,
    "chain-0.2M-verbose": 210_624,
    "chain-0.9M": 855_680,
    "chain-1.9M": 1_922_496,
}
MARGIN = 0.25


def price_per_token(parameters: int) -> float:
    """USD/token.

    Nobody sells these models, so prices are *assigned*: 3 USD per 1M tokens for a million
    parameters, rising with the root.
    """
    return round(3.0 * math.sqrt(parameters / 1e6), 3) * 1e-6


def build(traces: Path) -> pd.DataFrame:
    """The curve table of a folder of traces: benchmark, method, and the columns of a curve file."""
    paths = sorted(
        traces.glob("chain-*.jsonl.gz"),
        key=lambda path: (list(PARAMETERS).index(path.name.split("--")[0]), path.name),
    )
    prices = {name: price_per_token(count) for name, count in PARAMETERS.items()}
    options = Namespace(
        reward_model=None,
        levels=LEVELS,
        methods=["majority", "best_of_n", OBSERVATIONAL],
        score="logprob",
        margin=MARGIN,
    )
    return table_of(curves_of(paths, options, prices))


def table_of(curves: Mapping[tuple[str, str], Sequence[MeasuredCurve]]) -> pd.DataFrame:
    """Tidy rows of many curves: benchmark, method, and the columns of a curve file.

    Args:
        curves: (benchmark, method) -> one curve for each provider.
    """
    frames = []
    for (benchmark, method), group in sorted(curves.items()):
        for curve in group:
            frame = curve.table()
            frame.insert(0, "benchmark", benchmark)
            frame.insert(1, "method", method)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def pack(runs: Path, names: str, traces: Path) -> None:
    """Compress the traces `names` (a glob pattern) of the folder `runs` to the folder `traces`."""
    for path in sorted(runs.glob(names)):
        compress_trace(path, traces / f"{path.name}.gz")


def to_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.8g", lineterminator="\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pack", type=Path, help="folder of .jsonl traces to compress into the package first"
    )
    parser.add_argument("--out", type=Path, default=DATA / "measured_curves.csv")
    args = parser.parse_args()
    if args.pack:
        pack(args.pack, "*.jsonl", DATA / TRACES)
    table = build(DATA / TRACES)
    write_text(args.out, to_csv(table))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))


if __name__ == "__main__":
    main()
