"""Random numbers that belong to a provider and a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ttc_env.game.types import Array

_BLOCK = 256


class Draws:
    """Uniform numbers in [0, 1) for every (provider, seed), each pair from its own generator.

    They are drawn in blocks, for speed.

    A provider's numbers depend on the seed, the provider's index and the stream alone: not on which
    other providers the agent plays, nor on the other seeds.
    """

    def __init__(self, seeds: Sequence[int], index: Sequence[int], stream: int = 0):
        self._generators = [
            [np.random.default_rng([int(seed), int(i), stream]) for seed in seeds] for i in index
        ]
        self._refill()

    def _refill(self) -> None:
        self._before = [
            [copy.deepcopy(g.bit_generator.state) for g in row] for row in self._generators
        ]
        # [k, seeds, block]
        self._block = np.array([[g.random(_BLOCK) for g in row] for row in self._generators])
        self._at = 0

    def __call__(self) -> Array:
        """The next number of every provider and seed, `[k, seeds]`."""
        if self._at == _BLOCK:
            self._refill()
        self._at += 1
        return self._block[:, :, self._at - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"before": json.dumps(self._before), "at": self._at}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        for row, states in zip(self._generators, json.loads(str(content["before"])), strict=True):
            for generator, state in zip(row, states, strict=True):
                generator.bit_generator.state = state
        self._refill()
        self._at = int(content["at"])
