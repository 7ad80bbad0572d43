"""The contract of a player.

An `Agent` object plays one or more providers under many *seeds* at once. Each seed is a market of
its own. Axis 0 of every array is the provider, axis 1 the action where there is one, the last axis
the seed. Providers and seeds never mix: what an agent does for one provider under one seed depends
on what that provider saw under that seed alone. So ten seeds cost little more than one, and a test
demands that together and alone give the same numbers. There are two exceptions, both declared: an
RL agent may share its parameters between providers, and a `parallel` agent trains one model on all
markets together.

An action is a flat index over (level, price choice, report), as `ttc_env.game.mechanisms.Mechanism`
has it; so every agent plays every mechanism.

A round goes `act` -> the market is played -> `observe` -> `update`. After the last round `strategy`
says what was learned.
"""

from __future__ import annotations

import inspect
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from agents.draws import Draws
from ttc_env.envs.config import EnvConfig
from ttc_env.game.types import Array

Actions = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Role:
    """An agent's role: which providers it plays, and what those providers know of themselves."""

    index: tuple[int, ...]  # [k] provider indices
    seeds: tuple[int, ...]  # [seeds]
    num_providers: int
    horizon: int  # planned number of rounds; schedules may use it
    grid: tuple[int, int, int]  # levels, price choices, reports (0: the truth)
    price_choices: tuple[float, ...]  # ascending
    neutral_price: float  # the price choice that the theory singles out: list price, truthful bid
    labels: tuple[Array, ...]  # [k] arrays of own level labels
    # [k, a] USD/query, every own action's; NaN where an action does not exist
    quality: Array
    price: Array
    cost: Array
    existing: Actions  # [k, a] what is played where each action is asked for, one that exists
    observation_size: int
    state_size: int
    description: str  # the market in a few words, for messages
    config: EnvConfig | None = None  # the whole game, only for agents that declare `sees_solver`

    @property
    def shape(self) -> tuple[int, int, int]:
        """(providers, actions, seeds)."""
        return len(self.index), self.quality.shape[1], len(self.seeds)

    @property
    def available(self) -> NDArray[np.bool_]:
        """`[k, a]`: which actions exist."""
        return ~np.isnan(self.quality)

    def uniform(self) -> Array:
        """`[k, a, seeds]`: equal chance for every action that exists."""
        there = self.available[:, :, None] / self.available.sum(axis=1)[:, None, None]
        return np.broadcast_to(there, self.shape).copy()

    def draws(self, stream: int = 0) -> Draws:
        """Uniform numbers for every provider and seed, each from its own generator.

        Different streams are independent.
        """
        return Draws(self.seeds, self.index, stream)


@dataclass(frozen=True, eq=False)
class Payoffs:
    """What each own action would have earned against what the rivals just did (full feedback). `[k,
    a, seeds]`, NaN where an action does not exist.

    Utilities of losing providers underflow, and differ by hundreds of orders of magnitude from
    round to round. So they are kept as profit per served query and log share, and compared within a
    round only.
    """

    profit: Array  # USD per served query
    log_share: Array

    @cached_property
    def sign(self) -> Array:
        """Sign of U: -1, 0, 1; -2 where an action does not exist."""
        sign = np.where(self.log_share == -np.inf, 0.0, np.sign(self.profit))
        return np.where(np.isnan(self.profit), -2.0, sign)

    @cached_property
    def log_size(self) -> Array:
        """log |U|, U in USD per arriving user; 0 where U = 0 or the action does not exist."""
        zero = (self.sign == 0.0) | (self.sign == -2.0)
        return np.where(
            zero,
            0.0,
            np.log(np.where(zero, 1.0, np.abs(self.profit))) + np.where(zero, 0.0, self.log_share),
        )

    def loss(self) -> Array:
        """Relative regret of every action in this round, `[k, a, seeds]`: 1 - U / U_best, capped at
        2 (a loss where a profit was to be had); where nothing can be earned, 0 for earning nothing
        and 1 for losing something; inf where an action does not exist.

        Dividing a round's payoffs by their best is what makes regret learning possible at high
        beta: a provider's payoff there changes by factors of exp(100) as rivals move, and sums of
        raw payoffs are sums of a handful of lucky rounds. A positive factor per round leaves every
        best reply and every dominance as it was (the argument of GAME.md, theorem 3), and the
        quantity that such a learner drives to zero is the relative regret that we report.
        """
        sign, log = self.sign, self.log_size
        earns = sign.max(axis=1, keepdims=True) > 0
        top = np.where(sign > 0, log, -np.inf).max(axis=1, keepdims=True)
        # |U| / U_best, capped just above 2
        ratio = np.exp(np.minimum(log - np.where(earns, top, log), 0.7))
        loss = np.where(
            earns, 1.0 - np.where(sign == 0, 0.0, sign * ratio), np.where(sign < 0, 1.0, 0.0)
        )
        return np.where(sign == -2.0, np.inf, np.minimum(loss, 2.0))

    def rank(self) -> Array:
        """`[k, a, seeds]` keys that order a provider's actions by U within this round, exactly;
        -inf for all that are worse in sign than the best, or do not exist.
        """
        sign, log = self.sign, self.log_size
        top = sign.max(axis=1, keepdims=True)
        return np.where(sign == top, np.where(top == 0, 0.0, top * log), -np.inf)


