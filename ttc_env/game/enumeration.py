"""Any rule's game by looking at every profile: what is known of a rule from its definition alone.

Where there are at most `MOST_PROFILES` profiles everything is exact: all pure equilibria, the
optimum, and expectations against mixed rivals. Beyond that, best-response play from many starts is
searched for equilibria, each verified against every action; the result then says that it may be
incomplete. Where there is no equilibrium, `least_regret` is the profile nearest to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ttc_env.game import demand
from ttc_env.game.equilibrium import Equilibria
from ttc_env.game.mixed import ExpectedUtilities
from ttc_env.game.optimum import Optimum
from ttc_env.game.regret import compare
from ttc_env.game.solution import LeastRegret, Profile, Solution
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market
from ttc_env.game.validation import validate_tolerance

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism
    from ttc_env.game.rules.base import Rule

MOST_PROFILES = 1 << 18
"""Most profiles that are looked at one by one."""

_BLOCK = 1 << 20  # table entries per pass
_STARTS = 64  # of best-response play, where profiles are too many
_SWEEPS = 200  # at most, from each start


def solve(mechanism: Mechanism, market: Market, *, tolerance: float = 1e-9) -> Solution:
    """All pure equilibria and the optimum, by enumeration; or what a search finds of them.

    A profile is an equilibrium if nobody's utility can rise by more than `tolerance`, relative to
    the best reply's; profits within the rule's noise of 0 count as 0.
    """
    validate_tolerance(tolerance)
    game = Game(mechanism, market, mechanism.offers(market))
    if game.count <= MOST_PROFILES:
        found = np.concatenate(
            [block[game.is_equilibrium(block, tolerance)] for block in game.blocks()]
        )
        complete, reason = True, ""
    else:
        found = game.search(tolerance).equilibria
        complete, reason = False, game.searched("this rule is solved by enumeration")
    one = len(found) == 1
    pne = Equilibria(
        profiles=found,
        lowest=found[0] if one else None,
        highest=found[0] if one else None,
        unique=complete and one,
        complete=complete,
        reason=reason,
        iterations=0,
        converged=True,
        gap=game.gap(found),
        tolerance=tolerance,
    )
    return Solution(market, mechanism, pne, optimum(mechanism, market))


def least_regret(mechanism: Mechanism, market: Market) -> LeastRegret:
    """The profile in which the largest relative regret of any provider is least; or the best that
    best-response play passes through from many starts, and then `exact` is False.
    """
    game = Game(mechanism, market, mechanism.offers(market))
    if game.count > MOST_PROFILES:
        return game.least_regret(game.search(0.0).nearest[None], exact=False)
    nearest = [block[game.worst_regret(block).argmin()] for block in game.blocks()]
    return game.least_regret(np.stack(nearest), exact=True)


def optimum(mechanism: Mechanism, market: Market) -> Optimum:
    """The profile of most welfare, by enumeration; or the best that one-sided changes lead to from
    many starts, and then `converged` is False.
    """
    game = Game(mechanism, market, mechanism.offers(market))
    if game.count <= MOST_PROFILES:
        best, welfare = None, -np.inf
        for block in game.blocks():
            values = game.welfare(block)
            if values.max() > welfare:
                best, welfare = block[values.argmax()], float(values.max())
        assert best is not None
        return Optimum(best, welfare, 1, True, 0.0)
    best, welfare = game.climb(np.stack(list(game.starts())))
    return Optimum(best, welfare, _STARTS, False, float("nan"))


def expected_utilities(rule: Rule, mixture: Array, table: Offer, users: Any) -> ExpectedUtilities:
    """U of every action against mixed rivals, over the joint actions that have any chance.

    Raises:
        ValueError: too many joint actions.
    """
    n, a = table.quality.shape
    support = [np.flatnonzero(row > 0) for row in mixture]
    utility = np.empty((n, a))
    for i in range(n):
        # Provider i's own action changes nothing for it: any one will do.
        sets = [chosen if j != i else chosen[:1] for j, chosen in enumerate(support)]
        if np.prod([float(len(chosen)) for chosen in sets]) > MOST_PROFILES:
            raise ValueError(
                f"{type(rule).__name__} has no formula for mixed profiles, and this one mixes over"
                f" more than {MOST_PROFILES} joint actions; pass a pure profile, or mix over fewer"
            )
        total = np.zeros(a)
        for profiles in _products(sets, max(1, _BLOCK // (n * a))):
            chance = np.prod([mixture[j, profiles[:, j]] for j in range(n) if j != i], axis=0)
            offer = table.take(profiles.T)
            wide = table.map(lambda x: x[:, :, None])
            profit, log_share = rule.deviations(wide, offer, users)
            total += (demand.utility(profit[i], log_share[i]) * chance).sum(axis=-1)
        utility[i] = total
    return ExpectedUtilities(utility, np.zeros_like(utility))


def _products(sets: list[np.ndarray], block: int) -> Iterator[Profile]:
    """All combinations of one entry of each set, in lexicographic order: `[k, n]`, k <= block."""
    sizes = [len(entries) for entries in sets]
    count = int(np.prod(sizes, dtype=np.int64))
    for start in range(0, count, block):
        index, columns = np.arange(start, min(start + block, count)), []
        for entries in reversed(sets):
            index, at = np.divmod(index, len(entries))
            columns.append(entries[at])
        yield np.stack(columns[::-1], axis=1)


class Searched(NamedTuple):
    """What best-response play came upon."""

    equilibria: Profile  # [k, n] in lexicographic order
    nearest: Profile  # [n] of all profiles passed through that of least relative regret


class Game:
    """A game as a table of offers that is played in blocks of profiles `[k, n]`."""

    def __init__(self, mechanism: Mechanism, market: Market, table: Offer):
        self.mechanism, self.rule = mechanism, mechanism.rule
        self.market, self.table = market, table
        self.n, self.a = table.quality.shape
        self.absent = np.isnan(table.quality)
        self.actions = [np.flatnonzero(~row) for row in self.absent]
        # No rule meets an offer that does not exist: in its place stands the first that does.
        first = np.array([row[0] for row in self.actions])
        self._filled = table.map(
            lambda x: np.where(self.absent, x[np.arange(self.n), first][:, None], x)
        )
        self.count = float(np.prod([float(len(row)) for row in self.actions]))
        self.noise = self.rule.noise(table)
        self._step = max(1, _BLOCK // (self.n * self.a))

    def blocks(self) -> Iterator[Profile]:
        return _products(self.actions, self._step)

    def starts(self) -> Iterator[Profile]:
        """Everybody's first action, everybody's last, and random ones, the same on every call."""
        yield np.array([row[0] for row in self.actions])
        yield np.array([row[-1] for row in self.actions])
        rng = np.random.default_rng(0)
        for _ in range(_STARTS - 2):
            yield np.array([rng.choice(row) for row in self.actions])

    def welfare(self, profiles: Profile) -> Array:
        """`[k]` USD per arriving user."""
        return np.asarray(self.rule.play(self.table.take(profiles.T), self.market).welfare)

    def replies(self, profiles: Profile) -> tuple[Profile, Array]:
        """Of profiles `[k, n]`: best replies `[k, n]`, and relative regrets `[k, n]`."""
        wide = self._filled.map(lambda x: x[:, :, None])
        found = self.rule.deviations(wide, self.table.take(profiles.T), self.market)
        # [n, a, k] -> [n k, a]
        rows = [np.moveaxis(np.where(self.absent[:, :, None], np.nan, x), 1, 2) for x in found]
        profit, log_share = (x.reshape(-1, self.a) for x in rows)
        own, at = profiles.T.reshape(-1), np.arange(profit.shape[0])
        best, _, relative = compare(
            profit, log_share, profit[at, own], log_share[at, own], np.array(self.noise)[None]
        )
        shape = (self.n, len(profiles))
        return best.reshape(shape).T, relative.reshape(shape).T

    def worst_regret(self, profiles: Profile) -> Array:
        """`[k]` the largest relative regret of any provider."""
        return np.asarray(self.replies(profiles)[1].max(axis=1))

    def is_equilibrium(self, profiles: Profile, tolerance: float) -> np.ndarray:
        """`[k]` bool."""
        return self.worst_regret(profiles) <= tolerance

    def equilibria_among(self, profiles: Profile, tolerance: float) -> Profile:
        """Those of some profiles that are equilibria, in lexicographic order."""
        found = [profiles[:0]]
        for start in range(0, len(profiles), self._step):
            block = profiles[start : start + self._step]
            found.append(block[self.is_equilibrium(block, tolerance)])
        rows = np.concatenate(found)
        return rows[np.lexsort(rows.T[::-1])]

    def gap(self, profiles: Profile) -> float:
        """The largest relative regret in any of some profiles; 0 if there is none."""
        return float(self.worst_regret(profiles).max()) if len(profiles) else 0.0

    def least_regret(self, profiles: Profile, *, exact: bool) -> LeastRegret:
        """The best of some profiles, `[k, n]`, the first among equals."""
        relative = np.concatenate(
            [
                self.worst_regret(profiles[start : start + self._step])
                for start in range(0, len(profiles), self._step)
            ]
        )
        at = int(relative.argmin())
        return LeastRegret.of(profiles[at], self.mechanism, self.market, exact=exact)

    def searched(self, why: str) -> str:
        """The reason that goes with a search."""
        return (
            f"{why}, and there are {self.count:.3g} profiles, too many;"
            f" {_STARTS} runs of best-response play were searched instead"
        )

    def search(self, tolerance: float) -> Searched:
        """Equilibria that best-response play comes to rest in, from many starts; each once."""
        found: dict[tuple[int, ...], Profile] = {}
        nearest, least = None, np.inf
        passed: set[tuple[int, ...]] = set()  # where a sweep began: what follows is known
        for profile in self.starts():
            for _ in range(_SWEEPS):
                before = profile
                if (key := tuple(profile.tolist())) in passed:
                    break
                passed.add(key)
                for i in range(self.n):  # one after the other: together they may swap for ever
                    best, relative = self.replies(profile[None])
                    if (worst := relative.max()) < least:
                        nearest, least = profile, worst
                    if relative[0, i] > tolerance:
                        profile = profile.copy()
                        profile[i] = best[0, i]
                if profile is before:
                    found[key] = profile
                    break
        rows = [found[key] for key in sorted(found)]
        assert nearest is not None
        return Searched(np.stack(rows) if rows else np.empty((0, self.n), np.intp), nearest)

    def climb(self, starts: Profile) -> tuple[Profile, float]:
        """The best profile in which one-sided changes of more welfare end, from `starts` `[k, n]`,
        and that welfare.
        """
        profiles = starts.copy()
        welfare, rows = self.welfare(profiles), np.arange(len(profiles))
        while True:
            before = welfare
            for i, row in enumerate(self.actions):
                some = np.repeat(profiles[:, None], len(row), axis=1)  # [k, a, n]
                some[:, :, i] = row
                values = self.welfare(some.reshape(-1, self.n)).reshape(len(profiles), -1)
                at = values.argmax(axis=1)
                better = values[rows, at] > welfare
                profiles[better, i] = row[at[better]]
                welfare = np.where(better, values[rows, at], welfare)
            if not (welfare > before).any():
                break
        best = int(welfare.argmax())
        return profiles[best], float(welfare[best])
