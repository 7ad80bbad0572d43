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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    # where its questions were read: `path` and `revision` of a data set, `file` and `sha256` of a
    # local file; empty for procedural tasks
    origin: Mapping[str, Any] = field(default_factory=dict)

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
    def unpinned(self) -> str | None:
        """What to do about a data set whose questions may change under a trace; None if nothing."""
        if "path" not in self.origin or self.format.get("revision"):
            return None
        found = self.origin["revision"]
        pin = f'"revision": "{found or "<commit>"}"'
        return (
            f"task {self.name} reads {self.origin['path']} as it is today"
            f" ({f'commit {found}' if found else 'at an unknown commit'}); pin it with the task"
            f" option {{{pin}}}, so that its questions cannot change under a trace"
        )

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
            download. The task `rows` reads any such file: the options `question_field`,
            `answer_field`, `answer` (math, choice, exact) and, for choices, `choices_field` say
            how.
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
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; a task has at least one question")
    spec = _spec(base, options or {})
    source = spec["source"]
    shown: list[dict[str, str]] = []
    origin: dict[str, Any] = {}
    if source == "rows" and data is None:
        raise ValueError("the task `rows` reads a file of yours; name it (--data)")
    if source == "rows" and not variant:
        name = f"rows:{Path(str(data)).stem}"
    if source in ("huggingface", "rows"):
        rows = _rows(spec, data)
        fields, shown = _from_datasets(spec, rows, limit, seed)
        origin = _origin(spec, rows, data)
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
    questions = tuple(Question(f["id"], _prompt(spec, f, shown), f["gold"]) for f in fields)
    return Task(
        name,
        questions,
        spec,
        spec["answer"],
        spec.get("pattern"),
        spec["max_tokens"],
        tuple(spec.get("stop", ())),
        spec.get("thinking"),
        origin,
    )


#: Options that an entry of formats.toml may have besides those that it has.
_OPTIONS = frozenset(
    (
        "system", "prompt", "chat", "answer", "pattern", "max_tokens", "stop", "thinking",
        "path", "config", "split", "revision", "rows", "min_terms", "max_terms",
        "question_field", "answer_field", "choices_field", "id_field", "shots", "shot_answer",
    )
)  # fmt: skip
#: How answers of each kind are asked for, where an entry does not say.
_SYSTEM = {
    "math": "Solve the problem step by step. Put your final answer within \\boxed{}.",
    "choice": (
        "Answer the multiple-choice question. Think step by step, then end with a line of the"
        " form: Answer: LETTER"
    ),
    "exact": "Think step by step, then give the answer alone on the last line.",
}
#: The last line that holds something.
_LAST_LINE = r"(?m)^(.+)$"
LETTERS = "ABCDEFGHIJ"


