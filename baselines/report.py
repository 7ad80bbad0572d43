"""From per-cell files to the kept results: csv, README.md, figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from baselines import page
from baselines.records import rounded, write_atomically, write_csv, write_text
from baselines.suite import KEPT, Entry, cells
from baselines.summaries import KEY, aggregate, curves, statistics


def write(folder: Path, out: Path, suite: tuple[Entry, ...]) -> None:
    """Gather the cells in `folder` into `out`/results/*.csv, `out`/README.md and figures (where
    matplotlib is installed). Cells of the suite that are not in `folder` keep their rows.
    """
    rows = gather(folder, suite)
    results = out / "results"
    final = with_kept(rounded(last(rows)), results / "final.csv", KEY, suite)
    write_csv(results / "final.csv", final)
    key = [*KEY[:3]]
    write_csv(
        results / "curves.csv", with_kept(rounded(curves(rows)), results / "curves.csv", key, suite)
    )
    rewrite(out, suite)


def rewrite(out: Path, suite: tuple[Entry, ...]) -> None:
    """Write again, from the files in `out`/results: the page, its statistics, and the figures."""
    path = out / "results" / "final.csv"
    if not path.exists():
        raise SystemExit(f"there is no {path}; run python -m baselines.run first")
    final = pd.read_csv(path)
    write_csv(out / "results" / "table.csv", rounded(aggregate(final)))
    write_csv(out / "results" / "statistics.csv", rounded(statistics(final)))
    write_text(out / "README.md", page.page(final, out, suite))
    _draw(out / "results", final, out)


def gather(folder: Path, suite: tuple[Entry, ...]) -> pd.DataFrame:
    """All rows of all cells of the suite that were run."""
    tables = [pd.read_csv(path) for cell in cells(suite) if (path := folder / cell.file).exists()]
    if not tables:
        raise SystemExit(f"{folder} holds no results; run python -m baselines.run first")
    rows = pd.concat(tables, ignore_index=True)
    # A setting's own columns are missing where no cell of it was run.
    return rows.reindex(columns=[*rows.columns, *(c for c in KEPT if c not in rows)])


def with_kept(
    new: pd.DataFrame, path: Path, key: list[str], suite: tuple[Entry, ...]
) -> pd.DataFrame:
    """`new`, and the rows of the kept table at `path` whose `key` is not among it, in the order of
    the suite. Rows that the suite does not ask for, or asks for with other steps, are left out.
    """
    kept = pd.read_csv(path) if path.exists() else new.iloc[:0]
    there = new[key].drop_duplicates()
    others = kept.merge(there, on=key, how="left", indicator="found").found == "left_only"
    table = new if not others.any() else pd.concat([new, kept[others.to_numpy()]])
    asked = {
        tuple(cell.key[name] for name in key): (place, cell.entry.steps)
        for place, cell in enumerate(cells(suite))
    }
    parts = []
    for values, rows in table.groupby(key, sort=False):
        place, steps = asked.get(tuple(values), (-1, -1))
        if steps == rows.step.max():
            parts.append((place, rows))
    parts.sort(key=lambda part: part[0])
    return pd.concat([rows for _, rows in parts], ignore_index=True)


def last(rows: pd.DataFrame) -> pd.DataFrame:
    """The last evaluation of every run."""
    return rows[rows.step == rows.groupby(KEY).step.transform("max")].reset_index(drop=True)


def _draw(results: Path, final: pd.DataFrame, out: Path) -> None:
    """Draw all figures, where matplotlib is installed."""
    try:
        from baselines import learning_figures
    except ImportError:
        print(
            "figures need matplotlib: pip install 'ttc-env[plot]'; tables were written without them"
        )
        return
    for name, figure in learning_figures.all_figures(final, out).items():
        write_atomically(
            results / f"{name}.png", lambda path, figure=figure: figure.savefig(path, dpi=130)
        )
