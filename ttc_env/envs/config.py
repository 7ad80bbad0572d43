"""What an environment is: one frozen object that every face of it shares (PettingZoo, Gymnasium,
batched).
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
from gymnasium import spaces

from ttc_env.envs.options import Benchmark
from ttc_env.envs.spaces import MaskedMultiDiscrete
from ttc_env.envs.world.shocks import Shocks
from ttc_env.game.continuous import ContinuousSolution
from ttc_env.game.curves import load_market
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import Mechanism, make_mechanism, mechanism_options
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.solution import Solution
from ttc_env.game.solve import solve
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market
from ttc_env.game.validation import frozen_array

MOST_USERS = 10**12
"""Arrivals per round: times the largest factor on demand, a million, they still fit an int64."""

INFORMATION = ("full", "prices", "own")
"""What a provider sees of the others' last round: quality, price and share; the price alone;
nothing.
"""


@dataclass(frozen=True, eq=False)
class EnvConfig:
    """One environment's world and rules. Build with `make_config`, which validates."""

    market: Market
    mechanism: Mechanism
    actions: str  # "discrete" | "flat" | "continuous"
    users: int  # arrivals per round
    demand: str  # "expected" | "sampled"
    information: str  # one of INFORMATION
    max_cycles: int  # rounds per episode
    infos: str  # "full" | "basic"
    agents: tuple[str, ...]  # [n] ids of the providers
    shocks: Shocks | None = None  # what moves from round to round
    price_period: int = 1  # prices may be changed in every so many rounds

    def __getstate__(self) -> dict[str, Any]:
        # What is worked out from the fields is worked out again.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @cached_property
    def moves(self) -> frozenset[str]:
        """What moves from round to round, of "cost", "demand", "presence" and "price"; empty by
        default.
        """
        shocks = frozenset() if self.shocks is None else self.shocks.moves
        return shocks | {"price"} if self.price_period > 1 else shocks

    @cached_property
    def table(self) -> Offer:
        """Every flat action's offer, `[n, a]`."""
        return self.mechanism.offers(self.market)

    @cached_property
    def parts(self) -> tuple[int, int, int]:
        """How many (levels, price choices, reports) a provider has."""
        return self.mechanism.grid(self.market)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """How many choices each part of an action has: levels, then prices and reports where there
        is more than one. With `actions="flat"` an action has one part, its flat index.
        """
        levels, *rest = self.parts
        if self.actions == "flat":
            return (math.prod(self.parts),)
        return (levels, *(k for k in rest if k > 1))

    @property
    def continuous(self) -> bool:
        """Whether actions are numbers in a Box, not indices."""
        return self.actions == "continuous"

    @property
    def continuous_prices(self) -> bool:
        """Whether any price between the lowest and the highest choice may be asked."""
        return self.continuous and self.mechanism.tariff.continuous

    @cached_property
    def level_counts(self) -> np.ndarray:
        """`[n]`: how many levels each provider has."""
        return self.market.available.sum(axis=1)

    @cached_property
    def optimal_welfare(self) -> float:
        """The most welfare that any profile reaches, USD per arriving user."""
        return self.planned.rule.optimal_welfare(self.planned, self.market)

    @cached_property
    def planned(self) -> Mechanism:
        """The mechanism with all price choices that a planner needs: with continuous prices the
        optimum is at the ends of their range, or at the neutral choice inside it.
        """
        tariff = self.mechanism.tariff
        low, high = tariff.choices[0], tariff.choices[-1]
        if not (self.continuous_prices and low < tariff.neutral < high):
            return self.mechanism
        choices = tuple(sorted({*tariff.choices, tariff.neutral}))
        return dataclasses.replace(
            self.mechanism, tariff=dataclasses.replace(tariff, choices=choices)
        )

    def action_space(self) -> spaces.Space[Any]:
        """A new space for one provider; all providers have equal ones."""
        if self.continuous:
            return spaces.Box(-1.0, 1.0, (len(self.grid),), np.float32)
        if len(self.grid) == 1:
            return spaces.Discrete(self.grid[0])
        return MaskedMultiDiscrete(list(self.grid))

    @cached_property
    def action_masks(self) -> tuple[np.ndarray | None, ...]:
        """Which choices exist for each provider: int8, 1 = available, read-only.

        `[levels]` for a `Discrete` of levels, `[levels x prices x reports]` for flat actions; for a
        `MultiDiscrete` one array, the parts one after the other, `[levels + prices + reports]`.
        None for a Box, which needs none: a number picks one of as many equal bins as the provider
        has levels.
        """
        if self.continuous:
            return (None,) * len(self.agents)
        return tuple(frozen_array(mask, np.int8) for mask in action_masks(self.market, self))

    # --- actions of the environment, and flat actions ---

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        return tuple(int(count) for count in self.level_counts)

    @cached_property
    def _existing(self) -> list[list[int]]:
        """`[n][a]`: the action that is played where each one is asked for."""
        found: list[list[int]] = self.mechanism.existing(self.level_counts, self.market).tolist()
        return found

    def parse(self, provider: int, action: Any) -> int:
        """One provider's discrete action as a flat action that exists; an absent level as its
        highest one, an announcement beyond its levels as the highest there is.

        Args:
            provider: its index.
            action: an integer, or as many integers as `grid` has parts.

        Raises:
            ValueError: an action outside the space, naming the provider.
        """
        grid = self.grid
        given = action.tolist() if isinstance(action, (np.ndarray, np.generic)) else action
        parts = [given] if len(grid) == 1 and not isinstance(given, (list, tuple)) else given
        try:
            inside = len(parts) == len(grid)
            flat = 0
            for part, size in zip(parts, grid, strict=False):
                index = operator.index(part)
                inside = inside and 0 <= index < size and part is not True and part is not False
                flat = flat * size + index
        except TypeError:
            inside = False
        if not inside:
            raise ValueError(
                f"{self.agents[provider]}: action {action!r} is not in {self.action_space()}, whose"
                f" actions are {len(grid)} integer{'s' * (len(grid) > 1)}"
            )
        return self._existing[provider][flat]

    @cached_property
    def discrete_actions(self) -> tuple[Any, ...]:
        """Every flat action as the discrete environment takes it: integers, or read-only arrays of
        as many integers as `grid` has parts.
        """
        if len(self.grid) == 1:
            return tuple(range(self.grid[0]))
        rows = frozen_array(
            np.stack(np.unravel_index(np.arange(math.prod(self.grid)), self.grid), 1), np.int64
        )
        return tuple(rows)

    def action_of(self, provider: int, flat: int) -> Any:
        """A flat action in the form that the environment takes, for a Box `[k]` float64: the middle
        of the level's and the report's bin, and the exact price choice.
        """
        if not self.continuous:
            return self.discrete_actions[flat]
        level, price, report = self.mechanism.split(flat, self.market)
        choice = self.mechanism.tariff.choices[int(price)]
        return self.box_action(provider, int(level), choice, int(report))

    def box_action(self, provider: int, level: int, choice: float, report: int = 0) -> Array:
        """The action `[k]` in the Box, float64, that plays a level at any price choice.

        Args:
            provider: its index.
            level: index.
            choice: a number as in `Tariff.choices`; beyond the ends of the range, the end.
            report: index; 0 is the truth.
        """
        _, prices, reports = self.parts
        entries = [2.0 * (level + 0.5) / self._counts[provider] - 1.0]
        if prices > 1:
            low, high = self.price_scale
            multiple = self.mechanism.tariff.multiple(choice)
            entries.append(2.0 * (np.log(multiple) - low) / (high - low) - 1.0)
        if reports > 1:
            entries.append(2.0 * (report + 0.5) / reports - 1.0)
        return np.clip(np.array(entries), -1.0, 1.0)

    @cached_property
    def price_scale(self) -> tuple[float, float]:
        """The ends of the scale of continuous prices: log `Tariff.multiple` of the lowest and of
        the highest choice.
        """
        choices, multiple = self.mechanism.tariff.choices, self.mechanism.tariff.multiple
        return float(np.log(multiple(choices[0]))), float(np.log(multiple(choices[-1])))

    def choose(self, actions: Sequence[Any]) -> np.ndarray:
        """Everybody's environment actions as flat actions `[n]`.

        A level beyond a provider's own grid means its highest level. With continuous actions the
        level is exact and the price choice that of its bin, of as many equal bins as there are
        choices.

        Raises:
            ValueError: an action outside its space, naming the provider.
        """
        if self.continuous:
            unit = (self._box(actions) + 1.0) / 2.0
            counts = [self.level_counts, *(np.full(len(unit), k) for k in self.grid[1:])]
            parts = [
                np.minimum((unit[:, j] * count).astype(np.intp), count - 1)
                for j, count in enumerate(counts)
            ]
            flat = parts[0]
            for part, size in zip(parts[1:], self.grid[1:], strict=True):
                flat = flat * size + part
            return np.array(self._existing)[np.arange(len(flat)), flat]
        return np.array([self.parse(i, action) for i, action in enumerate(actions)])

    def parsed(self, provider: int, action: Any) -> Any:
        """One provider's action as the environment takes it fastest, in memory of its own.

        Raises:
            ValueError: an action outside its space, naming the provider.
        """
        if self.continuous:
            return self._numbers(provider, action)
        return self.discrete_actions[self.parse(provider, action)]

    def _numbers(self, provider: int, action: Any) -> Array:
        """`[k]` float64: one provider's continuous action.

        Raises:
            ValueError: another shape, or something else than real numbers.
        """
        try:
            given = np.asarray(action)
        except ValueError:  # rows of different lengths
            given = np.empty(0, object)
        k = len(self.grid)
        fits = given.shape == (k,) or (given.shape == () and k == 1)
        # Truth values, texts, dates and complex numbers could be converted, and are no actions.
        if not fits or given.dtype.kind not in "fiu" or np.isnan(given).any():
            raise ValueError(
                f"provider_{provider}: action {action!r} is not in {self.action_space()}; give an"
                f" array of shape ({k},), of numbers, without NaN (beyond the ends they are"
                " clipped)"
            )
        return given.reshape(k).astype(np.float64)

    def _box(self, actions: Sequence[Any]) -> Array:
        return np.stack([self._numbers(i, one) for i, one in enumerate(actions)]).clip(-1.0, 1.0)

    def stacked(self, actions: Sequence[Any]) -> np.ndarray:
        """Environment actions, provider by provider, as a batch of one: `[1, n]` or `[1, n, k]`.

        Raises:
            ValueError: an action outside its space, naming the provider.
        """
        if self.continuous:
            return self._box(actions)[None]
        parts = np.unravel_index(self.choose(actions), self.grid)
        return np.stack(parts, axis=1)[None] if len(parts) > 1 else parts[0][None]

    def solve(self) -> Solution | AuctionSolution | ContinuousSolution:
        """The exact solution of the game that this environment plays."""
        if self.continuous_prices:
            return self.mechanism.rule.solve_continuous(self.mechanism, self.market)
        return solve(self.market, self.mechanism)


