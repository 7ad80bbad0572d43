"""The PettingZoo environment: the suites, the contract in its docstring, and equality with the pure
functions.
"""

import contextlib
import io
import itertools
import pickle

import numpy as np
import pettingzoo
import pytest
from pettingzoo.test import (
    api_test,
    max_cycles_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    state_test,
)

import ttc_env
from tests.variants import UNEVEN
from ttc_env.envs.config import make_config
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.rules.score_auction import second_price_auction
from ttc_env.registration import PETTINGZOO_IDS
from ttc_env.testing import check_env

VARIANTS = {
    **{name: {} for name in PETTINGZOO_IDS},
    "uneven grids": {"market": UNEVEN},
    "uneven grids, fixed": {"market": UNEVEN, "prices": "fixed", "mechanism": "auction"},
    "uneven grids, continuous": {"market": UNEVEN, "actions": "continuous"},
    "uneven grids, continuous levels": {
        "market": UNEVEN,
        "actions": "continuous",
        "prices": "fixed",
    },
    "uneven grids, flat": {"market": UNEVEN, "actions": "flat"},
    "uneven grids, flat claims": {
        "market": UNEVEN,
        "actions": "flat",
        "mechanism": "auction",
        "misreport": {"over_claim": 2.0},
    },
    "reasoning, own": {"benchmark": "aime", "method": "reasoning", "information": "own"},
    "prices public": {"benchmark": "gpqa", "information": "prices", "infos": "basic"},
    "sampled auction": {
        "mechanism": "auction",
        "demand": "sampled",
        "misreport": {"over_claim": 2.0},
        "fine": 1e-3,
    },
    "lies": {"misreport": ("over_report", "under_serve"), "fine": 1e-4, "market": UNEVEN},
    "lies, continuous": {
        "misreport": ("over_report", "under_serve"),
        "noticed": True,
        "actions": "continuous",
        "market": UNEVEN,
    },
    "one provider": {"providers": ["Qwen2-7B"]},
    "rational": {"beta": 1e7, "benchmark": "aime"},
    "beta 0": {"beta": 0.0},
    "short": {"max_cycles": 1},
}


HAS_IDS = hasattr(pettingzoo, "make")  # from PettingZoo 1.27 on


def make(variant, **more):
    options = {"max_cycles": 6, **VARIANTS[variant], **more}
    if variant in PETTINGZOO_IDS and HAS_IDS:
        return pettingzoo.make("parallel", variant, **options)
    return ttc_env.parallel_env(**{**PETTINGZOO_IDS.get(variant, {}), **options})


def make_aec(variant, **more):
    options = {"max_cycles": 6, **VARIANTS[variant], **more}
    if variant in PETTINGZOO_IDS and HAS_IDS:
        return pettingzoo.make("aec", variant, **options)
    return ttc_env.env(**{**PETTINGZOO_IDS.get(variant, {}), **options})


@pytest.mark.parametrize("variant", VARIANTS)
def test_conformance(variant):
    check_env(lambda: make(variant))


# it does not know MultiDiscrete
@pytest.mark.filterwarnings("ignore:Action space for each agent probably should be")
@pytest.mark.parametrize("variant", VARIANTS)
def test_pettingzoo_suites(variant):
    with contextlib.redirect_stdout(io.StringIO()):
        parallel_api_test(make(variant), num_cycles=20)
        parallel_seed_test(lambda: make(variant))
        api_test(make_aec(variant), num_cycles=20)
        state_test(make_aec(variant), make(variant))


def test_pettingzoo_max_cycles():
    max_cycles_test(ttc_env)


@pytest.mark.parametrize("variant", ["ttc_env/Market-v0", "uneven grids, fixed"])
def test_pettingzoo_render(variant):
    pytest.importorskip("matplotlib")
    with contextlib.redirect_stdout(io.StringIO()):
        render_test(lambda **more: make_aec(variant, **more))


