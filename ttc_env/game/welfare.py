"""What a round is worth, and to whom: social welfare, users' surplus in two readings, and the price
of anarchy.

Axis 0 is the provider; any further axes are batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.demand import log_total, logits
from ttc_env.game.types import Array


def welfare(
    share: ArrayLike, surplus: ArrayLike, outside_share: ArrayLike, outside_value: ArrayLike = 0.0
) -> Array:
    """W = sum_i s_i w_i + s_0 V_0, USD per arriving user (GAME.md, "The pay-per-token market").
    share, surplus: `[n, ...]`.
    """
    return np.multiply(share, surplus).sum(axis=0) + np.multiply(outside_share, outside_value)


def user_value(
    share: ArrayLike, value: ArrayLike, outside_share: ArrayLike, outside_value: ArrayLike = 0.0
) -> Array:
    """Share-weighted V: sum_i s_i V_i + s_0 V_0, USD per arriving user.

    Consumer surplus if users *err* (GAME.md, theorem 7).
    """
    return welfare(share, value, outside_share, outside_value)


def log_sum(value: ArrayLike, beta: float, outside_value: float = 0.0) -> Array:
    """log A / beta, USD per arriving user. Consumer surplus if users have *tastes* (GAME.md,
    theorem 7). value: `[n, ...]`.

    At beta = 0 tastes are unboundedly spread and the surplus is infinite.
    """
    if beta == 0:
        return np.full(np.shape(value)[1:], np.inf)
    return outside_value + log_total(logits(value, beta, outside_value)) / beta


def price_of_anarchy(optimal: float, equilibrium: float) -> tuple[float, str]:
    """W* / W(PNE), and why it is NaN where it is: a ratio to welfare that is not positive means
    nothing (GAME.md, theorem 5).

    With the worst equilibrium's welfare this is the price of anarchy, with the best one's the price
    of stability. The paper's "inefficiency (%)" is 100 (PoA - 1).
    """
    if not equilibrium > 0:
        return (
            float("nan"),
            (
                f"equilibrium welfare is {equilibrium:.6g} USD, not positive, so that the ratio is"
                " undefined"
            ),
        )
    return float(optimal / equilibrium), ""
