"""Rows of `scripts.benchmark_speed` about training: PPO in plain torch (`agents.ppo_torch`) beside
the same step as a textbook writes it, and beside its matrix products alone, which no code of any
kind can leave out.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from agents import Arena, make_agents, make_role
from ttc_env.envs.config import make_config

BATCH, MARKETS = 256, 64
"""Samples of a step, and parallel markets: the learner's defaults."""
START_UP = """
from baselines.plan import Plan, TrainConfig
from baselines.training import Run
Run(Plan.of(TrainConfig(learner="ppo_torch", steps=16 * 64, seeds="0", evaluations=1))).train()
"""


def training_rows(bench: Any) -> None:
    """Time of a step over two yardsticks, of training over Stable-Baselines3's, and of a start."""
    try:
        import torch

        from agents.ppo_torch import TorchPPO
    except ImportError:
        bench.add("training with PPO", None, None, note="torch is not installed")
        return
    torch.set_num_threads(1)
    for prices in ("fixed", "grid"):
        config = make_config("market", prices=prices, infos="basic")
        role = make_role(config, range(config.market.num_providers), range(MARKETS), 100)
        agent = TorchPPO(role)
        batch = _batch(role)

        def ours(agent: Any = agent, batch: Any = batch) -> None:
            with torch.no_grad():
                agent._step(*batch)

        name = f"PPO's step in plain torch, prices {prices}, over"
        bench.pair(f"{name} autograd's with torch.optim.Adam", ours, _textbook(role, batch), 0.77)
        bench.pair(f"{name} its matrix products alone", ours, _products(role), None, "the limit: 1")
        if bench.quick:
            continue
        arenas = {
            learner: Arena(
                config,
                make_agents(config, learner, seeds=range(MARKETS), horizon=100),
                range(MARKETS),
            )
            for learner in ("ppo_torch", "ppo")
        }
        rounds = {name: _rounds(arena) for name, arena in arenas.items()}
        samples = 16 * MARKETS * config.market.num_providers
        speed = {name: samples / bench.seconds(play) for name, play in rounds.items()}
        bench.pair(
            f"training with PPO in plain torch, prices {prices}, over Stable-Baselines3's PPO",
            rounds["ppo_torch"],
            rounds["ppo"],
            None,
            f"{speed['ppo_torch']:,.0f} and {speed['ppo']:,.0f} agent-samples per CPU second",
        )
    starts = np.array(
        [[_start_up(program) for program in (START_UP, "import torch")] for _ in range(5)]
    )
    seconds, alone = np.median(starts, axis=0).tolist()
    name = "start and first update of PPO in plain torch, over"
    bench.add(f"{name} 2 s", seconds / 2.0, 1.0)
    bench.add(
        f"{name} importing torch alone",
        float(np.median(starts[:, 0] / starts[:, 1])),
        None,
        note=f"{seconds:.2f} and {alone:.2f} CPU seconds",
    )


def _batch(role: Any) -> tuple[Any, ...]:
    """Observations, actions, old log policy, advantages and targets of one step."""
    import torch

    k, a, _ = role.shape
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(k, BATCH, role.observation_size, generator=generator)
    action = torch.randint(a, (k, BATCH), generator=generator)
    old, gain, target = torch.randn(3, k, BATCH, generator=generator)
    return x, x, action, 0.1 * old - float(np.log(a)), gain, target


def _textbook(role: Any, batch: tuple[Any, ...], clip: float = 0.2) -> Callable[[], None]:
    """A step with the same arithmetic, as autograd and torch.optim do it: equations 7 and 9 of
    Schulman et al. (2017), gradients clipped per provider.
    """
    import torch

    k, a, _ = role.shape
    generator = torch.Generator().manual_seed(1)
    nets = []
    for outputs in (a, 1):
        sizes = ((role.observation_size, 64), (64, 64), (64, outputs))
        weights = [0.1 * torch.randn(k, *size, generator=generator) for size in sizes]
        nets.append(
            [
                w
                for size, x in zip(sizes, weights, strict=True)
                for w in (x, torch.zeros(k, 1, size[1]))
            ]
        )
    parameters = [w.requires_grad_() for net in nets for w in net]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, eps=1e-5)
    x, _, action, old, gain, target = batch

    def output(net: list[Any]) -> Any:
        y = torch.tanh(torch.baddbmm(net[1], x, net[0]))
        y = torch.tanh(torch.baddbmm(net[3], y, net[2]))
        return torch.baddbmm(net[5], y, net[4])

    def step() -> None:
        log_policy = torch.log_softmax(output(nets[0]), dim=2)
        ratio = torch.exp(log_policy.gather(2, action[..., None])[..., 0] - old)
        normal = (gain - gain.mean(1, keepdim=True)) / (gain.std(1, keepdim=True) + 1e-8)
        surrogate = torch.minimum(ratio * normal, ratio.clamp(1 - clip, 1 + clip) * normal)
        entropy = -(log_policy.exp() * log_policy).sum(dim=2)
        error = (output(nets[1])[..., 0] - target) ** 2
        loss = (0.5 * error - surrogate - 0.0 * entropy).mean(dim=1).sum()
        optimiser.zero_grad()
        loss.backward()
        norms = torch.stack([w.grad.flatten(1).norm(dim=1) for w in parameters]).norm(dim=0)
        shrink = (0.5 / (norms + 1e-6)).clamp(max=1.0)[:, None, None]
        for weight in parameters:
            weight.grad.mul_(shrink)
        optimiser.step()

    return step


def _products(role: Any) -> Callable[[], None]:
    """The matrix products of a step alone: forward, and slopes of weights and of layers' inputs."""
    import torch

    k, a, _ = role.shape
    pairs = []
    for outputs in (a, 1):
        sizes = ((role.observation_size, 64), (64, 64), (64, outputs))
        for layer, (rows, columns) in enumerate(sizes):
            x, w, y = (
                torch.rand(k, *size) for size in ((BATCH, rows), (rows, columns), (BATCH, columns))
            )
            pairs += [(x, w), (x.mT, y)] + ([(y, w.mT)] if layer else [])

    def multiply() -> None:
        for left, right in pairs:
            torch.bmm(left, right)

    return multiply


def _rounds(arena: Arena) -> Callable[[], None]:
    """Sixteen rounds, after which the learners of both kinds update."""

    def play() -> None:
        for _ in range(16):
            arena.step()

    return play


def _start_up(program: str) -> float:
    """CPU seconds of a Python that runs a program. Byte code is cached, as it is by default."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
