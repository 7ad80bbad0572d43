"""The rules of a round: who offers what, who serves, who pays what.

A `Mechanism` is three small parts. A *tariff* turns an action (level, price choice, claim) into an
`Offer`; an *allocation* picks who serves; a *payment* rule says what a served query costs the user.
Both rules of this file are aggregative: what a provider gets depends on its own offer and on one
summary of its rivals, so that one formula serves a round that was played and every deviation from
it.

| name | tariff | allocation | payment |
| --- | --- | --- | --- |
| `market`: pay per token | `PerToken`: factor x list price | `Logit`: users choose | `Posted` |
| `auction`: reverse second-price | `CostPlus`: cost x (1 + markup) | `HighestScore` | `SecondScore` |

Axis 0 is the provider; further axes are actions or batch. Money is USD/query throughout.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game import demand, welfare
from ttc_env.game.tariffs import CostPlus, PerToken, Tariff
from ttc_env.game.types import Array, Market, PostedPriceGame


@dataclass(frozen=True, eq=False)
class Offer:
    """What providers put on the table."""

    quality: Array  # [n, ...] USD/query, q: delivered in expectation
    claim: Array  # [n, ...] USD/query, qhat: promised; equals quality unless a provider misreports
    price: Array  # [n, ...] USD/query: posted price, or bid
    cost: Array  # [n, ...] USD/query, c

    @property
    def score(self) -> Array:
        """What users and the auctioneer see: claimed quality minus price."""
        return self.claim - self.price

    def take(self, actions: NDArray[np.integer]) -> Offer:
        """Of a table `[n, a]`, the offers of one action per provider: `[n]`; or of a batch, actions
        `[n, ...]`.
        """
        rows = np.arange(len(self.quality)).reshape(-1, *(1,) * (actions.ndim - 1))
        return Offer(
            *(getattr(self, field.name)[rows, actions] for field in dataclasses.fields(self))
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything that a round decides, in expectation over users (and over ties)."""

    offer: Offer  # [n]
    # [n] log of the chance that a user is served by i; -inf where that is impossible
    log_share: Array
    outside_share: Array  # chance that a user buys from nobody
    # [n] USD per served query; 0 for a provider that the mechanism leaves without users
    payment: Array
    profit_per_query: Array  # [n] USD/query, payment - cost; 0 likewise
    user_value: Array  # USD per arriving user: share-weighted quality - payment
    welfare: Array  # USD per arriving user: share-weighted quality - cost

    @property
    def share(self) -> Array:
        """[n] chance that a user is served by i."""
        return np.exp(self.log_share)

    @property
    def utility(self) -> Array:
        """[n] U, USD per arriving user: expected profit."""
        return demand.utility(self.profit_per_query, self.log_share)


# --- allocation rules: who serves -----------------------------------------------------------------


class Allocation(ABC):
    """Who serves, given everybody's scores.

    A rule sees a provider's rivals through one summary, `rivals`.
    """

    @abstractmethod
    def rivals(self, score: Array, market: Market) -> Any:
        """What provider i needs to know of the others: a named tuple of arrays `[n, ...]`. score:
        `[n, ...]`.
        """

    @abstractmethod
    def log_share(self, score: Array, rivals: Any, market: Market) -> Array:
        """log of the chance to serve a user with this score against these rivals.

        Shapes broadcast.
        """

    @abstractmethod
    def outside_share(self, score: Array, market: Market) -> Array:
        """The chance that a user buys from nobody. score: `[n, ...]`; returns `[...]`."""


class Attraction(NamedTuple):
    """The summary of rivals under logit choice."""

    log_rivals: Array  # [n, ...] log A_-i, in units of exp(beta reference)
    reference: Array  # [n, ...] USD/query: the highest value on offer but i's own


@dataclass(frozen=True)
class Logit(Allocation):
    """Users choose by logit; the summary is log A_-i (GAME.md, "The pay-per-token market")."""

    def rivals(self, score: Array, market: Market) -> Attraction:
        return Attraction(*demand.best_rivals(score, market.beta, market.outside_value))

    def log_share(self, score: Array, rivals: Attraction, market: Market) -> Array:
        return demand.log_share_against(
            demand.logits(score, market.beta, rivals.reference), rivals.log_rivals
        )

    def outside_share(self, score: Array, market: Market) -> Array:
        return demand.shares(score, market.beta, market.outside_value)[1]


class BestRival(NamedTuple):
    """The summary of rivals in an auction."""

    score: Array  # [n, ...] USD/query: the highest score among the others, -inf if there are none
    ties: Array  # [n, ...] how many of the others have it


