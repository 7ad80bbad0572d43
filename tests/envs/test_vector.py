"""The batched environment: conventions, autoreset, markets of its own for each environment, seeds,
errors; infos on demand.
"""

import pickle

import gymnasium
import numpy as np
import pytest

import ttc_env
from ttc_env.game.curves import load_market
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.random_markets import random_markets


def play(env, seed=0):
    env.action_space.seed(seed)
    return env.step(env.action_space.sample())


def test_shapes_and_spaces():
    env = ttc_env.vector_env(5, max_cycles=4)
    obs, infos = env.reset(seed=0)
    assert infos == {}
    assert env.observation_space.contains(obs.full())
    for _ in range(9):
        obs, rewards, terminations, truncations, _ = play(env)
        assert env.observation_space.contains(obs.full())
        assert (rewards.shape, rewards.dtype) == ((5, 9), np.float64)
        assert terminations.shape == truncations.shape == (5,)
        assert not terminations.any()
        assert obs.public.shape == (5, 3 * 9 + 2)
        assert obs.own.shape == (5, 9, 3)
    full = ttc_env.vector_env(5, observations="full")
    assert full.reset()[0].shape == (5, 9, env.layout.size)


def test_same_step_autoreset_shows_both_observations():
    env = ttc_env.vector_env(3, max_cycles=2)
    first, _ = env.reset(seed=0)
    middle, _, _, truncations, infos = play(env)
    assert not truncations.any()
    assert "final_obs" not in infos
    obs, _, _, truncations, infos = play(env)
    assert truncations.all()
    np.testing.assert_array_equal(obs.full(), first.full())
    final = infos["final_obs"].full()
    assert (final[:, :, -1] == 0.0).all()  # no time left
    assert (final[:, :, -2] == 1.0).all()  # a round was played
    np.testing.assert_array_equal(play(env)[0].full()[:, :, -1], 0.5)
    assert (middle.full()[:, :, -1] == 0.5).all()


def test_without_autoreset_a_finished_episode_must_be_reset():
    env = ttc_env.vector_env(2, max_cycles=1, autoreset="disabled")
    env.reset(seed=0)
    obs, _, _, truncations, infos = play(env)
    assert truncations.all()
    assert "final_obs" not in infos
    assert (obs.public[:, -1] == 0.0).all()
    with pytest.raises(RuntimeError, match="reset"):
        play(env)
    modes = {
        mode: ttc_env.vector_env(2, autoreset=mode).metadata["autoreset_mode"].name
        for mode in ("same_step", "disabled")
    }
    assert modes == {"same_step": "SAME_STEP", "disabled": "DISABLED"}


def test_copies_outlive_the_next_step_and_views_do_not():
    for keep in (True, False):
        env = ttc_env.vector_env(4, copy=keep)
        env.reset(seed=0)
        obs, rewards, *_ = play(env, 0)
        before = obs.full(), rewards.copy()
        play(env, 1)
        assert np.array_equal(obs.full(), before[0]) == keep
        assert np.array_equal(rewards, before[1]) == keep


def test_what_is_returned_at_an_episodes_end_is_kept():
    for keep in (True, False):
        env = ttc_env.vector_env(4, copy=keep, max_cycles=2)
        env.reset(seed=0)
        play(env, 0)
        final = play(env, 1)[4]["final_obs"]
        before = final.full()
        play(env, 2)
        np.testing.assert_array_equal(final.full(), before)
    env = ttc_env.vector_env(4)
    env.reset(seed=0)
    for flags in play(env)[2:4]:
        flags[:] = True  # the caller's own
    assert not np.any(play(env)[2:4])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(("num_envs", "providers"), [(1, None), (3, ["Qwen2-7B"])])
def test_infos_outlive_the_next_step(backend, num_envs, providers):
    pytest.importorskip(backend)
    env = ttc_env.vector_env(num_envs, providers=providers, infos="full", backend=backend)
    env.reset(seed=0)
    infos = play(env, 0)[4]
    before = {name: x.copy() for name, x in infos.items()}
    play(env, 1)
    for name, x in before.items():
        np.testing.assert_array_equal(infos[name], x, err_msg=name)


def test_a_seed_for_each_environment():
    """More environments than one pass plays: the last one draws what it would draw alone."""
    seeds = list(range(2100))
    for options in ({}, {"mechanism": "auction", "prices": "fixed"}):
        many = ttc_env.vector_env(2100, demand="sampled", **options)
        many.reset(seed=seeds)
        alone = {b: ttc_env.parallel_env(demand="sampled", **options) for b in (0, 2099)}
        for b, one in alone.items():
            one.reset(seed=b)
        for t in range(2):
            many.action_space.seed(t)
            actions = many.action_space.sample()
            rewards = many.step(actions)[1]
            for b, one in alone.items():
                assert (
                    list(one.step({a: actions[b, i] for i, a in enumerate(one.agents)})[1].values())
                    == rewards[b].tolist()
                )
    with pytest.raises(ValueError, match="2 seeds for 2100 environments"):
        many.reset(seed=[1, 2])


