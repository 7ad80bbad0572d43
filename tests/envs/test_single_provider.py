"""The Gymnasium view: the same rounds as the PettingZoo environment, opponents of every kind, and
helpful errors.
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import ttc_env

OPPONENTS = (
    "best_response",
    "epsilon_greedy",
    "truthful",
    "provider_1=hedge,rest=q_learning",
    lambda observation: np.array([1, 1]),
)


@pytest.mark.parametrize("mechanism", ["market", "auction"])
@pytest.mark.parametrize("opponent", OPPONENTS)
def test_passes_the_checkers(opponent: Any, mechanism: str) -> None:
    env = gymnasium.make(
        "ttc_env/Provider-v0",
        opponent=opponent,
        mechanism=mechanism,
        max_cycles=10,
        disable_env_checker=True,
    )
    check_env(env.unwrapped, skip_render_check=True)
    try:
        from stable_baselines3.common.env_checker import check_env as check_for_sb3
    except ImportError:
        return
    check_for_sb3(env.unwrapped)


def test_plays_the_same_rounds_as_the_market() -> None:
    options: dict[str, Any] = {"benchmark": "gpqa", "prices": "fixed", "max_cycles": 3}
    env = gymnasium.make(
        "ttc_env/Provider-v0",
        provider=2,
        opponent=lambda observation: 4,
        disable_env_checker=True,
        **options,
    )
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


def test_best_response_opponents_end_at_the_equilibrium() -> None:
    env = gymnasium.make(
        "ttc_env/Provider-v0",
        opponent="best_response",
        prices="fixed",
        max_cycles=1000,
        disable_env_checker=True,
    )
    levels = env.unwrapped.solve().worst
    env.reset(seed=0)
    for _ in range(200):
        *_, info = env.step(int(levels[0]))
    assert info["nash_conv"] < 1e-15


def test_opponents_keep_what_they_learned_until_a_new_seed() -> None:
    env = gymnasium.make(
        "ttc_env/Provider-v0",
        opponent="hedge",
        prices="fixed",
        max_cycles=5,
        disable_env_checker=True,
    ).unwrapped
    env.reset(seed=0)
    first = env._opponents
    for _ in range(5):
        env.step(0)
    env.reset()
    assert env._opponents is first
    env.reset(seed=0)
    assert env._opponents is not first


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"opponent": "wizard"}, ValueError, "learner 'wizard' is unknown; choose random"),
        ({"opponent": 3}, ValueError, "give a name, a policy"),
        ({"provider": 9}, ValueError, "this market has providers 0..8"),
        ({"opponent": "hedge", "actions": "continuous"}, ValueError, "pass a policy as opponent"),
    ],
)
def test_errors_say_what_is_allowed(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gymnasium.make("ttc_env/Provider-v0", **options)


def test_without_the_agents_package_names_are_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = importlib.import_module

    def absent(name: str, *args: Any) -> Any:
        if name == "agents.opponents":
            raise ModuleNotFoundError("No module named 'agents'", name="agents")
        return original(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match="work from a checkout"):
        gymnasium.make("ttc_env/Provider-v0", opponent="hedge")
    gymnasium.make("ttc_env/Provider-v0", opponent=lambda observation: np.array([0, 1]))


def test_importing_ttc_env_imports_no_agents() -> None:
    import subprocess
    import sys

    code = (
        "import sys, ttc_env; sys.exit(any(m.split('.')[0] in ('agents', 'baselines', 'torch',"
        " 'stable_baselines3') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
