"""How test-time compute is spent on one question: the dials that a provider can turn.

- `Parallel`: n whole samples. Majority, weighted majority and best-of-k for every k <= n are all
  computed later from the same stored samples, so one trace gives every level of those three dials.
- `ThinkingBudget`: a chain of thought that is *made* to end after so many tokens (budget forcing in
  two phases). Each budget is a setting, and a trace, of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ttc_env.measure.backends.base import (
    SEED_STRIDE,
    Asked,
    Backend,
    Begun,
    Message,
    Prompt,
    Sample,
    Sampling,
)


@dataclass(frozen=True)
class Draw:
    """One delivered sample, whatever dial made it."""

    text: str  # thought and answer, as one text
    thinking_tokens: int  # realised length of the thought; 0 where the dial does not separate it
    answer_tokens: int  # all other generated tokens
    logprob: float | None  # sum over all generated tokens
    finish: str  # "stop" or "length"; a sample that was cut off counts as wrong
    budget: int | None = None  # where one draw holds several budgets

    @property
    def tokens(self) -> int:
        return self.thinking_tokens + self.answer_tokens


class Dial(Protocol):
    """A way to spend compute on a prompt."""

    @property
    def sampling(self) -> Sampling:
        """How it samples, n samples a question."""
        ...

    def settings(self) -> dict[str, Any]:
        """What a trace's header records, and what must not change within a trace."""
        ...

    @property
    def most_tokens(self) -> int:
        """Upper bound on the generated tokens of one prompt, all samples together."""
        ...

    def draw(
        self, backend: Backend, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[list[Draw]]:
        """The samples of each prompt."""
        ...


@dataclass(frozen=True)
class Parallel:
    """n independent samples, thought and answer in one go."""

    sampling: Sampling

    def settings(self) -> dict[str, Any]:
        return {"dial": "parallel", **self.sampling.settings()}

    @property
    def most_tokens(self) -> int:
        return self.sampling.n * self.sampling.max_tokens

    def draw(
        self, backend: Backend, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[list[Draw]]:
        drawn = backend.generate(prompts, self.sampling, seeds)
        return [
            [Draw(s.text, 0, s.tokens, s.logprob, s.finish) for s in samples] for samples in drawn
        ]


@dataclass(frozen=True)
class Closing:
    """How a thought is opened and closed, and how the answer is asked for."""

    end: str  # closes the thought: "</think>"
    answer_tokens: int
    answer_prefix: str = ""
    answer_stop: tuple[str, ...] = ()
    # opens the thought where the chat template's generation prompt does not: "<think>\n"
    start: str = ""

    def __post_init__(self) -> None:
        if self.answer_tokens < 1 or not self.end:
            raise ValueError(
                f"{self}: answer_tokens must be at least 1, and the closing marker not empty"
            )

    def settings(self) -> dict[str, Any]:
        return {
            "thought_end": self.end,
            "max_tokens": self.answer_tokens,
            "answer_prefix": self.answer_prefix,
            "stop": list(self.answer_stop),
            **({"thought_start": self.start} if self.start else {}),
        }

    def thought(self, prompt: Prompt) -> Prompt:
        """The prompt to think after."""
        if isinstance(prompt, str) or not self.start:
            return prompt
        return Begun(_messages(prompt), self.start)

    def answer(self, prompt: Prompt, thought: str, tokens: Sequence[int] | None) -> Prompt:
        """The prompt to answer after a thought (with its sampled tokens, if they are whole)."""
        tail = self.end + self.answer_prefix
        if isinstance(prompt, str):
            return prompt + thought + tail
        if tokens is None:
            return Begun(_messages(prompt), self.start, None, thought + tail)
        return Begun(_messages(prompt), self.start, tuple(tokens), tail)


@dataclass(frozen=True)
class ThinkingBudget:
    """A thought of at most `budget` tokens, then the answer: budget forcing.

    Phase one generates until the model closes its thought with `thought_end`, or the budget is
    spent. Phase two puts `thought_end` (and `answer_prefix`) after whatever was thought and lets
    the model answer within `answer_tokens`. The closing marker that we write is not billed; one
    that the model wrote is, as part of the thought. A budget of 0 goes straight to the answer.

    A model that ends its turn without closing its thought is asked for the answer all the same.
    """

    sampling: Sampling  # all but its max_tokens and stop
    budget: int
    thought_end: str
    answer_tokens: int
    answer_prefix: str = ""
    answer_stop: tuple[str, ...] = ()
    thought_start: str = ""

    def __post_init__(self) -> None:
        if self.budget < 0:
            raise ValueError(f"{self}: budget must be >= 0")
        self.closing  # noqa: B018 - checks the rest

    @property
    def closing(self) -> Closing:
        return Closing(
            self.thought_end,
            self.answer_tokens,
            self.answer_prefix,
            self.answer_stop,
            self.thought_start,
        )

    def settings(self) -> dict[str, Any]:
        return {
            "dial": "thinking_budget",
            **self.sampling.settings(),
            "budget": self.budget,
            **self.closing.settings(),
        }

    @property
    def most_tokens(self) -> int:
        return self.sampling.n * (self.budget + self.answer_tokens)

    def draw(
        self, backend: Backend, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[list[Draw]]:
        thoughts = _think(self.sampling, self.closing, self.budget, backend, prompts, seeds)
        continued: list[Prompt] = []
        phase_two_seeds: list[int] = []
        for prompt, seed, samples in zip(prompts, seeds, thoughts, strict=True):
            for j, thought in enumerate(samples):
                tokens = thought.token_ids if thought.finish == "length" else None
                continued.append(self.closing.answer(prompt, thought.text, tokens))
                # n <= SEED_STRIDE / 2, so no seed is used twice
                phase_two_seeds.append(seed + SEED_STRIDE // 2 + j)
        phase_two = _phase_two(self.sampling, self.closing)
        answers = iter(backend.generate(continued, phase_two, phase_two_seeds))
        return [
            [_join(self.closing, thought, next(answers)[0]) for thought in samples]
            for samples in thoughts
        ]


@dataclass(frozen=True)
class CoupledBudgets:
    """Several thinking budgets from one thought: it is drawn at the largest budget, cut after each
    smaller one, and answered from there.

    Costs the largest budget and the answers, where separate budgets cost their sum (a cut thought's
    prefix is in the engine's cache). The price: accuracies at two budgets are correlated, since
    they share their thoughts; every single one has the law that `ThinkingBudget` gives it. A
    thought that ended before a budget is the same at all larger ones, and is answered once.

    Needs an engine that tells its tokens (`vllm`, `transformers`, a vLLM server). Each budget's
    samples carry it in the column `budget`.
    """

    sampling: Sampling
    budgets: tuple[int, ...]
    closing: Closing

    def __post_init__(self) -> None:
        budgets = self.budgets
        if not budgets or min(budgets) < 0 or list(budgets) != sorted(set(budgets)):
            raise ValueError(f"budgets are {budgets}; give different ones, >= 0, in rising order")
        if self.sampling.n * len(budgets) > SEED_STRIDE // 2:
            raise ValueError(
                f"{self.sampling.n} samples at {len(budgets)} budgets are more than"
                f" {SEED_STRIDE // 2}, so seeds would be used twice; ask for fewer"
            )

    def settings(self) -> dict[str, Any]:
        return {
            "dial": "coupled_budgets",
            **self.sampling.settings(),
            "budgets": list(self.budgets),
            **self.closing.settings(),
        }

    @property
    def most_tokens(self) -> int:
        return self.sampling.n * (self.budgets[-1] + len(self.budgets) * self.closing.answer_tokens)

    def draw(
        self, backend: Backend, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[list[Draw]]:
        closing = self.closing
        thoughts = _think(self.sampling, closing, self.budgets[-1], backend, prompts, seeds)
        continued: list[Prompt] = []
        answer_seeds: list[int] = []
        cuts: list[
            list[tuple[Sample, int]]
        ] = []  # for each prompt: (cut thought, its answer's place)
        for prompt, seed, samples in zip(prompts, seeds, thoughts, strict=True):
            row: list[tuple[Sample, int]] = []
            for j, thought in enumerate(samples):
                whole_at: int | None = None
                for b, budget in enumerate(self.budgets):
                    cut = _cut(thought, budget, backend)
                    if cut is thought and whole_at is not None:
                        row.append((thought, whole_at))
                        continue
                    tokens = cut.token_ids if cut.finish == "length" else None
                    continued.append(closing.answer(prompt, cut.text, tokens))
                    answer_seeds.append(seed + SEED_STRIDE // 2 + j * len(self.budgets) + b)
                    row.append((cut, len(continued) - 1))
                    if cut is thought:
                        whole_at = len(continued) - 1
            cuts.append(row)
        answers = backend.generate(continued, _phase_two(self.sampling, closing), answer_seeds)
        return [
            [
                replace(
                    _join(closing, cut, answers[place][0]),
                    budget=self.budgets[i % len(self.budgets)],
                )
                for i, (cut, place) in enumerate(row)
            ]
            for row in cuts
        ]


def _cut(thought: Sample, budget: int, backend: Backend) -> Sample:
    """The first `budget` tokens of a thought; the thought itself if it is no longer."""
    if thought.tokens <= budget:
        return thought
    if budget == 0:
        return Sample("", 0, 0.0, "length", ())
    if thought.token_ids is None:
        raise RuntimeError(
            "this engine does not tell its tokens, so a thought cannot be cut; measure each budget"
            " on its own (without coupled budgets)"
        )
    kept = thought.token_ids[:budget]
    # the log-probability of a part is not known
    return Sample(backend.decode(kept), budget, None, "length", kept)


def _think(
    sampling: Sampling,
    closing: Closing,
    budget: int,
    backend: Backend,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
) -> list[list[Sample]]:
    """Phase one: thoughts of at most `budget` tokens."""
    if not budget:
        return [[Sample("", 0, 0.0, "length", ())] * sampling.n for _ in prompts]
    phase_one = replace(sampling, max_tokens=budget, stop=(closing.end,))
    thoughts = backend.generate([closing.thought(p) for p in prompts], phase_one, seeds)
    longest = max(thought.tokens for samples in thoughts for thought in samples)
    if longest > budget:
        raise RuntimeError(
            f"a thought of {longest} tokens exceeds its budget of {budget}: the backend ignored"
            " max_tokens"
        )
    return thoughts


def _phase_two(sampling: Sampling, closing: Closing) -> Sampling:
    return replace(sampling, n=1, max_tokens=closing.answer_tokens, stop=closing.answer_stop)


def _join(closing: Closing, thought: Sample, answer: Sample) -> Draw:
    logprob = (
        None
        if thought.logprob is None or answer.logprob is None
        else thought.logprob + answer.logprob
    )
    text = thought.text + closing.end + closing.answer_prefix + answer.text
    return Draw(text, thought.tokens, answer.tokens, logprob, answer.finish)


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    if isinstance(prompt, (str, Begun)):
        raise TypeError("a question's prompt is a text or messages")
    return prompt


def extend(prompt: Asked, text: str) -> Asked:
    """A delivered answer after its prompt, as a reward model reads it: one more message."""
    if isinstance(prompt, str):
        return prompt + text
    if prompt[-1]["role"] == "assistant":
        return (*prompt[:-1], {"role": "assistant", "content": prompt[-1]["content"] + text})
    return (*prompt, {"role": "assistant", "content": text})