def _spec(base: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The task's entry with the user's changes, checked.

    Raises:
        ValueError: an option that does not exist, or one that is missing or of the wrong kind.
    """
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ValueError(
            f"task option {unknown[0]!r} is unknown; choose among {', '.join(sorted(_OPTIONS))}"
        )
    spec = {**formats()[base], **options}
    if "path" in options and "revision" not in options:
        spec.pop("revision", None)  # a commit of the data set that was replaced
    if spec["source"] == "rows":
        for name, option in (
            ("question_field", "--question-field"),
            ("answer_field", "--answer-field"),
            ("answer", "--check"),
        ):
            if name not in spec:
                raise ValueError(f"the task `rows` needs {option} ({name})")
        if spec["answer"] == "choice":
            if "choices_field" in spec and "prompt" not in options:
                spec["prompt"] = "{question}\n\n{options}"
            spec.setdefault("pattern", LETTERS)
        if spec["answer"] == "exact":
            spec.setdefault("pattern", _LAST_LINE)
        spec.setdefault("system", _SYSTEM.get(spec["answer"], ""))
    if spec["answer"] not in scoring.KINDS:
        raise ValueError(
            f"answers of kind {spec['answer']!r} cannot be checked; choose one of"
            f" {', '.join(scoring.KINDS)}"
        )
    if spec["answer"] == "exact":
        try:
            groups = re.compile(spec["pattern"]).groups
        except re.error as error:
            raise ValueError(f"pattern {spec['pattern']!r}: {error}") from None
        if groups < 1:
            raise ValueError(f"pattern {spec['pattern']!r} has no group; it marks the answer")
    shots = spec.get("shots", 0)
    if not isinstance(shots, int) or shots < 0:
        raise ValueError(f"shots is {shots!r}; give a number of worked examples, 0 or more")
    if shots and spec["source"] not in ("huggingface", "rows"):
        raise ValueError(f"{base} is a procedural task without rows to show (shots)")
    return spec


def _prompt(
    spec: Mapping[str, Any], fields: Mapping[str, str], shown: Sequence[Mapping[str, str]] = ()
) -> Asked:
    """The question as the model gets it, after worked examples `shown`."""
    text = _filled(spec["prompt"], fields)
    worked = [(_filled(spec["prompt"], f), _filled(_shot_answer(spec), f)) for f in shown]
    if not spec["chat"]:
        return "".join(f"{question}{answer}\n\n" for question, answer in worked) + text
    system = ({"role": "system", "content": spec["system"]},) if spec.get("system") else ()
    examples = [
        {"role": role, "content": content}
        for pair in worked
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
    return (*system, *examples, {"role": "user", "content": text})


def _filled(template: str, fields: Mapping[str, str]) -> str:
    # One pass, and not str.format: questions and options hold braces of their own.
    return re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], match[0]), template)


def _shot_answer(spec: Mapping[str, Any]) -> str:
    """How a worked example ends: as the instruction asks for it."""
    default = {"math": "{solution}\\boxed{{gold}}", "choice": "Answer: {gold}", "exact": "{gold}"}
    return str(spec.get("shot_answer", default[spec["answer"]]))


def _from_datasets(
    spec: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], limit: int | None, seed: int
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Fields of the questions, and of the worked examples: rows set aside for all limits."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)  # always, so that a longer run extends a shorter one
    shots = spec.get("shots", 0)
    if shots >= len(order):
        raise ValueError(f"{shots} worked examples leave no question of {len(order)} rows")
    # from the end, so that the questions are those of a run without examples
    aside = order[len(order) - shots :] if shots else []
    asked = order[: len(order) - shots][:limit]
    reader = spec["rows"]
    return (
        read_rows(reader, ((i, rows[i]) for i in asked), seed, spec),
        read_rows(reader, ((i, rows[i]) for i in aside), seed, spec),
    )


def _rows(spec: Mapping[str, Any], data: str | Path | None) -> Sequence[Mapping[str, Any]]:
    if data is not None and not Path(data).is_file():
        raise ValueError(f"there is no file {data}")
    if data is not None and Path(data).suffix == ".jsonl":
        return _json_rows(Path(data))
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
    return rows


def _origin(spec: Mapping[str, Any], rows: Any, data: str | Path | None) -> dict[str, Any]:
    """Where rows were read: the local file, or the data set at the commit that was resolved."""
    if data is not None:
        content = Path(data).read_bytes()
        return {"file": Path(data).name, "sha256": hashlib.sha256(content).hexdigest()}
    revision = spec.get("revision")
    if revision is None:
        # `datasets` names its downloads hf://datasets/<path>@<commit>/<file>
        names = getattr(getattr(rows, "info", None), "download_checksums", None) or {}
        commits = {m[1] for name in names if (m := re.search(r"@([0-9a-f]{40})/", str(name)))}
        revision = commits.pop() if len(commits) == 1 else None
    return {"path": spec["path"], "revision": revision}


def _json_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, with their values as they stand ("007" stays "007")."""
    rows = []
    # str.splitlines would also split at separators that JSON allows within a text (U+2028)
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is no object with columns")
        rows.append(row)
    return rows


def read_rows(
    reader: str,
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    seed: int = 0,
    spec: Mapping[str, Any] | None = None,
) -> list[dict[str, str]]:
    """Rows `(number, row)` of a data set as prompt fields with `id` and `gold`.

    Raises:
        ValueError: a row lacks a column or holds something unexpected; the message names it.
    """
    fields = []
    for number, row in rows:
        try:
            if reader == "fields":
                fields.append(_named_fields(number, row, spec or {}))
            else:
                fields.append(ROW_READERS[reader](number, row, seed))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"row {number} does not fit the schema of {reader} ({type(error).__name__}:"
                f" {error}); it has the columns {', '.join(row)}"
            ) from None
    return fields


