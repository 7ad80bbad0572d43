"""The estimators against enumeration of all subsets, against the economics of voting, and against
fresh samples.
"""

import itertools
import math
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_env.measure import estimators, weighted
from ttc_env.measure.estimators import NO_ANSWER
from ttc_env.measure.resampling import mean_interval

EXACT = 1e-11


def by_enumeration(rule, k, *tables):
    """[Q] mean over all k-subsets of `rule(columns of the subset)`, one question at a time."""
    tables = [np.asarray(t) for t in tables]
    subsets = [list(s) for s in itertools.combinations(range(tables[0].shape[1]), k)]
    return np.array(
        [
            np.mean([rule(*(t[q][s] for t in tables)) for s in subsets])
            for q in range(len(tables[0]))
        ]
    )


def vote(answers, right, weights):
    """Chance that the winner of one vote is right; `right` flags each sample and may differ within
    a class only in tests that say so.
    """
    sums = {a: weights[answers == a].sum() for a in set(answers.tolist()) - {NO_ANSWER}}
    if not sums or max(sums.values()) == 0:
        return 0.0
    winners = [a for a, s in sums.items() if s == max(sums.values())]
    return np.mean([right[answers == a][0] for a in winners])


@st.composite
def samples(draw, max_samples=8):
    """answer, correct, score, k; one class of answers is the right one, some samples have no
    answer, scores tie often.
    """
    n = draw(st.integers(1, max_samples))
    questions = draw(st.integers(1, 3))
    row = lambda low, high: st.lists(st.integers(low, high), min_size=n, max_size=n)  # noqa: E731
    answer = np.array([draw(row(NO_ANSWER, 3)) for _ in range(questions)])
    score = np.array([draw(row(0, 3)) for _ in range(questions)], dtype=float)
    return answer, answer == 0, score, draw(st.integers(1, n))


@given(samples())
@settings(max_examples=150, deadline=None)
def test_every_estimator_equals_enumeration(case):
    answer, correct, score, k = case
    ones = np.ones_like(score)
    np.testing.assert_allclose(
        estimators.majority_of_k(answer, correct, [k])[:, 0],
        by_enumeration(vote, k, answer, correct, ones),
        atol=EXACT,
    )
    np.testing.assert_allclose(
        estimators.best_of_k(correct, score, [k])[:, 0],
        by_enumeration(lambda c, s: c[s == s.max()].mean(), k, correct, score),
        atol=EXACT,
    )
    np.testing.assert_allclose(
        estimators.pass_at_k(correct, [k])[:, 0],
        by_enumeration(lambda c: c.any(), k, correct),
        atol=EXACT,
    )
    # 0..3: whole weights, which resolution 3 leaves as they are once the largest is 3
    whole = score
    whole[:, 0] = 3
    expected = by_enumeration(vote, k, answer, correct, whole)
    np.testing.assert_allclose(
        weighted.weighted_majority_of_k(answer, correct, whole, [k], resolution=3)[:, 0],
        expected,
        atol=EXACT,
    )
    np.testing.assert_allclose(
        weighted.weighted_majority_by_enumeration(answer, correct, whole, k), expected, atol=EXACT
    )


def majority_in_whole_numbers(counts, unanswered, k):
    """Chance that class 0 wins a vote of k, counted in exact integers over (votes, size, ties):
    a second method beside the estimator's.
    """
    wins = Fraction(0)
    for v in range(1, min(k, counts[0]) + 1):
        ways = Counter({(v, 0): math.comb(counts[0], v)})
        for n in counts[1:]:
            step = Counter()
            for (size, ties), w in ways.items():
                for x in range(min(n, v, k - size) + 1):
                    step[size + x, ties + (x == v)] += w * math.comb(n, x)
            ways = step
        wins += sum(
            Fraction(w * math.comb(unanswered, k - size), ties + 1)
            for (size, ties), w in ways.items()
        )
    return wins / math.comb(sum(counts) + unanswered, k)


@pytest.mark.parametrize(
    "counts, unanswered",
    [([20, 18, 9, 5, 3, 1, 1, 1], 6), ([7] * 8, 8), ([1] * 40, 24), ([64], 0), ([3, 61], 0)],
)
def test_majority_at_full_scale_against_exact_integers(counts, unanswered):
    answer = np.repeat([*range(len(counts)), NO_ANSWER], [*counts, unanswered])[None]
    ks = [1, 2, 3, 8, 17, 32, 63, 64]
    expected = [float(majority_in_whole_numbers(counts, unanswered, k)) for k in ks]
    np.testing.assert_allclose(
        estimators.majority_of_k(answer, answer == 0, ks)[0], expected, rtol=1e-10, atol=1e-13
    )
    np.testing.assert_allclose(
        weighted.weighted_majority_of_k(
            answer, answer == 0, np.ones(answer.shape), ks, resolution=2
        )[0],
        expected,
        rtol=1e-10,
        atol=1e-13,
    )


