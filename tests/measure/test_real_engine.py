"""The whole path through real engines, nothing mocked: a model trained on the spot, vLLM, kill -9
and resume, curves, a solved market.

Run by `make test-measure`, which builds an environment with vLLM in it. Elsewhere these tests are
skipped, and say so.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ttc_env.measure.traces import read_trace

ROOT = Path(__file__).parents[2]
MISSING = [
    name for name in ("vllm", "torch", "transformers") if importlib.util.find_spec(name) is None
]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        bool(MISSING),
        reason=(
            f"the real engine was NOT tested: {', '.join(MISSING)} not installed; run `make"
            " test-measure`"
        ),
    ),
]

ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
}
TASK = ["--task", "chains", "--limit", "20", "--task-options", '{"min_terms": 2, "max_terms": 2}']


def run(*arguments):
    """Run `python -m ...` and return its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def ask(*arguments):
    return json.loads(run("tests.measure.engine_checks", *arguments).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    outcome = ask("train", folder)
    assert outcome["sampled_accuracy"] > 0.2
    return folder


@pytest.fixture(scope="module")
def vllm(model):
    return ask("vllm", model)


@pytest.fixture(scope="module")
def reference(model):
    return ask("transformers", model)


@pytest.fixture(scope="module")
def measured(model, tmp_path_factory):
    """Two providers measured by the command, the run killed with -9 once and resumed; returns the
    output folder.
    """
    out = tmp_path_factory.mktemp("run")
    other = model.parent / "copy"
    other.mkdir()
    for file in model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    command = [
        "scripts.measure_curves", "--models", model, other, *TASK, "--samples", "16",
        "--levels", "1,2,4,8,16", "--batch", "2", "--prices", "1,2", "--margin", "0.25",
        "--methods", "majority,best_of_n,weighted_majority,pass_at_k", "--out", out,
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path = out / "traces" / "tiny--chains--n16-t1.jsonl"
    deadline = time.monotonic() + 600
    while (
        time.monotonic() < deadline
        and process.poll() is None
        and (not path.exists() or path.read_bytes().count(b"\n") < 4)
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = read_trace(path)
    assert 0 < len(killed.records) < 20, (
        f"the kill came too early or too late: {len(killed.records)} questions"
    )
    with path.open("ab") as stream:  # and a line that was being written
        stream.write(b'{"kind":"question","id":"torn')
    run(*command)
    resumed = read_trace(path)
    for question, record in killed.records.items():
        assert resumed.records[question] == record  # what was on disk is kept as it was
    assert len(resumed.records) == 20
    assert len(resumed.sessions) == 2
    return out


def test_vllm_and_transformers_agree(vllm, reference):
    """Greedy texts equal, their log-probabilities to 1e-3; sampled accuracy within noise."""
    for (text, tokens, logprob), (other, other_tokens, other_logprob) in zip(
        vllm["greedy"], reference["greedy"], strict=True
    ):
        assert (text, tokens) == (other, other_tokens)
        assert logprob == pytest.approx(other_logprob, abs=1e-3)
    assert vllm["facts"]["weights"] == reference["facts"]["weights"]
    assert abs(vllm["accuracy"] - reference["accuracy"]) < 5 * np.sqrt(0.5 / 640)
    assert vllm["mean_logprob"] == pytest.approx(reference["mean_logprob"], abs=0.15)
    ratio = vllm["tokens_per_second"] / reference["tokens_per_second"]
    print(
        f"vLLM {vllm['tokens_per_second']:,.0f} tokens/s, transformers"
        f" {reference['tokens_per_second']:,.0f}, ratio {ratio:.1f}"
    )


@pytest.mark.parametrize("engine", ["vllm", "reference"])
def test_samples_are_independent_across_prompts_and_repeatable(engine, request):
    """The same prompt under 40 seeds: sample j of two copies agrees as often as any two samples do,
    no more.
    """
    answer = request.getfixturevalue(engine)
    copies = np.array(answer["copies"])  # [40, 8]
    kinds, counts = np.unique(copies, return_counts=True)
    assert len(kinds) > 1
    chance = ((counts / copies.size) ** 2).sum()
    same_place = np.mean(
        [
            (copies[:, j][:, None] == copies[:, j][None])[~np.eye(40, dtype=bool)].mean()
            for j in range(8)
        ]
    )
    assert abs(same_place - chance) < 0.1
    assert answer["repeatable"]


@pytest.mark.parametrize("engine", ["vllm", "reference"])
def test_budgets_and_truncation_are_real(engine, request):
    answer = request.getfixturevalue(engine)
    assert set(answer["thinking_tokens"]) == {1}
    assert max(answer["answer_tokens"]) <= 2
    assert all(text.count("=") >= 1 for text in answer["forced_texts"])
    assert set(map(tuple, answer["cut"])) == {(1, "length")}


@pytest.fixture(scope="module")
def budgets(model):
    return ask("budgets", model)


@pytest.mark.parametrize("budget", [1, 2, 6])
def test_vllms_own_budget_is_two_phases_in_one_request(budgets, budget):
    """Greedy: the same texts, bills and log-probabilities. Sampled: the same law, within noise."""
    assert budgets["marks"], "this vLLM has no thinking_token_budget"
    mine, theirs = (budgets[f"greedy {budget} {way}"] for way in ("engine", "phases"))
    for key in ("text", "thinking", "answer", "finish"):
        assert mine[key] == theirs[key]
    np.testing.assert_allclose(mine["logprob"], theirs["logprob"], atol=1e-3)
    mine, theirs = (budgets[f"sampled {budget} {way}"] for way in ("engine", "phases"))
    assert max(mine["thinking"]) == max(theirs["thinking"]) <= budget
    assert budget > 2 or max(mine["thinking"]) == budget  # thoughts that were cut
    assert max(mine["answer"]) <= 2
    pair = [np.array(side["thinking"], float) for side in (mine, theirs)]
    error = np.sqrt(sum(values.var() / len(values) for values in pair)) + 1e-9
    assert abs(pair[0].mean() - pair[1].mean()) < 5 * error
    print(
        f"budget {budget}: {len(pair[0])} samples, thinking tokens {pair[0].mean():.3f} by the"
        f" engine, {pair[1].mean():.3f} in two phases; {mine['seconds']:.2f} s and"
        f" {theirs['seconds']:.2f} s"
    )


def test_how_many_questions_are_under_way_changes_no_sample(model, tmp_path):
    """But for rounding, which batches of other sizes may change now and then."""
    answer = ask("stream", model, tmp_path)
    two, whole = answer["two"]["texts"], answer["all"]["texts"]
    assert set(two) == set(whole)
    equal = [a == b for q in two for a, b in zip(two[q], whole[q], strict=True)]
    assert np.mean(equal) > 0.98
    print(
        f"{answer['lanes']} lanes: {answer['all']['tokens_per_second']:,.0f} tokens/s; two:"
        f" {answer['two']['tokens_per_second']:,.0f}; {np.mean(equal):.2%} of samples equal"
    )


def test_curves_from_the_killed_and_resumed_run(measured):
    import pandas as pd

    frames = {
        m: pd.read_csv(measured / f"chains-{m}.csv")
        for m in ("majority", "best_of_n", "weighted_majority", "pass_at_k")
    }
    for frame in frames.values():
        assert len(frame) == 10
        assert frame.accuracy.between(0, 1).all()
        assert (frame.groupby("provider").tokens.diff().dropna() > 0).all()
    single = {m: f[f.level == 1].accuracy.to_numpy() for m, f in frames.items()}
    for values in single.values():
        np.testing.assert_allclose(values, single["majority"], atol=1e-7)
    assert (frames["pass_at_k"].accuracy >= frames["majority"].accuracy - 1e-9).all()
    assert "sha256" in (measured / "SOURCES.md").read_text()


def test_the_same_curves_from_the_traces_alone(measured, tmp_path):
    traces = sorted(
        (measured / "traces").glob("*.jsonl"), key=lambda p: not p.name.startswith("tiny")
    )
    run(
        "scripts.estimate",
        *traces,
        "--levels",
        "1,2,4,8,16",
        "--prices",
        "1,2",
        "--margin",
        "0.25",
        "--out",
        tmp_path,
    )
    assert (tmp_path / "chains-majority.csv").read_text() == (
        measured / "chains-majority.csv"
    ).read_text()


def test_other_settings_on_the_same_traces_are_refused(model, measured):
    command = [
        "scripts.measure_curves",
        "--models",
        model,
        *TASK,
        "--samples",
        "16",
        "--seed",
        "7",
        "--backend",
        "fake",
        "--out",
        measured,
    ]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=300,
    )
    assert done.returncode != 0
    assert "other settings" in done.stderr


def test_reward_model_scores_stored_samples(measured, tmp_path):
    answer = ask("reward", tmp_path / "reward", measured / "traces" / "tiny--chains--n16-t1.jsonl")
    assert answer["batched"] == pytest.approx(answer["alone"], abs=1e-4)  # padding changes nothing
    assert answer["best"][0] == pytest.approx(answer["single"])


def test_the_market_loads_and_is_solved(measured):
    import ttc_env

    if not (hasattr(ttc_env, "load_market") and hasattr(ttc_env, "solve")):
        pytest.skip(
            "ttc_env.load_market or ttc_env.solve is not there yet: the market was NOT solved"
        )
    market = ttc_env.load_market(str(measured / "chains-majority.csv"), alpha=1e-3, beta=1e4)
    solution = ttc_env.solve(market)
    assert market.names == ("tiny", "copy")
    assert solution.welfare <= solution.optimal_welfare + 1e-15
