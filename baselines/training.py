"""One training run: any learners on any market, evaluated on the way, resumable.

Learners that need no network play all seeds at once. A learner that is one model over many parallel
markets (PPO, A2C, DQN) is trained one seed after another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents import Arena, agent_class, make_agents, parse_learners
from agents.base import Agent
from baselines import checkpoint
from baselines.evaluation import Evaluator, mean_row
from baselines.records import manifest, write_csv, write_json
from ttc_env.envs.config import EnvConfig, make_config


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run's numbers.

    `scripts/train.py` makes its command line and help from these fields.
    """

    learner: str = _option(
        "best_response",
        "a learner for all providers, or provider_0=ppo,rest=best_response; options follow a colon:"
        " constant:level=16",
    )
    mechanism: str = _option("market", "market or auction")
    prices: str = _option("fixed", "fixed (list price, truthful bid) or grid (level and price)")
    benchmark: str = _option("gsm8k", "gsm8k, aime or gpqa")
    method: str = _option("majority", "majority, best_of_n or reasoning")
    beta: float = _option(1000.0, "rationality of users, 1/USD")
    seeds: str = _option("0..4", "seeds, as 0..9 or 0,3,7")
    steps: int = _option(
        0,
        "rounds that each provider plays, over all parallel markets together; 0: the learner's own"
        " default",
    )
    parallel: int = _option(
        64,
        "parallel markets per seed, for learners that train one model on many (ppo, a2c, dqn,"
        " ppo_torch)",
    )
    demand: str = _option("expected", "expected or sampled")
    information: str = _option("full", "what is public: full, prices or own")
    max_cycles: int = _option(100, "rounds per episode")
    evaluations: int = _option(
        10, "evaluations per run, evenly spaced; the last one is the final result"
    )
    threads: int = _option(1, "threads for torch; results repeat themselves exactly at 1")

    def seed_list(self) -> list[int]:
        """Raises ValueError if `seeds` cannot be read."""
        try:
            if ".." in self.seeds:
                first, last = (int(x) for x in self.seeds.split(".."))
                seeds = list(range(first, last + 1))
            else:
                seeds = [int(x) for x in self.seeds.split(",")]
        except ValueError:
            seeds = []
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(
                f"seeds is {self.seeds!r}; write 0..9, or 0,3,7: whole numbers >= 0, each once"
            )
        return seeds

    def environment(self) -> EnvConfig:
        return make_config(
            self.mechanism,
            self.benchmark,
            self.method,
            beta=self.beta,
            prices=self.prices,
            demand=self.demand,
            information=self.information,
            max_cycles=self.max_cycles,
            infos="basic",
        )


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
    def of(cls, config: TrainConfig) -> Plan:
        """Raises ValueError, TypeError or ImportError for anything in the config that does not
        exist.
        """
        for name in ("parallel", "evaluations", "threads"):
            if getattr(config, name) < 1:
                raise ValueError(f"{name} is {getattr(config, name)}; it must be at least 1")
        if config.steps < 0:
            raise ValueError(
                f"steps is {config.steps}; it must be positive, or 0 for the learner's default"
            )
        environment = config.environment()
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
        return sorted(
            {
                max(1, round(self.rounds * k / self.config.evaluations))
                for k in range(1, self.config.evaluations + 1)
            }
        )


def evaluate(arena: Arena, evaluator: Evaluator, parallel: bool) -> list[dict[str, float]]:
    """One row of metrics per seed: of what everybody has learned, without exploration.

    Play that depends on what it sees is scored where it leads: from the current observations of
    every parallel market, the mean over markets.
    """
    strategies = arena.strategies()
    rows: dict[bytes, dict[str, float]] = {}
    scored = []
    for k in range(strategies.shape[2]):
        one = np.ascontiguousarray(strategies[:, :, k])
        key = one.tobytes()
        if key not in rows:
            rows[key] = evaluator.score(one)
        scored.append(rows[key])
    return [mean_row(scored)] if parallel else scored


