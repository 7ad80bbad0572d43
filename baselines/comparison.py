"""Learners under every pricing rule, and the nine published games compared: what
`scripts/compare_mechanisms.py` runs.

Work is cut into parts, each a CSV file: the exact rows of a rule, or one learner's rows under it. A
part that is there is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ttc_env
from agents import Arena, make_agents
from agents.base import sample
from baselines.evaluation import DRAWS, PURE
from baselines.published import GAMES
from baselines.records import write_csv, write_json
from ttc_env.envs.config import make_config
from ttc_env.game.comparison import BANDED, READINGS, Entry, blank_row, entries, exact_rows, money
from ttc_env.game.curves import STUDIED_BETAS
from ttc_env.game.regret import assess
from ttc_env.game.resampling import resample
from ttc_env.game.types import Array, Market
from ttc_env.game.yardstick import account


@dataclass(frozen=True)
class Learner:
    """A learner, for how long it plays, and how often."""

    name: str
    rounds: int
    seeds: int
    parallel: int = 1  # markets at once that one model learns from

    @property
    def steps(self) -> int:
        """Rounds that every provider plays, over all parallel markets."""
        return self.rounds * self.parallel


DIGITS = 7
"""Of kept numbers."""
LEARNERS = (
    Learner("best_response", rounds=300, seeds=5),
    Learner("regret_matching", rounds=500, seeds=5),
    Learner("ppo_torch", rounds=80, seeds=5, parallel=16),
)
"""Budgets are the same for all rules and games. PPO: 1,280 steps, five updates, a minute of CPU for
one game under all rules.
"""


@dataclass(frozen=True)
class Part:
    """One piece of work: a rule on a market, solved or learned."""

    game: str  # of the file's name
    market: Market
    entry: Entry
    learner: Learner | None = None

    @property
    def file(self) -> str:
        options = "".join(f"-{name}" for name, _ in self.entry.options)
        who = "exact" if self.learner is None else self.learner.name
        return f"{self.game}/{self.entry.name}{options}-{self.entry.prices}_{who}.csv"

    def run(self, drawn: Sequence[Market]) -> pd.DataFrame:
        """The rows. drawn: markets with redrawn accuracies, for exact rows' bands."""
        if self.learner is None:
            return pd.DataFrame(exact_rows(self.entry, self.market, drawn))
        return pd.DataFrame(learner_rows(self.entry, self.market, self.learner))


def parts(
    game: str, market: Market, learners: Sequence[Learner], names: Sequence[str] | None = None
) -> list[Part]:
    """All parts of one market: exact ones first, then learner by learner."""
    compared, _ = entries(market, names)
    found = [Part(game, market, entry) for entry in compared]
    return found + [Part(game, market, entry, one) for one in learners for entry in compared]


