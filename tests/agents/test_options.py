"""Options of learners: out of range they are refused where the learner is made, and those that are
taken play.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from agents import AGENTS, NEED_SB3, NEED_TORCH, Arena, agent_class, make_agents, parse_learners
from agents.checks import fraction, not_negative, one_of, parts_of, positive, whole
from ttc_env.envs.config import make_config

CONFIG = make_config(
    "market", "gsm8k", prices="grid", infos="basic", providers=["Qwen2-7B", "Qwen2.5-3B"]
)
STRANGE = (-1, -0.5, 0, 1, 1.5, 5, math.nan, math.inf, -math.inf, "much", True)
NO_SENSE = (-1, math.nan, -math.inf, "much")
"""What no number among the learners' options may be."""


def numeric(name: str) -> list[str]:
    """The options of a learner that are numbers; of Stable-Baselines3's, those that are checked."""
    options = agent_class(name).options()
    found = [
        option
        for option, kind in options.items()
        if {int, float} & {kind, *get_args(kind)} and (name, option) != ("constant", "level")
    ]
    if name not in NEED_SB3:
        return found
    from agents.sb3 import RANGES

    return [option for option in found if option in RANGES]


def made(name: str, **options: object) -> Arena:
    agents = make_agents(CONFIG, dict.fromkeys(range(2), (name, options)), seeds=[0], horizon=6)
    return Arena(CONFIG, agents, [0])


@pytest.mark.parametrize("name", AGENTS)
def test_numbers_without_sense_are_refused_when_a_learner_is_made(name: str) -> None:
    if name in NEED_TORCH:
        pytest.importorskip("stable_baselines3" if name in NEED_SB3 else "torch")
    for option in numeric(name):
        for value in NO_SENSE:
            with pytest.raises((ValueError, TypeError), match=f"{option} is {value!r}; it must be"):
                made(name, **{option: value})


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in NEED_SB3])
def test_what_is_taken_plays(name: str) -> None:
    if name in NEED_TORCH:
        pytest.importorskip("torch")
    for option in numeric(name):
        for value in STRANGE:
            try:
                arena = made(name, **{option: value})
            except (ValueError, TypeError):
                continue
            for _ in range(6):
                arena.step()
            assert np.allclose(arena.strategies().sum(axis=1), 1.0), (option, value)


@pytest.mark.parametrize(
    "learner, message",
    [
        ("ppo_torch:minibatches=0", "minibatches is 0; it must be a whole number >= 1"),
        ("ppo_torch:rate=-1", "ppo_torch: rate is -1; it must be a finite number > 0"),
        ("ppo_torch:epochs=-1", "epochs is -1"),
        ("ppo_torch:hidden=0", "hidden is 0"),
        ("ppo_torch:discount=3", "discount is 3; it must be a number from 0 to 1"),
        ("ppo_torch:steps=0", "steps is 0"),
        ("ppo_torch:steps=5", "minibatches is 4, and one of so many parts of 5 samples"),
        ("ppo_torch:clip=-1", "clip is -1"),
        ("mappo:discount=nan", "mappo: discount is nan"),
        ("ppo:gamma=5", "ppo: gamma is 5; it must be a number from 0 to 1"),
        ("a2c:n_steps=1", "takes two samples"),
        ("dqn:buffer_size=-1", "dqn: buffer_size is -1; it must be a whole number >= 1"),
        ("hedge:scale=-1", "hedge: scale is -1; it must be a finite number > 0"),
        ("hedge:scale=nan", "hedge: scale is nan"),
        ("hedge:scale=much", "scale is 'much'; it must be a number"),
        ("q_learning:discount=1.5", "q_learning: discount is 1.5"),
        ("epsilon_greedy:final_exploration=5", "final_exploration is 5"),
        ("shaded:steps=-1", "shaded: steps is -1; it must be a whole number >= 0"),
        ("replicator:step=0.5", "it must be below 0.5"),
        ("logit_response:temperature=1e-9", "temperatures must fall"),
        ("double_oracle:oracle_markets=0", "oracle_markets is 0"),
        ("best_response:order=never", "order is 'never'; choose 'turns' or 'random' or 'all'"),
    ],
)
def test_messages_name_option_value_and_what_is_allowed(learner: str, message: str) -> None:
    name = learner.partition(":")[0]
    if name in NEED_TORCH:
        pytest.importorskip("stable_baselines3" if name in NEED_SB3 else "torch")
    with pytest.raises((ValueError, TypeError)) as refused:
        make_agents(CONFIG, learner, seeds=[0], horizon=6)
    assert message in str(refused.value)


