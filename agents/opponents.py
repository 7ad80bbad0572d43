"""Agents as the opponents in `ttc_env/Provider-v0`: one run, fed from environment dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents import parse_learners, seat
from agents.base import Agent, Feedback, Payoffs
from ttc_env.envs.config import EnvConfig
from ttc_env.envs.single_provider import MakeOpponents
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array

HORIZON = 10_000
"""Rounds over which opponents' schedules (exploration, temperature) run: an environment does not
know how long it will be used.
"""


class AgentOpponents:
    """Agents in the seats `index` of one environment."""

    def __init__(self, config: EnvConfig, index: tuple[int, ...], seed: int, learners: str):
        chosen = parse_learners(learners, config.market.num_providers)
        self._config = config
        self._agents = (
            seat(config, {i: chosen[i] for i in index}, seeds=[seed], horizon=HORIZON)
            if index
            else []
        )
        table = config.table
        self._table = table.map(lambda x: x[:, :, None])
        self._actions: dict[int, int] = {}

    def _rows(self, agent: Agent, values: Mapping[str, Any]) -> Array:
        """`[k, 1, ...]` of the agent's seats."""
        return np.stack(
            [np.asarray(values[self._config.agents[i]])[None] for i in agent.seats.index]
        )

    def act(self, observations: Mapping[str, np.ndarray]) -> dict[str, Any]:
        self._actions = {}
        for agent in self._agents:
            chosen = agent.act(self._rows(agent, observations) if agent.needs_observation else None)
            self._actions.update({i: int(chosen[j, 0]) for j, i in enumerate(agent.seats.index)})
        return {self._config.agents[i]: self._action(flat) for i, flat in self._actions.items()}

    def _action(self, flat: int) -> Any:
        """A flat action in the environment's own form."""
        config = self._config
        parts = config.mechanism.split(flat, config.market)
        sizes = config.mechanism.grid(config.market)
        kept = [
            int(part)
            for k, (part, size) in enumerate(zip(parts, sizes, strict=True))
            if k == 0 or size > 1
        ]
        return kept[0] if len(kept) == 1 else np.array(kept)

    def observe(
        self,
        flat_actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        config = self._config
        offer = config.table.take(flat_actions)
        full = any(agent.feedback == "full" for agent in self._agents)
        batch = offer.map(lambda x: x[:, None])
        payoffs = config.mechanism.deviations(self._table, batch, config.market) if full else None
        shares = config.mechanism.play(offer, config.market).share[:, None]
        for agent in self._agents:
            rows = list(agent.seats.index)
            seen = self._rows(agent, observations) if agent.needs_observation else None
            agent.observe(
                Feedback(
                    action=flat_actions[rows][:, None],
                    reward=self._rows(agent, rewards),
                    over=over,
                    actions=flat_actions[:, None] if agent.sees_rivals else None,
                    shares=shares if agent.sees_rivals else None,
                    payoffs=(
                        Payoffs(payoffs[0][rows], payoffs[1][rows])
                        if payoffs is not None and agent.feedback == "full"
                        else None
                    ),
                    observation=seen,
                    first_observation=seen if over else None,
                )
            )
            agent.update()


def by_name(learners: str) -> MakeOpponents:
    """A function that makes opponents from names, as `agents.parse_learners` reads them.

    Raises (when it is called):
        ValueError: an unknown name, or an environment with continuous actions, which agents do not
            play.
    """

    def make(config: EnvConfig, index: tuple[int, ...], seed: int) -> AgentOpponents:
        if config.actions != "discrete":
            raise ValueError(
                "opponents by name choose from a list of actions; use actions='discrete', or pass a"
                " policy as opponent"
            )
        return AgentOpponents(config, index, seed, learners)

    return make
