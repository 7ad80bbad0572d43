"""The market as one provider sees it: a Gymnasium environment, the others played by opponents."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Unpack, runtime_checkable

import gymnasium
import numpy as np

from ttc_env.envs.config import EnvConfig, describe
from ttc_env.envs.generators import checked_seed
from ttc_env.envs.market import MarketEnv
from ttc_env.envs.market_source import Markets
from ttc_env.envs.options import Benchmark, GameOptions, Infos, RenderMode
from ttc_env.envs.world.stage_game import StageGame
from ttc_env.game.continuous import ContinuousSolution
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.regret import compare
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.solution import Solution
from ttc_env.game.types import Market

if TYPE_CHECKING:
    import pandas as pd


@runtime_checkable
class Opponents(Protocol):
    """Everybody but the provider that the environment is about.

    Write a class with these three methods to play against. An environment plays a deep copy of the
    object that it is given, so that one object may be given to many environments. The repository's
    `agents.opponents("hedge")` makes one from the names of its players.
    """

    def start(self, config: EnvConfig, indices: tuple[int, ...], seed: int) -> None:
        """Begin anew, with nothing learned.

        Called when the environment is made (so that what cannot be played fails there), at its
        first reset, and at every seeded reset.

        Args:
            config: the whole game: `market`, `mechanism`, `agents`, `solve()`, `action_of`.
            indices: the providers to play.
            seed: of all that is random here.

        Raises:
            ValueError: these opponents cannot play this game.
        """
        ...

    def act(self, observations: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """An environment action for every opponent, by agent id, from their observations."""
        ...

    def observe(
        self,
        actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        """Told after a round.

        Args:
            actions: `[n]` everybody's flat actions (over level, price, report); with continuous
                actions the nearest ones.
            rewards: of the opponents, in USD.
            observations: what the opponents now see.
            over: whether the episode ended.
        """
        ...


@runtime_checkable
class StageWatcher(Protocol):
    """Opponents that are also told each round's game where the world moves."""

    def watch(self, stage: StageGame) -> None:
        """The coming round's game; called before `act`."""
        ...


Policy: TypeAlias = Callable[[np.ndarray], Any]
"""One opponent's observation -> an action of the environment, for all opponents alike; the
observation says which provider it is."""


