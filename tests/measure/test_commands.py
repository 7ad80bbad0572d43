"""The commands end to end on the fake backend: logic only. tests/measure/test_real_engine.py does
the same on vLLM.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("tqdm", reason="tqdm is not installed (extra `plot` or `measure`)")

ROOT = Path(__file__).parents[2]


def run(*arguments, expect=0):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == expect, done.stderr[-2000:]
    return done.stdout + done.stderr


BASE = [
    "scripts.measure_curves",
    "--backend",
    "fake",
    "--models",
    "x/weak",
    "x/strong",
    "--task",
    "chains",
    "--limit",
    "12",
]


def test_dry_run_prints_prompts_and_estimates_and_writes_nothing(tmp_path):
    out = tmp_path / "out"
    text = run(*BASE, "--samples", "8", "--out", out, "--dry-run")
    assert "7*9*9:" in text
    assert "always answering" in text
    assert f"at most {2 * 12 * 8 * 48:,} tokens" in text
    assert not out.exists()


def test_measure_estimate_and_load(tmp_path):
    text = run(*BASE, "--samples", "8", "--levels", "1,2,4,8", "--prices", "1,2", "--out", tmp_path)
    assert "tokens/s" in text
    traces = [tmp_path / "traces" / f"{name}--chains--n8-t1.jsonl" for name in ("weak", "strong")]
    run(*BASE, "--samples", "1", "--budgets", "1,2,4", "--prices", "1,2", "--out", tmp_path)
    frame = pd.read_csv(tmp_path / "chains-reasoning.csv")
    assert frame.level.tolist() == [1, 2, 4] * 2
    run(
        "scripts.estimate",
        *traces,
        "--levels",
        "1,2,4,8",
        "--prices",
        "1,2",
        "--out",
        tmp_path / "again",
    )
    for method in ("majority", "best_of_n"):
        assert (tmp_path / "again" / f"chains-{method}.csv").read_text() == (
            tmp_path / f"chains-{method}.csv"
        ).read_text()

    import ttc_env

    market = ttc_env.load_market(str(tmp_path / "chains-majority.csv"), alpha=1e-3)
    assert market.names == ("weak", "strong")
    assert market.num_levels == 4
    assert ttc_env.solve(market).lowest is not None


def test_a_file_without_prices_asks_for_them(tmp_path):
    run(*BASE, "--samples", "2", "--levels", "1,2", "--out", tmp_path)
    import ttc_env

    with pytest.raises(ValueError, match="price"):
        ttc_env.load_market(str(tmp_path / "chains-majority.csv"), alpha=1e-3)


def test_wrong_arguments_are_explained(tmp_path):
    assert "samples is 4" in run(
        *BASE, "--samples", "4", "--levels", "1,8", "--out", tmp_path, expect=2
    )
    assert "2 providers" in run(
        *BASE, "--samples", "4", "--prices", "1", "--out", tmp_path, expect=2
    )
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"qid": 1}) + "\n")
    assert "importers" in run("scripts.estimate", path, expect=2)


def test_measure_imports_without_its_extras():
    """`import ttc_env.measure` and all of its modules need none of the extra's packages."""
    code = (
        "import sys, pkgutil, importlib, ttc_env.measure\nblocked = ('torch', 'vllm',"
        " 'transformers', 'datasets', 'math_verify', 'reasoning_gym', 'tqdm')\nfor name in blocked:"
        " sys.modules[name] = None\nfor module in pkgutil.walk_packages(ttc_env.measure.__path__,"
        " 'ttc_env.measure.'): importlib.import_module(module.name)\nfrom ttc_env.measure.backends"
        " import make_backend\nfor backend in ('vllm', 'transformers'):\n    try:"
        " make_backend(backend, 'm')\n    except ImportError as error: assert 'pip install' in"
        " str(error), error\n    else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)
