"""Reading a table of curves, and every check on the way; `ttc_env.game.curves` says what the
columns mean.

Nothing is guessed from how an entry looks: names stay the text that the file has ("01" is not "1",
"NA" is a name), and numbers are numbers (not True, not a date, not a complex number). Files are
read by Python's csv module; pandas plays a part only if the caller has a DataFrame.
"""

from __future__ import annotations

import csv
import difflib
import math
import numbers
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import numpy as np

from ttc_env.game.types import Array, Curve
from ttc_env.game.validation import validate_margin

REQUIRED = ("provider", "level", "accuracy")
OPTIONAL = (
    "tokens",
    "price_per_token",
    "price_per_query",
    "margin",
    "se",
    "characters",
    "effort",
    "benchmark",
    "method",
)
COLUMNS = REQUIRED + OPTIONAL
"""All columns that mean something; others are ignored, unless they look like one of these."""

_MISTAKEN = {
    "model": ("provider",),
    "name": ("provider",),
    "acc": ("accuracy",),
    "price": ("price_per_token", "price_per_query"),
    "cost": ("price_per_query", "margin"),
    "usd_per_token": ("price_per_token",),
    "usd_per_query": ("price_per_query",),
    "usd_per_task": ("price_per_query",),
    "price_per_task": ("price_per_query",),
    "mu": ("margin",),
    "markup": ("margin",),
    "accuracy_se": ("se",),
    "std_err": ("se",),
    "stderr": ("se",),
    "standard_error": ("se",),
    "chars": ("characters",),
}
"""Names for a column that people use and spelling does not find."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class CurveTable:
    """Rows as they were given, column by column; entries are texts, or what a DataFrame holds."""

    source: str  # what to call it in messages
    columns: dict[str, list[Any]]
    places: list[str]  # where each row stands: "line 3" of a file, "row 7" of a DataFrame

    def __len__(self) -> int:
        return len(self.places)

    def where(self, row: int) -> str:
        return f"{self.source}, {self.places[row]}"

    def keep(self, rows: Sequence[int]) -> CurveTable:
        """Some of the rows, in the order given."""
        columns = {name: [entries[i] for i in rows] for name, entries in self.columns.items()}
        return CurveTable(self.source, columns, [self.places[i] for i in rows])

    def rename(self, old: str, new: str) -> CurveTable:
        """One column under another name."""
        columns = {new if name == old else name: list(x) for name, x in self.columns.items()}
        return CurveTable(self.source, columns, self.places)


def read_csv(path: Path) -> CurveTable:
    """A curve file. Blank lines are skipped; rows are named by the line that an editor shows.

    Raises:
        ValueError: no CSV file, a row with more or fewer fields than the header, or a header that
            has a name twice.
    """
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise _unreadable(path.name, error) from error
    with file:
        return read_lines(file, path.name)


def read_lines(file: IO[str], source: str) -> CurveTable:
    """As `read_csv`, of an open file."""
    reader = csv.reader(file, strict=True)
    header: list[str] | None = None
    rows, places = [], []
    try:
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                break
            if header is None:
                header = row
                continue
            if not any(entry.strip() for entry in row):
                continue
            if len(row) != len(header):
                raise csv.Error(f"line {line} has {len(row)} fields, the header {len(header)}")
            rows.append(row)
            places.append(f"line {line}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(source, error) from error
    if header is None or not any(name.strip() for name in header):
        raise _unreadable(source, "it is empty")
    _check_header(source, [name for name in header if name])
    entries = zip(*rows, strict=True) if rows else [()] * len(header)
    return CurveTable(
        source, {name: list(x) for name, x in zip(header, entries, strict=True)}, places
    )


def _unreadable(source: str, why: object) -> ValueError:
    return ValueError(
        f"{source}: not a readable CSV file ({why}); it needs a header with"
        f" {', '.join(REQUIRED)}, tokens or price_per_query, and as many fields in each row"
    )


def is_frame(value: object) -> bool:
    """Whether `value` is a pandas DataFrame; does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def from_frame(frame: Any) -> CurveTable:
    """The rows of a DataFrame."""
    names = [name for name in frame.columns if isinstance(name, str)]
    # pandas.read_csv calls a second column "accuracy" "accuracy.1".
    _check_header("DataFrame", [re.sub(r"^(.+)\.\d+$", _known, name) for name in names])
    columns = {name: frame[name].tolist() for name in names}
    return CurveTable("DataFrame", columns, [f"row {index}" for index in frame.index])


