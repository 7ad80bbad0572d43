"""The first-score auction: the best score serves, and is held to that score.

Everything known about this game stands here or is called from here (GAME.md, theorems 14 and 15).
A provider bids a price and claims a quality; its score is claim minus bid. The highest score serves
everybody if it reaches h = max(V_0, reserve), and the user keeps that score:

    payment = q_w - score_w,

which is the winner's own bid if its claim is true. What a provider earns when it serves does not
depend on its rivals, so a game is one profit for every action, and rivals only say who serves.

- rounds from tables of scores and profits;
- all pure equilibria on a grid by the ladder, without a search over profiles: one profile for each
  distinct outcome, and beside them those in which nobody plays a dominated action;
- the planner's optimum over the grid, and mixed play by the distribution of the best rival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import draws, mixed
from ttc_env.game.arrays import array_module
from ttc_env.game.equilibrium import Equilibria
from ttc_env.game.mechanisms import Mechanism, register_mechanism
from ttc_env.game.misreports import Misreport, Misreports
from ttc_env.game.optimum import Optimum
from ttc_env.game.regret import assess
from ttc_env.game.rules import scores
from ttc_env.game.rules.base import Round, Rule, Tabulated, UsersLike, leading
from ttc_env.game.rules.scores import BestRival, best_rival
from ttc_env.game.solution import Profile, Solution
from ttc_env.game.tariffs import CostPlus, Offer
from ttc_env.game.types import Array, Market

MOST_OUTCOMES = 4096
"""Most equilibrium outcomes that are listed: providers that earn nothing and tie make 2^k."""


@dataclass(frozen=True)
class FirstScore(Rule):
    """The highest score serves everybody and is paid its settled quality less its own score.

    `settlement="delivered"`: users keep the score that won, so that an inflated claim is not paid
    for. `settlement="claimed"`: the winner gets its bid, whatever it delivers.
    `reserve`: USD/query, no score below it serves.
    """

    searches_optimum = False

    settlement: str = "delivered"
    reserve: float = -np.inf

    def __post_init__(self) -> None:
        scores.check_settlement(self.settlement)
        scores.check_reserve(self.reserve)
        object.__setattr__(self, "reserve", float(self.reserve))

    def threshold(self, users: UsersLike) -> Any:
        """h = max(V_0, reserve), USD/query: what the highest score has to reach."""
        return scores.threshold(self.reserve, users)

    def paid(self, offer: Offer) -> Any:
        """USD/query: settled quality less the score. A bid as it is, if its claim is true."""
        if self.settlement == "claimed":
            return offer.price
        return offer.price - (offer.seen - offer.quality)

    def gain(self, offer: Offer) -> Any:
        """USD per served query: what serving earns, whatever the rivals bid."""
        return self.paid(offer) - offer.cost - offer.penalty

    def rivals(self, offer: Offer, users: UsersLike) -> BestRival:
        return best_rival(offer.score)

    def log_share(self, offer: Offer, rivals: BestRival, users: UsersLike) -> Any:
        return scores.log_share(offer.score, rivals, self.threshold(users))

    def payment(self, offer: Offer, rivals: BestRival, users: UsersLike) -> Any:
        return self.paid(offer)

    def outside_share(self, offer: Offer, share: Any, users: UsersLike) -> Any:
        return scores.outside_share(offer.score, self.threshold(users))

    def value_with_tastes(self, played: Round, users: UsersLike) -> Any:
        """As without: nobody chooses, and the tastes of those who are served are 0 on average."""
        return played.user_value

    # --- rounds -----------------------------------------------------------------------------------

    def tabulate(self, table: Offer, users: UsersLike, arrivals: int) -> dict[str, Array]:
        """Scores, and the profit if everybody came."""
        return {"score": table.score, "gain": arrivals * self.gain(table)}

    def tabulated(self, rows: dict[str, Any], users: UsersLike, arrivals: int) -> Tabulated:
        score = rows["score"]
        xp = array_module(score)
        best, _, leads = leading(score)
        zero = xp.zeros_like(best)  # truth values become doubles by adding to it
        leaders = leads[0] + zero
        for row in leads[1:]:
            leaders = leaders + row
        trades = best >= self.threshold(users)
        share = leads * (trades / leaders)
        gain = xp.where(share > 0, rows["gain"], 0.0)
        return Tabulated(share, 1.0 - (trades + zero), gain)

    def python_round(
        self, numbers: dict[str, Array], users: UsersLike, arrivals: int
    ) -> Callable[[Sequence[Sequence[Any]]], tuple[list[float], list[float]]]:
        threshold = float(self.threshold(users))

        def play(columns: Sequence[Sequence[Any]]) -> tuple[list[float], list[float]]:
            score, gain = columns
            share, reward = [0.0] * len(score), [0.0] * len(score)
            best = max(score)
            if best >= threshold:
                part = 1.0 / score.count(best)
                for i, x in enumerate(score):
                    if x == best:
                        share[i], reward[i] = part, gain[i] * part + 0.0
            return share, reward

        return play

    def draw(self, share: Any, outside: Any, arrivals: Any, rng: Any) -> Any:
        """One auction a round: a tie is drawn once, and its winner serves everybody."""
        return draws.winners(share, arrivals, rng)

    # --- mixed play and solutions -----------------------------------------------------------------

    def expected_utilities(
        self, mixture: Array, table: Offer, users: UsersLike
    ) -> mixed.ExpectedUtilities:
        """Profit times the chance that no rival's score is higher, ties shared."""
        win = mixed.expected_wins(mixture, table.score)
        win = np.where(table.score >= self.threshold(users), win, 0.0)
        utility = win * self.gain(table)
        return mixed.ExpectedUtilities(utility, np.zeros_like(utility))

    def optimum(self, mechanism: Mechanism, market: Market) -> Optimum:
        """The best allocation that the grid and the reserve can reach: `scores.best_allocation`."""
        return scores.optimum(mechanism, market, float(self.threshold(market)))

    def solve(
        self, mechanism: Mechanism, market: Market, *, tolerance: float
    ) -> FirstScoreSolution:
        """All pure equilibria by the ladder, one profile for each distinct outcome.

        tolerance: how much more, relative to the best reply's, a provider may forgo.
        """
        table = mechanism.offers(market)
        score, gain = table.score, self.gain(table)
        gain = np.where(np.abs(gain) <= self.noise(table), 0.0, gain)
        h = float(self.threshold(market))
        exists = ~np.isnan(score)
        rungs = _Rungs.of(score, gain, h, tolerance)
        found, complete = _listed(_outcomes(rungs, table, exists))
        sane, sane_complete = _listed(_outcomes(rungs, table, _undominated(score, gain, h)))
        reason = (
            ""
            if complete and sane_complete
            else f"providers that tie and earn nothing make more than {MOST_OUTCOMES} equilibrium"
            " outcomes; the first ones are listed"
        )
        regrets = [assess(profile, mechanism, market).relative.max() for profile in found]
        one = len(found) == 1
        pne = Equilibria(
            profiles=found,
            lowest=found[0] if one else None,
            highest=found[0] if one else None,
            unique=complete and one,
            complete=not reason,
            reason=reason,
            iterations=0,
            converged=True,
            gap=float(max(regrets, default=0.0)),
            tolerance=tolerance,
        )
        return FirstScoreSolution(market, mechanism, pne, self.optimum(mechanism, market), sane)


