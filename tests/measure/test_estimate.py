"""From traces to curves: what is asked for is checked before anything is read."""

import numpy as np
import pytest

from ttc_env.measure import estimate, resampling
from ttc_env.measure.estimate import CurveOptions, RewardOptions, by_budget, load_samples, summarise
from ttc_env.measure.samples import from_records
from ttc_env.measure.traces import Trace, TraceWriter, read_trace


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": ()}, "no method is asked for; choose among majority"),
        ({"methods": ("median",)}, "method 'median' is unknown"),
        ({"score": "entropy"}, "score 'entropy' is unknown; choose one of logprob, reward"),
        ({"score": "reward"}, "needs a reward model"),
        ({"levels": ()}, "1 or more"),
        ({"levels": (0, 1)}, "1 or more"),
        ({"levels": (1, 2, 2)}, "a level stands there twice"),
        ({"resamples": 0}, "resamples is 0; it must be at least 1"),
        ({"margin": -1.0}, "margin is -1.0; it must be a number above -1"),
        ({"margin": float("nan")}, "margin is nan"),
        ({"reward_model": "./none"}, r"no reward model in the folder \./none"),
    ],
)
def test_what_makes_no_curve_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CurveOptions(**options)


def test_an_option_that_a_reward_model_does_not_have_is_named():
    assert RewardOptions("me/model", {"dtype": "bfloat16"}).options["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match=r"no option 'dtpye'; choose among bad, batch, .*dtype"):
        RewardOptions("me/model", {"dtpye": "bfloat16"})


class Lengths:
    """A reward model that likes long texts, and counts what it reads."""

    def __init__(self):
        self.read = []

    def describe(self):
        return {"model": "lengths"}

    def score(self, prompt, texts):
        self.read += texts
        return [float(len(text)) for text in texts]


def drawn(path, ids):
    with TraceWriter(path, {"provider": "p", "task": "t"}, {}) as writer:
        for question in ids:
            writer.append(
                question,
                "1",
                {
                    "text": ["long text", "short", "short"],
                    "answer": ["1", "2", "2"],
                    "correct": [True, False, False],
                    "tokens": [9, 5, 5],
                },
                prompt=f"question {question}",
            )


def test_rewards_are_kept_beside_the_trace_and_read_once(tmp_path, monkeypatch):
    path, scorer = tmp_path / "t.jsonl", Lengths()
    drawn(path, ["a", "b"])
    monkeypatch.setattr(estimate, "_reward_model", lambda model, options: scorer)
    trace, samples = load_samples(path, "me/model")
    np.testing.assert_array_equal(samples.reward, [[9.0, 5.0, 5.0]] * 2)
    assert scorer.read == ["long text", "short"] * 2  # equal texts once
    kept = read_trace(tmp_path / "t.rewards.jsonl")
    assert kept.settings["kind"] == "rewards"
    assert kept.settings["model"] == "lengths"
    assert list(kept.records) == list(trace.records)
    again = load_samples(path, RewardOptions("me/model", {}))[1]
    np.testing.assert_array_equal(again.reward, samples.reward)
    assert len(scorer.read) == 4  # nothing is scored a second time
    assert load_samples(path, None)[1].reward is None


def test_budgets_in_different_orders_do_not_mix(tmp_path):
    columns = {"answer": ["1"] * 2, "correct": [True, False], "tokens": [3, 4], "budget": [8, 16]}
    records = {name: {"id": name, "samples": dict(columns)} for name in "ab"}
    trace = Trace(tmp_path / "t.jsonl", {}, (), records)
    apart = by_budget(trace, from_records(records))
    assert sorted(apart) == [8, 16]
    assert apart[8].correct.all()
    assert not apart[16].correct.any()
    records["b"]["samples"]["budget"] = [16, 8]
    with pytest.raises(ValueError, match=r"t\.jsonl: questions have their budgets in different"):
        by_budget(trace, from_records(records))


def test_a_trace_without_questions_says_nothing(tmp_path):
    path = tmp_path / "t.jsonl"
    drawn(path, [])
    assert summarise(path) is None


def test_resampling_refuses_what_has_no_spread():
    for questions, resamples in ((0, 10), (10, 0)):
        with pytest.raises(ValueError, match="both must be at least 1"):
            resampling.question_weights(questions, resamples, 0)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            resampling.interval(np.zeros((10, 2)), level)
    assert np.isnan(resampling.standard_error(np.ones((1, 3)))).all()
    two = np.array([[0.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(resampling.standard_error(two), [0.5, 0.0])
    with pytest.raises(ValueError, match=r"numbers of questions differ: .*all providers answered"):
        resampling.joint_bootstrap({"a": np.ones((2, 1)), "b": np.ones((3, 1))})
