"""Results on disk: written whole or not at all, with a manifest that says how to get them again.

CSV and JSON files, and no tracker such as MLflow or Weights & Biases: what is committed here must
be read in a diff and without a server. Trackers read the TensorBoard logs of a run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttc_env.atomic import write_atomically, write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "make_folder",
    "manifest",
    "rounded",
    "write_atomically",
    "write_csv",
    "write_json",
    "write_rows",
    "write_text",
]


def make_folder(folder: Path) -> None:
    """Make a folder and see whether files can be written into it, before work is done that would be
    lost.

    Raises:
        OSError: they cannot; its `filename` is the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename = str(folder)
        raise


def write_csv(path: Path, table: pd.DataFrame) -> None:
    write_atomically(
        path, lambda temporary: table.to_csv(temporary, index=False, lineterminator="\n")
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The same, of rows with the same columns, without pandas: its import takes half a second."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value != value else value for name, value in row.items()})
    write_text(path, text.getvalue())


def rounded(table: pd.DataFrame, digits: int = 6) -> pd.DataFrame:
    """Numbers to so many significant digits, so that tables of different machines are the same."""
    numbers = table.select_dtypes("float").columns
    return table.assign(**{c: [float(f"{x:.{digits}g}") for x in table[c]] for c in numbers})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def manifest(**facts: Any) -> dict[str, Any]:
    """Command, commit, versions, platform and data hashes of a run; `facts` adds its own (seeds,
    options).
    """
    data = resources.files("ttc_env") / "data"
    return {
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": _versions(),
        "data_sha256": {
            f.name: hashlib.sha256(f.read_bytes()).hexdigest()
            for f in sorted(data.iterdir(), key=lambda f: f.name)
            if f.name.endswith(".csv")
        },
        **facts,
    }


@lru_cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _versions() -> dict[str, str]:
    """Of every installed distribution that this process has imported."""
    imported = {name.partition(".")[0] for name in list(sys.modules)}
    names = {d for package in imported for d in _distributions().get(package, ())}
    return {name: metadata.version(name) for name in sorted(names, key=str.lower)}


@lru_cache
def _commit() -> str:
    """The checkout's commit, with "+changes" where tracked files differ from it; "unknown" outside
    a checkout.
    """
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        told = subprocess.run(
            ["git", "-C", str(here), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return told.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}+changes" if changed else commit


def _module() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).stem
