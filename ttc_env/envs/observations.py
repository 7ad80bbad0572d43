"""What a provider sees: a bounded float32 vector, laid out once here and documented by
`ObservationLayout.describe()`.

An observation is a *private* block, one per provider, followed by a *public* block, the same for
all. Every entry lies in [-1, 1].

Money spans four orders of magnitude in one market, so prices and costs are shown on a symmetric log
scale, sign(x) log(1 + |x| / x_min) / log(1 + x_max / x_min), with x_min and x_max the smallest and
largest non-zero amounts that any provider could ask or pay; quality and profit are linear, as
shares of the largest possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ttc_env.envs.config import EnvConfig
from ttc_env.game.types import Array


def symmetric_log(x: Array, smallest: Any, largest: Any) -> Array:
    """sign(x) log(1 + |x| / smallest) / log(1 + largest / smallest): into [-1, 1] for |x| <=
    largest. Any shape.
    """
    return np.sign(x) * np.log1p(np.abs(x) / smallest) / np.log1p(largest / smallest)


def scales(
    quality: Array, claim: Array, price: Array, cost: Array, list_price: Array, outside_value: Array
) -> dict[str, Array]:
    """What observations of G markets are measured in, `[G]` each, USD/query: `quality`, `profit`,
    and `smallest` and `largest` amounts of money.

    Args:
        quality, claim, price, cost: `[n, G, a]`, every action's offer, NaN where it does not exist.
        list_price: `[n, G, m]`, NaN likewise.
        outside_value: `[G]`.
    """

    def largest(*tables: Array) -> Array:
        return np.max([np.nanmax(np.abs(table), axis=(0, 2)) for table in tables], axis=0)

    def or_one(x: Array) -> Array:
        return np.where(x > 0, x, 1.0)

    money = np.abs(np.concatenate([price, cost, list_price], axis=2))
    money = np.where(money > 0, money, np.nan)  # a comparison with NaN is False
    none = np.atleast_1d(np.isnan(money).all(axis=(0, 2)))
    # Nobody can be paid more than the largest price, bid or settled quality, nor lose more than
    # cost and rivals' score.
    profit = 2.0 * largest(quality, claim, price, cost) + np.abs(outside_value)
    money = np.where(none[:, None], 1.0, money)
    return {
        "quality": or_one(largest(quality)),
        "profit": or_one(profit),
        "smallest": np.nanmin(money, axis=(0, 2)),
        "largest": np.nanmax(money, axis=(0, 2)),
    }


def hidden(n: int, information: str, start: int, size: int) -> np.ndarray | None:
    """`[n, size]` bool: which entries of each provider's observation are zero because they are its
    rivals' business; None if none is.

    Args:
        information: `"full"`, `"prices"` or `"own"`.
        start: where the public block starts.
        size: length of an observation.
    """
    if information == "full":
        return None
    mask, rivals = np.zeros((n, size), bool), ~np.eye(n, dtype=bool)
    for k, name in enumerate(("quality", "price", "share")):
        if name != "price" or information == "own":
            mask[:, start + k * n : start + (k + 1) * n] = rivals
    return mask


@dataclass(frozen=True, eq=False)
class ObservationLayout:
    """Where each number stands, and its scale."""

    config: EnvConfig

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Name of each part -> its place in the observation vector."""
        n, m, k = (
            self.config.market.num_providers,
            self.config.market.num_levels,
            len(self.config.grid),
        )
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
        return {
            name: slice(int(end - size), int(end))
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }

    def describe(self) -> str:
        """One line per part of the vector."""
        text = {
            "identity": "which provider this is (one-hot)",
            "available": "1 for each level that exists",
            "quality_curve": (
                "own quality per level, linear; 0 where a level does not exist, as in the next two"
            ),
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
        return "\n".join(
            f"[{s.start:>3}:{s.stop:>3}] {name:<15} {text[name]}" for name, s in self.slices.items()
        )

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
        """Length of the global state: private blocks without identities, then the public block."""
        n = self.config.market.num_providers
        return n * (self.private_size - n) + self.size - self.private_size
