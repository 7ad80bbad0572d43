"""Cells: each is computed once, by whomever; a killed worker loses the one it was at; numbers
depend on the cell alone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from ttc_env import cells
from ttc_env.cells import file_of, gather, missing, read, work

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Square:
    """A cell that counts how often it was begun, and may fail or be killed the first time."""

    number: int
    folder: str = ""
    first: str = ""  # "killed", "fails", or "broken": every time

    @property
    def name(self):
        return f"square_{self.number}"

    def run(self):
        if self.folder:
            with open(f"{self.folder}/begun_{self.number}", "a") as stream:
                stream.write("x")
            again = Path(f"{self.folder}/begun_{self.number}").read_text() != "x"
            if self.first == "killed" and not again:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.first == "broken" or (self.first == "fails" and not again):
                raise ValueError("the first time")
        return [{"number": self.number, "square": self.number**2, "even": self.number % 2 == 0}]


def silent(line):
    pass


def begun(folder):
    return {int(path.name[6:]): len(path.read_text()) for path in folder.glob("begun_*")}


def test_what_is_there_is_not_computed_again(tmp_path):
    mine = [Square(k, str(tmp_path)) for k in range(5)]
    assert work(mine[:2], tmp_path / "out", say=silent) == 0
    assert [cell.number for cell in missing(mine, tmp_path / "out")] == [2, 3, 4]
    assert gather(mine, tmp_path / "out") is None
    assert len(read(mine, tmp_path / "out")) == 2
    assert work(mine, tmp_path / "out", shard=(2, 3), say=silent) == 0
    assert begun(tmp_path) == dict.fromkeys(range(5), 1)
    path = gather(mine, tmp_path / "out")
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    assert table["square"].tolist() == [0, 1, 4, 9, 16]
    assert table["even"].tolist() == [True, False, True, False, True]
    assert not list((tmp_path / "out/claims").iterdir())


def test_a_shard_begins_with_its_own_part(tmp_path):
    told = []
    work([Square(k) for k in range(6)], tmp_path, shard=(2, 3), say=told.append)
    assert [line.split(":")[0][7:] for line in told] == ["1", "4", "0", "2", "3", "5"]


def test_a_claim_keeps_others_away_until_its_owner_is_silent(tmp_path):
    claim = tmp_path / "claims/square_1"
    claim.parent.mkdir()
    claim.write_text("elsewhere 1")
    mine = [Square(k) for k in range(3)]
    assert work(mine, tmp_path, say=silent) == 0
    assert [cell.number for cell in missing(mine, tmp_path)] == [1]
    assert claim.read_text() == "elsewhere 1"
    os.utime(claim, (0, time.time() - 200))
    assert work(mine, tmp_path, say=silent) == 0
    assert not missing(mine, tmp_path)


def test_a_worker_shows_that_it_lives(tmp_path):
    """It touches its claim, and so keeps a cell that takes longer than the patience of others."""

    class Slow(Square):
        def run(self):
            claim = tmp_path / "claims/square_7"
            os.utime(claim, (0, 0))
            while claim.stat().st_mtime == 0:
                time.sleep(0.01)
            assert work([Square(7)], tmp_path, say=silent) == 0
            assert missing([Square(7)], tmp_path)
            return super().run()

    assert work([Slow(7)], tmp_path, patience=0.3, say=silent) == 0
    assert not missing([Square(7)], tmp_path)


def test_an_error_is_kept_and_tried_again(tmp_path):
    mine = [Square(k, str(tmp_path), "fails" if k == 1 else "") for k in range(3)]
    told = []
    assert work(mine, tmp_path, say=told.append) == 1
    assert any("square_1: ValueError: the first time" in line for line in told)
    assert "Traceback" in (tmp_path / "failed/square_1.txt").read_text()
    assert work(mine, tmp_path, say=silent) == 0
    assert not (tmp_path / "failed/square_1.txt").exists()


def test_a_killed_worker_loses_one_cell(tmp_path):
    mine = [Square(k, str(tmp_path), "killed" if k == 2 else "") for k in range(6)]
    assert cells.run_local(mine, tmp_path / "out", workers=2) == 0
    assert not missing(mine, tmp_path / "out")
    assert begun(tmp_path) == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1}


def test_workers_count_what_failed(tmp_path):
    mine = [Square(k, str(tmp_path), "broken" if k < 2 else "") for k in range(4)]
    assert cells.run_local(mine, tmp_path / "out", workers=2) == 2
    assert [cell.number for cell in missing(mine, tmp_path / "out")] == [0, 1]


SHARD = """
import sys
from pathlib import Path
from tests.test_cells import Square, silent
from ttc_env.cells import work
folder, i = sys.argv[1], int(sys.argv[2])
cells = [Square(k, folder) for k in range(40)]
sys.exit(work(cells, Path(folder) / "out", shard=(i, 3), say=silent))
"""


def test_programs_at_the_same_time_compute_every_cell_once(tmp_path):
    run = [sys.executable, "-c", SHARD, str(tmp_path)]
    shards = [subprocess.Popen([*run, str(i)], cwd=ROOT) for i in (1, 2, 3)]
    assert [shard.wait() for shard in shards] == [0, 0, 0]
    assert begun(tmp_path) == dict.fromkeys(range(40), 1)


def test_a_killed_program_leaves_whole_files_or_none(tmp_path):
    run = [sys.executable, "-c", SHARD, str(tmp_path), "1"]
    shard = subprocess.Popen(run, cwd=ROOT)
    while not list((tmp_path / "out/cells").glob("*.json")):
        time.sleep(0.01)
    shard.kill()
    shard.wait()
    for path in (tmp_path / "out/cells").glob("*.json"):
        json.loads(path.read_text())
    mine = [Square(k, str(tmp_path)) for k in range(40)]
    assert work(mine, tmp_path / "out", patience=0.0, say=silent) == 0
    assert sorted(begun(tmp_path).values()) in ([1] * 40, [1] * 39 + [2])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_submitit_runs_jobs(tmp_path):
    pytest.importorskip("submitit", reason="pip install 'ttc-env[submitit]'")
    mine = [Square(k, str(tmp_path)) for k in range(4)]
    jobs = cells.run_submitit(mine, tmp_path / "out", jobs=2, cluster="local")
    assert [job.result() for job in jobs] == [0, 0]
    assert begun(tmp_path) == dict.fromkeys(range(4), 1)
    assert not missing(mine, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_ray_runs_cells_and_starts_a_killed_one_again(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="pip install ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    mine = [Square(k, str(tmp_path), "killed" if k == 2 else "") for k in range(5)]
    assert cells.run_ray(mine, tmp_path / "out", address="local", workers=2) == 0
    assert begun(tmp_path) == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}
    assert file_of(tmp_path / "out", mine[2]).exists()


def test_a_missing_engine_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ImportError, match="pip install ray"):
        cells.run_ray([], tmp_path, address="local")
    with pytest.raises(ImportError, match=r"ttc-env\[submitit\]"):
        cells.run_submitit([], tmp_path, jobs=1)


def test_an_owner_takes_up_its_own_claim(tmp_path):
    """As Ray's tasks do, which are started again under the same name."""
    claim = tmp_path / "claims/square_1"
    claim.parent.mkdir()
    claim.write_text("ray job square_1")
    assert work([Square(1)], tmp_path, say=silent, owner="ray job square_2") == 0
    assert missing([Square(1)], tmp_path)
    assert work([Square(1)], tmp_path, say=silent, owner="ray job square_1") == 0
    assert not missing([Square(1)], tmp_path)
    assert not claim.exists()


@pytest.mark.parametrize("content", [b"", b'[{"a"', b"{}", b"[1]", b"\xff"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, content):
    """A file without rows left them out of the table without a word."""
    mine = [Square(k) for k in range(2)]
    assert work(mine, tmp_path, say=silent) == 0
    path = tmp_path / "cells/square_1.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"square_1\.json is damaged.*; delete it"):
        gather(mine, tmp_path)
    path.unlink()
    assert work(mine, tmp_path, say=silent) == 0
    assert gather(mine, tmp_path) is not None
