"""Which fine keeps honest play an equilibrium, and who pays for lies.

The *deterrence frontier* is the least expected fine, audit_rate x fine in USD per query served with
a lie, from which on no provider gains by any lie against honest rivals (GAME.md, theorems 18 and
19). Where users pay what a price list says, a fine moves neither choices nor payments, and it is

    max over providers and lies l of  (paid_l - c_l) - (s_h / s_l) (paid_h - c_h),  or 0,

with h for honest play; every level, price and size of a lie counts. In an auction a liar's bid
covers the expected fine, so that it wins less often as the fine rises; the frontier is then found
by bisection to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game import demand
from ttc_env.game.mechanisms import get_mechanism, make_mechanism
from ttc_env.game.misreports import Report
from ttc_env.game.regret import pure_profile
from ttc_env.game.solution import Profile
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market, check_market
from ttc_env.game.validation import index

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism
    from ttc_env.game.rules.base import Round

_HALVINGS = 200  # of an interval of doubles: each is then between two neighbours
_MOST = 1e12  # times the largest amount of money: a lie that pays at such a fine always does


class Lie(NamedTuple):
    """One provider's lie: what it does in place of honest play."""

    provider: int
    level: int  # index of the level that is served
    price: int  # index of the price choice
    report: Report


@dataclass(frozen=True, eq=False)
class Deterrence:
    """How large a fine has to be. USD per query served with a lie, in expectation.

    `k` runs over the pure equilibria of the game in which nobody can lie.
    """

    market: Market = field(repr=False)
    mechanism: Mechanism  # with the lies that may be told
    honest: Profile  # [k, n] the honest equilibria, as flat actions of this mechanism
    complete: bool  # whether these are all
    # [k, n, a] the least expected fine at which an action gains nothing over honest play, the
    # others being honest; 0 for the truth, NaN where an action does not exist
    least: Array = field(repr=False)

    @property
    def line(self) -> Array:
        """`[k]` the deterrence frontier: honest play stays an equilibrium if and only if the
        expected fine is at least this.
        """
        return np.asarray(np.fmax.reduce(self.least, axis=(1, 2)))

    @property
    def by_provider(self) -> Array:
        """`[k, n]` the frontier of each provider's lies."""
        return np.asarray(np.fmax.reduce(self.least, axis=2))

    @property
    def by_report(self) -> Array:
        """`[k, r]` the frontier of each report (`Mechanism.reports`); 0 for the truth."""
        by_part = self.least.reshape(*self.least.shape[:2], *self.mechanism.grid(self.market))
        return np.asarray(np.fmax.reduce(by_part, axis=(1, 2, 3), initial=0.0))

    @property
    def by_kind(self) -> dict[str, Array]:
        """`[k]` the frontier of each kind of lie alone."""
        kinds = np.array([kind for kind, _ in self.mechanism.reports(self.market)])
        return {
            kind: self.by_report[:, kinds == kind].max(axis=1, initial=0.0)
            for kind in self.mechanism.misreports.kinds
        }

    @property
    def at_own_level(self) -> Array:
        """`[k]` what the frontier would be if liars kept their level and price choice: too low in a
        quarter of games.
        """
        level, price, _ = self.mechanism.split(np.arange(self.least.shape[2]), self.market)
        own = self.mechanism.split(self.honest, self.market)
        same = (level == own[0][..., None]) & (price == own[1][..., None])
        return np.asarray(np.fmax.reduce(np.where(same, self.least, 0.0), axis=(1, 2)))

    def fine(self, audit_rate: float) -> Array:
        """`[k]` USD per lie found: the least fine if a query is audited with this probability."""
        if not 0 < audit_rate <= 1:
            raise ValueError(f"audit_rate is {audit_rate}; it must be above 0 and at most 1")
        return self.line / audit_rate

    @property
    def holds(self) -> NDArray[np.bool_]:
        """`[k]` whether honest play stays an equilibrium under the mechanism's own fine."""
        return self.mechanism.misreports.expected_fine >= self.line

    def binding(self, k: int = 0) -> Lie | None:
        """The lie that sets the frontier of honest equilibrium k; None if no lie pays.

        Raises:
            ValueError: there is no such equilibrium.
        """
        least = np.nan_to_num(self.least[self._known(k)], nan=0.0)
        i, action = np.unravel_index(int(least.argmax()), least.shape)
        return self._lie(int(i), int(action)) if least[i, action] > 0 else None

    def best_lie(self, k: int = 0, provider: int | None = None) -> tuple[Lie, WhoPays] | None:
        """The lie that one provider gains most by in honest equilibrium k, under the mechanism's
        own fine, and who pays for it; None if it gains nothing by any.

        provider: its index; the one that gains most if None.

        Raises:
            ValueError: there is no such equilibrium, or no such provider.
        """
        k = self._known(k)
        if provider is not None:
            provider = index("provider", provider, self.market.num_providers)
        mechanism, market = self.mechanism, self.market
        table = mechanism.offers(market)
        played = table.take(self.honest[k])
        profit, log_share = mechanism.deviations(table, played, market)
        gain = demand.utility(profit, log_share) - mechanism.play(played, market).utility[:, None]
        lies = mechanism.lies(np.arange(gain.shape[1]), market)
        gain = np.where(lies & ~np.isnan(gain), gain, -np.inf)
        if provider is not None:
            gain[np.arange(len(gain)) != provider] = -np.inf
        i, action = (int(x) for x in np.unravel_index(int(gain.argmax()), gain.shape))
        if not gain[i, action] > 0:
            return None
        lying = self.honest[k].copy()
        lying[i] = action
        return self._lie(i, action), who_pays(market, mechanism, lying, self.honest[k])

    def _known(self, k: int) -> int:
        return index("honest equilibrium", k, len(self.honest))

    def _lie(self, i: int, action: int) -> Lie:
        level, price, report = (int(x) for x in self.mechanism.split(action, self.market))
        return Lie(i, level, price, self.mechanism.reports(self.market)[report])


