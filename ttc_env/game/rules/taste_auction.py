"""The second-score auction with tastes: every user has an auction of its own.

Everything known about this game stands here or is called from here (GAME.md, theorem 16). A user
draws a taste e_i / beta (Gumbel; one for each provider, one for the outside option), which the
auctioneer sees. The highest claim - bid + taste serves this user and pays by the second highest.
Over users, with scores d_i = claim - bid, A = exp(beta V_0) + sum_j exp(beta d_j) and w_i settled
quality less cost,

    s_i   = exp(beta d_i) / A
    U_i   = (w_i - d_i) s_i - log(1 - s_i) / beta
    users = (log A + sum_i log(1 - s_i)) / beta          in the reading with tastes

(Euler's constant left out, as in the log-sum). Truth is dominant user by user, so that at the
truthful bid d_i = max w_i, and the auction is efficient. A provider alone leaves users V_0.

Here -log(1 - s_i) = log A - log A_-i is written in t_i = beta d_i - log A_-i, the log odds of
serving. At beta = 0 tastes are unboundedly spread: payments are infinite, users' value too unless a
provider is alone, and there is no game to solve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import continuous, demand, mixed
from ttc_env.game.arrays import array_module
from ttc_env.game.mechanisms import Mechanism, register_mechanism
from ttc_env.game.misreports import Misreport, Misreports
from ttc_env.game.optimum import Optimum
from ttc_env.game.regret import TIE
from ttc_env.game.rules import scores
from ttc_env.game.rules.base import BestReplies, EveryAction, Replies, Round, Rule, Users, UsersLike
from ttc_env.game.solution import DominantSolution
from ttc_env.game.tariffs import CostPlus, Offer
from ttc_env.game.types import Array, Market
from ttc_env.game.yardstick import first_best


class Odds(NamedTuple):
    """What a provider needs to know of its rivals."""

    log_rivals: Any  # [n, ...] log A_-i, in units of exp(beta reference)
    reference: Any  # [n, ...] USD/query: the highest score but i's own, V_0 included


@dataclass(frozen=True)
class TasteAuction(Rule):
    """Every user is served by the best score plus taste, which pays by the second best.

    `settlement="delivered"`: quality is settled as delivered in expectation; `"claimed"`: as
    claimed, and misreporting pays.
    """

    settlement: str = "delivered"

    counts_tastes = True

    def __post_init__(self) -> None:
        scores.check_settlement(self.settlement)

    def worth(self, offer: Offer) -> Any:
        """USD/query: what serving is worth before the score to beat is paid."""
        return scores.settled(offer, self.settlement) - offer.cost - offer.penalty

    def rivals(self, offer: Offer, users: UsersLike) -> Odds:
        return Odds(*demand.best_rivals(offer.score, users.beta, users.outside_value))

    def log_share(self, offer: Offer, rivals: Odds, users: UsersLike) -> Any:
        z = demand.logits(offer.score, users.beta, rivals.reference)
        return demand.log_share_against(z, rivals.log_rivals)

    def payment(self, offer: Offer, rivals: Odds, users: UsersLike) -> Any:
        """In expectation over the users served: settled quality + taste less the second score, that
        is q_i - d_i - log(1 - s_i) / (beta s_i).
        """
        odds = demand.logits(offer.score, users.beta, rivals.reference) - rivals.log_rivals
        lead = _over(_mean_lead(odds), users.beta)
        return scores.settled(offer, self.settlement) - offer.score + lead

    def outside_share(self, offer: Offer, share: Any, users: UsersLike) -> Any:
        return demand.outside_share(offer.score, users.beta, users.outside_value)

    def user_value(
        self, offer: Offer, share: Any, outside: Any, payment: Any, users: UsersLike
    ) -> Any:
        """(log A + sum_i log(1 - s_i)) / beta; less what is paid for and not delivered."""
        xp = array_module(offer.score)
        log_rivals, reference = self.rivals(offer, users)
        odds = demand.logits(offer.score, users.beta, reference) - log_rivals
        # log A + log(1 - s_1) = log A_-1, so that nothing is left of a provider alone
        others = log_rivals[0] - xp.sum(_log_gain(odds)[1:], axis=0)
        lie = scores.settled(offer, self.settlement) - offer.quality
        return reference[0] + _over(others, users.beta) - (share * lie).sum(axis=0)

    def welfare(self, offer: Offer, share: Any, outside: Any, users: UsersLike) -> Any:
        """log A / beta + sum_i s_i (q_i - c_i - d_i): surplus with tastes."""
        xp = array_module(offer.score)
        log_rivals, reference = self.rivals(offer, users)
        odds = demand.logits(offer.score, users.beta, reference) - log_rivals
        # log A in units of exp(beta reference) is log A_-i + log(1 + exp t_i), for any i
        log_total = log_rivals[0] + _log_gain(odds)[0]
        surplus = xp.sum(share * (offer.quality - offer.cost - offer.score), axis=0)
        return reference[0] + _over(log_total, users.beta) + surplus

    # --- rounds -----------------------------------------------------------------------------------

    def most_beyond(self, users: UsersLike) -> Any:
        """(1 + log 2) / beta: a served user pays at most q - d + (1 - log(1 - s)) / beta, and
        -log(1 - s) is at most log 2 + beta max(0, d - V_0).
        """
        _check(users)
        return (1.0 + np.log(2.0)) / np.asarray(users.beta)

    # --- best replies and mixed play --------------------------------------------------------------

    def best_replies(self, table: Offer, users: Users) -> BestReplies:
        _check(users)
        return EveryAction(self, table)

    def continuous_replies(
        self, prices: continuous.PriceRange, played: Round, users: UsersLike
    ) -> Replies:
        """With every promise the score that is nearest to what serving is worth: U_i rises up to
        there and falls from there.
        """
        _check(users)
        # [n, ..., m]
        quality, seen, cost, penalty, low, high = (np.moveaxis(x, 1, -1) for x in prices)
        worth = self.worth(Offer(quality, seen, low, cost, penalty=penalty))
        bid = np.clip(seen - worth, low, high)
        log_rivals, reference = (np.asarray(x)[..., None] for x in played.rivals)
        beta = np.asarray(users.beta)[..., None]
        wide = Users(beta, np.asarray(users.outside_value)[..., None])
        best = Offer(quality, seen, bid, cost, penalty=penalty)
        rivals = Odds(log_rivals, reference)
        with np.errstate(invalid="ignore"):  # NaN where a level does not exist
            profit = self.payment(best, rivals, wide) - cost - penalty
            log_share = self.log_share(best, rivals, wide)
        return Replies(profit, log_share, played.profit, played.log_share)

    def expected_utilities(
        self, mixture: Array, table: Offer, users: UsersLike
    ) -> mixed.ExpectedUtilities:
        """(w - d) E[s] + E[-log(1 - s)] / beta, both exact: `ttc_env.game.mixed`."""
        _check(users)
        z = demand.logits(table.score, users.beta, users.outside_value)
        z = np.where(np.isnan(table.quality), -np.inf, z)
        log_share = mixed.expected_log_shares(mixture, z)
        log_odds = mixed.expected_log_odds(mixture, z)
        there = np.isfinite(log_share)
        lead = np.exp(np.where(there, log_odds, 0.0) - np.where(there, log_share, 0.0))
        return mixed.ExpectedUtilities(
            self.worth(table) - table.score + lead / users.beta, log_share
        )

    # --- solutions --------------------------------------------------------------------------------

    def optimum(self, mechanism: Mechanism, market: Market) -> Optimum:
        """Everybody at its dominant strategy, which is the first best, if quality is settled as
        delivered. Else, or where the grid leaves the truth out, by enumeration.
        """
        _check(market)
        try:
            truth = self.solve(mechanism, market, tolerance=0.0)
        except ValueError:  # the truth is not on the grid
            return super().optimum(mechanism, market)
        bound = first_best(market, tastes=True)
        if truth.welfare < bound - 1e-12 * abs(bound):
            return super().optimum(mechanism, market)
        return Optimum(truth.actions, truth.welfare, 0, True, 0.0)

    def solve(self, mechanism: Mechanism, market: Market, *, tolerance: float) -> TasteSolution:
        """Each bidder's dominant strategy: the level at which serving is worth most, and the score
        that is this worth.

        Raises:
            ValueError: the grid leaves out the truthful bid, or the true claim; or beta = 0.
        """
        _check(market)
        table = mechanism.offers(market)
        actions = scores.dominant_actions(mechanism, market, self.worth(table), self.settlement)
        offer = table.take(actions)
        return TasteSolution(
            market=market,
            mechanism=mechanism,
            actions=actions,
            levels=mechanism.split(actions, market)[0],
            bids=offer.price,
            claims=offer.seen,
            scores=offer.score,
            outcome=self.play(offer, market),
        )

    def solve_continuous(self, mechanism: Mechanism, market: Market) -> TasteSolution:
        """As on a grid: the truthful bid is among all bids, and a finer grid changes nothing."""
        return self.solve(mechanism, market, tolerance=0.0)


def _log_gain(odds: Any) -> Any:
    """-log(1 - s) = log(1 + exp t) at log odds t. Any shape."""
    xp = array_module(odds)
    return xp.logaddexp(xp.zeros_like(odds), odds)


def _mean_lead(odds: Any) -> Any:
    """-log(1 - s) / s at log odds t: by how much a served user's best score leads, times beta; 1
    where nearly nobody is served. Any shape.
    """
    xp = array_module(odds)
    share = xp.exp(-xp.logaddexp(xp.zeros_like(odds), -odds))
    few = share < 1e-8  # 1 + s / 2 + ... is exact there, and the quotient has lost digits
    return xp.where(few, 1.0 + 0.5 * share, _log_gain(odds) / xp.where(few, 1.0, share))


def _over(x: Any, beta: Any) -> Any:
    """x / beta; at beta = 0, where x >= 0, the limit 0 or infinity. Shapes broadcast."""
    xp = array_module(x)
    beta = xp.zeros_like(x) + beta
    return xp.where(beta > 0, x / xp.where(beta > 0, beta, 1.0), xp.where(x > 0, np.inf, 0.0))


def _check(users: UsersLike) -> None:
    """Raise ValueError unless beta > 0 for all users."""
    if (np.asarray(users.beta) == 0).any():
        raise ValueError(
            "the auction with tastes needs beta > 0: at beta = 0 tastes are unboundedly spread, and"
            " so are payments"
        )


@dataclass(frozen=True, eq=False, repr=False)
class TasteSolution(DominantSolution):
    """The auction with tastes in dominant strategies. USD per arriving user; users' value and
    welfare are in the reading with tastes: (log A + sum_i log(1 - s_i)) / beta and log A / beta.
    """

    def __repr__(self) -> str:
        return (
            f"TasteSolution({self.market!r}: users get {self.user_value:.6g}, welfare"
            f" {self.welfare:.6g})"
        )

    @property
    def unique(self) -> bool:
        """Whether each provider has one best level (and report, where claims are paid for), none
        within rounding (`regret.TIE`) of it.
        """
        rule = self.mechanism.rule
        assert isinstance(rule, TasteAuction)
        worth = scores.best_worth(self.mechanism, self.market, rule.worth, rule.settlement)
        best = np.nanmax(worth, axis=1, keepdims=True)
        return bool(((worth >= best - TIE * np.abs(best)).sum(axis=1) == 1).all())


def second_score_with_tastes(
    prices: str | ArrayLike = "fixed",
    settlement: str = "delivered",
    misreport: Misreport = (),
    audit_rate: float = 1.0,
    fine: float = 0.0,
) -> Mechanism:
    """The second-score auction with tastes, held for every user (GAME.md, theorem 16).

    Args:
        prices, settlement, misreport, audit_rate, fine: as in `second_price_auction`.
    """
    misreports = Misreports.of(misreport, audit_rate, fine)
    return Mechanism("taste_auction", CostPlus.of(prices), TasteAuction(settlement), misreports)


register_mechanism("taste_auction", second_score_with_tastes)
