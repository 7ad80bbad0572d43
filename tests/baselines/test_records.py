"""Results on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from baselines.records import write_csv, write_rows
from scripts import train as train_script

QUICK = ["--steps", "60", "--seeds", "0..1", "--evaluations", "3", "--quiet"]


def test_rows_are_written_as_pandas_writes_them(tmp_path: Path) -> None:
    rows = [
        {"seed": 0, "step": 10, "nash_conv": 1.25e-17, "shading": float("nan")},
        {"seed": 1, "step": 20, "nash_conv": -1 / 3, "shading": 2.0},
    ]
    write_rows(tmp_path / "rows.csv", rows)
    write_csv(tmp_path / "table.csv", pd.DataFrame(rows))
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


def test_a_manifest_names_commit_and_versions(tmp_path: Path) -> None:
    assert train_script.main(["--learner", "ucb", *QUICK, "--out", str(tmp_path)]) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["commit"] == "unknown" or len(manifest["commit"].split("+")[0]) == 40
    assert {"numpy", "pandas", "gymnasium", "pettingzoo"} <= set(manifest["versions"])
