"""What a rule says, and what follows from that alone.

A rule turns everybody's offers into a round: who serves, and who pays what. Its *definition* is
three short functions, written for NumPy arrays and torch tensors alike: `rivals`, `log_share` and
`payment`. A provider sees the others through one summary, so that one formula serves a round that
was played and every deviation from it.

From the definition the base class plays rounds (`play`) and deviations (`deviations`), and has an
honest default for everything that one may want to know about the game: equilibria, optimum, regret,
mixed play, batches. A rule's file overrides what can be done better for that game.

    class Lottery(Rule):
        '''Users pick a provider blindly, and pay its price.'''

        def rivals(self, offer, users):
            return Crowd(0.0 * offer.price + len(offer.price))

        def log_share(self, offer, rivals, users):
            return -array_module(rivals.size).log(rivals.size) + 0.0 * offer.price

        def payment(self, offer, rivals, users):
            return offer.price

Axis 0 is the provider; further axes are actions or batch. Money is USD/query throughout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import draws
from ttc_env.game.arrays import array_module
from ttc_env.game.regret import compare
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array

if TYPE_CHECKING:
    from ttc_env.game.market_batch import MarketBatch
    from ttc_env.game.mechanisms import Mechanism
    from ttc_env.game.mixed import ExpectedUtilities
    from ttc_env.game.optimum import Optimum
    from ttc_env.game.solution import LeastRegret
    from ttc_env.game.types import Market


class UsersLike(Protocol):
    """Those who choose: a `Market`, or the `Users` of many environments."""

    @property
    def beta(self) -> Any: ...

    @property
    def outside_value(self) -> Any: ...

    @property
    def alpha(self) -> Any: ...

    @property
    def baseline(self) -> Any: ...


class Users(NamedTuple):
    """Those who choose."""

    beta: Any  # 1/USD, a number or [b]
    outside_value: Any  # USD/query, V_0, a number or [b]
    alpha: Any = None  # USD, value of a surely right answer, a number or [b]; None: not known
    baseline: Any = 0.1  # share of alpha that any answer is worth, a number or [b]

    @classmethod
    def of(cls, market: Any) -> Users:
        """Those of a `Market`, or of a `MarketBatch`, `[G]`."""
        return cls(market.beta, market.outside_value, market.alpha, market.baseline)

    def map(self, function: Callable[[Any], Any]) -> Users:
        """The users whose numbers are `function` of these."""
        return Users(*(None if x is None else function(x) for x in self))


@dataclass(frozen=True, eq=False)
class Round:
    """Everything that a round decides, in expectation over users (and over ties)."""

    offer: Offer  # [n, ...]
    log_share: Any  # [n, ...] log of the chance that a user is served by i; -inf where impossible
    outside_share: Any  # [...] chance that a user buys from nobody
    payment: Any  # [n, ...] USD per served query; 0 for a provider that is left without users
    profit: Any  # [n, ...] USD per served query, payment - cost - penalty; 0 likewise
    user_value: Any  # [...] USD per arriving user: share-weighted quality - payment, as a rule
    welfare: Any  # [...] USD per arriving user: share-weighted quality - cost
    fines: Any  # [...] USD per arriving user: share-weighted penalty, which goes to neither side
    rivals: Any  # what each provider faced: the rule's summary, arrays [n, ...]

    @property
    def share(self) -> Any:
        """`[n, ...]` chance that a user is served by i."""
        return array_module(self.log_share).exp(self.log_share)

    @property
    def utility(self) -> Any:
        """`[n, ...]` U, USD per arriving user: expected profit."""
        return self.profit * self.share


class Tabulated(NamedTuple):
    """A round worked out from tables: columns `[n, b]`."""

    share: Any  # chance to serve a user
    outside: Any  # [b] chance that a user buys from nobody
    gain: Any  # USD: profit if all of a round's users came; 0 where nobody comes


class Expected(NamedTuple):
    """A round in plain numbers, provider by provider, and what each leaves on the table in it."""

    share: list[float]
    outside_share: float
    payment: Sequence[float]  # USD/query; 0 for a provider without users
    profit: Sequence[float]  # USD/query; 0 likewise
    regret: list[float]  # USD per arriving user
    relative: list[float]


class PythonInfos(NamedTuple):
    """How a rule works out a round in plain numbers."""

    columns: Sequence[Array]  # [n, a] each: what is looked up of the actions played
    play: Callable[..., Expected]  # takes these columns, `[n]` numbers each


class Replies(NamedTuple):
    """Actions among which each provider's best reply is, and what was played."""

    profit: Array  # [n, b, c] USD per served query; NaN where there is no such reply
    log_share: Array  # [n, b, c]
    own_profit: Array  # [n, b] USD per served query
    own_log_share: Array  # [n, b]


