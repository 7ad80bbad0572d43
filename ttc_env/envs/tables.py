"""All that a round looks up, worked out once: for every provider and action of every market, its
offer and how observations show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ttc_env.envs.observations import hidden, scales, symmetric_log
from ttc_env.game.continuous import Dial
from ttc_env.game.demand import logits
from ttc_env.game.envelope import AuctionEnvelope, PostedEnvelope
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import Offer
from ttc_env.game.regret import resolution
from ttc_env.game.rounds import NARROW, split_exponential
from ttc_env.game.types import Array

if TYPE_CHECKING:
    from ttc_env.envs.config import EnvConfig


@dataclass(frozen=True, eq=False)
class RoundTables:
    """Tables `[n, G a]`: column g a + action is that action in market g.

    An absent level's actions are those of the highest level.
    """

    config: EnvConfig  # the rules; its own market is not used
    batch: MarketBatch

    @cached_property
    def kind(self) -> str:
        """Which formulas play a round: `Mechanism.kind`."""
        return self.config.mechanism.kind

    @property
    def num_actions(self) -> int:
        """a: flat actions per provider."""
        levels, prices, claims = self.config.mechanism.grid(self.batch.stacked)
        return levels * prices * claims

    @cached_property
    def level_counts(self) -> np.ndarray:
        """`[n, G]`: how many levels each provider has."""
        return self.batch.available.sum(axis=1)

    @cached_property
    def raw(self) -> Offer:
        """Every action's offer, `[n, G, a]`, NaN where the level does not exist."""
        return self.batch.offers(self.config.mechanism)

    @cached_property
    def played(self) -> np.ndarray:
        """`[n, G, a]`: the action that is played when this one is asked for."""
        mechanism, market = self.config.mechanism, self.batch.stacked
        level, price, claim = mechanism.split(np.arange(self.num_actions), market)
        return mechanism.join(
            np.minimum(level, self.level_counts[:, :, None] - 1), price, claim, market=market
        )

    def _flat(self, table: np.ndarray) -> Any:
        """`[n, G, a]` -> `[n, G a]`, absent levels replaced."""
        return np.ascontiguousarray(np.take_along_axis(table, self.played, axis=2)).reshape(
            len(table), -1
        )

    @cached_property
    def offer(self) -> Offer:
        """`[n, G a]` USD/query."""
        return Offer(
            *(
                self._flat(x)
                for x in (self.raw.quality, self.raw.claim, self.raw.price, self.raw.cost)
            )
        )

    @cached_property
    def level(self) -> np.ndarray:
        """`[n, G a]`: level index."""
        return self.config.mechanism.split(
            self._flat(np.broadcast_to(self.played, self.raw.quality.shape)), self.batch.stacked
        )[0]

    @cached_property
    def list_base(self) -> Array:
        """`[n, G a]` USD/query: what a dialled price multiplies."""
        base = self.config.mechanism.tariff.base(self.batch.stacked)
        n, g = self.batch.num_providers, len(self.batch)
        return np.take_along_axis(
            base.reshape(n, g, -1), self.level.reshape(n, g, -1), axis=2
        ).reshape(n, -1)

    def _per_action(self, x: Array) -> Array:
        """`[G]` -> `[G a]`."""
        return np.repeat(x, self.num_actions)

    @cached_property
    def split(self) -> tuple[Array, np.ndarray]:
        """f and k, `[n, G a]`: the attraction exp(beta (V - V_0)) = f 2^k of every action
        (`ttc_env.game.rounds`).
        """
        return split_exponential(
            logits(
                self.offer.score,
                self._per_action(self.batch.beta),
                self._per_action(self.batch.outside_value),
            )
        )

    @cached_property
    def narrow(self) -> bool:
        """Whether attractions can be used as they are."""
        return bool(np.abs(self.split[1]).max() <= NARROW)

    @cached_property
    def attraction(self) -> Array:
        """`[n, G a]`: exp(beta (V - V_0)) itself; for narrow tables."""
        return np.ldexp(*self.split)

    @cached_property
    def gain(self) -> Array:
        """`[n, G a]` USD: profit if all of a round's users came, at the price posted."""
        return self.config.users * (self.offer.price - self.offer.cost)

    @cached_property
    def settled(self) -> Array:
        """`[n, G a]` USD/query: the quality that an auction's winner is paid for."""
        return self.config.mechanism.settled_quality(self.offer)

    @cached_property
    def worth(self) -> Array:
        """`[n, G a]` USD/query: what serving is worth in an auction before the rivals' score is
        paid: settled quality less cost.
        """
        return self.settled - self.offer.cost

    @cached_property
    def envelope(self) -> PostedEnvelope | AuctionEnvelope | None:
        """The actions that can be best replies, and against which rivals; None where a mechanism
        has rules of its own.
        """
        raw = self.raw
        if self.kind == "logit":
            return PostedEnvelope.of(
                raw.score, raw.price - raw.cost, self.batch.beta, self.batch.outside_value
            )
        if self.kind == "auction":
            return AuctionEnvelope.of(
                raw.score, self.config.mechanism.settled_quality(raw) - raw.cost
            )
        return None

    @cached_property
    def dial(self) -> Dial:
        """`[n, m, G]` USD/query: what can be offered where prices are dialled."""
        return Dial.of_batch(self.config.mechanism, self.batch)

    @cached_property
    def resolution(self) -> Array:
        """`[G]` USD/query: profits closer to 0 than this count as 0 (`game.regret.resolution`)."""
        raw = self.raw
        each = (
            Offer(*(x[:, g] for x in (raw.quality, raw.claim, raw.price, raw.cost)))
            for g in range(len(self.batch))
        )
        return np.array([resolution(table, self.config.mechanism) for table in each])

    # --- as observations show it ---

    @cached_property
    def scales(self) -> dict[str, Array]:
        """`[G]` each; see `observations.scales`."""
        raw = self.raw
        return scales(
            raw.quality,
            raw.claim,
            raw.price,
            raw.cost,
            self.batch.stacked.price.reshape(*raw.quality.shape[:2], -1),
            self.batch.outside_value,
        )

    @cached_property
    def quality_seen(self) -> np.ndarray:
        """`[n, G a]` float32."""
        return np.clip(
            self.offer.quality / self._per_action(self.scales["quality"]), -1.0, 1.0
        ).astype(np.float32)

    @cached_property
    def price_seen(self) -> np.ndarray:
        """`[n, G a]` float32."""
        low, high = (self._per_action(self.scales[name]) for name in ("smallest", "largest"))
        return np.clip(symmetric_log(self.offer.price, low, high), -1.0, 1.0).astype(np.float32)

    @cached_property
    def action_seen(self) -> np.ndarray:
        """`[k, n, G a]` float32: each part of an action, scaled to [-1, 1]."""
        grid = self.config.grid
        played = self._flat(np.broadcast_to(self.played, self.raw.quality.shape))
        parts = np.unravel_index(played, grid)
        return np.stack(
            [2.0 * part / max(size - 1, 1) - 1.0 for part, size in zip(parts, grid, strict=True)]
        ).astype(np.float32)

    @cached_property
    def static(self) -> np.ndarray:
        """`[G, n, s]` float32: the part of private blocks that never changes: identity, levels that
        exist, own curves.
        """
        n, g = self.batch.num_providers, len(self.batch)
        scale = {name: x[:, None, None] for name, x in self.scales.items()}
        quality, price, cost, available = (
            np.moveaxis(x, 2, 0)
            for x in (self.batch.quality, self.batch.price, self.batch.cost, self.batch.available)
        )
        parts = [
            np.broadcast_to(np.eye(n), (g, n, n)),
            available,
            quality / scale["quality"],
            symmetric_log(price, scale["smallest"], scale["largest"]),
            symmetric_log(cost, scale["smallest"], scale["largest"]),
        ]
        return np.nan_to_num(np.concatenate(parts, axis=2)).astype(np.float32)

    @cached_property
    def hidden(self) -> np.ndarray | None:
        """`[n, d]` bool: what a provider may not see (`observations.hidden`); None if it may see
        everything.
        """
        private = self.static.shape[2] + len(self.config.grid) + 1
        return hidden(
            self.batch.num_providers,
            self.config.information,
            private,
            private + 3 * self.batch.num_providers + 2,
        )

    @cached_property
    def profit_scale(self) -> Array:
        """`[G]`: rewards times this are what observations show."""
        return 1.0 / (self.config.users * self.scales["profit"])

    def state(
        self, flat: Sequence[int], share: Sequence[float], reward: Sequence[float], time_left: float
    ) -> np.ndarray:
        """`[state_size]` float32: the global state of the first market's environment after a round.

        Args:
            flat: actions as played.
            share, reward: the round's; USD.
            time_left: share of the episode that is left.
        """
        n, actions = len(flat), np.asarray(flat)
        rows = np.arange(n)
        profit = np.asarray(reward) * float(self.profit_scale[0])
        private = np.column_stack(
            [self.static[0, :, n:], self.action_seen[:, rows, actions].T, profit.astype(np.float32)]
        )
        seen = (
            self.quality_seen[rows, actions],
            self.price_seen[rows, actions],
            np.asarray(share, np.float32),
        )
        return np.concatenate([private.ravel(), *seen, np.array([1.0, time_left], np.float32)])

    def columns(self, num_envs: int) -> Any:
        """Where each environment's market starts in the tables: `[num_envs]`, environment b playing
        market b modulo G; 0 if G = 1.
        """
        return (
            0
            if len(self.batch) == 1
            else (np.arange(num_envs) % len(self.batch)) * self.num_actions
        )
