"""A batch of the Provider view does what as many single environments do, under Gymnasium's vector
interface.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics

import ttc_env
from tests.variants import UNEVEN

NAME = "ttc_env/Provider-v0"


def policy(observation: np.ndarray) -> Any:
    return np.array([int(observation[0] > 0), 1])


def batch(num_envs: int = 3, **options: Any) -> Any:
    return gymnasium.make_vec(NAME, num_envs, "vector_entry_point", **options)


def one_by_one(num_envs: int = 3, **options: Any) -> SyncVectorEnv:
    make = [lambda: ttc_env.ProviderEnv(**options)] * num_envs
    return SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.mark.parametrize(
    "options",
    [
        {"prices": "fixed"},
        {"opponent": "best_response", "provider": 2, "market": UNEVEN},
        {"opponent": "truthful", "actions": "flat", "mechanism": "auction", "infos": "full"},
        {"opponent": policy, "market": UNEVEN, "prices": (1.0, 2.0)},
        {"actions": "continuous", "provider": 4, "demand": "sampled"},
        {"opponent": "best_response", "demand": "sampled", "information": "own"},
    ],
    ids=["fixed", "best_response", "truthful", "policy", "continuous", "sampled"],
)
def test_it_is_as_many_single_environments(options: dict[str, Any]) -> None:
    options = {"max_cycles": 4, "infos": "basic", **options}
    many, single = batch(**options), one_by_one(**options)
    assert many.single_observation_space == single.single_observation_space
    assert many.action_space == single.action_space
    seen, infos = many.reset(seed=7)
    expected, told = single.reset(seed=7)
    np.testing.assert_array_equal(seen, expected)
    assert infos.keys() == told.keys()
    many.action_space.seed(0)
    for t in range(10):  # two and a half episodes
        actions = many.action_space.sample()
        seen, rewards, terminations, truncations, infos = many.step(actions)
        expected = single.step(actions)
        np.testing.assert_allclose(seen, expected[0], atol=1e-6)
        np.testing.assert_allclose(rewards, expected[1], rtol=1e-9)
        np.testing.assert_array_equal(terminations, expected[2])
        np.testing.assert_array_equal(truncations, expected[3])
        assert truncations.all() == (t % 4 == 3)
        assert infos.keys() == expected[4].keys()
        if truncations.all():
            last, theirs = (np.stack(x["final_obs"]) for x in (infos, expected[4]))
            np.testing.assert_allclose(last, theirs, atol=1e-6)
            infos, expected = infos["final_info"], (expected[4]["final_info"],)
        for name, values in infos.items():
            np.testing.assert_allclose(
                values.astype(float), np.asarray(expected[-1][name], float), 1e-7, 1e-12
            )


def test_gymnasiums_vector_wrappers_fit() -> None:
    env = RecordEpisodeStatistics(NormalizeReward(batch(4, prices="fixed", max_cycles=3)))
    env.reset(seed=0)
    for _ in range(3):
        *_, infos = env.step(env.action_space.sample())
    assert infos["episode"]["l"].tolist() == [3] * 4
    assert np.isfinite(infos["episode"]["r"]).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(TypeError, match="one Market; for several"):
        batch(market=[UNEVEN, UNEVEN])
    with pytest.raises(ValueError, match="make one ttc_env/Provider-v0 to look at"):
        batch(render_mode="ansi")
    with pytest.raises(ValueError, match="'numpy' or 'numba'"):
        batch(backend="torch")
    env = batch(prices="fixed")
    with pytest.raises(RuntimeError, match="reset"):
        env.step(env.action_space.sample())
    env.reset()
    with pytest.raises(ValueError, match="shape"):
        env.step(np.zeros(2, int))
    with pytest.raises(ValueError, match="integers"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="every environment a seed"):
        env.reset(seed=[1, None, 2])
