"""The batched environment: conventions, autoreset, markets of its own for each environment, seeds, errors; infos on demand."""

import copy
import json
import pickle

import gymnasium
import numpy as np
import pytest

import ttc_env
from ttc_env.envs.infos import Info, LazyRound
from ttc_env.game.curves import load_market
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.random_markets import published_vectors, random_markets


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
    modes = {mode: ttc_env.vector_env(2, autoreset=mode).metadata["autoreset_mode"].name for mode in ("same_step", "disabled")}
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


@pytest.mark.parametrize("options", [{}, {"mechanism": "auction"}, {"actions": "continuous"}, {"demand": "sampled"}])
def test_every_environment_plays_its_own_market(options):
    batch = random_markets(7, "aime", "best_of_n", num_providers=4, seed=1, beta=(10.0, 1e6), alpha=(0.01, 0.1))
    env = ttc_env.vector_env(20, market=batch, **options)
    start, _ = env.reset(seed=0)
    env.action_space.seed(0)
    actions = env.action_space.sample()
    obs, rewards, *_ = env.step(actions)
    infos = env.round_infos() if options.get("actions") != "continuous" else {}
    for b in range(20):
        one = ttc_env.parallel_env(market=batch.market(b % 7), **options)
        seen, _ = one.reset(seed=0)
        np.testing.assert_array_equal(start.full()[b], list(seen.values()))
        if options.get("demand") == "sampled":
            continue
        seen, reward, _, _, info = one.step({agent: actions[b, i] for i, agent in enumerate(one.agents)})
        if options.get("actions") != "continuous":
            np.testing.assert_array_equal(obs.full()[b], list(seen.values()))
            # Tables wider than one market's may need scaling, which changes no bit.
            np.testing.assert_array_equal(rewards[b], list(reward.values()))
            np.testing.assert_allclose(infos["regret"][b], [i["regret"] for i in info.values()], rtol=1e-11, atol=1e-18)
            np.testing.assert_allclose(infos["relative_regret"][b], [i["relative_regret"] for i in info.values()], rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(rewards[b], list(reward.values()), rtol=1e-12)


def mixed_markets():
    """Five markets that differ in all that a market may differ in: money, rationality, outside value, and who has which levels."""
    rng = np.random.default_rng(3)
    markets = []
    for g, (scale, beta, outside) in enumerate([(1.0, 3.0, 0.0), (0.01, 1e3, 0.004), (5.0, 0.0, -1.0), (0.2, 1e4, 0.1), (1.0, 20.0, 0.6)]):
        quality, price = scale * rng.uniform(0.3, 1.0, (3, 3)), scale * np.sort(rng.uniform(0.05, 0.6, (3, 3)), axis=1)
        price[g % 3, 1:] = np.nan
        price[(g + 1) % 3, 2:] = np.nan
        quality = np.where(np.isnan(price), np.nan, quality)
        markets.append(ttc_env.Market.from_arrays(quality, price, 0.7 * price, beta=beta, outside_value=outside))
    return markets


@pytest.mark.parametrize(("backend", "actions"), [("numpy", "discrete"), ("numpy", "continuous"), ("numba", "discrete")])
@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_markets_that_differ_in_everything(mechanism, backend, actions):
    """In batches of more than one pass: rewards, observations, infos and deviations are those of the environment's own market."""
    pytest.importorskip(backend)
    markets, options = mixed_markets(), {"mechanism": mechanism, "actions": actions}
    env = ttc_env.vector_env(2048 + 512 + 7, market=markets, infos="full", backend=backend, **options)
    env.reset(seed=0)
    env.action_space.seed(0)
    joint = env.action_space.sample()
    obs, rewards, _, _, infos = env.step(joint)
    full, (profit, log_share) = obs.full(), env.deviations()
    for b in (0, 1, 2, 3, 4, 511, 512, 513, 514, 515, 2047, 2048, 2049, 2050, 2051, env.num_envs - 1):
        one = ttc_env.parallel_env(market=markets[b % 5], **options)
        one.reset()
        seen, reward, _, _, info = one.step({agent: joint[b, i] for i, agent in enumerate(one.agents)})
        np.testing.assert_allclose(rewards[b], list(reward.values()), rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(full[b], list(seen.values()), rtol=1e-6, atol=1e-7)
        for name in ("payment", "regret", "relative_regret"):
            np.testing.assert_allclose(infos[name][b], [i[name] for i in info.values()], rtol=1e-10, atol=1e-15, err_msg=name)
        assert infos["welfare"][b] == pytest.approx(info["provider_0"]["welfare"], rel=1e-12)
        config = one.unwrapped.config
        _, offer = config.offer(list(joint[b]))
        for mine, expected in zip((profit, log_share), config.mechanism.deviations(config.table, offer, config.market), strict=True):
            np.testing.assert_allclose(mine[b], np.broadcast_to(expected, mine[b].shape), rtol=1e-10, atol=1e-15)


def test_markets_as_a_list_are_the_batch():
    markets = [load_market("gsm8k", "majority", beta=beta) for beta in (10.0, 1000.0)]
    env = ttc_env.vector_env(4, market=markets)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = env.action_space.sample()
    rewards = env.step(actions)[1]
    for b in range(4):
        one = ttc_env.vector_env(1, market=markets[b % 2])
        one.reset()
        np.testing.assert_array_equal(one.step(actions[b : b + 1])[1][0], rewards[b])
    assert [s.unique for s in env.solve()] == [ttc_env.solve(m, env.config.mechanism).unique for m in markets]


def test_the_first_market_may_have_fewer_levels():
    quality = np.array([[[1.0, 1.0], [np.nan, 2.0]]])  # one provider, with one level in market 0 and two in market 1
    batch = MarketBatch(quality, 0.5 * quality, 0.2 * quality, np.ones(2), np.zeros(2))
    env = ttc_env.vector_env(4, market=batch, prices="fixed")
    env.reset()
    assert env.action_space.nvec.tolist() == [[2]] * 4
    assert env.action_mask().tolist() == [[[1, 0]], [[1, 1]]]
    rewards = env.step(np.ones((4, 1), int))[1][:, 0]
    expected = [ttc_env.parallel_env(market=batch.market(g), prices="fixed") for g in range(2)]
    for g, one in enumerate(expected):
        one.reset()
        assert rewards[g] == rewards[g + 2] == one.step({"provider_0": g})[1]["provider_0"]


def test_random_markets_resemble_the_published_ones():
    vectors = published_vectors("aime", "majority")
    batch = random_markets(4000, "aime", "majority", num_providers=3, seed=0)
    m = batch.num_levels
    logit = np.log(batch.accuracy) - np.log1p(-batch.accuracy)
    drawn = logit.reshape(3, m, -1).transpose(0, 2, 1).reshape(-1, m)
    np.testing.assert_allclose(drawn.mean(axis=0), vectors[:, :m].mean(axis=0), atol=0.06)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(vectors[:, :m].T), rtol=0.1, atol=0.02)
    assert (np.diff(batch.price, axis=1) >= 0).all()
    np.testing.assert_allclose(batch.cost, batch.price / 1.25)
    again = random_markets(4000, "aime", "majority", num_providers=3, seed=0)
    np.testing.assert_array_equal(again.quality, batch.quality)
    no_spread = random_markets(2, "aime", "majority", seed=0, spread=0.0)
    np.testing.assert_allclose(no_spread.quality[:, :, 0], no_spread.quality[:1, :, 0].repeat(9, axis=0))


def test_a_seed_for_each_environment():
    """More environments than are played in one pass: the last one draws what it would draw alone."""
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
                assert list(one.step({a: actions[b, i] for i, a in enumerate(one.agents)})[1].values()) == rewards[b].tolist()
    with pytest.raises(ValueError, match="2 seeds for 2100 environments"):
        many.reset(seed=[1, 2])


@pytest.mark.parametrize(("backend", "seed"), [("numpy", 5), ("numpy", [7, 8, 9]), ("torch", 5)])
def test_a_saved_environment_goes_on(backend, seed):
    pytest.importorskip(backend)
    env, twin = (ttc_env.vector_env(3, demand="sampled", backend=backend, max_cycles=3) for _ in range(2))
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
    assert repr(env) == "VectorMarketEnv(4 environments, numpy: market, MarketBatch(1 markets: 9 providers, up to 6 levels))"
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
        ({"market": [load_market("gsm8k"), load_market("gsm8k", "reasoning")]}, "one number of providers"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ttc_env.vector_env(**{"num_envs": 2, **options})


def test_options_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match=r"there is no option foo; options are mechanism, .*, beta"):
        ttc_env.vector_env(4, foo=3)
    with pytest.raises(TypeError, match=r"no option num_envs; many games at once are made by ttc_env\.vector_env"):
        ttc_env.parallel_env(num_envs=3)
    for call in (lambda: ttc_env.vector_env(4, market="gsm8k"), lambda: ttc_env.sweep("gsm8k")):
        with pytest.raises(TypeError, match="use benchmark='gsm8k'"):
            call()
    with pytest.raises(TypeError, match="a int is not a Market"):
        ttc_env.sweep([1])


def test_a_batch_is_a_sequence_of_its_markets():
    batch = random_markets(3, num_providers=2, seed=0)
    assert len(list(batch)) == 3
    np.testing.assert_array_equal(batch[-1].quality, batch.quality[:, :, 2])
    assert repr(batch) == "MarketBatch(3 markets: 2 providers, up to 6 levels)"


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
    np.testing.assert_array_equal(box.step(np.full((3, 9, 2), np.inf))[1], box.step(np.ones((3, 9, 2)))[1])  # clipped, as in MarketEnv
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


def test_an_info_is_a_dict_that_is_worked_out_once():
    worked_out = []

    def source():
        worked_out.append(1)
        return [{"share": 0.25, "regret": 1.0}]

    def info():
        return Info((LazyRound(source), 0), "mask")

    assert info()["action_mask"] == "mask"
    assert info().get("action_mask") == "mask"
    assert "action_mask" in info()
    assert not worked_out
    whole = {"action_mask": "mask", "share": 0.25, "regret": 1.0}
    readings = [
        dict, lambda x: {**x}, lambda x: x.copy(), lambda x: {k: x[k] for k in x}, lambda x: dict(x.items()), copy.copy, copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)), lambda x: json.loads(json.dumps(x)), lambda x: x | {}, lambda x: {} | x,
    ]  # fmt: skip
    for reading in readings:
        assert reading(info()) == whole
    assert info() == whole
    assert whole == info()
    assert len(info()) == 3
    assert "regret" in info()
    assert "nothing" not in info()
    assert info().get("nothing", 7) == 7
    assert info().pop("share") == 0.25
    assert repr(info()) == repr(whole)
    with pytest.raises(KeyError):
        info()["nothing"]
    written = info()
    written["share"] = 9.0
    assert written == {**whole, "share": 9.0}
    one = info()
    count = len(worked_out)
    assert (one["share"], one["regret"], len(one)) == (0.25, 1.0, 3)
    assert len(worked_out) == count + 1


