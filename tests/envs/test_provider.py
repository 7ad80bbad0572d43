"""The Gymnasium view: the same rounds as the PettingZoo environment, opponents of every kind, and
helpful errors.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import agents
import ttc_env
from tests.variants import UNEVEN
from ttc_env.envs.provider import OPPONENTS, Opponents, ProviderEnv


def policy(observation: np.ndarray) -> np.ndarray:
    return np.array([1, 1])


def make(opponent: Any = "equilibrium", **options: Any) -> ProviderEnv:
    return gymnasium.make(
        "ttc_env/Provider-v0", opponent=opponent, disable_env_checker=True, **options
    ).unwrapped  # type: ignore[return-value]


def conforms(env: ProviderEnv) -> None:
    check_env(env, skip_render_check=True)
    try:
        from stable_baselines3.common.env_checker import check_env as check_for_sb3
    except ImportError:
        return
    check_for_sb3(env)


@pytest.mark.parametrize("mechanism", ["market", "auction"])
@pytest.mark.parametrize(
    "opponent",
    [
        *OPPONENTS,
        agents.opponents("epsilon_greedy"),
        agents.opponents("provider_1=hedge,rest=q_learning"),
        policy,
    ],
)
def test_passes_the_checkers(opponent: Any, mechanism: str) -> None:
    conforms(make(opponent, mechanism=mechanism, max_cycles=10))


@pytest.mark.parametrize(
    "options",
    [
        {"actions": "flat"},
        {"actions": "flat", "mechanism": "auction", "opponent": "best_response"},
        {"actions": "flat", "opponent": agents.opponents("ucb")},
        {"actions": "continuous"},
        {"actions": "continuous", "mechanism": "auction", "opponent": "truthful"},
        {"actions": "continuous", "prices": "fixed", "market": UNEVEN},
        {"actions": "continuous", "opponent": lambda observation: np.zeros(2, np.float32)},
        {"demand": "sampled"},
    ],
)
def test_passes_the_checkers_with_every_kind_of_action(options: dict[str, Any]) -> None:
    conforms(make(**options, max_cycles=10))


def test_plays_the_same_rounds_as_the_market() -> None:
    options: dict[str, Any] = {"benchmark": "gpqa", "prices": "fixed", "max_cycles": 3}
    env = make(lambda observation: 4, provider=2, **options)
    market = ttc_env.parallel_env(**options)
    seen, _ = env.reset(seed=1)
    all_seen, _ = market.reset(seed=1)
    for level in (0, 3, 5):
        np.testing.assert_array_equal(seen, all_seen["provider_2"])
        seen, reward, terminated, truncated, info = env.step(level)
        all_seen, rewards, _, truncations, infos = market.step(
            {a: level if a == "provider_2" else 4 for a in market.agents}
        )
        assert reward == rewards["provider_2"]
        assert info["regret"] == infos["provider_2"]["regret"]
        assert not terminated
        assert truncated == truncations["provider_2"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prices": "fixed"},
        {"actions": "flat"},
        {"actions": "continuous"},
        {"actions": "continuous", "prices": "fixed"},
        {"mechanism": "auction"},
        {"mechanism": "auction", "actions": "flat"},
        {"mechanism": "auction", "actions": "continuous"},
        {"mechanism": "auction", "misreport": {"over_claim": (0.8, 1.25)}, "actions": "continuous"},
    ],
    ids=str,
)
@pytest.mark.parametrize("market", ["gpqa", UNEVEN])
def test_against_equilibrium_opponents_the_equilibrium_is_the_best_reply(
    options: dict[str, Any], market: Any
) -> None:
    chosen: dict[str, Any] = (
        {"benchmark": market, "beta": 300} if isinstance(market, str) else {"market": market}
    )
    env = make(**options, **chosen)
    env.reset(seed=0)
    own = env._opponents.profile(env.config)[0]  # type: ignore[attr-defined]
    *_, info = env.step(own)
    assert info["nash_conv"] == pytest.approx(0.0, abs=1e-12)


def test_truthful_opponents_are_the_players_of_that_name() -> None:
    for options in ({}, {"mechanism": "auction"}, {"market": UNEVEN}):
        rewards = []
        for opponent in ("truthful", agents.opponents("truthful")):
            env = make(opponent, **options)
            env.reset(seed=0)
            rewards.append(env.step(np.array([0, 1]))[1])
        assert rewards[0] == rewards[1]


@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_best_response_opponents_end_at_the_equilibrium(mechanism: str) -> None:
    env = make("best_response", mechanism=mechanism, prices="fixed", max_cycles=1000)
    solution: Any = env.solve()
    levels = solution.worst if mechanism == "market" else solution.actions
    env.reset(seed=0)
    for _ in range(200):
        *_, info = env.step(int(levels[0]))
    assert info["nash_conv"] < 1e-15


def test_continuous_equilibrium_opponents_ask_the_exact_prices() -> None:
    env = make(actions="continuous", benchmark="gpqa", beta=300)
    solution: Any = env.solve()
    env.reset(seed=0)
    env.step(env._opponents.profile(env.config)[0])  # type: ignore[attr-defined]
    asked = env._env.last_round.offer.price
    np.testing.assert_allclose(asked, solution.outcome.offer.price, rtol=1e-12)


def test_opponents_keep_what_they_learned_until_a_new_seed() -> None:
    env = make(agents.opponents("hedge"), prices="fixed", max_cycles=5)
    env.reset(seed=0)
    first = env._opponents._agents  # type: ignore[attr-defined]
    for _ in range(5):
        env.step(0)
    env.reset()
    assert env._opponents._agents is first  # type: ignore[attr-defined]
    env.reset(seed=0)
    assert env._opponents._agents is not first  # type: ignore[attr-defined]


class Recorder:
    """Opponents of a user's own: level 0, and a record of what they are told."""

    def start(self, config: Any, indices: tuple[int, ...], seed: int) -> None:
        self.names = [config.agents[i] for i in indices]
        self.acted = 0
        self.told: list[Any] = []

    def act(self, observations: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        assert list(observations) == self.names
        self.acted += 1
        return dict.fromkeys(self.names, np.array([0, self.acted]))

    def observe(
        self,
        actions: np.ndarray,
        rewards: Mapping[str, float],
        observations: Mapping[str, np.ndarray],
        over: bool,
    ) -> None:
        assert list(rewards) == list(observations) == self.names
        self.told.append((actions.tolist(), over))


def test_opponents_of_ones_own_are_told_flat_actions_and_shared_by_no_two_environments() -> None:
    mine = Recorder()
    assert isinstance(mine, Opponents)
    env = make(mine, provider=1, market=UNEVEN, max_cycles=2)
    env.reset(seed=0)
    env.step([2, 3])
    env.step(np.array([0, 0]))
    # provider 1 has one level, so that level 2 is level 0
    assert env._opponents.told == [([1, 3, 1], False), ([2, 0, 2], True)]  # type: ignore[attr-defined]
    assert not hasattr(mine, "told")


@pytest.mark.parametrize(
    ("options", "actions"),
    [
        ({}, ([[0, 0]], [6, 0], [-1, 0], [0.5, 0.5], 3, None, "up", [True, False], [0, 0, 0])),
        ({"actions": "flat"}, (54, -1, 1.0, None, [0, 0], np.zeros((1, 1), int))),
        ({"actions": "continuous"}, ([[0.0, 0.0]], 0.0, [np.nan, 0.0], [0.0])),
    ],
)
def test_a_refused_action_changes_nothing(options: dict[str, Any], actions: Any) -> None:
    opponent: Any = policy if "actions" not in options else "truthful"
    plain = make(opponent if options else Recorder(), **options)
    tried = make(opponent if options else Recorder(), **options)
    for env in (plain, tried):
        env.reset(seed=0)
    for action in actions:
        with pytest.raises(ValueError, match=r"provider_0: action .* is not in"):
            tried.step(action)
    good = plain.action_space.sample()
    for _ in range(2):
        a, b = plain.step(good), tried.step(good)
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]
    if not options:
        assert tried._opponents.acted == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("action", [np.array([1, 2]), [1, 2], (1, 2), np.array([1, 2], np.int32)])
