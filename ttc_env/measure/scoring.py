"""From a generated text to the answer it gives, and whether that is right.

Three kinds of answers, each a pure function of (text, gold), so that stored samples can be scored
again later:

- `exact`: the last match of a pattern, compared as text;
- `choice`: one option letter;
- `math`: a mathematical expression, parsed and compared by `math-verify`.

Some expressions take sympy forever, and a pattern of a user's own can take a regular expression
forever, so all checks run in worker processes with a hard timeout (`check_answers`), and look at
the last 100,000 characters of a text: one bad answer costs its own seconds, never the run.

What was parsed is stored in a normal form, so that two samples voted for the same thing exactly if
their strings are equal.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

from ttc_env.measure.backends.base import MissingExtra
from ttc_env.measure.choice import read_choice
from ttc_env.measure.mathematics import BadGold, same_expression

__all__ = ["KINDS", "BadGold", "Verdict", "WorkerPool", "check", "check_answers", "judge"]

KINDS = ("exact", "choice", "math")
#: Characters of a text that are looked at, from its end: where answers stand.
LONGEST_TEXT = 100_000
#: Changes whenever a rule does; stored with each run, so that old verdicts can be told from new.
SCORING_VERSION = 3

_READY = "ready"


@dataclass(frozen=True)
class Verdict:
    """What one text says."""

    answer: str | None  # normal form of the parsed answer; None if there is none
    correct: bool
    problem: str | None = None  # why the answer could not be checked: "timeout", or an error


def check_exact(text: str, gold: str, pattern: str) -> Verdict:
    """The first group of the last match of `pattern` is the answer; blanks around it and thousands
    separators inside it do not count.
    """
    last = None
    for match in re.finditer(pattern, text[-LONGEST_TEXT:]):
        last = match
    if last is None:
        return Verdict(None, False)
    answer = _plain(last.group(1))
    return Verdict(answer, answer == _plain(gold))


def _plain(answer: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", answer.strip())


def check_choice(text: str, gold: str, letters: str = "ABCD") -> Verdict:
    """The option letter that the text settles on; a letter that is no option, or a text that only
    discusses options, is no answer. See `ttc_env.measure.choice`.
    """
    answer = read_choice(text, letters)
    return Verdict(answer, answer == gold.strip().upper())


def check_math(text: str, gold: str) -> Verdict:
    """The last box of the text, or else the expression it ends on, compared with the gold answer as
    mathematics. See `ttc_env.measure.mathematics`.

    Runs in the calling process and can hang; use `check_answers`.
    """
    return Verdict(*same_expression(text[-LONGEST_TEXT:], gold))


def check(kind: str, text: str, gold: str, pattern: str | None = None) -> Verdict:
    """Check one text in this process.

    `pattern`: the regular expression of kind `exact`, or the option letters of kind `choice`.
    """
    if kind == "exact":
        if pattern is None:
            raise ValueError("answers of kind 'exact' need a pattern with one group")
        return check_exact(text, gold, pattern)
    if kind == "choice":
        return check_choice(text, gold, pattern or "ABCD")
    if kind == "math":
        return check_math(text, gold)
    raise ValueError(f"answer kind {kind!r} is unknown; choose one of {', '.join(KINDS)}")


def check_answers(
    kind: str,
    texts: Sequence[str],
    golds: Sequence[str],
    pattern: str | None = None,
    pool: WorkerPool | None = None,
) -> list[Verdict]:
    """Check many texts in the processes of `pool`, or in one that lives as long as this call."""
    jobs = [(kind, text, gold, pattern) for text, gold in zip(texts, golds, strict=True)]
    if not jobs:
        return []
    if pool is not None:
        return pool.run(jobs)
    with WorkerPool(1, mathematics=kind == "math") as own:
        return own.run(jobs)


def judge(
    kind: str,
    pattern: str | None,
    gold: str,
    texts: Sequence[str],
    finished: Sequence[bool],
    pool: WorkerPool | None = None,
    warn: Callable[[str], None] = print,
) -> list[Verdict]:
    """The verdict on every sample of one question.

    A sample that was cut off is wrong and has no answer; equal texts are checked once. `warn` gets
    a line for an answer that could not be checked.
    """
    ended = [text for text, whole in zip(texts, finished, strict=True) if whole]
    different = list(dict.fromkeys(ended))
    verdicts = check_answers(kind, different, [gold] * len(different), pattern, pool)
    judged = dict(zip(different, verdicts, strict=True))
    for text, verdict in judged.items():
        if verdict.problem:
            warn(
                f"an answer could not be checked and counts as none ({verdict.problem}): gold"
                f" {gold!r}, text ends {text[-60:]!r}"
            )
    cut_off = Verdict(None, False)
    return [judged[t] if whole else cut_off for t, whole in zip(texts, finished, strict=True)]


class WorkerPool:
    """Processes that run `check` with a hard timeout for each job: a worker that is late is killed
    and replaced.

    Args:
        processes: number of workers.
        timeout: seconds for one text, counted from when a ready worker gets it.
        mathematics: load math-verify when a worker starts, which takes seconds, so that loading it
            does not count as checking.
    """

    STARTUP = 120.0  # seconds for a worker to import sympy, on a busy machine

    def __init__(
        self, processes: int = 2, timeout: float = 10.0, *, mathematics: bool = True
    ) -> None:
        if processes < 1 or timeout <= 0:
            raise ValueError(
                f"{processes} processes and a timeout of {timeout} s; both must be positive"
            )
        self.timeout, self._mathematics = timeout, mathematics
        # a fork would copy the engine's threads and locks
        self._context = multiprocessing.get_context("spawn")
        self._workers = [self._start() for _ in range(processes)]
        self._ready: set[Connection] = set()  # workers that have said that they are up

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._mathematics), daemon=True
        )
        process.start()
        theirs.close()
        return process, ours

    def run(self, jobs: Sequence[tuple[str, str, str, str | None]]) -> list[Verdict]:
        """Verdicts of `check(*job)`, in order; a job that is late or whose worker dies gives no
        answer and says so in `problem`.

        Raises:
            RuntimeError: workers cannot start, or cannot check this task at all (a missing package,
                a gold answer that is none).
        """
        verdicts: list[Verdict | None] = [None] * len(jobs)
        waiting = list(range(len(jobs)))[::-1]
        # connection -> worker, job, deadline
        running: dict[Connection, tuple[int, int, float]] = {}
        while waiting or running:
            for w, (_, connection) in enumerate(self._workers):
                if waiting and connection not in running:
                    job = waiting.pop()
                    limit = (
                        self.timeout if connection in self._ready else self.timeout + self.STARTUP
                    )
                    connection.send(jobs[job])
                    running[connection] = (w, job, monotonic() + limit)
            first = min(deadline for _, _, deadline in running.values())
            answered = wait(list(running), timeout=max(0.0, first - monotonic()))
            for connection in [c for c in running if c in answered]:
                w, job, _ = running.pop(connection)
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    self._must_be_ready(connection)
                    verdicts[job] = Verdict(None, False, "worker died")
                    self._replace(w)
                    continue
                if message == _READY:
                    self._ready.add(connection)
                    running[connection] = (w, job, monotonic() + self.timeout)
                elif isinstance(message, str):
                    raise RuntimeError(message)
                else:
                    verdicts[job] = message
            for connection, (w, job, deadline) in list(running.items()):
                if monotonic() >= deadline:
                    self._must_be_ready(connection)
                    del running[connection]
                    verdicts[job] = Verdict(None, False, "timeout")
                    self._replace(w)
        return [verdict for verdict in verdicts if verdict is not None]

    def _must_be_ready(self, connection: Connection) -> None:
        if connection not in self._ready:
            raise RuntimeError(
                "a process that checks answers could not start (its own message stands above); in a"
                " script, put the call under `if __name__ == '__main__':`, and run it from a file,"
                " not from standard input"
            )

    def _replace(self, w: int) -> None:
        self._stop(w)
        self._workers[w] = self._start()

    def _stop(self, w: int) -> None:
        process, connection = self._workers[w]
        process.kill()
        process.join()
        process.close()
        connection.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for w in range(len(self._workers)):
            self._stop(w)
        self._workers = []


def _serve(connection: Connection, mathematics: bool) -> None:
    """A worker's life: check what comes, until the other end closes."""
    import logging
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    logging.disable(logging.CRITICAL)  # math-verify logs each expression that it gives up on
    if mathematics:
        with contextlib.suppress(ImportError):  # slow to import, and not to be counted as checking
            import math_verify  # noqa: F401
    connection.send(_READY)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            verdict: Verdict | str = check(*job)
        except (MissingExtra, BadGold) as error:
            verdict = str(error)  # no answer of this task can be checked: the parent raises it
        except Exception as error:
            verdict = Verdict(None, False, f"{type(error).__name__}: {error}")
        connection.send(verdict)
