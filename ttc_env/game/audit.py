"""`audit`: does a rule reward lies? Every level, price and claim of one provider against its truth.

The truthful strategy is the efficient level (the largest quality - cost), the neutral price choice
(a bid at cost, in an auction) and no lie. Deviations are tried

- on the grid: every action of the mechanism, lies included;
- off it: a lattice of prices, claims and sizes of the mechanism's lies that reaches beyond the
  grid's ends, the prices at which the score meets a rival's or V_0, and from the best of these a
  local search;
- by formula: the best reply in continuous prices, with every report and every claim of the lattice,
  where the rule knows it (`Rule.continuous_replies`).

Where the mechanism fines lies, every lie that is tried pays the expected fine. Whether the fine
deters is also said on the grid alone: `Audit.report_gain` compares lies with the best honest action
there, which against an honest equilibrium is what GAME.md, theorem 18, speaks of.

Nothing here asks which rule it has, so that it audits rules of your own. Money is USD/query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game import demand
from ttc_env.game.continuous import PriceRange
from ttc_env.game.mechanisms import get_mechanism
from ttc_env.game.misreports import TRUTH, Misreports, Report
from ttc_env.game.rules.base import Rule, Users
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array, Market, check_market
from ttc_env.game.validation import generator
from ttc_env.game.yardstick import first_best

if TYPE_CHECKING:
    from ttc_env.game.mechanisms import Mechanism

_PRICES = 33  # of the lattice, beside the grid's own
_DRAWS = 32  # profiles of random rivals
_ZOOMS = 24  # rounds of the local search, each on a lattice of 9 x 9 that shrinks to a half
_BEYOND = 4.0  # how far prices are tried beyond the grid's ends, as a factor


class Deviation(NamedTuple):
    """What a provider does in place of the truth."""

    level: int  # index
    price: float  # USD/query, asked or bid
    report: Report = TRUTH

    @property
    def claim(self) -> float:
        """The quality promised, as a factor on the quality of the level that is announced."""
        return self.report.size if self.report.kind == "over_claim" else 1.0


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found. USD per query unless it says otherwise."""

    mechanism: Mechanism = field(repr=False)
    market: Market = field(repr=False)
    rivals: str  # "truthful", "random", "honest" or "profile"
    # the most that any provider gains by any deviation; 0 if nothing is better than the truth
    max_gain: float
    provider: int  # who gains it
    deviation: Deviation  # and how
    # [n] what each provider gains at most
    gains: Array
    # the most that any provider gains by an action of the mechanism's own grid
    grid_gain: float
    # the most that any provider gains by a lie of the grid over its best honest action there; 0 if
    # none does
    report_gain: float
    # that lie; None if none gains
    lie: tuple[int, Deviation] | None  # the provider, and what it does
    certificate: str  # why the answer is exact, or that it is a search
    # gains up to this are rounding
    noise: float
    # the least that a truthful provider earns; below 0 it had better stay away
    least_profit: float
    # welfare if all are truthful over the first best; NaN where that is not positive
    efficiency: float
    # how far payments follow the own bid, per arriving user; see `_own_bid_effect`
    own_bid_effect: float
    # what users pay less what providers get, per arriving user
    imbalance: float

    @property
    def truthful(self) -> bool:
        """Whether no deviation gains more than rounding."""
        return self.max_gain <= self.noise

    @property
    def deterred(self) -> bool:
        """Whether no lie of the grid gains more than rounding over honest actions."""
        return self.report_gain <= self.noise

    @property
    def individually_rational(self) -> bool:
        """Whether no truthful provider ever loses."""
        return self.least_profit >= -self.noise

    @property
    def efficient(self) -> bool:
        """Whether truthful play reaches the first best, up to 1e-9."""
        return self.efficiency >= 1.0 - 1e-9

    @property
    def payment_independent(self) -> bool:
        """Whether a provider's payment does not depend on its own bid, but for whom it serves."""
        return self.own_bid_effect <= self.noise

    @property
    def budget_balanced(self) -> bool:
        """Whether users pay what providers get, fines aside."""
        return abs(self.imbalance) <= self.noise


