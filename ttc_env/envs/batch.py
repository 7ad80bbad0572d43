"""One round of many environments, on NumPy arrays or torch tensors: actions in, rewards, shares and
what observations show out.

Inside, arrays are columns, `[n, num_envs]`, providers first. `BatchRounds.play` is a pure function
of the actions (under sampled demand also of the generator), so that it can be compiled:
`torch.compile(env.rounds.play)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ttc_env.envs import draws
from ttc_env.envs.tables import RoundTables
from ttc_env.game import rounds
from ttc_env.game.mechanisms import Offer
from ttc_env.game.types import Market


class Offers(NamedTuple):
    """What providers put on the table this round; entries a mechanism does not use are None."""

    index: Any  # [n, b] flat entries of the tables
    attraction: Any  # [n, b] exp(beta (V - V_0)) in some common unit; market
    outside: Any  # [b] or a number: 1 in that unit; market
    score: Any  # [n, b] USD/query; auction
    worth: Any  # [n, b] USD/query; auction
    gain: Any  # [n, b] USD, profit if all users came; market
    price: Any  # [n, b] USD/query where it is dialled, else None: the tables have it
    dial: Any  # [k, n, b] the actions in [-1, 1] where they are continuous, else None


class Played(NamedTuple):
    """A round. All columns."""

    reward: Any  # [n, b] USD
    share: Any  # [n, b] of users: expected, or realised under sampled demand
    index: Any  # [n, b] flat entries of the tables
    price: Any  # [n, b] USD/query where it is dialled, else None
    dial: Any  # [k, n, b] or None
    served: Any  # [n, b] users, under sampled demand, else None
    correct: Any  # [n, b] right answers, under sampled demand with accuracy curves, else None


@dataclass(frozen=True, eq=False)
class Lookup:
    """The tables that rounds use, flat and on their device. 1-D tables have one entry per
    (provider, market, action).
    """

    attraction: Any = None
    fraction: Any = None
    exponent: Any = None
    gain: Any = None
    score: Any = None
    worth: Any = None
    quality: Any = None
    claim: Any = None
    settled: Any = None
    cost: Any = None
    base: Any = None
    accuracy: Any = None
    quality_seen: Any = None
    price_seen: Any = None
    action_seen: tuple[Any, ...] = ()


class BatchRounds:
    """Plays rounds for environments that share rules and differ, perhaps, in their markets."""

    def __init__(
        self, tables: RoundTables, num_envs: int, backend: str = "numpy", device: Any = None
    ):
        self.tables, self.config, self.num_envs = tables, tables.config, num_envs
        self.backend, self.device = backend, device
        config, batch = tables.config, tables.batch
        self.n = batch.num_providers
        self.grid = config.grid
        self.dialled = config.actions == "continuous" and len(config.mechanism.tariff.choices) > 1
        if backend == "torch":
            torch_module()
            if tables.kind == "other":
                raise ValueError(
                    f"mechanism {config.mechanism.name!r} has its own rules, which run on NumPy"
                    " only; use backend='numpy'"
                )
        if config.actions == "continuous" and tables.kind == "other":
            raise ValueError(
                "a mechanism with rules of its own plays discrete actions only; use"
                " actions='discrete'"
            )
        if config.demand == "sampled" and tables.kind == "other":
            raise ValueError(
                "sampled demand needs the logit market or the second-score auction; use"
                " demand='expected'"
            )
        self.table = self._lookup()
        # Where each environment looks: its provider's row, its market's columns.
        start = np.arange(self.n)[:, None] * (len(batch) * tables.num_actions) + np.atleast_1d(
            tables.columns(num_envs)
        )
        self.start = self.put(start)  # [n, 1] or [n, num_envs]
        market = np.arange(num_envs) % len(batch)
        one = len(batch) == 1
        self.beta = self.put(batch.beta if one else batch.beta[market])  # [1] or [num_envs]
        self.outside_value = self.put(batch.outside_value if one else batch.outside_value[market])
        self.profit_scale = self.put(tables.profit_scale if one else tables.profit_scale[market])
        # [n, 1] or [n, num_envs]
        self.level_counts = self.put(tables.level_counts if one else tables.level_counts[:, market])
        choices = config.mechanism.tariff.choices
        low_choice, high_choice = (
            float(np.log(config.mechanism.tariff.multiple(choices[k]))) if self.dialled else 0.0
            for k in (0, -1)
        )
        self._dial_range = low_choice, high_choice
        low, high = (
            (tables.scales[name] if one else tables.scales[name][market])
            for name in ("smallest", "largest")
        )
        self._money = self.put(low), self.put(np.log1p(high / low))

    @property
    def xp(self) -> ModuleType:
        """The array module."""
        return np if self.backend == "numpy" else torch_module()

    def put(self, array: Any) -> Any:
        """An array as this backend's own, on its device."""
        if self.backend == "numpy":
            return np.asarray(array)
        return self.xp.tensor(np.ascontiguousarray(array), device=self.device)

    def _lookup(self) -> Lookup:
        tables, offer = self.tables, self.tables.offer
        wanted: dict[str, Any] = {"quality_seen": tables.quality_seen}
        if self.dialled:
            wanted |= {
                "quality": offer.quality,
                "claim": offer.claim,
                "cost": offer.cost,
                "base": tables.list_base,
            }
            if tables.kind == "auction":
                wanted |= {"settled": tables.settled}
        elif tables.kind == "logit":
            fraction, exponent = tables.split
            wanted |= (
                {"attraction": tables.attraction}
                if tables.narrow
                else {"fraction": fraction, "exponent": exponent}
            )
            wanted |= {"gain": tables.gain}
        elif tables.kind == "auction":
            wanted |= {"score": offer.score, "worth": tables.worth}
        if not self.dialled:
            wanted["price_seen"] = tables.price_seen
        if self.config.demand == "sampled" and tables.batch.accuracy is not None:
            n, g = self.n, len(tables.batch)
            accuracy = np.moveaxis(tables.batch.accuracy, 2, 1)  # [n, G, m]
            wanted["accuracy"] = np.take_along_axis(
                accuracy, tables.level.reshape(n, g, -1), axis=2
            )
        flat = {name: self.put(np.ascontiguousarray(x).reshape(-1)) for name, x in wanted.items()}
        return Lookup(
            **flat, action_seen=tuple(self.put(part.reshape(-1)) for part in tables.action_seen)
        )

    # --- one round ---

    def take(self, table: Any, index: Any) -> Any:
        return table.take(index, mode="clip") if self.backend == "numpy" else table[index]

    def play(self, actions: Any, rng: Any = None, columns: slice = slice(None)) -> Played:
        """One round.

        Args:
            actions: `[b, n]` or `[b, n, k]`, in their space (see `checked`).
            rng: the generator, under sampled demand.
            columns: which environments these are, where not all.
        """
        offers = (
            self._dialled_offers(actions, columns)
            if self.dialled
            else self._tabulated_offers(actions, columns)
        )
        if self.tables.kind == "other":
            return self._play_by_mechanism(offers, columns)
        users, sampled = self.config.users, self.config.demand == "sampled"
        if self.tables.kind == "logit":
            share, outside = rounds.logit_shares(offers.attraction, offers.outside)
            served = draws.choices(share, outside, users, rng) if sampled else None
            share = share if served is None else served / users
            reward = offers.gain * share
        else:
            share, charge, _ = rounds.auction_shares(
                offers.score, self._of(self.outside_value, columns), self.xp
            )
            served = draws.winners(share, users, rng) if sampled else None
            share = share if served is None else served / users
            reward = share * (users * (offers.worth - charge)) + 0.0  # no negative zeros
        known = served is not None and self.table.accuracy is not None
        correct = (
            draws.answers(served, self.take(self.table.accuracy, offers.index), rng)
            if known
            else None
        )
        return Played(reward, share, offers.index, offers.price, offers.dial, served, correct)

    def _of(self, x: Any, columns: slice) -> Any:
        """The environments' own entries of `[..., 1]` or `[..., num_envs]`."""
        return x if x.shape[-1] == 1 else x[..., columns]

    def index(self, actions: Any, columns: slice = slice(None)) -> Any:
        """`[n, b]` entries of the tables that integer actions ask for."""
        # A narrower type could not hold the entry.
        actions = (
            actions.astype(np.int64, copy=False)
            if self.backend == "numpy"
            else actions.to(self.xp.int64)
        )
        parts = (
            [actions] if len(self.grid) == 1 else [actions[..., j] for j in range(len(self.grid))]
        )
        flat = parts[0].T
        for part, size in zip(parts[1:], self.grid[1:], strict=True):
            flat = flat * size + part.T
        return flat + self._of(self.start, columns)

    def _unit_parts(self, actions: Any, columns: slice) -> tuple[Any, Any]:
        """Continuous actions as dials `[k, n, b]` in [-1, 1], and their flat entries: levels and
        claims in equal bins, the nearest price.
        """
        dial = actions.reshape(*actions.shape[:2], -1)
        dial = dial.astype(np.float64) if self.backend == "numpy" else dial.to(self.xp.float64)
        dial = dial.clip(-1.0, 1.0)
        dial = dial.transpose(2, 1, 0) if self.backend == "numpy" else dial.permute(2, 1, 0)
        unit = (dial + 1.0) / 2.0
        flat = None
        for j, size in enumerate(self.grid):
            count = (
                self._of(self.level_counts, columns)
                if j == 0
                else self.xp.full_like(self.level_counts[:, :1], size)
            )
            whole = unit[j] * count
            whole = whole.astype(np.int64) if self.backend == "numpy" else whole.to(self.xp.int64)
            part = self.xp.minimum(whole, count - 1)
            flat = part if flat is None else flat * size + part
        return dial, flat + self._of(self.start, columns)

    def _tabulated_offers(self, actions: Any, columns: slice) -> Offers:
        if self.config.actions == "continuous":
            dial, index = self._unit_parts(actions, columns)
        else:
            dial, index = None, self.index(actions, columns)
        table, take = self.table, self.take
        attraction = outside = score = worth = gain = None
        if self.tables.kind == "logit":
            gain = take(table.gain, index)
            if self.tables.narrow:
                attraction, outside = take(table.attraction, index), 1.0
            else:
                attraction, outside = rounds.attractions(
                    take(table.fraction, index), take(table.exponent, index), self.xp
                )
        elif self.tables.kind == "auction":
            score, worth = take(table.score, index), take(table.worth, index)
        return Offers(index, attraction, outside, score, worth, gain, None, dial)

    def _dialled_offers(self, actions: Any, columns: slice) -> Offers:
        dial, index = self._unit_parts(actions, columns)
        table, take, xp = self.table, self.take, self.xp
        price = take(table.base, index) * rounds.price_on_dial(
            dial[1], self._dial_range[0], self._dial_range[1], xp
        )
        score = take(table.claim, index) - price
        cost = take(table.cost, index)
        if self.tables.kind == "auction":
            return Offers(
                index, None, None, score, take(table.settled, index) - cost, None, price, dial
            )
        z = self._of(self.beta, columns) * (score - self._of(self.outside_value, columns))
        top = z[0]
        for row in z[1:]:
            top = xp.maximum(top, row)
        top = xp.maximum(top, xp.zeros_like(top))
        return Offers(
            index,
            xp.exp(z - top),
            xp.exp(-top),
            None,
            None,
            self.config.users * (price - cost),
            price,
            dial,
        )

    def _play_by_mechanism(self, offers: Offers, columns: slice) -> Played:
        offer, market = self.offer(offers.index, None), self.market(columns)
        outcome = self.config.mechanism.play(offer, market)
        return Played(
            self.config.users * outcome.utility,
            outcome.share,
            offers.index,
            None,
            offers.dial,
            None,
            None,
        )

    # --- what was played ---

    def seen(self, played: Played, columns: slice = slice(None)) -> tuple[list[Any], list[Any]]:
        """float32 rows `[n, b]` of the public block (quality, price, share) and of own blocks
        (action parts, profit).
        """
        xp, table = self.xp, self.table
        if played.price is None:
            price = self.take(table.price_seen, played.index)
        else:
            smallest, span = (self._of(x, columns) for x in self._money)
            price = xp.sign(played.price) * xp.log1p(xp.abs(played.price) / smallest) / span
        if played.dial is None:
            parts = [self.take(part, played.index) for part in table.action_seen]
        else:
            parts = list(played.dial)
        return [self.take(table.quality_seen, played.index), price, played.share], [
            *parts,
            played.reward * self._of(self.profit_scale, columns),
        ]

    def show(self, played: Played, columns: slice, public: np.ndarray, own: np.ndarray) -> None:
        """`seen`, written into the columns of `public` `[3 n + 2, num_envs]` and `own` `[k + 1, n,
        num_envs]`. NumPy.
        """
        n, table = self.n, self.table
        if self.config.actions == "continuous":
            shown, mine = self.seen(played, columns)
            for j, rows in enumerate(shown):
                public[j * n : (j + 1) * n, columns] = rows
            for j, rows in enumerate(mine):
                own[j, :, columns] = rows
            return
        # The same, gathered straight into place.
        table.quality_seen.take(played.index, mode="clip", out=public[:n, columns])
        table.price_seen.take(played.index, mode="clip", out=public[n : 2 * n, columns])
        public[2 * n : 3 * n, columns] = played.share
        for j, part in enumerate(table.action_seen):
            part.take(played.index, mode="clip", out=own[j, :, columns])
        np.multiply(
            played.reward,
            self._of(self.profit_scale, columns),
            out=own[-1, :, columns],
            casting="same_kind",
        )

    def offer(self, index: np.ndarray, price: np.ndarray | None) -> Offer:
        """The offers `[n, b]` behind entries of the tables; price where it was dialled.

        NumPy, whatever the backend.
        """
        table = self.tables.offer
        quality, claim, listed, cost = (
            x.reshape(-1)[index] for x in (table.quality, table.claim, table.price, table.cost)
        )
        return Offer(quality, claim, listed if price is None else price, cost)

    def market(self, columns: slice = slice(None)) -> Market:
        """beta and V_0 of each environment, in the place of a market: all that allocation and
        payment rules read of it.
        """
        batch = self.tables.batch
        at = (np.arange(self.num_envs) % len(batch))[columns]
        return _Users(batch.beta[at], batch.outside_value[at])  # type: ignore[return-value]


class _Users(NamedTuple):
    beta: Any
    outside_value: Any


def torch_module() -> ModuleType:
    """torch.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "backend='torch' needs torch: pip install 'ttc-env[train]', or torch alone"
        ) from error
    return torch
