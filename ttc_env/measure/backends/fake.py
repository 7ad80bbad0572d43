"""A backend without a model, for tests of logic and dry runs: deterministic, instant, and right as
often as it is told.

It answers arithmetic chains (`3+5*2-7:`) in the terse style. It proves nothing about a real engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttc_env.measure.backends.base import Prompt, Sample, Sampling, check_seeds
from ttc_env.measure.chains import PROMPT_END, THOUGHT_END, Chain


class FakeBackend:
    """Each step of a chain is right with chance `skill`; errors carry on, as they do in a model.

    Args:
        model: any name.
        skill: chance that one step is right.
        interrupt_after: raise KeyboardInterrupt after this many calls of `generate`, for tests of
            resuming.
    """

    def __init__(
        self, model: str = "fake", *, skill: float = 0.8, interrupt_after: int | None = None
    ) -> None:
        self.model, self.skill, self.interrupt_after = model, skill, interrupt_after
        self.calls = 0

    def describe(self) -> dict[str, Any]:
        return {
            "backend": "fake",
            "model": self.model,
            "revision": None,
            "weights": f"skill={self.skill}",
            "dtype": "none",
            "versions": {"numpy": np.__version__},
            "hardware": "none",
        }

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Sample]]:
        check_seeds(prompts, seeds, sampling.n)
        if self.interrupt_after is not None and self.calls >= self.interrupt_after:
            raise KeyboardInterrupt
        self.calls += 1
        return [
            [self._one(str(prompt), sampling, seed + j) for j in range(sampling.n)]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Every character is a token."""
        return "".join(map(chr, token_ids))

    def close(self) -> None:
        """Nothing to free."""

    def _one(self, prompt: str, sampling: Sampling, seed: int) -> Sample:
        rng = np.random.default_rng(seed)
        problem, _, written = prompt.partition(PROMPT_END)
        # forced to answer: the last value that the thought reached, or a guess
        if THOUGHT_END in written:
            thought = written.partition(THOUGHT_END)[0]
            return Sample(thought[-1] if thought else str(rng.integers(10)), 2, -0.1, "stop")
        value, thought, logprob = int(problem[0]), "", 0.0
        for operator, digit in zip(problem[1::2], problem[2::2], strict=True):
            value = Chain((value, int(digit)), operator).running_values[0]
            right = rng.random() < self.skill
            if not right:
                value = int((value + rng.integers(1, 10)) % 10)
            thought += str(value)
            logprob += float(np.log(self.skill if right else (1 - self.skill) / 9))
        text = f"{thought}{THOUGHT_END}{value}."
        kept = text[: sampling.max_tokens]
        for stop in sampling.stop:
            if stop in kept:
                at = kept.index(stop)
                return Sample(
                    kept[:at], at + len(stop), logprob, "stop", _ids(kept[: at + len(stop)])
                )
        return Sample(
            kept.removesuffix("."),
            len(kept),
            logprob,
            "stop" if len(kept) == len(text) else "length",
            _ids(kept),
        )


def _ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))
