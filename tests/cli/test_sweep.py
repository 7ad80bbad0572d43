"""Sweeps: the table is what each game's own solution says, whoever computes it."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

import ttc_env
from tests.cli.test_cli import call
from ttc_env import cli, settings
from ttc_env.cli.sweep import EXAMPLE, SweepConfig

SMALL = """
benchmarks = ["gsm8k/majority", "curves.csv"]
mechanisms = ["market", "auction"]
betas = [200, 1e5]
alpha = 0.01
out = "swept"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.toml").write_text(SMALL)
    rows = ["provider,level,accuracy,tokens,price_per_token,margin"]
    rows += [f"{p},{k},{0.5 + 0.1 * k},{100 * k},1e-6,0.25" for p in "ab" for k in (1, 2, 3)]
    (tmp_path / "curves.csv").write_text("\n".join(rows))
    return tmp_path


def table(folder, name="swept"):
    path = folder / name / "table.parquet"
    if path.exists():
        return pd.read_parquet(path)
    return pd.read_csv(folder / name / "table.csv")


def test_the_table_is_every_games_own_solution(folder, capsys):
    code, out, err = call(capsys, "sweep", "sweep.toml")
    assert code == 0, err
    assert "swept/table." in out
    found = table(folder)
    assert len(found) == 8
    for row in found.to_dict("records"):
        method = None if row["benchmark"].endswith(".csv") else row["method"]
        market = ttc_env.load_market(row["benchmark"], method, beta=row["beta"], alpha=0.01)
        solution = ttc_env.solve(market, row["mechanism"])
        np.testing.assert_allclose(row["welfare"], solution.welfare, rtol=1e-9)
        if row["mechanism"] == "market":
            assert row["lowest"].split() == [str(a) for a in solution.lowest]
            np.testing.assert_allclose(row["price_of_anarchy"], solution.price_of_anarchy)
    # again, with one game more: what is there stays
    cells = folder / "swept/cells"
    kept = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    (folder / "sweep.toml").write_text(SMALL.replace("200, 1e5", "200, 1e5, 1e3"))
    assert call(capsys, "sweep", "sweep.toml", "--dry-run")[1].count("beta") == 0
    code, out, err = call(capsys, "sweep", "sweep.toml")
    assert code == 0
    assert len(list(cells.iterdir())) == 12
    assert {name: (cells / name).stat().st_mtime_ns for name in kept} == kept
    # another curve file under the same name is another game
    (folder / "curves.csv").write_text((folder / "curves.csv").read_text().replace("0.7", "0.75"))
    out = call(capsys, "sweep", "sweep.toml", "--dry-run")[1]
    assert "6 of 12 cells are missing" in out


def test_shards_and_processes_write_the_same_bytes(folder, capsys):
    for i in (2, 1):
        assert call(capsys, "sweep", "sweep.toml", "--shard", f"{i}/2", "--out", "a")[0] == 0
    assert call(capsys, "sweep", "sweep.toml", "--workers", 2, "--out", "b")[0] == 0
    first, second = (
        {path.name: path.read_bytes() for path in (folder / name / "cells").iterdir()}
        for name in "ab"
    )
    assert first == second
    pd.testing.assert_frame_equal(table(folder, "a"), table(folder, "b"))


def test_options_stand_above_the_file(folder, capsys):
    assert call(capsys, "sweep", "sweep.toml", "--betas", "7", "--show")[1] == (
        "# ttc-env sweep --benchmarks gsm8k/majority,curves.csv --mechanisms market,auction"
        " --betas 7.0 --alpha 0.01 --out swept\n"
        'benchmarks = ["gsm8k/majority", "curves.csv"]\nmechanisms = ["market", "auction"]\n'
        'betas = [7.0]\nalpha = 0.01\nout = "swept"\n'
    )
    assert call(capsys, "sweep", "--benchmarks", "gsm8k", "--betas", "7,8")[0] == 0
    assert table(folder, "results/sweep")["beta"].tolist() == [7.0, 8.0]


def test_duckdb_reads_the_table(folder, capsys):
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    call(capsys, "sweep", "sweep.toml")
    query = "select count(*) from 'swept/table.parquet' where mechanism = 'auction'"
    assert duckdb.sql(query).fetchall() == [(4,)]


