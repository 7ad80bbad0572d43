"""What a training run is: its settings, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents import Arena, agent_class, make_agents, parse_learners, read_value
from agents.policies import CURVES
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.game.curves import packaged_markets
from ttc_env.game.misreports import read_misreport
from ttc_env.settings import described

MOST = 100_000
"""Seeds, parallel markets, evaluations and threads of a run."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run's numbers.

    `scripts/train.py` makes its command line and help from these fields. Options of the market that
    are None or empty have the environment's own defaults.
    """

    learner: str = described(
        "best_response",
        "a learner for all providers, or provider_0=ppo,rest=best_response; options follow a colon:"
        " constant:level=16",
    )
    mechanism: str = described("market", "a mechanism: market, auction, or another registered one")
    prices: str = described(
        "fixed",
        "fixed (list price, truthful bid), grid (level and price), or price choices: 0.8,1,1.25",
    )
    misreport: str = described(
        "", "lies that may be told, and their sizes: over_report=1.25/2,under_serve"
    )
    settlement: str = described("", "auction: the quality that is paid for, delivered or claimed")
    options: str = described(
        "", "further options of the mechanism or environment: key=value,key=value"
    )
    benchmark: str = described("gsm8k", f"{', '.join(packaged_markets())}, or a CSV file")
    method: str = described("", "majority, best_of_n, reasoning; the benchmark's default if empty")
    market: str = described(
        "", "a CSV file of your own curves, instead of --benchmark; needs --alpha"
    )
    providers: str = described("", "names of the providers, separated by commas; all if empty")
    beta: float | None = described(
        None, "rationality of users, 1/USD; 1000, or the benchmark's own where it has one"
    )
    alpha: float | None = described(None, "USD value of a surely right answer")
    baseline: float | None = described(None, "share of alpha that any answer is worth")
    quality_function: str = described("", "linear, power or exponential")
    outside_value: float | None = described(None, "users' value of buying nothing, USD per query")
    margin: float | None = described(None, "cost = list price / (1 + margin), for all providers")
    users: int = described(1000, "users that arrive per round")
    demand: str = described("expected", "expected or sampled")
    information: str = described("full", "what is public: full, prices or own")
    max_cycles: int = described(100, "rounds per episode")
    seeds: str = described("0..4", "seeds, as 0..9 or 0,3,7")
    steps: int = described(
        0,
        "rounds that each provider plays, over all parallel markets together; 0: the learner's own"
        " default. More than a finished run has: it goes on (schedules over the planned steps, such"
        " as exploration, then differ from those of a run that was planned so long)",
    )
    parallel: int = described(
        64,
        "parallel markets per seed, for learners that train one model on many (ppo, a2c, dqn,"
        " ppo_torch, mappo)",
    )
    evaluations: int = described(
        10, "evaluations after the start's; the last one is the final result"
    )
    spacing: str = described("even", "of evaluations: even, or log (closer at the start)")
    threads: int = described(1, "threads for torch; results repeat themselves exactly at 1")

    def seed_list(self) -> list[int]:
        """Raises ValueError if `seeds` cannot be read."""
        try:
            if ".." in self.seeds:
                first, last = (int(x) for x in self.seeds.split(".."))
                seeds = list(range(first, min(last, first + MOST) + 1))
            else:
                seeds = [int(x) for x in self.seeds.split(",")]
        except ValueError:
            seeds = []
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(
                f"seeds is {self.seeds!r}; write 0..9, or 0,3,7: whole numbers >= 0, each once"
            )
        if len(seeds) > MOST:
            raise ValueError(f"seeds is {self.seeds!r}; a run has at most {MOST:,} seeds")
        return seeds

    @property
    def curve_file(self) -> str:
        """Path of the user's own curves, empty for packaged ones."""
        return self.market or (self.benchmark if self.benchmark.endswith(".csv") else "")

    def environment_options(self) -> dict[str, Any]:
        """Keyword arguments of `ttc_env.parallel_env`, in numbers, strings and lists.

        Raises:
            ValueError: prices, lies or options that cannot be read.
        """
        given: dict[str, Any] = {
            "mechanism": self.mechanism,
            "benchmark": self.curve_file or self.benchmark,
            "method": self.method or None,
            "providers": [x.strip() for x in self.providers.split(",") if x.strip()] or None,
            "beta": self.beta,
            "alpha": self.alpha,
            "baseline": self.baseline,
            "quality_function": self.quality_function or None,
            "outside_value": self.outside_value,
            "margin": self.margin,
            "prices": (
                self.prices if self.prices.isalpha() else _numbers("prices", self.prices, "0.8,1")
            ),
            "misreport": read_misreport(self.misreport) or None,
            "settlement": self.settlement or None,
            "users": self.users,
            "demand": self.demand,
            "information": self.information,
            "max_cycles": self.max_cycles,
            "infos": "basic",
        }
        for part in filter(None, self.options.split(",")):
            name, equals, value = part.strip().partition("=")
            if not equals:
                raise ValueError(f"cannot read {part!r} in --options; write key=value,key=value")
            given[name] = read_value(value)
        return {name: value for name, value in given.items() if value is not None}

    def check(self) -> None:
        """Raises ValueError if no run can have such settings."""
        for name in ("parallel", "evaluations", "threads"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} is {getattr(self, name)}; choose from 1 to {MOST:,}")
        if self.market and self.benchmark != TrainConfig.benchmark:
            raise ValueError(
                f"market is {self.market!r} and benchmark {self.benchmark!r}; give one of them"
            )
        if self.spacing not in ("even", "log"):
            raise ValueError(f"spacing is {self.spacing!r}; choose even or log")
        if self.steps < 0:
            raise ValueError(
                f"steps is {self.steps}; it must be positive, or 0 for the learner's default"
            )

    def environment(self, folder: Path | None = None) -> EnvConfig:
        """The environment. folder: of a run, whose copy of the user's curves is read if any.

        Raises:
            ValueError, TypeError: an option that does not exist or is out of range.
            OSError: a curve file that cannot be read.
        """
        self.check()
        options = self.environment_options()
        if folder is not None and self.curve_file and (folder / CURVES).exists():
            options["benchmark"] = str(folder / CURVES)
        return make_config(**options)


