"""The batched environment: many games at once, in NumPy, numba or torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Unpack

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from ttc_env.envs.backends.base import BATCH_BACKENDS, make_backend
from ttc_env.envs.config import EnvConfig, action_masks, describe, make_config
from ttc_env.envs.generators import checked_seed
from ttc_env.envs.observations import BatchObservation, ObservationLayout
from ttc_env.envs.options import Benchmark, GameOptions, Infos
from ttc_env.envs.round_infos import RoundInfos
from ttc_env.envs.rounds import Played
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage
from ttc_env.envs.world.stage_game import StageGame
from ttc_env.envs.world.stage_infos import StageInfos
from ttc_env.envs.world.world import World, world_generator
from ttc_env.game.enumeration import MOST_PROFILES
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.solution import Solution
from ttc_env.game.types import Market


class VectorMarketEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` games at once. Made by `vector_env`; the game is that of `MarketEnv`, whose
    docstring says what the options mean.

    ## Conventions

    As Gymnasium's `VectorEnv`, with an axis for the agents (its wrappers that look at rewards
    expect none, and do not fit):

    - actions `[num_envs, n]`, or `[num_envs, n, k]` where an action has k > 1 parts, as by default
      (level, price); integers (discrete) or numbers in [-1, 1];
    - `step` returns `obs, rewards [num_envs, n] (USD, float64), terminations [num_envs],
      truncations [num_envs], infos`;
    - `obs` is a `BatchObservation`: the public block once per environment, own blocks, and the
      constants once per market. `observations="full"` returns the `[num_envs, n, d]` array itself,
      which lies in `observation_space`, at several times the cost of the round. `obs.full()` makes
      it, `obs.state()` the global state.

    Arrays are kept as providers-first columns; what is returned are views of these. With
    `copy=False` (NumPy) they are overwritten by the next step. Actions whose memory is laid out
    likewise (`[k, n, num_envs]`, transposed) are read fastest.

    ## Autoreset

    `autoreset="same_step"` (Gymnasium's `AutoresetMode.SAME_STEP`, default): all environments end
    together after `max_cycles` rounds; that step returns the first observation of the next episode,
    and `infos["final_obs"]` has the last one of the old. `"disabled"`: the last observation is
    returned, and `reset` must be called. Infos are of the round just played in either case.

    ## Infos

    `infos="basic"` (default here) gives none; `infos="full"` adds `action_mask`
    `[num_envs, n, k]` (int8, of discrete actions; as in `MarketEnv`) to every reset and step, and
    `round_infos()` to every step: quality, price, cost, payment, share, profit, utility, exact
    regret and relative regret, all `[num_envs, n]`, and welfare, user value and NashConv
    `[num_envs]`, as NumPy arrays (with torch they leave the device: call `round_infos` now and then
    instead).

    ## Markets

    One `Market` for all, or `market=` a sequence or a `MarketBatch` (see
    `ttc_env.game.random_markets`) of G markets of one shape: environment b plays market b modulo G.
    Scales of observations are each market's own. `batch` has them all, `solve()` solves them.

    ## Randomness

    One generator for the whole batch (`reset(seed=...)`); only `demand="sampled"` draws from it.
    With one environment, or with a list of seeds, the NumPy backend draws what PettingZoo
    environments with these seeds draw.

    ## A world that moves

    As in `MarketEnv`: `action_mask()` and `stages()` are about the coming round. The world moves on
    the host by a generator of its own, the same in NumPy and torch; a round is played by the rule's
    definition, some times slower than from tables. numba and `compile=True` take `price_period`
    alone. Infos in full solve every environment's stage game for its optimum, about a millisecond
    each.

    ## torch

    Tables live on `device`, and a step makes no copy to the host and waits for none. So actions are
    checked on the CPU only: elsewhere one outside its space plays some other entry of the tables.
    With `compile=True` steps go through `torch.compile`; `env.rounds.play` is a pure function of
    actions, to compile into graphs of your own.
    """

    def __init__(
        self,
        num_envs: int,
        config: EnvConfig,
        batch: MarketBatch,
        *,
        backend: str = "numpy",
        device: Any = None,
        compile: bool = False,
        autoreset: str | AutoresetMode = "same_step",
        observations: str = "blocks",
        copy: bool = True,
        check_actions: bool = True,
    ):
        if autoreset is AutoresetMode.SAME_STEP:
            autoreset = "same_step"
        elif autoreset is AutoresetMode.DISABLED:
            autoreset = "disabled"
        for name, value, allowed in (
            ("backend", backend, BATCH_BACKENDS),
            ("autoreset", autoreset, ("same_step", "disabled")),
            ("observations", observations, ("blocks", "full")),
        ):
            if value not in allowed:
                raise ValueError(
                    f"{name} is {value!r}; choose {', '.join(map(repr, allowed[:-1]))} or"
                    f" {allowed[-1]!r}"
                )
        if not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
            raise ValueError(f"num_envs is {num_envs!r}; it must be a whole number, at least 1")
        for name, given in (("device", device is not None), ("compile", compile)):
            if given and backend != "torch":
                raise ValueError(f"{name} needs backend='torch'; got backend={backend!r}")
        if len(batch) > num_envs:
            raise ValueError(
                f"{len(batch)} markets for {num_envs} environments; raise num_envs to {len(batch)}"
                " or more: each market is played"
            )
        self.num_envs, self.config, self.batch = int(num_envs), config, batch
        self.autoreset, self.observations = autoreset, observations
        self.copy, self.check_actions = copy, check_actions
        self.metadata = {
            "autoreset_mode": (
                AutoresetMode.SAME_STEP if autoreset == "same_step" else AutoresetMode.DISABLED
            )
        }
        self.tables = RoundTables(config, batch)
        self._backend = make_backend(
            backend, self.tables, self.num_envs, device=device, compile=compile
        )
        self.backend, self.rounds = backend, self._backend.rounds
        self.layout = ObservationLayout(config)
        self.agents = config.agents
        self.single_observation_space = spaces.Box(
            -1.0, 1.0, (batch.num_providers, self.layout.size), np.float32
        )
        self.single_action_space = self._action_space()
        self._rng = self._backend.generator(None)
        self._t, self._running = 0, False
        self._last: Played | None = None
        _check_optima(config)
        self._world = World(config, self.rounds) if config.moves else None
        self._world_rng = world_generator(None)
        self._stage: Stage | None = None  # what the coming round is played in

    def __repr__(self) -> str:
        return (
            f"VectorMarketEnv({self.num_envs} environments, {self.backend}:"
            f" {describe(self.config, repr(self.batch))})"
        )

    @property
    def num_agents(self) -> int:
        return self.batch.num_providers

    @property
    def possible_agents(self) -> list[str]:
        return list(self.agents)

    @property
    def max_cycles(self) -> int:
        """Rounds per episode."""
        return self.config.max_cycles

    @property
    def np_random(self) -> Any:
        """The generator in use: NumPy's, one for each environment after `reset(seed=[...])`, or
        torch's.
        """
        return self._rng

    @np_random.setter
    def np_random(self, value: Any) -> None:
        self._rng = value

    # Spaces of large batches are large, and few programs ask for them.
    @cached_property
    def observation_space(self) -> spaces.Space[Any]:  # type: ignore[override]
        shape = self.num_envs, self.num_agents, self.layout.size
        return spaces.Box(-1.0, 1.0, shape, np.float32)

    @cached_property
    def action_space(self) -> spaces.Space[Any]:  # type: ignore[override]
        return self._action_space(self.num_envs)

    def _action_space(self, *envs: int) -> spaces.Space[Any]:
        shape, grid = (*envs, self.num_agents), self.config.grid
        if self.config.continuous:
            return spaces.Box(-1.0, 1.0, (*shape, len(grid)), np.float32)
        return spaces.MultiDiscrete(
            np.broadcast_to(grid, (*shape, len(grid))) if len(grid) > 1 else np.full(shape, grid[0])
        )

    def action_mask(self) -> np.ndarray | None:
        """Which actions each provider of each market has: `[G, n, k]` int8, as in `MarketEnv`; None
        for continuous actions.

        A level beyond them means the highest one. Where the world moves: each provider of each
        environment in the coming round, `[num_envs, n, k]`.
        """
        if self.config.continuous:
            return None
        if self._world is not None and self._stage is not None:
            return self._world.masks(self._stage, self.batch)
        return action_masks(self.batch, self.config).swapaxes(0, 1).astype(np.int8)

    def _masks(self) -> dict[str, np.ndarray]:
        """`action_mask` as infos carry it, of the coming round."""
        if self._world is None:
            return dict(self._mask_info)
        mask = self.action_mask() if self.config.infos == "full" else None
        return {} if mask is None else {"action_mask": mask}

    @cached_property
    def _mask_info(self) -> dict[str, np.ndarray]:
        """`action_mask` of every environment, `[num_envs, n, k]`, read-only, as infos carry it."""
        mask = self.action_mask() if self.config.infos == "full" else None
        if mask is None:
            return {}
        mask = mask[np.arange(self.num_envs) % len(mask)]
        mask.setflags(write=False)
        return {"action_mask": mask}

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment. A seed starts the generator anew; without one it
        goes on.

        Args:
            seed: one for the batch; or (NumPy) one for each environment, which then draws what it
                would draw alone.
            options: may hold Gymnasium's `reset_mask`, all True; other keys are ignored.

        Raises:
            ValueError: seeds that are no whole numbers >= 0, another number of them than of
                environments; or a mask that leaves environments out.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None and not np.asarray(mask).all():
            raise ValueError(
                "environments run in step, and are reset together: reset_mask must be all True"
            )
        if seed is not None:
            seed = self._seeds(seed)
            self._rng = self._backend.generator(seed)
            self._world_rng = world_generator(seed)
        self._t, self._running, self._last = 0, True, None
        return self._shown(self._first()), self._masks()

    def _first(self) -> BatchObservation:
        """A new episode's first observation."""
        obs = self._backend.first()
        if self._world is None:
            return obs
        self._stage = self._world.first(self._world_rng)
        return self._world.show(obs, self._stage)

    def _seeds(self, seed: Any) -> int | list[int] | None:
        """One seed for the batch, or one for each environment."""
        if not isinstance(seed, (Sequence, np.ndarray)) or isinstance(seed, str):
            return checked_seed(seed)
        seeds = [checked_seed(one) for one in seed]
        if len(seeds) != self.num_envs or None in seeds:
            raise ValueError(
                f"{len(seeds)} seeds for {self.num_envs} environments; give one each, or one"
                " number for the batch"
            )
        return seeds  # type: ignore[return-value]

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Play one round in every environment. A step that raises has changed nothing.

        Raises:
            ValueError: actions of the wrong shape or kind, or outside their space (with
                `check_actions`; torch on the CPU only).
            TypeError: actions that are no tensor (torch).
            RuntimeError: no episode is running.
        """
        if not self._running:
            raise RuntimeError("no episode is running; call reset() first")
        actions = self._checked(actions)
        t = self._t + 1
        over = t >= self.config.max_cycles
        obs, reward = self.play(actions, max(0.0, 1.0 - t / self.config.max_cycles))
        self._t = t  # not before: a refused action is no round
        infos: dict[str, Any] = self.round_infos() if self.config.infos == "full" else {}
        if over and self.autoreset == "same_step":
            # Copied in any case: the buffers are about to become the next episode's.
            infos["final_obs"] = (
                obs.full() if self.observations == "full" else self._backend.copied(obs)
            )
            # in which environments: Gymnasium's convention
            infos["_final_obs"] = np.ones(self.num_envs, bool)
            obs = self._first()
            self._t = 0
        elif over:
            self._running = False
        infos |= self._masks()
        flags = self._backend.flags(over)
        terminations, truncations = map(self._backend.copied, flags) if self.copy else flags
        return self._shown(obs), reward, terminations, truncations, infos

    def play(self, actions: Any, time_left: float) -> tuple[BatchObservation, Any]:
        """A round and nothing else: actions are not checked, no episode is counted.

        Returns observations, not copied, and rewards.
        """
        obs, self._last = self._backend.play(actions, self._rng, time_left, self._stage)
        if self._world is not None and self._stage is not None:
            self._stage = self._world.after(self._stage, self._last, self._world_rng)
            obs = self._world.show(obs, self._stage)
        return obs, self._rewarded(self._last.reward)

    def rewards(self, actions: Any) -> Any:
        """Rewards `[num_envs, n]` of one round in USD, expected or sampled, and nothing else: no
        observation, no episode, `last` as it was.
        """
        if self._world is not None and self._stage is None:
            raise RuntimeError("the world moves, and no episode is running; call reset() first")
        return self._rewarded(self._backend.rewards(self._checked(actions), self._rng, self._stage))

    def _rewarded(self, columns: Any) -> Any:
        return columns.T.copy() if self.copy and self.backend != "torch" else columns.T

    @property
    def last(self) -> Played:
        """The last round, as columns `[n, num_envs]`.

        Raises:
            RuntimeError: none has been played.
        """
        if self._last is None:
            raise RuntimeError("no round has been played; call step() first")
        return self._last

    def _shown(self, obs: BatchObservation) -> Any:
        if self.observations == "full":
            return obs.full()
        return self._backend.copied(obs) if self.copy else obs

    def _checked(self, actions: Any) -> Any:
        """Actions as the backend plays them."""
        actions = self._backend.array(actions)
        shape, k = (self.num_envs, self.num_agents), len(self.config.grid)
        if tuple(actions.shape) not in ((*shape, k), *([shape] if k == 1 else [])):
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}; expected"
                f" {(*shape, k) if k > 1 else shape}: [num_envs, providers, parts]"
            )
        if k == 1 and len(actions.shape) == 3 and not self.config.continuous:
            actions = actions[..., 0]
        return self._backend.checked(actions, self.check_actions)

    # --- the last round, in full ---

    def round_infos(self) -> dict[str, np.ndarray]:
        """The last round as NumPy arrays; see the class docstring. Exact regrets, in the log
        domain, against every action.

        Raises:
            RuntimeError: no round has been played since `reset` (an autoreset keeps the last one).
        """
        infos = self._infos.of(self._on_host())
        # copies, since the columns are the next round's; one at a time, to spare memory
        return {name: np.array(infos.pop(name).T, order="C") for name in list(infos)}

    def deviations(self) -> tuple[np.ndarray, np.ndarray]:
        """What every action would have earned against the others' of the last round, as NumPy
        arrays `[num_envs, n, a]`.

        Returns:
            Profit per served query (USD) and log share (their product is U_i), in expectation also
            where demand is sampled; NaN where an action does not exist. a counts flat actions:
            levels x prices x reports.

        Raises:
            RuntimeError: no round has been played since `reset` (an autoreset keeps the last one).
        """
        profit, log_share = self._infos.deviations(self._on_host())
        return profit.swapaxes(0, 1), log_share.swapaxes(0, 1)

    def _on_host(self) -> Played:
        last = self.last
        host = {name: self._host(x) for name, x in last._asdict().items() if name != "stage"}
        stage = last.stage
        return Played(**host, stage=None if stage is None else self._stage_on_host(stage))

    def _stage_on_host(self, stage: Stage) -> Stage:
        return stage._replace(held=self._host(stage.held))

    def _host(self, x: Any) -> Any:
        return None if x is None else self._backend.host(x)

    @cached_property
    def _infos(self) -> RoundInfos:
        return (StageInfos if self.config.moves else RoundInfos)(self.tables, self.num_envs)

    def stages(self) -> list[StageGame]:
        """The coming round's game in each environment (`MarketEnv.stage`).

        Raises:
            RuntimeError: no episode was started.
        """
        if not self._running:
            raise RuntimeError("no episode is running; call reset() first")
        stage = Stage(self._t) if self._stage is None else self._stage
        stage = self._stage_on_host(stage)
        games, count = len(self.batch), range(self.num_envs)
        markets = (
            [self.config.market] if games == 1 else [self.batch.market(g) for g in range(games)]
        )
        return [StageGame.of(self.config, markets[b % games], stage, b) for b in count]

    def solve(self) -> list[Solution | AuctionSolution]:
        """The exact solution of each of the G markets (`ttc_env.solve`); for sweeps of many see
        `ttc_env.game.sweep`.
        """
        from ttc_env.game.solve import solve

        return [solve(self.batch.market(g), self.config.mechanism) for g in range(len(self.batch))]

    def state_dict(self) -> dict[str, Any]:
        """All that later rounds depend on, in numbers, strings and NumPy arrays: the clock and the
        generators. Observations are not part of it.
        """
        content = {
            "t": self._t,
            "running": self._running,
            "generators": self._backend.generator_state(self._rng),
        }
        if self._world is not None and self._stage is not None:
            content["world"] = self._world.state_dict(self._stage, self._world_rng)
        return content

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, of an environment made with the same arguments."""
        if self._world is not None and "world" in content:
            self._stage, self._world_rng = self._world.from_state(content["world"])
        self._t, self._running = int(content["t"]), bool(content["running"])
        self._rng, self._last = self._backend.generator_from(content["generators"]), None


