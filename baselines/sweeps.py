"""Sweeps of learners: games x learners x seeds, each run a cell of its own (`ttc_env.cells`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttc_env.cli.sweep import Game, SweepConfig, cell_name
from ttc_env.settings import described, listed


@dataclass(frozen=True)
class Training:
    """One learner on one game with one seed."""

    game: Game
    learner: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        game = self.game.name.rsplit("_", 1)[0]
        return cell_name(self, game, self.learner, f"seed{self.seed}")

    def run(self) -> list[dict[str, Any]]:
        """The last evaluation, as in a run's final.csv."""
        from baselines.plan import Plan
        from baselines.training import Run

        run = Run(Plan.of(self.config))
        run.train()
        (row,) = run.final().to_dict("records")
        return [{**self.game.key, "learner": self.learner, **row}]

    @property
    def config(self) -> Any:
        """`TrainConfig` of the run, whose seed plays alone: its numbers are its own."""
        from baselines.plan import TrainConfig

        given = self.game.environment
        return TrainConfig(
            learner=self.learner,
            mechanism=given["mechanism"],
            prices=given["prices"],
            benchmark=given["benchmark"],
            method=given["method"] or "",
            providers=",".join(given["providers"] or ()),
            beta=given["beta"],
            alpha=given["alpha"],
            seeds=str(self.seed),
            steps=self.steps,
            evaluations=1,
        )


@dataclass(frozen=True)
class LearnerSweepConfig(SweepConfig):
    """Which games are played by which learners."""

    learners: list[str] = listed("as for scripts.train", "best_response")
    seeds: list[int] = listed("one run each", 0, 1, 2)
    steps: int = described(0, "rounds a provider; 0: the learner's own default")
    out: str = described("results/learners", "folder for cells/ and the table")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learners", "seeds"):
            values = list(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}; give at least one entry, each once")

    def cells(self) -> list[Training]:
        """All runs, in the order of the lists.

        Raises:
            ValueError, TypeError, ImportError, OSError: a game or a learner that does not exist.
        """
        from baselines.plan import Plan

        found = [
            Training(game, learner, seed, self.steps)
            for game in self.games()
            for learner in self.learners
            for seed in self.seeds
        ]
        for cell in {(c.game.mechanism, c.game.prices, c.learner): c for c in found}.values():
            plan = Plan.of(cell.config)
            plan.arena(plan.batches[0])  # options of learners are checked by making them
        return found
