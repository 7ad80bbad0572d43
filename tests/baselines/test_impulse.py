"""Q-learning duopolies: the fast loop, the convergence rule, the counterfactual path."""

from __future__ import annotations

import numpy as np
import pytest

from agents import Arena, make_agents
from baselines import impulse
from baselines.q_duopoly import Learned, Rule, rewards, train

PAIR = ("gsm8k", "best_of_n", ("Qwen2-7B", "Qwen2.5-7B"), 1000.0)


def yardstick(mechanism: str = "market") -> impulse.Yardstick:
    return impulse.Yardstick(impulse.duopoly(*PAIR, mechanism))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_the_fast_loop_is_the_q_learner_of_agents(mechanism: str, compiled: bool) -> None:
    if compiled:
        pytest.importorskip("numba")
    config = impulse.duopoly(*PAIR, mechanism)
    rounds, seeds = 300, range(3)
    arena = Arena(config, make_agents(config, "q_learning", seeds=seeds, horizon=rounds), seeds)
    for _ in range(rounds):
        arena.step()
    agent = arena.agents[0]
    rule = Rule(decay=-np.log(agent.final_exploration) / (rounds - 1), cap=rounds)
    available = ~np.isnan(config.table.quality)
    learned = train(rewards(config), available, len(seeds), rule, compiled=compiled)
    # [sessions, 2, states, a] here, [2, states, a, seeds] there
    np.testing.assert_array_equal(learned.table, np.moveaxis(agent.table, 3, 0))
    np.testing.assert_array_equal(learned.state, agent.at[0])
    assert not learned.converged.any()


def test_training_ends_when_no_best_action_has_changed_for_so_long() -> None:
    y = yardstick()
    rule = Rule(decay=0.01, unchanged=500, cap=50_000)
    learned = train(y.reward, y.available, 2, rule, compiled=False)
    assert learned.converged.all()
    assert (learned.rounds > 500).all()
    assert (learned.rounds < 50_000).all()
    # The same numbers to that round, and no change in the last 500.
    shorter = Rule(decay=0.01, unchanged=10**9, cap=int(learned.rounds[0]) - 500)
    before = train(y.reward, y.available, 1, shorter, compiled=False)
    np.testing.assert_array_equal(before.table[0].argmax(2), learned.table[0].argmax(2))
    capped = train(y.reward, y.available, 1, Rule(unchanged=10**9, cap=700), compiled=False)
    assert capped.rounds.tolist() == [700]
    assert not capped.converged.any()


def fixed(levels: tuple[int, int], sessions: int = 2, a: int = 6) -> Learned:
    """Learners that play these levels whatever happened."""
    table = np.zeros((sessions, 2, a * a, a))
    for i in range(2):
        table[:, i, :, levels[i]] = 1.0
    state = np.full(sessions, levels[0] * a + levels[1])
    return Learned(table, state, np.full(sessions, 9), np.ones(sessions, bool))


def test_gains_are_measured_against_the_same_rounds_without_the_deviation() -> None:
    y = yardstick()
    cartel = np.unravel_index(np.nanargmax(y.joint), y.joint.shape)
    learned = fixed(cartel)
    table = impulse.respond(learned, y.reward)
    row = impulse.summarise(y, learned, table)
    reply = int(y.reward[0][:, cartel[1]].argmax())
    gain = y.reward[0][reply, cartel[1]] / y.reward[0][cartel] - 1.0
    assert row["collusion_index"] == pytest.approx(1.0)
    assert row["deviations"] == 2
    assert row["gain_at_once"] == pytest.approx(gain)
    assert row["gain_over_window"] == pytest.approx(gain / (impulse.WINDOW + 1))
    assert (row["answered"], row["restored"]) == (0.0, 1.0)


