"""One round of one environment, in plain Python: the formulas of `ttc_env.game.rounds` on numbers
in place of arrays.

A second implementation, because at nine providers NumPy spends its time on being called: this one
takes a fraction of the time (BENCHMARKS.md). It looks up the same tables and does the same
operations in the same order, so its answers have the same bits as the batched rounds
(tests/test_speed_equality.py).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from functools import partial
from operator import getitem, mul
from typing import Any, NamedTuple

import numpy as np

from ttc_env.envs.tables import RoundTables

_MOST_POWERS = 1 << 18  # entries of a list of powers of two


class SingleRound(NamedTuple):
    """What a round came to, provider by provider."""

    keys: Sequence[Any]  # of the actions; `SingleRounds.flat` reads them
    share: list[float]
    reward: list[float]  # USD
    observations: np.ndarray  # [n, d] float32, new
    time_left: float


class SingleRounds:
    """Plays rounds of one market with discrete actions and expected demand."""

    @staticmethod
    def can_play(tables: RoundTables) -> bool:
        config = tables.config
        return (
            not config.continuous
            and config.demand == "expected"
            and tables.kind in ("logit", "auction")
        )

    def __init__(self, tables: RoundTables):
        config, self.n = tables.config, tables.batch.num_providers
        self.parts = len(config.grid)
        self.auction, self.narrow = (
            tables.kind == "auction",
            tables.kind == "logit" and tables.narrow,
        )
        self.users, self.outside_value = config.users, float(tables.batch.outside_value[0])
        self.profit_scale = float(tables.profit_scale[0])
        # 2^-k by k: 2^-1022 is the smallest number of full precision, and beyond it counts as 0.
        # Long enough for all of this market's k.
        spread = (
            0
            if self.auction
            else int(max(tables.split[1].max(), 0) - min(tables.split[1].min(), 0))
        )
        self._every_power = spread < _MOST_POWERS
        self._powers = [
            2.0**-k if k < 1023 else 0.0 for k in range(spread + 1 if self._every_power else 1023)
        ]
        self._public = partial(struct.pack, f"={3 * self.n + 2}f")  # struct keeps the parsed format
        self._profit = array("f", bytes(4 * self.n))
        self._write_profit = partial(struct.pack_into, f"={self.n}f", self._profit, 0)
        self._flat: list[dict[Any, int]] = []
        self._rows = [self._actions(tables, i) for i in range(self.n)]
        d = tables.static.shape[2] + self.parts + 1  # length of a private block
        self.profit_entry = d - 1
        self.size = d + 3 * self.n + 2
        self.hidden = tables.hidden

    def _actions(self, tables: RoundTables, i: int) -> dict[Any, tuple[Any, ...]]:
        """Provider i's actions, each by its `key`."""
        static, count = tables.static[0, i], tables.num_actions
        parts = np.stack(np.unravel_index(np.arange(count), tables.config.grid), axis=1)
        keys = range(count) if self.parts == 1 else [part.tobytes() for part in parts]
        # The last entry of a private block is the profit, which `write` fills in.
        private = (
            np.concatenate([static, tables.action_seen[:, i, a], np.zeros(1, np.float32)]).tobytes()
            for a in range(count)
        )
        played = tables.played[i, 0].tolist()
        quality, price = tables.quality_seen[i].tolist(), tables.price_seen[i].tolist()
        if self.auction:
            first, second = tables.offer.score[i].tolist(), tables.worth[i].tolist()
            numbers = [second, first]
        elif self.narrow:
            numbers = [tables.gain[i].tolist(), tables.attraction[i].tolist()]
        else:
            numbers = [tables.gain[i].tolist(), *(x[i].tolist() for x in tables.split)]
        self._flat.append(dict(zip(keys, played, strict=True)))
        return dict(zip(keys, zip(quality, price, private, *numbers, strict=True), strict=True))

    def keys(self, actions: Sequence[Any]) -> list[Any]:
        """How `play` wants actions: integers as they are; arrays of several integers as the bytes
        of int64, the fastest key to make.

        Raises:
            AttributeError: an action in some other container.
        """
        return list(actions) if self.parts == 1 else [action.tobytes() for action in actions]

    def keys_of(self, parts: Sequence[np.ndarray]) -> list[Any]:
        """The same from parts of actions, `[n]` each."""
        return (
            parts[0].tolist()
            if self.parts == 1
            else [row.tobytes() for row in np.stack(parts, axis=1).astype(np.int64)]
        )

    def play(self, keys: Sequence[Any], time_left: float) -> SingleRound:
        """One round.

        Args:
            keys: one per provider.
            time_left: share of the episode that is left after this round.

        Raises:
            KeyError: an action outside the space.
        """
        quality, price, private, last, *first = zip(*map(getitem, self._rows, keys))
        share, reward = self._auction(first[0], last) if self.auction else self._market(first, last)
        scale = self.profit_scale
        profit = [r * scale for r in reward]
        public = self._public(*quality, *price, *share, 1.0, time_left)
        return SingleRound(keys, share, reward, self.write(private, profit, public), time_left)

    def flat(self, keys: Sequence[Any]) -> list[int]:
        """Flat actions as played, of keys."""
        return list(map(getitem, self._flat, keys))

    def _market(
        self, attraction: list[Any], gain: Sequence[float]
    ) -> tuple[list[float], list[float]]:
        """s_i = e_i / (e_0 + sum_j e_j), reward = users s_i pi_i; `rounds.attractions` and
        `rounds.logit_shares` in numbers.
        """
        if self.narrow:
            (e,), outside = attraction, 1.0
        else:
            fraction, exponent = attraction
            top, powers = max(exponent), self._powers
            if top < 0:
                top = 0
            if self._every_power:
                e = [f * powers[top - k] for f, k in zip(fraction, exponent)]
                outside = powers[top]
            else:
                e = [
                    f * powers[top - k] if top - k < 1023 else 0.0
                    for f, k in zip(fraction, exponent)
                ]
                outside = powers[top] if top < 1023 else 0.0
        total = outside
        for x in e:
            total += x
        inverse = 1.0 / total
        share = [x * inverse for x in e]
        return share, list(map(mul, gain, share))

    def _auction(
        self, score: Sequence[float], worth: Sequence[float]
    ) -> tuple[list[float], list[float]]:
        """The highest score serves and pays the runner-up's; `rounds.auction_shares` in numbers."""
        share, reward = [0.0] * self.n, [0.0] * self.n
        *rest, best = sorted(score)
        if best >= self.outside_value:
            leaders = score.count(best)
            charge = max(rest[-1], self.outside_value) if rest else self.outside_value
            if leaders == 1:
                i = score.index(best)
                share[i], reward[i] = 1.0, self.users * (worth[i] - charge) + 0.0
            else:
                part = 1.0 / leaders
                for i, x in enumerate(score):
                    if x == best:
                        share[i], reward[i] = part, part * (self.users * (worth[i] - charge)) + 0.0
        return share, reward

    def write(self, private: Sequence[bytes], profit: Sequence[float], public: bytes) -> np.ndarray:
        """`[n, d]` float32: the observations, from private blocks, profits and the public block."""
        # The public block stands between private blocks and at the end: joining does it in one go.
        buffer = bytearray(public).join((*private, b""))
        self._write_profit(*profit)
        memoryview(buffer).cast("f")[self.profit_entry :: self.size] = self._profit
        observations = np.ndarray((self.n, self.size), np.float32, buffer)
        if self.hidden is not None:
            observations[self.hidden] = 0.0
        return observations
