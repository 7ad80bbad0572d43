"""Which learners the kept table compares, on which cells, for how long: one list, no tuning per
game.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from baselines.plan import TrainConfig
from baselines.published import GAMES
from ttc_env.game.curves import STUDIED_BETAS

SETTINGS = {
    "market, fixed prices": ("market", "fixed"),
    "market, level and price": ("market", "grid"),
    "auction": ("auction", "grid"),
}
"""Name -> (mechanism, prices)."""
FIXED, AUCTION = ("market, fixed prices",), ("auction",)
AUCTION_BETA = 1000.0
"""In the auction users do not choose, so that beta plays no part: one value stands for all."""
RL_GAMES = (("gsm8k", "majority"), ("aime", "best_of_n"), ("gpqa", "reasoning"))
"""The subset for slow learners: one game per benchmark, every method once."""

KEPT = (
    "seed",
    "step",
    "nash_conv",
    "relative_regret",
    "median_relative_regret",
    "mean_provider_regret",
    "worst_provider_regret",
    "largest_counted_regret",
    "levels_off",
    "levels_exact",
    "inside_bracket",
    "welfare",
    "welfare_ratio",
    "welfare_to_equilibrium",
    "user_value",
    "overcompute",
    "collusion",
    "shading",
    "mean_shading",
    "efficient_winner",
    "pure",
)
"""Columns of the kept results; runs of scripts/train.py have more (per provider)."""


@dataclass(frozen=True)
class Entry:
    """One learner's part of the table. steps: rounds per provider, over all parallel markets
    together. evaluations: after the start's, closer at the start.
    """

    learner: str
    family: str
    steps: int
    seeds: int
    evaluations: int = 8
    games: tuple[tuple[str, str], ...] = GAMES
    betas: tuple[float, ...] = STUDIED_BETAS
    settings: tuple[str, ...] = tuple(SETTINGS)


SUITE = (
    Entry("random", "none", 10, 10, 1),
    Entry("truthful", "none", 10, 10, 1),
    Entry("shaded", "none", 10, 10, 1),
    Entry("planner", "none", 10, 10, 1),
    Entry("equilibrium", "none", 10, 10, 1),
    Entry("best_response", "dynamics", 300, 10),
    Entry("nearest_improving", "dynamics", 900, 10),
    Entry("logit_response", "dynamics", 2_000, 10),
    Entry("fictitious_play", "dynamics", 2_000, 10),
    Entry("replicator", "dynamics", 3_000, 10),
    Entry("double_oracle", "dynamics", 50, 10),
    Entry("hedge", "no regret", 3_000, 10),
    Entry("optimistic_hedge", "no regret", 3_000, 10),
    Entry("regret_matching", "no regret", 3_000, 10),
    Entry("regret_matching_plus", "no regret", 3_000, 10),
    Entry("epsilon_greedy", "bandit", 10_000, 10),
    Entry("ucb", "bandit", 10_000, 10),
    Entry("thompson", "bandit", 10_000, 10),
    Entry("exp3", "bandit", 10_000, 10),
    Entry("q_learning", "RL", 10_000, 10, games=RL_GAMES, settings=FIXED),
    Entry("ppo", "RL", 20_480, 5, games=RL_GAMES, betas=(1000.0,)),
    Entry("ppo", "RL", 20_480, 5, games=RL_GAMES[:1], betas=(200.0, 100000.0), settings=FIXED),
    Entry("a2c", "RL", 32_000, 5, games=RL_GAMES[:1], betas=(1000.0,)),
    Entry("dqn", "RL", 32_000, 5, games=RL_GAMES[:1], betas=(1000.0,)),
    Entry("ppo_torch", "RL", 40_960, 10),
)

QUICK = (
    Entry("best_response", "dynamics", 100, 2, 2, games=(("gsm8k", "majority"),), betas=(1000.0,)),
    Entry("hedge", "no regret", 200, 2, 2, games=(("gsm8k", "majority"),), betas=(1000.0,)),
)
"""For tests: seconds."""


@dataclass(frozen=True)
class Cell:
    """One learner on one game at one beta under one setting."""

    entry: Entry
    setting: str
    benchmark: str
    method: str
    beta: float

    @property
    def key(self) -> dict[str, object]:
        return {
            "learner": self.entry.learner,
            "family": self.entry.family,
            "setting": self.setting,
            "benchmark": self.benchmark,
            "method": self.method,
            "beta": self.beta,
        }

    @property
    def file(self) -> str:
        mechanism, prices = SETTINGS[self.setting]
        game = f"{self.benchmark}-{self.method}_{self.beta:g}"
        return f"{self.entry.learner}/{mechanism}-{prices}_{game}.csv"

    @property
    def config(self) -> TrainConfig:
        mechanism, prices = SETTINGS[self.setting]
        return TrainConfig(
            learner=self.entry.learner,
            mechanism=mechanism,
            prices=prices,
            benchmark=self.benchmark,
            method=self.method,
            beta=self.beta,
            seeds=f"0..{self.entry.seeds - 1}",
            steps=self.entry.steps,
            evaluations=self.entry.evaluations,
            spacing="log",
        )


def cells(suite: tuple[Entry, ...] = SUITE) -> Iterator[Cell]:
    """All cells, setting by setting, so that a run that is stopped early has whole settings."""
    for setting in SETTINGS:
        for entry in suite:
            if setting in entry.settings:
                for benchmark, method in entry.games:
                    for beta in (
                        entry.betas if SETTINGS[setting][0] == "market" else (AUCTION_BETA,)
                    ):
                        yield Cell(entry, setting, benchmark, method, beta)
