"""Score what a saved run has learned against the solver: `python -m scripts.evaluate
results/train/<name>`.

Prints a table with one row a seed, from the policies in the folder, and writes evaluation.csv
beside them. Exit status 1 if there is no run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pandas as pd

from agents import load_policies
from agents.policies import saved_seeds
from baselines.errors import failed
from baselines.evaluation import Evaluator
from baselines.records import write_csv
from baselines.training import evaluate_policies

SHOWN = (
    "seed",
    "step",
    "nash_conv",
    "relative_regret",
    "levels_off",
    "inside_bracket",
    "welfare_ratio",
    "welfare_to_equilibrium",
    "user_value",
    "overcompute",
    "collusion",
    "shading",
)


def score_run(folder: Path, seeds: Iterable[int] = ()) -> pd.DataFrame:
    """Metrics of the policies in `folder`, one row a seed; of all seeds that are there if none is
    named.

    Raises:
        ValueError: no policies there, or none of a seed.
    """
    config = load_policies(folder).config
    if config.continuous:
        from baselines.continuous import evaluate_policies as score
    else:
        score = partial(evaluate_policies, evaluator=Evaluator(config))
    rows = []
    for seed in tuple(seeds) or saved_seeds(folder):
        step, row = score(folder, seed)
        rows.append({"seed": seed, "step": step, **row})
    return pd.DataFrame(rows)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--seed", type=int, action="append", default=[], help="only this one")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        table = score_run(options.run, options.seed)
        write_csv(options.run / "evaluation.csv", table)
    except (ValueError, ImportError, OSError) as error:
        return failed(error, 1)
    print(
        table[[name for name in SHOWN if name in table]].to_string(
            index=False, float_format=lambda x: f"{x:.6g}"
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
