"""Options that say who computes many cells (`ttc_env.cells`), for every command that has some."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttc_env.cli._curves import json_object

if TYPE_CHECKING:
    from ttc_env.cells import Cell


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("who computes")
    how.add_argument("--dry-run", action="store_true", help="list what is missing, run nothing")
    how.add_argument("--workers", type=int, default=1, help="processes, or CPUs of --ray local")
    how.add_argument("--shard", metavar="I/N", help="be worker I of N that a scheduler starts")
    how.add_argument("--submitit", type=int, metavar="JOBS", help="start an array of jobs, and end")
    how.add_argument(
        "--submitit-options",
        type=json_object,
        default={},
        help='JSON: \'{"timeout_min": 60, "slurm_partition": "cpu"}\'',
    )
    how.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster's address, auto, or local")
    how.add_argument(
        "--patience", type=float, help="seconds after which a silent worker is dead (default 120)"
    )


def read_shard(text: str | None) -> tuple[int, int] | None:
    """`3/8` as (3, 8).

    Raises:
        ValueError: something else.
    """
    if text is None:
        return None
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ValueError(f"--shard is {text!r}; give I/N with I from 1 to N, such as 3/8")
    return int(number), int(of)


def run_cells(cells: Sequence[Cell], out: Path, args: argparse.Namespace) -> None:
    """Run cells as the options say, and write the table if all are there.

    Raises:
        ValueError: options that contradict each other.
        ImportError: submitit or Ray is asked for, and not installed.
        RuntimeError: cells failed.
    """
    from ttc_env import cells as engine

    chosen = [name for name in ("shard", "submitit", "ray") if getattr(args, name) is not None]
    if len(chosen) > 1:
        raise ValueError(f"--{' and --'.join(chosen)} exclude each other; give one of them")
    for name in ("workers", "submitit", "patience"):
        value = getattr(args, name)
        if value is not None and not value > 0:  # NaN neither
            raise ValueError(f"--{name} is {value}; it must be positive")
    shard = read_shard(args.shard)
    patience = engine.PATIENCE if args.patience is None else args.patience
    left = engine.missing(cells, out)
    if args.dry_run:
        print("\n".join(cell.name for cell in left))
        print(f"{len(left)} of {len(cells)} cells are missing in {out}")
        return
    if args.submitit and left:
        jobs = engine.run_submitit(cells, out, jobs=args.submitit, options=args.submitit_options)
        print(f"{len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}; the same command writes")
        print(f"the table when they are done; their logs are in {out / 'submitit'}")
        return
    failed = 0
    if shard:
        failed = engine.work(cells, out, shard=shard, patience=patience)
    elif args.ray and left:
        failed = engine.run_ray(
            cells, out, address=args.ray, workers=args.workers, patience=patience
        )
    elif left:
        failed = engine.run_local(cells, out, workers=args.workers, patience=patience)
    if failed:
        raise RuntimeError(
            f"{failed} of {len(cells)} cells failed; {out / 'failed'} says why. The same command"
            " tries them again"
        )
    path = engine.gather(cells, out)
    if path is not None:
        print(path)
        return
    left = engine.missing(cells, out)
    print(f"{len(left)} of {len(cells)} cells are missing, held by other workers; who ends last")
    print("writes the table, and so does the same command later")