def test_settings_of_the_policy_for_every_market_are_checked() -> None:
    pytest.importorskip("torch")
    from agents.one_policy import Settings

    for option, value in {
        "copies": 1, "rounds": 0, "rate": math.nan, "entropy": -1, "clip": 0, "hidden": 2.5,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"{option} is {value!r}; it must be"):
            Settings(**{option: value})


def test_options_of_continuous_ppo_are_checked() -> None:
    pytest.importorskip("torch")
    from agents.ppo_continuous import ContinuousPPO

    config = make_config("market", "gsm8k", prices="grid", actions="continuous", infos="basic")
    for option, value in {
        "markets": 0, "horizon": 2.5, "steps": 0, "epochs": -1, "minibatches": 0, "clip": -1,
        "rate": math.inf, "discount": 1.5, "entropy": math.nan, "hidden": 0,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"{option} is {value!r}; it must be"):
            ContinuousPPO(config, **{option: value})
    with pytest.raises(ValueError, match="fewer parts"):
        ContinuousPPO(config, 1, steps=2)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "hedge,best_response",
            "rest has two learners, 'hedge' and 'best_response'; write who plays which, as"
            " provider_0=hedge,rest=best_response",
        ),
        (
            "provider_0=ucb,provider_0=hedge,rest=ucb",
            "provider_0 has two learners, 'ucb' and 'hedge'; write one of them",
        ),
        ("rest=ucb,provider_1=hedge,ucb", "rest has two learners, 'ucb' and 'ucb'"),
        ("ucb:width=1:width=2", "gives width twice"),
    ],
)
def test_contradictory_learners_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_learners(text, 3)
    assert message in str(refused.value)


def test_learners_of_some_and_of_the_rest() -> None:
    chosen = parse_learners("provider_1=ucb:width=0.5,hedge", 3)
    assert chosen == {0: ("hedge", {}), 1: ("ucb", {"width": 0.5}), 2: ("hedge", {})}


def test_checks_return_what_they_were_given() -> None:
    assert positive("x", 3) == 3.0
    assert positive("x", math.inf, endless=True) == math.inf
    assert not_negative("x", 0) == 0.0
    assert [fraction("x", x) for x in (0, 1, np.float32(0.5))] == [0.0, 1.0, 0.5]
    assert whole("x", np.int64(4)) == 4
    assert one_of("x", "b", ("a", "b")) == "b"
    for value in (None, 2.0, True, "3", np.timedelta64(3)):
        with pytest.raises(ValueError, match=r"x is .* whole number >= 1"):
            whole("x", value)
    for check in (positive, not_negative, fraction):
        for value in (None, True, 1j, "3", [1], 10**400):
            with pytest.raises(ValueError, match="x is"):
                check("x", value)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7])
def test_parts_have_two_samples_each_as_torch_splits_them(parts: int) -> None:
    torch = pytest.importorskip("torch")
    for samples in range(1, 40):
        if min(map(len, torch.arange(samples).chunk(parts))) < 2:
            with pytest.raises(ValueError, match=f"of {samples} samples"):
                parts_of("minibatches", parts, samples)
        else:
            assert parts_of("minibatches", parts, samples) == parts
