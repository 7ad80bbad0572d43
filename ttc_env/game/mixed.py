"""Mixed profiles without the m^n profiles they mix over: exact expectations for two families.

Additive rules (logit choice and what is like it) have `expected_log_shares`; auctions in which the
best score serves have `expected_auction_utilities`. Other rules enumerate
(`ttc_env.game.enumeration`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ttc_env.game.types import Array


@dataclass(frozen=True, eq=False)
class ExpectedUtilities:
    """U of every action against mixed rivals, USD per arriving user, as `amount * exp(log_factor)`,
    so that nothing underflows.
    """

    amount: Array  # [n, a] NaN where an action does not exist
    log_factor: Array  # [n, a]


def expected_log_shares(mixture: Array, z: Array, *, step: float = 0.25) -> Array:
    """log E[s_i(action)] against independently mixing rivals, `[n, a]`, without their m^(n-1) joint
    actions.

    With A_-i = 1 + sum_{j != i} e_j and 1/x = int_0^inf exp(-t x) dt, the expectation of a product
    of independent factors factorises:

        E[e / (e + A_-i)] = int_0^inf e exp(-t (e + 1)) prod_{j != i} E[exp(-t e_j)] dt.

    In x = log t the integrand is analytic within |Im x| < pi/2 and decays at both ends, so the
    trapezoid rule's error falls like exp(-pi^2 / step): below rounding at the default 0.25. All of
    the integrand's mass lies where t e is of order 1 for some e, or 40 e-folds below, so nodes are
    laid there only. [own: derived here, not in the paper; checked against enumeration.]

    Args:
        mixture: `[n, a]` probabilities.
        z: `[n, a]` logits, -inf where an action does not exist.
    """
    result = np.full(z.shape, -np.inf)
    total = np.full(z.shape, 0.0)
    with np.errstate(divide="ignore"):
        log_mixture = np.log(mixture)[:, :, None]
    for x in _nodes(np.append(z[np.isfinite(z)], 0.0), len(z), step):
        y = z[:, :, None] + x  # [n, a, nodes], log(t e)
        # t e; beyond e^600 the term is 0 whatever it is, and sums of these stay finite
        decay = np.exp(np.minimum(y, 600.0))
        # [n, nodes], log E exp(-t e_j)
        log_laplace = np.logaddexp.reduce(log_mixture - decay, axis=1)
        before = np.cumsum(np.concatenate([np.zeros((1, len(x))), log_laplace[:-1]]), axis=0)
        after = np.cumsum(np.concatenate([log_laplace[1:], np.zeros((1, len(x)))])[::-1], axis=0)[
            ::-1
        ]
        log_term = y - decay + (before + after - np.exp(np.minimum(x, 600.0)))[:, None, :]
        # A running log-sum-exp over blocks of nodes.
        top = np.maximum(result, log_term.max(axis=2))
        safe = np.where(np.isfinite(top), top, 0.0)
        total = total * np.exp(result - safe) + np.exp(log_term - safe[:, :, None]).sum(axis=2)
        result = top
    with np.errstate(divide="ignore"):
        return np.minimum(result + np.log(total) + np.log(step), 0.0)


def _nodes(z: Array, n: int, step: float, block: int = 4096) -> Iterator[Array]:
    """The lattice step * integers, near and up to 40 e-folds below every point where t e is of
    order 1, in blocks.
    """
    low = np.floor((-z - 40.0 - np.log(n + 1)) / step).astype(np.int64)
    high = np.ceil((-z + 7.0) / step).astype(np.int64)
    order = np.argsort(low)
    reach = None
    pending: list[np.ndarray] = []
    for start, end in zip(low[order], high[order], strict=True):
        start = start if reach is None else max(start, reach + 1)
        if start <= end:
            pending.append(np.arange(start, end + 1))
            reach = end
    lattice = np.concatenate(pending) * step
    for at in range(0, len(lattice), block):
        yield lattice[at : at + block]


def expected_auction_utilities(
    mixture: Array, score: Array, worth: Array, outside_value: float
) -> Array:
    """E[U_i(action)] in a second-score auction against independently mixing rivals, `[n, a]`, USD
    per arriving user.

    The best rival's score is a maximum of independent draws, so its distribution function is the
    product of theirs. With K rivals tied at the top the bidder serves 1 / (1 + K) of users, and
    E[z^K] is a product too: E[1 / (1 + K)] = int_0^1 E[z^K] dz, a polynomial, integrated exactly by
    Gauss and Legendre's rule. [own: derived here, not in the paper; checked against enumeration.]

    Args:
        mixture: `[n, a]` probabilities.
        score: `[n, a]` USD/query; NaN where an action does not exist.
        worth: `[n, a]` USD/query, settled quality minus cost: what winning is worth before the
            rivals' score is paid.
    """
    n, a = score.shape
    values, flat = np.unique(np.where(np.isnan(score), np.inf, score), return_inverse=True)
    rank = flat.reshape(n, a)  # of each action's score among all distinct ones
    mass = np.zeros((n, len(values)))  # P(score_j = v)
    np.add.at(mass, (np.arange(n)[:, None], rank), mixture)
    at_most = np.cumsum(mass, axis=1)  # P(score_j <= v)
    below = np.concatenate([np.zeros((n, 1)), at_most[:, :-1]], axis=1)  # P(score_j < v)

    def of_rivals(factor: Array) -> Array:
        """prod_{j != i} factor_j, leave-one-out from both ends."""
        ones = np.ones_like(factor[:1])
        before = np.cumprod(np.concatenate([ones, factor[:-1]]), axis=0)
        after = np.cumprod(np.concatenate([factor[1:], ones])[::-1], axis=0)[::-1]
        return before * after

    best_at_most = of_rivals(at_most)  # [n, v], P(best rival <= v)
    best_below = of_rivals(below)  # P(best rival < v); 1 with no rivals
    nodes, weights = np.polynomial.legendre.leggauss(n // 2 + 1)
    win = np.zeros_like(mass)  # [n, v], chance to serve with score v: alone, or by the draw
    for x, w in zip(nodes, weights, strict=True):
        win += w / 2 * of_rivals(below + (x + 1) / 2 * mass)
    alone = best_below
    tied = np.maximum(win - alone, 0.0)

    # paid out of worth if the best rival has v
    charge = np.maximum(np.where(np.isfinite(values), values, outside_value), outside_value)
    step = np.diff(np.concatenate([np.zeros((n, 1)), best_at_most], axis=1), axis=1) * charge
    # E[charge; best rival < v]
    paid = np.concatenate([np.zeros((n, 1)), np.cumsum(step, axis=1)[:, :-1]], axis=1)
    if n == 1:
        paid = np.full_like(paid, outside_value)
    rows = np.arange(n)[:, None]
    charged = paid[rows, rank] + tied[rows, rank] * charge[rank]
    utility = win[rows, rank] * worth - charged
    return np.where(np.isnan(score), np.nan, np.where(score >= outside_value, utility, 0.0))
