"""The measurement itself: a task, a backend and a dial in, a trace file out.

Can be stopped at any moment and taken up again.
"""

from __future__ import annotations

import datetime
import platform
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ttc_env.measure.backends.base import Backend, Stream, question_seed
from ttc_env.measure.dials import Dial, Draw, Steps
from ttc_env.measure.scoring import SCORING_VERSION, Verdict, WorkerPool, judge
from ttc_env.measure.tasks import Question, Task
from ttc_env.measure.traces import TraceError, TraceWriter


@dataclass
class Progress:
    """Where a run stands; given to the caller after every batch."""

    done: int  # questions in the file (or known from another one)
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
        **facts.get("settings", {}),
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
        "questions_from": dict(task.origin),
        "scoring": SCORING_VERSION,
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
    batch: int | None = None,
    resume: bool = True,
    pool: WorkerPool | None = None,
    places: Collection[int] | None = None,
    known: Collection[str] = (),
    more_settings: Mapping[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = print,
) -> Progress:
    """Draw, check and store the samples of every question that `path` does not hold yet.

    While the engine draws, the answers before are checked and stored. A backend that works on many
    requests at once (`Stream`, or a server with `lanes`) gets question by question, each as soon as
    there is room for it, without waiting for the slowest of a batch. Which questions are under way
    together changes no sample.

    Args:
        task, backend, dial: what is measured, by what, and how.
        path: the trace file (`.jsonl`); continued if it exists.
        provider: name of the model in curve files; by default the last part of its path.
        seed: base seed; each question's own follows from it, its place in the task, the model and
            the dial.
        batch: questions under way at once, at most; by default as many as the engine can work on.
            What a kill can lose.
        resume: False refuses a file that holds questions already.
        pool: workers that check answers; one of this call's own by default.
        places: which of the task's questions, by their place; all by default. A shard's samples are
            those that the whole run would draw.
        known: ids of questions that another file holds already.
        more_settings: further entries of the trace's settings.
        report: called after each batch.
        warn: gets one line for a torn line that was redone, or an answer that could not be checked.

    Raises:
        TraceError: see `TraceWriter`.
        KeyboardInterrupt: passed on; all finished questions are on disk.
    """
    dial = dial.on(backend)
    name = provider or Path(backend.model).name
    settings = trace_settings(task, backend, dial, seed, name) | dict(more_settings or {})
    setting = "|".join(f"{key}={value}" for key, value in sorted(dial.settings().items()))
    chosen = range(len(task.questions)) if places is None else sorted(places)
    with (
        TraceWriter(path, settings, session_facts(task, backend), resume=resume) as writer,
        WorkerPool(1, mathematics=task.answer == "math")
        if pool is None
        else nullcontext(pool) as checkers,
    ):
        if writer.torn:
            warn(writer.torn + "; its question is drawn again")
        _check_questions(task, writer)
        stored = writer.done | set(known)
        missing = [
            (task.questions[i], question_seed(seed, name, setting, i))
            for i in chosen
            if task.questions[i].id not in stored
        ]
        progress = Progress(len(chosen) - len(missing), len(chosen))
        report(progress)
        ahead = 16 if hasattr(backend, "lanes") else 2  # questions, or batches
        store = _Store(task, writer, checkers, progress, warn, ahead)
        began, whole = time.perf_counter(), False
        try:
            for part, draws in _drawn(dial, backend, missing, batch):
                store.put(part, draws)
                progress.seconds = time.perf_counter() - began
                progress.drawn += len(part)
                progress.tokens += sum(draw.tokens for row in draws for draw in row)
                report(progress)
            whole = True
        finally:
            store.finish(patience=None if whole else STORE_PATIENCE)
        report(progress)
    return progress


#: Seconds that an interrupted run goes on checking and storing what is drawn already, at most; it
#: takes so long only where checks hang, or where the processes that check are still starting.
STORE_PATIENCE = 20.0

_Part: TypeAlias = "Sequence[tuple[Question, int]]"  # questions and their seeds


BATCH = 32  # questions that a backend without lanes gets at once


