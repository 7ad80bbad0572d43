"""Traces as tables: what the estimators work on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_env.measure import estimators, weighted
from ttc_env.measure.estimators import NO_ANSWER
from ttc_env.measure.traces import Trace

Array = NDArray[np.float64]

METHODS = ("majority", "best_of_n", "weighted_majority", "pass_at_k")
SCORES = ("logprob", "reward")


@dataclass(frozen=True, eq=False)
class Samples:
    """All samples of one (model, task, setting), as `[Q, N]` arrays. Rows in the order of `ids`."""

    ids: tuple[str, ...]
    # [Q, N] code of the parsed answer within its question; NO_ANSWER where none was parsed
    answer: NDArray[np.int64]
    correct: NDArray[np.bool_]  # [Q, N]
    tokens: Array  # [Q, N] billed tokens
    thinking_tokens: Array  # [Q, N]
    finished: NDArray[np.bool_]  # [Q, N] False where the sample was cut off
    logprob: Array | None = None  # [Q, N] mean log-probability a token
    reward: Array | None = None  # [Q, N] score by a reward model

    @property
    def num_samples(self) -> int:
        return self.correct.shape[1]

    def select(self, ids: Iterable[str]) -> Samples:
        """The same table with the given questions alone, in the given order."""
        row = {question: i for i, question in enumerate(self.ids)}
        order = [row[question] for question in ids]
        changes: dict[str, Any] = {"ids": tuple(self.ids[i] for i in order)}
        for field in dataclasses.fields(self)[1:]:
            values = getattr(self, field.name)
            changes[field.name] = None if values is None else values[order]
        return Samples(**changes)

    def columns(self, kept: NDArray[np.bool_]) -> Samples:
        """The same table with the samples alone where `kept` (`[N]`) is True."""
        changes: dict[str, Any] = {"ids": self.ids}
        for field in dataclasses.fields(self)[1:]:
            values = getattr(self, field.name)
            changes[field.name] = None if values is None else values[:, kept]
        return Samples(**changes)

    def score(self, kind: str) -> Array:
        """`[Q, N]` scores of one kind of SCORES.

        Raises:
            ValueError: unknown, or not stored.
        """
        if kind not in SCORES:
            raise ValueError(f"score {kind!r} is unknown; choose one of {', '.join(SCORES)}")
        values = getattr(self, kind)
        if values is None:
            remedy = {
                "logprob": "measure with a backend that returns log-probabilities",
                "reward": "run `ttc-env estimate --reward-model` first",
            }
            raise ValueError(f"these samples have no {kind}; {remedy[kind]}")
        return values

    def accuracy(
        self, method: str, levels: Sequence[int], score: str = "logprob", resolution: int = 16
    ) -> Array:
        """`[Q, K]` chance of a right answer at each level, see `ttc_env.measure.estimators`.

        `score` picks the score of best_of_n and weighted_majority. Weights of votes must be
        positive: a log-probability counts with its exponential (the geometric mean of the token
        probabilities), a reward with its logistic.
        """
        if method == "majority":
            return estimators.majority_of_k(self.answer, self.correct, levels)
        if method == "pass_at_k":
            return estimators.pass_at_k(self.correct, levels)
        if method == "best_of_n":
            return estimators.best_of_k(self.correct, self.score(score), levels)
        if method == "weighted_majority":
            raw = self.score(score)
            weight = (
                np.exp(raw)
                if score == "logprob"
                else 1.0 / (1.0 + np.exp(-np.clip(raw, -500, 500)))
            )
            return weighted.weighted_majority_of_k(
                self.answer, self.correct, weight, levels, resolution=resolution
            )
        raise ValueError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}")

    def tokens_at(self, levels: Sequence[int]) -> Array:
        """`[Q, K]` mean billed tokens at each level."""
        return estimators.tokens_at_k(self.tokens, levels)


def from_records(
    records: Mapping[str, Mapping[str, Any]], *, warn: Callable[[str], None] = print
) -> Samples:
    """A table from question id -> record with `samples` columns (`answer, correct, tokens`, and
    where known `logprob, rewards, ...`).

    Where questions have different numbers of samples, all are cut to the smallest, and `warn` says
    so.

    Raises:
        ValueError: no record.
    """
    if not records:
        raise ValueError("there are no questions in this trace; measure some first")
    columns = {question: record["samples"] for question, record in records.items()}
    counts = {len(c["correct"]) for c in columns.values()}
    n = min(counts)
    if len(counts) > 1:
        warn(f"questions have {n} to {max(counts)} samples; the first {n} of each are used")

    def table(name: str, default: Any, dtype: Any) -> NDArray[Any]:
        return np.array(
            [(c[name] if name in c else [default] * n)[:n] for c in columns.values()], dtype=dtype
        )

    tokens = table("tokens", 0, np.float64)
    return Samples(
        ids=tuple(columns),
        answer=np.array([_codes(c["answer"][:n]) for c in columns.values()], dtype=np.int64),
        correct=table("correct", False, bool),
        tokens=tokens,
        thinking_tokens=table("thinking_tokens", 0, np.float64),
        finished=table("finish", "stop", object) == "stop",
        logprob=_known(table("logprob", None, np.float64), tokens),
        reward=_known(table("rewards", None, np.float64), 1.0),
    )


def _codes(answers: Sequence[str | None]) -> list[int]:
    """Equal answers, equal codes, in order of appearance."""
    code: dict[str, int] = {}
    return [NO_ANSWER if a is None else code.setdefault(a, len(code)) for a in answers]


def _known(values: Array, divisor: Any) -> Array | None:
    """`values / divisor`, or None if any value is missing: a score that only some samples have
    compares nothing.
    """
    return None if np.isnan(values).any() else values / np.maximum(divisor, 1.0)


def from_trace(
    trace: Trace, rewards: Trace | None = None, *, warn: Callable[[str], None] = print
) -> Samples:
    """A table from a trace, with the rewards of a reward trace if given
    (`ttc_env.measure.rewards`).
    """
    if trace.torn:
        warn(trace.torn)
    if rewards is None:
        return from_records(trace.records, warn=warn)
    missing = set(trace.records) - set(rewards.records)
    if missing:
        raise ValueError(
            f"{rewards.path} lacks {len(missing)} of {len(trace.records)} questions; resume the"
            " scoring"
        )
    joined = {}
    for question, record in trace.records.items():
        columns = {**record["samples"], "rewards": rewards.records[question]["samples"]["rewards"]}
        joined[question] = {**record, "samples": columns}
    return from_records(joined, warn=warn)
