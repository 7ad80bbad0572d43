"""From a quality curve to a market: the published curves, the frontier's, your own file or
DataFrame.

A curve table is tidy, one row per provider and level:

| column | unit | |
| --- | --- | --- |
| `provider` | | name: a text, kept as it stands ("01" is not "1") |
| `level` | | label of the test-time compute level: samples, or effort; a number, rising |
| `accuracy` | probability | chance that the delivered answer is right |
| `tokens` | tokens/query | mean tokens billed per query, all samples together |
| `price_per_token` | USD/token | optional; constant within a provider; needed unless the name has a published list price |
| `price_per_query` | USD/query | in place of `price_per_token`, where prices are known by the query; `tokens` is then optional |
| `margin` | | optional; constant within a provider |
| `se` | probability | optional; standard error of `accuracy` |
| `characters` | characters/query | optional; mean characters billed per query |
| `effort` | | optional; what the level is called where it is sold: a text |
| `benchmark`, `method` | | optional; rows are filtered by them |

An optional column may be empty in all rows of a provider, which is then as if it had no such
column. Other columns are ignored, unless they look like one of these. Without `tokens` a market has
prices and costs, and everything is solved as ever; only what counts tokens says that it cannot.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ttc_env.game import curve_table, frontier
from ttc_env.game.curve_table import CurveTable
from ttc_env.game.types import Market, Provider, QualityFunction
from ttc_env.game.validation import validate_quality

if TYPE_CHECKING:
    import pandas as pd

BENCHMARKS = {"gsm8k": 0.008, "aime": 0.05, "gpqa": 0.02}
"""Published benchmarks and their alpha: USD value to the user of a surely right answer ([TTC])."""

MEASURED_ALPHA = 0.008
"""alpha of the measured markets, USD: assigned, equal to that of GSM8K, so that the studied betas
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


@dataclass(frozen=True)
class _Packaged:
    """A market of the package: its file, and what `load_market` assumes of it."""

    file: str
    methods: tuple[str, ...]  # the first is the default
    alpha: float  # USD
    rows: str | None = None  # what the column `benchmark` says
    beta: float = DEFAULT_BETA  # 1/USD
    tasks: int | None = None  # of the frontier's benchmarks


_OPEN_MODELS = {  # market -> methods, the default first (scripts/build_open_models.py)
    "measured_gsm8k": ("majority", "best_of_n", "pass_at_k", "reasoning"),
    "mmlu": ("majority", "best_of_n", "pass_at_k"),
}

_PACKAGED = {
    **{
        name: _Packaged("published_curves.csv", METHODS, alpha, name)
        for name, alpha in BENCHMARKS.items()
    },
    "measured": _Packaged(
        "measured_curves.csv", (*METHODS, "reasoning_observational"), MEASURED_ALPHA
    ),
    **{
        name: _Packaged("open_models_curves.csv", methods, MEASURED_ALPHA, name)
        for name, methods in _OPEN_MODELS.items()
    },
    **{
        name: _Packaged(
            "frontier_curves.csv", ("effort",), frontier.ALPHA, name, frontier.BETA, tasks
        )
        for name, tasks in frontier.TASKS.items()
    },
}


def packaged_markets() -> dict[str, tuple[str, ...]]:
    """Names of the markets that come with the package, and the methods of each, the default first."""
    return {name: known.methods for name, known in _PACKAGED.items()}


def _packaged(name: str) -> CurveTable:
    with resources.files("ttc_env").joinpath("data", name).open(encoding="utf-8") as file:
        return curve_table.read_lines(file, name)


def _frame(name: str) -> pd.DataFrame:
    import pandas as pd

    with resources.files("ttc_env").joinpath("data", name).open("rb") as file:
        return pd.read_csv(file)


def published_curves() -> pd.DataFrame:
    """The paper's curves, digitised: 369 points with error bars and the uncertainty of the
    digitisation (data/SOURCES.md).
    """
    return _frame("published_curves.csv")


def measured_curves() -> pd.DataFrame:
    """Curves of tiny models, measured for this project with its own pipeline, intervals included
    (data/SOURCES.md).
    """
    return _frame("measured_curves.csv")


def open_models_curves() -> pd.DataFrame:
    """Curves of three open models on MMLU, measured for this project, intervals included
    (data/SOURCES.md).
    """
    return _frame("open_models_curves.csv")


def frontier_curves() -> pd.DataFrame:
    """Models sold from 2024 to 2026 on ARC-AGI-1 and 2, at their real prices per task
    (data/SOURCES.md).
    """
    return _frame("frontier_curves.csv")


def frontier_models() -> pd.DataFrame:
    """The frontier's models: `provider, maker, line, released, current`; `current` is "yes" for the
    newest of each maker's lines in June 2026 (data/SOURCES.md).
    """
    return _frame("frontier_models.csv")


def release_dates() -> list[datetime.date]:
    """When each of the frontier's models was released, in order; one entry for each model."""
    released = _packaged("frontier_models.csv").columns["released"]
    return sorted(datetime.date.fromisoformat(day) for day in released)


def published_results() -> pd.DataFrame:
    """The paper's printed results: `benchmark, method, beta, quantity, value` (data/SOURCES.md)."""
    return _frame("published_results.csv")


def list_prices() -> dict[str, float]:
    """List price of each published model, USD/token (data/SOURCES.md)."""
    columns = _packaged("list_prices.csv").columns
    return {
        name: float(price) / 1e6
        for name, price in zip(columns["provider"], columns["usd_per_million_tokens"], strict=True)
    }


