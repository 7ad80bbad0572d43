"""Posted prices: users choose by logit among quality minus price, and pay the price they saw.

Everything known about this game stands here or is called from here (GAME.md, "The pay-per-token
market"). To it an action *is* its triple (V, pi, w), whatever tariff made it. So one file serves
every tariff:

- who serves: s_i = exp(beta V_i) / (exp(beta V_0) + sum_j exp(beta V_j)), in the log domain;
- rounds from tables: attractions exp(beta (V - V_0)) as f 2^k, so that none over- or underflows;
- all pure equilibria without a search over profiles, the planner's optimum, mixed play, best
  replies along an envelope, and continuous prices.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import (
    continuous,
    demand,
    dominance,
    equilibrium,
    free_prices,
    limits,
    mixed,
    optimum,
    rounds,
    sweep,
    welfare,
)
from ttc_env.game.arrays import array_module
from ttc_env.game.envelope import PostedEnvelope
from ttc_env.game.mechanisms import Factory, Mechanism, register_mechanism
from ttc_env.game.misreports import Misreports
from ttc_env.game.regret import OVERFLOW
from ttc_env.game.rules import posted_price_python
from ttc_env.game.rules.base import (
    BestReplies,
    PythonInfos,
    Replies,
    Round,
    Rule,
    Tabulated,
    Users,
    UsersLike,
    regrets,
)
from ttc_env.game.rules.user_types import Types, UserTypes, user_types
from ttc_env.game.solution import Profile, Solution
from ttc_env.game.tariffs import POSTED_TARIFFS, Offer, Tariff
from ttc_env.game.types import Array, Market, PostedPriceGame

if TYPE_CHECKING:
    from ttc_env.game.market_batch import MarketBatch


class Attraction(NamedTuple):
    """What a provider needs to know of its rivals under logit choice."""

    log_rivals: Any  # [n, ...] log A_-i, in units of exp(beta reference)
    reference: Any  # [n, ...] USD/query: the highest value on offer but i's own


@dataclass(frozen=True)
class PostedPrice(Rule):
    """Users choose by logit among quality as seen minus price, and pay what is billed."""

    searches_optimum = False

    def rivals(self, offer: Offer, users: UsersLike) -> Attraction:
        return Attraction(*demand.best_rivals(offer.score, users.beta, users.outside_value))

    def log_share(self, offer: Offer, rivals: Attraction, users: UsersLike) -> Any:
        z = demand.logits(offer.score, users.beta, rivals.reference)
        return demand.log_share_against(z, rivals.log_rivals)

    def payment(self, offer: Offer, rivals: Attraction, users: UsersLike) -> Any:
        return offer.paid

    def outside_share(self, offer: Offer, share: Any, users: UsersLike) -> Any:
        return demand.outside_share(offer.score, users.beta, users.outside_value)

    def value_with_tastes(self, played: Round, users: UsersLike) -> Any:
        """log A / beta: users choose the best score plus taste; less what they did not see."""
        offer = played.offer
        unseen = (offer.quality - played.payment) - offer.score
        log_sum = welfare.log_sum(offer.score, users.beta, users.outside_value)
        return log_sum + (played.share * unseen).sum(axis=0)

    # --- rounds -----------------------------------------------------------------------------------

    def noise(self, table: Offer) -> float:
        """0: a posted price is what it is."""
        return 0.0

    def tabulate(self, table: Offer, users: UsersLike, arrivals: int) -> dict[str, Array]:
        """Attractions e = exp(beta (V - V_0)), as they are where none is extreme, else as f 2^k;
        and the profit if everybody came (`ttc_env.game.rounds`).
        """
        z = demand.logits(table.score, users.beta, users.outside_value)
        fraction, exponent = rounds.split_exponential(z)
        gain = arrivals * _profit(table)
        if np.abs(exponent).max() <= rounds.NARROW:
            return {"attraction": np.ldexp(fraction, exponent), "gain": gain}
        return {"fraction": fraction, "exponent": exponent, "gain": gain}

    def tabulated(self, rows: dict[str, Any], users: UsersLike, arrivals: int) -> Tabulated:
        if "attraction" in rows:
            attraction, outside = rows["attraction"], 1.0
        else:
            xp = array_module(rows["fraction"])
            attraction, outside = rounds.attractions(rows["fraction"], rows["exponent"], xp)
        return Tabulated(*rounds.logit_shares(attraction, outside), rows["gain"])

    def python_round(
        self, numbers: dict[str, Array], users: UsersLike, arrivals: int
    ) -> Callable[[Sequence[Sequence[Any]]], tuple[list[float], list[float]]]:
        return posted_price_python.round_of(numbers)

    def python_infos(
        self, table: Offer, replies: BestReplies, users: UsersLike, noise: float
    ) -> PythonInfos:
        assert isinstance(replies, _Envelope)
        return posted_price_python.infos_of(table, replies.envelope, users)

    def numba_round(self, numbers: dict[str, Array], users: UsersLike) -> Any:
        from ttc_env.game.rules import posted_price_numba as compiled

        narrow = "attraction" in numbers
        weight = numbers["attraction" if narrow else "fraction"]
        exponent = np.zeros(weight.shape, np.int64) if narrow else numbers["exponent"]
        play = compiled.play_narrow if narrow else compiled.play_scaled
        return play, weight, exponent, numbers["gain"], np.asarray(users.outside_value)

    # --- best replies and mixed play --------------------------------------------------------------

    def best_replies(self, table: Offer, users: Users) -> BestReplies:
        profit = _profit(table)
        return _Envelope(PostedEnvelope.of(table.score, profit, users.beta, users.outside_value))

    def continuous_replies(
        self, prices: continuous.PriceRange, played: Round, users: UsersLike
    ) -> Replies:
        rivals = played.rivals
        z = demand.logits(played.offer.score, users.beta, users.outside_value)
        _, best = continuous.best_offers(prices, users, demand.log_rivals(z))
        log_share = self.log_share(best, rivals, users)
        profit = _profit(best)
        return Replies(profit[..., None], log_share[..., None], played.profit, played.log_share)

    def expected_utilities(
        self, mixture: Array, table: Offer, users: UsersLike
    ) -> mixed.ExpectedUtilities:
        absent = np.isnan(table.quality)
        z = demand.logits(table.score, users.beta, users.outside_value)
        log_share = mixed.expected_log_shares(mixture, np.where(absent, -np.inf, z))
        return mixed.ExpectedUtilities(_profit(table), log_share)

    # --- solutions --------------------------------------------------------------------------------

    def game(self, mechanism: Mechanism, market: Market) -> PostedPriceGame:
        """The game with actions flattened: V, pi and w of each."""
        return _game(mechanism.offers(market), market.beta, market.outside_value)

    def optimum(self, mechanism: Mechanism, market: Market) -> optimum.Optimum:
        return optimum.social_optimum(self.game(mechanism, market))

    def solve(
        self, mechanism: Mechanism, market: Market, *, tolerance: float
    ) -> PostedPriceSolution:
        game = self.game(mechanism, market)
        pne = equilibrium.equilibria(game, tolerance=tolerance)
        return PostedPriceSolution(market, mechanism, pne, optimum.social_optimum(game), game)

    def solve_continuous(
        self, mechanism: Mechanism, market: Market
    ) -> continuous.ContinuousSolution:
        return continuous.solve_continuous(mechanism, market)

    def solve_batch(
        self, mechanism: Mechanism, batch: MarketBatch, *, tolerance: float, max_sweeps: int
    ) -> sweep.Found:
        table = batch.offers(mechanism)
        triple = table.score, _profit(table), table.quality - table.cost

        def game(g: int) -> PostedPriceGame:
            of_market = table.map(lambda x: x[:, g])
            return _game(of_market, float(batch.beta[g]), float(batch.outside_value[g]))

        return sweep.posted_prices(*triple, batch, game, tolerance, max_sweeps)


def _game(table: Offer, beta: float, outside_value: float) -> PostedPriceGame:
    """The game of a table of offers `[n, a]`; profits that are equal but for rounding made equal
    (`ttc_env.game.dominance.settle`).
    """
    size = np.maximum(np.abs(table.paid), np.abs(table.cost))
    profit = dominance.settle(_profit(table), size)
    return PostedPriceGame(table.score, profit, table.quality - table.cost, beta, outside_value)


def _profit(table: Offer) -> Any:
    """pi, USD per served query."""
    return table.paid - table.cost - table.penalty


class _Envelope(BestReplies):
    """Best replies along `PostedEnvelope`."""

    def __init__(self, envelope: PostedEnvelope):
        self.envelope = envelope

    def replies(self, action: Any, played: Round, users: Users, market: Any) -> Replies:
        envelope = self.envelope.of_markets(market)
        found = envelope.replies(played.rivals, users.beta, users.outside_value)
        return Replies(*found, played.profit, played.log_share)

    def regrets(
        self, action: Any, played: Round, users: Users, market: Any, noise: Any
    ) -> tuple[Array, Array]:
        """`ttc_env.game.regret.compare` for what is nearly always so: one reply, and it earns."""
        found = self.replies(action, played, users, market)
        profit, log_share = found.profit[..., 0], found.log_share[..., 0]
        if found.profit.shape[-1] > 1 or not (profit > 0.0).all():
            return regrets(found, noise)
        own, own_log_share = played.profit, np.maximum(played.log_share, -1e300)
        regret = np.maximum(profit * np.exp(log_share) - own * np.exp(own_log_share), 0.0)
        # log of |U| over the best U; where U = 0 it is not read
        gap = np.log(np.abs(np.where(own == 0.0, 1.0, own)) / profit) + (own_log_share - log_share)
        relative = np.where(own == 0.0, 1.0, -np.expm1(np.minimum(gap, 0.0)))
        loses = own < 0.0
        if loses.any():
            relative = np.where(loses, 1.0 + np.exp(np.minimum(gap, OVERFLOW)), relative)
        return regret, relative


@dataclass(frozen=True, eq=False, repr=False)
class PostedPriceSolution(Solution):
    """A posted-price market, solved. USD per arriving user, unless it says otherwise.

    A pure equilibrium exists where every provider has an action that does not lose money (GAME.md,
    theorem 1).
    """

    game: PostedPriceGame  # the triple (V, pi, w) of every action

    _why_none = "some provider loses money whatever it does"

    @property
    def log_sum(self) -> float:
        """log A / beta: consumer surplus if users have tastes; less what lies take from them."""
        if self.no_equilibrium:
            return float("nan")
        offer = self.outcome.offer
        log_sum = welfare.log_sum(offer.score, self.market.beta, self.market.outside_value)
        lie = offer.score - (offer.quality - offer.paid)
        return float(log_sum - (self.shares * lie).sum())

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
        """The same game as users become rational, beta to infinity (GAME.md, theorem 6)."""
        return limits.limit_beta_infinity(self.game)


def posted_prices(name: str, tariff: type[Tariff]) -> Factory:
    """The factory of the mechanism with this tariff. Its options are `prices`, the tariff's, those
    of `Misreports.of`, and `types` of users, where these are not all alike
    (`ttc_env.game.rules.user_types`).
    """
    lies = dict(inspect.signature(Misreports.of).parameters)
    if "over_report" not in tariff.lies:
        del lies["noticed"]

    def factory(
        prices: str | ArrayLike = "fixed", *, types: Types | None = None, **options: Any
    ) -> Mechanism:
        misreports = Misreports.of(**{key: options.pop(key) for key in lies if key in options})
        rule = PostedPrice() if types is None else UserTypes(user_types(types))
        return Mechanism(name, tariff.of(prices, **options), rule, misreports)

    options = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default)
        for key, default in [
            *((field.name, field.default) for field in fields(tariff) if field.name != "choices"),
            *((key, lie.default) for key, lie in lies.items()),
        ]
    ]
    prices, types, _ = inspect.signature(factory).parameters.values()
    signature = inspect.Signature([prices, *options, types])
    factory.__signature__ = signature  # type: ignore[attr-defined]
    factory.__doc__ = tariff.__doc__
    return factory


for _name, _tariff in POSTED_TARIFFS.items():
    register_mechanism(_name, posted_prices(_name, _tariff))