def audit(
    mechanism: str | Mechanism,
    market: Market,
    rivals: str | ArrayLike = "truthful",
    seed: int = 0,
    *,
    claims: tuple[float, float] | None = None,
) -> Audit:
    """The most that a provider gains by leaving the truth, and how.

    Args:
        mechanism: a registered name (`ttc_env.mechanisms()`), or an object.
        market: who sells, and what users are like.
        rivals: what the others do: `"truthful"`; `"random"`, levels, prices and reports drawn
            between the ends that deviations are tried in; `"honest"`, the equilibrium of least
            welfare of the game without lies; or a profile, `[n]` flat actions.
        seed: of random rivals.
        claims: the lowest and the highest claim that is tried, as factors on the quality delivered;
            (1, 1) where it is verified. None: the mechanism's own, if it says which lies can be
            told, else 0.5 to 2. The mechanism's own lies are always tried.

    Raises:
        ValueError: rivals of another kind, a range of claims without the truth in it, or no honest
            equilibrium.
    """
    check_market("audit", market)
    mechanism = get_mechanism(mechanism)
    if claims is None:
        own = (1.0, *mechanism.misreports.over_claim)
        claims = (min(own), max(own)) if mechanism.misreports.kinds else (0.5, 2.0)
    low, high = claims if np.shape(claims) == (2,) else (np.nan, np.nan)
    if not 0 <= low <= 1 <= high < np.inf:
        raise ValueError(f"claims are two factors low <= 1 <= high, with low >= 0; got {claims}")
    lattice = _Lattice(mechanism, market, claims)
    truth = lattice.truth()
    name, others = _rivals(rivals, lattice, truth, seed)  # [n, b]
    rule = mechanism.rule
    grid = mechanism.offers(market)
    noise = max(rule.noise(grid), 64 * np.finfo(float).eps * float(np.nanmax(np.abs(grid.quality))))

    tried: list[tuple[Offer, Callable[[Offer, int, int], Deviation]]] = [
        (grid, partial(lattice.action, mechanism)),
        (lattice.table(), lattice.claimed),
    ]
    wider = lattice.wider()
    if wider is not None:
        tried.append((wider.offers(market), partial(lattice.action, wider)))
    lies = mechanism.lies(np.arange(grid.quality.shape[1]), market)
    gains = np.zeros(market.num_providers)
    grid_gains, report_gains = gains.copy(), np.full_like(gains, -np.inf)
    found: list[Deviation] = []
    told: list[Deviation] = []
    worst = np.inf
    formula = True
    for i in range(market.num_providers):
        played = _with(others, truth, i)
        honest = np.asarray(rule.play(played, market).utility)[i]  # [b]
        worst = min(worst, float(honest.min()))
        best = lattice.truth_of(i)
        meets = lattice.at_scores(i, played)
        rows = [(_row(table, i), of) for table, of in tried]
        if not np.isnan(meets.quality).all():  # else no score to meet is in the range
            rows.append((meets, lattice.claimed))
        for k, (row, of) in enumerate(rows):
            gain, at, b = _best(rule, row, played, honest, i, market)
            if k == 0:
                grid_gains[i] = max(gain, 0.0)
            if gain > gains[i]:
                start = of(row, i, at)
                gains[i], best = lattice.climb(i, start, gain, _one(played, b), honest[b])
        own_row = rows[0][0]
        if lies.any():
            utility = demand.utility(*_replies(rule, own_row, played, market, i)[:2])
            truly = np.fmax.reduce(utility[~lies], axis=0)  # [b]
            more = np.where(np.isnan(utility), -np.inf, utility - truly)[lies]
            top = int(more.max(axis=1).argmax())
            report_gains[i] = more[top].max()
            told.append(lattice.action(mechanism, own_row, i, int(np.flatnonzero(lies)[top])))
        exact = lattice.by_formula(i, played, honest)
        # a rule's formula need not vary the claim: then the search finds more
        formula &= exact is not None and exact >= gains[i] - noise
        if exact is not None and exact > max(gains[i], noise):
            gains[i] = exact
        found.append(best)
    liar = int(report_gains.argmax())
    top = int(gains.argmax())
    outcome = rule.play(truth, market)
    most = first_best(market, tastes=rule.counts_tastes, rule=rule)
    welfare = float(outcome.welfare)
    transfers = float(outcome.user_value + outcome.utility.sum() + outcome.fines)
    effects = [_own_bid_effect(lattice, i, _with(others, truth, i)) for i in range(len(gains))]
    return Audit(
        mechanism=mechanism,
        market=market,
        rivals=name,
        max_gain=float(gains[top]),
        provider=top,
        deviation=found[top],
        gains=gains,
        grid_gain=float(grid_gains.max()),
        report_gain=max(float(report_gains[liar]), 0.0),
        lie=(liar, told[liar]) if report_gains[liar] > 0 else None,
        certificate=lattice.certificate(formula, name),
        noise=float(noise),
        least_profit=worst,
        efficiency=welfare / most if most > 0 else float("nan"),
        own_bid_effect=max(effects),
        imbalance=welfare - transfers,
    )


