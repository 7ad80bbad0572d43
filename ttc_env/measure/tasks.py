"""Benchmarks: where questions come from, and how they are put to a model.

Wordings and answer formats are data, in formats.toml.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ttc_env.measure import scoring
from ttc_env.measure.backends.base import Asked, MissingExtra
from ttc_env.measure.chains import draw_distinct_chains


@dataclass(frozen=True)
class Question:
    """One question of a task."""

    id: str  # stable: the same question has the same id in every run, whatever subset is measured
    prompt: Asked
    gold: str


@dataclass(frozen=True)
class Task:
    """Questions in a fixed order, and how their answers are read."""

    name: str
    questions: tuple[Question, ...]
    format: Mapping[str, Any]  # its entry in formats.toml
    answer: str  # kind, see ttc_env.measure.scoring
    pattern: str | None
    max_tokens: int  # for a whole answer with its thought
    stop: tuple[str, ...] = ()
    # how to close a thought: `end`, `prefix`, `answer_tokens`
    thinking: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        twice = [i for i, count in Counter(q.id for q in self.questions).items() if count > 1]
        if twice or not self.questions:
            raise ValueError(
                f"task {self.name!r} has"
                f" {'repeated question ids, e.g. ' + repr(twice[0]) if twice else 'no questions'}"
            )

    @property
    def format_hash(self) -> str:
        """sha256 over the wording of prompts, where questions come from, and how answers are read;
        not over the questions.
        """
        return hashlib.sha256(json.dumps(self.format, sort_keys=True).encode()).hexdigest()

    @property
    def constant_baseline(self) -> tuple[str, float]:
        """The answer that is right most often if always given, and how often: a model below it has
        learnt nothing of use.
        """
        golds = Counter(self._normal(q.gold) for q in self.questions)
        answer, count = golds.most_common(1)[0]
        return answer, count / len(self.questions)

    def _normal(self, gold: str) -> str:
        return gold.strip().upper() if self.answer == "choice" else gold.strip().replace(",", "")

    def check(
        self, texts: list[str], golds: list[str], pool: scoring.WorkerPool | None = None
    ) -> list[scoring.Verdict]:
        return scoring.check_answers(self.answer, texts, golds, self.pattern, pool)


@cache
def formats() -> dict[str, dict[str, Any]]:
    """The content of formats.toml: task name -> settings."""
    return tomllib.loads((resources.files("ttc_env.measure") / "formats.toml").read_text("utf-8"))


def load_task(
    name: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    data: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Task:
    """A task by name: one of formats.toml, or `reasoning-gym:<dataset>`.

    Args:
        name: the task.
        limit: number of questions; a data set is shuffled by `seed` first, so that more questions
            extend fewer. All by default; procedural tasks without an end give 200.
        seed: chooses the questions, and the order of a multiple choice's options.
        data: a local JSON-lines, CSV or Parquet file in the data set's own schema, in place of a
            download.
        options: changes to the task's entry in formats.toml, e.g. {"prompt": ..., "max_terms": 8}.

    Raises:
        ValueError: an unknown task or option, or a row that does not fit the schema (named by
            number).
        MissingExtra: `datasets` or `reasoning-gym` is needed and not installed.
    """
    base, _, variant = name.partition(":")
    if base not in formats():
        raise ValueError(
            f"task {name!r} is unknown; choose one of {', '.join(formats())}"
            " (reasoning-gym:<dataset> for its procedural tasks)"
        )
    spec = {**formats()[base], **(options or {})}
    source = spec["source"]
    if source == "huggingface":
        fields = _from_datasets(spec, limit, seed, data)
    elif source == "reasoning-gym":
        fields = _from_reasoning_gym(variant, limit or 200, seed)
    elif source == "chains":
        chains = draw_distinct_chains(limit or 200, seed, spec["min_terms"], spec["max_terms"])
        fields = [
            {"id": chain.text, "question": chain.text, "gold": chain.answer} for chain in chains
        ]
    else:
        fields = [
            {"id": f"{a}+{b}", "question": f"{a}+{b}", "gold": str(a + b)}
            for a in range(10)
            for b in range(10)
        ][:limit]
    questions = tuple(Question(f["id"], _prompt(spec, f), f["gold"]) for f in fields)
    return Task(
        name,
        questions,
        spec,
        spec["answer"],
        spec.get("pattern"),
        spec["max_tokens"],
        tuple(spec.get("stop", ())),
        spec.get("thinking"),
    )


def _prompt(spec: Mapping[str, Any], fields: Mapping[str, str]) -> Asked:
    # One pass, and not str.format: questions and options hold braces of their own.
    text = re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], match[0]), spec["prompt"])
    if not spec["chat"]:
        return text
    system = ({"role": "system", "content": spec["system"]},) if spec.get("system") else ()
    return (*system, {"role": "user", "content": text})


def _from_datasets(
    spec: Mapping[str, Any], limit: int | None, seed: int, data: str | Path | None
) -> list[dict[str, str]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "to load this benchmark") from error
    if data is None:
        rows = datasets.load_dataset(
            spec["path"], spec.get("config"), split=spec["split"], revision=spec.get("revision")
        )
    else:
        kinds = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
        if Path(data).suffix not in kinds:
            raise ValueError(f"{data}: the file must end in one of {', '.join(kinds)}")
        rows = datasets.load_dataset(kinds[Path(data).suffix], data_files=str(data), split="train")
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)  # always, so that a longer run extends a shorter one
    return read_rows(spec["rows"], ((i, rows[i]) for i in order[:limit]), seed)


def read_rows(
    reader: str, rows: Iterable[tuple[int, Mapping[str, Any]]], seed: int = 0
) -> list[dict[str, str]]:
    """Rows `(number, row)` of a data set as prompt fields with `id` and `gold`.

    Raises:
        ValueError: a row lacks a column or holds something unexpected; the message names it.
    """
    fields = []
    for number, row in rows:
        try:
            fields.append(ROW_READERS[reader](number, row, seed))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"row {number} does not fit the schema of {reader} ({type(error).__name__}:"
                f" {error}); it has the columns {', '.join(row)}"
            ) from None
    return fields


def _gsm8k(number: int, row: Mapping[str, Any], seed: int) -> dict[str, str]:
    _, mark, gold = row["answer"].rpartition("#### ")
    if not mark:
        raise ValueError("the answer has no '#### '")
    return {
        "id": f"gsm8k-{number}",
        "question": row["question"],
        "gold": gold.strip().replace(",", ""),
    }


def _aime(number: int, row: Mapping[str, Any], seed: int) -> dict[str, str]:
    gold = str(int(row["Answer"]))  # "025" and 25 are one answer
    return {"id": str(row["ID"]), "question": row["Question"], "gold": gold}


def _options(question_id: str, options: list[str], right: int, seed: int | None) -> dict[str, str]:
    """Lettered options; `seed` shuffles them, each question in its own way."""
    order = list(range(len(options)))
    if seed is not None:
        random.Random(f"{seed}|{question_id}").shuffle(order)
    letters = "ABCDEFGHIJ"
    return {letters[place]: options[i].strip() for place, i in enumerate(order)} | {
        "gold": letters[order.index(right)]
    }


def _gpqa(number: int, row: Mapping[str, Any], seed: int) -> dict[str, str]:
    question_id = row.get("Record ID") or f"gpqa-{number}"
    # The right answer stands first in every row, so the options must be shuffled.
    options = [row["Correct Answer"], *(row[f"Incorrect Answer {i}"] for i in (1, 2, 3))]
    return {
        "id": question_id,
        "question": row["Question"].strip(),
        **_options(question_id, options, 0, seed),
    }


def _mmlu(number: int, row: Mapping[str, Any], seed: int) -> dict[str, str]:
    question_id = f"mmlu-{row['subject']}-{number}"
    if len(row["choices"]) != 4 or row["answer"] not in range(4):
        raise ValueError(
            f"{len(row['choices'])} choices and answer {row['answer']!r}; expected four and a"
            " number from 0 to 3"
        )
    return {
        "id": question_id,
        "question": row["question"],
        **_options(question_id, row["choices"], row["answer"], None),
    }


ROW_READERS: dict[str, Callable[[int, Mapping[str, Any], int], dict[str, str]]] = {
    "gsm8k": _gsm8k,
    "aime": _aime,
    "gpqa": _gpqa,
    "mmlu": _mmlu,
}


def _from_reasoning_gym(dataset: str, limit: int, seed: int) -> list[dict[str, str]]:
    if not dataset:
        raise ValueError(
            "name a procedural task, for instance reasoning-gym:gsm_symbolic or"
            " reasoning-gym:basic_arithmetic"
        )
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtra("reasoning-gym", "for procedural tasks") from error
    entries = reasoning_gym.create_dataset(dataset, size=limit, seed=seed)
    return [
        {"id": f"{dataset}-{seed}-{i}", "question": entry["question"], "gold": str(entry["answer"])}
        for i, entry in enumerate(entries)
    ]