def make_config(
    mechanism: str | Mechanism = "market",
    benchmark: Benchmark | None = None,
    method: str | None = None,
    *,
    market: Market | None = None,
    prices: str | Sequence[float] = "grid",
    actions: str = "discrete",
    users: int = 1000,
    demand: str = "expected",
    information: str = "full",
    max_cycles: int = 100,
    infos: str = "full",
    shocks: Shocks | None = None,
    price_period: int = 1,
    agent_names: Sequence[str] | None = None,
    **options: Any,
) -> EnvConfig:
    """Validate options and build the config. The environment's class docstring says what each
    option means.

    Args:
        options: those of `ttc_env.load_market`; all others go to the mechanism.

    Raises:
        ValueError, TypeError: an option that is unknown or out of range, or options that contradict
            each other.
    """
    for name, value, allowed in (
        ("actions", actions, ("discrete", "flat", "continuous")),
        ("demand", demand, ("expected", "sampled")),
        ("information", information, INFORMATION),
        ("infos", infos, ("full", "basic")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; choose {' or '.join(map(repr, allowed))}")
    counts = {"users": users, "max_cycles": max_cycles, "price_period": price_period}
    for name, count in counts.items():
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name} is {count!r}; it must be a whole number, at least 1")
    if users > MOST_USERS:
        raise ValueError(f"users is {users}; it must be at most {MOST_USERS:,} arrivals a round")
    known = signature(load_market).parameters
    market_options = {name: value for name, value in options.items() if name in known}
    mechanism_options = {name: value for name, value in options.items() if name not in known}
    # First, so that a misspelt option is named before a market is read.
    rules = _mechanism(mechanism, prices, mechanism_options)
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
        mechanism=rules,
        actions=actions,
        users=int(users),
        demand=demand,
        information=information,
        max_cycles=int(max_cycles),
        infos=infos,
        shocks=_bound(shocks, market.num_providers, int(max_cycles)),
        price_period=int(price_period),
        agents=_agents(agent_names, market.num_providers),
    )
    if price_period > 1 and len(rules.tariff.choices) == 1:
        raise ValueError(
            f"price_period={price_period} holds prices, and there is one price choice alone; use"
            " prices='grid', or leave price_period out"
        )
    if config.continuous_prices and infos == "full":
        config.mechanism.check_continuous(market)
    return config


