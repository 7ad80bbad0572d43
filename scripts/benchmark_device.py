"""The torch backend on a device: `python -m scripts.benchmark_speed --device cuda`.

1. Env steps per second at 2^10 .. 2^22 environments, eager and through torch's compiler.
2. The time of a step over the time in which a plain copy, in the same run, moves the bytes that the
   step has to move: 1 is the floor.
3. Samples per second of a small PPO, rollouts and updates together, with nothing leaving the
   device.

On CUDA every function that is timed is run once where a wait for the device raises; the file says
so if one did.

Written for a GPU; on `--device cpu:0` the same code runs, for its tests.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ttc_env


def device_rows(bench: Any, device: str) -> None:
    """Add the device's rows, and what it is to `bench.about`."""
    import torch

    on = torch.device(device)
    cuda = on.type == "cuda"
    if cuda and not torch.cuda.is_available():
        raise SystemExit(
            f"--device {device}: torch sees no CUDA device; run without --device for the CPU rows"
        )
    bench.about |= {
        "device": torch.cuda.get_device_name(on) if cuda else "CPU",
        "torch": torch.__version__,
    }

    def seconds(f: Callable[[], Any], count: int = 10) -> np.ndarray:
        """Quartiles of wall time per call: low, median, high."""
        for _ in range(3):
            f()
        if cuda:  # nothing may wait for the device: here it raises
            torch.cuda.set_sync_debug_mode("error")
            try:
                f()
            except RuntimeError as error:
                bench.about["waits_for_the_device"] = str(error)
                print(f"something waits for the device: {error}", flush=True)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        spent = []
        for _ in range(3 if bench.quick else 9):
            _finish(on)
            start = time.perf_counter()
            for _ in range(count):
                f()
            _finish(on)
            spent.append((time.perf_counter() - start) / count)
        return np.percentile(spent, [25, 50, 75])

    def add(name: str, values: np.ndarray, better: str) -> None:
        low, middle, high = sorted(map(float, values))
        bench.add(name, middle, None, better, spread=[low, high])

    count = 1 << (18 if bench.quick else 27)  # doubles, read and written
    bandwidth = 2 * 8 * count / seconds(_copy(on, count))
    add("device copy, bytes/s", bandwidth, "higher")
    for power in range(10, 13, 2) if bench.quick else range(10, 23, 2):
        for how in ("", ", compiled") if cuda else ("",):
            _env_rows(add, seconds, on, 1 << power, how, float(bandwidth[1]))
            gc.collect()  # a compiled environment refers to itself
            if cuda:
                torch.cuda.empty_cache()
    iteration, samples = _ppo(on, bench.quick)
    add(
        "PPO samples/s, end to end (agents x envs x rounds)",
        samples / seconds(iteration, 2),
        "higher",
    )


def _env_rows(
    add: Any, seconds: Callable[..., np.ndarray], on: Any, size: int, how: str, bandwidth: float
) -> None:
    import torch

    env = ttc_env.vector_env(
        size,
        backend="torch",
        device=on,
        compile=bool(how),
        check_actions=False,
        max_cycles=10**9,
        copy=False,
    )
    env.reset(seed=0)
    parts = [torch.randint(0, k, (env.num_agents, size), device=on) for k in env.config.grid]
    actions = torch.stack(parts).permute(2, 1, 0)  # columns in memory
    for name, play, observed in (
        (f"step with observations{how}", env.step, True),
        (f"round alone{how}", env.rewards, False),
    ):
        spent, moved = seconds(lambda play=play: play(actions)), _bytes(env, observed=observed)
        add(f"env steps/s, {name}, {size:,} envs", size / spent, "higher")
        add(
            f"{name}, over the time to move its {moved / size:.0f} bytes an env, {size:,} envs",
            spent * bandwidth / moved,
            "lower",
        )


def _finish(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _bytes(env: Any, *, observed: bool) -> int:
    """What a step has to read and write: int64 actions in, float64 rewards out, and, if observed,
    float32 blocks and what `env.last` keeps.
    """
    n, k = env.num_agents, len(env.config.grid)
    # public and own blocks; shares and table entries
    seen = 4 * (3 * n + 2 + (k + 1) * n) + 2 * 8 * n
    return env.num_envs * (8 * k * n + 8 * n + (seen if observed else 0))


def _copy(device: Any, count: int) -> Callable[[], Any]:
    """A plain copy of `count` doubles."""
    import torch

    a = torch.zeros(count, dtype=torch.float64, device=device)
    b = torch.empty_like(a)
    return lambda: b.copy_(a)


def _ppo(device: Any, quick: bool) -> tuple[Callable[[], None], int]:
    """One iteration, and its samples: shared policy of two layers, 16 rounds a rollout, two epochs
    of the clipped objective over the whole of it.
    """
    import torch
    from torch import nn

    size, rounds = (256, 4) if quick else (4096, 16)
    env = ttc_env.vector_env(
        size,
        backend="torch",
        device=device,
        check_actions=False,
        max_cycles=rounds,
        observations="full",
        copy=False,
    )
    n, d, grid = env.num_agents, env.layout.size, env.config.grid
    net = nn.Sequential(
        nn.Linear(d, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, sum(grid) + 1)
    ).to(device)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-4)

    def heads(obs: Any) -> tuple[list[Any], Any]:
        """Log probabilities of every part of an action, and the value."""
        out = net(obs)
        return [
            torch.log_softmax(x, dim=-1) for x in torch.split(out[..., :-1], list(grid), dim=-1)
        ], out[..., -1]

    def chosen(log_p: list[Any], parts: Any) -> Any:
        return sum(
            x.gather(-1, part[..., None])[..., 0] for x, part in zip(log_p, parts, strict=True)
        )

    def iteration() -> None:
        obs, _ = env.reset()
        kept: list[tuple[Any, ...]] = []
        for _ in range(rounds):
            with torch.no_grad():
                log_p, value = heads(obs)
                # Gumbel's trick, all of it on the device: torch.multinomial may look at its sums
                # from the host.
                parts = [(x - torch.empty_like(x).exponential_().log()).argmax(-1) for x in log_p]
                taken = chosen(log_p, parts)
            seen = obs
            obs, reward, _, _, _ = env.step(torch.stack(parts, dim=-1))
            kept.append((seen, parts, taken, value, reward.float()))
        seen, old, reward = (torch.stack([step[j] for step in kept]) for j in (0, 2, 4))
        parts = [torch.stack([step[1][j] for step in kept]) for j in range(len(grid))]
        value = torch.stack([step[3] for step in kept])
        advantage = reward - value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(2):
            log_p, value = heads(seen)
            ratio = (chosen(log_p, parts) - old).exp()
            loss = (
                -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
                + 0.5 * (value - reward).square().mean()
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return iteration, n * size * rounds
