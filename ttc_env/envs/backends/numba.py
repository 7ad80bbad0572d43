"""Rounds compiled by numba (extra `fast`): the tables of `ttc_env.envs.tables`, packed for the
kernels of `ttc_env.game.rules.kernels_numba` and of the rule (`Rule.numba_round`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ttc_env.envs.backends.numpy import NumpyBackend
from ttc_env.envs.rounds import Played
from ttc_env.envs.tables import RoundTables
from ttc_env.envs.world.stage import Stage


class NumbaBackend(NumpyBackend):
    """Discrete actions and expected demand, for rules that have a compiled round."""

    def __init__(self, tables: RoundTables, num_envs: int):
        config, rule = tables.config, tables.config.mechanism.rule
        if config.actions == "continuous" or config.demand != "expected":
            raise ValueError(
                "backend='numba' plays discrete actions and expected demand; got"
                f" actions={config.actions!r}, demand={config.demand!r}: use backend='numpy'"
            )
        if config.shocks is not None:
            raise ValueError(
                "backend='numba' plays a world that does not move; got shocks="
                f"{', '.join(sorted(config.shocks.moves))}: use backend='numpy'"
            )
        kernels = compiled_kernels()
        super().__init__(tables, num_envs)
        rounds = self.rounds
        found = None if tables.numbers is None else rule.numba_round(tables.numbers, rounds.users())
        if found is None:
            raise ValueError(
                f"mechanism {config.mechanism.name!r} has no compiled round; use backend='numpy'"
            )
        self._kernel, weight, exponent, gain, threshold = found
        grid = config.grid
        self._sizes = np.array(grid, np.int64)
        self._first_outside = kernels.first_outside
        self._tables = kernels.Tables(
            *(np.ascontiguousarray(x).reshape(-1) for x in (weight, exponent, gain)),
            np.stack([*rounds.seen_by_all, *rounds.seen_by_one]),
            len(rounds.seen_by_all),
            (int(np.prod(grid[1:])), int(len(grid) > 1)),
            rounds.start.astype(np.int64),
            threshold.astype(np.float64),
            rounds.profit_scale.astype(np.float64),
            float(config.users),
        )

    def _play(
        self,
        actions: np.ndarray,
        rng: Any,
        reward: np.ndarray,
        share: np.ndarray,
        index: np.ndarray,
        *,
        shown: bool,
        stage: Stage | None = None,
    ) -> list[Played]:
        columns = _columns(actions)
        if len(columns) == 3:  # kernels read two parts: the last two become one
            columns = np.stack([columns[0], columns[1] * self._sizes[2] + columns[2]])
        self._kernel(self._tables, columns, share, reward, shown, index, self._public, self._own)
        return []

    def checked(self, actions: Any, check: bool) -> np.ndarray:
        columns = _columns(super().checked(actions, False))
        if check and (at := self._first_outside(columns, self._sizes)) >= 0:
            _, provider, environment = np.unravel_index(at, columns.shape)
            self._refuse(actions, int(environment), int(provider))
        return columns.transpose(2, 1, 0)  # so that it is not made again


def _columns(actions: np.ndarray) -> np.ndarray:
    """Actions `[b, n]` or `[b, n, k]` as `[k, n, b]` int64, without a copy if their memory is laid
    out so.
    """
    wide = actions.reshape(*actions.shape[:2], -1)
    return np.ascontiguousarray(wide.transpose(2, 1, 0), dtype=np.int64)


def compiled_kernels() -> Any:
    """`ttc_env.game.rules.kernels_numba`.

    Raises:
        ImportError: numba is not installed.
    """
    try:
        from ttc_env.game.rules import kernels_numba
    except ImportError as error:
        raise ImportError(
            f"backend='numba' needs numba ({error}): pip install 'ttc-env[fast]'"
        ) from error
    return kernels_numba