def test_majority_by_hand():
    # Right twice, wrong once. Pairs: RR wins, two RW tie and win half. Triple: right wins.
    answer = np.array([[0, 0, 1]])
    np.testing.assert_allclose(
        estimators.majority_of_k(answer, answer == 0, [1, 2, 3]), [[2 / 3, 2 / 3, 1.0]]
    )
    # No answer never wins: with one right and two blanks, any subset that holds the right one is
    # right.
    answer = np.array([[0, NO_ANSWER, NO_ANSWER]])
    np.testing.assert_allclose(
        estimators.majority_of_k(answer, answer == 0, [1, 2, 3]), [[1 / 3, 2 / 3, 1.0]]
    )


def test_best_of_k_shares_equal_scores_and_takes_infinite_ones():
    correct = np.array([[True, False, False]])
    np.testing.assert_allclose(
        estimators.best_of_k(correct, [[1.0, 1.0, 1.0]], [1, 2, 3]), [[1 / 3, 1 / 3, 1 / 3]]
    )
    np.testing.assert_allclose(
        estimators.best_of_k(correct, [[0.0, -np.inf, -np.inf]], [1, 2, 3]), [[1 / 3, 2 / 3, 1.0]]
    )


def test_class_with_mixed_flags_counts_in_proportion():
    answer = np.zeros((1, 4), dtype=int)
    np.testing.assert_allclose(
        estimators.majority_of_k(answer, [[True, False, False, False]], [1, 3]), [[0.25, 0.25]]
    )


