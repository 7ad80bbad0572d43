"""How test-time compute is spent on one question: the dials that a provider can turn.

- `Parallel`: n whole samples. Majority, weighted majority and best-of-k for every k <= n are all
  computed later from the same stored samples, so one trace gives every level of those three dials.
- `ThinkingBudget`: a chain of thought that is *made* to end after so many tokens (budget forcing in
  two phases). Each budget is a setting, and a trace, of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ttc_env.measure.backends.base import SEED_STRIDE, Backend, Prompt, Sample, Sampling


@dataclass(frozen=True)
class Draw:
    """One delivered sample, whatever dial made it."""

    text: str  # thought and answer, as one text
    thinking_tokens: int  # realised length of the thought; 0 where the dial does not separate it
    answer_tokens: int  # all other generated tokens
    logprob: float | None  # sum over all generated tokens
    finish: str  # "stop" or "length"; a sample that was cut off counts as wrong

    @property
    def tokens(self) -> int:
        return self.thinking_tokens + self.answer_tokens


class Dial(Protocol):
    """A way to spend compute on a prompt."""

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
        return {"dial": "parallel", **_sampling_settings(self.sampling)}

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
class ThinkingBudget:
    """A thought of at most `budget` tokens, then the answer: budget forcing.

    Phase one generates until the model closes its thought with `thought_end`, or the budget is
    spent. Phase two puts `thought_end` (and `answer_prefix`) after whatever was thought and lets
    the model answer within `answer_tokens`. The closing marker that we write is not billed; one
    that the model wrote is, as part of the thought. A budget of 0 goes straight to the answer.

    A model that ends its turn without closing its thought is asked for the answer all the same.
    """

    sampling: Sampling  # n, temperature, top_p; its max_tokens and stop are not used
    budget: int
    thought_end: str
    answer_tokens: int
    answer_prefix: str = ""
    answer_stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.budget < 0 or self.answer_tokens < 1 or not self.thought_end:
            raise ValueError(
                f"{self}: budget must be >= 0, answer_tokens >= 1, and thought_end not empty"
            )

    def settings(self) -> dict[str, Any]:
        return {
            "dial": "thinking_budget",
            **_sampling_settings(self.sampling),
            "budget": self.budget,
            "thought_end": self.thought_end,
            "max_tokens": self.answer_tokens,
            "answer_prefix": self.answer_prefix,
            "stop": list(self.answer_stop),
        }

    @property
    def most_tokens(self) -> int:
        return self.sampling.n * (self.budget + self.answer_tokens)

    def draw(
        self, backend: Backend, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[list[Draw]]:
        n = self.sampling.n
        if self.budget:
            phase_one = self._with(n=n, max_tokens=self.budget, stop=(self.thought_end,))
            thoughts = backend.generate(prompts, phase_one, seeds)
        else:
            thoughts = [[Sample("", 0, 0.0, "length")] * n for _ in prompts]
        continued: list[Prompt] = []
        phase_two_seeds: list[int] = []
        for prompt, seed, samples in zip(prompts, seeds, thoughts, strict=True):
            for j, thought in enumerate(samples):
                if thought.tokens > self.budget:
                    raise RuntimeError(
                        f"a thought of {thought.tokens} tokens exceeds its budget of {self.budget}:"
                        " the backend ignored max_tokens"
                    )
                continued.append(
                    extend(prompt, thought.text + self.thought_end + self.answer_prefix)
                )
                # n <= SEED_STRIDE / 2, so no seed is used twice
                phase_two_seeds.append(seed + SEED_STRIDE // 2 + j)
        phase_two = self._with(n=1, max_tokens=self.answer_tokens, stop=self.answer_stop)
        answers = iter(backend.generate(continued, phase_two, phase_two_seeds))
        return [
            [self._join(thought, next(answers)[0]) for thought in samples] for samples in thoughts
        ]

    def _with(self, n: int, max_tokens: int, stop: tuple[str, ...]) -> Sampling:
        return Sampling(n, self.sampling.temperature, self.sampling.top_p, max_tokens, stop)

    def _join(self, thought: Sample, answer: Sample) -> Draw:
        logprob = (
            None
            if thought.logprob is None or answer.logprob is None
            else thought.logprob + answer.logprob
        )
        text = thought.text + self.thought_end + self.answer_prefix + answer.text
        return Draw(text, thought.tokens, answer.tokens, logprob, answer.finish)


def extend(prompt: Prompt, text: str) -> Prompt:
    """`prompt` with `text` as the beginning of the answer."""
    if isinstance(prompt, str):
        return prompt + text
    if prompt[-1]["role"] == "assistant":
        return (*prompt[:-1], {"role": "assistant", "content": prompt[-1]["content"] + text})
    return (*prompt, {"role": "assistant", "content": text})


def _sampling_settings(sampling: Sampling) -> dict[str, Any]:
    return {
        "n": sampling.n,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
    }