def _numbers(name: str, text: str, example: str) -> list[float]:
    try:
        return [float(x) for x in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{name} is {text!r}; write numbers separated by commas, as {example}"
            + (", or fixed or grid" if name == "prices" else "")
        ) from None


@dataclass(frozen=True, eq=False)
class Plan:
    """A config, worked out: who plays, how many rounds, which seeds are batched together."""

    config: TrainConfig
    environment: EnvConfig
    learners: dict[int, tuple[str, dict[str, Any]]]
    rounds: int
    parallel: bool
    batches: tuple[tuple[int, ...], ...]  # seeds trained together

    @classmethod
    def of(cls, config: TrainConfig, folder: Path | None = None) -> Plan:
        """The plan of a config. folder: of the run, which may hold a copy of the curves.

        Raises:
            ValueError, TypeError, ImportError, OSError: something in the config that does not
                exist.
        """
        environment = config.environment(folder)
        learners = parse_learners(config.learner, environment.market.num_providers)
        types = [agent_class(name) for name, _ in learners.values()]
        parallel = any(one.parallel for one in types)
        rounds = max(one.rounds for one in types)
        if config.steps:
            rounds = -(-config.steps // config.parallel) if parallel else config.steps
        seeds = config.seed_list()
        batches = tuple((seed,) for seed in seeds) if parallel else (tuple(seeds),)
        return cls(config, environment, learners, rounds, parallel, batches)

    def arena(self, seeds: tuple[int, ...]) -> Arena:
        copies = self.copies(seeds)
        return Arena(
            self.environment,
            make_agents(self.environment, self.learners, seeds=copies, horizon=self.rounds),
            copies,
        )

    def copies(self, seeds: tuple[int, ...]) -> list[int]:
        """Seeds of the arena: the seeds themselves, or those of one seed's parallel markets."""
        return (
            [
                int(x)
                for x in np.random.SeedSequence([seeds[0], 5]).generate_state(self.config.parallel)
            ]
            if self.parallel
            else list(seeds)
        )

    @property
    def steps_per_round(self) -> int:
        return self.config.parallel if self.parallel else 1

    def evaluation_rounds(self) -> list[int]:
        """Rounds after which play is evaluated: 0 (before any), then as many as the config says."""
        count = self.config.evaluations
        parts = np.arange(1, count + 1) / count
        even = self.rounds * parts
        at = even if self.config.spacing == "even" else self.rounds**parts
        return sorted({0, *(max(1, round(x)) for x in at.tolist())})
