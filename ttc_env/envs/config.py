"""What an environment is: one frozen object that every face of it shares (PettingZoo, Gymnasium,
batched).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
from gymnasium import spaces

from ttc_env.game.curves import load_market
from ttc_env.game.mechanisms import Mechanism, make_mechanism, mechanism_options
from ttc_env.game.solve import solve
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market, frozen_array

INFORMATION = ("full", "prices", "own")
"""What a provider sees of the others' last round: quality, price and share; the price alone;
nothing.
"""


@dataclass(frozen=True, eq=False)
class EnvConfig:
    """One environment's world and rules. Build with `make_config`, which validates."""

    market: Market
    mechanism: Mechanism
    actions: str  # "discrete" | "continuous"
    users: int  # arrivals per round
    demand: str  # "expected" | "sampled"
    information: str  # one of INFORMATION
    max_cycles: int  # rounds per episode
    infos: str  # "full" | "basic"

    def __getstate__(self) -> dict[str, Any]:
        # What is worked out from the fields is worked out again.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @cached_property
    def agents(self) -> tuple[str, ...]:
        return tuple(f"provider_{i}" for i in range(self.market.num_providers))

    @cached_property
    def table(self) -> Offer:
        """Every flat action's offer, `[n, a]`."""
        return self.mechanism.offers(self.market)

    @cached_property
    def optimal_welfare(self) -> float:
        """The most welfare that any profile reaches, USD per arriving user (with continuous prices
        it is reached at one end of their range).
        """
        return self.mechanism.rule.optimal_welfare(self.mechanism, self.market)

    @property
    def continuous_prices(self) -> bool:
        """Whether any price between the lowest and the highest choice may be asked."""
        return self.actions == "continuous" and self.mechanism.tariff.continuous

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """How many choices each part of an action has: levels, then prices and claims where there
        is more than one.
        """
        levels, *rest = self.mechanism.grid(self.market)
        return (levels, *(k for k in rest if k > 1))

    @cached_property
    def level_counts(self) -> np.ndarray:
        """`[n]`: how many levels each provider has."""
        return self.market.available.sum(axis=1)

    def action_space(self) -> spaces.Space[Any]:
        """A new space for one provider; all providers have equal ones."""
        if self.actions == "continuous":
            return spaces.Box(-1.0, 1.0, (len(self.grid),), np.float32)
        return (
            spaces.Discrete(self.grid[0])
            if len(self.grid) == 1
            else spaces.MultiDiscrete(list(self.grid))
        )

    def action_mask(self, i: int) -> Any:
        """Which choices exist for provider i, as Gymnasium's `space.sample(mask)` takes it: int8, 1
        = available; None for a Box.

        A Box needs none: its level dial is divided into as many bins as the provider has levels.
        New arrays on each call.
        """
        mask = self.action_masks[i]
        return (
            tuple(part.copy() for part in mask)
            if isinstance(mask, tuple)
            else None
            if mask is None
            else mask.copy()
        )

    @cached_property
    def action_masks(self) -> tuple[Any, ...]:
        """`action_mask` of every provider; the arrays are read-only, and the same from step to
        step.
        """
        if self.actions == "continuous":
            return (None,) * len(self.agents)
        levels = [frozen_array(row, np.int8) for row in self.market.available]
        rest = tuple(frozen_array(np.ones(k), np.int8) for k in self.grid[1:])
        return tuple(level if len(self.grid) == 1 else (level, *rest) for level in levels)

    def choose(self, actions: Sequence[Any]) -> np.ndarray:
        """Environment actions as flat actions `[n]`.

        A level beyond a provider's own grid means its highest level. With continuous actions the
        level is exact and the price choice is the nearest one; `offer` takes the exact price.

        Raises:
            ValueError: an action outside its space, naming the provider.
        """
        if self.actions == "continuous":
            unit = (self._box(actions) + 1.0) / 2.0
            counts = [self.level_counts, *(np.full(len(unit), k) for k in self.grid[1:])]
            parts = [
                np.minimum((unit[:, j] * count).astype(np.intp), count - 1)
                for j, count in enumerate(counts)
            ]
        else:
            array = np.array(
                actions,
                dtype=None if len({np.shape(action) for action in actions}) == 1 else object,
            )
            if array.ndim == 1:
                array = array[:, None]
            if array.shape != (len(self.agents), len(self.grid)) or not np.issubdtype(
                array.dtype, np.integer
            ):
                raise ValueError(
                    f"actions: expected {len(self.grid)} integer(s) for each of {len(self.agents)}"
                    f" providers; got {array.dtype} {array.shape}"
                )
            outside = ((array < 0) | (array >= self.grid)).any(axis=1)
            if outside.any():
                at = int(np.flatnonzero(outside)[0])
                raise ValueError(
                    f"provider_{at}: action {array[at].tolist()} is not in {self.action_space()}"
                )
            parts = [np.minimum(array[:, 0], self.level_counts - 1), *array.T[1:]]
        return self._flat(parts)

    def _flat(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        level, *rest = parts
        has_price = len(self.mechanism.tariff.choices) > 1
        price = rest.pop(0) if has_price else 0
        return self.mechanism.join(level, price, rest[0] if rest else 0, market=self.market)

    def _box(self, actions: Sequence[Any]) -> Array:
        array = np.asarray(actions, dtype=np.float64).reshape(len(self.agents), -1)
        if array.shape[1] != len(self.grid) or np.isnan(array).any():
            raise ValueError(
                f"actions: expected {len(self.grid)} numbers in [-1, 1] for each provider, no NaN;"
                f" got {array.tolist()}"
            )
        return np.clip(array, -1.0, 1.0)

    def stacked(self, actions: Sequence[Any]) -> np.ndarray:
        """Environment actions, provider by provider, as a batch of one: `[1, n]` or `[1, n, k]`.

        Raises:
            ValueError: an action outside its space, naming the provider.
        """
        if self.actions == "continuous":
            return self._box(actions)[None]
        parts = np.unravel_index(self.choose(actions), self.grid)
        return np.stack(parts, axis=1)[None] if len(parts) > 1 else parts[0][None]

    def solve(self) -> Any:
        """The exact solution of the game that this environment plays."""
        rule = self.mechanism.rule
        if self.continuous_prices:
            return rule.solve_continuous(self.mechanism, self.market)
        return solve(self.market, self.mechanism)


def make_config(
    mechanism: str | Mechanism = "market",
    benchmark: str | os.PathLike[str] | pd.DataFrame | None = None,
    method: str | None = None,
    *,
    market: Market | None = None,
    prices: str | Sequence[float] = "grid",
    claims: Sequence[float] = (1.0,),
    settlement: str = "delivered",
    actions: str = "discrete",
    users: int = 1000,
    demand: str = "expected",
    information: str = "full",
    max_cycles: int = 100,
    infos: str = "full",
    **market_options: Any,
) -> EnvConfig:
    """Validate options and build the config. The environment's class docstring says what each
    option means.

    Raises:
        ValueError, TypeError: an option that is unknown or out of range, or options that contradict
            each other.
    """
    for name, value, allowed in (
        ("actions", actions, ("discrete", "continuous")),
        ("demand", demand, ("expected", "sampled")),
        ("information", information, INFORMATION),
        ("infos", infos, ("full", "basic")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; choose {' or '.join(map(repr, allowed))}")
    for name, count in (("users", users), ("max_cycles", max_cycles)):
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name} is {count!r}; it must be a whole number, at least 1")
    known = signature(load_market).parameters
    named = mechanism_options(mechanism) if isinstance(mechanism, str) else ()
    mechanism_own = {
        name: market_options.pop(name)
        for name in named
        if name in market_options and name not in known
    }
    if unknown := sorted(set(market_options) - set(known)):
        options = [
            *(n for n in signature(make_config).parameters if n != "market_options"),
            *(n for n in known if n not in ("benchmark", "method")),
            *(n for n in named if n not in ("claims", "settlement")),
        ]
        hint = (
            "; many games at once are made by ttc_env.vector_env" if "num_envs" in unknown else ""
        )
        raise TypeError(
            f"there is no option {', '.join(unknown)}{hint}; options are {', '.join(options)}"
        )
    if market is None:
        market = load_market("gsm8k" if benchmark is None else benchmark, method, **market_options)
    elif not isinstance(market, Market):
        raise TypeError(
            f"market is a {type(market).__name__}, not a Market; see ttc_env.load_market and"
            " Market.from_arrays"
        )
    else:
        given = {"benchmark": benchmark, "method": method, **market_options}
        clash = [name for name, value in given.items() if value is not None]
        if clash:
            raise ValueError(
                f"market=... is given, so {', '.join(clash)} cannot be; change the market itself"
                " with market.replace(...)"
            )
    config = EnvConfig(
        market=market,
        mechanism=_mechanism(mechanism, prices, tuple(claims), settlement, mechanism_own),
        actions=actions,
        users=int(users),
        demand=demand,
        information=information,
        max_cycles=int(max_cycles),
        infos=infos,
    )
    if config.continuous_prices and infos == "full":
        config.mechanism.rule.check_continuous()
    return config


def _mechanism(
    mechanism: str | Mechanism,
    prices: str | Sequence[float],
    claims: tuple[float, ...],
    settlement: str,
    own: dict[str, Any],
) -> Mechanism:
    if isinstance(mechanism, Mechanism):
        if prices != "grid" or claims != (1.0,) or settlement != "delivered":
            raise ValueError(
                "a Mechanism object carries its own prices, claims and settlement; set them there"
            )
        return mechanism
    given = {"claims": claims, "settlement": settlement}
    default = {"claims": (1.0,), "settlement": "delivered"}
    options = {name: value for name, value in given.items() if value != default[name]}
    return make_mechanism(mechanism, prices, **options, **own)
