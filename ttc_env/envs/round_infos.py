"""Infos of a round in full, exact regrets included: worked out from the round alone, in one place,
for one environment and for many.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from ttc_env.envs.rounds import Played
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage
from ttc_env.game.continuous import PriceRange, continuous_regret
from ttc_env.game.rules.base import Round, Users
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array

DERIVED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "surplus": lambda info: info["quality"] - info["cost"],
}
"""Infos that follow from others, by name: functions of one provider's numbers, and of a batch's
arrays `[n, b]`, alike.
"""

_BLOCK = 2048  # environments per pass: temporaries then stay in the processor's cache
_ENTRIES = 1 << 18  # entries of replies per pass


class RoundInfos:
    """Works out infos of rounds played with some tables. Arrays are columns, `[n, b]`; NumPy."""

    def __init__(self, tables: RoundTables, num_envs: int):
        self.tables, self.config = tables, tables.config
        self.mechanism = tables.config.mechanism
        batch = tables.batch
        self.market = np.arange(num_envs) % len(batch)  # which each environment plays
        self.users = Users.of(batch).map(lambda x: x[self.market])

    @cached_property
    def _optimal_welfare(self) -> Array:
        return self.tables.optimal_welfare[self.market]

    def best_welfare(self, played: Played, at: slice = slice(None)) -> Array:
        """`[b]` USD per arriving user: the most that any profile reaches in this round. at: which
        environments were played, in this and the next two.
        """
        return self._optimal_welfare[at]

    def arrivals(self, played: Played) -> Any:
        """Users of the round, a number or `[b]`."""
        return self.config.users

    @cached_property
    def _noise(self) -> Array:
        return self.tables.noise[self.market]

    @cached_property
    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        return self.tables.level.reshape(-1), self.tables.as_played.reshape(-1)

    def offer(self, played: Played) -> Offer:
        """The offers `[n, b]` behind a round."""
        offer = self.tables.offer.map(lambda table: table.reshape(-1).take(played.index))
        if played.price is None:
            return offer
        return Offer(
            offer.quality, offer.seen, played.price, offer.cost, played.paid, offer.penalty
        )

    def round(self, played: Played, at: slice = slice(None)) -> Round:
        """What the round comes to in expectation: `Rule.play` of its offers."""
        return self.mechanism.rule.play(self.offer(played), self._users(at))

    def of(self, played: Played) -> dict[str, np.ndarray]:
        """`[n, b]` per provider, `[b]` for the round; see `MarketEnv`, "Infos"."""
        blocks = self._blocks(played, self._width)
        if len(blocks) == 1:
            return self._of(played, blocks[0])
        infos: dict[str, np.ndarray] = {}
        for at in blocks:
            for name, x in self._of(_part(played, at), at).items():
                if name not in infos:
                    infos[name] = np.empty((*x.shape[:-1], played.index.shape[1]), x.dtype)
                infos[name][..., at] = x
        return infos

    @property
    def _width(self) -> int:
        """Numbers per provider and environment that regrets need."""
        return self.tables.best_replies.width

    def _of(self, played: Played, at: slice) -> dict[str, np.ndarray]:
        """Of the environments `at`."""
        expected = self.round(played, at)
        offer = expected.offer
        exact = played.served is None  # what was played is expected
        infos = {
            "level": self._levels[0].take(played.index),
            "action": self._levels[1].take(played.index),
            "quality": offer.quality,
            "price": offer.price,
            "cost": offer.cost,
            "payment": expected.payment,
            "profit": expected.profit,
            "share": played.share if exact else expected.share,
            "utility": played.reward / self.arrivals(played) if exact else expected.utility,
        }
        if self.mechanism.misreports.kinds:
            for name, table in self.tables.lies.items():
                infos[name] = table.reshape(-1).take(played.index)
            infos["fines"] = expected.fines
        for name in ("served", "correct", "caught"):
            if (count := getattr(played, name)) is not None:
                infos[name] = count.astype(np.int64)
        infos["regret"], infos["relative_regret"] = self.regrets(played, expected, at)
        infos["welfare"], infos["user_value"] = expected.welfare, expected.user_value
        infos["optimal_welfare"] = self.best_welfare(played, at)
        infos["nash_conv"] = infos["regret"].sum(axis=0)
        return infos | {name: of(infos) for name, of in DERIVED.items()}

    def _users(self, at: slice) -> Users:
        return self.users.map(operator.itemgetter(at))

    def regrets(
        self, played: Played, expected: Round, at: slice = slice(None)
    ) -> tuple[Array, Array]:
        """Regret, USD per arriving user, and relative regret, `[n, b]`, against every action that
        the environment allows.
        """
        users, market, noise = self._users(at), self.market[at], self._noise[at]
        if not self.config.continuous_prices:
            action = self._levels[1].take(played.index)
            return self.tables.best_replies.regrets(action, expected, users, market, noise)
        prices = self.tables.price_range
        if len(self.tables.batch) > 1:
            prices = PriceRange(*(x[:, :, market] for x in prices))
        return continuous_regret(self.mechanism, users, expected, prices, noise=noise)

    def _blocks(self, played: Played, width: int) -> list[slice]:
        """Environments to work on at a time, where each has `width` numbers per provider: memory
        for what lies in between does not grow with the batch.
        """
        n, b = played.index.shape
        step = min(_BLOCK, max(1, _ENTRIES // (n * width)))
        return [slice(start, min(start + step, b)) for start in range(0, b, step)]

    def deviations(self, played: Played) -> tuple[Array, Array]:
        """What every action would have earned against the others' of this round: profit per served
        query (USD) and log share, `[n, b, a]`; NaN where an action does not exist.
        """
        a = self.tables.num_actions
        found = tuple(np.empty((*played.index.shape, a)) for _ in range(2))
        for at in self._blocks(played, a):
            offer = self.offer(_part(played, at))
            market = self.market[at] if len(self.tables.batch) > 1 else np.zeros(1, np.intp)
            table = self._every_action(market)
            these = self.mechanism.rule.deviations(table, offer, self._users(at))
            for whole, part in zip(found, these, strict=True):
                # part: [n, a, b], or broadcast to it
                np.copyto(np.moveaxis(whole[:, at], 1, 2), part)
        profit, log_share = found
        return profit, log_share

    def _every_action(self, market: np.ndarray) -> Offer:
        """`[n, a, b]`: every action's offer in some markets; of one market, `[n, a, 1]`."""
        return self.tables.raw.map(lambda x: np.moveaxis(x[:, market], 1, 2))


def _part(played: Played, at: slice) -> Played:
    """The rounds of some environments."""

    def cut(x: Any) -> Any:
        if x is None:
            return None
        return x.of(at) if isinstance(x, Stage) else x[..., at]

    return Played(*map(cut, played))


def columns(expected: Round, at: slice | int) -> Round:
    """The rounds of some environments, or of one."""
    fields = ("log_share", "outside_share", "payment", "profit", "user_value", "welfare", "fines")
    rows: dict[str, Any] = {name: getattr(expected, name)[..., at] for name in fields}
    rivals = type(expected.rivals)(*(summary[:, at] for summary in expected.rivals))
    return Round(expected.offer.map(lambda x: x[:, at]), rivals=rivals, **rows)
