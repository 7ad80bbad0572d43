"""The benchmark commands run, and write what they say they write.

How fast anything is, is not tested.
"""

import json
import math
import subprocess
import sys

import pytest

from scripts import benchmark_table


def test_the_page_shows_the_kept_rows():
    text, kept = benchmark_table.PAGE.read_text(), json.loads(benchmark_table.KEPT.read_text())
    assert benchmark_table.page(text, kept["rows"]) == text, "run python -m scripts.benchmark_table"


def test_rows_are_judged():
    row = {
        "name": "x",
        "ratio": 2.0,
        "target": 2.0,
        "better": "lower",
        "spread": [1.5, 2500.0],
        "note": "",
    }
    assert benchmark_table.met(row)
    assert not benchmark_table.met({**row, "target": 1.9})
    assert benchmark_table.met({**row, "target": 1.9, "better": "higher"})
    assert not benchmark_table.met({**row, "target": 2.1, "better": "higher"})
    assert benchmark_table.met({**row, "ratio": None}) is None
    assert "| x | 2 | 1.5 to 2,500 | <= 2 | met |" in benchmark_table.table([row])


def test_the_median_of_runs_is_kept():
    def run(*ratios, **machine):
        rows = [{"name": f"row {k}", "ratio": x, "spread": [0, 9]} for k, x in enumerate(ratios)]
        return {"machine": machine, "command": "", "rows": rows}

    kept = benchmark_table.of_runs([run(3.0, 1.0), run(1.0, None), run(2.0, 1.0)])
    assert kept["runs"] == 3
    assert [row["ratio"] for row in kept["rows"]] == [2.0, None]
    assert [row["spread"] for row in kept["rows"]] == [[1.0, 3.0], None]
    with pytest.raises(ValueError, match="machines"):
        benchmark_table.of_runs([run(1.0), run(1.0, cpu="another")])
    with pytest.raises(ValueError):
        benchmark_table.of_runs([run(1.0), run(1.0, 2.0)])


def rows_of(tmp_path, *options):
    out = tmp_path / "speed.json"
    subprocess.run(
        [sys.executable, "-m", "scripts.benchmark_speed", "--quick", "--json", str(out), *options],
        check=True,
    )
    content = json.loads(out.read_text())
    assert {"machine", "command", "rows"} <= content.keys()
    for row in content["rows"]:
        assert {"name", "ratio", "target", "better", "spread"} <= row.keys()
        assert row["better"] in ("lower", "higher")
        assert row["ratio"] is None or (
            math.isfinite(row["ratio"]) and (row["ratio"] > 0 or "slope" in row["name"])
        )
        assert row["ratio"] is not None or row["note"], (
            f"{row['name']} was not measured, and nothing says why"
        )
    return {row["name"] for row in content["rows"]}


@pytest.mark.slow
def test_the_quick_benchmark(tmp_path):
    figure = tmp_path / "scaling.png"
    names = rows_of(tmp_path, "--figure", str(figure))
    for part in (
        "idle env",
        "C loop",
        "rps",
        "simple_spread",
        "CartPole",
        "VecEnv",
        "brute force",
        "enumeration",
        "sweep",
        "slope",
        "GPU",
    ):
        assert any(part in name for name in names), part
    assert figure.stat().st_size > 10_000


@pytest.mark.slow
def test_the_device_benchmark_runs_on_a_cpu(tmp_path):
    pytest.importorskip("torch")
    names = rows_of(tmp_path, "--device", "cpu:0")
    assert any("PPO samples/s" in name for name in names)
