"""How far a profile, pure or mixed, is from equilibrium: regret, NashConv and relative regret
(GAME.md, "Distance to equilibrium").

Mixed profiles are exact too, without the m^n profiles they mix over: see `expected_log_shares` and
`expected_auction_utilities`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import demand
from ttc_env.game.mechanisms import Mechanism, Offer, get_mechanism
from ttc_env.game.types import Array, Market

OVERFLOW = 600.0  # a loss is at most e^600 times the best profit, so that it stays a number
TIE = 1e-9  # losses that differ relatively by less are equal


@dataclass(frozen=True, eq=False)
class Regret:
    """What each provider leaves on the table, given the others."""

    utility: Array  # [n] USD per arriving user
    best_utility: Array  # [n] USD per arriving user: of the best reply
    best_action: np.ndarray  # [n] a best reply (the first, among equals)
    regret: Array  # [n] USD per arriving user: best_utility - utility, >= 0
    relative: Array  # [n] 1 - utility / best_utility, in the log domain; see `compare`

    @property
    def nash_conv(self) -> float:
        """sum_i regret_i, USD per arriving user."""
        return float(self.regret.sum())


def resolution(table: Offer, mechanism: Mechanism) -> float:
    """USD/query: profits closer to 0 than this count as 0.

    An auction's winner is paid a difference of other amounts, so that a tie can leave it their
    rounding. A posted price is what it is.
    """
    if mechanism.posts_prices:
        return 0.0
    return (
        16
        * float(np.finfo(np.float64).eps)
        * max(float(np.nanmax(np.abs(x))) for x in (table.quality, table.claim, table.price))
    )


def compare(
    profit: ArrayLike,
    log_share: ArrayLike,
    own_profit: ArrayLike,
    own_log_share: ArrayLike,
    resolution: ArrayLike = 0.0,
) -> tuple[np.ndarray, Array, Array]:
    """Best reply and regrets, compared as sign and logarithm: at high beta most utilities
    underflow, and zeros compare as equal.

    Args:
        profit, log_share: `[n, a]`, of every action; NaN where an action does not exist.
        own_profit, own_log_share: `[n]`, of what was played.
        resolution: USD/query, a number or `[n]`; profits closer to 0 count as 0.

    Returns:
        best action `[n]`; regret `[n]`, USD per arriving user; relative regret `[n]`: 1 - U /
        U_best where the best reply earns something, else 0 if nothing is lost and 1 if something
        is.
    """
    profit, log_share, own_profit, resolution = (
        np.asarray(x, dtype=np.float64) for x in (profit, log_share, own_profit, resolution)
    )
    profit = np.where(np.abs(profit) <= resolution[..., None], 0.0, profit)
    own_profit = np.where(np.abs(own_profit) <= resolution, 0.0, own_profit)
    sign, log = _signed_log(profit, log_share)
    sign = np.where(np.isnan(profit), -2.0, sign)
    top_sign = sign.max(axis=1)
    key = np.where(sign == top_sign[:, None], sign * log, -np.inf)
    key = np.where((sign == 0) & (top_sign[:, None] == 0), 0.0, key)
    best = key.argmax(axis=1)
    rows = np.arange(len(best))
    own_sign, own_log = _signed_log(own_profit, np.asarray(own_log_share))

    best_utility = demand.utility(profit[rows, best], log_share[rows, best])
    regret = np.maximum(best_utility - demand.utility(own_profit, own_log_share), 0.0)
    gap = own_log - log[rows, best]
    lost = np.where(
        own_sign > 0,
        -np.expm1(np.minimum(gap, 0.0)),
        np.where(own_sign < 0, 1.0 + np.exp(np.minimum(gap, OVERFLOW)), 1.0),
    )
    worse = (own_sign < top_sign) | ((top_sign < 0) & (gap > TIE))
    return best, regret, np.where(top_sign > 0, lost, np.where(worse, 1.0, 0.0))


def _signed_log(profit: Array, log_share: Array) -> tuple[Array, Array]:
    """U as sign and log|U|; log is 0 where U = 0."""
    sign = np.where(log_share == -np.inf, 0.0, np.sign(profit))
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(sign == 0, 0.0, np.log(np.abs(profit)) + log_share)
    return sign, log


def assess(profile: ArrayLike, mechanism: Mechanism, market: Market) -> Regret:
    """Regrets of a pure or mixed profile of the game that `mechanism` plays on `market`.

    Args:
        profile: `[n]` integers, a flat action per provider (with fixed prices, its level); or `[n,
            a]`, a probability for every action.

    Raises:
        ValueError: a profile of the wrong shape, an action that does not exist, or probabilities
            that do not sum to 1.
    """
    table = mechanism.offers(market)
    profile = np.asarray(profile)
    if profile.ndim == 1:
        actions = _validated(profile, table, market)
        profit, log_share = mechanism.deviations(table, table.take(actions), market)
        rows = np.arange(len(actions))
        best, regret, relative = compare(
            profit,
            log_share,
            profit[rows, actions],
            log_share[rows, actions],
            resolution(table, mechanism),
        )
        utility = demand.utility(profit, log_share)
        return Regret(utility[rows, actions], utility[rows, best], best, regret, relative)
    mixture = _validated_mixture(profile, table)
    expected = expected_utilities(mixture, table, mechanism, market)
    absent = np.isnan(table.quality)
    utility = np.where(absent, -np.inf, demand.utility(expected.amount, expected.log_factor))
    mean = (mixture * np.where(mixture > 0, utility, 0.0)).sum(axis=1)
    regret = np.maximum(utility.max(axis=1) - mean, 0.0)

    # Relative regret in units of the best reply's utility (the largest profit, or else the least
    # loss), which may underflow as a double.
    amount = np.where(
        absent | (np.abs(expected.amount) <= resolution(table, mechanism)), 0.0, expected.amount
    )
    sign, log = _signed_log(amount, expected.log_factor)
    best_log = np.where(~absent & (sign > 0), log, -np.inf).max(axis=1)
    least_log = np.where(~absent & (sign < 0), log, np.inf).min(axis=1)
    unit = np.where(
        np.isfinite(best_log), best_log, np.where(np.isfinite(least_log), least_log, 0.0)
    )
    scaled = np.where(absent, -np.inf, sign * np.exp(np.minimum(log - unit[:, None], OVERFLOW)))
    mean_scaled = (mixture * np.where(mixture > 0, scaled, 0.0)).sum(axis=1)
    best, top = scaled.argmax(axis=1), scaled.max(axis=1)
    gap = np.maximum(top - mean_scaled, 0.0)
    relative = np.where(top > 0, gap, np.where(gap > TIE, 1.0, 0.0))
    return Regret(mean, utility.max(axis=1), best, regret, relative)


def regret(market: Market, profile: ArrayLike, mechanism: str | Mechanism = "market") -> Array:
    """regret_i = max_l U_i(l, rest) - U_i, `[n]` USD per arriving user, of a pure or mixed profile;
    see `assess`.
    """
    return assess(profile, get_mechanism(mechanism), market).regret


def nash_conv(market: Market, profile: ArrayLike, mechanism: str | Mechanism = "market") -> float:
    """NashConv = sum_i regret_i, USD per arriving user; 0 exactly at a Nash equilibrium.

    See `assess`.
    """
    return assess(profile, get_mechanism(mechanism), market).nash_conv


def relative_regret(
    market: Market, profile: ArrayLike, mechanism: str | Mechanism = "market"
) -> Array:
    """1 - U_i / max_l U_i(l, rest), `[n]`, in the log domain; see `assess` and `compare`."""
    return assess(profile, get_mechanism(mechanism), market).relative


def _validated(profile: np.ndarray, table: Offer, market: Market) -> np.ndarray:
    n, a = table.quality.shape
    if profile.shape != (n,) or not np.issubdtype(profile.dtype, np.integer):
        raise ValueError(
            f"a pure profile is {n} integers, one action per provider; got shape {profile.shape},"
            f" {profile.dtype}"
        )
    bad = (profile < 0) | (profile >= a)
    bad |= np.isnan(table.quality[np.arange(n), np.where(bad, 0, profile)])
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        there = np.flatnonzero(~np.isnan(table.quality[at]))
        raise ValueError(
            f"profile: provider {at} ({market.names[at]!r}) has no action {profile[at]}; its"
            f" actions are {there[0]}..{there[-1]}"
        )
    return profile


def _validated_mixture(profile: np.ndarray, table: Offer) -> Array:
    a = table.quality.shape[1]
    if profile.ndim == 2 and profile.shape[1] > a and not np.nan_to_num(profile[:, a:]).any():
        # the caller's arrays were padded further than any provider's levels go
        profile = profile[:, :a]
    if profile.shape != table.quality.shape:
        raise ValueError(
            f"a mixed profile is {table.quality.shape}, a probability per provider and action; got"
            f" {profile.shape}"
        )
    mixture = profile.astype(np.float64)
    absent = np.isnan(table.quality)
    if not (np.nan_to_num(mixture) >= 0).all() or (np.nan_to_num(mixture)[absent] > 0).any():
        raise ValueError(
            "a mixed profile has a negative probability, or puts weight on an action that does not"
            " exist"
        )
    mixture = np.where(absent, 0.0, mixture)
    if not (np.abs(mixture.sum(axis=1) - 1.0) < 1e-6).all():
        raise ValueError(
            f"the rows of a mixed profile must sum to 1; they sum to {mixture.sum(axis=1)}"
        )
    return mixture / mixture.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class ExpectedUtilities:
    """U of every action against mixed rivals, USD per arriving user, as `amount * exp(log_factor)`,
    so that nothing underflows.
    """

    amount: Array  # [n, a] NaN where an action does not exist
    log_factor: Array  # [n, a]


def expected_utilities(
    mixture: Array, table: Offer, mechanism: Mechanism, market: Market
) -> ExpectedUtilities:
    """What each action earns in expectation while every rival draws its action from its row of
    `mixture`, `[n, a]`.

    Raises:
        ValueError: a mechanism without a formula for mixed profiles.
    """
    absent = np.isnan(table.quality)
    if mechanism.posts_prices:
        z = np.where(absent, -np.inf, demand.logits(table.score, market.beta, market.outside_value))
        return ExpectedUtilities(table.price - table.cost, expected_log_shares(mixture, z))
    if mechanism.kind == "auction":
        worth = mechanism.settled_quality(table) - table.cost
        utility = expected_auction_utilities(mixture, table.score, worth, market.outside_value)
        return ExpectedUtilities(utility, np.zeros_like(utility))
    raise ValueError(f"mechanism {mechanism.name!r}: no formula for mixed profiles; pass pure ones")


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
