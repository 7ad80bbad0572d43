"""Figures of measured curves and of the markets made of them. Needs matplotlib, imported when a
figure is drawn.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

FORMATS = (".png", ".svg", ".pdf")
NEEDED = ("provider", "level", "accuracy", "tokens")
INTERVAL = ("accuracy_lo", "accuracy_hi")


def read_curves(path: Path) -> pd.DataFrame:
    """A curve file as it stands.

    Raises:
        ValueError: no CSV file, one without the columns `NEEDED`, or an entry that is no number.
    """
    try:
        table = pd.read_csv(path, dtype={"provider": str}, keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file ({error})") from None
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; a curve file has {NEEDED}")
    for name in (*NEEDED[1:], *INTERVAL):
        if name not in table.columns:
            continue
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = numbers.isna() & (table[name].notna() | (name in NEEDED))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise ValueError(f"{path}, row {row + 1}: {name} is {table[name][row]!r}, no number")
        table[name] = numbers
    return table


def curves_figure(tables: Sequence[tuple[str, pd.DataFrame]], x: str = "tokens") -> Any:
    """Accuracy with its interval against billed tokens (or `level`), a panel for each table.

    Args:
        tables: (title, rows of a curve file).
        x: "tokens" or "level".
    """
    figure, panels = _panels(len(tables))
    for panel, (title, table) in zip(panels, tables, strict=True):
        positive = bool((table[x] > 0).all())
        for provider, group in table.groupby("provider", sort=False):
            group = group.sort_values(x)
            (line,) = panel.plot(group[x], group["accuracy"], marker="o", ms=3, label=provider)
            if set(INTERVAL) <= set(group.columns):
                panel.fill_between(
                    group[x].astype(float),
                    group["accuracy_lo"].astype(float),
                    group["accuracy_hi"].astype(float),
                    color=line.get_color(),
                    alpha=0.15,
                    lw=0,
                )
        if positive:
            # ticks where the first provider has points: those of a log axis overlap in small panels
            first = table[table["provider"] == table["provider"].iloc[0]][x].sort_values()
            _log_ticks(panel, list(first))
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("billed tokens a question" if x == "tokens" else "level")
        panel.set_ylabel("accuracy")
        panel.set_ylim(0, 1)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    return figure


def solutions_figure(solutions: pd.DataFrame) -> Any:
    """Welfare of the measured markets against beta: what is possible, what the market reaches, and
    what the auction reaches; a panel for each curve file.

    Args:
        solutions: rows of `solutions.csv`, as `ttc_env.measure.run.solutions` gives them.
    """
    groups = list(solutions.groupby("curves", sort=False))
    figure, panels = _panels(len(groups))
    for panel, (name, group) in zip(panels, groups, strict=True):
        group = group.sort_values("beta")
        for column, label, style in (
            ("optimal_welfare", "best possible", {"ls": "--", "color": "0.4", "marker": "s"}),
            ("auction_welfare", "auction", {"color": "#2b6a99", "marker": "o"}),
            ("welfare", "market at list prices", {"color": "#b5482d", "marker": "o"}),
        ):
            panel.plot(group["beta"], 1000 * group[column], label=label, ms=4, **style)
        panel.fill_between(
            group["beta"], 1000 * group["welfare"], 1000 * group["optimal_welfare"],
            color="#b5482d", alpha=0.12, lw=0,
        )  # fmt: skip
        _log_ticks(panel, list(group["beta"]))
        lost = 100 * (1 - 1 / group["price_of_anarchy"].max())
        told = f"the market loses up to {lost:.1f}%" if lost >= 0.1 else "the market loses nothing"
        panel.set_title(f"{str(name).removesuffix('.csv')}: {told}", fontsize=10)
        panel.set_xlabel("beta: how closely users look, 1/USD")
        panel.set_ylabel("welfare, USD per 1000 queries")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure whole or not at all; the format is the path's ending, one of `FORMATS`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(buffer.getvalue())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _panels(count: int) -> tuple[Any, list[Any]]:
    """A figure with `count` panels, three a row."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "matplotlib is not installed; install it with: pip install 'ttc-env[plot]'"
        ) from None
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.5 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


def _log_ticks(panel: Any, values: Sequence[float]) -> None:
    """A log axis with a tick at each value."""
    panel.set_xscale("log")
    panel.set_xticks(list(values), [_short(value) for value in values], fontsize=8)
    panel.set_xticks([], minor=True)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
