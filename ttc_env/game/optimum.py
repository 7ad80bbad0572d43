"""The planner's profile, and a cartel's: exact maxima of share-weighted sums over all m^n profiles,
in a handful of O(nm) rounds.

Both are one separable fractional program (GAME.md, theorem 4; derived in docs, not in the paper):

    max over profiles of  (e_0 x_0 + sum_i e_i x_i) / (e_0 + sum_i e_i),      e_i = exp(beta (V_i -
    V_0)), e_0 = 1

with x = w, x_0 = V_0 for social welfare, and x = pi, x_0 = 0 for joint profit. Dinkelbach (1967):
at a trial value lambda every provider takes the action with the largest e (x - lambda), whatever
the others do; lambda becomes the value of that profile, and rises until it is the maximum.

One double for lambda is not enough: with one share near 1 the rounding of lambda swamps what the
others add, and the iteration stops at a wrong profile. So lambda = x_top + delta, where x_top is
the x of the provider with the largest share and delta is kept as a sign and a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.demand import logits
from ttc_env.game.replies import Index
from ttc_env.game.types import Array, PostedPriceGame

_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)
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
    """The social optimum: the profile a planner would choose who cannot change prices or users'
    choice noise.
    """

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
    """The profile with the highest welfare W = sum_i s_i w_i + s_0 V_0, exactly. O(nm) a round,
    usually 2 to 6 rounds.

    Source: derived in docs, not in the paper (GAME.md, theorem 4).
    """
    z = logits(game.value, game.beta, game.outside_value)
    found = maximise_share_weighted(
        z, game.surplus, game.outside_value, max_iterations=max_iterations
    )
    return Optimum(found.profile, float(found.value), found.iterations, found.converged, found.gap)


def joint_profit_maximum(
    game: PostedPriceGame, *, max_iterations: int = 1_000
) -> JointProfitMaximum:
    """The profile with the highest joint profit sum_i s_i pi_i, exactly.

    Source: derived in docs, not in the paper (GAME.md, theorem 4).
    """
    z = logits(game.value, game.beta, game.outside_value)
    found = maximise_share_weighted(z, game.profit, 0.0, max_iterations=max_iterations)
    return JointProfitMaximum(
        found.profile, float(found.value), found.iterations, found.converged, found.gap
    )


class _Value(NamedTuple):
    """lambda = x_top + delta, with delta = rest exp(scale). All `[b]`."""

    x_top: Array
    rest: Array  # of any sign
    scale: Array  # a log, <= 0

    @property
    def delta(self) -> Array:
        return self.rest * np.exp(self.scale)

    @property
    def log_size(self) -> Array:
        """log |delta|, also where delta underflows; 0 where delta is 0."""
        nothing = self.rest == 0.0
        return np.where(
            nothing, 0.0, np.log(np.abs(np.where(nothing, 1.0, self.rest))) + self.scale
        )

    def rise_over(self, other: _Value) -> Array:
        """Positive where self is the larger; in the weights' unit where that can be told in
        doubles, else a sign.
        """
        rise = (self.x_top - other.x_top) + (self.delta - other.delta)
        # Both measured from one x_top: signs and logs decide, even where delta itself underflows.
        sign, other_sign = np.sign(self.rest), np.sign(other.rest)
        ahead = np.where(
            sign == other_sign,
            sign * np.sign(self.log_size - other.log_size),
            np.sign(sign - other_sign),
        )
        return np.where((self.x_top == other.x_top) & (rise == 0.0), ahead, rise)


def maximise_share_weighted(
    z: ArrayLike, weight: ArrayLike, outside_weight: ArrayLike = 0.0, *, max_iterations: int = 1_000
) -> Maximum:
    """Maximise sum_i s_i x_i + s_0 x_0 over profiles, exactly.

    Args:
        z: `[n, m, ...]` logits beta (V - V_0).
        weight: `[n, m, ...]` x, in any unit; NaN where the action does not exist (the same places
            for the whole batch or not).
        outside_weight: x_0, a number or `[...]`.
        max_iterations: most rounds.

    Returns:
        `Maximum`, with the batch shape of the arguments.

    Source: derived in docs, not in the paper (GAME.md, theorem 4).
    """
    z, x = np.asarray(z, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    if z.shape != x.shape:
        z, x = np.broadcast_arrays(z, x)
    n, m, *batch = x.shape
    z, x = np.ascontiguousarray(z).reshape(n, m, -1), np.ascontiguousarray(x).reshape(n, m, -1)
    missing = np.isnan(x)
    if missing.any():
        z, x = np.where(missing, 0.0, z), np.where(missing, -np.inf, x)
    b = z.shape[2]
    # What everybody but the providers brings to a profile's value: the outside option, with logit
    # 0.
    z_0, x_0 = np.zeros((1, b)), np.empty((1, b))
    x_0.reshape(batch)[...] = outside_weight
    # where each provider's first action is in the flat tables
    first = np.arange(0, n * m * b, m * b)[:, None] + np.arange(b)

    def evaluate(profile: Index) -> _Value:
        at = first + b * profile
        return _evaluate(np.concatenate([z.take(at), z_0]), np.concatenate([x.take(at), x_0]))

    # 1. Start near the maximum.
    profile = _rough(z, x, x_0[0], first)
    value = evaluate(profile)
    gap = np.zeros(b)
    done = np.zeros(b, dtype=bool)
    for iteration in range(1, max_iterations + 1):
        # 2. Everybody's best answer to lambda, and what it is worth.
        answer = _answers(z, x, value)
        differs = answer != profile
        if not differs.any():
            return _maximum(profile, value, batch, iteration, True, 0.0)
        moved = differs.any(axis=0) & ~done
        answer_value = evaluate(answer)
        # 3. Go on while lambda rises. A test of |change| < tolerance could stop at a wrong profile.
        rise = answer_value.rise_over(value)
        better = moved & (rise > 0.0)
        done |= ~better
        gap = np.where(better, rise, 0.0)
        profile = np.where(better, answer, profile)
        value = _Value(
            *(np.where(better, new, old) for new, old in zip(answer_value, value, strict=True))
        )
        if done.all():
            return _maximum(profile, value, batch, iteration, True, 0.0)
    return _maximum(profile, value, batch, max_iterations, False, float(gap.max()))


def _rough(z: Array, x: Array, x_0: Array, first: Index, max_rounds: int = 30) -> Index:
    """The same rounds in plain doubles: a profile that is usually the maximum already, and never
    needs to be. z, x: `[n, m, b]`.
    """
    n, _, b = z.shape
    z_top = z.max(axis=1)
    e = z - z_top[:, None]  # each provider's own scale
    np.exp(e, out=e)
    np.maximum(e, 1e-300, out=e)  # keeps the sign of e (x - lambda)
    top = np.maximum(z_top.max(axis=0), 0.0)
    scale = np.exp(z_top - top)
    sums = np.empty((2, n + 1, b))  # e x and e of the chosen actions; the outside option last
    ex, chosen = sums[0, :n], sums[1, :n]
    sums[1, n] = np.exp(-top)
    sums[0, n] = sums[1, n] * x_0
    blocks = _blocks(z.shape)
    profile, value = x.argmax(axis=1), np.float64(-np.inf)
    for _ in range(max_rounds):
        at = first + b * profile
        np.multiply(e.take(at), scale, out=chosen)
        np.multiply(x.take(at), chosen, out=ex)
        numerator, denominator = sums.sum(axis=1)
        before, value = value, numerator / denominator
        if not (value > before).any():
            break
        for rows in blocks:
            key = x[rows] - value
            key *= e[rows]
            key.argmax(axis=1, out=profile[rows])
    return profile


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Row ranges small enough for the cache."""
    n, m, b = shape
    step = max(1, _BLOCK // (m * b))
    return [slice(start, start + step) for start in range(0, n, step)]


def _maximum(
    profile: Index, value: _Value, batch: list[int], iterations: int, converged: bool, gap: float
) -> Maximum:
    total = (value.x_top + value.delta).reshape(batch)
    return Maximum(profile.reshape(len(profile), *batch), total, iterations, converged, gap)


def _evaluate(z: Array, x: Array) -> _Value:
    """The share-weighted sum of one profile: x_top, and delta = sum_j s_j (x_j - x_top). z, x: `[n
    + 1, b]`, outside option included.
    """
    top = z.argmax(axis=0)
    entry = np.arange(len(top))
    x_top = x[top, entry]
    log_share = z - z[top, entry]  # up to a constant
    total = np.exp(log_share).sum(axis=0)
    difference = x - x_top
    # Scaled by the largest share among those whose x differs from x_top: delta may be far below the
    # smallest double.
    log_share[difference == 0.0] = -np.inf
    scale = log_share.max(axis=0, initial=-1e300)
    difference *= np.exp(log_share - scale)
    return _Value(x_top, difference.sum(axis=0) / total, scale)


def _answers(z: Array, x: Array, value: _Value) -> Index:
    """argmax_l e_l (x_l - lambda) for every provider: `[n, b]`. In logs: key = sign(t) (z +
    log|t|), t = x - lambda.

    z + log|t| may itself be negative, so each provider's keys are shifted to size >= 1 before they
    take their sign. z, x: `[n, m, b]`.
    """
    n, _, b = z.shape
    answers = np.empty((n, b), dtype=np.intp)
    delta = value.delta
    tiny = bool((np.abs(delta) < 1e-290).any())
    for rows in _blocks(z.shape):
        t = x[rows] - value.x_top
        at_top = t == 0.0 if tiny else None
        t -= delta
        sign = np.sign(t)
        np.abs(t, out=t)
        key = np.log(np.maximum(t, _SMALLEST, out=t), out=t)
        if at_top is not None:  # t = -delta, of which too few digits are left
            np.copyto(sign, -np.sign(value.rest), where=at_top)
            np.copyto(key, value.log_size, where=at_top)
        key += z[rows]
        key -= key.min(axis=1, keepdims=True) - 1.0
        key *= sign
        key.argmax(axis=1, out=answers[rows])
    return answers
