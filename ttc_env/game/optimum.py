"""The planner's profile, and a cartel's: exact maxima of share-weighted sums over all m^n profiles, in a handful of O(nm) rounds.

Both are one separable fractional program (GAME.md, theorem 4; derived in docs, not in the paper):

    max over profiles of  (e_0 x_0 + sum_i e_i x_i) / (e_0 + sum_i e_i),      e_i = exp(beta V_i)

with x = w, x_0 = V_0 for social welfare, and x = pi, x_0 = 0 for joint profit. Dinkelbach (1967): at a trial value lambda every provider takes
the action with the largest e (x - lambda), whatever the others do; lambda becomes the value of that profile, and rises until it is the maximum.

One double for lambda is not enough: with one share near 1 the rounding of lambda swamps what the others add, and the iteration stops at a wrong
profile. So lambda = x_top + delta, where x_top is the x of the provider with the largest share and delta is kept as a sign and a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.demand import logits
from ttc_env.game.replies import Index
from ttc_env.game.types import Array, PostedPriceGame

_BLOCK = 1 << 16  # table entries per pass: temporaries then stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Maximum:
    """A profile with the largest share-weighted sum, for every batch entry."""

    profile: Index  # [n, ...] column of each provider; of equally good ones the first
    value: Array  # [...] the maximum, in the unit of the weights
    iterations: int  # rounds, of the slowest batch entry
    converged: bool  # the value no longer rises, in any batch entry
    gap: float  # how much the last round still added, at most; 0 once converged


@dataclass(frozen=True, eq=False)
class Optimum:
    """The social optimum: the profile a planner would choose who cannot change prices or users' choice noise."""

    profile: Index  # [n]
    welfare: float  # USD per arriving user
    iterations: int
    converged: bool
    gap: float  # USD per arriving user that the last round still added; 0 once converged


@dataclass(frozen=True, eq=False)
class JointProfitMaximum:
    """The profile a cartel of all providers would choose: the collusion benchmark."""

    profile: Index  # [n]
    profit: float  # USD per arriving user, all providers together
    iterations: int
    converged: bool
    gap: float


def social_optimum(game: PostedPriceGame, *, max_iterations: int = 1_000) -> Optimum:
    """The profile with the highest welfare W = sum_i s_i w_i + s_0 V_0, exactly. O(nm) a round, usually 2 to 6 rounds.

    Source: derived in docs, not in the paper (GAME.md, theorem 4).
    """
    z = logits(game.value, game.beta, game.outside_value)
    found = maximise_share_weighted(z, game.surplus, game.outside_value, max_iterations=max_iterations)
    return Optimum(found.profile, float(found.value), found.iterations, found.converged, found.gap)


def joint_profit_maximum(game: PostedPriceGame, *, max_iterations: int = 1_000) -> JointProfitMaximum:
    """The profile with the highest joint profit sum_i s_i pi_i, exactly.

    Source: derived in docs, not in the paper (GAME.md, theorem 4).
    """
    z = logits(game.value, game.beta, game.outside_value)
    found = maximise_share_weighted(z, game.profit, 0.0, max_iterations=max_iterations)
    return JointProfitMaximum(found.profile, float(found.value), found.iterations, found.converged, found.gap)


class _Value(NamedTuple):
    """lambda = x_top + delta, with delta = sign exp(log_size). All `[b]`."""

    x_top: Array
    sign: Array  # -1, 0, 1
    log_size: Array  # of |delta|; 0 where sign is 0

    @property
    def delta(self) -> Array:
        return self.sign * np.exp(self.log_size)

    def rise_over(self, other: _Value) -> Array:
        """Positive where self is the larger; in the weights' unit where that can be told in doubles, else a sign."""
        rise = (self.x_top - other.x_top) + (self.delta - other.delta)
        # Both measured from one x_top: signs and logs decide, even where delta itself underflows.
        ahead = np.sign(self.sign - other.sign)
        ahead = np.where((self.sign == other.sign) & (self.sign != 0), self.sign * np.sign(self.log_size - other.log_size), ahead)
        return np.where((self.x_top == other.x_top) & (rise == 0.0), ahead, rise)


