"""Mechanisms in which some providers' prices are what they are (GAME.md, "A world that moves")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.tariffs import Offer, Tariff
from ttc_env.game.types import Array, Market


@dataclass(frozen=True)
class HeldMechanism(Mechanism):
    """A mechanism whose provider i has `held[i]` as its only price choice; flat actions count as
    they do without.
    """

    held: tuple[int | None, ...] = ()  # [n] index of the price choice; None: all of them

    def offers(self, market: Market) -> Offer:
        """As `Mechanism.offers`, NaN where the price may not be chosen."""
        table = super().offers(market)
        choice = np.unravel_index(np.arange(table.price.shape[1]), self.grid(market))[1]
        held = np.array([-1 if price is None else price for price in self.held])[:, None]
        chosen = (held < 0) | (held == choice)
        return table.map(lambda x: np.where(chosen, x, np.nan))


@dataclass(frozen=True)
class HeldTariff(Tariff):
    """A tariff by which provider i's price does not follow its choice: it is that of `held[i]`."""

    choices: tuple[float, ...]  # those of `inner`
    inner: Tariff
    held: tuple[float, ...]  # [n] as a choice; NaN: the provider's own choice counts

    def __post_init__(self) -> None:
        """Choices were checked when `inner` was made."""

    @property
    def neutral(self) -> float:
        """That of `inner`; NaN if somebody is held elsewhere, so that it cannot be chosen."""
        held = np.array(self.held)
        there = np.isnan(held) | np.isclose(held, self.inner.neutral, rtol=0, atol=1e-12)
        return self.inner.neutral if there.all() else np.nan

    def terms(self, market: Market) -> tuple[Array, ...]:
        held = np.broadcast_to(np.array(self.held)[:, None], market.quality.shape)
        return (*self.inner.terms(market), held)

    def price(self, terms: tuple[Any, ...], choice: Any) -> Any:
        *inner, held = terms
        return self.inner.price(tuple(inner), np.where(np.isnan(held), choice, held))

    def multiple(self, choice: Any) -> Any:
        return self.inner.multiple(choice)

    def choice(self, multiple: Any) -> Any:
        return self.inner.choice(multiple)
