"""The parts that make PPO in plain torch fast do what torch's own do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from agents.networks import Adam, Tanh  # noqa: E402


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = Adam(2, {"a": (3, 4), "b": (1, 4)}, 1e-2, torch.device("cpu"))
    with torch.no_grad():
        ours.values.copy_(torch.randn(ours.values.shape, generator=generator))
    theirs = [w.detach().clone().requires_grad_() for w in ours.weights.values()]
    optimiser = torch.optim.Adam(theirs, lr=1e-2, eps=1e-5)
    for _ in range(30):
        x = torch.randn(2, 7, 3, generator=generator)
        ours.zero_gradients()
        optimiser.zero_grad()
        for weights in (list(ours.weights.values()), theirs):
            torch.baddbmm(weights[1], x, weights[0]).square().sum().backward()
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


def test_tanh_is_tanh_and_its_gradient() -> None:
    x = torch.linspace(-12, 12, 5001, requires_grad=True)
    torch.testing.assert_close(Tanh.apply(x), torch.tanh(x), rtol=0, atol=2e-7)
    (slope,) = torch.autograd.grad(Tanh.apply(x).sum(), x)
    torch.testing.assert_close(slope, 1 - torch.tanh(x) ** 2, rtol=0, atol=5e-7)


def test_training_does_not_import_torchs_compiler() -> None:
    program = (
        "from baselines.training import Plan, Run, TrainConfig\n"
        "options = dict(learner='ppo_torch', steps=34, parallel=2, seeds='0', evaluations=1)\n"
        "Run(Plan.of(TrainConfig(providers='Qwen2-7B,Qwen2.5-3B', **options))).train()\n"
        "import sys\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
