"""The frontier's market: which models were sold at a date, and what their file leaves to be said.

The curves are points of a public leaderboard (data/SOURCES.md): accuracy on ARC-AGI's semi-private
tasks and USD per task, of models with up to six reasoning efforts. Accuracy is a mean over tasks,
so its standard error is at least sqrt(a (1 - a) / tasks).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttc_env.game.curve_table import CurveTable

TASKS = {"arc_agi_1": 100, "arc_agi_2": 120}
"""Tasks in each benchmark's semi-private set."""

ALPHA = 3.0
"""USD value of a surely solved task: what the leaderboard lists for crowd workers, 3 USD a task."""

BETA = 8.0 / 3.0
"""1/USD; beta alpha = 8, as the paper's beta = 1000 on GSM8K. Its other two betas are 1.6 / alpha
and 800 / alpha."""

COPIED = datetime.date(2026, 6, 16)
"""Date of the copy of the leaderboard: nothing is known of models released after it."""

_AS_OF = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")


def last_day(as_of: str | datetime.date) -> datetime.date:
    """The last day of a year (YYYY), a month (YYYY-MM), or the day itself (YYYY-MM-DD).

    Raises:
        ValueError: no date, or one that begins after the copy of the leaderboard was made.
    """
    if isinstance(as_of, datetime.datetime):
        as_of = as_of.date()
    if isinstance(as_of, datetime.date):
        as_of = as_of.isoformat()
    parts = _AS_OF.fullmatch(as_of) if isinstance(as_of, str) else None
    try:
        if parts is None:
            raise ValueError("not a date")
        year, month, day = (int(part) if part else None for part in parts.groups())
        assert year is not None
        first = datetime.date(year, month or 1, day or 1)
        if day is not None:
            last = first
        elif month is not None:
            last = (first.replace(day=1) + datetime.timedelta(days=31)).replace(day=1)
            last -= datetime.timedelta(days=1)
        else:
            last = datetime.date(year, 12, 31)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"as_of is {as_of!r}; give a date as YYYY, YYYY-MM or YYYY-MM-DD, such as '2026-06'"
        ) from error
    if first > COPIED:
        raise ValueError(
            f"as_of is {as_of!r}; the curves were copied on {COPIED}, later models are not known:"
            " give an earlier date"
        )
    return last


def sold(
    table: CurveTable,
    models: CurveTable,
    as_of: str | datetime.date | None,
    providers: Sequence[str] | None,
) -> CurveTable:
    """The rows of models sold at a date: all released by then.

    Without a date and without names, those of `models` (data/frontier_models.csv) that were current
    in June 2026: the newest of each maker's lines. With names alone, those, whatever their age.

    Raises:
        ValueError: no date, none released by then, or a name of a later model.
    """
    released = table.columns["released"]
    names = table.columns["provider"]
    if as_of is None:
        if providers is not None:
            return table
        rows = zip(models.columns["provider"], models.columns["current"], strict=True)
        current = {name for name, is_current in rows if is_current == "yes"}
        return table.keep([i for i, name in enumerate(names) if name in current])
    until = last_day(as_of).isoformat()
    kept = [i for i, date in enumerate(released) if date <= until]
    if not kept:
        raise ValueError(
            f"as_of is {as_of!r}; the first model of {table.source} was released on"
            f" {min(released)}: give a later date"
        )
    dates = dict(zip(names, released, strict=True))
    later = [name for name in providers or () if dates.get(name, "") > until]
    if later:
        raise ValueError(
            f"as_of is {as_of!r}; {later[0]!r} was released on {dates[later[0]]}: give a later"
            " date, or leave it out"
        )
    return table.keep(kept)


def as_curves(table: CurveTable, tasks: int) -> CurveTable:
    """The leaderboard's rows as a curve table: `usd_per_task` is the price per query, and accuracy
    gets the standard error of a mean over `tasks` tasks.
    """
    table = table.rename("usd_per_task", "price_per_query")
    accuracy = np.array([float(x) for x in table.columns["accuracy"]])
    se = np.sqrt(accuracy * (1.0 - accuracy) / tasks)
    return replace(table, columns=table.columns | {"se": se.tolist()})
