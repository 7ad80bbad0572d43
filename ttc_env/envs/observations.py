"""What a provider sees: a bounded float32 vector, written down once here, as a list of blocks.

An observation is a *private* part, one per provider, followed by a *public* part, the same for all.
Every entry lies in [-1, 1].

Money spans four orders of magnitude in one market, so prices and costs are shown on a symmetric log
scale, sign(x) log(1 + |x| / x_min) / log(1 + x_max / x_min), with x_min and x_max the smallest and
largest non-zero amounts that any provider could ask or pay; quality and profit are linear, as
shares of the largest possible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ttc_env.envs.config import EnvConfig
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array

if TYPE_CHECKING:
    from ttc_env.envs.tables import RoundTables


@dataclass(frozen=True)
class Block:
    """One part of the vector. A backend writes by `source`, and asks for no name.

    `constant` and `action` blocks are tables, made by `values`; of `round` blocks the name in
    `values` says which row of the round they show; `world` blocks are written by
    `ttc_env.envs.world`. Within the private and within the public part blocks stand in the order
    constant, action, round, world, clock.
    """

    name: str
    size: str  # "one"; or "providers", "levels", "parts" (of an action): one entry each
    whose: str  # "own": private; "all": public, an entry per provider; "clock": public, one entry
    source: str  # "constant", "action" (as played), "round" (what it came to), "world", "clock"
    text: str
    # constant: tables -> [G, n, size]; action: tables -> [rows, n, entries]; round: "share" or
    # "profit"
    values: Callable[[RoundTables], Array] | str = ""
    hidden_under: tuple[str, ...] = ()  # under which `information` rivals' entries are zero
    moves: str = ""  # is there where this moves, of `EnvConfig.moves`; always by default


def _constant(field: str, scaled: Callable[[Array, dict[str, Array]], Array]) -> Any:
    """`[G, n, m]`: a table of the markets, scaled; 0 where a level does not exist."""

    def values(tables: RoundTables) -> Array:
        scale = {name: x[:, None, None] for name, x in tables.scales.items()}
        table = np.moveaxis(getattr(tables.batch, field), 2, 0).astype(np.float64)
        return np.nan_to_num(scaled(table, scale))

    return values


def _linear(table: Array, scale: dict[str, Array]) -> Array:
    return table / scale["quality"]


def _log(table: Array, scale: dict[str, Array]) -> Array:
    return np.asarray(symmetric_log(table, scale["smallest"], scale["largest"]))


def _identity(tables: RoundTables) -> Array:
    n = tables.batch.num_providers
    return np.broadcast_to(np.eye(n), (len(tables.batch), n, n))


def _action(tables: RoundTables) -> Array:
    grid = tables.config.grid
    parts = np.unravel_index(tables.as_played, grid)
    return np.stack([2.0 * part / max(k - 1, 1) - 1.0 for part, k in zip(parts, grid, strict=True)])


def _quality(tables: RoundTables) -> Array:
    scale = tables.per_action(tables.scales["quality"])
    return np.clip(tables.offer.seen / scale, -1.0, 1.0)[None]


def _price(tables: RoundTables) -> Array:
    ends = (tables.per_action(tables.scales[name]) for name in ("smallest", "largest"))
    return np.clip(symmetric_log(tables.offer.price, *ends), -1.0, 1.0)[None]


BLOCKS = (
    Block(
        "identity", "providers", "own", "constant", "which provider this is (one-hot)", _identity
    ),
    Block(
        "available", "levels", "own", "constant", "1 for each level that exists",
        _constant("available", lambda table, scale: table),
    ),
    Block(
        "quality_curve", "levels", "own", "constant",
        "own quality per level, linear; 0 where a level does not exist, as in the next two",
        _constant("quality", _linear),
    ),
    Block(
        "price_curve", "levels", "own", "constant", "own list price per level, log scale",
        _constant("price", _log),
    ),
    Block(
        "cost_curve", "levels", "own", "constant", "own cost per level, log scale",
        _constant("cost", _log),
    ),
    Block(
        "last_action", "parts", "own", "action",
        "own last action, each part scaled to [-1, 1]", _action,
    ),
    Block("last_profit", "one", "own", "round", "own profit of the last round, linear", "profit"),
    Block(
        "price_wait", "one", "own", "world",
        "rounds till the own price may be changed, as a share of price_period", moves="price",
    ),
    Block(
        "public_quality", "providers", "all", "action",
        "every provider's quality as seen last round, linear", _quality, ("prices", "own"),
    ),
    Block(
        "public_price", "providers", "all", "action",
        "every provider's price or bid last round, log scale", _price, ("own",),
    ),
    Block(
        "public_share", "providers", "all", "round",
        "every provider's share of users last round", "share", ("prices", "own"),
    ),
    Block(
        "cost_factor", "providers", "all", "world",
        "every provider's factor x on costs in the coming round, log x / (1 + |log x|)",
        "", ("prices", "own"), "cost",
    ),
    Block(
        "present", "providers", "all", "world",
        "1 for each provider that is there in the coming round", "", ("own",), "presence",
    ),
    Block(
        "arrivals", "one", "clock", "world",
        "the coming round's users as a factor x on `users`, log x / (1 + |log x|)", moves="demand",
    ),
    Block(
        "played", "one", "clock", "clock",
        "1 once a round has been played; before, all of last round is 0",
    ),
    Block("time_left", "one", "clock", "clock", "share of the episode that is left"),
)  # fmt: skip
"""The vector, from its start to its end; an environment has those that always are there, and those
of what moves in it."""


def blocks(whose: str, source: str) -> tuple[Block, ...]:
    """Those of one kind, in the vector's order."""
    return tuple(block for block in BLOCKS if (block.whose, block.source) == (whose, source))


