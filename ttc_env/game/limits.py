"""Where equilibrium goes when users stop looking at value (beta -> 0), and when they become
perfectly rational (beta -> infinity).

GAME.md, theorem 6. The limits are those of the pure equilibria at small and at large finite beta,
ties in value and profit being exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_env.game.regret import TIE
from ttc_env.game.replies import Index
from ttc_env.game.types import Array, PostedPriceGame


@dataclass(frozen=True, eq=False)
class Limit:
    """The outcome that equilibria approach.

    Where it is not determined, every number is NaN and `reason` says why.
    """

    profile: Index  # [n] columns
    share: Array  # [n]
    outside_share: float
    serves: NDArray[np.bool_]  # [n] who keeps a positive share in the limit
    utility: Array  # [n] USD per arriving user
    welfare: float  # USD per arriving user
    user_value: float  # USD per arriving user, share-weighted V
    # the limit profile is the only one: no tie left a choice, and none is a matter of rounding
    unique: bool
    reason: str  # why undetermined, or what kind of tie was broken how; else ''


def limit_beta_zero(game: PostedPriceGame) -> Limit:
    """Users choose at random: every offer, and buying nothing, has share 1/(n+1), and everyone
    takes its largest profit per query.

    As beta falls to 0 a tie in profit goes to the highest V where that profit is positive, to the
    lowest V where it is negative (a loser wants no users); a provider whose best profit is exactly
    0 is indifferent, and is put at the lowest V. `game.beta` is not used. Assumes nothing else.

    Source: [TTC]; GAME.md, theorem 6.
    """
    n = len(game.value)
    best = np.fmax.reduce(game.profit, axis=1)
    tied = game.profit == best[:, None]
    upward = best > 0.0
    preference = np.where(tied, np.where(upward[:, None], game.value, -game.value), -np.inf)
    profile = preference.argmax(axis=1)
    same = preference == preference.max(axis=1, keepdims=True)
    indifferent = (best == 0.0) & (tied.sum(axis=1) > 1)
    reason = (
        f"provider {int(indifferent.argmax())} earns 0 whatever it does, and was put at its"
        " lowest V"
        if indifferent.any()
        else ""
    )
    unique = bool((same.sum(axis=1) == 1).all()) and not indifferent.any()
    by_rounding = _nearly(game.profit, best[:, None], game).any(axis=1)
    if by_rounding.any():
        unique = False
        reason = f"profits of provider {int(by_rounding.argmax())} are tied within rounding"
    share = np.full(n, 1.0 / (n + 1))
    return _limit(game, profile, share, 1.0 / (n + 1), unique, reason)


def limit_beta_infinity(game: PostedPriceGame) -> Limit:
    """Users take the best offer: the provider that can offer the highest V serves everyone, with
    its most profitable V that still wins.

    Assumes that every provider has an action with profit > 0; actions without are never played.
    Then, at large enough beta:

    1. a provider that does not serve plays its highest V (of equal V the highest profit): each step
       of V multiplies what share it has;
    2. the provider with the highest attainable V, say i, faces R = max(V_0, highest V of the
       others). It takes the action with the largest pi x share among those with V >= R, where share
       = 1 if V > R, and 1/(1 + k) if V = R with k offers (the outside option among them) at R: at
       ties users split evenly;
    3. if several providers attain the same highest V, all of them offer it, and split the users; so
       they do with the outside option at V_0;
    4. if V_0 exceeds every attainable V, nobody serves.

    This is the limit of the *highest* equilibrium. It is the only one unless V ties exactly: where
    pi x share ties, the winner takes the higher V; and where all providers who could offer more
    than some V can also offer exactly that V, and earn more by sharing the users there than by
    outbidding, sharing is an equilibrium as well. `unique` is then False and `reason` says which.
    `game.beta` is not used.

    Source: [TTC] for the winner; ties derived in docs, not in the paper (GAME.md, theorem 6). O(n
    m^2) at most.
    """
    n = len(game.value)
    row = np.arange(n)
    candidate = game.profit > 0.0
    if not candidate.any(axis=1).all():
        at = int(np.flatnonzero(~candidate.any(axis=1))[0])
        nan = np.full(n, np.nan)
        reason = (
            f"provider {at} has no action with a positive profit: it is indifferent, or wants no"
            " users, and the limit depends on what it does"
        )
        return Limit(
            np.zeros(n, dtype=np.intp),
            nan,
            np.nan,
            np.zeros(n, dtype=bool),
            nan,
            np.nan,
            np.nan,
            False,
            reason,
        )
    # 1. Everybody's highest V, at its highest profit.
    value = np.where(candidate, game.value, -np.inf)
    top = value.max(axis=1)
    at_top = value == top[:, None]
    profit_at_top = np.where(at_top, game.profit, -np.inf)
    profile = profit_at_top.argmax(axis=1)
    several = (profit_at_top == profit_at_top.max(axis=1, keepdims=True)).sum(axis=1) > 1
    reason = ""
    # 2. The winner, if it is alone at the top, may shade its V down to the best of the rest.
    winner = int(top.argmax())
    rest = np.append(np.delete(top, winner), game.outside_value)
    rival = float(rest.max())
    if top[winner] > rival:
        ties = int((rest == rival).sum())
        split = np.where(value[winner] > rival, 1.0, 1.0 / (1 + ties))
        earns = np.where(
            value[winner] >= rival,
            np.where(candidate[winner], game.profit[winner], 0.0) * split,
            -np.inf,
        )
        equal = earns >= earns.max() * (1.0 - 4.0 * np.finfo(np.float64).eps)
        profile[winner] = np.where(equal, value[winner], -np.inf).argmax()
        several[winner] = equal.sum() > 1
        if several[winner]:
            reason = (
                f"provider {winner} earns the same with {int(equal.sum())} actions; the one with"
                " the highest V was taken"
            )
    # 3. Sharing a lower V, where nobody can outbid profitably, is a second equilibrium.
    lower = _shared_below(game, value, top, winner, rival)
    if lower is not None:
        reason = (
            f"sharing the users at V = {lower:.6g} is an equilibrium too; this is the highest one"
        )
    # All these comparisons are of doubles: 0.4 - 0.2 is more than 0.3 - 0.1.
    nearly = _nearly(np.append(rest, value[winner]), rival, game)
    by_rounding = bool(nearly.any() or _nearly(rest, top[winner], game).any())
    if by_rounding:
        reason = "values are tied within rounding, which decides who serves"
    # 4. Who serves.
    chosen = game.value[row, profile]
    best = max(float(chosen.max()), game.outside_value)
    serves = chosen == best
    share = serves / (serves.sum() + (game.outside_value == best))
    outside_share = float(1.0 - share.sum()) if game.outside_value == best else 0.0
    unique = not several.any() and lower is None and not by_rounding
    return _limit(game, profile, share, outside_share, unique, reason)


def _shared_below(
    game: PostedPriceGame, value: Array, top: Array, winner: int, rival: float
) -> float | None:
    """A V below the rivals' best that everybody who could offer more may share instead: outbidding
    would earn each of them less.

    value: `[n, m]`, -inf where an action is no candidate. Such a V must be one of the winner's, so
    O(n m^2) in all.
    """
    for v in np.unique(
        value[winner][(value[winner] >= game.outside_value) & (value[winner] < rival)]
    ):
        can_outbid = top > v
        at_v = np.where(value == v, game.profit, -np.inf).max(axis=1)
        if not (at_v[can_outbid] > 0.0).all():
            continue
        sharers = int(can_outbid.sum() + (top == v).sum() + (game.outside_value == v))
        above = np.where(value > v, game.profit, -np.inf).max(axis=1)
        if (
            at_v[can_outbid] / sharers >= above[can_outbid] * (1.0 - 4.0 * np.finfo(np.float64).eps)
        ).all():
            return float(v)
    return None


def _nearly(x: Array, y: float | Array, game: PostedPriceGame) -> NDArray[np.bool_]:
    """Which x are not y, but within `TIE` of it, relative to the amounts of the game: equal, that
    is, but for the rounding of the differences that they are.
    """
    tables = game.value, game.profit, game.surplus, np.array(game.outside_value)
    size = max(float(np.nanmax(np.abs(table))) for table in tables)
    return (np.abs(x - y) <= TIE * size) & (x != y)


def _limit(
    game: PostedPriceGame,
    profile: Index,
    share: Array,
    outside_share: float,
    unique: bool,
    reason: str,
) -> Limit:
    row = np.arange(len(profile))
    profit, surplus, value = (
        game.profit[row, profile],
        game.surplus[row, profile],
        game.value[row, profile],
    )
    outside = outside_share * game.outside_value
    return Limit(
        profile=profile,
        share=share,
        outside_share=outside_share,
        serves=share > 0.0,
        utility=share * profit,
        welfare=float(share @ surplus + outside),
        user_value=float(share @ value + outside),
        unique=unique,
        reason=reason,
    )
