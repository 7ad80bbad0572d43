"""Random games against enumeration in long double, and settings at the ends of what there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ttc_env
from tests.fuzz import SEED, tally
from tests.game.bruteforce import (
    FLAVOURS,
    log_regrets,
    playable_profiles,
    profiles_of,
    random_game,
    share_weighted,
)
from ttc_env.game.equilibrium import equilibria
from ttc_env.game.optimum import social_optimum

pytestmark = pytest.mark.slow


def test_random_games():
    rng = np.random.default_rng([SEED, 1])
    what = "a game: all equilibria and the optimum, against every profile in long double"
    with tally("games", what, 42_943) as found:
        for k in range(43_010):
            game = random_game(rng, flavour=FLAVOURS[k % len(FLAVOURS)])
            found.inputs += 1
            wrong = wrong_about(game)
            if wrong:
                found.failures.append(f"game {k}: {wrong}")


def wrong_about(game: Any) -> str:
    """What the solvers say that is not so; '' if nothing."""
    pne = equilibria(game)
    profiles, regret = log_regrets(game)
    kept = playable_profiles(game, profiles)
    profiles, regret = profiles[kept], regret[kept]
    listed = set(map(tuple, pne.profiles.tolist()))
    surely = set(map(tuple, profiles[regret <= 0.999 * pne.tolerance].tolist()))
    perhaps = set(map(tuple, profiles[regret <= 1.001 * pne.tolerance].tolist()))
    if not surely <= listed <= perhaps:
        return f"equilibria {listed}, enumeration {surely}"
    if not pne.complete or pne.unique != (len(listed) == 1):
        return f"certificates: complete {pne.complete}, unique {pne.unique} of {len(listed)}"
    best = social_optimum(game)
    every = profiles_of(game)
    welfare = share_weighted(game, every, game.surplus, game.outside_value)
    mine = share_weighted(game, best.profile[None], game.surplus, game.outside_value)[0]
    if mine < welfare.max() - 1e-15 * max(1.0, float(abs(welfare).max())):
        return f"optimum {mine}, enumeration {welfare.max()}"
    return ""


SIZES = [1e-300, 1e-30, 1e-9, 1e-3, 1.0, 1e3, 1e9, 1e30, 1e300]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"prices": "fixed"},
    {"mechanism": "auction"},
    {"mechanism": "taste_auction"},
    {"mechanism": "two_part"},
    {"actions": "continuous", "infos": "basic"},
    {"demand": "sampled"},
]


@pytest.mark.filterwarnings("error")
def test_extremes():
    """Money, beta and V_0 of any size: refused in words, or played and solved without NaN."""
    rng = np.random.default_rng([SEED, 2])
    what = "a market with amounts, beta and V_0 of any size: made, played, solved"
    with tally("extremes", what, 595) as found:
        for k in range(700):
            money, beta = (float(rng.choice(SIZES)) for _ in range(2))
            outside = float(rng.choice([0.0, money, -money, 1e3 * money, 1e300]))
            users = int(rng.choice([1, 1000, 10**9]))
            quality, cost = rng.uniform(0.5, 1.0, (2, 3)), rng.uniform(0.01, 0.4, (2, 3))
            given = f"money {money:g}, beta {beta:g}, V_0 {outside:g}, users {users}, {k % 7}"
            found.inputs += 1
            try:
                played(
                    (quality * money, cost * 1.3 * money, cost * money),
                    {"beta": beta, "outside_value": outside},
                    {**OPTIONS[k % len(OPTIONS)], "users": users},
                )
            except ValueError as error:
                found.refused += 1
                if len(str(error)) < 30 or "array" in str(error):
                    found.failures.append(f"{given}: {error}")
            except Exception as error:
                found.failures.append(f"{given}: {type(error).__name__}: {error}")


def played(tables: Any, users: dict[str, float], options: dict[str, Any]) -> None:
    """Make it, solve it, play a round; everything a number, and within its bounds."""
    market = ttc_env.Market.from_arrays(*tables, **users)
    env = ttc_env.parallel_env(market=market, **options)
    env.reset(seed=0)
    observations, rewards, *_, infos = env.step(
        {a: env.action_space(a).sample() * 0 for a in env.agents}
    )
    for agent in env.possible_agents:
        seen = observations[agent]
        assert seen in env.observation_space(agent), seen
        assert np.isfinite(rewards[agent]), rewards
        for name, x in infos[agent].items():
            assert np.all(np.isfinite(x)), (name, x)
        assert infos[agent].get("regret", 0.0) >= 0.0
    if options.get("actions") != "continuous":
        solution = env.solve()
        assert np.isfinite(solution.optimal_welfare)
        poa = solution.price_of_anarchy
        assert np.isnan(poa) or poa >= 1.0 - 1e-9, poa
