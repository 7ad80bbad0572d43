"""What is exact about a game, in one result object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game import equilibrium, optimum, welfare
from ttc_env.game.regret import TIE, assess
from ttc_env.game.rules.base import Round
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism

Profile = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LeastRegret:
    """The profile nearest to an equilibrium: nobody gains much by leaving it."""

    profile: Profile  # [n] flat actions
    relative: float  # 1 - U_i / max U_i, the largest of any provider
    nash_conv: float  # USD per arriving user: sum of what they would gain
    exact: bool  # no profile has less relative regret; False: the least that was found

    @classmethod
    def of(
        cls, profile: Profile, mechanism: Mechanism, market: Market, *, exact: bool
    ) -> LeastRegret:
        """What is lost at a profile."""
        found = assess(profile, mechanism, market)
        relative = float(found.relative.max()) + 0.0  # no negative zero
        return cls(profile, relative, found.nash_conv, exact)


@dataclass(frozen=True, eq=False)
class Solution:
    """A game, solved. USD per arriving user, unless it says otherwise.

    Single numbers (`welfare`, `shares`, `user_value`, ...) are at the *worst* pure Nash equilibrium
    (PNE), the one with the least welfare; `at(profile)` gives the same for any profile. With a
    price grid, profiles hold flat actions: `split` gives levels and prices.

    Where there is no PNE, `equilibria` is empty, these numbers are NaN, and `no_equilibrium` says
    why; `worst`, `best` and `outcome` raise ValueError. `least_regret` then is the profile nearest
    to an equilibrium.
    """

    market: Market
    mechanism: Mechanism
    pne: equilibrium.Equilibria  # all PNE and how they were found
    best_possible: optimum.Optimum  # the social optimum and how it was found

    def __repr__(self) -> str:
        if self.no_equilibrium:
            how = "no PNE" if self.complete else "no PNE found"
            return f"Solution({self.market!r}: {how}, optimal welfare {self.optimal_welfare:.6g})"
        count = (
            f"{len(self.equilibria)}{'' if self.complete else ' or more'}"
            f" PNE{' (unique)' if self.unique else ''}"
        )
        return (
            f"Solution({self.market!r}: {count}, welfare {self.welfare:.6g} of"
            f" {self.optimal_welfare:.6g})"
        )

    @property
    def equilibria(self) -> Profile:
        """`[k, n]` all PNE, in lexicographic order."""
        return self.pne.profiles

    @property
    def lowest(self) -> Profile | None:
        """`[n]`: the PNE in which every provider offers the least value of all PNE: providers'
        favourite. None where there is no such PNE.
        """
        return self.pne.lowest

    @property
    def highest(self) -> Profile | None:
        """`[n]`: the PNE in which every provider offers the most value: users' favourite.

        None where there is no such PNE.
        """
        return self.pne.highest

    @property
    def lies(self) -> NDArray[np.bool_]:
        """`[k, n]`: who lies in each PNE. Where a row is all False, honest play is an equilibrium
        although lies can be told.
        """
        return self.mechanism.lies(self.equilibria, self.market)

    @property
    def unique(self) -> bool:
        """Exactly one PNE, certified."""
        return self.pne.unique

    @property
    def complete(self) -> bool:
        """No PNE is missing from `equilibria`; if one may be, `reason` says why."""
        return self.pne.complete

    @property
    def reason(self) -> str:
        """Why `equilibria` may be incomplete; '' if it is not."""
        return self.pne.reason

    @property
    def optimum(self) -> Profile:
        """`[n]`: the profile of largest welfare."""
        return self.best_possible.profile

    @property
    def optimal_welfare(self) -> float:
        """W*: the welfare of the social optimum, computed as every other welfare here, so that
        ratios compare like with like.
        """
        return float(self.at(self.optimum).welfare)

    @property
    def converged(self) -> bool:
        """The equilibrium bracket and the optimum both ended by their own criterion."""
        return self.pne.converged and self.best_possible.converged

    @property
    def iterations(self) -> int:
        """Best-response sweeps for the bracket and rounds for the optimum, together."""
        return self.pne.iterations + self.best_possible.iterations

    @property
    def gap(self) -> float:
        """The largest regret in log utility of any provider in any reported PNE."""
        return self.pne.gap

    @property
    def tolerance(self) -> float:
        """The regret in log utility up to which an action counts as a best reply."""
        return self.pne.tolerance

    def at(self, profile: ArrayLike) -> Round:
        """The expected round if everybody plays `profile`, flat actions `[n]`, or several at once,
        `[n, k]`.
        """
        profile = np.asarray(profile)
        n, actions = self._table.quality.shape
        if (
            profile.shape[:1] != (n,)
            or not np.issubdtype(profile.dtype, np.integer)
            or (profile < 0).any()
            or (profile >= actions).any()
        ):
            raise ValueError(
                f"a profile holds an action index from 0 to {actions - 1} for each of {n}"
                f" providers; got {profile}"
            )
        return self.mechanism.play(self._table.take(profile), self.market)

    def split(self, profile: ArrayLike) -> tuple[Profile, Profile, Profile]:
        """Flat actions as (level, price, report) indices."""
        return self.mechanism.split(profile, self.market)

    @cached_property
    def _table(self) -> Offer:
        return self.mechanism.offers(self.market)

    # Why there may be no pure equilibrium where the list of them is complete.
    _why_none = "in every profile some provider gains by changing its action"

    @property
    def no_equilibrium(self) -> str:
        """Why `equilibria` is empty; '' if it is not."""
        if len(self.equilibria):
            return ""
        if self.complete:
            return f"this game has no pure Nash equilibrium: {self._why_none}"
        return f"no pure Nash equilibrium was found, and there may be one: {self.reason}"

    @cached_property
    def least_regret(self) -> LeastRegret:
        """The worst PNE; without PNE the profile nearest to one, which is worked out when it is
        first asked for.
        """
        if len(self.equilibria):
            return LeastRegret.of(self.worst, self.mechanism, self.market, exact=True)
        return self.mechanism.rule.least_regret(self.mechanism, self.market)

    @cached_property
    def _welfares(self) -> Array:
        if self.no_equilibrium:
            raise ValueError(
                f"{self.no_equilibrium}. See `least_regret`, and mixed play (`ttc_env.nash_conv`)"
            )
        return self.at(self.equilibria.T).welfare

    @cached_property
    def worst(self) -> Profile:
        """`[n]`: the PNE with the least welfare."""
        return self.equilibria[self._welfares.argmin()]

    @cached_property
    def best(self) -> Profile:
        """`[n]`: the PNE with the most welfare."""
        return self.equilibria[self._welfares.argmax()]

    @cached_property
    def outcome(self) -> Round:
        """The expected round at the worst PNE."""
        return self.at(self.worst)

    @property
    def welfare(self) -> float:
        """Welfare at the worst PNE; NaN without PNE."""
        return float(self.outcome.welfare) if len(self.equilibria) else float("nan")

    @property
    def best_welfare(self) -> float:
        """Welfare at the best PNE; NaN without PNE."""
        return float(self._welfares.max()) if len(self.equilibria) else float("nan")

    @property
    def price_of_anarchy(self) -> float:
        """W* / W(worst PNE); NaN with `ratio_reason` where that welfare is not positive, or where
        an equilibrium may be missing: the ratio would be a bound alone.

        The paper's inefficiency is 100 (PoA - 1) %.
        """
        return self._ratio(self.welfare)[0]

    @property
    def price_of_stability(self) -> float:
        """W* / W(best PNE); NaN likewise."""
        return self._ratio(self.best_welfare)[0]

    @property
    def ratio_reason(self) -> str:
        """Why the price of anarchy is NaN; '' if it is not."""
        return self._ratio(self.welfare)[1]

    def _ratio(self, equilibrium_welfare: float) -> tuple[float, str]:
        if self.no_equilibrium:
            return float("nan"), self.no_equilibrium
        if not self.complete:
            return float("nan"), (
                "the list of equilibria may not be right, so that a ratio of welfares is no more"
                f" than a bound: {self.reason}"
            )
        return welfare.price_of_anarchy(self.optimal_welfare, equilibrium_welfare)

    @property
    def _blank(self) -> Array:
        """`[n]` NaN: what providers' numbers are without PNE."""
        return np.full(self.market.num_providers, np.nan)

    @property
    def shares(self) -> Array:
        """`[n]` chance that a user picks i; NaN without PNE, as all that follows."""
        return self._blank if self.no_equilibrium else self.outcome.share

    @property
    def outside_share(self) -> float:
        """Chance that a user buys from nobody."""
        return float("nan") if self.no_equilibrium else float(self.outcome.outside_share)

    @property
    def user_value(self) -> float:
        """Share-weighted V: consumer surplus if users err."""
        return float("nan") if self.no_equilibrium else float(self.outcome.user_value)

    @property
    def mean_price(self) -> float:
        """Share-weighted payment: what an arriving user pays on average."""
        if self.no_equilibrium:
            return float("nan")
        return float((self.shares * self.outcome.payment).sum())

    @property
    def provider_profit(self) -> Array:
        """`[n]` expected profit U."""
        return self._blank if self.no_equilibrium else self.outcome.utility


