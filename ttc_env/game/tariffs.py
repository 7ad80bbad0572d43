"""Offers, and tariffs: what a provider's choice puts on the table.

A provider chooses a level and a *price choice*, a number on a grid; a tariff turns the two into a
price in USD/query. Its neutral choice is the one that `prices="fixed"` plays.

Posted prices differ in what the price depends on (GAME.md, "Reference level and tariffs"). With x
the choice, and stars at a provider's reference level, the first of those with the largest surplus
w = q - c:

| tariff | price of (level, x) |
| --- | --- |
| `PerToken` | x p, p the list price |
| `FlatFee` | x p*, whatever the level |
| `PayPerCorrect` | x R a in expectation: a right answer costs x R, a wrong one nothing |
| `TwoPart` | c + x pi*: the cost passed on, and a fee |
| `PriceCap` | min(x p, cap) |
| `PerCharacter` | x kappa, times the characters of the answer |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.arrays import array_module
from ttc_env.game.types import Array, Market

Terms: TypeAlias = tuple[Any, ...]
"""What a price depends on besides its choice: arrays."""


@dataclass(frozen=True, eq=False)
class Offer:
    """What providers put on the table: `[n, ...]` arrays of USD/query, NumPy's or torch's.

    Value to users is `quality - payment`, profit `payment - cost - penalty`, surplus `quality -
    cost`. An honest offer leaves out `paid` and `penalty`.
    """

    quality: Any  # q, delivered in expectation
    seen: Any  # the quality that users, or the auctioneer, believe: an announced level, a claim
    price: Any  # posted, or bid
    cost: Any  # c
    paid: Any = None  # billed to a served user under posted prices; the price itself by default
    penalty: Any = 0.0  # the expected fine of a lie; a number, or an array

    def __post_init__(self) -> None:
        if self.paid is None:
            object.__setattr__(self, "paid", self.price)

    @property
    def score(self) -> Any:
        """What users and the auctioneer go by: quality as seen, minus price."""
        return self.seen - self.price

    def map(self, function: Callable[[Any], Any]) -> Offer:
        """The offer whose arrays are `function` of these."""
        return Offer(
            function(self.quality),
            function(self.seen),
            function(self.price),
            function(self.cost),
            None if self.paid is self.price else function(self.paid),
            self.penalty if isinstance(self.penalty, float) else function(self.penalty),
        )

    def take(self, actions: NDArray[np.integer]) -> Offer:
        """Of a table `[n, a]`, the offers of one action per provider: `[n]`; or of a batch, actions
        `[n, ...]`.
        """
        rows = np.arange(len(self.quality)).reshape(-1, *(1,) * (actions.ndim - 1))
        return self.map(lambda table: table[rows, actions])


@dataclass(frozen=True)
class Tariff(ABC):
    """Turns a level and a price choice into a price.

    A tariff of your own needs `terms`, `price` and `neutral`; `multiple` and `choice` say on which
    scale a continuous price is laid out between the lowest and the highest choice; `lies` and
    `misreported` say which misreports make sense under it, and what they do to prices.
    """

    choices: tuple[float, ...]  # the grid of price choices

    lies: ClassVar[tuple[str, ...]] = ("under_serve",)
    """The misreports that can be told (`ttc_env.game.misreports`)."""

    passes_fines_on: ClassVar[bool] = False
    """Whether a liar's price covers the expected fine."""

    def __post_init__(self) -> None:
        choices = tuple(float(x) for x in np.atleast_1d(np.asarray(self.choices, dtype=np.float64)))
        object.__setattr__(self, "choices", choices)
        if not choices or not np.isfinite(choices).all() or list(choices) != sorted(set(choices)):
            raise ValueError(
                "price choices must be finite numbers in rising order, without repetition; got"
                f" {choices}"
            )
        if self.multiple(choices[0]) <= 0:
            raise ValueError(
                f"the lowest price choice, {choices[0]}, makes a price <= 0; the grid must start"
                f" above {self.choice(0.0):g}"
            )

    @abstractmethod
    def terms(self, market: Market) -> tuple[Array, ...]:
        """What the price depends on besides the choice: arrays `[n, m]`, by level; NaN where a
        level does not exist.
        """

    @abstractmethod
    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        """USD/query. Shapes broadcast; for NumPy arrays and torch tensors alike."""

    @property
    @abstractmethod
    def neutral(self) -> float:
        """The choice that the theory singles out: the list price, the truthful bid."""

    def multiple(self, choice: Any) -> Any:
        """A choice as a positive number, on whose logarithm continuous prices are laid out."""
        return choice

    def choice(self, multiple: Any) -> Any:
        """The inverse of `multiple`."""
        return multiple

    @classmethod
    def of(cls, prices: str | ArrayLike = "fixed", **options: Any) -> Self:
        """The tariff with the choices that an environment's `prices` means.

        Args:
            prices: `"grid"` for the tariff's default, `"fixed"` for its neutral choice alone, or
                numbers.
            options: the tariff's other fields.

        Raises:
            ValueError: another word, or what the tariff itself refuses.
        """
        if not isinstance(prices, str):
            choices = tuple(np.atleast_1d(np.asarray(prices, dtype=np.float64)))
        elif prices == "fixed":
            choices = (cls.neutral,)
        elif prices == "grid":
            choices = cls.grid(**options)
        else:
            raise ValueError(
                f"prices is {prices!r}; choose 'grid', 'fixed', or give the price choices as"
                " numbers"
            )
        return cls(choices, **options)

    @classmethod
    def grid(cls, **options: Any) -> tuple[float, ...]:
        """The default choices, for a tariff with these other fields."""
        return tuple(cls.__dataclass_fields__["choices"].default)  # type: ignore[arg-type]

    def choice_at(self, terms: tuple[Any, ...], price: Any) -> Any:
        """The inverse of `price`, where nothing caps it: the choice that asks this price. Here for
        prices in proportion to `multiple`.
        """
        return self.choice(price / self.price(terms, self.choice(1.0)))

    def misreported(
        self, served: Terms, announced: Terms, factor: Array, fine: Array
    ) -> tuple[Terms, Terms]:
        """The terms of the price that users expect, and those of the bill, under a misreport.

        Args:
            served, announced: `terms` of the level that is served and of the one that is announced,
                `[n, m, r]` for r reports.
            factor: `[r]` tokens, or characters, as billed over those used.
            fine: `[r]` USD/query, in expectation.
        """
        return announced, self.counted(announced, factor)

    def counted(self, terms: Terms, factor: Array) -> Terms:
        """Terms where `factor` times the tokens, or characters, are billed. Only tariffs that count
        them (`lies`) have it; for others factor is 1.
        """
        return terms

    @property
    def continuous(self) -> bool:
        """Whether there is a range of prices to choose from, and not one price alone."""
        return len(self.choices) > 1

    def prices(self, market: Market) -> Array:
        """`[n, m, k]` USD/query: of every level, at every price choice."""
        terms = tuple(term[:, :, None] for term in self.terms(market))
        return np.asarray(self.price(terms, np.array(self.choices)))

    def price_range(self, terms: Terms) -> tuple[Array, Array]:
        """The lowest and the highest price in USD/query, whichever end of the grid they are at, of
        every entry of `terms`.
        """
        ends = [self.price(terms, self.choices[k]) for k in (0, -1)]
        return np.minimum(*ends), np.maximum(*ends)


