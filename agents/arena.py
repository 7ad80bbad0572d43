"""The loop in which agents play one market under many seeds at once: a `ttc_env.vector_env` with
one environment per seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.base import Actions, Agent, Feedback, Payoffs, Role
from ttc_env.envs.config import EnvConfig
from ttc_env.envs.observations import ObservationLayout
from ttc_env.envs.vector import VectorMarketEnv
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.types import Array


class NotFinite(FloatingPointError):
    """A reward or gradient is NaN or infinite; the message says where."""


def describe(config: EnvConfig) -> str:
    """A market in a few words, for messages."""
    market = config.market
    name = (
        f"{market.benchmark} {market.method}"
        if market.benchmark
        else f"{market.num_providers} providers"
    )
    return f"market {name}, mechanism {config.mechanism.name}, beta {market.beta:g}"


def make_role(
    config: EnvConfig,
    index: Sequence[int],
    seeds: Sequence[int],
    horizon: int,
    *,
    sees_solver: bool = False,
) -> Role:
    """The role of an agent that plays the providers `index` under these seeds."""
    rows, layout = list(index), ObservationLayout(config)
    return Role(
        index=tuple(rows),
        seeds=tuple(int(seed) for seed in seeds),
        num_providers=config.market.num_providers,
        horizon=int(horizon),
        grid=config.mechanism.grid(config.market),
        price_choices=config.mechanism.tariff.choices,
        neutral_price=config.mechanism.tariff.neutral,
        labels=tuple(config.market.providers[i].levels for i in rows),
        quality=config.table.quality[rows],
        price=config.table.price[rows],
        cost=config.table.cost[rows],
        existing=config.mechanism.existing(config.level_counts, config.market)[rows],
        observation_size=layout.size,
        state_size=layout.state_size,
        description=describe(config),
        config=config if sees_solver else None,
    )


class Arena:
    """Agents that play round after round under all seeds at once.

    Each seed is an environment of `ttc_env.vector_env` with a generator of its own, so that no seed
    depends on which others are there. Discrete actions only.
    """

    def __init__(self, config: EnvConfig, agents: Sequence[Agent], seeds: Sequence[int]):
        if config.continuous:
            raise ValueError(
                "agents choose from a list of actions; make the environment with actions='discrete'"
                " or 'flat' (a finer price grid: prices=(...))"
            )
        n = config.market.num_providers
        played = sorted(i for agent in agents for i in agent.role.index)
        if played != list(range(n)):
            raise ValueError(
                f"every provider needs exactly one agent; agents play providers {played}, of {n}"
            )
        for agent in agents:
            if agent.sees_rivals and config.information == "own":
                raise ValueError(
                    f"{agent.name} needs to see its rivals, but information='own' hides them; use"
                    " information='full' or a bandit learner"
                )
        self.config, self.agents, self.seeds = (
            config,
            list(agents),
            tuple(int(seed) for seed in seeds),
        )
        self.env = VectorMarketEnv(
            len(self.seeds),
            dataclasses.replace(config, infos="basic"),
            MarketBatch.of(config.market),
        )
        self.round = 0
        self._full = any(agent.feedback == "full" for agent in agents)
        self._watched = any(agent.needs_observation for agent in agents)
        self._judged = any(agent.needs_state for agent in agents)
        self._rows = [list(agent.role.index) for agent in self.agents]
        # Streams of their own: agents' draws are seeded by [seed, provider, stream]
        # (`agents.draws`).
        obs, _ = self.env.reset(
            seed=[
                int(np.random.SeedSequence([seed, n, 2]).generate_state(1)[0])
                for seed in self.seeds
            ]
        )
        self._observations, self._state = self._vectors(obs), self._joint(obs)

    def _joint(self, obs: Any) -> Array | None:
        """`[seeds, s]`, if a critic looks."""
        return obs.state() if self._judged else None

    def _vectors(self, obs: Any) -> Array | None:
        """`[n, seeds, d]`, if anybody looks."""
        return obs.full().swapaxes(0, 1) if self._watched else None

    def step(self) -> Array:
        """One round: act, play, observe, update. Returns rewards `[n, seeds]` in USD per round.

        Raises:
            NotFinite: a reward is not a finite number.
        """
        actions = np.empty((self.config.market.num_providers, len(self.seeds)), dtype=np.intp)
        for agent, rows in zip(self.agents, self._rows, strict=True):
            actions[rows] = agent.act(
                None if self._observations is None else self._observations[rows]
            )
        rewards, shares, obs, final = self.play(actions)
        self.round += 1
        self._check(rewards, actions)
        payoffs = self.payoffs() if self._full else None
        over = final is not None
        following = self._vectors(obs)
        seen = self._vectors(final) if over else following
        state, self._state = self._state, self._joint(obs)
        next_state = self._joint(final) if over else self._state
        for agent, rows in zip(self.agents, self._rows, strict=True):
            watched = agent.needs_observation and seen is not None and following is not None
            agent.observe(
                Feedback(
                    action=actions[rows],
                    reward=rewards[rows],
                    over=over,
                    actions=actions if agent.sees_rivals else None,
                    shares=shares if agent.sees_rivals else None,
                    payoffs=(
                        Payoffs(payoffs.profit[rows], payoffs.log_share[rows])
                        if payoffs is not None and agent.feedback == "full"
                        else None
                    ),
                    observation=seen[rows] if watched else None,
                    first_observation=following[rows] if watched and over else None,
                    state=state if agent.needs_state else None,
                    next_state=next_state if agent.needs_state else None,
                )
            )
        for agent in self.agents:
            agent.update()
        self._observations = following
        return rewards

    def play(self, actions: Actions) -> tuple[Array, Array, Any, Any]:
        """One round of flat actions `[n, seeds]`, from which nobody learns.

        Returns:
            Rewards in USD and shares, `[n, seeds]`; what is seen next; and what was seen at the end
            of the episode, if it ended with this round, else None.
        """
        parts = np.stack(np.unravel_index(actions, self.config.grid))
        obs, rewards, _, _, infos = self.env.step(parts.transpose(2, 1, 0))
        return rewards.T, self.env.last.share.copy(), obs, infos.get("final_obs")

    def payoffs(self) -> Payoffs:
        """What every action would have earned in the round just played, `[n, a, seeds]`: expected
        demand, whatever users were drawn.
        """
        return Payoffs(*(x.transpose(1, 2, 0) for x in self.env.deviations()))

    def _check(self, rewards: Array, actions: Actions) -> None:
        if np.isfinite(rewards).all():
            return
        i, k = (int(x[0]) for x in np.nonzero(~np.isfinite(rewards)))
        quality, price, cost = (
            x[i, actions[i, k]]
            for x in (self.config.table.quality, self.config.table.price, self.config.table.cost)
        )
        raise NotFinite(
            f"reward is {rewards[i, k]} in round {self.round} for provider_{i}"
            f" ({self.config.market.names[i]!r}), seed {self.seeds[k]},"
            f" {describe(self.config)}; it offered quality {quality:g}, price {price:g}, cost"
            f" {cost:g} USD/query"
        )

    def strategies(self) -> Array:
        """What everybody has learned, `[n, a, seeds]`; agents that read observations answer the
        current one.
        """
        result = np.zeros(
            (self.config.market.num_providers, self.config.table.quality.shape[1], len(self.seeds))
        )
        for agent, rows in zip(self.agents, self._rows, strict=True):
            result[rows] = agent.greedy(
                None if self._observations is None else self._observations[rows]
            )
        return result

    @property
    def observations(self) -> Array | None:
        """`[n, seeds, d]`: what the providers see now, if an agent looks."""
        return self._observations

    def state_dict(self) -> dict[str, Any]:
        """Enough to go on exactly."""
        content = {
            "round": self.round,
            "env": self.env.state_dict(),
            "agents": [agent.state_dict() for agent in self.agents],
        }
        if self._observations is not None:
            content["observations"] = np.ascontiguousarray(self._observations)
        return content if self._state is None else {**content, "state": self._state}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.round = int(content["round"])
        self.env.load_state_dict(content["env"])
        for agent, state in zip(self.agents, content["agents"], strict=True):
            agent.load_state_dict(state)
        self._observations, self._state = content.get("observations"), content.get("state")
