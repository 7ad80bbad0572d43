"""One game, many roads: the environment in plain Python, the batched rounds in NumPy and torch, and the log-domain formulas agree."""

import functools
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ttc_env
from ttc_env.game import rounds
from ttc_env.game.demand import log_total, shares
from ttc_env.game.mechanisms import second_price_auction

UNEVEN = ttc_env.Market.from_arrays(
    [[0.5, 0.7, 0.9], [0.6, np.nan, np.nan], [0.4, 0.8, np.nan]],
    [[0.1, 0.2, 0.4], [0.1, np.nan, np.nan], [0.05, 0.3, np.nan]],
    [[0.05, 0.1, 0.2], [0.05, np.nan, np.nan], [0.02, 0.1, np.nan]],
    beta=5.0,
)
VARIANTS = {
    "market": {},
    "fixed prices": {"prices": "fixed"},
    "beta V in the thousands": {"benchmark": "aime", "beta": 1e5},
    "rational": {"benchmark": "aime", "beta": 1e7},
    "rational, fixed prices": {"benchmark": "aime", "beta": 1e7, "prices": "fixed"},
    "beta 0": {"beta": 0.0},
    "outside value": {"outside_value": 0.005, "beta": 1e4},
    "one provider": {"providers": ["Qwen2-7B"]},
    "one bidder": {"mechanism": "auction", "providers": ["Qwen2-7B"]},
    "uneven grids": {"market": UNEVEN},
    "auction": {"mechanism": "auction"},
    "auction, truthful": {"mechanism": "auction", "prices": "fixed"},
    "auction, claims": {"mechanism": "auction", "claims": (0.8, 1.0, 1.25), "settlement": "claimed"},
    "auction, ties": {
        "mechanism": "auction",
        "market": ttc_env.Market.from_arrays([[1.0, 0.9]] * 3, [[0.2, 0.1]] * 3, [[0.1, 0.05]] * 3, beta=1),
    },
    "auction nobody wins": {"mechanism": "auction", "market": UNEVEN.replace(outside_value=2.0)},
    "own": {"information": "own"},
    "prices public": {"information": "prices", "mechanism": "auction"},
    "continuous": {"actions": "continuous"},
    "continuous, fixed": {"actions": "continuous", "prices": "fixed", "market": UNEVEN},
    "continuous auction": {"actions": "continuous", "mechanism": "auction"},
}
SAMPLED = {"sampled": {"demand": "sampled"}, "sampled auction": {"demand": "sampled", "mechanism": "auction", "prices": "fixed"}}


def actions_of(env, seed):
    env.action_space.seed(seed)
    return env.action_space.sample()