def _bound(shocks: Shocks | None, providers: int, max_cycles: int) -> Shocks | None:
    """The shocks of this game; None if nothing moves.

    Raises:
        TypeError: something else than `Shocks`.
    """
    if shocks is None:
        return None
    if not isinstance(shocks, Shocks):
        raise TypeError(
            f"shocks is a {type(shocks).__name__}; give ttc_env.Shocks(cost=..., demand=...,"
            " entry=..., exit=..., capital=...)"
        )
    return shocks.bind(providers, max_cycles) if shocks.moves else None


def _agents(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"provider_{i}" for i in range(count))
    given = (names,) if isinstance(names, str) else tuple(names)
    if len(given) != count or len(set(given)) < count or not all(isinstance(x, str) for x in given):
        raise ValueError(f"agent_names are {list(given)}; give {count} different names, as strings")
    return given


def describe(config: EnvConfig, market: str | None = None) -> str:
    """Mechanism, market (or other words for it) and actions in a few words, for `repr`."""
    what = repr(config.mechanism.name)
    if config.demand == "sampled":
        what += ", sampled demand"
    if config.moves:
        what += f", moving {', '.join(sorted(config.moves))}"
    return f"{what}, {market or repr(config.market)}, actions={config.action_space()}"


def action_masks(market: Market | MarketBatch, config: EnvConfig) -> np.ndarray:
    """`EnvConfig.action_masks` of a market `[n, k]`, or of G markets of one shape `[n, G, k]`, as
    booleans; `config` gives the rules.
    """
    if config.actions == "flat":
        offers = (
            config.mechanism.offers(market)
            if isinstance(market, Market)
            else market.offers(config.mechanism)
        )
        return ~np.isnan(offers.quality)
    available = market.available
    available = available if available.ndim == 2 else np.moveaxis(available, 2, 1)
    rest = np.ones((*available.shape[:-1], sum(config.grid[1:])), bool)
    return np.concatenate([available, rest], axis=-1)