def test_a_cycle_is_compared_with_its_own_next_round() -> None:
    """Levels that alternate whatever anybody does: a deviation changes its own round alone. The
    round before it would show a gain or a loss that is the cycle's.
    """
    y = yardstick()
    a = 6
    learned = fixed((2, 2))
    learned.table[:] = 0.0
    for state in range(a * a):
        second = state % a
        learned.table[:, 0, state, 2] = 1.0
        learned.table[:, 1, state, 5 if second == 1 else 1] = 1.0
    learned.state[:] = 2 * a + 1
    table = impulse.respond(learned, y.reward)
    one = table[table.session == 0].set_index("round")
    assert set(one.level_1_cf) == {1, 5}
    others = one.index != 0
    np.testing.assert_array_equal(one.profit_0[others], one.profit_0_cf[others])
    rival = one.level_1_cf[0]
    assert one.profit_0[0] == pytest.approx(y.reward[0][:, rival].max())
    row = impulse.summarise(y, learned, table)
    assert row["gain_at_once"] > 0
    assert row["answered"] == 0.0
    assert (row["restored"], row["in_step"], row["steady"]) == (1.0, 1.0, 0)


def test_paths_are_differences_from_the_counterfactual_with_intervals() -> None:
    y = yardstick()
    cartel = np.unravel_index(np.nanargmax(y.joint), y.joint.shape)
    table = impulse.respond(fixed(cartel, sessions=3), y.reward)
    table.loc[(table.session == 2) & (table["round"] == 0), "level_0"] += 3
    path = impulse._path(table[table["round"] >= -2]).set_index("round")
    levels = table[table["round"] == 0].level_0 - cartel[0]
    assert path.n.unique() == [3]
    assert path.deviator[0] == pytest.approx(levels.mean())
    assert path.deviator_ci95[0] == pytest.approx(1.96 * levels.std(ddof=1) / np.sqrt(3))
    assert (path.deviator.drop(0) == 0.0).all()
    assert (path.gain[[-2, -1]] == 0.0).all()
    assert path.gain[0] > 0
    assert path.gain_so_far.iloc[-1] == pytest.approx(path.gain[0]), "nothing else changes"


def test_an_equilibrium_has_no_deviation_and_index_zero() -> None:
    for mechanism in ("market", "auction"):
        y = yardstick(mechanism)
        learned = fixed(tuple(int(x) for x in y.equilibria[0]))
        row = impulse.summarise(y, learned, impulse.respond(learned, y.reward))
        assert row["collusion_index"] == pytest.approx(0.0, abs=1e-12)
        assert row["deviations"] == 0
        assert row["at_equilibrium"] == 1.0
        assert row["overcompute"] == pytest.approx(row["overcompute_equilibrium"])


def test_equal_actions_are_drawn_alike_in_both_paths() -> None:
    y = yardstick("auction")
    learned = fixed((2, 2), sessions=40)
    learned.table[:, 1] = 0.0  # provider 1 is indifferent
    table = impulse.respond(learned, y.reward)
    assert table.level_1_cf.nunique() == 6
    np.testing.assert_array_equal(table.level_1, table.level_1_cf)


def test_duopolies_are_chosen_by_what_a_cartel_would_earn() -> None:
    duopolies = impulse.all_duopolies([("gsm8k", "best_of_n")], [1000.0])
    assert len(duopolies) == 36
    picked = impulse.chosen(duopolies)
    assert list(picked.providers) == ["Qwen2-7B / Qwen2.5-7B"]
    assert picked.room.iloc[0] == duopolies.room.max()
    assert (duopolies.something_to_collude_on == (duopolies.room > impulse.ROOM)).all()


def test_the_map_leaves_out_where_there_is_nothing_to_collude_on() -> None:
    pytest.importorskip("numba")
    case = next(impulse.chosen(impulse.all_duopolies([PAIR[:2]], [1000.0])).itertuples())
    rule = Rule(decay=1e-3, unchanged=2_000, cap=20_000)
    table = impulse.collusion_map(case, 2, rule, alphas=(1.0,), betas=(1.0, 1000.0))
    assert list(table.sessions) == [0, 2]
    assert np.isnan(table.collusion_index[0])
    assert table.collusion_index[1] <= 1.0 + 1e-12
