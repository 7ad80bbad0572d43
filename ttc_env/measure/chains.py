"""Arithmetic chains: a procedural task that models of 0.1-2 million parameters can learn, and get
wrong in interesting ways.

A chain is `3+5*2-7`, worked **from left to right, modulo 10**: 3+5 = 8, 8*2 = 6, 6-7 = 9, so the
answer is 9. A solution writes down the
running values as its chain of thought, closes the thought with `=` and gives the answer:

    prompt        3+5*2-7:
    terse         869=9.                     one token a step
    verbose       3+5>8,8*2>6,6-7>9,=9.      six tokens a step

Every character is one token. Problems whose hash falls in one tenth of the hash space are held out:
training never draws them and the measured questions are drawn from them alone, so no model has seen
a question.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

OPERATORS = "+-*"
STYLES = ("terse", "verbose")
PROMPT_END = ":"
THOUGHT_END = "="
ANSWER_END = "."
# : Every character that a prompt or a solution can hold; a tiny model's vocabulary is these and two
# special tokens.
ALPHABET = "0123456789" + OPERATORS + PROMPT_END + THOUGHT_END + ANSWER_END + ">,"


@dataclass(frozen=True)
class Chain:
    """One problem: `digits[0] operators[0] digits[1] ...`, worked from left to right modulo 10."""

    digits: tuple[int, ...]
    operators: str  # one character fewer than there are digits

    @property
    def text(self) -> str:
        """The problem as it stands in a prompt, without the closing `:`."""
        return str(self.digits[0]) + "".join(
            f"{o}{d}" for o, d in zip(self.operators, self.digits[1:], strict=True)
        )

    @property
    def running_values(self) -> tuple[int, ...]:
        """The value after each operation; the last one is the answer."""
        values, value = [], self.digits[0]
        for operator, digit in zip(self.operators, self.digits[1:], strict=True):
            value = (
                value + digit
                if operator == "+"
                else value - digit
                if operator == "-"
                else value * digit
            ) % 10
            values.append(value)
        return tuple(values)

    @property
    def answer(self) -> str:
        return str(self.running_values[-1])

    @property
    def held_out(self) -> bool:
        """True for the tenth of all problems that training never sees."""
        return hashlib.sha256(self.text.encode()).digest()[0] % 10 == 0

    def thought(self, style: str) -> str:
        """The chain of thought, without the closing `=`.

        Raises:
            ValueError: `style` is not one of `STYLES`.
        """
        if style == "terse":
            return "".join(map(str, self.running_values))
        if style != "verbose":
            raise ValueError(f"style {style!r} is unknown; choose one of {', '.join(STYLES)}")
        before = (self.digits[0], *self.running_values)
        steps = zip(before, self.operators, self.digits[1:], self.running_values, strict=False)
        return "".join(
            f"{value}{operator}{digit}>{result}," for value, operator, digit, result in steps
        )


def draw_chain(
    rng: np.random.Generator, min_terms: int, max_terms: int, *, held_out: bool
) -> Chain:
    """A problem with a uniform number of terms in `[min_terms, max_terms]`, from the held-out tenth
    or from the rest.
    """
    if not 2 <= min_terms <= max_terms:
        raise ValueError(
            f"terms run from {min_terms} to {max_terms}; a chain has at least 2 terms, and the"
            " first number is the smaller"
        )
    while True:
        terms = int(rng.integers(min_terms, max_terms + 1))
        digits = tuple(int(d) for d in rng.integers(0, 10, terms))
        chain = Chain(
            digits, "".join(OPERATORS[o] for o in rng.integers(0, len(OPERATORS), terms - 1))
        )
        if chain.held_out == held_out:
            return chain


def draw_distinct_chains(count: int, seed: int, min_terms: int, max_terms: int) -> list[Chain]:
    """`count` different held-out problems, the same ones for the same arguments."""
    rng = np.random.default_rng(seed)
    chains: dict[str, Chain] = {}
    tries = 0
    while len(chains) < count:
        chain = draw_chain(rng, min_terms, max_terms, held_out=True)
        chains[chain.text] = chain
        tries += 1
        if tries > 100 * count + 1000:
            raise ValueError(
                f"only {len(chains)} different held-out chains of {min_terms}-{max_terms} terms"
                f" were found; ask for fewer than {count}"
            )
    return list(chains.values())
