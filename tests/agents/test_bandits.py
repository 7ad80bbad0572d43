"""What theory says of single bandits, without rivals that learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from agents import Arena, make_agents, make_role
from agents.bandits import Thompson
from ttc_env.envs.config import make_config

SMALL = ["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"]


def test_thompson_plays_an_action_as_often_as_it_is_the_best() -> None:
    """Probability matching: against the integral of the posterior, which no draw enters."""
    config = make_config("market", "gsm8k", "majority", providers=SMALL, prices="fixed")
    seeds = range(4000)
    agent = Thompson(make_role(config, [0], seeds, 100))
    mean = np.array([1.0, 1.2, 0.9, 1.15, 0.2, 1.1])
    count = np.array([4.0, 2.0, 1.0, 8.0, 100.0, 0.5])
    agent.t = 1
    agent.count[:] = count[None, :, None]
    agent.total[:] = (mean * count)[None, :, None]
    agent.width = 0.3
    deviation = agent.width / np.sqrt(count)
    x = np.linspace(-3.0, 5.0, 20001)
    z = (x[:, None] - mean) / deviation
    density, below = norm.pdf(z) / deviation, norm.cdf(z)
    expected = np.array(
        [
            np.trapezoid(density[:, a] * np.delete(below, a, axis=1).prod(axis=1), x)
            for a in range(len(mean))
        ]
    )
    assert expected.sum() == pytest.approx(1.0, abs=1e-6)
    played = np.bincount(agent.act()[0], minlength=len(mean)) / len(seeds)
    error = np.sqrt(expected * (1 - expected) / len(seeds))
    assert (np.abs(played - expected) <= 4 * error + 1e-3).all()


def test_thompson_comes_to_the_best_reply_of_players_that_stay() -> None:
    """Against rivals that do not move, the share of other actions falls below 10%."""
    config = make_config(
        "market", "gsm8k", "majority", providers=SMALL, prices="fixed", infos="basic"
    )
    seeds = range(8)
    agents = make_agents(config, "provider_0=thompson,rest=truthful", seeds=seeds, horizon=1500)
    arena = Arena(config, agents, seeds)
    chosen = []
    for _ in range(1500):
        arena.step()
        chosen.append(arena.agents[0].last.action[0])  # type: ignore[union-attr]
    profit, log_share = (x[0, :, 0] for x in (arena.payoffs().profit, arena.payoffs().log_share))
    reply = int((profit * np.exp(log_share)).argmax())
    best = np.array(chosen) == reply
    assert best[:100].mean() < 0.8
    assert best[1000:].mean() >= 0.9
    assert (arena.strategies()[0].argmax(axis=0) == reply).all()
