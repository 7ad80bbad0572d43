"""The nine published games, solved, played, and compared with print.

Nine games are three benchmarks times three methods; a *cell* is a game at one of the three studied
betas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

import ttc_env
from ttc_env.game.curves import BENCHMARKS, METHODS, STUDIED_BETAS, published_results
from ttc_env.game.dynamics import Path, nearest_improving_dynamics
from ttc_env.game.mechanisms import get_mechanism
from ttc_env.game.regret import assess
from ttc_env.game.resampling import interval
from ttc_env.game.solve import AuctionGain, auction_gain, solve
from ttc_env.game.types import Array, Market

GAMES = tuple((benchmark, method) for benchmark in BENCHMARKS for method in METHODS)
PRINT_RESOLUTION = 5e-6
"""USD/query: half a unit of the last printed digit."""

UNDERFLOW = {
    ("aime", "reasoning", "100000", "average_value"),
    ("aime", "reasoning", "100000", "average_price"),
}
"""Printed entries that come from float underflow in the published dynamics: two providers with
share 0 never move (data/SOURCES.md, published_results.csv).
"""

DIGITISED = {
    ("gpqa", "reasoning", "1000", "optimal_sw"),
    ("gpqa", "reasoning", "100000", "average_weighted_value"),
}
"""Printed entries that the digitised curves miss by a rounding: computed values lie 2e-7 and 4e-7
USD past the edge at which they would round to print.
"""

DIGITISATION_ERROR = 5e-7
"""USD/query: what one standard deviation of the digitised GPQA reasoning accuracies (2.8e-5) is
worth at alpha (1 - b) = 0.018 USD. The most that an entry of `DIGITISED` may lie past the edge.
"""


@dataclass(frozen=True, eq=False)
class Cell:
    """One game at one beta: solved exactly, and played through the environment."""

    benchmark: str
    method: str
    gain: AuctionGain
    rest: np.ndarray  # [n] levels at which best-response providers came to rest in the environment
    rounds: int  # rounds played until nobody moved
    auction_reward: Array  # [n] USD per user that truthful bidders earned in the environment
    auction_users: float  # USD per user that users got there

    @property
    def market(self) -> Market:
        return self.gain.market.market

    @property
    def beta(self) -> float:
        return self.market.beta

    @cached_property
    def agrees(self) -> bool:
        """Whether play ended at the solver's equilibrium, and the auction as it says."""
        auction = self.gain.auction
        return (
            bool((self.gain.market.equilibria == self.rest).all(axis=1).any())
            and bool(
                np.allclose(self.auction_reward, auction.provider_profit, rtol=1e-12, atol=1e-18)
            )
            and bool(np.isclose(self.auction_users, auction.user_value, rtol=1e-12))
        )

    def quantities(self) -> dict[str, float]:
        """The paper's quantities at the equilibrium, under the names of published_results.csv.

        USD/query.
        """
        s = self.gain.market
        return {
            "average_weighted_value": s.user_value,
            "average_value": float(s.outcome.offer.score.mean()),
            "optimal_sw": s.optimal_welfare,
            "equilibrium_sw": s.welfare,
            "average_weighted_price": s.mean_price,
            "average_price": float(s.outcome.offer.price.mean()),
            "average_weighted_utility": float(s.provider_profit.sum()),
            "average_utility": float(s.outcome.profit.mean()),
        }

    def auction_quantities(self) -> dict[str, float | str]:
        """The paper's auction quantities. USD/query."""
        a = self.gain.auction
        assert a.winner is not None
        assert a.runner_up is not None
        names = self.market.names
        return {
            "winner": names[a.winner],
            "winner_W": float(a.scores[a.winner]),
            "runner_up": names[a.runner_up],
            "runner_up_W": float(a.scores[a.runner_up]),
            "realized_user_value": a.user_value,
            "realized_price": a.payment,
            "realized_utility": float(a.provider_profit[a.winner]),
            "total_sw": a.welfare,
        }