@dataclass(frozen=True, eq=False, repr=False)
class FirstScoreSolution(Solution):
    """A first-score auction on a grid, solved. USD per arriving user, unless it says otherwise.

    `equilibria` has one profile for each distinct *outcome*: who serves, with which offer. Losers
    can bid in many ways that change nothing, and one of these is shown. `unique` and the worst and
    best equilibria speak of outcomes likewise.

    A game without a pure equilibrium is a normal answer: `equilibria` is then empty.
    """

    # [k, n] as `equilibria`, but in every one of them nobody plays a dominated action: everybody
    # earns something when it serves, or else loses nothing (GAME.md, theorem 14)
    undominated: Profile

    @property
    def lies(self) -> np.ndarray:
        """`[k, n]`: who serves with a lie in each of `equilibria`. How losers are shown says
        nothing of them.
        """
        return super().lies & (self.at(self.equilibria.T).share.T > 0)

    _why_none = (
        "a first-score auction need not have one; see `complete` and `reason`, and mixed play"
        " (`ttc_env.nash_conv`)"
    )

    @property
    def undominated_outcome(self) -> Round:
        """The expected round at the undominated equilibrium of least welfare.

        Raises:
            ValueError: there is none.
        """
        if not len(self.undominated):
            raise ValueError(
                "no pure equilibrium of this game is undominated; `equilibria` lists the others"
            )
        return self.at(self.undominated[self.at(self.undominated.T).welfare.argmin()])


