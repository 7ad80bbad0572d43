"""What test_real_engine.py asks of real engines, in a process of its own: vLLM takes over its
process, and can be killed there.

    python -m tests.measure.engine_checks train FOLDER | vllm FOLDER | transformers FOLDER
    python -m tests.measure.engine_checks budgets FOLDER | stream FOLDER OUT | reward FOLDER TRACE

Prints one line of JSON, the last.
"""

import json
import sys
import time
from pathlib import Path

TERMS = (2, 2)  # sums, differences and products of two digits: learnt in seconds


def train(folder: str) -> dict:
    from scripts.train_tiny_models import Recipe, save, train

    recipe = Recipe("tiny", 48, 2, 4, 5e-3, "terse", 0.6)
    model, outcome = train(
        recipe, terms=TERMS, batch=64, cut_short=0.15, max_steps=400, check_every=20
    )
    save(model, recipe, Path(folder), outcome, {"terms": list(TERMS)})
    return outcome


def questions():
    from ttc_env.measure.tasks import load_task

    return load_task("chains", limit=20, options={"min_terms": TERMS[0], "max_terms": TERMS[1]})


def engine(name: str, folder: str) -> dict:
    """The same work for either engine, so that their answers can be compared."""
    from ttc_env.measure.backends import make_backend
    from ttc_env.measure.backends.base import SEED_STRIDE, Sampling
    from ttc_env.measure.dials import ThinkingBudget

    backend = make_backend(name, folder)
    task = questions()
    prompts = [q.prompt for q in task.questions]
    seeds = [i * SEED_STRIDE for i in range(len(prompts))]
    greedy = backend.generate(prompts, Sampling(n=1, temperature=0.0, max_tokens=16), seeds)
    sampling = Sampling(n=32, max_tokens=16)
    backend.generate(prompts[:2], sampling, seeds[:2])  # warm up
    began = time.perf_counter()
    sampled = backend.generate(prompts, sampling, seeds)
    seconds = time.perf_counter() - began
    verdicts = [
        task.check([s.text for s in row], [q.gold] * len(row))
        for q, row in zip(task.questions, sampled, strict=True)
    ]
    # One prompt many times, each with its own seed: the noise must be another one each time.
    copies = backend.generate(
        [prompts[0]] * 40, Sampling(n=8, max_tokens=16), [i * SEED_STRIDE for i in range(40)]
    )
    again = backend.generate([prompts[0]], Sampling(n=8, max_tokens=16), [0])
    dial = ThinkingBudget(Sampling(n=4), 1, "=", answer_tokens=2, answer_stop=(".",))
    forced = dial.draw(backend, prompts, seeds)
    cut = backend.generate(prompts[:4], Sampling(n=2, max_tokens=1), seeds[:4])
    tokens = sum(s.tokens for row in sampled for s in row)
    return {
        "facts": backend.describe(),
        "greedy": [(row[0].text, row[0].tokens, row[0].logprob) for row in greedy],
        "accuracy": sum(v.correct for row in verdicts for v in row) / (len(prompts) * sampling.n),
        "tokens_per_second": tokens / seconds,
        "mean_logprob": sum(s.logprob for row in sampled for s in row) / tokens,
        "copies": [[s.text for s in row] for row in copies],
        "repeatable": [s.text for s in again[0]] == [s.text for s in copies[0]],
        "thinking_tokens": [d.thinking_tokens for row in forced for d in row],
        "answer_tokens": [d.answer_tokens for row in forced for d in row],
        "forced_texts": [d.text for row in forced for d in row],
        "cut": [(s.tokens, s.finish) for row in cut for s in row],
    }


def budgets(folder: str) -> dict:
    """Thoughts closed by vLLM itself, and the same in two phases. A question that breaks off at its
    operator stands for an opened thought: what the model then writes up to "=" is long enough to be
    cut, closes late or not at all.
    """
    from ttc_env.measure.backends.base import SEED_STRIDE, Sampling
    from ttc_env.measure.backends.vllm_engine import VllmBackend
    from ttc_env.measure.dials import ThinkingBudget

    backend = VllmBackend(folder, thought=("+", "="))
    answer: dict = {"marks": backend.thought_marks is not None}
    prompts = [text for a in range(10) for text in (f"{a}+", f"{a}-{9 - a}+")]
    seeds = [i * SEED_STRIDE for i in range(len(prompts))]
    for name, sampling in (
        ("greedy", Sampling(n=1, temperature=0.0)),
        ("sampled", Sampling(n=32)),
    ):
        for budget in (1, 2, 6):
            dial = ThinkingBudget(sampling, budget, "=", answer_tokens=2, thought_start="+")
            for way, turned in (("engine", dial.on(backend)), ("phases", dial)):
                began = time.perf_counter()
                rows = turned.draw(backend, prompts, seeds)
                draws = [d for row in rows for d in row]
                answer[f"{name} {budget} {way}"] = {
                    "text": [d.text for d in draws],
                    "thinking": [d.thinking_tokens for d in draws],
                    "answer": [d.answer_tokens for d in draws],
                    "logprob": [d.logprob for d in draws],
                    "finish": [d.finish for d in draws],
                    "seconds": time.perf_counter() - began,
                }
    return answer


def stream(folder: str, out: str) -> dict:
    """The same trace with two questions under way at once, and with as many as the engine takes."""
    from ttc_env.measure.backends import make_backend
    from ttc_env.measure.backends.base import Sampling
    from ttc_env.measure.collect import collect
    from ttc_env.measure.dials import Parallel
    from ttc_env.measure.tasks import load_task
    from ttc_env.measure.traces import read_trace

    backend = make_backend("vllm", folder)
    task = load_task("chains", limit=60, options={"min_terms": 2, "max_terms": 4})
    dial = Parallel(Sampling(n=8, max_tokens=24))
    answer: dict = {"lanes": backend.lanes(8)}
    for name, batch in (("warm", 2), ("two", 2), ("all", None)):
        path = Path(out) / f"{name}.jsonl"
        began = time.perf_counter()
        result = collect(task, backend, dial, path, batch=batch)
        seconds = time.perf_counter() - began
        answer[name] = {
            "texts": {q: r["samples"]["text"] for q, r in read_trace(path).records.items()},
            "tokens_per_second": result.tokens / seconds,
        }
    return answer


def reward(folder: str, trace: str) -> dict:
    """A sequence classifier with random weights: the path, not the quality."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from scripts.train_tiny_models import make_tokenizer
    from ttc_env.measure.rewards import RewardModel, score_trace
    from ttc_env.measure.samples import from_trace
    from ttc_env.measure.traces import read_trace

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    source = read_trace(trace)
    rewards = score_trace(
        source, RewardModel(folder, device="cpu"), Path(trace).with_suffix(".rewards.jsonl")
    )
    table = from_trace(source, rewards)
    first = next(iter(source.records.values()))
    alone = RewardModel(folder, device="cpu", batch=1).score(
        first["prompt"], first["samples"]["text"]
    )
    return {
        "batched": rewards.records[first["id"]]["samples"]["rewards"],
        "alone": alone,
        "best": table.accuracy("best_of_n", [1, 4], score="reward").mean(axis=0).tolist(),
        "single": float(table.correct.mean()),
    }


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    work = {"train": train, "budgets": budgets, "stream": stream, "reward": reward}
    answer = work[command](*arguments) if command in work else engine(command, *arguments)
    print("\n" + json.dumps(answer))
