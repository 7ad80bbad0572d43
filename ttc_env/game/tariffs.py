"""Tariffs: what the price part of an action means.

A choice is a number on a grid; a tariff turns it into USD/query.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.types import Array, Market


@dataclass(frozen=True)
class Tariff(ABC):
    """Turns a price choice (a number) into a price."""

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
    def multiple(self, choice: ArrayLike) -> Array:
        """price / base at a choice."""

    @abstractmethod
    def choice(self, multiple: ArrayLike) -> Array:
        """The inverse of `multiple`."""

    @abstractmethod
    def base(self, market: Market) -> Array:
        """`[n, m]` USD/query: what the choice multiplies."""

    @property
    @abstractmethod
    def neutral(self) -> float:
        """The choice that the theory singles out: the list price, the truthful bid."""

    def price(self, base: ArrayLike, choice: ArrayLike) -> Array:
        """USD/query. Shapes broadcast."""
        return np.multiply(base, self.multiple(choice))


@dataclass(frozen=True)
class PerToken(Tariff):
    """Price per token: a choice is a factor on the list price, p = factor x rho T. 1.0 is the
    paper's fixed price.
    """

    choices: tuple[float, ...] = (0.8, 1.0, 1.25, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

    neutral = 1.0

    def multiple(self, choice: ArrayLike) -> Array:
        return np.asarray(choice, dtype=np.float64)

    def choice(self, multiple: ArrayLike) -> Array:
        return np.asarray(multiple, dtype=np.float64)

    def base(self, market: Market) -> Array:
        return market.price


@dataclass(frozen=True)
class CostPlus(Tariff):
    """A bid: a choice is a markup over cost, b = (1 + markup) c. 0.0 is the truthful bid; below it
    a provider bids under its cost.
    """

    choices: tuple[float, ...] = (-0.5, -0.2, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

    neutral = 0.0

    def multiple(self, choice: ArrayLike) -> Array:
        return 1.0 + np.asarray(choice, dtype=np.float64)

    def choice(self, multiple: ArrayLike) -> Array:
        return np.asarray(multiple, dtype=np.float64) - 1.0

    def base(self, market: Market) -> Array:
        return market.cost
