"""Agents in the arena play the PettingZoo environment's game, and are told what it tells."""

from __future__ import annotations

import numpy as np
import pytest

import ttc_env
from agents import Agent, Arena, Payoffs, Role, make_agents, make_role, parse_learners
from agents.arena import NotFinite
from agents.base import best, sample
from ttc_env.envs.config import make_config
from ttc_env.game.regret import compare


class Scripted(Agent):
    """Plays what it is given, and keeps what it is told."""

    name = "scripted"
    needs_observation = True
    sees_rivals = True
    feedback = "full"

    def __init__(self, role: Role, actions: np.ndarray):
        super().__init__(role)
        self.actions, self.seen, self.told = actions, [], []

    def act(self, observation=None):
        self.seen.append(observation)
        return self.actions[len(self.seen) - 1]

    def update(self) -> None:
        self.told.append(self.last)

    def strategy(self):
        return self.role.uniform()


def scripted(config, seeds, rounds: int):
    """An arena of one scripted agent for all providers, and its actions `[rounds, n, seeds]`."""
    n, a = config.table.quality.shape
    actions = np.random.default_rng(0).integers(0, a, size=(rounds, n, len(seeds)))
    agent = Scripted(make_role(config, range(n), seeds, rounds), actions)
    return Arena(config, [agent], seeds), agent


@pytest.mark.parametrize("information", ["full", "prices"])
@pytest.mark.parametrize("demand", ["expected", "sampled"])
@pytest.mark.parametrize(
    "mechanism, prices", [("market", "fixed"), ("market", "grid"), ("auction", "grid")]
)
def test_agents_are_told_what_the_environment_tells(
    mechanism: str, prices: str, demand: str, information: str
) -> None:
    config = make_config(
        mechanism, "aime", prices=prices, demand=demand, information=information, max_cycles=2
    )
    arena, agent = scripted(config, [4, 0, 9], 3)
    for _ in range(3):
        arena.step()
    for k, seed in enumerate((4, 0, 9)):
        env = ttc_env.parallel_env(
            mechanism, "aime", prices=prices, demand=demand, information=information, max_cycles=2
        )
        seen, _ = env.reset(seed=int(np.random.SeedSequence([seed, 9, 2]).generate_state(1)[0]))
        for t in range(3):
            np.testing.assert_array_equal(agent.seen[t][:, k], np.stack(list(seen.values())))
            parts = np.stack(np.unravel_index(agent.actions[t, :, k], config.grid), axis=1)
            joint = parts if len(config.grid) > 1 else parts[:, 0]
            seen, earned, _, over, _ = env.step(dict(zip(env.agents, joint, strict=True)))
            told = agent.told[t]
            assert told.reward[:, k].tolist() == list(earned.values())
            np.testing.assert_array_equal(told.observation[:, k], np.stack(list(seen.values())))
            assert told.over == any(over.values())
            if told.over:
                seen, _ = env.reset()
                np.testing.assert_array_equal(
                    told.first_observation[:, k], np.stack(list(seen.values()))
                )
    assert [told.over for told in agent.told] == [False, True, False]


def test_payoffs_are_the_deviations_under_each_seed() -> None:
    config = make_config("market", "gpqa", "best_of_n", beta=1e5, prices="fixed")
    arena, agent = scripted(config, [0, 1], 1)
    arena.step()
    payoffs = agent.told[0].payoffs
    for k in range(2):
        profit, log_share = config.mechanism.deviations(
            config.table, config.table.take(agent.actions[0, :, k]), config.market
        )
        np.testing.assert_allclose(payoffs.profit[:, :, k], profit, rtol=1e-14)
        np.testing.assert_allclose(payoffs.log_share[:, :, k], log_share, rtol=1e-12)


def test_loss_is_the_relative_regret_of_each_action() -> None:
    rng = np.random.default_rng(2)
    profit, log_share = rng.normal(size=(4, 6, 1)), np.log(rng.random((4, 6, 1)))
    profit[3] = -np.abs(profit[3])
    profit[3, 2] = 0.0
    loss = Payoffs(profit, log_share).loss()[:, :, 0]
    for action in range(6):
        _, _, relative = compare(
            profit[:, :, 0], log_share[:, :, 0], profit[:, action, 0], log_share[:, action, 0]
        )
        np.testing.assert_allclose(
            loss[:, action], np.minimum(relative, 2.0), rtol=1e-12, atol=1e-15
        )


def test_what_a_seed_draws_depends_on_itself_alone() -> None:
    config = make_config("market", "gsm8k", prices="fixed", demand="sampled")
    arena, _ = scripted(config, [0, 1], 1)
    actions = np.full((9, 2), 3)
    alone, _ = scripted(config, [1], 1)
    for _ in range(3):
        np.testing.assert_array_equal(arena.play(actions)[0][:, 1:], alone.play(actions[:, 1:])[0])


def test_not_a_number_names_step_provider_and_market() -> None:
    config = make_config("market", "gsm8k", "majority", prices="fixed")
    arena, _ = scripted(config, [7], 1)
    arena.env.tables.numbers["gain"][4] = np.nan  # which the rounds' flat table shares
    with pytest.raises(
        NotFinite,
        match=(
            r"round 1 for provider_4 .*seed 7, market gsm8k majority, mechanism market, beta 1000"
        ),
    ):
        arena.step()


def test_inversion_never_picks_what_has_no_weight() -> None:
    strategy = np.array([[0.0, 0.5, 0.5, 0.0]])[:, :, None]
    for u in (0.0, 0.25, 0.5, 1.0 - 2**-53):
        assert sample(strategy, np.array([[u]]))[0, 0] in (1, 2)
    assert best(np.array([[[1.0], [3.0], [3.0]]]), np.array([[0.9]]))[0, 0] == 2


def test_learner_text() -> None:
    chosen = parse_learners(
        "provider_0=constant:level=16, rest=best_response:order=random:tolerance=1e-6", 3
    )
    assert chosen == {
        0: ("constant", {"level": 16}),
        1: ("best_response", {"order": "random", "tolerance": 1e-6}),
        2: ("best_response", {"order": "random", "tolerance": 1e-6}),
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("wizard", "learner 'wizard' is unknown; choose random, constant"),
        (
            "provider_7=hedge,rest=ucb",
            "provider 'provider_7' is unknown; this market has provider_0, provider_1, provider_2",
        ),
        ("provider_0=hedge", "provider_1 has no learner"),
        ("constant:16", "options are written constant:key=value"),
    ],
)
def test_learner_text_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_learners(text, 3)


def test_bad_options_list_what_exists() -> None:
    config = make_config("market", "gsm8k", "majority", prices="fixed")
    with pytest.raises(
        ValueError, match="level 5 is unknown: provider_0 has levels 1, 4, 8, 16, 32, 64"
    ):
        make_agents(config, "constant:level=5", seeds=[0], horizon=10)
    with pytest.raises(TypeError, match="'hedge' has no option speed; it has scale"):
        make_agents(config, "hedge:speed=3", seeds=[0], horizon=10)
    with pytest.raises(ValueError, match="exactly one agent"):
        Arena(config, [], [0])
    with pytest.raises(ValueError, match="discrete"):
        Arena(make_config("market", actions="continuous"), [], [0])