def test_infos_read_late_are_those_of_their_round():
    env = ttc_env.parallel_env()
    env.reset(seed=0)
    early = env.step({agent: np.array([1, 1]) for agent in env.agents})[4]
    env.step({agent: np.array([5, 0]) for agent in env.agents})
    fresh = ttc_env.parallel_env()
    fresh.reset(seed=0)
    now = dict(fresh.step({agent: np.array([1, 1]) for agent in fresh.agents})[4]["provider_2"])
    now.pop("action_mask")
    late = dict(early["provider_2"])
    late.pop("action_mask")
    assert late == now


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
    single, batch = ttc_env.parallel_env(max_cycles=2, **options), ttc_env.vector_env(1, max_cycles=2, **options)
    single.reset(seed=0)
    batch.reset(seed=0)
    with pytest.raises(ValueError):
        single.step({agent: np.array([np.nan, 99]) for agent in single.agents})
    with pytest.raises(ValueError):
        batch.step(np.full((1, 9, 2), np.nan if options.get("actions") == "continuous" else 99))
    single.action_space("provider_0").seed(0)
    batch.action_space.seed(0)
    for last in (False, True):
        *_, over, _ = single.step({agent: single.action_space("provider_0").sample() for agent in single.agents})
        assert set(over.values()) == {last}
        assert batch.step(batch.action_space.sample())[3].tolist() == [last]