class WhoPays(NamedTuple):
    """What changes for whom when some lie, USD per arriving user: `users + liars + rivals + fines`
    is `welfare`.
    """

    users: float  # change of users' value, as they get it and not as they were told
    liars: float  # change of the profit of those who lie, fines paid
    rivals: float  # change of the profit of those who do not
    fines: float  # what those who audit take in
    welfare: float  # change of welfare
    who: tuple[int, ...]  # who lies


def who_pays(
    market: Market, mechanism: str | Mechanism, lying: ArrayLike, honest: ArrayLike
) -> WhoPays:
    """Who gains and who loses by lies: `lying` play less `honest` play.

    Args:
        mechanism: with the lies that may be told.
        lying, honest: `[n]` flat actions of it, such as an equilibrium with lies and one without.

    Raises:
        ValueError: a profile of another shape, or an action that does not exist.
    """
    check_market("who_pays", market)
    mechanism = get_mechanism(mechanism)
    table = mechanism.offers(market)
    profiles = [pure_profile(np.asarray(one), table, market) for one in (lying, honest)]
    rounds: list[Round] = [mechanism.play(table.take(one), market) for one in profiles]
    after, before = rounds
    lies = mechanism.lies(profiles[0], market)
    gain = after.utility - before.utility
    return WhoPays(
        users=float(after.user_value - before.user_value),
        liars=float(gain[lies].sum()),
        rivals=float(gain[~lies].sum()),
        fines=float(after.fines - before.fines),
        welfare=float(after.welfare - before.welfare),
        who=tuple(np.flatnonzero(lies).tolist()),
    )


def deterrence(
    market: Market,
    mechanism: str | Mechanism = "market",
    *,
    tolerance: float = 1e-9,
    **options: Any,
) -> Deterrence:
    """The fine that keeps honest play an equilibrium (GAME.md, theorems 18 and 19).

    Args:
        market: who sells, and what users are like.
        mechanism: a registered name, or an object with the lies that may be told.
        tolerance: of the honest game's equilibria, as in `ttc_env.solve`.
        options: of a mechanism by name, as `ttc_env.make_mechanism` takes them: prices, misreport,
            noticed, ... By default providers may tell every lie that makes sense in it.

    Raises:
        ValueError: a mechanism in which nobody can lie.
    """
    check_market("deterrence", market)
    if isinstance(mechanism, str):
        if "misreport" not in options:
            options["misreport"] = make_mechanism(mechanism).tariff.lies
        mechanism = make_mechanism(mechanism, **options)
    elif options:
        raise TypeError(
            f"a Mechanism object carries its own options; set {', '.join(options)} there"
        )
    if not mechanism.misreports.kinds:
        raise ValueError(
            f"nobody can lie in this mechanism {mechanism.name!r}: make it with"
            f" misreport={mechanism.tariff.lies}"
        )
    solution = mechanism.honest.rule.solve(mechanism.honest, market, tolerance=tolerance)
    level, price, _ = mechanism.honest.split(solution.equilibria, market)
    honest = mechanism.join(level, price, market=market)
    free = Fines(mechanism, market)
    least = [free.least(profile) for profile in honest]
    shape = (0, *free.table.quality.shape)
    return Deterrence(
        market, mechanism, honest, solution.complete, np.stack(least) if least else np.empty(shape)
    )


