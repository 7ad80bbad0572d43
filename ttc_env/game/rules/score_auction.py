"""The reverse second-price auction: the best score serves, and is paid down to the runner-up's.

Everything known about this game stands here or is called from here (GAME.md, "The reverse
second-price auction"). A provider bids a price and claims a quality; its score is claim minus bid.
The highest score serves everybody if it reaches h = max(V_0, reserve), and

    payment = q_w - max(second-highest score, h),

so that the user keeps the runner-up's score. Scores tie where they are equal as numbers: a bid that
is higher by any amount wins, and equal ones are equally likely to.

What serving is *worth* to a provider is its settled quality less its cost; what it has to pay out
of that is the *score to beat*, max(best rival's score, h).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import continuous, draws, mixed
from ttc_env.game.arrays import array_module
from ttc_env.game.envelope import AuctionEnvelope
from ttc_env.game.mechanisms import Mechanism, register_mechanism
from ttc_env.game.misreports import Misreport, Misreports
from ttc_env.game.optimum import Optimum
from ttc_env.game.regret import TIE
from ttc_env.game.rules import score_auction_python, scores
from ttc_env.game.rules.base import (
    BestReplies,
    PythonInfos,
    Replies,
    Round,
    Rule,
    Tabulated,
    Users,
    UsersLike,
    leading,
)
from ttc_env.game.rules.scores import BestRival, best_rival
from ttc_env.game.solution import DominantSolution
from ttc_env.game.tariffs import CostPlus, Offer
from ttc_env.game.types import Array, Market


@dataclass(frozen=True)
class SecondScore(Rule):
    """The highest score serves everybody and is paid its settled quality less the score to beat.

    `settlement="delivered"`: quality is settled as delivered in expectation, so that an inflated
    claim can win but is not paid for. `settlement="claimed"`: as claimed, and misreporting pays.
    `reserve`: USD/query, no score below it serves.
    """

    searches_optimum = False

    settlement: str = "delivered"
    reserve: float = -np.inf

    def __post_init__(self) -> None:
        scores.check_settlement(self.settlement)
        scores.check_reserve(self.reserve)
        object.__setattr__(self, "reserve", float(self.reserve))

    def settled(self, offer: Offer) -> Any:
        """USD/query: the quality that the winner is paid for."""
        return scores.settled(offer, self.settlement)

    def worth(self, offer: Offer) -> Any:
        """USD/query: what serving is worth before the score to beat is paid."""
        return self.settled(offer) - offer.cost - offer.penalty

    def threshold(self, users: UsersLike) -> Any:
        """h = max(V_0, reserve), USD/query: what the highest score has to reach."""
        return scores.threshold(self.reserve, users)

    def rivals(self, offer: Offer, users: UsersLike) -> BestRival:
        return best_rival(offer.score)

    def log_share(self, offer: Offer, rivals: BestRival, users: UsersLike) -> Any:
        return scores.log_share(offer.score, rivals, self.threshold(users))

    def payment(self, offer: Offer, rivals: BestRival, users: UsersLike) -> Any:
        return self.settled(offer) - _score_to_beat(rivals, self.threshold(users))

    def outside_share(self, offer: Offer, share: Any, users: UsersLike) -> Any:
        return scores.outside_share(offer.score, self.threshold(users))

    def value_with_tastes(self, played: Round, users: UsersLike) -> Any:
        """As without: nobody chooses, and the tastes of those who are served are 0 on average."""
        return played.user_value

    # --- rounds -----------------------------------------------------------------------------------

    def tabulate(self, table: Offer, users: UsersLike, arrivals: int) -> dict[str, Array]:
        """Scores, and what serving everybody is worth."""
        return {"score": table.score, "worth": self.worth(table)}

    def tabulated(self, rows: dict[str, Any], users: UsersLike, arrivals: int) -> Tabulated:
        score, worth = rows["score"], rows["worth"]
        xp = array_module(score)
        threshold = self.threshold(users)
        best, second, leads = leading(score)
        zero = xp.zeros_like(best)  # truth values become doubles by adding to it
        leaders = leads[0] + zero
        for row in leads[1:]:
            leaders = leaders + row
        trades = best >= threshold
        share = leads * (trades / leaders)
        # With a tie at the top the second score equals the best one, so leaders pay it either way.
        beaten = xp.maximum(xp.where(leads, second, best), threshold + xp.zeros_like(score))
        gain = xp.where(share > 0, arrivals * (worth - beaten), 0.0)
        return Tabulated(share, 1.0 - (trades + zero), gain)

    def python_round(
        self, numbers: dict[str, Array], users: UsersLike, arrivals: int
    ) -> Callable[[Sequence[Sequence[Any]]], tuple[list[float], list[float]]]:
        return score_auction_python.round_of(float(self.threshold(users)), arrivals)

    def python_infos(
        self, table: Offer, replies: BestReplies, users: UsersLike, noise: float
    ) -> PythonInfos:
        assert isinstance(replies, _Staircase)
        burden = table.cost + table.penalty
        columns = [table.score, self.settled(table), self.worth(table), burden]
        threshold = float(self.threshold(users))
        play = score_auction_python.infos_of(replies.envelope, threshold, noise)
        return PythonInfos(columns, play)

    def numba_round(self, numbers: dict[str, Array], users: UsersLike) -> Any:
        from ttc_env.game.rules import score_auction_numba as compiled

        score = numbers["score"]
        exponent = np.zeros(score.shape, np.int64)
        threshold = np.asarray(self.threshold(users))
        return compiled.play, score, exponent, numbers["worth"], threshold

    def draw(self, share: Any, outside: Any, arrivals: Any, rng: Any) -> Any:
        """One auction a round: a tie is drawn once, and its winner serves everybody."""
        return draws.winners(share, arrivals, rng)

    # --- best replies and mixed play --------------------------------------------------------------

    def best_replies(self, table: Offer, users: Users) -> BestReplies:
        worth = self.worth(table)
        return _Staircase(self, AuctionEnvelope.of(table.score, worth), worth)

    def continuous_replies(
        self, prices: continuous.PriceRange, played: Round, users: UsersLike
    ) -> Replies:
        """With every promise to win, to tie, or to stay out: the bid does not change what a winner
        pays, and only decides between these. NaN where no bid does it.
        """
        rivals = played.rivals
        # [n, ..., m]
        quality, seen, cost, penalty, low, high = (np.moveaxis(x, 1, -1) for x in prices)
        worth = self.worth(Offer(quality, seen, low, cost, penalty=penalty))
        rival, ties = rivals.score[..., None], rivals.ties[..., None]
        threshold = np.asarray(self.threshold(users))[..., None]
        bottom, top = seen - high, seen - low  # scores within reach
        profit = worth - np.maximum(rival, threshold)
        nan = np.full(np.broadcast_shapes(profit.shape, rival.shape), np.nan)
        wins = np.where((top > rival) & (top >= threshold), profit, nan)
        tied = np.where((bottom <= rival) & (rival <= top) & (rival >= threshold), profit, nan)
        out = np.where((bottom < rival) | (bottom < threshold), 0.0, nan)
        tie_log_share = np.broadcast_to(-np.log1p(ties), nan.shape)
        log_shares = np.zeros_like(nan), tie_log_share, np.full_like(nan, -np.inf)
        return Replies(
            np.concatenate([wins, tied, out], axis=-1),
            np.concatenate(log_shares, axis=-1),
            played.profit,
            played.log_share,
        )

    def expected_utilities(
        self, mixture: Array, table: Offer, users: UsersLike
    ) -> mixed.ExpectedUtilities:
        utility = mixed.expected_auction_utilities(
            mixture, table.score, self.worth(table), self.threshold(users)
        )
        return mixed.ExpectedUtilities(utility, np.zeros_like(utility))

    # --- solutions --------------------------------------------------------------------------------

    def optimal_welfare(self, mechanism: Mechanism, market: Market) -> float:
        """The most that the grid can reach: `scores.best_allocation`. It is the first best unless a
        reserve, or a grid that leaves bids out, stands in the way.
        """
        return scores.optimum(mechanism, market, float(self.threshold(market))).welfare

    def optimum(self, mechanism: Mechanism, market: Market) -> Optimum:
        """Everybody at its dominant strategy, if that reaches the most that the grid can; else a
        profile that does.
        """
        best = scores.optimum(mechanism, market, float(self.threshold(market)))
        try:
            truth = self.solve(mechanism, market, tolerance=0.0)
        except ValueError:  # the truth is not on the grid
            return best
        if truth.welfare >= best.welfare - 1e-12 * abs(best.welfare):
            return Optimum(truth.actions, truth.welfare, 1, True, 0.0)
        return best

    def solve(self, mechanism: Mechanism, market: Market, *, tolerance: float) -> AuctionSolution:
        """Each bidder's dominant strategy: make winning worth as much as it can be, and bid so that
        the score is that worth.

        Winning pays settled quality - cost - (the score to beat), whatever the bid; so the level
        maximises settled quality - cost (under settlement on delivered quality w = q - c), and a
        score equal to that worth wins exactly when winning pays (GAME.md, "Dominant strategy";
        [TTC]). On claimed quality the worth counts the promise, so that the claim is chosen with
        the level: the largest, unless quality is negative.

        Raises:
            ValueError: the grid leaves out the truthful bid, or the true claim.
        """
        table = mechanism.offers(market)
        actions = scores.dominant_actions(mechanism, market, self.worth(table), self.settlement)
        offer = table.take(actions)
        outcome = self.play(offer, market)
        order = np.argsort(-offer.score, kind="stable")
        trades = bool((outcome.share > 0).any())
        return AuctionSolution(
            market=market,
            mechanism=mechanism,
            actions=actions,
            levels=mechanism.split(actions, market)[0],
            bids=offer.price,
            claims=offer.seen,
            scores=offer.score,
            winner=int(order[0]) if trades else None,
            runner_up=int(order[1]) if trades and len(order) > 1 else None,
            payment=float(outcome.payment[order[0]]) if trades else 0.0,
            outcome=outcome,
        )

    def solve_continuous(self, mechanism: Mechanism, market: Market) -> AuctionSolution:
        """As on a grid: the truthful bid is among all bids, and a finer grid changes nothing."""
        return self.solve(mechanism, market, tolerance=0.0)


def _score_to_beat(rivals: BestRival, threshold: Any) -> Any:
    """max(best rival's score, h), USD/query: what the winner pays out of its settled quality."""
    xp = array_module(rivals.score)
    return xp.where(rivals.score > threshold, rivals.score, threshold)


class _Staircase(BestReplies):
    """Best replies on the steps of `AuctionEnvelope`."""

    def __init__(self, rule: SecondScore, envelope: AuctionEnvelope, worth: Array):
        self._rule, self.envelope, self._worth = rule, envelope, worth  # worth: [n, G, a]
        n, g, a = worth.shape
        self._start = np.arange(0, n * g * a, g * a)[:, None]

    def replies(self, action: Any, played: Round, users: Users, market: Any) -> Replies:
        threshold = self._rule.threshold(users)
        found = self.envelope.of_markets(market).replies(played.rivals, threshold)
        # As the envelope's profits are: a payment computed in another order would be off by its
        # rounding where providers tie.
        a = self._worth.shape[2]
        worth = self._worth.reshape(-1).take(self._start + market * a + action)
        beaten = _score_to_beat(played.rivals, threshold)
        own = np.where(played.log_share > -np.inf, worth - beaten, 0.0)
        return Replies(*found, own, played.log_share)

    def regrets(
        self, action: Any, played: Round, users: Users, market: Any, noise: Any
    ) -> tuple[Array, Array]:
        """`ttc_env.game.regret.compare` without logarithms: shares are 1, parts of 1, or 0."""
        found = self.replies(action, played, users, market)
        profit = np.where(np.abs(found.profit) <= np.expand_dims(noise, -1), 0.0, found.profit)
        own = np.where(np.abs(found.own_profit) <= noise, 0.0, found.own_profit)
        best = np.fmax.reduce(profit * np.exp(found.log_share), axis=-1)
        utility = own * np.exp(found.own_log_share)
        regret = np.maximum(best - utility, 0.0)
        earns = best > 0.0
        worse = utility < np.where(best == 0.0, 0.0, best * (1.0 + TIE))
        return regret, np.where(earns, regret / np.where(earns, best, 1.0), worse)


@dataclass(frozen=True, eq=False, repr=False)
class AuctionSolution(DominantSolution):
    """A reverse second-price auction in dominant strategies. USD per arriving user, which is USD
    per query here.

    Where several bidders tie at the top, each serves with equal chance; `winner` is then the first
    of them, and `provider_profit`, `welfare` and `user_value` are expectations over the draw.
    """

    # None: no score reaches the outside value and the reserve; see `tied_within_rounding`
    winner: int | None
    # the provider with the second-highest score; None if there is no winner, or no second provider
    runner_up: int | None
    payment: float  # USD/query that the user pays the winner; 0 without trade

    def __repr__(self) -> str:
        winner = (
            "no trade"
            if self.winner is None
            else f"{self.market.names[self.winner]} wins for {self.payment:.6g}"
        )
        return f"AuctionSolution({self.market!r}: {winner}, welfare {self.welfare:.6g})"

    @property
    def unique(self) -> bool:
        """Whether each provider has one best level (and report, where claims are paid for), and
        the winner is one provider: then the outcome in dominant strategies is unique. What is
        `tied_within_rounding` is not unique: by doubles alone 0.4 - 0.2 is more than 0.3 - 0.1.
        """
        rule = self.mechanism.rule
        assert isinstance(rule, SecondScore)
        worth = scores.best_worth(self.mechanism, self.market, rule.worth, rule.settlement)
        best = np.nanmax(worth, axis=1, keepdims=True)
        equal = (worth >= best - self._slack).sum(axis=1)
        return bool((equal == 1).all()) and not self.tied_within_rounding

    @property
    def tied_within_rounding(self) -> bool:
        """Whether several providers have the highest score, or one within `regret.TIE` of it,
        relative to the amounts that scores are differences of, so that which of them is the
        `winner` is a matter of rounding; or the highest score is as near to h, the larger of V_0
        and the reserve, so that whether there is a winner at all is one.
        """
        rule, best = self.mechanism.rule, float(self.scores.max())
        assert isinstance(rule, SecondScore)
        at_threshold = abs(best - float(rule.threshold(self.market))) <= self._slack
        several = (self.scores >= best - self._slack).sum() > 1
        return bool(at_threshold or (several and self.winner is not None))

    @property
    def _slack(self) -> float:
        """USD/query: scores and worths that differ by less are equal but for rounding."""
        return TIE * float(np.abs([self.claims, self.bids]).max())


def second_price_auction(
    prices: str | ArrayLike = "fixed",
    settlement: str = "delivered",
    reserve: float = -np.inf,
    misreport: Misreport = (),
    audit_rate: float = 1.0,
    fine: float = 0.0,
) -> Mechanism:
    """The reverse second-price auction ([TTC]).

    Args:
        prices: bids as markups over cost; 0.0 is the truthful bid.
        settlement: `"delivered"` or `"claimed"`: which quality is paid for (`SecondScore`).
        reserve: USD/query: no score below it serves.
        misreport: lies that providers may tell, or lies and their sizes
            (`ttc_env.game.misreports`).
        audit_rate: the chance that a query is audited.
        fine: USD per query whose lie is found.
    """
    rule = SecondScore(settlement, reserve)
    misreports = Misreports.of(misreport, audit_rate, fine)
    return Mechanism("auction", CostPlus.of(prices), rule, misreports)


register_mechanism("auction", second_price_auction)
