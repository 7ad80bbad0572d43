"""Markets, solutions and sweeps as tables: in a notebook (HTML), and as pandas' DataFrame."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from ttc_env.game.rules.base import Round
    from ttc_env.game.types import Market

Columns = Mapping[str, Sequence[Any] | np.ndarray]

MOST_ROWS = 20
"""Rows that a notebook shows; `to_frame` has all."""


class _HasColumns(Protocol):
    def columns(self) -> Columns: ...


class Tabular:
    """What can be shown as a table: a subclass says what its `columns` are."""

    def to_frame(self: _HasColumns) -> pd.DataFrame:
        """The table as a pandas DataFrame; its columns are those of `columns()`.

        Raises:
            ImportError: pandas, which `ttc_env.game` alone does not need, is missing.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame() needs pandas: pip install pandas") from error
        return pd.DataFrame(dict(self.columns()))

    def _repr_html_(self: _HasColumns) -> str:
        return as_html(repr(self), self.columns())


def as_html(title: str, columns: Columns, rows: int = MOST_ROWS) -> str:
    """A title above a table of the first `rows` rows, for a notebook."""
    cells = [[_text(value) for value in values] for values in columns.values()]
    total = len(cells[0]) if cells else 0
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
        for row in zip(*(cell[:rows] for cell in cells), strict=True)
    )
    more = f"<p>{total - rows} more rows: to_frame()</p>" if total > rows else ""
    return (
        f"<div><p><code>{html.escape(title)}</code></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
    )


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def offers_of(market: Market, level: Sequence[int] | np.ndarray, outcome: Round) -> Columns:
    """What every provider offers in a round and what becomes of it: arrays `[n]`.

    `quality`, `price`, `cost` and `payment` in USD per query; `profit` in USD per arriving user.
    """
    offer = outcome.offer
    return {
        "provider": list(market.names),
        "level": [float(p.levels[int(a)]) for p, a in zip(market.providers, level, strict=True)],
        "quality": offer.quality,
        "price": offer.price,
        "cost": offer.cost,
        "payment": outcome.payment,
        "share": outcome.share,
        "profit": outcome.utility,
    }


def together(parts: Sequence[tuple[str, Columns]], what: str) -> Columns:
    """Tables of the same columns, one below the other; the column `what` has their names."""
    names = [name for name, part in parts for _ in next(iter(part.values()))]
    joined = {key: np.concatenate([part[key] for _, part in parts]) for key in parts[0][1]}
    return {what: names, **joined}
