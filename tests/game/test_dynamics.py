"""Adaptive play ends in equilibria, and climbs the potential on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ttc_env
from tests.game.bruteforce import FLAVOURS, log_regrets, random_game
from ttc_env.game.dynamics import best_response_dynamics, nearest_improving_dynamics
from ttc_env.game.types import PostedPriceGame

RULES = [best_response_dynamics, nearest_improving_dynamics]
EARNING = [
    f for f in FLAVOURS if f not in ("zero_margin", "some_zero", "losses", "losing", "losing_ties")
]
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("rule", RULES)
@given(
    seed=seeds, flavour=st.sampled_from(EARNING), order=st.sampled_from(["sequential", "random"])
)
@settings(max_examples=200, deadline=None)
def test_one_at_a_time_climbs_the_potential_to_an_equilibrium(rule, seed, flavour, order):
    rng = np.random.default_rng(seed)
    game = random_game(rng, flavour=flavour)
    start = np.array([rng.choice(np.flatnonzero(row)) for row in game.available])
    path = rule(game, start, order, rng, record="moves")
    assert path.converged
    assert path.reason == ""
    assert path.profiles[0].tolist() == start.tolist()
    assert ((path.profiles[1:] != path.profiles[:-1]).sum(axis=1) == 1).all()
    rounding = (
        1e-14
        * len(start)
        * np.nanmax(np.abs(game.beta * (game.value - game.outside_value)), initial=1.0)
    )
    assert (np.diff(path.potential) > -rounding).all()
    if rounding < 1e-10:
        assert (np.diff(path.potential) > 0).all()
    profiles, regret = log_regrets(game)
    at_rest = float(regret[(profiles == path.profiles[-1]).all(axis=1)][0])
    assert at_rest <= 1.001e-9 + rounding


@pytest.mark.parametrize("rule", RULES)
def test_losses_are_left_for_profits(rule):
    rng = np.random.default_rng(21)
    for _ in range(300):
        game = random_game(
            rng, flavour=("losses", "some_zero", "zero_margin")[int(rng.integers(3))]
        )
        path = rule(game, None, "sequential")
        assert path.converged
        profiles, regret = log_regrets(game)
        assert float(regret[(profiles == path.profiles[-1]).all(axis=1)][0]) <= 1.001e-9


@pytest.mark.parametrize("rule", RULES)
def test_a_share_that_underflows_still_moves(rule):
    """Two providers with share exp(-1e4) or less: profits are 0 in floating point, their logs are
    not (published code stands still here).
    """
    value = np.array([[1.0, 0.9], [0.1, 0.2], [0.05, 0.3]])
    path = rule(PostedPriceGame(value, np.full((3, 2), 0.1), value + 0.1, 1e5), None, "sequential")
    assert path.profiles[-1].tolist() == [0, 1, 1]


def test_nearest_is_not_best():
    """From column 0, columns 1 and 3 improve; 3 is best, 1 is nearest."""
    game = PostedPriceGame(
        [[0.0, 0.0, 0.0, 0.0]], [[1.0, 1.5, 0.5, 3.0]], [[1.0, 1.5, 0.5, 3.0]], 0.0
    )
    assert best_response_dynamics(game, record="moves").profiles[:, 0].tolist() == [0, 3]
    assert nearest_improving_dynamics(game, order="sequential", record="moves").profiles[
        :, 0
    ].tolist() == [0, 1, 3]
    # Of two equally near ones the lower column.
    game = PostedPriceGame([[0.0, 0.0, 0.0]], [[2.0, 1.0, 3.0]], [[2.0, 1.0, 3.0]], 0.0)
    assert nearest_improving_dynamics(game, [1], "sequential", record="moves").profiles[
        :, 0
    ].tolist() == [1, 0, 2]


@pytest.mark.parametrize("rule", RULES)
def test_nobody_moves_to_what_is_only_as_good(rule):
    """Two columns of one offer: whoever plays the second stays there."""
    game = PostedPriceGame([[0.3, 0.3]], [[1.0, 1.0]], [[1.3, 1.3]], 1.0)
    assert rule(game, [1], "sequential", tolerance=0.0).profiles.tolist() == [[1]]


def test_simultaneous_moves_can_cycle_and_say_so():
    """Losing providers play a matching-pennies: no equilibrium, so no rest."""
    rng = np.random.default_rng(22)
    cycled = 0
    for _ in range(2000):
        game = random_game(rng, flavour="losing")
        path = best_response_dynamics(game, order="simultaneous", max_rounds=100)
        cycled += not path.converged
        assert path.converged or "cycle" in path.reason
    assert cycled > 0


def test_random_orders_come_from_the_generator_given():
    game = random_game(np.random.default_rng(23), flavour="smooth", max_providers=4)
    runs = [
        nearest_improving_dynamics(game, rng=np.random.default_rng(5), record="moves").profiles
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*runs)


def test_bad_arguments():
    game = PostedPriceGame([[0.0, np.nan]], [[1.0, np.nan]], [[1.0, np.nan]], 1.0)
    with pytest.raises(ValueError, match="does not exist"):
        best_response_dynamics(game, [1])
    with pytest.raises(ValueError, match="rng="):
        nearest_improving_dynamics(game)
    with pytest.raises(ValueError, match="'sequential'"):
        best_response_dynamics(game, order="clockwise")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        best_response_dynamics(game, [0, 0])
    with pytest.raises(ValueError, match="record is 'steps'; choose 'rounds' or 'moves'"):
        best_response_dynamics(game, record="steps")


@pytest.mark.parametrize("rule", RULES)
def test_play_that_is_cut_short_says_so(rule):
    """The first rounds are those of play that is not cut."""
    game = PostedPriceGame.from_market(ttc_env.load_market("gpqa", beta=1e4))
    whole = rule(game, None, "sequential")
    assert whole.converged
    assert whole.rounds > 2
    cut = rule(game, None, "sequential", max_rounds=1)
    assert not cut.converged
    assert cut.reason == "providers still moved after max_rounds=1"
    assert cut.rounds == 1
    np.testing.assert_array_equal(cut.profiles, whole.profiles[:2])