def maximise_share_weighted(z: ArrayLike, weight: ArrayLike, outside_weight: ArrayLike = 0.0, *, max_iterations: int = 1_000) -> Maximum:
    """Maximise sum_i s_i x_i + s_0 x_0 over profiles, exactly.

    Args:
        z: `[n, m, ...]` logits beta (V - V_0).
        weight: `[n, m, ...]` x, in any unit; NaN where the action does not exist (the same places for the whole batch or not).
        outside_weight: x_0, a number or `[...]`.
        max_iterations: most rounds.

    Returns:
        `Maximum`, with the batch shape of the arguments.

    Source: derived in docs, not in the paper (GAME.md, theorem 4).
    """
    z, weight = np.asarray(z, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    n, m, *batch = np.broadcast_shapes(z.shape, weight.shape)
    z, x = np.broadcast_to(z, (n, m, *batch)).reshape(n, m, -1), np.broadcast_to(weight, (n, m, *batch)).reshape(n, m, -1)
    exists = ~np.isnan(x)
    if not exists.all():
        z, x = np.where(exists, z, 0.0), np.where(exists, x, -np.inf)
    b = z.shape[2]
    x_0 = np.broadcast_to(np.asarray(outside_weight, dtype=np.float64), tuple(batch)).reshape(b)
    provider, entry = np.arange(n)[:, None], np.arange(b)
    # 1. Start near the maximum.
    profile = _rough(z, x, x_0)
    value = _evaluate(z[provider, profile, entry], x[provider, profile, entry], x_0)
    gap = np.zeros(b)
    done = np.zeros(b, dtype=bool)
    for iteration in range(1, max_iterations + 1):
        # 2. Everybody's best answer to lambda, and what it is worth.
        answer = _answers(z, x, value)
        moved = (answer != profile).any(axis=0) & ~done
        if not moved.any():
            return _maximum(profile, value, batch, iteration, True, np.zeros(b))
        answer_value = _evaluate(z[provider, answer, entry], x[provider, answer, entry], x_0)
        # 3. Go on while lambda rises. A test of |change| < tolerance could stop at a wrong profile.
        rise = answer_value.rise_over(value)
        better = moved & (rise > 0.0)
        done |= ~better
        gap = np.where(better, rise, 0.0)
        profile = np.where(better, answer, profile)
        value = _Value(*(np.where(better, new, old) for new, old in zip(answer_value, value, strict=True)))
        if done.all():
            return _maximum(profile, value, batch, iteration, True, np.zeros(b))
    return _maximum(profile, value, batch, max_iterations, False, gap)


def _rough(z: Array, x: Array, x_0: Array, max_rounds: int = 30) -> Index:
    """The same rounds in plain doubles, three passes each: a profile that is usually the maximum already, and never needs to be."""
    n, m, b = z.shape
    provider, entry = np.arange(n)[:, None], np.arange(b)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    np.maximum(e, 1e-300, out=e)  # keeps the sign of e (x - lambda)
    step = max(1, _BLOCK // (m * b))
    profile = x.argmax(axis=1)
    answer = np.empty_like(profile)
    for _ in range(max_rounds):
        chosen = z[provider, profile, entry]
        top = np.maximum(chosen.max(axis=0), 0.0)
        share, share_0 = np.exp(chosen - top), np.exp(-top)
        value = ((share * x[provider, profile, entry]).sum(axis=0) + share_0 * x_0) / (share.sum(axis=0) + share_0)
        for start in range(0, n, step):
            rows = slice(start, start + step)
            answer[rows] = (e[rows] * (x[rows] - value)).argmax(axis=1)
        if np.array_equal(answer, profile):
            break
        profile, answer = answer, profile
    return profile


def _maximum(profile: Index, value: _Value, batch: list[int], iterations: int, converged: bool, gap: Array) -> Maximum:
    total = (value.x_top + value.delta).reshape(batch)
    return Maximum(profile.reshape(len(profile), *batch), total, iterations, converged, float(gap.max()))


def _evaluate(z: Array, x: Array, x_0: Array) -> _Value:
    """The share-weighted sum of one profile: x_top, and delta = sum_j s_j (x_j - x_top) with the outside option among the j.

    z, x: `[n, b]`; x_0: `[b]`.
    """
    entry = np.arange(z.shape[1])
    top = z.argmax(axis=0)
    inside = z[top, entry] >= 0.0  # else the outside option has the largest share
    z_top = np.where(inside, z[top, entry], 0.0)
    x_top = np.where(inside, x[top, entry], x_0)
    shifted = z - z_top
    e_0 = np.exp(-z_top)
    log_total = np.log(np.exp(shifted).sum(axis=0) + e_0)
    difference, difference_0 = x - x_top, x_0 - x_top
    with np.errstate(divide="ignore"):
        log_term = np.log(np.abs(difference)) + shifted
        log_term_0 = np.log(np.abs(difference_0)) - z_top
    largest = np.maximum(log_term.max(axis=0), log_term_0)
    scale = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(under="ignore"):
        scaled = (np.sign(difference) * np.exp(log_term - scale)).sum(axis=0)
        scaled += np.sign(difference_0) * np.exp(log_term_0 - scale)
    sign = np.sign(scaled)
    log_size = np.log(np.where(sign == 0.0, 1.0, np.abs(scaled))) + np.where(sign == 0.0, 0.0, scale - log_total)
    return _Value(x_top, sign, log_size)


def _answers(z: Array, x: Array, value: _Value) -> NDArray[np.intp]:
    """argmax_l e_l (x_l - lambda) for every provider: `[n, b]`. In logs: key = sign(t) (z + log|t|), t = x - lambda.

    z + log|t| may itself be negative, so each provider's keys are shifted to size >= 1 before they take their sign.
    """
    n, m, b = z.shape
    answers = np.empty((n, b), dtype=np.intp)
    step = max(1, _BLOCK // (m * b))
    delta = value.delta
    for start in range(0, n, step):
        rows = slice(start, start + step)
        above = x[rows] - value.x_top
        t = above - delta
        sign = np.sign(t)
        size = np.abs(t)
        size[size == 0.0] = 1.0
        key = np.log(size)
        at_top = above == 0.0  # t = -delta exactly, also where delta underflows
        if at_top.any():
            np.copyto(sign, -value.sign, where=at_top)
            np.copyto(key, value.log_size, where=at_top)
        key += z[rows]
        key -= key.min(axis=1, keepdims=True) - 1.0
        key *= sign
        answers[rows] = key.argmax(axis=1)
    return answers
