"""Equilibria and optimum of many markets at many betas in one call: a price-of-anarchy curve, or
all of them.

The methods are those of `ttc_env.game.equilibrium` and `ttc_env.game.optimum`, with the market as
one more axis: monotone best-response sweeps close in on a bracket of equilibria (GAME.md,
theorem 3), Dinkelbach's rounds on the optimum (theorem 4). Where a bracket closes in one point,
that is the only equilibrium (up to actions of equal value), and nothing more is asked; the rest,
usually a few in a hundred markets, and markets with a provider that cannot earn, are solved one by
one by `equilibria`. Other rules' games are all solved one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game import welfare
from ttc_env.game.demand import log_rivals, logits, shares
from ttc_env.game.display import Columns, Tabular
from ttc_env.game.equilibrium import MOST_ROUNDING, equilibria
from ttc_env.game.market_batch import MarketBatch, listed
from ttc_env.game.optimum import maximise_share_weighted
from ttc_env.game.replies import Index
from ttc_env.game.types import Array, Market, PostedPriceGame
from ttc_env.game.validation import validate_tolerance

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism

_ENTRIES = 1 << 18
"""Levels of all providers and markets that are solved together, those of 4,854 markets of 9 x 6 for
instance: what lies in between does not grow with the number of markets.
"""


@dataclass(frozen=True, eq=False)
class Sweep(Tabular):
    """One game of M markets at K betas. USD per arriving user; profiles hold flat
    actions (at list prices: level indices), -1 beyond a market's providers.
    """

    betas: Array  # [M, K] 1/USD
    # [M, K, n] the equilibrium of least value to users; -1 where there is none such
    lowest: Index
    highest: Index  # [M, K, n] of most value to users
    optimum: Index  # [M, K, n] the planner's profile
    welfare: Array  # [M, K] at the equilibrium with the least welfare; NaN where there is none
    best_welfare: Array  # [M, K] at the equilibrium with the most
    optimal_welfare: Array  # [M, K]
    unique: NDArray[np.bool_]  # [M, K] certified: one equilibrium (of actions that differ in value)
    complete: NDArray[np.bool_]  # [M, K] no equilibrium can be missing
    converged: NDArray[np.bool_]  # [M, K] bracket and optimum came to rest
    iterations: int  # best-response sweeps, the most that any market took

    def __repr__(self) -> str:
        markets, betas = self.betas.shape
        return (
            f"Sweep({markets} market{'s' * (markets > 1)} at {betas} beta{'s' * (betas > 1)}:"
            f" {self.unique.mean():.1%} of equilibria unique)"
        )

    def columns(self) -> Columns:
        """One row for each market at each beta; welfares in USD per arriving user."""
        markets, betas = self.betas.shape
        return {
            "market": np.repeat(np.arange(markets), betas),
            "beta": self.betas.reshape(-1),
            **{
                name: getattr(self, name).reshape(-1)
                for name in (
                    "welfare", "best_welfare", "optimal_welfare", "price_of_anarchy",
                    "price_of_stability", "unique", "complete",
                )
            },
        }  # fmt: skip

    @property
    def no_equilibrium(self) -> NDArray[np.bool_]:
        """`[M, K]` certified: no pure equilibrium. Where welfare is NaN and `complete` is False,
        none was found.
        """
        return self.complete & np.isnan(self.welfare)

    @property
    def price_of_anarchy(self) -> Array:
        """`[M, K]` W* / W(worst PNE); NaN where W(PNE) is not positive (GAME.md, theorem 5), or
        where an equilibrium may be missing (`complete` is False): it would be a bound alone.
        """
        return _ratio(self.optimal_welfare, self.welfare, self.complete)

    @property
    def price_of_stability(self) -> Array:
        """`[M, K]` W* / W(best PNE); NaN likewise."""
        return _ratio(self.optimal_welfare, self.best_welfare, self.complete)

    @property
    def inefficiency(self) -> Array:
        """`[M, K]` the paper's inefficiency in percent, 100 (PoA - 1)."""
        return 100.0 * (self.price_of_anarchy - 1.0)


def _ratio(optimal: Array, equilibrium: Array, complete: NDArray[np.bool_]) -> Array:
    known = complete & (equilibrium > 0)  # False for NaN
    return np.where(known, optimal / np.where(known, equilibrium, 1.0), np.nan)


