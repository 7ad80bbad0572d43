"""Do the kept results hold on other markets, and with other hyperparameters?

    python -m baselines.variations              # stopped and started again, it goes on
    python -m baselines.run --tables            # the page with its tables

**Held-out markets** (`results/held_out.csv`). Hyperparameters were chosen on the nine published
games at beta 200, 1000 and 100000. The same learners, unchanged, play games that nobody looked at
then: the subset of published games at other betas, the subset with other values of a right answer
(alpha), and random markets of nine providers (`ttc_env.random_markets`).

**Hyperparameters** (`results/sensitivity.csv`). One change at a time from what the kept table uses,
on two of the published games at beta 1000, in the two settings that are hard: PPO's rate, batches,
entropy bonus, number of steps, discount and scale of rewards; the discount of the learners of
Stable-Baselines3 (SB3), and one network shared by all providers.

A row is a run (one seed), scored where it ended, as in `results/final.csv`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.errors import failed
from baselines.plan import Plan, TrainConfig
from baselines.records import rounded, write_csv
from baselines.suite import AUCTION_BETA, KEPT, RL_GAMES, SETTINGS, SUITE
from baselines.training import Run
from ttc_env import cells
from ttc_env.envs.config import make_config
from ttc_env.game.curves import BENCHMARKS
from ttc_env.game.random_markets import random_markets

SEEDS = 3
"""Of every cell; PPO on held-out markets has one, for its time: there games are the sample."""
BETAS = (100.0, 500.0, 5000.0)
ALPHAS = (0.5, 2.0)
"""Multiples of the benchmark's own alpha."""
DRAWS = 2
"""Random markets for each benchmark."""
RANDOM_BETA, RANDOM_ALPHA = (100.0, 10000.0), (0.5, 2.0)
"""Ranges of the log-uniform draws of random markets; alpha in multiples of the benchmark's own."""
LEARNERS = ("best_response", "regret_matching_plus", "hedge", "ucb", "exp3", "ppo_torch")
"""Of the held-out markets; as long as in the kept table."""

BASE_STEPS = 20_480
"""Of runs with other hyperparameters."""
GAMES = (("gsm8k", "majority"), ("gpqa", "reasoning"))
HARD, FIXED = ("market, level and price", "auction"), ("market, fixed prices",)
"""Games and settings of the runs with other hyperparameters."""
CHANGES = (
    ("as kept, but 20,480 steps", "ppo_torch", BASE_STEPS),
    ("rate 0.0003", "ppo_torch:rate=0.0003", BASE_STEPS),
    ("rate 0.003", "ppo_torch:rate=0.003", BASE_STEPS),
    ("batches of 1024 samples", "ppo_torch:minibatches=1", BASE_STEPS),
    ("batches of 64 samples", "ppo_torch:minibatches=16", BASE_STEPS),
    ("entropy bonus 0.003", "ppo_torch:entropy=0.003", BASE_STEPS),
    ("entropy bonus 0.03", "ppo_torch:entropy=0.03", BASE_STEPS),
    ("discount 0.5", "ppo_torch:discount=0.5", BASE_STEPS),
    ("discount 0.95", "ppo_torch:discount=0.95", BASE_STEPS),
    ("raw rewards, in USD", "ppo_torch:scale=raw", BASE_STEPS),
    ("10,240 steps", "ppo_torch", 10_240),
    ("81,920 steps", "ppo_torch", 81_920),
)
"""PPO in plain torch: what is changed, the learner, and its steps. In the kept table rate 0.001,
batches of 256 samples, entropy bonus and discount 0, log rewards, 40,960 steps.
"""
SB3_CHANGES = (
    ("SB3's PPO, as kept", "ppo", 20_480, HARD),
    ("SB3's PPO, discount 0.95", "ppo:gamma=0.95", 20_480, tuple(SETTINGS)),
    (
        "SB3's PPO, discount 0.95, one-step targets",
        "ppo:gamma=0.95:gae_lambda=0",
        20_480,
        tuple(SETTINGS),
    ),
    ("SB3's PPO, one network for all providers", "ppo:share=true", 20_480, tuple(SETTINGS)),
    ("SB3's A2C, discount 0.95", "a2c:gamma=0.95", 32_000, FIXED),
    ("SB3's DQN, discount 0.95", "dqn:gamma=0.95", 32_000, FIXED),
    (
        "SB3's DQN, discount 0.95, target network every 500 samples",
        "dqn:gamma=0.95:target_update_interval=500",
        32_000,
        FIXED,
    ),
)
"""On GSM8K majority: the same, and the settings."""


