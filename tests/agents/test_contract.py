"""What every player keeps.

The tests walk the index; a new agent needs an entry there and nothing here.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import random
import types

import numpy as np
import pytest

from agents import AGENTS, NEED_SB3, NEED_TORCH, Arena, agent_class, make_agents, make_role
from agents.base import Agent, Role
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.game.rules.posted_price import PostedPrice
from ttc_env.game.rules.score_auction import SecondScore

MECHANISMS = [("market", "fixed"), ("market", "grid"), ("auction", "grid"), ("auction", "fixed")]
ROUNDS = 12


def environment(mechanism: str = "market", prices: str = "fixed", **options: object) -> EnvConfig:
    return make_config(
        mechanism,
        "gsm8k",
        "majority",
        prices=prices,
        providers=["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"],
        max_cycles=5,
        **options,
    )


def need(name: str) -> type[Agent]:
    if name in NEED_TORCH:
        pytest.importorskip("torch")
    if name in NEED_SB3:
        pytest.importorskip("stable_baselines3")
    return agent_class(name)


def play(
    config: EnvConfig,
    name: str,
    seeds: tuple[int, ...] = (0, 1),
    rounds: int = ROUNDS,
    horizon: int = ROUNDS,
) -> Arena:
    arena = Arena(config, make_agents(config, name, seeds=seeds, horizon=horizon), seeds)
    for _ in range(rounds):
        arena.step()
    return arena


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


@pytest.mark.parametrize("name", AGENTS)
def test_declares_what_it_is(name: str) -> None:
    agent_type = need(name)
    assert agent_type.name == name
    assert agent_type.feedback in ("none", "bandit", "full")
    assert agent_type.feedback != "full" or agent_type.sees_rivals, (
        "payoffs of all own actions tell what the rivals did"
    )
    assert agent_type.learns or agent_type.feedback == "none"
    assert inspect.getdoc(agent_type)
    assert agent_type.rounds > 0


@pytest.mark.parametrize("mechanism, prices", MECHANISMS)
@pytest.mark.parametrize("name", AGENTS)
def test_plays_every_mechanism_within_its_actions(name: str, mechanism: str, prices: str) -> None:
    need(name)
    config = environment(mechanism, prices)
    arena = play(config, name)
    strategies = arena.strategies()
    n, a = config.table.quality.shape
    assert strategies.shape == (n, a, 2)
    assert np.allclose(strategies.sum(axis=1), 1.0)
    assert (strategies >= 0).all()
    assert (strategies[np.isnan(config.table.quality)] == 0).all()


@pytest.mark.parametrize("name", AGENTS)
def test_shorter_grids_are_respected(name: str) -> None:
    need(name)
    import ttc_env

    nan = np.nan
    quality, price, cost = np.array(
        [
            [[3.0, 4.0, 5.0], [2.0, 3.0, nan]],
            [[1.0, 1.5, 2.0], [1.0, 1.2, nan]],
            [[0.5, 0.7, 0.9], [0.4, 0.6, nan]],
        ]
    )
    config = make_config(
        "market",
        market=ttc_env.Market.from_arrays(quality, price, cost, beta=1.0),
        prices="grid",
        max_cycles=5,
    )
    arena = play(config, name)
    assert (arena.strategies()[np.isnan(config.table.quality)] == 0).all()


@pytest.mark.parametrize("name", AGENTS)
def test_seed_decides_everything_and_no_global_generator_is_touched(name: str) -> None:
    need(name)
    config = environment()
    before = (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    )
    first, second = play(config, name).state_dict(), play(config, name).state_dict()
    assert same(first["agents"], second["agents"])
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in NEED_TORCH])
def test_stochastic_means_what_it_says(name: str) -> None:
    config = environment("market", "grid")
    rewards = []
    for seed in range(6):
        arena = Arena(config, make_agents(config, name, seeds=[seed], horizon=ROUNDS), [seed])
        rewards.append(np.stack([arena.step() for _ in range(4)]))
    differ = any(not np.array_equal(rewards[0], other) for other in rewards[1:])
    assert differ == agent_class(name).stochastic


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in NEED_TORCH])
def test_providers_and_seeds_do_not_mix(name: str) -> None:
    """One agent for several providers and seeds plays as many agents alone would."""
    config = environment("market", "grid")
    agent_type = agent_class(name)
    together = play(config, name, seeds=(3, 8))
    for k, seed in enumerate((3, 8)):
        agents = [
            agent_type(make_role(config, [i], [seed], ROUNDS, sees_solver=agent_type.sees_solver))
            for i in range(config.market.num_providers)
        ]
        alone = Arena(config, agents, [seed])
        for _ in range(ROUNDS):
            alone.step()
        # Sums over axes of different strides round differently.
        np.testing.assert_allclose(
            alone.strategies()[:, :, 0], together.strategies()[:, :, k], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("name", AGENTS)
def test_resumes_exactly(name: str) -> None:
    need(name)
    config = environment("auction", "grid")
    whole = play(config, name, rounds=40, horizon=40)
    half = play(config, name, rounds=17, horizon=40)
    state = copy.deepcopy(half.state_dict())
    again = Arena(config, make_agents(config, name, seeds=(0, 1), horizon=40), (0, 1))
    again.load_state_dict(state)
    for _ in range(23):
        again.step()
    if name == "dqn":  # its replay buffer is not kept: documented
        assert again.round == whole.round
        return
    assert same(again.state_dict()["agents"], whole.state_dict()["agents"])


SOLVERS = (
    "solve",
    "equilibrium",
    "optimum",
    "dynamics",
    "free_prices",
    "limits",
    "intervals",
    "replies",
    "regret",
    "continuous",
)


@pytest.mark.parametrize("mechanism, prices", MECHANISMS[:3])
@pytest.mark.parametrize("name", [name for name in AGENTS])
def test_who_does_not_declare_it_never_touches_the_solver(
    name: str, mechanism: str, prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_type = need(name)

    def poison(*args: object, **kwargs: object) -> None:
        raise AssertionError("the solver was called")

    for module in SOLVERS:
        solver = importlib.import_module(f"ttc_env.game.{module}")
        for attribute, value in vars(solver).items():
            if isinstance(value, types.FunctionType) and value.__module__ == solver.__name__:
                monkeypatch.setattr(solver, attribute, poison)
    for rule in (PostedPrice, SecondScore):
        for hook in ("solve", "solve_continuous", "optimum", "optimal_welfare", "best_replies"):
            monkeypatch.setattr(rule, hook, poison)
    monkeypatch.setattr("ttc_env.envs.config.solve", poison)
    config = environment(mechanism, prices)
    if agent_type.sees_solver:
        with pytest.raises(AssertionError, match="solver was called"):
            play(config, name)
    else:
        play(config, name)


@pytest.mark.parametrize("name", AGENTS)
def test_bandits_are_told_nothing_but_their_reward(name: str) -> None:
    agent_type = need(name)
    config = environment()
    arena = play(config, name, rounds=1)
    agent = arena.agents[0]
    assert (agent.role.config is not None) == agent_type.sees_solver
    assert agent.last is not None
    assert (agent.last.payoffs is not None) == (agent_type.feedback == "full")
    assert (agent.last.actions is not None) == agent_type.sees_rivals
    assert (agent.last.observation is not None) == agent_type.needs_observation


def test_an_unavailable_game_is_refused() -> None:
    config = environment(information="own")
    with pytest.raises(ValueError, match="hides them"):
        play(config, "hedge")


def test_a_role_reports_its_shape() -> None:
    role = make_role(environment(), [0, 2], [5], 10)
    assert isinstance(role, Role)
    assert role.shape == (2, 6, 1)
    assert role.uniform().sum() == pytest.approx(2.0)
