"""How test-time compute is spent on one question: the dials that a provider can turn.

- `Parallel`: n whole samples. Majority, weighted majority and best-of-k for every k <= n are all
  computed later from the same stored samples, so one trace gives every level of those three dials.
- `ThinkingBudget`: a chain of thought that is *made* to end after so many tokens (budget forcing,
  in two phases or by the engine itself). Each budget is a setting, and a trace, of its own.
- `CoupledBudgets`: several budgets from one thought.

A dial says what it asks step by step, for one question (`steps`); who drives it decides how many
questions are under way at once, and changes no sample by it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from ttc_env.measure.backends.base import (
    SEED_STRIDE,
    Asked,
    Backend,
    Begun,
    Message,
    Prompt,
    Request,
    Sample,
    Sampling,
    ThoughtMarks,
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


#: What a dial asks for one question: requests out, samples in, its draws at the end.
Steps: TypeAlias = Generator[Request, "list[list[Sample]]", "list[Draw]"]


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

    def on(self, backend: Backend) -> Dial:
        """The dial as this engine turns it."""
        ...

    def steps(self, prompt: Prompt, seed: int, backend: Backend) -> Steps:
        """One question, step by step."""
        ...

    def draw(
        self, backend: Backend, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[list[Draw]]:
        """The samples of each prompt, all prompts in step."""
        ...


class _Stepped:
    """Draws a batch by its steps."""

    def on(self, backend: Backend) -> Any:
        return self

    def steps(self, prompt: Prompt, seed: int, backend: Backend) -> Steps:
        raise NotImplementedError

    def draw(
        self, backend: Backend, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[list[Draw]]:
        running = [self.steps(p, s, backend) for p, s in zip(prompts, seeds, strict=True)]
        drawn: list[list[Draw]] = [[] for _ in prompts]
        asked: dict[int, Request] = {}

        def go_on(i: int, samples: list[list[Sample]] | None) -> None:
            try:
                asked[i] = next(running[i]) if samples is None else running[i].send(samples)
            except StopIteration as end:
                drawn[i] = end.value

        for i in range(len(running)):
            go_on(i, None)
        while asked:
            sampling = next(iter(asked.values())).sampling
            together = {i: request for i, request in asked.items() if request.sampling == sampling}
            answers = iter(
                backend.generate(
                    [prompt for request in together.values() for prompt in request.prompts],
                    sampling,
                    [seed for request in together.values() for seed in request.seeds],
                )
            )
            for i, request in together.items():
                del asked[i]
                go_on(i, [next(answers) for _ in request.prompts])
        return drawn


@dataclass(frozen=True)
class Parallel(_Stepped):
    """n independent samples, thought and answer in one go."""

    sampling: Sampling

    def settings(self) -> dict[str, Any]:
        return {"dial": "parallel", **self.sampling.settings()}

    @property
    def most_tokens(self) -> int:
        return self.sampling.n * self.sampling.max_tokens

    def steps(self, prompt: Prompt, seed: int, backend: Backend) -> Steps:
        (samples,) = yield Request((prompt,), self.sampling, (seed,))
        return [Draw(s.text, 0, s.tokens, s.logprob, s.finish) for s in samples]


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

    @property
    def opening(self) -> str:
        """The marker that opens a thought, by us or by the chat template: `<think>` for `</think>`;
        empty where it is not known.
        """
        if self.start.strip():
            return self.start.strip()
        return "<" + self.end[2:] if self.end.startswith("</") else ""

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
class ThinkingBudget(_Stepped):
    """A thought of at most `budget` tokens, then the answer: budget forcing.

    In two phases: phase one generates until the model closes its thought with `thought_end`, or the
    budget is spent. Phase two puts `thought_end` (and `answer_prefix`) after whatever was thought
    and lets the model answer within `answer_tokens`. The closing marker that we write is not
    billed; one that the model wrote is, as part of the thought. A budget of 0 goes straight to the
    answer.

    An engine with a thinking budget of its own (vLLM's `thinking_token_budget`) does both in one
    request, with the same law and the same bill. It writes the marker and nothing else, so it is
    used where the answer has no prefix, no stop strings, and the marker is one token; `marks` says
    that it is used, and so does a trace's header.

    A model that ends its turn without closing its thought is asked for the answer all the same.
    """

    sampling: Sampling  # all but its max_tokens and stop
    budget: int
    thought_end: str
    answer_tokens: int
    answer_prefix: str = ""
    answer_stop: tuple[str, ...] = ()
    thought_start: str = ""
    engine: bool = True  # by the engine's own budget where it can; False: always two phases
    marks: ThoughtMarks | None = None  # set by `on`

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
            **({} if self.marks is None else {"closed_by": "engine"}),
        }

    @property
    def most_tokens(self) -> int:
        return self.sampling.n * (self.budget + self.answer_tokens)

    def engine_marks(self) -> tuple[str, str] | None:
        """What an engine must know to close this thought itself; None where it cannot."""
        able = self.engine and self.budget and not (self.answer_prefix or self.answer_stop)
        return (self.closing.opening, self.thought_end) if able and self.closing.opening else None

    def on(self, backend: Backend) -> ThinkingBudget:
        marks: ThoughtMarks | None = getattr(backend, "thought_marks", None)
        able = marks is not None and (marks.start, marks.end) == self.engine_marks()
        return replace(self, marks=marks if able else None)

    def steps(self, prompt: Prompt, seed: int, backend: Backend) -> Steps:
        if self.marks is not None:
            return (yield from self._in_one(self.marks, prompt, seed, backend))
        thoughts = yield from _think(self.sampling, self.closing, self.budget, prompt, seed)
        return (yield from self._answered(prompt, seed, dict(enumerate(thoughts))))

    def _answered(self, prompt: Prompt, seed: int, thoughts: dict[int, Sample]) -> Steps:
        """Phase two, for thoughts by their place among the samples."""
        continued = []
        for thought in thoughts.values():
            tokens = thought.token_ids if thought.finish == "length" else None
            continued.append(self.closing.answer(prompt, thought.text, tokens))
        # n <= SEED_STRIDE / 2, so no seed is used twice
        seeds = tuple(seed + SEED_STRIDE // 2 + j for j in thoughts)
        phase_two = _phase_two(self.sampling, self.closing)
        answers = yield Request(tuple(continued), phase_two, seeds)
        return [
            _join(self.closing, thought, answer)
            for thought, (answer,) in zip(thoughts.values(), answers, strict=True)
        ]

    def _in_one(self, marks: ThoughtMarks, prompt: Prompt, seed: int, backend: Backend) -> Steps:
        """Thought, marker and answer in one request; what is cut off the answer would not have been
        generated in two phases, and is not billed.
        """
        most = self.budget + 1 + self.answer_tokens
        sampling = replace(self.sampling, max_tokens=most, stop=(), thinking_budget=self.budget)
        (samples,) = yield Request((self.closing.thought(prompt),), sampling, (seed,))
        draws: dict[int, Draw] = {}
        unclosed: dict[int, Sample] = {}
        for j, sample in enumerate(samples):
            ids, logprobs = sample.token_ids, sample.token_logprobs
            if ids is None or logprobs is None:
                raise RuntimeError(f"{backend.model}: the engine does not tell its tokens")
            at = ids.index(marks.end_id) if marks.end_id in ids else len(ids)
            if at > self.budget:
                raise RuntimeError(
                    f"a thought of {at} tokens exceeds its budget of {self.budget}: the engine"
                    " ignored thinking_token_budget; set engine_budgets = false"
                )
            if at == len(ids):  # the turn ended within the thought
                unclosed[j] = Sample(sample.text, at, sum(logprobs), "stop", None)
                continue
            ours = at == self.budget  # the engine wrote the marker: not billed
            thinking = at if ours else at + 1
            answer = ids[at + 1 : at + 1 + self.answer_tokens]
            cut = len(ids) > at + 1 + len(answer) or sample.finish == "length"
            billed = logprobs[:thinking] + logprobs[at + 1 : at + 1 + len(answer)]
            text = backend.decode(ids[:at]) + self.thought_end + backend.decode(answer)
            finish = "length" if cut else "stop"
            draws[j] = Draw(text, thinking, len(answer), sum(billed), finish)
        if unclosed:
            answered = yield from self._answered(prompt, seed, unclosed)
            draws |= dict(zip(unclosed, answered, strict=True))
        return [draws[j] for j in range(len(samples))]


@dataclass(frozen=True)
class CoupledBudgets(_Stepped):
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

    def steps(self, prompt: Prompt, seed: int, backend: Backend) -> Steps:
        closing = self.closing
        thoughts = yield from _think(self.sampling, closing, self.budgets[-1], prompt, seed)
        continued: list[Prompt] = []
        seeds: list[int] = []
        cuts: list[tuple[Sample, int]] = []  # a cut thought, and its answer's place
        for j, thought in enumerate(thoughts):
            whole_at: int | None = None
            for b, budget in enumerate(self.budgets):
                cut = _cut(thought, budget, backend)
                if cut is thought and whole_at is not None:
                    cuts.append((thought, whole_at))
                    continue
                tokens = cut.token_ids if cut.finish == "length" else None
                continued.append(closing.answer(prompt, cut.text, tokens))
                seeds.append(seed + SEED_STRIDE // 2 + j * len(self.budgets) + b)
                cuts.append((cut, len(continued) - 1))
                if cut is thought:
                    whole_at = len(continued) - 1
        phase_two = _phase_two(self.sampling, closing)
        answers = yield Request(tuple(continued), phase_two, tuple(seeds))
        return [
            replace(
                _join(closing, cut, answers[place][0]),
                budget=self.budgets[i % len(self.budgets)],
            )
            for i, (cut, place) in enumerate(cuts)
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
    sampling: Sampling, closing: Closing, budget: int, prompt: Prompt, seed: int
) -> Generator[Request, list[list[Sample]], list[Sample]]:
    """Phase one: thoughts of at most `budget` tokens."""
    if not budget:
        return [Sample("", 0, 0.0, "length", ())] * sampling.n
    phase_one = replace(sampling, max_tokens=budget, stop=(closing.end,))
    (thoughts,) = yield Request((closing.thought(prompt),), phase_one, (seed,))
    longest = max(thought.tokens for thought in thoughts)
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
