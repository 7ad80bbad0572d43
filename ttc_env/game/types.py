"""What the world is: quality curves, providers, markets, and the game that a market induces.

Everything here is frozen and holds read-only arrays. One convention runs through the package:
**axis 0 is the provider**, axis 1 the action (level) where there is one, and batch axes come last.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.display import Columns, Tabular, as_html
from ttc_env.game.validation import (
    Array,
    frozen_array,
    is_number,
    measured_table,
    number,
    numbers,
    validate_margin,
    validate_names,
    validate_quality,
    within,
)

SMALLEST_PROFIT = 1e-290
"""USD/query. Of numbers below 1e-308 doubles hold fewer and fewer digits, and none of 1 / them."""


def restore_frozen(self: Any, state: dict[str, Any]) -> None:
    """Unpickle with read-only arrays: pickle forgets the flag."""
    for value in state.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    self.__dict__.update(state)


@dataclass(frozen=True)
class QualityFunction:
    """f in q = alpha (b + (1 - b) f(a)): how much of a sure answer's value an answer of accuracy a
    is worth; f(0) = 0, f(1) = 1.

    `linear`: f(a) = a (default). `power`: f(a) = a**parameter. `exponential`: f(a) = (exp(k a) - 1)
    / (exp(k) - 1) with k = parameter. The parameter must be positive, so that f rises.

    Source: [TTC] (GAME.md, Notation).
    """

    form: str = "linear"
    parameter: float = 2.0

    def __post_init__(self) -> None:
        if self.form not in ("linear", "power", "exponential"):
            raise ValueError(
                f"quality function {self.form!r} is unknown; choose 'linear', 'power' or"
                " 'exponential'"
            )
        if not (is_number(self.parameter) and np.isfinite(self.parameter) and self.parameter > 0):
            raise ValueError(
                f"the quality function's parameter is {self.parameter!r}; it must be a positive"
                " number, so that f rises"
            )

    def __call__(self, accuracy: Array) -> Array:
        if self.form == "linear":
            return accuracy
        if self.form == "power":
            return accuracy**self.parameter
        return np.expm1(self.parameter * accuracy) / np.expm1(self.parameter)


@dataclass(frozen=True, eq=False)
class Curve:
    """What one model delivers and bills at each test-time compute level, and what it charges: the
    measured input of a market.

    The price is either by the token (`tokens` and `price_per_token`), or given for each level
    (`price_per_query`), where nobody publishes how many tokens were billed; `tokens` is then None,
    unless they are known all the same.

    Raises:
        ValueError: shapes differ, a number out of range, no price, or two.
    """

    name: str
    levels: Array  # [m] label of each level: samples, or effort; ascending
    accuracy: Array  # [m] chance that the delivered answer is right
    tokens: Array | None = None  # [m] mean tokens billed per query, all samples together
    price_per_token: float | None = None  # USD/token, rho; None where `price_per_query` is given
    margin: float = 0.25  # mu: cost = list price / (1 + mu)
    accuracy_se: Array | None = None  # [m] standard error of accuracy, where known
    price_per_query: Array | None = None  # [m] USD/query, in place of price_per_token x tokens
    characters: Array | None = None  # [m] mean characters billed per query, where known
    effort: tuple[str, ...] | None = None  # [m] the levels' names as sold ("low", "high")

    def __post_init__(self) -> None:
        for field in ("levels", "accuracy", "tokens", "accuracy_se", "price_per_query"):
            self._freeze(field)
        self._freeze("characters")
        validate_margin(self.margin)
        if self.accuracy.size and not (
            self.accuracy.min() >= -1e-9 and self.accuracy.max() <= 1 + 1e-9
        ):
            raise ValueError(
                f"curve {self.name!r}: accuracy {self.accuracy} is not in [0, 1]; give"
                " probabilities, not percentages"
            )
        for field, least in (
            ("tokens", "positive"),
            ("price_per_query", "positive"),
            ("characters", "positive"),
            ("accuracy_se", ">= 0"),
        ):
            values = getattr(self, field)
            fine = values is None or ((values > 0) | ((values == 0) & (least == ">= 0"))).all()
            if not fine:
                raise ValueError(
                    f"curve {self.name!r}: {field} is {values}; every entry must be {least}"
                )
        by_token = self.price_per_token is not None
        if by_token:
            price = number(f"curve {self.name!r}: price_per_token", self.price_per_token, "USD")
            if price <= 0:
                raise ValueError(
                    f"curve {self.name!r}: price_per_token is {price}; it must be positive"
                )
            object.__setattr__(self, "price_per_token", price)
        if by_token == (self.price_per_query is not None):
            raise ValueError(
                f"curve {self.name!r} has {'two prices' if by_token else 'no price'}; give either"
                " tokens and price_per_token, or price_per_query"
            )
        if by_token and self.tokens is None:
            raise ValueError(
                f"curve {self.name!r}: a price per token needs tokens; give the mean tokens billed"
                " per query, or price_per_query in place of both"
            )
        if self.effort is not None:
            object.__setattr__(self, "effort", tuple(self.effort))
            if len(self.effort) != len(self.levels):
                raise ValueError(
                    f"curve {self.name!r}: {len(self.effort)} names in effort for"
                    f" {len(self.levels)} levels; give one per level"
                )

    __setstate__ = restore_frozen

    def _freeze(self, field: str) -> None:
        values = getattr(self, field)
        if values is None:
            return
        values = numbers(f"curve {self.name!r}: {field}", values)
        object.__setattr__(self, field, values)
        if values.shape != self.levels.shape or values.ndim != 1:
            raise ValueError(
                f"curve {self.name!r}: {field} has shape {values.shape}, levels"
                f" {self.levels.shape}; give one entry per level in a flat list"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"curve {self.name!r}: {field} is {values}; give finite numbers")

    @property
    def price(self) -> Array:
        """`[m]` USD/query: the list price, p = rho T, or as given."""
        if self.price_per_query is not None:
            return self.price_per_query
        assert self.price_per_token is not None
        with np.errstate(over="ignore"):  # an infinite price is refused by Provider, by its name
            return self.price_per_token * self.known_tokens()

    def known_tokens(self) -> Array:
        """`[m]` tokens/query.

        Raises:
            ValueError: the curve has a price per query and no tokens.
        """
        if self.tokens is None:
            raise ValueError(
                f"the curve of {self.name!r} has no token counts, only a price per query; compare"
                " levels by list price or cost (Market.price, Market.cost), or load curves with a"
                " column tokens"
            )
        return self.tokens


@dataclass(frozen=True, eq=False)
class Provider:
    """One seller: what each of its levels is worth to a user, is listed at, and costs.

    Made from a `Curve` (`Provider.from_curve`), or directly from three arrays, in which case
    `curve` is None.

    Raises:
        ValueError: a name that is no text, shapes that differ, or numbers that are not finite.
    """

    name: str
    levels: Array  # [m] label of each level: samples, or effort
    quality: Array  # [m] USD/query, q
    price: Array  # [m] USD/query, p: the list price of one query
    cost: Array  # [m] USD/query, c
    curve: Curve | None = None
    accuracy: Array | None = None  # [m] chance of a right answer; the curve's, where there is one
    characters: Array | None = None  # [m] mean characters billed per query; likewise

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {len(self.levels)} levels)"

    def __post_init__(self) -> None:
        validate_names([self.name])
        for field in ("levels", "quality", "price", "cost"):
            values = numbers(f"provider {self.name!r}: {field}", getattr(self, field))
            object.__setattr__(self, field, values)
        shape = self.levels.shape
        if len(shape) != 1 or shape[0] == 0:
            raise ValueError(
                f"provider {self.name!r}: levels has shape {shape}; give at least one level in a"
                " flat list"
            )
        for field in ("levels", "quality", "price", "cost"):
            values = getattr(self, field)
            if values.shape != shape:
                raise ValueError(
                    f"provider {self.name!r}: {field} has shape {values.shape}, levels {shape};"
                    " give one entry per level"
                )
            if not np.isfinite(values).all():
                at = int(np.flatnonzero(~np.isfinite(values))[0])
                unit = "" if field == "levels" else " of USD/query"
                raise ValueError(
                    f"provider {self.name!r}: {field} at level index {at} is {values[at]}; it must"
                    f" be a finite number{unit}"
                )
        self._measured("accuracy", 1.0)
        self._measured("characters", np.inf)

    def _measured(self, field: str, most: float) -> None:
        """Take a measured number of each level from the curve, unless it was given itself."""
        values = getattr(self, field)
        if values is None:
            values = getattr(self.curve, field, None)
        if values is None:
            return
        values = numbers(field, values)
        object.__setattr__(self, field, values)
        if values.shape != self.levels.shape or not within(values, most).all():
            raise ValueError(
                f"provider {self.name!r}: {field} needs one number from 0 to {most:g} per level,"
                f" {self.levels.shape}; got {values}"
            )

    __setstate__ = restore_frozen

    @classmethod
    def from_curve(
        cls, curve: Curve, alpha: float, baseline: float, quality_function: QualityFunction
    ) -> Provider:
        """q = alpha (b + (1 - b) f(a)), p = rho T, c = p / (1 + mu) ([TTC]; GAME.md, Notation).

        Where the curve gives a price per query, that is p.
        """
        quality = alpha * (baseline + (1.0 - baseline) * quality_function(curve.accuracy))
        price = curve.price
        return cls(curve.name, curve.levels, quality, price, price / (1.0 + curve.margin), curve)

    @classmethod
    def _of_checked(
        cls, name: str, levels: Array, quality: Array, price: Array, cost: Array
    ) -> Provider:
        """Without a copy or a check: for read-only rows of tables that were checked as a whole."""
        provider = object.__new__(cls)
        provider.__dict__.update(
            name=name, levels=levels, quality=quality, price=price, cost=cost, curve=None
        )
        return provider


def check_market(function: str, market: object) -> None:
    """Raise TypeError unless `market` is a `Market`."""
    if not isinstance(market, Market):
        raise TypeError(
            f"{function} needs a Market, not {type(market).__name__}; see ttc_env.load_market and"
            " Market.from_arrays"
        )


@dataclass(frozen=True, eq=False)
class Market(Tabular):
    """Providers and the users they compete for. Everything a mechanism needs to know; nothing about
    how a round is played.

    Build one with `ttc_env.load_market` (published, measured or your own curves) or
    `Market.from_arrays`; change one with `replace`.

    Raises:
        ValueError: no provider, names that are not different, or a number out of range.
    """

    providers: tuple[Provider, ...]
    beta: float  # 1/USD, user rationality
    outside_value: float = 0.0  # USD/query, V_0
    # USD, value of a surely right answer; None where providers were given as arrays
    alpha: float | None = None
    baseline: float = 0.1  # b, share of alpha that any answer is worth
    quality_function: QualityFunction = QualityFunction()
    benchmark: str | None = None
    method: str | None = None

    def __repr__(self) -> str:
        where = f"{self.benchmark or 'own curves'} {self.method or ''}".rstrip()
        return (
            f"Market({where}: {self.num_providers} providers, up to {self.num_levels} levels,"
            f" beta={self.beta:g})"
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "providers", tuple(self.providers))
        for provider in self.providers:
            if not isinstance(provider, Provider):
                raise ValueError(
                    f"providers holds a {type(provider).__name__}; give ttc_env.Provider objects,"
                    " or arrays to Market.from_arrays"
                )
        if not self.providers:
            raise ValueError("a market needs at least one provider")
        names = self.names
        if len(set(names)) < len(names):
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(
                f"provider names must differ; {', '.join(map(repr, twice))} stands more than once"
            )
        remedy = "it must be >= 0 (1/USD). For perfectly rational users see ttc_env.game.limits"
        beta = number("beta", self.beta, remedy)
        if beta < 0:
            raise ValueError(f"beta is {beta}; {remedy}")
        object.__setattr__(self, "beta", beta)
        outside = number("outside_value", self.outside_value, "USD/query (0 in the paper)")
        object.__setattr__(self, "outside_value", outside)
        if self.alpha is not None:
            validate_quality(self.alpha, self.baseline)
        if not isinstance(self.quality_function, QualityFunction):
            raise ValueError(
                f"quality_function is {self.quality_function!r}; give a ttc_env.QualityFunction"
            )

    def columns(self) -> Columns:
        """One row for each provider and level: `accuracy` where it is known; `quality`, list
        `price`, `cost` and `surplus` (quality less cost) in USD per query.
        """
        table = {
            "quality": self.quality,
            "price": self.price,
            "cost": self.cost,
            "surplus": self.quality - self.cost,
        }
        if self.accuracy is not None:
            table = {"accuracy": self.accuracy, **table}
        return {
            "provider": [p.name for p in self.providers for _ in p.levels],
            "level": np.concatenate([p.levels for p in self.providers]),
            **{name: values[self.available] for name, values in table.items()},
        }

    def _repr_html_(self) -> str:
        """One row a provider: the notebook has no room for every level."""
        best = np.where(self.available, self.quality - self.cost, -np.inf).argmax(axis=1)
        rows = zip(self.providers, best, strict=True)
        efficient = [f"{provider.levels[a]:g}" for provider, a in rows]
        columns = {
            "provider": self.names,
            "levels": [_range(p.levels) for p in self.providers],
            "quality": [_range(p.quality) for p in self.providers],
            "list price": [_range(p.price) for p in self.providers],
            "cost": [_range(p.cost) for p in self.providers],
            "efficient level": efficient,
        }
        return as_html(f"{self!r}, USD per query", columns)

    def __getstate__(self) -> dict[str, Any]:
        # Without the cached tables, which repeat what the providers hold.
        return {field.name: self.__dict__[field.name] for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(
        cls,
        quality: ArrayLike,
        price: ArrayLike,
        cost: ArrayLike,
        *,
        beta: float,
        outside_value: float = 0.0,
        names: Sequence[str] | None = None,
        accuracy: ArrayLike | None = None,
        characters: ArrayLike | None = None,
        alpha: float | None = None,
        baseline: float = 0.1,
    ) -> Market:
        """A market from numbers alone, without accuracy curves behind them.

        Args:
            quality, price, cost: `[n, m]` USD/query. Where a provider has fewer than m levels, the
                end of its row is NaN in all three.
            beta: user rationality, 1/USD.
            outside_value: V_0, USD/query.
            names: `[n]` provider names; `provider_0`, ... by default.
            accuracy, characters: `[n, m]` chance of a right answer, and mean characters billed per
                query, for the tariffs that read them.
            alpha, baseline: USD and a share, for the same; `quality` is taken as it is given.

        Raises:
            ValueError: shapes differ, a NaN stands before a number, an infinite number, a provider
                without a level, or names that are not n different texts.
        """
        tables = {"quality": quality, "price": price, "cost": cost}
        q, p, c = (numbers(name, table) for name, table in tables.items())
        if q.ndim != 2 or p.shape != q.shape or c.shape != q.shape:
            raise ValueError(
                f"quality, price and cost must be [n, m] and of one shape; got {q.shape},"
                f" {p.shape}, {c.shape}"
            )
        measured = {
            field: measured_table(field, table, q, most)
            for field, table, most in (
                ("accuracy", accuracy, 1.0),
                ("characters", characters, np.inf),
            )
            if table is not None
        }
        if alpha is not None:
            validate_quality(alpha, baseline)
        n, m = q.shape
        if names is None:
            names = [f"provider_{i}" for i in range(n)]
        elif isinstance(names, str):
            raise ValueError(f"names is {names!r}; give a list with one name per row")
        else:
            names = list(names)
            validate_names(names)
        if len(names) != n:
            raise ValueError(f"{len(names)} names for {n} providers; give one name per row")
        given = ~np.isnan(q)
        counts = given.sum(axis=1)  # [n] levels
        # NaN only at the end of a row, at the same places in all three, and never all of it.
        wrong = (given != (np.arange(m) < counts[:, None])).any(axis=1) | (counts == 0)
        for table in (p, c):
            wrong |= (given == np.isnan(table)).any(axis=1)
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(
                f"row {i} ({names[i]!r}): NaN may only fill the end of a row, the same places in"
                " quality, price and cost, and at least one level must be left"
            )
        for field, table in (("quality", q), ("price", p), ("cost", c)):
            infinite = np.isinf(table)
            if infinite.any():
                i, at = np.argwhere(infinite)[0].tolist()
                raise ValueError(
                    f"provider {names[i]!r}: {field} at level index {at} is {table[i, at]}; it must"
                    " be a finite number of USD/query"
                )
        longest = int(counts.max()) if n else 0
        levels = frozen_array(np.arange(longest))
        if longest < m:
            q, p, c = (frozen_array(table[:, :longest]) for table in (q, p, c))
        rows: Any = zip(names, q, p, c, strict=True)
        if (counts == longest).all():
            providers = [Provider._of_checked(name, levels, *row) for name, *row in rows]
        else:
            grids = [levels[:count] for count in range(longest + 1)]
            providers = [
                Provider._of_checked(name, grids[k], *(row[:k] for row in three))
                for k, (name, *three) in zip(counts.tolist(), rows, strict=True)
            ]
        for field, table in measured.items():
            for provider, row, count in zip(providers, table, counts, strict=True):
                object.__setattr__(provider, field, row[:count])
        market = cls(
            tuple(providers),
            beta=beta,
            outside_value=outside_value,
            alpha=alpha,
            baseline=baseline,
        )
        market.__dict__.update(quality=q, price=p, cost=c)  # what the cached properties would hold
        return market

    def replace(self, **changes: Any) -> Market:
        """A copy with some fields changed. A new alpha, baseline or quality function is worked
        through to every provider's quality.

        Also takes `margin` (a number for all providers): costs follow.

        Raises:
            ValueError: a change that needs accuracy curves, where providers were given as arrays.
            TypeError: an unknown field.
        """
        known = [f.name for f in dataclasses.fields(self)]
        unknown = set(changes) - set(known) - {"margin"}
        if unknown:
            raise TypeError(
                f"Market has no field {', '.join(sorted(unknown))}; it has {', '.join(known)} (and"
                " margin)"
            )
        derived = {"alpha", "baseline", "quality_function", "margin"} & set(changes)
        margin = changes.pop("margin", None)
        if isinstance(changes.get("quality_function"), str):
            changes["quality_function"] = QualityFunction(changes["quality_function"])
        market = dataclasses.replace(self, **changes)
        if market.providers is self.providers:
            market.__dict__.update(
                {name: self.__dict__[name] for name in _TABLES if name in self.__dict__}
            )
        if not derived:
            return market
        curves = [provider.curve for provider in market.providers if provider.curve is not None]
        if market.alpha is None or len(curves) < market.num_providers:
            raise ValueError(
                f"{', '.join(sorted(derived))} cannot be changed in a market that was given as"
                " arrays: it has no accuracy curves; build new arrays, or load curves with"
                " ttc_env.load_market"
            )
        if margin is not None:
            validate_margin(margin)
            curves = [dataclasses.replace(curve, margin=float(margin)) for curve in curves]
        return dataclasses.replace(
            market,
            providers=tuple(
                Provider.from_curve(c, market.alpha, market.baseline, market.quality_function)
                for c in curves
            ),
        )

    @property
    def num_providers(self) -> int:
        return len(self.providers)

    @cached_property
    def num_levels(self) -> int:
        """m: the longest level grid."""
        return max(len(provider.levels) for provider in self.providers)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(provider.name for provider in self.providers)

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        """`[n, m]`: which levels each provider has."""
        counts = np.array([len(provider.levels) for provider in self.providers])
        return frozen_array(np.arange(self.num_levels) < counts[:, None], dtype=bool)

    def _padded(self, field: str) -> Array:
        table = np.full((self.num_providers, self.num_levels), np.nan)
        for row, provider in zip(table, self.providers, strict=True):
            values = getattr(provider, field)
            row[: len(values)] = values
        return frozen_array(table)

    @cached_property
    def quality(self) -> Array:
        """`[n, m]` USD/query, NaN where a provider has fewer levels."""
        return self._padded("quality")

    @cached_property
    def price(self) -> Array:
        """`[n, m]` USD/query: list prices, NaN where a provider has fewer levels."""
        return self._padded("price")

    @cached_property
    def cost(self) -> Array:
        """`[n, m]` USD/query, NaN where a provider has fewer levels."""
        return self._padded("cost")

    @cached_property
    def accuracy(self) -> Array | None:
        """`[n, m]` chance of a right answer, NaN likewise; None where a provider's is unknown."""
        return self._measured("accuracy")

    @cached_property
    def characters(self) -> Array | None:
        """`[n, m]` mean characters billed per query; None likewise."""
        return self._measured("characters")

    def _measured(self, field: str) -> Array | None:
        known = all(getattr(provider, field) is not None for provider in self.providers)
        return self._padded(field) if known else None


