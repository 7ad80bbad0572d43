"""Mixed profiles without the m^n profiles they mix over: exact expectations for two families.

Additive rules (logit choice and what is like it) have `expected_log_shares` and
`expected_log_odds`; auctions in which the best score serves have `expected_wins` and
`expected_auction_utilities`. Other rules enumerate (`ttc_env.game.enumeration`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ttc_env.game.types import Array

_BLOCK = 4096  # nodes of an integral per pass


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
    log_integral = _laplace(mixture, z, step, lambda y, decay: y - decay, gaps=False)
    return np.minimum(log_integral, 0.0)


def expected_log_odds(mixture: Array, z: Array, *, step: float = 0.25) -> Array:
    """log E[-log(1 - s_i(action))] against independently mixing rivals, `[n, a]`: what a provider
    earns in the auction with tastes, in units of 1 / beta (GAME.md, theorem 16).

    With Frullani's integral log(A_-i + e) - log A_-i = int_0^inf (exp(-t A_-i) - exp(-t (A_-i +
    e))) dt / t, the expectation factorises as in `expected_log_shares`:

        int_0^inf (1 - exp(-t e)) exp(-t) prod_{j != i} E[exp(-t e_j)] dt / t.

    In x = log t the integrand is also flat between e-folds that matter, on both sides to within
    e^-40, and the trapezoid rule takes such a gap in one piece. [own: derived here, not in the
    paper; checked against enumeration.]

    Args:
        mixture: `[n, a]` probabilities.
        z: `[n, a]` logits, -inf where an action does not exist.
    """

    def factor(y: Array, decay: Array) -> Array:
        with np.errstate(divide="ignore"):
            # as t e vanishes, log(1 - exp(-t e)) is log(t e), also where t e underflows
            return np.where(y < -40.0, y, np.log(-np.expm1(-decay)))

    return _laplace(mixture, z, step, factor, gaps=True)


def _laplace(
    mixture: Array,
    z: Array,
    step: float,
    factor: Callable[[Array, Array], Array],
    *,
    gaps: bool,
) -> Array:
    """log of int factor(x + z) exp(-t) prod_{j != i} E[exp(-t e_j)] dx over x = log t, `[n, a]`.

    Args:
        factor: the log of the action's own factor, of log(t e) and t e, both `[n, a, nodes]`.
        gaps: whether the integrand can be other than 0 between the nodes, where it is flat.
    """
    result = np.full(z.shape, -np.inf)
    total = np.full(z.shape, 0.0)
    with np.errstate(divide="ignore"):
        log_mixture = np.log(mixture)[:, :, None]
    lattice = _nodes(np.append(z[np.isfinite(z)], 0.0), len(z), step)
    # log of how many steps the node stands for
    wide = np.log(np.diff(lattice, append=lattice[-1] + step) / step) if gaps else None
    for at in range(0, len(lattice), _BLOCK):
        x = lattice[at : at + _BLOCK]
        y = z[:, :, None] + x  # [n, a, nodes], log(t e)
        # t e; beyond e^600 the term is 0 whatever it is, and sums of these stay finite
        decay = np.exp(np.minimum(y, 600.0))
        # [n, nodes], log E exp(-t e_j)
        log_laplace = np.logaddexp.reduce(log_mixture - decay, axis=1)
        before = np.cumsum(np.concatenate([np.zeros((1, len(x))), log_laplace[:-1]]), axis=0)
        after = np.cumsum(np.concatenate([log_laplace[1:], np.zeros((1, len(x)))])[::-1], axis=0)[
            ::-1
        ]
        rest = before + after - np.exp(np.minimum(x, 600.0))
        if wide is not None:
            rest = rest + wide[at : at + _BLOCK]
        log_term = factor(y, decay) + rest[:, None, :]
        # A running log-sum-exp over blocks of nodes.
        top = np.maximum(result, log_term.max(axis=2))
        safe = np.where(np.isfinite(top), top, 0.0)
        total = total * np.exp(result - safe) + np.exp(log_term - safe[:, :, None]).sum(axis=2)
        result = top
    with np.errstate(divide="ignore"):
        return result + np.log(total) + np.log(step)


def _nodes(z: Array, n: int, step: float) -> Array:
    """The lattice step * integers, near and up to 40 e-folds below every point where t e is of
    order 1, rising.
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
    return np.concatenate(pending) * step


