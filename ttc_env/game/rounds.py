"""One round for many markets at once: the same formulas as `Mechanism.play`, arranged for speed, on
NumPy arrays or torch tensors.

`Mechanism.play` computes in logs, which costs a logarithm and two exponentials per provider and
round. Here nothing transcendental is left in the round. A provider's attraction e = exp(beta (V -
V_0)) is tabulated once per action as e = f 2^k with 1 <= f < 2 and k whole, so that
neither beta V = 1e5 nor -1e5 is out of range, and a round is (GAME.md, "The pay-per-token market"):

    K = max(0, max_i k_i),     S = 2^-K + sum_i f_i 2^(k_i - K),     s_i = f_i 2^(k_i - K) / S

Scaling by powers of two is exact. So the sum rounds as sum_i e_i itself would if no e over- or
underflowed, whatever K is, and every implementation that adds in the order of providers has the
same bits: the environment's (`ttc_env.envs.single`) and this one are tested equal.

Axis 0 is the provider, the last axis the batch. Functions use only operators and methods that NumPy
and torch share, and take the array module as `xp` where they need a function of it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.types import Array

NARROW = 500
"""Where all |k| are at most this, e = f 2^k fits into a double with room for sums and quotients,
and needs no scaling.
"""

_LN2_HIGH, _LN2_LOW = (
    6.93147180369123816490e-01,
    1.90821492927058770002e-10,
)  # log 2 in two parts: k times the first is exact for |k| < 2^20


def split_exponential(z: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """exp(z) as f 2^k, 1 <= f < 2 and k whole. z: any shape; as exact as z is.

    Raises:
        ValueError: |z| is 1e15 or more, or NaN: then not even z has a fraction.
    """
    z = np.asarray(z, dtype=np.float64)
    if not (np.abs(z) < 1e15).all():
        raise ValueError(
            f"beta (V - V_0) reaches {np.abs(z).max():.3g}, where doubles are too coarse for"
            " shares; choose a lower beta"
        )
    k = np.floor(z / np.log(2.0))
    fraction = np.exp((z - k * _LN2_HIGH) - k * _LN2_LOW)
    fraction, carry = np.frexp(fraction)  # rounding can leave f just outside [1, 2)
    return 2.0 * fraction, k.astype(np.int64) + carry - 1


def power_of_two(k: Any, xp: ModuleType) -> Any:
    """2^k in double precision for whole k <= 0, exactly; 0 below 2^-1022. k: int64, any shape."""
    biased = xp.maximum(k + 1023, xp.zeros_like(k)) << 52  # the exponent field of a double
    return biased.view(xp.float64)


def attractions(fraction: Any, exponent: Any, xp: ModuleType) -> tuple[Any, Any]:
    """e_i / 2^K `[n, ...]` and e_0 / 2^K `[...]`, K = max(0, max_i k_i): at least one of them is 1
    or more.
    """
    top = exponent[0]
    for row in exponent[1:]:
        top = xp.maximum(top, row)
    top = xp.maximum(top, xp.zeros_like(top))
    return fraction * power_of_two(exponent - top, xp), power_of_two(-top, xp)


def logit_shares(attraction: Any, outside: Any) -> tuple[Any, Any]:
    """s_i `[n, ...]` and s_0 `[...]` from e_i and e_0 in any common unit (GAME.md, "The
    pay-per-token market").
    """
    total = attraction[0] + outside
    for row in attraction[1:]:
        total = total + row
    inverse = 1.0 / total
    return attraction * inverse, outside * inverse
