"""The measurement itself: a task, a backend and a dial in, a trace file out.

Can be stopped at any moment and taken up again.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttc_env.measure.backends.base import Backend, question_seed
from ttc_env.measure.dials import Dial, Draw
from ttc_env.measure.scoring import RULES, Verdict, WorkerPool
from ttc_env.measure.tasks import Question, Task
from ttc_env.measure.traces import TraceError, TraceWriter


@dataclass
class Progress:
    """Where a run stands; given to the caller after every batch."""

    done: int  # questions in the file
    total: int
    drawn: int = 0  # questions drawn in this run
    tokens: int = 0  # generated in this run
    seconds: float = 0.0  # spent generating in this run

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        return (self.total - self.done) * self.seconds / self.drawn if self.drawn else float("nan")


def trace_settings(
    task: Task, backend: Backend, dial: Dial, seed: int, provider: str
) -> dict[str, Any]:
    """What all samples of a trace have in common.

    The number of questions is not part of it: a longer run extends a shorter one.
    """
    facts = backend.describe()
    return {
        "provider": provider,
        "model": Path(facts["model"]).name,
        "backend": facts["backend"],
        "revision": facts["revision"],
        "weights": facts["weights"],
        "dtype": facts["dtype"],
        "task": task.name,
        "format": task.format_hash,
        "answer": task.answer,
        "pattern": task.pattern,
        "seed": seed,
        **dial.settings(),
    }


def session_facts(task: Task, backend: Backend) -> dict[str, Any]:
    """What may differ between two runs that fill one file."""
    facts = backend.describe()
    answer, share = task.constant_baseline
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "questions": len(task.questions),
        "scoring": RULES,
        "constant_baseline": {"answer": answer, "accuracy": share},
        "versions": facts["versions"],
        "hardware": facts["hardware"],
    }


def collect(
    task: Task,
    backend: Backend,
    dial: Dial,
    path: str | Path,
    *,
    provider: str | None = None,
    seed: int = 0,
    batch: int = 32,
    resume: bool = True,
    pool: WorkerPool | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = print,
) -> Progress:
    """Draw, check and store the samples of every question that `path` does not hold yet.

    Args:
        task, backend, dial: what is measured, by what, and how.
        path: the trace file (`.jsonl`); continued if it exists.
        provider: name of the model in curve files; by default the last part of its path.
        seed: base seed; each question's own follows from it, its place in the task, the model and
            the dial.
        batch: questions drawn at once. What a kill can lose, and what an engine can work on in
            parallel.
        resume: False refuses a file that holds questions already.
        pool: workers that check answers; one of this call's own by default.
        report: called after each batch.
        warn: gets one line for a torn line that was redone, or an answer that could not be checked.

    Raises:
        TraceError: see `TraceWriter`.
        KeyboardInterrupt: passed on; all finished questions are on disk.
    """
    name = provider or Path(backend.model).name
    settings = trace_settings(task, backend, dial, seed, name)
    setting = "|".join(f"{key}={value}" for key, value in sorted(dial.settings().items()))
    with (
        TraceWriter(path, settings, session_facts(task, backend), resume=resume) as writer,
        WorkerPool(1, mathematics=task.answer == "math")
        if pool is None
        else nullcontext(pool) as checkers,
    ):
        if writer.torn:
            warn(writer.torn + "; its question is drawn again")
        _check_questions(task, writer)
        missing = [(i, q) for i, q in enumerate(task.questions) if q.id not in writer.done]
        progress = Progress(len(task.questions) - len(missing), len(task.questions))
        report(progress)
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            questions = [q for _, q in part]
            seeds = [question_seed(seed, name, setting, i) for i, _ in part]
            began = time.perf_counter()
            draws = dial.draw(backend, [q.prompt for q in questions], seeds)
            progress.seconds += time.perf_counter() - began
            verdicts = _verdicts(task, questions, draws, checkers, warn)
            for question, question_seed_, row, judged in zip(
                questions, seeds, draws, verdicts, strict=True
            ):
                writer.append(
                    question.id,
                    question.gold,
                    _columns(row, judged),
                    prompt=question.prompt,
                    seed=question_seed_,
                )
            progress.done += len(part)
            progress.drawn += len(part)
            progress.tokens += sum(draw.tokens for row in draws for draw in row)
            report(progress)
    return progress


def _check_questions(task: Task, writer: TraceWriter) -> None:
    """Raise if a stored question reads differently today: a data set that changed under its old
    name.
    """
    for question in task.questions:
        stored = writer.stored.get(question.id)
        prompt = question.prompt if isinstance(question.prompt, str) else list(question.prompt)
        if stored is not None and stored != (prompt, question.gold):
            raise TraceError(
                f"{writer.path}: question {question.id!r} was measured with another prompt or gold"
                " answer than the task has now; choose another --out folder, or pin the data set's"
                " revision"
            )


def _verdicts(
    task: Task,
    questions: Sequence[Question],
    draws: Sequence[Sequence[Draw]],
    pool: WorkerPool,
    warn: Callable[[str], None],
) -> list[list[Verdict]]:
    """Verdicts of every sample.

    A sample that was cut off is wrong and has no answer; equal texts are checked once.
    """
    keys = {
        (q.gold, d.text): None
        for q, row in zip(questions, draws, strict=True)
        for d in row
        if d.finish == "stop"
    }
    judged = dict(
        zip(
            keys,
            task.check([text for _, text in keys], [gold for gold, _ in keys], pool),
            strict=True,
        )
    )
    for (gold, text), verdict in judged.items():
        if verdict.problem:
            warn(
                f"an answer could not be checked and counts as none ({verdict.problem}): gold"
                f" {gold!r}, text ends {text[-60:]!r}"
            )
    cut_off = Verdict(None, False)
    return [
        [judged[q.gold, d.text] if d.finish == "stop" else cut_off for d in row]
        for q, row in zip(questions, draws, strict=True)
    ]


def _columns(draws: Sequence[Draw], verdicts: Sequence[Verdict]) -> dict[str, list[Any]]:
    return {
        "text": [d.text for d in draws],
        "answer": [v.answer for v in verdicts],
        "correct": [v.correct for v in verdicts],
        "tokens": [d.tokens for d in draws],
        "thinking_tokens": [d.thinking_tokens for d in draws],
        "logprob": [None if d.logprob is None else round(d.logprob, 5) for d in draws],
        "finish": [d.finish for d in draws],
    }
