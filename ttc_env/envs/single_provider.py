"""The market as one provider sees it: a Gymnasium environment, the others played by opponents."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium
import numpy as np

from ttc_env.envs.config import EnvConfig
from ttc_env.envs.market import MarketEnv


class Opponents(Protocol):
    """Everybody but the provider that the environment is about.

    The `agents` package of the repository makes these from the names of its players; write your own
    to play against.
    """

    def act(self, observations: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """An environment action for every opponent, by agent id, from their observations."""
        ...

    def observe(
        self,
        flat_actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        """Told after a round: everybody's flat actions `[n]` (over level, price, claim), rewards in
        USD, what the opponents now see, and whether the episode ended.
        """
        ...


MakeOpponents = Callable[[EnvConfig, tuple[int, ...], int], Opponents]
"""(config, provider indices to play, seed) -> opponents."""

Policy = Callable[[np.ndarray], Any]
"""A policy: one opponent's observation -> an action of the environment.

The same for all opponents; the observation says which provider it is.
"""


class _Policies:
    """Opponents that follow one policy and learn nothing."""

    def __init__(self, policy: Policy):
        self._policy = policy

    def act(self, observations: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        return {agent: self._policy(seen) for agent, seen in observations.items()}

    def observe(
        self,
        flat_actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        """Nothing to learn."""


class SingleProviderEnv(gymnasium.Env[np.ndarray, Any]):
    """One provider's view of the market; everybody else is an opponent.

    ## Description

    `gymnasium.make("ttc_env/Provider-v0", opponent="best_response", provider=0, mechanism="market",
    ...)`. The game is that of `ttc_env.MarketEnv`; this environment acts for one provider.

    ## Action Space, Observation Space, Rewards

    The provider's own, as in `MarketEnv`: `Discrete`, `MultiDiscrete` or `Box`; a float32 vector in
    [-1, 1]; expected profit in USD per round.

    ## Starting State

    As in `MarketEnv`. A seeded reset also makes the opponents anew, from the same seed; an unseeded
    one lets them keep what they learned.

    ## Episode End

    Truncation after `max_cycles` rounds.

    ## Arguments

    | argument | default | meaning |
    | --- | --- | --- |
    | `opponent` | `"equilibrium"` | a name of the `agents` package (`"best_response"`, `"provider_1=hedge,rest=truthful"`, ...), a policy (observation -> action), or a function (config, indices, seed) -> `Opponents` marked by `makes_opponents = True` |
    | `provider` | 0 | index of the provider that the environment is about |
    | `render_mode` and all others | | as in `MarketEnv` |

    ## Version History

    - v0: first version (0.1.0).
    """

    metadata = {  # noqa: RUF012 (Gymnasium's contract)
        "render_modes": MarketEnv.metadata["render_modes"],
        "render_fps": 2,
    }

    def __init__(
        self,
        opponent: str | Policy | MakeOpponents = "equilibrium",
        provider: int = 0,
        *,
        render_mode: str | None = None,
        **options: Any,
    ):
        self._env = MarketEnv(render_mode=render_mode, **options)
        self.render_mode = render_mode
        n = len(self._env.possible_agents)
        if not 0 <= provider < n:
            raise ValueError(
                f"provider is {provider}; this market has providers 0..{n - 1}:"
                f" {', '.join(self._env.market.names)}"
            )
        self.provider = int(provider)
        self._me = self._env.possible_agents[self.provider]
        self._others = tuple(i for i in range(n) if i != self.provider)
        self.observation_space = self._env.observation_space(self._me)
        self.action_space = self._env.action_space(self._me)
        self._make = _maker(opponent)
        self._opponents: Opponents | None = None
        self._observations: dict[str, np.ndarray] = {}
        # Wrong names should fail here, not at the first reset.
        self._make(self.config, self._others, 0)

    @property
    def config(self) -> EnvConfig:
        return self._env.config

    @property
    def market(self) -> Any:
        """The `Market` that is played."""
        return self._env.market

    def solve(self) -> Any:
        """The exact solution of the game among all providers."""
        return self._env.solve()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; a seed makes opponents anew and sets all randomness."""
        super().reset(seed=seed)
        if seed is not None or self._opponents is None:
            self._opponents = self._make(
                self.config, self._others, int(self.np_random.integers(2**31))
            )
        self._observations, infos = self._env.reset(seed=seed, options=options)
        return self._observations[self._me], self._own(infos)

    def _own(self, infos: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """This provider's info, with a mask of its own: Gymnasium wants new data on every call."""
        info = infos[self._me]
        info["action_mask"] = copy.deepcopy(info["action_mask"])
        return info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one round against the opponents.

        Raises:
            RuntimeError: no episode is running.
        """
        if self._opponents is None:
            raise RuntimeError("no episode is running; call reset() first")
        others = [self._env.possible_agents[i] for i in self._others]
        actions = dict(self._opponents.act({agent: self._observations[agent] for agent in others}))
        actions[self._me] = action
        self._observations, rewards, _, truncations, infos = self._env.step(actions)
        over = truncations[self._me]
        flat = self.config.choose([actions[agent] for agent in self._env.possible_agents])
        self._opponents.observe(
            flat, {a: rewards[a] for a in others}, {a: self._observations[a] for a in others}, over
        )
        return self._observations[self._me], rewards[self._me], False, over, self._own(infos)

    def render(self) -> Any:
        """The last round; see `MarketEnv.render`."""
        return self._env.render()


def _maker(opponent: str | Policy | MakeOpponents) -> MakeOpponents:
    if isinstance(opponent, str):
        try:
            # By name at run time: ttc_env is shipped without the players, and must not import
            # upwards.
            opponents = importlib.import_module("agents.opponents")
        except ModuleNotFoundError as error:
            if error.name not in ("agents", "agents.opponents"):
                raise
            raise ImportError(
                f"opponent {opponent!r} is a player of the repository's `agents` package, which the"
                " ttc-env wheel does not ship; work from a checkout (pip install -e .), or pass a"
                " policy: opponent=lambda observation: action"
            ) from error
        return opponents.by_name(opponent)
    if not callable(opponent):
        raise ValueError(
            f"opponent is {opponent!r}; give a name, a policy (observation -> action), or a"
            " function that makes opponents"
        )
    if getattr(opponent, "makes_opponents", False):
        return opponent  # type: ignore[return-value]
    return lambda config, index, seed: _Policies(opponent)  # type: ignore[arg-type]
