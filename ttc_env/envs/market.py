"""The test-time compute game as a PettingZoo environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec_wrapper
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from ttc_env.envs.backends.base import OneRound
from ttc_env.envs.backends.python import PythonBackend
from ttc_env.envs.config import EnvConfig, describe, make_config
from ttc_env.envs.generators import checked_seed
from ttc_env.envs.infos import Info, LazyRound, Rows
from ttc_env.envs.market_source import Markets, market_source
from ttc_env.envs.observations import BatchObservation, ObservationLayout
from ttc_env.envs.options import Benchmark, GameOptions, Infos, RenderMode
from ttc_env.envs.python_infos import PlainInfos
from ttc_env.envs.round_infos import RoundInfos, columns
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage
from ttc_env.envs.world.stage_game import StageGame
from ttc_env.envs.world.stage_infos import StageInfos
from ttc_env.envs.world.timeline import Timeline
from ttc_env.game.continuous import ContinuousSolution
from ttc_env.game.display import Columns, as_html, offers_of
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.rules.base import Round
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.solution import Solution
from ttc_env.game.types import Market

if TYPE_CHECKING:
    import pandas as pd

    from ttc_env.envs.render import Frames


class MarketEnv(ParallelEnv[str, np.ndarray, Any]):
    """Providers of language models compete for users by test-time compute and price.

    ## Description

    Each round every provider picks how much compute to spend on a query (a *level*: number of
    samples, or reasoning effort) and a price. More compute raises the quality of answers, their
    cost, and, where tokens are billed, the price. Then `users` users arrive.

    - `mechanism="market"`: pay per token. Users choose by logit among quality minus price, with
      rationality `beta`.
    - `mechanism="flat_fee"`, `"pay_per_correct"`, `"two_part"`, `"price_cap"`, `"per_character"`:
      the same users, and another price of a level (`ttc_env.game.tariffs`).
    - `types=[...]`, with any of these: users of several types, each with a share of all users and
      its own beta, alpha and baseline. `quality` in infos and observations stays in the market's
      alpha; `welfare` and `user_value` count every user in its own
      (`ttc_env.game.rules.user_types`). `solve()` may find no pure equilibrium.
    - `mechanism="auction"`: a reverse second-price auction. Providers bid a price and claim their
      quality; the best score (claim minus bid) serves everybody and is paid so that users keep the
      runner-up's score.

    With `misreport` providers may also lie: bill more tokens than they used, serve less than they
    announce, claim too much (`ttc_env.game.misreports`).

    The game is that of *Test-Time Compute Games* (arXiv 2601.21839), with its measured quality
    curves. `solve()` returns the exact equilibria, social optimum or dominant strategies of the
    very game that the environment plays.

    ## Agents

    `provider_0` ... `provider_{n-1}`, in the order of `market.providers`, or `agent_names`. All act
    at once; none leaves `agents` early, also where providers come and go.

    ## Action Space

    | `actions` | `prices` | space | meaning |
    | --- | --- | --- | --- |
    | `"discrete"` | `"grid"` (default) or numbers | `MultiDiscrete([levels, prices])` | index of the level, index of the price choice |
    | `"discrete"` | `"fixed"` | `Discrete(levels)` | index of the level; list prices (market) or truthful bids (auction) |
    | `"flat"` | any | `Discrete(levels x prices x reports)` | `(level * prices + price) * reports + report`: the index that `solve()` and profiles use |
    | `"continuous"` | `"grid"` or numbers | `Box(-1, 1, (2,))` | level (equal bins), price on a log scale from the lowest to the highest choice |
    | `"continuous"` | `"fixed"` | `Box(-1, 1, (1,))` | level (equal bins) |

    A price choice is, in the market, a factor on the list price per token (default 0.8, 1, 1.25, 2,
    4, ..., 64: 1 is the paper's fixed price, 0.8 is cost at the default margin, and the upper end
    covers what providers would ask if prices were free); in the auction a markup of the bid over
    cost (default -0.5, -0.2, 0, 0.25, 0.5, 1, 2, 4, 8: 0 is the truthful bid). Where lies can
    be told (`misreport`) an action has one more part, the index of what is reported: 0 is the truth,
    then the lies in the order of `config.mechanism.reports(market)`.

    Providers with fewer levels than others have the same space. `infos[agent]["action_mask"]` says
    which choices exist: int8, 1 = available; `[levels]` or `[levels x prices x reports]` for a
    `Discrete`, and for a `MultiDiscrete` one array with the parts one after the other,
    `[levels + prices + reports]`. `action_space(agent).sample(mask)` takes it. A Box has no mask and
    needs none. A level beyond the provider's own grid means its highest level, at the same price and
    report; so does an announcement beyond it, which at the highest level is the truth. Integers outside the space raise; numbers outside a Box are clipped.

    ## Observation Space

    `Box(-1, 1, (d,))`, float32: own curves and costs, own last action and profit, the last round's
    public outcome (every provider's quality as users saw it, price and share), and the time left.
    `env.layout.describe()` prints the place and scale of every entry. `information="full"`
    (default) shows rivals' quality, price and share; `"prices"` their price alone; `"own"` nothing
    of them (zeros). `state()` returns everything about all providers, for centralised critics.

    ## Rewards

    Expected profit in USD of serving `users` arrivals: users x U_i. With `demand="sampled"` the
    users' choices (a multinomial draw; in an auction a draw among tied winners) and the correctness
    of the answers they get are drawn from the environment's generator, and the reward is the profit
    from those who came; its expectation is the expected reward. Where lies can be told, audits are
    drawn too: a lie that is found costs `fine`. Expected profit holds audit_rate x fine per query.

    ## Infos

    With `infos="full"` (default), for each agent: `action_mask` (not for a Box); `level`,
    `quality`, `price`, `cost`, `payment`, `profit`, `surplus` (quality less cost), all USD per
    query, `profit` per served query; `share`, `utility` (USD per arriving user); `regret` and
    `relative_regret` of the action just played, exact; and of the round `welfare`,
    `optimal_welfare`, `nash_conv`, `user_value` (USD per arriving user). Under sampled demand also
    `served` and `correct`, the numbers of users and of right answers (`correct` needs accuracy
    curves). All but those two are expectations, also where demand is sampled and observations show
    what was drawn. `infos="basic"` gives the mask alone. Infos are dicts whose entries are worked
    out when one is first read, so that unread ones cost almost nothing.

    Where lies can be told: `report` (the index of what was reported, 0 the truth), `seen` (quality
    as users saw it), `penalty` (the expected fine per served query); of the round `fines` (USD per
    arriving user); and under sampled demand `caught`, the number of lies found.

    `solve()` of an auction needs the truthful bid 0 among `prices`: without it no strategy is
    dominant, and it says so.

    ## A World That Moves

    By default every round is the same game. What may change from round to round (formulas: GAME.md,
    "A world that moves"):

    | option | what moves | seen as | a choice that is not there |
    | --- | --- | --- | --- |
    | `shocks=Shocks(cost=AR1(rho=0.9, sigma=0.1))` | factors on costs, one for all providers or one each; list prices stay | `cost_factor` | |
    | `Shocks(demand=...)` | factors on `users`, in whole users | `arrivals` | |
    | `Shocks(entry=0.1, exit=0.05, capital=1.0, present=...)` | who is there: at random, by losses beyond `capital` USD, or by a schedule | `present` | actions of absent providers are ignored |
    | `price_period=5` | prices may be changed in rounds 0, 5, 10, ... alone | `price_wait` | the last price is kept |

    A process is an `AR1`, a `Path` (numbers `[rounds]` or `[rounds, n]`, or a function of the round)
    or a subclass of `Process`; several are multiplied. Observations tell of the *coming* round; the
    blocks are there only where something moves. Rivals' cost factors are hidden as their quality is,
    presence under `information="own"` alone.

    An absent provider offers nothing: its share, reward and regret are 0, its `level` in infos is
    -1. It stays in `agents`, since most libraries expect the same agents in every round, and its
    mask leaves one action, since an empty mask cannot be sampled. A provider that enters chooses its
    price, whatever the round, and keeps it till the next round in which prices may be changed. If
    nobody is there, all users are left with the outside option.

    `stage(t)` is the exact game of round t (`market_at(t)` its market, `solve(t)` its solution): of
    the rounds played and of the coming one, and of later ones where nothing is left to chance.
    Infos, regrets included, refer to it; they also hold `present` and `arrivals` where these move.
    `last_profit` is per arriving user.

    Lies and user types play here, too: an over-report bills more at the list price, which stays; an
    auction's bid covers the cost of the round and the expected fine; absent providers have `report`
    -1. With user types the most welfare of a round takes a search, in the published games a tenth of
    a second with list prices and two seconds with the price grid, when an info of it is first read;
    `infos="basic"` spares it, and a batch of such games asks for that.

    The world has a generator of its own, so that one seed means one world, whatever is played
    against it; but who is ruined is a matter of play.

    ## Starting State

    No round has been played: the last round's entries are 0. Curves, prices and costs are there
    from the start.

    ## Episode End

    All agents are truncated together after `max_cycles` rounds; nobody terminates. Final
    observations are returned, then `agents` is empty.

    ## Arguments

    | argument | default | meaning |
    | --- | --- | --- |
    | `mechanism` | `"market"` | `"market"`, `"auction"`, `"first_score"`, `"taste_auction"`, or a `ttc_env.game.mechanisms.Mechanism` |
    | `benchmark`, `method` | `"gsm8k"`, `"majority"` | published curves, or a path or DataFrame: see `ttc_env.load_market` |
    | `as_of` | June 2026 | `arc_agi_1`, `arc_agi_2`: the frontier's models at a date |
    | `providers`, `beta`, `alpha`, `baseline`, `quality_function`, `outside_value`, `margin`, `prices_per_token` | the paper's | see `ttc_env.load_market` |
    | `market` | None | a `Market`, in place of all of the above; or several (a sequence, a `MarketBatch`), or a function of a generator: each `reset` then draws one, and `market`, `solve()` and infos are about it |
    | `prices` | `"grid"` | `"grid"`, `"fixed"`, or price choices as numbers |
    | `base` | `"list"` | pay_per_correct only: what a right answer costs, by the provider's list price, or by its `"value"` |
    | `cap` | the list price at the efficient level | price_cap only: USD/query, one for all |
    | `types` | users are alike | posted prices only: `ttc_env.UserType` objects, dicts or columns of weight, beta, alpha, baseline; what is None is the market's |
    | `settlement` | `"delivered"` | auction only: pay on `"delivered"` or `"claimed"` quality |
    | `misreport` | none | lies that may be told: `"over_report"`, `"under_serve"`, `"over_claim"`, several, or `{lie: sizes}`; see `ttc_env.game.misreports` |
    | `audit_rate`, `fine` | 1, 0 | the chance that a query is audited; USD per query whose lie is found |
    | `noticed` | False | over-reports: whether users see the bill before they choose |
    | `reserve` | none | auction only: USD/query; no score below it serves |
    | `actions` | `"discrete"` | or `"flat"` (one index), or `"continuous"` |
    | `users` | 1000 | arrivals per round |
    | `demand` | `"expected"` | or `"sampled"` |
    | `information` | `"full"` | `"full"`, `"prices"`, `"own"` |
    | `max_cycles` | 100 | rounds per episode |
    | `shocks` | None | `ttc_env.Shocks`: costs, demand and presence that move |
    | `price_period` | 1 | prices may be changed in every so many rounds |
    | `agent_names` | `provider_0`, ... | other ids, for libraries that group agents by their names |
    | `infos` | `"full"` | or `"basic"` |
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
        mechanism: str | Mechanism = "market",
        benchmark: Benchmark | None = None,
        method: str | None = None,
        *,
        market: Markets | None = None,
        infos: Infos = "full",
        render_mode: RenderMode | None = None,
        **options: Unpack[GameOptions],
    ):
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode is {render_mode!r}; choose"
                f" {', '.join(map(repr, self.metadata['render_modes']))} or None"
            )
        self._source = market_source(market)
        one: Any = market if self._source is None else self._source.first
        config = make_config(mechanism, benchmark, method, market=one, infos=infos, **options)
        self._game = _Game(config)
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
        self._rng: Any = None if config.demand == "expected" else self._generator(None)
        self._timeline = Timeline(self._game.backend.batch) if config.moves else None
        self._flags = {flag: dict.fromkeys(self.possible_agents, flag) for flag in (False, True)}
        # Agents leave all at once, so that it is the same ones in every round.
        one, *more = self.possible_agents
        self._of_all = itemgetter(one, *more) if more else partial(_of_one, one)
        self._t = 0
        self._last: OneRound | None = None  # the round played last
        self._history: list[Round] = []
        self._levels: list[np.ndarray] = []
        self._optima: list[float] = []
        self._frames: Frames | None = None  # made by the first `rgb_array`

    def _generator(self, seed: int | None) -> Any:
        return self._game.backend.batch.generator(seed)

    @property
    def config(self) -> EnvConfig:
        """All that the game is made of; with several markets, of the one that was drawn."""
        return self._game.config

    def __repr__(self) -> str:
        return f"MarketEnv({describe(self.config)})"

    @property
    def unwrapped(self) -> MarketEnv:
        return self

    @property
    def market(self) -> Market:
        """The market that is played."""
        return self.config.market

    def to_frame(self) -> pd.DataFrame:
        """The last round in expectation as a pandas DataFrame, one row a provider: what it offered,
        its share of users and its profit (USD per arriving user).

        Raises:
            RuntimeError: none has been played since `reset`.
        """
        import pandas as pd

        return pd.DataFrame(dict(self._last_offers()))

    def _last_offers(self) -> Columns:
        last = self.last_round  # says so where there is none
        return offers_of(self.market, self._last_levels(), last)

    def _repr_html_(self) -> str:
        """The last round; before the first, the market."""
        if self._last is None:
            return as_html(f"{self!r}, before the first round", {}) + self.market._repr_html_()
        return as_html(f"{self!r}, round {self._t} of {self.max_cycles}", self._last_offers())

    def observation_space(self, agent: str) -> spaces.Box:
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self._action_spaces[agent]

    def solve(self, t: int | None = None) -> Solution | AuctionSolution | ContinuousSolution:
        """The exact solution of the game that this environment plays; with a price grid, profiles
        hold flat actions (`Solution.split`).

        t: a round, whose stage game is solved (see `stage`); by default the market at rest.

        Raises:
            ValueError: a round that is not known; or one in which nobody is present.
        """
        return self.config.solve() if t is None else self.stage(t).solve()

    @property
    def round(self) -> int:
        """The coming round, from 0: how many were played in this episode."""
        return self._t

    def market_at(self, t: int) -> Market:
        """The market of round t: its costs, and the providers that are present; see `stage`."""
        return self.stage(t).market

    def stage(self, t: int) -> StageGame:
        """The game of round t (from 0), where the world moves: of the rounds played and the coming
        one, and of later ones if nothing about them is left to chance or to play.

        Raises:
            ValueError: a round that is not known yet, or no more: the last 10,000 are kept.
        """
        if self._timeline is None:
            return StageGame.of(self.config, self.market, Stage(t))
        return StageGame.of(self.config, self.market, self._timeline.at(t))

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode; with several markets, one of them is drawn. A seed starts the generators
        again; without one they go on.

        `options` has no keys; others are ignored.

        Raises:
            ValueError: a seed that is no whole number >= 0.
        """
        seed = checked_seed(seed)
        if self._source is not None:
            market = self._source.draw(seed)
            self._game = _Game(dataclasses.replace(self.config, market=market))
        if seed is not None and self._rng is not None:
            self._rng = self._generator(seed)
        self._t = 0
        self._last = None
        self._history, self._levels, self._optima = [], [], []
        self.agents = list(self.possible_agents)
        first = self._game.first
        if self._timeline is not None:
            first = self._timeline.reset(self._game.backend.batch, seed)
        observations = dict(zip(self.agents, first.full()[0], strict=True))
        return observations, self._masks()

    def action_masks(self) -> Sequence[np.ndarray | None]:
        """Of each provider, which choices there are in the coming round (`action_mask`); None for a
        Box.
        """
        return self._game.config.action_masks if self._timeline is None else self._timeline.masks()

    def _masks(self) -> dict[str, dict[str, Any]]:
        """Infos before anything is worked out."""
        if self._timeline is None or self.config.continuous:
            return self._game.basic_infos()
        masks = self._timeline.masks()
        return {agent: {"action_mask": mask} for agent, mask in zip(self.possible_agents, masks)}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, np.ndarray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play one round. A step that raises has changed nothing.

        Raises:
            ValueError: an action missing, outside its space, or of nobody.
            TypeError: something else than a dict.
            RuntimeError: no episode is running.
        """
        agents = self.agents
        if not agents:
            raise RuntimeError("no episode is running; call reset() first")
        try:
            chosen = self._of_all(actions)
        except (KeyError, TypeError, IndexError):
            raise self._no_action_each(actions) from None
        if len(actions) != len(agents):
            raise self._no_action_each(actions)
        t = self._t + 1
        over = t >= self.max_cycles
        time_left = 0.0 if over else 1.0 - t / self.max_cycles
        game = self._game
        if self._timeline is None:
            played = game.backend.play_one(chosen, self._rng, time_left)
        else:
            played = self._timeline.play(game.config.stacked(chosen), self._rng, time_left)
        self._t, self._last = t, played  # not before: a refused action is no round
        if over:
            self.agents = []
        if self.render_mode is not None:
            self._record()
        infos: dict[str, dict[str, Any]]
        if game.config.infos == "basic":
            infos = game.basic_infos() if self._timeline is None else self._masks()
        else:
            lazy = LazyRound(partial(game.infos_of, played))
            masks = self.action_masks()
            infos = {agent: Info((lazy, i), masks[i]) for i, agent in enumerate(agents)}
        return (
            dict(zip(agents, played.observations)), dict(zip(agents, played.reward)),
            self._flags[False].copy(), self._flags[over].copy(), infos,
        )  # fmt: skip

    def _no_action_each(self, actions: Any) -> Exception:
        """What is wrong with actions that are not one for every agent."""
        if not isinstance(actions, Mapping):
            return TypeError(
                f"step needs a dict with an action for every agent; got {type(actions).__name__}"
            )
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            return ValueError(
                f"step needs an action for every agent; {', '.join(missing)} gave none"
            )
        others = [repr(agent) for agent in actions if agent not in self.agents]
        return ValueError(
            f"step got an action of {', '.join(others)}; agents are {', '.join(self.agents)}"
        )

    @property
    def last_round(self) -> Round:
        """The last round in expectation, arrays `[n]`: everybody's offers, shares, payments, profits.

        Raises:
            RuntimeError: none has been played since `reset`.
        """
        if self._last is None:
            raise RuntimeError("no round has been played; call step() first")
        return columns(self._game.round_infos.round(self._last.played()), 0)

    def _last_levels(self) -> np.ndarray:
        """`[n]` indices of the levels that were played."""
        assert self._last is not None
        return self._game.tables.level.reshape(-1)[self._last.played().index[:, 0]]

    def _record(self) -> None:
        assert self._last is not None
        played = self._last.played()
        self._history.append(self.last_round)
        self._levels.append(self._last_levels())
        self._optima.append(float(self._game.round_infos.best_welfare(played)[0]))
        if self.render_mode == "human":
            self.render()

    def state(self) -> np.ndarray:
        """The global state: all providers' private blocks and the full public block, `[state_size]`
        float32.
        """
        if self._timeline is not None:
            seen = self._timeline.seen
        else:
            seen = self._game.first if self._last is None else self._last.seen()
        return seen.state()[0]

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
            if self._frames is None or self._frames.config is not self.config:
                self._frames = render.Frames(self.config)
            return self._frames.draw(self._history, self._levels, self._optima)
        text = render.text(self.config, self._history, self._levels, self._optima)
        if self.render_mode == "human":
            print(text)
            return None
        return text

    def close(self) -> None:
        """Nothing is held open."""