@dataclass(frozen=True)
class HighestScore(Allocation):
    """The highest score serves everybody, if it is at least V_0; equal scores are equally likely to
    (GAME.md, "The reverse second-price auction").

    Scores tie where they are equal as numbers: a bid that is higher by any amount wins.
    """

    def rivals(self, score: Array, market: Market) -> BestRival:
        n = len(score)
        if n == 1:
            return BestRival(np.full_like(score, -np.inf), np.zeros_like(score))
        order = np.sort(score, axis=0)
        best, second = order[-1], order[-2]
        leads = score == best
        leaders = leads.sum(axis=0)
        alone = leads & (leaders == 1)
        seconds = (score == second).sum(axis=0)
        return BestRival(np.where(alone, second, best), np.where(alone, seconds, leaders - leads))

    def log_share(self, score: Array, rivals: BestRival, market: Market) -> Array:
        trades = score >= market.outside_value
        wins = trades & (score > rivals.score)
        ties = trades & (score == rivals.score)
        return np.where(wins, 0.0, np.where(ties, -np.log1p(rivals.ties), -np.inf))

    def outside_share(self, score: Array, market: Market) -> Array:
        return np.where(score.max(axis=0) >= market.outside_value, 0.0, 1.0)


# --- payment rules: who pays what -----------------------------------------------------------------


class Payment(ABC):
    @abstractmethod
    def payment(self, offer: Offer, rivals: Any, market: Market) -> Array:
        """USD per served query, for a provider that serves. Shapes broadcast."""


@dataclass(frozen=True)
class Posted(Payment):
    """A user pays the price that it saw."""

    def payment(self, offer: Offer, rivals: Any, market: Market) -> Array:
        return offer.price


@dataclass(frozen=True)
class SecondScore(Payment):
    """payment = q_w - max(second-highest score, V_0): the user's value is the runner-up's score
    (GAME.md).

    `settlement="delivered"`: q_w is the quality delivered in expectation, so that an inflated claim
    can win but is not paid for. `settlement="claimed"`: it is the quality promised, and
    misreporting pays.
    """

    settlement: str = "delivered"

    def __post_init__(self) -> None:
        if self.settlement not in ("delivered", "claimed"):
            raise ValueError(
                f"settlement {self.settlement!r} is unknown; choose 'delivered' or 'claimed'"
            )

    def settled_quality(self, offer: Offer) -> Array:
        return offer.quality if self.settlement == "delivered" else offer.claim

    def payment(self, offer: Offer, rivals: BestRival, market: Market) -> Array:
        return self.settled_quality(offer) - np.maximum(rivals.score, market.outside_value)


