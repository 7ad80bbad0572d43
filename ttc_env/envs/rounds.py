"""One round of many environments, on NumPy arrays or torch tensors: actions in, shares, rewards and
what observations show out.

Inside, arrays are columns, `[n, num_envs]`, providers first. `BatchRounds.play` is a pure function
of the actions (under sampled demand also of the generator), so that it can be compiled:
`torch.compile(env.rounds.play)`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ttc_env.envs.observations import blocks, symmetric_log
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage, play_present
from ttc_env.game import draws
from ttc_env.game.rules.base import Tabulated, Users
from ttc_env.game.tariffs import Offer, Terms


class Played(NamedTuple):
    """A round as it was played. All columns."""

    reward: Any  # [n, b] USD
    share: Any  # [n, b] of users: expected, or realised under sampled demand
    index: Any  # [n, b] flat entries of the tables
    price: Any = None  # [n, b] USD/query where prices are continuous, else None: the tables have it
    box: Any = None  # [k, n, b] continuous actions in [-1, 1], else None
    served: Any = None  # [n, b] users, under sampled demand, else None
    correct: Any = (
        None  # [n, b] right answers, under sampled demand with accuracy curves, else None
    )
    paid: Any = None  # [n, b] USD/query that is billed where that is not `price`, else None
    caught: Any = None  # [n, b] lies found, under sampled demand where lies can be told, else None
    stage: Stage | None = None  # what it was played in, where the world moves
    asked: Any = None  # [n, b] everybody's price as `Stage.held` has it, where prices hold

    def kept(self) -> Played:
        """The same in memory of its own. NumPy. (Stages are never written to.)"""
        kept: list[Any] = [x.copy() if isinstance(x, np.ndarray) else x for x in self]
        return Played(*kept)


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
        self.rule, self.tariff = config.mechanism.rule, config.mechanism.tariff
        self.arrivals, self.sampled = config.users, config.demand == "sampled"
        if backend == "torch":
            torch_module()
        # Where each environment looks: its provider's row, its market's columns.
        start = np.arange(self.n)[:, None] * (len(batch) * tables.num_actions)
        self.start = self.put(start + np.atleast_1d(tables.columns(num_envs)))
        self._market = np.arange(num_envs) % len(batch)
        at = slice(None) if len(batch) == 1 else self._market
        # [1] or [num_envs]
        self._users = Users.of(batch).map(lambda x: self.put(x[at]))
        self.profit_scale = self.put(tables.profit_scale[at])
        # [n, 1] or [n, num_envs]
        self.level_counts = self.put(tables.level_counts[:, at])
        if config.continuous_prices or config.shocks is not None:
            self._money = tuple(self.put(tables.scales[k][at]) for k in ("smallest", "largest"))
        if config.continuous_prices:
            ends = (self.tariff.multiple(self.tariff.choices[k]) for k in (0, -1))
            self._log_low, self._log_high = (float(np.log(end)) for end in ends)
        self._lookup()

    def _lookup(self) -> None:
        """The tables that rounds use, on their device; 1-D, an entry per (provider, market,
        action).
        """
        tables = self.tables

        def flat(table: Any) -> Any:
            return self.put(np.ascontiguousarray(table).reshape(-1))

        self._numbers: dict[str, Any] | None = None
        self._offer: Offer | None = None
        self._terms: Terms = ()
        self._billed: Terms | None = None  # where a bill is not the price that users see
        if tables.numbers is not None:
            self._numbers = {name: flat(table) for name, table in tables.numbers.items()}
        else:
            self._offer = tables.offer.map(flat)
        if self.config.continuous_prices:
            seen, billed = tables.price_terms
            self._terms = tuple(map(flat, seen))
            self._billed = None if billed is seen else tuple(map(flat, billed))
        if self.config.shocks is not None:
            self._offer = tables.offer.map(flat)
            self._promise, self._action = flat(tables.promise), flat(tables.as_played)
        self._accuracy = None
        if self.sampled and tables.batch.accuracy is not None:
            shape = self.n, len(tables.batch), -1
            accuracy = np.moveaxis(tables.batch.accuracy, 2, 1)  # [n, G, m]
            at_level = np.take_along_axis(accuracy, tables.level.reshape(shape), axis=2)
            self._accuracy = flat(at_level)
        self._caught = self._fine = None
        if self.sampled and tables.caught is not None:
            self._caught, self._fine = flat(tables.caught), self.config.mechanism.misreports.fine
        # What observations show of an action to everybody, and to the provider itself.
        self.seen_by_all = tuple(map(flat, tables.seen_by_all))
        self.seen_by_one = tuple(map(flat, tables.seen_by_one))
        self._price_row = [block.name for block in blocks("all", "action")].index("public_price")

    @property
    def xp(self) -> ModuleType:
        """The array module."""
        return np if self.backend == "numpy" else torch_module()

    def host(self, array: Any) -> np.ndarray:
        """An array of this backend as NumPy's."""
        return np.asarray(array if self.backend == "numpy" else array.detach().cpu())

    def put(self, array: Any) -> Any:
        """An array as this backend's own, on its device."""
        if self.backend == "numpy":
            return np.asarray(array)
        return self.xp.tensor(np.ascontiguousarray(array), device=self.device)

    def users(self, columns: slice = slice(None)) -> Users:
        """The users of some environments, `[1]` or `[b]`."""
        return self._users.map(lambda x: self._of(x, columns))

    def markets(self, columns: slice = slice(None)) -> np.ndarray:
        """`[b]`: which of the G markets each environment plays."""
        return self._market[columns]

    def _of(self, x: Any, columns: slice) -> Any:
        """The environments' own entries of `[..., 1]` or `[..., num_envs]`."""
        return x if x.shape[-1] == 1 else x[..., columns]

    def take(self, table: Any, index: Any) -> Any:
        return table.take(index, mode="clip") if self.backend == "numpy" else table[index]

    # --- actions ----------------------------------------------------------------------------------

    def index(self, actions: Any, columns: slice = slice(None)) -> Any:
        """`[n, b]` entries of the tables that integer actions `[b, n]` or `[b, n, k]` ask for."""
        # A narrower type could not hold the entry.
        actions = self._as(actions, "int64")
        parts = (
            [actions] if len(self.grid) == 1 else [actions[..., j] for j in range(len(self.grid))]
        )
        flat = parts[0].T
        for part, size in zip(parts[1:], self.grid[1:], strict=True):
            flat = flat * size + part.T
        return flat + self._of(self.start, columns)

    def binned(self, actions: Any, columns: slice = slice(None)) -> tuple[Any, Any]:
        """Continuous actions as they are, `[k, n, b]` in [-1, 1], and the entries of the tables
        nearest to them: levels and reports in equal bins, the nearest price choice.
        """
        box = self._as(actions.reshape(*actions.shape[:2], -1), "float64").clip(-1.0, 1.0)
        box = box.transpose(2, 1, 0) if self.backend == "numpy" else box.permute(2, 1, 0)
        unit = (box + 1.0) / 2.0
        levels = self._of(self.level_counts, columns)
        flat = None
        for j, size in enumerate(self.grid):
            count = levels if j == 0 else self.xp.full_like(levels, size)
            part = self.xp.minimum(self._as(unit[j] * count, "int64"), count - 1)
            flat = part if flat is None else flat * size + part
        return box, flat + self._of(self.start, columns)

    def _as(self, array: Any, dtype: str) -> Any:
        if self.backend == "numpy":
            return array.astype(dtype, copy=False)
        return array.to(getattr(self.xp, dtype))

    # --- one round --------------------------------------------------------------------------------

    def play(
        self,
        actions: Any,
        rng: Any = None,
        columns: slice = slice(None),
        stage: Stage | None = None,
    ) -> Played:
        """One round.

        Args:
            actions: `[b, n]` or `[b, n, k]`, in their space.
            rng: the generator, under sampled demand.
            columns: which environments these are, where not all.
            stage: what these play in, where costs, demand or presence move.
        """
        box: Any = None
        price: Any = None
        paid: Any = None
        if self.config.actions == "continuous":
            box, index = self.binned(actions, columns)
        else:
            index = self.index(actions, columns)
        users, arrivals = self.users(columns), self.arrivals
        if self.config.shocks is not None:
            assert stage is not None
            if stage.arrivals is not None:
                arrivals = self.put(stage.arrivals)
            rests = stage.at_rest(index.shape[1], self.arrivals)
            offer = self._stage_offer(index, box, None if rests.all() else stage, columns)
            if self._numbers is not None and rests.all():
                share, outside, gain = self._tabulated(index, users)
            else:
                played = play_present(self.rule, offer, users, stage.present, self.put)
                offer, share, outside = played.offer, played.share, played.outside_share
                gain = arrivals * played.profit
                if self._numbers is not None and rests.any():  # to the last bit as by default
                    found, here = self._tabulated(index, users), self.put(rests)
                    share, outside, gain = (
                        self.xp.where(here, x, y)
                        for x, y in zip(found, (share, outside, gain), strict=True)
                    )
            price = offer.price
            if self.config.mechanism.misreports.kinds:
                paid = offer.paid
        elif self._numbers is not None:
            share, outside, gain = self._tabulated(index, users)
        else:
            assert self._offer is not None
            offer = self._offer.map(lambda table: self.take(table, index))
            if self.config.continuous_prices:
                offer = self._priced(offer, box, *self._terms_at(index))
                price, paid = offer.price, None if self._billed is None else offer.paid
            played = self.rule.play(offer, users)
            share, outside = played.share, played.outside_share
            gain = arrivals * played.profit
        if not self.sampled:
            return Played(gain * share, share, index, price, box, paid=paid, stage=stage)
        served = self.rule.draw(share, outside, arrivals, rng)
        share = served / arrivals
        correct = None
        if self._accuracy is not None:
            correct = draws.answers(served, self.take(self._accuracy, index), rng)
        reward, caught = gain * share + 0.0, None  # no negative zeros
        if self._caught is not None:
            # fines as they are found, in place of those expected
            chance = self.take(self._caught, index)
            caught = draws.answers(served, chance, rng)
            reward = reward + (served * chance - caught) * self._fine
        return Played(reward, share, index, price, box, served, correct, paid, caught, stage)

    def _tabulated(self, index: Any, users: Users) -> Tabulated:
        """A round looked up in the tables."""
        assert self._numbers is not None
        rows = {name: self.take(table, index) for name, table in self._numbers.items()}
        return self.rule.tabulated(rows, users, self.arrivals)

    def _stage_offer(self, index: Any, box: Any, stage: Stage | None, columns: slice) -> Offer:
        """`[n, b]`: what is on the table in a world that moves; None: and is at rest."""
        continuous = self.config.continuous_prices
        if stage is None or stage.cost is None:
            assert self._offer is not None
            offer = self._offer.map(lambda table: self.take(table, index))
            return self._priced(offer, box, *self._terms_at(index)) if continuous else offer
        mechanism, action = self.config.mechanism, self.take(self._action, index)
        markets = self.tables.batch.at_costs(self.markets(columns), stage.cost)
        offer = markets.offers(mechanism).map(lambda table: self._entries(table, action))
        if not continuous:
            return offer
        promise = self.take(self._promise, index)

        def chosen(terms: Terms) -> Terms:
            return tuple(self._entries(x.reshape(*index.shape, -1), promise) for x in terms)

        seen, billed = mechanism.terms(markets.stacked)
        return self._priced(offer, box, chosen(seen), None if billed is seen else chosen(billed))

    def _entries(self, table: np.ndarray, choice: Any) -> Any:
        """Of a NumPy table `[n, b, k]`, the entries `[n, b]` that were chosen."""
        n, b, k = table.shape
        start = self.put(np.arange(n * b).reshape(n, b) * k)
        return self.take(self.put(np.ascontiguousarray(table).reshape(-1)), start + choice)

    def _terms_at(self, index: Any) -> tuple[Terms, Terms | None]:
        """The terms of the price that users see, and of the bill where that is another one."""
        seen, billed = (
            None if terms is None else tuple(self.take(term, index) for term in terms)
            for terms in (self._terms, self._billed)
        )
        return seen or (), billed

    def _priced(self, offer: Offer, box: Any, seen: Terms, billed: Terms | None) -> Offer:
        """An offer with the continuous prices that are asked."""
        price = self._price(box[1], seen)
        paid = None if billed is None else self._price(box[1], billed)
        return Offer(offer.quality, offer.seen, price, offer.cost, paid, offer.penalty)

    def _price(self, position: Any, terms: Terms) -> Any:
        """USD/query: a continuous price `[n, b]`, on a log scale from the lowest choice's (-1) to
        the highest choice's (1). terms: the tariff's, `[n, b]`.
        """
        span = self._log_high - self._log_low
        multiple = self.xp.exp(self._log_low + span * (position + 1.0) / 2.0)
        return self.tariff.price(terms, self.tariff.choice(multiple))

    # --- what was played --------------------------------------------------------------------------

    def seen(self, played: Played, columns: slice = slice(None)) -> tuple[list[Any], list[Any]]:
        """Rows `[n, b]` of the public part but the clock, and of the private part but constants."""
        shown = [self.take(table, played.index) for table in self.seen_by_all]
        if played.price is not None:
            low, high = (self._of(x, columns) for x in self._money)
            price = symmetric_log(played.price, low, high, self.xp)
            if played.stage is not None:  # the scale is that of costs as given
                price = price.clip(-1.0, 1.0)
            shown[self._price_row] = price
        if played.box is None:
            mine = [self.take(table, played.index) for table in self.seen_by_one]
        else:
            mine = list(played.box)
        if played.stage is not None and played.stage.present is not None:
            here = self.put(played.stage.present)
            shown, mine = ([row * here for row in rows] for rows in (shown, mine))
        return [*shown, *self._round_rows("all", played, columns)], [
            *mine,
            *self._round_rows("own", played, columns),
        ]

    def _round_rows(self, whose: str, played: Played, columns: slice) -> list[Any]:
        """`[n, b]`: what observations show of what the round came to."""
        rows = {
            "share": lambda: played.share,
            "profit": lambda: played.reward * self._of(self.profit_scale, columns),
        }
        stage = played.stage
        if stage is not None and stage.arrivals is not None:  # per arriving user, as ever
            size = self.put(self.arrivals / stage.arrivals)
            rows["profit"] = lambda: played.reward * (self._of(self.profit_scale, columns) * size)
        if stage is not None and stage.cost is not None:  # the scale is that of costs as given
            unclipped = rows["profit"]
            rows["profit"] = lambda: unclipped().clip(-1.0, 1.0)
        return [rows[block.values]() for block in blocks(whose, "round")]  # type: ignore[index]

    def show(self, played: Played, columns: slice, public: np.ndarray, own: np.ndarray) -> None:
        """`seen`, written into the columns of `public` `[p, num_envs]` and `own` `[rows, n,
        num_envs]`. NumPy.
        """
        n = self.n
        if played.box is not None or self.config.shocks is not None:
            shown, mine = self.seen(played, columns)
            for j, rows in enumerate(shown):
                public[j * n : (j + 1) * n, columns] = rows
            for j, rows in enumerate(mine):
                own[j, :, columns] = rows
            return
        # The same, gathered straight into place.
        everybody, own_parts = len(self.seen_by_all), len(self.seen_by_one)
        for j, table in enumerate(self.seen_by_all):
            table.take(played.index, mode="clip", out=public[j * n : (j + 1) * n, columns])
        for j, row in enumerate(self._round_rows("all", played, columns), start=everybody):
            public[j * n : (j + 1) * n, columns] = row
        for j, table in enumerate(self.seen_by_one):
            table.take(played.index, mode="clip", out=own[j, :, columns])
        for j, row in enumerate(self._round_rows("own", played, columns), start=own_parts):
            own[j, :, columns] = row


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