def test_without_pyarrow_the_table_is_a_csv(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "swept/table.csv" in call(capsys, "sweep", "sweep.toml")[1]
    assert (folder / "swept/table.csv").read_text().count("\n") == 9


def test_the_example_can_be_run_as_it_is(tmp_path, capsys):
    assert call(capsys, "sweep", "--example")[1] == EXAMPLE
    (tmp_path / "sweep.toml").write_text(EXAMPLE)
    config = settings.load(SweepConfig, tmp_path / "sweep.toml")
    assert len(config.games()) == 18
    assert len({game.name for game in config.games()}) == 18
    assert all(json.loads(json.dumps(game.key)) == game.key for game in config.games())


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["--betas", "1,x"], SMALL, "--betas: invalid list of float value"),
        (["sweep.toml"], "betas = []", "give at least one entry"),
        (["sweep.toml"], "beta = [1]", "'beta' is unknown; choose among alpha"),
        (["sweep.toml"], "betas = [nan]", "betas has nan; give finite numbers"),
        (["sweep.toml"], "betas = [1, -1]", "betas has -1.0; give finite numbers"),
        (["sweep.toml"], f"betas = [{'9' * 400}]", "expected a list of float"),
        (["sweep.toml"], "alpha = inf", "alpha is inf; it must be a positive number"),
        (["sweep.toml"], "providers = []", "name at least one"),
        (["sweep.toml", "--patience", "nan"], SMALL, "must be positive"),
        (["sweep.toml"], 'betas = ["x"]', r"betas is \['x'\]"),
        (["sweep.toml"], 'mechanisms = ["lottery"]', "lottery"),
        (["sweep.toml"], 'learners = ["hedge"]', r"python -m scripts\.sweep sweep\.toml"),
        (["sweep.toml"], "betas = [", "is no TOML file"),
        (["sweep.toml", "--shard", "4/3"], SMALL, "give I/N"),
        (["sweep.toml", "--shard", "1/3", "--ray", "local"], SMALL, "exclude each other"),
        (["sweep.toml", "--workers", "0"], SMALL, "must be positive"),
        (["missing.toml"], SMALL, "missing.toml"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, text, message):
    (folder / "sweep.toml").write_text(text)
    code, _, err = call(capsys, "sweep", *arguments)
    assert code == cli.USER_ERROR
    assert err.count("\n") == 1
    assert re.search(message, err), err


def test_a_game_that_fails_is_named_and_the_others_go_on(folder, capsys):
    (folder / "sweep.toml").write_text('benchmarks = ["gsm8k", "gsm9k"]\nout = "swept"')
    code, _, err = call(capsys, "sweep", "sweep.toml")
    assert code == cli.USER_ERROR
    assert "1 of 2 cells failed" in err
    assert len(list((folder / "swept/cells").iterdir())) == 1
    (failure,) = (folder / "swept/failed").iterdir()
    assert "gsm9k" in failure.read_text()


def test_a_curve_file_is_known_by_its_name_in_capitals_too(folder, capsys):
    """Its content is part of a cell's name, so that a changed file is solved again."""
    path = folder / "CURVES.CSV"
    row = "provider,level,accuracy,tokens,price_per_token\na,1,{},100,1e-6\n"
    names = []
    for accuracy in (0.5, 0.6):
        path.write_text(row.format(accuracy))
        arguments = ["--benchmarks", path, "--alpha", "0.01", "--out", "swept", "--dry-run"]
        code, out, _ = call(capsys, "sweep", *arguments)
        assert code == 0
        names.append(out)
    assert names[0] != names[1]
    assert call(capsys, "sweep", *arguments[:-1])[0] == 0


def test_a_long_name_is_cut_and_the_others_go_on(folder, capsys):
    code, _, err = call(capsys, "sweep", "--benchmarks", f"gsm8k,{'x' * 400}", "--out", "swept")
    assert code == cli.USER_ERROR
    assert "1 of 2 cells failed" in err
    assert len(list((folder / "swept/cells").iterdir())) == 1
