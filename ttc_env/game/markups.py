"""One grid of markups for every tariff, so that rules can be compared.

On a common grid of its own choices x every tariff reaches other prices, and a grid that is wide for
one caps another (GAME.md, theorem 13). `Markups` lays out any tariff's choices by what they mean at
each provider's reference level theta*, its efficient one: choice k asks there the price

    c* + k pi*,     pi* = p* - c*, the list price's markup over cost

so that k = 0 is a price at cost, k = 1 the list price, and all rules offer the same prices at
theta*. At other levels the tariff prices as it always does, which is what rules differ in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.free_prices import free_price_equilibrium
from ttc_env.game.tariffs import Tariff, at_reference
from ttc_env.game.types import Array, Market, PostedPriceGame

STEPS_PER_OCTAVE = 4
"""Choices of `markup_grid` between one markup and its double."""


@dataclass(frozen=True)
class Markups(Tariff):
    """Another tariff, whose choices are numbers k >= 0: markups at the reference level, as
    multiples of the list price's. See the module's docstring.
    """

    tariff: Tariff
    neutral: float = 1.0  # the k that the theory singles out: list price (1), truthful bid (0)

    def terms(self, market: Market) -> tuple[Array, ...]:
        """The tariff's own by level; the same at the reference level; c* and pi*.

        Raises:
            ValueError: a list price at theta* that is not above cost, or a tariff that cannot ask
                c* + pi* there.
        """
        own = self.tariff.terms(market)
        there = tuple(at_reference(market, term) for term in own)
        cost = at_reference(market, market.cost)
        markup = at_reference(market, market.price) - cost
        if not (markup > 0).all():
            i = int(np.argmin(markup[:, 0].reshape(len(markup), -1).min(axis=-1)))
            raise ValueError(
                f"provider {i} sells its efficient level at a list price of no more than its cost,"
                " so that markups cannot be counted in list markups; raise the margin"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            choice = self.tariff.choice_at(there, cost + markup)
        if not np.isfinite(choice).all():
            raise ValueError(
                f"{type(self.tariff).__name__} cannot ask the list price at every provider's"
                " efficient level, so that its prices cannot be laid out by markups there"
            )
        every = np.where(np.isnan(market.quality), np.nan, 0.0)
        return (*own, *(every + term for term in there), every + cost, every + markup)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        count = (len(terms) - 2) // 2
        own, there, (cost, markup) = terms[:count], terms[count : 2 * count], terms[2 * count :]
        return self.tariff.price(own, self.tariff.choice_at(there, cost + markup * choice))

    def multiple(self, choice: Any) -> Any:
        return 1.0 + choice

    def choice(self, multiple: Any) -> Any:
        return multiple - 1.0


def on_markups(tariff: Tariff, market: Market, grid: ArrayLike) -> Markups:
    """A tariff with its choices laid out by markups; its neutral choice is found from this market.

    grid: multiples of the list markup, rising. The neutral one is expected on it.
    """
    there = tuple(at_reference(market, term) for term in tariff.terms(market))
    cost = at_reference(market, market.cost)
    markup = at_reference(market, market.price) - cost
    with np.errstate(divide="ignore", invalid="ignore"):
        neutral = (tariff.price(there, tariff.neutral) - cost) / markup
    # A bid at cost is at k = 0. List prices, and those that differ from them, are at k = 1.
    at_cost = bool((np.abs(neutral) < 1e-9).all())
    return Markups(
        tuple(float(k) for k in np.atleast_1d(np.asarray(grid, dtype=np.float64))),
        tariff,
        0.0 if at_cost else 1.0,
    )


def markup_grid(market: Market) -> Array:
    """The grid on which rules are compared in this market: multiples of list markups, 1 among them.

    0, and geometric steps from below 1/beta, under which nobody's best free markup lies, to twice
    the largest markup of the equilibrium in free prices (GAME.md, theorems 8 and 13).

    Raises:
        ValueError: beta = 0, or a list price that is not above cost.
    """
    markup = at_reference(market, market.price - market.cost)[:, 0]
    if not (markup > 0).all():
        raise ValueError(
            "rules are compared on a grid of list markups, and some provider's list price is not"
            " above its cost; raise the margin"
        )
    free = free_price_equilibrium(PostedPriceGame.from_market(market))
    low = min(0.5, 0.5 / (market.beta * float(markup.max())))
    high = max(2.0, 2.0 * float((free.markup / markup).max()))
    first = np.floor(np.log2(low) * STEPS_PER_OCTAVE)
    last = np.ceil(np.log2(high) * STEPS_PER_OCTAVE)
    return np.concatenate([[0.0], 2.0 ** (np.arange(first, last + 1) / STEPS_PER_OCTAVE)])
