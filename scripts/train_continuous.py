"""Train PPO with continuous actions, and measure it against the exact equilibrium.

    python -m scripts.train_continuous --mechanism market --benchmark gsm8k --seeds 0,1,2
    python -m scripts.train_continuous --mechanism auction --beta 200 --distribution gaussian

Prints a row an evaluation and writes them to --out: NashConv and relative regret against every
level and every price of the range, welfare beside optimum and equilibrium. Learners that choose
from a list of actions: `scripts.train`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from agents.ppo_continuous import DISTRIBUTIONS, ContinuousPPO, score
from baselines.records import write_csv
from ttc_env.envs.config import make_config


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train_continuous", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--mechanism", default="market", help="market, auction, ...")
    parser.add_argument("--benchmark", default="gsm8k")
    parser.add_argument("--method", default=None)
    parser.add_argument("--providers", default="", help="names, separated by commas; all if empty")
    parser.add_argument("--beta", type=float, default=1000.0, help="rationality of users, 1/USD")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=600, help="of each of the parallel markets")
    parser.add_argument("--parallel", type=int, default=64, help="markets")
    parser.add_argument("--evaluations", type=int, default=6)
    parser.add_argument("--distribution", choices=DISTRIBUTIONS, default="beta")
    parser.add_argument("--out", type=Path, default=Path("results/train_continuous/metrics.csv"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # results repeat themselves exactly
    try:
        seeds = [int(x) for x in args.seeds.split(",")]
        if args.rounds < 1 or args.evaluations < 1:
            raise ValueError("--rounds and --evaluations must be at least 1")
        config = make_config(
            args.mechanism,
            args.benchmark,
            args.method,
            providers=[x.strip() for x in args.providers.split(",") if x.strip()] or None,
            beta=args.beta,
            prices="grid",
            actions="continuous",
            infos="basic",
        )
        learners = [
            ContinuousPPO(
                config, args.parallel, seed, horizon=args.rounds, distribution=args.distribution
            )
            for seed in seeds
        ]
    except (ValueError, TypeError, OSError) as error:
        parser.error(str(error))
    rows = []
    for seed, learner in zip(seeds, learners, strict=True):
        for k in range(args.evaluations + 1):
            learner.train(args.rounds * k // args.evaluations - learner.t)
            row = {"seed": seed, "round": learner.t, **score(config, learner.play())}
            rows.append(row)
            print(
                f"seed {seed}, round {row['round']}: NashConv {row['nash_conv']:.3g}, relative"
                f" regret {row['relative_regret']:.2%}, welfare {row['welfare_ratio']:.3f} of the"
                f" optimum, {row['welfare_to_equilibrium']:.3f} of the equilibrium",
                flush=True,
            )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_csv(args.out, pd.DataFrame(rows))
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
