"""The batched environment: many games at once, in NumPy or in torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from ttc_env.envs.batch import BatchRounds, Played
from ttc_env.envs.batch_infos import BatchInfos
from ttc_env.envs.batch_observation import BatchObservation
from ttc_env.envs.compiled import CompiledRounds
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.envs.observations import ObservationLayout
from ttc_env.envs.tables import RoundTables
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.types import Market

_BLOCK = 2048  # environments per pass: a round's temporaries then stay in the processor's cache


class VectorMarketEnv:
    """`num_envs` games at once. Made by `vector_env`; the game is that of `MarketEnv`, whose docstring says what the options mean.

    ## Conventions

    As Gymnasium's `VectorEnv`, with an axis for the agents:

    - actions `[num_envs, n]`, or `[num_envs, n, k]` where an action has k > 1 parts; integers (discrete) or numbers in [-1, 1];
    - `step` returns `obs, rewards [num_envs, n] (USD, float64), terminations [num_envs], truncations [num_envs], infos`;
    - `obs` is a `BatchObservation`: the public block once per environment, own blocks, and the constants once per market.
      `observations="full"` returns the `[num_envs, n, d]` array itself, at several times the cost of the round.

    Arrays are kept as providers-first columns; what is returned are views of these. With `copy=False` (NumPy) they are overwritten by the
    next step. Actions whose memory is laid out likewise (`[k, n, num_envs]`, transposed) are read fastest.

    ## Autoreset

    `autoreset="same_step"` (Gymnasium's `AutoresetMode.SAME_STEP`, default): all environments end together after `max_cycles` rounds; that
    step returns the first observation of the next episode, and `infos["final_obs"]` has the last one of the old. `"disabled"`: the last
    observation is returned, and `reset` must be called.

    ## Infos

    `infos="basic"` (default here) gives none; `infos="full"` adds `round_infos()` to every step: quality, price, cost, payment, share,
    profit, utility, exact regret and relative regret, all `[num_envs, n]`, and welfare, user value and NashConv `[num_envs]`, as NumPy
    arrays (with torch they leave the device: call `round_infos` now and then instead).

    ## Markets

    One `Market` for all, or `market=` a sequence or a `MarketBatch` (see `ttc_env.game.random_markets`) of G markets of one shape:
    environment b plays market b modulo G. Scales of observations are each market's own.

    ## Randomness

    One generator for the whole batch (`reset(seed=...)`); only `demand="sampled"` draws from it. With one environment the NumPy backend
    draws what the PettingZoo environment draws.

    ## torch

    Tables live on `device`, and a step makes no copy to the host and waits for none. Actions are not checked (the check would have to wait).
    `torch.compile(env.rounds.play)` compiles a round.
    """

    metadata: Mapping[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int,
        config: EnvConfig,
        batch: MarketBatch,
        *,
        backend: str = "numpy",
        device: Any = None,
        autoreset: str = "same_step",
        observations: str = "blocks",
        copy: bool = True,
        check_actions: bool = True,
    ):
        for name, value, allowed in (
            ("backend", backend, ("numpy", "numba", "torch")),
            ("autoreset", autoreset, ("same_step", "disabled")),
            ("observations", observations, ("blocks", "full")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}")
        if not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
            raise ValueError(f"num_envs is {num_envs!r}; it must be a whole number, at least 1")
        if device is not None and backend != "torch":
            raise ValueError(f"device={device!r} needs backend='torch'")
        if len(batch) > num_envs:
            raise ValueError(f"{len(batch)} markets for {num_envs} environments; raise num_envs, so that each market is played")
        self.num_envs, self.config, self.batch = int(num_envs), config, batch
        self.backend, self.autoreset, self.observations = backend, autoreset, observations
        self.copy, self.check_actions = copy, check_actions
        self.tables = RoundTables(config, batch)
        self.rounds = BatchRounds(self.tables, self.num_envs, "torch" if backend == "torch" else "numpy", device)
        self.layout = ObservationLayout(config)
        self.agents = tuple(f"provider_{i}" for i in range(batch.num_providers))
        n, k = batch.num_providers, len(config.grid)
        self.single_observation_space = spaces.Box(-1.0, 1.0, (n, self.layout.size), np.float32)
        self.observation_space = spaces.Box(-1.0, 1.0, (self.num_envs, n, self.layout.size), np.float32)
        if config.actions == "continuous":
            self.single_action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (n, k), np.float32)
            self.action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (self.num_envs, n, k), np.float32)
        else:
            shape = (n,) if k == 1 else (n, k)
            self.single_action_space = spaces.MultiDiscrete(np.broadcast_to(config.grid if k > 1 else config.grid[0], shape))
            self.action_space = spaces.MultiDiscrete(np.broadcast_to(config.grid if k > 1 else config.grid[0], (self.num_envs, *shape)))
        self._static = self.rounds._put(self.tables.static)
        self._rng = self._generator(None)
        self._flags: tuple[Any, Any]
        self._t, self._running = 0, False
        self._last: Played | None = None
        self._compiled: CompiledRounds | None = None
        if backend == "numba":
            rounds = self.rounds
            self._compiled = CompiledRounds(self.tables, rounds.start, rounds.outside_value, rounds.profit_scale)
        if backend != "torch":
            b = self.num_envs
            self._public = _aligned((3 * n + 2, b), np.float32)
            self._own = _aligned((k + 1, n, b), np.float32)
            self._reward, self._share = _aligned((n, b), np.float64), _aligned((n, b), np.float64)
            self._index = _aligned((n, b), np.int64)
            self._aside: tuple[np.ndarray, ...] | None = None  # the buffers of `rewards`, once it is used
            self._flags = np.zeros(b, bool), np.ones(b, bool)
        else:
            import torch

            device = self.rounds.start.device
            self._flags = (
                torch.zeros(self.num_envs, dtype=torch.bool, device=device),
                torch.ones(self.num_envs, dtype=torch.bool, device=device),
            )

    @property
    def num_agents(self) -> int:
        return self.batch.num_providers

    def _generator(self, seed: int | None) -> Any:
        if self.backend != "torch":
            from gymnasium.utils import seeding

            return seeding.np_random(seed)[0]
        import torch

        generator = torch.Generator(device=self.rounds.start.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator

    def action_mask(self) -> np.ndarray:
        """`[G, n, levels]` int8: which levels each provider of each market has. A level beyond them means the highest one."""
        return np.moveaxis(self.batch.available, 2, 0).astype(np.int8)

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment. A seed starts the batch's generator anew; without one it goes on. `options` has no keys."""
        if seed is not None:
            self._rng = self._generator(seed)
        self._t, self._running, self._last = 0, True, None
        return self._shown(self._first()), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Play one round in every environment.

        Raises:
            ValueError: actions of the wrong shape, or outside their space (NumPy, with `check_actions`).
            RuntimeError: no episode is running.
        """
        if not self._running:
            raise RuntimeError("no episode is running; call reset() first")
        actions = self._checked(actions)
        self._t += 1
        obs, reward = self.play(actions, max(0.0, 1.0 - self._t / self.config.max_cycles))
        infos: dict[str, Any] = self.round_infos() if self.config.infos == "full" else {}
        over = self._t >= self.config.max_cycles
        truncations = self._flags[int(over)]
        if over and self.autoreset == "same_step":
            # Copied in any case: the buffers are about to become the next episode's.
            infos["final_obs"] = self._shown(obs, copy=True)
            obs = self._first()
            self._t = 0
        elif over:
            self._running = False
        terminations = self._flags[0]
        if self.copy:
            terminations, truncations = (x.copy() if self.backend != "torch" else x.clone() for x in (terminations, truncations))
        return self._shown(obs), reward, terminations, truncations, infos

    def play(self, actions: Any, time_left: float) -> tuple[BatchObservation, Any]:
        """A round and nothing else: actions are not checked, no episode is counted, nothing is copied. Returns observations and rewards."""
        if self.backend != "torch":
            obs = self._play_blocks(actions, time_left)
            return obs, self._reward.T.copy() if self.copy else self._reward.T
        self._last = self.rounds.play(actions, self._rng)
        return self._observe(self._last, time_left), self._last.reward.T

    def rewards(self, actions: Any) -> Any:
        """Rewards `[num_envs, n]` of one round in USD, expected or sampled, and nothing else: no observation, no episode, `last` as it was."""
        actions = self._checked(actions)
        if self.backend == "torch":
            return self.rounds.play(actions, self._rng).reward.T
        if self._aside is None:
            self._aside = tuple(_aligned(x.shape, x.dtype) for x in (self._reward, self._share, self._index))
        reward, share, index = self._aside
        if self._compiled is not None:
            self._compiled.play(actions, share, reward, index, self._public, self._own, shown=False)
        else:
            for columns in self._blocks():
                played = self.rounds.play(actions[columns], self._rng, columns)
                reward[:, columns], share[:, columns] = played.reward, played.share
        return reward.T.copy() if self.copy else reward.T

    def _blocks(self) -> Iterator[slice]:
        return (slice(start, min(start + _BLOCK, self.num_envs)) for start in range(0, self.num_envs, _BLOCK))

    @property
    def last(self) -> Played:
        """The last round, as columns `[n, num_envs]`.

        Raises:
            RuntimeError: none has been played.
        """
        if self._last is None:
            raise RuntimeError("no round has been played; call step() first")
        return self._last

    # --- the two backends ---

    def _play_blocks(self, actions: np.ndarray, time_left: float) -> BatchObservation:
        public, own = self._public, self._own
        extra: list[Played] = []
        if self._compiled is not None:
            self._compiled.play(actions, self._share, self._reward, self._index, public, own, shown=True)
        for columns in self._blocks() if self._compiled is None else ():
            played = self.rounds.play(actions[columns], self._rng, columns)
            self.rounds.show(played, columns, public, own)
            self._reward[:, columns], self._share[:, columns], self._index[:, columns] = played.reward, played.share, played.index
            if played.price is not None or played.served is not None:
                extra.append(played)
        price, served, correct = (
            np.concatenate([getattr(p, name) for p in extra], axis=1) if extra and getattr(extra[0], name) is not None else None
            for name in ("price", "served", "correct")
        )
        self._last = Played(self._reward, self._share, self._index, price, None, served, correct)
        public[-2], public[-1] = 1.0, time_left
        return self._views()

    def _views(self) -> BatchObservation:
        return BatchObservation(self._static, self._own.transpose(2, 1, 0), self._public.T, self.config.information)

    def _observe(self, played: Played, time_left: float) -> BatchObservation:
        import torch

        shown, mine = self.rounds.seen(played)
        flags = shown[0].new_ones((2, self.num_envs))
        flags[1] = time_left
        public = torch.cat([*(rows.to(torch.float32) for rows in shown), flags])
        own = torch.stack([rows.to(torch.float32) for rows in mine])
        return BatchObservation(self._static, own.permute(2, 1, 0), public.T, self.config.information)

    def _first(self) -> BatchObservation:
        """Before the first round."""
        if self.backend != "torch":
            self._public[:], self._own[:] = 0.0, 0.0
            self._public[-1] = 1.0
            return self._views()
        n, k = self.num_agents, len(self.config.grid)
        public = self._static.new_zeros((3 * n + 2, self.num_envs))
        public[-1] = 1.0
        return BatchObservation(
            self._static, self._static.new_zeros((k + 1, n, self.num_envs)).permute(2, 1, 0), public.T, self.config.information
        )

    def _shown(self, obs: Any, copy: bool | None = None) -> Any:
        if not isinstance(obs, BatchObservation):
            return obs
        if self.observations == "full":
            return obs.full()
        if self.backend != "torch" and (self.copy if copy is None else copy):
            return BatchObservation(obs.static, obs.own.copy(order="K"), obs.public.copy(order="K"), obs.information)
        return obs

    def _checked(self, actions: Any) -> Any:
        shape = (self.num_envs, self.num_agents)
        k = len(self.config.grid)
        if self.backend != "torch":
            actions = np.asarray(actions)
        if tuple(actions.shape) not in ((*shape, k), *([shape] if k == 1 else [])):
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}; expected {(*shape, k) if k > 1 else shape}: [num_envs, providers, parts]"
            )
        if self.config.actions == "continuous":
            if self.backend != "torch" and self.check_actions and not np.isfinite(actions).all():
                raise ValueError("actions hold NaN or infinity; they must be numbers in [-1, 1]")
            return actions
        if k == 1 and len(actions.shape) == 3:
            actions = actions[..., 0]
        if self.backend == "torch":
            return actions
        if actions.dtype.kind not in "iu":
            raise ValueError(f"actions are {actions.dtype}; expected integers")
        if self._compiled is not None:
            columns = self._compiled.columns(actions)
            if self.check_actions and (outside := self._compiled.outside(columns)) is not None:
                self._refuse(actions, *outside)
            return columns.transpose(2, 1, 0)  # so that it is not made again
        if self.check_actions:
            parts = [actions] if k == 1 else [actions[..., j] for j in range(k)]
            unsigned = np.dtype(f"u{actions.dtype.itemsize}")  # where negative numbers are large ones
            for part, size in zip(parts, self.config.grid, strict=True):
                if part.view(unsigned).max() >= size:
                    self._refuse(actions, *np.argwhere((part < 0) | (part >= size))[0])
        return actions

    def _refuse(self, actions: np.ndarray, b: int, i: int) -> NoReturn:
        raise ValueError(f"environment {b}, provider_{i}: action {actions[b, i].tolist()} is not in {self.config.action_space()}")

    # --- the last round, in full ---

    def round_infos(self) -> dict[str, np.ndarray]:
        """The last round as NumPy arrays; see the class docstring. Exact regrets, in the log domain, against every action.

        Raises:
            RuntimeError: no round has been played since `reset` (an autoreset keeps the last one).
        """
        return self._infos.of(self.last)

    @cached_property
    def _infos(self) -> BatchInfos:
        return BatchInfos(self.rounds)

    def solve(self) -> list[Any]:
        """The exact solution of each of the G markets (`ttc_env.solve`); for sweeps of many see `ttc_env.game.sweep`."""
        from ttc_env.game.solve import solve

        return [solve(self.batch.market(g), self.config.mechanism) for g in range(len(self.batch))]

    def close(self) -> None:
        """Nothing is held open."""


def _aligned(shape: tuple[int, ...], dtype: Any, line: int = 64) -> np.ndarray:
    """A new array that starts where a cache line does: vector instructions then write whole lines, a tenth faster."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(size + line, np.uint8)
    start = -buffer.ctypes.data % line
    return buffer[start : start + size].view(dtype).reshape(shape)


def vector_env(
    num_envs: int,
    mechanism: Any = "market",
    benchmark: Any = None,
    method: str | None = None,
    *,
    market: Market | Sequence[Market] | MarketBatch | None = None,
    backend: str = "numpy",
    device: Any = None,
    autoreset: str = "same_step",
    observations: str = "blocks",
    copy: bool = True,
    check_actions: bool = True,
    infos: str = "basic",
    **options: Any,
) -> VectorMarketEnv:
    """`num_envs` games at once, in NumPy or torch.

    Args:
        num_envs: how many.
        mechanism, benchmark, method, options: as for `ttc_env.parallel_env`.
        market: one `Market`, or several of one shape (a sequence, or a `MarketBatch`): environment b plays market b modulo their number.
        backend: `"numpy"`; `"numba"`, compiled, several times faster after some seconds of compilation (extra `fast`; discrete actions and
            expected demand); or `"torch"` with everything on `device`.
        autoreset, observations, copy, infos: see `VectorMarketEnv`.
        check_actions: whether integers outside the action space raise (NumPy, numba). Unchecked ones read another action's entry;
            numba reads whatever memory they point to.

    Raises:
        ValueError, TypeError: an option that is unknown or out of range.
        ImportError: `backend="torch"` without torch, or `"numba"` without numba.
    """
    if market is None or isinstance(market, Market):
        config = make_config(mechanism, benchmark, method, market=market, infos=infos, **options)
        batch = MarketBatch.of(config.market)
    else:
        batch = MarketBatch.of(market)
        config = make_config(mechanism, benchmark, method, market=batch.market(0), infos=infos, **options)
    return VectorMarketEnv(
        num_envs,
        config,
        batch,
        backend=backend,
        device=device,
        autoreset=autoreset,
        observations=observations,
        copy=copy,
        check_actions=check_actions,
    )
