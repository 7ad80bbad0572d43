"""Running a campaign: traces, a summary, curve files, solved markets, and what was done how."""

from __future__ import annotations

import datetime
import glob
import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ttc_env.atomic import write_text
from ttc_env.measure import plots
from ttc_env.measure.backends import make_backend
from ttc_env.measure.campaign import Campaign, Job, ProviderSpec, shard_places
from ttc_env.measure.collect import Progress, collect
from ttc_env.measure.curve_file import MeasuredCurve
from ttc_env.measure.dials import ThinkingBudget
from ttc_env.measure.estimate import curve_tables, curves_of, summarise, write_curve_files
from ttc_env.measure.scoring import WorkerPool
from ttc_env.measure.tasks import Task
from ttc_env.measure.traces import merge_traces, read_trace


@dataclass
class Total:
    """Where a whole campaign (or shard) stands."""

    questions: int  # to be drawn in all its traces
    done: int = 0  # of them on disk
    drawn: int = 0  # in this run
    tokens: int = 0  # generated in this run
    cost: float = 0.0  # USD at the providers' prices, of this run's tokens
    began: float = 0.0

    def line(self, usd_per_hour: float | None) -> str:
        """One line for people."""
        seconds = time.monotonic() - self.began
        speed = self.tokens / seconds if seconds > 0 else 0.0
        parts = [
            f"{self.done}/{self.questions} questions",
            f"{self.tokens:,} tokens",
            f"{speed:,.0f} tokens/s",
            f"{_duration((self.questions - self.done) * seconds / self.drawn)} left"
            if self.drawn
            else "no speed known yet",
        ]
        if self.cost:
            parts.append(f"worth {self.cost:.4g} USD at list prices")
        if usd_per_hour is not None:
            parts.append(f"{seconds / 3600 * usd_per_hour:.2f} USD of machine time")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def describe(campaign: Campaign, tasks: Mapping[str, Task], jobs: Sequence[Job]) -> str:
    """What would be done: prompts, an upper bound on tokens, time and cost. Loads no model."""
    lines = []
    for name, task in tasks.items():
        answer, share = task.constant_baseline
        lines.append(
            f"task {name}: {len(task.questions)} questions; always answering {answer!r} is right in"
            f" {100 * share:.1f}%"
        )
        if task.unpinned:
            lines.append(task.unpinned)
    for job in {job.task: job for job in reversed(jobs)}.values():
        for question in job.asked.questions[:2]:
            lines.append(f"\n--- {job.task}, {question.id} (gold {question.gold!r})")
            prompt = question.prompt
            lines += (
                [prompt]
                if isinstance(prompt, str)
                else [f"[{m['role']}] {m['content']}" for m in prompt]
            )
    prices = campaign.prices()
    lines.append("\ntrace, at most so many tokens (most answers end earlier):")
    for job in jobs:
        price = prices.get(job.provider)
        cost = "" if price is None else f"   {job.most_tokens * price:12.2f} USD at its list price"
        lines.append(f"  {job.file:<60} {job.most_tokens:>16,}{cost}")
    most = sum(job.most_tokens for job in jobs)
    hours = most / campaign.tokens_per_second / 3600
    lines.append(
        f"in all: {len(jobs)} traces, {sum(len(j.asked.questions) for j in jobs)} questions, at"
        f" most {most:,} tokens, {hours:.2f} hours at {campaign.tokens_per_second:g} tokens/s"
    )
    if campaign.usd_per_hour is not None:
        lines.append(f"at most {hours * campaign.usd_per_hour:,.2f} USD of machine time")
    lines.append(f"would write {campaign.out / 'traces'}/*.jsonl and {campaign.out}/*.csv")
    return "\n".join(lines)


