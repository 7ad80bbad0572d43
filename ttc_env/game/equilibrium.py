"""Pure Nash equilibria of a posted-price game: the lowest, the highest, and all of them, for any
number of providers.

The roads, in GAME.md's order: best replies depend on the rivals through one number (theorem 2),
rise with it (theorem 3), so monotone sweeps from below and above close in on a bracket that holds
every equilibrium; where the bracket stays open, the interval of total A in which each action can be
a best reply leaves a handful of profiles to verify. No m^n anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.demand import log_rivals, log_total, logits
from ttc_env.game.dominance import kept_actions
from ttc_env.game.intervals import Intervals, consistent_profiles
from ttc_env.game.replies import Index, Mask, ReplyTable, extreme_replies, reply_mask
from ttc_env.game.types import Array, PostedPriceGame
from ttc_env.game.validation import validate_tolerance

MOST_ROUNDING = 1e-6
"""On log utility: where rounding of beta (V - V_0) alone may do more, nothing is `complete`."""

_MOST_TOLERANCE = 10.0  # on log utility; beyond it exponentials overflow and all profiles pass
_ENTRIES = 1 << 22  # table entries per pass when many profiles are verified together
_SEARCH_ENTRIES = 5_000_000  # most entries of all candidate profiles together
_PROFILE_ENTRIES = 20_000_000  # most entries of a result's `profiles`


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """One extreme equilibrium, found by monotone sweeps."""

    profile: Index  # [n] action of each provider
    iterations: int  # sweeps
    converged: bool  # a sweep moved nobody, and the profile is an equilibrium within the tolerance
    gap: float  # largest log-utility regret at the profile


@dataclass(frozen=True, eq=False)
class Equilibria:
    """All pure Nash equilibria of a posted-price game, within a tolerance on log utility.

    Dominated actions are left out before the tolerance is applied, and of actions of equal V, pi
    and w all but the first: equilibria that differ in such copies alone are equal to one that is
    listed (`note` says how many there were). Profiles hold the game's own action indices.

    `unique` certifies that there is exactly one equilibrium *profile*. It is True when the
    bracket's ends coincide in value (no other V can be in equilibrium: GAME.md, theorem 3) or the
    search between them was complete, and one profile came out.
    """

    profiles: Index  # [k, n] in lexicographic order
    # [n] lowest V for everybody; with losing providers the one with the least total A, None if
    # there is none
    lowest: Index | None
    highest: Index | None  # [n] the same at the top
    unique: bool
    complete: bool  # no equilibrium is missing from `profiles`
    reason: str  # why not complete, else ''
    iterations: int  # sweeps until the bracket closed
    converged: bool  # the bracket closed
    gap: float  # largest log-utility regret over all profiles; 0 if there is none
    tolerance: float  # on log utility: the one asked for, plus what rounding of beta V may do
    dominated: int = 0  # actions left out because another one is better whatever the rivals do
    copies: int = 0  # actions left out because an earlier one of the provider is equal

    @property
    def note(self) -> str:
        """What was left out; '' if nothing was."""
        parts = []
        if self.dominated:
            parts.append(f"{self.dominated} dominated actions were left out")
        if self.copies:
            parts.append(
                f"{self.copies} actions are copies of earlier ones: equilibria that differ in them"
                " alone are not listed"
            )
        return "; ".join(parts)


def lowest_equilibrium(
    game: PostedPriceGame, *, tolerance: float = 1e-9, max_sweeps: int = 10_000
) -> Equilibrium:
    """The equilibrium in which every provider offers the least V of all equilibria; providers like
    it best.

    Source: derived in docs, not in the paper (GAME.md, theorem 3; Milgrom and Roberts 1990). With a
    losing provider (all profits < 0) replies are not monotone, and `converged` says whether the
    profile is an equilibrium all the same.
    """
    return _extreme(game, 0, tolerance, max_sweeps)


def highest_equilibrium(
    game: PostedPriceGame, *, tolerance: float = 1e-9, max_sweeps: int = 10_000
) -> Equilibrium:
    """The equilibrium in which every provider offers the most V of all equilibria; users like it
    best. See `lowest_equilibrium`.
    """
    return _extreme(game, 1, tolerance, max_sweeps)


def _extreme(game: PostedPriceGame, side: int, tolerance: float, max_sweeps: int) -> Equilibrium:
    validate_tolerance(tolerance)
    table = ReplyTable.of(game, kept_actions(game).mask)
    tolerance = tolerance + table.rounding()
    profiles, sweeps, closed = _bracket(table, tolerance, max_sweeps)
    mask, regret = _verify(table, profiles[side][None], tolerance)
    is_reply = bool(mask[0, np.arange(len(table.z)), profiles[side]].all())
    return Equilibrium(
        profiles[side], sweeps, closed and is_reply, float(regret[0]) if is_reply else float("inf")
    )


def equilibria(
    game: PostedPriceGame,
    *,
    tolerance: float = 1e-9,
    max_equilibria: int = 1_000,
    max_sweeps: int = 10_000,
    max_search: int = 20_000,
) -> Equilibria:
    """All pure Nash equilibria, without a search over profiles.

    A profile is an equilibrium if log U_i >= max_l log U_i(l, rest) - tolerance for every provider
    with a positive profit; a provider whose best profit is 0 may play any action with profit 0; one
    whose profits are all negative must lose least, within the same tolerance. All exact ties are
    therefore found.

    Args:
        tolerance: on log utility (a relative tolerance on profit), finite and >= 0. 4 eps
            max|beta (V - V_0)| is added for rounding; where that is more than `MOST_ROUNDING`, the
            result is not complete.
        max_equilibria: most profiles to return (fewer where n is so large that they would not fit
            into memory).
        max_sweeps: most best-response sweeps.
        max_search: most ranges of A and candidate profiles to look at, together (fewer where n is
            in the thousands, so that time and memory stay bounded); only many exact ties need that
            many.

    Returns:
        `Equilibria`; `complete` and `reason` say whether a cap was met.

    O(nm) per sweep, usually a handful of sweeps; memory O(nm). Only providers whose bracket stays
    open enter the search.

    Source: derived in docs, not in the paper (GAME.md, theorem 3, "All PNE without search").
    """
    validate_tolerance(tolerance)
    kept = kept_actions(game)
    table = ReplyTable.of(game, kept.mask)
    rounding = table.rounding()
    tolerance = tolerance + rounding
    n = len(table.z)
    reasons = []
    if rounding > MOST_ROUNDING:
        # nothing can be said of what comes out of log utilities known so badly
        reasons.append(
            f"beta (V - V_0) is so large that rounding alone moves log utilities by {rounding:.2g}:"
            " profiles that are no equilibria may be listed"
        )
        tolerance = min(tolerance, _MOST_TOLERANCE)
    max_search = min(max_search, max(100, _SEARCH_ENTRIES // n))
    # 1. The bracket.
    ends, sweeps, closed = _bracket(table, tolerance, max_sweeps)
    if not closed:
        reasons.append(
            f"the best-response sweeps had not come to rest after max_sweeps={max_sweeps}"
        )
    z = table.z[np.arange(n), ends]
    open_rows = np.flatnonzero(z[1] > z[0])
    # 2. Inside the bracket: profiles of logits that agree with their own total A.
    if not len(open_rows):
        representatives = ends[:1]
    else:
        part = table.rows(open_rows)
        intervals = Intervals.of(part, z[0, open_rows], z[1, open_rows], tolerance + 1e-12)
        log_fixed = float(log_total(np.append(np.delete(z[0], open_rows), -np.inf)))
        candidates = consistent_profiles(intervals, log_fixed, tolerance + 1e-12, max_search)
        representatives = np.tile(ends[0], (len(candidates.columns), 1))
        representatives[:, open_rows] = candidates.columns
        representatives = _distinct(table, np.concatenate([ends, representatives]))
        if not candidates.complete:
            reasons.append(
                f"too many providers are tied: more than max_search={max_search} ranges of A and"
                " candidate profiles"
            )
    # 3. Verify, and expand each into the actions of equal V that are best replies too.
    limit = max(1, min(max_equilibria, _PROFILE_ENTRIES // n))
    profiles, gap, cut = _equilibrium_profiles(table, representatives, tolerance, limit)
    if cut:
        reasons.append(
            f"there are more than {limit} equilibria (max_equilibria={max_equilibria}); exact ties"
            " multiply"
        )
    # 4. The extremes.
    lowest, highest = (ends[0], ends[1]) if cut else _extremes(game, table, profiles)
    return Equilibria(
        profiles=profiles,
        lowest=lowest,
        highest=highest,
        unique=len(profiles) == 1 and not reasons,
        complete=not reasons,
        reason="; ".join(reasons),
        iterations=sweeps,
        converged=closed,
        gap=gap,
        tolerance=tolerance,
        dominated=kept.dominated,
        copies=kept.copies,
    )


def _bracket(table: ReplyTable, tolerance: float, max_sweeps: int) -> tuple[Index, int, bool]:
    """Columns `[2, n]` of the lowest and the highest equilibrium, the number of sweeps, and whether
    the last one moved nobody.

    Everybody answers at once, from the lowest-V and from the highest-V profile: both sequences are
    monotone, and end in the same extreme fixed points as one-at-a-time sweeps (GAME.md, theorem 3).
    Providers whose two ends have met are done: their action is known.
    """
    table = table.with_losing_idle()
    n = len(table.z)
    ends = np.empty((2, n), dtype=np.intp)
    np.where(table.candidate, table.value, np.inf).argmin(axis=1, out=ends[0])
    np.where(table.candidate, table.value, -np.inf).argmax(axis=1, out=ends[1])
    rows: Index = np.arange(n)  # providers still open
    part, here, log_known = table, ends.copy(), -np.inf
    for sweep in range(1, max_sweeps + 1):
        z = part.z[np.arange(len(rows)), here].T
        if len(rows) < n:
            rivals = log_rivals(np.concatenate([np.full((1, 2), log_known), z]))[1:].T
        else:
            rivals = log_rivals(z).T
        replies = extreme_replies(part, rivals, tolerance)
        ends[:, rows] = replies
        if np.array_equal(replies, here):
            return ends, sweep, True
        here = replies
        z = part.z[np.arange(len(rows)), here]
        still = z[1] > z[0]
        if not still.any():
            return ends, sweep, True
        if 4 * still.sum() < 3 * len(rows) and len(rows) > 64:
            log_known = float(np.logaddexp(log_known, np.logaddexp.reduce(z[0, ~still])))
            rows, part, here = rows[still], part.rows(np.flatnonzero(still)), here[:, still]
    return ends, max_sweeps, False


def _verify(table: ReplyTable, profiles: Index, tolerance: float) -> tuple[Mask, Array]:
    """At each profile `[k, n]`: which actions of its own V are best replies `[k, n, m]`, and their
    worst log regret `[k]`.
    """
    z = table.z[np.arange(len(table.z)), profiles]
    mask, regret = reply_mask(table, log_rivals(z.T).T, tolerance)
    # The same entry of one table, not a computed number: actions of equal V leave the rivals'
    # problem untouched.
    mask &= table.z == z[..., None]
    return mask, regret


def _equilibrium_profiles(
    table: ReplyTable, representatives: Index, tolerance: float, limit: int
) -> tuple[Index, float, bool]:
    """The equilibria among profiles of logits, written out action by action; the worst regret;
    whether the limit cut some off.
    """
    n, m = table.z.shape
    step = max(1, _ENTRIES // (n * m))
    found: list[Index] = []
    gap, count, cut = 0.0, 0, False
    for start in range(0, len(representatives), step):
        part = representatives[start : start + step]
        mask, regret = _verify(table, part, tolerance)
        for k in np.flatnonzero(np.all(np.any(mask, axis=2), axis=1)):
            if count >= limit:
                return _sorted(found), gap, True
            gap = max(gap, float(regret[k]))
            expanded, whole = _expand(mask[k], limit - count)
            cut |= not whole
            found.append(expanded)
            count += len(expanded)
    return _sorted(found) if found else np.empty((0, n), dtype=np.intp), gap, cut


def _expand(mask: Mask, limit: int) -> tuple[Index, bool]:
    """Every profile that picks one True per row of `[n, m]`: `[k, n]`, at most `limit`, and whether
    that is all.
    """
    counts = mask.sum(axis=1)
    base = mask.argmax(axis=1)
    several = np.flatnonzero(counts > 1)
    if not len(several):
        return base[None], True
    options = [np.flatnonzero(mask[i]) for i in several]
    picked = np.array(list(islice(product(*options), limit + 1)), dtype=np.intp)
    whole, picked = len(picked) <= limit, picked[:limit]
    profiles = np.tile(base, (len(picked), 1))
    profiles[:, several] = picked
    return profiles, whole


def _extremes(
    game: PostedPriceGame, table: ReplyTable, profiles: Index
) -> tuple[Index | None, Index | None]:
    """The lowest and the highest of some equilibria `[k, n]`, of equal ones the first; None where
    there is none.
    """
    if not len(profiles):
        return None, None
    row = np.arange(len(table.z))
    value = game.value[row, profiles]
    lowest = (value <= value.min(axis=0)).all(axis=1)
    highest = (value >= value.max(axis=0)).all(axis=1)
    if lowest.any() and highest.any():
        return profiles[lowest.argmax()], profiles[highest.argmax()]
    # losing providers only: the equilibria need not be a lattice
    total = log_total(table.z[row, profiles].T)
    return profiles[total.argmin()], profiles[total.argmax()]


def _sorted(found: list[Index]) -> Index:
    profiles = np.concatenate(found)
    if len(profiles) < 2:
        return profiles
    differs = np.flatnonzero((profiles != profiles[0]).any(axis=0))
    return profiles[np.lexsort(profiles[:, differs[::-1]].T)] if len(differs) else profiles[:1]


def _distinct(table: ReplyTable, profiles: Index) -> Index:
    """One profile for each profile of logits."""
    # no negative zeros: the bytes are compared
    z = table.z[np.arange(len(table.z)), profiles] + 0.0
    return profiles[list({row.tobytes(): k for k, row in enumerate(z)}.values())]


def log_potential(game: PostedPriceGame, profile: ArrayLike) -> NDArray[np.float64]:
    """Phi = sum_i log pi_i + beta sum_i (V_i - V_0) - log(A / e_0): changes by exactly d log U_i
    when i alone moves.

    Args:
        profile: `[..., n]` action of each provider.

    Returns:
        `[...]`; -inf where some profit is 0, NaN where some is negative (theorem 1 needs pi > 0).

    Source: [TTC] (GAME.md, theorem 1), up to a constant that does not depend on the profile.
    """
    profile = np.asarray(profile)
    row = np.arange(len(game.value))
    z = np.moveaxis(
        np.asarray(logits(game.value[row, profile], game.beta, game.outside_value)), -1, 0
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        log_profit = np.log(game.profit[row, profile]).sum(axis=-1)
    return log_profit + z.sum(axis=0) - log_total(z)


def potential_maximiser(game: PostedPriceGame, found: Equilibria | ArrayLike) -> Index | None:
    """The equilibrium with the largest potential: where every provider earns, the potential's
    maximum over all m^n profiles.

    found: all equilibria, as `Equilibria` or as `[k, n]` columns. None where there is none, or
    where some provider cannot earn (the potential is then not finite). A maximum of the potential
    is an equilibrium, so looking at the equilibria is enough.

    Source: [TTC] (GAME.md, theorem 1).
    """
    profiles = found.profiles if isinstance(found, Equilibria) else np.asarray(found, dtype=np.intp)
    if not len(profiles):
        return None
    phi = log_potential(game, profiles)
    best: Index = profiles[int(phi.argmax())]
    return best if np.isfinite(phi).all() else None
