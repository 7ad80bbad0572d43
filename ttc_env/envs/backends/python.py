"""One environment in plain Python, where its rule has such a round (`Rule.python_round`).

At nine providers NumPy spends its time on being called; this takes a fraction of it
(BENCHMARKS.md). It looks up the same tables and does the same operations in the same order as the
batched rounds, so its answers have the same bits (tests/test_speed_equality.py). Everything else is
played as a batch of one.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from functools import cached_property, partial
from operator import getitem
from typing import Any

import numpy as np

from ttc_env.envs.backends.base import OneRound
from ttc_env.envs.backends.numpy import NumpyBackend
from ttc_env.envs.observations import BatchObservation
from ttc_env.envs.rounds import Played
from ttc_env.envs.tables import RoundTables

_INTEGERS = frozenset({int, np.int64, np.int32})
_INT64 = np.dtype(np.int64)


class PythonBackend:
    """Plays rounds of one market from PettingZoo's actions."""

    def __init__(self, tables: RoundTables):
        self.tables, self.config = tables, tables.config
        config, layout = self.config, tables.layout
        self._round = None
        plain = config.actions != "continuous" and config.demand == "expected"
        if plain and tables.numbers is not None:
            rule, users = config.mechanism.rule, config.market
            self._round = rule.python_round(tables.numbers, users, config.users)
        if self._round is None:
            return
        self._n, self._size, self._parts = len(config.agents), layout.size, len(config.grid)
        self._profit_entry, self._hidden = layout.private_size - 1, layout.hidden
        self._profit_scale = float(tables.profit_scale[0])
        # struct keeps the parsed format
        self._public = partial(struct.pack, f"={layout.public_size}f")
        self._profit = array("f", bytes(4 * self._n))
        self._write_profit = partial(struct.pack_into, f"={self._n}f", self._profit, 0)
        self._seen = slice(1, 1 + len(tables.seen_by_all))
        self._actions: list[dict[Any, int]] = []  # as played, by key
        self._rows = [self._table(i) for i in range(self._n)]

    def __reduce__(self) -> Any:
        return PythonBackend, (self.tables,)

    @cached_property
    def batch(self) -> NumpyBackend:
        """A batch of one: what plays everything else."""
        return NumpyBackend(self.tables, 1)

    @property
    def plays(self) -> bool:
        """Whether rounds are played here, and not as a batch of one."""
        return self._round is not None

    def _table(self, i: int) -> dict[Any, tuple[Any, ...]]:
        """Provider i's actions, each by its key: its private part, what everybody sees of it, and
        the rule's numbers.
        """
        tables, count = self.tables, self.tables.num_actions
        assert tables.numbers is not None
        parts = np.stack(np.unravel_index(np.arange(count), self.config.grid), axis=1)
        keys = range(count) if self._parts == 1 else [part.tobytes() for part in parts]
        # The last entry of a private part is the profit, which `_write` fills in.
        zero, own = np.zeros(1, np.float32), tables.seen_by_one[:, i]
        static = tables.static[0, i]
        private = (np.concatenate([static, own[:, a], zero]).tobytes() for a in range(count))
        columns = [*tables.seen_by_all[:, i], *(table[i] for table in tables.numbers.values())]
        rows = zip(private, *(column.tolist() for column in columns), strict=True)
        self._actions.append(dict(zip(keys, tables.played[i, 0].tolist(), strict=True)))
        return dict(zip(keys, rows, strict=True))

    def play_one(self, chosen: Sequence[Any], rng: Any, time_left: float) -> OneRound:
        """One round.

        Args:
            chosen: an action for each provider.
            rng: the generator, under sampled demand.
            time_left: share of the episode that is left after this round.

        Raises:
            ValueError: an action outside its space.
        """
        if self._round is None:
            return self.batch.play_one(chosen, rng, time_left)
        keys: Sequence[Any]
        try:
            # Integers are their own keys; of arrays the bytes of int64 are the fastest to make.
            # Other types may be equal, or have the same bytes, and are no actions.
            if self._parts > 1:
                keys = [action.tobytes() for action in chosen if action.dtype is _INT64]
            else:
                keys = chosen if _INTEGERS.issuperset(map(type, chosen)) else ()
            if len(keys) != self._n:
                raise TypeError("to be looked at one by one")
            columns = list(zip(*map(getitem, self._rows, keys)))
        except (KeyError, AttributeError, TypeError, ValueError, BufferError):
            # Unusual containers, or actions outside the space: these are sorted out, or refused.
            stacked = self.config.stacked(chosen)[0]
            keys = stacked.tolist() if self._parts == 1 else [row.tobytes() for row in stacked]
            columns = list(zip(*map(getitem, self._rows, keys)))
        share, reward = self._round(columns[self._seen.stop :])
        scale = self._profit_scale
        profit = [r * scale for r in reward]
        seen: tuple[float, ...] = ()
        for column in columns[self._seen]:
            seen += column
        public = self._public(*seen, *share, 1.0, time_left)
        observations = self._write(columns[0], profit, public)
        return OneRound(
            observations,
            reward,
            partial(self._played, keys, share, reward),
            partial(self._batch_seen, observations, public),
        )

    def _write(
        self, private: Sequence[bytes], profit: Sequence[float], public: bytes
    ) -> np.ndarray:
        """`[n, d]` float32: the observations."""
        # The public part stands between private parts and at the end: joining does it in one go.
        buffer = bytearray(public).join((*private, b""))
        self._write_profit(*profit)
        memoryview(buffer).cast("f")[self._profit_entry :: self._size] = self._profit
        observations = np.ndarray((self._n, self._size), np.float32, buffer)
        if self._hidden is not None:
            observations[self._hidden] = 0.0
        return observations

    def _played(self, keys: Sequence[Any], share: list[float], reward: list[float]) -> Played:
        index = np.array(list(map(getitem, self._actions, keys)), np.int64)
        start = np.arange(self._n) * self.tables.num_actions
        columns = np.array(reward)[:, None], np.array(share)[:, None]
        return Played(*columns, (start + index)[:, None])

    def _batch_seen(self, observations: np.ndarray, public: bytes) -> BatchObservation:
        layout = self.tables.layout
        own = observations[None, :, layout.constant_size : layout.private_size]
        everybody = np.frombuffer(public, np.float32)[None]
        return BatchObservation(self.tables.static, own, everybody, self._hidden)
