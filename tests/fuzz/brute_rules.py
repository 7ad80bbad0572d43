"""Every profile of a small game of any packaged rule, straight from the definitions of GAME.md.

A second method: nothing here is shared with the package. Amounts are made in doubles, as the game
has them, since scores tie where they are equal as doubles; shares and sums are in long double.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

LONG = np.longdouble


class Actions(NamedTuple):
    """What one provider can do: arrays `[a]` of its actions that exist."""

    flat: np.ndarray  # index of the action: (level x prices + price) x reports + report
    quality: np.ndarray
    seen: np.ndarray
    price: np.ndarray
    paid: np.ndarray
    cost: np.ndarray
    penalty: np.ndarray
    report: np.ndarray  # 0 is the truth


@dataclass(frozen=True)
class Description:
    """A game in words: what `ttc_env.Market.from_arrays` and `make_mechanism` are also told."""

    rule: str  # "market", "auction", "first_score" or "taste_auction"
    quality: np.ndarray  # [n, m], NaN where a level does not exist
    price: np.ndarray
    cost: np.ndarray
    beta: float
    outside: float
    choices: tuple[float, ...]
    alpha: float = 1.0
    baseline: float = 0.25
    settlement: str = "delivered"
    reserve: float | None = None
    lies: dict[str, Any] = field(default_factory=dict)  # {"over_claim": (0.5, 2.0), ...}
    audit_rate: float = 1.0
    fine: float = 0.0
    noticed: bool = False
    types: Sequence[dict[str, float]] = ()
    rounding: float = 0.0  # USD/query, by which equal amounts may differ

    @property
    def auction(self) -> bool:
        return self.rule != "market"

    def reports(self) -> list[tuple[str, float]]:
        """The truth, then every lie."""
        found = [("truth", 1.0)]
        for kind in ("over_report", "under_serve", "over_claim"):
            sizes = self.lies.get(kind, ())
            if isinstance(sizes, str):  # "every"
                sizes = range(1, int((~np.isnan(self.quality)).sum(axis=1).max()))
            found += [(kind, size) for size in sizes]
        return found

    def actions(self, i: int) -> Actions:
        """Those of provider i."""
        reports, rows = self.reports(), []
        q, p, c = (table[i][~np.isnan(self.quality[i])] for table in self.tables())
        for level in range(len(q)):
            for k, choice in enumerate(self.choices):
                for r, (kind, size) in enumerate(reports):
                    announced = level + (int(size) if kind == "under_serve" else 0)
                    if announced >= len(q):
                        continue
                    fine = self.audit_rate * self.fine if kind != "truth" else 0.0
                    seen = q[announced] * (size if kind == "over_claim" else 1.0)
                    if self.auction:
                        price = paid = c[level] * (1.0 + choice) + fine
                    else:
                        price = p[announced] * choice
                        paid = p[announced] * (size if kind == "over_report" else 1.0) * choice
                        price = paid if self.noticed else price
                    flat = (level * len(self.choices) + k) * len(reports) + r
                    rows.append((flat, q[level], seen, price, paid, c[level], fine, r))
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        return Actions(*columns)

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.quality, self.price, self.cost


class Every(NamedTuple):
    """All profiles: arrays over the grid `[a_1, ..., a_n]` of actions that exist."""

    share: np.ndarray  # [n, *grid]
    utility: np.ndarray  # [n, *grid] USD per arriving user
    welfare: np.ndarray  # [*grid]
    amount: float  # the largest amount of money in the game


def every_profile(game: Description, of: list[Actions]) -> Every:
    """What happens in every profile."""
    n = len(of)
    grid = tuple(len(one.flat) for one in of)

    def column(name: str, dtype: Any = float) -> np.ndarray:
        """`[n, *grid]`"""
        rows = []
        for i, one in enumerate(of):
            shape = [1] * n
            shape[i] = grid[i]
            rows.append(np.broadcast_to(getattr(one, name).astype(dtype).reshape(shape), grid))
        return np.stack(rows)

    quality, seen, price, paid, cost, penalty = map(column, Actions._fields[1:7])
    amount = max(float(np.abs(x).max()) for x in (quality, seen, price, paid, cost, penalty))
    amount = max(amount, abs(game.outside))
    score = seen - price
    settled = quality if game.settlement == "delivered" else seen
    if game.rule in ("auction", "first_score"):
        h = game.outside if game.reserve is None else max(game.outside, game.reserve)
        best = score.max(axis=0)
        wins = (score == best) & (best >= h)
        share = wins / np.maximum(wins.sum(axis=0), 1)
        if game.rule == "first_score":
            payment = price if game.settlement == "claimed" else price - (seen - quality)
        else:
            rival = np.stack(
                [np.delete(score, i, axis=0).max(axis=0, initial=-np.inf) for i in range(n)]
            )
            payment = settled - np.maximum(rival, h)
        utility = share * (payment - cost - penalty).astype(LONG)
        served = wins.any(axis=0)
        welfare = (share * (quality - cost)).sum(axis=0) + np.where(served, 0.0, game.outside)
        return Every(share, utility, welfare, amount)
    if game.rule == "taste_auction":
        beta = LONG(game.beta)
        total, others = log_totals(beta * (score.astype(LONG) - LONG(game.outside)))
        log_share = beta * (score.astype(LONG) - LONG(game.outside)) - total
        share = np.exp(log_share)
        worth = (settled - cost - penalty).astype(LONG)
        utility = (worth - score) * share + (total - others) / beta
        surplus = (share * (quality - cost - score)).sum(axis=0)
        welfare = LONG(game.outside) + total / beta + surplus
        return Every(share, utility, welfare, amount)
    share, welfare = 0.0, 0.0
    for kind in game.types or ({"weight": 1.0},):
        beta = LONG(kind.get("beta", game.beta))
        z = beta * ((worth_to(game, kind, seen) - price).astype(LONG) - LONG(game.outside))
        total, _ = log_totals(z)
        mine, nobody = np.exp(z - total), np.exp(-total)
        surplus = (mine * (worth_to(game, kind, quality) - cost)).sum(axis=0)
        share = share + kind["weight"] * mine
        welfare = welfare + kind["weight"] * (surplus + nobody * game.outside)
    return Every(share, share * (paid - cost - penalty), welfare, amount)


def worth_to(game: Description, kind: dict[str, float], quality: np.ndarray) -> np.ndarray:
    """q as a type has it: alpha_k (b_k + (1 - b_k) f), where q = alpha (b + (1 - b) f)."""
    if "alpha" not in kind and "baseline" not in kind:
        return quality
    f = (quality / game.alpha - game.baseline) / (1.0 - game.baseline)
    b = kind.get("baseline", game.baseline)
    return kind.get("alpha", game.alpha) * (b + (1.0 - b) * f)


def log_totals(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log(1 + sum_j exp z_j), and for each i without it. z: `[n, *grid]` long double."""
    zero = np.zeros_like(z[0])

    def log_sum(rows: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(np.concatenate([zero[None], rows]), axis=0)

    return log_sum(z), np.stack([log_sum(np.delete(z, i, axis=0)) for i in range(len(z))])


def worst_gaps(every: Every, absolute: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is left to gain in every profile, relative to the best reply; and, in auctions, relative
    to the amounts that payments are differences of. `[*grid]`, the most of any provider.
    """
    worst = np.zeros(every.welfare.shape, LONG)
    by_amount = np.zeros(every.welfare.shape, LONG)
    for i, utility in enumerate(every.utility):
        best = utility.max(axis=i, keepdims=True)
        gap = best - utility
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(gap == 0, 0.0, gap / np.abs(best))
        worst = np.maximum(worst, relative)
        by_amount = np.maximum(by_amount, gap / every.amount)
    return worst, (by_amount if absolute else np.full_like(worst, np.inf))


def relative_regrets(every: Every) -> np.ndarray:
    """`[n, *grid]` 1 - U / U_best where something can be earned; else 1 where something is lost."""
    found = []
    for i, utility in enumerate(every.utility):
        best = utility.max(axis=i, keepdims=True)
        loses = utility < best - 1e-9 * np.abs(best)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.where(best > 0, 1.0 - utility / best, np.where(loses, 1.0, 0.0)))
    return np.stack(found)


def playable(game: Description, one: Actions) -> tuple[np.ndarray, np.ndarray]:
    """`[a]` which actions of posted prices are surely neither dominated nor a copy of an earlier
    one, and which surely are not: amounts that differ by `rounding` alone may count as equal.
    """
    kinds = game.types or ({"weight": 1.0},)
    values = [worth_to(game, kind, one.seen) - one.price for kind in kinds]
    looked_at = [v for v, kind in zip(values, kinds, strict=True) if kind.get("beta", game.beta)]
    profit, surplus = one.paid - one.cost - one.penalty, one.quality - one.cost
    eps, found = game.rounding, []
    for a in range(len(profit)):
        kept, gone = True, False
        for b in range(len(profit)):
            if a == b:
                continue
            copy = profit[a] == profit[b] and surplus[a] == surplus[b]
            if copy and all(v[a] == v[b] for v in values):
                kept, gone = kept and a < b, gone or b < a
                continue
            leads = np.array([x[b] - x[a] for x in (profit, *looked_at)])
            gone = gone or bool(profit[a] > eps and (leads >= 0).all() and (leads > eps).any())
            beats = (leads >= -eps).all() and (leads > -eps if eps else leads > 0).any()
            kept = kept and not (profit[a] > -eps and beats)
        found.append((kept, gone))
    return np.array([kept for kept, _ in found]), np.array([gone for _, gone in found])


def nash_conv(every: Every, chances: list[np.ndarray]) -> float:
    """NashConv of a mixed profile, summed over every profile."""
    total = LONG(0.0)
    for i, utility in enumerate(every.utility):
        expected = utility
        for j in reversed(range(len(chances))):  # the last axis first, so that numbers stay right
            if j != i:
                expected = np.tensordot(expected, chances[j].astype(LONG), axes=(j, 0))
        total += expected.max() - (expected * chances[i]).sum()
    return float(total)
