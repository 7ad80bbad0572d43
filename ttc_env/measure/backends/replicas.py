"""Data parallelism: several copies of a backend, each in a process of its own with GPUs of its own,
that share the prompts.

vLLM's own data parallelism needs a server or a launcher script; whole copies need neither, and suit
sampling, where prompts are independent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from ttc_env.measure.backends.base import Prompt, Sample, Sampling, check_seeds

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
    """`copies` copies of the backend `name`; prompt i goes to copy i modulo `copies`.

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
        try:
            facts = [self._receive(connection) for _, connection in self._workers]  # all are up
            self._facts: dict[str, Any] = facts[0]
        except BaseException:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        return {**self._facts, "hardware": f"{len(self._workers)} x {self._facts['hardware']}"}

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        check_seeds(prompts, seeds, sampling.n)
        copies = len(self._workers)
        busy = [c for c in range(copies) if len(prompts) > c]
        for c in busy:
            self._workers[c][1].send((list(prompts[c::copies]), sampling, list(seeds[c::copies])))
        drawn: list[list[Sample]] = [[] for _ in prompts]
        for c in busy:
            drawn[c::copies] = self._receive(self._workers[c][1])
        return drawn

    def decode(self, token_ids: Sequence[int]) -> str:
        connection = self._workers[0][1]
        connection.send(list(token_ids))
        return str(self._receive(connection))

    def _receive(self, connection: Connection) -> Any:
        try:
            problem, value = connection.recv()
        except EOFError:
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
        connection.send((None, backend.describe()))
        while True:
            job = connection.recv()
            answer = backend.decode(job) if isinstance(job, list) else backend.generate(*job)
            connection.send((None, answer))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        connection.send((f"{type(error).__name__}: {error}", None))
