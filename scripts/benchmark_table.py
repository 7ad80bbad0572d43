"""BENCHMARKS.md's table, from several runs of `scripts/benchmark_speed.py`: `python -m
scripts.benchmark_table RUN.json RUN.json RUN.json` keeps the median of every row and writes the
table; without files it writes the table again from what is kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from baselines.records import write_json

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "baselines" / "speed" / "cpu.json"
PAGE = ROOT / "BENCHMARKS.md"
START, END = (
    "<!-- The table is written by scripts/benchmark_table.py. -->",
    "<!-- end of the table -->",
)


def met(row: dict[str, Any]) -> bool | None:
    """Whether a row meets its target; None where there is nothing to compare."""
    ratio, target = row["ratio"], row["target"]
    if ratio is None or target is None:
        return None
    return bool(ratio <= target if row["better"] == "lower" else ratio >= target)


def of_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of several runs: of every row the median, and the lowest and the highest run.

    Raises:
        ValueError: runs of different rows or machines.
    """
    first = runs[0]
    if any(run["machine"] != first["machine"] for run in runs):
        raise ValueError("these runs are of different machines or versions; run them on one")
    rows = []
    for same in zip(*(run["rows"] for run in runs), strict=True):
        if len({row["name"] for row in same}) > 1:
            raise ValueError(f"these runs differ in their rows, from {same[0]['name']!r} on")
        ratios = [row["ratio"] for row in same]
        if None in ratios:
            rows.append({**same[0], "ratio": None, "spread": None})
        else:
            rows.append({**same[0], "ratio": median(ratios), "spread": [min(ratios), max(ratios)]})
    return {
        "machine": first["machine"],
        "command": "python -m scripts.benchmark_speed, and scripts.benchmark_table of all runs",
        "runs": len(runs),
        "rows": rows,
    }


def number(x: float) -> str:
    """Three digits."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what was measured, its median and range over runs, target, verdict."""
    lines = ["| what | measured | runs | target | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        measured = "not measured" if row["ratio"] is None else number(row["ratio"])
        spread = " to ".join(map(number, row["spread"])) if row["spread"] else ""
        target = (
            ""
            if row["target"] is None
            else ("<= " if row["better"] == "lower" else ">= ") + number(row["target"])
        )
        verdict = {True: "met", False: "**missed**", None: ""}[met(row)]
        note = "; ".join(x for x in (verdict, row["note"]) if x)
        lines.append(f"| {row['name']} | {measured} | {spread} | {target} | {note} |")
    return "\n".join(lines)


def page(text: str, rows: list[dict[str, Any]]) -> str:
    """The page with its table replaced."""
    head, rest = text.split(START)
    _, tail = rest.split(END)
    return f"{head}{START}\n\n{table(rows)}\n\n{END}{tail}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="files that benchmark_speed wrote")
    if files := parser.parse_args().runs:
        write_json(KEPT, of_runs([json.loads(file.read_text()) for file in files]))
    PAGE.write_text(page(PAGE.read_text(), json.loads(KEPT.read_text())["rows"]))