def play_best_responses(market: Market, max_rounds: int = 10_000) -> tuple[np.ndarray, int]:
    """Play the environment with best-response providers, from everybody's lowest level until nobody
    moves.

    One provider reconsiders each round, in turn: the order in which the potential must rise
    (GAME.md, theorem 1).

    Returns:
        levels `[n]` at rest, and rounds played.
    """
    env = ttc_env.parallel_env(
        "market", market=market, prices="fixed", max_cycles=max_rounds, infos="basic"
    )
    env.reset(seed=0)
    config = env.unwrapped.config
    levels = np.zeros(market.num_providers, dtype=np.intp)
    content = 0  # providers in a row that had nothing to gain
    for rounds in range(1, max_rounds + 1):
        env.step(dict(zip(env.agents, levels.tolist(), strict=True)))
        mover = rounds % len(levels)
        reply = assess(levels, config.mechanism, market)
        if reply.relative[mover] > 1e-12:
            levels[mover] = reply.best_action[mover]
            content = 0
        else:
            content += 1
        if content == len(levels):
            return levels, rounds
    raise RuntimeError(f"best-response providers still moved after {max_rounds} rounds")


def play_truthful_auction(market: Market) -> tuple[Array, float]:
    """One round of the auction environment with everybody's dominant strategy: USD per user earned
    `[n]`, and kept by users.
    """
    env = ttc_env.parallel_env("auction", market=market)
    solution = env.unwrapped.solve()
    level, price, _ = solution.mechanism.split(solution.actions, market)
    env.reset(seed=0)
    actions = {agent: np.array([level[i], price[i]]) for i, agent in enumerate(env.agents)}
    _, rewards, _, _, infos = env.step(actions)
    return (
        np.array(list(rewards.values())) / env.unwrapped.config.users,
        infos["provider_0"]["user_value"],
    )


def solve_cell(benchmark: str, method: str, beta: float) -> Cell:
    """Solve one cell, and play it through the environment under both mechanisms."""
    market = ttc_env.load_market(benchmark, method, beta=beta)
    rest, rounds = play_best_responses(market)
    reward, users = play_truthful_auction(market)
    return Cell(benchmark, method, auction_gain(market), rest, rounds, reward, users)


def solve_cells(progress: Callable[[Iterable[Any]], Iterable[Any]] = iter) -> list[Cell]:
    """All 27 cells."""
    return [
        solve_cell(*game, beta)
        for game, beta in progress([(game, beta) for game in GAMES for beta in STUDIED_BETAS])
    ]


def comparison(cells: list[Cell]) -> pd.DataFrame:
    """Every quantity beside print: `benchmark, method, beta, quantity, computed, printed,
    relative_error, note`.
    """
    printed = (
        published_results()
        .set_index(["benchmark", "method", "beta", "quantity"])["value"]
        .to_dict()
    )
    rows = []
    for cell in cells:
        rows += [
            (cell.benchmark, cell.method, f"{cell.beta:g}" if cell.beta < 1e5 else "100000", k, v)
            for k, v in cell.quantities().items()
        ]
    for cell in cells:
        if cell.beta == STUDIED_BETAS[0]:  # The auction does not depend on beta.
            rows += [
                (cell.benchmark, cell.method, "auction", k, v)
                for k, v in cell.auction_quantities().items()
            ]
    table = []
    for *key, computed in rows:
        text = printed.get(tuple(key), "")
        note, error = "", float("nan")
        if text != "" and isinstance(computed, str):
            error = 0.0 if computed == text else float("inf")
        elif text != "":
            error = (computed - float(text)) / float(text) if float(text) else float("nan")
            past_edge = abs(computed - float(text)) - PRINT_RESOLUTION
            if tuple(key) in UNDERFLOW:
                note = "print differs: float underflow in the published dynamics"
            elif f"{computed:.5f}" == text:
                note = ""
            elif tuple(key) in DIGITISED and past_edge <= DIGITISATION_ERROR:
                note = (
                    f"{past_edge:.1e} USD past the rounding edge: within the error of the"
                    " digitised curves"
                )
            else:
                note = "differs from print"
        table.append((*key, computed, text, error, note))
    return pd.DataFrame(
        table,
        columns=[
            "benchmark",
            "method",
            "beta",
            "quantity",
            "computed",
            "printed",
            "relative_error",
            "note",
        ],
    )