@dataclass(eq=False)
class Run:
    """A run and its folder (`out` None: nothing is written)."""

    plan: Plan
    out: Path | None = None
    on_evaluation: Callable[[dict[str, Any]], None] | None = None
    keep_every: float = 30.0  # seconds between checkpoints
    rows: list[dict[str, Any]] = field(default_factory=list)
    wall: float = 0.0  # seconds, interrupted parts included

    def __post_init__(self) -> None:
        self.evaluator = Evaluator(self.plan.environment)
        self.arena: Arena | None = None
        self._batch = 0

    @property
    def _path(self) -> Path | None:
        return None if self.out is None else self.out / "checkpoint.npz"

    def train(self) -> pd.DataFrame:
        """Train to the end, from the last checkpoint if there is one. Returns the metrics.

        Raises:
            KeyboardInterrupt: after saving.
            NotFinite: a NaN in a reward or a gradient.
            ValueError: the folder holds a run with another config.
        """
        self._set_threads()
        resumed = self._resume()
        self._describe("running")
        started = time.perf_counter() - self.wall
        with _polite_interrupts() as interrupted:
            for batch in range(self._batch, len(self.plan.batches)):
                self._batch, seeds = batch, self.plan.batches[batch]
                if not resumed:
                    self.arena = self.plan.arena(seeds)
                resumed = False
                self._train_batch(seeds, started, interrupted)
                if interrupted.is_set():
                    break
        self.wall = time.perf_counter() - started
        self._save()
        if interrupted.is_set():
            self._describe("interrupted")
            raise KeyboardInterrupt
        table = self.metrics()
        if self.out is not None:
            write_csv(self.out / "final.csv", self.final())
        self._describe("finished")
        return table

    def _train_batch(
        self, seeds: tuple[int, ...], started: float, interrupted: threading.Event
    ) -> None:
        arena = self.arena
        assert arena is not None
        due = self.plan.evaluation_rounds()
        saved = time.perf_counter()
        board = _Board.open(self.out if self.plan.parallel else None, seeds)
        while arena.round < self.plan.rounds and not interrupted.is_set():
            arena.step()
            if arena.round in due:
                self._evaluate(arena, seeds, board)
                self.wall = time.perf_counter() - started
            if self._path is not None and time.perf_counter() - saved > self.keep_every:
                self.wall = time.perf_counter() - started
                self._save()
                saved = time.perf_counter()
        board.close()

    def _evaluate(self, arena: Arena, seeds: tuple[int, ...], board: _Board) -> None:
        step = arena.round * self.plan.steps_per_round
        for seed, scores in zip(
            seeds, evaluate(arena, self.evaluator, self.plan.parallel), strict=True
        ):
            row = {"seed": seed, "step": step, **scores}
            self.rows.append(row)
            board.write(row, arena.agents)
            if self.on_evaluation is not None:
                self.on_evaluation(row)
        if self.out is not None:
            write_csv(self.out / "metrics.csv", self.metrics())

    def metrics(self) -> pd.DataFrame:
        """One row an evaluation and seed."""
        return pd.DataFrame(self.rows)

    def final(self) -> pd.DataFrame:
        """One row a seed: the last evaluation."""
        table = self.metrics()
        return table.sort_values(["seed", "step"]).groupby("seed", as_index=False).last()

    def _save(self) -> None:
        if self._path is None or self.arena is None:
            return
        content = {
            "config": dataclasses.asdict(self.plan.config),
            "batch": self._batch,
            "wall": self.wall,
            "rows": self.rows,
            "arena": self.arena.state_dict(),
        }
        checkpoint.save(self._path, content)

    def _resume(self) -> bool:
        if self._path is None or not self._path.exists():
            return False
        content = checkpoint.load(self._path)
        now = dataclasses.asdict(self.plan.config)
        changed = [
            f"{name}: {content['config'].get(name)!r} there, {now[name]!r} now"
            for name in now
            if content["config"].get(name) != now[name]
        ]
        if changed:
            raise ValueError(
                f"{self.out} holds a run with another config ({'; '.join(changed)}); choose another"
                " --out, or delete the folder"
            )
        self._batch, self.wall, self.rows = (
            int(content["batch"]),
            float(content["wall"]),
            content["rows"],
        )
        self.arena = self.plan.arena(self.plan.batches[self._batch])
        self.arena.load_state_dict(content["arena"])
        return True

    def _describe(self, state: str) -> None:
        if self.out is None:
            return
        facts = manifest(
            config=dataclasses.asdict(self.plan.config),
            seeds=self.plan.config.seed_list(),
            rounds=self.plan.rounds,
            steps=self.plan.rounds * self.plan.steps_per_round,
            state=state,
            wall_seconds=round(self.wall, 3),
            providers=list(self.plan.environment.market.names),
        )
        write_json(self.out / "manifest.json", facts)

    def _set_threads(self) -> None:
        if self.plan.parallel:
            import torch

            torch.set_num_threads(self.plan.config.threads)


class _Board:
    """TensorBoard's event files, one folder a seed, for learners that need torch; otherwise
    nothing.
    """

    def __init__(self, writers: dict[int, Any]):
        self._writers = writers

    @classmethod
    def open(cls, out: Path | None, seeds: tuple[int, ...]) -> _Board:
        if out is None:
            return cls({})
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return cls({})
        return cls(
            {seed: SummaryWriter(str(out / "tensorboard" / f"seed_{seed}")) for seed in seeds}
        )

    def write(self, row: dict[str, Any], agents: list[Agent]) -> None:
        writer = self._writers.get(row["seed"])
        if writer is None:
            return
        for name, value in row.items():
            if name not in ("seed", "step"):
                writer.add_scalar(f"play/{name}", value, row["step"])
        for agent in agents:
            for name, value in agent.diagnostics().items():
                writer.add_scalar(f"{agent.name}/{name}", value, row["step"])

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


@contextlib.contextmanager
def _polite_interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that a round is finished before anything is saved; a second Ctrl-C
    stops at once.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
