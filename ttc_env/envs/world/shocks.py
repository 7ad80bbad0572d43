"""What may move in a world: costs, demand, and who is there (GAME.md, "A world that moves").

    shocks = ttc_env.Shocks(cost=ttc_env.AR1(rho=0.9, sigma=0.1), entry=0.1, exit=0.02)
    env = ttc_env.parallel_env(shocks=shocks)

A *process* gives factors round by round: on costs, one for all providers or one each; on demand,
one. `AR1` is random, `Path` is not, and several given together are multiplied. A process of your
own is a subclass of `Process`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.types import Array, frozen_array, restore_frozen
from ttc_env.game.validation import number

MOST = 1e6
"""Factors are kept between 1 / MOST and MOST; on demand, their product is, too."""

_LONGEST = 1_000_000  # rounds over which a function of the round is tabulated

PerProvider: TypeAlias = float | Sequence[float]
"""One number for all providers, or one each."""


class Process(ABC):
    """Factors over the horizon, for b environments at once.

    What comes next depends on the factors of the round before, the round, and normal numbers.
    """

    def bind(self, providers: int, horizon: int) -> Process:
        """The process for so many providers and rounds.

        Raises:
            ValueError: numbers for another number of providers, or factors that are not positive.
        """
        return self

    @abstractmethod
    def width(self, providers: int) -> int:
        """How many factors a round has: 1, for all providers, or one each."""

    def draws(self, providers: int) -> int:
        """How many standard normal numbers a round takes in each environment; 0: none, and the
        future is known.
        """
        return 0

    @abstractmethod
    def first(self, noise: Array) -> Array:
        """`[width, b]`: the factors of round 0. noise: `[draws, b]`."""

    @abstractmethod
    def after(self, t: int, factor: Array, noise: Array) -> Array:
        """`[width, b]`: those of round t, from those of round t - 1."""


@dataclass(frozen=True)
class AR1(Process):
    """log x_{t+1} = rho log x_t + sigma e_{t+1}, with e standard normal: a factor that wanders, and
    is drawn back to 1.

    In the long run log x is normal with mean 0 and variance sigma^2 / (1 - rho^2), and its
    autocorrelation k rounds apart is rho^k. rho = 1 is a random walk. Factors beyond a million, or
    a millionth, are cut there.
    """

    rho: PerProvider = 0.9  # in (-1, 1]
    sigma: PerProvider = 0.1  # >= 0, standard deviation of a round's change of log x
    shared: bool = True  # one factor for all providers, or independent ones
    start: float | None = 1.0  # x_0; None: drawn from the long run's distribution

    def __post_init__(self) -> None:
        for name in ("rho", "sigma"):
            value = getattr(self, name)
            remedy = "for all providers, or one each"
            if isinstance(value, str) or np.ndim(value) == 0:
                object.__setattr__(self, name, number(name, value, remedy))
            else:
                each = tuple(number(name, x, remedy) for x in value)
                object.__setattr__(self, name, each)
                if self.shared:
                    raise ValueError(
                        f"{name} has one number for each provider, so each needs a factor of its"
                        " own: AR1(..., shared=False)"
                    )
        rho, sigma = np.asarray(self.rho), np.asarray(self.sigma)
        if not ((rho > -1) & (rho <= 1)).all():
            raise ValueError(f"rho is {self.rho}; it must lie in (-1, 1]: 1 is a random walk")
        if not ((sigma >= 0) & np.isfinite(sigma)).all():
            raise ValueError(f"sigma is {self.sigma}; it must be a finite number >= 0")
        if self.start is None and (rho == 1).any():
            raise ValueError("a random walk has no long run; give start=1.0 or another number")
        if self.start is not None:
            object.__setattr__(self, "start", number("start", self.start, "such as 1.0"))
        if self.start is not None and not 1 / MOST <= self.start <= MOST:
            raise ValueError(f"start is {self.start}; it must be a positive factor, such as 1.0")

    def bind(self, providers: int, horizon: int) -> AR1:
        for name in ("rho", "sigma"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != providers:
                raise ValueError(f"{name} has {len(value)} numbers for {providers} providers")
        return self

    def width(self, providers: int) -> int:
        return 1 if self.shared else providers

    def draws(self, providers: int) -> int:
        return self.width(providers)

    def first(self, noise: Array) -> Array:
        if self.start is not None:
            return np.full(noise.shape, float(self.start))
        rho, sigma = self._columns
        return _exp(sigma / np.sqrt(1.0 - rho**2) * noise)

    def after(self, t: int, factor: Array, noise: Array) -> Array:
        rho, sigma = self._columns
        return _exp(rho * np.log(factor) + sigma * noise)

    @property
    def _columns(self) -> tuple[Array, Array]:
        """rho and sigma, `[1 or width, 1]`."""
        rho, sigma = (np.reshape(x, (-1, 1)).astype(float) for x in (self.rho, self.sigma))
        return rho, sigma


def _exp(log_factor: Array) -> Array:
    return np.asarray(np.exp(np.clip(log_factor, -np.log(MOST), np.log(MOST))))


@dataclass(frozen=True, eq=False)
class Path(Process):
    """Factors that are known beforehand.

    values: `[T]`, one a round for all providers; `[T, n]`, one each; or a function of the round
    that returns a number or `[n]`, which is tabulated when the environment is made. After the last
    row it stays, or starts again if `cycle`.
    """

    values: ArrayLike | Callable[[int], ArrayLike]
    cycle: bool = False

    __setstate__ = restore_frozen

    def __post_init__(self) -> None:
        if not callable(self.values):
            table = frozen_array(_table("a path", self.values))
            if table.ndim not in (1, 2) or not len(table):
                raise ValueError(
                    f"a path needs factors [rounds] or [rounds, providers]; got shape {table.shape}"
                )
            if not ((table >= 1 / MOST) & (table <= MOST)).all():
                raise ValueError(
                    "a path's factors must be positive numbers, at most a million and at least a"
                    f" millionth; got {table.min():g} to {table.max():g}"
                )
            object.__setattr__(self, "values", table)

    def bind(self, providers: int, horizon: int) -> Path:
        values = self.values
        if callable(values):
            if horizon > _LONGEST:
                raise ValueError(
                    f"a function of the round is tabulated over all of max_cycles={horizon} rounds,"
                    f" at most {_LONGEST}; give an array, with cycle=True if it repeats itself"
                )
            rows = [np.asarray(values(t), dtype=np.float64) for t in range(horizon + 1)]
            if len({row.shape for row in rows}) > 1:
                raise ValueError("a path's function must return as many factors in every round")
            return Path(np.stack(rows), self.cycle).bind(providers, horizon)
        table = np.asarray(values)
        if table.ndim == 2 and table.shape[1] != providers:
            raise ValueError(
                f"a path has factors for {table.shape[1]} providers, and there are {providers}"
            )
        return self

    def width(self, providers: int) -> int:
        return 1 if np.ndim(self.values) == 1 else providers  # type: ignore[arg-type]

    def first(self, noise: Array) -> Array:
        return self.after(0, np.empty(0), noise)

    def after(self, t: int, factor: Array, noise: Array) -> Array:
        row = row_of(np.asarray(self.values), t, self.cycle)
        return np.tile(np.reshape(row, (-1, 1)), noise.shape[1])


def row_of(table: np.ndarray, t: int, cycle: bool = False) -> np.ndarray:
    """Row t of a table over rounds; after its end the last, or again from the first."""
    return np.asarray(table[t % len(table) if cycle else min(t, len(table) - 1)])


def _table(what: str, values: Any) -> Array:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{what} is {values!r}; give numbers") from error


Processes: TypeAlias = Process | Sequence[Process] | ArrayLike | Callable[[int], ArrayLike] | None
"""A process; several, which are multiplied; numbers or a function of the round, for `Path`."""


def processes(what: str, given: Any) -> tuple[Process, ...]:
    """`Processes` as a tuple.

    Raises:
        ValueError: something else.
    """
    if given is None:
        return ()
    if isinstance(given, Process):
        return (given,)
    if isinstance(given, (list, tuple)) and any(isinstance(one, Process) for one in given):
        if not all(isinstance(one, Process) for one in given):
            raise ValueError(f"{what} holds processes and other things; wrap numbers in Path(...)")
        return tuple(given)
    if isinstance(given, (list, tuple)) and not given:
        return ()
    return (Path(given),)


@dataclass(frozen=True, eq=False)
class Shocks:
    """What moves: the option `shocks=` of every environment.

    Costs: the cost of every level, times the factors of `cost`; list prices stay. Demand: `users`
    times the factors of `demand`, rounded to whole users, at least one.

    Who is there: after a round a provider that is present leaves with chance `exit`, or for certain
    if `capital` is given and its profits since it entered fall below `-capital` (USD); one that is
    absent enters with chance `entry`, its capital whole again. One that leaves cannot enter at
    once.

    Raises:
        ValueError: numbers out of range, or a schedule beside chances.
    """

    cost: Processes = None
    demand: Processes = None
    entry: PerProvider = 0.0  # chance per round
    exit: PerProvider = 0.0  # chance per round
    capital: PerProvider | None = None  # USD; None: no loss drives anybody out
    # [n]: who is there in round 0 (default: everybody); or [T, n]: in every round, the last one
    # from then on
    present: ArrayLike | None = None

    __setstate__ = restore_frozen

    def __post_init__(self) -> None:
        for name in ("cost", "demand"):
            object.__setattr__(self, name, processes(name, getattr(self, name)))
        for name in ("entry", "exit"):
            chance = frozen_array(_table(name, getattr(self, name)))
            object.__setattr__(self, name, chance)
            if chance.ndim > 1 or not ((chance >= 0) & (chance <= 1)).all():
                raise ValueError(
                    f"{name} is {chance}; it must be a chance per round, from 0 to 1, for all"
                    " providers or one each"
                )
        if self.capital is not None:
            capital = frozen_array(_table("capital", self.capital))
            object.__setattr__(self, "capital", capital)
            if capital.ndim > 1 or not (capital >= 0).all():
                raise ValueError(f"capital is {capital}; it must be >= 0 USD, for all or one each")
        if self.present is not None:
            present = np.asarray(self.present)
            if present.dtype != bool or present.ndim not in (1, 2) or not present.size:
                raise ValueError(
                    "present must hold True and False: [providers], who is there at first, or"
                    f" [rounds, providers]; got {self.present!r}"
                )
            object.__setattr__(self, "present", frozen_array(present, bool))
            if present.ndim == 2 and (self.chances or self.capital is not None):
                raise ValueError(
                    "present is a schedule of every round, so entry, exit and capital have nothing"
                    " to decide; give one row, who is there at first, or leave them out"
                )

    @property
    def costs(self) -> tuple[Process, ...]:
        """The processes whose factors costs are multiplied with."""
        return self.cost  # type: ignore[return-value]

    @property
    def demands(self) -> tuple[Process, ...]:
        """The processes whose factors demand is multiplied with."""
        return self.demand  # type: ignore[return-value]

    @property
    def schedule(self) -> np.ndarray | None:
        """`[T, n]` bool: who is there in every round; None where that is left to chance."""
        return None if self.present is None or np.ndim(self.present) < 2 else self._there

    @property
    def first(self) -> np.ndarray | None:
        """`[n]` bool: who is there in round 0; None: everybody."""
        return None if self.present is None else np.atleast_2d(self._there)[0]

    @property
    def _there(self) -> np.ndarray:
        return np.asarray(self.present)

    @property
    def chances(self) -> bool:
        """Whether providers enter or leave by chance."""
        return bool(np.any(self.entry) or np.any(self.exit))

    def bind(self, providers: int, horizon: int) -> Shocks:
        """The shocks of a game of so many providers and rounds.

        Raises:
            ValueError: numbers for another number of providers.
        """
        for name in ("entry", "exit", "capital", "present"):
            value = getattr(self, name)
            if value is not None and np.ndim(value) and np.shape(value)[-1] != providers:
                raise ValueError(
                    f"shocks: {name} is about {np.shape(value)[-1]} providers, and there are"
                    f" {providers}"
                )
        bound: dict[str, Any] = {}
        for name, most in (("cost", providers), ("demand", 1)):
            bound[name] = tuple(one.bind(providers, horizon) for one in getattr(self, name))
            for one in bound[name]:
                if one.width(providers) not in (1, most):
                    raise ValueError(
                        "shocks: demand has one factor a round; give Path([rounds]), or"
                        " AR1(shared=True)"
                    )
        return replace(self, **bound)

    @property
    def moves(self) -> frozenset[str]:
        """What moves, of "cost", "demand" and "presence"."""
        presence = self.chances or self.capital is not None or self.present is not None
        named = {"cost": bool(self.cost), "demand": bool(self.demand), "presence": presence}
        return frozenset(name for name, moving in named.items() if moving)

    def known(self, providers: int) -> bool:
        """Whether all rounds are known beforehand: nothing is drawn, and no loss drives anybody
        out.
        """
        drawn = any(one.draws(providers) for one in (*self.costs, *self.demands))
        return not (drawn or self.chances or self.capital is not None)