def _mechanism(
    mechanism: str | Mechanism, prices: str | Sequence[float], options: Mapping[str, Any]
) -> Mechanism:
    """The mechanism of a name, with its price choices and options; or the one given.

    Raises:
        ValueError: an unknown name, price choices that cannot be, or prices for a `Mechanism`.
        TypeError: an option that the mechanism does not have.
    """
    if isinstance(mechanism, Mechanism):
        if options:
            raise TypeError(_no_such_option(options, "a Mechanism object, which has its own", ()))
        return make_mechanism(mechanism, None if prices == "grid" else prices)
    known = mechanism_options(mechanism)
    if unknown := [name for name in options if name not in known]:
        raise TypeError(_no_such_option(unknown, f"mechanism {mechanism!r}", known))
    return make_mechanism(mechanism, prices, **options)


def _no_such_option(unknown: Iterable[str], mechanism: str, known: Sequence[str]) -> str:
    """A message that names the options that exist."""
    names = sorted(unknown)
    elsewhere = (
        "; ttc_env.vector_env plays many games at once, and takes num_envs and backend"
        if {"num_envs", "backend"} & set(names)
        else ""
    )
    environment = [n for n in signature(make_config).parameters if n != "options"]
    market = [n for n in signature(load_market).parameters if n not in ("benchmark", "method")]
    return (
        f"there is no option {', '.join(names)}{elsewhere}; options are"
        f" {', '.join([*environment, *market])}; of {mechanism}: {', '.join(known) or 'none'}"
    )