def _of_one(agent: str, actions: dict[str, Any]) -> tuple[Any]:
    return (actions[agent],)


class MarketAEC(OrderEnforcingWrapper[str, np.ndarray, Any]):
    """`MarketEnv` in PettingZoo's AEC API: agents act in turn, and the round is played when the last
    one has.
    """

    def __init__(self, market_env: MarketEnv):
        super().__init__(parallel_to_aec_wrapper(market_env))
        self._places = {agent: i for i, agent in enumerate(market_env.possible_agents)}

    def step(self, action: Any) -> None:
        """The action of the agent whose turn it is; None after the end of the episode. It is looked
        at now, not when the round is played: a step that raises has changed nothing.

        Raises:
            ValueError: an action outside its space, or one of an agent that is done.
        """
        if self._has_reset and self.agents:
            agent = self.agent_selection
            if not (self.terminations[agent] or self.truncations[agent]):
                action = self.unwrapped.config.parsed(self._places[agent], action)
            elif action is not None:
                raise ValueError(f"{agent} is done; its only step is None")
        super().step(action)

    def __repr__(self) -> str:
        return f"MarketAEC({describe(self.unwrapped.config)})"

    def _repr_html_(self) -> str:
        return self.unwrapped._repr_html_()

    def to_frame(self) -> pd.DataFrame:
        """As `MarketEnv.to_frame`."""
        return self.unwrapped.to_frame()

    @property
    def unwrapped(self) -> MarketEnv:  # type: ignore[override]
        """The parallel environment, which has `solve()`, `market`, `config` and `layout`."""
        env: MarketEnv = self.env.unwrapped  # type: ignore[assignment]
        return env


