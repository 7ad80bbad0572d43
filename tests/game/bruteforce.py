"""The second method: every profile, in long double, straight from the definitions of GAME.md.

No code shared with the solvers.
"""

from __future__ import annotations

import itertools

import numpy as np

from ttc_env.game.types import PostedPriceGame

_LD = np.longdouble


def profiles_of(game: PostedPriceGame) -> np.ndarray:
    """All profiles, `[K, n]`, in lexicographic order."""
    return np.array(
        list(itertools.product(*(np.flatnonzero(row) for row in ~np.isnan(game.value))))
    )


def long_logits(game: PostedPriceGame) -> np.ndarray:
    return _LD(game.beta) * (game.value.astype(_LD) - _LD(game.outside_value))


def log_regrets(game: PostedPriceGame) -> tuple[np.ndarray, np.ndarray]:
    """All profiles `[K, n]`, and the largest log-utility regret of any provider at each `[K]` (inf
    where signs differ).
    """
    profiles = profiles_of(game)
    z, n = long_logits(game), len(game.value)
    row = np.arange(n)
    chosen = z[row, profiles]
    worst = np.zeros(len(profiles), dtype=_LD)
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(n):
            rest = np.zeros(len(profiles), dtype=_LD)
            for j in range(n):
                if j != i:
                    rest = np.logaddexp(rest, chosen[:, j])
            pi = game.profit[i]
            # [K, m]
            log_u = np.log(np.abs(pi.astype(_LD))) + z[i] - np.logaddexp(rest[:, None], z[i])
            own, best = pi[profiles[:, i]], np.nanmax(pi)
            mine = log_u[np.arange(len(profiles)), profiles[:, i]]
            if best > 0:
                regret = np.where(
                    own > 0, np.where(pi > 0, log_u, -np.inf).max(axis=1) - mine, np.inf
                )
            elif best == 0:
                regret = np.where(own == 0, 0.0, np.inf)
            else:
                regret = mine - np.nanmin(log_u, axis=1)
            worst = np.maximum(worst, regret)
    return profiles, worst


def playable_profiles(game: PostedPriceGame, profiles: np.ndarray) -> np.ndarray:
    """Which profiles `[K, n]` hold no action that is dominated, or a copy of an earlier one."""
    good = [
        [_playable(game, i, a) for a in range(game.value.shape[1])] for i in range(len(game.value))
    ]
    return np.array(good)[np.arange(len(game.value)), profiles].all(axis=1)


def _playable(game: PostedPriceGame, i: int, a: int) -> bool:
    value, profit, surplus = game.value[i], game.profit[i], game.surplus[i]
    for b in range(len(value)):
        if b == a or np.isnan(value[b]):
            continue
        if (value[b], profit[b], surplus[b]) == (value[a], profit[a], surplus[a]):
            if b < a:
                return False
            continue
        as_good = profit[b] >= profit[a] and (value[b] >= value[a] or game.beta == 0)
        better = profit[b] > profit[a] or (value[b] > value[a] and game.beta > 0)
        if profit[a] > 0 and as_good and better:
            return False
    return True


def share_weighted(
    game: PostedPriceGame, profiles: np.ndarray, weight: np.ndarray, outside_weight: float
) -> np.ndarray:
    """(e_0 x_0 + sum e_i x_i) / (e_0 + sum e_i) at each profile, in long double. `[K]`."""
    z = long_logits(game)[np.arange(len(game.value)), profiles]
    x = weight[np.arange(len(game.value)), profiles].astype(_LD)
    top = np.maximum(z.max(axis=1), 0)
    e, e_0 = np.exp(z - top[:, None]), np.exp(-top)
    return ((e * x).sum(axis=1) + e_0 * _LD(outside_weight)) / (e.sum(axis=1) + e_0)


