"""Samples that other programs stored, as records for `samples.from_records`. Broken rows are
dropped and *reported*, by line and reason.

- `import_paper`: the released JSON lines of [TTC]'s authors (`qid, answers, correct, explanations,
  num_tokens, rewards`);
- `import_lm_eval`: `samples_*.jsonl` of EleutherAI's lm-evaluation-harness (written with
  `--log_samples`);
- `import_inspect`: logs of the UK AI Security Institute's Inspect (`.json`, or `.eval` archives).
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttc_env.measure.scoring import Verdict

Record = dict[str, Any]


@dataclass
class ImportReport:
    """What was kept and what was dropped."""

    path: Path
    kept: int = 0
    # (line number from 1, or sample number, and why)
    dropped: list[tuple[int, str]] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.dropped:
            return f"{self.path}: {self.kept} questions, nothing dropped"
        reasons = Counter(reason.partition(":")[0] for _, reason in self.dropped)
        lines = "\n".join(f"  line {number}: {reason}" for number, reason in self.dropped)
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return (
            f"{self.path}: {self.kept} questions kept, {len(self.dropped)} lines dropped"
            f" ({counts})\n{lines}"
        )


class _Bad(Exception):
    """A row that must be dropped, and why."""


#: What odd content raises: fields of other types, null, numbers that no float holds, deep nesting.
_ODD = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def _odd(error: Exception) -> str:
    if isinstance(error, (KeyError, IndexError)):
        return f"missing field: {error}"
    return f"odd content: {type(error).__name__}: {str(error)[:80]}"


def _number(value: Any) -> bool:
    """A finite number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _json_lines(path: Path, report: ImportReport) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                cut = "" if line.endswith(b"\n") else ", cut off at the end of the file"
                report.dropped.append((number, f"bad JSON: {error}{cut}"))
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                report.dropped.append((number, f"not an object: {type(row).__name__}"))


def _keep_full_rows(
    rows: dict[str, tuple[int, Record]], report: ImportReport, samples: int | None
) -> dict[str, Record]:
    """Drop questions with fewer samples than `samples` (the most common number, if None): they
    would shorten all the others.
    """
    counts = Counter(len(record["samples"]["correct"]) for _, record in rows.values())
    needed = (
        samples if samples is not None else max(counts, key=lambda n: (counts[n], n), default=0)
    )
    kept = {}
    for question, (number, record) in rows.items():
        found = len(record["samples"]["correct"])
        if found < needed:
            report.dropped.append((number, f"too few samples: {found} of {needed}"))
        else:
            kept[question] = record
    report.dropped.sort()
    report.kept = len(kept)
    return kept


def import_paper(
    path: str | Path,
    *,
    expected_ids: Collection[str] | None = None,
    id_pattern: str | None = None,
    samples: int | None = None,
) -> tuple[dict[str, Record], ImportReport]:
    """Read a file of the paper's authors: one question a line, with lists over samples.

    Args:
        path: JSON lines with `qid, answers, correct, num_tokens` and, where present, `rewards` and
            `explanations`.
        expected_ids: ids of the benchmark's questions; a row with another id belongs to another
            benchmark and is dropped.
        id_pattern: the same, as a regular expression that the whole id must match.
        samples: least number of samples a question needs; the most common number by default.

    Returns:
        question id -> record, and the report. An empty answer, or None, counts as no answer, and as
        wrong.
    """
    path = Path(path)
    report = ImportReport(path)
    rows: dict[str, tuple[int, Record]] = {}
    expected = None if expected_ids is None else {str(i) for i in expected_ids}
    for number, row in _json_lines(path, report):
        try:
            question, record = _paper_row(row)
            if (expected is not None and question not in expected) or (
                id_pattern and not re.fullmatch(id_pattern, question)
            ):
                raise _Bad(f"wrong benchmark: qid {question!r} is none of its questions")
            if question in rows:
                raise _Bad(
                    f"repeated question: {question!r} stands in line {rows[question][0]} already"
                )
        except _Bad as bad:
            report.dropped.append((number, str(bad)))
            continue
        except _ODD as error:
            report.dropped.append((number, _odd(error)))
            continue
        rows[question] = (number, record)
    return _keep_full_rows(rows, report, samples), report


