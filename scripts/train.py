"""Train any learner on any market, and measure it against the exact equilibrium.

    python -m scripts.train --learner ppo --mechanism auction --benchmark gsm8k --method majority
    --beta 1000 --seeds 0..9 python -m scripts.train --learner provider_0=ppo,rest=best_response
    --prices grid

The folder --out (default results/train/<name>) gets manifest.json, metrics.csv (a row an
evaluation), final.csv (a row a seed), checkpoint.npz, and TensorBoard logs where torch is
installed. The same command again goes on from the last checkpoint. Exit status: 0 finished, 1
stopped by an error, 2 a bad option, 130 interrupted (and saved).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agents import AGENTS
from agents.arena import NotFinite
from baselines.training import Plan, Run, TrainConfig
from scripts.options import add_options, read_options


def default_name(config: TrainConfig) -> str:
    """A folder name that tells runs apart."""
    learner = "".join(c if c.isalnum() or c in "_.-" else "-" for c in config.learner)
    game = f"{config.benchmark}-{config.method}_beta{config.beta:g}"
    return f"{learner}_{config.mechanism}-{config.prices}_{game}"


class Bar:
    """A progress bar with the last NashConv; plain lines where tqdm is not installed."""

    def __init__(self, total: int, quiet: bool):
        self._quiet, self._bar = quiet, None
        if not quiet:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, unit="evaluation")

    def __call__(self, row: dict[str, Any]) -> None:
        if self._quiet:
            return
        text = (
            f"seed {row['seed']} step {row['step']} NashConv {row['nash_conv']:.3g} relative regret"
            f" {row['relative_regret']:.2%} welfare {row['welfare_ratio']:.1%} of optimum"
        )
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"learners: {', '.join(AGENTS)}",
    )
    add_options(parser, TrainConfig)
    parser.add_argument(
        "--out", type=Path, default=None, help="folder to write to (default results/train/<name>)"
    )
    parser.add_argument(
        "--keep-every", type=float, default=30.0, help="seconds between checkpoints (default 30)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(None if arguments is None else list(arguments))
    config = read_options(TrainConfig, options)
    out = options.out if options.out is not None else Path("results/train") / default_name(config)
    try:
        plan = Plan.of(config)
        plan.arena(plan.batches[0])  # options of learners are checked by making them
        run = Run(plan, out, keep_every=options.keep_every)
    except (ValueError, TypeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    bar = Bar(len(plan.evaluation_rounds()) * len(config.seed_list()), options.quiet)
    run.on_evaluation = bar
    try:
        run.train()
    except KeyboardInterrupt:
        print(f"interrupted; saved to {out}; the same command goes on from here", file=sys.stderr)
        return 130
    except (NotFinite, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        bar.close()
    if not options.quiet:
        final = run.final()
        for row in final.to_dict("records"):
            print(
                f"seed {row['seed']}: NashConv {row['nash_conv']:.3g} USD, relative regret"
                f" {row['relative_regret']:.3%}, {row['levels_off']:.2f} levels off, welfare"
                f" {row['welfare_ratio']:.2%} of the optimum and"
                f" {row['welfare_to_equilibrium']:.2%} of the equilibrium's"
            )
        print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
