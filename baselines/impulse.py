"""Do Q-learners cooperate on compute, and is a deviation punished? After Calvano et al. (AER 2020).

    python -m baselines.impulse                 # about 6 CPU minutes on one core; needs numba

Two providers with fixed prices choose levels only, so that compute is all that they can cooperate
on. They are Q-learners with memory of both last levels, with Calvano's parameters, trained until
neither's best action has changed in any state for 100,000 rounds (`baselines.q_duopoly`).

**Duopolies.** All pairs of providers of the nine published games at beta 200 and 1000 are solved
(`duopolies.csv`). In most the equilibrium already has the largest joint profit: there is nothing to
collude on. From each benchmark the pair in which a cartel would earn most, relative to the
equilibrium, is trained: in the market, with discount 0 as control (such a learner cannot want to
keep a rival's goodwill), and in the auction with truthful bids.

**Collusion index.** (joint profit - at the equilibrium) / (largest - at the equilibrium): 0 at the
PNE (the auction: where all play the dominant strategy), 1 for a cartel; over one cycle of greedy
play.

**Impulse response.** Play goes on from where training ended. Then provider 0 is forced for one
round to its best reply against the rival's level of that round, and both go back to their
strategies. All is compared with the *counterfactual path*: the same rounds without the deviation.
(The round before the deviation would be no yardstick: greedy play often runs in a cycle.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.base import sample
from baselines import q_duopoly
from baselines.evaluation import Evaluator
from baselines.published import GAMES
from baselines.q_duopoly import Learned, Rule
from baselines.records import rounded, write_csv
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.game.curves import load_market
from ttc_env.game.types import Array

SETTLE, WINDOW, BEFORE = 100, 15, 5
"""Rounds of greedy play before the deviation; rounds shown after it, and before it."""
ROOM = 0.01
"""A cartel must earn this much more than the equilibrium, relative to it: otherwise there is
nothing to collude on.
"""
BETAS = (200.0, 1000.0)
MAP_ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the map: multiples of the benchmark's own alpha."""
MAP_BETAS = (50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
CONDITIONS = (("market", 0.95), ("market", 0.0), ("auction", 0.95))
"""(mechanism, discount) of the experiments."""


def duopoly(
    benchmark: str,
    method: str,
    providers: tuple[str, ...],
    beta: float,
    mechanism: str = "market",
    **options: Any,
) -> EnvConfig:
    """Two providers, list prices (auction: truthful bids)."""
    return make_config(
        mechanism,
        benchmark,
        method,
        providers=list(providers),
        beta=beta,
        prices="fixed",
        infos="basic",
        **options,
    )


class Yardstick:
    """What play in one duopoly is measured against. Arrays by both levels, `[a, a]`, NaN where a
    level does not exist.
    """

    def __init__(self, config: EnvConfig):
        self.config = config
        self.available = ~np.isnan(config.table.quality)  # [2, a]
        there = self.available[0][:, None] & self.available[1]
        self.reward = np.where(there, q_duopoly.rewards(config), np.nan)  # [2, a, a] USD per round
        self.joint = self.reward.sum(axis=0)
        joint = np.stack(np.nonzero(there))
        offer = config.table.take(joint)
        played = config.mechanism.play(offer, config.market)
        served = played.share.sum(axis=0)
        spent = (played.share * offer.cost).sum(axis=0) / np.where(served > 0, served, np.nan)
        self.welfare, self.compute = np.full(there.shape, np.nan), np.full(there.shape, np.nan)
        self.welfare[there] = played.welfare  # USD per arriving user
        self.compute[there] = spent  # USD per served user; cost stands for tokens
        self.equilibria = Evaluator(config).equilibria  # [e, 2]
        at = tuple(self.equilibria.T)
        # Of several equilibria the one that is best for providers: more is collusion in any case.
        self.base, self.most = float(self.joint[at].max()), float(np.nanmax(self.joint))

    @property
    def room(self) -> float:
        """What a cartel would earn beyond the equilibrium, relative to the equilibrium."""
        return (self.most - self.base) / abs(self.base)

    def index(self, joint_profit: Array) -> Array:
        """The collusion index; NaN where there is nothing to collude on."""
        if self.room <= ROOM:
            return np.full_like(joint_profit, np.nan)
        return (joint_profit - self.base) / (self.most - self.base)


def learn(yardstick: Yardstick, sessions: int, rule: Rule) -> Learned:
    """Pairs of Q-learners, one pair a session, trained until they have converged."""
    return q_duopoly.train(np.nan_to_num(yardstick.reward), yardstick.available, sessions, rule)


def respond(learned: Learned, reward: Array) -> pd.DataFrame:
    """Greedy play around a forced deviation of provider 0 in round 0, beside the counterfactual
    path: a row per session and round from -SETTLE to WINDOW, with both levels and profits (USD per
    round), `_0` and `_1`, and the same without the deviation, `_cf`.

    Among equally good actions one is drawn; both paths have the same draws.
    """
    sessions, _, _, a = learned.table.shape
    rows = np.arange(sessions)
    draws = np.stack(
        [
            np.random.default_rng([session, 6]).random((SETTLE + WINDOW + 1, 2))
            for session in range(sessions)
        ],
        axis=2,
    )  # [rounds, 2, S]
    states = {"": learned.state.copy(), "_cf": learned.state.copy()}
    tables = []
    for k, t in enumerate(range(-SETTLE, WINDOW + 1)):
        columns: dict[str, Any] = {"session": rows, "round": t}
        for path, state in states.items():
            values = learned.table[rows, :, state]  # [S, 2, a]
            best = values == values.max(axis=2, keepdims=True)
            actions = sample(np.moveaxis(best, 0, 2).astype(np.float64), draws[k])
            if t == 0 and path == "":
                gains = reward[0, :, actions[1]].T  # [a, S]
                reply = np.nanargmax(gains, axis=0)
                better = gains[reply, rows] > gains[actions[0], rows] * (1 + 1e-12)
                actions[0] = np.where(better, reply, actions[0])
            for i in range(2):
                columns[f"level_{i}{path}"] = actions[i]
                columns[f"profit_{i}{path}"] = reward[i, actions[0], actions[1]]
            states[path] = actions[0] * a + actions[1]
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _mean(values: Any) -> tuple[float, float]:
    """Mean and half-width of its 95% interval (normal) of the values that are numbers."""
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)]
    if not len(x):
        return float("nan"), float("nan")
    width = 1.96 * x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else float("nan")
    return float(x.mean()), float(width)


