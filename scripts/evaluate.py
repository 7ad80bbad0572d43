"""Score a saved run against the solver, from its checkpoint: `python -m scripts.evaluate
results/train/<name>`.

Prints a table with one row a seed (of the seeds trained last, where seeds are trained one after
another) and writes evaluation.csv beside it. Exit status 1 if there is no run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from baselines import checkpoint
from baselines.evaluation import Evaluator
from baselines.records import write_csv
from baselines.training import Plan, TrainConfig, evaluate

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


def score_run(folder: Path) -> pd.DataFrame:
    """Metrics of what the checkpoint in `folder` holds, one row a seed.

    Raises:
        ValueError: no checkpoint there, or not one of ours.
    """
    path = folder / "checkpoint.npz"
    if not path.exists():
        raise ValueError(
            f"{folder} holds no checkpoint.npz; train first: python -m scripts.train --out {folder}"
        )
    content = checkpoint.load(path)
    plan = Plan.of(TrainConfig(**content["config"]))
    seeds = plan.batches[int(content["batch"])]
    arena = plan.arena(seeds)
    arena.load_state_dict(content["arena"])
    rows = evaluate(arena, Evaluator(plan.environment), plan.parallel)
    return pd.DataFrame(
        [
            {"seed": seed, "step": arena.round * plan.steps_per_round, **row}
            for seed, row in zip(seeds, rows, strict=True)
        ]
    )


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        table = score_run(options.run)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_csv(options.run / "evaluation.csv", table)
    print(
        table[[name for name in SHOWN if name in table]].to_string(
            index=False, float_format=lambda x: f"{x:.6g}"
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