def _paper_row(row: dict[str, Any]) -> tuple[str, Record]:
    missing = [
        name for name in ("qid", "answers", "correct", "num_tokens") if row.get(name) is None
    ]
    if missing:
        raise _Bad(f"missing field: {', '.join(missing)}")
    lists = {
        name: row[name]
        for name in ("answers", "correct", "num_tokens", "rewards", "explanations")
        if row.get(name) is not None
    }
    lengths = {
        name: len(values) if isinstance(values, list) else None for name, values in lists.items()
    }
    if None in lengths.values() or len(set(lengths.values())) > 1 or not lengths["answers"]:
        raise _Bad(f"misaligned lists: lengths {lengths}")
    if not all(isinstance(c, bool) or c in (0, 1) for c in lists["correct"]):
        raise _Bad("bad value: correct holds something other than true and false")
    for name in ("num_tokens", "rewards"):
        if not all(_number(v) for v in lists.get(name, [])):
            raise _Bad(f"bad value: {name} holds something other than finite numbers")
    if any(t <= 0 for t in lists["num_tokens"]):
        raise _Bad("bad value: num_tokens holds a number that is not positive")
    answers = [
        None if a is None or not str(a).strip() else str(a).strip() for a in lists["answers"]
    ]
    columns = {
        "answer": answers,
        "correct": [
            bool(c) and a is not None for c, a in zip(lists["correct"], answers, strict=True)
        ],
        "tokens": lists["num_tokens"],
    }
    for source, name in (("rewards", "rewards"), ("explanations", "text")):
        if source in lists:
            columns[name] = lists[source]
    return str(row["qid"]), {"id": str(row["qid"]), "samples": columns}


def import_lm_eval(
    path: str | Path,
    check: Callable[[str, str], Verdict],
    count_tokens: Callable[[str], int],
    *,
    filter_name: str | None = None,
    samples: int | None = None,
) -> tuple[dict[str, Record], ImportReport]:
    """Read lm-evaluation-harness samples of a generative task with repeats: `doc_id, target, resps,
    filter, ...` a line.

    Args:
        path: `samples_<task>_<time>.jsonl`.
        check: (text, gold) -> verdict, e.g. `functools.partial(scoring.check_exact, pattern=...)`.
            The harness stores metrics of a question, not of each sample, so samples are judged
            again.
        count_tokens: tokens of a text, e.g. `lambda text: len(tokenizer.encode(text))`: the harness
            does not store them.
        filter_name: lines are repeated for each filter; read those of this one. The first one met
            by default.
        samples: as in `import_paper`.
    """
    path = Path(path)
    report = ImportReport(path)
    rows: dict[str, tuple[int, Record]] = {}
    for number, row in _json_lines(path, report):
        try:
            missing = [name for name in ("doc_id", "target", "resps") if row.get(name) is None]
            if missing:
                raise _Bad(f"missing field: {', '.join(missing)}")
            filter_name = filter_name if filter_name is not None else row.get("filter")
            if row.get("filter") != filter_name:
                continue  # the same samples once more, filtered in another way
            responses = row["resps"]
            texts = (
                responses[0]
                if len(responses) == 1 and isinstance(responses[0], list)
                else responses
            )
            if not texts or not all(isinstance(text, str) for text in texts):
                raise _Bad(
                    "not generated text: resps holds something else (a log-likelihood task?)"
                )
            question, gold = str(row["doc_id"]), str(row["target"])
            if question in rows:
                raise _Bad(
                    f"repeated question: {question!r} stands in line {rows[question][0]} already"
                )
            verdicts = [check(text, gold) for text in texts]
            tokens = [count_tokens(text) for text in texts]
        except _Bad as bad:
            report.dropped.append((number, str(bad)))
            continue
        except _ODD as error:
            report.dropped.append((number, _odd(error)))
            continue
        columns = {
            "text": texts,
            "answer": [v.answer for v in verdicts],
            "correct": [v.correct for v in verdicts],
            "tokens": tokens,
        }
        rows[question] = (number, {"id": question, "gold": gold, "samples": columns})
    return _keep_full_rows(rows, report, samples), report