@pytest.mark.parametrize("variant", ["ttc_env/Market-v0", "ttc_env/MarketSampled-v0"])
def test_a_frame_is_that_of_a_fresh_figure(variant):
    """What is kept between frames changes no pixel: bars, lines, growing axes, a new episode."""
    pytest.importorskip("matplotlib")
    from ttc_env.envs.render import Frames

    env = make(variant, render_mode="rgb_array", max_cycles=6)
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(2):
        env.reset(seed=0)
        seen.append(env.render())
        while env.agents:
            # ever dearer levels, so that the axis of prices has to grow
            cheaper = np.array([1, 7 - len(seen) % 7])
            env.step({a: rng.integers(0, env.action_space(a).nvec) // cheaper for a in env.agents})
            seen.append(env.render())
            fresh = Frames(env.config).draw(env._history, env._levels, env._optima)
            np.testing.assert_array_equal(seen[-1], fresh)
    assert seen[0].shape == (540, 960, 3)
    assert seen[0].dtype == np.uint8
    np.testing.assert_array_equal(seen[0], seen[7])  # before the first round, twice
    assert all((one != other).any() for one, other in itertools.pairwise(seen))
    copied = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(copied.render(), seen[-1])


def test_a_frame_shows_what_was_played():
    """The blue bars of one level and of the highest: their lengths are as 1 to m."""
    pytest.importorskip("matplotlib")
    env = make("ttc_env/MarketFixedPrice-v0", render_mode="rgb_array")
    env.reset(seed=0)

    def blue():
        frame = env.render()[60:240, :400].astype(int)  # the panel of levels
        return int(((frame[..., 2] - frame[..., 0]) > 80).sum())

    nothing = blue()
    env.step(dict.fromkeys(env.agents, 0))
    least = blue()
    env.step(dict.fromkeys(env.agents, env.market.num_levels - 1))
    assert nothing == 0
    assert blue() / least == pytest.approx(env.market.num_levels, rel=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rewards_are_the_pure_function(variant):
    """The environment's numbers are those of `Mechanism.play`, up to the rounding of its logarithms
    (which beta V magnifies).
    """
    env = make(variant, demand="expected")
    _, infos = env.reset(seed=0)
    for k, agent in enumerate(env.agents):
        env.action_space(agent).seed(k)
    config = env.unwrapped.config
    amount = float(np.nanmax(np.abs(config.table.score)))
    exact_zeros = (
        config.mechanism.name == "market"
    )  # an auction's profits are differences of scores
    close = {
        "rtol": 1e-11 + 1e-15 * config.market.beta * amount,
        "atol": 1e-200 if exact_zeros else 1e-14 * config.users * amount,
    }
    while env.agents:
        actions = {a: env.action_space(a).sample(infos[a].get("action_mask")) for a in env.agents}
        _, rewards, _, _, infos = env.step(actions)
        outcome = config.mechanism.play(env.unwrapped.last_round.offer, config.market)
        np.testing.assert_allclose(list(rewards.values()), config.users * outcome.utility, **close)
        if config.infos == "full":
            np.testing.assert_allclose(
                [info["share"] for info in infos.values()], outcome.share, **close
            )
            np.testing.assert_allclose(
                [info["utility"] for info in infos.values()], outcome.utility, **close
            )
            np.testing.assert_allclose(
                [info["welfare"] for info in infos.values()], outcome.welfare, **close
            )


def brute_force_regret(env, actions):
    """Regret of provider i by playing every one of its actions against the others' in the
    environment itself.
    """
    config = env.unwrapped.config
    levels, prices, reports = config.mechanism.grid(config.market)
    base = np.array(env.step_rewards(actions))
    best = base.copy()
    for i, agent in enumerate(config.agents):
        for flat in range(levels * prices * reports):
            parts = np.unravel_index(flat, config.grid)
            trial = {**actions, agent: np.array(parts) if len(parts) > 1 else parts[0]}
            best[i] = max(best[i], env.step_rewards(trial)[i])
    return (best - base) / config.users


class Replayer:
    """An environment that can play any joint action from the start."""

    def __init__(self, env):
        self.unwrapped = env.unwrapped

    def step_rewards(self, actions):
        self.unwrapped.reset()
        return list(self.unwrapped.step(actions)[1].values())


@pytest.mark.parametrize(
    "variant",
    [
        "ttc_env/Market-v0",
        "ttc_env/AuctionMisreport-v0",
        "ttc_env/MarketFixedPrice-v0",
        "uneven grids",
        "uneven grids, flat claims",
    ],
)
def test_regret_in_infos_is_what_a_deviation_would_have_earned(variant):
    env = (
        make(variant)
        if "uneven" in variant
        else make(variant, providers=["Qwen2-7B", "Qwen2.5-3B", "Llama-3-8B"])
    )
    for seed in range(3):
        _, infos = env.reset(seed=seed)
        for k, agent in enumerate(env.agents):
            env.action_space(agent).seed(seed * 10 + k)
        actions = {a: env.action_space(a).sample(infos[a].get("action_mask")) for a in env.agents}
        infos = env.step(actions)[4]
        expected = brute_force_regret(Replayer(env), actions)
        found = [infos[a]["regret"] for a in infos]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
        assert infos["provider_0"]["nash_conv"] == pytest.approx(
            expected.sum(), rel=1e-9, abs=1e-15
        )


@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_continuous_regret_bounds_every_price_on_a_fine_grid(mechanism):
    env = ttc_env.parallel_env(
        mechanism, "aime", actions="continuous", providers=["Qwen2-7B", "Qwen2.5-7B"], beta=300
    )
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    replay = Replayer(env)
    for _ in range(5):
        actions = {agent: rng.uniform(-1, 1, 2).astype(np.float32) for agent in env.possible_agents}
        env.reset()
        infos = env.step(actions)[4]
        base = replay.step_rewards(actions)
        best = -np.inf
        for level in np.linspace(-0.99, 0.99, 6):
            for price in np.linspace(-1, 1, 400):
                best = max(
                    best,
                    replay.step_rewards({**actions, "provider_0": np.array([level, price])})[0],
                )
        gain = (best - base[0]) / 1000
        assert gain <= infos["provider_0"]["regret"] + 1e-15
        assert gain == pytest.approx(infos["provider_0"]["regret"], rel=1e-3, abs=1e-12)


def test_a_level_beyond_the_grid_is_the_highest_level():
    env = ttc_env.parallel_env(market=UNEVEN, prices="fixed", max_cycles=3)
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step({"provider_0": 2, "provider_1": 2, "provider_2": 2})
    assert [info["level"] for info in infos.values()] == [2, 0, 1]
    env.reset(seed=0)
    assert env.step({"provider_0": 2, "provider_1": 0, "provider_2": 1})[1] == rewards
    assert infos["provider_1"]["action_mask"].tolist() == [1, 0, 0]


def test_the_default_grids_hold_the_papers_game():
    for mechanism, neutral in (("market", 1.0), ("auction", 0.0)):
        env = ttc_env.parallel_env(mechanism)
        choices = env.unwrapped.config.mechanism.tariff.choices
        at = choices.index(neutral)
        grid = env.unwrapped.config
        fixed = ttc_env.parallel_env(mechanism, prices="fixed").unwrapped.config
        levels = np.arange(9) % 6
        asked = grid.choose([(level, at) for level in levels]), fixed.choose(list(levels))
        played = [
            config.mechanism.play(config.table.take(flat), config.market)
            for config, flat in zip((grid, fixed), asked, strict=True)
        ]
        np.testing.assert_array_equal(played[0].utility, played[1].utility)


def test_sampled_demand_has_the_expected_reward_as_its_mean():
    options = {
        "benchmark": "gsm8k",
        "prices": "fixed",
        "beta": 500.0,
        "users": 200,
        "infos": "basic",
        "max_cycles": 4000,
    }
    sampled = ttc_env.parallel_env("market", demand="sampled", **options)
    expected = ttc_env.parallel_env("market", **options)
    levels = {agent: 3 for agent in sampled.possible_agents}
    expected.reset(seed=0)
    target = np.array(list(expected.step(levels)[1].values()))
    sampled.reset(seed=0)
    rewards = np.array([list(sampled.step(levels)[1].values()) for _ in range(4000)])
    error = rewards.std(axis=0) / np.sqrt(len(rewards))
    assert (np.abs(rewards.mean(axis=0) - target) < 5 * error).all()


def test_sampled_answers_are_right_as_often_as_the_curve_says():
    env = ttc_env.parallel_env(
        "market", "gsm8k", prices="fixed", demand="sampled", users=100_000, beta=0.0
    )
    env.reset(seed=1)
    infos = env.step({agent: 2 for agent in env.agents})[4]
    for agent, provider in zip(env.possible_agents, env.unwrapped.market.providers, strict=True):
        served, correct, accuracy = (
            infos[agent]["served"],
            infos[agent]["correct"],
            provider.curve.accuracy[2],
        )
        assert correct / served == pytest.approx(
            accuracy, abs=5 * np.sqrt(accuracy * (1 - accuracy) / served)
        )


def test_sampled_auction_ties_are_drawn_and_the_winner_serves_everybody():
    market = ttc_env.Market.from_arrays([[1.0]] * 3, [[0.2]] * 3, [[0.1]] * 3, beta=1)
    env = ttc_env.parallel_env(
        "auction", market=market, prices=(0.0, 1.0), demand="sampled", max_cycles=300
    )
    env.reset(seed=0)
    wins = np.zeros(3)
    while env.agents:
        infos = env.step({agent: np.array([0, 1]) for agent in env.agents})[4]
        served = [info["served"] for info in infos.values()]
        assert sorted(served) == [0, 0, 1000]
        wins += np.array(served) / 1000
    assert (wins > 60).all()  # 100 each on average; 60 is five standard deviations off


def test_information_hides_rivals_only():
    for information in ("full", "prices", "own"):
        env = ttc_env.parallel_env("market", prices="fixed", information=information)
        env.reset(seed=0)
        observations = env.step({agent: 1 for agent in env.agents})[0]
        at = env.unwrapped.layout.slices
        seen = {
            name: observations["provider_3"][at[f"public_{name}"]]
            for name in ("quality", "price", "share")
        }
        for name, shown in seen.items():
            rivals = np.delete(shown, 3)
            assert shown[3] != 0
            assert (rivals != 0).all() == (
                information == "full" or (information == "prices" and name == "price")
            )


def test_every_part_of_the_observation_is_described():
    layout = ttc_env.parallel_env().unwrapped.layout
    lines = layout.describe().splitlines()
    assert len(lines) == len(layout.slices)
    stops = [s.stop for s in layout.slices.values()]
    assert [s.start for s in layout.slices.values()] == [0, *stops[:-1]]


def test_state_does_not_depend_on_what_providers_may_see():
    states = []
    for information in ("full", "own"):
        env = ttc_env.parallel_env("auction", information=information)
        env.reset(seed=0)
        env.step({agent: np.array([1, 2]) for agent in env.agents})
        states.append(env.state())
    np.testing.assert_array_equal(*states)


def test_solve_solves_the_game_that_is_played():
    env = ttc_env.parallel_env("market", "gsm8k", beta=1000, prices=(0.8, 1.0, 4.0), max_cycles=2)
    solution = env.unwrapped.solve()
    level, price, _ = solution.split(solution.lowest)
    env.reset(seed=0)
    infos = env.step({agent: np.array([level[i], price[i]]) for i, agent in enumerate(env.agents)})[
        4
    ]
    assert infos["provider_0"]["nash_conv"] <= 1e-12
    assert infos["provider_0"]["welfare"] == pytest.approx(
        float(solution.at(solution.lowest).welfare), rel=1e-12
    )
    assert (
        ttc_env.env("market", prices=(0.8, 1.0, 4.0)).unwrapped.solve().unique
        == ttc_env.solve(ttc_env.load_market(), make_mechanism("market", (0.8, 1.0, 4.0))).unique
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_solves_itself(variant):
    for env in (make(variant), make_aec(variant)):
        solution = env.unwrapped.solve()
        assert solution.converged
        assert np.isfinite(solution.welfare)


def test_truth_is_no_regret_in_the_auction():
    env = ttc_env.parallel_env("auction", "aime", max_cycles=2)
    solution = env.unwrapped.solve()
    level, price, _ = second_price_auction(env.unwrapped.config.mechanism.tariff.choices).split(
        solution.actions, env.unwrapped.market
    )
    env.reset(seed=0)
    infos = env.step({agent: np.array([level[i], price[i]]) for i, agent in enumerate(env.agents)})[
        4
    ]
    assert infos["provider_0"]["nash_conv"] == pytest.approx(0, abs=1e-15)
    assert infos["provider_0"]["welfare"] == pytest.approx(
        infos["provider_0"]["optimal_welfare"], rel=1e-12
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mechanism": "lottery"}, "choose auction, first_score"),
        ({"prices": "free"}, "'grid', 'fixed'"),
        ({"prices": (1.0, 0.5)}, "rising order"),
        ({"actions": "binary"}, "'discrete' or 'flat' or 'continuous'"),
        ({"demand": "guessed"}, "'expected' or 'sampled'"),
        ({"information": "all"}, "'full' or 'prices' or 'own'"),
        ({"users": 0}, "at least 1"),
        ({"max_cycles": 2.5}, "whole number"),
        ({"claims": (1.0, 2.0)}, "of mechanism 'market': misreport, audit_rate, fine, noticed"),
        ({"market": UNEVEN, "beta": 3.0}, "market.replace"),
        ({"render_mode": "hologram"}, "'rgb_array'"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        ttc_env.parallel_env(**options)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (np.array([6, 0]), "provider_0: action"),
        (np.array([-1, 0]), "provider_0: action"),
        (np.array([0.5, 0.5]), "integer"),
        (3, "integer"),
    ],
)
def test_bad_actions_are_refused_by_name(action, words):
    env = ttc_env.parallel_env()
    env.reset(seed=0)
    actions = {agent: np.array([0, 0]) for agent in env.agents}
    with pytest.raises(ValueError, match=words):
        env.step({**actions, "provider_0": action})
    with pytest.raises(ValueError, match="provider_8 gave none"):
        env.step({agent: actions[agent] for agent in env.agents[:-1]})


def test_step_before_reset_and_render_without_mode():
    env = ttc_env.parallel_env()
    with pytest.raises(RuntimeError, match="reset"):
        env.step({})
    with pytest.raises(ValueError, match="render_mode"):
        env.render()


def test_agents_can_have_other_names():
    names = ("a", "b", "c")
    check_env(lambda: ttc_env.parallel_env(market=UNEVEN, agent_names=names, max_cycles=3))
    env = ttc_env.parallel_env(market=UNEVEN, agent_names=names, prices="fixed")
    assert env.possible_agents == list(names)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="b: action 9 is not in"):
        env.step({"a": 0, "b": 9, "c": 0})
    games = ttc_env.vector_env(2, market=UNEVEN, agent_names=names, prices="fixed")
    assert games.possible_agents == list(names)
    games.reset()
    with pytest.raises(ValueError, match="environment 1, c: action 9"):
        games.step(np.array([[0, 0, 0], [0, 0, 9]]))
    for wrong in (("a", "b"), ("a", "b", "b"), "abc", (0, 1, 2)):
        with pytest.raises(ValueError, match="give 3 different names"):
            ttc_env.parallel_env(market=UNEVEN, agent_names=wrong)


def test_a_step_without_one_action_for_each_agent_names_what_is_wrong():
    env = ttc_env.parallel_env(providers=["Qwen2-7B", "Llama-3-8B"])
    env.reset(seed=0)
    good = {agent: env.action_space(agent).sample() for agent in env.agents}
    with pytest.raises(TypeError, match="needs a dict with an action for every agent; got list"):
        env.step(list(good.values()))
    with pytest.raises(ValueError, match="provider_1 gave none"):
        env.step({"provider_0": good["provider_0"]})
    with pytest.raises(ValueError, match="an action of 'provider_9'; agents are provider_0, prov"):
        env.step({**good, "provider_9": good["provider_0"]})
    assert env.step(good)[1].keys() == good.keys()


def test_in_turn_a_provider_that_is_done_takes_no_action():
    env = ttc_env.env(providers=["Qwen2-7B", "Llama-3-8B"], max_cycles=1)
    env.reset(seed=0)
    for agent in list(env.agents):
        env.step(env.action_space(agent).sample())
    agent = env.agent_selection
    assert env.truncations[agent] or env.terminations[agent]
    with pytest.raises(ValueError, match=f"{agent} is done; its only step is None"):
        env.step(env.action_space(agent).sample())
    frame = env.to_frame()
    assert list(frame.provider) == ["Qwen2-7B", "Llama-3-8B"]
    env.step(None)
    env.step(None)
    assert not env.agents


def test_something_else_than_a_market_is_refused_by_its_type():
    with pytest.raises(TypeError, match=r"a int is not a Market; see ttc_env\.load_market"):
        ttc_env.parallel_env(market=[3])
    with pytest.raises(TypeError, match=r"market is a dict, not a Market; see ttc_env\.load_mark"):
        make_config(market={})
    with pytest.raises(TypeError, match="market='gsm8k' is a name, not a Market; use benchmark="):
        ttc_env.parallel_env(market="gsm8k")


def test_continuous_actions_choose_the_bins_that_they_lie_in():
    env = ttc_env.parallel_env(actions="continuous", providers=["Qwen2-7B", "Llama-3-8B"])
    config = env.unwrapped.config
    levels, prices = (int(k) for k in config.grid[:2])
    rng = np.random.default_rng(0)
    for _ in range(50):
        given = rng.uniform(-1.2, 1.2, (2, 2))
        flat = config.choose(list(given))
        for i in range(2):
            unit = (np.clip(given[i], -1.0, 1.0) + 1.0) / 2.0
            count = int(config.level_counts[i])
            level = min(int(unit[0] * count), count - 1)
            price = min(int(unit[1] * prices), prices - 1)
            assert int(flat[i]) == level * prices + price
            assert level < levels
    with pytest.raises(ValueError, match="provider_1"):
        config.choose([np.zeros(2), [[0.0], [0.0, 1.0]]])


def test_a_moving_world_is_named_in_its_repr():
    shocks = ttc_env.Shocks(present=[[True, True], [True, False]])
    env = ttc_env.parallel_env(providers=["Qwen2-7B", "Llama-3-8B"], shocks=shocks)
    assert "moving " in repr(env)
    assert "moving" not in repr(ttc_env.parallel_env())
