"""From a generated text to the answer it gives, and whether that is right.

Three kinds of answers, each a pure function of (text, gold), so that stored samples can be scored
again later:

- `exact`: the last match of a pattern, compared as text;
- `choice`: one option letter;
- `math`: a mathematical expression, parsed and compared by `math-verify`. Some expressions take
  sympy forever, so these run in worker processes with a hard timeout (`check_answers`): one bad
  expression costs its own seconds, never the run.

What was parsed is stored in a normal form, so that two samples voted for the same thing exactly if
their strings are equal.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import re
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

from ttc_env.measure.backends.base import MissingExtra

_READY = "ready"

KINDS = ("exact", "choice", "math")


class BadGold(ValueError):
    """A task's gold answer cannot be read, so no answer to that question can be checked."""


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
    matches = list(re.finditer(pattern, text))
    if not matches:
        return Verdict(None, False)
    answer = _plain(matches[-1].group(1))
    return Verdict(answer, answer == _plain(gold))


def _plain(answer: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", answer.strip())


_LETTER = r"[\(\[\*\s\$\{]*\b([A-J])\b"
# : Ways to state a choice, the most explicit first; within one way the last statement counts, as a
# model may change its mind.
_CHOICE_PATTERNS = (
    re.compile(r"\\boxed\{\s*(?:\\text(?:bf)?\{)?\s*\(?([A-J])\)?[\s.}]"),
    re.compile(
        r"(?i:\b(?:final\s+)?answer\s*(?:is|:)?\s*(?:is|:)?\s*(?:option|choice)?)[\s:]*" + _LETTER
    ),
    re.compile(r"(?i:\b(?:option|choice)\s+)" + _LETTER + r"\W*(?i:is\s+(?:the\s+)?correct)"),
    re.compile(r"^\W*([A-J])\W*$", re.MULTILINE),
    re.compile(r"^\W*([A-J])[).:]\s"),
)


def check_choice(text: str, gold: str, letters: str = "ABCD") -> Verdict:
    """The option letter that the text settles on; a letter that is no option, or a text that only
    discusses options, is no answer.
    """
    for pattern in _CHOICE_PATTERNS:
        found = [letter for letter in pattern.findall(text) if letter in letters]
        if found:
            return Verdict(found[-1], found[-1] == gold.strip().upper())
    return Verdict(None, False)


def check_math(text: str, gold: str) -> Verdict:
    """The last box of the text, or else the expression it ends on, compared with the gold answer as
    mathematics.

    Runs in the calling process and can hang; use `check_answers`.

    Source: math-verify (Hugging Face), `parse` and `verify`.
    """
    try:
        import math_verify
    except ImportError as error:
        raise MissingExtra("math-verify", "to check mathematical answers") from error
    # Its own timeouts use signals, which work in a main thread only and do not interrupt C code:
    # ours kills the process instead.
    # several boxes would be read as one set of answers
    last_box = text[max(0, text.rfind("\\boxed")) :]
    parsed = math_verify.parse(last_box, parsing_timeout=None)
    if not parsed:
        return Verdict(None, False)
    target = math_verify.parse(
        gold if "\\boxed" in gold or "$" in gold else f"${gold}$", parsing_timeout=None
    )
    if not target:
        raise BadGold(
            f"the gold answer {gold!r} is no mathematical expression; check the task's data"
        )
    return Verdict(
        _normal_form(parsed[0]), bool(math_verify.verify(target, parsed, timeout_seconds=None))
    )


def _normal_form(expression: Any) -> str:
    """One string for equal numbers (1/2, 0.5, 50%) and for equations that name a value (x = 3)."""
    import sympy

    if isinstance(expression, sympy.Eq) and isinstance(expression.lhs, sympy.Symbol):
        expression = expression.rhs
    if isinstance(expression, sympy.Expr) and expression.is_number:
        expression = (
            sympy.nsimplify(expression, rational=True)
            if expression.has(sympy.Float)
            else sympy.simplify(expression)
        )
    return str(expression)


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
    """Check many texts.

    Mathematical ones go to `pool`, or to a pool of one that lives as long as this call.
    """
    jobs = [(kind, text, gold, pattern) for text, gold in zip(texts, golds, strict=True)]
    if kind != "math":
        return [check(*job) for job in jobs]
    if pool is not None:
        return pool.run(jobs)
    with WorkerPool(1) as own:
        return own.run(jobs)


class WorkerPool:
    """Processes that run `check` with a hard timeout for each job: a worker that is late is killed
    and replaced.

    Args:
        processes: number of workers.
        timeout: seconds for one text, counted from when a ready worker gets it.
    """

    STARTUP = 120.0  # seconds for a worker to import sympy, on a busy machine

    def __init__(self, processes: int = 2, timeout: float = 10.0) -> None:
        if processes < 1 or timeout <= 0:
            raise ValueError(
                f"{processes} processes and a timeout of {timeout} s; both must be positive"
            )
        self.timeout = timeout
        # a fork would copy the engine's threads and locks
        self._context = multiprocessing.get_context("spawn")
        self._workers = [self._start() for _ in range(processes)]
        self._ready: set[Connection] = set()  # workers that have said that they are up

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
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


def _serve(connection: Connection) -> None:
    """A worker's life: check what comes, until the other end closes."""
    import logging
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    logging.disable(logging.CRITICAL)  # math-verify logs each expression that it gives up on
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