class BestReplies(ABC):
    """Best replies of n providers in G markets, by looking up."""

    width: int = 3  # how many actions per provider `replies` looks at, about

    @abstractmethod
    def replies(self, action: Any, played: Round, users: Users, market: Any) -> Replies:
        """The replies to a round of b environments.

        Args:
            action: `[n, b]` flat actions as played.
            played: the round, `[n, b]`.
            users: `[b]`.
            market: `[b]`, which of the G markets each environment plays.
        """

    def regrets(
        self, action: Any, played: Round, users: Users, market: Any, noise: ArrayLike
    ) -> tuple[Array, Array]:
        """Regret, USD per arriving user, and relative regret, `[n, b]`; noise: `[b]`, see
        `Rule.noise`.
        """
        return regrets(self.replies(action, played, users, market), noise)


class EveryAction(BestReplies):
    """Best replies by trying every action: right for any rule."""

    def __init__(self, rule: Rule, table: Offer):
        self.rule, self.table = rule, table  # [n, G, a]
        self.width = table.quality.shape[-1]

    def replies(self, action: Any, played: Round, users: Users, market: Any) -> Replies:
        # [n, G, a] -> [n, a, b]
        table = self.table.map(lambda x: np.moveaxis(x[:, market], 1, 2))
        profit, log_share = (
            np.moveaxis(x, 1, 2) for x in self.rule.deviations(table, played.offer, users)
        )
        return Replies(profit, log_share, played.profit, played.log_share)


class UserKind(NamedTuple):
    """Users who are alike (`Rule.kinds_of_users`)."""

    weight: float  # share of all users
    market: Market  # as they see it: their beta, and what answers are worth to them
    share: Any = None  # [n, ...] chance that one of them picks i, in a round
    outside_share: Any = None  # [...] and that it buys from nobody


