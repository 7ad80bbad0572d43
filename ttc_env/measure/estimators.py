"""From N stored samples a question to the accuracy of a system that draws k: exact, over all C(N,
k) subsets, no Monte Carlo.

Every estimator takes `[Q, N]` arrays (question, sample) and a list of K values of k, and returns
`[Q, K]`: the expectation, for each question, over a uniformly drawn k-subset of its N samples. That
is a U-statistic, so it is unbiased for the accuracy of k fresh samples. Average over axis 0 for a
curve; resample axis 0 for its interval (`ttc_env.measure.resampling`).

This file needs numpy and scipy alone, and nothing else of this package but `weighted`: usable on
any table of samples.

Source: GAME.md, "Curves from samples" (derived for this project; the paper draws 50 random subsets
instead).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]
# [Q, N] class code of the parsed answer, equal codes for equal answers; NO_ANSWER where none was
# parsed
Answers = NDArray[np.int64]

NO_ANSWER = -1


def log_binomial(n: ArrayLike, k: ArrayLike) -> Array:
    """log C(n, k) elementwise, -inf where k < 0 or k > n."""
    n, k = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64))
    possible = (k >= 0) & (k <= n)
    chosen = np.where(possible, k, 0.0)
    return np.where(
        possible,
        gammaln(n + 1) - gammaln(chosen + 1) - gammaln(np.where(possible, n - chosen, 0.0) + 1),
        -np.inf,
    )


def check_ks(ks: Sequence[int], num_samples: int) -> NDArray[np.int64]:
    """`ks` as an array, or a ValueError that says which k cannot be estimated."""
    array = np.asarray(ks)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"ks is {ks!r}; give a list of whole numbers of samples, such as [1, 2, 4, 8]"
        )
    if array.min() < 1 or array.max() > num_samples:
        raise ValueError(
            f"ks runs from {array.min()} to {array.max()}, and each question has {num_samples}"
            f" samples; k must lie in [1, {num_samples}]: drop the larger levels or draw more"
            " samples"
        )
    return array.astype(np.int64)


def count_scale(num_samples: int, k_max: int) -> float:
    """The r for which counts of subsets, times r**size, stay in double range: sum_x C(N, x) r**x =
    (1 + r)**N <= exp(k_max).

    Raises:
        ValueError: k_max > 700.
    """
    if k_max > 700:
        raise ValueError(
            f"votes among k = {k_max} samples are more than double precision holds; k may go up"
            " to 700"
        )
    return min(1.0, k_max / num_samples)


def check_table(name: str, values: ArrayLike, shape: tuple[int, ...] | None = None) -> NDArray:
    """`values` as a `[Q, N]` array without NaN, of the given shape if any; else a ValueError."""
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name} has shape {array.shape}; it must be [questions, samples] with at least one of"
            " each"
        )
    if shape is not None and array.shape != shape:
        raise ValueError(
            f"{name} has shape {array.shape}, but {shape} is needed: one entry for every sample of"
            " every question"
        )
    if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
        q, j = np.argwhere(np.isnan(array))[0]
        raise ValueError(
            f"{name} is NaN at question {q}, sample {j}; drop the sample or give it a value (-inf"
            " for a score: never preferred)"
        )
    return array


def pass_at_k(correct: ArrayLike, ks: Sequence[int]) -> Array:
    """`[Q, K]` chance that at least one of k samples is right: 1 - C(N - c, k) / C(N, k), c of the
    N being right.

    Source: GAME.md, "Curves from samples"; Chen et al. 2021, Evaluating Large Language Models
    Trained on Code, eq. 1.
    """
    right = check_table("correct", correct).astype(bool)
    num_samples = right.shape[1]
    k = check_ks(ks, num_samples)
    wrong = num_samples - right.sum(axis=1)
    return -np.expm1(log_binomial(wrong[:, None], k) - log_binomial(num_samples, k))


def best_of_k(correct: ArrayLike, score: ArrayLike, ks: Sequence[int]) -> Array:
    """`[Q, K]` chance that the sample with the highest score among k is right; equal scores share
    evenly.

    The j-th lowest of N scores (j = 1..N) is the highest of the subset with probability C(j-1, k-1)
    / C(N, k).

    Args:
        correct: `[Q, N]` bool. A sample without a parsable answer is wrong; it still competes with
            its score, as it would when served by a system that cannot tell. Give it the score -inf
            for a system that can.
        score: `[Q, N]` any real numbers, +-inf allowed.
        ks: K numbers of samples, each in [1, N].

    Source: GAME.md, "Curves from samples".
    """
    right = check_table("correct", correct).astype(np.float64)
    scores = check_table("score", score, right.shape)
    num_questions, num_samples = right.shape
    k = check_ks(ks, num_samples)
    rank = np.arange(num_samples)
    # [K, N] chance to be the highest
    highest = np.exp(log_binomial(rank, k[:, None] - 1) - log_binomial(num_samples, k)[:, None])

    order = np.argsort(scores, axis=1, kind="stable")
    ranked = np.take_along_axis(right, order, axis=1)
    sorted_scores = np.take_along_axis(scores, order, axis=1)
    # Equal scores stand side by side: each gets the mean of its group, so that the place within the
    # group does not matter.
    new_group = np.ones(right.shape, dtype=bool)
    new_group[:, 1:] = sorted_scores[:, 1:] != sorted_scores[:, :-1]
    group = np.cumsum(new_group.ravel()) - 1
    mean = np.bincount(group, ranked.ravel()) / np.bincount(group)
    return np.clip(mean[group].reshape(num_questions, num_samples) @ highest.T, 0.0, 1.0)


def majority_of_k(answer: ArrayLike, correct: ArrayLike, ks: Sequence[int]) -> Array:
    """`[Q, K]` chance that the most frequent answer among k samples is right; ties are broken
    uniformly.

    Samples without a parsable answer (`NO_ANSWER`) never win; a subset of only those is wrong.

    Args:
        answer: `[Q, N]` integer codes, equal for equal answers of a question; `NO_ANSWER` where
            none was parsed.
        correct: `[Q, N]` bool. Where the flags differ within one class of answers, the class counts
            as right in that proportion.
        ks: K numbers of samples, each in [1, N].

    How: let class c have n_c samples. It wins with v votes, t others tying, with weight 1/(t+1) =
    integral of u**t over [0, 1]. So the number of winning k-subsets is the coefficient of z**(k-v)
    in

        C(n_c, v) * integral over u of  prod over other classes of [ sum_{x<v} C(n, x) z**x + u C(n,
        v) z**v ]  * (1 + z)**(no answer)

    summed over v. The integrand is a polynomial in u of known degree, so Gauss-Legendre nodes
    integrate it exactly, and all terms are positive, so nothing cancels. Classes with n < v enter
    as plain binomials, which leaves at most N/v products for each v.

    Source: derived for this project (GAME.md, "Curves from samples", asks for the law; this is our
    way to it).
    """
    codes = check_table("answer", answer)
    right = check_table("correct", correct, codes.shape).astype(bool)
    num_questions, num_samples = codes.shape
    k = check_ks(ks, num_samples)
    k_max = int(k.max())

    rows = [_targets(q, codes[q], right[q]) for q in range(num_questions)]
    targets = [target for row in rows for target in row]
    result = np.zeros((num_questions, len(k)))
    if not targets:
        return result
    width = max(len(others) for _, _, _, others in targets)
    question = np.array([q for q, _, _, _ in targets])
    share = np.array([s for _, s, _, _ in targets])  # [P] part of the class that counts as right
    votes = np.array([n for _, _, n, _ in targets])  # [P] size of the class
    # [P, C] sizes of the other classes, largest first
    rivals = np.zeros((len(targets), width), dtype=np.int64)
    for row, (_, _, _, others) in zip(rivals, targets, strict=True):
        row[: len(others)] = others
    unanswered = num_samples - votes - rivals.sum(axis=1)

    ratio = count_scale(num_samples, k_max)
    degrees = np.arange(k_max + 1)
    # [N+1, k_max+1]
    binomial = np.exp(
        log_binomial(np.arange(num_samples + 1)[:, None], degrees) + degrees * np.log(ratio)
    )
    ways = np.zeros((len(targets), k_max + 1))
    for v in range(1, min(k_max, int(votes.max())) + 1):
        strong = (rivals >= v).sum(axis=1)
        active = np.flatnonzero(votes >= v)
        active = active[np.argsort(-strong[active], kind="stable")]
        polynomial = _ways_not_beating(
            v, rivals[active], unanswered[active], strong[active], binomial, k_max - v
        )
        ways[active, v:] += binomial[votes[active], v][:, None] * polynomial
    total = np.exp(log_binomial(num_samples, k) + k * np.log(ratio))
    np.add.at(result, question, share[:, None] * ways[:, k] / total)
    return np.clip(result, 0.0, 1.0)


def _targets(q: int, codes: NDArray, right: NDArray) -> list[tuple[int, float, int, NDArray]]:
    """One entry for each class of question q that holds a right sample: (q, share right, size,
    sizes of the others, largest first).
    """
    answered = codes != NO_ANSWER
    _, members, sizes = np.unique(codes[answered], return_inverse=True, return_counts=True)
    num_right = np.bincount(members, right[answered], minlength=len(sizes))
    return [
        (q, num_right[c] / sizes[c], int(sizes[c]), -np.sort(-np.delete(sizes, c)))
        for c in np.flatnonzero(num_right)
    ]


def _ways_not_beating(
    v: int, rivals: NDArray, unanswered: NDArray, strong: NDArray, binomial: Array, degree: int
) -> Array:
    """`[A, degree+1]` weighted ways in which the rest of the subset leaves v votes unbeaten; rows
    sorted by `strong`, descending.

    `strong` counts the rivals with at least v samples; only those can beat or tie.
    """
    most_ties = min(int(strong[0]), degree // v)
    # exact up to degree 2 * nodes - 1 >= most_ties
    node, weight = np.polynomial.legendre.leggauss(most_ties // 2 + 1)
    u = (node + 1.0) / 2.0
    free = unanswered + np.where(rivals < v, rivals, 0).sum(axis=1)
    # [A, nodes, degree+1]
    polynomial = np.repeat(binomial[free, None, : degree + 1], len(u), axis=1)
    for c in range(int(strong[0])):
        rows = int(np.searchsorted(-strong, -c))  # the first rows have more than c strong rivals
        choose = binomial[rivals[:rows, c]]  # [rows, k_max+1]
        old = polynomial[:rows]
        new = old.copy()
        for x in range(1, min(v, degree) + 1):
            factor = choose[:, x, None, None] * (u[:, None] if x == v else 1.0)
            new[..., x:] += factor * old[..., : degree + 1 - x]
        polynomial[:rows] = new
    return np.einsum("anj,n->aj", polynomial, weight / 2.0)


def tokens_at_k(tokens: ArrayLike, ks: Sequence[int]) -> Array:
    """`[Q, K]` mean tokens of k samples: k times the question's mean.

    `tokens` is `[Q, N]`, tokens/sample.
    """
    table = check_table("tokens", tokens).astype(np.float64)
    return table.mean(axis=1)[:, None] * check_ks(ks, table.shape[1])


def effort_bins(
    correct: ArrayLike,
    thinking_tokens: ArrayLike,
    tokens: ArrayLike,
    finished: ArrayLike,
    bins: int = 5,
) -> tuple[Array, Array]:
    """The paper's *observational* effort levels: within each question, samples sorted by thinking
    length and cut into equal parts.

    Not a dial: long thoughts are long because the question is hard for that sample, so these
    "levels" confound effort with difficulty, and they are conditional on samples that finished.
    Kept under its own name to be compared with an enforced thinking budget
    (`ttc_env.measure.dials.ThinkingBudget`).

    Args:
        correct: `[Q, N]` bool.
        thinking_tokens: `[Q, N]` length of the thought, by which samples are sorted; equal lengths
            share evenly.
        tokens: `[Q, N]` billed tokens of the sample.
        finished: `[Q, N]` bool; samples that were cut off are left out.
        bins: number of equal parts B. A sample that straddles two parts counts in both, in
            proportion.

    Returns:
        `[Q, B]` accuracy and `[Q, B]` tokens; NaN in a question no sample of which finished (report
        how many, use `np.nanmean`).

    Source: [TTC], chain-of-thought experiments.
    """
    right = check_table("correct", correct).astype(np.float64)
    length = check_table("thinking_tokens", thinking_tokens, right.shape)
    billed = check_table("tokens", tokens, right.shape).astype(np.float64)
    done = check_table("finished", finished, right.shape).astype(bool)
    if bins < 1:
        raise ValueError(f"bins is {bins}; it must be at least 1")
    accuracy = np.full((len(right), bins), np.nan)
    mean_tokens = np.full((len(right), bins), np.nan)
    for q in range(len(right)):
        kept = done[q]
        count = int(kept.sum())
        if count == 0:
            continue
        order = np.argsort(length[q, kept], kind="stable")
        _, group = np.unique(length[q, kept][order], return_inverse=True)
        size = np.bincount(group)
        edges = np.arange(bins + 1) / bins * count
        start = np.arange(count)
        # [B, n]
        overlap = (
            np.clip(
                np.minimum(edges[1:, None], start + 1) - np.maximum(edges[:-1, None], start),
                0.0,
                None,
            )
            * bins
            / count
        )
        for values, out in ((right, accuracy), (billed, mean_tokens)):
            out[q] = overlap @ (np.bincount(group, values[q, kept][order]) / size)[group]
    return accuracy, mean_tokens
