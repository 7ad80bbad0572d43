"""Options of learners: what they may be, with errors that name the option and what is allowed.

An option is checked where the learner is made, before anything is played: one that is out of range
would otherwise end a run in the middle, or teach nothing. Types of options on a command line are
held against the learner's parameters before (`agents.check_options`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttc_env.game.validation import is_number


def positive(name: str, value: Any, *, endless: bool = False) -> float:
    """A number > 0. endless: infinity will do, too.

    Raises:
        ValueError: something else, as all functions here.
    """
    largest = np.inf if endless else np.finfo(float).max
    if not is_number(value) or not 0 < value <= largest:
        raise ValueError(
            f"{name} is {value!r}; it must be a {'' if endless else 'finite '}number > 0"
        )
    return float(value)


def not_negative(name: str, value: Any) -> float:
    """A finite number >= 0."""
    if not is_number(value) or not 0 <= value < np.inf:
        raise ValueError(f"{name} is {value!r}; it must be a finite number >= 0")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; it must be a number from 0 to 1")
    return float(value)


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number that is at least `least`."""
    counts = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))
    if not counts or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number >= {least}")
    return int(value)


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of some words."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose {' or '.join(map(repr, choices))}")
    return str(value)


def parts_of(name: str, value: Any, samples: int) -> int:
    """A number of parts into which `samples` are split, each with at least two: PPO divides the
    advantages of a part by their standard deviation.
    """
    parts = whole(name, value)
    size = -(-samples // parts)  # as torch.chunk splits
    if samples < 2 or size < 2 or samples % size == 1:
        raise ValueError(
            f"{name} is {parts}, and one of so many parts of {samples} samples (steps x parallel"
            " markets) would have a single one; each needs two or more: fewer parts, or more steps"
            " or markets"
        )
    return parts
