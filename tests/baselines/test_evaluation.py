"""Metrics against definitions, on markets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_agents
from baselines.evaluation import Evaluator
from baselines.plan import TrainConfig
from ttc_env.envs.config import make_config
from ttc_env.game.regret import assess


def evaluator(mechanism: str = "market", prices: str = "fixed", beta: float = 1000.0) -> Evaluator:
    return Evaluator(
        make_config(mechanism, "gsm8k", "majority", prices=prices, beta=beta, infos="basic")
    )


@pytest.mark.parametrize(
    "mechanism, prices", [("market", "fixed"), ("market", "grid"), ("auction", "grid")]
)
def test_equilibrium_scores_zero_regret_and_distance(mechanism: str, prices: str) -> None:
    j = evaluator(mechanism, prices)
    row = j.score_actions(j.equilibria[0])
    assert row["relative_regret"] < 1e-12
    assert row["levels_off"] == 0
    assert row["levels_exact"] == 1
    assert row["welfare_to_equilibrium"] == pytest.approx(1.0, abs=1e-12)
    assert row["welfare_ratio"] * row["price_of_anarchy"] == pytest.approx(1.0)
    if mechanism == "market":
        assert row["inside_bracket"] == 1
        assert row["collusion"] == pytest.approx(0.0, abs=1e-9)
    else:
        assert row["efficient_winner"] == 1
        assert row["shading"] == pytest.approx(0.0, abs=1e-12)


def test_planner_and_cartel_stand_where_their_indices_say() -> None:
    j = evaluator()
    planner = j.score_actions(j.solution.optimum)
    assert planner["welfare_ratio"] == pytest.approx(1.0)
    assert planner["overcompute"] == 0.0
    assert j.score_actions(j.solution.collusive)["collusion"] == pytest.approx(1.0)
    assert planner["inside_bracket"] == 0.0
    assert planner["relative_regret"] > 0.01


def test_a_mixed_profile_is_the_mean_of_what_it_mixes() -> None:
    j = evaluator()
    one, other = j.solution.optimum, j.equilibria[0]
    strategy = np.zeros(j.config.table.quality.shape)
    np.add.at(strategy, (np.arange(9), one), 0.5)
    np.add.at(strategy, (np.arange(9), other), 0.5)
    row = j.score(strategy)
    assert row["nash_conv"] == pytest.approx(
        assess(strategy, j.config.mechanism, j.config.market).nash_conv
    )
    low, high = sorted(j.score_actions(p)["welfare"] for p in (one, other))
    assert low * 0.8 < row["welfare"] < high * 1.2
    assert row["pure"] == 0.0
    assert row["inside_bracket"] == pytest.approx(0.5)


def test_shading_is_the_winners_markup() -> None:
    j = evaluator("auction", "grid")
    actions = j.equilibria[0].copy()
    winner = j.solution.winner
    level, price, claim = (
        int(x[winner]) for x in j.config.mechanism.split(actions, j.config.market)
    )
    actions[winner] = j.config.mechanism.join(level, price + 1, claim, market=j.config.market)
    row = j.score_actions(actions)
    assert row["efficient_winner"] == 1
    assert row["shading"] == pytest.approx(0.25)


def test_without_equilibrium_distances_to_it_are_nan_and_regrets_are_not() -> None:
    types = "weight=0.5 beta=1000; weight=0.5 beta=10000"
    j = Evaluator(make_config("market", prices="fixed", types=types, infos="basic"))
    mixed = np.full((9, 6), 1 / 6)
    for row in (j.score_actions(np.full(9, 3)), j.score(mixed)):
        for name in ("levels_off", "levels_exact", "welfare_to_equilibrium", "collusion"):
            assert np.isnan(row[name]), name
        assert np.isnan(row["inside_bracket"])
        assert row["nash_conv"] > 0
        assert 0 < row["welfare_ratio"] <= 1
    # regrets of mixed play are those of the profiles it mixes, in expectation
    expected = assess(mixed, j.config.mechanism, j.config.market).nash_conv
    assert j.score(mixed)["nash_conv"] == pytest.approx(expected)


def test_the_equilibrium_player_says_that_there_is_none_and_plays_the_nearest() -> None:
    types = [{"weight": 0.5}, {"weight": 0.5, "beta": 1e4}]
    config = make_config("market", prices="fixed", types=types, infos="basic")
    with pytest.raises(ValueError, match=r"no pure Nash equilibrium.*which=nearest"):
        make_agents(config, "equilibrium", seeds=[0], horizon=1)[0].act()
    agents = make_agents(config, "equilibrium:which=nearest", seeds=[0], horizon=1)
    nearest = config.solve().least_regret.profile
    played = np.concatenate([np.ravel(agent.act()) for agent in agents])
    np.testing.assert_array_equal(played, nearest)


def test_types_are_an_option_of_training() -> None:
    config = TrainConfig(options="types=weight=0.5 beta=10; weight=0.5 beta=1000")
    rule = config.environment().mechanism.rule
    assert [kind.beta for kind in rule.types] == [10.0, 1000.0]
