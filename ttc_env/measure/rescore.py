"""Stored answers scored again by today's checks: no sample is drawn, and no text changes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttc_env.atomic import write_bytes
from ttc_env.measure.scoring import SCORING_VERSION, WorkerPool, judge
from ttc_env.measure.traces import TraceError, locked, read_trace, trace_text


@dataclass(frozen=True)
class Rescored:
    """What today's checks say of one trace."""

    path: Path  # of the trace
    written: Path | None  # where it was written; None where nothing was
    kept: Path | None  # where the old file was put, if the trace was replaced
    questions: int
    samples: int
    answers_changed: int  # samples whose parsed answer is another one (its spelling counts)
    to_right: int  # samples that were wrong and are right
    to_wrong: int  # samples that were right and are wrong
    accuracy_before: float  # of one sample
    accuracy: float

    def line(self) -> str:
        """One line for people."""
        done = f"written to {self.written}" if self.written else "nothing to write"
        if self.kept:
            done += f", the old file is {self.kept}"
        return (
            f"{self.path}: {self.samples:,} samples of {self.questions} questions: verdicts of"
            f" {self.to_right + self.to_wrong} changed ({self.to_right} to right, {self.to_wrong}"
            f" to wrong), answers of {self.answers_changed}; accuracy of one sample"
            f" {self.accuracy_before:.4f}, now {self.accuracy:.4f}; {done}"
        )


def rescore(
    path: str | Path,
    out: str | Path | None = None,
    *,
    pool: WorkerPool | None = None,
    write: bool = True,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Rescored:
    """Score all stored samples of a trace again.

    Args:
        path: a trace, `.jsonl` or `.jsonl.gz`.
        out: folder for the new trace, of the same name; by default it takes the place of the old
            one, which is kept beside it as `NAME.scoring<version>`.
        pool: processes that check; one of this call's own by default.
        write: False only counts.
        say: gets a line for an answer that could not be checked.
        progress: called after each question with how many are done, and of how many.

    The new file is written whole or not at all, and only once everything is scored. Its sessions
    carry the version of the checks (`scoring`, and `scoring_before`). A trace that is scored by
    today's checks, with every verdict as stored, is left as it is.

    Raises:
        TraceError: no trace, one without the texts' kind of answer, a torn line (resume the run
            first), or one that another process is writing.
        FileExistsError: `out` holds a trace of this name.
    """
    path = Path(path)
    target = path if out is None else Path(out) / path.name
    if out is not None and target.exists():
        raise FileExistsError(f"{target} exists; choose another --out folder")
    with locked(path):
        trace = read_trace(path)
        if trace.torn:
            raise TraceError(f"{trace.torn}; run the measurement again to complete it first")
        kind, pattern = trace.settings.get("answer"), trace.settings.get("pattern")
        if kind is None:
            raise TraceError(f"{path}: the header does not say how answers are read")
        own = WorkerPool(1, mathematics=kind == "math") if pool is None else nullcontext(pool)
        with own as checkers:
            records: dict[str, dict[str, Any]] = {}
            for question, record in trace.records.items():
                columns = record["samples"]
                finished = [end == "stop" for end in columns["finish"]]
                verdicts = judge(
                    kind, pattern, record["gold"], columns["text"], finished, checkers, say
                )
                new = {
                    "answer": [v.answer for v in verdicts],
                    "correct": [v.correct for v in verdicts],
                }
                records[question] = {**record, "samples": {**columns, **new}}
                progress(len(records), len(trace.records))
        pairs = [
            (old, new)
            for question in records
            for old, new in zip(
                _verdicts(trace.records[question]), _verdicts(records[question]), strict=True
            )
        ]
        sessions = [_session(session) for session in trace.sessions]
        same = records == trace.records and sessions == list(trace.sessions)
        kept = None
        if write and not (same and out is None):
            text = trace_text(trace.settings, sessions, records.values())
            if out is None:
                kept = _kept(path, trace.sessions)
            plain = text.encode()
            gzipped = path.suffix == ".gz"
            write_bytes(target, gzip.compress(plain, 9, mtime=0) if gzipped else plain)
    count = max(len(pairs), 1)
    return Rescored(
        path,
        target if write and not (same and out is None) else None,
        kept,
        len(records),
        len(pairs),
        sum(old[0] != new[0] for old, new in pairs),
        sum(new[1] and not old[1] for old, new in pairs),
        sum(old[1] and not new[1] for old, new in pairs),
        sum(old[1] for old, _ in pairs) / count,
        sum(new[1] for _, new in pairs) / count,
    )


def scored_by(sessions: Any) -> set[int]:
    """Versions of the checks that a trace's verdicts come from; 0 from before they were named."""
    return {int(session.get("scoring", 0)) for session in sessions}


def _verdicts(record: dict[str, Any]) -> list[tuple[str | None, bool]]:
    columns = record["samples"]
    return list(zip(columns["answer"], columns["correct"], strict=True))


def _session(session: dict[str, Any]) -> dict[str, Any]:
    before = session.get("scoring", 0)
    if before == SCORING_VERSION:
        return session
    return {**session, "scoring": SCORING_VERSION, "scoring_before": before}


def _kept(path: Path, sessions: Any) -> Path:
    """A copy of the old file under a name of its own, which no `*.jsonl` finds."""
    version = "-".join(map(str, sorted(scored_by(sessions))))
    names = (f"{path.name}.scoring{version}{f'.{i}' if i else ''}" for i in range(1000))
    kept = next(p for name in names if not (p := path.with_name(name)).exists())
    write_bytes(kept, path.read_bytes())
    return kept


def as_json(result: Rescored) -> str:
    """For programs."""
    values = {k: str(v) if isinstance(v, Path) else v for k, v in vars(result).items()}
    return json.dumps(values)
