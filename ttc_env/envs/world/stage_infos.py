"""Infos of rounds in a world that moves: everything refers to the round's stage game."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ttc_env.envs.round_infos import RoundInfos
from ttc_env.envs.rounds import Played
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage, cells, part_of, play_present, same_presence
from ttc_env.envs.world.stage_game import StageGame
from ttc_env.game.continuous import PriceRange, continuous_regret
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.rules.base import EveryAction, Round, Users
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array

_ENTRIES = 1 << 18  # entries of replies per pass
_MOST_KEPT = 1 << 12  # optima


class StageInfos(RoundInfos):
    """`RoundInfos` where costs, demand or presence move, or prices hold. NumPy."""

    def __init__(self, tables: RoundTables, num_envs: int):
        super().__init__(tables, num_envs)
        self._optima: dict[Any, float] = {}

    @property
    def _width(self) -> int:
        return self.tables.num_actions

    def _of(self, played: Played, at: slice) -> dict[str, np.ndarray]:
        part = copy.copy(self)  # of these environments alone
        part.market, part.users = self.market[at], self._users(at)
        infos, stage = super(StageInfos, part)._of(played, slice(None)), _stage(played)
        if stage.present is not None:
            infos["present"] = stage.present
            absent: dict[str, float] = {"level": -1, "action": -1, "report": -1}
            absent |= {"seen": 0.0, "penalty": 0.0}
            for name in absent.keys() & infos.keys():
                infos[name] = np.where(stage.present, infos[name], absent[name])
        if stage.arrivals is not None:
            infos["arrivals"] = stage.arrivals
        return infos

    def arrivals(self, played: Played) -> Any:
        arrivals = _stage(played).arrivals
        return self.config.users if arrivals is None else arrivals

    def best_welfare(self, played: Played, at: slice = slice(None)) -> Array:
        stage, config = _stage(played), self.config
        found = np.empty(played.index.shape[1])
        for b, market in enumerate(self.market.tolist()):
            parts = stage.cost, stage.present, stage.held
            columns = [None if x is None else np.asarray(x)[:, b] for x in parts]
            key = market, *(None if x is None else x.tobytes() for x in columns)
            if key not in self._optima:
                if len(self._optima) >= _MOST_KEPT:
                    self._optima.clear()
                whole = config.market if len(self.tables.batch) == 1 else self.tables.batch[market]
                game = StageGame.of(config, whole, stage, b)
                self._optima[key] = game.optimal_welfare
            found[b] = self._optima[key]
        return found

    def table(self, stage: Stage) -> Offer:
        """`[n, b, a]`: what each action puts on the table in this round, prices that may not be
        changed being what they are; NaN where a level does not exist.
        """
        if stage.cost is None:
            table = self.tables.raw.map(lambda x: x[:, self.market])
        else:
            table = self._markets(stage).offers(self.mechanism)
        if stage.held is None:
            return table
        market = self.tables.batch.stacked
        if self.config.continuous:
            free = np.isnan(np.asarray(stage.held))[..., None]
            absent = np.isnan(table.quality)
            level, _, report = self.mechanism.split(np.arange(absent.shape[2]), market)
            promise = level * self.mechanism.grid(market)[2] + report
            price, paid = (
                np.where(absent, np.nan, np.where(free, own, held[..., promise]))
                for own, held in zip((table.price, table.paid), self._held(stage), strict=True)
            )
            return Offer(table.quality, table.seen, price, table.cost, paid, table.penalty)
        # [n, b, a]: the action that is played when this one is asked for
        grid = self.mechanism.grid(market)
        parts = list(np.unravel_index(np.arange(table.price.shape[2]), grid))
        held = np.asarray(stage.held)[..., None]
        parts[1] = np.where(held < 0, parts[1], held)
        action = np.ravel_multi_index(tuple(np.broadcast_arrays(*parts)), grid)
        return table.map(lambda x: np.take_along_axis(x, action, axis=2))

    def _markets(self, stage: Stage) -> MarketBatch:
        ones = np.ones((self.tables.batch.num_providers, len(self.market)))
        return self.tables.batch.at_costs(self.market, ones if stage.cost is None else stage.cost)

    def _prices(self, stage: Stage) -> PriceRange:
        """What can be promised where prices are continuous, `[n, m, b]`."""
        prices = PriceRange.of_batch(self.mechanism, self._markets(stage))
        if stage.held is None:
            return prices
        asked = np.moveaxis(self._held(stage)[0], 2, 1)
        free = np.isnan(np.asarray(stage.held))[:, None] | np.isnan(prices.quality)
        ends = {end: np.where(free, getattr(prices, end), asked) for end in ("lowest", "highest")}
        return prices._replace(**ends)

    def _held(self, stage: Stage) -> tuple[Array, Array]:
        """`[n, b, m]` USD/query: of every promise (`PriceRange`), the price that users see and the
        bill where the price may not be changed; NaN where it may. Continuous prices.
        """
        tariff, markets = self.mechanism.tariff, self._markets(stage)
        held = np.asarray(stage.held)[..., None]
        low, high = self.config.price_scale
        choice = tariff.choice(np.exp(low + (high - low) * (held + 1.0) / 2.0))
        seen, billed = (
            tariff.price(tuple(x.reshape(*held.shape[:2], -1) for x in terms), choice)
            for terms in self.mechanism.terms(markets.stacked)
        )
        return seen, billed

    def offer(self, played: Played) -> Offer:
        action = self._levels[1].take(played.index)[..., None]
        table = self.table(_stage(played))
        offer = table.map(lambda x: np.take_along_axis(x, action, axis=2)[..., 0])
        if played.price is None or not self.config.continuous_prices:
            return offer
        price, paid = played.price, played.paid
        return Offer(offer.quality, offer.seen, price, offer.cost, paid, offer.penalty)

    def round(self, played: Played, at: slice = slice(None)) -> Round:
        offer = self.offer(played)
        return play_present(self.mechanism.rule, offer, self.users, _stage(played).present)

    def regrets(
        self, played: Played, expected: Round, at: slice = slice(None)
    ) -> tuple[Array, Array]:
        stage, rule = _stage(played), self.mechanism.rule
        regret, relative = (np.zeros(played.index.shape) for _ in range(2))
        table = None if self.config.continuous_prices else self.table(stage)
        prices = self._prices(stage) if table is None else None
        actions = self._levels[1].take(played.index)
        for rows, columns in self._groups(stage, played.index.shape[1]):
            users, cell = self._users_of(columns), np.ix_(rows, columns)
            some = part_of(expected, rows, columns)
            if table is not None:
                offers = cells(table, cell)
                noise = self._noises(offers)
                everything, here = EveryAction(rule, offers), np.arange(len(columns))
                found = everything.regrets(actions[cell], some, users, here, noise)
            else:
                assert prices is not None
                offers = cells(self.table(stage), cell)
                mine = PriceRange(*(x[rows][:, :, columns] for x in prices))
                noise = self._noises(offers)
                found = continuous_regret(self.mechanism, users, some, mine, noise=noise)
            regret[cell], relative[cell] = found
        return regret, relative

    def _noises(self, table: Offer) -> Array:
        """`[b]` `Rule.noise` of each stage game; table: `[n, b, a]`."""
        noise = self.mechanism.rule.noise
        columns = range(table.quality.shape[1])
        return np.array([noise(cells(table, np.s_[:, b])) for b in columns])

    def _users_of(self, columns: np.ndarray) -> Users:
        return self.users.map(lambda x: x[columns])

    def _groups(self, stage: Stage, b: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Environments with the same providers present, in passes of bearable size."""
        n = self.tables.batch.num_providers
        present = np.ones((n, b), bool) if stage.present is None else stage.present
        step = max(1, _ENTRIES // (n * self.tables.num_actions))
        return [
            (rows, columns[start : start + step])
            for rows, columns in same_presence(present)
            if len(rows)
            for start in range(0, len(columns), step)
        ]

    def deviations(self, played: Played) -> tuple[Array, Array]:
        """As in `RoundInfos`; an absent provider earns nothing, whatever it does."""
        stage, offer = _stage(played), self.offer(played)
        table = self.table(stage)
        exists = ~np.isnan(table.quality)
        profit = np.where(exists, 0.0, np.nan)
        log_share = np.where(exists, -np.inf, np.nan)
        for rows, columns in self._groups(stage, played.index.shape[1]):
            cell, users = np.ix_(rows, columns), self._users_of(columns)
            offers = cells(table, cell).map(_actions_second)
            found = self.mechanism.rule.deviations(
                offers,
                cells(offer, cell),
                users,
            )
            shape = offers.quality.shape
            profit[cell], log_share[cell] = (
                np.moveaxis(np.broadcast_to(x, shape), 1, 2) for x in found
            )
        return profit, log_share


def _stage(played: Played) -> Stage:
    assert played.stage is not None
    return played.stage


def _actions_second(x: Array) -> Array:
    """`[n, b, a]` -> `[n, a, b]`."""
    return np.moveaxis(x, 1, 2)
