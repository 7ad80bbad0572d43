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

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ttc_env.game import welfare
from ttc_env.game.demand import log_total, logits
from ttc_env.game.tariffs import at_reference, reference_level
from ttc_env.game.types import Array, Market

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ttc_env.game.mechanisms import Mechanism


def first_best(market: Market, *, tastes: bool = False) -> float:
    """The most welfare that any allocation reaches, USD per arriving user. It bounds every rule.

    tastes: in the reading with tastes; infinite at beta = 0.
    """
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

    Returns:
        `[...]` each; None in a reading that the rule does not have.
    """
    profiles = np.asarray(profiles)
    rule = mechanism.rule
    played = mechanism.play(mechanism.offers(market).take(profiles), market)
    levels = mechanism.split(profiles, market)[0]
    share, outside = played.share, played.outside_share
    served = share.sum(axis=0)
    axes = (-1, *(1,) * (profiles.ndim - 1))
    rows = np.arange(market.num_providers).reshape(axes)
    surplus = market.quality - market.cost
    most = at_reference(market, surplus)[:, 0]  # [n]
    efficient = most.reshape(axes)
    value, total = played.user_value, played.welfare
    if tastes and not rule.counts_tastes:
        with_tastes = rule.value_with_tastes(played, market)
        if with_tastes is None:
            return None
        value, total = with_tastes, total + (with_tastes - value)
    elif rule.counts_tastes and not tastes:
        return None
    best = first_best(market, tastes=tastes)
    lost_to_compute = (share * (efficient - surplus[rows, levels])).sum(axis=0)
    if tastes:
        exclusion = _relative_entropy(market, most, outside) / market.beta
        choice = best - total - lost_to_compute - exclusion
        choice = np.where(np.abs(choice) < 1e-12 * abs(best), 0.0, choice)  # rounding
    else:
        exclusion = outside * (best - market.outside_value)
        choice = (share * (best - efficient)).sum(axis=0)
    reference = reference_level(market).reshape(axes)
    # Within a provider, list prices by the token are proportional to tokens.
    with np.errstate(divide="ignore", invalid="ignore"):
        doublings = np.log2(market.price[rows, levels] / market.price[rows, reference])
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
        lost_to_compute=lost_to_compute,
        lost_to_choice=choice,
        lost_to_exclusion=exclusion,
    )


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
