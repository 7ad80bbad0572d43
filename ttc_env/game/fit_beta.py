"""How rational are users? beta from an elasticity, or from shares that were seen.

beta is the one number of a market that no price list holds. Two kinds of data speak of it (GAME.md,
theorem 21):

- how demand answers a price: the own-price elasticity of provider i is -beta p_i (1 - s_i). Along
  list-price equilibria its share-weighted mean is *not* monotone in beta: it jumps when a provider
  changes its level, and falls to 0 where one provider takes all. So there may be many solutions, or
  none;
- how users spread over offers: choices among known values are a logit model in one unknown, whose
  likelihood has one maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from ttc_env.game.demand import shares as logit_shares
from ttc_env.game.mechanisms import get_mechanism
from ttc_env.game.solve import solve
from ttc_env.game.sweep import sweep
from ttc_env.game.types import Array, Market, check_market
from ttc_env.game.validation import number, numbers

POINTS_PER_DECADE = 300
"""Betas at which equilibria are found first; between two of them changes are located exactly."""
BETAS = (1.0, 1e7)
"""1/USD: where crossings are looked for."""
MOST_DECADES = 20
"""Of such a range: more betas would take minutes."""
_CLOSE = 1e-10  # relative distance up to which a jump or a crossing is located


class Jump(NamedTuple):
    """Where a provider changes its level, and the elasticity with it."""

    beta: float  # 1/USD
    before: float  # share-weighted elasticity just below this beta
    after: float  # and just above


@dataclass(frozen=True, eq=False)
class ElasticityFit:
    """Every beta at which list-price equilibria have an elasticity."""

    elasticity: float  # the one that was asked for
    beta: float  # 1/USD, the smallest crossing; NaN without one
    crossings: Array  # 1/USD, rising: all betas with this elasticity
    jumps: tuple[Jump, ...]  # all changes of level in the range
    least: float  # the elasticity's range over the betas scanned
    most: float
    betas: tuple[float, float]  # 1/USD, the range
    # whether the equilibrium is the only one at every beta scanned; else the worst is taken (where
    # a level changes there are two)
    unique: bool
    reason: str  # why there is no crossing; '' with one

    @property
    def passed(self) -> tuple[Jump, ...]:
        """The jumps that pass the elasticity without having it."""
        sides = [(j.before - self.elasticity) * (j.after - self.elasticity) for j in self.jumps]
        return tuple(j for j, side in zip(self.jumps, sides, strict=True) if side < 0)


@dataclass(frozen=True, eq=False)
class SharesFit:
    """The beta of largest likelihood."""

    beta: float  # 1/USD; infinite if all chose the best offer, 0 if choices do not follow value
    # 1/USD, 1 / sqrt(N Var_s V); infinite if all chose the best
    standard_error: float
    users: float  # N, how many choices were seen
    log_likelihood: float  # of all choices, at beta
    reason: str  # why beta is at an end of its range; '' inside


@overload
def fit_beta(
    market: Market, *, elasticity: float, betas: tuple[float, float] = BETAS
) -> ElasticityFit: ...
@overload
def fit_beta(
    market: Market,
    *,
    shares: ArrayLike,
    users: float | None = None,
    profile: ArrayLike | None = None,
    outside_seen: bool = True,
) -> SharesFit: ...
def fit_beta(
    market: Market,
    *,
    elasticity: float | None = None,
    shares: ArrayLike | None = None,
    users: float | None = None,
    profile: ArrayLike | None = None,
    outside_seen: bool = True,
    betas: tuple[float, float] = BETAS,
) -> ElasticityFit | SharesFit:
    """Users' rationality from data: from an own-price elasticity, or from shares.

    Args:
        market: at list prices; its own beta plays no part.
        elasticity: share-weighted mean over served users, below 0; for instance -1.11, across hosts
            of one model. The equilibria at rising beta are searched for it.
        betas: 1/USD, the range of that search.
        shares: `[n]` how many users, or which part of them, chose each provider. Parts may add up
            to less than 1: the rest bought from nobody.
        users: how many choices the parts are of; not with counts.
        profile: `[n]` the level (its index) that each provider sold at when shares were seen.
            Needed where a provider has several.
        outside_seen: False where nothing is known of those who bought from nobody: shares are
            then of buyers. With counts, they are always so.

    Raises:
        ValueError: both or neither of elasticity and shares, or numbers out of range.

    Source: GAME.md, theorem 21.
    """
    check_market("fit_beta", market)
    if (elasticity is None) == (shares is None):
        raise ValueError("give an elasticity, or shares that were seen: one of the two")
    if elasticity is not None:
        if users is not None or profile is not None:
            raise ValueError("users and profile speak of shares; leave them out, or give shares")
        target = number("elasticity", elasticity, "below 0")
        return _from_elasticity(market, target, betas)
    assert shares is not None
    if users is not None:
        number("users", users, "of choices")
    return _from_shares(market, numbers("shares", shares), users, profile, outside_seen)


# --- from an elasticity ---------------------------------------------------------------------------


def mean_elasticity(market: Market, profile: ArrayLike, betas: ArrayLike) -> Array:
    """Share-weighted mean of -beta p_i (1 - s_i) over served users, at list prices.

    Args:
        profile: `[n]` or `[n, k]`, levels.
        betas: `[k]` 1/USD.
    """
    betas = np.atleast_1d(np.asarray(betas, dtype=np.float64))
    profile = np.asarray(profile).reshape(market.num_providers, -1)
    rows = np.arange(market.num_providers)[:, None]
    price, value = market.price[rows, profile], (market.quality - market.price)[rows, profile]
    price, value = (np.broadcast_to(x, (len(x), len(betas))) for x in (price, value))
    share, outside = logit_shares(value, betas, market.outside_value)
    # 1 - s_i as the sum of the others, since s_i may round to 1
    n = len(share)
    others = np.stack([share[np.arange(n) != i].sum(axis=0) for i in range(n)]) + outside
    served = share.sum(axis=0)
    weighted = (share * -betas * price * others).sum(axis=0)
    return np.where(served > 0, weighted / np.where(served > 0, served, 1.0), 0.0)


def _from_elasticity(market: Market, target: float, betas: tuple[float, float]) -> ElasticityFit:
    if not -np.inf < target < 0:
        raise ValueError(
            f"elasticity is {target}; demand falls in the price, so that it is a number below 0"
        )
    low, high = map(float, betas) if np.shape(betas) == (2,) else (np.nan, np.nan)
    if not 0 < low < high < np.inf:
        raise ValueError(f"betas is {betas}; give two positive numbers in rising order, 1/USD")
    decades = np.log10(high) - np.log10(low)
    if decades > MOST_DECADES:
        raise ValueError(f"betas is {betas}; give a range of at most {MOST_DECADES} decades")
    count = max(2, int(np.ceil(decades * POINTS_PER_DECADE)) + 1)
    points = np.geomspace(low, high, count)
    search = _Search(market, target)
    profiles = search.scan(points)
    values = mean_elasticity(market, profiles.T, points)
    for k in range(count - 1):
        search.between(points[k], profiles[k], points[k + 1], profiles[k + 1])
    crossings = np.array(sorted(search.crossings))
    least, most = float(values.min()), float(values.max())
    reason = ""
    if not len(crossings):
        reason = (
            f"the elasticity is between {least:.4g} and {most:.4g} at every beta from {low:g} to"
            f" {high:g}"
        )
        if least < target < most:
            reason += ", and passes the one asked for only where it jumps"
    return ElasticityFit(
        elasticity=target,
        beta=float(crossings[0]) if len(crossings) else float("nan"),
        crossings=crossings,
        jumps=tuple(sorted(search.jumps)),
        least=least,
        most=most,
        betas=(low, high),
        unique=search.unique,
        reason=reason,
    )


class _Search:
    """Crossings and jumps between two betas."""

    def __init__(self, market: Market, target: float):
        self.market, self.target = market, target
        self.crossings: list[float] = []
        self.jumps: list[Jump] = []
        self.unique = True

    def scan(self, points: Array) -> Array:
        """`[k, n]` levels at the worst equilibrium of every beta."""
        found = sweep(self.market, points)
        profiles = np.array(found.lowest[0])
        several = np.flatnonzero(~found.unique[0])
        for k in several:
            profiles[k] = self.equilibrium(float(points[k]))
        self.unique = not len(several)
        return profiles

    def equilibrium(self, beta: float) -> Array:
        """`[n]` levels at the worst equilibrium."""
        return np.asarray(solve(self.market.replace(beta=beta)).worst)

    def between(self, low: float, at_low: Array, high: float, at_high: Array) -> None:
        """Note what lies between two betas with their equilibria."""
        if (at_low == at_high).all():
            self._crossing(at_low, low, high)
            return
        a, b = low, high
        while b / a - 1.0 > _CLOSE:
            middle = float(np.sqrt(a * b))
            there = self.equilibrium(middle)
            if (there == at_low).all():
                a = middle
            elif (there == at_high).all():
                b = middle
            else:  # several changes
                self.between(a, at_low, middle, there)
                self.between(middle, there, b, at_high)
                self._crossing(at_low, low, a)
                self._crossing(at_high, b, high)
                return
        self._crossing(at_low, low, a)
        self._crossing(at_high, b, high)
        self.jumps.append(Jump(b, self._value(at_low, a), self._value(at_high, b)))

    def _value(self, profile: Array, beta: float) -> float:
        return float(mean_elasticity(self.market, profile, beta)[0])

    def _crossing(self, profile: Array, low: float, high: float) -> None:
        """Bisection in log beta, where nobody changes its level."""
        at_low = self._value(profile, low) - self.target
        at_high = self._value(profile, high) - self.target
        if at_low == 0.0:
            self.crossings.append(low)
            return
        if at_low * at_high >= 0.0:
            return  # a crossing at the upper end is the next interval's
        while high / low - 1.0 > _CLOSE:
            middle = float(np.sqrt(low * high))
            if (self._value(profile, middle) - self.target) * at_low > 0:
                low = middle
            else:
                high = middle
        self.crossings.append(float(np.sqrt(low * high)))


# --- from shares ----------------------------------------------------------------------------------


def _from_shares(
    market: Market,
    seen: Array,
    users: float | None,
    profile: ArrayLike | None,
    outside_seen: bool,
) -> SharesFit:
    n = market.num_providers
    if seen.shape != (n,) or not np.isfinite(seen).all() or (seen < 0).any() or seen.sum() == 0:
        raise ValueError(
            f"shares must be {n} numbers >= 0, one for each provider, not all 0; got {seen}"
        )
    value = _offered(market, profile)
    total = float(seen.sum())
    if total > 1.0 + 1e-9:  # counts of buyers
        if users is not None and users < total:
            raise ValueError(f"{total:g} users were counted, more than users={users:g}")
        number, outside = float(users or total), (users or total) - total
        outside_seen = outside_seen and users is not None
    else:
        if users is None:
            raise ValueError("say with users= how many choices the shares are of, or give counts")
        number = float(users)
        outside = number * max(0.0, 1.0 - total) if outside_seen else 0.0
        seen = seen * number if outside_seen else seen / total * number
    if not 0 < number < np.inf:
        raise ValueError(f"users is {users}; it must be a positive number of choices")
    offers, counts = (
        (np.append(value, market.outside_value), np.append(seen, outside))
        if outside_seen
        else (value, seen)
    )
    return _likeliest(offers, counts)


def _offered(market: Market, profile: ArrayLike | None) -> Array:
    """`[n]` V of what is sold."""
    table = get_mechanism("market").offers(market).score
    if profile is None:
        if market.num_levels > 1:
            raise ValueError(
                "say with profile= at which level (its index) each provider sold when the shares"
                " were seen; the equilibrium, for instance, is ttc_env.solve(market).worst"
            )
        return table[:, 0]
    levels = np.asarray(profile)
    if (
        levels.shape != (len(table),)
        or not np.issubdtype(levels.dtype, np.integer)
        or not ((levels >= 0) & (levels < table.shape[1])).all()
        or np.isnan(table[np.arange(len(table)), levels]).any()
    ):
        raise ValueError(
            f"profile must be {len(table)} level indices from 0 to {table.shape[1] - 1} that exist;"
            f" got {profile}"
        )
    return table[np.arange(len(table)), levels]


def _likeliest(value: Array, counts: Array) -> SharesFit:
    """Logit of known values `[k]`, chosen `counts` times: the likelihood is concave in beta, and at
    its maximum the mean value chosen is the mean value expected.
    """
    number = float(counts.sum())
    mean = float(counts @ value) / number
    spread = value - value.max()  # <= 0

    def moments(beta: float) -> tuple[float, float, Array]:
        log = beta * spread
        log = log - np.logaddexp.reduce(log)
        share = np.exp(log)
        expected = float(share @ spread)
        return expected, float(share @ (spread - expected) ** 2), log

    aim = mean - float(value.max())
    if not (spread < 0).any():
        raise ValueError("all offers are of the same value, so that choices say nothing of beta")
    if not (counts[spread < 0] > 0).any():
        likelihood = -number * float(np.log((spread == 0).sum()))
        reason = "everybody chose the best offer: any larger beta is likelier"
        return SharesFit(np.inf, np.inf, number, likelihood, reason)
    if aim <= moments(0.0)[0]:
        variance, log = moments(0.0)[1:]
        reason = "" if aim == moments(0.0)[0] else "users do not choose by value: beta is at 0"
        return SharesFit(0.0, 1.0 / np.sqrt(number * variance), number, float(counts @ log), reason)
    low, high = 0.0, 1.0 / float(-spread[spread < 0].max())
    while moments(high)[0] < aim:
        low, high = high, 2.0 * high
    beta = 0.5 * (low + high)
    while high - low > 4e-16 * high:
        width = high - low
        expected, variance, _ = moments(beta)
        low, high = (beta, high) if expected < aim else (low, beta)
        newton = beta + (aim - expected) / variance if variance > 0 else low
        if abs(newton - beta) <= 4e-16 * beta:
            break
        # Newton's step, where it stays inside and the bracket still shrinks; else its middle.
        fast = low < newton < high and high - low <= 0.5 * width
        beta = newton if fast else 0.5 * (low + high)
    _, variance, log = moments(beta)
    return SharesFit(beta, 1.0 / np.sqrt(number * variance), number, float(counts @ log), "")
