"""Posted prices with users of several types: each type values answers, and errs, in its own way.

Everything known about this game stands here or is called from here (GAME.md, "User types"). A
type k has a weight g_k, and its own beta_k, alpha_k and baseline b_k where given:

    q_i^k = alpha_k (b_k + (1 - b_k) f(a_i)),     V_i^k = q_i^k - p_i
    s_i   = sum_k g_k exp(beta_k V_i^k) / (exp(beta_k V_0) + sum_j exp(beta_k V_j^k))

Offers are in the market's own alpha and baseline; a type rescales the quality that it sees. Users'
value and welfare are in USD, and every user counts in its own: share-weighted q_i^k - payment and
q_i^k - c_i, summed over types by weight, with V_0 for those who buy from nobody. So a type with a
larger alpha weighs more, as it would pay more, and any answer is worth alpha_k b_k to it. The
reading with tastes is sum_k g_k log A_k / beta_k (`UserTypesSolution.log_sum`).

Whether a user's type is drawn first and its choice after it, or its choice at once from s, is the
same: so sampled demand draws from s.

With several types neither the potential nor supermodularity is left, and games without a pure
equilibrium are common (GAME.md, theorem 17): `equilibria` is then empty, and `least_regret` is the
profile that comes nearest to one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ttc_env.game import demand, dominance, enumeration, mixed, optimum, rounds, welfare
from ttc_env.game.arrays import array_module
from ttc_env.game.branching import MOST_ENTRIES, TypedGame, most_welfare
from ttc_env.game.equilibrium import Equilibria
from ttc_env.game.rules.base import Round, Rule, Tabulated, UserKind, UsersLike
from ttc_env.game.solution import LeastRegret, Profile, Solution
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market
from ttc_env.game.validation import number, validate_tolerance

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism


@dataclass(frozen=True)
class UserType:
    """Users who are alike. What is None is as in the market.

    Raises:
        ValueError: a number out of range.
    """

    weight: float  # share of all users
    beta: float | None = None  # 1/USD
    alpha: float | None = None  # USD, value of a surely right answer
    baseline: float | None = None  # share of alpha that any answer is worth

    def __post_init__(self) -> None:
        for field, lowest, highest in (
            ("weight", 0.0, 1.0),
            ("beta", 0.0, np.inf),
            ("alpha", 0.0, np.inf),
            ("baseline", 0.0, 1.0),
        ):
            value = getattr(self, field)
            if value is None and field != "weight":
                continue
            remedy = "of all users" if field == "weight" else "or None for the market's own"
            value = number(f"a user type's {field}", value, remedy)
            if not lowest <= value <= highest or (field == "alpha" and value == 0.0):
                allowed = "> 0" if field == "alpha" else f"from {lowest:g} to {highest:g}"
                raise ValueError(f"a user type's {field} is {value:g}; it must be {allowed}")
            object.__setattr__(self, field, value)


Types: TypeAlias = Sequence[UserType | Mapping[str, Any]] | Mapping[str, Sequence[Any]] | str
"""User types as `UserType` objects, as dicts of their fields, column by column (a dict of lists, or
a DataFrame), or as text: "weight=0.5 beta=10; weight=0.5 beta=1000". What is missing, None or NaN
is as in the market."""


def user_types(types: Types) -> tuple[UserType, ...]:
    """User types in whichever form they are given.

    Raises:
        ValueError: none, a field that is out of range, or weights that do not sum to 1.
        TypeError: something else, or an unknown field.
    """
    known = [field.name for field in dataclasses.fields(UserType)]
    columns: Any = types.to_dict("list") if hasattr(types, "to_dict") else types
    if isinstance(columns, str):
        columns = _read(columns)
    if isinstance(columns, Mapping):
        if any(isinstance(x, str) or not hasattr(x, "__len__") for x in columns.values()):
            raise TypeError(
                "types as a mapping holds a list per field:"
                " types={'weight': [0.5, 0.5], 'beta': [10, 1000]}"
            )
        if len({len(x) for x in columns.values()}) > 1:
            raise ValueError("the columns of types have different lengths; give one entry per type")
        columns = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    if not isinstance(columns, Iterable):
        raise TypeError(
            f"types is {types!r}; give a list of ttc_env.UserType or of dicts, a dict of lists, or"
            " a text"
        )
    found = []
    for given in columns:
        if isinstance(given, UserType):
            found.append(given)
            continue
        if not isinstance(given, Mapping) or set(given) - set(known):
            raise TypeError(
                f"a user type is {given!r}; give a ttc_env.UserType, or a dict with some of"
                f" {', '.join(known)}"
            )
        fields: Any = {name: x for name, x in given.items() if x is not None and not _is_nan(x)}
        if "weight" not in fields:
            raise ValueError(f"user type {dict(given)} has no weight, its share of all users")
        found.append(UserType(**fields))
    if not found:
        raise ValueError(
            "types is empty; give at least one, for instance [ttc_env.UserType(weight=1.0)]"
        )
    total = sum(one.weight for one in found)
    if abs(total - 1.0) > 1e-9:
        raise ValueError(
            f"the weights of user types sum to {total:g}; they are shares of all users and must sum"
            " to 1"
        )
    return tuple(found)


def _read(text: str) -> list[dict[str, float]]:
    """Types from a command line."""
    known = [field.name for field in dataclasses.fields(UserType)]
    types = []
    for kind in text.split(";"):
        fields: dict[str, float] = {}
        for field in kind.split():
            name, equals, value = field.partition("=")
            try:
                if not equals or name not in known or name in fields:
                    raise ValueError
                fields[name] = float(value)
            except ValueError:
                raise ValueError(
                    f"cannot read {field!r} in the user types {text!r}; write 'weight=0.5 beta=10;"
                    f" weight=0.5 beta=1000', with each of {', '.join(known)} at most once a type"
                ) from None
        types.append(fields)
    return types


def _is_nan(x: Any) -> bool:
    return isinstance(x, (float, np.floating)) and bool(np.isnan(x))


class TypeAttractions(NamedTuple):
    """What a provider needs to know of its rivals, type by type."""

    log_rivals: Any  # [n, ..., K] log A_-i, in units of exp(beta_k reference)
    reference: Any  # [n, ..., K] USD/query: the highest value on offer but i's own


@dataclass(frozen=True)
class UserTypes(Rule):
    """Users choose by logit, each type for itself, and pay what is billed."""

    types: tuple[UserType, ...]

    def __post_init__(self) -> None:
        # A type that nobody is of plays no part.
        types = tuple(one for one in user_types(self.types) if one.weight > 0)
        object.__setattr__(self, "types", types)

    def beta(self, k: int, users: UsersLike) -> Any:
        """1/USD, of type k."""
        own = self.types[k].beta
        return users.beta if own is None else own

    def quality(self, k: int, quality: Any, users: UsersLike) -> Any:
        """USD/query: what type k finds a quality worth that is given in the market's own alpha and
        baseline. Any shape.

        Raises:
            ValueError: the market has no alpha, or a baseline of 1, from which accuracy cannot be
                told.
        """
        kind = self.types[k]
        if kind.alpha is None and kind.baseline is None:
            return quality
        if users.alpha is None:
            raise ValueError(
                f"{kind} has its own alpha or baseline, and the market has no alpha to compare"
                " with; load curves with ttc_env.load_market, or give Market.from_arrays(alpha=...,"
                " baseline=...)"
            )
        alpha = users.alpha if kind.alpha is None else kind.alpha
        if kind.baseline is None:
            return quality * (alpha / users.alpha)
        if np.any(np.asarray(users.baseline) == 1.0):
            raise ValueError(
                f"{kind} has its own baseline, and in the market any answer is worth as much as a"
                " right one (baseline 1), so that accuracy cannot be told from quality; use a"
                " market with a lower baseline"
            )
        worth = (quality / users.alpha - users.baseline) / (1.0 - users.baseline)  # f(a)
        return alpha * (kind.baseline + (1.0 - kind.baseline) * worth)

    def value(self, k: int, offer: Offer, users: UsersLike) -> Any:
        """V, USD/query: an offer as type k sees it."""
        return self.quality(k, offer.seen, users) - offer.price

    def largest_logit(self, amount: Any, users: UsersLike) -> Any:
        return np.max(
            [
                self.beta(k, users) * np.maximum(amount, np.abs(self.quality(k, amount, users)))
                for k in range(len(self.types))
            ],
            axis=0,
        )

    # --- the definition ---------------------------------------------------------------------------

    def rivals(self, offer: Offer, users: UsersLike) -> TypeAttractions:
        of_type = [
            demand.best_rivals(
                self.value(k, offer, users), self.beta(k, users), users.outside_value
            )
            for k in range(len(self.types))
        ]
        xp = array_module(offer.quality)
        return TypeAttractions(*(xp.stack(x, axis=-1) for x in zip(*of_type, strict=True)))

    def log_share(self, offer: Offer, rivals: TypeAttractions, users: UsersLike) -> Any:
        total: Any = None
        for k, kind in enumerate(self.types):
            z = demand.logits(
                self.value(k, offer, users), self.beta(k, users), rivals.reference[..., k]
            )
            log = demand.log_share_against(z, rivals.log_rivals[..., k]) + float(
                np.log(kind.weight)
            )
            total = log if total is None else array_module(log).logaddexp(total, log)
        return total

    def payment(self, offer: Offer, rivals: TypeAttractions, users: UsersLike) -> Any:
        return offer.paid

    def outside_share(self, offer: Offer, share: Any, users: UsersLike) -> Any:
        return sum(
            kind.weight
            * demand.outside_share(
                self.value(k, offer, users), self.beta(k, users), users.outside_value
            )
            for k, kind in enumerate(self.types)
        )

    def user_value(
        self, offer: Offer, share: Any, outside: Any, payment: Any, users: UsersLike
    ) -> Any:
        """sum_k g_k (sum_i s_i^k (q_i^k - payment_i) + s_0^k V_0), each user's own USD."""
        return self._weighted(offer, payment, users)

    def welfare(self, offer: Offer, share: Any, outside: Any, users: UsersLike) -> Any:
        """sum_k g_k (sum_i s_i^k (q_i^k - c_i) + s_0^k V_0), each user's own USD."""
        return self._weighted(offer, offer.cost, users)

    def value_with_tastes(self, played: Round, users: UsersLike) -> Any:
        """sum_k g_k log A_k / beta_k, less what users did not see."""
        of_types = self.by_type(played.offer, users)
        return of_types.log_sum @ of_types.weight

    def kinds_of_users(self, market: Market, played: Round | None = None) -> list[UserKind]:
        found = []
        for k, kind in enumerate(self.types):
            providers = [
                dataclasses.replace(one, quality=self.quality(k, one.quality, market), curve=None)
                for one in market.providers
            ]
            seen = dataclasses.replace(
                market, providers=tuple(providers), beta=float(self.beta(k, market))
            )
            shares: tuple[Any, Any] = (None, None)
            if played is not None:
                value = self.value(k, played.offer, market)
                shares = demand.shares(value, seen.beta, market.outside_value)
            found.append(UserKind(kind.weight, seen, *shares))
        return found

    def _weighted(self, offer: Offer, less: Any, users: UsersLike) -> Any:
        """`[...]` USD per arriving user: what delivered quality is worth less an amount."""
        total: Any = 0.0
        for k, kind in enumerate(self.types):
            share, outside = demand.shares(
                self.value(k, offer, users), self.beta(k, users), users.outside_value
            )
            worth = self.quality(k, offer.quality, users) - less
            total = total + kind.weight * (
                (share * worth).sum(axis=0) + outside * users.outside_value
            )
        return total

    def by_type(self, offer: Offer, users: UsersLike) -> ByType:
        """A round type by type. offer: `[n, ...]`, NumPy."""
        columns = []
        for k in range(len(self.types)):
            value, beta = self.value(k, offer, users), self.beta(k, users)
            share, outside = demand.shares(value, beta, users.outside_value)
            worth = self.quality(k, offer.quality, users) - offer.paid
            mean = (share * worth).sum(axis=0) + outside * users.outside_value
            tastes = welfare.log_sum(value, beta, users.outside_value)
            tastes = tastes - (share * (value - worth)).sum(axis=0)
            columns.append((share, outside, mean, tastes))
        weight = np.array([kind.weight for kind in self.types])
        return ByType(weight, *(np.stack(x, axis=-1) for x in zip(*columns, strict=True)))

    # --- rounds -----------------------------------------------------------------------------------

    def noise(self, table: Offer) -> float:
        """0: a posted price is what it is."""
        return 0.0

    def tabulate(self, table: Offer, users: UsersLike, arrivals: int) -> dict[str, Array]:
        """Each type's attractions e = exp(beta_k (V^k - V_0)) as f 2^k, and the profit if everybody
        came (`ttc_env.game.rounds`).
        """
        found = {"gain": arrivals * (table.paid - table.cost - table.penalty)}
        for k in range(len(self.types)):
            z = self._logits(k, table, users)
            found[f"fraction_{k}"], found[f"exponent_{k}"] = rounds.split_exponential(z)
        return found

    def tabulated(self, rows: dict[str, Any], users: UsersLike, arrivals: int) -> Tabulated:
        xp = array_module(rows["gain"])
        share: Any = 0.0
        outside: Any = 0.0
        for k, kind in enumerate(self.types):
            weights = rounds.attractions(rows[f"fraction_{k}"], rows[f"exponent_{k}"], xp)
            of_type = rounds.logit_shares(*weights)
            share = share + kind.weight * of_type[0]
            outside = outside + kind.weight * of_type[1]
        return Tabulated(share, outside, rows["gain"])

    # --- mixed play and solutions -----------------------------------------------------------------

    def expected_utilities(
        self, mixture: Array, table: Offer, users: UsersLike
    ) -> mixed.ExpectedUtilities:
        """E[s] is the mean over types of each type's, which is exact (`ttc_env.game.mixed`)."""
        absent = np.isnan(table.quality)
        of_type = [
            np.log(kind.weight)
            + mixed.expected_log_shares(
                mixture, np.where(absent, -np.inf, self._logits(k, table, users))
            )
            for k, kind in enumerate(self.types)
        ]
        profit = table.paid - table.cost - table.penalty
        return mixed.ExpectedUtilities(profit, np.logaddexp.reduce(of_type, axis=0))

    def _logits(self, k: int, table: Offer, users: UsersLike) -> Array:
        value = self.value(k, table, users)
        return np.asarray(demand.logits(value, self.beta(k, users), users.outside_value))

    def typed_game(self, table: Offer, market: Market) -> TypedGame:
        """The game of a table `[n, a]` without dominated actions, and without copies of others."""
        z = np.stack([self._logits(k, table, market) for k in range(len(self.types))], axis=-1)
        size = np.maximum(np.abs(table.paid), np.abs(table.cost))
        profit = dominance.settle(table.paid - table.cost - table.penalty, size)
        counts = [self.beta(k, market) > 0 for k in range(len(self.types))]
        values = np.stack([self.value(k, table, market) for k in range(len(self.types))])
        exists = _kept(profit, values[counts], values, table.quality - table.cost)
        log_weight = np.log([kind.weight for kind in self.types])
        return TypedGame(z, log_weight, profit, exists)

    def solve(self, mechanism: Mechanism, market: Market, *, tolerance: float) -> UserTypesSolution:
        """All pure equilibria and the optimum; `Solution.complete` says whether any may be
        missing.
        """
        pne = self.equilibria(mechanism, market, tolerance=tolerance)
        return UserTypesSolution(market, mechanism, pne, self.optimum(mechanism, market))

    def equilibria(
        self, mechanism: Mechanism, market: Market, *, tolerance: float = 1e-9
    ) -> Equilibria:
        """All pure equilibria, by branching (`ttc_env.game.branching`); where there are too many
        sets of actions, what best-response play from many starts comes to rest in.
        """
        validate_tolerance(tolerance)
        table = mechanism.offers(market)
        typed = self.typed_game(table, market)
        # Regrets are against the actions that are left: the others are never better.
        left = table.map(lambda x: np.where(typed.exists, x, np.nan))
        game = enumeration.Game(mechanism, market, left)
        candidates = typed.candidates(tolerance)
        complete, reason = True, ""
        if candidates is None:
            found = game.search(tolerance).equilibria
            complete = False
            reason = game.searched("with user types this game is solved by branching")
        else:
            found = game.equilibria_among(candidates, tolerance)
        lowest, highest = self._ends(table, found, market)
        return Equilibria(
            profiles=found,
            lowest=lowest,
            highest=highest,
            unique=complete and len(found) == 1,
            complete=complete,
            reason=reason,
            iterations=0,
            converged=True,
            gap=game.gap(found),
            tolerance=tolerance,
            dominated=int((~np.isnan(table.quality) & ~typed.exists).sum()),
        )

    def _ends(
        self, table: Offer, profiles: Profile, market: Market
    ) -> tuple[Profile | None, Profile | None]:
        """The equilibria in which every provider offers every type the least, and the most; None
        where there is no such one.
        """
        if not len(profiles):
            return None, None
        offer = table.take(profiles.T)
        value = np.stack([self.value(k, offer, market) for k in range(len(self.types))])
        ends = []
        for best in (value.min(axis=2, keepdims=True), value.max(axis=2, keepdims=True)):
            at = np.flatnonzero((value == best).all(axis=(0, 1)))
            ends.append(profiles[at[0]] if len(at) else None)
        return ends[0], ends[1]

    def optimum(self, mechanism: Mechanism, market: Market) -> optimum.Optimum:
        """The profile of most welfare, by branching: no set of actions is worth more than if every
        type had its own optimum among them (`ttc_env.game.branching.most_welfare`). `gap` bounds
        what may be missing; it is 0, but for rounding, where that came to an end.
        """
        table = mechanism.offers(market)
        game = enumeration.Game(mechanism, market, table)
        kinds = range(len(self.types))
        z = np.stack([self._logits(k, table, market) for k in kinds], axis=-1)
        worth = [self.quality(k, table.quality, market) - table.cost for k in kinds]
        weight = np.array([kind.weight for kind in self.types])
        return most_welfare(
            z, np.stack(worth, axis=-1), weight, market.outside_value, game.welfare, game.climb
        )

    def least_regret(self, mechanism: Mechanism, market: Market) -> LeastRegret:
        """The profile in which the largest relative regret of any provider is least.

        Best-response play finds one; branching over all that is no worse then shows whether it is
        the least (`exact`), where there are not too many sets of actions.
        """
        table = mechanism.offers(market)
        game = enumeration.Game(mechanism, market, table)
        near = game.search(0.0).nearest
        typed = self.typed_game(table, market)
        every = dataclasses.replace(typed, exists=~np.isnan(table.quality))
        candidates = every.candidates(game.worst_regret(near[None])[0], MOST_ENTRIES // 16)
        if candidates is None:
            return game.least_regret(near[None], exact=False)
        return game.least_regret(np.concatenate([near[None], candidates]), exact=True)


def _kept(profit: Array, counts: Array, values: Array, surplus: Array) -> NDArray[np.bool_]:
    """`[n, a]` the actions that are neither dominated nor a copy of an earlier one.

    Another action with pi and every type's V at least as large beats one with pi > 0, if any of
    them is larger (`ttc_env.game.dominance`, for one type).

    Args:
        profit, surplus: `[n, a]`.
        counts: `[K, n, a]` V of the types that look at it: not of those with beta = 0.
        values: `[K, n, a]` V of every type.
    """
    kept = ~np.isnan(profit)
    columns = np.arange(profit.shape[1])
    for i, pi in enumerate(profit):
        v, all_v, w = counts[:, i], values[:, i], surplus[i]
        as_good = (pi[:, None] >= pi) & (v[:, :, None] >= v[:, None]).all(axis=0)
        mutual = as_good & as_good.T
        same = mutual & (all_v[:, :, None] == all_v[:, None]).all(axis=0) & (w[:, None] == w)
        beaten = (as_good & ~mutual & (pi > 0.0)).any(axis=0)
        kept[i] &= ~beaten & ~(same & (columns[:, None] < columns)).any(axis=0)
    return kept


@dataclass(frozen=True, eq=False)
class ByType:
    """A round, type by type. USD per arriving user of the type."""

    weight: Array  # [K] share of all users
    share: Array  # [n, ..., K] chance that a user of the type picks i
    outside_share: Array  # [..., K] that it buys from nobody
    user_value: Array  # [..., K] share-weighted quality - payment: value if users err
    log_sum: Array  # [..., K] value if users have tastes: log A_k / beta_k less lies, or inf


@dataclass(frozen=True, eq=False, repr=False)
class UserTypesSolution(Solution):
    """A posted-price market with user types, solved. USD per arriving user, unless it says
    otherwise; each user counts in its own USD (`ttc_env.game.rules.user_types`).

    Where there is no pure equilibrium, `least_regret` is the profile nearest to one.
    """

    @property
    def rule(self) -> UserTypes:
        return cast(UserTypes, self.mechanism.rule)

    @cached_property
    def by_type(self) -> ByType:
        """Types at the worst PNE, `[n, K]` and `[K]`; NaN without PNE."""
        if not len(self.equilibria):
            blank = self.rule.by_type(self._table.take(self.optimum), self.market)
            return ByType(
                blank.weight,
                *(
                    np.full_like(getattr(blank, name), np.nan)
                    for name in ("share", "outside_share", "user_value", "log_sum")
                ),
            )
        return self.rule.by_type(self.outcome.offer, self.market)

    @property
    def log_sum(self) -> float:
        """sum_k g_k log A_k / beta_k less lies: consumer surplus if users have tastes; NaN without
        PNE.
        """
        of_types = self.by_type
        return float((of_types.weight * of_types.log_sum).sum())