def as_dict(single, row):
    return {agent: row[i] for i, agent in enumerate(single.agents)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_environment_is_the_batch_to_the_last_bit(variant):
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
            assert list(reward.values()) == rewards[b].tolist()
            np.testing.assert_array_equal(np.array(list(seen.values())), full[b])
            np.testing.assert_array_equal(single.state(), state[b])
            assert set(over.values()) == {bool(truncations[b])}


DISCRETE = [name for name, options in VARIANTS.items() if options.get("actions") != "continuous"]


@pytest.mark.parametrize("variant", DISCRETE)
def test_numba_is_numpy_to_the_last_bit(variant):
    pytest.importorskip("numba")
    options = {"max_cycles": 3, "infos": "full", **VARIANTS[variant]}
    ours, theirs = (ttc_env.vector_env(1100, backend=backend, **options) for backend in ("numpy", "numba"))  # some blocks and a rest
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


@pytest.mark.parametrize("variant", DISCRETE)
def test_the_compiled_environment_is_the_plain_one_to_the_last_bit(variant):
    pytest.importorskip("numba")
    options = {"max_cycles": 8, **VARIANTS[variant]}
    plain, compiled = (ttc_env.parallel_env(backend=backend, **options) for backend in ("numpy", "numba"))
    plain.reset(seed=0)
    compiled.reset(seed=0)
    for agent in plain.agents:
        plain.action_space(agent).seed(7)
    while plain.agents:
        actions = {agent: plain.action_space(agent).sample() for agent in plain.agents}
        seen, rewards, *_, infos = plain.step(actions)
        cseen, crewards, *_, cinfos = compiled.step(actions)
        assert crewards == rewards
        for agent, info in infos.items():
            assert [cinfos[agent][name] for name in info if name != "action_mask"] == [info[name] for name in info if name != "action_mask"]
        np.testing.assert_array_equal(np.array(list(cseen.values())), np.array(list(seen.values())))
        np.testing.assert_array_equal(compiled.state(), plain.state())
    assert not compiled.agents


@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
def test_actions_may_be_any_integers(backend):
    """The entry of an action need not fit into the action's own type."""
    pytest.importorskip(backend)
    env = ttc_env.vector_env(30, "auction", claims=(0.8, 0.9, 1.0, 1.1, 1.25), backend=backend)  # 6 * 9 * 5 = 270 flat actions
    env.reset()
    actions = actions_of(env, 0)
    actions[..., 0] = 5
    expected = ttc_env.vector_env(30, "auction", claims=(0.8, 0.9, 1.0, 1.1, 1.25)).rewards(actions)
    for dtype in ("int8", "uint8", "int16", "int32", "int64", *(("uint64", ">i4", ">i8") if backend != "torch" else ())):
        some = actions.astype(dtype)
        if backend == "torch":
            import torch

            some = torch.as_tensor(some)
        np.testing.assert_array_equal(np.asarray(env.rewards(some)), expected)


def test_torch_says_what_actions_it_wants():
    torch = pytest.importorskip("torch")
    env = ttc_env.vector_env(2, backend="torch", prices="fixed")
    env.reset()
    with pytest.raises(TypeError, match=r"torch\.as_tensor"):
        env.step(np.zeros((2, 9), int))
    with pytest.raises(ValueError, match="expected integers"):
        env.step(torch.zeros((2, 9)))
    with pytest.raises(ValueError, match="on meta, the environment is on cpu"):
        env.step(torch.zeros((2, 9), dtype=torch.int64, device="meta"))
    for outside in (6, -1):  # on the CPU, where looking at them costs no wait
        actions = torch.zeros((2, 9), dtype=torch.int64)
        actions[1, 4] = outside
        with pytest.raises(ValueError, match=f"environment 1, provider_4: action {outside} is not in Discrete"):
            env.step(actions)
    unchecked = ttc_env.vector_env(2, backend="torch", prices="fixed", check_actions=False)
    unchecked.reset()
    with pytest.raises(IndexError):
        unchecked.step(torch.full((2, 9), 10**6))
    assert unchecked.step(torch.zeros((2, 9), dtype=torch.int64))[0].public[0, -1] == pytest.approx(0.99)  # a failed round is none
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device 'cuda' is not to be had"):
            ttc_env.vector_env(2, backend="torch", device="cuda")
    assert env.step(torch.zeros((2, 9), dtype=torch.int64))[0].public[0, -1] == pytest.approx(0.99)  # those before were no rounds


def test_numba_plays_markets_of_their_own():
    pytest.importorskip("numba")
    markets = [ttc_env.load_market(name, beta=beta) for name, beta in (("gsm8k", 1e5), ("gpqa", 1e3), ("gsm8k", 10.0))]
    for options in ({}, {"mechanism": "auction"}, {"mechanism": "auction", "claims": (0.9, 1.0)}):
        ours, theirs = (ttc_env.vector_env(700, market=markets, backend=backend, **options) for backend in ("numpy", "numba"))
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
        for make in (ttc_env.parallel_env, lambda **options: ttc_env.vector_env(2, **options)):
            with pytest.raises(ValueError, match="use backend='numpy'"):
                make(backend="numba", **options)
    env = ttc_env.vector_env(600, backend="numba")
    env.reset()
    actions = actions_of(env, 0)
    actions[580, 3, 1] = 9
    with pytest.raises(ValueError, match=r"environment 580, provider_3: action \[\d, 9\] is not in"):
        env.step(actions)
    actions[580, 3, 1] = -1
    with pytest.raises(ValueError, match="environment 580, provider_3"):
        env.step(actions)
    single = ttc_env.parallel_env(backend="numba")
    single.reset()
    for bad in (9, -1):
        with pytest.raises(ValueError, match="provider_0"):
            single.step({agent: np.array([0, bad]) for agent in single.agents})
    with pytest.raises(ValueError, match="got float64"):
        single.step({agent: np.array([0.0, 0.5]) for agent in single.agents})
    seen = [single.step({agent: kind for agent in single.agents})[0]["provider_0"] for kind in (np.array([1, 2]), np.int32([1, 2]), [1, 2])]
    for other in seen[1:]:
        np.testing.assert_array_equal(other[:-1], seen[0][:-1])


@pytest.mark.parametrize("variant", SAMPLED)
def test_one_seed_draws_the_same_users_in_both(variant):
    options = {"max_cycles": 4, "infos": "full", **SAMPLED[variant]}
    batch, single = ttc_env.vector_env(1, autoreset="disabled", **options), ttc_env.parallel_env(**options)
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
        for name in ("level", "quality", "price", "cost", "payment", "profit", "share", "utility", "regret", "relative_regret"):
            expected = [info[name] for info in one.values()]
            np.testing.assert_allclose(many[name][b], expected, rtol=1e-11, atol=1e-18, err_msg=name)
        for name in ("welfare", "user_value", "nash_conv"):
            assert many[name][b] == pytest.approx(one["provider_0"][name], rel=1e-11, abs=1e-18), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_torch_is_numpy(variant):
    torch = pytest.importorskip("torch")
    options = {"max_cycles": 2, "infos": "full", **VARIANTS[variant]}
    ours, theirs = ttc_env.vector_env(9, **options), ttc_env.vector_env(9, backend="torch", **options)
    np.testing.assert_array_equal(ours.reset(seed=0)[0].full(), theirs.reset(seed=0)[0].full().numpy())
    for t in range(2):
        actions = actions_of(ours, t)
        obs, rewards, _, _, infos = ours.step(actions)
        tobs, trewards, _, _, tinfos = theirs.step(torch.as_tensor(actions))
        np.testing.assert_allclose(trewards.numpy(), rewards, rtol=1e-12, atol=1e-18)
        assert {x.dtype for x in (trewards, theirs.last.share)} == {torch.float64}
        for a, b in ((obs, tobs), (infos.get("final_obs"), tinfos.get("final_obs"))):
            if a is not None:
                np.testing.assert_allclose(b.full().numpy(), a.full(), rtol=1e-6, atol=1e-7)
                np.testing.assert_allclose(b.state().numpy(), a.state(), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(tinfos["regret"], infos["regret"], rtol=1e-10, atol=1e-16)


def test_torch_draws_users_with_the_right_means():
    pytest.importorskip("torch")
    for mechanism in ("market", "auction"):
        options = {"mechanism": mechanism, "prices": "fixed", "beta": 500.0, "users": 200}
        sampled = ttc_env.vector_env(4000, backend="torch", demand="sampled", **options)
        sampled.reset(seed=0)
        again = ttc_env.vector_env(4000, backend="torch", demand="sampled", **options)
        again.reset(seed=0)
        actions = sampled.rounds.start.new_full((4000, 9), 3)
        rewards, expected = sampled.step(actions)[1].numpy(), ttc_env.vector_env(1, **options)
        np.testing.assert_array_equal(again.step(actions)[1].numpy(), rewards)
        expected.reset()
        target = expected.step(np.full((1, 9), 3))[1][0]
        error = rewards.std(axis=0) / np.sqrt(len(rewards))
        assert (np.abs(rewards.mean(axis=0) - target) <= 5 * error + 1e-12).all()
        served = sampled.last.served
        assert (served.sum(dim=0) <= 200).all()
        assert (sampled.last.correct <= served).all()


def test_torch_draws_the_winner_of_a_tie_evenly():
    torch = pytest.importorskip("torch")
    env = ttc_env.vector_env(6000, backend="torch", demand="sampled", prices="fixed", **VARIANTS["auction, ties"])
    env.reset(seed=0)
    env.step(torch.zeros((6000, 3), dtype=torch.int64))
    served = env.last.served
    assert (served.sum(dim=0) == env.config.users).all()
    assert ((served > 0).sum(dim=0) == 1).all()
    won = (served > 0).double().mean(dim=1).numpy()
    np.testing.assert_allclose(won, 1 / 3, atol=5 * np.sqrt(2 / 9 / 6000))


@pytest.mark.parametrize("variant", [*VARIANTS, *SAMPLED, "many markets"])
def test_a_torch_step_stays_on_its_device(variant, monkeypatch):
    """On the meta device there are no numbers to read, so that whatever would wait for a GPU raises; whatever would be sent to it is caught."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from ttc_env.envs.backends import TorchBackend

    class OneDevice(TorchDispatchMode):
        ran = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            binomial = func is torch.ops.aten.binomial.default  # which meta lacks
            out = torch.empty_like(args[0]) if binomial else func(*args, **(kwargs or {}))
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            assert {x.device.type for x in tensors} <= {"meta"}, f"{func} uses {[(x.device.type, tuple(x.shape)) for x in tensors]}"
            OneDevice.ran += 1
            return out

    monkeypatch.setattr(TorchBackend, "generator", lambda self, seed: None)  # there is none for this device, and nothing is drawn
    markets = {"market": [ttc_env.load_market(beta=beta) for beta in (10.0, 1e5)], "information": "own"}
    options = {"max_cycles": 2, **{**VARIANTS, **SAMPLED}.get(variant, markets)}
    env = ttc_env.vector_env(5, backend="torch", device="meta", **options)
    actions = torch.empty(
        env.action_space.shape, dtype=torch.float32 if options.get("actions") == "continuous" else torch.int64, device="meta"
    )
    with OneDevice():
        env.reset()
        for _ in range(3):
            obs, _, _, _, infos = env.step(actions)
            for seen in (obs, infos.get("final_obs", obs)):
                seen.full()
                seen.state()
        env.rewards(actions)
    assert OneDevice.ran > 50


@pytest.mark.parametrize("variant", ["market", "beta V in the thousands", "auction", "continuous"])
def test_a_round_compiles_as_one_graph(variant):
    torch = pytest.importorskip("torch")
    env = ttc_env.vector_env(8, backend="torch", **VARIANTS[variant])
    env.reset(seed=0)
    actions = torch.as_tensor(actions_of(env, 0))
    compiled = torch.compile(lambda x: env.rounds.play(x).reward, backend="eager", fullgraph=True)  # a graph break raises
    assert torch.equal(compiled(actions), env.rounds.play(actions).reward)


def same_steps(variant, num_envs, **options):
    """Steps of a compiled environment are those of an eager one."""
    import torch

    options = {"max_cycles": 2, "backend": "torch", **VARIANTS[variant], **options}
    ours, theirs = (ttc_env.vector_env(num_envs, compile=compiled, **options) for compiled in (True, False))
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for t in range(3):
        actions = torch.as_tensor(actions_of(ours, t))
        torch.testing.assert_close(ours.rewards(actions), theirs.rewards(actions), rtol=1e-12, atol=1e-18)
        (obs, rewards, _, over, infos), (eobs, erewards, _, eover, einfos) = ours.step(actions), theirs.step(actions)
        torch.testing.assert_close(rewards, erewards, rtol=1e-12, atol=1e-18)
        assert torch.equal(over, eover)
        for a, b in ((obs, eobs), (infos.get("final_obs"), einfos.get("final_obs"))):
            if b is not None:
                torch.testing.assert_close(a.full(), b.full(), rtol=1e-6, atol=1e-7)


@pytest.fixture
def graphs(monkeypatch):
    """Graphs that torch's compiler traces; they are run as they are, without a C++ compiler."""
    torch = pytest.importorskip("torch")
    traced, compile_ = [], torch.compile

    def backend(graph, inputs):
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.wraps(compile_)(lambda f, **options: compile_(f, backend=backend, **options)))
    return traced


@pytest.mark.parametrize("variant", ["market", "beta V in the thousands", "auction", "continuous", "own"])
def test_a_step_compiles_as_one_graph(variant, graphs):
    same_steps(variant, 8)
    assert len(graphs) == 2  # a round, and a round with observations: the clock does not compile them anew


def test_many_environments_can_be_compiled(graphs):
    torch = pytest.importorskip("torch", minversion="2.13")  # before it, eight environments in a process
    for size in range(2, 14):
        env = ttc_env.vector_env(size, backend="torch", prices="fixed", compile=True)
        env.reset()
        env.step(torch.zeros((size, 9), dtype=torch.int64))


def test_what_torch_does_not_compile():
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="compile=False with demand='sampled'"):
        ttc_env.vector_env(2, backend="torch", demand="sampled", compile=True)
    with pytest.raises(ValueError, match="compile needs backend='torch'"):
        ttc_env.vector_env(2, compile=True)
    with pytest.raises(ValueError, match="one seed, or use backend='numpy'"):
        ttc_env.vector_env(2, backend="torch").reset(seed=[1, 2])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch's compiler needs a C++ compiler")
