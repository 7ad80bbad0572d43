"""Draw measured curves with their intervals: accuracy against billed tokens, a panel for each file.

    ttc-env plot-curves runs/gsm8k/*.csv --out curves.png

Reads the curve files that `measure` and `estimate` write, and any other with the columns `provider,
level, accuracy, tokens` (and `accuracy_lo, accuracy_hi` for intervals). Needs matplotlib:
`pip install 'ttc-env[plot]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

FORMATS = (".png", ".svg", ".pdf")
NEEDED = ("provider", "level", "accuracy", "tokens")
NO_CURVES = ("summary.csv", "solutions.csv")  # what `measure` writes beside its curve files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("curves", type=Path, nargs="+", help="curve files (.csv)")
    parser.add_argument(
        "--out", type=Path, default=Path("curves.png"), help=f"{', '.join(FORMATS)}"
    )
    parser.add_argument(
        "--x", choices=("tokens", "level"), default="tokens", help="what the x-axis shows"
    )


def run(args: argparse.Namespace) -> None:
    import io
    import os
    import tempfile

    if args.out.suffix not in FORMATS:
        raise ValueError(f"--out is {args.out}; it must end in one of {', '.join(FORMATS)}")
    curves = [path for path in args.curves if path.name not in NO_CURVES]
    if not curves:
        raise ValueError(f"{args.curves[0]} is no curve file; a curve file has {NEEDED}")
    tables = [(path.stem, _read(path)) for path in curves]
    figure = _draw(tables, args.x)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=args.out.suffix[1:], dpi=150)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=args.out.parent, suffix=".part")
    try:  # whole or not at all
        with os.fdopen(handle, "wb") as stream:
            stream.write(buffer.getvalue())
        os.chmod(temporary, 0o644)
        os.replace(temporary, args.out)
    except BaseException:
        os.unlink(temporary)
        raise
    print(args.out)


def _read(path: Path) -> Any:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={"provider": str}, keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file ({error})") from None
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; a curve file has {NEEDED}")
    return table


def _draw(tables: list[tuple[str, Any]], x: str) -> Any:
    """A figure with one panel for each curve file."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "matplotlib is not installed; install it with: pip install 'ttc-env[plot]'"
        ) from None

    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(tables) :]:
        panel.set_axis_off()
    for panel, (title, table) in zip(panels, tables, strict=False):
        positive = bool((table[x] > 0).all())
        for provider, group in table.groupby("provider", sort=False):
            group = group.sort_values(x)
            (line,) = panel.plot(group[x], group["accuracy"], marker="o", ms=3, label=provider)
            if {"accuracy_lo", "accuracy_hi"} <= set(group.columns):
                panel.fill_between(
                    group[x].astype(float),
                    group["accuracy_lo"].astype(float),
                    group["accuracy_hi"].astype(float),
                    color=line.get_color(),
                    alpha=0.15,
                    lw=0,
                )
        if positive:
            panel.set_xscale("log")
            # ticks where the first provider has points: those of a log axis overlap in small panels
            first = table[table["provider"] == table["provider"].iloc[0]][x].sort_values()
            panel.set_xticks(list(first), [f"{value:.3g}" for value in first], fontsize=8)
            panel.set_xticks([], minor=True)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("billed tokens a question" if x == "tokens" else "level")
        panel.set_ylabel("accuracy")
        panel.set_ylim(0, 1)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    return figure