def import_inspect(
    path: str | Path, *, scorer: str | None = None, samples: int | None = None
) -> tuple[dict[str, Record], ImportReport]:
    """Read an Inspect log; the epochs of a question are its samples. Dropped rows are numbered by
    their place in the log.

    Args:
        path: a `.json` log or an `.eval` archive.
        scorer: name of the scorer whose verdict counts; needed only where there are several.
        samples: as in `import_paper`.
    """
    path = Path(path)
    report = ImportReport(path)
    grouped: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    first: dict[str, int] = {}
    seen: set[tuple[str, Any]] = set()
    for number, sample in enumerate(_inspect_samples(path, report), start=1):
        try:
            if sample["id"] is None:
                raise _Bad("missing field: id")
            question = str(sample["id"])
            if (question, sample.get("epoch")) in seen:
                raise _Bad(f"repeated sample: question {question!r}, epoch {sample.get('epoch')}")
            values = _inspect_row(sample, scorer)
        except _Bad as bad:
            report.dropped.append((number, str(bad)))
            continue
        except _ODD as error:
            report.dropped.append((number, _odd(error)))
            continue
        seen.add((question, sample.get("epoch")))
        first.setdefault(question, number)
        for name, value in values.items():
            grouped[question][name].append(value)
    rows = {
        question: (first[question], {"id": question, "samples": dict(columns)})
        for question, columns in grouped.items()
    }
    return _keep_full_rows(rows, report, samples), report


def _inspect_samples(path: Path, report: ImportReport) -> Iterator[dict[str, Any]]:
    if not zipfile.is_zipfile(path):
        try:
            yield from json.loads(path.read_text("utf-8"))["samples"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path} is no Inspect log with samples ({type(error).__name__}: {error}); export"
                " it with `inspect log dump`"
            ) from None
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise ValueError(f"{path} is a damaged archive ({error}); fetch it again") from None
    with archive:
        for name in sorted(
            n for n in archive.namelist() if n.startswith("samples/") and n.endswith(".json")
        ):
            try:
                yield json.loads(archive.read(name))
            except (
                ValueError,
                RecursionError,
                NotImplementedError,
                RuntimeError,  # encrypted
                EOFError,
                OSError,
                MemoryError,
                zlib.error,
                zipfile.BadZipFile,
            ) as error:
                report.dropped.append((0, f"bad JSON: {name}: {error}"))


def _inspect_row(sample: dict[str, Any], scorer: str | None) -> dict[str, Any]:
    if sample.get("error"):
        raise _Bad(f"failed sample: {str(sample['error'])[:80]}")
    scores = sample["scores"] or {}
    if scorer is None and len(scores) != 1:
        raise _Bad(
            f"several scorers: choose one of {', '.join(scores)}"
            if scores
            else "not scored: no verdict is stored"
        )
    chosen = scores[scorer if scorer is not None else next(iter(scores))]
    truth = {"C": True, "I": False, 1: True, 0: False, "1": True, "0": False}.get(chosen["value"])
    if truth is None:
        raise _Bad(f"bad value: the score {chosen['value']!r} is neither right nor wrong")
    choice = sample["output"]["choices"][0]
    content = choice["message"]["content"]
    text = (
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    )
    cut_off = choice.get("stop_reason") in ("max_tokens", "model_length")
    answer = (
        None if cut_off or chosen.get("answer") in (None, "") else str(chosen["answer"]).strip()
    )
    tokens = sample["output"]["usage"]["output_tokens"]
    if not _number(tokens) or tokens <= 0:
        raise _Bad(f"bad value: {str(tokens)[:40]} output tokens")
    if not isinstance(text, str):
        raise _Bad("bad value: the content is no text")
    return {
        "text": text,
        "answer": answer,
        "correct": truth and not cut_off,
        "tokens": tokens,
        "finish": "length" if cut_off else "stop",
    }