# --- the ladder (GAME.md, theorem 15) -------------------------------------------------------------


class _Rungs(NamedTuple):
    """What every provider can earn at every score: the ladder's rungs."""

    value: Array  # [v] USD/query, all scores, rising
    rank: np.ndarray  # [n, a] of each action's score among them; v where there is no action
    gain: Array  # [n, a] USD per served query
    best: Array  # [n, v] B_i(s); -inf where i has no action at s, or s < h
    above: Array  # [n, v + 1] B_i^+ from the rung on: the best at this score or a higher one
    lowest: np.ndarray  # [n] rank of each provider's lowest score, of all its actions
    first: int  # rank of the lowest score that reaches h
    tolerance: float

    @classmethod
    def of(cls, score: Array, gain: Array, h: float, tolerance: float) -> _Rungs:
        """score, gain: `[n, a]`, NaN where an action does not exist."""
        exists = ~np.isnan(score)
        value, flat = np.unique(np.where(exists, score, np.inf), return_inverse=True)
        value = value[np.isfinite(value)]
        rank = flat.reshape(score.shape)
        n, v = len(score), len(value)
        best = np.full((n, v + 1), -np.inf)
        np.maximum.at(best, (np.arange(n)[:, None], rank), np.where(exists, gain, -np.inf))
        first = int(np.searchsorted(value, h))
        best[:, :first] = -np.inf
        best[:, v] = -np.inf
        above = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
        return cls(value, rank, gain, best[:, :v], above, rank.min(axis=1), first, tolerance)

    def enough(self, own: Any, other: Any) -> np.ndarray:
        """Whether `own` is a best reply beside `other`, up to the tolerance, as
        `ttc_env.game.regret.compare` has it. Shapes broadcast.
        """
        slack = np.where(np.isfinite(other), np.abs(other), 0.0) * self.tolerance
        return np.asarray(own >= other - slack)

    def can_lose(self, below: int) -> np.ndarray:
        """`[n]` whether a provider has a score of lower rank than `below`, or under h."""
        return np.asarray(self.lowest < max(below, self.first))


def _undominated(score: Array, gain: Array, h: float) -> np.ndarray:
    """`[n, a]` bool: actions that earn something at a score that reaches h; where a provider has
    none, safe ones, which lose nothing; where it has none of these either, all (GAME.md, theorem
    14).
    """
    exists = ~np.isnan(score)
    earns = exists & (gain > 0) & (score >= h)
    safe = exists & ((score < h) | (gain >= 0))
    some_earn, some_safe = (np.any(x, axis=1, keepdims=True) for x in (earns, safe))
    return np.where(some_earn, earns, np.where(some_safe, safe, exists))


def _listed(outcomes: Iterator[Profile]) -> tuple[Profile, bool]:
    """Profiles `[k, n]` in lexicographic order, and whether these are all."""
    found: dict[tuple[int, ...], Profile] = {}
    complete, n = True, 0
    for profile in outcomes:
        n = len(profile)
        if len(found) == MOST_OUTCOMES:
            complete = False
            break
        found[tuple(profile.tolist())] = profile
    rows = [found[key] for key in sorted(found)]
    return (np.stack(rows) if rows else np.empty((0, n), dtype=np.intp)), complete