# --- the mechanism --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mechanism:
    """A tariff, an allocation rule and a payment rule; with `claims`, factors on the true quality
    that a provider may promise.

    An *action* of a provider is (level, price choice, claim), flattened in that order: `action =
    (level * k_p + price) * k_c + claim`, so with one price and one claim an action is a level.
    """

    name: str
    tariff: Tariff
    allocation: Allocation
    payment: Payment
    claims: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        claims = tuple(float(x) for x in self.claims)
        object.__setattr__(self, "claims", claims)
        if (
            not claims
            or min(claims) < 0
            or not np.isfinite(claims).all()
            or list(claims) != sorted(set(claims))
        ):
            raise ValueError(
                f"claims must be factors >= 0 on the true quality, in rising order; got {claims}"
            )

    @property
    def kind(self) -> Literal["logit", "auction", "other"]:
        """Which closed forms hold: those of posted prices under logit choice, of the second-score
        auction, or none.

        A subclass may change any rule, so that it counts as "other": it plays by `play` and
        `deviations` alone.
        """
        rules = type(self), type(self.allocation), type(self.payment)
        return (
            "logit"
            if rules == (Mechanism, Logit, Posted)
            else "auction"
            if rules == (Mechanism, HighestScore, SecondScore)
            else "other"
        )

    @property
    def posts_prices(self) -> bool:
        """Whether this is a posted-price game, which `game` can flatten."""
        return self.kind == "logit"

    def settled_quality(self, offer: Offer) -> Array:
        """USD/query: the quality that an auction's winner is paid for."""
        assert isinstance(self.payment, SecondScore), (
            "only a second-score auction settles on quality"
        )
        return self.payment.settled_quality(offer)

    def grid(self, market: Market) -> tuple[int, int, int]:
        """(levels, price choices, claims) per provider."""
        return market.num_levels, len(self.tariff.choices), len(self.claims)

    def split(
        self, actions: ArrayLike, market: Market
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Flat actions as (level, price, claim) indices. Any shape."""
        return np.unravel_index(np.asarray(actions), self.grid(market))  # type: ignore[return-value]

    def join(
        self, level: ArrayLike, price: ArrayLike = 0, claim: ArrayLike = 0, *, market: Market
    ) -> NDArray[np.intp]:
        """(level, price, claim) indices as flat actions: the inverse of `split`."""
        _, prices, claims = self.grid(market)
        return (np.asarray(level) * prices + np.asarray(price)) * claims + np.asarray(claim)

    def offers(self, market: Market) -> Offer:
        """Every action's offer: a table `[n, a]`, NaN where a provider has fewer levels."""
        shape = (market.num_providers, *self.grid(market))

        def table(values: Array) -> Array:
            return np.ascontiguousarray(np.broadcast_to(values, shape)).reshape(shape[0], -1)

        quality, cost, base = (
            x[:, :, None, None] for x in (market.quality, market.cost, self.tariff.base(market))
        )
        price = self.tariff.price(base, np.array(self.tariff.choices)[:, None])
        claim = quality * np.array(self.claims)
        return Offer(table(quality), table(claim), table(price), table(cost))

    def game(self, market: Market) -> PostedPriceGame:
        """The posted-price game that this mechanism plays on this market, actions flattened.

        Raises:
            ValueError: not a posted-price mechanism.
        """
        if not self.posts_prices:
            raise ValueError(
                f"mechanism {self.name!r} is not a posted-price game: users do not choose by logit"
                " among posted prices"
            )
        offer = self.offers(market)
        return PostedPriceGame(
            offer.score,
            offer.price - offer.cost,
            offer.quality - offer.cost,
            market.beta,
            market.outside_value,
        )

    def play(self, offer: Offer, market: Market) -> Outcome:
        """One round, in expectation: a pure function of the offers `[n, ...]`."""
        rivals = self.allocation.rivals(offer.score, market)
        log_share = self.allocation.log_share(offer.score, rivals, market)
        outside_share = self.allocation.outside_share(offer.score, market)
        serves = log_share > -np.inf
        payment = np.where(serves, self.payment.payment(offer, rivals, market), 0.0)
        share = np.exp(log_share)
        return Outcome(
            offer=offer,
            log_share=log_share,
            outside_share=outside_share,
            payment=payment,
            profit_per_query=np.where(serves, payment - offer.cost, 0.0),
            user_value=welfare.user_value(
                share, offer.quality - payment, outside_share, market.outside_value
            ),
            welfare=welfare.welfare(
                share, offer.quality - offer.cost, outside_share, market.outside_value
            ),
        )

    def deviations(self, table: Offer, offer: Offer, market: Market) -> tuple[Array, Array]:
        """What each provider would get from each of its actions while the others keep their offers.

        Args:
            table: every action's offer, `[n, a]`, from `offers`.
            offer: the offers of this round, `[n]`.

        Returns:
            profit per served query and log share, both `[n, a]`; NaN where an action does not
            exist.
        """
        rivals = self.allocation.rivals(offer.score, market)
        rivals = type(rivals)(*(summary[:, None] for summary in rivals))
        absent = np.isnan(table.quality)
        log_share = self.allocation.log_share(np.where(absent, 0.0, table.score), rivals, market)
        profit = np.where(
            log_share > -np.inf, self.payment.payment(table, rivals, market) - table.cost, 0.0
        )
        return np.where(absent, np.nan, profit), np.where(absent, np.nan, log_share)


def pay_per_token(factors: Sequence[float] = (1.0,)) -> Mechanism:
    """The pay-per-token market ([TTC]). factors: price choices as multiples of the list price;
    (1.0,) is the paper's game.
    """
    return Mechanism("market", PerToken(tuple(factors)), Logit(), Posted())


def second_price_auction(
    markups: Sequence[float] = (0.0,),
    settlement: str = "delivered",
    claims: Sequence[float] = (1.0,),
) -> Mechanism:
    """The reverse second-price auction ([TTC]).

    Args:
        markups: bids as markups over cost; (0.0,) is the truthful bid alone.
        settlement: `"delivered"` or `"claimed"`, see `SecondScore`.
        claims: factors on the true quality that a provider may promise.
    """
    return Mechanism(
        "auction", CostPlus(tuple(markups)), HighestScore(), SecondScore(settlement), tuple(claims)
    )


MECHANISMS: dict[str, Callable[..., Mechanism]] = {
    "market": pay_per_token,
    "auction": second_price_auction,
}
"""Mechanisms by name: functions that build them from their price choices and options."""


def get_mechanism(mechanism: str | Mechanism) -> Mechanism:
    """A mechanism by name, as the paper plays it (list prices; truthful bids), or the one given."""
    if isinstance(mechanism, Mechanism):
        return mechanism
    if mechanism not in MECHANISMS:
        raise ValueError(
            f"mechanism {mechanism!r} is unknown; choose {', '.join(MECHANISMS)}, or pass a"
            " ttc_env.game.mechanisms.Mechanism"
        )
    return MECHANISMS[mechanism]()