@dataclass(frozen=True)
class Variation:
    """One learner on one game in one setting, under several seeds.

    alpha: a multiple of the benchmark's own. draw: number of a random market, or -1.
    """

    table: str
    change: str
    learner: str
    setting: str
    benchmark: str
    method: str
    beta: float
    steps: int
    seeds: int = SEEDS
    alpha: float = 1.0
    draw: int = -1

    @property
    def name(self) -> str:
        """Of its file."""
        text = "_".join(f"{value}" for value in dataclasses.astuple(self))
        return "".join(c if c.isalnum() or c in "_.-" else "-" for c in text)

    @property
    def config(self) -> TrainConfig:
        mechanism, prices = SETTINGS[self.setting]
        return TrainConfig(
            learner=self.learner,
            mechanism=mechanism,
            prices=prices,
            benchmark=self.benchmark,
            method=self.method,
            beta=self.beta,
            alpha=self.alpha * BENCHMARKS[self.benchmark],
            seeds=f"0..{self.seeds - 1}",
            steps=self.steps,
            evaluations=1,
        )

    @property
    def plan(self) -> Plan:
        plan = Plan.of(self.config)
        if self.draw < 0:
            return plan
        own = BENCHMARKS[self.benchmark]
        batch = random_markets(
            DRAWS,
            self.benchmark,
            self.method,
            seed=2026,
            beta=RANDOM_BETA,
            alpha=(own * RANDOM_ALPHA[0], own * RANDOM_ALPHA[1]),
        )
        mechanism, prices = SETTINGS[self.setting]
        environment = make_config(
            mechanism, market=batch[self.draw], prices=prices, infos="basic",
            max_cycles=self.config.max_cycles,
        )  # fmt: skip
        return dataclasses.replace(plan, environment=environment)

    def run(self) -> list[dict[str, Any]]:
        plan = self.plan
        run = Run(plan)
        run.train()
        final = run.final()
        final = final[[name for name in KEPT if name in final]]
        market = plan.environment.market
        alpha = (market.alpha or 0.0) / BENCHMARKS[self.benchmark]
        game = dataclasses.asdict(self) | {"beta": market.beta, "alpha": alpha}
        return [{**game, **row} for row in final.to_dict("records")]


def held_out() -> Iterator[Variation]:
    """Every learner on every market that was not looked at."""
    entries = {entry.learner: entry for entry in SUITE}
    for setting, (mechanism, _) in SETTINGS.items():
        for learner in LEARNERS:
            rest = (entries[learner].steps, 1 if learner == "ppo_torch" else SEEDS)
            for benchmark, method in RL_GAMES:
                game = (learner, setting, benchmark, method)
                if mechanism == "market":
                    for beta in BETAS:
                        yield Variation("held_out", "other beta", *game, beta, *rest)
                for alpha in ALPHAS:
                    yield Variation("held_out", "other alpha", *game, AUCTION_BETA, *rest, alpha)
                for draw in range(DRAWS):
                    # random markets resemble curves of nine providers: majority vote
                    given = (learner, setting, benchmark, "majority", AUCTION_BETA)
                    yield Variation("held_out", "random market", *given, *rest, draw=draw)


def sensitivity() -> Iterator[Variation]:
    """Every change of hyperparameters."""
    for change, learner, steps in CHANGES:
        for setting in HARD:
            for game in GAMES:
                yield Variation("sensitivity", change, learner, setting, *game, 1000.0, steps)
    for change, learner, steps, settings in SB3_CHANGES:
        for setting in settings:
            yield Variation("sensitivity", change, learner, setting, *GAMES[0], 1000.0, steps)


TABLES = {"held_out": held_out, "sensitivity": sensitivity}
"""File in `results` -> its cells."""


def quick(found: Iterable[Variation]) -> list[Variation]:
    """One short cell of every change, for tests; without Stable-Baselines3."""
    first: dict[str, Variation] = {}
    for one in found:
        if one.learner.split(":")[0] in LEARNERS:
            first.setdefault(one.change, dataclasses.replace(one, steps=100, seeds=1))
    return list(first.values())


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.variations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cells",
        type=Path,
        default=Path("results/baselines/variations"),
        help="folder of what was run",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of the tables"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--only", choices=list(TABLES), help="one of the tables")
    parser.add_argument("--quick", action="store_true", help="a few cells, for tests")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; it must be at least 1")
    status = 0
    for name in [options.only] if options.only else TABLES:
        mine = list(TABLES[name]())
        mine = quick(mine) if options.quick else mine
        path = options.out / f"{name}.csv"
        try:
            strange = cells.run_local(mine, options.cells, workers=options.workers)
            if strange:
                where = options.cells / "failed"
                print(f"error: {strange} cells failed; {where} says why", file=sys.stderr)
                status = 1
                continue
            write_csv(path, rounded(cells.read(mine, options.cells)))
        except OSError as error:
            return failed(error, 1)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
        print(f"written to {path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
