"""Questions and prompts.

Data sets are read through the real `datasets` from small files in the benchmarks' own schemas (no
download here).
"""

import hashlib
import json
import re
import sys
import types

import pytest

from ttc_env.measure import scoring, tasks
from ttc_env.measure.chains import STYLES, Chain, draw_distinct_chains
from ttc_env.measure.tasks import formats, load_task

ROWS = {
    "gsm8k": [
        {"question": "Tom has {3} apples.", "answer": "He has 3.\n#### 1,234"},
        {"question": "And $x$?", "answer": "Work.\n#### 18"},
    ],
    "aime": [
        {
            "ID": "1983-1",
            "Year": 1983,
            "Problem Number": 1,
            "Question": "Find $w$.",
            "Answer": "060",
            "Part": None,
        },
        {
            "ID": "1984-2",
            "Year": 1984,
            "Problem Number": 2,
            "Question": "Find $n$.",
            "Answer": "592",
            "Part": None,
        },
    ],
    "gpqa": [
        {
            "Record ID": f"rec{i}",
            "Question": " Which? \n",
            "Correct Answer": "right",
            "Incorrect Answer 1": "w1 {B}",
            "Incorrect Answer 2": "w2",
            "Incorrect Answer 3": "w3",
        }
        for i in range(20)
    ],
    "mmlu": [
        {"question": "2+2?", "subject": "algebra", "choices": ["1", "4", "3", "5"], "answer": 1},
        {"question": "1+1?", "subject": "algebra", "choices": ["2", "4", "3", "5"], "answer": 0},
    ],
}


def load(tmp_path, name, rows=None, **options):
    pytest.importorskip("datasets", reason="datasets is not installed (extra `measure`)")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS[name]))
    return load_task(name, data=path, **options)


def by_id(task):
    return {q.id: q for q in task.questions}


def test_gsm8k(tmp_path):
    questions = by_id(load(tmp_path, "gsm8k"))
    assert questions["gsm8k-0"].gold == "1234"
    # braces of its own survive
    assert questions["gsm8k-0"].prompt[-1] == {"role": "user", "content": "Tom has {3} apples."}
    assert "\\boxed" in questions["gsm8k-1"].prompt[0]["content"]


def test_aime(tmp_path):
    assert {q: v.gold for q, v in by_id(load(tmp_path, "aime")).items()} == {
        "1983-1": "60",
        "1984-2": "592",
    }


def test_gpqa_shuffles_its_options_but_always_in_the_same_way(tmp_path):
    task = load(tmp_path, "gpqa")
    for question in task.questions:
        text = question.prompt[-1]["content"]
        assert re.search(rf"^{question.gold}\) right$", text, re.MULTILINE)
        assert "w1 {B}" in text  # an option's own braces are no place for another option
    assert len({q.gold for q in task.questions}) == 4
    assert load(tmp_path, "gpqa").questions == task.questions
    assert load(tmp_path, "gpqa", seed=1).questions != task.questions
    assert 0.25 <= task.constant_baseline[1] < 0.6


def test_mmlu(tmp_path):
    task = load(tmp_path, "mmlu")
    assert {q: v.gold for q, v in by_id(task).items()} == {
        "mmlu-algebra-0": "B",
        "mmlu-algebra-1": "A",
    }
    assert task.constant_baseline[1] == 0.5


def test_more_questions_extend_fewer(tmp_path):
    few, many = load(tmp_path, "gpqa", limit=5), load(tmp_path, "gpqa")
    assert many.questions[:5] == few.questions
    assert load_task("chains", limit=50).questions[:20] == load_task("chains", limit=20).questions


@pytest.mark.parametrize(
    "name, row, words",
    [
        (
            "gsm8k",
            {"question": "?", "answer": "no mark"},
            "row 0 does not fit the schema of gsm8k.*####",
        ),
        ("aime", {"Question": "?", "Answer": "1"}, "KeyError: 'ID'.*Question, Answer"),
        ("mmlu", {"question": "?", "subject": "s", "choices": ["1"], "answer": 0}, "1 choices"),
        ("aime", {"ID": "1", "Question": "?", "Answer": "x"}, "ValueError"),
    ],
)
def test_rows_that_do_not_fit_are_named(name, row, words):
    with pytest.raises(ValueError, match=words):
        tasks.read_rows(name, [(0, row)])


def test_reasoning_gym():
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed (extra `measure`)")
    task = load_task("reasoning-gym:gsm_symbolic", limit=5, seed=1)
    assert len(task.questions) == 5
    assert task.questions == load_task("reasoning-gym:gsm_symbolic", limit=5, seed=1).questions
    with pytest.raises(ValueError, match="name a procedural task"):
        load_task("reasoning-gym")


