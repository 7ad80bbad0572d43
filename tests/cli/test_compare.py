"""ttc-env compare: what it writes and prints, and what it refuses."""

import csv

import pytest

from tests.cli.test_cli import call
from ttc_env.cli import _compare
from ttc_env.game.comparison import COLUMNS

SMALL = ("--method", "reasoning", "--beta", 1000, "--quiet")


def test_table_and_figure(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "c"
    rules = ("--mechanisms", "market,two_part,auction")
    code, text, _ = call(
        capsys, "compare", "gsm8k", *SMALL[:-1], *rules, "--resamples", 3, "--out", out
    )
    assert code == 0
    assert "second-score auction with reserve" in text
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert {(r["mechanism"], r["prices"]) for r in rows} == {
        ("market", "neutral"),
        ("market", "markups"),
        ("two_part", "neutral"),
        ("two_part", "markups"),
        ("auction", "markups"),
    }
    for row in rows:
        assert float(row["welfare_low"]) <= float(row["welfare"]) <= float(row["welfare_high"])
    pytest.importorskip("matplotlib")
    assert (out / "comparison.png").stat().st_size > 10_000


def test_rules_that_come_to_the_same_share_a_bar():
    parts = dict.fromkeys(_compare.PARTS, 1.0)

    def row(mechanism, prices="neutral", **changes):
        keys = {"mechanism": mechanism, "options": "", "prices": prices, "played_by": "equilibrium"}
        return {**keys, "reading": "without tastes", "first_best": 5.0, **parts, **changes}

    one = [
        row("market"),
        row("flat_fee"),
        row("two_part", user_value=2.0),
        row("market", "markups"),
    ]
    two = [row("market"), row("flat_fee"), row("two_part"), row("market", "markups")]
    neutral, free = "neutral", "markups"
    assert _compare.groups({"a": one, "b": two}) == [
        [(neutral, "market", ""), (neutral, "flat_fee", "")],
        [(neutral, "two_part", "")],
        [(free, "market", "")],
    ]
    assert len(_compare.groups({"b": two})) == 2


def test_an_output_that_cannot_be_is_refused_before_anything_is_solved(
    tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("kept")
    solved = []
    monkeypatch.setattr("ttc_env.compare", lambda *_, **__: solved.append(1))
    code, _, error = call(
        capsys, "compare", "gsm8k", *SMALL, "--no-figure", "--out", tmp_path / "file"
    )
    assert (code, solved) == (2, [])
    assert "File exists; name another file or folder" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mechanisms", "lottery"], "unknown"),
        (["--resamples", -1], "at least 0"),
        (["--mechanisms", "per_character"], "characters"),
        (["--margin", 0], "margin"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, tmp_path, capsys):
    code, _, error = call(
        capsys, "compare", "gsm8k", *SMALL, "--no-figure", "--out", tmp_path, *arguments
    )
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
