"""What test_real_engine.py asks of real engines, in a process of its own: vLLM takes over its
process, and can be killed there.

    python -m tests.measure.engine_checks train FOLDER | vllm FOLDER | transformers FOLDER | reward
    FOLDER TRACE

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
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
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
    answer = (
        {"train": train, "reward": reward}[command](*arguments)
        if command in ("train", "reward")
        else engine(command, *arguments)
    )
    print("\n" + json.dumps(answer))