def _drawn(
    dial: Dial, backend: Backend, missing: _Part, batch: int | None
) -> Iterator[tuple[_Part, list[list[Draw]]]]:
    """Batches and their draws: one after the other, or, where the backend has several lanes, single
    questions as they are finished.
    """
    lanes = backend.lanes(dial.sampling.n) if hasattr(backend, "lanes") else 1
    if isinstance(backend, Stream):
        yield from _streamed(dial, backend, missing, min(lanes, batch or lanes))
        return
    if lanes <= 1:
        batch = batch or BATCH
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            yield part, dial.draw(backend, [q.prompt for q, _ in part], [s for _, s in part])
        return
    waiting: queue.SimpleQueue[tuple[Question, int]] = queue.SimpleQueue()
    for entry in missing:
        waiting.put(entry)
    done: queue.SimpleQueue[tuple[_Part, list[list[Draw]] | BaseException]] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                question, seed = waiting.get_nowait()
            except queue.Empty:
                return
            part = [(question, seed)]
            try:
                done.put((part, dial.draw(backend, [question.prompt], [seed])))
            except BaseException as error:
                done.put((part, error))

    for _ in range(min(lanes, batch or lanes, len(missing))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in range(len(missing)):
            while True:
                try:
                    part, draws = done.get(timeout=0.5)  # so that Ctrl-C is seen everywhere
                    break
                except queue.Empty:
                    continue
            if isinstance(draws, BaseException):
                raise draws
            yield part, draws
    finally:
        stop.set()


def _streamed(
    dial: Dial, backend: Any, missing: _Part, room: int
) -> Iterator[tuple[_Part, list[list[Draw]]]]:
    """Single questions as they are finished, `room` of them under way until the last has begun."""
    running: dict[int, tuple[tuple[Question, int], Steps]] = {}  # by ticket
    waiting = iter(missing)
    try:
        while True:
            while len(running) < room and (entry := next(waiting, None)) is not None:
                steps = dial.steps(entry[0].prompt, entry[1], backend)
                running[backend.submit(next(steps))] = entry, steps
            if not running:
                return
            for ticket, samples in backend.advance():
                entry, steps = running.pop(ticket)
                try:
                    running[backend.submit(steps.send(samples))] = entry, steps
                except StopIteration as end:
                    yield [entry], [end.value]
    finally:
        if running:
            backend.abandon()


class _Store:
    """Checks and stores what was drawn, in a thread of its own, in the order in which it came."""

    def __init__(
        self,
        task: Task,
        writer: TraceWriter,
        pool: WorkerPool,
        progress: Progress,
        warn: Callable[[str], None],
        ahead: int,
    ) -> None:
        self._task, self._writer, self._pool = task, writer, pool
        self._progress, self._warn = progress, warn
        # so far ahead at most: an engine that is faster than the checking waits for it
        self._queue: queue.Queue[tuple[_Part, list[list[Draw]]] | None] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, part: _Part, draws: list[list[Draw]]) -> None:
        while True:
            self._raise()
            try:
                self._queue.put((part, draws), timeout=0.5)
                return
            except queue.Full:
                continue

    def finish(self, patience: float | None) -> None:
        """Wait until all is stored; with `patience`, seconds, until then at most, and for the
        question that is under way.
        """
        deadline = None if patience is None else time.monotonic() + patience
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._queue.put(None, timeout=0.1)
                break
            if deadline is not None and time.monotonic() > deadline:
                break
        self._thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        self._stop.set()
        self._thread.join()
        if patience is None:
            self._raise()

    def _raise(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    entry = self._queue.get(timeout=0.1)
                except queue.Empty:
                    continue
                if entry is None:
                    return
                for (question, seed), draws in zip(*entry, strict=True):
                    if self._stop.is_set():
                        return
                    self._one(question, seed, draws)
        except BaseException as error:
            self._problem = error

    def _one(self, question: Question, seed: int, draws: Sequence[Draw]) -> None:
        task = self._task
        texts, whole = [d.text for d in draws], [d.finish == "stop" for d in draws]
        judged = judge(
            task.answer, task.pattern, question.gold, texts, whole, self._pool, self._warn
        )
        columns = _columns(draws, judged)
        self._writer.append(question.id, question.gold, columns, prompt=question.prompt, seed=seed)
        self._progress.done += 1


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


def _columns(draws: Sequence[Draw], verdicts: Sequence[Verdict]) -> dict[str, list[Any]]:
    return {
        "text": [d.text for d in draws],
        "answer": [v.answer for v in verdicts],
        "correct": [v.correct for v in verdicts],
        "tokens": [d.tokens for d in draws],
        "thinking_tokens": [d.thinking_tokens for d in draws],
        "logprob": [None if d.logprob is None else round(d.logprob, 5) for d in draws],
        "finish": [d.finish for d in draws],
        **({} if draws[0].budget is None else {"budget": [d.budget for d in draws]}),
    }