@dataclass(frozen=True, eq=False)
class DominantSolution:
    """An auction in dominant strategies. USD per arriving user, unless it says otherwise.

    Dominant strategies are computed in closed form: nothing can fail to converge, and nothing is
    left to gain. They are the equilibrium reported; others, in which losers bid as they like, are
    not listed.
    """

    market: Market
    mechanism: Mechanism
    actions: Profile  # [n] flat actions of the dominant strategies
    levels: Profile  # [n] level that maximises settled quality - cost
    bids: Array  # [n] USD/query, = cost at that level, and the expected fine of a lie
    # [n] USD/query, quality promised; the true one under settlement on delivered quality, and
    # wherever no lie is worth its fine
    claims: Array
    scores: Array  # [n] USD/query, claim - bid
    outcome: Round

    converged = True
    complete = True
    reason = ""
    iterations = 0

    @property
    def gap(self) -> float:
        """NashConv of the reported strategies."""
        return assess(self.actions, self.mechanism, self.market).nash_conv

    @property
    def lowest(self) -> Profile:
        """`[n]`: the dominant strategies, as `highest` is."""
        return self.actions

    highest = lowest
    worst = lowest
    best = lowest

    @property
    def optimum(self) -> Profile:
        """`[n]`: a profile of largest welfare (`Rule.optimum`): the dominant strategies, unless a
        reserve or claims that are paid for stand in the way.
        """
        return self.mechanism.rule.optimum(self.mechanism, self.market).profile

    @cached_property
    def equilibria(self) -> Profile:
        """`[1, n]`: the equilibrium in dominant strategies; and, where somebody lies in it although
        honest play is an equilibrium too, that one: `[2, n]`.
        """
        if not self.mechanism.lies(self.actions, self.market).any():
            return self.actions[None]
        honest = self.mechanism.honest
        told = honest.rule.solve(honest, self.market, tolerance=0.0).actions
        level, price, _ = honest.split(told, self.market)
        profile = self.mechanism.join(level, price, market=self.market)
        if assess(profile, self.mechanism, self.market).relative.max() > TIE:
            return self.actions[None]
        return np.stack([self.actions, profile])

    @property
    def lies(self) -> NDArray[np.bool_]:
        """`[k, n]`: who lies in each of `equilibria`."""
        return self.mechanism.lies(self.equilibria, self.market)

    @property
    def user_value(self) -> float:
        """What users keep: in an auction the runner-up's score, where quality is as promised."""
        return float(self.outcome.user_value)

    @property
    def welfare(self) -> float:
        return float(self.outcome.welfare)

    @property
    def best_welfare(self) -> float:
        return self.welfare

    @property
    def optimal_welfare(self) -> float:
        """The most welfare that the rule could reach (`Rule.optimal_welfare`)."""
        return self.mechanism.rule.optimal_welfare(self.mechanism, self.market)

    @property
    def price_of_anarchy(self) -> float:
        """W* / W: 1 unless a reserve or claims that are paid for stand in the way."""
        return welfare.price_of_anarchy(self.optimal_welfare, self.welfare)[0]

    @property
    def shares(self) -> Array:
        """`[n]` chance to serve a user."""
        return self.outcome.share

    @property
    def outside_share(self) -> float:
        """Chance that a user buys from nobody."""
        return float(self.outcome.outside_share)

    @property
    def provider_profit(self) -> Array:
        """`[n]` expected profit."""
        return self.outcome.utility