@pytest.mark.parametrize(("backend", "seed"), [("numpy", 5), ("numpy", [7, 8, 9]), ("torch", 5)])
def test_a_saved_environment_goes_on(backend, seed):
    pytest.importorskip(backend)
    env, twin = (
        ttc_env.vector_env(3, demand="sampled", backend=backend, max_cycles=3) for _ in range(2)
    )
    env.action_space.seed(0)
    actions = env.action_space.sample()
    if backend == "torch":
        import torch

        actions = torch.as_tensor(actions)
    env.reset(seed=seed)
    env.step(actions)
    twin.load_state_dict(env.state_dict())
    for _ in range(4):  # into the next episode
        (_, rewards, _, over, _), (_, same, _, also, _) = env.step(actions), twin.step(actions)
        np.testing.assert_array_equal(np.asarray(same), np.asarray(rewards))
        np.testing.assert_array_equal(np.asarray(also), np.asarray(over))


def test_gymnasium_knows_it():
    env = ttc_env.vector_env(4, max_cycles=2, observations="full")
    assert isinstance(env, gymnasium.vector.VectorEnv)
    assert env.unwrapped is env
    assert env.spec is None
    assert env.possible_agents == [f"provider_{i}" for i in range(9)]
    assert env.max_cycles == 2
    assert (
        repr(env)
        == "VectorMarketEnv(4 environments, numpy: 'market', MarketBatch(1 markets: 9 providers, up"
        " to 6 levels), actions=MultiDiscrete([6 9]))"
    )
    wrapped = gymnasium.wrappers.vector.TransformReward(env, lambda rewards: 2.0 * rewards)
    twin = ttc_env.vector_env(4, max_cycles=2, observations="full")
    wrapped.reset(seed=0)
    twin.reset(seed=0)
    for last in (False, True):
        env.action_space.seed(0)
        actions = env.action_space.sample()
        obs, rewards, _, _, infos = wrapped.step(actions)
        np.testing.assert_array_equal(rewards, 2.0 * twin.step(actions)[1])
        assert obs in env.observation_space
        assert ("final_obs" in infos) == last
        assert not last or infos["_final_obs"].tolist() == [True] * 4
    env.reset(options={"reset_mask": np.ones(4, bool)})
    with pytest.raises(ValueError, match="reset_mask must be all True"):
        env.reset(options={"reset_mask": np.array([True, False, True, True])})
    assert env.np_random is env._rng
    env.close()
    assert env.closed
    by_enum = ttc_env.vector_env(2, autoreset=gymnasium.vector.AutoresetMode.DISABLED)
    assert by_enum.autoreset == "disabled"


def test_seeds():
    def run(seed):
        env = ttc_env.vector_env(6, demand="sampled", max_cycles=3)
        env.reset(seed=seed)
        return np.stack([play(env, t)[1] for t in range(5)])

    np.testing.assert_array_equal(run(1), run(1))
    assert (run(1) != run(2)).any()
    env = ttc_env.vector_env(6, demand="sampled", max_cycles=3)
    env.reset(seed=1)
    first = play(env, 0)[1]
    env.reset()
    assert (play(env, 0)[1] != first).any()  # without a seed the generator goes on


def test_a_pickled_batch_goes_on():
    env = ttc_env.vector_env(3, demand="sampled")
    env.reset(seed=0)
    play(env)
    twin = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(play(env, 5)[1], play(twin, 5)[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "jax"}, "'numpy', 'numba' or 'torch'"),
        ({"autoreset": "later"}, "'same_step' or 'disabled'"),
        ({"observations": "some"}, "'blocks' or 'full'"),
        ({"num_envs": 0}, "at least 1"),
        ({"device": "cuda"}, "backend='torch'"),
        ({"market": [load_market("gsm8k")] * 3}, "raise num_envs to 3"),
        ({"market": []}, "at least one"),
        (
            {"market": [load_market("gsm8k"), load_market("gsm8k", "reasoning")]},
            "one number of providers",
        ),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ttc_env.vector_env(**{"num_envs": 2, **options})


def test_options_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match=r"there is no option foo; options are mechanism, .*, beta"):
        ttc_env.vector_env(4, foo=3)
    with pytest.raises(
        TypeError, match=r"no option num_envs; ttc_env\.vector_env plays many games at once"
    ):
        ttc_env.parallel_env(num_envs=3)
    for call in (lambda: ttc_env.vector_env(4, market="gsm8k"), lambda: ttc_env.sweep("gsm8k")):
        with pytest.raises(TypeError, match="use benchmark='gsm8k'"):
            call()
    with pytest.raises(TypeError, match="a int is not a Market"):
        ttc_env.sweep([1])


