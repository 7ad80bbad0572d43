"""Other programs' files, with the kinds of breakage that released data has; every dropped row must
be counted, with its line.
"""

import functools
import json
import zipfile

import pytest

from ttc_env.measure import importers, scoring
from ttc_env.measure.samples import from_records


def paper_row(qid, n=4, **changes):
    row = {
        "qid": qid,
        "answers": ["1", "2", "", None][:n],
        "correct": [True, False, False, False][:n],
        "explanations": ["..."] * n,
        "num_tokens": [10, 20, 30, 40][:n],
        "rewards": [0.5, -0.5, 0.0, 1.0][:n],
    }
    return json.dumps(row | changes)


def test_paper_rows_are_kept_or_reported(tmp_path):
    path = tmp_path / "paper.jsonl"
    lines = [
        paper_row("aime-1"),
        '{"qid": "aime-2", "answers": ["1", ',  # bad JSON in the middle
        paper_row("gpqa-7"),  # another benchmark's row
        paper_row("aime-3", correct=[True]),  # misaligned
        paper_row("aime-1"),  # repeated
        paper_row("aime-4", num_tokens=[1, 2, 3, None]),
        paper_row("aime-5", n=2),  # short
        paper_row("aime-6", answers="1234"),  # not a list, though it has a length
        "",
        paper_row("aime-8"),
        '{"qid": "aime-9", "answers": ["1", "2"',  # cut off at the end of the file
    ]
    path.write_text("\n".join(lines))
    records, report = importers.import_paper(path, id_pattern=r"aime-\d+")
    assert list(records) == ["aime-1", "aime-8"]
    assert report.kept == 2
    assert [(line, reason.partition(":")[0]) for line, reason in report.dropped] == [
        (2, "bad JSON"),
        (3, "wrong benchmark"),
        (4, "misaligned lists"),
        (5, "repeated question"),
        (6, "bad value"),
        (7, "too few samples"),
        (8, "misaligned lists"),
        (11, "bad JSON"),
    ]
    assert "8 lines dropped (2 bad JSON, 2 misaligned lists" in str(report)
    assert "cut off at the end of the file" in str(report)
    table = from_records(records)
    assert table.answer[0].tolist() == [0, 1, -1, -1]
    assert table.reward.tolist()[0] == [0.5, -0.5, 0.0, 1.0]


def test_paper_expected_ids(tmp_path):
    path = tmp_path / "paper.jsonl"
    path.write_text(paper_row(1) + "\n" + paper_row(2) + "\n")
    records, report = importers.import_paper(path, expected_ids=[2])
    assert list(records) == ["2"]
    assert report.dropped[0][0] == 1


def test_lm_eval(tmp_path):
    path = tmp_path / "samples_gsm8k.jsonl"

    def row(doc, texts, **changes):
        return json.dumps(
            {
                "doc_id": doc,
                "target": "9",
                "resps": [texts],
                "filtered_resps": texts[:1],
                "filter": "strict",
                **changes,
            }
        )

    lines = [
        row(0, ["=9", "=8", "none"]),
        # the same samples under another filter: not a repetition, not an error
        row(0, ["=9", "=8", "none"], filter="flexible"),
        row(1, [[-1.5, False]]),  # log-likelihoods
        row(2, ["=9", "=9", "=9"], target=None)[:-5],  # torn
        row(3, ["=9", "=9", "=1"]),
    ]
    path.write_text("\n".join(lines))
    check = functools.partial(scoring.check_exact, pattern="=([0-9])$")
    records, report = importers.import_lm_eval(path, check, len)
    assert list(records) == ["0", "3"]
    assert [line for line, _ in report.dropped] == [3, 4]
    assert records["0"]["samples"] == {
        "text": ["=9", "=8", "none"],
        "answer": ["9", "8", None],
        "correct": [True, False, False],
        "tokens": [2, 2, 4],
    }


def inspect_sample(question, epoch, value="C", **changes):
    output = {
        "choices": [{"message": {"content": "It is 4"}, "stop_reason": "stop"}],
        "usage": {"output_tokens": 5},
    }
    return {
        "id": question,
        "epoch": epoch,
        "output": output,
        "scores": {"match": {"value": value, "answer": "4"}},
        **changes,
    }


