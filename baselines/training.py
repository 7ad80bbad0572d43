"""One training run: any learners on any market, evaluated on the way, resumable.

Learners that need no network play all seeds at once. A learner that is one model over many parallel
markets (PPO, A2C, DQN) is trained one seed after another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents import Arena, checkpoint
from agents.policies import CURVES, FOLDER, load_policies, of_seed, read_policies
from baselines.evaluation import Evaluator, mean_row
from baselines.interrupts import Interrupted, Interrupts, polite
from baselines.lock import locked
from baselines.plan import Plan, TrainConfig
from baselines.records import manifest, write_atomically, write_json, write_rows
from ttc_env.game.types import Array

if TYPE_CHECKING:
    import pandas as pd


def evaluate(arena: Arena, evaluator: Evaluator, parallel: bool) -> list[dict[str, float]]:
    """One row of metrics per seed: of what everybody has learned, without exploration.

    Play that depends on what it sees is scored where it leads: from the current observations of
    every parallel market, the mean over markets.
    """
    return score(arena.strategies(), evaluator, parallel)


def evaluate_policies(
    run: Path, seed: int, evaluator: Evaluator | None = None
) -> tuple[int, dict[str, float]]:
    """The same for one seed of a saved run, from its policy file: its step, and a row of metrics.

    Raises:
        ValueError: no such policy.
    """
    policies = load_policies(run, seed=seed)
    content = read_policies(run, seed)
    seen = content.get("observations")  # [n, markets, d] where somebody looks
    markets = np.arange(int(content["markets"]))
    strategies = np.stack(
        [
            policy.strategy(
                seen[i] if policy.content["form"] == "network" else None, market=markets
            ).T
            for i, policy in enumerate(policies.values())
        ]
    )
    evaluator = evaluator or Evaluator(policies.config)
    return policies.step, score(strategies, evaluator, len(markets) > 1)[0]


def score(strategies: Array, evaluator: Evaluator, parallel: bool) -> list[dict[str, float]]:
    """A row of metrics for each seed of `[n, a, seeds]`; or, where the last axis is the parallel
    markets of one seed, their mean. Equal strategies are scored once.
    """
    rows: dict[bytes, dict[str, float]] = {}
    scored = []
    for k in range(strategies.shape[2]):
        one = np.ascontiguousarray(strategies[:, :, k])
        key = one.tobytes()
        if key not in rows:
            rows[key] = evaluator.score(one)
        scored.append(rows[key])
    return [mean_row(scored)] if parallel else scored


NOT_KEPT = "dqn"
"""The learner whose memory (the replay buffer, some 100 MB) no checkpoint holds: it fills again."""


@dataclass(eq=False)
class Run:
    """A run and its folder (`out` None: nothing is written).

    | file | holds |
    | --- | --- |
    | manifest.json | config, versions, commit, state |
    | metrics.csv, final.csv | a row an evaluation and seed; a row a seed |
    | policies/seed_0.npz, ... | what each seed learned (`agents.load_policy`) |
    | checkpoints/seed_0.npz, ... | what is needed to go on; one file for seeds trained together |
    | tensorboard/ | logs of learners that need torch; of all if `logged` |
    | curves.csv | a copy of the user's own curves |
    """

    plan: Plan
    out: Path | None = None
    on_evaluation: Callable[[dict[str, Any]], None] | None = None
    keep_every: float = 30.0  # seconds between checkpoints
    logged: bool = False  # TensorBoard logs of learners that do not need torch, too

    def __post_init__(self) -> None:
        self.evaluator = Evaluator(self.plan.environment)
        self.rows: dict[int, list[dict[str, Any]]] = {}  # by group of seeds
        self.wall = 0.0  # seconds, interrupted parts included
        self.notes: list[str] = []  # what a reader of the numbers must know
        self._arena: Arena | None = None
        self._done: dict[int, int] = {}  # rounds that a group of seeds has been trained for
        self._pending: list[tuple[dict[str, Any], dict[str, float]]] = []

    def train(self) -> None:
        """Train to the end, from the last checkpoint if there is one.

        Raises:
            Interrupted: after saving (SIGINT, SIGTERM or SIGHUP).
            NotFinite: a NaN in a reward or a gradient.
            ValueError: the folder holds a run with another config.
            Locked: another process trains into the folder.
            OSError: the folder cannot be written to.
        """
        with contextlib.nullcontext() if self.out is None else locked(self.out):
            self._train()

    def _train(self) -> None:
        self._set_threads()
        self._resume()
        self._keep_curves()
        self._describe("running")
        self._started = time.perf_counter() - self.wall
        with polite() as interrupts:
            for group, seeds in enumerate(self.plan.batches):
                if self._done.get(group, 0) >= self.plan.rounds:
                    continue
                self._arena = self._opened(group)
                self._train_group(group, seeds, interrupts)
                if interrupts.asked:
                    break
            with interrupts.save():
                self._describe("interrupted" if interrupts.asked else "finished")
                if not interrupts.asked and self.out is not None:
                    write_rows(self.out / "final.csv", self._final())
            if interrupts.asked:
                raise Interrupted(interrupts.number)

    def _train_group(self, group: int, seeds: tuple[int, ...], interrupts: Interrupts) -> None:
        arena = self._arena
        assert arena is not None
        due = self.plan.evaluation_rounds()
        saved = time.perf_counter()
        if arena.round == 0:
            self._evaluate(group, arena, seeds)
        while arena.round < self.plan.rounds and not interrupts.asked:
            arena.step()
            if arena.round in due:
                self._evaluate(group, arena, seeds)
            if self.out is not None and time.perf_counter() - saved > self.keep_every:
                with interrupts.save():
                    self._save(group, seeds)
                saved = time.perf_counter()
        self._done[group] = arena.round
        with interrupts.save():
            self._save(group, seeds)

    def _evaluate(self, group: int, arena: Arena, seeds: tuple[int, ...]) -> None:
        step = arena.round * self.plan.steps_per_round
        for seed, scores in zip(seeds, self._score(arena), strict=True):
            row = {"seed": seed, "step": step, **scores}
            self.rows.setdefault(group, []).append(row)
            self._pending.append((row, self._diagnostics(arena)))
            if self.on_evaluation is not None:
                self.on_evaluation(row)
        if self.out is not None:
            write_rows(self.out / "metrics.csv", self._metrics())

    def _score(self, arena: Arena) -> list[dict[str, float]]:
        """A row of metrics for each seed of an arena."""
        return evaluate(arena, self.evaluator, self.plan.parallel)

    def metrics(self) -> pd.DataFrame:
        """One row an evaluation and seed."""
        import pandas as pd

        return pd.DataFrame(self._metrics())

    def final(self) -> pd.DataFrame:
        """One row a seed: the last evaluation."""
        import pandas as pd

        return pd.DataFrame(self._final())

    def _metrics(self) -> list[dict[str, Any]]:
        return [row for group in sorted(self.rows) for row in self.rows[group]]

    def _final(self) -> list[dict[str, Any]]:
        last = {row["seed"]: row for row in self._metrics()}
        return [last[seed] for seed in sorted(last)]

    # --- the folder ---

    def _checkpoint(self, group: int) -> Path | None:
        """Where the state of a group of seeds is kept."""
        if self.out is None:
            return None
        return self.out / "checkpoints" / f"seed_{self.plan.batches[group][0]}.npz"

    def _save(self, group: int, seeds: tuple[int, ...]) -> None:
        """The policies, the checkpoint, and the logs of what it holds, in this order: a run that is
        killed in between repeats a few rounds and logs no step twice.
        """
        self.wall = time.perf_counter() - self._started
        path, arena = self._checkpoint(group), self._arena
        if path is None or arena is None or self.out is None:
            return
        for k, seed in enumerate(seeds):
            content = self._policies(arena, k, seed)
            checkpoint.save(self.out / FOLDER / f"seed_{seed}.npz", content, compress=True)
        content = {
            "config": dataclasses.asdict(self.plan.config),
            "rounds": self.plan.rounds,
            "wall": self.wall,
            "rows": self.rows.get(group, []),
            "notes": self.notes,
            "arena": arena.state_dict(),
        }
        checkpoint.save(path, content)
        if self.plan.parallel or self.logged:
            _log(self.out / "tensorboard", self._pending)
        self._pending = []

    def _policies(self, arena: Arena, k: int, seed: int) -> dict[str, Any]:
        """The content of a seed's policy file."""
        providers: list[Any] = [None] * self.plan.environment.market.num_providers
        for agent in arena.agents:
            for i, one in zip(agent.role.index, agent.policies(), strict=True):
                content = one if self.plan.parallel else of_seed(one, k)
                providers[i] = {"learner": self.plan.learners[i][0], **content}
        content = {
            "seed": seed,
            "step": arena.round * self.plan.steps_per_round,
            "markets": self.plan.config.parallel if self.plan.parallel else 1,
            "environment": self.plan.config.environment_options(),
            "grid": list(self.plan.environment.grid),
            "providers": providers,
        }
        seen = arena.observations
        return content if seen is None else {**content, "observations": np.array(seen)}

    def _resume(self) -> None:
        """Read what there is of this run.

        Raises:
            ValueError: another run's files, or a damaged one.
        """
        if self.out is None:
            return
        if (self.out / "checkpoint.npz").exists():
            raise ValueError(
                f"{self.out} holds a run of an older version of this program; choose another --out,"
                " or delete the folder"
            )
        longest = 0
        for group in range(len(self.plan.batches)):
            path = self._checkpoint(group)
            if path is None or not path.exists():
                continue
            content = checkpoint.load(path)
            self._check_config(content)
            self.rows[group] = content["rows"]
            self.wall = max(self.wall, float(content["wall"]))
            self._done[group] = int(content["arena"]["round"])
            longest = max(longest, int(content["rounds"]))
            self.notes += [note for note in content["notes"] if note not in self.notes]
        strangers = {path.stem for path in (self.out / "checkpoints").glob("seed_*.npz")} - {
            f"seed_{seeds[0]}" for seeds in self.plan.batches
        }
        if strangers:
            raise ValueError(
                f"{self.out} holds a run with other seeds ({', '.join(sorted(strangers))}); choose"
                " another --out, or delete the folder"
            )
        if 0 < longest < self.plan.rounds:
            step = longest * self.plan.steps_per_round
            self.notes.append(f"planned for {step} steps, then extended")
            (self.out / "final.csv").unlink(missing_ok=True)
        unfinished = any(0 < done < self.plan.rounds for done in self._done.values())
        if unfinished and any(name == NOT_KEPT for name, _ in self.plan.learners.values()):
            self.notes.append(
                f"{NOT_KEPT} resumed with an empty replay buffer: its numbers differ from those of"
                " a run without a break"
            )

    def _check_config(self, content: dict[str, Any]) -> None:
        """Raises ValueError if a checkpoint is of another config, but for more steps."""
        before = {**dataclasses.asdict(TrainConfig()), **content["config"]}
        now = dataclasses.asdict(self.plan.config)
        grows = self.plan.rounds > int(content["rounds"])
        changed = [
            f"{name}: {before.get(name)!r} there, {now[name]!r} now"
            for name in now
            if before.get(name) != now[name]
            and name not in (("steps", "evaluations", "spacing") if grows else ("steps",))
        ]
        if changed:
            raise ValueError(
                f"{self.out} holds a run with another config ({'; '.join(changed)}); choose another"
                " --out, or delete the folder"
            )
        if self.plan.rounds < int(content["rounds"]):
            raise ValueError(
                f"{self.out} holds a run of"
                f" {int(content['rounds']) * self.plan.steps_per_round} steps; --steps can only"
                " grow, or choose another --out"
            )

    def _opened(self, group: int) -> Arena:
        """The arena of a group of seeds, as its checkpoint left it."""
        arena = self.plan.arena(self.plan.batches[group])
        path = self._checkpoint(group)
        if group in self._done and path is not None:
            arena.load_state_dict(checkpoint.load(path)["arena"])
        return arena

    def _keep_curves(self) -> None:
        """Raises ValueError if the folder has other curves than the config names."""
        file = self.plan.config.curve_file
        if self.out is None or not file:
            return
        content, kept = Path(file).read_bytes(), self.out / CURVES
        if kept.exists() and kept.read_bytes() != content:
            raise ValueError(
                f"{file} has changed since the run in {self.out} began; choose another --out"
            )
        write_atomically(kept, lambda temporary: temporary.write_bytes(content))

    def _describe(self, state: str) -> None:
        if self.out is None:
            return
        facts = manifest(
            config=dataclasses.asdict(self.plan.config),
            seeds=self.plan.config.seed_list(),
            rounds=self.plan.rounds,
            steps=self.plan.rounds * self.plan.steps_per_round,
            state=state,
            notes=self.notes,
            wall_seconds=round(self.wall, 3),
            providers=list(self.plan.environment.market.names),
        )
        write_json(self.out / "manifest.json", facts)

    def _set_threads(self) -> None:
        if self.plan.parallel:
            import torch

            torch.set_num_threads(self.plan.config.threads)

    @staticmethod
    def _diagnostics(arena: Arena) -> dict[str, float]:
        """Numbers worth logging, by tag. Several agents of one learner have tags of their own."""
        names = [agent.name for agent in arena.agents]
        tags: dict[str, float] = {}
        for agent in arena.agents:
            several = names.count(agent.name) > 1
            whose = f"{agent.name}_{'_'.join(map(str, agent.role.index))}"
            for name, value in agent.diagnostics().items():
                tags[f"{whose if several else agent.name}/{name}"] = float(value)
        return tags


def _log(folder: Path, pending: list[tuple[dict[str, Any], dict[str, float]]]) -> None:
    """Write evaluations to TensorBoard's event files, one folder a seed, where it is installed."""
    if not pending:
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    for seed in dict.fromkeys(row["seed"] for row, _ in pending):
        with SummaryWriter(str(folder / f"seed_{seed}")) as writer:
            for row, diagnostics in pending:
                if row["seed"] != seed:
                    continue
                for name, value in row.items():
                    if name not in ("seed", "step"):
                        writer.add_scalar(f"play/{name}", value, row["step"])
                for tag, value in diagnostics.items():
                    writer.add_scalar(tag, value, row["step"])