@dataclass(frozen=True)
class PerToken(Tariff):
    """Price per token: a choice is a factor on the list price, p = factor x rho T. 1.0 is the
    paper's fixed price.
    """

    choices: tuple[float, ...] = (0.8, 1.0, 1.25, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

    neutral = 1.0
    lies = ("over_report", "under_serve")

    def terms(self, market: Market) -> tuple[Array, ...]:
        return (market.price,)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        return terms[0] * choice

    def counted(self, terms: Terms, factor: Array) -> Terms:
        return (terms[0] * factor,)


@dataclass(frozen=True)
class CostPlus(Tariff):
    """A bid: a choice is a markup over cost, b = (1 + markup) c. 0.0 is the truthful bid; below it
    a provider bids under its cost.
    """

    choices: tuple[float, ...] = (-0.5, -0.2, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

    neutral = 0.0
    lies = ("under_serve", "over_claim")
    passes_fines_on = True

    def terms(self, market: Market) -> tuple[Array, ...]:
        return (market.cost,)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        bid = terms[0] * (1.0 + choice)
        return bid if len(terms) == 1 else bid + terms[1]

    def misreported(
        self, served: Terms, announced: Terms, factor: Array, fine: Array
    ) -> tuple[Terms, Terms]:
        """A bid is over the cost of what is served, and a liar's covers the expected fine, too: it
        is a cost of serving, so that the neutral bid stays the one at cost.
        """
        bid = (*served, np.zeros_like(served[0]) + fine)
        return bid, bid

    def multiple(self, choice: Any) -> Any:
        return 1.0 + choice

    def choice(self, multiple: Any) -> Any:
        return multiple - 1.0


# Choices of the tariffs below. Steps are fine around the neutral choice, where rivals undercut each
# other, and double beyond it. The far ends are where the published games' equilibria in free prices
# lie at beta = 200: markups of up to 136 times the neutral one for a flat fee, 674 for a two-part
# tariff (GAME.md, theorem 13).
_NEAR = (0.5, 0.8, 1.0, 1.25)
_FAR = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


def reference_level(market: Market) -> NDArray[np.intp]:
    """`[n]` the level of largest surplus, theta* = argmax w; of equal ones the first (GAME.md,
    "Reference level and tariffs").
    """
    return np.asarray(np.nanargmax(market.quality - market.cost, axis=1))


def at_reference(market: Market, table: Array) -> Array:
    """`[n, 1]` a table's `[n, m]` entries at the reference levels."""
    return np.take_along_axis(table, reference_level(market)[:, None], axis=1)


def _every_level(market: Market, number: Array) -> Array:
    """`[n, m]` a provider's one number `[n, 1]`, NaN where a level does not exist."""
    return np.where(np.isnan(market.quality), np.nan, number)


@dataclass(frozen=True)
class FlatFee(Tariff):
    """One price per query, whatever the level: p = x p*.

    A higher level is then served at the provider's own expense, so that a flat fee shades quality
    where pi* <= m* (GAME.md, theorem 12).
    """

    choices: tuple[float, ...] = (*_NEAR, *_FAR)

    neutral = 1.0

    def terms(self, market: Market) -> tuple[Array, ...]:
        return (_every_level(market, at_reference(market, market.price)),)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        return terms[0] * choice


@dataclass(frozen=True)
class PayPerCorrect(Tariff):
    """Pay for right answers alone: x R for each, so that p = x R a in expectation.

    With `base="list"` R = p* / a* is the provider's own, and the bill at the reference level is the
    list price. With `base="value"` R = alpha (1 - b) for all: what a right answer is worth beyond a
    wrong one. Then, at x = 1 and quality linear in accuracy, V = alpha b whatever the level, and
    theta* is dominant (GAME.md, theorem 11).
    """

    choices: tuple[float, ...] = (*_NEAR, *_FAR)
    base: str = "list"

    neutral = 1.0

    # x < 1 shares the value with users, x > 1 leaves them less than any answer is worth. List
    # prices are a thousandth to a hundredth of the value of an answer.
    VALUE_CHOICES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 1.5, 2.0)

    @classmethod
    def grid(cls, **options: Any) -> tuple[float, ...]:
        return cls.VALUE_CHOICES if options.get("base") == "value" else super().grid()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base not in ("list", "value"):
            raise ValueError(
                f"base is {self.base!r}; choose 'list' (a provider's list price) or 'value' (what a"
                " right answer is worth)"
            )

    def terms(self, market: Market) -> tuple[Array, ...]:
        """R a, USD/query.

        Raises:
            ValueError: no accuracies, no alpha (`base="value"`), or a reference level that is never
                right (`base="list"`).
        """
        accuracy = market.accuracy
        if accuracy is None:
            raise ValueError(
                "pay_per_correct needs the chance of a right answer of every level; load curves"
                " with ttc_env.load_market, or give Market.from_arrays(accuracy=...)"
            )
        if self.base == "value":
            if market.alpha is None:
                raise ValueError(
                    "pay_per_correct with base='value' needs alpha, the value of a right answer;"
                    " load curves with ttc_env.load_market, give Market.from_arrays(alpha=...), or"
                    " use base='list'"
                )
            return (np.asarray(market.alpha) * (1.0 - np.asarray(market.baseline)) * accuracy,)
        own = at_reference(market, accuracy)
        if not (own > 0).all():
            raise ValueError(
                "pay_per_correct with base='list' divides by the accuracy at the level of largest"
                f" surplus, which is {own.min():g} for provider {own[:, 0].argmin()}; use"
                " base='value'"
            )
        return (at_reference(market, market.price) / own * accuracy,)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        return terms[0] * choice

    def misreported(
        self, served: Terms, announced: Terms, factor: Array, fine: Array
    ) -> tuple[Terms, Terms]:
        """Right answers are counted once they are there: users expect those of the announced level,
        and pay for those of the level that is served.
        """
        return announced, served


@dataclass(frozen=True)
class TwoPart(Tariff):
    """The level at cost, and a fee that does not depend on it: p = c + x pi*.

    The fee is the whole profit, so that theta* is dominant wherever x pi* > 0 (GAME.md, theorem
    10): every choice reaches efficient compute, and the grid's far end serves market power alone.
    At pi* < 0 the price falls in x.
    """

    choices: tuple[float, ...] = (*_NEAR, *_FAR, 512.0, 1024.0)

    neutral = 1.0
    lies = ("over_report", "under_serve")

    def terms(self, market: Market) -> tuple[Array, ...]:
        fee = at_reference(market, market.price - market.cost)
        return market.cost, _every_level(market, fee)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        cost, fee = terms
        return cost + fee * choice

    def choice_at(self, terms: tuple[Any, ...], price: Any) -> Any:
        cost, fee = terms
        return (price - cost) / fee

    def counted(self, terms: Terms, factor: Array) -> Terms:
        """The cost that is passed on is counted in tokens; the fee is not."""
        cost, fee = terms
        return cost * factor, fee


@dataclass(frozen=True)
class PriceCap(Tariff):
    """Pay per token up to a cap: p = min(x rho T, cap). By default the cap is each provider's p*.

    At the neutral choice, with the default cap and cost proportional to list price, the level is
    theta* where pi* <= m* (GAME.md, theorem 12). On a grid a provider may undercut, and may ask the
    cap at a low level, which is then a flat fee of at most the cap. Choices beyond the cap are one
    action.
    """

    choices: tuple[float, ...] = (0.25, *_NEAR, *_FAR[:-2])
    cap: float | None = None  # USD/query, one for all; None: p* of each provider

    neutral = 1.0
    lies = ("over_report", "under_serve")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cap is not None and not (np.isfinite(self.cap) and self.cap > 0):
            raise ValueError(
                f"cap is {self.cap!r}; it must be a positive number of USD/query, or None for the"
                " list price at each provider's level of largest surplus"
            )

    def terms(self, market: Market) -> tuple[Array, ...]:
        own = at_reference(market, market.price)
        cap = own if self.cap is None else np.full_like(own, self.cap)
        return market.price, _every_level(market, cap)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        asked, cap = terms[0] * choice, terms[1]
        return array_module(cap).minimum(asked, cap)

    def choice_at(self, terms: tuple[Any, ...], price: Any) -> Any:
        return price / terms[0]

    def counted(self, terms: Terms, factor: Array) -> Terms:
        return terms[0] * factor, terms[1]


@dataclass(frozen=True)
class PerCharacter(Tariff):
    """Pay by the character of the answer: p = x kappa characters. kappa, USD/character, is each
    provider's own: the bill at the reference level is the list price there, p*.

    Unlike tokens, characters can be counted by the one who pays. Source: arXiv 2505.21627.
    """

    choices: tuple[float, ...] = (*_NEAR, *_FAR[:-2])

    neutral = 1.0
    lies = ("over_report", "under_serve")

    def terms(self, market: Market) -> tuple[Array, ...]:
        """kappa characters, USD/query.

        Raises:
            ValueError: curves without characters, or none at a reference level.
        """
        characters = market.characters
        if characters is None:
            raise ValueError(
                "per_character needs the characters that every level bills; these curves have no"
                " column 'characters'. Measure curves that do, or give"
                " Market.from_arrays(characters=...)"
            )
        own = at_reference(market, characters)
        if not (own > 0).all():
            raise ValueError(
                "per_character divides by the characters billed at the level of largest surplus,"
                f" which are {own.min():g} for provider {own[:, 0].argmin()}"
            )
        return (at_reference(market, market.price) / own * characters,)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        return terms[0] * choice

    def counted(self, terms: Terms, factor: Array) -> Terms:
        return (terms[0] * factor,)


POSTED_TARIFFS: dict[str, type[Tariff]] = {
    "market": PerToken,
    "flat_fee": FlatFee,
    "pay_per_correct": PayPerCorrect,
    "two_part": TwoPart,
    "price_cap": PriceCap,
    "per_character": PerCharacter,
}
"""Mechanisms whose rule is a posted price, by name. A tariff entered here is one of them; its
fields besides `choices` are the mechanism's options.
"""