@pytest.mark.parametrize("archive", [False, True])
def test_inspect(tmp_path, archive):
    cut_off = inspect_sample("q2", 2)
    cut_off["output"]["choices"][0]["stop_reason"] = "max_tokens"
    samples = [
        inspect_sample("q1", 1),
        inspect_sample("q1", 2, "I"),
        inspect_sample("q1", 2),  # repeated
        inspect_sample("q2", 1, 1.0),
        cut_off,
        inspect_sample("q3", 1, error={"message": "boom"}),
        inspect_sample("q3", 2, "P"),  # partly right
        inspect_sample("q4", 1),  # one epoch is missing
    ]
    if archive:
        path = tmp_path / "log.eval"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("header.json", "{}")
            for i, sample in enumerate(samples):
                file.writestr(f"samples/{i}_epoch.json", json.dumps(sample))
    else:
        path = tmp_path / "log.json"
        path.write_text(json.dumps({"version": 2, "samples": samples}))
    records, report = importers.import_inspect(path)
    assert {q: r["samples"]["correct"] for q, r in records.items()} == {
        "q1": [True, False],
        "q2": [True, False],
    }
    assert records["q2"]["samples"]["answer"] == ["4", None]  # cut off: wrong, whatever it says
    assert [(n, reason.partition(":")[0]) for n, reason in report.dropped] == [
        (3, "repeated sample"),
        (6, "failed sample"),
        (7, "bad value"),
        (8, "too few samples"),
    ]


def test_inspect_needs_a_log(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="inspect log dump"):
        importers.import_inspect(path)


ODD = [
    None, True, -1, 0, 1.5, 10**400, float("nan"), float("inf"), "", "x", "\ud800", [], [None],
    [[]], {}, {"a": None}, [10**400] * 4, ["x"] * 4, [True] * 4, [{}] * 4,
]  # fmt: skip


def places(value, path=()):
    """The path of every part of a JSON value."""
    yield path
    entries = value.items() if isinstance(value, dict) else ()
    entries = enumerate(value) if isinstance(value, list) else entries
    for key, part in entries:
        yield from places(part, (*path, key))


def changed(value, path, odd, drop=False):
    """A copy of a JSON value with another part at `path`, or without it."""
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    if drop and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], odd, drop)
    return copy


def variants(row):
    for path in places(row):
        for odd in ODD:
            yield changed(row, path, odd)
        if path:
            yield changed(row, path, None, drop=True)


def test_odd_rows_are_dropped_and_never_abort_the_file(tmp_path):
    """Every part of a good row replaced by every odd value, a thousand rows a format: the good rows
    around them survive, and whatever is kept can be estimated.
    """
    good = json.loads(paper_row("good"))
    lm_eval = {"doc_id": 1, "target": "9", "resps": [["=9", "=8"]], "filter": "none"}
    check = functools.partial(scoring.check_exact, pattern="=([0-9])$")
    count = 0
    for name, row, read in (
        ("paper", good, lambda path: importers.import_paper(path, samples=1)),
        ("lm_eval", lm_eval, lambda path: importers.import_lm_eval(path, check, len, samples=1)),
    ):
        key = "qid" if name == "paper" else "doc_id"
        rows = [{**row, key: "first"}, *variants(row), {**row, key: "last"}]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        records, report = read(path)
        assert {"first", "last"} <= set(records)
        assert str(report)
        from_records(records, warn=lambda _: None).accuracy("majority", [1])
        count += len(rows)
    sample = inspect_sample("q", 1)
    rows = [inspect_sample("first", 1), *variants(sample), inspect_sample("last", 1)]
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"samples": rows}))
    records, _ = importers.import_inspect(path, samples=1)
    assert {"first", "last"} <= set(records)
    from_records(records, warn=lambda _: None).accuracy("majority", [1])
    assert count + len(rows) > 1000


def test_deep_nesting_and_damaged_archives(tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    path = tmp_path / "paper.jsonl"
    path.write_text(f"{paper_row('a')}\n{deep}\n{paper_row('b')}\n")
    records, report = importers.import_paper(path)
    assert list(records) == ["a", "b"]
    assert report.dropped[0][0] == 2
    archive = tmp_path / "log.eval"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(3):
            sample = inspect_sample(f"q{i}", 1)
            file.writestr(f"samples/{i}.json", json.dumps(sample) + " " * 500)
    whole = archive.read_bytes()
    messages = []
    for place in range(len(whole)):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            importers.import_inspect(archive)
        except ValueError as error:
            messages.append(str(error))
    assert messages
    assert all(str(archive) in message for message in messages)