def symmetric_log(x: Any, smallest: Any, largest: Any, xp: Any = np) -> Any:
    """sign(x) log(1 + |x| / smallest) / log(1 + largest / smallest): into [-1, 1] for |x| <=
    largest. Any shape; xp is the array module.
    """
    return xp.sign(x) * xp.log1p(xp.abs(x) / smallest) / xp.log1p(largest / smallest)


def scales(
    offer: Offer, list_price: Array, outside_value: Array, beyond: Any = 0.0
) -> dict[str, Array]:
    """What observations of G markets are measured in, `[G]` each, USD/query: `quality`, `profit`,
    and `smallest` and `largest` amounts of money.

    Args:
        offer: `[n, G, a]`, every action's, NaN where it does not exist.
        list_price: `[n, G, m]`, NaN likewise.
        outside_value: `[G]`.
        beyond: USD/query, by which payments may exceed all of these (`Rule.most_beyond`).
    """
    quality, price, cost = offer.quality, offer.price, offer.cost
    paid, penalty = offer.paid, offer.penalty + np.zeros_like(cost)

    def largest(*tables: Array) -> Array:
        return np.max([np.nanmax(np.abs(table), axis=(0, 2)) for table in tables], axis=0)

    def or_one(x: Array) -> Array:
        return np.where(x > 0, x, 1.0)

    money = np.abs(np.concatenate([price, cost, list_price], axis=2))
    money = np.where(money > 0, money, np.nan)  # a comparison with NaN is False
    none = np.atleast_1d(np.isnan(money).all(axis=(0, 2)))
    # Nobody can be paid more than the largest price, bid or settled quality, nor lose more than
    # cost, fine and rivals' score.
    amounts = largest(quality, offer.seen, price, paid, cost)
    profit = 2.0 * amounts + largest(penalty) + np.abs(outside_value) + beyond
    money = np.where(none[:, None], 1.0, money)
    return {
        "quality": or_one(largest(quality)),
        "profit": or_one(profit),
        "smallest": np.nanmin(money, axis=(0, 2)),
        "largest": np.nanmax(money, axis=(0, 2)),
    }


@dataclass(frozen=True, eq=False)
class ObservationLayout:
    """Where each number stands, and its scale."""

    config: EnvConfig

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}  # the rest is worked out again, and blocks hold functions

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Those that this environment has."""
        return tuple(block for block in BLOCKS if block.moves in ("", *self.config.moves))

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Name of each block -> its place in the observation vector."""
        counts = {
            "one": 1,
            "providers": self.config.market.num_providers,
            "levels": self.config.market.num_levels,
            "parts": len(self.config.grid),
        }
        sizes = [counts[block.size] for block in self.blocks]
        ends = np.cumsum(sizes)
        return {
            block.name: slice(int(end) - size, int(end))
            for block, size, end in zip(self.blocks, sizes, ends, strict=True)
        }

    def describe(self) -> str:
        """One line per block of the vector."""
        return "\n".join(
            f"[{at.start:>3}:{at.stop:>3}] {block.name:<15} {block.text}"
            for block, at in zip(self.blocks, self.slices.values(), strict=True)
        )

    @property
    def size(self) -> int:
        """d: length of an observation."""
        return self.slices[self.blocks[-1].name].stop

    @property
    def private_size(self) -> int:
        """Length of the private part."""
        shown = (block.name for block in self.blocks if block.whose != "own")
        return self.slices[next(shown)].start

    @property
    def constant_size(self) -> int:
        """How much of the private part never changes."""
        return self.slices[blocks("own", "constant")[-1].name].stop

    @property
    def public_size(self) -> int:
        """Length of the public part."""
        return self.size - self.private_size

    @property
    def world_rows(self) -> tuple[int, int]:
        """How many entries of the public and of the private part tell of a world that moves."""
        world = [block for block in self.blocks if block.source == "world"]
        at = self.slices
        sizes = [
            (block.whose == "own", at[block.name].stop - at[block.name].start) for block in world
        ]
        private = sum(size for own, size in sizes if own)
        return sum(size for _, size in sizes) - private, private

    @property
    def state_size(self) -> int:
        """Length of the global state: every private part but its identity, then the public part."""
        n = self.config.market.num_providers
        return n * (self.private_size - n) + self.public_size

    @cached_property
    def hidden(self) -> np.ndarray | None:
        """`[n, d]` bool: which entries of each provider's observation are zero because they are its
        rivals' business; None if none is.
        """
        n = self.config.market.num_providers
        mask = np.zeros((n, self.size), bool)
        for block in self.blocks:
            if self.config.information in block.hidden_under:
                mask[:, self.slices[block.name]] = ~np.eye(n, dtype=bool)
        return mask if mask.any() else None


