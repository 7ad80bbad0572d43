"""What commands that write tables and figures share."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable
from typing import Any


def progress(description: str, quiet: bool = False) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A wrapper for loops that counts on stderr."""
    if quiet:
        return iter

    def loop(items: Iterable[Any]) -> Iterable[Any]:
        items = list(items)
        for done, item in enumerate(items):
            print(f"\r{description}: {done} of {len(items)}", end="", file=sys.stderr, flush=True)
            yield item
        print(f"\r{description}: {len(items)} of {len(items)}", file=sys.stderr)

    return loop


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers to seven digits, so that tables of different machines are the same."""
    return {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()}


def csv_bytes(rows: list[dict[str, Any]]) -> bytes:
    """A table with the keys of the first row as its head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def aligned(lines: list[list[str]]) -> list[str]:
    """A table of text, head first: the first column to the left, the others to the right."""
    widths = [max(len(line[c]) for line in lines) for c in range(len(lines[0]))]
    return [
        "  ".join(
            cell.rjust(width) if c else cell.ljust(width)
            for c, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def png_bytes(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def need_matplotlib(flag: str) -> None:
    """Raise ImportError, which names the remedies, where figures cannot be drawn.

    flag: the option that does without.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"figures need matplotlib: pip install 'ttc-env[plot]', or pass {flag}"
        ) from error


def clean(axis: Any) -> None:
    """A panel without a frame."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