def load_market(
    benchmark: str | os.PathLike[str] | pd.DataFrame = "gsm8k",
    method: str | None = None,
    providers: Sequence[str] | None = None,
    *,
    as_of: str | datetime.date | None = None,
    beta: float | None = None,
    alpha: float | None = None,
    baseline: float = 0.1,
    quality_function: str | QualityFunction = "linear",
    outside_value: float = 0.0,
    margin: float | None = None,
    prices_per_token: dict[str, float] | None = None,
) -> Market:
    """A market of providers with measured quality curves.

    Args:
        benchmark: a published one (`gsm8k`, `aime`, `gpqa`), one of the frontier (`arc_agi_1`,
            `arc_agi_2`), one measured for this project (`measured_gsm8k`, `mmlu`: three open
            models; `measured`: tiny models), or your own curves: a path to a CSV file or a DataFrame
            with the columns that this module's docstring lists.
        method: `majority`, `best_of_n` or `reasoning` (alias `chain_of_thought`); default
            `majority` for published curves, `effort` for the frontier's, which have no other. In
            your own table it selects rows of the column `method`, if there is one.
        providers: names to keep, in this order; default all, in the order of the table.
        as_of: the frontier at a date, `"2025"`, `"2025-05"`, `"2025-05-28"` or a `datetime.date`:
            all models released by the end of it, also those withdrawn since. Default: the newest of
            each maker's lines in June 2026 (data/frontier_models.csv), or, where `providers` are
            named, any model.
        beta: user rationality, 1/USD. The paper studies 200, 1000 (the default) and 100000. For the
            frontier, where a query is worth dollars, the default is 8/3: beta alpha = 8, as in the
            paper's GSM8K at 1000.
        alpha: USD value of a surely right answer; default the paper's for published benchmarks, 3
            for the frontier's (what its leaderboard lists for crowd workers); required for your own
            curves.
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
    table, source, known = _read(benchmark)
    if method in _ALIASES and not (known is None and method in table.columns.get("method", ())):
        method = _ALIASES[method]
    if known is not None:
        method = known.methods[0] if method is None else method
        alpha = known.alpha if alpha is None else alpha
        beta = known.beta if beta is None else beta
        if method not in known.methods:
            raise ValueError(
                f"{benchmark} has no curves of method {method!r}; choose {', '.join(known.methods)}"
                + (" (or chain_of_thought)" if "reasoning" in known.methods else "")
            )
    if alpha is None:
        raise ValueError(
            f"{source}: alpha is unknown for these curves; pass alpha=..., the USD value of a"
            " surely right answer"
        )
    validate_quality(alpha, baseline)
    if isinstance(providers, str):
        providers = [providers]
    if providers is not None and not isinstance(providers, Iterable):
        raise ValueError(f"providers are {providers!r}; give a list of names, or None for all")
    if known is not None and known.tasks is not None:
        models = _packaged("frontier_models.csv")
        table = frontier.sold(frontier.as_curves(table, known.tasks), models, as_of, providers)
    elif as_of is not None:
        raise ValueError(
            f"as_of is {as_of!r}, but {source} has no dates of release; leave as_of out, or choose"
            f" {' or '.join(frontier.TASKS)}"
        )
    table = curve_table.select(
        table, {"benchmark": known.rows if known else None, "method": method}
    )
    prices = dict(prices_per_token or {})
    curves = {
        curve.name: curve
        for curve in curve_table.curves(
            table,
            margin=margin,
            default_margin=DEFAULT_MARGIN,
            prices_per_token=prices,
            list_prices=list_prices(),
        )
    }
    unpriced = [name for name in prices if name not in curves]
    if unpriced:
        raise ValueError(
            f"prices_per_token: no provider {', '.join(map(repr, unpriced))}; there are"
            f" {', '.join(curves)}"
        )
    if providers is None:
        providers = list(curves)
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
        beta=DEFAULT_BETA if beta is None else beta,
        outside_value=outside_value,
        alpha=alpha,
        baseline=baseline,
        quality_function=f,
        benchmark=benchmark if isinstance(benchmark, str) else None,
        method=method,
    )


def _read(
    benchmark: str | os.PathLike[str] | pd.DataFrame,
) -> tuple[CurveTable, str, _Packaged | None]:
    """The whole table, what to call it in messages, and what is known of it if it is the
    package's.
    """
    if curve_table.is_frame(benchmark):
        return curve_table.from_frame(benchmark), "DataFrame", None
    if isinstance(benchmark, str) and benchmark in _PACKAGED:
        known = _PACKAGED[benchmark]
        return _packaged(known.file), known.file, known
    names = ", ".join(_PACKAGED)
    if not isinstance(benchmark, (str, os.PathLike)):
        raise ValueError(
            f"benchmark is {benchmark!r}; give a name ({names}), a path to a CSV file, or a"
            " DataFrame"
        )
    path = Path(benchmark)
    exists = os.path.exists(path)  # Path.exists raises an OSError for a name that is too long
    if path.suffix.lower() == ".csv" or exists:
        if not exists:
            raise FileNotFoundError(
                f"no curve file {path}; give an existing CSV file, or one of {names}"
            )
        return curve_table.read_csv(path), path.name, None
    raise ValueError(
        f"benchmark {str(benchmark)!r} is unknown; choose {names}, or pass a path to a CSV file of"
        " curves or a DataFrame, or measure your own models with `ttc-env measure`"
    )
