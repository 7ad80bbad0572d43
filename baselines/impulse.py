"""Do Q-learners cooperate on compute? The impulse response to a forced deviation, after Calvano et
al. (AER 2020), section IV.

Two providers with fixed prices choose levels only. After training, play their greedy strategies
until they repeat; then provider 0 is forced for one round to its best reply against the other's
level, and both go back to their strategies. Cooperation kept up by punishment shows as a rival that
answers the deviation, and then a return to the level before. Levels, not prices, are all that can
be cooperated on here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from agents import Arena, make_agents
from agents.base import Feedback
from agents.q_learning import QLearning
from baselines.evaluation import Evaluator
from baselines.records import write_csv
from ttc_env.envs.config import EnvConfig, make_config

SETTLE, WINDOW = 100, 15
"""Rounds of greedy play before the deviation, and rounds shown after it."""


def duopoly(benchmark: str, method: str, providers: tuple[str, str], beta: float) -> EnvConfig:
    """Two providers, fixed prices."""
    return make_config(
        "market",
        benchmark,
        method,
        providers=list(providers),
        beta=beta,
        prices="fixed",
        infos="basic",
    )


def train(config: EnvConfig, sessions: int, rounds: int) -> Arena:
    """Two Q-learners with memory of both last actions, under `sessions` seeds."""
    seeds = range(sessions)
    arena = Arena(config, make_agents(config, "q_learning", seeds=seeds, horizon=rounds), seeds)
    for _ in range(rounds):
        arena.step()
    return arena


def respond(arena: Arena) -> pd.DataFrame:
    """Greedy play around a forced deviation of provider 0 at round 0: one row per session and
    round, with both levels and profits (USD per arriving user).
    """
    agent = arena.agents[0]
    assert isinstance(agent, QLearning)
    config = arena.config
    sessions = np.arange(len(arena.seeds))
    agent.at = agent.at.copy()
    rows = []
    for t in range(-SETTLE, WINDOW + 1):
        actions = agent.strategy().argmax(axis=1)  # [2, sessions]
        if t == 0:
            arena.play(actions)
            actions = np.stack([arena.payoffs().rank()[0].argmax(axis=0), actions[1]])
        rewards, shares, *_ = arena.play(actions)
        agent.follow(
            Feedback(action=actions, reward=rewards, over=False, actions=actions, shares=shares)
        )
        if t >= -5:
            rows += [
                {
                    "session": s,
                    "round": t,
                    "level_0": actions[0, s],
                    "level_1": actions[1, s],
                    "profit_0": rewards[0, s] / config.users,
                    "profit_1": rewards[1, s] / config.users,
                }
                for s in sessions
            ]
    return pd.DataFrame(rows)


def summarise(config: EnvConfig, table: pd.DataFrame) -> dict[str, float]:
    """Collusion index before the deviation, and in how many sessions the deviation paid at once,
    was answered, and was followed by a return.
    """
    evaluator = Evaluator(config)
    before = table[table["round"] == -1].set_index("session")
    at, after, end = (table[table["round"] == t].set_index("session") for t in (0, 1, WINDOW))
    index = [
        evaluator.score_actions(np.array([row.level_0, row.level_1]))["collusion"]
        for row in before.itertuples()
    ]
    deviates = at.level_0 != before.level_0
    return {
        "sessions": len(before),
        "collusion_index": float(np.mean(index)),
        "collusion_index_se": (
            float(np.std(index, ddof=1) / np.sqrt(len(index))) if len(index) > 1 else float("nan")
        ),
        "at_equilibrium": float(
            np.mean(
                [
                    (evaluator.equilibria == [row.level_0, row.level_1]).all(axis=1).any()
                    for row in before.itertuples()
                ]
            )
        ),
        "deviation_exists": float(deviates.mean()),
        "answered": (
            float((after.level_1 != before.level_1)[deviates].mean())
            if deviates.any()
            else float("nan")
        ),
        "deviator_gain_at_once": (
            float((at.profit_0 / before.profit_0 - 1.0)[deviates].mean())
            if deviates.any()
            else float("nan")
        ),
        "deviator_gain_over_window": _window_gain(table, before, deviates),
        "restored": (
            float(
                ((end.level_0 == before.level_0) & (end.level_1 == before.level_1))[deviates].mean()
            )
            if deviates.any()
            else float("nan")
        ),
    }


def _window_gain(table: pd.DataFrame, before: pd.DataFrame, deviates: pd.Series[bool]) -> float:
    """Provider 0's mean profit over rounds 0..WINDOW relative to before: below 0, the deviation did
    not pay.
    """
    if not deviates.any():
        return float("nan")
    mean = table[table["round"] >= 0].groupby("session").profit_0.mean()
    return float((mean / before.profit_0 - 1.0)[deviates].mean())


CASES: tuple[tuple[str, str, tuple[str, str], float], ...] = (
    ("gsm8k", "best_of_n", ("Qwen2-7B", "Qwen2.5-7B"), 1000.0),
    ("gpqa", "majority", ("Llama-3.1-8B", "Qwen2.5-7B"), 1000.0),
    ("aime", "majority", ("Llama-3-8B", "Llama-3.2-1B"), 1000.0),
)
"""Duopolies in which a cartel would earn nearly twice the equilibrium's profit, the most of their
benchmarks. In 328 of the 450 published pairs at beta 200 and 1000 the equilibrium already is the
joint maximum: there is nothing to cooperate on.
"""


def run(
    sessions: int = 50,
    rounds: int = 100_000,
    cases: tuple[tuple[str, str, tuple[str, str], float], ...] = CASES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summary, one row a case; and mean levels and profits by round."""
    summaries, paths = [], []
    for benchmark, method, providers, beta in cases:
        config = duopoly(benchmark, method, providers, beta)
        table = respond(train(config, sessions, rounds))
        name = {
            "benchmark": benchmark,
            "method": method,
            "providers": " / ".join(providers),
            "beta": beta,
        }
        summaries.append({**name, "rounds": rounds, **summarise(config, table)})
        mean = table.groupby("round", as_index=False).mean().drop(columns="session")
        paths.append(pd.concat([pd.DataFrame([name] * len(mean)), mean], axis=1))
    return pd.DataFrame(summaries), pd.concat(paths, ignore_index=True)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.impulse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(None if arguments is None else list(arguments))
    summary, paths = run(options.sessions, options.rounds)
    write_csv(options.out / "impulse.csv", summary)
    write_csv(options.out / "impulse_paths.csv", paths)
    print(summary.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
