"""One yardstick for all rules: the first best, and where welfare is lost on the way to it.

Rules differ in what they can reach, so that a ratio to a rule's own optimum compares nothing. The
first best is one number a market (GAME.md, theorem 20), in one of two readings, which are never
mixed:

- without tastes, users who do not take the best offer err. First best: max(max w, V_0);
- with tastes, they know what they like, and variety is worth something. First best: log A / beta
  at every provider's largest w.

Money is USD per arriving user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_env.game import welfare
from ttc_env.game.demand import log_total, logits
from ttc_env.game.tariffs import reference_level
from ttc_env.game.types import Array, Market, check_market

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ttc_env.game.mechanisms import Mechanism
    from ttc_env.game.rules.base import Rule, UserKind


def first_best(market: Market, *, tastes: bool = False, rule: Rule | None = None) -> float:
    """The most welfare that any allocation reaches, USD per arriving user. It bounds every rule.

    Args:
        tastes: in the reading with tastes; infinite at beta = 0.
        rule: one whose users are of several types, each of whom then gets its own best.
    """
    check_market("first_best", market)
    if rule is not None:
        kinds = rule.kinds_of_users(market)
        return sum(kind.weight * first_best(kind.market, tastes=tastes) for kind in kinds)
    w = np.nanmax(market.quality - market.cost, axis=1)
    if tastes:
        return float(welfare.log_sum(w, market.beta, market.outside_value))
    return max(float(w.max()), market.outside_value)


class Account(NamedTuple):
    """What a round came to, and where it falls short of the first best. USD per arriving user;
    `welfare + lost_to_compute + lost_to_choice + lost_to_exclusion` is the first best.
    """

    welfare: Array
    first_best: Array
    efficiency: Array  # welfare / first best; NaN where that is not positive
    user_value: Array
    provider_profit: Array  # of all providers
    tokens: Array  # billed per arriving user; NaN where curves have none
    # doublings of tokens over those of the efficient level, mean over served users; NaN if none is
    overcompute: Array
    lost_to_compute: Array  # served at another level than the provider's efficient one
    lost_to_choice: Array  # served by another provider than the first best has it
    lost_to_exclusion: Array  # bought from nobody (with tastes: too many do, or too few)


def account(
    mechanism: Mechanism, market: Market, profiles: ArrayLike, *, tastes: bool = False
) -> Account | None:
    """Rounds of flat actions `[n, ...]` in the common yardstick.

    With efficient levels' w* and shares s, without tastes
        compute = sum s_i (w*_i - w_i),  choice = sum s_i (F - w*_i),  exclusion = s_0 (F - V_0).
    With tastes, and s* the shares of the first best, compute is the same, exclusion is the relative
    entropy of (s_0, 1 - s_0) to (s*_0, 1 - s*_0) over beta, and choice is the rest: where users
    choose for themselves, that of s to s* among those who buy.

    Users of several types are accounted for type by type.

    Returns:
        `[...]` each; None in a reading that the rule does not have.
    """
    profiles = np.asarray(profiles)
    rule = mechanism.rule
    played = mechanism.play(mechanism.offers(market).take(profiles), market)
    levels = mechanism.split(profiles, market)[0]
    value, total = played.user_value, played.welfare
    if tastes and not rule.counts_tastes:
        with_tastes = rule.value_with_tastes(played, market)
        if with_tastes is None:
            return None
        value, total = with_tastes, total + (with_tastes - value)
    elif rule.counts_tastes and not tastes:
        return None
    compute, choice, exclusion = np.zeros((3, *total.shape))
    for kind in rule.kinds_of_users(market, played):
        lost = _lost(kind, levels, tastes)
        compute, choice, exclusion = (
            so_far + kind.weight * more
            for so_far, more in zip((compute, choice, exclusion), lost, strict=True)
        )
    best = first_best(market, tastes=tastes, rule=rule)
    if tastes:
        choice = best - total - compute - exclusion
        choice = np.where(np.abs(choice) < 1e-12 * abs(best), 0.0, choice)  # rounding
    share, served = played.share, played.share.sum(axis=0)
    rows, reference = _column(np.arange(market.num_providers), levels), reference_level(market)
    # Within a provider, list prices by the token are proportional to tokens.
    with np.errstate(divide="ignore", invalid="ignore"):
        at_reference = market.price[rows, _column(reference, levels)]
        doublings = np.log2(market.price[rows, levels] / at_reference)
        overcompute = np.where(
            served > 0, (share * np.where(share > 0, doublings, 0.0)).sum(axis=0) / served, np.nan
        )
    return Account(
        welfare=total,
        first_best=np.full_like(total, best),
        efficiency=total / best if best > 0 else np.full_like(total, np.nan),
        user_value=value,
        provider_profit=played.utility.sum(axis=0),
        tokens=(share * tokens_billed(market)[rows, levels]).sum(axis=0),
        overcompute=overcompute,
        lost_to_compute=compute,
        lost_to_choice=choice,
        lost_to_exclusion=exclusion,
    )


def _lost(kind: UserKind, levels: NDArray[np.intp], tastes: bool) -> tuple[Array, Array, Array]:
    """`[...]` what users of one kind lose to compute, choice and exclusion; with tastes, choice is
    left at 0.

    levels: `[n, ...]`.
    """
    market, share, outside = kind.market, kind.share, kind.outside_share
    surplus = market.quality - market.cost
    most = np.nanmax(surplus, axis=1)
    efficient = _column(most, levels)
    rows = _column(np.arange(market.num_providers), levels)
    compute = (share * (efficient - surplus[rows, levels])).sum(axis=0)
    if tastes:
        exclusion = _relative_entropy(market, most, outside) / market.beta
        return compute, np.zeros_like(exclusion), exclusion
    best = first_best(market)
    choice = (share * (best - efficient)).sum(axis=0)
    return compute, choice, outside * (best - market.outside_value)


def _column(of_providers: NDArray[Any], levels: NDArray[Any]) -> NDArray[Any]:
    """`[n]` beside `[n, ...]`."""
    return of_providers.reshape(-1, *(1,) * (levels.ndim - 1))


def tokens_billed(market: Market) -> Array:
    """`[n, m]` tokens per query of every level; NaN where it is not known, or there is none."""
    table = np.full(market.quality.shape, np.nan)
    for row, provider in zip(table, market.providers, strict=True):
        if provider.curve is not None and provider.curve.tokens is not None:
            row[: len(provider.curve.tokens)] = provider.curve.tokens
    return table


def _relative_entropy(market: Market, most: Array, outside: Array) -> Array:
    """`[...]` of (s_0, 1 - s_0) to the same of the first best, in logs. most: `[n]`, the largest w
    of every provider.
    """
    z = logits(most, market.beta, market.outside_value)
    total = float(log_total(z))
    buys = float(np.logaddexp.reduce(z)) - total
    found = np.zeros_like(outside)
    for chance, log_best in ((outside, -total), (1.0 - outside, buys)):
        with np.errstate(divide="ignore", invalid="ignore"):
            found = found + np.where(chance > 0, chance * (np.log(chance) - log_best), 0.0)
    return np.maximum(found, 0.0)