def _gain(profits: pd.DataFrame) -> pd.Series[float]:
    """The deviator's gain relative to the counterfactual path; NaN where it would earn nothing."""
    return profits.profit_0 / profits.profit_0_cf.where(profits.profit_0_cf > 0) - 1.0


def summarise(yardstick: Yardstick, learned: Learned, table: pd.DataFrame) -> dict[str, float]:
    """One row of numbers about a case; `_ci95` are half-widths over sessions.

    Gains are those of the deviator relative to the counterfactual path, of sessions in which
    provider 0 was not at its best reply already (`deviations`). `answered`: the rival's level one
    round later differs from the counterfactual one; `restored`: after WINDOW rounds both levels are
    the counterfactual ones.
    """
    before = table[table["round"] < 0]
    levels = before.level_0_cf.to_numpy(int), before.level_1_cf.to_numpy(int)
    by_session = before.assign(
        joint=yardstick.joint[levels],
        welfare=yardstick.welfare[levels],
        compute=yardstick.compute[levels],
        equilibrium=(
            np.stack(levels, axis=1)[:, None] == yardstick.equilibria[None]
        ).all(axis=2).any(axis=1),
    ).groupby("session")[["joint", "welfare", "compute", "equilibrium"]].mean()  # fmt: skip
    best = np.unravel_index(np.nanargmax(yardstick.welfare), yardstick.welfare.shape)
    at = {t: table[table["round"] == t].set_index("session") for t in (0, 1, WINDOW)}
    deviates = at[0].level_0 != at[0].level_0_cf
    once = _gain(at[0])[deviates]
    window = table[table["round"] >= 0].groupby("session")[["profit_0", "profit_0_cf"]].sum()
    over_window = _gain(window)[deviates]
    index, index_ci = _mean(yardstick.index(by_session.joint.to_numpy()))
    row: dict[str, float] = {
        "sessions": len(by_session),
        "converged": float(learned.converged.mean()),
        "rounds_median": float(np.median(learned.rounds)),
        "room": yardstick.room,
        "collusion_index": index,
        "collusion_index_ci95": index_ci,
        "at_equilibrium": float((by_session.equilibrium > 0.999).mean()),
        "overcompute_equilibrium": float(
            np.log2(yardstick.compute[tuple(yardstick.equilibria[0])] / yardstick.compute[best])
        ),
        "welfare_ratio": float((by_session.welfare / yardstick.welfare[best]).mean()),
        "deviations": int(deviates.sum()),
    }
    overcompute = np.log2(by_session.compute / yardstick.compute[best])
    for name, values in (
        ("overcompute", overcompute),
        ("gain_at_once", once),
        ("gain_over_window", over_window),
    ):
        row[name], row[f"{name}_ci95"] = _mean(values)
    row["answered"] = _mean((at[1].level_1 != at[1].level_1_cf)[deviates])[0]
    after = table[table["round"] >= 0]
    joint = {
        path: after.assign(code=after[f"level_0{path}"] * 1000 + after[f"level_1{path}"])
        .pivot(index="session", columns="round", values="code")
        .to_numpy()
        for path in ("", "_cf")
    }  # [S, rounds]
    end = joint[""][:, -1]
    moved = deviates.to_numpy()
    row["restored"] = _mean((joint["_cf"] == end[:, None]).any(axis=1)[moved])[0]
    row["in_step"] = _mean((joint["_cf"][:, -1] == end)[moved])[0]
    row["steady"] = int((joint["_cf"] == joint["_cf"][:, :1]).all(axis=1)[moved].sum())
    return row


