"""Stable-Baselines3 reads batches of games: the same rounds, masks, ends of episodes, and models
that learn side by side.
"""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="pip install stable-baselines3")

from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import ttc_env
from tests.variants import UNEVEN
from ttc_env.envs.sb3 import SharedVecEnv, independent_vec_envs, learn, shared_vec_env

SMALL = {"policy_kwargs": {"net_arch": [4]}, "device": "cpu"}


@pytest.mark.parametrize("actions", ["discrete", "flat", "continuous"])
def test_rows_are_the_providers_of_the_games(actions):
    options = {"market": UNEVEN, "prices": (1.0, 2.0), "actions": actions, "max_cycles": 3}
    rows, games = shared_vec_env(2, **options), ttc_env.vector_env(2, **options)
    assert rows.num_envs == 6
    assert rows.action_space == games.config.action_space()
    seen = games.reset()[0].full()
    np.testing.assert_array_equal(rows.reset(), seen.reshape(6, -1))
    games.action_space.seed(0)
    for t in range(7):
        chosen = games.action_space.sample()
        expected, rewards, _, truncations, infos = games.step(chosen)
        seen, paid, dones, told = rows.step(chosen.reshape(6, *chosen.shape[2:]))
        np.testing.assert_array_equal(seen, expected.full().reshape(6, -1))
        np.testing.assert_array_equal(paid, rewards.reshape(6).astype(np.float32))
        assert dones.tolist() == [bool(truncations[0])] * 6
        assert dones[0] == (t % 3 == 2)
        if dones[0]:
            last = infos["final_obs"].full().reshape(6, -1)
            for row, info in zip(last, told, strict=True):
                np.testing.assert_array_equal(info["terminal_observation"], row)
                assert info["TimeLimit.truncated"]
    if actions == "continuous":
        assert not rows.has_attr("action_masks")
        with pytest.raises(ValueError, match="have no mask"):
            rows.action_masks()
    else:
        masks = np.array(list(games.config.action_masks) * 2)
        np.testing.assert_array_equal(rows.action_masks(), masks)
        np.testing.assert_array_equal(rows.env_method("action_masks", indices=[4])[0], masks[4])


def test_masks_are_those_of_the_coming_round_where_the_world_moves():
    shocks = ttc_env.Shocks(entry=0.5, exit=0.5)
    options = {"prices": (1.0, 2.0), "price_period": 2, "shocks": shocks, "max_cycles": 5}
    rows, games = shared_vec_env(3, **options), ttc_env.vector_env(3, **options)
    rows.seed(0)
    rows.reset()
    games.reset(seed=0)
    games.action_space.seed(0)
    seen = set()
    for _ in range(7):
        masks = games.action_mask()
        assert masks is not None
        np.testing.assert_array_equal(rows.action_masks(), masks.reshape(rows.num_envs, -1))
        seen.add(masks.tobytes())
        chosen = np.argmax(games.action_mask(), axis=2)[..., None] * [1, 0]
        games.step(chosen)
        rows.step(chosen.reshape(rows.num_envs, 2))
    assert len(seen) > 2


class Played(BaseCallback):
    """Keeps what a model did and got."""

    def __init__(self):
        super().__init__()
        self.rounds = []

    def _on_step(self):
        self.rounds.append((self.locals["actions"].copy(), self.locals["rewards"].copy()))
        return True


def trained(seed=0):
    envs = independent_vec_envs(2, market=UNEVEN, prices="fixed", max_cycles=5)
    algorithms = [
        (PPO, {"n_steps": 8, "batch_size": 8}),
        (A2C, {"n_steps": 8}),
        (DQN, {"learning_starts": 4, "buffer_size": 100}),
    ]
    models = [
        kind("MlpPolicy", env, seed=seed, **more, **SMALL)
        for (kind, more), env in zip(algorithms, envs, strict=True)
    ]
    callbacks = [Played() for _ in models]
    learn(models, 40, callback=callbacks)
    return models, [callback.rounds for callback in callbacks]


def test_models_of_different_kinds_learn_in_the_same_games():
    models, played = trained()
    # PPO's rollouts are of 16 steps, so that it plays 48 where the others play 40
    assert [model.num_timesteps for model in models] == [48, 48, 40]
    games = ttc_env.vector_env(2, market=UNEVEN, prices="fixed", max_cycles=5)
    games.reset()
    for together in zip(*played, strict=False):
        actions = np.stack([chosen for chosen, _ in together], axis=1)
        rewards = games.step(actions)[1]
        np.testing.assert_array_equal(
            np.stack([paid for _, paid in together], axis=1), rewards.astype(np.float32)
        )
    again = trained()[1]
    for one, other in zip(played, again, strict=True):
        for (chosen, _), (same, _) in zip(one, other, strict=True):
            np.testing.assert_array_equal(chosen, same)


def test_wrappers_of_the_library_fit():
    env = VecNormalize(VecMonitor(shared_vec_env(2, prices="fixed", max_cycles=4)), gamma=0.0)
    PPO("MlpPolicy", env, n_steps=8, batch_size=16, **SMALL).learn(150)
    envs = independent_vec_envs(2, market=UNEVEN, prices="fixed", max_cycles=4)
    models = [
        PPO("MlpPolicy", VecNormalize(env, gamma=0.0), n_steps=8, batch_size=16, **SMALL)
        for env in envs
    ]
    learn(models, 16)
    learn(models, 16)  # and on
    assert [model.num_timesteps for model in models] == [16] * 3


def test_an_error_in_one_model_ends_all():
    class Broken(BaseCallback):
        def _on_step(self):
            raise ZeroDivisionError("a callback's own")

    envs = independent_vec_envs(2, market=UNEVEN, prices="fixed")
    models = [A2C("MlpPolicy", env, **SMALL) for env in envs]
    with pytest.raises(ZeroDivisionError):
        learn(models, 40, callback=[None, Broken(), None])


def test_bad_input_is_named():
    with pytest.raises(TypeError, match=r"a ttc_env\.vector_env"):
        SharedVecEnv(ttc_env.parallel_env())
    with pytest.raises(ValueError, match="same_step"):
        shared_vec_env(2, autoreset="next_step")
    envs = independent_vec_envs(2, market=UNEVEN, prices="fixed")
    with pytest.raises(RuntimeError, match=r"ttc_env\.envs\.sb3\.learn"):
        envs[0].reset()
    models = [A2C("MlpPolicy", env, **SMALL) for env in envs]
    with pytest.raises(ValueError, match="model 0 must be made with environment 0"):
        learn(models[::-1], 10)
    with pytest.raises(ValueError, match="2 models"):
        learn(models[:2], 10)
    with pytest.raises(AttributeError, match="one batch"):
        envs[0].set_attr("users", 3)