def test_unknown_task_lists_the_known():
    with pytest.raises(ValueError, match="gsm8k, aime, gpqa, mmlu"):
        load_task("gsm9k")


def test_sums_and_format_hash():
    task = load_task("sums")
    assert len(task.questions) == 100
    assert task.constant_baseline == ("9", 0.1)
    other = load_task("sums", options={"prompt": "{question}="})
    assert task.format_hash != other.format_hash


def test_chain_by_hand():
    chain = Chain((3, 5, 2, 7), "+*-")
    assert (chain.text, chain.running_values, chain.answer) == ("3+5*2-7", (8, 6, 9), "9")
    assert chain.thought("terse") == "869"
    assert chain.thought("verbose") == "3+5>8,8*2>6,6-7>9,"
    with pytest.raises(ValueError, match=", ".join(STYLES)):
        chain.thought("loud")


def test_questions_are_held_out_from_training():
    chains = draw_distinct_chains(300, 0, 3, 6)
    assert all(chain.held_out for chain in chains)
    assert len({chain.text for chain in chains}) == 300
    golds = [chain.answer for chain in chains]
    # multiplication makes 0 the most frequent answer
    assert max(golds.count(g) for g in golds) / 300 < 0.35
    with pytest.raises(ValueError, match="ask for fewer"):
        draw_distinct_chains(40, 0, 2, 2)


