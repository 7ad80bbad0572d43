"""Two Q-learners in one market, at the speed that millions of rounds need (extra `fast`).

The learner is `agents.q_learning.QLearning` with memory of both last actions, which a test holds
this loop to, number by number: the same draws, the same tables. Exploration falls as exp(-decay t),
and training ends by the rule of Calvano, Calzolari, Denicolo and Pastorello (AER 2020, section
III): when neither learner's best action has changed in any state for `unchanged` rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ttc_env.envs.config import EnvConfig
from ttc_env.envs.vector import VectorMarketEnv
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.types import Array

BLOCK = 25_000
"""Rounds whose random numbers are drawn at once."""


@dataclass(frozen=True)
class Rule:
    """How Q-learners learn, and when they have finished. Defaults: Calvano et al.'s."""

    discount: float = 0.95
    step: float = 0.15
    decay: float = 4e-6  # exploration is exp(-decay t)
    unchanged: int = 100_000  # rounds without a change of a best action: converged
    cap: int = 5_000_000  # rounds at most


@dataclass(eq=False)
class Learned:
    """What pairs of Q-learners ended with. S: sessions, a: actions."""

    table: Array  # [S, 2, a * a, a] Q of (last actions, action), USD
    state: np.ndarray  # [S] both last actions, a * first + second
    rounds: np.ndarray  # [S] rounds until the rule was met, or the cap
    converged: np.ndarray  # [S] bool


def rewards(config: EnvConfig) -> Array:
    """`[2, a, a]` USD per round of both providers, by both actions, as the environment pays it.

    Raises:
        ValueError: not two providers.
    """
    n, a = config.table.quality.shape
    if n != 2:
        raise ValueError(f"a duopoly has two providers; this market has {n}")
    joint = np.stack(np.meshgrid(np.arange(a), np.arange(a), indexing="ij")).reshape(2, -1)
    env = VectorMarketEnv(a * a, config, MarketBatch.of(config.market))
    parts = np.stack(np.unravel_index(joint, config.grid))
    return np.ascontiguousarray(env.rewards(parts.transpose(2, 1, 0)).T.reshape(2, a, a))


def train(
    reward: Array,
    available: np.ndarray,
    sessions: int,
    rule: Rule,
    *,
    compiled: bool = True,
) -> Learned:
    """Train pairs of Q-learners, one pair a session. Session s draws as seed s of an arena does.

    Args:
        reward: `[2, a, a]`, from `rewards`.
        available: `[2, a]`, which actions exist.
        compiled: use numba; without it the same loop runs in Python, some hundred times slower.

    Raises:
        ImportError: numba is missing.
    """
    a = reward.shape[1]
    play = _compiled() if compiled else _play
    weights = available / available.sum(axis=1, keepdims=True)
    anything = np.cumsum(weights, axis=1)  # of the uniform choice among actions that exist
    absent = np.where(available, 0.0, -np.inf)
    table = np.empty((sessions, 2, a * a, a))
    table[:] = absent[:, None, :]
    clock = np.zeros((sessions, 3), np.int64)  # state, rounds, round of the last change
    for session in range(sessions):
        generators = [np.random.default_rng([session, i, 0]) for i in range(2)]
        best = table[session].argmax(axis=2)
        done = False
        while not done and clock[session, 1] < rule.cap:
            block = int(min(BLOCK, rule.cap - clock[session, 1]))
            uniform = np.stack([g.random(2 * block) for g in generators])
            done = play(
                table[session], best, clock[session], reward, anything, uniform,
                rule.discount, rule.step, rule.decay, rule.unchanged,
            )  # fmt: skip
    return Learned(
        table, clock[:, 0].astype(np.intp), clock[:, 1], clock[:, 1] - clock[:, 2] >= rule.unchanged
    )


def _play(
    table: Any,
    best: Any,
    clock: Any,
    reward: Any,
    anything: Any,
    uniform: Any,
    discount: float,
    step: float,
    decay: float,
    unchanged: int,
) -> bool:
    """Rounds for which there are uniform numbers, or until convergence; True if that was reached.

    table `[2, a * a, a]`, best `[2, a * a]` and clock are changed in place.
    """
    a = reward.shape[1]
    state = clock[0]
    act = np.zeros(2, np.int64)
    for k in range(uniform.shape[1] // 2):
        t = clock[1]
        epsilon = np.exp(-decay * t)
        for i in range(2):
            u = uniform[i, 2 * k + 1]
            chosen = 0
            last = 0
            if uniform[i, 2 * k] < epsilon:
                below = u * anything[i, a - 1]
                for x in range(a):
                    if anything[i, x] <= below:
                        chosen += 1
                    if x == 0 or anything[i, x] > anything[i, x - 1]:
                        last = x
            else:
                top = table[i, state, best[i, state]]
                ties = 0
                for x in range(a):
                    if table[i, state, x] == top:
                        ties += 1
                        last = x
                below = u * ties
                seen = 0
                for x in range(a):
                    if table[i, state, x] == top:
                        seen += 1
                    if seen <= below:
                        chosen += 1
            act[i] = min(chosen, last)
        following = act[0] * a + act[1]
        for i in range(2):
            target = reward[i, act[0], act[1]] + discount * table[i, following, best[i, following]]
            table[i, state, act[i]] += step * (target - table[i, state, act[i]])
            top = 0
            for x in range(1, a):
                if table[i, state, x] > table[i, state, top]:
                    top = x
            if top != best[i, state]:
                best[i, state] = top
                clock[2] = t + 1
        state = following
        clock[0] = state
        clock[1] = t + 1
        if clock[1] - clock[2] >= unchanged:
            return True
    return False


@cache
def _compiled() -> Any:
    try:
        import numba
    except ImportError as error:
        raise ImportError(
            "millions of rounds of Q-learning need numba: pip install 'ttc-env[fast]'"
        ) from error
    return numba.njit(_play)