class _Game:
    """One market's game, and what plays it: all that a reset may exchange."""

    def __init__(self, config: EnvConfig):
        self.config = config
        self.tables = RoundTables(config, MarketBatch.of(config.market))
        self.backend = PythonBackend(self.tables)
        layout = self.tables.layout
        self.first = BatchObservation.first(layout, self.tables.static, 1, layout.hidden)
        masks = zip(config.agents, config.action_masks, strict=True)
        self._masks = [(agent, mask) for agent, mask in masks if mask is not None]

    def __reduce__(self) -> Any:
        return _Game, (self.config,)

    def basic_infos(self) -> dict[str, dict[str, Any]]:
        """What is there without being asked for: action masks, where actions have them."""
        if not self._masks:
            return {agent: {} for agent in self.config.agents}
        return {agent: {"action_mask": mask} for agent, mask in self._masks}

    @cached_property
    def round_infos(self) -> RoundInfos:
        return StageInfos(self.tables, 1) if self.config.moves else RoundInfos(self.tables, 1)

    @cached_property
    def plain_infos(self) -> PlainInfos | None:
        return None if self.config.moves else PlainInfos.of_rule(self.tables)

    def infos_of(self, played: OneRound) -> Rows:
        """One dict per provider."""
        if self.plain_infos is not None:
            return self.plain_infos.rows(played.played())
        infos, n = self.round_infos.of(played.played()), len(self.config.agents)
        columns = [x[:, 0].tolist() if x.ndim == 2 else x.tolist() * n for x in infos.values()]
        return [dict(zip(infos, row, strict=True)) for row in zip(*columns, strict=True)]


def parallel_env(
    mechanism: str | Mechanism = "market",
    benchmark: Benchmark | None = None,
    method: str | None = None,
    *,
    market: Markets | None = None,
    infos: Infos = "full",
    render_mode: RenderMode | None = None,
    **options: Unpack[GameOptions],
) -> MarketEnv:
    """The environment in PettingZoo's parallel API; options: see `MarketEnv`."""
    return MarketEnv(
        mechanism,
        benchmark,
        method,
        market=market,
        infos=infos,
        render_mode=render_mode,
        **options,
    )


def env(
    mechanism: str | Mechanism = "market",
    benchmark: Benchmark | None = None,
    method: str | None = None,
    *,
    market: Markets | None = None,
    infos: Infos = "full",
    render_mode: RenderMode | None = None,
    **options: Unpack[GameOptions],
) -> MarketAEC:
    """The environment in PettingZoo's AEC API, agents in turn; options: see `MarketEnv`."""
    return MarketAEC(
        MarketEnv(
            mechanism,
            benchmark,
            method,
            market=market,
            infos=infos,
            render_mode=render_mode,
            **options,
        )
    )