def rows_file(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_ones_own(tmp_path):
    path = rows_file(tmp_path, [{"q": "1+1?", "a": 2}, {"q": "2+2?", "a": "04"}])
    options = {"question_field": "q", "answer_field": "a", "answer": "math"}
    task = load_task("rows", data=path, options=options)
    assert task.name == "rows:mine"
    assert {q.id: q.gold for q in task.questions} == {"row-0": "2", "row-1": "04"}
    assert "\\boxed" in task.questions[0].prompt[0]["content"]
    exact = load_task("rows:other", data=path, options={**options, "answer": "exact"})
    assert exact.name == "rows:other"
    assert scoring.check_exact("I think\n2\n", "2", exact.pattern).correct
    assert not scoring.check_exact("2\nno, 3", "2", exact.pattern).correct


def test_choices_of_ones_own(tmp_path):
    rows = [
        {"q": "Which?", "options": ["u", "v", "w"], "a": "v"},
        {"q": "What?", "options": ["u", "v"], "a": 0},
        {"q": "Who?", "options": ["u", "v", "w", "x", "y"], "a": "e"},
    ]
    options = {
        "question_field": "q", "answer_field": "a", "answer": "choice", "choices_field": "options",
    }  # fmt: skip
    task = load_task("rows", data=rows_file(tmp_path, rows), options=options)
    by = by_id(task)
    assert {q: v.gold for q, v in by.items()} == {"row-0": "B", "row-1": "A", "row-2": "E"}
    assert by["row-0"].prompt[-1]["content"] == "Which?\n\nA) u\nB) v\nC) w"


@pytest.mark.parametrize(
    "rows, options, words",
    [
        ([{"q": "?", "a": 1}], {}, "--question-field"),
        ([{"q": "?", "a": 1}], {"question_field": "q", "answer_field": "a"}, "--check"),
        (
            [{"q": "?", "a": None}],
            {"question_field": "q", "answer_field": "a", "answer": "math"},
            "row 0",
        ),
        (
            [{"q": "?", "a": "Z"}],
            {"question_field": "q", "answer_field": "a", "answer": "choice"},
            "none of the choices",
        ),
        (
            [{"q": "?", "a": 1}],
            {"question_field": "x", "answer_field": "a", "answer": "math"},
            "KeyError: 'x'.*columns q, a",
        ),
        (
            [{"q": "?", "a": 1}],
            {"question_field": "q", "answer_field": "a", "answer": "essay"},
            "math",
        ),
        ([{"q": "?", "a": 1}], {"quetsion_field": "q"}, "'quetsion_field' is unknown"),
        (
            [{"q": "?", "a": 1}],
            {"question_field": "q", "answer_field": "a", "answer": "math", "shots": 1},
            "no question",
        ),
        (
            [{"q": "?", "a": 1}],
            {"question_field": "q", "answer_field": "a", "answer": "exact", "pattern": "("},
            "pattern",
        ),
        (
            [{"q": "?", "a": 1}],
            {"question_field": "q", "answer_field": "a", "answer": "exact", "pattern": "x"},
            "'x' has no group",
        ),
        (
            [{"q": "?", "a": 1}],
            {"question_field": "q", "answer_field": "a", "answer": "math", "shots": -1},
            "shots is -1; give a number",
        ),
        (
            [{"q": "  ", "a": 1}],
            {"question_field": "q", "answer_field": "a", "answer": "math"},
            "row 0.*found an empty one",
        ),
        (
            [{"q": "?", "a": "A", "c": "yes or no"}],
            {
                "question_field": "q",
                "answer_field": "a",
                "answer": "choice",
                "choices_field": "c",
            },
            "c holds str, not a list",
        ),
        (
            [{"q": "?", "a": 0, "c": [str(i) for i in range(27)]}],
            {
                "question_field": "q",
                "answer_field": "a",
                "answer": "choice",
                "choices_field": "c",
            },
            "27 choices; at most 10",
        ),
        (
            [{"q": "?", "a": 1, "n": 7}, {"q": "!", "a": 2, "n": 7}],
            {"question_field": "q", "answer_field": "a", "answer": "math", "id_field": "n"},
            "repeated question ids, e.g. '7'",
        ),
    ],
)
def test_what_is_wrong_with_rows_is_told(tmp_path, rows, options, words):
    with pytest.raises(ValueError, match=words):
        load_task("rows", data=rows_file(tmp_path, rows), options=options)


MATH_ROWS = {"question_field": "q", "answer_field": "a", "answer": "math"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"q": "?", "a": 1}\n\n{"q": "?"', "line 3 is no JSON"),
        ("[1, 2]\n", "line 1 is no object with columns"),
        ("[" * 100_000, "line 1 is no JSON"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, text, words):
    path = tmp_path / "mine.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.jsonl: {words}"):
        load_task("rows", data=path, options=MATH_ROWS)


def test_a_text_may_hold_any_separator_and_lines_may_be_empty(tmp_path):
    """JSON lines end with a line feed: U+2028, U+0085 and vertical tabs are part of a text."""
    path, odd = tmp_path / "mine.jsonl", "one\u2028two\u0085three\u000cfour"
    rows = [{"q": odd, "a": 1}, {"q": "second", "a": 2}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("\r\n\r\n".join(lines).encode())
    asked = by_id(load_task("rows", data=path, options=MATH_ROWS))
    assert set(asked) == {"row-0", "row-1"}
    assert odd in asked["row-0"].prompt[-1]["content"]


def test_files_that_are_not_there_or_of_no_known_kind_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="reads a file of yours; name it"):
        load_task("rows", options=MATH_ROWS)
    with pytest.raises(ValueError, match=r"there is no file .*none\.jsonl"):
        load_task("rows", data=tmp_path / "none.jsonl", options=MATH_ROWS)
    read = []

    def load_dataset(kind, data_files, split):
        read.append((kind, data_files, split))
        return [{"q": "1+1?", "a": 2}]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    for ending, kind in ((".csv", "csv"), (".parquet", "parquet"), (".json", "json")):
        path = tmp_path / f"mine{ending}"
        path.write_text("content")
        task = load_task("rows", data=path, options=MATH_ROWS)
        assert read[-1] == (kind, str(path), "train")
        assert [q.gold for q in task.questions] == ["2"]
    path = tmp_path / "mine.xlsx"
    path.write_text("content")
    with pytest.raises(ValueError, match=r"must end in one of \.jsonl, \.json, \.csv, \.parquet"):
        load_task("rows", data=path, options=MATH_ROWS)


def test_without_an_extra_the_remedy_is_named(tmp_path, monkeypatch):
    for module in ("datasets", "reasoning_gym"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"datasets.*pip install"):
        load_task("gsm8k")
    with pytest.raises(ImportError, match=r"reasoning-gym.*pip install"):
        load_task("reasoning-gym:basic_arithmetic")
    with pytest.raises(ValueError, match="procedural task without rows to show"):
        load_task("chains", options={"shots": 2})


def test_rows_whose_two_answers_differ_are_refused(tmp_path):
    row = {
        "question_id": 7, "question": "Which?", "options": ["u", "v"], "answer": "A",
        "answer_index": 1,
    }  # fmt: skip
    path = rows_file(tmp_path, [row])
    with pytest.raises(ValueError, match="answer 'A' is not the option at answer_index 1"):
        load_task("mmlu_pro", data=path)
    path.write_text(json.dumps({**row, "answer": "B"}) + "\n")
    assert load_task("mmlu_pro", data=path).questions[0].gold == "B"


def test_a_task_checks_answers_in_its_own_way(tmp_path):
    path = rows_file(tmp_path, [{"q": "?", "a": 2}])
    options = {**MATH_ROWS, "answer": "exact", "pattern": r"= (\d+)$"}
    task = load_task("rows", data=path, options=options)
    verdicts = task.check(["1 + 1 = 2", "2"], ["2", "2"])
    assert [v.correct for v in verdicts] == [True, False]
    assert [v.answer for v in verdicts] == ["2", None]


def test_limits_and_options_are_checked():
    for limit in (0, -5):
        with pytest.raises(ValueError, match=f"limit is {limit}"):
            load_task("chains", limit=limit)
    with pytest.raises(ValueError, match="'max_term' is unknown; choose among"):
        load_task("chains", options={"max_term": 8})


@pytest.mark.parametrize(
    "name, row, gold",
    [
        ("aime24", {"id": 60, "problem": "?", "answer": "204"}, "204"),
        ("aime25", {"id": "0", "problem": "?", "answer": "70"}, "70"),
        (
            "math500",
            {"unique_id": "test/a/1.json", "problem": "?", "answer": "\\frac{1}{2}"},
            "\\frac{1}{2}",
        ),
        (
            "mmlu_pro",
            {
                "question_id": 7,
                "question": "?",
                "options": list("uvwxyz"),
                "answer": "F",
                "answer_index": 5,
            },
            "F",
        ),
        (
            "gpqa_diamond",
            {
                "Question": "?",
                "Correct Answer": "r",
                **{f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)},
            },
            None,
        ),
    ],
)
def test_benchmarks_of_today(tmp_path, name, row, gold):
    task = load_task(name, data=rows_file(tmp_path, [row]))
    assert gold is None or task.questions[0].gold == gold
    assert re.fullmatch("[0-9a-f]{40}", task.format["revision"])
    assert "{" not in str(task.questions[0].prompt[-1]["content"])


