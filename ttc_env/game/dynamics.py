"""Adaptive play in a posted-price game: best replies, and the paper's nearest-improving moves, with
the potential along the way.

All comparisons are in logs. A provider with a negligible share still prefers one negligible share
to another; code that compares underflowed profits sees a tie between zeros there and stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.demand import logits
from ttc_env.game.equilibrium import log_potential
from ttc_env.game.replies import Index
from ttc_env.game.types import Array, PostedPriceGame

Order = Literal["sequential", "random", "simultaneous"]


@dataclass(frozen=True, eq=False)
class Path:
    """Where adaptive play went.

    With one mover at a time, and positive profits, the potential rises at every recorded step.
    """

    profiles: Index  # [t, n]: the start, then one row per round, or per move if asked for
    # [t] log potential; -inf or NaN while some profit is not positive (`equilibrium.log_potential`)
    potential: Array
    # the last round moved nobody: the last profile is an equilibrium within the tolerance
    converged: bool
    rounds: int  # rounds played, the last one (which moved nobody) included
    reason: str  # why not converged, else ''


def best_response_dynamics(
    game: PostedPriceGame,
    start: ArrayLike | None = None,
    order: Order = "sequential",
    rng: np.random.Generator | None = None,
    *,
    max_rounds: int = 1_000,
    tolerance: float = 1e-9,
    record: Literal["rounds", "moves"] = "rounds",
) -> Path:
    """Providers take turns; each moves to its best action against the others', if that raises its
    log utility by more than the tolerance.

    Args:
        start: `[n]` columns; each provider's first action if None.
        order: "sequential" (0, 1, ..., n-1 in every round), "random" (a fresh random order every
            round; needs `rng`), or "simultaneous" (all at once: this one may cycle, and then stops
            with converged=False).
        rng: the source of random orders.
        max_rounds: most rounds; each gives every provider one turn.
        tolerance: least rise in log utility for which a provider moves. Ties stay put.
        record: one row of the path per round, or per move (ignored for simultaneous moves).

    Raises:
        ValueError: a start with an action that does not exist, an unknown order, or a random order
            without `rng`.

    Source: GAME.md, theorem 1 (every improvement path ends in an equilibrium). O(m + n) a turn.
    """
    return _play(game, start, order, rng, _best, max_rounds, tolerance, record)


def nearest_improving_dynamics(
    game: PostedPriceGame,
    start: ArrayLike | None = None,
    order: Order = "random",
    rng: np.random.Generator | None = None,
    *,
    max_rounds: int = 1_000,
    tolerance: float = 1e-9,
    record: Literal["rounds", "moves"] = "rounds",
) -> Path:
    """Each provider in turn moves to the improving action nearest to its own (in columns; of two
    equally near ones the lower).

    Arguments as in `best_response_dynamics`. Source: [TTC], whose published dynamics start at level
    0 and draw a random order.
    """
    return _play(game, start, order, rng, _nearest, max_rounds, tolerance, record)


def _best(gain: Array, own: int, tolerance: float) -> int:
    best = int(gain.argmax())
    return best if gain[best] > tolerance else own


def _nearest(gain: Array, own: int, tolerance: float) -> int:
    improving = np.flatnonzero(gain > tolerance)
    return int(improving[np.abs(improving - own).argmin()]) if len(improving) else own


def _gain(profit: Array, z: Array, own: int, log_rivals: float) -> Array:
    """Rise in log utility from moving to each action `[m]`; +-inf where profit changes sign; for
    losses the fall of log |U|; -inf in padding.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_size = np.log(np.abs(profit)) - np.logaddexp(0.0, log_rivals - z)
        sign = np.sign(profit)
        gain = np.where(sign[own] == 0.0, 0.0, sign[own] * (log_size - log_size[own]))
    gain = np.where(sign == sign[own], gain, np.where(sign > sign[own], np.inf, -np.inf))
    # Out of a loss every profit is an infinite gain; the size of the utility then ranks them.
    if sign[own] <= 0.0 and (sign > 0.0).any():
        gain = np.where(sign > 0.0, _FAR + log_size, gain)
    return gain


# log utilities are far smaller: moves from a loss to a profit beat all moves between losses
_FAR = 1e12


def _play(
    game: PostedPriceGame,
    start: ArrayLike | None,
    order: Order,
    rng: np.random.Generator | None,
    choose: Callable[[Array, int, float], int],
    max_rounds: int,
    tolerance: float,
    record: str,
) -> Path:
    n, m = game.value.shape
    if order not in ("sequential", "random", "simultaneous"):
        raise ValueError(f"order is {order!r}; choose 'sequential', 'random' or 'simultaneous'")
    if order == "random" and rng is None:
        raise ValueError(
            "a random order needs a generator: pass rng=numpy.random.default_rng(seed)"
        )
    if record not in ("rounds", "moves"):
        raise ValueError(f"record is {record!r}; choose 'rounds' or 'moves'")
    profile = game.available.argmax(axis=1) if start is None else np.array(start, dtype=np.intp)
    if profile.shape != (n,):
        raise ValueError(f"start has shape {profile.shape}; give one column per provider, ({n},)")
    if (
        not ((profile >= 0) & (profile < m)).all()
        or not game.available[np.arange(n), profile].all()
    ):
        raise ValueError(
            "start names an action that does not exist; give columns in which `game.available` is"
            " True"
        )
    z = np.asarray(logits(game.value, game.beta, game.outside_value))
    tolerance = tolerance + 4.0 * float(np.finfo(np.float64).eps) * float(np.nanmax(np.abs(z)))
    here = np.append(z[np.arange(n), profile], 0.0)  # chosen logits, the outside option last
    path, seen = [profile.copy()], {profile.tobytes()}
    converged, reason, rounds = False, "", 0
    while not converged and not reason:
        if rounds == max_rounds:
            reason = f"providers still moved after max_rounds={max_rounds}"
            break
        rounds += 1
        turns = rng.permutation(n) if order == "random" and rng is not None else np.arange(n)
        answers, moved = profile.copy(), False
        for i in turns:
            answers[i] = choose(
                _gain(game.profit[i], z[i], int(profile[i]), _log_sum_without(here, i)),
                int(profile[i]),
                tolerance,
            )
            if answers[i] != profile[i]:
                moved = True
                if order != "simultaneous":
                    profile[i] = answers[i]
                    here[i] = z[i, profile[i]]
                    if record == "moves":
                        path.append(profile.copy())
        converged = not moved
        if order == "simultaneous":
            profile = answers
            here[:n] = z[np.arange(n), profile]
            if moved and profile.tobytes() in seen:
                reason = "simultaneous moves came back to an earlier profile: they cycle"
            seen.add(profile.tobytes())
        if moved and (record == "rounds" or order == "simultaneous"):
            path.append(profile.copy())
    profiles = np.array(path)
    return Path(profiles, log_potential(game, profiles), converged, rounds, reason)


def _log_sum_without(z: Array, i: int) -> float:
    """log of the sum of exp z over all entries but i: sums directly, since subtracting a dominant
    entry would leave only rounding.
    """
    own, z[i] = z[i], -np.inf
    top = z.max()
    total = top + np.log(np.exp(z - top).sum())
    z[i] = own
    return float(total)
