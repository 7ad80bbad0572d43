"""Many independent computations, each kept in a file of its own, by any number of workers.

A *cell* is one computation: a frozen dataclass that can be pickled, with

- `name`: a file name that tells it from all others;
- `run() -> list[dict]`: its rows, of numbers, words and truth values, decided by the cell alone.

`work` runs those whose file is missing. Any number of workers may do so at the same time, in one
process, on many machines, started by any scheduler: before a worker begins a cell it makes the
file `claims/<name>`, which only one can. While it works it touches the claim. A claim that nobody
has touched for `patience` seconds is a dead worker's, and another takes the cell. So a killed
worker loses the cell it was at, and nothing else; and numbers depend neither on who computed what
nor on the order. (Where a claim expires while its owner lives, a stalled machine say, a cell is
computed twice, to the same file.)

    from ttc_env import cells

    cells.run_local(mine, Path("results/sweep"), workers=4)
    table = cells.gather(mine, Path("results/sweep"))       # None while some are missing

What is written here is the claims alone, which none of the schedulers has between programs of
their own; processes, jobs and clusters are multiprocessing's, submitit's and Ray's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ttc_env.atomic import write_atomically, write_text

if TYPE_CHECKING:
    import pandas as pd

PATIENCE = 120.0
"""Seconds without a sign of life after which a claim is a dead worker's. Clocks of machines that
share a folder may differ by less than this."""


class Cell(Protocol):
    """See the module's docstring."""

    @property
    def name(self) -> str: ...

    def run(self) -> list[dict[str, Any]]: ...


def file_of(out: Path, cell: Cell) -> Path:
    """Where a cell's rows are kept."""
    return out / "cells" / f"{cell.name}.json"


def missing(cells: Sequence[Cell], out: Path) -> list[Cell]:
    """Cells without a file."""
    return [cell for cell in cells if not file_of(out, cell).exists()]


def work(
    cells: Sequence[Cell],
    out: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    patience: float = PATIENCE,
    say: Callable[[str], None] | None = None,
    owner: str | None = None,
) -> int:
    """One worker: run what is missing and unclaimed, once each. Returns how many cells failed.

    Args:
        cells: all cells, in the same order for every worker.
        out: the folder.
        shard: (i, n): begin with part i of n; when that is done, help with the others.
        patience: see the module's docstring.
        say: told one line a cell; standard error by default.
        owner: who works, in claims; machine and process by default. A claim of the same owner is
            its own from before it was killed.
    """
    index, count = shard
    say = say or to_stderr
    owner = owner or f"{_process(os.getpid())} {secrets.token_hex(4)}"
    order = sorted(range(len(cells)), key=lambda k: k % count != index - 1)  # the own part first
    failed = 0
    for cell in (cells[k] for k in order):
        path = file_of(out, cell)
        if path.exists():
            continue
        with _claimed(out, cell, patience, owner) as mine:
            if not mine or path.exists():
                continue
            began = time.perf_counter()
            try:
                rows = cell.run()
            except Exception as error:
                failed += 1
                say(f"{cell.name}: {type(error).__name__}: {error}")
                write_text(_failure(out, cell), traceback.format_exc())
                continue
            write_text(path, json.dumps(rows))
            _failure(out, cell).unlink(missing_ok=True)
            say(f"{cell.name}: {time.perf_counter() - began:.1f} s")
    return failed


def _failure(out: Path, cell: Cell) -> Path:
    """Where the error of a cell that failed is kept."""
    return out / "failed" / f"{cell.name}.txt"


def _claim(out: Path, cell: Cell) -> Path:
    """What a worker makes before it begins a cell."""
    return out / "claims" / cell.name


def _process(number: int) -> str:
    return f"{platform.node()} {number}"


@contextmanager
def _claimed(out: Path, cell: Cell, patience: float, owner: str) -> Iterator[bool]:
    """Whether the cell is this worker's, for as long as the block lasts."""
    claim = _claim(out, cell)
    claim.parent.mkdir(parents=True, exist_ok=True)
    if _abandoned(claim, patience, owner):
        # only one of several workers can move it away
        stale = claim.with_name(f".{cell.name}-{os.getpid()}-{time.monotonic_ns()}")
        try:
            claim.rename(stale)
        except OSError:
            yield False
            return
        if not _abandoned(stale, patience, owner):  # another was quicker, and this is its claim
            with suppress(OSError):
                os.link(stale, claim)
            stale.unlink(missing_ok=True)
            yield False
            return
        stale.unlink(missing_ok=True)
    try:
        handle = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        yield False
        return
    with os.fdopen(handle, "w") as stream:
        stream.write(owner)
    over = threading.Event()

    def signs_of_life() -> None:
        while not over.wait(patience / 6):
            try:
                os.utime(claim)
            except OSError:  # taken by another worker, which took this one for dead
                return

    thread = threading.Thread(target=signs_of_life, daemon=True)
    thread.start()
    try:
        yield True
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            if claim.read_text() == owner:
                claim.unlink()


def _abandoned(claim: Path, patience: float, owner: str) -> bool:
    try:
        return time.time() - claim.stat().st_mtime > patience or claim.read_text() == owner
    except OSError:
        return False


def _release(out: Path, process: int) -> None:
    """Free what a dead process of this machine held."""
    for claim in (out / "claims").glob("*"):
        with suppress(OSError):
            if claim.read_text().startswith(f"{_process(process)} "):
                claim.unlink()


