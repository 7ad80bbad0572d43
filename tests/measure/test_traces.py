"""The store: nothing is lost but what was in flight, nothing is mixed, nothing is written twice."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from ttc_env.measure import traces
from ttc_env.measure.backends.base import Sampling
from ttc_env.measure.backends.fake import FakeBackend
from ttc_env.measure.collect import collect
from ttc_env.measure.dials import Parallel
from ttc_env.measure.samples import from_trace
from ttc_env.measure.tasks import load_task
from ttc_env.measure.traces import (
    TraceError,
    TraceWriter,
    compress_trace,
    merge_traces,
    read_trace,
)

DIAL = Parallel(Sampling(n=4, max_tokens=48))


def quiet(_: str) -> None:
    pass


def write(path, ids, settings=None, **options):
    with TraceWriter(path, settings or {"model": "m", "seed": 0}, {"run": 1}, **options) as writer:
        for i in ids:
            writer.append(
                i, "1", {"answer": ["1", None], "correct": [True, False], "tokens": [3, 4]}
            )
        return writer.torn


def test_round_trip_and_resume(tmp_path):
    path = tmp_path / "deep" / "t.jsonl"
    write(path, ["a", "b"])
    write(path, ["c"])
    trace = read_trace(path)
    assert list(trace.records) == ["a", "b", "c"]
    assert len(trace.sessions) == 2
    table = from_trace(trace)
    assert table.answer.tolist() == [[0, -1]] * 3
    assert table.tokens.mean() == 3.5


def test_a_file_that_cannot_grow_is_named_and_goes_on(tmp_path):
    """What could not be written is written once more when the file is closed, and fails again."""
    resource = pytest.importorskip("resource")
    path, most = tmp_path / "t.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    write(path, ["a"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 250, most[1]))
    try:
        with pytest.raises(OSError, match="large") as found:
            write(path, ["b", "c", "d", "e"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert found.value.filename == str(path)
    write(path, [i for i in "bcde" if i not in read_trace(path).records])
    assert list(read_trace(path).records) == list("abcde")


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_torn_last_line_is_cut_off_reported_and_redone(tmp_path, cut):
    path = tmp_path / "t.jsonl"
    write(path, ["a", "b"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])  # kill -9 in the middle of a write
    assert "torn" in read_trace(path).torn
    assert "line 3 is torn" in write(path, ["b"])
    trace = read_trace(path)
    assert list(trace.records) == ["a", "b"]
    assert trace.torn is None


def test_torn_header_starts_again(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"kind":"head')
    assert "torn" in write(path, ["a"])
    assert list(read_trace(path).records) == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        '{"qid": 1}',
        '{"qid": 1}\n',
        '{"kind": "question"}\n{"a": 1}\n',
        "a,b\n1,2\n",
        "notes",
        "[1]\n",
    ],
)
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "precious.jsonl"
    path.write_text(content)
    with pytest.raises(TraceError):
        write(path, ["a"])
    assert path.read_text() == content


def test_broken_line_in_the_middle_is_refused_by_number(tmp_path):
    path = tmp_path / "t.jsonl"
    write(path, ["a", "b"])
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:20]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(TraceError, match="line 2 is broken"):
        read_trace(path)


def test_other_settings_are_refused_by_name(tmp_path):
    path = tmp_path / "t.jsonl"
    write(path, ["a"])
    with pytest.raises(TraceError, match="seed: 0 there, 1 now"):
        write(path, ["b"], settings={"model": "m", "seed": 1})
    with pytest.raises(TraceError, match="already holds 1 question"):
        write(path, ["b"], resume=False)
    assert list(read_trace(path).records) == ["a"]


def test_second_process_is_refused(tmp_path):
    path = tmp_path / "t.jsonl"
    code = (
        "import sys; from ttc_env.measure.traces import *\n"
        "try:\n    TraceWriter(sys.argv[1], {'model': 'm', 'seed': 0}, {})\n"
        "except TraceError as e:\n    print(e); sys.exit(3)"
    )
    with TraceWriter(path, {"model": "m", "seed": 0}, {}):
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
    assert other.returncode == 3, other.stderr
    assert "another process" in other.stdout


def test_repeated_ids_and_ragged_columns_are_refused(tmp_path):
    path = tmp_path / "t.jsonl"
    with TraceWriter(path, {}, {}) as writer:
        writer.append("a", "1", {"correct": [True]})
        with pytest.raises(TraceError, match="already holds"):
            writer.append("a", "1", {"correct": [True]})
        with pytest.raises(ValueError, match="different lengths"):
            writer.append("b", "1", {"correct": [True], "tokens": [1, 2]})
    line = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(TraceError, match="repeats question 'a'"):
        read_trace(path)


def test_columns_of_different_lengths_in_a_file_are_refused_by_line(tmp_path):
    path = tmp_path / "t.jsonl"
    write(path, ["a"])
    ragged = {"kind": "question", "id": "b", "samples": {"correct": [True], "tokens": [1, 2]}}
    path.write_text(
        path.read_text() + json.dumps(ragged) + "\n" + '{"kind":"session","session":{}}\n'
    )
    with pytest.raises(TraceError, match=r"line 3: lists of different lengths .*resume the run"):
        read_trace(path)


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 40, b'{"kind":"question","id":"b","sam', b"\xff\xfe"]
)
def test_a_garbled_last_line_is_left_out_and_written_over(tmp_path, garbage):
    """A crash of the machine can leave a last line of the right length with wrong bytes in it."""
    path = tmp_path / "t.jsonl"
    write(path, ["a"])
    whole = path.read_bytes()
    path.write_bytes(whole + garbage + b"\n")
    trace = read_trace(path)
    assert list(trace.records) == ["a"]
    assert "line 3 is torn" in trace.torn
    said = write(path, ["b"])
    assert "line 3 is torn" in said
    assert path.read_bytes().startswith(whole)
    again = read_trace(path)
    assert list(again.records) == ["a", "b"]
    assert again.torn is None


def test_a_trace_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path, packed = tmp_path / "t.jsonl", tmp_path / "t.jsonl.gz"
    write(path, ["a"])
    compress_trace(path, packed)
    assert read_trace(packed).records
    monkeypatch.setattr(traces, "LARGEST", 10)
    with pytest.raises(TraceError, match="unpacks to more than"):
        read_trace(packed)

    def too_much(*_):
        raise MemoryError

    monkeypatch.setattr(traces.gzip, "open", too_much)
    with pytest.raises(TraceError, match="does not fit into memory"):
        read_trace(packed)


def test_a_compressed_trace_is_not_appended_to(tmp_path):
    with pytest.raises(TraceError, match=r"write to a \.jsonl file and compress it at the end"):
        TraceWriter(tmp_path / "t.jsonl.gz", {}, {})
    assert not list(tmp_path.iterdir())


def test_shards_that_do_not_fit_together_are_refused_and_nothing_is_written(tmp_path):
    one, two, target = (tmp_path / name for name in ("1.jsonl", "2.jsonl", "all.jsonl"))
    with pytest.raises(TraceError, match="there is no shard to merge; run the shards first"):
        merge_traces([], target, [])
    write(one, ["b", "a"])
    write(two, ["c"])
    assert merge_traces([one, two], target, ["a", "b", "c"]) == 3
    assert list(read_trace(target).records) == ["a", "b", "c"]
    kept = target.read_bytes()
    with TraceWriter(two, {"model": "m", "seed": 0}, {"run": 1}) as writer:
        writer.append("a", "1", {"answer": ["2"], "correct": [False], "tokens": [9]})
    with pytest.raises(TraceError, match="hold question 'a' with different samples"):
        merge_traces([one, two], target, ["a", "b", "c"])
    other = tmp_path / "3.jsonl"
    write(other, ["d"], {"model": "other", "seed": 0})
    with pytest.raises(TraceError, match=r"measured with other settings \(model\)"):
        merge_traces([one, other], target, ["a", "b", "c"])
    assert target.read_bytes() == kept


def test_without_advisory_locks_a_trace_is_written_all_the_same(tmp_path, monkeypatch):
    """As on Windows."""
    monkeypatch.setattr(traces, "fcntl", None)
    path = tmp_path / "t.jsonl"
    write(path, ["a"])
    with traces.locked(path):
        write(path, ["b"])
    assert list(read_trace(path).records) == ["a", "b"]


def test_compressed_trace_reads_the_same_and_hashes_the_same(tmp_path):
    path = tmp_path / "t.jsonl"
    write(path, ["a", "b"])
    compress_trace(path, tmp_path / "1.jsonl.gz")
    time.sleep(1.1)  # gzip stores whole seconds
    compress_trace(path, tmp_path / "2.jsonl.gz")
    assert (tmp_path / "1.jsonl.gz").read_bytes() == (tmp_path / "2.jsonl.gz").read_bytes()
    assert read_trace(tmp_path / "1.jsonl.gz").records == read_trace(path).records


def test_interrupted_run_resumes_to_the_same_samples(tmp_path):
    task = load_task("chains", limit=12)
    collect(task, FakeBackend(), DIAL, tmp_path / "whole.jsonl", batch=5, warn=quiet)
    path = tmp_path / "parts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        collect(task, FakeBackend(interrupt_after=1), DIAL, path, batch=5, warn=quiet)
    assert len(read_trace(path).records) == 5
    result = collect(task, FakeBackend(), DIAL, path, batch=3, warn=quiet)
    assert result.drawn == 7
    assert read_trace(path).records == read_trace(tmp_path / "whole.jsonl").records
    longer = load_task("chains", limit=20)  # more questions extend the same file
    assert collect(longer, FakeBackend(), DIAL, path, warn=quiet).drawn == 8


def test_changed_question_is_noticed(tmp_path):
    path = tmp_path / "t.jsonl"
    collect(load_task("chains", limit=3), FakeBackend(), DIAL, path, warn=quiet)
    text = path.read_text().replace('"gold":"', '"gold":"9', 1)
    path.write_text(text)
    with pytest.raises(TraceError, match="another prompt or gold"):
        collect(load_task("chains", limit=5), FakeBackend(), DIAL, path, warn=quiet)


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX notion")
def test_kill_nine_loses_at_most_what_was_in_flight(tmp_path):
    """A real process, really killed while it writes, then resumed: the same file as without the
    kill.
    """
    path = tmp_path / "t.jsonl"
    code = (
        "import sys, time\nfrom ttc_env.measure.backends.fake import FakeBackend\nfrom"
        " ttc_env.measure.backends.base import Sampling\nfrom ttc_env.measure.collect import"
        " collect\nfrom ttc_env.measure.dials import Parallel\nfrom ttc_env.measure.tasks import"
        " load_task\ncollect(load_task('chains', limit=600), FakeBackend(), Parallel(Sampling(n=4,"
        " max_tokens=48)), sys.argv[1], batch=2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < 20_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = len(read_trace(path).records)
    assert before > 10
    task = load_task("chains", limit=600)
    result = collect(task, FakeBackend(), DIAL, path, batch=500, warn=quiet)
    assert result.drawn == 600 - before
    assert list(read_trace(path).records) == [q.id for q in task.questions]


def test_header_says_what_the_samples_are(tmp_path):
    path = tmp_path / "t.jsonl"
    collect(load_task("chains", limit=3), FakeBackend("folder/model-x"), DIAL, path, warn=quiet)
    header = json.loads(path.read_text().splitlines()[0])
    for key in (
        "model",
        "revision",
        "weights",
        "format",
        "n",
        "temperature",
        "top_p",
        "max_tokens",
        "seed",
        "task",
        "backend",
    ):
        assert key in header["settings"]
    assert header["settings"]["model"] == "model-x"  # no path of the machine that measured
    for key in ("versions", "hardware", "started", "constant_baseline"):
        assert key in header["session"]


def test_seeds_never_overlap(tmp_path):
    """Sample j of a question draws from seed + j, so two questions', models' or settings' seeds
    must be more than n apart.
    """
    seeds = []
    for model in ("a", "b"):
        for n in (4, 8):
            path = tmp_path / f"{model}{n}.jsonl"
            collect(
                load_task("chains", limit=50),
                FakeBackend(model),
                Parallel(Sampling(n=n, max_tokens=48)),
                path,
                warn=quiet,
            )
            seeds += [record["seed"] for record in read_trace(path).records.values()]
    assert len(set(seeds)) == 200
    assert np.diff(np.sort(seeds)).min() >= 2 * 8


def test_damaged_files_are_told_in_one_line(tmp_path):
    """Every byte of a gzip trace damaged, every length cut: a TraceError, or the trace."""
    path = tmp_path / "t.jsonl"
    write(path, ["a", "b"])
    packed = tmp_path / "t.jsonl.gz"
    compress_trace(path, packed)
    whole = packed.read_bytes()
    messages = []
    damaged = [whole[:cut] for cut in range(len(whole))]
    damaged += [
        whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :]
        for i in range(len(whole))
        for flip in (1, 0x80, 0xFF)
    ]
    for content in damaged:
        packed.write_bytes(content)
        try:
            read_trace(packed)
        except TraceError as error:
            messages.append(str(error))
    assert len(messages) > len(damaged) / 2
    assert all(str(packed) in message for message in messages)
    packed.write_bytes(zlib.compress(b"x"))  # raw zlib
    with pytest.raises(TraceError, match="damaged or no gzip"):
        read_trace(packed)


@pytest.mark.parametrize(
    "line",
    [
        '{"kind":"question"}',
        '{"kind":"question","id":"a"}',
        '{"kind":"question","id":["a"],"samples":{}}',
        '{"kind":"question","id":"a","samples":[]}',
        '{"kind":"question","id":"a","samples":{"correct":1}}',
        '{"kind":"session"}',
        "[" * 100_000 + "]" * 100_000,
    ],
)
def test_lines_without_their_parts_are_refused_by_number(tmp_path, line):
    path = tmp_path / "t.jsonl"
    write(path, ["x"])
    path.write_text(path.read_text() + line + "\n" + '{"kind":"session","session":{}}\n')
    with pytest.raises(TraceError, match="line 3"):
        read_trace(path)
    path.write_text('{"kind":"header","format":1}\n')
    with pytest.raises(TraceError, match="line 1"):
        read_trace(path)