def random_game(
    rng: np.random.Generator, *, flavour: str, max_providers: int = 4, max_levels: int = 5
) -> PostedPriceGame:
    """A small game of one of the FLAVOURS: smooth ones, and the degenerate ones that break careless
    solvers.
    """
    n, m = int(rng.integers(1, max_providers + 1)), int(rng.integers(1, max_levels + 1))
    value, profit = rng.uniform(-0.2, 1.0, (n, m)), rng.uniform(0.01, 1.0, (n, m))
    beta = float(10 ** rng.uniform(-1, 2))
    outside = 0.0 if rng.random() < 0.5 else float(rng.uniform(-0.5, 0.5))
    if flavour == "ties":
        value, profit = rng.integers(1, 4, (n, m)) / 10, rng.integers(1, 4, (n, m)) / 10
    elif flavour == "ties_shifted":  # equal in arithmetic, not in the last bit
        value = (rng.integers(1, 4, (n, m)) / 10 + 0.7) - 0.7
        profit = rng.integers(1, 3, (n, m)) / 10
    # log pi + beta V tie when shares are small: profits are powers of e
    elif flavour == "indifferent":
        value = rng.integers(-3, 1, (n, m)) * 1.0 - (30.0 if rng.random() < 0.5 else 0.0)
        beta, outside = 1.0, 0.0
        profit = np.exp(-value + rng.integers(0, 2, (n, m)) * 0.5 - 30.0 * (value < -20))
    elif flavour == "fractions":  # exact ties in A: e in {1, 2, 4}, profits simple fractions
        value, beta, outside = rng.integers(-1, 3, (n, m)).astype(float), float(np.log(2.0)), 0.0
        profit = rng.integers(1, 13, (n, m)) / rng.integers(1, 5, (n, m))
    elif flavour == "beta_zero":
        beta = 0.0
        profit = rng.integers(1, 4, (n, m)) / 10
    elif flavour == "beta_huge":
        beta = 1e7
        if rng.random() < 0.5:
            value = rng.integers(1, 4, (n, m)) / 10
    elif flavour == "beta_large":
        beta = float(10 ** rng.uniform(2, 6))
    elif flavour == "zero_margin":
        profit = np.zeros((n, m))
    elif flavour == "some_zero":
        profit = rng.integers(0, 3, (n, m)) / 10
        if rng.random() < 0.5:
            profit[rng.integers(n)] = 0.0
    elif flavour == "losses":
        profit = rng.uniform(-1.0, 1.0, (n, m))
    elif flavour == "losing":
        profit[rng.random(n) < 0.5] *= -1
    elif flavour == "losing_ties":
        profit, value = rng.integers(-2, 3, (n, m)) / 10, rng.integers(1, 4, (n, m)) / 10
        profit[rng.random(n) < 0.4] = -0.1
    elif flavour == "far_below":
        value = value - 50.0
    elif flavour == "equal":
        value, profit = np.tile(value[:1], (n, 1)), np.tile(profit[:1], (n, 1))
    elif flavour == "curve":  # more compute: more margin, a value that rises and then falls
        tokens = np.cumsum(rng.uniform(0.05, 0.4, (n, m)), axis=1)
        value, profit = 1 - np.exp(-2 * tokens) - 0.3 * tokens, 0.06 * tokens
        beta = float(10 ** rng.uniform(0, 3))
    elif flavour == "multiple":  # strong complements: several equilibria
        steps = np.sort(rng.uniform(0, 3, (n, m)), axis=1)
        value, profit, beta = steps, np.exp(-rng.uniform(0.4, 1.0) * steps), 1.0
    elif flavour != "smooth":
        raise ValueError(flavour)
    value, profit = np.array(value, dtype=float), np.array(profit, dtype=float)
    if rng.random() < 0.4 and m > 1:
        for i in range(n):
            gone = int(rng.integers(0, m))
            if gone:
                value[i, m - gone :] = profit[i, m - gone :] = np.nan
    return PostedPriceGame(value, profit, value + profit, beta, outside)


FLAVOURS = [
    "smooth",
    "ties",
    "ties_shifted",
    "indifferent",
    "fractions",
    "beta_zero",
    "beta_huge",
    "beta_large",
    "zero_margin",
    "some_zero",
    "losses",
    "losing",
    "losing_ties",
    "far_below",
    "equal",
    "curve",
    "multiple",
]
