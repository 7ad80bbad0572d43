"""Speed as ratios, each measured in one process with its yardstick run in turn: `python -m
scripts.benchmark_speed [--quick] [--json FILE]`.

CPU time of this process, in which torch is held to one thread and nothing else takes more, so that
other work on the machine distorts little; medians over pairs, and the quartiles as spread.
BENCHMARKS.md explains the rows. `--device cuda` measures the torch backend on a GPU instead; see
`scripts/benchmark_device.py`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import ttc_env
from baselines.records import write_json
from baselines.speed_floors import (
    Idle,
    brute_force_equilibria,
    brute_force_optimum,
    compile_c_loop,
    joint_actions,
)
from scripts.benchmark_growth import growth_rows
from scripts.benchmark_scaling import BACKENDS, random_game, scaling
from scripts.benchmark_table import met
from scripts.benchmark_training import training_rows
from ttc_env.game.curves import BENCHMARKS, METHODS
from ttc_env.game.equilibrium import equilibria
from ttc_env.game.optimum import social_optimum
from ttc_env.game.replies import best_reply
from ttc_env.game.sweep import sweep
from ttc_env.game.types import PostedPriceGame

Row = dict[str, Any]


class Bench:
    """Collects rows, and keeps the file of them whole after each."""

    def __init__(self, quick: bool, path: Path | None = None, about: dict[str, str] | None = None):
        self.quick, self.path, self.about, self.rows = quick, path, about or {}, []
        # pairs per row, seconds per half of a pair
        self.pairs, self.budget = (9, 0.03) if quick else (31, 0.1)

    def add(
        self,
        name: str,
        ratio: float | None,
        target: float | None,
        better: str = "lower",
        spread: Any = None,
        note: str = "",
    ) -> None:
        row = {
            "name": name,
            "ratio": ratio,
            "target": target,
            "better": better,
            "spread": spread,
            "note": note,
        }
        self.rows.append(row)
        verdict = {True: "ok", False: "MISSED", None: ""}[met(row)]
        shown = "not measured" if ratio is None else f"{ratio:.3g}"
        print(
            f"{name:<58}{shown:>14}  target {target if target is not None else '-':>8} "
            f" {verdict:<7}{note}",
            flush=True,
        )
        if self.path is not None:
            command = "python -m scripts.benchmark_speed " + " ".join(sys.argv[1:])
            write_json(self.path, {"machine": self.about, "command": command, "rows": self.rows})

    def pair(
        self,
        name: str,
        ours: Callable[[], Any],
        theirs: Callable[[], Any],
        target: float | None,
        note: str = "",
    ) -> None:
        """Median of ours / theirs, in CPU time per call; who goes first alternates."""
        both = ours, theirs
        counts = [_calls(f, self.budget) for f in both]
        ratios = []
        for k in range(self.pairs):
            spent = [0.0, 0.0]
            for which in (0, 1) if k % 2 else (1, 0):
                spent[which] = _time(both[which], counts[which])
            ratios.append(spent[0] / spent[1])
        low, middle, high = (float(x) for x in np.percentile(ratios, [25, 50, 75]))
        self.add(name, middle, target, spread=[low, high], note=note)

    def against(
        self,
        name: str,
        ours: Callable[[], Any],
        reference: float,
        target: float | None,
        *,
        better: str = "lower",
    ) -> None:
        """Median of CPU time per call over `reference` seconds; or, where higher is better, its
        inverse.
        """
        count = _calls(ours, self.budget / 10)
        spent = [_time(ours, count) / reference for _ in range(3 if self.quick else 9)]
        quartiles = np.percentile(
            spent if better == "lower" else 1.0 / np.array(spent), [25, 50, 75]
        )
        low, middle, high = (float(x) for x in quartiles)
        self.add(name, middle, target, better, spread=[low, high])

    def seconds(self, f: Callable[[], Any]) -> float:
        return float(np.median([_time(f, 1) for _ in range(3 if self.quick else 9)]))


def _time(f: Callable[[], Any], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        f()
    return (time.process_time() - start) / count


def _calls(f: Callable[[], Any], budget: float) -> int:
    f()
    return max(1, int(budget / max(_time(f, 3), 1e-7)))


def stepper(env: Any, reset: bool = True) -> Callable[[], Any]:
    """A function that plays one round of an endless episode."""
    if reset:
        env.reset(seed=0)
    actions = joint_actions(env, 50)
    return lambda: env.step(next(actions))


def pettingzoo_rows(bench: Bench) -> None:
    endless = {"max_cycles": 10**9}
    for label, options in (
        ("market", {}),
        ("market, fixed prices", {"prices": "fixed"}),
        ("market, beta V in the thousands", {"benchmark": "aime", "beta": 1e5}),
        ("auction", {"mechanism": "auction"}),
    ):
        env = ttc_env.parallel_env(infos="basic", **options, **endless)
        first = env.possible_agents[0]
        idle = Idle(env.possible_agents, env.observation_space(first), env.action_space(first))
        name = f"PettingZoo step over an idle env, 9 agents: {label}"
        bench.pair(name, stepper(env), stepper(idle), 2.6)
    basic, full = (
        stepper(ttc_env.parallel_env(infos=infos, **endless)) for infos in ("basic", "full")
    )
    bench.pair(
        "the same with default infos, over infos='basic'", full, basic, 2.0, "infos not read"
    )
    for which, read in (
        ("one agent's", lambda: dict(full()[4]["provider_0"])),
        ("all agents'", lambda: list(map(dict, full()[4].values()))),
    ):
        bench.pair(
            f"the same with {which} infos read",
            read,
            basic,
            None,
            "exact regrets against 54 actions each",
        )
    others: list[tuple[str, int, Callable[[], Any], float]] = [
        ("PettingZoo's rps", 2, _rps, 0.1),
        ("mpe2's simple_spread", 3, _spread, 0.02),
    ]
    for label, count, make, target in others:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = _restarting(make())
        except ImportError as error:
            bench.add(f"PettingZoo step over {label}", None, target, note=str(error))
            continue
        names = ttc_env.load_market().names[:count]
        ours = ttc_env.parallel_env(providers=names, infos="basic", **endless)
        name = f"PettingZoo step over {label}, {count} agents"
        bench.pair(name, stepper(ours), theirs, target)


def _rps() -> Any:
    from pettingzoo.classic import rps_v2

    return rps_v2.parallel_env(max_cycles=10**6)


def _spread() -> Any:
    from mpe2 import simple_spread_v3

    return simple_spread_v3.parallel_env(max_cycles=10**6)


def _restarting(env: Any) -> Callable[[], Any]:
    env.reset(seed=0)
    actions = joint_actions(env, 50)

    def step() -> None:
        if not env.agents:
            env.reset()
        env.step(next(actions))

    return step


def batch_rows(bench: Bench) -> None:
    for size in (1024, 65536):
        for backend, how in BACKENDS:
            env = ttc_env.vector_env(size, copy=False, max_cycles=10**9, backend=backend)
            env.reset(seed=0)
            env.action_space.seed(0)
            actions = np.ascontiguousarray(env.action_space.sample().transpose(2, 1, 0)).transpose(
                2, 1, 0
            )  # columns in memory: read fastest
            _batch(bench, env, actions, 1.35 if how else 5.5, how)
            if size == 1024 and not how:
                _batch_yardsticks(bench, env, actions)


def _batch_yardsticks(bench: Bench, env: Any, actions: np.ndarray) -> None:
    full = ttc_env.vector_env(env.num_envs, copy=False, max_cycles=10**9, observations="full")
    full.reset(seed=0)
    name = f"step with [num_envs, n, d] written out over the round alone, {env.num_envs} envs"
    bench.pair(name, lambda: full.step(actions), lambda: env.rewards(actions), None)
    cart = gymnasium.make_vec(
        "CartPole-v1", num_envs=env.num_envs, vectorization_mode="vector_entry_point"
    )
    cart.reset(seed=0)
    push = cart.action_space.sample()
    bench.pair(
        "batched step, 9 agents, over Gymnasium's vectorised CartPole",
        lambda: env.step(actions),
        lambda: cart.step(push),
        None,
    )
    _torch(bench, env, actions)


def _batch(bench: Bench, env: Any, actions: np.ndarray, target: float, how: str) -> None:
    """The round alone over the same in C, and the step over the round."""
    size, n = env.num_envs, env.num_agents
    loop = compile_c_loop()
    if loop is None:
        bench.add(
            f"batched round over a C loop, {size} envs{how}",
            None,
            target,
            note="no C compiler found",
        )
    else:
        columns, prices = actions.transpose(2, 1, 0), env.config.grid[1]
        numbers = env.tables.numbers
        share, reward = np.empty((n, size)), np.empty((n, size))

        def c_loop() -> None:
            loop(columns, numbers["attraction"], numbers["gain"], share, reward, prices)

        c_loop()
        np.testing.assert_array_equal(env.rewards(actions).T, reward)  # the same bits
        env.check_actions = False  # as the loop
        bench.pair(
            f"batched round over a C loop, {size} envs{how}",
            lambda: env.rewards(actions),
            c_loop,
            target,
        )
        env.check_actions = True
    name = f"step with observation blocks over the round alone, {size} envs{how}"
    bench.pair(name, lambda: env.step(actions), lambda: env.rewards(actions), 2.0)


def _torch(bench: Bench, env: Any, actions: np.ndarray) -> None:
    size = env.num_envs
    name = f"torch (eager, CPU) step over NumPy's, {size} envs"
    try:
        import torch
    except ImportError:
        bench.add(name, None, None, note="torch is not installed")
        return
    torch.set_num_threads(1)
    tensor = torch.as_tensor(actions)

    def stepping(compile: bool) -> Callable[[], Any]:
        other = ttc_env.vector_env(
            size, backend="torch", compile=compile, max_cycles=10**9, copy=False
        )
        other.reset(seed=0)
        return lambda: other.step(tensor)

    eager = stepping(False)
    bench.pair(name, eager, lambda: env.step(actions), None)
    name = f"torch's compiled step over its eager one (CPU), {size} envs"
    if bench.quick or shutil.which("c++") is None:
        bench.add(
            name, None, None, note="left out: --quick" if bench.quick else "no C++ compiler found"
        )
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench.pair(name, stepping(True), eager, None)


def sb3_rows(bench: Bench, games: int = 64) -> None:
    """The same games, of 9 providers each, as environments of Stable-Baselines3: this package's
    against SuperSuit's, and against the batch that it is made of.
    """
    options: dict[str, Any] = {"prices": "fixed", "max_cycles": 10**9}
    name = f"Stable-Baselines3's VecEnv step over {{}}, {games} games"
    names = name.format("vector_env's"), name.format("SuperSuit's")
    try:
        from ttc_env.envs.sb3 import shared_vec_env
    except ImportError:
        for one in names:
            bench.add(one, None, None, note="stable-baselines3 is not installed")
        return
    ours = shared_vec_env(games, **options)
    ours.reset()
    ours.action_space.seed(0)
    actions = np.array([ours.action_space.sample() for _ in range(ours.num_envs)])
    batch = ttc_env.vector_env(games, copy=False, observations="full", **options)
    batch.reset(seed=0)
    joint = actions.reshape(games, -1)
    bench.pair(names[0], lambda: ours.step(actions), lambda: batch.step(joint), None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import supersuit
    except ImportError:
        bench.add(names[1], None, None, note="supersuit is not installed")
        return
    env = supersuit.pettingzoo_env_to_vec_env_v1(ttc_env.parallel_env(infos="basic", **options))
    theirs = supersuit.concat_vec_envs_v1(env, games, base_class="stable_baselines3")
    theirs.reset()
    np.testing.assert_array_equal(theirs.step(actions)[1], ours.step(actions)[1])
    bench.pair(names[1], lambda: ours.step(actions), lambda: theirs.step(actions), None)


def solver_rows(bench: Bench) -> None:
    market = ttc_env.load_market("gsm8k", beta=1000.0)
    full = PostedPriceGame.from_market(market)
    # Brute force grows by a factor of m per provider: six providers are timed, and in a full run
    # all nine.
    n = 6 if bench.quick else 9
    game = PostedPriceGame(full.value[:n], full.profit[:n], full.surplus[:n], full.beta)
    grow = 6 ** (9 - n)
    note = "" if n == 9 else " (brute force timed at 6 providers, times 6^3)"
    for name, ours, theirs, target in (
        (
            "social optimum, 9x6: brute force over ours",
            lambda g: social_optimum(g).profile,
            lambda g: brute_force_optimum(g)[0],
            1e4,
        ),
        (
            "all pure equilibria, 9x6: enumeration over ours",
            lambda g: equilibria(g).profiles,
            brute_force_equilibria,
            3e4,
        ),
    ):
        np.testing.assert_array_equal(ours(game), theirs(game))
        brute = _time(lambda theirs=theirs: theirs(game), 1) * grow
        bench.against(name + note, lambda ours=ours: ours(full), brute, target, better="higher")
    betas = np.logspace(0, 6, 100)
    bench.against("100-beta sweep of one game, over 50 ms", lambda: sweep(market, betas), 0.05, 1.0)
    nine = [ttc_env.load_market(b, m) for b in BENCHMARKS for m in METHODS]
    bench.against(
        "100-beta sweep of all nine games in one call, over 450 ms",
        lambda: sweep(nine, betas),
        0.45,
        1.0,
    )
    bench.pair(
        "the sweep of one game, over solving its 100 markets one by one",
        lambda: sweep(market, betas),
        lambda: [ttc_env.solve(market.replace(beta=b)).price_of_anarchy for b in betas],
        None,
    )
    prototypes = [
        (1_000, 0.003, 0.003, 0.010),
        *([] if bench.quick else [(100_000, 0.4, 0.4, 2.0)]),
    ]
    for n, *proto in prototypes:
        big = random_game(n, 64)
        rivals = np.full(n, np.log(n))
        solvers = (
            ("optimum", social_optimum),
            ("best response", lambda g, r=rivals: best_reply(g, r)),
            ("all equilibria", equilibria),
        )
        for (name, solver), reference in zip(solvers, proto, strict=True):
            name = f"{n} providers x 64 levels: {name}, over {reference * 1e3:g} ms"
            bench.against(name, lambda solver=solver, big=big: solver(big), reference, 3.0)


def machine() -> dict[str, str]:
    """What the numbers were measured on, in general terms."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next(
            (
                line.split(":")[1].strip()
                for line in cpuinfo.read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "ttc_env": ttc_env.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--figure", type=Path, help="write the scaling plots here")
    parser.add_argument(
        "--device", default="cpu", help="cpu (default), or a torch device such as cuda"
    )
    options = parser.parse_args()
    about = machine()
    print("  ".join(f"{key} {value}" for key, value in about.items()))
    bench = Bench(options.quick, options.json, about)
    if options.device != "cpu":
        from scripts.benchmark_device import device_rows

        device_rows(bench, options.device)
        return
    if len(BACKENDS) == 1:
        bench.add(
            "compiled rows", None, None, note="numba is not installed: pip install 'ttc-env[fast]'"
        )
    pettingzoo_rows(bench)
    batch_rows(bench)
    sb3_rows(bench)
    solver_rows(bench)
    training_rows(bench)
    growth_rows(bench)
    scaling(bench, options.figure)
    bench.add(
        "env steps/s on a GPU (--device cuda)",
        None,
        None,
        better="higher",
        note="not measured: no GPU on this machine",
    )


if __name__ == "__main__":
    main()
