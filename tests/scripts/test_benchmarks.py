"""The benchmark commands run, and write what they say they write. How fast anything is, is not tested."""

import json
import math
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def rows_of(tmp_path, *options):
    out = tmp_path / "speed.json"
    subprocess.run([sys.executable, "-m", "scripts.benchmark_speed", "--quick", "--json", str(out), *options], check=True)
    content = json.loads(out.read_text())
    assert {"machine", "command", "rows"} <= content.keys()
    for row in content["rows"]:
        assert {"name", "ratio", "target", "better", "spread"} <= row.keys()
        assert row["better"] in ("lower", "higher")
        assert row["ratio"] is None or (math.isfinite(row["ratio"]) and (row["ratio"] > 0 or "slope" in row["name"]))
        assert row["ratio"] is not None or row["note"], f"{row['name']} was not measured, and nothing says why"
    return {row["name"] for row in content["rows"]}


def test_the_quick_benchmark(tmp_path):
    figure = tmp_path / "scaling.png"
    names = rows_of(tmp_path, "--figure", str(figure))
    for part in ("idle env", "C loop", "rps", "simple_spread", "CartPole", "brute force", "enumeration", "sweep", "slope", "GPU"):
        assert any(part in name for name in names), part
    assert figure.stat().st_size > 10_000


def test_the_device_benchmark_runs_on_a_cpu(tmp_path):
    pytest.importorskip("torch")
    names = rows_of(tmp_path, "--device", "cpu:0")
    assert any("PPO samples/s" in name for name in names)