@dataclass(frozen=True, eq=False)
class _Lattice:
    """Levels, prices and claims that are tried, on and off the mechanism's grid."""

    mechanism: Mechanism
    market: Market
    claim_range: tuple[float, float]

    @property
    def claims(self) -> Array:
        low, high = self.claim_range
        own = self.mechanism.misreports.over_claim
        return np.unique([*own, *np.linspace(low, high, 7), 1.0])

    def fine(self, claims: ArrayLike) -> Array:
        """USD/query: what claims cost in expectation."""
        return np.where(np.asarray(claims) == 1.0, 0.0, self.mechanism.misreports.expected_fine)

    def wider(self) -> Mechanism | None:
        """The mechanism with more prices, and more sizes of its lies but claims, between the
        smallest and the largest of its own; None if it has none of these lies.
        """
        misreports = replace(self.mechanism.misreports, over_claim=())
        if not misreports.kinds:
            return None
        if sizes := misreports.over_report:
            between = np.unique([*sizes, *np.linspace(1.0, sizes[-1], 7)[1:]])
            misreports = replace(misreports, over_report=tuple(between))
        tariff = self.mechanism.tariff
        multiples = np.geomspace(*self.multiples, _PRICES)
        choices = tuple(np.unique(tariff.choice(multiples)))
        return replace(
            self.mechanism, tariff=replace(tariff, choices=choices), misreports=misreports
        )

    @property
    def multiples(self) -> tuple[float, float]:
        """The ends of the prices tried, as the tariff's multiples."""
        tariff = self.mechanism.tariff
        ends = [tariff.multiple(x) for x in (tariff.choices[0], tariff.choices[-1])]
        neutral = tariff.multiple(tariff.neutral)
        return min(*ends, neutral) / _BEYOND, max(*ends, neutral) * _BEYOND

    def prices(self, multiple: ArrayLike) -> Array:
        """`[n, m, k]` USD/query at some multiples `[k]`."""
        tariff = self.mechanism.tariff
        terms = tuple(term[:, :, None] for term in tariff.terms(self.market))
        return np.asarray(tariff.price(terms, tariff.choice(np.asarray(multiple))))

    def _offer(self, price: Array, claims: ArrayLike) -> Offer:
        """`[n, m k c]` of prices `[n, m, k]` and claims `[c]`."""
        claims = np.asarray(claims)
        shape = (*price.shape, len(claims))
        quality, cost = (x[:, :, None, None] for x in (self.market.quality, self.market.cost))

        def flat(x: Array) -> Array:
            return np.ascontiguousarray(np.broadcast_to(x, shape)).reshape(len(price), -1)

        seen, fine = flat(quality * claims), flat(self.fine(claims))
        return Offer(flat(quality), seen, flat(price[..., None]), flat(cost), penalty=fine)

    def table(self) -> Offer:
        """`[n, a]`"""
        multiples = np.geomspace(*self.multiples, _PRICES)
        return self._offer(self.prices(multiples), self.claims)

    def at_scores(self, i: int, played: Offer) -> Offer:
        """`[a]`: prices of provider i, in the range tried, at which its score meets a rival's or
        V_0, and those next to them.
        """
        meets = np.unique(np.append(np.delete(played.score, i, axis=0), self.market.outside_value))
        low, high = (x[i][:, None, None] for x in self._ends())
        claim = self.market.quality[i][:, None] * self.claims  # [m, c]
        price = claim[:, :, None] - meets  # [m, c, k]
        step = 1e-9 * np.abs(price) + 1e-15
        price = np.concatenate([price - step, price, price + step], axis=2)
        price = np.where((price >= low) & (price <= high), price, np.nan)
        quality = np.where(np.isnan(price), np.nan, self.market.quality[i][:, None, None])
        fine = self.fine(self.claims)[:, None]
        row = [quality, claim[:, :, None], price, self.market.cost[i][:, None, None], price, fine]
        return Offer(*(np.broadcast_to(x, price.shape).reshape(-1) for x in row))

    def _ends(self) -> tuple[Array, Array]:
        """`[n, m]` USD/query: the lowest and the highest price tried."""
        ends = self.prices(self.multiples)
        low, high = ends.min(axis=2), ends.max(axis=2)
        return np.nan_to_num(low), np.nan_to_num(high)

    def truth_of(self, i: int) -> Deviation:
        """What a truthful provider does."""
        level = int(np.nanargmax(self.market.quality[i] - self.market.cost[i]))
        tariff = self.mechanism.tariff
        price = self.prices([tariff.multiple(tariff.neutral)])[i, level, 0]
        return Deviation(level, float(price))

    def truth(self) -> Offer:
        """`[n]`: everybody's truthful offer."""
        truths = [self.truth_of(i) for i in range(self.market.num_providers)]
        level, price = (np.array(x) for x in zip(*(t[:2] for t in truths), strict=True))
        rows = np.arange(len(level))
        quality, cost = self.market.quality[rows, level], self.market.cost[rows, level]
        return Offer(quality, quality.copy(), price, cost, penalty=np.zeros(len(rows)))

    def random(self, count: int, rng: np.random.Generator) -> Offer:
        """`[n, count]`: offers drawn from what is tried; half of them from the grid's own actions,
        lies included.
        """
        n = self.market.num_providers
        levels = [np.flatnonzero(row) for row in self.market.available]
        level = np.stack([rng.choice(row, count) for row in levels])
        tariff = self.mechanism.tariff
        low, high = np.log(self.multiples)
        multiple = np.exp(rng.uniform(low, high, (n, count)))
        claim = rng.uniform(*self.claim_range, (n, count))
        rows = np.arange(n)[:, None]
        terms = tuple(term[rows, level] for term in tariff.terms(self.market))
        price = np.asarray(tariff.price(terms, tariff.choice(multiple)))
        quality, cost = self.market.quality[rows, level], self.market.cost[rows, level]
        drawn = (quality, quality * claim, price, cost, price, self.fine(claim))
        table = self.mechanism.offers(self.market)
        exist = [np.flatnonzero(~np.isnan(row)) for row in table.quality]
        own = table.take(np.stack([rng.choice(row, count) for row in exist]))
        grid = rng.random((n, count)) < 0.5
        theirs = (own.quality, own.seen, own.price, own.cost, own.paid, own.penalty)
        return Offer(*(np.where(grid, x, y) for x, y in zip(theirs, drawn, strict=True)))

    def action(self, mechanism: Mechanism, row: Offer, i: int, at: int) -> Deviation:
        """One of provider i's actions as a deviation."""
        level, _, report = mechanism.split(at, self.market)
        told = mechanism.reports(self.market)[int(report)]
        return Deviation(int(level), float(row.price[at]), told)

    def claimed(self, row: Offer, i: int, at: int) -> Deviation:
        """One of provider i's offers, with some claim, as a deviation."""
        quality, seen = row.quality[at], row.seen[at]
        same = (self.market.quality[i] == quality) & (self.market.cost[i] == row.cost[at])
        claim = float(seen / quality) if quality != 0 else 1.0
        return Deviation(int(np.flatnonzero(same)[0]), float(row.price[at]), _claim(claim))

    def climb(
        self, i: int, start: Deviation, gain: float, played: Offer, honest: float
    ) -> tuple[float, Deviation]:
        """Local search from a deviation, against one round of rivals: in price and claim, or in
        price and size of another lie.
        """
        rule, best = self.mechanism.rule, start
        if start.report.kind not in ("truth", "over_claim"):
            return self._climb_lie(i, start, gain, played, honest)
        low, high = self.claim_range
        span, width = abs(start.price) * 0.5, (high - low) / 6
        for _ in range(_ZOOMS):
            price = np.maximum(best.price + span * np.linspace(-1, 1, 9), 1e-300)
            claim = np.clip(best.claim + width * np.linspace(-1, 1, 9), low, high)
            price, claim = (x.ravel() for x in np.meshgrid(price, np.append(claim, best.claim)))
            quality = np.full(price.shape, self.market.quality[i, best.level])
            cost = np.full(price.shape, self.market.cost[i, best.level])
            row = Offer(quality, quality * claim, price, cost, penalty=self.fine(claim))
            found, at, _ = _best(rule, row, played, np.array([honest]), i, self.market)
            if found > gain:
                gain = found
                best = Deviation(best.level, float(price[at]), _claim(float(claim[at])))
            span, width = span / 2, width / 2
        return gain, best

    def _climb_lie(
        self, i: int, start: Deviation, gain: float, played: Offer, honest: float
    ) -> tuple[float, Deviation]:
        """`climb` in price choice and size: of tokens billed between 1 and the largest of the
        mechanism's own, of levels none.
        """
        mechanism, (kind, size) = self.mechanism, start.report
        tariff, sizes = mechanism.tariff, mechanism.misreports.over_report
        ends, best = self.multiples, start
        seen, _ = mechanism.terms(self.market)
        report = mechanism.reports(self.market).index(start.report) if kind != "over_report" else 1
        grid = np.geomspace(*ends, 4 * _PRICES)
        terms = tuple(term[i, start.level, report] for term in seen)
        prices = np.array([float(tariff.price(terms, tariff.choice(x))) for x in grid])
        multiple = float(grid[np.abs(prices - start.price).argmin()])
        span, width = 0.5 * np.log(ends[1] / ends[0]), (sizes[-1] - 1.0) / 6 if sizes else 0.0
        for _ in range(_ZOOMS):
            near = multiple * np.exp(span * np.linspace(-1, 1, 9))
            lies = Misreports(under_serve=(int(size),)) if kind == "under_serve" else Misreports(
                over_report=_sizes(size + width * np.linspace(-1, 1, 9), sizes[-1])
            )  # fmt: skip
            own = mechanism.misreports
            lies = replace(lies, audit_rate=own.audit_rate, fine=own.fine)
            if kind == "over_report":
                lies = replace(lies, noticed=own.noticed)
            choices = tuple(np.unique(tariff.choice(np.clip(near, *ends))))
            zoomed = replace(mechanism, tariff=replace(tariff, choices=choices), misreports=lies)
            row = _row(zoomed.offers(self.market), i)
            found, at, _ = _best(mechanism.rule, row, played, np.array([honest]), i, self.market)
            _, choice, told = (int(x) for x in zoomed.split(at, self.market))
            if found > gain and told > 0:
                gain, best = found, self.action(zoomed, row, i, at)
                multiple, size = float(tariff.multiple(choices[choice])), best.report.size
            span, width = span / 2, width / 2
        return gain, best

    def by_formula(self, i: int, played: Offer, honest: Array) -> float | None:
        """The gain of the best reply in continuous prices, by the rule's own formula; None: it has
        none. What the best price is, the search finds.
        """
        rule = self.mechanism.rule
        try:
            self.mechanism.check_continuous(self.market)
        except ValueError:
            return None
        b = played.quality.shape[1]
        low, high = (x[:, :, None] for x in self._ends())
        quality, cost = (x[:, :, None] for x in (self.market.quality, self.market.cost))
        claims = (quality, quality * self.claims, cost, self.fine(self.claims), low, high)
        shape = np.broadcast_shapes(*(np.shape(x) for x in claims))
        rows = [[np.broadcast_to(x, shape).reshape(len(low), -1) for x in claims]]
        wider = self.wider()
        if wider is not None:
            rows.append(list(PriceRange.of(wider, self.market)))
        tables = [np.concatenate(parts, axis=1) for parts in zip(*rows, strict=True)]
        prices = PriceRange(*(np.repeat(x[:, :, None], b, axis=2) for x in tables))
        users = Users.of(self.market).map(lambda x: np.full(b, x))
        found = rule.continuous_replies(prices, rule.play(played, users), users)
        utility = np.where(
            np.isnan(found.profit), -np.inf, demand.utility(found.profit, found.log_share)
        )
        return float((utility[i].max(axis=-1) - honest).max())

    def certificate(self, formula: bool, rivals: str) -> str:
        """Why the answer is exact, or that it is a search."""
        low, high = self.claim_range
        against = {
            "truthful": "against truthful rivals",
            "random": f"against {_DRAWS} draws of rivals",
            "honest": "against rivals in an honest equilibrium",
            "profile": "against the rivals given",
        }[rivals]
        tried = f"{len(self.claims)} claims from {low:g} to {high:g} times the true quality"
        wider = self.wider()
        if wider is not None:
            tried += f" and {len(wider.reports(self.market)) - 1} other lies"
        if formula:
            return (
                f"exact {against} over every level and every price in the range tried, at each of"
                f" {tried}: the rule's best reply in continuous prices, and every action of the"
                " grid"
            )
        return (
            f"a search {against}: every action of the grid is tried, so that the gain on the grid"
            f" is exact; off it {_PRICES} prices and {tried} at every level, the prices that meet a"
            " rival's score, and a local search from the best; a larger gain may exist there"
        )


