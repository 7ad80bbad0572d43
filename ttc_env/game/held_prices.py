"""Mechanisms in which some providers' prices are what they are (GAME.md, "A world that moves")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.rules.base import UsersLike
from ttc_env.game.tariffs import Offer, Tariff, Terms
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

    def deviations(self, table: Offer, offer: Offer, users: UsersLike) -> tuple[Array, Array]:
        """As `Mechanism.deviations`, whose first action always exists; here it may be left out."""
        absent = np.isnan(table.quality)
        first = absent.argmin(axis=1, keepdims=True)
        filled = table.map(lambda x: np.where(absent, np.take_along_axis(x, first, axis=1), x))
        profit, log_share = super().deviations(filled, offer, users)
        return np.where(absent, np.nan, profit), np.where(absent, np.nan, log_share)


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

    @property
    def lies(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of `inner`."""
        return self.inner.lies

    @property
    def passes_fines_on(self) -> bool:  # type: ignore[override]
        """As `inner`."""
        return self.inner.passes_fines_on

    def misreported(
        self, served: Terms, announced: Terms, factor: Array, fine: Array
    ) -> tuple[Terms, Terms]:
        """As `inner`; what is held stays so."""
        *mine, held = served
        seen, billed = self.inner.misreported(tuple(mine), announced[:-1], factor, fine)
        return (*seen, held), (*billed, held)

    def multiple(self, choice: Any) -> Any:
        return self.inner.multiple(choice)

    def choice(self, multiple: Any) -> Any:
        return self.inner.choice(multiple)
