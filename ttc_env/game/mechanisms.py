"""Mechanisms: a tariff and a rule with a name, and the one registry in which they are found.

A round is a pure function of everybody's *offer*: quality delivered, quality as seen, price asked
or bid, cost. The *tariff* makes offers of a provider's choices (`ttc_env.game.tariffs`); the *rule*
says who serves and who pays what (`ttc_env.game.rules`, one file each).

| name | tariff | rule |
| --- | --- | --- |
| `market`: pay per token | `PerToken`: factor x list price | `PostedPrice` |
| `flat_fee`: pay per query | `FlatFee`: x p*, whatever the level | `PostedPrice` |
| `pay_per_correct`: pay for right answers | `PayPerCorrect`: x R per right answer | `PostedPrice` |
| `two_part`: cost and a fee | `TwoPart`: c + x pi* | `PostedPrice` |
| `price_cap`: pay per token up to a cap | `PriceCap`: min(x rho T, cap) | `PostedPrice` |
| `per_character`: pay per character | `PerCharacter`: x kappa x characters | `PostedPrice` |
| `auction`: reverse second-price | `CostPlus`: cost x (1 + markup) | `SecondScore` |
| `first_score`: the same, held to its own score | `CostPlus` | `FirstScore` |
| `taste_auction`: second score, user by user | `CostPlus` | `TasteAuction` |

Where users differ, every posted price takes `types=[ttc_env.UserType(...), ...]`, and its rule is
`UserTypes`.

The file of a rule registers its mechanisms; posted prices do so for every tariff in
`tariffs.POSTED_TARIFFS`. One of your own is registered by name as well, and every face of the
package then knows it:

    ttc_env.register_mechanism("lottery", lambda prices="fixed": Mechanism(...))
    env = ttc_env.parallel_env(mechanism="lottery")

Axis 0 is the provider; further axes are actions or batch. Money is USD/query throughout.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game import rules
from ttc_env.game.rules.base import Round, Rule, UsersLike
from ttc_env.game.tariffs import Offer, Tariff
from ttc_env.game.types import Array, Market


@dataclass(frozen=True)
class Mechanism:
    """A tariff and a rule; with `claims`, factors on the true quality that a provider may promise.

    An *action* of a provider is (level, price choice, claim), flattened in that order: `action =
    (level * k_p + price) * k_c + claim`, so with one price and one claim an action is a level.
    """

    name: str
    tariff: Tariff
    rule: Rule
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

        quality, cost = (x[:, :, None, None] for x in (market.quality, market.cost))
        price = self.tariff.prices(market)[..., None]
        return Offer(
            table(quality), table(quality * np.array(self.claims)), table(price), table(cost)
        )

    def play(self, offer: Offer, users: UsersLike) -> Round:
        """One round, in expectation: `Rule.play`. users: a `Market`, or `Users`."""
        return self.rule.play(offer, users)

    def deviations(self, table: Offer, offer: Offer, users: UsersLike) -> tuple[Array, Array]:
        """What each provider would get from each of its actions: `Rule.deviations`."""
        return self.rule.deviations(table, offer, users)


Factory = Callable[..., Mechanism]
"""`factory(prices="grid" | "fixed" | numbers, **options) -> Mechanism`; its keywords are the
mechanism's options, and "fixed" is the default of `prices`."""


_FACTORIES: dict[str, Factory] = {}


_packaged = False


def _enter_packaged() -> None:
    """Import the files of `ttc_env.game.rules`, each of which registers its own mechanisms; the
    compiled kernels, `*_numba.py`, are not rules and stay where they are.
    """
    global _packaged
    if _packaged:
        return
    _packaged = True  # at once, since the files come back here
    for module in pkgutil.iter_modules(rules.__path__):
        if not module.name.endswith("_numba"):
            importlib.import_module(f"{rules.__name__}.{module.name}")


def register_mechanism(name: str, factory: Factory, *, replace: bool = False) -> None:
    """Enter a mechanism under a name that every face of the package knows from then on.

    Args:
        name: a word, as it is given to `parallel_env(mechanism=...)` or on the command line.
        factory: see `Factory`.
        replace: whether the name may be taken already.

    Raises:
        ValueError: the name is taken, or no word.
        TypeError: something else than a function that takes `prices`.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"a mechanism's name is a word, such as 'lottery'; got {name!r}")
    _enter_packaged()
    if name in _FACTORIES and not replace:
        raise ValueError(
            f"mechanism {name!r} is registered already; choose another name, or pass replace=True"
        )
    if not callable(factory) or "prices" not in inspect.signature(factory).parameters:
        raise TypeError(
            f"the factory of mechanism {name!r} must be a function with a parameter `prices`: "
            "factory(prices='grid' | 'fixed' | numbers, **options) -> Mechanism"
        )
    _FACTORIES[name] = factory


def mechanisms() -> tuple[str, ...]:
    """The registered names, in alphabetical order."""
    _enter_packaged()
    return tuple(sorted(_FACTORIES))


def mechanism_options(name: str) -> tuple[str, ...]:
    """The options of a registered mechanism besides `prices`.

    Raises:
        ValueError: an unknown name.
    """
    return tuple(
        option for option in inspect.signature(_factory(name)).parameters if option != "prices"
    )


def _factory(name: str) -> Factory:
    if name not in mechanisms():
        raise ValueError(
            f"mechanism {name!r} is unknown; choose {', '.join(mechanisms())}, register one with"
            " ttc_env.register_mechanism, or pass a ttc_env.game.mechanisms.Mechanism"
        )
    return _FACTORIES[name]


def make_mechanism(
    mechanism: str | Mechanism, prices: str | ArrayLike | None = None, **options: Any
) -> Mechanism:
    """A mechanism by name and options, or the one given.

    Args:
        mechanism: a registered name, or an object, which carries its prices and options itself.
        prices: `"grid"`, `"fixed"`, or price choices as numbers; None for the factory's default.
        options: as the mechanism's factory takes them.

    Raises:
        ValueError: an unknown name, or prices or options beside an object.
        TypeError: an option that this mechanism does not have.
    """
    if isinstance(mechanism, Mechanism):
        if prices is not None or options:
            given = [*(["prices"] if prices is not None else []), *options]
            raise ValueError(
                f"a Mechanism object carries its own prices and options; set {', '.join(given)}"
                " there"
            )
        return mechanism
    known = mechanism_options(mechanism)
    if unknown := sorted(set(options) - set(known)):
        has = (
            f"its options are prices, {', '.join(known)}" if known else "its only option is prices"
        )
        raise TypeError(f"mechanism {mechanism!r} has no option {', '.join(unknown)}; {has}")
    if prices is not None:
        options["prices"] = prices
    return _factory(mechanism)(**options)


def get_mechanism(mechanism: str | Mechanism) -> Mechanism:
    """A mechanism by name, as the paper plays it (list prices; truthful bids), or the one given."""
    return make_mechanism(mechanism)
