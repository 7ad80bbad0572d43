"""Small games of every packaged rule against every profile (`brute_rules`): user types, lies and
fines, reserves, claims that are paid for, negative surplus, and ties of every kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ttc_env
from tests.fuzz import SEED, tally
from tests.fuzz.brute_rules import (
    Actions,
    Description,
    Every,
    every_profile,
    nash_conv,
    playable,
    relative_regrets,
    worst_gaps,
)
from ttc_env.game.mechanisms import Mechanism, make_mechanism

pytestmark = pytest.mark.slow

RULES = ("market", "types", "auction", "first_score", "taste_auction")
BIDS = [(0.0,), (-0.5, 0.0, 1.0), (0.0, 0.5, 3.0), (-0.75, 0.0), (-0.25, 0.5), (-0.75, -0.5)]
FACTORS = [(1.0,), (0.5, 1.0), (0.5, 1.0, 2.0), (1.0, 4.0)]


def random_game(rng: np.random.Generator, name: str) -> Description:
    """Multiples of 1/8, so that ties are exact; decimals, whose ties are so but for rounding; or
    any numbers.
    """
    n, m = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    auction = name not in ("market", "types")
    exactly = rng.choice(["eighths", "decimals", "smooth"])
    if exactly == "smooth":
        cost, quality = rng.uniform(0.05, 0.6, (n, m)), rng.uniform(-0.2, 1.5, (n, m))
        price = rng.uniform(0.05, 1.0, (n, m))
        outside, reserve = rng.uniform(-0.3, 0.6, 2).tolist()
    else:
        unit = 8 if exactly == "eighths" else 10
        cost, quality = rng.integers(1, 5, (n, m)) / unit, rng.integers(-1, 13, (n, m)) / unit
        price = rng.integers(1, 8, (n, m)) / unit
        outside, reserve = (rng.integers(-2, 5, 2) / unit).tolist()
    if rng.random() < 0.2:  # providers that are alike
        quality[:], price[:], cost[:] = quality[0], price[0], cost[0]
    for i in range(n):
        if m > 1 and rng.random() < 0.2:
            levels = rng.integers(1, m)
            for table in (quality, price, cost):
                table[i, levels:] = np.nan
    options: dict[str, Any] = {"rounding": 1e-12 if exactly == "decimals" else 0.0}
    if rng.random() < 0.5:
        kinds: list[Any] = [{"under_serve": "every"}, {"under_serve": (1,)}]
        if auction:
            kinds += [{"over_claim": (2.0,)}, {"over_claim": (0.5,)}, {"over_claim": (0.0, 1.5)}]
        else:
            kinds += [{"over_report": (1.5,)}, {"over_report": (2.0,), "under_serve": (1,)}]
        options["lies"] = kinds[rng.integers(len(kinds))]
        options["fine"] = float(rng.choice([0.0, 0.125, 0.5]))
        options["audit_rate"] = float(rng.choice([1.0, 0.5, 0.0]))
        options["noticed"] = "over_report" in options["lies"] and bool(rng.random() < 0.5)
    if auction:
        options["settlement"] = str(rng.choice(["delivered", "claimed"]))
        if name != "taste_auction" and rng.random() < 0.5:
            options["reserve"] = reserve
    if name == "types":
        weights = rng.multinomial(8, np.full(k := int(rng.integers(1, 4)), 1 / k)) / 8
        options["types"] = [random_type(rng, float(w)) for w in weights if w > 0]
    grid = BIDS if auction else FACTORS
    beta = float(rng.choice([0.0, 0.5, 4.0, 30.0, 300.0]) if not auction else rng.choice([1, 30]))
    return Description(
        "market" if name == "types" else name,
        quality, price, cost, beta, outside,
        grid[rng.integers(len(grid))],
        **options,
    )  # fmt: skip


def random_type(rng: np.random.Generator, weight: float) -> dict[str, float]:
    kind = {"weight": weight}
    if rng.random() < 0.7:
        kind["beta"] = float(rng.choice([0.0, 1.0, 10.0, 100.0]))
    if rng.random() < 0.3:
        kind["alpha"] = float(rng.choice([0.5, 2.0]))
    if rng.random() < 0.2:
        kind["baseline"] = float(rng.choice([0.0, 0.5]))
    return kind


def as_package(game: Description) -> tuple[ttc_env.Market, Mechanism]:
    market = ttc_env.Market.from_arrays(
        *game.tables(),
        beta=game.beta,
        outside_value=game.outside,
        alpha=game.alpha,
        baseline=game.baseline,
    )
    options: dict[str, Any] = {}
    if game.lies:
        options |= {"misreport": game.lies, "audit_rate": game.audit_rate, "fine": game.fine}
        options |= {"noticed": True} if game.noticed else {}
    if game.auction:
        options["settlement"] = game.settlement
    if game.reserve is not None:
        options["reserve"] = game.reserve
    if game.types:
        options["types"] = game.types
    return market, make_mechanism(game.rule, game.choices, **options)


@pytest.mark.parametrize("name", RULES)
def test_rules(name):
    rng = np.random.default_rng([SEED, 3, RULES.index(name)])
    what = "a small game: rounds, regrets, equilibria, optimum, against every profile"
    with tally(f"rules: {name}", what, 3_000) as found:
        while found.inputs < 3_000:
            game = random_game(rng, name)
            found.inputs += 1
            try:
                refused, wrong = wrong_about(game, rng)
            except Exception as error:
                refused, wrong = False, f"{type(error).__name__}: {error}"
            found.refused += refused
            if wrong:
                found.failures.append(f"game {found.inputs}: {wrong}: {game}")


def wrong_about(game: Description, rng: np.random.Generator) -> tuple[bool, str]:
    """Whether the game was refused, as it should be; and what is said of it that is not so."""
    market, mechanism = as_package(game)
    of = [game.actions(i) for i in range(len(game.quality))]
    every = every_profile(game, of)
    wrong = wrong_rounds(game, market, mechanism, of, every, rng)
    if wrong:
        return False, wrong
    truthful = 0.0 in game.choices
    try:
        solution = ttc_env.solve(market, mechanism)
    except ValueError as error:
        bid = game.rule in ("auction", "taste_auction") and not truthful
        return bid, "" if bid and "truthful bid" in str(error) else f"refused: {error}"
    amount, best = every.amount, float(every.welfare.max())
    if abs(solution.optimal_welfare - best) > 1e-12 * max(amount, abs(best)):
        return False, f"optimum {solution.optimal_welfare}, every profile {best}"
    if game.rule in ("auction", "taste_auction"):
        return False, wrong_dominance(game, solution, of, every)
    return False, wrong_equilibria(game, solution, of, every)


def wrong_rounds(
    game: Description,
    market: ttc_env.Market,
    mechanism: Mechanism,
    of: list[Actions],
    every: Every,
    rng: np.random.Generator,
) -> str:
    """A profile as it is played, and the regrets of mixed play."""
    at = tuple(int(rng.integers(len(one.flat))) for one in of)
    profile = np.array([one.flat[a] for one, a in zip(of, at, strict=True)])
    env = ttc_env.parallel_env(
        mechanism, market=market, actions="flat", users=7, infos="full", max_cycles=2
    )
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step(dict(zip(env.agents, profile.tolist(), strict=True)))
    utility = every.utility[(slice(None), *at)].astype(float)
    slack = 1e-12 * max(every.amount, float(np.abs(utility).max()))
    if not np.allclose(list(rewards.values()), 7 * utility, rtol=1e-9, atol=7 * slack):
        return f"rewards {rewards}, definition {7 * utility} at {at}"
    said, welfare = infos["provider_0"]["welfare"], float(every.welfare[at])
    if abs(said - welfare) > 1e-12 * max(every.amount, abs(welfare)):
        return f"welfare {said}, definition {welfare} at {at}"
    a = mechanism.offers(market).quality.shape[1]
    chances, mixture = [], np.zeros((len(of), a))
    for i, one in enumerate(of):
        drawn = rng.dirichlet(np.full(len(one.flat), 0.5)) * (rng.random(len(one.flat)) < 0.7)
        drawn[rng.integers(len(drawn))] += 0.25
        chances.append(drawn / drawn.sum())
        mixture[i, one.flat] = chances[i]
    pure = [np.eye(len(one.flat))[k] for one, k in zip(of, at, strict=True)]
    for said, mine in (
        (ttc_env.nash_conv(market, mixture, mechanism), nash_conv(every, chances)),
        (ttc_env.nash_conv(market, profile, mechanism), nash_conv(every, pure)),
        (infos["provider_0"]["nash_conv"], nash_conv(every, pure)),
    ):
        if not np.isclose(said, mine, rtol=1e-9, atol=4 * slack):
            return f"NashConv {said}, every profile {mine} at {at}, {chances}"
    return ""


def places(of: list[Actions], profile: np.ndarray) -> tuple[int, ...]:
    """Flat actions as places in the grid of those that exist."""
    return tuple(int(np.flatnonzero(one.flat == a)[0]) for one, a in zip(of, profile, strict=True))


def wrong_dominance(game: Description, solution: Any, of: list[Actions], every: Every) -> str:
    """Whether the strategies named are dominant, and the numbers those of that profile."""
    at = places(of, solution.actions)
    for i, k in enumerate(at):
        utility = every.utility[i]
        own = np.take(utility, [k], axis=i)
        if (utility > own + 1e-12 * every.amount).any():
            return f"provider {i}'s action {solution.actions[i]} is not dominant"
        if game.settlement == "delivered" and of[i].report[k] != 0:
            return f"provider {i} lies for nothing"
    if abs(float(every.welfare[at]) - solution.welfare) > 1e-12 * max(every.amount, 1.0):
        return f"welfare {solution.welfare}, definition {every.welfare[at]}"
    mine = every.utility[(slice(None), *at)].astype(float)
    if not np.allclose(solution.provider_profit, mine, rtol=1e-9, atol=1e-12 * every.amount):
        return f"profits {solution.provider_profit}, definition {mine}"
    if not solution.gap <= 1e-12 * max(every.amount, 1.0):
        return f"gap {solution.gap}"
    # each level's worth, told truly or, where claims are paid for, with each report
    single = True
    for one in of:
        settled = one.seen if game.settlement == "claimed" else one.quality
        worth = settled - one.cost - one.penalty
        counts = (one.report == 0) | (game.settlement == "claimed")
        bids = len(game.choices)
        kinds = worth[counts].reshape(-1)
        near = (kinds >= kinds.max() - 1e-9 * every.amount).sum()
        single = single and near == bids
    if game.rule == "taste_auction":
        return "" if solution.unique == single else f"unique {solution.unique}, levels {single}"
    scores = np.array([one.seen[k] - one.price[k] for one, k in zip(of, at, strict=True)])
    h = game.outside if game.reserve is None else max(game.outside, game.reserve)
    slack = 1e-9 * every.amount
    alone = (scores >= scores.max() - slack).sum() == 1 or scores.max() < h - slack
    certain = single and alone and abs(scores.max() - h) > slack
    return "" if solution.unique == certain else f"unique {solution.unique}, every level {certain}"


def wrong_equilibria(game: Description, solution: Any, of: list[Actions], every: Every) -> str:
    """Whether the equilibria listed are those of all profiles."""
    worst, by_amount = worst_gaps(every, absolute=game.auction)
    surely = (worst <= 1e-11) | (by_amount <= 1e-15)
    perhaps = (worst <= 1e-8) | (by_amount <= 1e-13)
    listed = {places(of, profile) for profile in solution.equilibria}
    if not solution.complete:
        return f"incomplete: {solution.reason}"
    if solution.unique != (len(listed) == 1) or len(listed) != len(solution.equilibria):
        return f"unique {solution.unique} of {listed}"
    if not all(perhaps[at] for at in listed):
        return f"{listed} are no equilibria: {[float(worst[at]) for at in listed]}"
    if game.rule == "first_score":
        outcomes = {outcome(of, every, at) for at in listed}
        if len(outcomes) != len(listed):
            return f"an outcome stands twice in {listed}"
        wanted = {outcome(of, every, tuple(at)) for at in np.argwhere(surely).tolist()}
        missing = wanted - outcomes
        return f"outcomes {missing} are missing" if missing else wrong_nearest(solution, of, every)
    kept, gone = zip(*(playable(game, one) for one in of), strict=True)
    wanted = {
        tuple(at)
        for at in np.argwhere(surely).tolist()
        if all(row[k] for row, k in zip(kept, at, strict=True))
    }
    if missing := wanted - listed:
        return f"equilibria {missing} are missing"
    if extra := [at for at in listed if any(r[k] for r, k in zip(gone, at, strict=True))]:
        return f"{extra} hold dominated actions or copies"
    return wrong_nearest(solution, of, every)


def wrong_nearest(solution: Any, of: list[Actions], every: Every) -> str:
    """Where there is no equilibrium, whether another profile is nearer to one."""
    if len(solution.equilibria):
        return ""
    nearest = solution.least_regret
    regrets = relative_regrets(every).max(axis=0)
    mine = float(regrets[places(of, nearest.profile)])
    if not np.isclose(nearest.relative, mine, atol=1e-9):
        return f"least regret {nearest.relative}, definition {mine}"
    if nearest.exact and mine > float(regrets.min()) + 1e-9:
        return f"least regret {mine}, every profile {float(regrets.min())}"
    return ""


def outcome(of: list[Actions], every: Every, at: tuple[int, ...]) -> tuple[Any, ...]:
    """Who serves, with which offer."""
    found = []
    for i, one in enumerate(of):
        if every.share[(i, *at)] > 0:
            k = at[i]
            offer = one.quality[k], one.seen[k], one.price[k], one.cost[k], one.penalty[k]
            found.append((i, *map(float, offer)))
    return tuple(found)
