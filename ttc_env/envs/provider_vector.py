"""One provider's view of many games at once: what `gymnasium.make_vec` makes of
`ttc_env/Provider-v0`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ttc_env.envs.config import EnvConfig, describe
from ttc_env.envs.options import Benchmark, GameOptions, Infos
from ttc_env.envs.provider import (
    FixedOpponents,
    Opponents,
    Policy,
    PolicyOpponents,
    check_provider,
    make_opponents,
    rivals_of,
)
from ttc_env.envs.vector import vector_env
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.types import Market


class ProviderVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` copies of `ttc_env.ProviderEnv`, played as one batch.

        env = gymnasium.make_vec(
            "ttc_env/Provider-v0", num_envs=64, vectorization_mode="vector_entry_point", ...
        )

    Gymnasium's vector wrappers fit: observations `[num_envs, d]`, actions `[num_envs]` or
    `[num_envs, k]`, rewards `[num_envs]` (USD, float64), infos as arrays with their `_name` masks.
    Environment b does what the b-th of `gymnasium.vector.SyncVectorEnv` would do, seeds included,
    with autoreset in the same step.

    The opponents `"equilibrium"` and `"truthful"` cost nothing; all others are one object per
    environment, asked one after the other.

    Args:
        num_envs: how many.
        opponent, provider, options: as in `ProviderEnv`; `market` is one market.
        infos: `"basic"` (default here) gives the action mask alone.
        backend: `"numpy"`, or `"numba"` (extra `fast`).

    Raises:
        ValueError, TypeError: an option that is unknown or out of range.
    """

    def __init__(
        self,
        num_envs: int,
        opponent: str | Policy | Opponents = "equilibrium",
        provider: int = 0,
        *,
        mechanism: str | Mechanism = "market",
        benchmark: Benchmark | None = None,
        method: str | None = None,
        market: Market | None = None,
        infos: Infos = "basic",
        render_mode: None = None,
        backend: Literal["numpy", "numba"] = "numpy",
        **options: Unpack[GameOptions],
    ):
        if market is not None and not isinstance(market, Market):
            raise TypeError(
                "this batch plays one Market; for several, make a gymnasium.vector.SyncVectorEnv of"
                " ttc_env.ProviderEnv, or see ttc_env.vector_env"
            )
        if render_mode is not None:
            raise ValueError("a batch draws nothing; make one ttc_env/Provider-v0 to look at")
        if backend not in ("numpy", "numba"):
            raise ValueError(
                f"backend is {backend!r}; opponents take NumPy arrays: choose 'numpy' or 'numba'"
            )
        self._env = vector_env(
            num_envs, mechanism, benchmark, method, market=market, infos=infos, backend=backend,
            copy=False, **options,
        )  # fmt: skip
        if self.config.moves:
            raise ValueError(
                "this batch plays a world that does not move; with shocks or price_period make a"
                " gymnasium.vector.SyncVectorEnv of ttc_env.ProviderEnv"
            )
        self.provider = check_provider(self.market, provider)
        self._indices = rivals_of(self.market, self.provider)
        self.num_envs = self._env.num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.render_mode = None
        layout = self._env.layout
        self.single_observation_space = gymnasium.spaces.Box(-1.0, 1.0, (layout.size,), np.float32)
        self.single_action_space = self.config.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [gymnasium.utils.seeding.np_random(None)[0] for _ in range(num_envs)]
        self._started = False
        # Opponents that play the same in every round are asked once, for all.
        first = make_opponents(opponent)
        fixed = isinstance(first, FixedOpponents) and not isinstance(first, PolicyOpponents)
        self._opponents = [copy.deepcopy(first) for _ in range(1 if fixed else num_envs)]
        self._fixed = fixed
        for opponents in self._opponents:
            opponents.start(self.config, self._indices, 0)
        parts = self.single_action_space.shape or ()
        dtype = np.float64 if self.config.continuous else np.int64
        self._actions = np.zeros((num_envs, len(self.config.agents), *parts), dtype)
        if fixed:
            self._fill(slice(None), self._opponents[0].act({}))

    def __repr__(self) -> str:
        agent = self.config.agents[self.provider]
        return f"ProviderVectorEnv({self.num_envs} x {agent} of {describe(self.config)})"

    @property
    def config(self) -> EnvConfig:
        return self._env.config

    @property
    def market(self) -> Market:
        """The market that is played."""
        return self.config.market

    def solve(self) -> Any:
        """The exact solution of the game among all providers."""
        return self.config.solve()

    def _fill(self, rows: Any, acts: Mapping[str, Any]) -> None:
        for i in self._indices:
            self._actions[rows, i] = acts[self.config.agents[i]]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every environment; a seed starts the opponents anew. One number s
        means s, s + 1, ..., as in Gymnasium.
        """
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed) + b for b in range(self.num_envs)]
        if seed is not None:
            if any(one is None for one in seed):
                raise ValueError("give every environment a seed, or none of them")
            self._generators = [gymnasium.utils.seeding.np_random(one)[0] for one in seed]
        drawn = seed if self.config.demand == "sampled" else None
        seen, infos = self._env.reset(seed=drawn, options=options)  # type: ignore[arg-type]
        if (seed is not None or not self._started) and not self._fixed:
            for opponents, rng in zip(self._opponents, self._generators, strict=True):
                opponents.start(self.config, self._indices, int(rng.integers(2**31)))
        self._started = True
        self._seen = seen
        return seen.of(self.provider), self._own(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Play one round in every environment.

        Raises:
            ValueError: actions of the wrong shape, or outside their space.
            RuntimeError: no episode is running.
        """
        if not self._started:
            raise RuntimeError("no episode is running; call reset() first")
        mine = np.asarray(actions)
        if mine.shape != self.action_space.shape:
            raise ValueError(f"actions have shape {mine.shape}; expected {self.action_space.shape}")
        if not self.config.continuous and not np.issubdtype(mine.dtype, np.integer):
            raise ValueError(f"actions are {mine.dtype}; they must be integers")
        played = self._actions
        played[:, self.provider] = mine
        if not self._fixed:
            agents, everybody = self.config.agents, self._seen.full()
            for b, opponents in enumerate(self._opponents):
                rows = {agents[i]: everybody[b, i] for i in self._indices}
                self._fill(b, opponents.act(rows))
        seen, rewards, terminations, truncations, infos = self._env.step(played)
        last = infos.pop("final_obs", None)
        if not self._fixed:
            self._tell(played, rewards, (seen if last is None else last).full(), last is not None)
        own = self._own(infos)
        if last is not None:
            final = np.empty(self.num_envs, object)  # an array of arrays, as Gymnasium has it
            final[:] = list(last.of(self.provider))
            everybody = np.ones(self.num_envs, bool)
            own = {
                **self._own({}),
                "final_obs": final,
                "_final_obs": everybody,
                "final_info": own,
                "_final_info": everybody,
            }
        self._seen = seen
        mine = rewards[:, self.provider].copy()
        return seen.of(self.provider), mine, terminations.copy(), truncations.copy(), own

    def _tell(self, played: np.ndarray, rewards: np.ndarray, seen: np.ndarray, over: bool) -> None:
        """Opponents that watch learn what came of their actions."""
        agents = self.config.agents
        for b, opponents in enumerate(self._opponents):
            if isinstance(opponents, FixedOpponents):
                continue
            opponents.observe(
                self.config.choose(list(played[b])),
                {agents[i]: float(rewards[b, i]) for i in self._indices},
                {agents[i]: seen[b, i] for i in self._indices},
                over,
            )

    def _own(self, infos: Mapping[str, Any]) -> dict[str, Any]:
        """This provider's column of the infos, each with a mask that says that all have it."""
        own: dict[str, Any] = {}
        mask = self.config.action_masks[self.provider]
        if mask is not None:
            infos = {**infos, "action_mask": np.tile(mask, (self.num_envs, 1))}
        for name, values in infos.items():
            if name.startswith("_"):
                continue
            mine = values.ndim == 1 or name == "action_mask"
            own[name] = np.array(values if mine else values[:, self.provider])
            own[f"_{name}"] = np.ones(self.num_envs, bool)
        return own

    def close(self, **kwargs: Any) -> None:
        """Nothing is held open."""
