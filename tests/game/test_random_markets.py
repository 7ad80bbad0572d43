"""random_markets: what it refuses, and that it grows well."""

import numpy as np
import pytest

import ttc_env
from ttc_env.game.types import QualityFunction


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"margin": -0.5}, "margin is -0.5"),
        ({"margin": np.nan}, "margin is nan"),
        ({"outside_value": np.inf}, "outside_value is inf"),
        ({"outside_value": "0"}, "outside_value is '0'"),
        ({"num_providers": 0}, "num_providers is 0"),
        ({"num_providers": 2.5}, "whole number"),
        ({"num_providers": True}, "whole number"),
        ({"spread": -1}, "spread is -1"),
        ({"spread": np.inf}, "spread is inf"),
        ({"baseline": 1.5}, "baseline is 1.5"),
        ({"alpha": -1.0}, "alpha is -1"),
        ({"alpha": (0.0, 1.0)}, "0 < low <= high"),
        ({"beta": (1.0, np.inf)}, "range of beta is inf"),
        ({"beta": np.nan}, "beta is nan"),
        ({"beta": [1.0, 2.0, 3.0]}, r"beta has shape \(3,\)"),
        ({"beta": "1000"}, "beta is an array of"),
        ({"beta": -1.0}, "beta must be"),
        ({"quality_function": "power"}, "ttc_env.QualityFunction"),
    ],
)
def test_bad_options_are_refused_with_the_remedy(options, words):
    with pytest.raises(ValueError, match=words):
        ttc_env.random_markets(2, seed=0, **options)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0", np.nan, ()])
def test_seeds_are_checked(seed):
    with pytest.raises(ValueError, match="seed is"):
        ttc_env.random_markets(2, seed=seed)


def test_counts_are_checked():
    for count in (0, -1, 2.0, True, "3"):
        with pytest.raises(ValueError, match="count is"):
            ttc_env.random_markets(count)


def test_margin_and_quality_function_are_worked_through():
    plain = ttc_env.random_markets(3, seed=0, margin=0.0)
    np.testing.assert_array_equal(plain.cost, plain.price)
    power = ttc_env.random_markets(3, seed=0, quality_function=QualityFunction("power", 2.0))
    np.testing.assert_allclose(power.quality, 0.008 * (0.1 + 0.9 * plain.accuracy**2))


def test_a_hundred_thousand_markets_are_one_pass_over_arrays():
    batch = ttc_env.random_markets(100_000, "aime", "reasoning", num_providers=2, seed=0)
    assert len(batch) == 100_000
    few = ttc_env.random_markets(1, "aime", "reasoning", num_providers=2, seed=0)
    np.testing.assert_allclose(few.quality[:, :, 0], batch.quality[:, :, 0], rtol=1e-12)
