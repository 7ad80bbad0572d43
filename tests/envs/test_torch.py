"""`backend="torch"`: the same rounds, on their device, eager and compiled."""

import functools
import shutil

import numpy as np
import pytest

import ttc_env
from tests.variants import SAMPLED, VARIANTS, actions_of


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
        with pytest.raises(
            ValueError, match=f"environment 1, provider_4: action {outside} is not in Discrete"
        ):
            env.step(actions)
    unchecked = ttc_env.vector_env(2, backend="torch", prices="fixed", check_actions=False)
    unchecked.reset()
    with pytest.raises(IndexError):
        unchecked.step(torch.full((2, 9), 10**6))
    # the refused round does not count: this is the first
    assert unchecked.step(torch.zeros((2, 9), dtype=torch.int64))[0].public[0, -1] == pytest.approx(
        0.99
    )
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device 'cuda' does not work"):
            ttc_env.vector_env(2, backend="torch", device="cuda")
    # those before were no rounds
    assert env.step(torch.zeros((2, 9), dtype=torch.int64))[0].public[0, -1] == pytest.approx(0.99)


@pytest.mark.parametrize("variant", VARIANTS)
def test_torch_is_numpy(variant):
    torch = pytest.importorskip("torch")
    options = {"max_cycles": 2, "infos": "full", **VARIANTS[variant]}
    ours, theirs = (
        ttc_env.vector_env(9, **options),
        ttc_env.vector_env(9, backend="torch", **options),
    )
    np.testing.assert_array_equal(
        ours.reset(seed=0)[0].full(), theirs.reset(seed=0)[0].full().numpy()
    )
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
    env = ttc_env.vector_env(
        6000, backend="torch", demand="sampled", prices="fixed", **VARIANTS["auction, ties"]
    )
    env.reset(seed=0)
    env.step(torch.zeros((6000, 3), dtype=torch.int64))
    served = env.last.served
    assert (served.sum(dim=0) == env.config.users).all()
    assert ((served > 0).sum(dim=0) == 1).all()
    won = (served > 0).double().mean(dim=1).numpy()
    np.testing.assert_allclose(won, 1 / 3, atol=5 * np.sqrt(2 / 9 / 6000))


@pytest.mark.parametrize("variant", [*VARIANTS, *SAMPLED, "many markets"])
def test_a_torch_step_stays_on_its_device(variant, monkeypatch):
    """On the meta device there are no numbers to read, so that whatever would wait for a GPU
    raises; whatever would be sent to it is caught.
    """
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from ttc_env.envs.backends.torch import TorchBackend

    class OneDevice(TorchDispatchMode):
        ran = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            binomial = func is torch.ops.aten.binomial.default  # which meta lacks
            out = torch.empty_like(args[0]) if binomial else func(*args, **(kwargs or {}))
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            assert {x.device.type for x in tensors} <= {"meta"}, (
                f"{func} uses {[(x.device.type, tuple(x.shape)) for x in tensors]}"
            )
            OneDevice.ran += 1
            return out

    # torch has no generator for this device, and nothing is drawn
    monkeypatch.setattr(TorchBackend, "generator", lambda self, seed: None)
    markets = {
        "market": [ttc_env.load_market(beta=beta) for beta in (10.0, 1e5)],
        "information": "own",
    }
    options = {"max_cycles": 2, **{**VARIANTS, **SAMPLED}.get(variant, markets)}
    env = ttc_env.vector_env(5, backend="torch", device="meta", **options)
    actions = torch.empty(
        env.action_space.shape,
        dtype=torch.float32 if options.get("actions") == "continuous" else torch.int64,
        device="meta",
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


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_cuda_is_numpy_and_never_waits(variant, compiled):
    torch = pytest.importorskip("torch")
    options = {"max_cycles": 2, **VARIANTS[variant]}
    ours = ttc_env.vector_env(300, **options)
    theirs = ttc_env.vector_env(300, backend="torch", device="cuda", compile=compiled, **options)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    actions = actions_of(ours, 0)
    sent = torch.as_tensor(actions, device="cuda")
    theirs.step(sent)  # compiles
    ours.step(actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        tobs, trewards, _, _, tinfos = theirs.step(sent)
        tseen, tfinal = tobs.full(), tinfos["final_obs"].full()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    obs, rewards, _, _, infos = ours.step(actions)
    np.testing.assert_allclose(trewards.cpu().numpy(), rewards, rtol=1e-12, atol=1e-18)
    for mine, expected in ((tseen, obs.full()), (tfinal, infos["final_obs"].full())):
        np.testing.assert_allclose(mine.cpu().numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("variant", ["market", "beta V in the thousands", "auction", "continuous"])
def test_a_round_compiles_as_one_graph(variant):
    torch = pytest.importorskip("torch")
    env = ttc_env.vector_env(8, backend="torch", **VARIANTS[variant])
    env.reset(seed=0)
    actions = torch.as_tensor(actions_of(env, 0))
    # a graph break raises
    compiled = torch.compile(lambda x: env.rounds.play(x).reward, backend="eager", fullgraph=True)
    assert torch.equal(compiled(actions), env.rounds.play(actions).reward)


def same_steps(variant, num_envs, **options):
    """Steps of a compiled environment are those of an eager one."""
    import torch

    options = {"max_cycles": 2, "backend": "torch", **VARIANTS[variant], **options}
    ours, theirs = (
        ttc_env.vector_env(num_envs, compile=compiled, **options) for compiled in (True, False)
    )
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for t in range(3):
        actions = torch.as_tensor(actions_of(ours, t))
        torch.testing.assert_close(
            ours.rewards(actions), theirs.rewards(actions), rtol=1e-12, atol=1e-18
        )
        (obs, rewards, _, over, infos), (eobs, erewards, _, eover, einfos) = (
            ours.step(actions),
            theirs.step(actions),
        )
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

    monkeypatch.setattr(
        torch,
        "compile",
        functools.wraps(compile_)(lambda f, **options: compile_(f, backend=backend, **options)),
    )
    return traced


@pytest.mark.parametrize(
    "variant", ["market", "beta V in the thousands", "auction", "continuous", "own"]
)
def test_a_step_compiles_as_one_graph(variant, graphs):
    same_steps(variant, 8)
    # one graph for a round, one for a round with observations; a later round compiles neither again
    assert len(graphs) == 2


def test_many_environments_can_be_compiled(graphs):
    # before it, eight environments in a process
    torch = pytest.importorskip("torch", minversion="2.13")
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
