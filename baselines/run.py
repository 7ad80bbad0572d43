"""Regenerate the kept table of learners: `python -m baselines.run`.

Every cell (learner, setting, game, beta) is one file in --cells; seeds that are there are not run
again, so the command can be stopped and started, and cells get more seeds when the suite asks for
more. At the end, or with --report alone, the files are gathered into baselines/results/*.csv,
baselines/README.md and the figures.

Filters run a part of the cells, down to a single one, and gather nothing: several commands can
share the work, and --report follows.

    python -m baselines.run --learners hedge --settings auction --games gsm8k/majority --betas 1000
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from agents import agent_class
from agents.arena import NotFinite
from baselines.errors import failed as fail
from baselines.interrupts import Interrupted
from baselines.plan import Plan
from baselines.records import write_csv
from baselines.suite import KEPT, QUICK, SUITE, Cell, cells
from baselines.training import Run

FILTERS: dict[str, tuple[str, str, Callable[[Cell], str]]] = {
    "learners": (",", "learners", lambda cell: cell.entry.learner),
    "settings": (";", "settings", lambda cell: cell.setting),
    "games": (",", "games, as gsm8k/majority", lambda cell: f"{cell.benchmark}/{cell.method}"),
    "betas": (",", "betas", lambda cell: f"{cell.beta:g}"),
}
"""Option -> separator, help, and what it looks at in a cell."""


def run_cell(cell: Cell, seeds: Iterable[int] | None = None) -> pd.DataFrame:
    """Train and evaluate one cell: its metrics, with the cell's name and CPU time in every row.

    Args:
        seeds: some of the cell's; all by default. No seed's numbers depend on which others run.
    """
    chosen = list(range(cell.entry.seeds) if seeds is None else seeds)
    started = time.process_time()
    plan = Plan.of(dataclasses.replace(cell.config, seeds=",".join(map(str, chosen))))
    run = Run(plan)
    run.train()
    table = run.metrics()
    seconds = time.process_time() - started
    table = table[[name for name in KEPT if name in table]].copy()
    for at, (name, value) in enumerate(cell.key.items()):
        table.insert(at, name, value)
    return table.assign(cpu_seconds=round(seconds / len(chosen), 4))


def complete(cell: Cell, path: Path, seeds: int) -> pd.DataFrame | None:
    """Run what is missing of the cell's first `seeds` seeds, and write its file: after each seed
    where a learner trains one after another. Returns the table, or None if nothing was missing.
    """
    tables = [pd.read_csv(path)] if path.exists() else []
    done = set(tables[0].seed) if tables else set()
    left = [seed for seed in range(min(seeds, cell.entry.seeds)) if seed not in done]
    if not left:
        return None
    parts = [[seed] for seed in left] if agent_class(cell.entry.learner).parallel else [left]
    for part in parts:
        tables = [pd.concat([*tables, run_cell(cell, part)], ignore_index=True)]
        write_csv(path, tables[0])
    return tables[0]


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cells",
        type=Path,
        default=Path("results/baselines/cells"),
        help="folder of per-cell files",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent,
        help="folder of README.md and results/ (default: this package)",
    )
    for name, (separator, text, _) in FILTERS.items():
        parser.add_argument(
            f"--{name}", default="", help=f"only these {text} ({separator!r} between)"
        )
    parser.add_argument(
        "--seeds", type=int, default=0, help="at most so many seeds of each cell (0: the suite's)"
    )
    parser.add_argument("--no-report", action="store_true", help="run cells only")
    parser.add_argument("--report", action="store_true", help="gather what is there, run nothing")
    parser.add_argument(
        "--tables", action="store_true", help="write tables and page again from results/final.csv"
    )
    parser.add_argument("--quick", action="store_true", help="a few cells, for tests")
    parser.add_argument("--quiet", action="store_true", help="no line per cell")
    options = parser.parse_args(None if arguments is None else list(arguments))
    suite = QUICK if options.quick else SUITE
    everything, filtered = list(cells(suite)), False
    for name, (separator, _, of) in FILTERS.items():
        wanted = {x.strip() for x in getattr(options, name).split(separator) if x.strip()}
        known = dict.fromkeys(of(cell) for cell in cells(suite))
        if unknown := sorted(wanted - set(known)):
            choices = f"{separator} ".join(known)
            parser.error(f"--{name}: unknown: {', '.join(unknown)}; choose from {choices}")
        if wanted:
            everything, filtered = [cell for cell in everything if of(cell) in wanted], True
    if not everything:
        parser.error(
            "no cell of the suite is left; see baselines/suite.py for what each learner plays"
        )
    if options.tables:
        from baselines import report

        report.rewrite(options.out, suite)
        return 0
    failed = 0
    for cell in everything if not options.report else []:
        try:
            table = complete(cell, options.cells / cell.file, options.seeds or cell.entry.seeds)
        except NotFinite as error:
            print(f"{cell.file}: {error}", file=sys.stderr)
            failed += 1
            continue
        except Interrupted as error:
            print(f"interrupted at {cell.file}; the same command goes on", file=sys.stderr)
            return 128 + error.number
        except OSError as error:
            return fail(error, 1)
        if table is not None and not options.quiet:
            last = table[table.step == table.step.max()]
            print(
                f"{cell.file}: relative regret {last.relative_regret.mean():.2%}, welfare"
                f" {last.welfare_to_equilibrium.mean():.3f} of equilibrium,"
                f" {table.cpu_seconds.mean():.2f} s a run",
                flush=True,
            )
    if options.report or not (options.no_report or filtered or options.seeds):
        from baselines import report

        report.write(options.cells, options.out, suite)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