def summary(cells: list[Cell]) -> pd.DataFrame:
    """One row per cell: both mechanisms, the optimum, and who gains. USD per arriving user."""
    rows = []
    for cell in cells:
        s, a, g = cell.gain.market, cell.gain.auction, cell.gain
        rows.append(
            {
                "benchmark": cell.benchmark,
                "method": cell.method,
                "beta": cell.beta,
                "equilibrium_welfare": s.welfare,
                "optimal_welfare": s.optimal_welfare,
                "first_best": ttc_env.first_best(cell.market),
                "price_of_anarchy": s.price_of_anarchy,
                "auction_welfare": a.welfare,
                "market_user_value": s.user_value,
                "market_log_sum": s.log_sum,
                "auction_user_value": a.user_value,
                "market_mean_price": s.mean_price,
                "auction_price": a.payment,
                "winner": cell.market.names[a.winner] if a.winner is not None else "",
                "unique_equilibrium": s.unique,
                "equilibrium_levels": " ".join(
                    f"{p.levels[k]:g}" for p, k in zip(cell.market.providers, s.worst, strict=True)
                ),
                "optimal_levels": " ".join(
                    f"{p.levels[k]:g}"
                    for p, k in zip(cell.market.providers, s.optimum, strict=True)
                ),
                "overcompute": overcompute(cell.market, s.worst, s.optimum, s.shares),
                "gain_total": g.total,
                "gain_compute": g.compute,
                "gain_choice": g.choice,
                "gain_users": g.users,
                "gain_winner": g.winner,
                "gain_others": g.others,
                "free_price_welfare": s.free_prices.welfare,
                "rounds_to_rest": cell.rounds,
                "play_agrees": cell.agrees,
            }
        )
    return pd.DataFrame(rows)


def overcompute(market: Market, profile: np.ndarray, optimum: np.ndarray, share: Array) -> float:
    """Share-weighted log2 of chosen over socially optimal tokens (GAME.md, "Distance to
    equilibrium"); of list prices where curves have a price per query and no tokens.
    """
    rows = np.arange(market.num_providers)
    # Within a provider, list prices by the token are proportional to tokens.
    ratio = np.log2(market.price[rows, profile] / market.price[rows, optimum])
    return float((share * ratio).sum() / share.sum())


def beta_sweep(
    betas: Array,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    *,
    resamples: int = 30,
    seed: int = 0,
) -> pd.DataFrame:
    """Inefficiency of every game at every beta: `benchmark, method, beta, equilibrium_welfare,
    optimal_welfare, inefficiency_percent, equilibria`, and `inefficiency_low` and `_high`, the ends
    of a 90% band over redrawn accuracies (`ttc_env.game.resampling.interval`).
    """
    rows = []
    for benchmark, method in progress(list(GAMES)):
        market = ttc_env.load_market(benchmark, method)
        drawn = list(ttc_env.resample(market, resamples, seed))
        redrawn = ttc_env.sweep(drawn, betas).inefficiency if drawn else np.empty((0, len(betas)))
        for k, beta in enumerate(betas):
            s = solve(market.replace(beta=float(beta)))
            inefficiency = 100 * (s.price_of_anarchy - 1)
            low, high = interval(inefficiency, redrawn[:, k], within=(0.0, np.inf))
            rows.append(
                {
                    "benchmark": benchmark,
                    "method": method,
                    "beta": beta,
                    "equilibrium_welfare": s.welfare,
                    "optimal_welfare": s.optimal_welfare,
                    "inefficiency_percent": inefficiency,
                    "inefficiency_low": low,
                    "inefficiency_high": high,
                    "equilibria": len(s.equilibria),
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The paper's dynamics in one market, move by move, from everybody's lowest level."""

    market: Market
    path: Path
    share: Array  # [t, n]
    welfare: Array  # [t] USD per arriving user
    tokens: Array  # [t] mean tokens billed per served query


def trajectory(market: Market, seed: int = 0) -> Trajectory:
    """Nearest-improving moves in random order ([TTC]), with what users and society got on the way.

    Raises:
        ValueError: curves without token counts.
    """
    mechanism = get_mechanism("market")
    path = nearest_improving_dynamics(
        mechanism.rule.game(mechanism, market), rng=np.random.default_rng(seed), record="moves"
    )
    table = mechanism.offers(market)
    outcomes = [mechanism.play(table.take(profile), market) for profile in path.profiles]
    share = np.array([o.share for o in outcomes])
    billed = [provider.curve.known_tokens() for provider in market.providers]  # type: ignore[union-attr]
    tokens = np.array(
        [[row[k] for row, k in zip(billed, profile, strict=True)] for profile in path.profiles]
    )
    return Trajectory(
        market,
        path,
        share,
        np.array([float(o.welfare) for o in outcomes]),
        (share * tokens).sum(axis=1) / share.sum(axis=1),
    )