def run(
    work: Iterable[Part],
    folder: Path,
    *,
    resamples: int,
    seed: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> None:
    """Do what is not done yet; every part is a file in `folder`, written whole."""
    drawn: dict[str, list[Market]] = {}
    for part in progress(list(work)):
        path = folder / part.file
        if path.exists():
            continue
        if part.learner is None and part.game not in drawn:
            drawn = {part.game: list(resample(part.market, resamples, seed)) if resamples else []}
        started = time.process_time()
        table = part.run(drawn.get(part.game, []))
        write_csv(path, table.assign(cpu_seconds=round(time.process_time() - started, 3)))


def check_same(folder: Path, config: dict[str, Any]) -> None:
    """Note what the parts in a folder are of.

    Raises:
        ValueError: the folder holds parts of something else.
    """
    path = folder / "config.json"
    if path.exists():
        there = json.loads(path.read_text())
        changed = [
            f"{name}: {there.get(name)!r} there, {value!r} now"
            for name, value in config.items()
            if there.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"{folder} holds parts of another comparison ({'; '.join(changed)}); choose another"
                " folder, or delete it"
            )
    else:
        write_json(path, config)


def gather(work: Iterable[Part], folder: Path) -> tuple[pd.DataFrame, list[Part]]:
    """The rows of all parts that are there, rule by rule, and the parts that are not. A learner's
    rows take the rule's audit from the exact ones.
    """
    tables, missing = [], []
    for part in work:
        path = folder / part.file
        if path.exists():
            table = pd.read_csv(path, dtype={"options": str, "band": str})
            tables.append(table.fillna({"options": "", "band": ""}))
        else:
            missing.append(part)
    if not tables:
        raise ValueError(f"{folder} holds no part of this comparison; run it first")
    table = pd.concat(tables, ignore_index=True)
    rule = pd.MultiIndex.from_frame(table[["mechanism", "options", "prices"]])
    exact = table.dropna(subset="audit_gain").drop_duplicates(list(rule.names))
    for name in ("audit_gain", "equilibria"):
        known = exact.set_index(list(rule.names))[name].reindex(rule)
        table[name] = table[name].fillna(pd.Series(known.to_numpy()))
    table["place"] = rule.factorize()[0]
    table = table.sort_values(["place", "reading"], ascending=[True, False], kind="stable")
    return table.drop(columns="place").reset_index(drop=True), missing


def learn(entry: Entry, market: Market, learner: Learner) -> list[Array]:
    """What a learner ends up playing under a rule: `[n, a, copies]` for each independent run."""
    config = make_config(mechanism=entry.mechanism, market=market, infos="basic")
    runs = (
        [[s] for s in range(learner.seeds)]
        if learner.parallel > 1
        else [list(range(learner.seeds))]
    )
    found = []
    for seeds in runs:
        copies = (
            [int(x) for x in np.random.SeedSequence([*seeds, 5]).generate_state(learner.parallel)]
            if learner.parallel > 1
            else seeds
        )
        agents = make_agents(config, learner.name, seeds=copies, horizon=learner.rounds)
        arena = Arena(config, agents, copies)
        for _ in range(learner.rounds):
            arena.step()
        strategies = arena.strategies()
        if learner.parallel > 1:
            found.append(strategies)
        else:
            found += [strategies[:, :, k : k + 1] for k in range(len(seeds))]
    return found


def learner_rows(entry: Entry, market: Market, learner: Learner) -> list[dict[str, Any]]:
    """Rows of what was learned: means over seeds, `_low` and `_high` the least and the most."""
    mechanism = entry.mechanism
    accounts: dict[str, list[dict[str, float]]] = {reading: [] for reading in READINGS}
    regrets = []
    for strategies in learn(entry, market, learner):
        profiles = played(strategies)
        for reading, tastes in READINGS.items():
            found = account(mechanism, market, profiles, tastes=tastes)
            if found is not None:
                accounts[reading].append(money(found))
        kinds = np.unique(strategies, axis=2)
        counts = [
            (strategies == kinds[:, :, k : k + 1]).all((0, 1)).sum() for k in range(kinds.shape[2])
        ]
        each = [nash_conv(kinds[:, :, k], entry, market) for k in range(kinds.shape[2])]
        regrets.append(float(np.average(each, weights=counts)))
    rows = []
    for reading, seeds in accounts.items():
        if not seeds:
            continue
        row = blank_row(entry, reading, learner.name)
        for name in seeds[0]:
            values = np.array([one[name] for one in seeds])
            row[name] = float(values.mean())
            if name in BANDED:
                row[f"{name}_low"], row[f"{name}_high"] = float(values.min()), float(values.max())
        row["nash_conv"] = 1e3 * float(np.mean(regrets))
        row["certificate"] = (
            f"learned in {learner.steps} steps; NashConv says how far from an equilibrium"
        )
        row["band"] = f"least and most of {len(seeds)} seeds"
        rows.append(row)
    return rows


def played(strategies: Array) -> Array:
    """`[n, draws]` profiles of strategies `[n, a, copies]`: pure ones as they are, mixed ones drawn
    with a fixed seed.
    """
    if (strategies.max(axis=1) >= PURE).all():
        return strategies.argmax(axis=1)
    n, _, copies = strategies.shape
    many = np.repeat(strategies, -(-DRAWS // copies), axis=2)
    return sample(many, np.random.default_rng(0).random((n, many.shape[2])))


def nash_conv(strategy: Array, entry: Entry, market: Market) -> float:
    """Exact sum of regrets of a strategy `[n, a]`, USD per arriving user; NaN for a rule whose
    mixed play is too large to enumerate.
    """
    pure = bool((strategy.max(axis=1) >= PURE).all())
    try:
        profile = strategy.argmax(axis=1) if pure else strategy
        return float(assess(profile, entry.mechanism, market).nash_conv)
    except ValueError:
        return float("nan")


# --- the nine published games ---------------------------------------------------------------------

LEARNED_BETA = 200.0
"""Learners play the nine games at this beta, at which most is lost; solvers at all three."""


def published_parts(learners: Sequence[Learner] = LEARNERS) -> Iterator[Part]:
    """All parts of the nine games: exact ones first."""
    markets = {
        (f"{benchmark}-{method}-{beta:g}"): ttc_env.load_market(benchmark, method, beta=beta)
        for benchmark, method in GAMES
        for beta in STUDIED_BETAS
    }
    found = {game: entries(market)[0] for game, market in markets.items()}
    for game, market in markets.items():
        yield from (Part(game, market, entry) for entry in found[game])
    for learner in learners:
        for game, market in markets.items():
            if market.beta == LEARNED_BETA:
                yield from (Part(game, market, entry, learner) for entry in found[game])


# --- users under the auction ----------------------------------------------------------------------

ENTRANTS = (1, 3, 9)
"""How many further providers are drawn like the published ones (`ttc_env.random_markets`)."""


def users_under_the_auction(
    draws: int = 100, seed: int = 0, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> pd.DataFrame:
    """One row a cell of the nine games: what users keep under the market at list prices (worst
    equilibrium) and under the auction, why, and what would change it. USD per 1000 users; `loses_*`
    are shares of draws in which users lose under the auction with so many entrants.
    """
    rows = []
    for benchmark, method in progress(list(GAMES)):
        drawn = ttc_env.random_markets(
            draws, benchmark, method, num_providers=max(ENTRANTS), seed=seed
        )
        entrants = [drawn.market(j).providers for j in range(draws)]
        for beta in STUDIED_BETAS:
            market = ttc_env.load_market(benchmark, method, beta=beta)
            listed = ttc_env.solve(market)
            auction = ttc_env.solve(market, "auction")
            users = listed.user_value
            reserved = ttc_env.solve(market, ttc_env.make_mechanism("auction", reserve=users))
            taste = ttc_env.solve(market, "taste_auction")
            free = listed.free_prices
            w = np.sort(np.nanmax(market.quality - market.cost, axis=1))[::-1]
            row: dict[str, Any] = {
                "benchmark": benchmark,
                "method": method,
                "beta": beta,
                "users_market": 1e3 * users,
                "users_auction": 1e3 * auction.user_value,
                "change": 1e3 * (auction.user_value - users),
                "providers_market": 1e3 * float(listed.provider_profit.sum()),
                "winner_auction": 1e3 * float(auction.provider_profit.sum()),
                "best_surplus": 1e3 * w[0],
                "second_surplus": 1e3 * w[1],
                "users_with_reserve": 1e3 * reserved.user_value,
                "welfare_with_reserve": 1e3 * reserved.welfare,
                "users_free_prices": 1e3 * free.user_value,
                "users_market_with_tastes": 1e3 * listed.log_sum,
                "users_free_prices_with_tastes": 1e3 * free.log_sum,
                "users_taste_auction": 1e3 * taste.user_value,
            }
            for count in ENTRANTS:
                row[f"loses_{count}_entrants"] = _loses(market, entrants, count)
            rows.append(row)
    return pd.DataFrame(rows)


def _loses(market: Market, entrants: list[Any], count: int) -> float:
    """In which share of draws users keep less under the auction than in the market."""
    lost = 0
    for others in entrants:
        larger = dataclasses.replace(market, providers=(*market.providers, *others[:count]))
        gain = ttc_env.auction_gain(larger)
        lost += gain.users < 0
    return lost / len(entrants)
