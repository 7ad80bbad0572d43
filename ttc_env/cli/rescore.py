"""Score stored answers again with today's checks: no sample is drawn, no text changes.

    ttc-env rescore runs/gsm8k/traces/*.jsonl

Checks get better; a trace keeps the verdicts of those it was drawn with. This replaces them, keeps
each old file beside the new one (`NAME.scoring2` holds the verdicts of the checks' version 2), and
says how many changed. `--out FOLDER` writes new traces instead; `--dry-run` only counts. Curves are
made again by `ttc-env estimate`, or by the campaign's own command.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("traces", type=Path, nargs="+", help="trace files, .jsonl or .jsonl.gz")
    parser.add_argument("--out", type=Path, help="folder for new traces, in place of replacing")
    parser.add_argument("--dry-run", action="store_true", help="count changes, write nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a trace")
    parser.add_argument("--check-workers", type=int, default=2, help="processes that check answers")
    parser.add_argument("--check-timeout", type=float, default=10.0, help="seconds for one answer")


def run(args: argparse.Namespace) -> None:
    from ttc_env.measure.rescore import as_json, rescore
    from ttc_env.measure.scoring import WorkerPool
    from ttc_env.measure.traces import read_trace

    mathematics = any(read_trace(path).settings.get("answer") == "math" for path in args.traces)
    with WorkerPool(args.check_workers, args.check_timeout, mathematics=mathematics) as pool:
        for path in args.traces:
            result = rescore(
                path, args.out, pool=pool, write=not args.dry_run, say=_say, progress=_Every(path)
            )
            print(as_json(result) if args.json else result.line(), flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Every:
    """A line of progress every ten seconds."""

    def __init__(self, path: Path) -> None:
        self._path, self._last = path, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= 10.0:
            self._last = time.monotonic()
            _say(f"{self._path}: {done} of {total} questions")