def test_actions_may_come_in_any_container(action: Any) -> None:
    env = make()
    env.reset(seed=0)
    first = env.step(action)
    env.reset(seed=0)
    assert env.step(np.array([1, 2]))[1] == first[1]


@pytest.mark.parametrize(
    "opponent",
    [*OPPONENTS, policy, agents.opponents("hedge"), agents.opponents("q_learning")],
)
def test_can_be_pickled_and_copied(opponent: Any) -> None:
    env = make(opponent)
    env.reset(seed=0)
    env.step(np.array([1, 1]))
    for twin in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
        original = copy.deepcopy(env)
        for _ in range(3):
            action = np.array([2, 3])
            assert original.step(action)[1] == twin.step(action)[1]


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"opponent": "wizard"}, ValueError, r"agents\.opponents\('wizard'\)"),
        ({"opponent": 3}, ValueError, "start, act and observe"),
        ({"opponent": agents.opponents("wizard")}, ValueError, "learner 'wizard' is unknown"),
        ({"provider": 9}, ValueError, "this market has providers 0..8"),
        (
            {"opponent": agents.opponents("hedge"), "actions": "continuous"},
            ValueError,
            "actions='discrete' or 'flat'",
        ),
        (
            {"opponent": "best_response", "actions": "continuous"},
            ValueError,
            "list of actions",
        ),
        ({"benchmrk": "aime"}, TypeError, "there is no option benchmrk"),
    ],
)
def test_errors_say_what_is_allowed(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gymnasium.make("ttc_env/Provider-v0", **options)


def test_without_the_agents_package_the_default_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from the wheel, which holds `ttc_env` alone."""
    for name in [name for name in sys.modules if name.split(".")[0] == "agents"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "agents", None)  # an import of it raises
    env = gymnasium.make("ttc_env/Provider-v0")
    env.reset(seed=0)
    env.step(np.array([1, 1]))
    env.close()


def test_a_step_before_reset_or_after_the_end_says_so() -> None:
    env = make(max_cycles=1)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.array([0, 0]))
    env.reset(seed=0)
    env.step(np.array([0, 0]))
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.array([0, 0]))