class Rule(ABC):
    """Who serves, and who pays. See the module's docstring.

    Rules are leaves: one that inherited another's closed forms would be silently wrong, so that a
    subclass of a rule is refused. Rules share functions, not classes.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[1:]:
            if base is not Rule and issubclass(base, Rule):
                raise TypeError(
                    f"{cls.__name__} is a subclass of the rule {base.__name__}, whose closed forms"
                    " would not hold for it; derive it from Rule, and call the functions you need"
                )

    searches_optimum: ClassVar[bool] = True
    """Whether the most welfare of a large game takes a search of seconds, as by default."""

    #: Whether `user_value` and `welfare` count what tastes are worth to users. If they do not,
    #: users who do not take the best offer err.
    counts_tastes: bool = False

    # --- the definition -------------------------------------------------------------------------

    @abstractmethod
    def rivals(self, offer: Offer, users: UsersLike) -> Any:
        """What provider i needs to know of the others: a named tuple of arrays `[n, ...]`."""

    @abstractmethod
    def log_share(self, offer: Offer, rivals: Any, users: UsersLike) -> Any:
        """log of the chance to serve a user with this offer against these rivals.

        Shapes broadcast.
        """

    @abstractmethod
    def payment(self, offer: Offer, rivals: Any, users: UsersLike) -> Any:
        """USD per served query that a provider gets if it serves. Shapes broadcast."""

    def outside_share(self, offer: Offer, share: Any, users: UsersLike) -> Any:
        """`[...]` the chance that a user buys from nobody."""
        return 1.0 - array_module(share).sum(share, axis=0)

    def user_value(
        self, offer: Offer, share: Any, outside: Any, payment: Any, users: UsersLike
    ) -> Any:
        """`[...]` USD per arriving user: sum_i s_i (q_i - payment_i) + s_0 V_0."""
        served = (share * (offer.quality - payment)).sum(axis=0)
        return served + outside * users.outside_value

    def welfare(self, offer: Offer, share: Any, outside: Any, users: UsersLike) -> Any:
        """`[...]` USD per arriving user: sum_i s_i (q_i - c_i) + s_0 V_0. A rule whose users have
        tastes adds what these are worth, here as in `user_value`.
        """
        served = (share * (offer.quality - offer.cost)).sum(axis=0)
        return served + outside * users.outside_value

    def value_with_tastes(self, played: Round, users: UsersLike) -> Any:
        """`[...]` USD per arriving user: what users get if the noise in their choices is taste
        (GAME.md, theorem 20). None: not known of this rule.
        """
        return played.user_value if self.counts_tastes else None

    def kinds_of_users(self, market: Market, played: Round | None = None) -> list[UserKind]:
        """Users who are alike, together. One kind by default.

        played: a round in the market, for `share` and `outside_share`.
        """
        if played is None:
            return [UserKind(1.0, market)]
        return [UserKind(1.0, market, played.share, played.outside_share)]

    # --- what follows from it -------------------------------------------------------------------

    @final
    def play(self, offer: Offer, users: UsersLike) -> Round:
        """One round, in expectation: a pure function of the offers `[n, ...]`."""
        xp = array_module(offer.quality)
        rivals = self.rivals(offer, users)
        log_share = self.log_share(offer, rivals, users)
        share = xp.exp(log_share)
        outside = self.outside_share(offer, share, users)
        serves = log_share > -np.inf
        payment = xp.where(serves, self.payment(offer, rivals, users), 0.0)
        return Round(
            offer=offer,
            log_share=log_share,
            outside_share=outside,
            payment=payment,
            profit=xp.where(serves, payment - offer.cost - offer.penalty, 0.0),
            user_value=self.user_value(offer, share, outside, payment, users),
            welfare=self.welfare(offer, share, outside, users),
            fines=(share * offer.penalty).sum(axis=0),
            rivals=rivals,
        )

    @final
    def deviations(self, table: Offer, offer: Offer, users: UsersLike) -> tuple[Any, Any]:
        """What each provider would get from each of its actions while the others keep their offers.

        Args:
            table: every action's offer, `[n, a, ...]`, NaN where an action does not exist.
            offer: the offers of this round, `[n, ...]`.

        Returns:
            profit per served query and log share, both `[n, a, ...]`; NaN where an action does not
            exist.
        """
        xp = array_module(table.quality)
        rivals = self.rivals(offer, users)
        rivals = type(rivals)(*(summary[:, None] for summary in rivals))
        absent = xp.isnan(table.quality)
        # where there is none, the first action, which always exists: no rule meets a made-up offer
        there = table.map(lambda x: xp.where(absent, x[:, :1], x))
        log_share = self.log_share(there, rivals, users)
        paid = self.payment(there, rivals, users) - there.cost - there.penalty
        profit = xp.where(log_share > -np.inf, paid, 0.0)
        return xp.where(absent, np.nan, profit), xp.where(absent, np.nan, log_share)

    # --- defaults: right for any rule, slower than what can be known of one -----------------------

    def noise(self, table: Offer) -> float:
        """USD/query: profits closer to 0 than this count as 0.

        Payments that are differences of other amounts leave their rounding where they tie.
        """
        amounts = (table.quality, table.seen, table.price, table.paid, table.penalty)
        largest = max(float(np.nanmax(np.abs(amount))) for amount in amounts)
        return 16 * float(np.finfo(np.float64).eps) * largest

    def most_beyond(self, users: UsersLike) -> Any:
        """USD/query by which a payment can exceed all amounts on offer, a number or `[G]`; 0 where
        payments are made of these amounts.
        """
        return 0.0

    def largest_logit(self, amount: Any, users: UsersLike) -> Any:
        """|beta (V - V_0)| at the most, with offers and V_0 of up to `amount`, USD/query: `[G]`."""
        return users.beta * amount

    def tabulate(self, table: Offer, users: UsersLike, arrivals: int) -> dict[str, Array] | None:
        """What rounds look up per action, by name; None: the definition plays.

        Args:
            table: `[n, e]`, every action of every market, without NaN.
            users: `[e]` likewise.
            arrivals: users per round.
        """
        return None

    def tabulated(self, rows: dict[str, Any], users: UsersLike, arrivals: int) -> Tabulated:
        """A round from the entries `[n, b]` that `tabulate` made for the actions played."""
        raise NotImplementedError(f"{type(self).__name__} tabulates nothing")

    def python_round(
        self, numbers: dict[str, Array], users: UsersLike, arrivals: int
    ) -> Callable[[Sequence[Sequence[Any]]], tuple[list[float], list[float]]] | None:
        """`tabulated` for one environment in plain Python: columns of numbers, one a name in
        `numbers`' order, to shares and rewards in USD. None: a batch of one plays.
        """
        return None

    def python_infos(
        self, table: Offer, replies: BestReplies, users: UsersLike, noise: float
    ) -> PythonInfos | None:
        """A round in full, of one environment, in plain Python: what `play` and `best_replies` say,
        on numbers. None: arrays of one are used.

        Args:
            table: `[n, a]`, every action's offer.
            replies: of `best_replies`, for this one market.
            noise: USD/query, see `noise`.
        """
        return None

    def numba_round(self, numbers: dict[str, Array], users: UsersLike) -> Any:
        """`tabulated` compiled: see `rules/kernels_numba.py`. None: numba does not play it."""
        return None

    def draw(self, share: Any, outside: Any, arrivals: Any, rng: Any) -> Any:
        """Users served, `[n, b]`, where demand is sampled: each user chooses for itself.

        arrivals: users of the round, a number or `[b]`.
        """
        return draws.choices(share, outside, arrivals, rng)

    def best_replies(self, table: Offer, users: Users) -> BestReplies:
        """Best replies to rounds of G markets. table: `[n, G, a]`; users: `[G]`."""
        return EveryAction(self, table)

    def continuous_replies(self, prices: Any, played: Round, users: UsersLike) -> Replies:
        """The best reply where any price between two ends may be asked, and is what is billed.

        Args:
            prices: `ttc_env.game.continuous.PriceRange`, `[n, m, b]`.
            played: the round, `[n, b]`.

        Raises:
            ValueError: the rule has no formula for it.
        """
        raise ValueError(
            f"{type(self).__name__} has no formula for best replies in continuous prices; use"
            " infos='basic', or actions='discrete'"
        )

    @final
    def check_continuous(self) -> None:
        """Whether best replies in continuous prices are known.

        Raises:
            ValueError: they are not.
        """
        if type(self).continuous_replies is Rule.continuous_replies:
            self.continuous_replies(None, None, None)  # type: ignore[arg-type]

    def expected_utilities(
        self, mixture: Array, table: Offer, users: UsersLike
    ) -> ExpectedUtilities:
        """What each action earns in expectation while every rival draws its action from its row of
        `mixture`, `[n, a]`.

        Raises:
            ValueError: too many joint actions to enumerate.
        """
        from ttc_env.game import enumeration

        return enumeration.expected_utilities(self, mixture, table, users)

    def optimum(self, mechanism: Mechanism, market: Market) -> Optimum:
        """The profile of most welfare, by enumeration where there are few."""
        from ttc_env.game import enumeration

        return enumeration.optimum(mechanism, market)

    def optimal_welfare(self, mechanism: Mechanism, market: Market) -> float:
        """The most welfare that any profile reaches, USD per arriving user."""
        return self.optimum(mechanism, market).welfare

    def solve(self, mechanism: Mechanism, market: Market, *, tolerance: float) -> Any:
        """The exact solution of the game, or what can be found of it: `Solution.complete` says."""
        from ttc_env.game import enumeration

        return enumeration.solve(mechanism, market, tolerance=tolerance)

    def least_regret(self, mechanism: Mechanism, market: Market) -> LeastRegret:
        """The profile nearest to an equilibrium: by enumeration where there are few, else the best
        that best-response play passes through.
        """
        from ttc_env.game import enumeration

        return enumeration.least_regret(mechanism, market)

    def solve_continuous(self, mechanism: Mechanism, market: Market) -> Any:
        """The solution where any price between the lowest and the highest choice may be asked.

        Raises:
            ValueError: the rule has no formula for it.
        """
        raise ValueError(
            f"mechanism {mechanism.name!r} has no solver for continuous prices; solve a price grid:"
            " ttc_env.solve(market, mechanism)"
        )

    def solve_batch(
        self, mechanism: Mechanism, batch: MarketBatch, *, tolerance: float, max_sweeps: int
    ) -> Any:
        """`ttc_env.sweep` of G markets: one by one."""
        from ttc_env.game import sweep

        return sweep.one_by_one(mechanism, batch, tolerance)


def regrets(replies: Replies, noise: ArrayLike) -> tuple[Array, Array]:
    """Regret, USD per arriving user, and relative regret, `[n, b]` (`ttc_env.game.regret.compare`).

    noise: `[b]`, see `Rule.noise`.
    """
    shape = replies.own_profit.shape
    count = replies.profit.shape[-1]
    found = compare(
        replies.profit.reshape(-1, count),
        replies.log_share.reshape(-1, count),
        replies.own_profit.reshape(-1),
        replies.own_log_share.reshape(-1),
        np.broadcast_to(noise, shape).reshape(-1),
    )
    return found[1].reshape(shape), found[2].reshape(shape)


def leading(score: Any) -> tuple[Any, Any, Any]:
    """The highest score, the second highest (-inf if there is none), and who has the highest.

    score: `[n, ...]`. At a tie the second equals the highest.
    """
    xp = array_module(score)
    best, second = score[0], xp.full_like(score[0], -np.inf)
    for row in score[1:]:
        second = xp.maximum(second, xp.minimum(best, row))
        best = xp.maximum(best, row)
    return best, second, score == best


__all__ = [
    "BestReplies",
    "EveryAction",
    "Expected",
    "PythonInfos",
    "Replies",
    "Round",
    "Rule",
    "Tabulated",
    "Users",
    "UsersLike",
    "leading",
    "regrets",
]
