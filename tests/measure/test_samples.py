"""Tables of samples: scores become weights as documented, rewards join by question."""

import itertools

import numpy as np
import pytest

from ttc_env.measure.samples import Samples, from_records, from_trace
from ttc_env.measure.traces import Trace


def table(logprob=None, reward=None):
    """Two questions, three samples each: answers 0, 0, 1, of which 1 is right."""
    shape = (2, 3)
    return Samples(
        ids=("a", "b"),
        answer=np.tile([0, 0, 1], (2, 1)),
        correct=np.tile([False, False, True], (2, 1)),
        tokens=np.ones(shape),
        thinking_tokens=np.zeros(shape),
        finished=np.ones(shape, bool),
        logprob=None if logprob is None else np.tile(logprob, (2, 1)).astype(float),
        reward=None if reward is None else np.tile(reward, (2, 1)).astype(float),
    )


def vote(weight, k):
    """The chance that the right answer gets most weight, over all choices of k samples."""
    right = []
    for chosen in itertools.combinations(range(3), k):
        for_right = sum(weight[i] for i in chosen if i == 2)
        right.append(for_right > sum(weight[i] for i in chosen if i != 2))
    return np.mean(right)


def test_votes_weigh_by_probability_or_by_the_logistic_of_the_reward():
    by_probability = table(logprob=np.log([0.25, 0.25, 1.0]))
    by_reward = table(reward=[-2.0, -2.0, 3.0])
    logistic = 1.0 / (1.0 + np.exp(-np.array([-2.0, -2.0, 3.0])))
    for samples, score, weight in (
        (by_probability, "logprob", [0.25, 0.25, 1.0]),
        (by_reward, "reward", logistic),
    ):
        found = samples.accuracy("weighted_majority", [1, 2, 3], score, 64)
        expected = [vote(weight, k) for k in (1, 2, 3)]
        np.testing.assert_allclose(found, np.tile(expected, (2, 1)), atol=1e-12)
    assert by_probability.accuracy("majority", [3])[0, 0] == 0.0  # unweighted, the two win
    far = table(reward=[-1e9, -1e9, 1e9])  # no overflow
    assert far.accuracy("weighted_majority", [3], "reward")[0, 0] == 1.0


def test_what_samples_do_not_have_is_told_with_the_remedy():
    samples = table()
    with pytest.raises(ValueError, match="'entropy' is unknown; choose one of logprob, reward"):
        samples.score("entropy")
    with pytest.raises(ValueError, match="no logprob; measure with a backend that returns"):
        samples.accuracy("best_of_n", [1])
    with pytest.raises(ValueError, match="no reward; run `ttc-env estimate --reward-model` first"):
        samples.accuracy("weighted_majority", [1], "reward")
    with pytest.raises(ValueError, match="'median' is unknown; choose one of majority, best_of_n"):
        samples.accuracy("median", [1])
    with pytest.raises(ValueError, match="no questions in this trace; measure some first"):
        from_records({})


def trace(path, columns, torn=None):
    records = {
        name: {"id": name, "samples": {k: list(v) for k, v in columns.items()}} for name in "ab"
    }
    return Trace(path, {}, (), records, torn)


SAMPLED = {"answer": ["1", "2"], "correct": [True, False], "tokens": [3, 4]}


def test_rewards_are_joined_by_question_and_must_be_whole(tmp_path):
    drawn = trace(tmp_path / "t.jsonl", SAMPLED)
    scored = trace(tmp_path / "t.rewards.jsonl", {"rewards": [0.5, -1.0]})
    scored.records["b"]["samples"]["rewards"] = [2.0, 3.0]
    backwards = dict(reversed(scored.records.items()))
    joined = from_trace(drawn, Trace(scored.path, {}, (), backwards))
    assert joined.ids == ("a", "b")
    np.testing.assert_array_equal(joined.reward, [[0.5, -1.0], [2.0, 3.0]])
    assert from_trace(drawn).reward is None
    assert "rewards" not in drawn.records["a"]["samples"]
    del scored.records["b"]
    with pytest.raises(ValueError, match=r"t\.rewards\.jsonl lacks 1 of 2 questions; resume"):
        from_trace(drawn, scored)


def test_a_torn_line_is_said():
    said = []
    from_trace(trace("t.jsonl", SAMPLED, "t.jsonl: line 3 is torn"), warn=said.append)
    assert said == ["t.jsonl: line 3 is torn"]