def _rivals(
    rivals: str | ArrayLike, lattice: _Lattice, truth: Offer, seed: int
) -> tuple[str, Offer]:
    """The others' offers, `[n, b]`."""
    if isinstance(rivals, str):
        if rivals == "truthful":
            return rivals, truth.map(lambda x: x[:, None])
        if rivals == "random":
            return rivals, lattice.random(_DRAWS, generator(seed))
        if rivals != "honest":
            raise ValueError(
                f"rivals is {rivals!r}; choose 'truthful', 'random', 'honest', or give a profile of"
                " flat actions"
            )
        honest, market = lattice.mechanism.honest, lattice.market
        solution = honest.rule.solve(honest, market, tolerance=1e-9)
        return rivals, honest.offers(market).take(solution.worst[:, None])
    profile = np.asarray(rivals)
    table = lattice.mechanism.offers(lattice.market)
    n, a = table.quality.shape
    if (
        profile.shape != (n,)
        or not np.issubdtype(profile.dtype, np.integer)
        or not ((profile >= 0) & (profile < a)).all()
        or np.isnan(table.quality[np.arange(n), profile]).any()
    ):
        raise ValueError(
            f"rivals as a profile are {n} flat actions from 0 to {a - 1} that exist; got {profile}"
        )
    return "profile", table.take(profile[:, None])


