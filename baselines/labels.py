"""Where figures write the names of their curves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def apart(values: list[float], step: float) -> list[float]:
    """Places for labels: those of `values`, moved up so that they are `step` apart."""
    places = np.array(values, dtype=np.float64)
    order = np.argsort(places, kind="stable")
    for before, after in pairwise(order):
        places[after] = max(places[after], places[before] + step)
    return places.tolist()
