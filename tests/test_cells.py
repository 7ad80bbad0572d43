"""Cells: each is computed once, by whomever; a killed worker loses the one it was at; numbers
depend on the cell alone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

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
    first: str = ""  # "killed", "fails"; or every time: "dead", "broken", "sleeps"

    @property
    def name(self):
        return f"square_{self.number}"

    def run(self):
        if self.folder:
            with open(f"{self.folder}/begun_{self.number}", "a") as stream:
                stream.write("x")
            again = Path(f"{self.folder}/begun_{self.number}").read_text() != "x"
            if self.first == "dead" or (self.first == "killed" and not again):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.first == "sleeps":
                time.sleep(60)
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


def test_a_cell_that_kills_every_worker_ends(tmp_path):
    """Not more workers begin again than there are cells, and the others' numbers are kept."""
    mine = [Square(k, str(tmp_path), "dead" if k == 0 else "") for k in range(2)]
    assert cells.run_local(mine, tmp_path / "out", workers=2) == 1
    assert [cell.number for cell in missing(mine, tmp_path / "out")] == [0]
    tried = begun(tmp_path)
    assert tried[1] == 1
    assert 2 <= tried[0] <= 4
    assert not list((tmp_path / "out/claims").glob("*"))


def test_a_stopped_program_leaves_no_worker_and_no_claim(tmp_path, monkeypatch):
    mine = [Square(0, str(tmp_path), "sleeps"), Square(1, str(tmp_path), "killed")]
    pids = []

    def stop(line):
        while begun(tmp_path) != {0: 1, 1: 1}:  # the other one is at its cell
            time.sleep(0.01)
        pids.extend(
            int(claim.read_text().split()[1])
            for claim in (tmp_path / "out/claims").glob("square_0")
        )
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "to_stderr", stop)
    with pytest.raises(KeyboardInterrupt):
        cells.run_local(mine, tmp_path / "out", workers=2)
    assert not list((tmp_path / "out/claims").glob("*"))
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_workers_count_with_one_thread_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    with cells._one_thread():
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.environ["MKL_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "3"


def abandoned(tmp_path):
    claim = tmp_path / "claims/square_1"
    claim.parent.mkdir()
    claim.write_text("elsewhere 1")
    os.utime(claim, (0, 0))
    return claim


def test_of_two_that_find_a_cell_abandoned_one_takes_it(tmp_path, monkeypatch):
    """The quicker one has moved the claim away."""
    claim = abandoned(tmp_path)
    rename = Path.rename

    def late(path, target):
        rename(path, tmp_path / "theirs")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    with cells._claimed(tmp_path, Square(1), 10.0, "mine") as taken:
        assert not taken
    assert not claim.exists()


def test_a_claim_that_was_renewed_meanwhile_is_given_back(tmp_path, monkeypatch):
    claim = abandoned(tmp_path)
    rename = Path.rename

    def renewed(path, target):
        path.write_text("another 2")  # a claim of this moment, and not the one looked at
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renewed)
    with cells._claimed(tmp_path, Square(1), 10.0, "mine") as taken:
        assert not taken
    assert claim.read_text() == "another 2"
    assert [path.name for path in claim.parent.iterdir()] == ["square_1"]


@pytest.mark.parametrize("theirs", [None, "another 2"])
def test_who_was_taken_for_dead_leaves_the_others_claim_alone(tmp_path, theirs):
    claim = tmp_path / "claims/square_1"
    with cells._claimed(tmp_path, Square(1), 0.06, "mine") as taken:
        assert taken
        assert claim.read_text() == "mine"
        claim.unlink()
        if theirs is not None:
            claim.write_text(theirs)
        time.sleep(0.1)  # some signs of life
    assert claim.exists() == (theirs is not None)


def test_only_what_a_dead_process_held_is_freed(tmp_path):
    folder = tmp_path / "claims"
    folder.mkdir()
    for name, owner in (("a", cells._process(7)), ("b", cells._process(77)), ("c", "elsewhere 7")):
        (folder / name).write_text(f"{owner} 123")
    cells._release(tmp_path, 7)
    assert sorted(path.name for path in folder.iterdir()) == ["b", "c"]


class Executor:
    """submitit's, which runs a job at once."""

    def __init__(self, folder, cluster):
        self.told, self.jobs = {"folder": folder, "cluster": cluster}, []
        type(self).last = self

    def update_parameters(self, **options):
        self.told |= options

    @contextmanager
    def batch(self):
        yield

    def submit(self, function, *given, **options):
        self.jobs.append(options)
        return function(*given, **options, say=silent)


def test_submitit_gets_every_part_as_a_job(tmp_path, monkeypatch):
    """With a stand-in; the slow test below has submitit itself."""
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Executor))
    mine, out = [Square(k, str(tmp_path)) for k in range(4)], tmp_path / "out"
    options = {"timeout_min": 5}
    assert cells.run_submitit(mine, out, jobs=2, options=options, cluster="slurm") == [0, 0]
    assert Executor.last.told == {"folder": out / "submitit", "cluster": "slurm", **options}
    assert [job["shard"] for job in Executor.last.jobs] == [(1, 2), (2, 2)]
    assert begun(tmp_path) == dict.fromkeys(range(4), 1)


class Ray:
    """Ray, which runs a task at once; the task of `lost` ends with its worker."""

    exceptions = SimpleNamespace(RayError=ConnectionError)

    def __init__(self, lost=(), running=False):
        self.lost, self.running, self.told = lost, running, {}

    def is_initialized(self):
        return self.running

    def init(self, **told):
        self.running, self.told = True, told

    def shutdown(self):
        self.running = False

    def get_runtime_context(self):
        return SimpleNamespace(get_job_id=lambda: "01")

    def remote(self, max_retries):
        assert max_retries == 3
        return lambda work: SimpleNamespace(remote=lambda *x, **y: (work, x, y))

    def get(self, task):
        work, given, options = task
        if given[0][0].number in self.lost:
            raise ConnectionError("its worker died")
        return work(*given, **options, say=silent)


def test_ray_gets_what_is_missing_and_is_left_as_it_was(tmp_path, monkeypatch):
    """With a stand-in; the slow test below has Ray itself."""
    mine, out = [Square(k, str(tmp_path)) for k in range(4)], tmp_path / "out"
    assert work(mine[:1], out, say=silent) == 0
    told = []
    monkeypatch.setattr(cells, "to_stderr", told.append)
    for running in (False, True):
        ray = Ray(lost=[3], running=running)
        monkeypatch.setitem(sys.modules, "ray", ray)
        assert cells.run_ray(mine, out, address="local", workers=2) == 1
        assert ray.running == running  # one's own is shut down, another's is not
        assert ray.told.get("num_cpus") == (None if running else 2)
    assert told == ["a task ended: its worker died"] * 2
    assert begun(tmp_path) == dict.fromkeys(range(3), 1)
    monkeypatch.setitem(sys.modules, "ray", Ray())
    assert cells.run_ray(mine, out, address="auto") == 0
    assert not missing(mine, out)


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
