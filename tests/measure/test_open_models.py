"""The markets of open models: curves say what the traces say, and traces what the texts say.

The checker here reads answers in its own few lines; it shares no code with ttc_env.measure.scoring.
"""

import dataclasses
import re
from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest

import ttc_env
from scripts.build_measured import DATA, TRACES, to_csv
from scripts.build_open_models import (
    MARKETS,
    METHODS,
    PARAMETERS,
    build,
    gain,
    price_per_token,
    shared_curves,
    sources,
    take_over,
    with_section,
)
from ttc_env.game.curves import open_models_curves
from ttc_env.measure.backends.base import Sampling
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import Parallel
from ttc_env.measure.tasks import load_task
from ttc_env.measure.traces import read_trace

PATHS = [p for name in PARAMETERS for p in sorted((DATA / TRACES).glob(f"{name}--*--n*.gz"))]
IDS = [path.name.removesuffix(".jsonl.gz") for path in PATHS]
every_trace = pytest.mark.parametrize("path", PATHS, ids=IDS)

NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:\s*/\s*\d+)?"


def plain_number(text):
    """The last number of a text, as a fraction; None if the text has no number."""
    found = re.findall(NUMBER, text)
    if not found:
        return None
    top, _, bottom = found[-1].replace(",", "").replace(" ", "").partition("/")
    return None if bottom and not int(bottom) else Fraction(top) / int(bottom or 1)


def says_number(text):
    """What a solution of GSM8K ends on: the last box, or else the last number."""
    boxes = re.findall(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}", text)
    return plain_number(boxes[-1] if boxes else text)


def says_letter(text):
    """The letter of a line such as `Answer: B`, `B) text`, `(B)`; None for anything else."""
    found = re.match(r"\W*(?:(?:the )?(?:correct )?answer(?: is)?\W+)?([A-D])\b", text, re.I)
    return found and found[1].upper()


def is_right(task, text, gold):
    if task == "mmlu":
        return says_letter(text) == gold
    return says_number(text) == plain_number(gold)


@every_trace
def test_an_independent_reader_agrees_with_the_verdicts(path):
    trace = read_trace(path)
    agreed = Counter()
    for record in trace.records.values():
        columns = record["samples"]
        for text, correct, finish in zip(
            columns["text"], columns["correct"], columns["finish"], strict=True
        ):
            right = finish == "stop" and is_right(trace.settings["task"], text, record["gold"])
            agreed[right == correct] += 1
    share = agreed[True] / agreed.total()
    print(f"\n{path.name}: {agreed[True]} of {agreed.total()} verdicts agree ({100 * share:.2f}%)")
    assert share > 0.97


@every_trace
def test_traces_are_sound(path):
    """Verdicts follow from the stored answers' finish, and every question has its own seeds."""
    trace = read_trace(path)
    assert trace.torn is None
    assert "/" not in trace.settings["model"]
    seeds = sorted(record["seed"] for record in trace.records.values())
    assert np.diff(seeds).min() >= 2 * trace.settings["n"]
    for record in trace.records.values():
        columns = record["samples"]
        assert {len(column) for column in columns.values()} == {trace.settings["n"]}
        assert max(columns["tokens"]) <= trace.settings["max_tokens"]
        for answer, correct, finish in zip(
            columns["answer"], columns["correct"], columns["finish"], strict=True
        ):
            assert not (finish == "length" and (correct or answer is not None))
            assert not (correct and answer is None)


def test_curves_are_what_the_traces_say():
    """Rebuilt from the raw samples, every number of the shipped file comes out again."""
    shipped = (DATA / "open_models_curves.csv").read_text().splitlines()
    rebuilt = to_csv(build(DATA / TRACES)).splitlines()
    assert shipped[0] == rebuilt[0]
    assert len(shipped) == len(rebuilt)
    for old, new in zip(shipped[1:], rebuilt[1:], strict=True):
        assert old.split(",")[:3] == new.split(",")[:3]
        numbers = [[float(x) for x in row.split(",")[3:]] for row in (old, new)]
        np.testing.assert_allclose(*numbers, rtol=1e-6)


def shared_records(task):
    """Provider -> question -> samples, over the questions that every provider has."""
    traces = [read_trace(path) for path in PATHS if f"--{task}--" in path.name]
    shared = set.intersection(*(set(trace.records) for trace in traces))
    return {
        trace.settings["provider"]: [trace.records[q]["samples"] for q in sorted(shared)]
        for trace in traces
    }


@pytest.mark.parametrize("task", sorted({path.name.split("--")[1] for path in PATHS}))
def test_levels_again_by_counting(task):
    """One sample, pass@k by its formula, and majority at 2 and 4 by listing the subsets."""
    table = open_models_curves()
    for name, questions in shared_records(task).items():
        rows = table[(table.benchmark == MARKETS[task]) & (table.provider == name)]
        rows = rows[rows.method.isin(METHODS)]
        points = {(row.method, row.level): row for row in rows.itertuples()}
        single = np.mean([np.mean(q["correct"]) for q in questions])
        tokens = np.mean([np.mean(q["tokens"]) for q in questions])
        for method in METHODS:
            assert points[method, 1].accuracy == pytest.approx(single, rel=1e-6)
        for (method, k), row in points.items():
            assert row.tokens == pytest.approx(k * tokens, rel=1e-6), (method, k)
            n = len(questions[0]["correct"])
            if method == "pass_at_k":
                wrong = [n - sum(q["correct"]) for q in questions]
                expected = np.mean([1 - comb(w, k) / comb(n, k) for w in wrong])
                assert row.accuracy == pytest.approx(expected, rel=1e-6)
            if method == "majority" and k in (2, 4):
                votes = [
                    majority([(q["answer"][i], q["correct"][i]) for i in some])
                    for q in questions
                    for some in combinations(range(n), k)
                ]
                assert row.accuracy == pytest.approx(np.mean(votes), rel=1e-6)


