"""One round of one environment, in plain Python: the formulas of `ttc_env.game.rounds` on numbers in place of arrays.

A second implementation, because at nine providers NumPy spends its time on being called: this one plays a round in about a third of the time
(BENCHMARKS.md). It looks up the same tables and does the same operations in the same order, so its answers have the same bits as the
batched rounds (tests/envs/test_vector.py).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import getitem
from typing import Any, NamedTuple

import numpy as np

from ttc_env.envs.observations import hidden
from ttc_env.envs.tables import RoundTables


class SingleRound(NamedTuple):
    """What a round came to, provider by provider."""

    flat: tuple[int, ...]  # flat actions as played
    share: list[float]
    reward: list[float]  # USD
    observations: np.ndarray  # [n, d] float32, new
    private: tuple[bytes, ...]  # float32 private blocks up to the last profit, for `state`
    profit: bytes  # [n] float32
    public: bytes  # float32 public block


class SingleRounds:
    """Plays rounds of one market with discrete actions and expected demand."""

    @staticmethod
    def can_play(tables: RoundTables) -> bool:
        config = tables.config
        return config.actions == "discrete" and config.demand == "expected" and tables.kind in ("logit", "auction")

    def __init__(self, tables: RoundTables):
        config, self.n = tables.config, tables.batch.num_providers
        self.parts = len(config.grid)
        self.auction, self.narrow = tables.kind == "auction", tables.kind == "logit" and tables.narrow
        self.users, self.outside_value = config.users, float(tables.batch.outside_value[0])
        self.profit_scale = float(tables.profit_scale[0])
        self._powers = [2.0**-k for k in range(1023)]  # 2^-1022 is the smallest number of full precision; beyond it counts as 0
        self._profits, self._publics = struct.Struct(f"={self.n}f"), struct.Struct(f"={3 * self.n + 2}f")
        self._rows = [self._actions(tables, i) for i in range(self.n)]
        d = tables.static.shape[2] + self.parts + 1
        self.hidden = hidden(self.n, config.information, d, d + 3 * self.n + 2)

    def _actions(self, tables: RoundTables, i: int) -> dict[Any, tuple[Any, ...]]:
        """Provider i's actions, by the integer or the tuple of integers that asks for each."""
        static, count = tables.static[0, i], tables.num_actions
        keys = range(count) if self.parts == 1 else list(zip(*(x.tolist() for x in np.unravel_index(np.arange(count), tables.config.grid)), strict=True))
        private = (np.concatenate([static, tables.action_seen[:, i, a]]).tobytes() for a in range(count))
        played = tables.played[i, 0].tolist()
        quality, price = tables.quality_seen[i].tolist(), tables.price_seen[i].tolist()
        if self.auction:
            first, second = tables.offer.score[i].tolist(), tables.worth[i].tolist()
            numbers = zip(first, second, strict=True)
        elif self.narrow:
            numbers = zip(tables.attraction[i].tolist(), tables.gain[i].tolist(), strict=True)
        else:
            fraction, exponent = (x[i].tolist() for x in tables.split)
            numbers = zip(fraction, exponent, tables.gain[i].tolist(), strict=True)  # type: ignore[assignment]
        return {
            key: (*number, q, p, block, flat)
            for key, number, q, p, block, flat in zip(keys, numbers, quality, price, private, played, strict=True)
        }

    def play(self, keys: Sequence[Any], time_left: float) -> SingleRound:
        """One round.

        Args:
            keys: one per provider, an integer or a tuple of integers.
            time_left: share of the episode that is left after this round.

        Raises:
            KeyError: an action outside the space.
        """
        columns = tuple(zip(*map(getitem, self._rows, keys), strict=True))
        quality, price, private, flat = columns[-4:]
        if self.auction:
            share, reward = self._auction(columns[0], columns[1])
        else:
            share, reward = self._market(columns[:-5], columns[-5])
        scale = self.profit_scale
        profits = self._profits.pack(*[r * scale for r in reward])
        public = self._publics.pack(*quality, *price, *share, 1.0, time_left)
        return SingleRound(flat, share, reward, self.write(private, profits, public), private, profits, public)

    def _market(self, attraction: tuple[Any, ...], gain: Sequence[float]) -> tuple[list[float], list[float]]:
        """s_i = e_i / (e_0 + sum_j e_j), reward = users s_i pi_i; `rounds.attractions` and `rounds.logit_shares` in numbers."""
        if self.narrow:
            (e,), outside = attraction, 1.0
        else:
            fraction, exponent = attraction
            top, powers = max(0, *exponent), self._powers
            e = [f * powers[top - k] if top - k < 1023 else 0.0 for f, k in zip(fraction, exponent, strict=True)]
            outside = powers[top] if top < 1023 else 0.0
        total = outside
        for x in e:
            total += x
        inverse = 1.0 / total
        share = [x * inverse for x in e]
        return share, [g * s for g, s in zip(gain, share, strict=True)]

    def _auction(self, score: Sequence[float], worth: Sequence[float]) -> tuple[list[float], list[float]]:
        """The highest score serves and pays the runner-up's; `rounds.auction_shares` in numbers."""
        best = max(score)
        share, reward = [0.0] * self.n, [0.0] * self.n
        if best >= self.outside_value:
            leaders = score.count(best)
            second = best if leaders > 1 else max((x for x in score if x != best), default=self.outside_value)
            charge, part = max(second, self.outside_value), 1.0 / leaders
            for i, x in enumerate(score):
                if x == best:
                    share[i] = part
                    reward[i] = part * (self.users * (worth[i] - charge)) + 0.0
        return share, reward

    def write(self, private: Sequence[bytes], profits: bytes, public: bytes) -> np.ndarray:
        """`[n, d]` float32: the observations, from private blocks, `[n]` profits and the public block."""
        pieces: list[bytes] = []
        for i, block in enumerate(private):
            pieces += (block, profits[4 * i : 4 * i + 4], public)
        observations = np.frombuffer(bytearray().join(pieces), np.float32).reshape(self.n, -1)
        if self.hidden is not None:
            observations[self.hidden] = 0.0
        return observations
