"""`solve(market, mechanism)`: everything exact about a game in one result object.

A rule solves its own games (`ttc_env.game.rules`); the algorithms are next door: `equilibrium.py`
(pure Nash equilibria), `optimum.py` (social optimum, joint profit), `dynamics.py`,
`free_prices.py`, `limits.py`, `regret.py`, `mixed.py`, `enumeration.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

from ttc_env.game.mechanisms import Mechanism, get_mechanism
from ttc_env.game.rules.posted_price import PostedPriceSolution
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.types import Array, Market, check_market
from ttc_env.game.validation import validate_tolerance


@overload
def solve(
    market: Market, mechanism: Literal["market"] = "market", *, tolerance: float = 1e-9
) -> PostedPriceSolution: ...
@overload
def solve(
    market: Market, mechanism: Literal["auction"], *, tolerance: float = 1e-9
) -> AuctionSolution: ...
@overload
def solve(market: Market, mechanism: str | Mechanism, *, tolerance: float = 1e-9) -> Any: ...
def solve(market: Market, mechanism: str | Mechanism = "market", *, tolerance: float = 1e-9) -> Any:
    """Solve a market exactly: equilibria and social optimum, or the auction's dominant strategies.

    Args:
        market: who sells, and what users are like.
        mechanism: a registered name (`ttc_env.mechanisms()`) with its neutral prices, such as
            `"market"` (list prices: the paper's game) or `"auction"` (truthful bids); or a
            `Mechanism`, for instance `make_mechanism("market", (0.8, 1.0, 2.0))`, whose (level,
            price) pairs are flattened into one action set.
        tolerance: log-utility gap up to which an action counts as a best reply (posted prices);
            finite and >= 0.

    Returns:
        `PostedPriceSolution` for posted prices, `AuctionSolution` for the second-score auction, and
        `Solution` for other rules, whose `complete` says whether an equilibrium may be missing.

    Raises:
        ValueError: an unknown mechanism, a tolerance that is NaN, infinite or negative, or an
            auction whose grid leaves out the truthful bid, so that it has no dominant strategy.
    """
    check_market("solve", market)
    validate_tolerance(tolerance)
    mechanism = get_mechanism(mechanism)
    return mechanism.rule.solve(mechanism, market, tolerance=tolerance)


@dataclass(frozen=True, eq=False)
class AuctionGain:
    """Where the auction's gain over the pay-per-token market comes from, and who gets it (GAME.md).
    USD per arriving user.

    The market is at its worst PNE. `compute + choice == total`, and `users + providers.sum() ==
    total`.
    """

    market: PostedPriceSolution
    auction: AuctionSolution

    @property
    def total(self) -> float:
        """W_A - W(PNE)."""
        return self.auction.welfare - self.market.welfare

    @property
    def compute(self) -> float:
        """W* - W(PNE): over-computing cured."""
        return self.market.optimal_welfare - self.market.welfare

    @property
    def choice(self) -> float:
        """W_A - W*: choice noise removed, everyone is served by the best provider."""
        return self.auction.welfare - self.market.optimal_welfare

    @property
    def users(self) -> float:
        """Change of users' share-weighted value; it can be negative."""
        return self.auction.user_value - self.market.user_value

    @property
    def users_with_tastes(self) -> float:
        """The same if users' choices are tastes and not errors: the auction's value less log A /
        beta.
        """
        return self.auction.user_value - self.market.log_sum

    @property
    def providers(self) -> Array:
        """`[n]` change of each provider's profit."""
        return self.auction.provider_profit - self.market.provider_profit

    @property
    def winner(self) -> float:
        """Change of the winner's profit; 0 without trade."""
        return (
            float(self.providers[self.auction.winner]) if self.auction.winner is not None else 0.0
        )

    @property
    def others(self) -> float:
        """Change of all other providers' profits together."""
        return float(self.providers.sum()) - self.winner


def auction_gain(market: Market, *, tolerance: float = 1e-9) -> AuctionGain:
    """Compare the paper's two mechanisms on one market: list prices at the worst PNE against
    truthful bids.
    """
    return AuctionGain(
        solve(market, "market", tolerance=tolerance), solve(market, "auction", tolerance=tolerance)
    )