@dataclass(frozen=True, eq=False)
class Feedback:
    """What an agent is told after a round. Fields that it does not declare a need for are None."""

    action: Actions  # [k, seeds] its own
    reward: Array  # [k, seeds] USD per round, as the environment pays it
    over: bool  # the episode ended with this round
    actions: Actions | None = None  # [n, seeds] everybody's: agents with sees_rivals
    shares: Array | None = None  # [n, seeds] everybody's share of users: agents with sees_rivals
    payoffs: Payoffs | None = None  # agents with feedback == "full"
    # [k, seeds, d] float32 after the round: agents with needs_observation
    observation: Array | None = None
    # [k, seeds, d] that the next episode starts with, if this one is over
    first_observation: Array | None = None
    # [seeds, s] float32, the global state in which the round was played, and the one that it led
    # to: agents with needs_state
    state: Array | None = None
    next_state: Array | None = None


class Agent(ABC):
    """A player.

    Subclasses declare, as class attributes, what they know and do; `tests/agents/test_contract.py`
    holds them to it.
    """

    name: ClassVar[str]
    # is told what the rivals did (or what every own action would have earned against it)
    sees_rivals: ClassVar[bool] = False
    sees_solver: ClassVar[bool] = False  # is given the whole game, and may solve it
    stochastic: ClassVar[bool] = False  # draws random numbers
    learns: ClassVar[bool] = False  # its play depends on what it saw
    # "none" | "bandit": own reward | "full": payoffs of all own actions
    feedback: ClassVar[str] = "bandit"
    needs_observation: ClassVar[bool] = False  # reads the environment's observation vector
    # is told the global state of each round, which its critic may read while it trains
    needs_state: ClassVar[bool] = False
    # its seeds are parallel copies of the market that one model learns from
    parallel: ClassVar[bool] = False
    rounds: ClassVar[int] = 100  # rounds that usually suffice
    state: ClassVar[tuple[str, ...]] = ()  # attributes that a checkpoint must hold

    def __init__(self, role: Role):
        self.role = role
        self.t = 0
        self.last: Feedback | None = None

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The options that the agent takes: name -> type."""
        return options_of(cls.__init__, ("role",))

    @abstractmethod
    def act(self, observation: Array | None = None) -> Actions:
        """Flat actions `[k, seeds]` for this round. observation: `[k, seeds, d]` if
        `needs_observation`.
        """

    def observe(self, feedback: Feedback) -> None:
        """Take note of a round."""
        self.last = feedback

    def update(self) -> None:
        """Learn from the round that was observed last."""
        self.t += 1

    @abstractmethod
    def strategy(self) -> Array:
        """What was learned, without exploration: a probability for every action,
        `[k, a, seeds]`.
        """

    def greedy(self, observation: Array | None = None) -> Array:
        """The strategy after seeing `observation` (`[k, seeds, d]`), for agents whose play depends
        on it: `[k, a, seeds]`.
        """
        return self.strategy()

    def policies(self) -> list[dict[str, Any]]:
        """What `agents.policies` needs to play what was learned: for each provider its form and
        arrays, without exploration. Where a market has a strategy of its own, axis 0 is the market.
        """
        strategy = self.strategy()
        return [{"form": "mixed", "strategy": np.ascontiguousarray(one.T)} for one in strategy]

    def diagnostics(self) -> Mapping[str, float]:
        """Numbers worth logging, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: arrays, numbers, strings and dicts of them, by name.

        Taken between rounds.
        """
        content: dict[str, Any] = {"t": self.t}
        for field in self.state:
            value = getattr(self, field)
            content[field] = (
                value.state_dict()
                if isinstance(value, Draws)
                else np.array(value)
                if isinstance(value, np.ndarray)
                else value
            )
        return content

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`, on an agent made with the same role and options."""
        self.t = int(content["t"])
        for field in self.state:
            current = getattr(self, field)
            if isinstance(current, Draws):
                current.load_state_dict(content[field])
            elif isinstance(current, np.ndarray):
                value = np.array(content[field], dtype=current.dtype)
                if value.shape != current.shape:
                    raise ValueError(
                        f"{self.name}: {field} has shape {value.shape} in the checkpoint,"
                        f" {current.shape} here; the options differ"
                    )
                setattr(self, field, value)
            else:
                setattr(self, field, type(current)(content[field]))


def options_of(function: Callable[..., Any], without: tuple[str, ...]) -> dict[str, Any]:
    """Parameters of a function and their types, but for those `without`, `self` and `**`; `object`
    where a type is not known here.
    """

    def type_of(parameter: inspect.Parameter) -> Any:
        try:
            stub = types.FunctionType((lambda: None).__code__, function.__globals__)
            stub.__annotations__ = {"x": parameter.annotation}
            return get_type_hints(stub)["x"]
        except NameError:
            return object

    return {
        name: type_of(parameter)
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", *without) and parameter.kind is not parameter.VAR_KEYWORD
    }


def pure(actions: Actions, num_actions: int) -> Array:
    """Actions `[k, seeds]` as strategies `[k, a, seeds]`."""
    return (actions[:, None, :] == np.arange(num_actions)[:, None]).astype(np.float64)


def sample(strategy: Array, uniform: Array) -> Actions:
    """One action per provider and seed, by inversion. strategy: `[k, a, seeds]`, need not sum to 1;
    uniform: `[k, seeds]`.
    """
    total = strategy.cumsum(axis=1)
    action = (total <= (uniform * total[:, -1])[:, None]).sum(axis=1)
    # u * total can round up to total: then the last action with weight is meant.
    last = strategy.shape[1] - 1 - (strategy[:, ::-1] > 0).argmax(axis=1)
    return np.minimum(action, last)


def best(keys: Array, uniform: Array) -> Actions:
    """The action with the largest key, `[k, seeds]`; among equals one at random. keys: `[k, a,
    seeds]`.
    """
    return sample((keys == keys.max(axis=1, keepdims=True)).astype(np.float64), uniform)
