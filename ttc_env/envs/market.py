"""The test-time compute game as a PettingZoo environment."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec

from ttc_env.envs.batch_observation import BatchObservation
from ttc_env.envs.compiled import CompiledSingle
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.envs.infos import Info, LazyRound, Rows
from ttc_env.envs.observations import ObservationLayout
from ttc_env.envs.single import SingleRounds
from ttc_env.envs.single_infos import SingleInfos
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.vector import VectorMarketEnv
from ttc_env.game.continuous import ContinuousSolution
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import Offer, Outcome
from ttc_env.game.solve import AuctionSolution, Solution


class MarketEnv(ParallelEnv[str, np.ndarray, Any]):
    """Providers of language models compete for users by test-time compute and price.

    ## Description

    Each round every provider picks how much compute to spend on a query (a *level*: number of
    samples, or reasoning effort) and a price. More compute raises the quality of answers, their
    cost, and, where tokens are billed, the price. Then `users` users arrive.

    - `mechanism="market"`: pay per token. Users choose by logit among quality minus price, with
      rationality `beta`.
    - `mechanism="auction"`: a reverse second-price auction. Providers bid a price and claim their
      quality; the best score (claim minus bid) serves everybody and is paid so that users keep the
      runner-up's score.

    The game is that of *Test-Time Compute Games* (arXiv 2601.21839), with its measured quality
    curves. `solve()` returns the exact equilibria, social optimum or dominant strategies of the
    very game that the environment plays.

    ## Agents

    `provider_0` ... `provider_{n-1}`, in the order of `market.providers`. All act at once; none
    leaves early.

    ## Action Space

    | `actions` | `prices` | space | meaning |
    | --- | --- | --- | --- |
    | `"discrete"` | `"grid"` (default) or numbers | `MultiDiscrete([levels, prices])` | index of the level, index of the price choice |
    | `"discrete"` | `"fixed"` | `Discrete(levels)` | index of the level; list prices (market) or truthful bids (auction) |
    | `"continuous"` | `"grid"` or numbers | `Box(-1, 1, (2,))` | level (equal bins), price on a log scale from the lowest to the highest choice |
    | `"continuous"` | `"fixed"` | `Box(-1, 1, (1,))` | level (equal bins) |

    A price choice is, in the market, a factor on the list price per token (default 0.8, 1, 1.25, 2,
    4, ..., 64: 1 is the paper's fixed price, 0.8 is cost at the default margin, and the upper end
    covers what providers would ask if prices were free); in the auction a markup of the bid over
    cost (default -0.5, -0.2, 0, 0.25, 0.5, 1, 2, 4, 8: 0 is the truthful bid). With more than one
    entry in `claims` an auction action has one more part, the index of the claimed quality as a
    factor on the true one.

    Providers with fewer levels than others have the same space. `infos[agent]["action_mask"]` says
    which choices exist; a level beyond the provider's own grid means its highest level. Integers
    outside the space raise; numbers outside a Box are clipped.

    ## Observation Space

    `Box(-1, 1, (d,))`, float32: own curves and costs, own last action and profit, the last round's
    public outcome (every provider's quality, price and share), and the time left.
    `env.layout.describe()` prints the place and scale of every entry. `information="full"`
    (default) shows rivals' quality, price and share; `"prices"` their price alone; `"own"` nothing
    of them (zeros). `state()` returns everything about all providers, for centralised critics.

    ## Rewards

    Expected profit in USD of serving `users` arrivals: users x U_i. With `demand="sampled"` the
    users' choices (a multinomial draw; in an auction a draw among tied winners) and the correctness
    of the answers they get are drawn from the environment's generator, and the reward is the profit
    from those who came; its expectation is the expected reward.

    ## Infos

    With `infos="full"` (default), for each agent: `action_mask` (None for a Box); `level`,
    `quality`, `price`, `cost`, `payment`, `profit` (all USD per query, `profit` per served query),
    `share`, `utility` (USD per arriving user); `regret` and `relative_regret` of the action just
    played, exact; and of the round `welfare`, `optimal_welfare`, `nash_conv`, `user_value` (USD per
    arriving user). Under sampled demand also `served` and `correct`, the numbers of users and of
    right answers (`correct` needs accuracy curves). All but those two are expectations, also where
    demand is sampled and observations show what was drawn. `infos="basic"` gives the mask alone.
    Infos are dicts whose entries are worked out when one is first read, so that unread ones cost
    almost nothing.

    `solve()` of an auction needs the truthful bid 0 among `prices` (and the true claim 1.0 among
    `claims`, if quality is paid as delivered): without it no strategy is dominant, and it says so.

    ## Starting State

    No round has been played: the last round's entries are 0. Curves, prices and costs are there
    from the start.

    ## Episode End

    All agents are truncated together after `max_cycles` rounds; nobody terminates. Final
    observations are returned, then `agents` is empty.

    ## Arguments

    | argument | default | meaning |
    | --- | --- | --- |
    | `mechanism` | `"market"` | `"market"`, `"auction"`, or a `ttc_env.game.mechanisms.Mechanism` |
    | `benchmark`, `method` | `"gsm8k"`, `"majority"` | published curves, or a path or DataFrame: see `ttc_env.load_market` |
    | `as_of` | June 2026 | `arc_agi_1`, `arc_agi_2`: the frontier's models at a date |
    | `providers`, `beta`, `alpha`, `baseline`, `quality_function`, `outside_value`, `margin`, `prices_per_token` | the paper's | see `ttc_env.load_market` |
    | `market` | None | a `Market`, in place of all of the above |
    | `prices` | `"grid"` | `"grid"`, `"fixed"`, or price choices as numbers |
    | `claims`, `settlement` | `(1.0,)`, `"delivered"` | auction only: claims as factors on true quality; pay on `"delivered"` or `"claimed"` quality |
    | `actions` | `"discrete"` | or `"continuous"` |
    | `users` | 1000 | arrivals per round |
    | `demand` | `"expected"` | or `"sampled"` |
    | `information` | `"full"` | `"full"`, `"prices"`, `"own"` |
    | `max_cycles` | 100 | rounds per episode |
    | `infos` | `"full"` | or `"basic"` |
    | `backend` | `"numpy"` | or `"numba"`: rounds are compiled, some seconds once (extra `fast`; discrete actions and expected demand) |
    | `render_mode` | None | `"ansi"` (a table), `"human"` (prints it), `"rgb_array"` (a figure; needs the extra `plot`) |

    ## Version History

    - v0: first version (0.1.0).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (PettingZoo's contract)
        "name": "ttc_env_v0",
        "render_modes": ["human", "ansi", "rgb_array"],
        "is_parallelizable": True,
        "render_fps": 2,
    }

    def __init__(
        self,
        mechanism: Any = "market",
        benchmark: Any = None,
        method: str | None = None,
        *,
        render_mode: str | None = None,
        backend: str = "numpy",
        **options: Any,
    ):
        if backend not in ("numpy", "numba"):
            raise ValueError(
                f"backend is {backend!r}; choose 'numpy' or 'numba' ('torch' plays batches:"
                " ttc_env.vector_env)"
            )
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode is {render_mode!r}; choose"
                f" {', '.join(map(repr, self.metadata['render_modes']))} or None"
            )
        self.config: EnvConfig = make_config(mechanism, benchmark, method, **options)
        self.layout = ObservationLayout(self.config)
        self.render_mode = render_mode
        self.max_cycles = self.config.max_cycles
        self.possible_agents = list(self.config.agents)
        self.agents: list[str] = []
        self._observation_spaces = {
            a: spaces.Box(-1.0, 1.0, (self.layout.size,), np.float32) for a in self.possible_agents
        }
        self._action_spaces = {a: self.config.action_space() for a in self.possible_agents}
        self.state_space = spaces.Box(-1.0, 1.0, (self.layout.state_size,), np.float32)
        batch = MarketBatch.of(self.config.market)
        self._tables = tables = RoundTables(self.config, batch)
        self._single: Any = (
            CompiledSingle(tables)
            if backend == "numba"
            else SingleRounds(tables)
            if SingleRounds.can_play(tables)
            else None
        )
        self._vector = (
            VectorMarketEnv(1, self.config, batch, autoreset="disabled", copy=False)
            if self._single is None
            else None
        )
        self._first = BatchObservation.first(tables.static, 1, len(self.config.grid), tables.hidden)
        self._flags = {flag: dict.fromkeys(self.possible_agents, flag) for flag in (False, True)}
        self._basic_infos = {
            a: {"action_mask": mask}
            for a, mask in zip(self.possible_agents, self.config.action_masks)
        }
        self._t = 0
        # the round played last: a `SingleRound`, a `CompiledRound` or a `BatchObservation`
        self._last: Any = None
        self._history: list[Outcome] = []
        self._levels: list[np.ndarray] = []

    @property
    def market(self) -> Any:
        """The `Market` that is played."""
        return self.config.market

    def observation_space(self, agent: str) -> spaces.Box:
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self._action_spaces[agent]

    def solve(self) -> Solution | AuctionSolution | ContinuousSolution:
        """The exact solution of the game that this environment plays; with a price grid, profiles
        hold flat actions (`Solution.split`).
        """
        return self.config.solve()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode. A seed starts the environment's generator anew; without one it goes on.

        `options` has no keys; others are ignored.
        """
        if self._vector is not None:
            self._vector.reset(seed=seed)
        self._t = 0
        self._last = None
        self._history, self._levels = [], []
        self.agents = list(self.possible_agents)
        observations = dict(zip(self.agents, self._first.full()[0], strict=True))
        return observations, {agent: info.copy() for agent, info in self._basic_infos.items()}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, np.ndarray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play one round.

        Raises:
            ValueError: an action missing, or outside its space.
            RuntimeError: no episode is running.
        """
        agents = self.agents
        if not agents:
            raise RuntimeError("no episode is running; call reset() first")
        try:
            chosen = [actions[agent] for agent in agents]
        except KeyError:
            missing = [agent for agent in agents if agent not in actions]
            raise ValueError(
                f"step needs an action for every agent; {', '.join(missing)} gave none"
            ) from None
        t = self._t + 1
        over = t >= self.max_cycles
        time_left = 0.0 if over else 1.0 - t / self.max_cycles
        play: Any = self._play_single if self._single is not None else self._play_vector
        rows, rewards, told = play(chosen, time_left)
        self._t = t  # not before: a refused action is no round
        if over:
            self.agents = []
        if self.render_mode is not None:
            self._record(chosen)
        if self.config.infos == "basic":
            infos: dict[str, dict[str, Any]] = {
                agent: info.copy() for agent, info in self._basic_infos.items()
            }
        else:
            lazy, masks = LazyRound(partial(*told)), self.config.action_masks
            infos = {agent: Info((lazy, i), masks[i]) for i, agent in enumerate(agents)}
        return (
            dict(zip(agents, rows)), dict(zip(agents, rewards)),
            self._flags[False].copy(), self._flags[over].copy(), infos,
        )  # fmt: skip

    def _play_single(
        self, chosen: list[Any], time_left: float
    ) -> tuple[Any, list[float], tuple[Any, ...]]:
        """A round in plain Python: observations `[n, d]`, rewards in USD, and a function that makes
        the infos, with its arguments.
        """
        single = self._single
        assert single is not None
        try:
            played = single.play(single.keys(chosen), time_left)
        except (KeyError, AttributeError, TypeError, ValueError, BufferError):
            # Unusual containers, or actions outside the space: `choose` sorts them out, or says
            # what is wrong.
            flat = self.config.choose(chosen)
            played = single.play(
                single.keys_of(np.unravel_index(flat, self.config.grid)), time_left
            )
        self._last = played
        return played.observations, played.reward, (self._infos_of, played)

    def _infos_of(self, played: Any) -> Rows:
        return self._infos(self._single.flat(played.keys), None, played.share, played.reward, {})

    def _play_vector(
        self, chosen: list[Any], time_left: float
    ) -> tuple[Any, list[float], tuple[Any, ...]]:
        """The same as a batch of one: continuous actions, sampled demand, mechanisms with rules of
        their own.
        """
        assert self._vector is not None
        flat, offer = self.config.offer(chosen)
        if self.config.actions == "continuous":
            actions: np.ndarray = np.asarray(chosen, dtype=np.float64).reshape(1, len(flat), -1)
        else:
            parts = np.unravel_index(flat, self.config.grid)
            actions = np.stack(parts, axis=1)[None] if len(parts) > 1 else parts[0][None]
        # The horizon is this environment's own: PettingZoo's tests set `max_cycles` on it.
        obs, reward = self._vector.play(actions, time_left)
        last = self._vector.last
        counts = {
            name: getattr(last, name)[:, 0]
            for name in ("served", "correct")
            if getattr(last, name) is not None
        }
        share, rewards = last.share[:, 0].tolist(), reward[0].tolist()
        self._last = obs.copy()
        expected = not counts
        told = (
            self._infos,
            flat.tolist(),
            offer,
            share if expected else None,
            rewards if expected else None,
            counts,
        )
        return obs.full()[0], rewards, told

    def _record(self, chosen: list[Any]) -> None:
        flat, offer = self.config.offer(chosen)
        self._history.append(self.config.play(offer))
        self._levels.append(self.config.mechanism.split(flat, self.config.market)[0])
        if self.render_mode == "human":
            self.render()

    def state(self) -> np.ndarray:
        """The global state: all providers' private blocks and the full public block, `[state_size]`
        float32.
        """
        if self._last is None:
            return self._first.state()[0]
        if isinstance(self._last, BatchObservation):
            return self._last.state()[0]
        last = self._last
        return self._tables.state(
            self._single.flat(last.keys), last.share, last.reward, last.time_left
        )

    @cached_property
    def _single_infos(self) -> SingleInfos | None:
        return SingleInfos(self._tables) if SingleInfos.can_tell(self._tables) else None

    def _infos(
        self,
        flat: list[int],
        offer: Offer | None,
        share: list[float] | None,
        reward: list[float] | None,
        counts: dict[str, np.ndarray],
    ) -> Rows:
        """One dict per provider.

        Shares and rewards are those of the round, where they are expectations; else None.
        """
        if self._single_infos is not None:
            return self._single_infos.of(
                flat, share, reward, {name: count.tolist() for name, count in counts.items()}
            )
        # Dialled prices, and mechanisms with rules of their own.
        config = self.config
        offer = config.table.take(np.array(flat)) if offer is None else offer
        outcome = config.play(offer)
        regret = config.regret(offer, outcome)
        columns = {
            "level": config.mechanism.split(np.array(flat), config.market)[0],
            "quality": offer.quality,
            "price": offer.price,
            "cost": offer.cost,
            "payment": outcome.payment,
            "profit": outcome.profit_per_query,
            "share": outcome.share if share is None else np.array(share),
            "utility": outcome.utility if reward is None else np.array(reward) / config.users,
            "regret": regret.regret,
            "relative_regret": regret.relative,
            **counts,
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        common = {
            "welfare": float(outcome.welfare),
            "optimal_welfare": config.optimal_welfare,
            "nash_conv": regret.nash_conv,
            "user_value": float(outcome.user_value),
        }
        return [{**dict(zip(columns, row, strict=True)), **common} for row in rows]

    def render(self) -> str | np.ndarray | None:
        """The last round as text or figure, in the mode given at construction.

        Raises:
            ImportError: `rgb_array` without matplotlib.
        """
        from ttc_env.envs import render

        if self.render_mode is None:
            raise ValueError(
                "render_mode is None; pass render_mode='ansi', 'human' or 'rgb_array' when making"
                " the environment"
            )
        if self.render_mode == "rgb_array":
            return render.figure(self.config, self._history, self._levels)
        text = render.text(self.config, self._history, self._levels)
        if self.render_mode == "human":
            print(text)
            return None
        return text

    def close(self) -> None:
        """Nothing is held open."""


def parallel_env(
    mechanism: Any = "market", benchmark: Any = None, method: str | None = None, **options: Any
) -> MarketEnv:
    """The environment in PettingZoo's parallel API; options: see `MarketEnv`."""
    return MarketEnv(mechanism, benchmark, method, **options)


def env(
    mechanism: Any = "market", benchmark: Any = None, method: str | None = None, **options: Any
) -> AECEnv[str, np.ndarray, Any]:
    """The environment in PettingZoo's AEC API, agents in turn; options: see `MarketEnv`."""
    return parallel_to_aec(parallel_env(mechanism, benchmark, method, **options))
