"""Measure quality curves: models and tasks in, traces, curve files and solved markets out.

    ttc-env measure campaign.toml --dry-run
    ttc-env measure --models Qwen/Qwen2.5-7B-Instruct meta-llama/Llama-3.1-8B-Instruct \\
        --task gsm8k --limit 300 --samples 64 --levels 1,2,4,8,16,32,64 \\
        --methods majority,best_of_n --prices 0.1465,0.1245 --out runs/gsm8k --dry-run

Drop `--dry-run` to begin. Everything is resumed: stop it at any moment (Ctrl-C, kill, power) and
give the same command again. `--budgets 64,256,1024` measures the thinking-budget dial (method
`reasoning`) in place of parallel samples.

A campaign file holds all of this for many models, tasks and dials; `ttc-env measure --example`
prints one that explains itself. On a cluster, `--shard I/N` draws one part of N (an array job), and
`--merge` puts the parts together and makes the curves.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttc_env.cli._curves import add_curve_options, json_object, reward_options, whole_numbers
from ttc_env.cli._workers import read_shard

if TYPE_CHECKING:
    from ttc_env.measure.campaign import Campaign


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ttc_env.measure.backends import BACKENDS

    parser.add_argument("campaign", type=Path, nargs="?", help="a TOML file, in place of options")
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, help="folder for traces/ and curve files")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="print prompts, and token, time and cost estimates; load no model",
    )
    run.add_argument("--shard", metavar="I/N", help="draw part I of N alone, into files of its own")
    run.add_argument("--merge", action="store_true", help="put shards together; draw nothing")
    run.add_argument(
        "--example",
        action="store_true",
        help="print an example of a campaign, with the paper's settings",
    )
    run.add_argument(
        "--show",
        action="store_true",
        help="print the options as a campaign file, and measure nothing",
    )
    run.add_argument(
        "--no-resume", action="store_true", help="refuse trace files that hold questions already"
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument("--models", nargs="+", help="model folders, hub names, or a server's names")
    what.add_argument(
        "--names",
        nargs="+",
        help="provider names in the curve file; by default the last part of each model's path",
    )
    what.add_argument("--revision", help="branch, tag or commit of hub models")
    what.add_argument(
        "--task",
        help="gsm8k, aime, aime24, aime25, math500, gpqa, gpqa_diamond, mmlu, mmlu_pro, rows:NAME,"
        " reasoning-gym:DATASET, chains, sums",
    )
    what.add_argument(
        "--data",
        type=Path,
        help="local JSON-lines, CSV or Parquet file, in place of a download",
    )
    what.add_argument("--question-field", help="column of `--task rows`")
    what.add_argument("--answer-field", help="column of `--task rows`")
    what.add_argument("--choices-field", help="column of `--task rows` with a list of options")
    what.add_argument(
        "--check", choices=("math", "choice", "exact"), help="how answers of `--task rows` compare"
    )
    what.add_argument("--shots", type=int, help="worked examples before each question")
    what.add_argument("--limit", type=int, help="number of questions")
    what.add_argument(
        "--task-options",
        type=json_object,
        default={},
        help="changes to the task's entry in formats.toml, as JSON: '{\"max_terms\": 8}'",
    )
    what.add_argument("--alpha", type=float, help="USD value of a right answer: solve the market")
    what.add_argument("--betas", help="user rationalities to solve it at, separated by commas")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--samples", type=int, default=64, help="samples a question (1 is usual with --budgets)"
    )
    how.add_argument(
        "--budgets",
        type=whole_numbers,
        help="thinking budgets in tokens: measures the dial `reasoning`",
    )
    how.add_argument(
        "--coupled", action="store_true", help="all budgets from one thought: cheaper, correlated"
    )
    how.add_argument(
        "--thought-start",
        default="",
        help="what opens a thought where the chat template does not (Qwen3: '<think>\\n')",
    )
    how.add_argument("--temperature", type=float, default=1.0)
    how.add_argument("--top-p", type=float, default=1.0)
    how.add_argument("--top-k", type=int, default=0, help="0 for all")
    how.add_argument("--min-p", type=float, default=0.0)
    how.add_argument("--presence-penalty", type=float, default=0.0)
    how.add_argument("--frequency-penalty", type=float, default=0.0)
    how.add_argument("--repetition-penalty", type=float, default=1.0)
    how.add_argument("--system", help="system prompt in place of the task's own")
    how.add_argument(
        "--chat-template-kwargs",
        type=json_object,
        default={},
        help="JSON: '{\"enable_thinking\": false}'",
    )
    how.add_argument(
        "--max-tokens", type=int, help="for one whole answer; the task's own by default"
    )
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--backend", choices=BACKENDS, default="vllm")
    how.add_argument(
        "--backend-options",
        type=json_object,
        default={},
        help='JSON: \'{"tensor_parallel": 2}\', \'{"base_url": "http://localhost:8000/v1"}\'; give'
        " keys in the environment variable OPENAI_API_KEY",
    )
    how.add_argument(
        "--batch",
        type=int,
        help="questions under way at once, at most (what a kill can lose); the engine's choice by"
        " default",
    )
    how.add_argument("--check-workers", type=int, default=2, help="processes that check answers")
    how.add_argument("--check-timeout", type=float, default=10.0, help="seconds for one answer")
    how.add_argument(
        "--tokens-per-second", type=float, default=1000.0, help="speed assumed by --dry-run"
    )
    how.add_argument("--usd-per-hour", type=float, help="what the machine costs")
    add_curve_options(parser)


def run(args: argparse.Namespace) -> None:
    from ttc_env.measure import run as runner

    if args.example:
        from importlib import resources

        folder = resources.files("ttc_env.measure") / "campaigns"
        print((folder / "paper.toml").read_text("utf-8"), end="")
        return
    campaign = _campaign(args)
    if args.show:
        from ttc_env.measure.campaign import campaign_toml

        print(campaign_toml(campaign), end="")
        return
    shard = read_shard(args.shard)
    if shard and args.merge:
        raise ValueError("--shard draws and --merge puts together; give one of them")
    tasks = campaign.load_tasks()
    jobs = campaign.jobs(tasks)
    if args.dry_run:
        print(runner.describe(campaign, tasks, jobs))
        if shard:
            from ttc_env.measure.campaign import shard_places

            count = sum(map(len, shard_places(jobs, *shard)))
            print(f"shard {args.shard} would draw {count} questions")
        return
    began = time.monotonic()
    if args.merge:
        paths = runner.merge(campaign, jobs)
    else:
        try:
            paths = runner.measure(
                campaign, jobs, shard=shard, resume=not args.no_resume, say=runner.to_stderr
            )
        except KeyboardInterrupt:
            runner.to_stderr(
                f"\neverything finished is in {campaign.out / 'traces'}; the same command goes on"
                " from there"
            )
            raise
    if shard:
        print(runner.summary_text(runner.summary(paths)))
        print(f"shard {args.shard} is done; when all are, run the same with --merge")
        return
    command = "ttc-env measure" + (f" {args.campaign.name}" if args.campaign else "")
    for path in runner.finish(campaign, jobs, paths, time.monotonic() - began, command):
        print(f'{path}: ttc_env.load_market("{path}")')


def _campaign(args: argparse.Namespace) -> Campaign:
    """What the file or the options describe."""
    import dataclasses

    from ttc_env.measure.campaign import (
        SAMPLING,
        Campaign,
        DialSpec,
        ProviderSpec,
        TaskSpec,
        read_campaign,
    )
    from ttc_env.measure.estimate import read_prices

    if args.campaign is not None:
        if args.models or args.task:
            raise ValueError("give a campaign file or --models and --task, not both")
        campaign = read_campaign(args.campaign)
        runs = not (args.dry_run or args.show)
        if campaign.remote_code and runs and not args.trust_remote_code:
            raise ValueError(
                f"{args.campaign}: {', '.join(campaign.remote_code)} would run code of a model's"
                " repository with your rights, and a file alone cannot decide that; read the code"
                " at a fixed revision, then add --trust-remote-code"
            )
        return campaign if args.out is None else dataclasses.replace(campaign, out=args.out)
    for name in ("models", "task", "out"):
        if not getattr(args, name):
            raise ValueError(f"--{name} is missing (or give a campaign file; see --example)")
    labels = args.names or [Path(model).name for model in args.models]
    if len(labels) != len(args.models) or len(set(labels)) < len(labels):
        raise ValueError("--names needs one different name for each model")
    prices = read_prices(args.prices, labels)
    dial = DialSpec(
        samples=args.samples,
        max_tokens=args.max_tokens,
        budgets=args.budgets,
        coupled=args.coupled,
        thought_start=args.thought_start.replace("\\n", "\n"),
        methods=args.methods,
        levels=args.levels,
        score=args.score,
        **{name: getattr(args, name) for name in SAMPLING},
    )
    options: dict[str, Any] = dict(args.task_options)
    named = {
        "question_field": args.question_field,
        "answer_field": args.answer_field,
        "choices_field": args.choices_field,
        "answer": args.check,
        "shots": args.shots,
    }
    options |= {name: value for name, value in named.items() if value is not None}
    providers = {
        label: ProviderSpec(
            model,
            args.backend,
            args.backend_options,
            args.revision,
            None if label not in prices else prices[label] * 1e6,
            system=args.system,
            chat_template_kwargs=args.chat_template_kwargs,
        )
        for label, model in zip(labels, args.models, strict=True)
    }
    try:
        betas = [float(part) for part in (args.betas or "").split(",") if part]
    except ValueError:
        raise ValueError(f"--betas is {args.betas!r}; give numbers, separated by commas") from None
    return Campaign(
        out=args.out,
        providers=providers,
        tasks={"task": TaskSpec(args.task, args.limit, args.data, None, options, args.alpha)},
        dials={"dial": dial},
        reward_model=reward_options(args),
        betas=betas,
        seed=args.seed,
        batch=args.batch,
        margin=args.margin,
        resamples=args.resamples,
        check_workers=args.check_workers,
        check_timeout=args.check_timeout,
        tokens_per_second=args.tokens_per_second,
        usd_per_hour=args.usd_per_hour,
    )