def majority(votes):
    """Chance that a vote is right: the most frequent answer, ties broken evenly."""
    count = Counter(answer for answer, _ in votes if answer is not None)
    if not count:
        return 0.0
    top = [answer for answer, times in count.items() if times == max(count.values())]
    right = {answer for answer, correct in votes if correct}
    return sum(answer in right for answer in top) / len(top)


def test_prices_follow_the_stated_rule():
    table = open_models_curves()
    for name, rows in table.groupby("provider"):
        assert set(rows.price_per_token.round(12)) == {round(price_per_token(PARAMETERS[name]), 12)}
    assert set(table.margin) == {0.25}
    assert price_per_token(PARAMETERS["Qwen2.5-Coder-1.5B-Instruct"]) == pytest.approx(1e-7)


def test_the_markets_load_and_are_solved():
    table = open_models_curves()
    assert set(table.benchmark) <= set(MARKETS.values())
    for (name, method), rows in table.groupby(["benchmark", "method"]):
        market = ttc_env.load_market(name, method)
        assert set(market.names) == set(rows.provider) <= set(PARAMETERS)
        assert len(market.names) >= 2
        assert market.alpha == 0.008
        solution = ttc_env.solve(market)
        assert solution.complete
        assert solution.welfare <= solution.optimal_welfare


@pytest.mark.parametrize("market", ["measured_gsm8k", "mmlu"])
def test_majority_helps_a_real_model(market):
    """At the most samples against one, on the same questions, with the interval above nothing."""
    curves = shared_curves(DATA / TRACES)[market, "majority"]
    gains = {curve.provider: gain(curve) for curve in curves}
    for name, (mean, low, high) in gains.items():
        print(f"\n{name}: {100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})")
    assert max(low for _, low, _ in gains.values()) > 0


def run_of(folder, name, task, questions, shards=()):
    """A campaign's trace of the first `questions` questions; `shards` of it where that is given."""
    whole = load_task("chains", limit=30)
    asked = dataclasses.replace(whole, name=task)
    for number, places in enumerate(shards or [range(questions)], start=1):
        label = f".shard{number}of{len(shards)}" if shards else ""
        collect(
            asked, FakeBackend(name, skill=0.7), Parallel(Sampling(n=4, max_tokens=48)),
            folder / f"{name}--{task}--n4-t1{label}.jsonl", places=places, warn=lambda _: None,
        )  # fmt: skip


def test_what_is_complete_is_taken_and_compared_on_equal_questions(tmp_path):
    """Shards, a line that is being written, and a model that has too few questions."""
    small, middle, large = PARAMETERS
    runs, data = tmp_path / "runs", tmp_path / "data"
    run_of(runs, small, "mmlu", 30)
    run_of(runs, middle, "mmlu", 30, [range(12), range(15, 30)])
    run_of(runs, large, "mmlu", 8)
    run_of(runs, small, "gsm8k", 30)
    run_of(runs, middle, "gsm8k", 5)
    with (runs / f"{middle}--mmlu--n4-t1.shard2of2.jsonl").open("ab") as stream:
        stream.write(b'{"kind":"question","id":"to')
    before = {path: path.read_bytes() for path in runs.iterdir()}
    said = take_over([runs], data, least=10)
    assert {path: path.read_bytes() for path in runs.iterdir()} == before
    assert sorted(path.name for path in data.iterdir()) == sorted(
        f"{name}--mmlu--n4-t1.jsonl.gz" for name in (small, middle)
    )
    assert sum("left out" in line for line in said) == 2
    curves = shared_curves(data)
    assert set(curves) == {("mmlu", method) for method in METHODS}
    for group in curves.values():
        assert [curve.provider for curve in group] == [small, middle]
        assert group[0].ids == group[1].ids
        assert len(group[0].ids) == 27
    page = tmp_path / "open_models_curves.csv"
    page.write_text(to_csv(build(data)))
    text = sources(data, page)
    assert f"{small} | n4-t1 | 30, 27 | 4 |" in text
    assert f"{middle} | n4-t1 | 27, 27 | 4 |" in text
    once = with_section("# Sources\n\n## other\n", text)
    assert with_section(once, text) == once
    assert once.startswith("# Sources\n\n## other\n\n<!--")
    take_over([runs], data, least=8)  # now all three: those of before are replaced
    assert len(list(data.iterdir())) == 3
    with pytest.raises(ValueError, match="no task has two models with 31 questions"):
        take_over([runs], data, least=31)
    assert len(list(data.iterdir())) == 3
