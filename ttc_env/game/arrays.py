"""The array module of an array: NumPy's, or torch's behind the names that NumPy uses.

Rules are written once, for both. `array_api_compat.array_namespace` would find the module too, but
its cache makes torch's compiler warn, and a call costs as much as a small NumPy operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def array_module(array: Any) -> Any:
    """`numpy` for NumPy arrays and plain numbers, else `array_api_compat.torch`."""
    if isinstance(array, (np.ndarray, np.generic, float, int)):
        return np
    from array_api_compat import torch

    return torch
