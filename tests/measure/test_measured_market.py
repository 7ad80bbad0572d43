"""The embedded data set: its curves are what its traces say, and its market can be played."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import ttc_env
from scripts.build_measured import PARAMETERS, build, price_per_token, to_csv
from ttc_env.game.curves import measured_curves
from ttc_env.measure.chains import Chain
from ttc_env.measure.curve_file import parallel_curve, resampled_markets
from ttc_env.measure.samples import from_trace
from ttc_env.measure.traces import read_trace

DATA = Path(str(resources.files("ttc_env"))) / "data"
TRACES = DATA / "measured_traces"
LEVELS = [1, 2, 4, 8, 16, 32, 64]


def test_curves_are_what_the_traces_say():
    """Rebuilt from the raw samples, every number of the shipped file comes out again."""
    shipped = (DATA / "measured_curves.csv").read_text().splitlines()
    rebuilt = to_csv(build(TRACES)).splitlines()
    assert len(shipped) == len(rebuilt)
    for old, new in zip(shipped, rebuilt, strict=True):
        numbers = [
            (
                [float(x) for x in row.split(",")[3:]]
                if row is not shipped[0] and row is not rebuilt[0]
                else []
            )
            for row in (old, new)
        ]
        assert old.split(",")[:3] == new.split(",")[:3]
        np.testing.assert_allclose(*numbers, rtol=1e-6)


@pytest.mark.parametrize(
    "path", sorted(TRACES.glob("chain-*.gz")), ids=lambda path: path.name.removesuffix(".jsonl.gz")
)
def test_traces_are_sound(path):
    """Golds recomputed, verdicts re-derived, budgets kept, questions held out from training, no
    seed used twice.
    """
    trace = read_trace(path)
    assert trace.torn is None
    assert len(trace.records) == 500
    seeds = sorted(record["seed"] for record in trace.records.values())
    assert np.diff(seeds).min() >= 2 * trace.settings["n"]
    for question, record in trace.records.items():
        chain = Chain(tuple(int(c) for c in question[::2]), question[1::2])
        assert chain.held_out
        assert record["gold"] == chain.answer
        columns = record["samples"]
        assert len(columns["text"]) == trace.settings["n"]
        for text, answer, correct, finish in zip(
            columns["text"], columns["answer"], columns["correct"], columns["finish"], strict=True
        ):
            assert correct == (answer == chain.answer)
            assert answer is None or (finish == "stop" and text.endswith(f"={answer}"))
        if "budget" in trace.settings:
            assert max(columns["thinking_tokens"]) <= trace.settings["budget"]


def test_samples_are_independent_within_and_across_questions():
    """No correlation between neighbouring samples, nor between equal places of different questions,
    beyond what chance gives.
    """
    correct = from_trace(read_trace(TRACES / "chain-0.9M--chains--n64-t1.jsonl.gz")).correct.astype(
        float
    )
    noise = correct - correct.mean(axis=1, keepdims=True)
    variance = (noise**2).mean()
    expected = -1 / (correct.shape[1] - 1)  # the question's own mean was taken off
    for lag in (1, 2, 3):
        assert abs((noise[:, lag:] * noise[:, :-lag]).mean() / variance - expected) < 0.03
    across = noise.mean(axis=0)  # shared noise would show as places that are easy for all questions
    assert across.var() < 2 * variance / len(correct)


def test_prices_follow_the_stated_rule():
    table = measured_curves()
    for name, rows in table.groupby("provider"):
        assert set(rows.price_per_token.round(12)) == {round(price_per_token(PARAMETERS[name]), 12)}
    assert set(table.margin) == {0.25}


def test_majority_and_best_of_n_rise():
    table = measured_curves()
    for method in ("majority", "best_of_n"):
        rows = table[table.method == method].set_index(["provider", "level"])
        for name in PARAMETERS:
            one, many = rows.loc[(name, 1)], rows.loc[(name, 64)]
            assert many.accuracy_lo > one.accuracy_hi, (name, method)
    singles = table[(table.method == "majority") & (table.level == 1)].accuracy
    assert singles.min() < 0.6
    assert singles.max() > 0.8


@pytest.mark.parametrize("method", ["majority", "best_of_n", "reasoning"])
def test_the_market_loads_and_is_solved(method):
    market = ttc_env.load_market("measured", method)
    assert market.num_providers == 5
    solution = ttc_env.solve(market)
    assert solution.unique
    assert solution.welfare <= solution.optimal_welfare
    assert ttc_env.solve(market, "auction").welfare >= solution.welfare


def test_uncertainty_carries_through_to_the_equilibrium():
    market = ttc_env.load_market("measured", "majority")
    curves = [
        parallel_curve(
            from_trace(read_trace(TRACES / f"{p.name}--chains--n64-t1.jsonl.gz")),
            p.name,
            "majority",
            LEVELS,
        )
        for p in market.providers
    ]
    anarchy = [
        ttc_env.solve(m).price_of_anarchy for m in resampled_markets(market, curves, resamples=50)
    ]
    low, high = np.quantile(anarchy, [0.025, 0.975])
    assert low <= ttc_env.solve(market).price_of_anarchy <= high
    assert 1.0 <= low < high < 1.5


def test_shipped_format_hash_is_the_tasks_own():
    """The traces can be extended: the task's wording has not changed since."""
    from ttc_env.measure.tasks import load_task

    task = load_task("chains", limit=500)
    trace = read_trace(TRACES / "chain-0.1M--chains--n64-t1.jsonl.gz")
    assert trace.settings["format"] == task.format_hash
    assert list(trace.records) == [q.id for q in task.questions]
    assert trace.sessions[0]["constant_baseline"]["accuracy"] == task.constant_baseline[1]