def vector_env(
    num_envs: int,
    mechanism: str | Mechanism = "market",
    benchmark: Benchmark | None = None,
    method: str | None = None,
    *,
    market: Market | Sequence[Market] | MarketBatch | None = None,
    infos: Infos = "basic",
    backend: Literal["numpy", "numba", "torch"] = "numpy",
    device: Any = None,
    compile: bool = False,
    autoreset: Literal["same_step", "disabled"] | AutoresetMode = "same_step",
    observations: Literal["blocks", "full"] = "blocks",
    copy: bool = True,
    check_actions: bool = True,
    **options: Unpack[GameOptions],
) -> VectorMarketEnv:
    """`num_envs` games at once, in NumPy, numba or torch.

    Args:
        num_envs: how many.
        mechanism, benchmark, method, options: as for `ttc_env.parallel_env`.
        market: one `Market`, or several of one shape (a sequence, or a `MarketBatch`): environment
            b plays market b modulo their number.
        backend: `"numpy"`; `"numba"`, compiled, several times faster after some seconds of
            compilation (extra `fast`; discrete actions and expected demand); or `"torch"` with
            everything on `device`.
        compile: whether `torch.compile` fuses a step into few kernels (torch, expected demand); the
            first step then takes some seconds.
        autoreset, observations, copy, infos: see `VectorMarketEnv`.
        check_actions: whether integers outside the action space raise (NumPy, numba, torch on the
            CPU). Unchecked ones read another action's entry; numba reads whatever memory they point
            to.

    Raises:
        ValueError, TypeError: an option that is unknown or out of range.
        ImportError: `backend="torch"` without torch, or `"numba"` without numba.
    """
    if market is None or isinstance(market, Market):
        config = make_config(mechanism, benchmark, method, market=market, infos=infos, **options)
        batch = MarketBatch.of(config.market)
    else:
        batch = MarketBatch.of(market)
        config = make_config(
            mechanism, benchmark, method, market=batch.market(batch.fullest), infos=infos, **options
        )
    return VectorMarketEnv(
        num_envs,
        config,
        batch,
        backend=backend,
        device=device,
        compile=compile,
        autoreset=autoreset,
        observations=observations,
        copy=copy,
        check_actions=check_actions,
    )


def _check_optima(config: EnvConfig) -> None:
    """Refuse infos whose optimum would take seconds in every environment and round.

    Raises:
        ValueError: infos="full" in such a game.
    """
    if config.infos == "basic" or not config.mechanism.rule.searches_optimum:
        return
    profiles = np.prod((~np.isnan(config.table.quality)).sum(axis=1), dtype=np.float64)
    if config.moves - {"demand"} and profiles > MOST_PROFILES:
        raise ValueError(
            "infos='full' hold the most welfare of every round, and where the world moves that is a"
            f" search of seconds in each environment and round of this game ({profiles:.3g}"
            " profiles); use infos='basic', and env.stages()[b].optimal_welfare for the rounds that"
            " you want, or fewer providers or price choices"
        )