@pytest.mark.parametrize("variant", ["market", "beta V in the thousands", "auction", "continuous"])
def test_a_compiled_step_is_the_same_step(variant):
    pytest.importorskip("torch")
    same_steps(variant, 600)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 500.0, 1e4, 1e7]),
)
def test_shares_from_mantissas_are_shares_from_logs(seed, n, scale):
    z = np.random.default_rng(seed).normal(size=(n, 50)) * scale
    fraction, exponent = rounds.split_exponential(z)
    assert ((fraction >= 1.0) & (fraction < 2.0)).all()
    share, outside = rounds.logit_shares(*rounds.attractions(fraction, exponent, np))
    expected, nobody = shares(z, 1.0)
    rtol = 1e-13 + 8e-16 * scale
    np.testing.assert_allclose(share, expected, rtol=rtol, atol=1e-300)
    np.testing.assert_allclose(outside, nobody, rtol=rtol, atol=1e-300)
    np.testing.assert_allclose(-np.log(np.maximum(outside, 1e-290)), np.minimum(log_total(z), -np.log(1e-290)), rtol=1e-9, atol=1e-9)


def test_scaling_by_powers_of_two_changes_no_bit():
    z = np.random.default_rng(0).normal(size=(9, 500)) * 30
    fraction, exponent = rounds.split_exponential(z)
    scaled, _ = rounds.logit_shares(*rounds.attractions(fraction, exponent, np))
    plain, _ = rounds.logit_shares(np.ldexp(fraction, exponent), 1.0)
    np.testing.assert_array_equal(scaled, plain)


def test_powers_of_two_are_exact_down_to_the_smallest_normal_number():
    k = np.arange(-1100, 1)
    expected = np.where(k >= -1022, np.ldexp(1.0, k), 0.0)
    np.testing.assert_array_equal(rounds.power_of_two(k, np), expected)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5), ties=st.booleans(), outside=st.sampled_from([-1.0, 0.0, 0.5, 5.0]))
def test_auction_rounds_are_the_mechanisms_allocation(seed, n, ties, outside):
    rng = np.random.default_rng(seed)
    score = rng.integers(-2, 3, (n, 30)) / 2.0 if ties else rng.normal(size=(n, 30))
    market = ttc_env.Market.from_arrays([[1.0]], [[0.5]], [[0.1]], beta=1.0, outside_value=outside)
    allocation = second_price_auction().allocation
    rivals = allocation.rivals(score, market)
    share, charge, nobody = rounds.auction_shares(score, outside, np)
    np.testing.assert_allclose(share, np.exp(allocation.log_share(score, rivals, market)), rtol=1e-15)
    np.testing.assert_array_equal(nobody, allocation.outside_share(score, market))
    paid = share > 0
    np.testing.assert_array_equal(charge[paid], np.maximum(rivals.score, outside)[paid])
