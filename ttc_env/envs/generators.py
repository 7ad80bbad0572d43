"""Seeds, and a generator of its own for each environment of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def checked_seed(seed: Any) -> int | None:
    """A seed as Python's int; None, for a fresh one, as it is.

    Raises:
        ValueError: something else than a whole number >= 0.
    """
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    if seed is not None and not (whole and seed >= 0):
        raise ValueError(f"seed is {seed!r}; give a whole number >= 0, or None for a fresh one")
    return None if seed is None else int(seed)


class SeparateGenerators:
    """One NumPy generator for each environment: what one draws depends on its own seed alone,
    whatever the others are.
    """

    def __init__(self, generators: Sequence[np.random.Generator]):
        self.generators = list(generators)

    def __getitem__(self, columns: slice) -> SeparateGenerators:
        return SeparateGenerators(self.generators[columns])

    def multinomial(self, count: int | np.ndarray, chances: np.ndarray) -> np.ndarray:
        """`[b, k]` of chances `[b, k]`; count: a number, or `[b]`."""
        counts = np.broadcast_to(count, len(chances)).tolist()
        return np.concatenate(
            [
                g.multinomial(one, row[None])
                for g, one, row in zip(self.generators, counts, chances, strict=True)
            ]
        )

    def random(self, size: int) -> np.ndarray:
        """`[b]` in [0, 1); size is b."""
        return np.concatenate([g.random(1) for g in self.generators])

    def binomial(self, count: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """`[n, b]` of counts and chances `[n, b]`."""
        drawn = [
            g.binomial(count[:, b : b + 1], chance[:, b : b + 1])
            for b, g in enumerate(self.generators)
        ]
        return np.concatenate(drawn, axis=1)


def states_of(rng: np.random.Generator | SeparateGenerators) -> list[Any]:
    """The state of each generator, for `from_states`."""
    generators = rng.generators if isinstance(rng, SeparateGenerators) else [rng]
    return [one.bit_generator.state for one in generators]


def from_states(
    states: Sequence[Any], new: Callable[[int], np.random.Generator]
) -> np.random.Generator | SeparateGenerators:
    """Generators that go on from their states. new: makes one of the same kind from a seed."""
    generators = [new(0) for _ in states]
    for one, state in zip(generators, states, strict=True):
        one.bit_generator.state = state
    return generators[0] if len(generators) == 1 else SeparateGenerators(generators)
