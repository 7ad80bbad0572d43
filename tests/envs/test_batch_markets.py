"""Markets of their own for every environment of a batch; random markets."""

import numpy as np
import pytest

import ttc_env
from ttc_env.envs import round_infos
from ttc_env.game.curves import load_market
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.random_markets import published_vectors, random_markets


@pytest.mark.parametrize(
    "options", [{}, {"mechanism": "auction"}, {"actions": "continuous"}, {"demand": "sampled"}]
)
def test_every_environment_plays_its_own_market(options):
    batch = random_markets(
        7, "aime", "best_of_n", num_providers=4, seed=1, beta=(10.0, 1e6), alpha=(0.01, 0.1)
    )
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
        seen, reward, _, _, info = one.step(
            {agent: actions[b, i] for i, agent in enumerate(one.agents)}
        )
        if options.get("actions") != "continuous":
            np.testing.assert_array_equal(obs.full()[b], list(seen.values()))
            # Tables wider than one market's may need scaling, which changes no bit.
            np.testing.assert_array_equal(rewards[b], list(reward.values()))
            np.testing.assert_allclose(
                infos["regret"][b], [i["regret"] for i in info.values()], rtol=1e-11, atol=1e-18
            )
            np.testing.assert_allclose(
                infos["relative_regret"][b],
                [i["relative_regret"] for i in info.values()],
                rtol=1e-9,
                atol=1e-15,
            )
        np.testing.assert_allclose(rewards[b], list(reward.values()), rtol=1e-12)


def mixed_markets():
    """Five markets that differ in all that a market may differ in: money, rationality, outside
    value, and who has which levels.
    """
    rng = np.random.default_rng(3)
    markets = []
    for g, (scale, beta, outside) in enumerate(
        [(1.0, 3.0, 0.0), (0.01, 1e3, 0.004), (5.0, 0.0, -1.0), (0.2, 1e4, 0.1), (1.0, 20.0, 0.6)]
    ):
        quality, price = (
            scale * rng.uniform(0.3, 1.0, (3, 3)),
            scale * np.sort(rng.uniform(0.05, 0.6, (3, 3)), axis=1),
        )
        price[g % 3, 1:] = np.nan
        price[(g + 1) % 3, 2:] = np.nan
        quality = np.where(np.isnan(price), np.nan, quality)
        markets.append(
            ttc_env.Market.from_arrays(
                quality, price, 0.7 * price, beta=beta, outside_value=outside
            )
        )
    return markets


@pytest.mark.parametrize(
    ("backend", "actions"), [("numpy", "discrete"), ("numpy", "continuous"), ("numba", "discrete")]
)
@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_markets_that_differ_in_everything(mechanism, backend, actions):
    """In batches of more than one pass: rewards, observations, infos and deviations are those of
    the environment's own market.
    """
    pytest.importorskip(backend)
    markets, options = mixed_markets(), {"mechanism": mechanism, "actions": actions}
    env = ttc_env.vector_env(
        2048 + 512 + 7, market=markets, infos="full", backend=backend, **options
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    joint = env.action_space.sample()
    obs, rewards, _, _, infos = env.step(joint)
    full, (profit, log_share) = obs.full(), env.deviations()
    for b in (
        0,
        1,
        2,
        3,
        4,
        511,
        512,
        513,
        514,
        515,
        2047,
        2048,
        2049,
        2050,
        2051,
        env.num_envs - 1,
    ):
        one = ttc_env.parallel_env(market=markets[b % 5], **options)
        one.reset()
        seen, reward, _, _, info = one.step(
            {agent: joint[b, i] for i, agent in enumerate(one.agents)}
        )
        np.testing.assert_allclose(rewards[b], list(reward.values()), rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(full[b], list(seen.values()), rtol=1e-6, atol=1e-7)
        for name in ("payment", "regret", "relative_regret"):
            np.testing.assert_allclose(
                infos[name][b],
                [i[name] for i in info.values()],
                rtol=1e-10,
                atol=1e-15,
                err_msg=name,
            )
        assert infos["welfare"][b] == pytest.approx(info["provider_0"]["welfare"], rel=1e-12)
        config = one.unwrapped.config
        offer = one.unwrapped.last_round.offer
        for mine, expected in zip(
            (profit, log_share),
            config.mechanism.deviations(config.table, offer, config.market),
            strict=True,
        ):
            np.testing.assert_allclose(
                mine[b], np.broadcast_to(expected, mine[b].shape), rtol=1e-10, atol=1e-15
            )


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
    assert [s.unique for s in env.solve()] == [
        ttc_env.solve(m, env.config.mechanism).unique for m in markets
    ]


def test_the_first_market_may_have_fewer_levels():
    # one provider, with one level in market 0 and two in market 1
    quality = np.array([[[1.0, 1.0], [np.nan, 2.0]]])
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
    np.testing.assert_allclose(
        no_spread.quality[:, :, 0], no_spread.quality[:1, :, 0].repeat(9, axis=0)
    )


def test_a_batch_is_a_sequence_of_its_markets():
    batch = random_markets(3, num_providers=2, seed=0)
    assert len(list(batch)) == 3
    np.testing.assert_array_equal(batch[-1].quality, batch.quality[:, :, 2])
    assert repr(batch) == "MarketBatch(3 markets: 2 providers, up to 6 levels)"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"demand": "sampled"},
        {"actions": "continuous"},
        {"mechanism": "auction", "prices": (0.0, 1.0)},
        {"mechanism": "taste_auction", "prices": (0.0, 1.0)},
    ],
    ids=str,
)
@pytest.mark.parametrize("markets", [1, 3])
def test_blocks_of_environments_change_nothing(options, markets, monkeypatch):
    batch = ttc_env.random_markets(markets, num_providers=3, seed=0, beta=(100.0, 1e4))
    env = ttc_env.vector_env(11, market=batch, infos="full", **options)
    env.reset(seed=0)
    env.action_space.seed(0)
    infos = env.step(env.action_space.sample())[-1]
    deviations = env.deviations()
    assert deviations[0].shape == (11, 3, env.tables.num_actions)
    for entries in (1, 400):
        monkeypatch.setattr(round_infos, "_ENTRIES", entries)
        again = env.round_infos()
        assert set(again) == set(infos) - {"action_mask"}
        for name, x in again.items():
            np.testing.assert_allclose(x, infos[name], rtol=1e-13, err_msg=name)
        for x, whole in zip(env.deviations(), deviations, strict=True):
            np.testing.assert_allclose(x, whole, rtol=1e-13)
