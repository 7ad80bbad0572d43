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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game import rules
from ttc_env.game.misreports import HONEST, TRUTH, Misreports, Report
from ttc_env.game.rules.base import Round, Rule, UsersLike
from ttc_env.game.tariffs import Offer, Tariff, Terms
from ttc_env.game.types import Array, Market


@dataclass(frozen=True)
class Mechanism:
    """A tariff and a rule with a name; with `misreports`, lies that a provider may tell.

    An *action* of a provider is (level, price choice, report), flattened in that order: `action =
    (level * k_p + price) * k_r + report`, so with one price and no lies an action is a level.
    Report 0 is the truth (`reports`).
    """

    name: str
    tariff: Tariff
    rule: Rule
    misreports: Misreports = HONEST

    def __post_init__(self) -> None:
        if senseless := [kind for kind in self.misreports.kinds if kind not in self.tariff.lies]:
            raise ValueError(
                f"misreport {', '.join(map(repr, senseless))} makes no sense in mechanism"
                f" {self.name!r}; choose among {', '.join(map(repr, self.tariff.lies))}"
            )

    @property
    def honest(self) -> Mechanism:
        """The same mechanism where no lies can be told."""
        return replace(self, misreports=HONEST)

    def reports(self, market: Market) -> tuple[Report, ...]:
        """What a provider may report: the truth, and the lies."""
        return self.misreports.reports(market.num_levels)

    def grid(self, market: Market) -> tuple[int, int, int]:
        """(levels, price choices, reports) per provider."""
        return market.num_levels, len(self.tariff.choices), len(self.reports(market))

    def split(
        self, actions: ArrayLike, market: Market
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Flat actions as (level, price, report) indices. Any shape."""
        return np.unravel_index(np.asarray(actions), self.grid(market))  # type: ignore[return-value]

    def join(
        self, level: ArrayLike, price: ArrayLike = 0, report: ArrayLike = 0, *, market: Market
    ) -> NDArray[np.intp]:
        """(level, price, report) indices as flat actions: the inverse of `split`."""
        _, prices, reports = self.grid(market)
        return (np.asarray(level) * prices + np.asarray(price)) * reports + np.asarray(report)

    def lies(self, actions: ArrayLike, market: Market) -> NDArray[np.bool_]:
        """Which flat actions are lies. Any shape."""
        return self.split(actions, market)[2] > 0

    def existing(self, counts: ArrayLike, market: Market) -> NDArray[np.intp]:
        """`[..., a]` the action that is played where each one is asked for: an absent level means
        the highest, and an announcement beyond the own levels the highest that there is.

        counts: `[...]` how many levels a provider has.
        """
        highest = np.asarray(counts)[..., None] - 1
        level, price, report = self.split(np.arange(np.prod(self.grid(market))), market)
        level = np.minimum(level, highest)
        report = _within_room(self.reports(market), market.num_levels)[report, highest - level]
        return self.join(level, price, report, market=market)

    def terms(self, market: Market) -> tuple[Terms, Terms]:
        """What prices depend on besides their choice, `[n, m, r]` by level and report: of the price
        that users see, and of the bill.
        """
        terms = self.tariff.terms(market)
        reports = self.reports(market)
        if len(reports) == 1:
            honest = tuple(term[:, :, None] for term in terms)
            return honest, honest
        announced = _announced(reports, market.num_levels)
        factor = np.array([size if kind == "over_report" else 1.0 for kind, size in reports])
        fine = np.array([self.misreports.expected_fine * (r != TRUTH) for r in reports])
        shape = (*terms[0].shape, len(reports))
        seen, billed = self.tariff.misreported(
            tuple(np.broadcast_to(term[:, :, None], shape) for term in terms),
            tuple(term[:, announced] for term in terms),
            factor,
            fine,
        )
        return (billed if self.misreports.noticed else seen), billed

    def check_continuous(self, market: Market) -> None:
        """Whether best replies in continuous prices are known.

        Raises:
            ValueError: the rule has no formula for them, or a liar's bill is not its price.
        """
        self.rule.check_continuous()
        if not all(map(_equal, *self.terms(market))):
            raise ValueError(
                f"mechanism {self.name!r}: a liar bills another price than users see, and there is"
                " no formula for best replies in continuous prices then; use infos='basic', a price"
                " grid, or noticed=True where tokens are over-reported"
            )

    def promises(self, market: Market) -> Offer:
        """`[n, m, r]`, by level and report: everything of an offer but its price (NaN here). NaN
        where a level, or the level announced, does not exist.
        """
        reports = self.reports(market)
        shape = (*market.quality.shape, len(reports))
        quality, cost = (
            np.broadcast_to(x[:, :, None], shape) for x in (market.quality, market.cost)
        )
        unpriced = np.full(shape, np.nan)
        if len(reports) == 1:
            return Offer(quality, quality, unpriced, cost)
        claim = np.array([size if kind == "over_claim" else 1.0 for kind, size in reports])
        announced = _announced(reports, market.num_levels)
        seen = market.quality[:, announced] * claim
        beyond = np.arange(market.num_levels)[:, None] + _steps(reports) >= market.num_levels
        absent = np.isnan(seen) | beyond | np.isnan(quality)
        fine = np.array([self.misreports.expected_fine * (r != TRUTH) for r in reports])
        quality, seen, cost, penalty = (
            np.where(absent, np.nan, np.broadcast_to(x, shape)) for x in (quality, seen, cost, fine)
        )
        return Offer(quality, seen, unpriced, cost, unpriced, penalty)

    def offers(self, market: Market) -> Offer:
        """Every action's offer: a table `[n, a]`, NaN where an action does not exist: a provider
        has fewer levels, or none as high as the one announced.
        """
        n, m, r = *market.quality.shape, len(self.reports(market))
        choices = np.array(self.tariff.choices)
        shape = (n, m, len(choices), r)

        def table(values: Array) -> Array:
            return np.ascontiguousarray(np.broadcast_to(values, shape)).reshape(n, -1)

        promises = self.promises(market)
        absent = np.isnan(promises.quality)[:, :, None]
        prices = []
        for terms in self.terms(market):
            wide = tuple(term[:, :, None] for term in terms)
            price = np.asarray(self.tariff.price(wide, choices[:, None]))
            prices.append(table(np.where(absent, np.nan, price)))
        price, paid = prices
        quality, seen, cost = (
            table(x[:, :, None]) for x in (promises.quality, promises.seen, promises.cost)
        )
        if r == 1:
            return Offer(quality, seen, price, cost)
        penalty = table(promises.penalty[:, :, None])
        return Offer(quality, seen, price, cost, None if _equal(paid, price) else paid, penalty)

    def play(self, offer: Offer, users: UsersLike) -> Round:
        """One round, in expectation: `Rule.play`. users: a `Market`, or `Users`."""
        return self.rule.play(offer, users)

    def deviations(self, table: Offer, offer: Offer, users: UsersLike) -> tuple[Array, Array]:
        """What each provider would get from each of its actions: `Rule.deviations`."""
        return self.rule.deviations(table, offer, users)


def _equal(a: Array, b: Array) -> bool:
    return a is b or np.array_equal(a, b, equal_nan=True)


def _steps(reports: Sequence[Report]) -> NDArray[np.intp]:
    """`[r]` how many levels above the one served each report announces."""
    return np.array([int(size) if kind == "under_serve" else 0 for kind, size in reports])


def _announced(reports: Sequence[Report], levels: int) -> NDArray[np.intp]:
    """`[m, r]` the level that is announced; the highest where there is none."""
    return np.minimum(np.arange(levels)[:, None] + _steps(reports), levels - 1)


def _within_room(reports: Sequence[Report], levels: int) -> NDArray[np.intp]:
    """`[r, m]` the report that is made in place of each where only so many levels lie above the one
    served: the highest announcement that there is, or the truth.
    """
    steps, room = _steps(reports), np.arange(levels)
    fits = (steps > 0) & (steps <= room[:, None])  # [m, r]
    highest = np.where(fits, steps, 0).argmax(axis=1)  # report 0 where none fits
    own = np.arange(len(reports))[:, None]
    return np.where(steps[:, None] <= room, own, highest)


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


def mechanism_description(name: str) -> str:
    """What the factory of a registered mechanism says of it (Markdown).

    Raises:
        ValueError: an unknown name.
    """
    return inspect.getdoc(_factory(name)) or ""


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
