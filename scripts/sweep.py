"""Train many learners on many games, by many workers, into one table: benchmarks x rules x prices x
betas x learners x seeds.

    python -m scripts.sweep --learners hedge,ucb --betas 200,1000 --seeds 0,1,2
    python -m scripts.sweep --example > learners.toml
    python -m scripts.sweep learners.toml --workers 2

The options say who computes, as in `ttc-env sweep`: processes of this machine, one shard of any
scheduler's, an array of jobs, a Ray cluster. Every run is a file in cells/, so that the same
command goes on after a stop; a killed worker loses the run it was at. The table has the columns of
final.csv (python -m scripts.train), and is written by whoever finishes last. Exit status: 0, 2 for
a bad option or runs that failed, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from baselines.errors import failed
from baselines.sweeps import LearnerSweepConfig
from ttc_env import settings
from ttc_env.cli._workers import run_cells
from ttc_env.cli.sweep import EXAMPLE, add_sweep_options

LEARNERS = """\
learners = ["best_response", "hedge", "provider_0=ucb,rest=best_response"]
seeds = [0, 1, 2, 3, 4]
steps = 0                                # rounds a provider; 0: the learner's own default
"""


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_sweep_options(parser, LearnerSweepConfig)
    args = parser.parse_args(None if arguments is None else list(arguments))
    if args.example:
        games = EXAMPLE.replace("ttc-env sweep sweep.toml", "python -m scripts.sweep learners.toml")
        before, out, after = games.partition('out = "results/sweep"')
        print(before + LEARNERS + out.replace("sweep", "learners") + after, end="")
        return 0
    try:
        config = settings.read_options(LearnerSweepConfig, args, args.config)
        if args.show:
            print(settings.show(config, parser.prog), end="")
            return 0
        run_cells(config.cells(), Path(config.out), args)
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        return failed(error, 2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
