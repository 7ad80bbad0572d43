"""The torch backend on a device: `python -m scripts.benchmark_speed --device cuda`.

1. Env steps per second at 2^10 .. 2^22 environments, eager and through torch's compiler.
2. The time of a step over the time in which a plain copy, in the same run, moves the bytes that the step has to move: 1 is the floor.
3. Samples per second of a small PPO, rollouts and updates together, with nothing leaving the device.

Written for a GPU; on `--device cpu:0` the same code runs, for its tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ttc_env


def device_rows(bench: Any, device: str) -> dict[str, str]:
    """Add the device's rows; returns what it is."""
    import torch

    on = torch.device(device)
    if on.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"--device {device}: torch sees no CUDA device; run without --device for the CPU rows")

    def finish() -> None:
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    def seconds(f: Callable[[], Any], count: int = 20) -> float:
        for _ in range(3):
            f()
        finish()
        start = time.perf_counter()
        for _ in range(count):
            f()
        finish()
        return (time.perf_counter() - start) / count

    bandwidth = _bandwidth(on, seconds, 1 << (18 if bench.quick else 27))
    bench.add("device copy, bytes/s", bandwidth, None, better="higher")
    for power in range(10, 13, 2) if bench.quick else range(10, 23, 2):
        size = 1 << power
        for how in ("", ", compiled") if on.type == "cuda" else ("",):
            env = ttc_env.vector_env(size, backend="torch", device=on, compile=bool(how), max_cycles=10**9, copy=False)
            env.reset(seed=0)
            parts = [torch.randint(0, k, (env.num_agents, size), device=on) for k in env.config.grid]
            actions = torch.stack(parts).permute(2, 1, 0)  # columns in memory
            step, alone = (seconds(lambda f=f, a=actions: f(a)) for f in (env.step, env.rewards))
            for name, spent, moved in (
                (f"step with observations{how}", step, _bytes(env, observed=True)),
                (f"round alone{how}", alone, _bytes(env, observed=False)),
            ):
                bench.add(f"env steps/s, {name}, 2^{power} envs", size / spent, None, "higher")
                bench.add(
                    f"{name}, over the time to move its {moved / size:.0f} bytes an env, 2^{power} envs", spent * bandwidth / moved, None
                )
    bench.add("PPO samples/s, end to end (agents x envs x rounds)", _ppo(on, seconds, bench.quick), None, "higher")
    name = torch.cuda.get_device_name(on) if on.type == "cuda" else "CPU"
    return {"device": name, "torch": torch.__version__}


def _bytes(env: Any, *, observed: bool) -> int:
    """What a step has to read and write: int64 actions in, float64 rewards out, and, if observed, float32 blocks and what `env.last` keeps."""
    n, k = env.num_agents, len(env.config.grid)
    seen = 4 * (3 * n + 2 + (k + 1) * n) + 2 * 8 * n  # public and own blocks; shares and table entries
    return env.num_envs * (8 * k * n + 8 * n + (seen if observed else 0))


def _bandwidth(device: Any, seconds: Callable[..., float], count: int) -> float:
    import torch

    a = torch.zeros(count, dtype=torch.float64, device=device)
    b = torch.empty_like(a)
    return 2 * 8 * count / seconds(lambda: b.copy_(a))


def _ppo(device: Any, seconds: Callable[..., float], quick: bool) -> float:
    """Shared policy of two layers, 16 rounds a rollout, two epochs of the clipped objective over the whole of it."""
    import torch
    from torch import nn

    size, rounds = (256, 4) if quick else (4096, 16)
    env = ttc_env.vector_env(size, backend="torch", device=device, max_cycles=rounds, observations="full", copy=False)
    n, d, grid = env.num_agents, env.layout.size, env.config.grid
    net = nn.Sequential(nn.Linear(d, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, sum(grid) + 1)).to(device)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-4)

    def heads(obs: Any) -> tuple[list[Any], Any]:
        out = net(obs)
        logits = torch.split(out[..., :-1], list(grid), dim=-1)
        return [torch.distributions.Categorical(logits=x, validate_args=False) for x in logits], out[..., -1]

    def iteration() -> None:
        obs, _ = env.reset()
        kept: list[tuple[Any, ...]] = []
        for _ in range(rounds):
            with torch.no_grad():
                choices, value = heads(obs)
                parts = [choice.sample() for choice in choices]
                log_p = sum(choice.log_prob(part) for choice, part in zip(choices, parts, strict=True))
            seen = obs
            obs, reward, _, _, _ = env.step(torch.stack(parts, dim=-1))
            kept.append((seen, parts, log_p, value, reward.float()))
        seen, old, reward = (torch.stack([step[j] for step in kept]) for j in (0, 2, 4))
        parts = [torch.stack([step[1][j] for step in kept]) for j in range(len(grid))]
        value = torch.stack([step[3] for step in kept])
        advantage = reward - value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(2):
            choices, value = heads(seen)
            ratio = (sum(choice.log_prob(part) for choice, part in zip(choices, parts, strict=True)) - old).exp()
            loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean() + 0.5 * (value - reward).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return n * size * rounds / seconds(iteration, 2 if quick else 10)