def _outcomes(rungs: _Rungs, table: Offer, playable: np.ndarray) -> Iterator[Profile]:
    """A profile for each distinct outcome in equilibrium among profiles of `playable` actions,
    `[n, a]`; deviations go to every action.
    """
    n, v = rungs.best.shape
    # [n] rank of the lowest score that each provider plays, and `[n, v]` which ranks it plays
    lowest = np.where(playable, rungs.rank, v).min(axis=1)
    plays = np.zeros((n, v + 1), bool)
    np.logical_or.at(plays, (np.arange(n)[:, None], rungs.rank), playable)

    def lowest_action(i: int) -> int:
        return int(np.flatnonzero(playable[i] & (rungs.rank[i] == lowest[i]))[0])

    def action_at(i: int, s: int) -> int:
        return int(np.flatnonzero(playable[i] & (rungs.rank[i] == s))[0])

    best_of_action = rungs.best[np.arange(n)[:, None], np.minimum(rungs.rank, v - 1)]
    good = playable & rungs.enough(np.where(playable, rungs.gain, -np.inf), best_of_action)
    is_best = np.zeros((n, v + 1), bool)
    np.logical_or.at(is_best, (np.arange(n)[:, None], rungs.rank), good)

    def best_at(i: int, s: int) -> list[int]:
        """Best actions of i at a score, one for each distinct offer."""
        distinct: dict[tuple[float, ...], int] = {}
        for action in np.flatnonzero(good[i] & (rungs.rank[i] == s)).tolist():
            amounts = (table.quality, table.price, table.cost, table.penalty + 0.0 * table.cost)
            distinct.setdefault(tuple(float(x[i, action]) for x in amounts), action)
        return list(distinct.values())

    bottom = np.array([lowest_action(i) for i in range(n)])

    # (a) No trade
    if (lowest < rungs.first).all() and (rungs.above[:, rungs.first] <= 0).all():
        yield bottom

    for s in range(rungs.first, v):
        here, above = rungs.best[:, s], rungs.above[:, s + 1]
        idle = (lowest < s) & (above <= 0)  # [n] may lose, if a tie at s does not pay
        silent = idle & (here <= 0)
        loud = np.flatnonzero(~silent)  # these serve at s, or there is no equilibrium at s
        able = is_best[:, s]
        # (b) A tie of k providers; those who may as well stay out make several sets
        for k in range(2, int(able.sum()) + 1):
            stays = ~rungs.can_lose(s) | (here >= 0)
            tied = able & stays & rungs.enough(here / k, above)
            if not tied[loud].all() or len(loud) > k:
                continue
            free = np.flatnonzero(tied & silent)
            for more in combinations(free.tolist(), k - len(loud)):
                members = [*loud.tolist(), *more]
                for actions in product(*(best_at(i, s) for i in members)):
                    profile = bottom.copy()
                    profile[members] = actions
                    yield profile
        # (c) A single winner
        for i in np.flatnonzero(able & rungs.enough(here, above)).tolist():
            if any(j != i for j in loud):
                continue
            second = _second(rungs, plays, lowest, i, s)
            if second is None:
                continue
            rank, count = second
            for action in best_at(i, s):
                profile = bottom.copy()
                profile[i] = action
                # the losers who bid the second score; the others bid their lowest
                at = np.flatnonzero(plays[:, rank]) if rank >= 0 else np.array([], np.intp)
                order = sorted(at[at != i].tolist(), key=lambda j: (lowest[j] != rank, j))
                for j in order[:count]:
                    profile[j] = action_at(j, rank)
                yield profile


def _second(
    rungs: _Rungs, plays: np.ndarray, lowest: np.ndarray, i: int, s: int
) -> tuple[int, int] | None:
    """A second score that keeps a single winner i at its score, of rank s: its rank (-1: none, or
    below h, where it does not matter), and how many losers bid it. None: there is none.
    """
    losers = np.arange(len(plays)) != i
    own, best = rungs.best[i, s], rungs.best[i]
    floor = int(lowest[losers].max()) if losers.any() else -1
    for rank in range(s - 1, max(floor, rungs.first) - 1, -1):
        if plays[losers, rank].any() and (own >= 0 or not rungs.can_lose(rank)[i]):
            most = int(plays[losers, rank].sum())
            least = max(1, int((lowest[losers] == rank).sum()))
            for count in (most, least):
                if rungs.enough(own, best[rank] / (count + 1)):
                    return rank, count
        # a lower second score would let i win with this one
        if not rungs.enough(own, best[rank]):
            return None
    if floor < rungs.first and (own >= 0 or not rungs.can_lose(rungs.first)[i]):
        between = best[rungs.first : s]
        return (-1, 0) if rungs.enough(own, between).all() else None
    return None


def first_score_auction(
    prices: str | ArrayLike = "grid",
    settlement: str = "delivered",
    reserve: float = -np.inf,
    misreport: Misreport = (),
    audit_rate: float = 1.0,
    fine: float = 0.0,
) -> Mechanism:
    """The first-score auction: the winner is held to its own score (GAME.md, theorem 14).

    Args:
        prices: bids as markups over cost; a grid by default, since nobody gains by bidding its
            cost.
        settlement, reserve, misreport, audit_rate, fine: as in `second_price_auction`.
    """
    rule = FirstScore(settlement, reserve)
    misreports = Misreports.of(misreport, audit_rate, fine)
    return Mechanism("first_score", CostPlus.of(prices), rule, misreports)


register_mechanism("first_score", first_score_auction)