def _range(values: Array) -> str:
    """From the first level to the last, for a table."""
    return f"{values[0]:.4g} to {values[-1]:.4g}" if len(values) > 1 else f"{values[0]:.4g}"


# Cached properties of a market that depend on its providers alone.
_TABLES = (
    "num_levels",
    "names",
    "available",
    "quality",
    "price",
    "cost",
    "accuracy",
    "characters",
)


@dataclass(frozen=True, eq=False)
class PostedPriceGame:
    """The game in which users choose by logit among posted offers: to it an action *is* its triple
    (V, pi, w).

    Levels, (level, price) pairs on a grid, tariffs, misreports: every choice of a provider is
    flattened into one row, so one solver serves every posted-price game (GAME.md, "The
    pay-per-token market").
    """

    value: Array  # [n, m] USD/query, V = q - p; NaN where the action does not exist
    profit: Array  # [n, m] USD/query, pi = p - c
    surplus: Array  # [n, m] USD/query, w = q - c
    beta: float  # 1/USD
    outside_value: float = 0.0  # USD/query, V_0

    __setstate__ = restore_frozen

    def __repr__(self) -> str:
        return (
            f"PostedPriceGame({self.value.shape[0]} providers, {self.value.shape[1]} actions,"
            f" beta={self.beta:g})"
        )

    def __post_init__(self) -> None:
        for field in ("value", "profit", "surplus"):
            object.__setattr__(self, field, numbers(field, getattr(self, field)))
        shapes = [self.value.shape, self.profit.shape, self.surplus.shape]
        if self.value.ndim != 2 or len(set(shapes)) > 1:
            raise ValueError(
                "value, profit and surplus must be [n, m] and of one shape; got"
                f" {', '.join(map(str, shapes))}"
            )
        if not self.available.any(axis=1).all():
            at = int(np.flatnonzero(~self.available.any(axis=1))[0])
            raise ValueError(
                f"provider {at} has no action: its row of value is all NaN; give it at least one"
            )
        for field in ("value", "profit", "surplus"):
            table = getattr(self, field)
            wrong = self.available & ~np.isfinite(table)
            if field == "profit":
                wrong |= ~self.available & ~np.isnan(table)
            if wrong.any():
                i, a = np.argwhere(wrong)[0]
                raise ValueError(
                    f"{field} of provider {i}, action {a}, is {table[i, a]}; value, profit and"
                    " surplus must be finite numbers of USD/query, or NaN where the action does not"
                    " exist"
                )
        if not (is_number(self.beta) and np.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta is {self.beta!r}; it must be a finite number >= 0 (1/USD)")
        if not (is_number(self.outside_value) and np.isfinite(self.outside_value)):
            raise ValueError(
                f"outside_value is {self.outside_value!r}; it must be a finite number of USD/query"
            )
        with np.errstate(over="ignore"):
            z = self.beta * (self.value - self.outside_value)
        if np.isinf(z).any():
            raise ValueError(
                f"beta (V - V_0) overflows at beta={self.beta:g}; choose a smaller beta, or see"
                " ttc_env.game.limits for perfectly rational users"
            )
        size = np.abs(self.profit)
        if ((size > 0) & (size < SMALLEST_PROFIT)).any():
            raise ValueError(
                f"a profit is {size[size > 0].min()} USD/query; profits that are not 0 must be at"
                f" least {SMALLEST_PROFIT:g}, so that their ratios keep their digits"
            )

    @classmethod
    def from_market(cls, market: Market) -> PostedPriceGame:
        """The paper's game: every level at its list price ([TTC])."""
        return cls(
            market.quality - market.price,
            market.price - market.cost,
            market.quality - market.cost,
            market.beta,
            market.outside_value,
        )

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        """`[n, m]`: which actions exist."""
        return frozen_array(~np.isnan(self.value), dtype=bool)
