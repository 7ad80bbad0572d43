"""Agents as the opponents in `ttc_env/Provider-v0`: one run, fed from environment dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents import make_agents, parse_learners
from agents.base import Agent, Feedback, Payoffs
from ttc_env.envs.config import EnvConfig
from ttc_env.envs.world.stage_game import StageGame
from ttc_env.game.types import Array

HORIZON = 10_000
"""Rounds over which opponents' schedules (exploration, temperature) run: an environment does not
know how long it will be used.
"""


class AgentOpponents:
    """Agents as providers of one environment: `ttc_env.envs.provider.Opponents`.

    Args:
        learners: as `agents.parse_learners` reads them.
    """

    def __init__(self, learners: str):
        self._learners = learners

    def __repr__(self) -> str:
        return f"agents.opponents({self._learners!r})"

    def start(self, config: EnvConfig, indices: tuple[int, ...], seed: int) -> None:
        """New agents.

        Raises:
            ValueError: an unknown name, an agent that needs the global state, or continuous
                actions, which agents do not play.
        """
        self._stage: StageGame | None = None
        if config.continuous:
            raise ValueError(
                "agents choose from a list of actions; use actions='discrete' or 'flat', the"
                " opponents 'equilibrium' or 'truthful', or pass a policy as opponent"
            )
        chosen = parse_learners(self._learners, config.market.num_providers)
        self._config = config
        self._agents = (
            make_agents(config, {i: chosen[i] for i in indices}, seeds=[seed], horizon=HORIZON)
            if indices
            else []
        )
        for agent in self._agents:
            if agent.needs_state:
                raise ValueError(
                    f"{agent.name} trains by the global state, which one provider's environment"
                    " does not show; use ppo_torch, or play what it learned: agents.load_policies"
                )
        table = config.table
        self._full = any(agent.feedback == "full" for agent in self._agents)
        self._shares = any(agent.sees_rivals for agent in self._agents)
        self._table = table.map(lambda x: x[:, :, None])

    def watch(self, stage: StageGame) -> None:
        """Where the world moves, learners are told what actions earn in the round's game."""
        self._stage = stage

    def _rows(self, agent: Agent, values: Mapping[str, Any]) -> Array:
        """`[k, 1, ...]` of the agent's providers."""
        names = self._config.agents
        return np.array([values[names[i]] for i in agent.role.index])[:, None]

    def act(self, observations: Mapping[str, np.ndarray]) -> dict[str, Any]:
        names, actions = self._config.agents, self._config.discrete_actions
        result = {}
        for agent in self._agents:
            chosen = agent.act(self._rows(agent, observations) if agent.needs_observation else None)
            for i, flat in zip(agent.role.index, chosen[:, 0].tolist(), strict=True):
                result[names[i]] = actions[flat]
        return result

    def observe(
        self,
        actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        config = self._config
        payoffs = shares = None
        if self._full or self._shares:
            offer = config.table.take(actions)
            if self._stage is not None:
                payoffs, shares = self._stage.payoffs(actions)
            elif self._full:
                batch = offer.map(lambda x: x[:, None])
                payoffs = config.mechanism.deviations(self._table, batch, config.market)
                shares = np.exp(payoffs[1][np.arange(len(actions)), actions])
            else:
                shares = config.mechanism.play(offer, config.market).share[:, None]
        for agent in self._agents:
            rows = list(agent.role.index)
            seen = self._rows(agent, observations) if agent.needs_observation else None
            agent.observe(
                Feedback(
                    action=actions[rows][:, None],
                    reward=self._rows(agent, rewards),
                    over=over,
                    actions=actions[:, None] if agent.sees_rivals else None,
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