def test_bad_actions_are_refused():
    env = ttc_env.vector_env(3)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros((3, 9, 2), int))
    env.reset()
    actions = np.zeros((3, 9, 2), int)
    for value in (-1, 9):
        bad = actions.copy()
        bad[1, 4, 1] = value
        with pytest.raises(ValueError, match=r"environment 1, provider_4: action \[0, "):
            env.step(bad)
    with pytest.raises(ValueError, match="shape"):
        env.step(actions[:, :, 0])
    with pytest.raises(ValueError, match="integers"):
        env.step(actions.astype(float))
    box = ttc_env.vector_env(3, actions="continuous")
    box.reset()
    with pytest.raises(ValueError, match="NaN"):
        box.step(np.full((3, 9, 2), np.nan))
    # clipped, as in MarketEnv
    np.testing.assert_array_equal(
        box.step(np.full((3, 9, 2), np.inf))[1], box.step(np.ones((3, 9, 2)))[1]
    )
    with pytest.raises(ValueError, match="low <= high"):
        random_markets(3, beta=(5.0, 1.0))
    with pytest.raises(ValueError, match="published"):
        random_markets(3, "mmlu")
    good = np.ones((2, 3, 2))
    for hole, value, words in (
        ((0, 1, 1), np.nan, "provider 0 of market 1: NaN may only fill the end"),
        ((1, slice(None), 0), np.nan, "provider 1 of market 0: NaN .* at least one level"),
        ((slice(None), 2), np.nan, "more than 2 of 3 levels"),
        ((0, 0, 0), np.inf, "must be finite"),
    ):
        bad = good.copy()
        bad[hole] = value
        with pytest.raises(ValueError, match=words):
            MarketBatch(bad, bad, bad, np.ones(2), np.zeros(2))
    bad = good.copy()
    bad[0, 2, 0] = np.nan
    with pytest.raises(ValueError, match="the same places"):
        MarketBatch(good, bad, good, np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match="choose a lower beta"):
        ttc_env.vector_env(2, beta=1e22)
    with pytest.raises(ValueError, match="one number per market"):
        MarketBatch(*[np.ones((2, 2, 3))] * 3, np.ones(2), np.zeros(3))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("options", [{}, {"benchmark": "aime", "beta": 1e5}])
def test_rewards_leave_the_last_round_as_it_was(backend, options):
    if backend == "numba":
        pytest.importorskip("numba")
    for keep in (True, False):
        env = ttc_env.vector_env(3, backend=backend, copy=keep, **options)
        env.reset(seed=0)
        env.action_space.seed(0)
        obs, *_ = env.step(env.action_space.sample())
        seen, infos = obs.full(), env.round_infos()
        env.rewards(env.action_space.sample())
        np.testing.assert_array_equal(obs.full(), seen)
        for name, x in env.round_infos().items():
            np.testing.assert_array_equal(x, infos[name], err_msg=name)


@pytest.mark.parametrize("options", [{}, {"demand": "sampled"}, {"actions": "continuous"}])
def test_a_refused_action_is_no_round(options):
    single, batch = (
        ttc_env.parallel_env(max_cycles=2, **options),
        ttc_env.vector_env(1, max_cycles=2, **options),
    )
    single.reset(seed=0)
    batch.reset(seed=0)
    with pytest.raises(ValueError):
        single.step({agent: np.array([np.nan, 99]) for agent in single.agents})
    with pytest.raises(ValueError):
        batch.step(np.full((1, 9, 2), np.nan if options.get("actions") == "continuous" else 99))
    single.action_space("provider_0").seed(0)
    batch.action_space.seed(0)
    for last in (False, True):
        *_, over, _ = single.step(
            {agent: single.action_space("provider_0").sample() for agent in single.agents}
        )
        assert set(over.values()) == {last}
        assert batch.step(batch.action_space.sample())[3].tolist() == [last]


def test_what_no_episode_has_yet_is_refused_with_what_to_call():
    from gymnasium.vector import AutoresetMode

    env = ttc_env.vector_env(2, autoreset=AutoresetMode.SAME_STEP)
    with pytest.raises(RuntimeError, match="no round has been played; call step"):
        _ = env.last
    with pytest.raises(RuntimeError, match="no episode is running; call reset"):
        env.stages()
    env.reset(seed=0)
    play(env)
    assert len(env.stages()) == 2
    moving = ttc_env.vector_env(2, price_period=2)
    actions = np.zeros((2, 9, 2), int)
    with pytest.raises(
        RuntimeError, match="the world moves, and no episode is running; call reset"
    ):
        moving.rewards(actions)
    moving.reset(seed=0)
    assert moving.rewards(actions).shape == (2, 9)
    same, again = (ttc_env.vector_env(2, autoreset="same_step", demand="sampled") for _ in "ab")
    for one in (same, again):
        one.reset(seed=0)
        one.np_random = np.random.default_rng(7)
    np.testing.assert_array_equal(play(same)[1], play(again)[1])
