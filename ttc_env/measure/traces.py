"""The store of raw samples: append-only JSON lines, safe against kill -9, a second writer, and a
change of settings.

One file holds one (model, task, sampling setting). Its first line is a header; every other line is
one question with all its samples, keyed by the question's id. A line is on disk (fsync) before the
next is begun, so whatever happens, at most the samples in flight are lost.

    {"kind": "header", "format": 1, "settings": {...}, "session": {...}}
    {"kind": "question", "id": "chains-17", "gold": "4", "samples": {"text": [...], "answer": [...],
    ...}} {"kind": "session", ...}                                  one for each time that a run was
    resumed

`settings` is what makes samples comparable (model, weights, prompts, sampling, seed): a file never
mixes two. `session` is what may differ (library versions, hardware, time).
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ttc_env.atomic import write_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
_HEADER_START = b'{"kind":"header"'


class TraceError(ValueError):
    """A trace file that cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Trace:
    """A trace file, read."""

    path: Path
    settings: dict[str, Any]
    sessions: tuple[dict[str, Any], ...]
    records: dict[str, dict[str, Any]]  # question id -> its line
    torn: str | None = None  # report on a broken last line, which was left out


def read_trace(path: str | Path) -> Trace:
    """Read a trace (`.jsonl` or `.jsonl.gz`). A torn last line is left out and reported in `torn`;
    anything else that is broken raises.

    Raises:
        TraceError: no header, a line in the middle that is not JSON, an id that stands twice, or
            lists of different lengths in one question.
    """
    path = Path(path)
    return _parse(path, _content(path))[0]


#: Bytes of a trace, unpacked: more is no trace of ours, but a small file that unpacks without end.
LARGEST = 1 << 33


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    parts, size = [], 0
    try:
        with gzip.open(path, "rb") as stream:
            while block := stream.read(1 << 22):
                parts.append(block)
                size += len(block)
                if size > LARGEST:
                    raise TraceError(f"{path} unpacks to more than {LARGEST >> 30} GiB")
        return b"".join(parts)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(
            f"{path} is damaged or no gzip file ({error}); fetch it again, or restore it"
        ) from None
    except MemoryError:
        raise TraceError(f"{path} does not fit into memory when it is unpacked") from None


def _parse(path: Path, raw: bytes) -> tuple[Trace, int]:
    """The trace, and the number of bytes that hold it: what comes after is a torn line."""
    lines = raw.split(b"\n")
    tail = lines.pop()  # empty where the last line is complete
    torn = (
        f"{path}: line {len(lines) + 1} is torn ({len(tail)} bytes without an end of line) and was"
        " left out"
        if tail
        else None
    )
    good = len(raw) - len(tail)
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            # a crash of the machine can leave a complete but garbled last line
            if number == len(lines) > 1 and not tail:
                good -= len(line) + 1
                torn = f"{path}: line {number} is torn ({error}) and was left out"
                break
            raise TraceError(
                f"{path}: line {number} is broken ({error}); only the last line may be. Restore the"
                " file, or delete that line"
            ) from None
    if not entries and _HEADER_START.startswith(tail[: len(_HEADER_START)]):
        return Trace(path, {}, (), {}, torn), good
    if (
        not all(isinstance(entry, dict) and "kind" in entry for entry in entries)
        or not entries
        or entries[0].get("format") != FORMAT
    ):
        raise TraceError(
            f"{path} is no trace of format {FORMAT}; for other programs' files see"
            " ttc_env.measure.importers"
        )
    records: dict[str, dict[str, Any]] = {}
    _check_entry(path, 1, entries[0], {"settings": dict, "session": dict})
    sessions = [entries[0]["session"]]
    for number, entry in enumerate(entries[1:], start=2):
        if entry["kind"] == "session":
            _check_entry(path, number, entry, {"session": dict})
            sessions.append(entry["session"])
            continue
        _check_entry(path, number, entry, {"id": str, "samples": dict})
        if not all(isinstance(column, list) for column in entry["samples"].values()):
            raise TraceError(
                f"{path}: line {number}: samples hold something other than lists; delete the line"
                " and resume the run"
            )
        if entry["id"] in records:
            raise TraceError(
                f"{path}: line {number} repeats question {entry['id']!r}; delete one of the two"
                " lines"
            )
        lengths = {name: len(column) for name, column in entry["samples"].items()}
        if len(set(lengths.values())) > 1:
            raise TraceError(
                f"{path}: line {number}: lists of different lengths {lengths}; delete the line and"
                " resume the run"
            )
        records[entry["id"]] = entry
    return Trace(path, entries[0]["settings"], tuple(sessions), records, torn), good


def _check_entry(
    path: Path, number: int, entry: Mapping[str, Any], needed: dict[str, type]
) -> None:
    for name, kind in needed.items():
        if not isinstance(entry.get(name), kind):
            raise TraceError(
                f"{path}: line {number} has no {name!r} of the right kind; restore the file, or"
                " delete that line"
            )


