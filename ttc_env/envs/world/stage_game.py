"""The game of one round where the world moves, as one that can be solved."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ttc_env.envs.config import EnvConfig
from ttc_env.envs.world.stage import Stage
from ttc_env.game import enumeration
from ttc_env.game.continuous import ContinuousSolution
from ttc_env.game.held_prices import HeldMechanism, HeldTariff
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.regret import compare
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.solution import Solution
from ttc_env.game.types import Array, Market


@dataclass(frozen=True, eq=False)
class StageGame:
    """One round's game (GAME.md, "A world that moves"): costs as they are then, the providers that
    are present, and the prices that may not be changed.
    """

    config: EnvConfig  # the environment's: its market is the one at rest
    t: int  # which round, from 0
    cost: Array  # [n] factors on costs
    present: np.ndarray  # [n] bool
    arrivals: int  # users
    # [n] the price choice that each has to keep, as an index, or with continuous actions as a
    # number among `Tariff.choices`; None where it may choose
    held: tuple[Any, ...]

    def __repr__(self) -> str:
        there = f"{int(self.present.sum())} of {len(self.present)} providers"
        return f"StageGame(round {self.t}: {there}, {self.arrivals} users)"

    @classmethod
    def of(cls, config: EnvConfig, market: Market, stage: Stage, b: int = 0) -> StageGame:
        """That of environment b, whose market at rest is `market`."""
        n = market.num_providers

        def column(x: Any, default: Any) -> np.ndarray:
            return np.full(n, default) if x is None else np.array(x[:, b])

        held: list[Any] = [None] * n
        if stage.held is not None:
            low_high = config.price_scale
            held = [_kept(config, x, low_high) for x in np.asarray(stage.held)[:, b].tolist()]
        if market is not config.market:
            config = dataclasses.replace(config, market=market)
        arrivals = config.users if stage.arrivals is None else int(stage.arrivals[b])
        return cls(
            config, stage.t, column(stage.cost, 1.0), column(stage.present, True), arrivals,
            tuple(held),
        )  # fmt: skip

    @cached_property
    def providers(self) -> tuple[int, ...]:
        """The indices, in the environment, of the stage market's providers."""
        return tuple(np.flatnonzero(self.present).tolist())

    @property
    def holds(self) -> bool:
        """Whether some present provider's price may not be changed."""
        return any(self.held[i] is not None for i in self.providers)

    @cached_property
    def market(self) -> Market:
        """The stage market: those who are present, at this round's costs.

        Raises:
            ValueError: nobody is there.
        """
        if not self.providers:
            raise ValueError(
                f"nobody is present in round {self.t}, so there is no game: all users are left with"
                " the outside option"
            )
        market, everybody = self.config.market, len(self.providers) == len(self.present)
        if everybody and (self.cost == 1.0).all():
            return market
        providers = [
            dataclasses.replace(market.providers[i], cost=market.providers[i].cost * self.cost[i])
            for i in self.providers
        ]
        return dataclasses.replace(market, providers=tuple(providers))

    @cached_property
    def mechanism(self) -> Mechanism:
        """The mechanism, without the actions that a price which may not be changed leaves out."""
        return self._holding(self.game.mechanism)

    def _holding(self, mechanism: Mechanism) -> Mechanism:
        """A mechanism without those actions."""
        held = [self.held[i] for i in self.providers]
        if not self.holds:
            return mechanism
        fields = mechanism.name, mechanism.tariff, mechanism.rule, mechanism.misreports
        if self.config.continuous:
            choices = tuple(np.nan if price is None else price for price in held)
            tariff = HeldTariff(mechanism.tariff.choices, mechanism.tariff, choices)
            return dataclasses.replace(mechanism, tariff=tariff)
        return HeldMechanism(*fields, held=tuple(held))

    @cached_property
    def game(self) -> EnvConfig:
        """An environment that plays this round's market, every price free."""
        mechanism, everybody = self.config.mechanism, self.config.market.num_levels
        if self.market.num_levels < everybody:  # reports are those of the environment, too
            misreports = mechanism.misreports.counted(everybody)
            mechanism = dataclasses.replace(mechanism, misreports=misreports)
        return dataclasses.replace(
            self.config, market=self.market, mechanism=mechanism, shocks=None, price_period=1,
            users=self.arrivals, agents=tuple(self.config.agents[i] for i in self.providers),
        )  # fmt: skip

    def best_reply(self, provider: int, actions: np.ndarray) -> int:
        """The flat action that would earn a provider most in this round against the others'
        actions; its own, unless that is worse by more than a share of 1e-9.

        Args:
            provider: index in the environment; it is present.
            actions: `[n]` flat actions of everybody in the environment.
        """
        table = self.mechanism.offers(self.market)
        played = self.as_played(actions)[list(self.providers)]
        me = self.providers.index(provider)
        found = self.mechanism.deviations(table, table.take(played), self.market)
        profit, log_share = (x[me : me + 1] for x in found)
        own = int(played[me])
        noise = self.mechanism.rule.noise(table)
        best, _, relative = compare(profit, log_share, profit[:, own], log_share[:, own], noise)
        return int(best[0]) if relative[0] > 1e-9 else own

    def payoffs(self, actions: np.ndarray) -> tuple[tuple[Array, Array], Array]:
        """What every action would have earned against the others' actions of this round: profit per
        served query (USD) and log share, `[n, a, 1]`, NaN where a level does not exist; and shares
        `[n, 1]`. Absent providers earn nothing and have no share.
        """
        n = len(self.present)
        exists = ~np.isnan(self.config.table.quality)[:, :, None]
        profit, log_share = np.where(exists, 0.0, np.nan), np.where(exists, -np.inf, np.nan)
        share, rows = np.zeros((n, 1)), list(self.providers)
        if rows:
            table, played = self.mechanism.offers(self.market), self._played[rows]
            wide = table.map(lambda x: np.take_along_axis(x, played, axis=1)[:, :, None])
            offer = table.take(self.as_played(actions)[rows]).map(lambda x: x[:, None])
            found = self.mechanism.deviations(wide, offer, self.market)
            profit[rows], log_share[rows] = (np.where(exists[rows], x, np.nan) for x in found)
            share[rows] = self.mechanism.play(offer, self.market).share
        return (profit, log_share), share

    def as_played(self, actions: np.ndarray) -> np.ndarray:
        """`[n]` the flat actions that are played where these are asked for: prices that may not be
        changed are as they are, and what does not exist is the nearest that does
        (`Mechanism.existing`).
        """
        return np.asarray(self._played[np.arange(len(self.present)), actions])

    @cached_property
    def _played(self) -> np.ndarray:
        """`[n, a]` the action that is played where each one is asked for."""
        config, market = self.config, self.config.market
        mechanism, actions = config.mechanism, np.arange(config.table.quality.shape[1])
        asked = np.broadcast_to(actions, (len(self.held), len(actions)))
        if not config.continuous:
            level, price, report = mechanism.split(actions, market)
            held = np.array([-1 if kept is None else kept for kept in self.held])[:, None]
            asked = mechanism.join(level, np.where(held < 0, price, held), report, market=market)
        existing = mechanism.existing(config.level_counts, market)
        return np.take_along_axis(existing, asked, axis=1)

    @property
    def optimal_welfare(self) -> float:
        """The most welfare that any profile reaches, USD per arriving user."""
        if not self.providers:
            return self.config.market.outside_value
        planned = self._holding(self.game.planned)
        return planned.rule.optimal_welfare(planned, self.market)

    def solve(self, *, search: bool = True) -> Solution | AuctionSolution | ContinuousSolution:
        """The exact solution; profiles are about `providers`, and hold flat actions.

        Where prices are held away from the truth, an auction has no dominant strategies; it is
        then enumerated, and `complete` says whether all was looked at. That may take seconds.

        search: whether to do so.

        Raises:
            ValueError: nobody is there; continuous prices that no solver is known for; or no
                dominant strategies, and no search.
        """
        market, mechanism = self.market, self.mechanism
        if not self.holds:
            return self.game.solve()
        if self.config.continuous_prices:
            return mechanism.rule.solve_continuous(mechanism, market)
        try:
            return mechanism.rule.solve(mechanism, market, tolerance=1e-9)  # type: ignore[no-any-return]
        except ValueError:
            if not search:
                raise
            return enumeration.solve(mechanism, market)

    def actions(self, profile: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Flat actions of the stage market's providers, such as `solve().worst`, as actions of the
        environment's agents. Absent ones get any action, which is ignored.
        """
        flat = np.zeros(len(self.present), np.intp)
        flat[list(self.providers)] = np.asarray(profile)
        config = self.config
        return {
            agent: config.action_of(i, int(a))
            for i, (agent, a) in enumerate(zip(config.agents, flat, strict=True))
        }


def _kept(config: EnvConfig, x: Any, scale: tuple[float, float]) -> Any:
    """`Stage.held` of one provider as `StageGame.held`."""
    if config.continuous:
        if np.isnan(x):
            return None
        low, high = scale
        return float(config.mechanism.tariff.choice(np.exp(low + (high - low) * (x + 1.0) / 2.0)))
    return None if x < 0 else int(x)
