"""One policy for every market sees offers and not indices, and learns from its own profit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import ttc_env  # noqa: E402
from agents.one_policy import (  # noqa: E402
    RIVALS,
    Network,
    OnePolicy,
    Settings,
    Viewer,
    step,
    train,
)
from ttc_env.game.market_batch import MarketBatch  # noqa: E402
from ttc_env.game.mechanisms import make_mechanism  # noqa: E402
from ttc_env.game.types import Market  # noqa: E402

SMALL = ["Llama-3-8B", "Qwen2-7B", "Qwen2.5-3B"]


def policy() -> OnePolicy:
    """Weights of a size that makes its play differ between offers."""
    network = Network(16, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.out.weight.mul_(100.0)
    return OnePolicy(network)


def viewed(market: Market, mechanism: str = "market", prices: str = "grid", copies: int = 2):
    env = ttc_env.vector_env(copies, mechanism, market=MarketBatch.of([market]), prices=prices)
    env.reset(seed=0)
    return env, Viewer(env)


def test_the_order_of_providers_means_nothing() -> None:
    """What a provider plays does not depend on its number, nor on its rivals' numbers."""
    order = [2, 0, 1]
    played = []
    for names in (SMALL, [SMALL[i] for i in order]):
        market = ttc_env.load_market("gsm8k", providers=names)
        env, viewer = viewed(market)
        view = viewer.first()
        for _ in range(3):
            actions = policy().greedy(view)
            step(env, actions)
            view = viewer.after(actions, env.last.share)
        played.append((actions, view))
    (first, seen), (second, again) = played
    np.testing.assert_array_equal(first[order], second)
    np.testing.assert_allclose(seen.context[order], again.context, atol=1e-6)
    np.testing.assert_allclose(seen.actions[order], again.actions, atol=1e-6)


def test_costs_of_rivals_are_private() -> None:
    market = ttc_env.load_market("gsm8k", providers=SMALL)
    cost = market.cost.copy()
    cost[1:] *= 0.7
    other = Market.from_arrays(
        market.quality, market.price, cost, beta=market.beta, alpha=market.alpha
    )
    views = []
    for one in (market, other):
        env, viewer = viewed(one, "market", "fixed")
        actions = np.full((3, 2), 2)
        viewer.first()
        step(env, actions)
        views.append(viewer.after(actions, env.last.share))
    np.testing.assert_array_equal(views[0].actions[0], views[1].actions[0])
    np.testing.assert_array_equal(views[0].context[0], views[1].context[0])
    assert not np.array_equal(views[0].actions[1], views[1].actions[1])


def test_what_is_seen_is_the_round_before() -> None:
    market = ttc_env.load_market("gsm8k", beta=1000.0, providers=SMALL)
    env, viewer = viewed(market, "market", "fixed", copies=1)
    assert not viewer.first().context[:, :, 1:].any()
    actions = np.array([[5], [3], [0]])
    step(env, actions)
    share = env.last.share
    view = viewer.after(actions, share)
    rivals = view.context[0, 0, 3:].reshape(RIVALS, 3)
    expected = [
        (market.quality[i, a] / market.alpha, market.price[i, a] / market.alpha, share[i, 0])
        for i, a in ((1, 3), (2, 0))
    ]
    expected.sort(key=lambda row: -row[2])
    np.testing.assert_allclose(rivals[:2], expected, rtol=1e-6)
    assert not rivals[2:].any()
    # 1 / (1 + exp(-advantage)) is the share that a level would have had.
    ahead = np.sign(view.actions[0, 0, :, 6]) * np.expm1(4.0 * np.abs(view.actions[0, 0, :, 6]))
    assert 1.0 / (1.0 + np.exp(-ahead[5])) == pytest.approx(share[0, 0], rel=1e-4)


def test_an_absent_level_is_never_played() -> None:
    nan = np.nan
    market = Market.from_arrays(
        np.array([[0.003, 0.004, 0.005], [0.002, 0.003, nan]]),
        np.array([[0.001, 0.0015, 0.002], [0.001, 0.0012, nan]]),
        np.array([[0.0005, 0.0007, 0.0009], [0.0004, 0.0006, nan]]),
        beta=1000.0,
        alpha=0.008,
    )
    env, viewer = viewed(market, copies=500)
    actions = policy().act(viewer.first(), np.random.default_rng(0))
    level = env.config.mechanism.split(actions, market)[0]
    assert set(level[0]) == {0, 1, 2}
    assert set(level[1]) == {0, 1}


def test_markets_without_a_scale_of_money_are_refused() -> None:
    market = Market.from_arrays([[1.0]], [[0.5]], [[0.2]], beta=1.0)
    with pytest.raises(ValueError, match="give markets with alpha"):
        viewed(market, "market", "fixed")


def source(rng: np.random.Generator, count: int) -> MarketBatch:
    return ttc_env.random_markets(count, num_providers=3, seed=rng)


def test_training_repeats_itself_and_is_kept(tmp_path: Path) -> None:
    settings = Settings(updates=2, copies=4, rounds=2, hidden=8)
    one, same = (train([source], "auction", "grid", 5, settings) for _ in range(2))
    other = train([source], "auction", "grid", 6, settings)
    one.save(tmp_path / "policy.npz", note="kept")
    again = OnePolicy.load(tmp_path / "policy.npz")
    states = [x.network.state_dict() for x in (one, same, again, other)]
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name])
        assert torch.equal(weight, states[2][name])
    assert any(not torch.equal(w, states[3][name]) for name, w in states[0].items())
    markets = source(np.random.default_rng(1), 3)
    mechanism = make_mechanism("auction", "grid")
    np.testing.assert_array_equal(
        one.play(markets, mechanism, 2), again.play(markets, mechanism, 2)
    )


def test_a_market_plays_in_copies_as_alone() -> None:
    markets = source(np.random.default_rng(1), 3)
    mechanism = make_mechanism("market", "grid")
    together = policy().play(markets, mechanism, 3)
    for g in range(3):
        alone = policy().play(markets.part(slice(g, g + 1)), mechanism, 3)
        np.testing.assert_array_equal(together[:, g], alone[:, 0])


@pytest.mark.slow
def test_learns_to_bid_near_cost_on_markets_that_it_never_saw() -> None:
    settings = dataclasses.replace(Settings(), updates=60, markets=8)
    learned = train([source], "auction", "grid", 0, settings)
    markets = source(np.random.default_rng(99), 40)
    mechanism = make_mechanism("auction", "grid")
    price = mechanism.split(learned.play(markets, mechanism, 4), markets.stacked)[1]
    off = np.abs(np.log1p(np.array(mechanism.tariff.choices)))  # |log(bid / cost)| by choice
    assert off.mean() > 0.75  # at random
    assert off[price].mean() < 0.3