def _with(others: Offer, truth: Offer, i: int) -> Offer:
    """The others' offers, `[n, b]`, and provider i's truthful one."""

    shape = others.quality.shape

    def put(x: Array, own: Array) -> Array:
        x = np.array(np.broadcast_to(x, shape))
        x[i] = own[i]
        return x

    fields = ("quality", "seen", "price", "cost", "paid", "penalty")
    return Offer(*(put(getattr(others, name), getattr(truth, name)) for name in fields))


def _claim(factor: float) -> Report:
    return TRUTH if factor == 1.0 else Report("over_claim", factor)


def _sizes(factors: Array, most: float) -> tuple[float, ...]:
    """Those that over-report, none by more than `most`."""
    return tuple(np.unique(np.clip(factors, 1.0 + 1e-9, most)))


def _one(offer: Offer, b: int) -> Offer:
    """One round of a batch, as a batch of one."""
    return offer.map(lambda x: x[:, b : b + 1])


def _row(table: Offer, i: int) -> Offer:
    """One provider's offers, `[a]`."""
    return table.map(lambda x: x[i])


def _replies(
    rule: Rule, row: Offer, played: Offer, market: Market, i: int
) -> tuple[Array, Array, Array]:
    """Profit, log share and payment of provider i, `[a, b]`, for each of its offers `[a]` against
    each round of `played`, `[n, b]`: `Rule.deviations` of one provider.
    """
    summary = rule.rivals(played, market)
    faced = type(summary)(*(x[i][None] for x in summary))
    # No rule meets an offer that does not exist: in its place stands the first that does.
    first = int(np.isnan(row.quality).argmin())
    wide = row.map(lambda x: np.where(np.isnan(x), x[first], x)[:, None])
    log_share = rule.log_share(wide, faced, market)
    shape = np.broadcast_shapes(np.shape(log_share), (len(row.quality), played.quality.shape[1]))
    payment = np.where(log_share > -np.inf, rule.payment(wide, faced, market), 0.0)
    profit = np.where(log_share > -np.inf, payment - wide.cost - wide.penalty, 0.0)
    absent = np.isnan(row.quality)[:, None]
    profit, log_share, payment = (np.broadcast_to(x, shape) for x in (profit, log_share, payment))
    return np.where(absent, np.nan, profit), log_share, payment


