"""What a provider sees: a bounded float32 vector, laid out once here and documented by `ObservationLayout.describe()`.

An observation is a *private* block, one per provider, followed by a *public* block, the same for all. Every entry lies in [-1, 1].

Money spans four orders of magnitude in one market, so prices and costs are shown on a symmetric log scale,
sign(x) log(1 + |x| / x_min) / log(1 + x_max / x_min), with x_min and x_max the smallest and largest non-zero amounts that any provider
could ask or pay; quality and profit are linear, as shares of the largest possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ttc_env.envs.config import EnvConfig
from ttc_env.game.types import Array


def symmetric_log(x: Array, smallest: float, largest: float) -> Array:
    """sign(x) log(1 + |x| / smallest) / log(1 + largest / smallest): into [-1, 1] for |x| <= largest. Any shape."""
    return np.sign(x) * np.log1p(np.abs(x) / smallest) / np.log1p(largest / smallest)


@dataclass(frozen=True, eq=False)
class Round:
    """The last round, as observations show it. All None before the first."""

    quality: Array  # [n] USD/query delivered in expectation
    price: Array  # [n] USD/query asked: posted price or bid
    share: Array  # [n] of users: expected, or realised under sampled demand
    profit: Array  # [n] USD per arriving user: expected, or realised under sampled demand
    action: Array  # [n, k] each part of the own action, scaled to [-1, 1]


@dataclass(frozen=True, eq=False)
class ObservationLayout:
    """Where each number stands, and its scale."""

    config: EnvConfig

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Name of each part -> its place in the observation vector."""
        n, m, k = self.config.market.num_providers, self.config.market.num_levels, len(self.config.grid)
        sizes = {
            "identity": n,
            "available": m,
            "quality_curve": m,
            "price_curve": m,
            "cost_curve": m,
            "last_action": k,
            "last_profit": 1,
            "public_quality": n,
            "public_price": n,
            "public_share": n,
            "played": 1,
            "time_left": 1,
        }
        ends = np.cumsum(list(sizes.values()))
        return {name: slice(int(end - size), int(end)) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    def describe(self) -> str:
        """One line per part of the vector."""
        text = {
            "identity": "which provider this is (one-hot)",
            "available": "1 for each level that exists",
            "quality_curve": "own quality per level, linear; 0 where a level does not exist, as in the next two",
            "price_curve": "own list price per level, log scale",
            "cost_curve": "own cost per level, log scale",
            "last_action": "own last action, each part scaled to [-1, 1]",
            "last_profit": "own profit of the last round, linear",
            "public_quality": "every provider's quality last round, linear",
            "public_price": "every provider's price or bid last round, log scale",
            "public_share": "every provider's share of users last round",
            "played": "1 once a round has been played; before, all of last round is 0",
            "time_left": "share of the episode that is left",
        }
        return "\n".join(f"[{s.start:>3}:{s.stop:>3}] {name:<15} {text[name]}" for name, s in self.slices.items())

    @property
    def size(self) -> int:
        """d: length of an observation."""
        return self.slices["time_left"].stop

    @property
    def private_size(self) -> int:
        """Length of the private block."""
        return self.slices["public_quality"].start

    @property
    def state_size(self) -> int:
        """Length of the global state: every private block but its identity, then the public block."""
        n = self.config.market.num_providers
        return n * (self.private_size - n) + self.size - self.private_size

    @cached_property
    def _money(self) -> tuple[float, float]:
        table = self.config.table
        amounts = np.abs(np.concatenate([table.price.ravel(), table.cost.ravel(), self.config.market.price.ravel()]))
        amounts = amounts[np.isfinite(amounts) & (amounts > 0)]
        return (float(amounts.min()), float(amounts.max())) if amounts.size else (1.0, 1.0)

    @cached_property
    def _quality_scale(self) -> float:
        return float(np.nanmax(np.abs(self.config.table.quality))) or 1.0

    @cached_property
    def _profit_scale(self) -> float:
        table = self.config.table
        # Nobody can be paid more than the largest price, bid or settled quality, nor lose more than cost and rivals' score.
        amounts = np.concatenate([np.abs(x).ravel() for x in (table.quality, table.claim, table.price, table.cost)])
        return 2.0 * float(np.nanmax(amounts)) + abs(self.config.market.outside_value) or 1.0

    def money(self, x: Array) -> Array:
        """USD/query on the symmetric log scale."""
        return symmetric_log(x, *self._money)

    @cached_property
    def _static(self) -> Array:
        """`[n, private_size]` float32: what does not change from round to round, zeros elsewhere."""
        market = self.config.market
        block = np.zeros((market.num_providers, self.private_size), np.float32)
        parts = {
            "identity": np.eye(market.num_providers),
            "available": market.available,
            "quality_curve": market.quality / self._quality_scale,
            "price_curve": self.money(market.price),
            "cost_curve": self.money(market.cost),
        }
        for name, values in parts.items():
            block[:, self.slices[name]] = np.nan_to_num(values)
        return block

    def blocks(self, last: Round | None, time_left: float) -> tuple[Array, Array, Array]:
        """Private `[n, private_size]`, public `[n, size - private_size]` as each provider may see it, and the public block `[...]` in full."""
        n = self.config.market.num_providers
        private = self._static.copy()
        public = np.zeros(self.size - self.private_size, np.float32)
        seen = np.zeros((n, len(public)), np.float32)
        if last is not None:
            private[:, self.slices["last_action"]] = last.action
            private[:, self.slices["last_profit"]] = np.clip(last.profit / self._profit_scale, -1.0, 1.0)[:, None]
            np.concatenate(
                [np.clip(last.quality / self._quality_scale, -1.0, 1.0), np.clip(self.money(last.price), -1.0, 1.0), last.share, [1.0]],
                out=public[:-1],
                casting="same_kind",
            )
        public[-1] = time_left
        seen[:] = public
        information = self.config.information
        if information != "full":
            # Own entries stay; of the rivals' only what is public does.
            hidden = ~np.eye(n, dtype=bool)
            seen[:, :n][hidden] = 0.0
            seen[:, 2 * n : 3 * n][hidden] = 0.0
            if information == "own":
                seen[:, n : 2 * n][hidden] = 0.0
        return private, seen, public

    def observations(self, last: Round | None, time_left: float) -> Array:
        """`[n, size]` float32 in [-1, 1]."""
        private, seen, _ = self.blocks(last, time_left)
        return np.concatenate([private, seen], axis=1)

    def state(self, last: Round | None, time_left: float) -> Array:
        """`[state_size]` float32 in [-1, 1]: everything, whatever providers may see; for centralised critics."""
        private, _, public = self.blocks(last, time_left)
        return np.concatenate([private[:, self.config.market.num_providers :].ravel(), public])
