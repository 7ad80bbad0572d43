"""The kept table: resumable, and its parts consistent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from baselines import run, variations
from baselines.interrupts import Interrupted
from baselines.suite import QUICK, RL_GAMES, SUITE, cells
from ttc_env.game.curves import BENCHMARKS, METHODS


@pytest.mark.slow
def test_quick_run_writes_table_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    arguments = ["--quick", "--quiet", "--cells", str(tmp_path / "cells"), "--out", str(tmp_path)]
    assert run.main(arguments) == 0
    text = (tmp_path / "README.md").read_text()
    assert "python -m baselines.run" in text
    assert "best_response" in text
    final = pd.read_csv(tmp_path / "results" / "final.csv")
    assert len(final) == sum(cell.entry.seeds for cell in cells(QUICK))
    assert (final[final.learner == "best_response"].relative_regret < 1e-6).all()
    # Cells that exist are not run again; one that is gone is.
    files = sorted((tmp_path / "cells").rglob("*.csv"))
    before = {f: f.stat().st_mtime_ns for f in files}
    files[0].unlink()
    assert run.main([*arguments, "--no-report"]) == 0
    assert all((f.stat().st_mtime_ns == before[f]) == (f != files[0]) for f in files)


def test_a_cell_gets_the_seeds_that_it_lacks(tmp_path: Path) -> None:
    cell = next(cells(QUICK[1:]))
    few, all_at_once = tmp_path / "few.csv", tmp_path / "all.csv"
    assert run.complete(cell, few, seeds=1).seed.unique().tolist() == [0]
    first = pd.read_csv(few)
    assert run.complete(cell, few, seeds=1) is None
    assert sorted(run.complete(cell, few, seeds=9).seed.unique()) == [0, 1]
    run.complete(cell, all_at_once, seeds=2)
    both, expected = (
        pd.read_csv(path).drop(columns="cpu_seconds").sort_values(["seed", "step"])
        for path in (few, all_at_once)
    )
    pd.testing.assert_frame_equal(both.reset_index(drop=True), expected.reset_index(drop=True))
    pd.testing.assert_frame_equal(first, pd.read_csv(few)[: len(first)])


def test_a_stopped_table_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(run, "complete", interrupted)
    assert run.main(["--quick", "--cells", str(tmp_path)]) == 128 + 15
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the same command goes on" in error


@pytest.mark.parametrize(
    "command, where",
    [
        (run.main, ["--quick", "--quiet", "--learners", "best_response", "--cells"]),
        (variations.main, ["--quick", "--only", "held_out", "--cells"]),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_one_line(
    command: Callable[[list[str]], int],
    where: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    assert command([*where, str(tmp_path / "file" / "cells")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_the_suite_covers_what_it_says() -> None:
    everything = list(cells(SUITE))
    assert len({cell.file for cell in everything}) == len(everything)
    assert {game[0] for game in RL_GAMES} == set(BENCHMARKS)
    assert {game[1] for game in RL_GAMES} == set(METHODS)
    for entry in SUITE:
        assert entry.seeds >= (5 if entry.family == "RL" else 10)


def test_filters_run_one_cell_and_gather_nothing(tmp_path: Path) -> None:
    one = ["--learners", "hedge", "--settings", "auction", "--games", "gsm8k/majority"]
    where = ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path)]
    assert run.main(["--quick", "--quiet", *one, *where]) == 0
    files = [p.relative_to(tmp_path / "cells") for p in (tmp_path / "cells").rglob("*.csv")]
    assert [str(f) for f in files] == ["hedge/auction-grid_gsm8k-majority_1000.csv"]
    assert not (tmp_path / "README.md").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--games", "gsm8k/magic"], "choose from gsm8k/majority"),
        (["--betas", "7"], "--betas: unknown: 7"),
        (["--learners", "q_learning", "--settings", "auction"], "no cell of the suite is left"),
    ],
)
def test_filters_that_fit_nothing_say_so(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run.main(arguments)
    assert message in capsys.readouterr().err


def test_unknown_learner_lists_those_of_the_suite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--learners", "wizard"])
    assert "best_response" in capsys.readouterr().err
