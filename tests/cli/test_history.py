"""The command that writes the frontier's history, and what is kept of it."""

import csv
from pathlib import Path

import pytest

from ttc_env.cli import main
from ttc_env.cli._history import ASSUMPTIONS, sensitivity
from ttc_env.game.history import history

KEPT = Path(__file__).parents[2] / "baselines" / "frontier"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_tables_and_page(tmp_path):
    assert (
        main(["history", "--out", str(tmp_path), "--resamples", "1", "--no-figures", "--quiet"])
        == 0
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"history.csv", "winners.csv", "sensitivity.csv", "README.md"}
    # Without redrawing the numbers are the kept ones.
    for new, kept in zip(rows(tmp_path / "history.csv"), rows(KEPT / "history.csv"), strict=True):
        for column in ("benchmark", "date", "models", "leader", "winner", "winner_effort"):
            assert new[column] == kept[column]
        for column in ("price_of_anarchy", "welfare", "concentration", "overcompute_usd"):
            assert float(new[column]) == pytest.approx(float(kept[column]), rel=1e-5, abs=1e-9)
    page = (tmp_path / "README.md").read_text()
    assert "{" not in page
    assert "31% in May 2025" in " ".join(page.split())


def test_figures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from ttc_env.cli._history import details, headline

    points = {
        name: history(name, dates=["2025-02", "2025-05", "2026-06"], resamples=2)
        for name in ("arc_agi_1", "arc_agi_2")
    }
    for figure in (headline(points), details(points)):
        figure.savefig(tmp_path / "figure.png")
        assert all(axis.lines for axis in figure.axes)


def test_kept_bands_are_those_of_the_command():
    kept = {(r["benchmark"], r["date"]): r for r in rows(KEPT / "history.csv")}
    (point,) = history("arc_agi_2", dates=["2025-01-22"], resamples=200, seed=0)
    row = kept["arc_agi_2", "2025-01-22"]
    for name, (low, high) in point.bands.items():
        assert float(row[f"{name}_lo"]) == pytest.approx(low, rel=1e-5, abs=1e-9)
        assert float(row[f"{name}_hi"]) == pytest.approx(high, rel=1e-5, abs=1e-9)


def test_assumptions_are_changed_one_at_a_time():
    table = sensitivity(["2025-05"])
    assert [row["assumption"] for row in table] == list(ASSUMPTIONS)
    default = table[0]["arc_agi_2 2025-05"]
    assert default == pytest.approx(1.306, abs=1e-3)
    assert all(row["arc_agi_2 2025-05"] != default for row in table[1:])


def test_an_output_that_cannot_be_is_refused_before_anything_is_solved(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert main(["history", "--no-figures", "--out", str(tmp_path / "file")]) == 2
    out = capsys.readouterr()
    assert "File exists; name another file or folder" in out.err
    assert "dates" not in out.err  # no progress


@pytest.mark.parametrize("arguments", [["--resamples", "0"], ["--seed", "-1"]])
def test_bad_options_end_with_one_line(arguments, capsys):
    assert main(["history", *arguments]) == 2
    assert "must be at least" in capsys.readouterr().err