@dataclass(frozen=True, eq=False)
class BatchObservation:
    """What all providers of all environments see, without repeating what they share. float32, in
    [-1, 1]; NumPy arrays or torch tensors.

    `full()` writes the vectors out as the PettingZoo environment shows them. The three parts, in
    the order of `ObservationLayout`:
    """

    # [G, n, s]: identity, existing levels, own curves; environment b has market b modulo G
    static: Any
    # [num_envs, n, k + 1]: own last action, own last profit; one more where prices hold
    own: Any
    # [num_envs, p]: everybody's quality, price and share, what is known of a world that moves, then
    # 1 once a round has been played, and the time left
    public: Any
    # [n, d] bool: what `full` shows to nobody but whose it is; None where nothing is hidden.
    # `public` has it all
    hidden: Any = None

    @classmethod
    def first(
        cls, layout: ObservationLayout, static: Any, num_envs: int, hidden: Any
    ) -> BatchObservation:
        """Before the first round: nothing but the constants, and all of the time left."""
        public = _zeros(static, (layout.public_size, num_envs))
        public[-1] = 1.0
        changing = layout.private_size - layout.constant_size
        own = _zeros(static, (num_envs, static.shape[1], changing))
        return cls(static, own, public.T, hidden)

    def copy(self) -> BatchObservation:
        """In memory of its own, laid out alike. NumPy."""
        return replace(self, own=self.own.copy(order="K"), public=self.public.copy(order="K"))

    def full(self) -> Any:
        """`[num_envs, n, d]`: every provider's observation vector."""
        b, n, own = self.own.shape
        s, d = self.static.shape[2], self.static.shape[2] + own + self.public.shape[1]
        out = _zeros(self.static, (b, n, d))
        out[:, :, :s] = self._each_static()
        out[:, :, s : s + own] = self.own
        out[:, :, s + own :] = self.public[:, None, :]
        if self.hidden is not None:
            if isinstance(out, np.ndarray):
                out[:, self.hidden] = 0.0
            else:
                out.masked_fill_(self.hidden, 0.0)  # an index would have to be counted, on the host
        return out

    def of(self, provider: int) -> Any:
        """`[num_envs, d]`: one provider's rows of `full()`, without those of the others."""
        at = slice(provider, provider + 1)
        hidden = None if self.hidden is None else self.hidden[at]
        alone = replace(self, static=self.static[:, at], own=self.own[:, at], hidden=hidden)
        return alone.full()[:, 0]

    def state(self) -> Any:
        """`[num_envs, state_size]`: the global state, as `MarketEnv.state` gives it."""
        b, n, own = self.own.shape
        s = self.static.shape[2] - n  # providers are told apart by their place
        private = _zeros(self.static, (b, n, s + own))
        private[:, :, :s] = self._each_static()[:, :, n:]
        private[:, :, s:] = self.own
        out = _zeros(self.static, (b, n * (s + own) + self.public.shape[1]))
        out[:, : n * (s + own)] = private.reshape(b, -1)
        out[:, n * (s + own) :] = self.public
        return out

    def _each_static(self) -> Any:
        """`static` of each environment's market, `[num_envs or 1, n, s]`."""
        b, g = len(self.own), len(self.static)
        if g == 1:
            return self.static
        times = -(-b // g), 1, 1
        return (
            np.tile(self.static, times)
            if isinstance(self.static, np.ndarray)
            else self.static.repeat(*times)
        )[:b]


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    return np.zeros(shape, np.float32) if isinstance(like, np.ndarray) else like.new_zeros(shape)
