"""A space that can be sampled with the masks that infos carry."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


class MaskedMultiDiscrete(spaces.MultiDiscrete):  # type: ignore[type-arg]
    """A flat `MultiDiscrete` whose `sample` also takes its mask as one array, the parts one after
    the other: the form that learning libraries read, and that `infos[agent]["action_mask"]` has.

    Gymnasium's own takes a tuple of arrays, one for each part, alone; both work here.
    """

    def sample(self, mask: Any = None, probability: Any = None) -> np.ndarray:
        """One random element.

        Args:
            mask: int8, 1 = may be drawn: one array `[sum of the parts' sizes]`, or a tuple with an
                array for each part.
            probability: as for Gymnasium's `MultiDiscrete`.

        Raises:
            ValueError: a flat mask of another length.
        """
        if isinstance(mask, np.ndarray):
            if mask.shape != (self.nvec.sum(),):
                raise ValueError(
                    f"mask has shape {mask.shape}; {self} needs ({self.nvec.sum()},), the parts one"
                    " after the other"
                )
            mask = tuple(np.split(mask, np.cumsum(self.nvec)[:-1]))
        return super().sample(mask, probability)
