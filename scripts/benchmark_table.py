"""BENCHMARKS.md's table, made from the rows of `scripts/benchmark_speed.py`; `python -m
scripts.benchmark_table` writes it again from the kept ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def number(x: float) -> str:
    """Three digits."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what was measured, median and quartiles, target, verdict."""
    lines = ["| what | measured | quartiles | target | |", "| --- | --- | --- | --- | --- |"]
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
    PAGE.write_text(page(PAGE.read_text(), json.loads(KEPT.read_text())["rows"]))
