"""What speed is compared with: an environment that does nothing, a C loop that does only the
arithmetic, and brute force.

`scripts/benchmark_speed.py` runs them; BENCHMARKS.md says what each comparison means.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from ttc_env.game.types import PostedPriceGame


class Idle(ParallelEnv[str, np.ndarray, Any]):
    """Reads every action and returns fresh rows of zeros: what PettingZoo's dict interface costs by
    itself.
    """

    metadata = {"name": "idle"}  # noqa: RUF012

    def __init__(self, agents: list[str], observation: spaces.Box, action: spaces.Space[Any]):
        self.possible_agents, self.agents = list(agents), list(agents)
        self._observation, self._action = observation, action
        self._rows = np.zeros((len(agents), *observation.shape), np.float32)
        self._zeros = [0.0] * len(agents)

    def observation_space(self, agent: str) -> spaces.Box:
        return self._observation

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self._action

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return dict(zip(self.agents, self._rows.copy(), strict=True)), {
            agent: {} for agent in self.agents
        }

    def step(self, actions: dict[str, Any]) -> Any:
        agents = self.agents
        [actions[agent].tolist() for agent in agents]
        return (
            dict(zip(agents, self._rows.copy())), dict(zip(agents, list(self._zeros))),
            dict.fromkeys(agents, False), dict.fromkeys(agents, False), {agent: {} for agent in agents},
        )  # fmt: skip


C_LOOP = """
#include <stdint.h>
/* s_i = e_i / (1 + sum_j e_j), reward_i = gain_i s_i. Columns: actions [2][n][b], results [n][b]; tables [n][levels * prices]. */
void rounds(const int64_t *restrict actions, const double *restrict attraction, const double *restrict gain,
            double *restrict share, double *restrict reward, int64_t n, int64_t b, int64_t prices, int64_t a) {
    enum { BLOCK = 512 };
    double total[BLOCK];
    for (int64_t from = 0; from < b; from += BLOCK) {
        int64_t size = b - from < BLOCK ? b - from : BLOCK;
        for (int64_t j = 0; j < size; j++) total[j] = 1.0;
        for (int64_t i = 0; i < n; i++) {
            const int64_t *level = actions + i * b + from, *price = actions + (n + i) * b + from;
            double *s = share + i * b + from, *r = reward + i * b + from;
            for (int64_t j = 0; j < size; j++) {
                int64_t at = i * a + level[j] * prices + price[j];
                s[j] = attraction[at]; r[j] = gain[at]; total[j] += s[j];
            }
        }
        for (int64_t j = 0; j < size; j++) total[j] = 1.0 / total[j];
        for (int64_t i = 0; i < n; i++) {
            double *s = share + i * b + from, *r = reward + i * b + from;
            for (int64_t j = 0; j < size; j++) { s[j] *= total[j]; r[j] *= s[j]; }
        }
    }
}
"""


def compile_c_loop() -> Callable[..., None] | None:
    """The round of the narrow market as a C function, compiled here and now; None where there is no
    compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp())
    (folder / "loop.c").write_text(C_LOOP)
    for flags in (["-mavx2"], []):
        built = subprocess.run(
            [
                compiler,
                "-O3",
                *flags,
                "-shared",
                "-fPIC",
                "-o",
                str(folder / "loop.so"),
                str(folder / "loop.c"),
            ],
            capture_output=True,
        )
        if built.returncode == 0:
            return _bind(ctypes.CDLL(str(folder / "loop.so")).rounds)
    return None


def _bind(function: Any) -> Callable[..., None]:
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    function.argtypes, function.restype = [pointer] * 5 + [whole] * 4, None

    def rounds(
        actions: np.ndarray,
        attraction: np.ndarray,
        gain: np.ndarray,
        share: np.ndarray,
        reward: np.ndarray,
        prices: int,
    ) -> None:
        """actions `[2, n, b]` int64; tables `[n, a]`; share and reward `[n, b]` are written."""
        n, b = share.shape
        function(
            *(x.ctypes.data for x in (actions, attraction, gain, share, reward)),
            n,
            b,
            prices,
            attraction.shape[1],
        )

    return rounds


def brute_force_optimum(game: PostedPriceGame, chunk: int = 1 << 16) -> tuple[np.ndarray, float]:
    """The profile of largest welfare by looking at all m^n of them, vectorised."""
    best, best_profile = -np.inf, None
    z = game.beta * (game.value - game.outside_value)
    rows = np.arange(len(z))[:, None]
    for profiles in _profiles(z.shape, chunk):
        at, w = z[rows, profiles], game.surplus[rows, profiles]
        top = np.maximum(at.max(axis=0), 0.0)
        e, e_0 = np.exp(at - top), np.exp(-top)
        welfare = ((e * w).sum(axis=0) + e_0 * game.outside_value) / (e.sum(axis=0) + e_0)
        j = int(welfare.argmax())
        if welfare[j] > best:
            best, best_profile = float(welfare[j]), profiles[:, j]
    assert best_profile is not None
    return best_profile, best


def brute_force_equilibria(game: PostedPriceGame, chunk: int = 1 << 14) -> np.ndarray:
    """All pure equilibria `[k, n]` by looking at all m^n profiles and all deviations, vectorised."""
    z = game.beta * (game.value - game.outside_value)
    n = len(z)
    rows = np.arange(n)[:, None]
    found = []
    for profiles in _profiles(z.shape, chunk):
        at = z[rows, profiles]
        stable = np.ones(profiles.shape[1], dtype=bool)
        for i in range(n):
            rivals = np.logaddexp.reduce(
                np.concatenate([np.zeros((1, at.shape[1])), np.delete(at, i, axis=0)]), axis=0
            )
            log_u = np.log(game.profit[i])[:, None] - np.logaddexp(0.0, rivals - z[i][:, None])
            stable &= log_u[profiles[i], np.arange(len(stable))] >= log_u.max(axis=0) - 1e-9
        found.append(profiles[:, stable].T)
    return np.concatenate(found)


def _profiles(shape: tuple[int, ...], chunk: int) -> Iterator[np.ndarray]:
    n, m = shape
    total = m**n
    for start in range(0, total, chunk):
        yield np.stack(np.unravel_index(np.arange(start, min(start + chunk, total)), (m,) * n))


def joint_actions(env: ParallelEnv[Any, Any, Any], count: int) -> Iterator[dict[str, Any]]:
    """`count` random joint actions, over and over."""
    for k, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(k)
    return itertools.cycle(
        [
            {agent: env.action_space(agent).sample() for agent in env.possible_agents}
            for _ in range(count)
        ]
    )