def all_duopolies(
    games: Iterable[tuple[str, str]] = GAMES, betas: Iterable[float] = BETAS
) -> pd.DataFrame:
    """Every pair of providers of every game at every beta, and what a cartel could earn in it."""
    rows = []
    for benchmark, method in games:
        names = load_market(benchmark, method).names
        for pair in combinations(names, 2):
            for beta in betas:
                yardstick = Yardstick(duopoly(benchmark, method, pair, beta))
                rows.append(
                    {
                        "benchmark": benchmark,
                        "method": method,
                        "providers": " / ".join(pair),
                        "beta": beta,
                        "equilibria": len(yardstick.equilibria),
                        "room": yardstick.room,
                        "something_to_collude_on": yardstick.room > ROOM,
                    }
                )
    return pd.DataFrame(rows)


def chosen(duopolies: pd.DataFrame) -> pd.DataFrame:
    """From each benchmark the duopoly with the most to collude on; among equals the first."""
    return duopolies.loc[duopolies.groupby("benchmark", sort=False).room.idxmax()]


def run(cases: pd.DataFrame, sessions: int, rule: Rule) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summary, one row a case, mechanism and discount; and mean paths by round, of the sessions
    that deviate from a path that is no cycle (a deviation shifts cycles, and their mean is a
    zigzag).
    """
    summaries, paths = [], []
    for case in cases.itertuples():
        for mechanism, discount in CONDITIONS:
            pair = tuple(case.providers.split(" / "))
            yardstick = Yardstick(duopoly(case.benchmark, case.method, pair, case.beta, mechanism))
            learned = learn(yardstick, sessions, replace(rule, discount=discount))
            table = respond(learned, yardstick.reward)
            name = {
                "benchmark": case.benchmark,
                "method": case.method,
                "providers": case.providers,
                "beta": case.beta,
                "mechanism": mechanism,
                "discount": discount,
            }
            summaries.append({**name, **summarise(yardstick, learned, table)})
            shown = table[table["round"] >= -BEFORE]
            start = shown[shown["round"] == 0].set_index("session")
            levels = shown.groupby("session")[["level_0_cf", "level_1_cf"]].nunique().max(axis=1)
            steady = start.index[(start.level_0 != start.level_0_cf) & (levels == 1)]
            if len(steady):
                paths.append(_path(shown[shown.session.isin(steady)]).assign(**name))
    table = pd.concat(paths, ignore_index=True)
    return pd.DataFrame(summaries), table[[*name, *(c for c in table if c not in name)]]


def _path(rounds: pd.DataFrame) -> pd.DataFrame:
    """Means over sessions for every round, of what differs from the counterfactual path: levels of
    deviator and rival, the deviator's gain (of a round's profit), and that gain added up since the
    deviation. `_ci95` are half-widths over the `n` sessions.
    """
    gain = _gain(rounds).where(rounds["round"] >= 0, 0.0)
    rounds = rounds.assign(
        deviator=rounds.level_0 - rounds.level_0_cf,
        rival=rounds.level_1 - rounds.level_1_cf,
        gain=gain,
        gain_so_far=gain.groupby(rounds.session).cumsum(),
    )
    rows = []
    for at, here in rounds.groupby("round"):
        row: dict[str, float] = {"round": at, "n": len(here)}
        for name in ("deviator", "rival", "gain", "gain_so_far"):
            row[name], row[f"{name}_ci95"] = _mean(here[name])
        rows.append(row)
    return pd.DataFrame(rows)


def collusion_map(
    case: Any,
    sessions: int,
    rule: Rule,
    alphas: Iterable[float] = MAP_ALPHAS,
    betas: Iterable[float] = MAP_BETAS,
) -> pd.DataFrame:
    """The market's collusion index in one duopoly for other values of a right answer and other
    rationalities of users. (In the auction users do not choose, so that beta plays no part.)
    """
    own = load_market(case.benchmark, case.method).alpha
    rows = []
    for factor in alphas:
        for beta in betas:
            yardstick = Yardstick(
                duopoly(
                    case.benchmark,
                    case.method,
                    tuple(case.providers.split(" / ")),
                    beta,
                    alpha=factor * own,
                )
            )
            row = {"alpha": factor * own, "alpha_factor": factor, "beta": beta}
            row.update(room=yardstick.room, sessions=0)
            if yardstick.room > ROOM:
                learned = learn(yardstick, sessions, rule)
                row.update(summarise(yardstick, learned, respond(learned, yardstick.reward)))
            rows.append(row)
    return pd.DataFrame(rows).assign(
        benchmark=case.benchmark, method=case.method, providers=case.providers
    )


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.impulse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sessions", type=int, default=50, help="of each case (default 50)")
    parser.add_argument(
        "--map-sessions",
        type=int,
        default=20,
        help="of the map (default 20); 0: no map, the old one stays",
    )
    parser.add_argument("--decay", type=float, default=Rule.decay, help="of exploration")
    parser.add_argument("--cap", type=int, default=Rule.cap, help="rounds at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.sessions < 1 or options.map_sessions < 0:
        parser.error("--sessions must be at least 1, and --map-sessions at least 0")
    rule = Rule(decay=options.decay, cap=options.cap)
    duopolies = all_duopolies()
    cases = chosen(duopolies)
    try:
        summary, paths = run(cases, options.sessions, rule)
        tables = {"duopolies": duopolies, "impulse": summary, "impulse_paths": paths}
        if options.map_sessions:
            first = next(cases.itertuples())
            tables["collusion_map"] = collusion_map(first, options.map_sessions, rule)
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, table in tables.items():
        write_csv(options.out / f"{name}.csv", rounded(table))
    print(summary.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
