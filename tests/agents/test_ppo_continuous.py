"""Continuous PPO is scored exactly, goes on exactly, and comes to the continuous equilibrium."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.ppo_continuous import ContinuousPPO, score  # noqa: E402
from ttc_env.envs.config import EnvConfig, make_config  # noqa: E402
from ttc_env.game.continuous import ContinuousSolution  # noqa: E402

SMALL = ["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"]


def environment(mechanism: str, **options: object) -> EnvConfig:
    options = {"actions": "continuous", "prices": "grid", "infos": "basic", **options}
    return make_config(mechanism, "gsm8k", "majority", **options)


def box(config: EnvConfig, level: np.ndarray, multiple: np.ndarray) -> np.ndarray:
    """Environment actions `[n, 1, 2]` of levels and of multiples of the list price (bids: of the
    cost).
    """
    tariff = config.mechanism.tariff
    low, high = (np.log(tariff.multiple(tariff.choices[k])) for k in (0, -1))
    at = 2.0 * (np.log(multiple) - low) / (high - low) - 1.0
    return np.stack([2.0 * (level + 0.5) / config.level_counts - 1.0, at], axis=1)[:, None]


def test_the_exact_equilibrium_has_no_regret() -> None:
    config = environment("market", providers=SMALL)
    solution = config.solve()
    assert isinstance(solution, ContinuousSolution)
    rows = np.arange(len(SMALL))
    level = solution.lowest_levels
    multiple = solution.lowest.price / config.market.price[rows, level]
    row = score(config, box(config, level, multiple))
    assert row["relative_regret"] < 1e-9
    assert row["nash_conv"] < 1e-9 * row["welfare"]
    assert row["levels_exact"] == 1.0
    assert row["welfare_to_equilibrium"] == pytest.approx(1.0, rel=1e-9)
    higher = score(config, box(config, level, 1.2 * multiple))
    assert higher["relative_regret"] > 0.01


def test_truthful_bids_have_no_regret() -> None:
    config = environment("auction")
    level = np.nanargmax(config.market.quality - config.market.cost, axis=1)
    row = score(config, box(config, level, np.ones(len(level))))
    assert row["nash_conv"] < 1e-9 * row["welfare"]
    assert row["levels_exact"] == 1.0
    assert row["welfare_ratio"] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("distribution", ["beta", "gaussian"])
def test_goes_on_exactly(distribution: str) -> None:
    config = environment("market", providers=SMALL, max_cycles=5)

    def learner() -> ContinuousPPO:
        return ContinuousPPO(
            config, 4, 3, horizon=20, steps=4, hidden=8, discount=0.5, entropy=0.01,
            distribution=distribution,
        )  # fmt: skip

    whole, half, rest = learner(), learner(), learner()
    whole.train(13)
    half.train(6)
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    rest.train(7)
    np.testing.assert_array_equal(rest.play(), whole.play())
    assert torch.equal(rest.networks.optimiser.values, whole.networks.optimiser.values)
    other = ContinuousPPO(config, 4, 4, horizon=20, steps=4, hidden=8)
    assert not np.array_equal(other.play(), learner().play())


def test_draws_stay_in_the_box_and_reach_its_ends() -> None:
    learner = ContinuousPPO(environment("market", providers=SMALL), 256, 0)
    with torch.no_grad():
        policy = learner._policy(torch.as_tensor(learner.seen))
        drawn = learner._on_box(learner._sample(policy))
    assert np.abs(drawn).max() <= 1.0
    assert drawn.min() < -0.8
    assert drawn.max() > 0.8


def test_other_actions_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="actions='continuous'"):
        ContinuousPPO(environment("market", actions="discrete"))
    with pytest.raises(ValueError, match="choose 'beta' or 'gaussian'"):
        ContinuousPPO(environment("market"), distribution="uniform")
    with pytest.raises(ValueError, match="markets is 0"):
        ContinuousPPO(environment("market"), markets=0)


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["beta", "gaussian"])
def test_comes_to_the_equilibrium_of_a_small_market(distribution: str) -> None:
    config = environment("market", providers=SMALL)
    learner = ContinuousPPO(config, 64, 0, horizon=600, distribution=distribution)
    before = score(config, learner.play())
    learner.train(600)
    row = score(config, learner.play())
    assert before["relative_regret"] > 0.2
    assert row["relative_regret"] <= 0.03
    assert row["welfare_to_equilibrium"] == pytest.approx(1.0, abs=0.02)
