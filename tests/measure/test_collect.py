"""One trace drawn side by side: scoring overlaps generation, single questions without a barrier,
and an interrupted run that ends soon.
"""

import threading
import time

import pytest

from ttc_env.measure.backends.base import Sampling
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import Parallel
from ttc_env.measure.scoring import Verdict
from ttc_env.measure.tasks import load_task
from ttc_env.measure.traces import read_trace

DIAL = Parallel(Sampling(n=2, max_tokens=48))


def quiet(_):
    pass


class Pool:
    """Stands for the checking processes: everything is right, after `wait` seconds."""

    def __init__(self, wait=0.0, fail_at=None):
        self.wait, self.fail_at, self.checked = wait, fail_at, 0

    def run(self, jobs):
        time.sleep(self.wait)
        self.checked += 1
        if self.checked == self.fail_at:
            raise RuntimeError("the checking broke")
        return [Verdict("1", True) for _ in jobs]


def test_checking_overlaps_generation(tmp_path):
    """While a batch is drawn, the one before is checked: the two are seen at work together."""
    together = []

    class Slow(FakeBackend):
        def generate(self, *arguments):
            before = pool.checked
            time.sleep(0.2)
            together.append(pool.checked > before)
            return super().generate(*arguments)

    pool = Pool(wait=0.02)
    collect(load_task("chains", limit=20), Slow(), DIAL, tmp_path / "t.jsonl", batch=4, pool=pool)
    assert sum(together) >= 3
    assert len(read_trace(tmp_path / "t.jsonl").records) == 20


def test_a_slow_question_holds_up_nobody(tmp_path):
    """A server gets question by question: the slowest does not keep a batch from ending."""
    task = load_task("chains", limit=12)
    first = task.questions[0].prompt
    released = threading.Event()
    order = []

    class Server(FakeBackend):
        def lanes(self, n):
            return 3

        def generate(self, prompts, sampling, seeds):
            if prompts[0] == first:
                released.wait(20)
            order.append(prompts[0])
            if len(order) == 11:
                released.set()
            return super().generate(prompts, sampling, seeds)

    collect(task, Server(), DIAL, tmp_path / "t.jsonl", batch=3, pool=Pool())
    assert order[-1] == first  # all the others were answered while it waited
    collect(task, FakeBackend(), DIAL, tmp_path / "alone.jsonl", pool=Pool())
    alone = read_trace(tmp_path / "alone.jsonl").records
    assert read_trace(tmp_path / "t.jsonl").records == alone  # the same samples, by whatever way


def test_what_breaks_the_checking_is_raised(tmp_path):
    task = load_task("chains", limit=20)
    with pytest.raises(RuntimeError, match="the checking broke"):
        collect(task, FakeBackend(), DIAL, tmp_path / "t.jsonl", batch=2, pool=Pool(fail_at=5))
    assert len(read_trace(tmp_path / "t.jsonl").records) == 4


def test_a_lane_that_fails_is_told(tmp_path):
    class Broken(FakeBackend):
        def lanes(self, n):
            return 2

        def generate(self, prompts, sampling, seeds):
            raise RuntimeError("no such model")

    with pytest.raises(RuntimeError, match="no such model"):
        collect(load_task("chains", limit=5), Broken(), DIAL, tmp_path / "t.jsonl", pool=Pool())


def test_an_interrupted_run_does_not_wait_for_checks_that_hang(tmp_path, monkeypatch):
    monkeypatch.setattr("ttc_env.measure.collect.STORE_PATIENCE", 0.3)
    task = load_task("chains", limit=60)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        collect(
            task, FakeBackend(interrupt_after=2), DIAL, tmp_path / "t.jsonl", batch=20,
            pool=Pool(wait=0.5),
        )  # fmt: skip
    assert time.monotonic() - began < 10  # 20 seconds of checking were waiting
    assert len(read_trace(tmp_path / "t.jsonl").records) >= 1


def test_places_draw_what_the_whole_run_would(tmp_path):
    task = load_task("chains", limit=12)
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    collect(task, FakeBackend(), DIAL, whole, pool=Pool(), warn=quiet)
    ids = [q.id for q in task.questions]
    result = collect(task, FakeBackend(), DIAL, part, pool=Pool(), places=[3, 5, 7], known=[ids[5]])
    assert (result.done, result.total, result.drawn) == (3, 3, 2)
    assert read_trace(part).records == {
        i: r for i, r in read_trace(whole).records.items() if i in (ids[3], ids[7])
    }


def test_weights_are_hashed_once_until_they_change(tmp_path, monkeypatch):
    """The hash is asked for with every trace, and takes a minute for a large model."""
    from ttc_env.measure.backends import base

    calls = []
    once = base._weights_hash
    monkeypatch.setattr(base, "_weights_hash", lambda files: calls.append(1) or once(files))
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    first = [base.weights_hash(tmp_path) for _ in range(3)]
    assert len(set(first)) == 1
    assert len(calls) == 1
    file.write_bytes(b"other weights")
    assert base.weights_hash(tmp_path) != first[0]
    assert base.weights_hash(tmp_path / "nowhere") is None
