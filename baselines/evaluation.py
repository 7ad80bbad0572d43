"""How far play is from the exact equilibrium and from the optimum: one row of numbers per
evaluation.

Columns (unit; without one they are ratios):

- `nash_conv` (USD per arriving user): sum of regrets, exact, also for mixed play.
- `relative_regret`: share-weighted mean of 1 - U / U_best. `relative_regret_i` is provider i's.
- `mean_provider_regret`: plain mean over providers; `worst_provider_regret`: the largest. A
  provider that serves nobody counts here as much as the leader, and not at all in the
  share-weighted mean.
- `median_relative_regret`, `largest_counted_regret`: median and largest over providers with a share
  over 1%.
- `levels_off` (levels): share-weighted distance to the nearest PNE (auction: to the dominant
  strategies).
- `levels_exact`: fraction of the providers with a share over 1% that play their equilibrium level.
- `inside_bracket`: chance that a provider plays within [lowest, highest] PNE in offered value, the
  least over providers (market).
- `welfare` (USD per arriving user) W; `welfare_ratio` W / W*; `welfare_to_equilibrium`
  W / W(worst PNE); `price_of_anarchy` W* / W.
- `user_value` (USD per arriving user): share-weighted quality minus payment.
- `overcompute` (doublings): share-weighted log2 of chosen over socially optimal tokens. Cost stands
  for tokens: it is proportional to them.
- `collusion`: (profit - profit at PNE) / (joint maximum - profit at PNE): 0 at the PNE, 1 for a
  cartel; NaN where a cartel would gain less than 1% (market).
- `shading` (auction): share-weighted markup of bid over cost, 0 = truth. `efficient_winner`: share
  served by the provider with the largest surplus w.

Where the game has no pure equilibrium, as with several user types, distances to it and ratios to
its welfare are NaN; regrets are what they always are.

Regrets are exact. For mixed play the other columns are means over `DRAWS` profiles drawn from a
fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agents.base import pure, sample
from ttc_env.envs.config import EnvConfig
from ttc_env.game.optimum import joint_profit_maximum
from ttc_env.game.regret import assess
from ttc_env.game.rules.posted_price import PostedPriceSolution
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.solution import Solution
from ttc_env.game.types import Array

DRAWS = 256
COUNTED = 0.01
"""Providers with a smaller share do not count in medians and in `levels_exact`."""
ROOM = 0.01
"""The collusion index needs a cartel to earn this much more than the equilibrium, relative to it;
otherwise it is a ratio to nothing, and NaN.
"""
PURE = 1.0 - 1e-9
"""A strategy that puts this much on one action is pure."""


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Scores play in one environment against its exact solution, which is computed once."""

    config: EnvConfig

    @cached_property
    def solution(self) -> Solution | AuctionSolution:
        return self.config.solve()

    @cached_property
    def equilibria(self) -> Array:
        """`[e, n]` flat actions."""
        s = self.solution
        return np.atleast_2d(s.actions) if isinstance(s, AuctionSolution) else s.equilibria

    @cached_property
    def _optimal_cost(self) -> Array:
        s = self.solution
        return self.config.table.take(
            s.actions if isinstance(s, AuctionSolution) else s.optimum
        ).cost

    @cached_property
    def _profits(self) -> tuple[float, float]:
        """Joint profit at the worst PNE, and at the joint-profit maximum."""
        s = self.solution
        assert isinstance(s, Solution)
        joint = float("nan")  # the largest is known of users of one type alone
        if isinstance(s, PostedPriceSolution):
            joint = joint_profit_maximum(s.game).profit
        return float(s.provider_profit.sum()), joint

    def levels(self, actions: Array) -> Array:
        """Level indices of flat actions; any shape."""
        return self.config.mechanism.split(actions, self.config.market)[0]

    def score(self, strategy: Array) -> dict[str, float]:
        """One row of metrics. strategy: `[n, a]`, pure or mixed."""
        config = self.config
        n, _a = strategy.shape
        best = strategy.argmax(axis=1)
        is_pure = bool((strategy.max(axis=1) >= PURE).all())
        regret = assess(best if is_pure else strategy, config.mechanism, config.market)
        profiles = (
            best[:, None]
            if is_pure
            else sample(
                np.repeat(strategy[:, :, None], DRAWS, axis=2),
                np.random.default_rng(0).random((n, DRAWS)),
            )
        )
        offer = config.table.take(profiles)
        outcome = config.mechanism.play(offer, config.market)
        share = outcome.share.mean(axis=1)  # [n]
        weight = share / share.sum() if share.sum() > 0 else np.full(n, 1.0 / n)
        counted = share > COUNTED
        welfare = float(outcome.welfare.mean())
        s = self.solution
        # Distance to each equilibrium, the nearest one counts.
        # [e, n]
        played, at_equilibria = self.levels(profiles), self.levels(self.equilibria)
        gap = np.abs(played[None] - at_equilibria[:, :, None]).mean(axis=2)
        levels_off = levels_exact = float("nan")
        if len(gap):
            nearest = int((gap * weight).sum(axis=1).argmin())
            equal = (played == at_equilibria[nearest][:, None]).mean(axis=1)
            levels_off = float((gap[nearest] * weight).sum())
            levels_exact = float(equal[counted].mean()) if counted.any() else 1.0
        row = {
            "nash_conv": regret.nash_conv,
            "relative_regret": float((weight * regret.relative).sum()),
            "median_relative_regret": (
                float(np.median(regret.relative[counted])) if counted.any() else 0.0
            ),
            "mean_provider_regret": float(regret.relative.mean()),
            "worst_provider_regret": float(regret.relative.max()),
            "largest_counted_regret": (
                float(regret.relative[counted].max()) if counted.any() else 0.0
            ),
            "levels_off": levels_off,
            "levels_exact": levels_exact,
            "welfare": welfare,
            "welfare_ratio": (
                welfare / config.optimal_welfare if config.optimal_welfare > 0 else float("nan")
            ),
            "welfare_to_equilibrium": welfare / s.welfare if s.welfare > 0 else float("nan"),
            "price_of_anarchy": config.optimal_welfare / welfare if welfare > 0 else float("nan"),
            "user_value": float(outcome.user_value.mean()),
            "overcompute": float(
                (weight * np.log2(offer.cost / self._optimal_cost[:, None]).mean(axis=1)).sum()
            ),
            "pure": float(is_pure),
        }
        if isinstance(s, Solution):
            row["inside_bracket"] = self._inside(strategy, s)
            base, joint = self._profits
            profit = float(outcome.utility.sum(axis=0).mean())
            row["collusion"] = (
                (profit - base) / (joint - base)
                if joint - base > ROOM * abs(base)
                else float("nan")
            )
        else:
            markup = offer.price / offer.cost - 1.0
            surplus = np.nanmax(config.market.quality - config.market.cost, axis=1)
            row["shading"] = float((weight * markup.mean(axis=1)).sum())
            row["mean_shading"] = float(markup.mean())
            row["efficient_winner"] = float(share[int(surplus.argmax())])
        row.update({f"relative_regret_{i}": float(x) for i, x in enumerate(regret.relative)})
        row.update({f"share_{i}": float(x) for i, x in enumerate(share)})
        row.update({f"level_{i}": float(x) for i, x in enumerate(self.levels(best))})
        return row

    def _inside(self, strategy: Array, s: Solution) -> float:
        if not isinstance(s, PostedPriceSolution) or s.lowest is None:
            return float("nan")
        value = s.game.value
        rows = np.arange(len(value))
        low, high = value[rows, s.lowest], value[rows, s.highest]
        slack = 1e-12 * (np.abs(low) + np.abs(high))
        inside = (value >= (low - slack)[:, None]) & (value <= (high + slack)[:, None])
        return float(np.where(inside, strategy, 0.0).sum(axis=1).min())

    def score_actions(self, actions: Array) -> dict[str, float]:
        """The same for a pure profile `[n]`."""
        return self.score(pure(actions[:, None], self.config.table.quality.shape[1])[:, :, 0])


def mean_row(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every column."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
