"""The frontier's market through time: the market of every release date, solved, with bands from
redrawn accuracies.

Every date's market holds all models released by then (`load_market(..., as_of=date)`), so a model
stays when its successor comes: what is shown is how competition grows, not what each maker kept on
sale.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttc_env.game.curves import load_market, release_dates
from ttc_env.game.frontier import last_day
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.resampling import resample
from ttc_env.game.solve import solve
from ttc_env.game.types import Array, Market

MEASURES = (
    "price_of_anarchy",
    "welfare",
    "optimal_welfare",
    "auction_welfare",
    "user_value",
    "auction_user_value",
    "mean_price",
    "overcompute_usd",
    "overcompute_log2",
    "concentration",
    "best_accuracy",
    "winner_accuracy",
)
"""Numbers of a point that have a band."""


@dataclass(frozen=True)
class MarketFacts:
    """One market under posted prices, at its worst pure Nash equilibrium, and as an auction.

    Money in USD per arriving user. Without a pure equilibrium all that is about it is NaN, and
    `no_equilibrium` says why.
    """

    price_of_anarchy: float  # W* / W
    welfare: float  # W
    optimal_welfare: float  # W*, the planner's
    auction_welfare: float  # W_A
    user_value: float  # share-weighted V
    auction_user_value: float
    mean_price: float  # share-weighted p
    overcompute_usd: float  # cost of compute at the equilibrium less that at the optimum
    overcompute_log2: float  # share-weighted log2 of a level's list price over the optimum's
    concentration: float  # Herfindahl index of shares among served users: 1/n to 1
    best_accuracy: float  # the highest of any model and level
    winner_accuracy: float  # of the auction's winner at the level it serves; 0 without a winner
    unique: bool  # the equilibrium is certified to be the only one
    leader: int | None  # provider with the largest share
    leader_share: float
    leader_level: int
    winner: int | None  # who would win the auction; None: nobody
    winner_level: int
    no_equilibrium: str = ""  # why there is no pure equilibrium; '' if there is one


def market_facts(market: Market, mechanism: str | Mechanism = "market") -> MarketFacts:
    """Solve a market of curves. mechanism: posted prices, by the token unless it says otherwise.

    Over-compute is measured in money, since the frontier's curves have no token counts: list price
    and cost are proportional to tokens within a provider who bills by the token.

    Raises:
        ValueError: a market given as arrays.
    """
    curves = [provider.curve for provider in market.providers if provider.curve is not None]
    if len(curves) < market.num_providers:
        raise ValueError("these markets need accuracy curves; load them with ttc_env.load_market")
    solution, auction = solve(market, mechanism), solve(market, "auction")
    rows = np.arange(market.num_providers)
    optimum = solution.split(solution.optimum)[0]
    share = solution.shares
    # Without an equilibrium shares are NaN, and so is what is weighted by them.
    none = bool(solution.no_equilibrium)
    worst = optimum if none else solution.split(solution.worst)[0]
    optimal_share = solution.at(solution.optimum).share
    served = share / share.sum()
    prices = np.log2(market.price[rows, worst] / market.price[rows, optimum])
    leader = 0 if none else int(share.argmax())
    winner = auction.winner
    level = 0 if winner is None else int(auction.levels[winner])
    return MarketFacts(
        price_of_anarchy=solution.price_of_anarchy,
        welfare=solution.welfare,
        optimal_welfare=solution.optimal_welfare,
        auction_welfare=auction.welfare,
        user_value=solution.user_value,
        auction_user_value=auction.user_value,
        mean_price=solution.mean_price,
        overcompute_usd=float(
            (share * market.cost[rows, worst]).sum()
            - (optimal_share * market.cost[rows, optimum]).sum()
        ),
        overcompute_log2=float((served * prices).sum()),
        concentration=float((served**2).sum()),
        best_accuracy=float(max(curve.accuracy.max() for curve in curves)),
        winner_accuracy=0.0 if winner is None else float(curves[winner].accuracy[level]),
        unique=solution.unique,
        leader=None if none else leader,
        leader_share=float(share[leader]),
        leader_level=int(worst[leader]),
        winner=winner,
        winner_level=level,
        no_equilibrium=solution.no_equilibrium,
    )


@dataclass(frozen=True, eq=False)
class HistoryPoint:
    """The market of one date."""

    benchmark: str
    date: datetime.date
    market: Market
    facts: MarketFacts
    # of `MEASURES`, over the redrawn markets; NaN where one of these has no pure equilibrium
    bands: dict[str, tuple[float, float]]
    unique: float  # share of redrawn markets with a unique equilibrium; NaN without any
    winners: dict[str, float]  # how often each provider wins the auction of a redrawn market

    def row(self) -> dict[str, Any]:
        """One flat row, for a table."""
        facts, names = self.facts, self.market.names
        row: dict[str, Any] = {
            "benchmark": self.benchmark,
            "date": self.date.isoformat(),
            "models": self.market.num_providers,
        }
        for name in MEASURES:
            row[name] = getattr(facts, name)
            row[f"{name}_lo"], row[f"{name}_hi"] = self.bands.get(name, (np.nan, np.nan))
        return row | {
            "unique": facts.unique,
            "unique_redrawn": self.unique,
            "leader": "no pure equilibrium" if facts.leader is None else names[facts.leader],
            "leader_effort": ""
            if facts.leader is None
            else self._effort(facts.leader, facts.leader_level),
            "leader_share": facts.leader_share,
            "winner": "" if facts.winner is None else names[facts.winner],
            "winner_effort": ""
            if facts.winner is None
            else self._effort(facts.winner, facts.winner_level),
            "winner_chance": np.nan
            if facts.winner is None
            else self.winners.get(names[facts.winner], 0.0 if self.winners else np.nan),
        }

    def _effort(self, provider: int, level: int) -> str:
        curve = self.market.providers[provider].curve
        assert curve is not None
        return curve.effort[level] if curve.effort else f"{curve.levels[level]:g}"


def history(
    benchmark: str = "arc_agi_2",
    *,
    mechanism: str | Mechanism = "market",
    dates: Iterable[str | datetime.date] | None = None,
    resamples: int = 200,
    seed: int = 0,
    least_models: int = 3,
    band: float = 0.9,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    **options: Any,
) -> list[HistoryPoint]:
    """Solve the frontier's market at many dates.

    Args:
        benchmark: `arc_agi_1` or `arc_agi_2`.
        mechanism: posted prices (`market_facts`).
        dates: when; default every day on which a model was released, from the first with
            `least_models` models on.
        resamples: markets with redrawn accuracies at each date (`ttc_env.resample`), for the bands;
            0 for none.
        seed: of the redrawing; each date draws anew from (seed, its place among all dates of
            release), so that a date's band does not depend on which others were asked for.
        band: chance inside the bands, cut equally at both ends.
        progress: a wrapper for the loop over dates.
        options: of `ttc_env.load_market`: alpha, beta, baseline, margin, ...

    Raises:
        ValueError: as `ttc_env.load_market` and `ttc_env.resample` do, or a band outside (0, 1).
    """
    if not 0.0 < band < 1.0:
        raise ValueError(f"band is {band!r}; it must lie between 0 and 1, such as 0.9")
    released = release_dates()
    if dates is None:
        dates = [day for day in dict.fromkeys(released) if _models(released, day) >= least_models]
    points = []
    for date in progress(list(dates)):
        market = load_market(benchmark, as_of=date, **options)
        day = date if isinstance(date, datetime.date) else _last(released, date)
        rng = np.random.default_rng([seed, _models(released, day)])
        facts = market_facts(market, mechanism)
        redrawn = [market_facts(drawn, mechanism) for drawn in resample(market, resamples, rng)]
        points.append(
            HistoryPoint(
                benchmark,
                day,
                market,
                facts,
                _bands(redrawn, band),
                float(np.mean([f.unique for f in redrawn])) if redrawn else float("nan"),
                _winners(market, redrawn),
            )
        )
    return points


def _models(released: Sequence[datetime.date], day: datetime.date) -> int:
    return sum(other <= day for other in released)


def _last(released: Sequence[datetime.date], as_of: str) -> datetime.date:
    """The last day of release within a date as `load_market` reads it."""
    return max(day for day in released if day <= last_day(as_of))


def _bands(redrawn: list[MarketFacts], band: float) -> dict[str, tuple[float, float]]:
    if not redrawn:
        return {}
    ends = [(1.0 - band) / 2.0, (1.0 + band) / 2.0]
    values: Array = np.array([[getattr(f, name) for name in MEASURES] for f in redrawn])
    low, high = np.quantile(values, ends, axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(MEASURES, low, high, strict=True)}


def _winners(market: Market, redrawn: list[MarketFacts]) -> dict[str, float]:
    names = [market.names[f.winner] for f in redrawn if f.winner is not None]
    return {name: count / len(redrawn) for name, count in Counter(names).most_common()}
