"""One trace drawn side by side: scoring overlaps generation, single questions without a barrier,
and an interrupted run that ends soon.
"""

import threading
import time

import pytest

from ttc_env.measure.backends.base import OneByOne, Sampling, gather
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import Closing, CoupledBudgets, Parallel, ThinkingBudget
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


class Engine(FakeBackend):
    """A stream with seats for 8 samples, as vLLM has: each moment one token is written in each
    seat, and a seat is taken again as soon as its text has ended. Counts empty seats.
    """

    SEATS = 8

    def __init__(self, **options):
        super().__init__(**options)
        self._seats, self._waiting, self._rows = [], [], {}
        self.idle, self.under_way, self.tickets, self.abandoned = [], 0, 0, False

    def lanes(self, n):
        return 2 * self.SEATS // n

    def submit(self, request):
        self.tickets += 1
        samples = super().generate(request.prompts, request.sampling, request.seeds)
        self._rows[self.tickets] = [samples, sum(map(len, samples))]
        self._waiting += [[self.tickets, sample.tokens] for row in samples for sample in row]
        return self.tickets

    def advance(self):
        self.under_way = max(self.under_way, len(self._rows))
        while self._waiting and len(self._seats) < self.SEATS:
            self._seats.append(self._waiting.pop(0))
        self.idle.append(self.SEATS - len(self._seats))
        for seat in self._seats:
            seat[1] -= 1
            self._rows[seat[0]][1] -= seat[1] <= 0
        self._seats = [seat for seat in self._seats if seat[1] > 0]
        ended = [(t, rows) for t, (rows, left) in self._rows.items() if left == 0]
        for ticket, _ in ended:
            del self._rows[ticket]
        return ended

    def abandon(self):
        self.abandoned = True
        self._seats, self._waiting, self._rows = [], [], {}

    def generate(self, prompts, sampling, seeds):
        return gather(self, prompts, sampling, seeds)


CLOSING = Closing("=", 2, answer_stop=(".",))
DIALS = {
    "parallel": DIAL,
    "budget": ThinkingBudget(Sampling(n=2), 2, "=", 2, answer_stop=(".",)),
    "coupled": CoupledBudgets(Sampling(n=2), (0, 1, 2, 4), CLOSING),
}


@pytest.mark.parametrize("dial", DIALS.values(), ids=list(DIALS))
def test_an_engine_is_full_until_the_last_question(tmp_path, dial):
    """Not one seat is empty before the last questions: there is no barrier between batches, nor
    between thoughts and answers. The samples are those of the batches.
    """
    task, engine = load_task("chains", limit=60), Engine()
    collect(task, engine, dial, tmp_path / "stream.jsonl", pool=Pool())
    assert sum(engine.idle[: len(engine.idle) * 3 // 4]) == 0
    streamed = read_trace(tmp_path / "stream.jsonl").records
    for batch in (1, 7, 60):
        path = tmp_path / f"batch{batch}.jsonl"
        collect(task, FakeBackend(), dial, path, pool=Pool(), batch=batch)
        assert read_trace(path).records == streamed
    narrow = Engine()
    collect(task, narrow, dial, tmp_path / "narrow.jsonl", pool=Pool(), batch=3)
    assert narrow.under_way == 3
    assert read_trace(tmp_path / "narrow.jsonl").records == streamed


def test_a_stopped_stream_keeps_what_it_has_and_goes_on(tmp_path):
    task, path = load_task("chains", limit=30), tmp_path / "t.jsonl"
    engine = Engine(interrupt_after=20)
    with pytest.raises(KeyboardInterrupt):
        collect(task, engine, DIAL, path, pool=Pool())
    assert engine.abandoned
    kept = read_trace(path).records
    assert 0 < len(kept) < 20
    collect(task, Engine(), DIAL, path, pool=Pool())
    collect(task, Engine(), DIAL, tmp_path / "whole.jsonl", pool=Pool())
    assert read_trace(path).records == read_trace(tmp_path / "whole.jsonl").records


def test_an_engine_of_one_request_at_a_time_is_checked_behind_its_back(tmp_path):
    """`transformers`: question 2 is drawn while the answers to question 1 are checked."""
    together = []

    class Slow(OneByOne, FakeBackend):
        def __init__(self):
            OneByOne.__init__(self)
            FakeBackend.__init__(self)

        def generate(self, *arguments):
            before = pool.checked
            time.sleep(0.03)
            together.append(pool.checked > before)
            return FakeBackend.generate(self, *arguments)

    pool = Pool(wait=0.02)
    collect(load_task("chains", limit=12), Slow(), DIAL, tmp_path / "t.jsonl", pool=pool)
    assert len(together) == 12
    assert sum(together) >= 8


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