@dataclass(frozen=True, eq=False)
class _BestRivals:
    """The distribution of the best rival's score, by score: all distinct ones, `[v]`, rising."""

    value: Array  # [v] USD/query; inf, if it is there, stands for actions that do not exist
    rank: np.ndarray  # [n, a] of each action's score among them
    at_most: Array  # [n, v] P(best rival <= v)
    below: Array  # [n, v] P(best rival < v); 1 with no rivals
    win: Array  # [n, v] chance to serve with score v: alone, or by the draw among equals

    @classmethod
    def of(cls, mixture: Array, score: Array) -> _BestRivals:
        """The best rival's score is a maximum of independent draws, so its distribution function is
        the product of theirs. With K rivals tied at the top the bidder serves 1 / (1 + K) of users,
        and E[z^K] is a product too: E[1 / (1 + K)] = int_0^1 E[z^K] dz, a polynomial, integrated
        exactly by Gauss and Legendre's rule, over the scores that two providers have: at the others
        nobody can tie.
        """
        n, a = score.shape
        value, flat = np.unique(np.where(np.isnan(score), np.inf, score), return_inverse=True)
        rank = flat.reshape(n, a)
        rows = np.arange(n)[:, None]
        mass = np.zeros((n, len(value)))  # P(score_j = v)
        np.add.at(mass, (rows, rank), mixture)
        at_most = np.cumsum(mass, axis=1)  # P(score_j <= v)
        below = np.concatenate([np.zeros((n, 1)), at_most[:, :-1]], axis=1)  # P(score_j < v)
        has = np.zeros(mass.shape, bool)
        has[rows, rank] = True
        best_below = _of_rivals(below)
        win = best_below.copy()
        shared = np.flatnonzero(has.sum(axis=0) > 1)
        if len(shared):
            some_below, some_mass = below[:, shared], mass[:, shared]
            nodes, weights = np.polynomial.legendre.leggauss(n // 2 + 1)
            drawn = np.zeros(some_mass.shape)
            for x, w in zip(nodes, weights, strict=True):
                drawn += w / 2 * _of_rivals(some_below + (x + 1) / 2 * some_mass)
            win[:, shared] = drawn
        return cls(value, rank, _of_rivals(at_most), best_below, win)


def _of_rivals(factor: Array) -> Array:
    """prod_{j != i} factor_j, leave-one-out from both ends."""
    ones = np.ones_like(factor[:1])
    before = np.cumprod(np.concatenate([ones, factor[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([factor[1:], ones])[::-1], axis=0)[::-1]
    return before * after


def expected_wins(mixture: Array, score: Array) -> Array:
    """The chance that an action has the best score, ties drawn, against independently mixing
    rivals: `[n, a]`. [own: derived here, not in the paper; checked against enumeration.]

    Args:
        mixture: `[n, a]` probabilities.
        score: `[n, a]` USD/query; NaN where an action does not exist.
    """
    rivals = _BestRivals.of(mixture, score)
    win = rivals.win[np.arange(len(score))[:, None], rivals.rank]
    return np.where(np.isnan(score), np.nan, win)


def expected_auction_utilities(
    mixture: Array, score: Array, worth: Array, outside_value: float
) -> Array:
    """E[U_i(action)] in a second-score auction against independently mixing rivals, `[n, a]`, USD
    per arriving user. [own: derived here, not in the paper; checked against enumeration.]

    Args:
        mixture: `[n, a]` probabilities.
        score: `[n, a]` USD/query; NaN where an action does not exist.
        worth: `[n, a]` USD/query, settled quality minus cost: what winning is worth before the
            rivals' score is paid.
    """
    n = len(score)
    rivals = _BestRivals.of(mixture, score)
    values, rank, win = rivals.value, rivals.rank, rivals.win
    tied = np.maximum(win - rivals.below, 0.0)
    # paid out of worth if the best rival has v
    charge = np.maximum(np.where(np.isfinite(values), values, outside_value), outside_value)
    step = np.diff(np.concatenate([np.zeros((n, 1)), rivals.at_most], axis=1), axis=1) * charge
    # E[charge; best rival < v]
    paid = np.concatenate([np.zeros((n, 1)), np.cumsum(step, axis=1)[:, :-1]], axis=1)
    if n == 1:
        paid = np.full_like(paid, outside_value)
    rows = np.arange(n)[:, None]
    charged = paid[rows, rank] + tied[rows, rank] * charge[rank]
    utility = win[rows, rank] * worth - charged
    return np.where(np.isnan(score), np.nan, np.where(score >= outside_value, utility, 0.0))
