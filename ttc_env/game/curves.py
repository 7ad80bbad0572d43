"""From a quality curve to a market: the published curves, your own file or DataFrame, and every
check on the way.

A curve table is tidy, one row per provider and level:

| column | unit | |
| --- | --- | --- |
| `provider` | | name |
| `level` | | label of the test-time compute level: samples, or effort; a number, rising |
| `accuracy` | probability | chance that the delivered answer is right |
| `tokens` | tokens/query | mean tokens billed per query, all samples together |
| `price_per_token` | USD/token | optional; constant within a provider; needed unless the name has a published list price |
| `margin` | | optional; constant within a provider |
| `se` | probability | optional; standard error of `accuracy` |
| `benchmark`, `method` | | optional; rows are filtered by them |
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from ttc_env.game.types import (
    Curve,
    Market,
    Provider,
    QualityFunction,
    validate_margin,
    validate_quality,
)

BENCHMARKS = {"gsm8k": 0.008, "aime": 0.05, "gpqa": 0.02}
"""Published benchmarks and their alpha: USD value to the user of a surely right answer ([TTC])."""

MEASURED_ALPHA = 0.008
"""alpha of the market `measured`, USD: assigned, equal to that of GSM8K, so that the studied betas
mean the same (data/SOURCES.md).
"""

METHODS = ("majority", "best_of_n", "reasoning")
"""Test-time compute methods of the published curves; `chain_of_thought` is an alias of `reasoning`.
"""

STUDIED_BETAS = (200.0, 1000.0, 100000.0)
"""The user rationalities (1/USD) whose results the paper prints."""

DEFAULT_BETA = 1000.0
DEFAULT_MARGIN = 0.25

_ALIASES = {"chain_of_thought": "reasoning"}
_REQUIRED = ("provider", "level", "accuracy", "tokens")


def _packaged(name: str) -> pd.DataFrame:
    with resources.files("ttc_env").joinpath("data", name).open("rb") as file:
        return pd.read_csv(file)


def published_curves() -> pd.DataFrame:
    """The paper's curves, digitised: 369 points with error bars and the uncertainty of the
    digitisation (data/SOURCES.md).
    """
    return _packaged("published_curves.csv")


def measured_curves() -> pd.DataFrame:
    """Curves of tiny models, measured for this project with its own pipeline, intervals included
    (data/SOURCES.md).
    """
    return _packaged("measured_curves.csv")


def published_results() -> pd.DataFrame:
    """The paper's printed results for GSM8K and AIME: `benchmark, method, beta, quantity, value`
    (data/SOURCES.md).
    """
    return _packaged("published_results.csv")


def list_prices() -> dict[str, float]:
    """List price of each published model, USD/token (data/SOURCES.md)."""
    table = _packaged("list_prices.csv")
    return dict(zip(table.provider, table.usd_per_million_tokens / 1e6, strict=True))


def load_market(
    benchmark: str | os.PathLike[str] | pd.DataFrame = "gsm8k",
    method: str | None = None,
    providers: Sequence[str] | None = None,
    *,
    beta: float = DEFAULT_BETA,
    alpha: float | None = None,
    baseline: float = 0.1,
    quality_function: str | QualityFunction = "linear",
    outside_value: float = 0.0,
    margin: float | None = None,
    prices_per_token: dict[str, float] | None = None,
) -> Market:
    """A market of providers with measured quality curves.

    Args:
        benchmark: a published one (`gsm8k`, `aime`, `gpqa`), `measured` (tiny models, measured for
            this project), or your own curves: a path to a CSV file or a DataFrame with the columns
            that this module's docstring lists.
        method: `majority`, `best_of_n` or `reasoning` (alias `chain_of_thought`); default
            `majority` for published curves. In your own table it selects rows of the column
            `method`, if there is one.
        providers: names to keep, in this order; default all, in the order of the table.
        beta: user rationality, 1/USD. The paper studies 200, 1000 and 100000.
        alpha: USD value of a surely right answer; default the paper's for published benchmarks,
            required for your own curves.
        baseline: b, the share of alpha that any answer is worth.
        quality_function: f in q = alpha (b + (1 - b) f(a)): `"linear"`, `"power"`, `"exponential"`,
            or a `QualityFunction`.
        outside_value: V_0, USD/query.
        margin: mu for all providers, cost = list price / (1 + mu); default the column `margin`,
            else 0.25 ([TTC]).
        prices_per_token: USD/token by provider name; overrides the column `price_per_token` and the
            published list prices.

    Raises:
        ValueError: unknown benchmark, method or provider, or a bad table; the message names file,
            row, column, allowed range and remedy.
        FileNotFoundError: a path that does not exist.
    """
    if method is not None:
        method = _ALIASES.get(method, method)
    table, source = _read(benchmark, method)
    published = benchmark if isinstance(benchmark, str) and benchmark in BENCHMARKS else None
    if published:
        method = method or METHODS[0]
        alpha = BENCHMARKS[published] if alpha is None else alpha
    elif isinstance(benchmark, str) and benchmark == "measured":
        method = method or METHODS[0]
        alpha = MEASURED_ALPHA if alpha is None else alpha
    if alpha is None:
        raise ValueError(
            f"{source}: alpha is unknown for these curves; pass alpha=..., the USD value of a"
            " surely right answer"
        )
    validate_quality(alpha, baseline)
    table = _select(table, source, published, method)
    curves = {curve.name: curve for curve in _curves(table, source, margin, prices_per_token or {})}
    unpriced = [name for name in prices_per_token or {} if name not in curves]
    if unpriced:
        raise ValueError(
            f"prices_per_token: no provider {', '.join(map(repr, unpriced))}; there are"
            f" {', '.join(curves)}"
        )
    if providers is None:
        providers = list(curves)
    elif isinstance(providers, str):
        providers = [providers]
    unknown = [name for name in providers if name not in curves]
    if unknown:
        raise ValueError(
            f"{source}: no provider {', '.join(map(repr, unknown))}; there are {', '.join(curves)}"
        )
    f = (
        quality_function
        if isinstance(quality_function, QualityFunction)
        else QualityFunction(quality_function)
    )
    return Market(
        tuple(Provider.from_curve(curves[name], alpha, baseline, f) for name in providers),
        beta=beta,
        outside_value=outside_value,
        alpha=alpha,
        baseline=baseline,
        quality_function=f,
        benchmark=benchmark if isinstance(benchmark, str) else None,
        method=method,
    )


def _read(
    benchmark: str | os.PathLike[str] | pd.DataFrame, method: str | None
) -> tuple[pd.DataFrame, str]:
    """The whole table and what to call it in messages."""
    if isinstance(benchmark, pd.DataFrame):
        return benchmark, "DataFrame"
    if isinstance(benchmark, str) and benchmark in BENCHMARKS:
        if method is not None and method not in METHODS:
            raise ValueError(
                f"method {method!r} has no published curves; choose {', '.join(METHODS)} (or"
                " chain_of_thought)"
            )
        return published_curves(), "published_curves.csv"
    if isinstance(benchmark, str) and benchmark == "measured":
        return measured_curves(), "measured_curves.csv"
    if not isinstance(benchmark, (str, os.PathLike)):
        raise ValueError(
            f"benchmark is {benchmark!r}; give a name ({', '.join(BENCHMARKS)}, measured), a path"
            " to a CSV file, or a DataFrame"
        )
    path = Path(benchmark)
    if path.suffix.lower() == ".csv" or path.exists():
        if not path.exists():
            raise FileNotFoundError(
                f"no curve file {path}; give an existing CSV file, or a published benchmark:"
                f" {', '.join(BENCHMARKS)}"
            )
        return _read_csv(path), path.name
    if str(benchmark).lower() == "mmlu":
        raise ValueError(
            "mmlu has no published curves; measure your own models on it with `python -m"
            " scripts.measure_curves --task mmlu ...` and load the curve file that it writes:"
            " load_market('curves.csv', alpha=...)"
        )
    raise ValueError(
        f"benchmark {str(benchmark)!r} is unknown; choose {', '.join(BENCHMARKS)}, or pass a path"
        " to a CSV file of curves or a DataFrame"
    )


def _read_csv(path: Path) -> pd.DataFrame:
    """The rows of a file; the index counts lines after the header, blank ones too, so that messages
    name the line an editor shows.
    """
    try:
        with warnings.catch_warnings():
            # a row with more fields than the header
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, skip_blank_lines=False, index_col=False)
    except (
        OSError,
        UnicodeDecodeError,
        pd.errors.EmptyDataError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
    ) as error:
        raise ValueError(
            f"{path.name}: not a readable CSV file ({error}); it needs a header with"
            f" {', '.join(_REQUIRED)} and as many fields in each row"
        ) from error
    return table.dropna(how="all")


def _select(
    table: pd.DataFrame, source: str, benchmark: str | None, method: str | None
) -> pd.DataFrame:
    missing = [column for column in _REQUIRED if column not in table]
    if missing:
        raise ValueError(
            f"{source}: no column {', '.join(map(repr, missing))}; a curve table has"
            f" {', '.join(_REQUIRED)} and may have price_per_token, margin, se, benchmark, method"
        )
    for column, wanted in (("benchmark", benchmark), ("method", method)):
        if column not in table:
            if wanted is not None:
                raise ValueError(
                    f"{source}: {column} {wanted!r} was asked for, but there is no column"
                    f" {column!r}; add it, or leave {column} out"
                )
            continue
        there = list(dict.fromkeys(table[column]))
        if wanted is None and len(there) > 1:
            raise ValueError(
                f"{source}: rows of several values of {column} ({', '.join(map(str, there))}); pick"
                " one first"
            )
        if wanted is not None:
            if wanted not in there:
                raise ValueError(
                    f"{source}: no rows with {column} {wanted!r}; there are"
                    f" {', '.join(map(str, there))}"
                )
            table = table[table[column] == wanted]
    if table.empty:
        raise ValueError(f"{source}: no rows; give at least one row per provider")
    return table


def _curves(
    table: pd.DataFrame, source: str, margin: float | None, prices: dict[str, float]
) -> list[Curve]:
    is_file = source != "DataFrame"

    def where(index: object) -> str:
        # Row numbers as an editor shows them: the header is line 1.
        return f"{source}, line {int(index) + 2}" if is_file else f"{source}, row {index}"  # type: ignore[call-overload]

    def check(
        column: str, good: Callable[[pd.Series], pd.Series], allowed: str, remedy: str
    ) -> pd.Series:
        numbers = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
        bad = ~(np.isfinite(numbers) & good(numbers))
        if bad.any():
            index = table.index[bad.to_numpy()][0]
            value = table[column].loc[index]
            value = "an empty entry" if pd.isna(value) else value
            raise ValueError(
                f"{where(index)}, column {column!r} (provider {table.provider.loc[index]!r}):"
                f" {value} is not {allowed}; {remedy}"
            )
        return numbers

    if not is_file and not table.index.is_unique:
        table = table.reset_index(drop=True)
    unnamed = table.provider.isna()
    if unnamed.any():
        raise ValueError(
            f"{where(table.index[unnamed.to_numpy()][0])}, column 'provider': empty; name the"
            " provider of every row"
        )
    columns = {
        "level": check(
            "level", lambda x: x == x, "a finite number", "label levels by samples or effort"
        ),
        "accuracy": check(
            "accuracy",
            lambda x: (x >= 0) & (x <= 1),
            "in [0, 1]",
            "give a probability, not a percentage",
        ),
        "tokens": check(
            "tokens", lambda x: x > 0, "a positive number", "give the mean tokens billed per query"
        ),
    }
    if "price_per_token" in table:
        columns["price_per_token"] = check(
            "price_per_token",
            lambda x: x > 0,
            "a positive number",
            "give USD per token (list price per 1M tokens / 1e6)",
        )
    if "margin" in table:
        columns["margin"] = check(
            "margin", lambda x: x >= 0, "a number >= 0", "margin is list price / cost - 1"
        )
    if "se" in table:
        columns["se"] = check(
            "se", lambda x: x >= 0, "a number >= 0", "give the standard error of accuracy"
        )
    if margin is not None:
        validate_margin(margin)
    data = pd.DataFrame({"provider": table.provider.astype(str), **columns})

    again = data.duplicated(["provider", "level"])
    if again.any():
        index = data.index[again.to_numpy()][0]
        raise ValueError(
            f"{where(index)}, column 'level': provider {data.provider.loc[index]!r} has level"
            f" {data.level.loc[index]:g} twice; keep one row per provider and level"
        )
    for column in ("price_per_token", "margin"):
        if column in data:
            changed = data[column] != data.groupby("provider")[column].transform("first")
            if changed.any():
                index = data.index[changed.to_numpy()][0]
                raise ValueError(
                    f"{where(index)}, column {column!r}: provider {data.provider.loc[index]!r} has"
                    " more than one value; a provider has one, the same in all its rows"
                )
    published = list_prices()
    curves = []
    for name, rows in data.groupby("provider", sort=False):
        rows = rows.sort_values("level")
        if name in prices:
            price = float(prices[name])
            if not (np.isfinite(price) and price > 0):
                raise ValueError(
                    f"prices_per_token[{name!r}] is {price!r}; it must be a positive number of USD"
                    " per token"
                )
        elif "price_per_token" in rows:
            price = float(rows.price_per_token.iloc[0])
        elif name in published:
            price = published[name]
        else:
            raise ValueError(
                f"{where(rows.index[0])}: provider {name!r} has no price; add a column"
                f" price_per_token (USD/token), pass prices_per_token={{{name!r}: ...}}, or use a"
                f" name with a published list price: {', '.join(published)}"
            )
        mu = (
            margin
            if margin is not None
            else float(rows.margin.iloc[0])
            if "margin" in rows
            else DEFAULT_MARGIN
        )
        se = rows.se.to_numpy() if "se" in rows else None
        curves.append(
            Curve(
                str(name),
                rows.level.to_numpy(),
                rows.accuracy.to_numpy(),
                rows.tokens.to_numpy(),
                price,
                mu,
                se,
            )
        )
    return curves