class FixedOpponents:
    """Base of opponents that learn nothing: the same actions in every round; where the world moves,
    those of each round's game.
    """

    def start(self, config: EnvConfig, indices: tuple[int, ...], seed: int) -> None:
        self._actions = {
            config.agents[i]: action
            for i, action in enumerate(self.profile(config))
            if i in indices
        }

    def watch(self, stage: StageGame) -> None:
        """Play this round's game."""
        if not stage.providers:
            return
        config, agents = stage.game, stage.config.agents
        for i, action in zip(stage.providers, self.profile(config), strict=True):
            if agents[i] in self._actions:
                self._actions[agents[i]] = action

    def profile(self, config: EnvConfig) -> list[Any]:
        """`[n]` an environment action for every provider."""
        raise NotImplementedError

    def act(self, observations: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        return self._actions

    def observe(
        self,
        actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        """Nothing to learn."""


class PolicyOpponents(FixedOpponents):
    """Opponents that follow one policy."""

    def __init__(self, policy: Policy):
        self._policy = policy

    def start(self, config: EnvConfig, indices: tuple[int, ...], seed: int) -> None:
        """A policy has nothing to begin."""

    def watch(self, stage: StageGame) -> None:
        """A policy goes by what it observes."""

    def act(self, observations: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        return {agent: self._policy(seen) for agent, seen in observations.items()}


class EquilibriumOpponents(FixedOpponents):
    """Everybody's part of an exact equilibrium: the one of least welfare, the dominant strategies
    of an auction, and with continuous prices the exact prices.
    """

    _solved: tuple[EnvConfig, list[Any]] | None = None

    def watch(self, stage: StageGame) -> None:
        """Where the world moves: the equilibrium of each round's game. Where none is known, that of
        the game with free prices; or the actions of the round before.
        """
        if not stage.providers:
            return
        flat = None
        if not stage.config.continuous:
            with suppress(ValueError):
                flat = _least_welfare(stage.solve(search=False))
        if flat is not None:
            actions = stage.actions(flat)
            self._actions = {agent: actions[agent] for agent in self._actions}
        elif stage.config.continuous or stage.holds:
            with suppress(ValueError):
                super().watch(stage)

    def profile(self, config: EnvConfig) -> list[Any]:
        if self._solved is None or self._solved[0] is not config:
            self._solved = config, _equilibrium(config)
        return self._solved[1]


def _equilibrium(config: EnvConfig) -> list[Any]:
    solution = config.solve()
    if isinstance(solution, ContinuousSolution):
        offer = solution.outcome.offer
        low = offer is solution.lowest
        levels = solution.lowest_levels if low else solution.highest_levels
        reports = solution.lowest_reports if low else solution.highest_reports
        return [
            config.box_action(i, level, _choice(config, i, level, report, price), report)
            for i, (level, report, price) in enumerate(
                zip(levels.tolist(), reports.tolist(), offer.price.tolist(), strict=True)
            )
        ]
    flat = _least_welfare(solution)
    if flat is None:
        assert isinstance(solution, Solution)
        raise ValueError(
            f"opponent is 'equilibrium', but {solution.no_equilibrium}; choose 'best_response',"
            " 'truthful' or a policy"
        )
    return [config.action_of(i, int(a)) for i, a in enumerate(flat)]


def _least_welfare(solution: Any) -> np.ndarray | None:
    """`[n]` flat actions: dominant strategies, or the equilibrium of least welfare; None if there
    is none.
    """
    flat: np.ndarray | None = getattr(solution, "actions", None)
    if flat is not None or len(solution.equilibria) == 0:
        return flat
    return np.asarray(solution.worst)


def _choice(config: EnvConfig, provider: int, level: int, report: int, price: float) -> float:
    """The price choice at which the tariff asks `price`, by bisection on the scale of continuous
    prices.
    """
    tariff = config.mechanism.tariff
    seen, _ = config.mechanism.terms(config.market)
    terms = tuple(float(term[provider, level, report]) for term in seen)
    low, high = config.price_scale
    rises = tariff.price(terms, tariff.choices[-1]) > tariff.price(terms, tariff.choices[0])
    for _ in range(60):
        middle = (low + high) / 2.0
        if (tariff.price(terms, tariff.choice(np.exp(middle))) < price) == rises:
            low = middle
        else:
            high = middle
    return float(tariff.choice(np.exp(high)))


class TruthfulOpponents(FixedOpponents):
    """The level of the largest quality minus cost, the price choice nearest to the list price (in
    an auction: to the bid at cost), and no lie.
    """

    def profile(self, config: EnvConfig) -> list[Any]:
        market, mechanism = config.market, config.mechanism
        tariff = mechanism.tariff
        levels = np.nanargmax(market.quality - market.cost, axis=1)
        if config.continuous:
            neutral = tariff.neutral
            return [config.box_action(i, int(m), neutral) for i, m in enumerate(levels)]
        price = int(np.abs(np.array(tariff.choices) - tariff.neutral).argmin())
        flat = mechanism.join(levels, price, market=market)
        return [config.action_of(i, int(a)) for i, a in enumerate(flat)]


class BestResponseOpponents:
    """Opponents that start at random actions and take turns: after round t, provider t modulo n
    moves to the action that would have earned it most against the others' of that round, if that
    is better by more than a share of 1e-9. Ends in an equilibrium where the game has a potential
    (GAME.md, theorem 1) and the own actions stay.
    """

    _MOST_ANSWERS = 1 << 14

    def start(self, config: EnvConfig, indices: tuple[int, ...], seed: int) -> None:
        if config.continuous:
            raise ValueError(
                "opponent 'best_response' chooses from a list of actions; use actions='discrete' or"
                " 'flat', or the opponents 'equilibrium', 'truthful' or a policy"
            )
        rng = np.random.default_rng(seed)
        self._config, self._indices, self._t = config, frozenset(indices), 0
        self._stage: StageGame | None = None  # where the world moves
        self._last: np.ndarray | None = None
        self._noise = config.mechanism.rule.noise(config.table)
        exists = ~np.isnan(config.table.quality)
        self._flat = {i: int(rng.choice(np.flatnonzero(exists[i]))) for i in indices}
        self._answers: dict[tuple[int, bytes], int] = {}

    def watch(self, stage: StageGame) -> None:
        """Where the world moves: take the turn now, in the game that is about to be played, against
        what was played last.
        """
        last, self._stage = self._stage, stage
        if last is None or self._last is None or not stage.providers:
            return
        mover = (self._t - 1) % len(self._last)
        if mover in self._indices and mover in stage.providers:
            self._flat[mover] = stage.best_reply(mover, self._last)

    def act(self, observations: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        agents, actions = self._config.agents, self._config.discrete_actions
        return {agents[i]: actions[flat] for i, flat in self._flat.items()}

    def observe(
        self,
        actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        mover = self._t % len(actions)
        self._t += 1
        self._last = actions
        if mover in self._indices and self._stage is None:
            self._flat[mover] = self._answer(mover, actions)

    def _answer(self, i: int, actions: np.ndarray) -> int:
        """Where provider i moves to. Answers are kept: play comes back to few profiles."""
        key = i, actions.tobytes()
        if key not in self._answers:
            if len(self._answers) >= self._MOST_ANSWERS:
                self._answers.clear()
            config = self._config
            deviations = config.mechanism.deviations(
                config.table, config.table.take(actions), config.market
            )
            profit, log_share = (x[i : i + 1] for x in deviations)
            own = int(actions[i])
            best, _, relative = compare(
                profit, log_share, profit[:, own], log_share[:, own], self._noise
            )
            self._answers[key] = int(best[0]) if relative[0] > 1e-9 else own
        return self._answers[key]


OPPONENTS: dict[str, Callable[[], Opponents]] = {
    "equilibrium": EquilibriumOpponents,
    "truthful": TruthfulOpponents,
    "best_response": BestResponseOpponents,
}
"""Opponents by name."""


class ProviderEnv(gymnasium.Env[np.ndarray, Any]):
    """One provider's view of the market; everybody else is an opponent.

    ## Description

    `gymnasium.make("ttc_env/Provider-v0", opponent="best_response", provider=0, mechanism="market",
    ...)`. The game is that of `ttc_env.MarketEnv`; this environment acts for one provider.

    ## Action Space, Observation Space, Rewards

    The provider's own, as in `MarketEnv`: `Discrete`, `MultiDiscrete` or `Box`, with the same
    `action_mask` in infos; a float32 vector in [-1, 1]; expected profit in USD per round.

    ## Opponents

    | `opponent` | plays |
    | --- | --- |
    | `"equilibrium"` | its part of the exact equilibrium of least welfare; in an auction the dominant strategy (truthful); with continuous prices the exact equilibrium prices. Where a game has no pure equilibrium it raises when the environment is made |
    | `"truthful"` | the level of the largest quality minus cost, at the list price (auction: a bid at cost), with no lie |
    | `"best_response"` | starts at random actions; in turns, one provider a round moves to the best answer to the round before (discrete and flat actions) |
    | a policy | `observation -> action` of the environment, the same function for all opponents; continuous actions included |
    | an object | `ttc_env.envs.provider.Opponents`: anything else. In a checkout `agents.opponents("hedge")` or `agents.opponents("provider_1=hedge,rest=ucb")` |

    The named opponents know the game: `information` does not bind them. Where the world moves they
    play each round's game: its equilibrium, its truth, or a best answer in it.

    ## Starting State

    As in `MarketEnv`. A seeded reset also starts the opponents anew, from the same seed; an
    unseeded one lets them keep what they learned.

    ## Episode End

    Truncation after `max_cycles` rounds.

    ## Arguments

    | argument | default | meaning |
    | --- | --- | --- |
    | `opponent` | `"equilibrium"` | see above |
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
        opponent: str | Policy | Opponents = "equilibrium",
        provider: int = 0,
        *,
        mechanism: str | Mechanism = "market",
        benchmark: Benchmark | None = None,
        method: str | None = None,
        market: Markets | None = None,
        infos: Infos = "full",
        render_mode: RenderMode | None = None,
        **options: Unpack[GameOptions],
    ):
        self._env = MarketEnv(
            mechanism,
            benchmark,
            method,
            market=market,
            infos=infos,
            render_mode=render_mode,
            **options,
        )
        self.render_mode = render_mode
        agents = self._env.possible_agents
        self.provider = check_provider(self._env.market, provider)
        self._me = agents[self.provider]
        self._indices = rivals_of(self._env.market, self.provider)
        self._others = tuple(agents[i] for i in self._indices)
        self.observation_space = self._env.observation_space(self._me)
        self.action_space = self._env.action_space(self._me)
        self._opponents = make_opponents(opponent)
        self._watched = not isinstance(self._opponents, FixedOpponents)
        # What cannot be played should fail here, not at the first reset.
        self._opponents.start(self.config, self._indices, 0)
        self._started = False
        self._observations: dict[str, np.ndarray] = {}

    def __repr__(self) -> str:
        return f"ProviderEnv({self._me} of {describe(self.config)})"

    @property
    def unwrapped(self) -> ProviderEnv:
        return self

    @property
    def config(self) -> EnvConfig:
        return self._env.config

    @property
    def market(self) -> Market:
        """The market that is played."""
        return self._env.market

    def solve(self, t: int | None = None) -> Solution | AuctionSolution | ContinuousSolution:
        """The exact solution of the game among all providers; of round t's (`MarketEnv.solve`)."""
        return self._env.solve(t)

    def stage(self, t: int) -> StageGame:
        """The game of round t (`MarketEnv.stage`)."""
        return self._env.stage(t)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; a seed starts the opponents anew and sets all randomness.

        Raises:
            ValueError: a seed that is no whole number >= 0.
        """
        seed = checked_seed(seed)
        super().reset(seed=seed)
        before = self.config
        self._observations, infos = self._env.reset(seed=seed, options=options)
        # Another market is another game: what was learned of the last one is of no use there.
        if seed is not None or not self._started or self.config is not before:
            self._opponents.start(self.config, self._indices, int(self.np_random.integers(2**31)))
            self._started = True
        return self._observations[self._me], self._own(infos)

    def _own(self, infos: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """This provider's info, with a mask of its own: Gymnasium wants new data on every call."""
        info = infos[self._me]
        if not self.config.continuous:
            info["action_mask"] = info["action_mask"].copy()
        return info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one round against the opponents.

        Raises:
            ValueError: an action outside the space. It is looked at first: no round is played, and
                the opponents have not moved.
            RuntimeError: no episode is running.
        """
        if not self._env.agents:
            raise RuntimeError("no episode is running; call reset() first")
        mine = self.config.parsed(self.provider, action)
        if self.config.moves and isinstance(self._opponents, StageWatcher):
            self._opponents.watch(self._env.stage(self._env.round))
        actions = {
            **self._opponents.act({agent: self._observations[agent] for agent in self._others}),
            self._me: mine,
        }
        self._observations, rewards, _, truncations, infos = self._env.step(actions)
        over = truncations[self._me]
        if self._watched:
            self._opponents.observe(
                self._flat(actions),
                {agent: rewards[agent] for agent in self._others},
                {agent: self._observations[agent] for agent in self._others},
                over,
            )
        return self._observations[self._me], rewards[self._me], False, over, self._own(infos)

    def action_masks(self) -> np.ndarray:
        """`[k]` bool, which choices exist: `action_mask` as sb3-contrib's MaskablePPO asks for it.

        Raises:
            ValueError: continuous actions, which have no mask.
        """
        mask = self._env.action_masks()[self.provider]
        if mask is None:
            raise ValueError("continuous actions have no mask; use actions='discrete' or 'flat'")
        return mask.astype(bool)

    def _flat(self, actions: Mapping[str, Any]) -> np.ndarray:
        """Everybody's flat actions `[n]`."""
        config = self.config
        return config.choose([actions[agent] for agent in config.agents])

    def _repr_html_(self) -> str:
        return self._env._repr_html_()

    def to_frame(self) -> pd.DataFrame:
        """The last round, all providers; see `MarketEnv.to_frame`."""
        return self._env.to_frame()

    def render(self) -> Any:
        """The last round; see `MarketEnv.render`."""
        return self._env.render()


def check_provider(market: Market, provider: int) -> int:
    """A provider's index.

    Raises:
        ValueError: the market has no such provider.
    """
    if not 0 <= provider < market.num_providers:
        raise ValueError(
            f"provider is {provider}; this market has providers 0..{market.num_providers - 1}:"
            f" {', '.join(market.names)}"
        )
    return int(provider)


def rivals_of(market: Market, provider: int) -> tuple[int, ...]:
    """The indices of all the others."""
    return tuple(i for i in range(market.num_providers) if i != provider)


def make_opponents(opponent: str | Policy | Opponents) -> Opponents:
    """Opponents by name, of a policy, or a copy of the object given.

    Raises:
        ValueError: none of these.
    """
    if isinstance(opponent, str):
        if opponent not in OPPONENTS:
            raise ValueError(
                f"opponent {opponent!r} is unknown; choose {', '.join(map(repr, OPPONENTS))}, give a"
                " policy (opponent=lambda observation: action), or an object: in a checkout of the"
                f" repository, agents.opponents({opponent!r})"
            )
        return OPPONENTS[opponent]()
    if isinstance(opponent, Opponents):
        return copy.deepcopy(opponent)
    if callable(opponent):
        return PolicyOpponents(opponent)
    raise ValueError(
        f"opponent is {opponent!r}; give one of {', '.join(map(repr, OPPONENTS))}, a policy"
        " (observation -> action), or an object with start, act and observe"
        " (ttc_env.envs.provider.Opponents)"
    )
