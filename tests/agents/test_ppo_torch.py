"""The parts that make PPO in plain torch fast do what torch's own do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from agents import make_role  # noqa: E402
from agents.networks import Adam, Network, shapes  # noqa: E402
from agents.ppo_torch import TorchPPO  # noqa: E402
from ttc_env.envs.config import make_config  # noqa: E402


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = Adam(2, {"a": (3, 4), "b": (1, 4)}, 1e-2, torch.device("cpu"))
    with torch.no_grad():
        ours.values.copy_(torch.randn(ours.values.shape, generator=generator))
    theirs = [w.detach().clone().requires_grad_() for w in ours.weights.values()]
    optimiser = torch.optim.Adam(theirs, lr=1e-2, eps=1e-5)
    for _ in range(30):
        x = torch.randn(2, 7, 3, generator=generator)
        optimiser.zero_grad()
        torch.baddbmm(theirs[1], x, theirs[0]).square().sum().backward()
        mine = list(ours.weights.values())
        loss = torch.baddbmm(mine[1], x, mine[0]).square().sum()
        for into, found in zip(
            ours.gradients.values(), torch.autograd.grad(loss, mine), strict=True
        ):
            into.copy_(found)
        ours.step()
        optimiser.step()
    for mine, other in zip(ours.weights.values(), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_adam_goes_on_where_it_was() -> None:
    def stepped(optimiser: Adam, steps: int) -> Adam:
        for _ in range(steps):
            optimiser.gradient.copy_(optimiser.values + 1.0)
            optimiser.step()
        return optimiser

    fresh = [Adam(1, {"a": (2, 2)}, 1e-2, torch.device("cpu")) for _ in range(3)]
    whole, half, rest = fresh
    stepped(whole, 9)
    rest.load_state_dict(stepped(half, 4).state_dict())
    torch.testing.assert_close(stepped(rest, 5).values, whole.values, rtol=0, atol=0)


def network(generator: torch.Generator, k: int = 2) -> tuple[Network, Adam]:
    optimiser = Adam(k, shapes("net", 5, 8, 3), 1e-2, torch.device("cpu"))
    with torch.no_grad():
        optimiser.values.normal_(generator=generator)
    return Network("net", optimiser), optimiser


def test_a_network_has_layers_of_tanh() -> None:
    generator = torch.Generator().manual_seed(0)
    net, optimiser = network(generator)
    x = 3.0 * torch.randn(2, 100, 5, generator=generator)
    w, expected = optimiser.weights, x
    for layer in (1, 2):
        expected = torch.tanh(expected @ w[f"net{layer}.weight"] + w[f"net{layer}.bias"])
    expected = expected @ w["net3.weight"] + w["net3.bias"]
    torch.testing.assert_close(net(x).mT, expected, rtol=1e-5, atol=1e-5)


def test_slopes_are_autograds() -> None:
    generator = torch.Generator().manual_seed(1)
    net, optimiser = network(generator)
    x = torch.randn(2, 50, 5, generator=generator)
    slope = torch.randn(2, 3, 50, generator=generator)
    names = list(optimiser.weights)
    expected = torch.autograd.grad((net(x) * slope).sum(), [optimiser.weights[n] for n in names])
    with torch.no_grad():
        net.backward(net.forward(x), slope)
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(optimiser.gradients[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entropy", [0.0, 0.3])
def test_a_step_goes_down_the_loss_of_the_paper(
    entropy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schulman et al. (2017), equations 7 and 9, differentiated by autograd."""
    config = make_config("market", "gsm8k", prices="grid", infos="basic")
    agent = TorchPPO(make_role(config, [0, 3], [1, 2], 10), entropy=entropy)
    d, a = agent.role.observation_size, agent.role.quality.shape[1]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        agent.networks.optimiser.values.normal_(generator=generator, std=0.3)
    x = torch.randn(2, 40, d, generator=generator)
    action = torch.randint(a, (2, 40), generator=generator)
    gain, target, noise = torch.randn(3, 2, 40, generator=generator)
    log_policy = agent._log_policy(x)
    new = log_policy.gather(1, action[:, None])[:, 0]
    old = (new + 0.3 * noise).detach()  # some ratios are clipped, most are not
    normal = (gain - gain.mean(1, keepdim=True)) / (gain.std(1, keepdim=True) + 1e-8)
    ratio = torch.exp(new - old)
    assert 10 < ((ratio - 1).abs() > agent.clip).sum() < 70
    surrogate = torch.minimum(ratio * normal, ratio.clamp(0.8, 1.2) * normal)
    error = (agent.critic(x)[:, 0] - target) ** 2
    bonus = -(log_policy.exp() * log_policy).sum(dim=1)
    loss = (0.5 * error - surrogate - entropy * bonus).mean(dim=1).sum()
    expected = torch.autograd.grad(loss, list(agent.networks.weights.values()))
    monkeypatch.setattr(agent.networks.optimiser, "shrink_gradients", lambda largest: None)
    monkeypatch.setattr(agent.networks.optimiser, "step", lambda: None)
    with torch.no_grad():
        agent._step(x, x, action, old, gain, target)
    for name, gradient in zip(agent.networks.weights, expected, strict=True):
        found = agent.networks.optimiser.gradients[name]
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-5, msg=name)
    assert agent.diagnostics() == {
        "value_error": pytest.approx(float(error.detach().mean()), rel=1e-4),
        "entropy": pytest.approx(float(bonus.detach().mean()), rel=1e-4),
    }


def test_gradients_are_clipped_for_each_provider_alone() -> None:
    optimiser = Adam(3, {"a": (2, 2)}, 1e-2, torch.device("cpu"))
    optimiser.gradient.copy_(torch.tensor([[0.1] * 4, [3.0] * 4, [0.2] * 4]))
    assert optimiser.shrink_gradients(0.5) is None
    norms = torch.linalg.vector_norm(optimiser.gradient, dim=1)
    torch.testing.assert_close(norms, torch.tensor([0.2, 0.5, 0.4]))
    optimiser.gradient[1, 2] = torch.nan
    assert optimiser.shrink_gradients(0.5) == 1


def test_training_imports_neither_torchs_compiler_nor_pandas() -> None:
    program = (
        "from baselines.plan import Plan, TrainConfig\nfrom baselines.training import Run\n"
        "options = dict(learner='ppo_torch', steps=34, parallel=2, seeds='0', evaluations=1)\n"
        "Run(Plan.of(TrainConfig(providers='Qwen2-7B,Qwen2.5-3B', **options))).train()\n"
        "import sys\n"
        "sys.exit('torch._dynamo' in sys.modules or 'pandas' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
