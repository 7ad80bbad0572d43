"""What a training run is: its settings, and what they come to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ttc_env
from baselines.plan import Plan, TrainConfig


def test_every_option_of_the_market_reaches_the_environment() -> None:
    config = TrainConfig(
        mechanism="auction",
        prices="0,0.5",
        misreport="over_claim=0.8/1.2",
        settlement="claimed",
        providers="Qwen2-7B, Llama-3-8B",
        alpha=0.02,
        baseline=0.2,
        quality_function="power",
        outside_value=0.001,
        margin=0.5,
        users=10,
        options="beta=50",
    ).environment()
    assert config.grid == (6, 2, 3)
    assert config.mechanism.rule.settlement == "claimed"
    market = config.market
    assert market.names == ("Qwen2-7B", "Llama-3-8B")
    assert (market.alpha, market.baseline, market.outside_value) == (0.02, 0.2, 0.001)
    assert (market.beta, config.users) == (50.0, 10)
    np.testing.assert_allclose(market.cost * 1.5, market.price)


def test_a_market_has_its_own_beta() -> None:
    for benchmark in ("gsm8k", "arc_agi_2"):
        plan = Plan.of(TrainConfig(benchmark=benchmark, learner="hedge"))
        assert plan.environment.market.beta == ttc_env.load_market(benchmark).beta


@pytest.mark.parametrize(
    "options, error",
    [
        ({"seeds": "0..1000000000000"}, "at most 100,000 seeds"),
        ({"evaluations": 10**12}, "evaluations is 1000000000000; choose from 1 to 100,000"),
        ({"parallel": 10**12}, "parallel is 1000000000000; choose from 1 to 100,000"),
        ({"market": "a.csv", "benchmark": "aime"}, "give one of them"),
    ],
)
def test_settings_that_no_run_can_have_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Plan.of(TrainConfig(**options))
