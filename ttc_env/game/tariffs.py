"""Offers, and tariffs: what a provider's choice puts on the table.

A provider chooses a level and a *price choice*, a number on a grid; a tariff turns the two into a
price in USD/query. Its neutral choice is the one that `prices="fixed"` plays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.types import Array, Market


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
    scale a continuous price is laid out between the lowest and the highest choice.
    """

    choices: tuple[float, ...]  # the grid of price choices

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
        """USD/query. Shapes broadcast; operators alone, so that torch tensors do too."""

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

    @property
    def continuous(self) -> bool:
        """Whether there is a range of prices to choose from, and not one price alone."""
        return len(self.choices) > 1

    def prices(self, market: Market) -> Array:
        """`[n, m, k]` USD/query: of every level, at every price choice."""
        terms = tuple(term[:, :, None] for term in self.terms(market))
        return np.asarray(self.price(terms, np.array(self.choices)))

    def price_range(self, market: Market) -> tuple[Array, Array]:
        """`[n, m]` USD/query each: the lowest and the highest price of every level, whichever end
        of the grid they are at.
        """
        ends = [self.price(self.terms(market), self.choices[k]) for k in (0, -1)]
        return np.minimum(*ends), np.maximum(*ends)


@dataclass(frozen=True)
class PerToken(Tariff):
    """Price per token: a choice is a factor on the list price, p = factor x rho T. 1.0 is the
    paper's fixed price.
    """

    choices: tuple[float, ...] = (0.8, 1.0, 1.25, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

    neutral = 1.0

    def terms(self, market: Market) -> tuple[Array, ...]:
        return (market.price,)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        return terms[0] * choice


@dataclass(frozen=True)
class CostPlus(Tariff):
    """A bid: a choice is a markup over cost, b = (1 + markup) c. 0.0 is the truthful bid; below it
    a provider bids under its cost.
    """

    choices: tuple[float, ...] = (-0.5, -0.2, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

    neutral = 0.0

    def terms(self, market: Market) -> tuple[Array, ...]:
        return (market.cost,)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        return terms[0] * (1.0 + choice)

    def multiple(self, choice: Any) -> Any:
        return 1.0 + choice

    def choice(self, multiple: Any) -> Any:
        return multiple - 1.0


def price_choices(tariff: type[Tariff], prices: str | ArrayLike) -> tuple[float, ...]:
    """The choices that an environment's `prices` means: `"grid"` the tariff's default, `"fixed"`
    its neutral one alone, or numbers.

    Raises:
        ValueError: another word.
    """
    if not isinstance(prices, str):
        return tuple(float(x) for x in np.atleast_1d(np.asarray(prices, dtype=np.float64)))
    if prices not in ("grid", "fixed"):
        raise ValueError(
            f"prices is {prices!r}; choose 'grid', 'fixed', or give the price choices as numbers"
        )
    grid = tariff.__dataclass_fields__["choices"].default
    return (tariff.neutral,) if prices == "fixed" else grid  # type: ignore[return-value]
