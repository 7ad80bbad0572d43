"""The reverse second-price auction, solved: dominant strategies and what they lead to (GAME.md,
"The reverse second-price auction").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_env.game.mechanisms import Mechanism, Outcome, SecondScore
from ttc_env.game.regret import assess
from ttc_env.game.types import Array, Market

Profile = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class AuctionSolution:
    """A reverse second-price auction in dominant strategies. USD per arriving user, which is USD
    per query here.

    Where several bidders tie at the top, each serves with equal chance; `winner` is then the first
    of them, and `provider_profit`, `welfare` and `user_value` are expectations over the draw.
    """

    market: Market
    mechanism: Mechanism
    actions: Profile  # [n] flat actions of the dominant strategies
    levels: Profile  # [n] level that maximises settled quality - cost
    bids: Array  # [n] USD/query, = cost at that level
    # [n] USD/query, quality promised; the true one under settlement on delivered quality
    claims: Array
    scores: Array  # [n] USD/query, claim - bid
    winner: int | None  # None: no score reaches the outside value
    # the provider with the second-highest score; None if there is no winner, or no second provider
    runner_up: int | None
    payment: float  # USD/query that the user pays the winner; 0 without trade
    outcome: Outcome

    # Dominant strategies are computed in closed form: nothing can fail to converge, and nothing is
    # left to gain.
    converged = True
    iterations = 0

    def __repr__(self) -> str:
        winner = (
            "no trade"
            if self.winner is None
            else f"{self.market.names[self.winner]} wins for {self.payment:.6g}"
        )
        return f"AuctionSolution({self.market!r}: {winner}, welfare {self.welfare:.6g})"

    @property
    def gap(self) -> float:
        """NashConv of the reported strategies."""
        return assess(self.actions, self.mechanism, self.market).nash_conv

    @property
    def unique(self) -> bool:
        """Whether each provider has one best level, and the winner is one provider: then the
        outcome in dominant strategies is unique.
        """
        ties = (self._worth == np.nanmax(self._worth, axis=1, keepdims=True)).sum(axis=1)
        return bool((ties == 1).all() and (self.outcome.share > 0).sum() <= 1)

    @property
    def _worth(self) -> Array:
        table = self.mechanism.offers(self.market)
        worth = self.mechanism.settled_quality(table) - table.cost
        return worth.reshape(len(worth), self.market.num_levels, -1).max(axis=2)

    @property
    def user_value(self) -> float:
        """max(second-highest score, V_0) where quality is as promised."""
        return float(self.outcome.user_value)

    @property
    def welfare(self) -> float:
        return float(self.outcome.welfare)

    @property
    def provider_profit(self) -> Array:
        """`[n]` expected profit: w_(1) - max(w_(2), V_0) for the winner, 0 for the others."""
        return self.outcome.utility


def solve_auction(market: Market, mechanism: Mechanism) -> AuctionSolution:
    """Each bidder's dominant strategy: make winning worth as much as it can be, and bid so that the
    score is that worth.

    Winning pays settled quality - cost - (the best rival's score or V_0), whatever the bid; so the
    level maximises settled quality - cost (under settlement on delivered quality w = q - c), and a
    score equal to that worth wins exactly when winning pays (GAME.md, "Dominant strategy"; [TTC]).
    On claimed quality the worth counts the promise, so that the claim is chosen with the level: the
    largest, unless quality is negative.
    """
    tariff, payment = mechanism.tariff, mechanism.payment
    assert isinstance(payment, SecondScore)
    truth = np.flatnonzero(np.isclose(tariff.choices, tariff.neutral, rtol=0, atol=1e-12))
    if not len(truth):
        raise ValueError(
            f"the auction's bid grid {tariff.choices} leaves out the truthful bid {tariff.neutral},"
            " so that no strategy is dominant; add it"
        )
    claims = np.arange(len(mechanism.claims))[::-1]  # of equally good ones the largest
    if payment.settlement == "delivered":
        if 1.0 not in mechanism.claims:
            raise ValueError(
                f"the auction's claims {mechanism.claims} leave out the truth, 1.0, so that no"
                " strategy is dominant; add it"
            )
        claims = np.array([mechanism.claims.index(1.0)])
    table = mechanism.offers(market)
    n, m = market.available.shape
    # flat actions of each level and claim
    at_truth = mechanism.join(np.arange(m)[:, None], truth[0], claims, market=market).reshape(-1)
    worth = (payment.settled_quality(table) - table.cost)[:, at_truth]
    actions = at_truth[np.nanargmax(worth, axis=1)]
    levels = mechanism.split(actions, market)[0]
    offer = table.take(actions)
    outcome = mechanism.play(offer, market)
    served = np.flatnonzero(outcome.share > 0)
    order = np.argsort(-offer.score, kind="stable")
    trades = len(served) > 0
    return AuctionSolution(
        market=market,
        mechanism=mechanism,
        actions=actions,
        levels=levels,
        bids=offer.price,
        claims=offer.claim,
        scores=offer.score,
        winner=int(order[0]) if trades else None,
        runner_up=int(order[1]) if trades and n > 1 else None,
        payment=float(outcome.payment[order[0]]) if trades else 0.0,
        outcome=outcome,
    )
