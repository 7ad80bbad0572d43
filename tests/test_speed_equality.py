"""One game, many implementations, the same bits: the environment in plain Python, batched rounds in
NumPy, and compiled by numba.
"""

from functools import partial

import numpy as np
import pytest

import ttc_env
from tests.variants import SAMPLED, VARIANTS, actions_of, as_dict


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_environment_is_the_batch_to_the_last_bit(variant):
    """Where the rule's definition plays, sums over providers are added in another order in a batch
    of one: there, to the last digits.
    """
    rtol = 1e-13 if VARIANTS[variant].get("actions") == "continuous" else 0.0
    close = partial(np.testing.assert_allclose, rtol=rtol, atol=1e-7 if rtol else 0.0)
    options = {"max_cycles": 3, **VARIANTS[variant]}
    batch = ttc_env.vector_env(40, autoreset="disabled", **options)
    singles = [ttc_env.parallel_env(infos="basic", **options) for _ in range(40)]
    obs, _ = batch.reset(seed=0)
    starts = [single.reset(seed=0)[0] for single in singles]
    np.testing.assert_array_equal(obs.full(), [list(start.values()) for start in starts])
    for t in range(3):
        actions = actions_of(batch, t)
        obs, rewards, _, truncations, _ = batch.step(actions)
        full, state = obs.full(), obs.state()
        for b, single in enumerate(singles):
            seen, reward, _, over, _ = single.step(as_dict(single, actions[b]))
            np.testing.assert_allclose(list(reward.values()), rewards[b], rtol=rtol)
            close(np.array(list(seen.values())), full[b])
            close(single.state(), state[b])
            assert set(over.values()) == {bool(truncations[b])}


DISCRETE = [name for name, options in VARIANTS.items() if options.get("actions") != "continuous"]


@pytest.mark.parametrize("variant", DISCRETE)
def test_numba_is_numpy_to_the_last_bit(variant):
    pytest.importorskip("numba")
    options = {"max_cycles": 3, "infos": "full", **VARIANTS[variant]}
    # some blocks and a rest
    ours, theirs = (
        ttc_env.vector_env(1100, backend=backend, **options) for backend in ("numpy", "numba")
    )
    np.testing.assert_array_equal(ours.reset(seed=0)[0].full(), theirs.reset(seed=0)[0].full())
    for t in range(4):
        actions = actions_of(ours, t)
        np.testing.assert_array_equal(theirs.rewards(actions), ours.rewards(actions))
        obs, rewards, _, _, infos = ours.step(actions)
        nobs, nrewards, _, _, ninfos = theirs.step(actions if t % 2 else actions.astype(np.int32))
        np.testing.assert_array_equal(nrewards, rewards)
        np.testing.assert_array_equal(nobs.full(), obs.full())
        np.testing.assert_array_equal(nobs.state(), obs.state())
        assert ninfos.keys() == infos.keys()
        for name in infos.keys() - {"final_obs"}:
            np.testing.assert_array_equal(ninfos[name], infos[name], err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
def test_actions_may_be_any_integers(backend):
    """The entry of an action need not fit into the action's own type."""
    pytest.importorskip(backend)
    # 6 * 9 * 5 = 270 flat actions
    env = ttc_env.vector_env(
        30, "auction", misreport={"over_claim": (0.8, 0.9, 1.1, 1.25)}, backend=backend
    )
    env.reset()
    actions = actions_of(env, 0)
    actions[..., 0] = 5
    expected = ttc_env.vector_env(
        30, "auction", misreport={"over_claim": (0.8, 0.9, 1.1, 1.25)}
    ).rewards(actions)
    for dtype in (
        "int8",
        "uint8",
        "int16",
        "int32",
        "int64",
        *(("uint64", ">i4", ">i8") if backend != "torch" else ()),
    ):
        some = actions.astype(dtype)
        if backend == "torch":
            import torch

            some = torch.as_tensor(some)
        np.testing.assert_array_equal(np.asarray(env.rewards(some)), expected)


def test_numba_plays_markets_of_their_own():
    pytest.importorskip("numba")
    markets = [
        ttc_env.load_market(name, beta=beta)
        for name, beta in (("gsm8k", 1e5), ("gpqa", 1e3), ("gsm8k", 10.0))
    ]
    for options in (
        {},
        {"mechanism": "auction"},
        {"mechanism": "auction", "misreport": {"over_claim": 0.9}},
    ):
        ours, theirs = (
            ttc_env.vector_env(700, market=markets, backend=backend, **options)
            for backend in ("numpy", "numba")
        )
        ours.reset()
        theirs.reset()
        actions = actions_of(ours, 5)
        obs, rewards, *_ = ours.step(actions)
        nobs, nrewards, *_ = theirs.step(actions)
        np.testing.assert_array_equal(nrewards, rewards)
        np.testing.assert_array_equal(nobs.full(), obs.full())


def test_numba_refuses_what_it_does_not_play():
    pytest.importorskip("numba")
    for options in ({"actions": "continuous"}, {"demand": "sampled"}):
        with pytest.raises(ValueError, match="use backend='numpy'"):
            ttc_env.vector_env(2, backend="numba", **options)
    with pytest.raises(TypeError, match=r"ttc_env\.vector_env plays many"):
        ttc_env.parallel_env(backend="numba")
    env = ttc_env.vector_env(600, backend="numba")
    env.reset()
    actions = actions_of(env, 0)
    actions[580, 3, 1] = 9
    with pytest.raises(
        ValueError, match=r"environment 580, provider_3: action \[\d, 9\] is not in"
    ):
        env.step(actions)
    actions[580, 3, 1] = -1
    with pytest.raises(ValueError, match="environment 580, provider_3"):
        env.step(actions)


@pytest.mark.parametrize("variant", SAMPLED)
def test_one_seed_draws_the_same_users_in_both(variant):
    options = {"max_cycles": 4, "infos": "full", **SAMPLED[variant]}
    batch, single = (
        ttc_env.vector_env(1, autoreset="disabled", **options),
        ttc_env.parallel_env(**options),
    )
    batch.reset(seed=3)
    single.reset(seed=3)
    for t in range(4):
        actions = actions_of(batch, t)
        _, rewards, _, _, many = batch.step(actions)
        _, reward, _, _, one = single.step(as_dict(single, actions[0]))
        assert list(reward.values()) == rewards[0].tolist()
        for name in ("served", "correct"):
            assert [info[name] for info in one.values()] == many[name][0].tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_infos_of_the_batch_are_the_environments(variant):
    options = {"max_cycles": 2, "infos": "full", **VARIANTS[variant]}
    batch, single = ttc_env.vector_env(7, **options), ttc_env.parallel_env(**options)
    batch.reset(seed=0)
    actions = actions_of(batch, 1)
    many = batch.step(actions)[4]
    for b in range(7):
        single.reset(seed=0)
        one = single.step(as_dict(single, actions[b]))[4]
        for name in (
            "level",
            "quality",
            "price",
            "cost",
            "payment",
            "profit",
            "share",
            "utility",
            "regret",
            "relative_regret",
        ):
            expected = [info[name] for info in one.values()]
            np.testing.assert_allclose(
                many[name][b], expected, rtol=1e-11, atol=1e-18, err_msg=name
            )
        for name in ("welfare", "user_value", "nash_conv"):
            assert many[name][b] == pytest.approx(one["provider_0"][name], rel=1e-11, abs=1e-18), (
                name
            )