def _known(numbered: re.Match[str]) -> str:
    """A name without its number, where it then is a column of ours."""
    return numbered[1] if numbered[1] in COLUMNS else numbered[0]


def _check_header(source: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source}: column {', '.join(map(repr, twice))} stands more than once in the header;"
            " keep one"
        )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def lookalikes(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns that mean nothing here but look like one that does and is not there, with the ones
    that they look like.
    """
    absent = [column for column in COLUMNS if column not in names]
    found = {}
    for name in names:
        if name in COLUMNS:
            continue
        plain = _plain(name)
        similar = [column for column in COLUMNS if column == plain]
        similar = similar or [c for c in _MISTAKEN.get(plain, ()) if c in absent]
        # A price is there under one name: "price" or "cost" beside it can mean something else.
        if {"price_per_token", "price_per_query"} & set(names) and plain in ("price", "cost"):
            similar = []
        similar = similar or difflib.get_close_matches(plain, absent, n=1, cutoff=0.75)
        if similar:
            found[name] = similar
    return found


def select(table: CurveTable, wanted: Mapping[str, str | None]) -> CurveTable:
    """The rows with the wanted values in the columns `benchmark` and `method`, of a table that has
    the columns a curve needs.

    Raises:
        ValueError: a column is missing or looks misspelt, there is no such row, or several values
            and none is wanted.
    """
    source, columns = table.source, table.columns
    similar = lookalikes(list(columns))
    if similar:
        meant = "; ".join(f"{name!r} looks like {' or '.join(x)}" for name, x in similar.items())
        raise ValueError(
            f"{source}: {meant}. Rename the column, or drop it if it means something else; a curve"
            f" table has {', '.join(COLUMNS)}"
        )
    missing = [column for column in REQUIRED if column not in columns]
    if "tokens" not in columns and "price_per_query" not in columns:
        missing.append("tokens")
    if missing:
        raise ValueError(
            f"{source}: no column {', '.join(map(repr, missing))}; a curve table has"
            f" {', '.join(REQUIRED)}, tokens (or price_per_query), and may have"
            f" {', '.join(OPTIONAL[1:])}"
        )
    for column, value in wanted.items():
        if column not in columns:
            if value is not None:
                raise ValueError(
                    f"{source}: {column} {value!r} was asked for, but there is no column"
                    f" {column!r}; add it, or leave {column} out"
                )
            continue
        entries = table.columns[column]
        there = list(dict.fromkeys("an empty entry" if _empty(x) else str(x) for x in entries))
        if value is None and len(there) > 1:
            raise ValueError(
                f"{source}: rows of several values of {column} ({', '.join(there)}); pick one first"
            )
        if value is not None:
            if value not in there:
                raise ValueError(
                    f"{source}: no rows with {column} {value!r}; there are {', '.join(there)}"
                )
            table = table.keep([i for i, x in enumerate(entries) if str(x) == value])
    if not len(table):
        raise ValueError(f"{source}: no rows; give at least one row per provider")
    return table


def _empty(entry: object) -> bool:
    """Nothing there: None, NaN, pandas' NA and NaT, or an empty text."""
    if isinstance(entry, str):
        return not entry.strip()
    if entry is None or type(entry).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(entry, (float, np.floating)) and math.isnan(entry)


def _number(entry: object) -> float | None:
    """The number that an entry is, None if it is none. Numbers may come as text, for files; truth
    values, complex numbers and dates are no numbers, whatever they convert to.
    """
    if isinstance(entry, str):
        text = entry.strip()  # of characters, too, that float() does not know as spaces
        return float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(entry, (bool, np.bool_, np.timedelta64)):
        return None
    return float(entry) if isinstance(entry, (numbers.Real, Decimal)) else None


@dataclass(frozen=True)
class _Check:
    good: Callable[[float], bool]
    allowed: str
    remedy: str


_CHECKS = {
    "level": _Check(lambda x: True, "a finite number", "label levels by samples or effort"),
    "accuracy": _Check(lambda x: 0 <= x <= 1, "in [0, 1]", "give a probability, not a percentage"),
    "tokens": _Check(lambda x: x > 0, "a positive number", "give the mean tokens billed per query"),
    "price_per_token": _Check(
        lambda x: x > 0, "a positive number", "give USD per token (list price per 1M tokens / 1e6)"
    ),
    "price_per_query": _Check(lambda x: x > 0, "a positive number", "give USD per query"),
    "margin": _Check(lambda x: x >= 0, "a number >= 0", "margin is list price / cost - 1"),
    "se": _Check(lambda x: x >= 0, "a number >= 0", "give the standard error of accuracy"),
    "characters": _Check(
        lambda x: x > 0, "a positive number", "give the mean characters billed per query"
    ),
}
_ONE_PER_PROVIDER = ("price_per_token", "margin")


def curves(
    table: CurveTable,
    *,
    margin: float | None,
    default_margin: float,
    prices_per_token: Mapping[str, float],
    list_prices: Mapping[str, float],
) -> list[Curve]:
    """One curve for each provider, in the order of their first rows.

    Args:
        margin: of all providers; None for the column's, or `default_margin`.
        prices_per_token: USD/token by provider; goes before the column.
        list_prices: USD/token by provider; where there is neither.

    Raises:
        ValueError: with source, row, column, what is allowed and the remedy.
    """
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(table.columns["provider"]):
        rows.setdefault(_name(table, i, name), []).append(i)
    columns = {
        column: _numbers(table, column, check)
        for column, check in _CHECKS.items()
        if column in table.columns
    }
    if margin is not None:
        validate_margin(margin)
    made = []
    for name, own in rows.items():
        own = sorted(own, key=lambda i: (columns["level"][i], i))
        values = {column: _of_provider(table, column, x, own) for column, x in columns.items()}
        level = values.pop("level")
        assert level is not None
        for before, i, a, b in zip(own, own[1:], level, level[1:], strict=False):
            if a == b:
                raise ValueError(
                    f"{table.where(max(before, i))}, column 'level': provider {name!r} has level"
                    f" {b:g} twice; keep one row per provider and level"
                )
        made.append(
            _curve(
                table,
                name,
                own,
                level,
                values,
                margin,
                default_margin,
                prices_per_token,
                list_prices,
            )
        )
    return made


def _curve(
    table: CurveTable,
    name: str,
    rows: list[int],
    level: Array,
    values: dict[str, Array | None],
    margin: float | None,
    default_margin: float,
    prices_per_token: Mapping[str, float],
    list_prices: Mapping[str, float],
) -> Curve:
    start = f"{table.where(min(rows))}: provider {name!r}"
    accuracy, tokens = values["accuracy"], values.get("tokens")
    assert accuracy is not None
    per_query, per_token = values.get("price_per_query"), values.get("price_per_token")
    price: float | None = None
    if per_query is not None:
        if per_token is not None or name in prices_per_token:
            raise ValueError(
                f"{start} has a price per query and a price per token; give one of them"
            )
    else:
        if tokens is None:
            raise ValueError(
                f"{start} has neither tokens nor a price per query; fill one of the columns tokens"
                " and price_per_query"
            )
        if name in prices_per_token:
            price = _price(name, prices_per_token[name])
        elif per_token is not None:
            price = float(per_token[0])
        elif name in list_prices:
            price = list_prices[name]
        else:
            raise ValueError(
                f"{start} has no price; add a column price_per_token (USD/token) or"
                f" price_per_query (USD/query), pass prices_per_token={{{name!r}: ...}}, or use a"
                f" name with a published list price: {', '.join(list_prices)}"
            )
    own_margin = values.get("margin")
    if margin is None:
        margin = default_margin if own_margin is None else float(own_margin[0])
    return Curve(
        name,
        level,
        accuracy,
        tokens,
        price,
        float(margin),
        values.get("se"),
        price_per_query=per_query,
        characters=values.get("characters"),
        effort=_effort(table, name, rows),
    )


def _price(name: str, value: object) -> float:
    price = None if isinstance(value, str) else _number(value)
    if price is None or not (math.isfinite(price) and price > 0):
        raise ValueError(
            f"prices_per_token[{name!r}] is {value!r}; it must be a positive number of USD per"
            " token"
        )
    return price


def _name(table: CurveTable, row: int, name: object) -> str:
    start = f"{table.where(row)}, column 'provider'"
    if _empty(name):
        raise ValueError(f"{start}: empty; name the provider of every row")
    if not isinstance(name, str):
        raise ValueError(
            f"{start}: {name!r} is of type {type(name).__name__}, not a text, and '01' may have"
            " become 1 on the way; read the file with dtype={'provider': str}, or give load_market"
            " its path"
        )
    if name != name.strip():
        raise ValueError(f"{start}: {name!r} begins or ends with a blank; remove it")
    return name


def _numbers(table: CurveTable, column: str, check: _Check) -> Array:
    """A column as numbers, NaN where it is empty and may be."""
    numbers_ = np.full(len(table), np.nan)
    for i, entry in enumerate(table.columns[column]):
        if column not in REQUIRED and _empty(entry):
            continue
        value = _number(entry)
        if value is None or not (math.isfinite(value) and check.good(value)):
            shown = "an empty entry" if _empty(entry) else entry
            raise ValueError(
                f"{table.where(i)}, column {column!r} (provider"
                f" {table.columns['provider'][i]!r}): {shown} is not {check.allowed};"
                f" {check.remedy}"
            )
        numbers_[i] = value
    return numbers_


def _of_provider(
    table: CurveTable, column: str, values: Array, rows: Sequence[int]
) -> Array | None:
    """One provider's entries in a column; None where it has none."""
    own = values[list(rows)]
    name = table.columns["provider"][rows[0]]
    empty = np.isnan(own)
    if empty.all():
        return None
    if empty.any():
        i = rows[int(empty.argmax())]
        raise ValueError(
            f"{table.where(i)}, column {column!r} (provider {name!r}): an empty entry is not"
            f" {_CHECKS[column].allowed}; fill the column in all rows of a provider or in none"
        )
    if column in _ONE_PER_PROVIDER and (own != own[0]).any():
        first = min(rows)
        i = next(i for i in sorted(rows) if values[i] != values[first])
        raise ValueError(
            f"{table.where(i)}, column {column!r}: provider {name!r} has more than one value; a"
            " provider has one, the same in all its rows"
        )
    return own


def _effort(table: CurveTable, name: str, rows: Sequence[int]) -> tuple[str, ...] | None:
    entries = [table.columns["effort"][i] for i in rows] if "effort" in table.columns else []
    if all(_empty(entry) for entry in entries):
        return None
    for i, entry in zip(rows, entries, strict=True):
        if not isinstance(entry, str) or _empty(entry):
            raise ValueError(
                f"{table.where(i)}, column 'effort' (provider {name!r}): {entry!r} is no text; name"
                " every level of a provider or none (the number goes into the column level)"
            )
    return tuple(entries)
