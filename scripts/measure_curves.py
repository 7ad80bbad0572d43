"""Measure quality curves: models and a task in, traces and a curve file out, which
`ttc_env.load_market` reads.

    python -m scripts.measure_curves --models Qwen/Qwen2.5-7B-Instruct
    meta-llama/Llama-3.1-8B-Instruct --task gsm8k --limit 300 \\
        --samples 64 --levels 1,2,4,8,16,32,64 --methods majority,best_of_n --prices 0.1465,0.1245
        --out runs/gsm8k --dry-run

Drop `--dry-run` to begin. Everything is resumed by default: stop it at any moment (Ctrl-C, kill,
power) and give the same command again. `--budgets 64,256,1024` measures the thinking-budget dial
(method `reasoning`) in place of parallel samples.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from scripts.estimate import curve_tables, price_options, read_prices, write_curve_files
from ttc_env.measure.backends import BACKENDS, make_backend
from ttc_env.measure.backends.base import Sampling
from ttc_env.measure.collect import Progress, collect
from ttc_env.measure.curve_file import write_atomically
from ttc_env.measure.dials import Dial, Parallel, ThinkingBudget
from ttc_env.measure.scoring import WorkerPool
from ttc_env.measure.tasks import Task, load_task
from ttc_env.measure.traces import TraceError


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--models", nargs="+", required=True, help="model folders, hub names, or the server's names"
    )
    what.add_argument(
        "--names",
        nargs="+",
        help="provider names in the curve file; by default the last part of each model's path",
    )
    what.add_argument("--revision", help="branch, tag or commit of hub models")
    what.add_argument(
        "--task",
        required=True,
        help="gsm8k, aime, gpqa, mmlu, reasoning-gym:<dataset>, chains, sums",
    )
    what.add_argument(
        "--data",
        type=Path,
        help=(
            "local JSON-lines, CSV or Parquet file in the data set's schema, in place of a download"
        ),
    )
    what.add_argument("--limit", type=int, help="number of questions")
    what.add_argument(
        "--task-options",
        type=json.loads,
        default={},
        help="changes to the task's entry in formats.toml, as JSON: '{\"max_terms\": 8}'",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--samples", type=int, default=64, help="samples a question (1 is usual with --budgets)"
    )
    how.add_argument(
        "--budgets",
        type=whole_numbers,
        help="thinking budgets in tokens: measures the dial `reasoning`",
    )
    how.add_argument("--temperature", type=float, default=1.0)
    how.add_argument("--top-p", type=float, default=1.0)
    how.add_argument(
        "--max-tokens", type=int, help="for one whole answer; the task's own by default"
    )
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--backend", choices=BACKENDS, default="vllm")
    how.add_argument(
        "--backend-options",
        type=json.loads,
        default={},
        help='JSON: \'{"tensor_parallel": 2}\', \'{"base_url": "http://localhost:8000/v1"}\'',
    )
    how.add_argument(
        "--batch", type=int, default=64, help="questions drawn at once: what a kill can lose"
    )
    how.add_argument(
        "--no-resume", action="store_true", help="refuse trace files that hold questions already"
    )
    how.add_argument(
        "--check-workers", type=int, default=2, help="processes that check mathematical answers"
    )
    how.add_argument("--check-timeout", type=float, default=10.0, help="seconds for one answer")
    how.add_argument(
        "--tokens-per-second", type=float, default=1000.0, help="speed assumed by --dry-run"
    )
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="print prompts, and token and time estimates; load no model",
    )
    how.add_argument("--out", type=Path, required=True, help="folder for traces/ and curve files")
    price_options(parser)
    args = parser.parse_args()
    args.names = args.names or [Path(model).name for model in args.models]
    if len(args.names) != len(args.models) or len(set(args.names)) < len(args.names):
        parser.error("--names needs one different name for each model")
    if not args.budgets and args.levels and max(args.levels) > args.samples:
        parser.error(f"--levels goes up to {max(args.levels)}, but --samples is {args.samples}")
    return args


def make_dials(args: argparse.Namespace, task: Task) -> dict[str, Dial]:
    """Trace name -> dial."""
    sampling = Sampling(
        args.samples, args.temperature, args.top_p, args.max_tokens or task.max_tokens, task.stop
    )
    if not args.budgets:
        return {f"n{args.samples}-t{args.temperature:g}": Parallel(sampling)}
    if not task.thinking:
        raise SystemExit(
            f"task {task.name} does not say how a thought is closed; add `thinking` to its entry in"
            " formats.toml, or by --task-options"
        )
    close = task.thinking
    return {
        f"budget{budget}-t{args.temperature:g}": ThinkingBudget(
            sampling, budget, close["end"], close["answer_tokens"], close["prefix"], task.stop
        )
        for budget in args.budgets
    }


def dry_run(args: argparse.Namespace, task: Task, dials: dict[str, Dial]) -> None:
    answer, share = task.constant_baseline
    print(
        f"task {task.name}: {len(task.questions)} questions; always answering {answer!r} is right"
        f" in {100 * share:.1f}%"
    )
    for question in task.questions[:2]:
        print(f"\n--- {question.id} (gold {question.gold!r})")
        prompt = question.prompt
        print(
            prompt
            if isinstance(prompt, str)
            else "\n".join(f"[{m['role']}] {m['content']}" for m in prompt)
        )
    most = len(args.models) * len(task.questions) * sum(dial.most_tokens for dial in dials.values())
    print(
        f"\n{len(args.models)} models x {len(task.questions)} questions x {len(dials)} settings"
        f" ({', '.join(dials)})"
    )
    print(
        f"at most {most:,} tokens, {most / args.tokens_per_second / 3600:.2f} hours at"
        f" {args.tokens_per_second:g} tokens/s (most answers end earlier)"
    )
    print(f"would write {args.out / 'traces'}/*.jsonl and {args.out}/*.csv")


def progress_bar(label: str) -> Any:
    from tqdm import tqdm

    return tqdm(desc=label, unit="question", dynamic_ncols=True)


def measure(args: argparse.Namespace, task: Task, dials: dict[str, Dial]) -> list[Path]:
    paths = []
    with (
        WorkerPool(args.check_workers, args.check_timeout)
        if task.answer == "math"
        else nullcontext()
    ) as pool:
        for model, name in zip(args.models, args.names, strict=True):
            options = dict(args.backend_options)
            if args.revision and args.backend != "fake":
                options["revision"] = args.revision
            backend = make_backend(args.backend, model, **options)
            for setting, dial in dials.items():
                path = (
                    args.out / "traces" / f"{name}--{task.name.replace(':', '-')}--{setting}.jsonl"
                )
                with progress_bar(f"{name} {setting}") as bar:

                    def show(progress: Progress, bar: Any = bar) -> None:
                        bar.total, bar.n = progress.total, progress.done
                        bar.set_postfix_str(
                            f"{progress.tokens_per_second:,.0f} tokens/s,"
                            f" {progress.seconds_left:,.0f} s left"
                        )
                        bar.refresh()

                    result = collect(
                        task, backend, dial, path, provider=name, seed=args.seed, batch=args.batch, resume=not args.no_resume, pool=pool,
                        report=show, warn=bar.write,
                    )  # fmt: skip
                if result.drawn:
                    print(
                        f"{name} {setting}: {result.tokens:,} tokens in {result.seconds:.1f} s ="
                        f" {result.tokens_per_second:,.0f} tokens/s"
                    )
                paths.append(path)
            backend.close()
    return paths


def write_sources(args: argparse.Namespace, task: Task, files: list[Path], seconds: float) -> None:
    """What a data file needs said about it: what, how obtained, settings, hashes."""
    answer, share = task.constant_baseline
    lines = [
        f"# Measured curves: {task.name}",
        "",
        (
            f"- What: {len(task.questions)} questions; models {', '.join(args.names)}; constant"
            f" answer {answer!r} is right in {100 * share:.1f}%"
        ),
        f"- How: `python -m scripts.measure_curves {' '.join(sys.argv[1:])}`",
        (
            f"- When: {datetime.date.today().isoformat()}, {seconds:.0f} s in the last run; library"
            " versions and hardware stand in each trace's header"
        ),
        "",
        "| file | sha256 |",
        "| --- | --- |",
        *(f"| {path.name} | {hashlib.sha256(path.read_bytes()).hexdigest()} |" for path in files),
    ]
    write_atomically(args.out / "SOURCES.md", "\n".join(lines) + "\n")


def main() -> None:
    args = parse()
    task = load_task(
        args.task, limit=args.limit, seed=args.seed, data=args.data, options=args.task_options
    )
    dials = make_dials(args, task)
    if args.dry_run:
        dry_run(args, task, dials)
        return
    prices = read_prices(args, args.names)
    began = time.time()
    try:
        traces = measure(args, task, dials)
    except KeyboardInterrupt:
        print(
            f"\nstopped; everything finished is in {args.out / 'traces'}. The same command goes on"
            " from there.",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    except TraceError as error:
        raise SystemExit(str(error)) from None
    files = write_curve_files(curve_tables(traces, args, prices), args.out)
    write_sources(args, task, traces + files, time.time() - began)
    for path in files:
        print(f'{path}: ttc_env.load_market("{path}")')


if __name__ == "__main__":
    main()
