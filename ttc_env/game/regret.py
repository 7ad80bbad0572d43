"""How far a profile, pure or mixed, is from equilibrium: regret, NashConv and relative regret
(GAME.md, "Distance to equilibrium").

Mixed profiles are exact too: see `ttc_env.game.mixed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import demand
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market, check_market

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism

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


def compare(
    profit: ArrayLike,
    log_share: ArrayLike,
    own_profit: ArrayLike,
    own_log_share: ArrayLike,
    noise: ArrayLike = 0.0,
) -> tuple[np.ndarray, Array, Array]:
    """Best reply and regrets, compared as sign and logarithm: at high beta most utilities
    underflow, and zeros compare as equal.

    Args:
        profit, log_share: `[n, a]`, of every action; NaN where an action does not exist.
        own_profit, own_log_share: `[n]`, of what was played.
        noise: USD/query, a number or `[n]`; profits closer to 0 count as 0.

    Returns:
        best action `[n]`; regret `[n]`, USD per arriving user; relative regret `[n]`: 1 - U /
        U_best where the best reply earns something, else 0 if nothing is lost and 1 if something
        is.
    """
    profit, log_share, own_profit, noise = (
        np.asarray(x, dtype=np.float64) for x in (profit, log_share, own_profit, noise)
    )
    profit = np.where(np.abs(profit) <= noise[..., None], 0.0, profit)
    own_profit = np.where(np.abs(own_profit) <= noise, 0.0, own_profit)
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


def assess(profile: ArrayLike, mechanism: str | Mechanism, market: Market) -> Regret:
    """Regrets of a pure or mixed profile of the game that `mechanism` plays on `market`.

    Args:
        mechanism: a registered name (`ttc_env.mechanisms()`), with its neutral prices; or an
            object.
        profile: `[n]` integers, a flat action per provider (with fixed prices, its level); or `[n,
            a]`, a probability for every action.

    Raises:
        ValueError: a profile of the wrong shape, an action that does not exist, or probabilities
            that do not sum to 1.
    """
    from ttc_env.game.mechanisms import get_mechanism  # which imports the rules, which import this

    check_market("a regret", market)
    mechanism = get_mechanism(mechanism)
    table = mechanism.offers(market)
    profile = np.asarray(profile)
    if profile.ndim == 1:
        actions = pure_profile(profile, table, market)
        profit, log_share = mechanism.deviations(table, table.take(actions), market)
        rows = np.arange(len(actions))
        best, regret, relative = compare(
            profit,
            log_share,
            profit[rows, actions],
            log_share[rows, actions],
            mechanism.rule.noise(table),
        )
        utility = demand.utility(profit, log_share)
        return Regret(utility[rows, actions], utility[rows, best], best, regret, relative)
    mixture = _validated_mixture(profile, table)
    expected = mechanism.rule.expected_utilities(mixture, table, market)
    absent = np.isnan(table.quality)
    utility = np.where(absent, -np.inf, demand.utility(expected.amount, expected.log_factor))
    mean = (mixture * np.where(mixture > 0, utility, 0.0)).sum(axis=1)
    regret = np.maximum(utility.max(axis=1) - mean, 0.0)

    # Relative regret in units of the best reply's utility (the largest profit, or else the least
    # loss), which may underflow as a double.
    amount = np.where(
        absent | (np.abs(expected.amount) <= mechanism.rule.noise(table)), 0.0, expected.amount
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
    return assess(profile, mechanism, market).regret


def nash_conv(market: Market, profile: ArrayLike, mechanism: str | Mechanism = "market") -> float:
    """NashConv = sum_i regret_i, USD per arriving user; 0 exactly at a Nash equilibrium.

    See `assess`.
    """
    return assess(profile, mechanism, market).nash_conv


def relative_regret(
    market: Market, profile: ArrayLike, mechanism: str | Mechanism = "market"
) -> Array:
    """1 - U_i / max_l U_i(l, rest), `[n]`, in the log domain; see `assess` and `compare`."""
    return assess(profile, mechanism, market).relative


def pure_profile(profile: np.ndarray, table: Offer, market: Market) -> np.ndarray:
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
