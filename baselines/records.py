"""Results on disk: written whole or not at all, with a manifest that says how to get them again."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pandas as pd


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one move, so that a
    killed run leaves the old file or the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    write_atomically(
        path, lambda temporary: table.to_csv(temporary, index=False, lineterminator="\n")
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(
        path,
        lambda temporary: temporary.write_text(
            json.dumps(content, indent=1, sort_keys=True) + "\n"
        ),
    )


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text))


def manifest(**facts: Any) -> dict[str, Any]:
    """Versions, data hashes, platform and command of a run; `facts` adds its own (seeds,
    options).
    """
    data = resources.files("ttc_env") / "data"
    versions = {}
    for name in (
        "ttc-env",
        "numpy",
        "pandas",
        "scipy",
        "gymnasium",
        "pettingzoo",
        "matplotlib",
        "torch",
        "stable-baselines3",
    ):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "data_sha256": {
            f.name: hashlib.sha256(f.read_bytes()).hexdigest()
            for f in sorted(data.iterdir(), key=lambda f: f.name)
            if f.name.endswith(".csv")
        },
        **facts,
    }


def _module() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).stem
