"""`solve(market, mechanism)`: everything exact about a game in one result object.

The algorithms are next door: `equilibrium.py` (pure Nash equilibria), `optimum.py` (social optimum,
joint profit), `auction.py`, `dynamics.py`, `free_prices.py`, `limits.py`, `regret.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import equilibrium, free_prices, limits, optimum, welfare
from ttc_env.game.auction import AuctionSolution, Profile, solve_auction
from ttc_env.game.mechanisms import Mechanism, Offer, Outcome, get_mechanism
from ttc_env.game.types import Array, Market, PostedPriceGame


@dataclass(frozen=True, eq=False)
class Solution:
    """A posted-price market, solved. USD per arriving user, unless it says otherwise.

    Single numbers (`welfare`, `shares`, `user_value`, ...) are at the *worst* pure Nash equilibrium
    (PNE), the one with the least welfare; `at(profile)` gives the same for any profile. With a
    price grid, profiles hold flat actions: `split` gives levels and prices.

    A PNE always exists where every provider has an action that does not lose money (GAME.md,
    theorem 1). Where there is none, `equilibria` is empty, `welfare` and the ratios are NaN, and
    the rest raises ValueError.
    """

    market: Market
    mechanism: Mechanism
    game: PostedPriceGame
    pne: equilibrium.Equilibria  # all PNE and how they were found
    best_possible: optimum.Optimum  # the social optimum and how it was found

    def __repr__(self) -> str:
        count = (
            f"{len(self.equilibria)}{'' if self.complete else ' or more'}"
            f" PNE{' (unique)' if self.unique else ''}"
        )
        return (
            f"Solution({self.market!r}: {count}, welfare {self.welfare:.6g} of"
            f" {self.optimal_welfare:.6g})"
        )

    @property
    def equilibria(self) -> Profile:
        """`[k, n]` all PNE, in lexicographic order."""
        return self.pne.profiles

    @property
    def lowest(self) -> Profile | None:
        """`[n]`: the PNE in which every provider offers the least value of all PNE: providers'
        favourite. None without PNE.
        """
        return self.pne.lowest

    @property
    def highest(self) -> Profile | None:
        """`[n]`: the PNE in which every provider offers the most value: users' favourite.

        None without PNE.
        """
        return self.pne.highest

    @property
    def unique(self) -> bool:
        """Exactly one PNE, certified."""
        return self.pne.unique

    @property
    def complete(self) -> bool:
        """No PNE is missing from `equilibria`; if one may be, `reason` says why."""
        return self.pne.complete

    @property
    def reason(self) -> str:
        """Why `equilibria` may be incomplete; '' if it is not."""
        return self.pne.reason

    @property
    def optimum(self) -> Profile:
        """`[n]`: the profile of largest welfare."""
        return self.best_possible.profile

    @property
    def optimal_welfare(self) -> float:
        """W*: the welfare of the social optimum, computed as every other welfare here, so that
        ratios compare like with like.
        """
        return float(self.at(self.optimum).welfare)

    @property
    def converged(self) -> bool:
        """The equilibrium bracket and the optimum both ended by their own criterion."""
        return self.pne.converged and self.best_possible.converged

    @property
    def iterations(self) -> int:
        """Best-response sweeps for the bracket and rounds for the optimum, together."""
        return self.pne.iterations + self.best_possible.iterations

    @property
    def gap(self) -> float:
        """The largest regret in log utility of any provider in any reported PNE."""
        return self.pne.gap

    @property
    def tolerance(self) -> float:
        """The regret in log utility up to which an action counts as a best reply."""
        return self.pne.tolerance

    def at(self, profile: ArrayLike) -> Outcome:
        """The expected round if everybody plays `profile`, flat actions `[n]`, or several at once,
        `[n, k]`.
        """
        profile = np.asarray(profile)
        n, actions = self._table.quality.shape
        if (
            profile.shape[:1] != (n,)
            or not np.issubdtype(profile.dtype, np.integer)
            or (profile < 0).any()
            or (profile >= actions).any()
        ):
            raise ValueError(
                f"a profile holds an action index from 0 to {actions - 1} for each of {n}"
                f" providers; got {profile}"
            )
        return self.mechanism.play(self._table.take(profile), self.market)

    def split(self, profile: ArrayLike) -> tuple[Profile, Profile, Profile]:
        """Flat actions as (level, price, claim) indices."""
        return self.mechanism.split(profile, self.market)

    @cached_property
    def _table(self) -> Offer:
        return self.mechanism.offers(self.market)

    @cached_property
    def _welfares(self) -> Array:
        if not len(self.equilibria):
            raise ValueError(
                "this game has no pure Nash equilibrium: some provider loses money whatever it does"
            )
        return self.at(self.equilibria.T).welfare

    @cached_property
    def worst(self) -> Profile:
        """`[n]`: the PNE with the least welfare."""
        return self.equilibria[self._welfares.argmin()]

    @cached_property
    def best(self) -> Profile:
        """`[n]`: the PNE with the most welfare."""
        return self.equilibria[self._welfares.argmax()]

    @cached_property
    def outcome(self) -> Outcome:
        """The expected round at the worst PNE."""
        return self.at(self.worst)

    @property
    def welfare(self) -> float:
        """Welfare at the worst PNE; NaN without PNE."""
        return float(self.outcome.welfare) if len(self.equilibria) else float("nan")

    @property
    def best_welfare(self) -> float:
        """Welfare at the best PNE; NaN without PNE."""
        return float(self._welfares.max()) if len(self.equilibria) else float("nan")

    @property
    def price_of_anarchy(self) -> float:
        """W* / W(worst PNE); NaN with `ratio_reason` where that welfare is not positive.

        The paper's inefficiency is 100 (PoA - 1) %.
        """
        return welfare.price_of_anarchy(self.optimal_welfare, self.welfare)[0]

    @property
    def price_of_stability(self) -> float:
        """W* / W(best PNE); NaN where that welfare is not positive."""
        return welfare.price_of_anarchy(self.optimal_welfare, self.best_welfare)[0]

    @property
    def ratio_reason(self) -> str:
        """Why the price of anarchy is NaN; '' if it is not."""
        return welfare.price_of_anarchy(self.optimal_welfare, self.welfare)[1]

    @property
    def shares(self) -> Array:
        """`[n]` chance that a user picks i."""
        return self.outcome.share

    @property
    def outside_share(self) -> float:
        """Chance that a user buys from nobody."""
        return float(self.outcome.outside_share)

    @property
    def user_value(self) -> float:
        """Share-weighted V: consumer surplus if users err."""
        return float(self.outcome.user_value)

    @property
    def log_sum(self) -> float:
        """log A / beta: consumer surplus if users have tastes."""
        return float(
            welfare.log_sum(self.outcome.offer.score, self.market.beta, self.market.outside_value)
        )

    @property
    def mean_price(self) -> float:
        """Share-weighted p: what an arriving user pays on average."""
        return float((self.shares * self.outcome.offer.price).sum())

    @property
    def provider_profit(self) -> Array:
        """`[n]` expected profit U."""
        return self.outcome.utility

    @cached_property
    def collusive(self) -> Profile:
        """`[n]`: the profile of largest joint profit, the collusion benchmark."""
        return optimum.joint_profit_maximum(self.game).profile

    @cached_property
    def potential_maximiser(self) -> Profile | None:
        """`[n]`: the PNE with the largest potential, which log-linear learning settles on (GAME.md,
        theorem 1).

        None where the potential is not finite: some provider earns nothing.
        """
        return equilibrium.potential_maximiser(self.game, self.pne)

    @cached_property
    def free_prices(self) -> free_prices.FreePriceEquilibrium:
        """The equilibrium if every provider also chose any price (GAME.md, theorem 8)."""
        return free_prices.free_price_equilibrium(PostedPriceGame.from_market(self.market))

    @cached_property
    def beta_zero(self) -> limits.Limit:
        """The same game as users stop looking, beta to 0 (GAME.md, theorem 6)."""
        return limits.limit_beta_zero(self.game)

    @cached_property
    def beta_infinity(self) -> limits.Limit:
        """The same game as users become fully rational, beta to infinity (GAME.md, theorem 6)."""
        return limits.limit_beta_infinity(self.game)


@overload
def solve(
    market: Market, mechanism: Literal["market"] = "market", *, tolerance: float = 1e-9
) -> Solution: ...
@overload
def solve(
    market: Market, mechanism: Literal["auction"], *, tolerance: float = 1e-9
) -> AuctionSolution: ...
@overload
def solve(
    market: Market, mechanism: str | Mechanism, *, tolerance: float = 1e-9
) -> Solution | AuctionSolution: ...
def solve(
    market: Market, mechanism: str | Mechanism = "market", *, tolerance: float = 1e-9
) -> Solution | AuctionSolution:
    """Solve a market exactly: equilibria and social optimum, or the auction's dominant strategies.

    Args:
        market: who sells, and what users are like.
        mechanism: `"market"` (list prices: the paper's game), `"auction"` (truthful bids on the
            grid), or a `Mechanism`, for instance `pay_per_token((0.8, 1.0, 2.0))`, whose (level,
            price) pairs are flattened into one action set.
        tolerance: log-utility gap up to which an action counts as a best reply (posted prices).

    Returns:
        `Solution` for a posted-price mechanism, `AuctionSolution` for a second-score auction.

    Raises:
        ValueError: an unknown mechanism, or an auction whose grid leaves out the truthful bid, so
            that it has no dominant strategy.
    """
    if not isinstance(market, Market):
        raise TypeError(
            f"solve needs a Market, not {type(market).__name__}; see ttc_env.load_market and"
            " Market.from_arrays"
        )
    mechanism = get_mechanism(mechanism)
    if mechanism.posts_prices:
        game = mechanism.game(market)
        pne = equilibrium.equilibria(game, tolerance=tolerance)
        return Solution(market, mechanism, game, pne, optimum.social_optimum(game))
    if mechanism.kind == "auction":
        return solve_auction(market, mechanism)
    raise ValueError(
        f"mechanism {mechanism.name!r} has no solver: neither posted prices under logit nor a"
        " second-score auction"
    )


def optimal_welfare(market: Market, mechanism: Mechanism) -> float:
    """The most welfare that any profile of this game reaches, USD per arriving user; cheaper than
    `solve`.

    Posted prices: the social optimum under logit choice. Auction: everybody served by the best
    provider, or by nobody if V_0 is better.
    """
    if mechanism.posts_prices:
        return optimum.social_optimum(mechanism.game(market)).welfare
    return max(float(np.nanmax(market.quality - market.cost)), market.outside_value)


@dataclass(frozen=True, eq=False)
class AuctionGain:
    """Where the auction's gain over the pay-per-token market comes from, and who gets it (GAME.md).
    USD per arriving user.

    The market is at its worst PNE. `compute + choice == total`, and `users + providers.sum() ==
    total`.
    """

    market: Solution
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
