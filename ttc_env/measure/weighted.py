"""Weighted majority of k samples: each vote counts with its sample's score.

Apart from plain majority, because it is harder: the winner depends on sums of real numbers, and
there are as many different sums as there
are subsets. Two ways, and each says what is exact:

- `weighted_majority_of_k` rounds weights to whole multiples of max/resolution. For those rounded
  weights the answer is **exact over all C(N, k) subsets** (a knapsack count for each class, no
  sampling). The rounding is the only error; double the resolution to see its size.
- `weighted_majority_by_enumeration` takes the weights as they are and walks through all subsets:
  for small C(N, k).

Source: derived for this project.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.measure.estimators import (
    NO_ANSWER,
    Array,
    check_ks,
    check_table,
    count_scale,
    log_binomial,
)

_CHUNK = 20_000  # numbers worked on at once: about what a core's own cache holds


def round_weights(weight: ArrayLike, resolution: int) -> NDArray[np.int64]:
    """`[Q, N]` whole weights in 0..resolution: weight / (largest weight of the question) *
    resolution, rounded; a positive one is at least 1.

    Raises:
        ValueError: a weight is negative or not finite, or resolution < 1.
    """
    table = check_table("weight", weight).astype(np.float64)
    if not (np.isfinite(table).all() and (table >= 0).all()):
        raise ValueError(
            "weights must be finite and not negative; turn log-probabilities into weights with"
            " np.exp"
        )
    if resolution < 1:
        raise ValueError(f"resolution is {resolution}; it must be at least 1")
    largest = table.max(axis=1, keepdims=True)
    scaled = np.rint(table / np.where(largest > 0, largest, 1.0) * resolution)
    return np.maximum(scaled, table > 0).astype(np.int64)


def weighted_majority_of_k(
    answer: ArrayLike,
    correct: ArrayLike,
    weight: ArrayLike,
    ks: Sequence[int],
    *,
    resolution: int = 16,
) -> Array:
    """`[Q, K]` chance that the answer with the largest sum of weights among k samples is right;
    ties are broken uniformly.

    Samples without a parsable answer never win, nor does an answer whose votes all weigh 0.

    Args:
        answer, correct: as in `estimators.majority_of_k`.
        weight: `[Q, N]` finite, >= 0; rounded by `round_weights`. Equal weights give plain majority
            at resolution 1.
        ks: K numbers of samples, each in [1, N].
        resolution: steps between 0 and the question's largest weight. Time grows in proportion: at
            16, 200 questions x 128 samples of ten answers take some tens of seconds.

    How: count the subsets of each class by (size, sum); for every winning sum s multiply the other
    classes' polynomials [ subsets below s + u * subsets at s ], and integrate over u as
    `majority_of_k` does.
    """
    codes = check_table("answer", answer)
    right = check_table("correct", correct, codes.shape).astype(bool)
    units = round_weights(check_table("weight", weight, codes.shape), resolution)
    k = check_ks(ks, codes.shape[1])
    result = np.zeros((len(codes), len(k)))
    for q in range(len(codes)):
        result[q] = _one_question(codes[q], right[q], units[q], k)
    return np.clip(result, 0.0, 1.0)


def _one_question(codes: NDArray, right: NDArray, units: NDArray, k: NDArray) -> Array:
    num_samples, k_max = len(codes), int(k.max())
    ratio = count_scale(num_samples, k_max)
    degrees = np.arange(k_max + 1)
    classes = [np.flatnonzero(codes == c) for c in np.unique(codes[codes != NO_ANSWER])]
    shares = [right[members].mean() for members in classes]
    if not any(shares):
        return np.zeros(len(k))
    counts = [_subsets_by_size_and_sum(units[members], k_max, ratio) for members in classes]
    unanswered = np.exp(log_binomial((codes == NO_ANSWER).sum(), degrees) + degrees * np.log(ratio))
    ways = np.zeros(k_max + 1)
    for c, share in enumerate(shares):
        if share:
            ways += share * _ways_to_win(counts[c], counts[:c] + counts[c + 1 :], unanswered)
    return ways[k] / np.exp(log_binomial(num_samples, k) + k * np.log(ratio))


def _subsets_by_size_and_sum(units: NDArray, k_max: int, ratio: float) -> Array:
    """`[sum, size]` number of subsets of one class, times ratio**size."""
    top = min(len(units), k_max)
    table = np.zeros((int(np.sort(units)[-top:].sum()) + 1, top + 1))
    table[0, 0] = 1.0
    for unit in units:
        kept = len(table) - unit
        table[unit:, 1:] += ratio * table[:kept, :-1]
    return table


def _ways_to_win(target: Array, rivals: list[Array], unanswered: Array) -> Array:
    """`[k_max+1]` weighted number of subsets of each size that the target class wins."""
    size = len(unanswered)
    node, weight = np.polynomial.legendre.leggauss(len(rivals) // 2 + 1)
    u = (node + 1.0) / 2.0
    # row s: subsets with a sum under s
    below = [np.vstack([np.zeros(rival.shape[1]), np.cumsum(rival, axis=0)]) for rival in rivals]
    sums = np.flatnonzero(target[1:].any(axis=1)) + 1  # a sum of 0 never wins
    ways = np.zeros(size)
    step = max(1, _CHUNK // (size * len(u)))
    for start in range(0, len(sums), step):
        s = sums[start : start + step]
        polynomial = np.zeros((len(s), len(u), size))
        polynomial[:] = unanswered
        for rival, cumulated in zip(rivals, below, strict=True):
            under = cumulated[np.minimum(s, len(rival))]  # [s, size of the rival's subset]
            level = np.where((s < len(rival))[:, None], rival[np.minimum(s, len(rival) - 1)], 0.0)
            factor = under[:, None, :] + u[:, None] * level[:, None, :]  # [s, nodes, x]
            new = factor[..., :1] * polynomial
            for x in range(1, rival.shape[1]):
                new[..., x:] += factor[..., x : x + 1] * polynomial[..., : size - x]
            polynomial = new
        rest = np.einsum("snj,n->sj", polynomial, weight / 2.0)
        own = target[s]
        for x in range(1, target.shape[1]):
            ways[x:] += own[:, x] @ rest[:, : size - x]
    return ways


def weighted_majority_by_enumeration(
    answer: ArrayLike, correct: ArrayLike, weight: ArrayLike, k: int, *, max_subsets: int = 200_000
) -> Array:
    """`[Q]` the same chance for one k and the weights as given, by walking through all C(N, k)
    subsets.

    Sums that differ by less than 1e-12 of the larger one count as tied.

    Raises:
        ValueError: C(N, k) exceeds `max_subsets`.
    """
    codes = check_table("answer", answer)
    right = check_table("correct", correct, codes.shape).astype(bool)
    weights = check_table("weight", weight, codes.shape).astype(np.float64)
    num_samples = codes.shape[1]
    check_ks([k], num_samples)
    subsets = math.comb(num_samples, k)
    if subsets > max_subsets:
        raise ValueError(
            f"C({num_samples}, {k}) = {subsets} subsets are more than max_subsets = {max_subsets};"
            " use weighted_majority_of_k"
        )
    result = np.zeros(len(codes))
    for q in range(len(codes)):
        kinds = np.unique(codes[q][codes[q] != NO_ANSWER])
        share = np.array([right[q][codes[q] == c].mean() for c in kinds])
        for chosen in itertools.combinations(range(num_samples), k):
            index = np.array(chosen)
            sums = np.array([weights[q][index][codes[q][index] == c].sum() for c in kinds])
            if len(kinds) and sums.max() > 0:
                winners = sums >= sums.max() * (1.0 - 1e-12)
                result[q] += share[winners].mean()
    return result / subsets