def measure(
    campaign: Campaign,
    jobs: Sequence[Job],
    *,
    shard: tuple[int, int] | None = None,
    resume: bool = True,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Draw, check and store everything that is not on disk yet; the traces' paths.

    Args:
        campaign, jobs: what is measured; `jobs` are the campaign's own.
        shard: (number from 1, of how many): this process's part, into trace files of its own.
        resume: False refuses traces that hold questions already.
        say: gets a line of progress now and then.
    """
    places: Sequence[Sequence[int]] = (
        shard_places(jobs, *shard) if shard else [range(len(j.asked.questions)) for j in jobs]
    )
    folder = campaign.out / "traces"
    prices = campaign.prices()
    total = Total(sum(map(len, places)), began=time.monotonic())
    paths = []
    for text in dict.fromkeys(job.asked.unpinned for job in jobs):
        if text:
            say(text)
    mathematics = any(job.asked.answer == "math" for job in jobs)
    with WorkerPool(
        campaign.check_workers, campaign.check_timeout, mathematics=mathematics
    ) as pool:
        backend, loaded = None, None
        try:
            for job, chosen in zip(jobs, places, strict=True):
                if not chosen:
                    continue
                if loaded != job.provider:
                    if backend is not None:
                        backend.close()
                    provider = campaign.providers[job.provider]
                    own = [j for j in jobs if j.provider == job.provider]
                    options = _backend_options(provider, own)
                    backend = make_backend(provider.backend, provider.model, **options)
                    loaded = job.provider
                assert backend is not None
                path = folder / (shard_file(job.file, shard) if shard else job.file)
                known = (
                    set(read_trace(folder / job.file).records)
                    if shard and (folder / job.file).exists()
                    else set()
                )
                meter = _Meter(total, job, prices.get(job.provider), campaign, say)
                result = collect(
                    job.asked,
                    backend,
                    job.how,
                    path,
                    provider=job.provider,
                    seed=campaign.seed,
                    batch=campaign.batch,
                    resume=resume,
                    pool=pool,
                    places=chosen,
                    known=known,
                    more_settings=_asked_settings(campaign, job),
                    report=meter,
                    warn=say,
                )
                if result.drawn:
                    say(
                        f"{job.provider} {job.task} {job.label}: {result.tokens:,} tokens in"
                        f" {result.seconds:.1f} s = {result.tokens_per_second:,.0f} tokens/s"
                    )
                paths.append(path)
        finally:
            if backend is not None:
                backend.close()
    return paths


def _backend_options(provider: ProviderSpec, jobs: Sequence[Job]) -> dict[str, Any]:
    """What the provider's engine is started with: vLLM must know then how thoughts are marked."""
    options = provider.options()
    budgets = [job.how for job in jobs if isinstance(job.how, ThinkingBudget)]
    marks = next((m for how in budgets if (m := how.engine_marks()) is not None), None)
    if provider.backend == "vllm" and marks is not None:
        options.setdefault("thought", list(marks))
    return options


def _asked_settings(campaign: Campaign, job: Job) -> dict[str, Any]:
    system = campaign.providers[job.provider].system
    return {} if system is None else {"system": system}


class _Meter:
    """Adds one trace's progress to the total, and says where it stands every ten seconds."""

    EVERY = 10.0  # seconds

    def __init__(
        self,
        total: Total,
        job: Job,
        price: float | None,
        campaign: Campaign,
        say: Callable[[str], None],
    ) -> None:
        self._total, self._price, self._campaign, self._say = total, price, campaign, say
        self._label = f"{job.provider} {job.task} {job.label}"
        self._before = Progress(0, 0)
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        total, before = self._total, self._before
        total.done += progress.done - before.done
        total.drawn += progress.drawn - before.drawn
        total.tokens += progress.tokens - before.tokens
        total.cost += (progress.tokens - before.tokens) * (self._price or 0.0)
        self._before = Progress(progress.done, progress.total, progress.drawn, progress.tokens)
        if time.monotonic() - self._last >= self.EVERY:
            self._last = time.monotonic()
            self._say(
                f"[{self._label}: {progress.done}/{progress.total}]"
                f" {total.line(self._campaign.usd_per_hour)}"
            )


def shard_file(file: str, shard: tuple[int, int]) -> str:
    """The trace of one shard."""
    number, of = shard
    return f"{file.removesuffix('.jsonl')}.shard{number}of{of}.jsonl"


def merge(
    campaign: Campaign, jobs: Sequence[Job], say: Callable[[str], None] = print
) -> list[Path]:
    """Put the shards' traces together, one trace for each job; the shards stay.

    Raises:
        TraceError: a trace has no shard, or its shards do not fit together.
    """
    folder = campaign.out / "traces"
    paths = []
    for job in jobs:
        stem = glob.escape(job.file.removesuffix(".jsonl"))
        target = folder / job.file
        parts = sorted(folder.glob(f"{stem}.shard*of*.jsonl"))
        if target.exists():
            parts.insert(0, target)
        ids = [question.id for question in job.asked.questions]
        count = merge_traces(parts, target, ids)
        say(f"{target}: {count} of {len(ids)} questions, from {len(parts)} files")
        if count < len(ids):
            say(f"  {len(ids) - count} questions are missing: a shard has not ended yet")
        paths.append(target)
    return paths


def summary(paths: Sequence[Path], say: Callable[[str], None] = print) -> pd.DataFrame:
    """What was measured, at a glance: one row a trace."""
    rows = [row for path in paths if (row := summarise(path, warn=say)) is not None]
    return pd.DataFrame(rows)


def summary_text(frame: pd.DataFrame) -> str:
    """The summary as a table for people, with a warning where a number looks wrong."""
    if frame.empty:
        return "nothing was measured"
    shown = frame.copy()
    for name in ("accuracy", "constant_baseline", "cut_off", "unparsed"):
        shown[name] = [f"{100 * v:.1f}%" if v is not None and v == v else "-" for v in frame[name]]
    shown["tokens"] = [f"{v:.0f}" for v in frame["tokens"]]
    lines = [shown.rename(columns={"constant_baseline": "constant"}).to_string(index=False)]
    lines.append(
        "accuracy of one sample; constant: always giving the most frequent answer; cut_off: hit"
        " max_tokens, counted as wrong; unparsed: ended without an answer; tokens a sample"
    )
    for row in frame.to_dict("records"):
        name = f"{row['provider']} on {row['task']}"
        if row["cut_off"] > 0.1:
            lines.append(f"note: {name}: many samples are cut off; raise max_tokens")
        if row["unparsed"] > 0.1:
            lines.append(f"note: {name}: many samples hold no answer; look at the prompt's format")
        if row["constant_baseline"] is not None and row["accuracy"] < row["constant_baseline"]:
            lines.append(f"note: {name}: worse than always giving the most frequent answer")
    return "\n".join(lines)


def curves(campaign: Campaign, jobs: Sequence[Job]) -> dict[tuple[str, str], list[MeasuredCurve]]:
    """(task, method) -> curves of all providers, from the traces on disk."""
    found: dict[tuple[str, str], list[MeasuredCurve]] = {}
    prices = campaign.prices()
    for name in campaign.dials:
        paths = [campaign.out / "traces" / job.file for job in jobs if job.dial == name]
        paths = [path for path in paths if path.exists()]
        spec = campaign.dials[name]
        options = spec.curve_options(campaign.reward_model, campaign.resamples)
        for key, group in curves_of(paths, options, prices).items():
            for curve in group:
                margin = campaign.providers[curve.provider].margin
                if margin is None:
                    margin = campaign.margin
                found.setdefault(key, []).append(_priced(curve, margin))
    return found


def _priced(curve: MeasuredCurve, margin: float | None) -> MeasuredCurve:
    import dataclasses

    return dataclasses.replace(curve, margin=margin)


def finish(
    campaign: Campaign,
    jobs: Sequence[Job],
    paths: Sequence[Path],
    seconds: float,
    command: str,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """All that follows the samples: summary, curve files, solutions, figures, SOURCES.md."""
    table = summary(paths, say)
    say(summary_text(table))
    files = write_curve_files(
        curve_tables(curves(campaign, jobs), campaign.resamples), campaign.out
    )
    write_text(campaign.out / "summary.csv", table.to_csv(index=False, float_format="%.6g"))
    solved = solutions(campaign, jobs, files, say)
    if not solved.empty:
        path = campaign.out / "solutions.csv"
        write_text(path, solved.to_csv(index=False, float_format="%.8g"))
        say(f"{path}:\n{solved.to_string(index=False, float_format=lambda v: f'{v:.4g}')}")
    draw(campaign.out, files, solved, say)
    text = sources(campaign, jobs, [*paths, *files], seconds, command)
    write_text(campaign.out / "SOURCES.md", text)
    return files


def draw(
    out: Path, files: Sequence[Path], solved: pd.DataFrame, say: Callable[[str], None] = print
) -> None:
    """`curves.png` and, where markets were solved, `solutions.png`; without matplotlib a line that
    says how.
    """
    try:
        if files:
            tables = [(path.stem, plots.read_curves(path)) for path in files]
            plots.save(plots.curves_figure(tables), out / "curves.png")
            say(f"{out / 'curves.png'}: accuracy against billed tokens, 95% intervals")
        if not solved.empty:
            plots.save(plots.solutions_figure(solved), out / "solutions.png")
            say(f"{out / 'solutions.png'}: what the market reaches, and what is possible")
    except ImportError as error:
        say(f"no figures were drawn ({error}); then the same command again draws them")


def solutions(
    campaign: Campaign, jobs: Sequence[Job], files: Sequence[Path], say: Callable[[str], None]
) -> pd.DataFrame:
    """The measured markets, solved at every beta: one row a market and beta. Empty where prices, an
    alpha or betas are not given.
    """
    from ttc_env.game.curves import load_market
    from ttc_env.game.solve import solve

    rows = []
    alphas = {j.asked.name: campaign.tasks[j.task].alpha for j in jobs}
    for path in files:
        task = next((n for n in alphas if path.name.startswith(f"{n.replace(':', '-')}-")), None)
        alpha = None if task is None else alphas[task]
        if alpha is None or len(campaign.prices()) < len(campaign.providers):
            continue
        for beta in campaign.betas:
            market = load_market(str(path), alpha=alpha, beta=beta)
            found, auction = solve(market), solve(market, "auction")
            # pure equilibria exist at list prices; the one that providers like best
            chosen = () if found.lowest is None else found.lowest
            rows.append(
                {
                    "curves": path.name,
                    "beta": beta,
                    "welfare": found.welfare,
                    "optimal_welfare": found.optimal_welfare,
                    "price_of_anarchy": found.price_of_anarchy,
                    "unique": found.unique,
                    "levels": "; ".join(
                        f"{provider.name} {provider.levels[i]:g}"
                        for provider, i in zip(market.providers, chosen, strict=False)
                    ),
                    "auction_winner": (
                        "" if auction.winner is None else market.names[auction.winner]
                    ),
                    "auction_welfare": auction.welfare,
                }
            )
    return pd.DataFrame(rows)


#: What of a backend's options is recorded: it decides samples or speed, and holds nothing secret.
HARMLESS = (
    "tensor_parallel",
    "data_parallel",
    "dtype",
    "max_model_len",
    "device",
    "concurrency",
    "samples_per_request",
    "openai_only",
    "skill",
)


def sources(
    campaign: Campaign, jobs: Sequence[Job], files: Sequence[Path], seconds: float, command: str
) -> str:
    """What a data file needs said about it: what, how obtained, settings, hashes. Built from named
    fields alone, so that no key, address or path of this machine can get into it.
    """
    lines = ["# Measured curves", ""]
    for name in dict.fromkeys(job.task for job in jobs):
        task = next(job.asked for job in jobs if job.task == name)
        answer, share = task.constant_baseline
        lines.append(
            f"- Task {name} ({task.name}): {len(task.questions)} questions; the constant answer"
            f" {answer!r} is right in {100 * share:.1f}%"
            + "".join(f"; {key} {value}" for key, value in task.origin.items())
        )
    for name, provider in campaign.providers.items():
        chosen = {k: v for k, v in provider.backend_options.items() if k in HARMLESS}
        told = "".join(f", {key} {value}" for key, value in chosen.items())
        revision = f" at revision {provider.revision}" if provider.revision else ""
        lines.append(
            f"- Provider {name}: {Path(provider.model).name}{revision}, backend"
            f" {provider.backend}{told}"
        )
    for name, dial in campaign.dials.items():
        what = (
            f"{dial.samples} samples"
            if dial.budgets is None
            else f"thinking budgets {', '.join(map(str, dial.budgets))}"
        )
        lines.append(
            f"- Dial {name}: {what}, temperature {dial.temperature:g}, top_p {dial.top_p:g}"
        )
    lines += [
        f"- How: `{command}`, seed {campaign.seed}",
        (
            f"- When: {datetime.date.today().isoformat()}, {seconds:.0f} s in the last run; all"
            " settings, library versions and hardware stand in each trace's header"
        ),
        "",
        "| file | sha256 |",
        "| --- | --- |",
        *(f"| {path.name} | {hashlib.sha256(path.read_bytes()).hexdigest()} |" for path in files),
    ]
    return "\n".join(lines) + "\n"


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
