"""Data parallelism: several copies of a backend, each in a process of its own with GPUs of its own,
that share the prompts.

vLLM's own data parallelism needs a server or a launcher script; whole copies need neither, and suit
sampling, where prompts are independent.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from ttc_env.measure.backends.base import (
    Backend,
    OneByOne,
    Prompt,
    Request,
    Sample,
    Sampling,
    Stream,
    ThoughtMarks,
    gather,
)

#: Seconds that a copy gets to leave, and again to stop.
PATIENCE = 5.0


def device_slices(copies: int, each: int, visible: str | None) -> list[str]:
    """CUDA_VISIBLE_DEVICES for each copy: `each` devices of those in `visible` (comma-separated; 0,
    1, 2, ... if None).

    Raises:
        ValueError: `visible` names too few devices.
    """
    devices = [str(i) for i in range(copies * each)] if visible is None else visible.split(",")
    if len(devices) < copies * each:
        raise ValueError(
            f"{copies} copies of {each} GPUs each need {copies * each}, and CUDA_VISIBLE_DEVICES"
            f" names {visible!r}; ask for fewer"
        )
    return [",".join(devices[c * each : (c + 1) * each]) for c in range(copies)]


class Replicas:
    """`copies` copies of the backend `name`; a request goes to the copy that has the least to do.

    A prompt's samples depend on its seed, not on the copy that draws them.

    Args:
        name, model, options: as in `make_backend`.
        copies: number of processes.
        gpus_each: GPUs that one copy sees.
    """

    def __init__(
        self, name: str, model: str, options: Mapping[str, Any], *, copies: int, gpus_each: int = 1
    ) -> None:
        if copies < 1 or gpus_each < 1:
            raise ValueError(f"{copies} copies with {gpus_each} GPUs each; both must be at least 1")
        self.model = model
        context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Any, Connection]] = []
        for devices in device_slices(copies, gpus_each, os.environ.get("CUDA_VISIBLE_DEVICES")):
            ours, theirs = context.Pipe()
            # Not a daemon: an engine may start processes of its own.
            process = context.Process(
                target=_serve, args=(theirs, name, model, dict(options), devices)
            )
            process.start()
            theirs.close()
            self._workers.append((process, ours))
        self._tickets = itertools.count()
        self._load = [0] * copies  # samples under way
        self._running: dict[int, tuple[int, int]] = {}  # ticket -> copy, samples
        self._ended: list[tuple[int, list[list[Sample]]]] = []
        try:
            told = [self._receive(c) for c in range(copies)]  # all are up
            self._facts: dict[str, Any] = told[0][0]
            self.thought_marks: ThoughtMarks | None = told[0][1]
        except BaseException:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        return {**self._facts, "hardware": f"{len(self._workers)} x {self._facts['hardware']}"}

    def lanes(self, n: int) -> int:
        """As many as the copies together, and one more each, to be at hand when another ends."""
        self._workers[0][1].send(("lanes", n))
        return len(self._workers) * (int(self._answer()) + 1)

    def submit(self, request: Request) -> int:
        ticket = next(self._tickets)
        copy = self._load.index(min(self._load))
        samples = len(request.prompts) * request.sampling.n
        self._load[copy] += samples
        self._running[ticket] = (copy, samples)
        self._workers[copy][1].send(("submit", (ticket, request)))
        return ticket

    def advance(self) -> list[tuple[int, list[list[Sample]]]]:
        if not self._ended and self._running:
            ready = wait([connection for _, connection in self._workers], timeout=0.5)
            for copy, (_, connection) in enumerate(self._workers):
                if connection in ready:
                    self._sort(self._receive(copy))
        ended, self._ended = self._ended, []
        return ended

    def abandon(self) -> None:
        self._running.clear()
        self._ended.clear()
        self._load = [0] * len(self._workers)
        for _, connection in self._workers:
            connection.send(("abandon", None))

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        return gather(self, prompts, sampling, seeds)

    def decode(self, token_ids: Sequence[int]) -> str:
        self._workers[0][1].send(("decode", list(token_ids)))
        return str(self._answer())

    def _answer(self) -> Any:
        """The first copy's answer to a question; samples that come before it are kept."""
        while True:
            kind, value = self._receive(0)
            if kind == "answer":
                return value
            self._sort((kind, value))

    def _sort(self, message: tuple[str, Any]) -> None:
        ticket, samples = message[1]
        if ticket in self._running:  # else it was given up
            copy, count = self._running.pop(ticket)
            self._load[copy] -= count
            self._ended.append((ticket, samples))

    def _receive(self, copy: int) -> Any:
        try:
            problem, value = self._workers[copy][1].recv()
        except (EOFError, ConnectionResetError):
            raise RuntimeError(
                f"a copy of {self.model} died; its own messages stand above. Start the run again to"
                " resume it"
            ) from None
        if problem is not None:
            raise RuntimeError(f"a copy of {self.model} failed: {problem}")
        return value

    def close(self) -> None:
        """Let the copies leave; one that is at work for longer than PATIENCE seconds is told to
        stop, and one that does not, killed.
        """
        for _, connection in self._workers:
            connection.close()  # the copy sees the end and leaves
        for end in (lambda process: None, lambda p: p.terminate(), lambda p: p.kill()):
            left = [process for process, _ in self._workers if process.is_alive()]
            for process in left:
                end(process)
            deadline = time.monotonic() + PATIENCE
            for process in left:
                process.join(max(0.0, deadline - time.monotonic()))
        self._workers = []


def _serve(
    connection: Connection, name: str, model: str, options: dict[str, Any], devices: str
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["CUDA_VISIBLE_DEVICES"] = devices  # before any library looks
    from ttc_env.measure.backends import make_backend

    try:
        backend = make_backend(name, model, **options)
        stream = backend if isinstance(backend, Stream) else _AsStream(backend)
        marks = getattr(backend, "thought_marks", None)
        connection.send((None, (backend.describe(), marks)))
        tickets: dict[int, int] = {}  # the stream's ticket -> the parent's
        while True:
            while not tickets or connection.poll():
                order, value = connection.recv()
                if order == "submit":
                    tickets[stream.submit(value[1])] = value[0]
                elif order == "decode":
                    connection.send((None, ("answer", backend.decode(value))))
                elif order == "lanes":
                    connection.send((None, ("answer", stream.lanes(value))))
                else:
                    stream.abandon()
                    tickets.clear()
            for ticket, samples in stream.advance():
                connection.send((None, ("samples", (tickets.pop(ticket), samples))))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        connection.send((f"{type(error).__name__}: {error}", None))


class _AsStream(OneByOne):
    """Any backend as a stream."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.generate = backend.generate  # type: ignore[method-assign]
