"""The explorer is built from pinned parts, and carries the package's own solver."""

import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile

import pytest

from scripts import build_explorer
from scripts.build_explorer import check_lock, fetch, pinned, solver

NUMPY = "numpy-2.0.2-cp312-cp312-pyodide_2024_0_wasm32.whl"


def stand_ins():
    """Parts that are not the real ones, but for the lock's sense."""
    names = {**pinned()["npm"]["files"], **pinned()["pypi"]["files"]}
    parts = {name: name.encode() for name in names}
    numpy = {"file_name": NUMPY, "sha256": hashlib.sha256(parts[NUMPY]).hexdigest()}
    lock = {"info": {}, "packages": {"numpy": numpy, "scipy": {}}}
    parts["pyodide-lock.json"] = json.dumps(lock).encode()
    return parts


def test_numpy_is_pinned_by_the_hash_that_the_runtimes_lock_must_name():
    parts = stand_ins()
    check_lock(parts)
    parts[NUMPY] = b"another"
    with pytest.raises(ValueError, match="SHA-256"):
        check_lock(parts)


def test_a_part_with_another_hash_is_refused(tmp_path):
    for name, content in stand_ins().items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"pyodide\.js has the SHA-256"):
        fetch(tmp_path)


def test_missing_npm_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="install Node"):
        fetch(tmp_path / "parts")


def test_the_page_carries_every_part_and_what_it_was_made_from():
    parts = stand_ins()
    page = build_explorer.build(parts)
    assert "@@" not in page
    carried = dict(re.findall(r'data-part-of-engine="([^"]+)">([^<]+)</script>', page))
    content = {
        name.removesuffix(".gz"): gzip.decompress(raw) if name.endswith(".gz") else raw
        for name, raw in ((name, base64.b64decode(text)) for name, text in carried.items())
    }
    assert content.keys() == {*parts, "ttc_env.zip"}
    assert content["pyodide.asm.wasm"] == parts["pyodide.asm.wasm"]
    assert content["ttc_env.zip"] == solver()
    assert list(json.loads(content["pyodide-lock.json"])["packages"]) == ["numpy"]
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_the_packed_solver_needs_numpy_alone(tmp_path):
    assert solver() == solver()
    with zipfile.ZipFile(io.BytesIO(solver())) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys, json\n"
        "for name in ('pandas', 'scipy', 'gymnasium', 'pettingzoo', 'numba', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from ttc_env.report.facts import explore\n"
        "import ttc_env; assert ttc_env.__file__.startswith(sys.argv[1])\n"
        "print(json.dumps(explore({'beta': 200.0})['equilibrium']['welfare']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    import ttc_env

    assert float(done.stdout) == ttc_env.solve(ttc_env.load_market("gsm8k", beta=200.0)).welfare