@given(samples(max_samples=12), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_properties(case, random):
    answer, correct, score, _ = case
    n = answer.shape[1]
    ks = list(range(1, n + 1))
    single = correct.mean(axis=1)
    majority, best, passed = (
        estimators.majority_of_k(answer, correct, ks),
        estimators.best_of_k(correct, score, ks),
        estimators.pass_at_k(correct, ks),
    )
    for curve in (majority, best, passed):  # one sample is one sample, whatever picks it
        np.testing.assert_allclose(curve[:, 0], single, atol=EXACT)
    assert (passed >= majority - EXACT).all()
    assert (passed >= best - EXACT).all()
    assert (np.diff(passed, axis=1) >= -EXACT).all()
    # An oracle's score gives pass@k; a constant score gives one sample.
    np.testing.assert_allclose(
        estimators.best_of_k(correct, correct.astype(float), ks), passed, atol=EXACT
    )
    np.testing.assert_allclose(
        estimators.best_of_k(correct, np.zeros_like(score), ks),
        np.repeat(single[:, None], n, 1),
        atol=EXACT,
    )
    # The order of the samples and the names of the answers mean nothing.
    order = list(range(n))
    random.shuffle(order)
    names = np.array([7, 2, 9, 5, NO_ANSWER])
    np.testing.assert_allclose(
        estimators.majority_of_k(names[answer][:, order], correct[:, order], ks),
        majority,
        atol=EXACT,
    )
    np.testing.assert_allclose(
        estimators.best_of_k(correct[:, order], score[:, order], ks), best, atol=EXACT
    )
    # Equal weights are plain votes.
    np.testing.assert_allclose(
        weighted.weighted_majority_of_k(
            answer, correct, np.full_like(score, 0.7), ks, resolution=1
        ),
        majority,
        atol=EXACT,
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_unbiased_for_fresh_samples(seed):
    """Mean estimate from N = 12 samples against the true chance that 4 fresh samples vote right, or
    hold the best right.
    """
    rng = np.random.default_rng(seed)
    chances = np.array([0.4, 0.35, 0.2, 0.05])  # right, two wrong answers, no answer
    answer = rng.choice([0, 1, 2, NO_ANSWER], p=chances, size=(15_000, 12))
    score = rng.normal(size=answer.shape) + (answer == 0)
    k = 4
    truth = sum(
        np.prod(chances[list(draw)])
        * vote(
            np.array([0, 1, 2, NO_ANSWER])[list(draw)],
            np.array([1.0, 0, 0, 0])[list(draw)],
            np.ones(k),
        )
        for draw in itertools.product(range(4), repeat=k)
    )
    estimate = estimators.majority_of_k(answer, answer == 0, [k])[:, 0]
    assert abs(estimate.mean() - truth) < 4 * estimate.std() / np.sqrt(len(estimate))
    fresh = rng.choice([0, 1, 2, NO_ANSWER], p=chances, size=(100_000, k))
    fresh_score = rng.normal(size=fresh.shape) + (fresh == 0)
    delivered = np.take_along_axis(fresh == 0, fresh_score.argmax(1)[:, None], 1)
    best = estimators.best_of_k(answer == 0, score, [k])[:, 0]
    assert abs(best.mean() - delivered.mean()) < 4 * (
        best.std() / np.sqrt(len(best)) + 0.5 / np.sqrt(len(delivered))
    )


def test_rounding_of_weights_fades_with_resolution():
    rng = np.random.default_rng(3)
    answer = rng.integers(NO_ANSWER, 3, size=(6, 10))
    weight = rng.uniform(0.2, 1.0, size=answer.shape)
    exact = weighted.weighted_majority_by_enumeration(answer, answer == 0, weight, 5)
    errors = [
        np.abs(
            weighted.weighted_majority_of_k(answer, answer == 0, weight, [5], resolution=r)[:, 0]
            - exact
        ).mean()
        for r in (4, 512)
    ]
    assert errors[1] < 0.01
    assert errors[1] < errors[0]


def test_large_tables_stay_in_range_and_fast():
    """200 questions x 128 samples, all k to 64: about a second (the limit here leaves room for a
    busy machine).
    """
    rng = np.random.default_rng(0)
    answer = np.minimum(rng.geometric(0.12, size=(200, 128)) - 1, 60) - 1
    ks = list(range(1, 65))
    started = time.perf_counter()
    curve = estimators.majority_of_k(answer, answer == 0, ks)
    estimators.best_of_k(answer == 0, rng.normal(size=answer.shape), ks)
    estimators.pass_at_k(answer == 0, ks)
    assert time.perf_counter() - started < 10
    assert np.isfinite(curve).all()
    # Thousands of samples: C(4000, 64) overflows a double, the estimate does not.
    many = rng.integers(0, 3, size=(2, 4000))
    np.testing.assert_allclose(
        estimators.majority_of_k(many, many == 0, [1])[:, 0], (many == 0).mean(axis=1)
    )
    assert np.isfinite(estimators.majority_of_k(many, many == 0, [64])).all()


def test_effort_bins_by_hand():
    correct = np.array([[1, 0, 1, 1], [1, 1, 0, 0]], dtype=bool)
    thinking = np.array([[1, 2, 3, 4], [5, 5, 5, 9]])
    finished = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], dtype=bool)
    accuracy, tokens = estimators.effort_bins(correct, thinking, thinking + 1, finished, bins=2)
    np.testing.assert_allclose(accuracy, [[0.5, 1.0], [2 / 3, 2 / 3]])  # equal lengths share evenly
    np.testing.assert_allclose(tokens, [[2.5, 4.5], [6, 6]])
    empty, _ = estimators.effort_bins(correct, thinking, thinking, np.zeros_like(finished), bins=2)
    assert np.isnan(empty).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: estimators.pass_at_k([[True]], [2]), "draw more samples"),
        (lambda: estimators.pass_at_k([[True]], [0.5]), "whole numbers"),
        (
            lambda: estimators.majority_of_k(
                np.zeros((1, 900), dtype=int), np.ones((1, 900)), [800]
            ),
            "up to 700",
        ),
        (
            lambda: estimators.best_of_k([[True, False]], [[0.0, np.nan]], [1]),
            "NaN at question 0, sample 1",
        ),
        (lambda: estimators.best_of_k([[True, False]], [[0.0]], [1]), "one entry for every sample"),
        (lambda: weighted.weighted_majority_of_k([[0]], [[True]], [[-1.0]], [1]), "np.exp"),
        (
            lambda: weighted.weighted_majority_by_enumeration(
                np.zeros((1, 40)), np.ones((1, 40)), np.ones((1, 40)), 20
            ),
            "weighted_majority_of_k",
        ),
    ],
)
def test_errors_name_the_remedy(call, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        call()


@pytest.mark.parametrize(
    "count, chance", [(30, 0.02), (30, 0.98), (30, 0.1), (30, 0.5), (100, 0.01)]
)
def test_intervals_cover_at_the_edges(count, chance):
    """At 30 questions and p = 0.02 the percentile bootstrap covered 45%."""
    rng = np.random.default_rng(0)
    drawn = (rng.random((count, 600)) < chance).astype(float)
    low, high = mean_interval(drawn, resamples=400)
    assert ((low <= chance) & (chance <= high)).mean() > 0.92
    assert ((low >= 0) & (high <= 1) & (low <= drawn.mean(0)) & (drawn.mean(0) <= high)).all()


def test_intervals_say_that_none_of_thirty_is_not_never():
    low, high = mean_interval(np.zeros((30, 1)))
    assert low[0] == 0.0
    assert high[0] == pytest.approx(1 - 1 / (1 + 1.96**2 / 30), abs=1e-3)  # Wilson with no success
