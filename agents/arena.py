"""Many runs of one market at once, and the loop in which agents play them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.base import Actions, Agent, Feedback, Payoffs, Seats
from ttc_env.envs.config import EnvConfig
from ttc_env.envs.observations import ObservationLayout
from ttc_env.game.mechanisms import Offer, Outcome
from ttc_env.game.types import Array


class NotFinite(FloatingPointError):
    """A reward or gradient is NaN or infinite; the message says where."""


class ParallelMarkets:
    """Copies of the market that `config` describes, one per run: the environment's arithmetic with a batch axis, without its dicts.

    Rewards and observations equal those of `ttc_env.MarketEnv` (`tests/agents/test_arena.py`). Discrete actions only.
    """

    def __init__(self, config: EnvConfig, seeds: Sequence[int]):
        if config.actions != "discrete":
            raise ValueError(
                "agents choose from a list of actions; make the environment with actions='discrete' (a finer price grid: prices=(...))"
            )
        self.config = config
        self.layout = ObservationLayout(config)
        self.seeds = tuple(int(seed) for seed in seeds)
        self.t = 0
        self._rngs = [np.random.default_rng([seed, config.market.num_providers, 2]) for seed in self.seeds]
        table = config.table
        self._table = Offer(*(x[:, :, None] for x in (table.quality, table.claim, table.price, table.cost)))
        self._rows = np.arange(config.market.num_providers)[:, None]
        self._static = self._repeated_static()
        self._last: tuple[Offer, Array, Array, Actions] | None = None
        self.offer: Offer | None = None

    @property
    def runs(self) -> int:
        return len(self.seeds)

    def reset(self) -> None:
        """Start an episode in every run; random numbers go on."""
        self.t = 0
        self._last = None

    def play(self, actions: Actions) -> tuple[Array, Array]:
        """One round. actions: `[n, runs]` flat. Returns rewards in USD per round and shares, both `[n, runs]`.

        Raises:
            NotFinite: a reward is not a finite number.
        """
        table, config = self.config.table, self.config
        offer = Offer(*(x[self._rows, actions] for x in (table.quality, table.claim, table.price, table.cost)))
        outcome = config.mechanism.play(offer, config.market)
        share, profit = outcome.share, outcome.utility
        if config.demand == "sampled":
            share = self._served(outcome) / config.users
            profit = share * outcome.profit_per_query
        self.t += 1
        if not np.isfinite(profit).all():
            i, run = (int(x[0]) for x in np.nonzero(~np.isfinite(profit)))
            raise NotFinite(
                f"reward is {profit[i, run]} in round {self.t} for provider_{i} ({config.market.names[i]!r}), run seed {self.seeds[run]}, {describe(config)}; "
                f"it offered quality {offer.quality[i, run]:g}, price {offer.price[i, run]:g}, cost {offer.cost[i, run]:g} USD/query"
            )
        self.offer = offer
        self._last = (offer, share, profit, actions)
        return config.users * profit, share

    def payoffs(self) -> Payoffs:
        """What every action would have earned in the round just played, `[n, a, runs]`: expected demand, whatever users were drawn."""
        assert self.offer is not None
        return Payoffs(*self.config.mechanism.deviations(self._table, self.offer, self.config.market))

    @property
    def over(self) -> bool:
        return self.t >= self.config.max_cycles

    def observations(self) -> Array:
        """`[n, runs, d]` float32, as `ObservationLayout` lays them out."""
        layout, n = self.layout, self.config.market.num_providers
        result = self._static.copy()
        public = result[:, :, layout.private_size :]
        public[..., -1] = max(0.0, 1.0 - self.t / self.config.max_cycles)
        if self._last is None:
            return result
        offer, share, profit, actions = self._last
        result[:, :, layout.slices["last_action"]] = self._scaled_actions(actions)
        result[:, :, layout.slices["last_profit"].start] = np.clip(profit / layout._profit_scale, -1.0, 1.0)
        quality = np.clip(offer.quality / layout._quality_scale, -1.0, 1.0)
        price = np.clip(layout.money(offer.price), -1.0, 1.0)
        for j, values in enumerate((quality, price, share)):
            public[:, :, j * n : (j + 1) * n] = values.T[None]
            hidden = self.config.information == "own" or (self.config.information == "prices" and j != 1)
            if hidden:
                public[:, :, j * n : (j + 1) * n] *= np.eye(n, dtype=np.float32)[:, None, :]
        public[..., 3 * n] = 1.0
        return result

    def _repeated_static(self) -> Array:
        layout = self.layout
        block = np.zeros((self.config.market.num_providers, len(self.seeds), layout.size), np.float32)
        block[:, :, : layout.private_size] = layout._static[:, None, :]
        return block

    def _scaled_actions(self, actions: Actions) -> Array:
        """`[n, runs, k]` own actions in [-1, 1]."""
        parts = self.config.mechanism.split(actions, self.config.market)
        sizes = self.config.mechanism.grid(self.config.market)
        kept = [part for j, (part, size) in enumerate(zip(parts, sizes, strict=True)) if j == 0 or size > 1]
        return 2.0 * np.stack(kept, axis=2) / np.maximum(np.array(self.config.grid) - 1, 1) - 1.0

    def _served(self, outcome: Outcome) -> Array:
        share = outcome.share
        served = np.zeros(share.shape)
        for run, rng in enumerate(self._rngs):
            if self.config.mechanism.posts_prices:
                chances = np.append(share[:, run], outcome.outside_share[run])
                served[:, run] = rng.multinomial(self.config.users, chances / chances.sum())[:-1]
            else:
                tied = np.flatnonzero(share[:, run] > 0)
                if tied.size:
                    served[tied[rng.integers(tied.size)], run] = self.config.users
        return served

    def state_dict(self) -> dict[str, Any]:
        """Clock, generators and last round: enough to go on exactly."""
        content: dict[str, Any] = {"t": self.t, "rngs": [rng.bit_generator.state for rng in self._rngs]}
        if self._last is not None:
            _, share, profit, actions = self._last
            content.update(share=share, profit=profit, actions=actions)
        return content

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.t = int(content["t"])
        for rng, state in zip(self._rngs, content["rngs"], strict=True):
            rng.bit_generator.state = state
        self._last = None
        if "actions" in content:
            table, actions = self.config.table, np.asarray(content["actions"], dtype=np.intp)
            self.offer = Offer(*(x[self._rows, actions] for x in (table.quality, table.claim, table.price, table.cost)))
            self._last = (self.offer, np.asarray(content["share"]), np.asarray(content["profit"]), actions)


def describe(config: EnvConfig) -> str:
    """A market in a few words, for messages."""
    market = config.market
    name = f"{market.benchmark} {market.method}" if market.benchmark else f"{market.num_providers} providers"
    return f"market {name}, mechanism {config.mechanism.name}, beta {market.beta:g}"


def make_seats(config: EnvConfig, index: Sequence[int], seeds: Sequence[int], horizon: int, *, sees_solver: bool = False) -> Seats:
    """Seats for the providers `index` in runs with these seeds."""
    rows = list(index)
    table = config.table
    return Seats(
        index=tuple(rows),
        seeds=tuple(int(seed) for seed in seeds),
        num_providers=config.market.num_providers,
        horizon=int(horizon),
        grid=config.mechanism.grid(config.market),
        price_choices=config.mechanism.tariff.choices,
        neutral_price=config.mechanism.tariff.neutral,
        claims=config.mechanism.claims,
        labels=tuple(config.market.providers[i].levels for i in rows),
        own=table
        if rows == list(range(config.market.num_providers))
        else Offer(*(x[rows] for x in (table.quality, table.claim, table.price, table.cost))),
        observation_size=ObservationLayout(config).size,
        description=describe(config),
        config=config if sees_solver else None,
    )


class Arena:
    """Agents in their seats, playing round after round in all runs at once."""

    def __init__(self, config: EnvConfig, agents: Sequence[Agent], seeds: Sequence[int]):
        seated = sorted(i for agent in agents for i in agent.seats.index)
        if seated != list(range(config.market.num_providers)):
            raise ValueError(f"every provider needs exactly one agent; providers seated: {seated}, of {config.market.num_providers}")
        for agent in agents:
            if agent.sees_rivals and config.information == "own":
                raise ValueError(
                    f"{agent.name} needs to see its rivals, but information='own' hides them; use information='full' or a bandit learner"
                )
        self.config, self.agents = config, list(agents)
        self.markets = ParallelMarkets(config, seeds)
        self.round = 0
        self._full = any(agent.feedback == "full" for agent in agents)
        self._watched = any(agent.needs_observation for agent in agents)
        self._rows = [list(agent.seats.index) for agent in self.agents]
        self._observations = self.markets.observations() if self._watched else None

    def step(self) -> Array:
        """One round: act, play, observe, update. Returns rewards `[n, runs]` in USD per round."""
        actions = np.empty((self.config.market.num_providers, self.markets.runs), dtype=np.intp)
        for agent, rows in zip(self.agents, self._rows, strict=True):
            actions[rows] = agent.act(None if self._observations is None else self._observations[rows])
        rewards, shares = self.markets.play(actions)
        payoffs = self.markets.payoffs() if self._full else None
        over = self.markets.over
        observations = self.markets.observations() if self._watched else None
        if over:
            self.markets.reset()
        following = self.markets.observations() if self._watched and over else observations
        self.round += 1
        for agent, rows in zip(self.agents, self._rows, strict=True):
            watched = agent.needs_observation and observations is not None and following is not None
            agent.observe(
                Feedback(
                    action=actions[rows],
                    reward=rewards[rows],
                    over=over,
                    actions=actions if agent.sees_rivals else None,
                    shares=shares if agent.sees_rivals else None,
                    payoffs=Payoffs(payoffs.profit[rows], payoffs.log_share[rows])
                    if payoffs is not None and agent.feedback == "full"
                    else None,
                    observation=observations[rows] if watched else None,
                    first_observation=following[rows] if watched and over else None,
                )
            )
        for agent in self.agents:
            agent.update()
        self._observations = following
        return rewards

    def strategies(self) -> Array:
        """What everybody has learned, `[n, a, runs]`; agents that read observations answer the current one."""
        result = np.zeros((self.config.market.num_providers, self.config.table.quality.shape[1], self.markets.runs))
        for agent, rows in zip(self.agents, self._rows, strict=True):
            result[rows] = agent.greedy(None if self._observations is None else self._observations[rows])
        return result

    def state_dict(self) -> dict[str, Any]:
        return {"round": self.round, "markets": self.markets.state_dict(), "agents": [agent.state_dict() for agent in self.agents]}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.round = int(content["round"])
        self.markets.load_state_dict(content["markets"])
        for agent, state in zip(self.agents, content["agents"], strict=True):
            agent.load_state_dict(state)
        self._observations = self.markets.observations() if self._watched else None
