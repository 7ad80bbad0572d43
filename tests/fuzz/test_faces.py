"""Environments under what must be refused, and for a long time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import ttc_env
from tests.envs.test_refused_steps import RefusedSteps
from tests.fuzz import tally

pytestmark = pytest.mark.slow


def test_refusals():
    class Counted(RefusedSteps):
        refusals = 0

        def same(self, what):
            Counted.refusals += 1
            super().same(what)

    what = "a step or reset that must be refused: nothing has changed (all faces and options)"
    with tally("refusals", what, 2_000) as found:
        run_state_machine_as_test(
            Counted,
            settings=settings(
                max_examples=500,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        found.inputs = found.refused = Counted.refusals


def test_steps_need_no_memory():
    """Episode after episode; the process has to be no larger at the end than near the start."""
    env = ttc_env.parallel_env(prices="fixed")
    rng = np.random.default_rng(0)
    actions = [
        dict(zip(env.possible_agents, row.tolist(), strict=True))
        for row in rng.integers(6, size=(1000, 9))
    ]
    with tally("steps", "a step of the PettingZoo environment; memory stays flat", 5_000_000) as f:
        start = 0
        for k in range(50_000):
            env.reset()
            for action in actions[k % 10 * 100 :][:100]:
                infos = env.step(action)[-1]
            if k % 100 == 0:
                assert infos["provider_0"]["nash_conv"] >= 0.0
            f.inputs += 100
            if k == 2_000:
                start = resident()
        grown = resident() - start
        if grown > 4 << 20:
            f.failures.append(f"{grown} bytes more than after 200,000 steps")


def resident() -> int:
    """Bytes of memory of this process."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is read from /proc")
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) << 10
