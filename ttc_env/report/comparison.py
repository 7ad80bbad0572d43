"""What a page shows of the table that `ttc-env compare` writes: rules side by side, at their exact
equilibria and as learners play them. USD per 1000 users, as the table is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttc_env.report.facts import label

if TYPE_CHECKING:
    from os import PathLike

LOSSES = ("lost_to_compute", "lost_to_choice", "lost_to_exclusion")
NUMBERS = (
    "welfare",
    "first_best",
    "efficiency",
    "user_value",
    "provider_profit",
    "tokens",
    "overcompute",
    *LOSSES,
    "audit_gain",
)
NEEDED = ("mechanism", "played_by", *NUMBERS, "certificate")
BLOCKS = {
    "neutral": "At list prices: providers choose how long to think",
    "markups": "Providers choose how long to think, and what to charge",
    "": "At the exact equilibrium",
}
"""Titles of the groups of rows, by the table's column `prices`."""


def read(folder: str | PathLike[str]) -> dict[str, Any]:
    """The page's content, from `folder/table.csv`.

    Rows of the reading with tastes have another yardstick and are left out.

    Raises:
        FileNotFoundError: there is no table.
        ValueError: a column is missing, an entry is no number, or there is no row of an
            equilibrium.
    """
    path = Path(folder) / "table.csv"
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}; write it first: ttc-env compare gsm8k --beta 200 --out {folder}"
        )
    with path.open(newline="", encoding="utf-8") as file:
        try:
            table = list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no CSV file ({error}); write it again") from None
    missing = [name for name in NEEDED if not table or name not in table[0]]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; write it again with ttc-env compare"
        )
    rows = [
        _row(line, path)
        for line in table
        if line.get("reading", "without tastes") == "without tastes"
        and line["played_by"] != "own optimum"
    ]
    exact = [row for row in rows if row["played_by"].split(",")[0] == "equilibrium"]
    if not exact:
        raise ValueError(f"{path} has no row of an equilibrium; compare again without --mechanisms")
    blocks = []
    for prices in dict.fromkeys(row["prices"] for row in exact):
        shown = [
            row
            for row in exact
            if row["prices"] == prices and row["played_by"] in ("equilibrium", "equilibrium, worst")
        ]
        for row in shown:
            row["learners"] = [
                other
                for other in rows
                if other not in exact
                and all(other[key] == row[key] for key in ("mechanism", "options", "prices"))
            ]
        blocks.append({"title": BLOCKS.get(prices, prices), "rows": shown})
    headline, detail = _sentences(exact)
    return {
        "title": Path(folder).resolve().name,
        "headline": headline,
        "detail": detail,
        "blocks": blocks,
        "rows": rows,
    }


def _row(line: Mapping[str, str], path: Path) -> dict[str, Any]:
    options = line.get("options") or ""
    row: dict[str, Any] = {
        "mechanism": line["mechanism"],
        "rule": label(line["mechanism"]) + (f", {options}" if options else ""),
        "options": options,
        "prices": line.get("prices") or "",
        "played_by": line["played_by"],
        "certificate": line["certificate"],
    }
    ends = [name for name in line if name.endswith(("_low", "_high"))]
    for name in (*NUMBERS, *ends):
        try:
            value = float(line[name] or "nan")
        except ValueError:
            raise ValueError(
                f"{path}: {name} of {line['mechanism']} is {line[name]!r}; it must be a number, or"
                " empty"
            ) from None
        row[name] = value if math.isfinite(value) else None
    return row


def _sentences(exact: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    known = [row for row in exact if row["user_value"] is not None and row["first_best"]]
    if not known:
        return "No rule has a pure equilibrium here.", "Every rule leaves somebody wanting to move."
    users = max(known, key=lambda row: row["user_value"])
    worst = min(known, key=lambda row: row["welfare"])
    lost = 1.0 - worst["welfare"] / worst["first_best"]
    return (
        f"{users['rule']} leaves users the most: {users['user_value']:.3g} of"
        f" {users['first_best']:.3g} USD per 1000 questions.",
        f"{worst['rule']} does worst: {lost:.0%} of the possible value is lost, and users keep"
        f" {worst['user_value']:.3g}.",
    )
