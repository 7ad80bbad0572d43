"""Rounds played by numba (`backend="numba"`, extra `fast`): the tables of `ttc_env.envs.tables`,
packed for `ttc_env.game.rounds_numba`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttc_env.envs.tables import RoundTables


def kernels() -> Any:
    """`ttc_env.game.rounds_numba`.

    Raises:
        ImportError: numba is not installed.
    """
    try:
        from ttc_env.game import rounds_numba
    except ImportError as error:
        raise ImportError(
            f"backend='numba' needs numba ({error}): pip install 'ttc-env[fast]'"
        ) from error
    return rounds_numba


def check(tables: RoundTables) -> None:
    """Whether numba plays these rounds.

    Raises:
        ValueError: it does not.
    """
    config = tables.config
    if config.continuous or config.demand != "expected" or tables.kind == "other":
        raise ValueError(
            "backend='numba' plays discrete actions and expected demand, in the market and in the"
            f" second-score auction; got actions={config.actions!r}, demand={config.demand!r},"
            f" mechanism {config.mechanism.name!r}: use backend='numpy'"
        )


def _kind(tables: RoundTables) -> tuple[int, Any, Any, Any]:
    """Kind of round; and weight, exponent and gain by provider, market and action, `[n, G a]`."""
    module, offer = kernels(), tables.offer
    if tables.kind == "auction":
        return module.AUCTION, offer.score, np.zeros(offer.score.shape, np.int64), tables.worth
    if tables.narrow:
        return module.MARKET, tables.attraction, np.zeros(offer.score.shape, np.int64), tables.gain
    return module.SCALED_MARKET, *tables.split, tables.gain


class CompiledRounds:
    """Plays rounds of a batch of environments, in place."""

    def __init__(
        self,
        tables: RoundTables,
        start: np.ndarray,
        outside_value: np.ndarray,
        profit_scale: np.ndarray,
    ):
        check(tables)
        module = kernels()
        grid = tables.config.grid
        kind, *numbers = _kind(tables)
        self._sizes = np.array(grid, np.int64)
        self._play, self._first_outside = module.play, module.first_outside
        seen = np.stack([tables.quality_seen, tables.price_seen, *tables.action_seen])
        self.tables = module.Tables(
            kind,
            *(np.ascontiguousarray(x).reshape(-1) for x in numbers),
            seen.reshape(len(seen), -1),
            (int(np.prod(grid[1:])), int(len(grid) > 1)),
            start.astype(np.int64),
            outside_value.astype(np.float64),
            profit_scale.astype(np.float64),
            float(tables.config.users),
        )

    def columns(self, actions: np.ndarray) -> np.ndarray:
        """Actions `[b, n]` or `[b, n, k]` as `[k, n, b]` int64, without a copy if their memory is
        laid out so.
        """
        return np.ascontiguousarray(
            actions.reshape(*actions.shape[:2], -1).transpose(2, 1, 0), dtype=np.int64
        )

    def outside(self, columns: np.ndarray) -> tuple[int, int] | None:
        """An environment and a provider whose action is outside the space, if there are any.
        columns: `[k, n, b]`.
        """
        at = self._first_outside(columns, self._sizes)
        if at < 0:
            return None
        _, provider, environment = np.unravel_index(at, columns.shape)
        return int(environment), int(provider)

    def play(
        self,
        actions: np.ndarray,
        share: Any,
        reward: Any,
        index: Any,
        public: Any,
        own: Any,
        *,
        shown: bool,
    ) -> None:
        """One round, written into columns (`rounds_numba.play`)."""
        columns = self.columns(actions)
        if len(columns) == 3:  # kernels read two parts: the last two become one
            columns = np.stack([columns[0], columns[1] * self._sizes[2] + columns[2]])
        self._play(self.tables, columns, share, reward, shown, index, public, own)


class CompiledRound:
    """What a round of one environment came to."""

    __slots__ = ("keys", "observations", "result", "reward", "time_left")

    def __init__(self, keys: bytes, result: np.ndarray, observations: np.ndarray, time_left: float):
        self.keys = keys  # of the actions
        self.result = result  # [2, n] shares; rewards in USD
        self.reward = result[1].tolist()
        self.observations = observations  # [n, d] float32, new
        self.time_left = time_left

    @property
    def share(self) -> list[float]:
        return self.result[0].tolist()


class CompiledSingle:
    """Plays rounds of one environment: `ttc_env.envs.single.SingleRounds`, compiled."""

    def __init__(self, tables: RoundTables):
        check(tables)
        module = kernels()
        config = tables.config
        n, a, grid = tables.batch.num_providers, tables.num_actions, config.grid
        kind, *numbers = _kind(tables)
        static = np.ascontiguousarray(tables.static[0])
        private = static.shape[1] + len(grid) + 1
        self.shape = n, private + 3 * n + 2
        rules = [
            config.users,
            float(tables.batch.outside_value[0]),
            float(tables.profit_scale[0]),
            kind,
            *grid,
        ]
        self.hidden = tables.hidden
        self._rounds, self._length = tables, 8 * n * len(grid)
        self._play = module.play_one
        self._tables = tuple(
            module.OneTables(
                np.array(rules, np.float64),
                np.stack([np.asarray(x, np.float64).reshape(n, a) for x in numbers], axis=2),
                np.stack([tables.quality_seen, tables.price_seen, *tables.action_seen], axis=2),
                static,
            )
        )

    def keys(self, actions: Sequence[Any]) -> bytes:
        """Actions as `play` wants them: `[n k]` int64, as bytes.

        Raises:
            TypeError: actions in some other container.
        """
        keys = b"".join(actions)
        if len(keys) != self._length:
            raise TypeError("actions are not int64")
        return keys

    def keys_of(self, parts: Sequence[np.ndarray]) -> bytes:
        """The same from parts of actions, `[n]` each."""
        return np.stack(parts, axis=1).astype(np.int64).tobytes()

    def play(self, keys: bytes, time_left: float) -> CompiledRound:
        """One round; arguments and errors as `SingleRounds.play`."""
        result, observations = np.empty((2, self.shape[0])), np.empty(self.shape, np.float32)
        if self._play(self._tables, keys, time_left, result, observations) >= 0:
            raise KeyError("an action is outside the space")
        if self.hidden is not None:
            observations[self.hidden] = 0.0
        return CompiledRound(keys, result, observations, time_left)

    def flat(self, keys: bytes) -> list[int]:
        """`[n]` flat actions as played, of keys."""
        grid = self._rounds.config.grid
        parts = np.frombuffer(keys, np.int64).reshape(-1, len(grid))
        flat: np.ndarray = np.asarray(np.ravel_multi_index(tuple(parts.T), grid))
        return self._rounds.played[np.arange(len(flat)), 0, flat].tolist()
