"""Thinking budgets, truncation, and the way from samples to a curve file and resampled markets."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from ttc_env.game.types import Market, Provider, QualityFunction
from ttc_env.measure import curve_file
from ttc_env.measure.backends.base import SEED_STRIDE, Sample, Sampling, check_seeds, question_seed
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import Parallel, ThinkingBudget, extend
from ttc_env.measure.samples import from_records, from_trace
from ttc_env.measure.tasks import load_task
from ttc_env.measure.traces import read_trace


def quiet(_: str) -> None:
    pass


def samples_of(tmp_path, name, dial, skill=0.8, limit=60):
    path = tmp_path / f"{name}.jsonl"
    collect(
        load_task("chains", limit=limit), FakeBackend(name, skill=skill), dial, path, warn=quiet
    )
    return from_trace(read_trace(path))


def test_thinking_budget_is_enforced_and_realised_lengths_are_stored(tmp_path):
    budgets = {
        b: ThinkingBudget(Sampling(n=2), b, "=", answer_tokens=2, answer_stop=(".",))
        for b in (0, 1, 2, 4, 8)
    }
    tables = {b: samples_of(tmp_path, f"m{b}", dial, skill=1.0) for b, dial in budgets.items()}
    for budget, table in tables.items():
        assert table.thinking_tokens.max() <= budget
        assert (table.tokens - table.thinking_tokens).max() == 2
    curve = curve_file.budget_curve(tables, "m", price_per_token=1e-7)
    assert curve.method == "reasoning"
    assert curve.levels == (0, 1, 2, 4, 8)
    mean = curve.accuracy.mean(axis=0)
    assert mean[-1] == 1.0  # whole thoughts of a faultless model
    assert (np.diff(mean[1:]) > 0).all()  # from 0 to 1 a guess becomes another guess
    broken = dataclasses.replace(tables[1], thinking_tokens=tables[1].thinking_tokens + 1)
    with pytest.raises(ValueError, match="budget was not enforced"):
        curve_file.budget_curve({1: broken}, "m")


def test_a_backend_that_ignores_the_budget_is_caught():
    class Talkative(FakeBackend):
        def generate(self, prompts, sampling, seeds):
            return [[Sample("123456", 6, -1.0, "stop")] * sampling.n for _ in prompts]

    with pytest.raises(RuntimeError, match="exceeds its budget of 3"):
        ThinkingBudget(Sampling(n=1), 3, "=", 2).draw(Talkative(), ["1+1:"], [0])


def test_phases_draw_from_different_seeds():
    drawn = []

    class Recorder(FakeBackend):
        def generate(self, prompts, sampling, seeds):
            drawn.extend(seed + j for seed in seeds for j in range(sampling.n))
            return super().generate(prompts, sampling, seeds)

    ThinkingBudget(Sampling(n=5), 3, "=", 2).draw(
        Recorder(), ["1+1+1:", "2+2+2:"], [0, SEED_STRIDE]
    )
    assert len(drawn) == len(set(drawn)) == 20


def test_truncated_answers_are_wrong_and_no_votes(tmp_path):
    dial = Parallel(Sampling(n=4, max_tokens=7))  # long chains do not fit
    table = samples_of(tmp_path, "m", dial, skill=1.0)
    assert (~table.finished).any()
    assert (table.answer[~table.finished] == -1).all()
    assert not table.correct[~table.finished].any()
    assert table.correct[table.finished].all()


def test_seeds_too_close_are_refused():
    with pytest.raises(ValueError, match="would share noise"):
        check_seeds(["a", "b"], [0, 3], n=4)
    check_seeds(["a", "b"], [4, 0], n=4)
    assert question_seed(0, "m", "s", 1) - question_seed(0, "m", "s", 0) == SEED_STRIDE
    assert question_seed(0, "m", "s", 0) != question_seed(0, "other", "s", 0)
    assert 0 <= question_seed(123, "m", "s", (1 << 20) - 1) < 1 << 63


def test_messages_are_extended_by_an_assistant_turn():
    prompt = ({"role": "user", "content": "?"},)
    once = extend(prompt, "I think")
    assert once[-1] == {"role": "assistant", "content": "I think"}
    assert extend(once, " so")[-1]["content"] == "I think so"
    assert len(prompt) == 1


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    dial = Parallel(Sampling(n=16, max_tokens=48))
    tables = {
        name: samples_of(folder, name, dial, skill)
        for name, skill in (("weak", 0.75), ("strong", 0.9))
    }
    return {
        name: curve_file.parallel_curve(
            t, name, "majority", [1, 4, 16], price_per_token=price, margin=0.25
        )
        for (name, t), price in zip(tables.items(), (1e-7, 2e-7), strict=True)
    }


def market(curves):
    alpha, baseline, linear = 1e-4, 0.1, QualityFunction()
    providers = tuple(Provider.from_curve(c.to_curve(), alpha, baseline, linear) for c in curves)
    return Market(providers, beta=1e5, alpha=alpha, baseline=baseline)


def test_curve_file_is_tidy_and_whole(tmp_path, measured):
    path = tmp_path / "curves.csv"
    curve_file.write_curves(path, [curve.table(resamples=500) for curve in measured.values()])
    frame = pd.read_csv(path)
    assert tuple(frame.columns) == curve_file.COLUMNS
    assert len(frame) == 6
    assert (frame.accuracy_lo <= frame.accuracy).all()
    assert (frame.accuracy <= frame.accuracy_hi).all()
    uncertain = frame[frame.se > 0]
    assert len(uncertain) >= 4
    width = (uncertain.accuracy_hi - uncertain.accuracy_lo) / (2 * 1.96 * uncertain.se)
    # the bootstrap agrees with the standard error of a mean, and is widened where few are wrong
    few = 60 * (1 - uncertain.accuracy) < 5
    assert width[~few].between(0.8, 1.2).all()
    assert width[few].between(0.8, 2.0).all()
    assert list(tmp_path.iterdir()) == [path]  # no part files left


def test_missing_price_is_left_out_never_guessed(tmp_path, measured):
    bare = dataclasses.replace(measured["weak"], price_per_token=None, margin=None)
    curve_file.write_curves(tmp_path / "c.csv", [bare.table(resamples=10)])
    assert "price_per_token" not in pd.read_csv(tmp_path / "c.csv").columns
    with pytest.raises(ValueError, match="no price"):
        bare.to_curve()


def test_resampled_markets_are_joint(measured):
    curves = list(measured.values())
    whole = market(curves)
    drawn = list(curve_file.resampled_markets(whole, curves, resamples=400, seed=1))
    quality = np.array([m.quality for m in drawn])  # [B, n, m]
    np.testing.assert_allclose(quality.mean(axis=0), whole.quality, rtol=0.02)
    assert all(m.beta == whole.beta and m.names == whole.names for m in drawn)
    # The same questions for both: two copies of one curve move as one.
    twin = dataclasses.replace(curves[0], provider="copycat")
    pair = market([curves[0], twin])
    for m in curve_file.resampled_markets(pair, [curves[0], twin], resamples=20):
        np.testing.assert_array_equal(m.quality[0], m.quality[1])
    with pytest.raises(ValueError, match="one curve for each"):
        next(curve_file.resampled_markets(whole, curves[:1]))


def test_questions_with_fewer_samples_cut_the_others_and_say_so():
    said = []
    record = lambda n: {"samples": {"answer": ["1"] * n, "correct": [True] * n, "tokens": [1] * n}}  # noqa: E731
    table = from_records({"a": record(3), "b": record(2)}, warn=said.append)
    assert table.num_samples == 2
    assert "2 to 3" in said[0]
    with pytest.raises(ValueError, match="no reward"):
        table.score("reward")


def test_observational_bins_leave_out_unfinished_questions(tmp_path):
    said = []
    table = samples_of(tmp_path, "m", Parallel(Sampling(n=8, max_tokens=7)), skill=0.9)
    curve = curve_file.observational_curve(table, "m", bins=2, warn=said.append)
    assert 0 < len(curve.ids) < len(table.ids)
    assert "no finished sample" in said[0]
    assert curve.levels == (1, 2)