def _best(
    rule: Rule, row: Offer, played: Offer, honest: Array, i: int, market: Market
) -> tuple[float, int, int]:
    """The largest gain of provider i over the truth, its offer, and against which rivals."""
    profit, log_share, _ = _replies(rule, row, played, market, i)
    gain = demand.utility(profit, log_share) - honest
    gain = np.where(np.isnan(gain), -np.inf, gain)
    at, b = np.unravel_index(int(gain.argmax()), gain.shape)
    return float(gain[at, b]), int(at), int(b)


def _own_bid_effect(lattice: _Lattice, i: int, played: Offer) -> float:
    """How far the revenue s x payment follows the own bid, USD per arriving user.

    Where a payment depends on the rivals alone, a lower bid only brings more users, and each one's
    payment is the bid at which it comes (Myerson 1981): between two bids b < b' with shares s >= s'
    revenue rises by between b (s - s') and b' (s - s'). The effect is what is missing to that, or
    too much, added up over a lattice of bids, at the truthful level and claim.
    """
    rule, market = lattice.mechanism.rule, lattice.market
    level, truth, _ = lattice.truth_of(i)
    neutral = lattice.mechanism.tariff.multiple(lattice.mechanism.tariff.neutral)
    price = np.geomspace(*lattice.multiples, 257) / neutral * truth
    quality, cost = (np.full(257, x[i, level]) for x in (market.quality, market.cost))
    row = Offer(quality, quality, price, cost)
    _, log_share, payment = _replies(rule, row, played, market, i)
    share = np.exp(log_share)
    revenue = share * payment
    rise, fewer = revenue[:-1] - revenue[1:], share[:-1] - share[1:]
    bounds = price[:-1, None] * fewer, price[1:, None] * fewer
    off = np.maximum(rise - np.maximum(*bounds), np.minimum(*bounds) - rise)
    return float(np.maximum(off, 0.0).sum(axis=0).max())