def sweep(
    markets: Market | Sequence[Market] | MarketBatch,
    betas: ArrayLike | None = None,
    *,
    mechanism: str | Mechanism = "market",
    tolerance: float = 1e-9,
    max_sweeps: int = 10_000,
) -> Sweep:
    """Solve every market at every beta.

    Args:
        markets: one or more, of any shapes; or a `MarketBatch`.
        betas: `[K]` 1/USD; None for each market's own.
        mechanism: a registered name, with its neutral prices, such as `"market"`, the paper's game;
            or a `Mechanism`, such as a batched environment's (`env.config.mechanism`). Posted
            prices are solved together, all other rules game by game.
        tolerance: on log utility, as in `equilibria`.
        max_sweeps: most best-response sweeps.

    Raises:
        ValueError: no market, no beta, betas that are negative or not finite, or a tolerance that
            is NaN, infinite or negative.

    O(n a) per market, beta and sweep. Source: derived in docs, not in the paper (GAME.md, theorems
    3 and 4).
    """
    from ttc_env.game.mechanisms import get_mechanism  # which imports the rules, which import this

    validate_tolerance(tolerance)
    mechanism = get_mechanism(mechanism)
    if isinstance(markets, MarketBatch):
        groups = {(markets.num_providers, markets.num_levels): (np.arange(len(markets)), markets)}
        count = len(markets)
    else:
        many = listed(markets)
        count = len(many)
        shapes = [(market.num_providers, market.num_levels) for market in many]
        groups = {}
        for shape in dict.fromkeys(shapes):
            at = np.array([j for j, other in enumerate(shapes) if other == shape])
            groups[shape] = at, MarketBatch.of([many[j] for j in at])
    own = betas is None
    values = np.ones(1) if betas is None else np.atleast_1d(np.asarray(betas, dtype=np.float64))
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"betas has shape {values.shape}; give at least one number in a flat list, or None for"
            " each market's own beta"
        )
    k, n_most = len(values), max(shape[0] for shape in groups)
    profiles = np.full((3, count, k, n_most), -1, dtype=np.intp)
    numbers = np.full((3, count, k), np.nan)
    flags = np.zeros((3, count, k), dtype=bool)
    iterations = 0
    played = np.tile(values, (count, 1))
    for at, batch in groups.values():
        if own:
            played[at, 0] = batch.beta
        n, m = batch.num_providers, batch.num_levels
        step = max(1, _ENTRIES // (n * m * k))
        for start in range(0, len(batch), step):
            some, part = at[start : start + step], batch.part(slice(start, start + step))
            games = part if own else part.with_betas(values)
            found = mechanism.rule.solve_batch(
                mechanism, games, tolerance=tolerance, max_sweeps=max_sweeps
            )
            profiles[:, some, :, :n] = np.moveaxis(found.profiles, 1, 2).reshape(3, -1, k, n)
            numbers[:, some] = found.welfare.reshape(3, -1, k)
            flags[:, some] = found.flags.reshape(3, -1, k)
            iterations = max(iterations, found.iterations)
    lowest, highest, optimum = profiles
    worst, best, optimal = numbers
    unique, complete, converged = flags
    return Sweep(
        played,
        lowest,
        highest,
        optimum,
        worst,
        best,
        optimal,
        unique,
        complete,
        converged,
        iterations,
    )


@dataclass(frozen=True, eq=False)
class Found:
    """G games of one shape, solved (`Rule.solve_batch`)."""

    profiles: Index  # [3, n, G] lowest, highest, optimum; -1 where there is none
    welfare: Array  # [3, G] worst PNE, best PNE, optimum
    flags: NDArray[np.bool_]  # [3, G] unique, complete, converged
    iterations: int


def one_by_one(mechanism: Mechanism, batch: MarketBatch, tolerance: float) -> Found:
    """Any rule's games, each solved on its own."""
    n, g = batch.num_providers, len(batch)
    found = Found(
        np.full((3, n, g), -1, dtype=np.intp), np.full((3, g), np.nan), np.zeros((3, g), bool), 0
    )
    for j in range(g):
        solution = mechanism.rule.solve(mechanism, batch.market(j), tolerance=tolerance)
        for k, profile in enumerate((solution.lowest, solution.highest, solution.optimum)):
            if profile is not None:
                found.profiles[k, :, j] = profile
        found.welfare[:, j] = solution.welfare, solution.best_welfare, solution.optimal_welfare
        found.flags[:, j] = solution.unique, solution.complete, solution.converged
    return found


def posted_prices(
    value: Array,
    profit: Array,
    surplus: Array,
    batch: MarketBatch,
    game: Callable[[int], PostedPriceGame],
    tolerance: float,
    max_sweeps: int,
) -> Found:
    """Games of posted prices, solved together.

    value, profit, surplus: `[n, G, a]` USD/query. game: that of one market alone.
    """
    value, profit, surplus = (
        np.ascontiguousarray(np.moveaxis(x, 1, 2)) for x in (value, profit, surplus)
    )  # [n, a, G]
    z = logits(value, batch.beta, batch.outside_value)
    # 1. The lowest and the highest equilibrium of every market (GAME.md, theorem 3).
    ends, sweeps, closed = _bracket(z, value, profit, tolerance, max_sweeps)
    row, g = np.arange(len(z))[:, None], np.arange(z.shape[2])
    # 2. Where they coincide, in the values offered, that is the only one: nothing more to ask.
    # not z: at beta = 0 all of it is equal
    met = closed & (value[row, ends[0], g] == value[row, ends[1], g]).all(axis=0)
    # Of actions of equal value the one that earns most is not dominated (GAME.md, theorem 10).
    same = value == np.take_along_axis(value, ends[0][:, None], axis=1)
    ends[0] = np.where(met, np.where(same, profit, -np.inf).argmax(axis=1), ends[0])
    # 3. The planner's profile (theorem 4).
    best = maximise_share_weighted(z, surplus, batch.outside_value)
    profiles = np.stack([ends[0], ends[0], best.profile])
    welfares = np.stack([_welfare(batch, value, surplus, ends[0])] * 2 + [np.asarray(best.value)])
    flags = np.stack([met, met, closed & best.converged])
    # 4. The other markets one by one: all their equilibria.
    for j in np.flatnonzero(~met):
        alone = game(int(j))
        pne = equilibria(alone, tolerance=tolerance, max_sweeps=max_sweeps)
        flags[:, j] = pne.unique, pne.complete, pne.converged and best.converged
        profiles[:2, :, j] = [
            np.full(len(z), -1) if end is None else end for end in (pne.lowest, pne.highest)
        ]
        at_pne = _welfare_of(alone, pne.profiles)
        welfares[:2, j] = (at_pne.min(), at_pne.max()) if len(at_pne) else (np.nan, np.nan)
    return Found(profiles, welfares, flags, sweeps)


def _bracket(
    z: Array, value: Array, profit: Array, tolerance: float, max_sweeps: int
) -> tuple[Index, int, NDArray[np.bool_]]:
    """Lowest and highest equilibrium, `[2, n, G]`, by sweeps from both ends; the number of sweeps;
    for which markets it is a bracket.

    It is none where rounding moves log utilities by more than `MOST_ROUNDING`, and for a market
    with a provider that earns nothing anywhere, for which theorem 3 does not hold. Sweeps cut short
    leave it wide.
    """
    # False for NaN; actions that earn nothing are strictly dominated where another earns
    earns = profit > 0.0
    regular: NDArray[np.bool_] = np.asarray(earns.any(axis=1).all(axis=0))
    z_top = np.where(earns, z, -np.inf).max(axis=1)
    z_top = np.where(np.isfinite(z_top), z_top, 0.0)
    inverse = np.divide(1.0, profit, out=np.full(profit.shape, np.inf), where=earns)
    lowered = np.where(earns, z, z_top[:, None])  # keeps the exponents below in range
    by_value = np.where(earns, value, np.inf), np.where(earns, value, -np.inf)
    with np.errstate(invalid="ignore"):
        rounding = 4.0 * np.finfo(np.float64).eps * np.abs(lowered).max(axis=(0, 1))
    # What rounding of large beta V makes unknown is left to `equilibria`, which says so.
    regular &= rounding <= MOST_ROUNDING
    factor = np.exp(np.where(regular, tolerance + rounding, 0.0))
    row, entry = np.arange(len(z))[:, None], np.arange(z.shape[2])
    ends = np.stack([by_value[0].argmin(axis=1), by_value[1].argmax(axis=1)])
    resting: NDArray[np.bool_] = ~regular  # nothing to wait for
    for sweep_number in range(1, max_sweeps + 1):
        open_ = np.flatnonzero(~resting)
        if not len(open_):
            return ends, sweep_number - 1, regular
        here = entry[: len(open_)]
        some = slice(None) if len(open_) == z.shape[2] else open_
        zs, top, inv, fac = lowered[:, :, some], z_top[:, some], inverse[:, :, some], factor[some]
        moved = np.zeros(len(open_), dtype=bool)
        at = [ends[side][:, some] for side in (0, 1)]
        for side in (0, 1):
            rivals = log_rivals(zs[row, at[side], here])
            anchor = np.minimum(rivals, top)
            # 1 / U_l up to a factor per provider: (1 + A_-i / e_l) / pi_l, scaled so that the best
            # entries stay in range (replies.scores)
            with np.errstate(over="ignore"):
                score = (np.exp(anchor[:, None] - zs) + np.exp(anchor - rivals)[:, None]) * inv
            best = score <= score.min(axis=1, keepdims=True) * fac
            order = by_value[side][:, :, some]
            reply = (
                np.where(best, order, np.inf).argmin(axis=1)
                if side == 0
                else np.where(best, order, -np.inf).argmax(axis=1)
            )
            moved |= (reply != at[side]).any(axis=0)
            at[side] = reply
            ends[side][:, some] = reply
        met = (zs[row, at[0], here] == zs[row, at[1], here]).all(axis=0)
        resting[open_] |= ~moved | met
    return ends, max_sweeps, regular


def _welfare(batch: MarketBatch, value: Array, surplus: Array, profile: Index) -> Array:
    row, g = np.arange(len(value))[:, None], np.arange(len(batch))
    share, outside = shares(value[row, profile, g], batch.beta, batch.outside_value)
    return welfare.welfare(share, surplus[row, profile, g], outside, batch.outside_value)


def _welfare_of(game: PostedPriceGame, profiles: Index) -> Array:
    row = np.arange(len(game.value))
    share, outside = shares(game.value[row, profiles].T, game.beta, game.outside_value)
    return welfare.welfare(share, game.surplus[row, profiles].T, outside, game.outside_value)