class TraceWriter:
    """A trace file, open for appending by this process alone. Use as a context manager.

    Args:
        path: the file; made with its folder if it does not exist, continued if it does.
        settings: what all samples of the file have in common.
        session: facts about this run that may differ between runs.
        resume: False refuses a file that already holds questions.

    Attributes:
        done: ids of the questions that the file holds.
        stored: question id -> (prompt, gold answer) as the file had them when it was opened.
        torn: report on a torn last line that was cut off, or None; that question will be drawn
            again.

    Raises:
        TraceError: another process has the file open, the file's settings differ, or `resume` is
            False and there is something to resume.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        session: Mapping[str, Any],
        *,
        resume: bool = True,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix == ".gz":
            raise TraceError(
                f"{self.path}: a compressed trace cannot be appended to; write to a .jsonl file and"
                " compress it at the end"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] = self.path.open("a+b")
        try:
            self._lock()
            trace = self._open(_as_json(settings), _as_json(session), resume)
            self.done, self.torn = set(trace.records), trace.torn
            self.stored = {
                question: (record.get("prompt"), record.get("gold"))
                for question, record in trace.records.items()
            }
        except BaseException:
            self._stream.close()
            raise

    def _lock(self) -> None:
        if fcntl is None:
            return  # no advisory locks here: a second writer is not noticed on Windows
        try:
            # the kernel drops it when the process dies, however it dies
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TraceError(
                f"{self.path} is being written by another process; wait for it, or choose another"
                " --out folder"
            ) from None

    def _open(self, settings: Any, session: Any, resume: bool) -> Trace:
        self._stream.seek(0)
        raw = self._stream.read()
        trace, good = _parse(self.path, raw) if raw else (Trace(self.path, {}, (), {}), 0)
        if good < len(raw):
            self._stream.truncate(good)
        if not good:
            self._write(
                {"kind": "header", "format": FORMAT, "settings": settings, "session": session}
            )
            _sync_folder(self.path.parent)
            return trace
        changed = sorted(
            key
            for key in set(settings) | set(trace.settings)
            if settings.get(key) != trace.settings.get(key)
        )
        if changed:
            old = ", ".join(
                f"{key}: {_short(trace.settings.get(key))} there, {_short(settings.get(key))} now"
                for key in changed
            )
            raise TraceError(
                f"{self.path} was measured with other settings ({old}); samples would mix. Choose"
                " another --out folder"
            )
        if trace.records and not resume:
            raise TraceError(
                f"{self.path} already holds {len(trace.records)} questions; resume (the default) or"
                " choose another --out folder"
            )
        self._write({"kind": "session", "session": session})
        return trace

    def append(
        self, question_id: str, gold: str, samples: Mapping[str, list[Any]], **extra: Any
    ) -> None:
        """Store one question; on disk when this returns. `samples` holds equally long columns."""
        if question_id in self.done:
            raise TraceError(f"{self.path} already holds question {question_id!r}")
        lengths = {name: len(column) for name, column in samples.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"question {question_id!r}: columns have different lengths {lengths}")
        self._write(
            {"kind": "question", "id": question_id, "gold": gold, **extra, "samples": dict(samples)}
        )
        self.done.add(question_id)

    def _write(self, entry: dict[str, Any]) -> None:
        with _naming(self.path):
            self._stream.write(_line(entry).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        with _naming(self.path):  # what could not be written is tried once more
            self._stream.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _as_json(values: Mapping[str, Any]) -> Any:
    """What the values look like after a round trip through the file, so that they can be compared
    with it.
    """
    return json.loads(json.dumps(dict(values), allow_nan=False))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its content (neither possible nor needed on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def compress_trace(source: str | Path, target: str | Path) -> None:
    """Write a gzip copy whose bytes depend on the content alone (no time, no name), so that its
    hash can be published.
    """
    data = Path(source).read_bytes()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with (
        Path(target).open("wb") as stream,
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=9) as packed,
    ):
        packed.write(data)


def merge_traces(parts: Sequence[str | Path], target: str | Path, order: Sequence[str]) -> int:
    """Write the questions of several traces of one setting (the shards of a run) into one, whole or
    not at all, and return how many it holds.

    Args:
        parts: trace files; a torn last line is left out.
        target: the merged trace; replaced if it exists, so name it among `parts` to keep what it
            holds.
        order: ids of questions in the task's order; others come last.

    Raises:
        TraceError: the parts have different settings, or two different lines for one question.
    """
    traces = [read_trace(path) for path in parts]
    traces = [trace for trace in traces if trace.settings]
    if not traces:
        raise TraceError(f"{target}: there is no shard to merge; run the shards first")
    records: dict[str, dict[str, Any]] = {}
    for trace in traces:
        if trace.settings != traces[0].settings:
            changed = sorted(
                key
                for key in {*trace.settings, *traces[0].settings}
                if trace.settings.get(key) != traces[0].settings.get(key)
            )
            raise TraceError(
                f"{trace.path} and {traces[0].path} were measured with other settings"
                f" ({', '.join(changed)}); samples would mix"
            )
        for question, record in trace.records.items():
            if records.setdefault(question, record) != record:
                raise TraceError(
                    f"{trace.path} and another shard hold question {question!r} with different"
                    " samples; delete one of the two"
                )
    place = {question: i for i, question in enumerate(order)}
    ids = sorted(records, key=lambda question: place.get(question, len(place)))
    sessions = [session for trace in traces for session in trace.sessions]
    text = trace_text(traces[0].settings, sessions, [records[question] for question in ids])
    write_text(target, text)
    return len(records)


def trace_text(
    settings: Mapping[str, Any],
    sessions: Sequence[Mapping[str, Any]],
    records: Iterable[Mapping[str, Any]],
) -> str:
    """A whole trace file: its header, the sessions of the runs that filled it, its questions."""
    entries: list[Mapping[str, Any]] = [
        {"kind": "header", "format": FORMAT, "settings": settings, "session": sessions[0]},
        *({"kind": "session", "session": session} for session in sessions[1:]),
        *records,
    ]
    return "".join(_line(entry) + "\n" for entry in entries)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold a trace as a writer does.

    Raises:
        TraceError: another process is writing it.
    """
    with Path(path).open("rb") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TraceError(f"{path} is being written by another process; wait") from None
        yield


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of writing names the file: that the disk is full does not say whose."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