class Fines:
    """A mechanism's offers under any fine: what a fine does to the table of actions."""

    def __init__(self, mechanism: Mechanism, market: Market):
        self.mechanism, self.market = mechanism, market
        unpunished = replace(mechanism, misreports=replace(mechanism.misreports, fine=0.0))
        self.table = unpunished.offers(market)  # [n, a]
        self.lies = mechanism.lies(np.arange(self.table.quality.shape[1]), market)  # [a]

    def offers(self, fine: ArrayLike) -> Offer:
        """`[n, a, ...]` with an expected fine: a number, `[n, a]`, or `[b]` for b tables."""
        fine, table = np.asarray(fine, dtype=np.float64), self.table
        if fine.ndim == 1:
            table = table.map(lambda x: np.repeat(x[:, :, None], len(fine), axis=2))
        lies = self.lies[:, None] if fine.ndim == 1 else self.lies
        penalty = np.where(np.isnan(table.quality), np.nan, lies * fine)
        price, paid = table.price, None if table.paid is table.price else table.paid
        if self.mechanism.tariff.passes_fines_on:
            price, paid = price + penalty, None if paid is None else paid + penalty
        return Offer(table.quality, table.seen, price, table.cost, paid, penalty)

    def least(self, honest: NDArray[np.intp]) -> Array:
        """`[n, a]` the least expected fine at which each lie gains nothing against an honest
        profile `[n]`: `Deterrence.least`.
        """
        played = self.table.take(honest)
        rule, market = self.mechanism.rule, self.market
        absent = np.isnan(self.table.quality)
        if self.mechanism.tariff.passes_fines_on:
            least = self._bisected(played)
        else:
            own = rule.play(played, market)
            profit, log_share = rule.deviations(self.table, played, market)
            earned = own.profit[:, None]
            with np.errstate(over="ignore", invalid="ignore"):
                kept = earned * np.exp(own.log_share[:, None] - log_share)
            # nothing is kept of nothing, however few come
            least = np.maximum(profit - np.where(earned == 0, 0.0, kept), 0.0)
        return np.where(absent, np.nan, np.where(self.lies, least, 0.0))

    def _bisected(self, played: Offer) -> Array:
        """Where a fine changes what is bid: shares fall as it rises, so that a lie pays up to a
        point.
        """
        rule, market = self.mechanism.rule, self.market
        noise = rule.noise(self.table)
        own = rule.play(played, market)
        earned = np.where(np.abs(own.profit) <= noise, 0.0, own.profit) * own.share

        def pays(fine: Array) -> NDArray[np.bool_]:
            profit, log_share = rule.deviations(self.offers(fine), played, market)
            profit = np.where(np.abs(profit) <= noise, 0.0, profit)
            return np.asarray(demand.utility(profit, log_share) > earned[:, None] + noise)

        amounts = (self.table.quality, self.table.seen, self.table.price)
        top = _MOST * max(float(np.nanmax(np.abs(x))) for x in amounts)
        low = np.zeros(self.table.quality.shape)
        high = np.full_like(low, top)
        never, always = ~pays(low), pays(high)
        for _ in range(_HALVINGS):
            # halve on the scale of doubles: by exponents far apart, by numbers near together
            apart = high > 4.0 * np.maximum(low, 1e-300)
            middle = np.where(apart, np.sqrt(np.maximum(low, 1e-300) * high), 0.5 * (low + high))
            still = pays(middle)
            low, high = np.where(still, middle, low), np.where(still, high, middle)
        return np.where(never, 0.0, np.where(always, np.inf, high))


__all__ = ["Deterrence", "Fines", "Lie", "WhoPays", "deterrence", "who_pays"]