@pytest.mark.parametrize(
    "name", [n for n, entry in formats().items() if entry["source"] == "huggingface"]
)
def test_every_data_set_of_the_hub_is_at_a_fixed_commit(name):
    assert re.fullmatch("[0-9a-f]{40}", formats()[name]["revision"])


class HubRows(list):
    """What `datasets` gives: rows that say what was downloaded."""

    def __init__(self, rows, urls):
        super().__init__(rows)
        self.info = types.SimpleNamespace(download_checksums={url: {} for url in urls})


def test_what_is_not_pinned_is_recorded_and_said(tmp_path, monkeypatch):
    asked = []
    commit = "0123456789abcdef" * 2 + "01234567"

    def load_dataset(path, config, split, revision):
        asked.append((path, revision))
        rows = [{"question": "1+1?", "answer": "2\n#### 2"}]
        return HubRows(rows, [f"hf://datasets/{path}@{commit}/main/test.parquet"])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    pinned = load_task("gsm8k")
    assert asked[-1] == ("openai/gsm8k", formats()["gsm8k"]["revision"])
    assert pinned.unpinned is None
    assert pinned.origin == {"path": "openai/gsm8k", "revision": formats()["gsm8k"]["revision"]}
    other = load_task("gsm8k", options={"path": "me/mine"})
    assert asked[-1] == ("me/mine", None)  # not the commit of another data set
    assert other.origin == {"path": "me/mine", "revision": commit}
    assert "me/mine as it is today" in other.unpinned
    assert f'"revision": "{commit}"' in other.unpinned
    mine = load_task("gsm8k", options={"path": "me/mine", "revision": commit})
    assert asked[-1] == ("me/mine", commit)
    assert mine.unpinned is None
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "1+1?", "answer": "2\n#### 2"}) + "\n")
    local = load_task("gsm8k", data=path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert local.origin == {"file": "rows.jsonl", "sha256": digest}
    assert local.unpinned is None
    assert load_task("chains", limit=1).unpinned is None


def test_worked_examples_are_set_aside(tmp_path):
    rows = [{"question": f"{i}+1?", "answer": f"Work {i}.\n#### {i + 1}"} for i in range(10)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = load_task("gsm8k", data=path)
    few = load_task("gsm8k", data=path, options={"shots": 2})
    assert [q.id for q in few.questions] == [q.id for q in plain.questions[:8]]
    prompt = few.questions[0].prompt
    assert [m["role"] for m in prompt] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    shown = {m["content"] for m in prompt if m["role"] == "user"} - {prompt[-1]["content"]}
    assert not shown & {q.prompt[-1]["content"] for q in few.questions}
    assert re.fullmatch(r"Work \d\.\n\\boxed\{\d+\}", prompt[2]["content"])
    assert few.format_hash != plain.format_hash
    assert (
        load_task("gsm8k", data=path, limit=3, options={"shots": 2}).questions == few.questions[:3]
    )