# --- where workers run --------------------------------------------------------------------------


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_local(
    cells: Sequence[Cell],
    out: Path,
    *,
    workers: int = 1,
    patience: float = PATIENCE,
) -> int:
    """Workers on this machine, in processes of one thread each. Returns how many cells failed.

    A worker that is killed is replaced, at most once a cell. A cell that fails is tried by each. A
    cell that is missing at the end, and that no other program works on, failed.
    """
    if workers == 1:
        return work(cells, out, patience=patience)
    spawn = multiprocessing.get_context("spawn")

    def started(index: int) -> Any:
        shard = index + 1, workers
        process = spawn.Process(target=_worker, args=(cells, out, shard, patience), daemon=True)
        with _one_thread():
            process.start()
        return process

    running = {index: started(index) for index in range(workers)}
    left = len(cells)
    try:
        while running:
            for index, process in list(running.items()):
                process.join(timeout=0.05)
                if process.exitcode is None:
                    continue
                del running[index]
                if process.exitcode != 0:
                    _release(out, process.pid)
                    to_stderr(
                        f"worker {process.pid} was killed ({process.exitcode}): another goes on"
                    )
                    if left > 0 and missing(cells, out):
                        left -= 1
                        running[index] = started(index)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
            _release(out, process.pid)
    return sum(
        _failure(out, cell).exists() or not _claim(out, cell).exists()
        for cell in missing(cells, out)
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started within compute with one thread, so that they do not wait for each other."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    added = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _worker(cells: Sequence[Cell], out: Path, shard: tuple[int, int], patience: float) -> None:
    work(cells, out, shard=shard, patience=patience)


def run_submitit(
    cells: Sequence[Cell],
    out: Path,
    *,
    jobs: int,
    options: dict[str, Any] | None = None,
    cluster: str | None = None,
) -> list[Any]:
    """An array of `jobs` workers by submitit (extra `submitit`): Slurm's, or where there is none,
    processes of this machine. Returns its jobs, which need not be waited for.

    Args:
        options: of `submitit.AutoExecutor.update_parameters`: `timeout_min`, `slurm_partition`,
            `cpus_per_task`, ...
        cluster: `"slurm"`, `"local"`; chosen by submitit if None.

    Raises:
        ImportError: submitit is not installed.
    """
    try:
        import submitit
    except ImportError as error:
        raise ImportError("submitit is not installed: pip install 'ttc-env[submitit]'") from error
    executor = submitit.AutoExecutor(folder=out / "submitit", cluster=cluster)
    executor.update_parameters(**(options or {}))
    with executor.batch():
        return [executor.submit(work, cells, out, shard=(i + 1, jobs)) for i in range(jobs)]


def run_ray(
    cells: Sequence[Cell], out: Path, *, address: str, workers: int = 1, patience: float = PATIENCE
) -> int:
    """Every missing cell as a task of Ray's (`ray` must be installed). Returns how many failed.

    Ray starts a task again whose process was killed, three times at most. All machines must see
    the folder, and have the code.

    Args:
        address: of the cluster's head, `"auto"`, or `"local"` for one on this machine.
        workers: CPUs of a local one; a cluster uses what it has.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is not installed: pip install ray") from error
    began = not ray.is_initialized()
    if began:
        ray.init(
            address=address,
            num_cpus=workers if address == "local" else None,
            include_dashboard=False if address == "local" else None,
        )
    try:
        task = ray.remote(max_retries=3)(work)
        job = ray.get_runtime_context().get_job_id()
        told = [
            task.remote([cell], out.resolve(), patience=patience, owner=f"ray {job} {cell.name}")
            for cell in missing(cells, out)
        ]
        failed = 0
        for one in told:
            try:
                failed += ray.get(one)
            except ray.exceptions.RayError as error:  # killed more often than it was tried again
                to_stderr(f"a task ended: {error}")
                failed += 1
        return failed
    finally:
        if began:
            ray.shutdown()


# --- the table ----------------------------------------------------------------------------------


def gather(cells: Sequence[Cell], out: Path, name: str = "table") -> Path | None:
    """All rows in one table, in the order of `cells`: `<name>.parquet`, or `<name>.csv` where
    pyarrow (extra `parquet`) is not installed. None, and nothing is written, while cells are
    missing.
    """
    if missing(cells, out):
        return None
    table = read(cells, out)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        path = out / f"{name}.csv"
        write_atomically(path, lambda temporary: table.to_csv(temporary, index=False))
    else:
        path = out / f"{name}.parquet"
        write_atomically(path, lambda temporary: table.to_parquet(temporary, index=False))
    return path


def read(cells: Sequence[Cell], out: Path) -> pd.DataFrame:
    """The rows of those cells that have a file.

    Raises:
        ValueError: one of the files is damaged.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for cell in cells:
        path = file_of(out, cell)
        if path.exists():
            rows += _rows(path)
    return pd.DataFrame(rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    """A cell's rows.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        rows = json.loads(path.read_bytes())
    except ValueError:  # no JSON, or no UTF-8
        rows = None
    if not isinstance(rows, list) or not all(isinstance(x, dict) for x in rows):
        raise ValueError(
            f"{path} is damaged: it holds no rows; delete it, and the same command computes it"
            " again"
        )
    return rows