def _named_fields(number: int, row: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, str]:
    """A row whose columns the task names: question, answer, and perhaps an id and choices."""
    label = spec.get("id_field")
    fields = {
        "id": str(row[label]) if label else f"row-{number}",
        "question": _text(row[spec["question_field"]]),
    }
    gold = row[spec["answer_field"]]
    if spec["answer"] != "choice":
        return {**fields, "gold": _text(gold), "solution": ""}
    if "choices_field" not in spec:
        return {**fields, "gold": _letter(gold, len(LETTERS))}
    choices = row[spec["choices_field"]]
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise ValueError(f"{spec['choices_field']} holds {type(choices).__name__}, not a list")
    options = [_text(choice) for choice in choices]
    if isinstance(gold, str) and gold in options:
        gold = options.index(gold)
    return {**fields, **_listed(options, LETTERS.index(_letter(gold, len(options))))}


def _text(value: Any) -> str:
    if value is None or isinstance(value, (dict, list, bool)):
        raise ValueError(f"expected a text or a number, found {value!r}")
    text = str(value).strip()
    if not text:
        raise ValueError("expected a text, found an empty one")
    return text


def _letter(gold: Any, choices: int) -> str:
    """A right choice given as a letter, or as a place from 0."""
    letters = LETTERS[:choices]
    if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < choices:
        return letters[gold]
    if isinstance(gold, str) and len(gold.strip()) == 1 and gold.strip().upper() in letters:
        return gold.strip().upper()
    raise ValueError(f"the answer {gold!r} is none of the choices; expected one of {letters}")


def _listed(options: Sequence[str], right: int) -> dict[str, str]:
    """Lettered options in the order that they have, alone and as one text."""
    if len(options) > len(LETTERS):
        raise ValueError(f"{len(options)} choices; at most {len(LETTERS)} are understood")
    named = dict(zip(LETTERS, options, strict=False))
    lines = "\n".join(f"{letter}) {option}" for letter, option in named.items())
    return {**named, "options": lines, "gold": LETTERS[right]}


def _mmlu_pro(number: int, row: Mapping[str, Any], seed: int) -> dict[str, str]:
    options = [str(option).strip() for option in row["options"]]
    right = row["answer_index"]
    if _letter(row["answer"], len(options)) != _letter(right, len(options)):
        raise ValueError(f"answer {row['answer']!r} is not the option at answer_index {right!r}")
    return {
        "id": f"mmlu_pro-{row['question_id']}",
        "question": row["question"].strip(),
        **_listed(options, right),
    }


def _gsm8k(number: int, row: Mapping[str, Any], seed: int) -> dict[str, str]:
    solution, mark, gold = row["answer"].rpartition("#### ")
    if not mark:
        raise ValueError("the answer has no '#### '")
    return {
        "id": f"gsm8k-{number}",
        "question": row["question"],
        "gold": gold.strip().replace(",", ""),
        "solution": solution,
    }


def _aime(number: int, row: Mapping[str, Any], seed: int) -> dict[str, str]:
    gold = str(int(row["Answer"]))  # "025" and 25 are one answer
    return {"id": str(row["ID"]), "question": row["Question"], "gold": gold}


def _options(question_id: str, options: list[str], right: int, seed: int | None) -> dict[str, str]:
    """Lettered options; `seed` shuffles them, each question in its own way."""
    order = list(range(len(options)))
    if seed is not None:
        random.Random(f"{seed}|{question_id}").shuffle(order)
    letters = LETTERS
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
    "mmlu_pro": _mmlu_pro,
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
