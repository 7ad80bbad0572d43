"""A rule of a user's own, from its definition alone, in every face of the package."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

import ttc_env
from ttc_env.game import enumeration
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.rules.base import Users
from ttc_env.game.rules.first_score import FirstScore
from ttc_env.game.rules.posted_price import PostedPrice
from ttc_env.game.rules.score_auction import SecondScore, best_rival, second_price_auction
from ttc_env.game.rules.taste_auction import TasteAuction
from ttc_env.game.yardstick import account


def example():
    """The rule that docs/add-a-rule.md shows."""
    text = (Path(__file__).parents[2] / "docs/add-a-rule.md").read_text()
    code = text.split("<!-- rule example -->")[1].split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 30
    names = {"__name__": "rule_example"}
    exec(code.split("ttc_env.register_mechanism")[0], names)
    return names["Luce"], names["luce"]


Luce, luce = example()


@pytest.fixture(autouse=True)
def registered():
    ttc_env.register_mechanism("luce", luce, replace=True)


SMALL = {"providers": ["Qwen2-7B", "Qwen2.5-7B", "Llama-3-8B"], "prices": (0.8, 1.0, 4.0)}


def by_hand(market, offer):
    weight = offer.seen / offer.price
    share = weight / (1.0 + weight.sum())
    return share, share * (offer.price - offer.cost)


def test_it_is_in_the_registry_and_plays_in_pettingzoo():
    assert "luce" in ttc_env.mechanisms()
    parallel_api_test(ttc_env.parallel_env(mechanism="luce", max_cycles=8), num_cycles=20)
    env = ttc_env.parallel_env(mechanism="luce", **SMALL)
    env.reset(seed=0)
    _, rewards, *_, infos = env.step({a: np.array([2, 1]) for a in env.agents})
    config = env.config
    offer = config.table.take(np.full(3, 2 * 3 + 1))
    share, utility = by_hand(config.market, offer)
    np.testing.assert_allclose(list(rewards.values()), 1000 * utility, rtol=1e-12)
    np.testing.assert_allclose([i["share"] for i in infos.values()], share, rtol=1e-12)


def test_its_regrets_are_exact_and_its_batches_agree():
    env = ttc_env.parallel_env(mechanism="luce", **SMALL)
    batch = ttc_env.vector_env(4, mechanism="luce", infos="full", **SMALL)
    rng = np.random.default_rng(0)
    actions = np.stack([rng.integers(0, 6, (4, 3)), rng.integers(0, 3, (4, 3))], axis=2)
    batch.reset()
    together = batch.step(actions)[4]
    table = env.config.table
    for b in range(4):
        env.reset()
        infos = env.step(dict(zip(env.agents, actions[b], strict=True)))[4]
        flat = actions[b, :, 0] * 3 + actions[b, :, 1]
        for i in range(3):
            tried = []
            for other in np.flatnonzero(~np.isnan(table.quality[i])):
                changed = flat.copy()
                changed[i] = other
                tried.append(by_hand(None, table.take(changed))[1][i])
            info = infos[f"provider_{i}"]
            own = by_hand(None, table.take(flat))[1][i]
            assert info["regret"] == pytest.approx(max(tried) - own, abs=1e-15)
            for name in ("regret", "relative_regret", "utility", "welfare", "optimal_welfare"):
                value = together[name][b] if together[name].ndim == 1 else together[name][b, i]
                assert info[name] == pytest.approx(value, rel=1e-12)


def test_torch_plays_it_as_numpy_does():
    torch = pytest.importorskip("torch")
    actions = np.random.default_rng(1).integers(0, 6, (32, 3))
    options = {**SMALL, "prices": "fixed"}
    rewards = {}
    for backend in ("numpy", "torch"):
        env = ttc_env.vector_env(32, mechanism="luce", backend=backend, **options)
        env.reset()
        sent = actions if backend == "numpy" else torch.as_tensor(actions)
        rewards[backend] = np.asarray(env.step(sent)[1])
    np.testing.assert_allclose(rewards["torch"], rewards["numpy"], rtol=1e-13)


def test_sampled_demand_agrees_in_the_mean():
    env = ttc_env.vector_env(4000, mechanism="luce", demand="sampled", **SMALL)
    sure = ttc_env.vector_env(1, mechanism="luce", **SMALL)
    actions = np.zeros((4000, 3, 2), int)
    env.reset(seed=0)
    sure.reset()
    mean = env.step(actions)[1].mean(axis=0)
    np.testing.assert_allclose(mean, sure.step(actions[:1])[1][0], rtol=0.02)


def test_continuous_prices_play_and_their_regrets_are_refused():
    with pytest.raises(ValueError, match="infos='basic'"):
        ttc_env.parallel_env(mechanism="luce", actions="continuous")
    env = ttc_env.parallel_env(mechanism="luce", actions="continuous", infos="basic")
    env.reset()
    # the ends of the range are the lowest and the highest price choice
    rewards = env.step({a: np.array([-1.0, 1.0]) for a in env.agents})[1]
    grid = env.config.table
    offer = grid.take(np.full(9, len(env.config.mechanism.tariff.choices) - 1))
    np.testing.assert_allclose(list(rewards.values()), 1000 * by_hand(None, offer)[1], rtol=1e-12)


def test_solve_finds_all_equilibria_and_says_so():
    market = ttc_env.load_market(providers=SMALL["providers"])
    solution = ttc_env.solve(market, luce(SMALL["prices"]))
    assert solution.complete
    table = solution.mechanism.offers(market)
    for profile in solution.equilibria:
        for i in range(3):
            tried = []
            for other in range(table.quality.shape[1]):
                changed = profile.copy()
                changed[i] = other
                tried.append(by_hand(None, table.take(changed))[1][i])
            assert tried[profile[i]] >= max(tried) * (1 - 1e-9)
    assert ttc_env.nash_conv(market, solution.equilibria[0], solution.mechanism) < 1e-12


def test_large_games_are_searched_and_say_that_something_may_be_missing():
    market = ttc_env.load_market()
    solution = ttc_env.solve(market, luce("grid"))
    assert not solution.complete
    assert "profiles" in solution.reason
    assert len(solution.equilibria)
    assert ttc_env.nash_conv(market, solution.equilibria[0], luce("grid")) < 1e-9


def test_mixed_profiles_of_it_are_enumerated():
    """E[U] of every action, summed here over every joint action of the rivals."""
    market, rng = ttc_env.load_market(providers=SMALL["providers"][:2]), np.random.default_rng(0)
    mechanism = luce((0.8, 2.0))
    table = mechanism.offers(market)
    a = table.quality.shape[1]
    mixture = rng.dirichlet(np.ones(a), 2)
    expected = np.empty((2, a))
    for own in range(a):
        for i in range(2):
            tried = [np.array([own, x]) if i == 0 else np.array([x, own]) for x in range(a)]
            earned = [by_hand(None, table.take(profile))[1][i] for profile in tried]
            expected[i, own] = mixture[1 - i] @ earned
    found = mechanism.rule.expected_utilities(mixture, table, market)
    np.testing.assert_allclose(found.amount * np.exp(found.log_factor), expected, rtol=1e-12)
    gaps = expected.max(axis=1) - (mixture * expected).sum(axis=1)
    assert ttc_env.nash_conv(market, mixture, mechanism) == pytest.approx(gaps.sum(), rel=1e-9)


def test_too_many_joint_actions_are_refused_before_they_are_looked_at():
    market, mechanism = ttc_env.load_market(), luce("grid")
    exists = ~np.isnan(mechanism.offers(market).quality)
    with pytest.raises(ValueError, match="mixes over more than 262144 joint actions; pass a pure"):
        ttc_env.nash_conv(market, exists / exists.sum(axis=1, keepdims=True), mechanism)


def test_the_nearest_profile_of_a_large_game_is_searched_and_says_so(monkeypatch):
    market, mechanism = ttc_env.load_market(providers=SMALL["providers"]), luce(SMALL["prices"])
    exact = enumeration.least_regret(mechanism, market)
    assert exact.exact
    monkeypatch.setattr(enumeration, "MOST_PROFILES", 1)
    found = mechanism.rule.least_regret(mechanism, market)
    assert not found.exact
    assert found.relative >= exact.relative
    own = ttc_env.relative_regret(market, found.profile, mechanism).max()
    assert found.relative == pytest.approx(own, abs=1e-15)


def test_a_search_that_is_cut_short_lists_no_more_than_is_true(monkeypatch):
    """After one sweep only a start that is an equilibrium itself is known to be one."""
    market, mechanism = ttc_env.load_market("gpqa", beta=1e4), make_mechanism("market", "grid")
    game = enumeration.Game(mechanism, market, mechanism.offers(market))
    whole = {tuple(profile) for profile in game.search(1e-9).equilibria}
    assert whole
    monkeypatch.setattr(enumeration, "_SWEEPS", 1)
    cut = {tuple(profile) for profile in game.search(1e-9).equilibria}
    assert cut == whole & {tuple(start) for start in game.starts()}
    assert cut < whole


def test_no_profiles_hold_no_equilibria():
    market, mechanism = ttc_env.load_market(providers=SMALL["providers"]), luce(SMALL["prices"])
    game = enumeration.Game(mechanism, market, mechanism.offers(market))
    none = game.equilibria_among(np.empty((0, 3), np.intp), 1e-9)
    assert none.shape == (0, 3)
    every = np.concatenate(list(game.blocks()))[::-1]
    found = enumeration.solve(mechanism, market).equilibria
    np.testing.assert_array_equal(game.equilibria_among(every, 1e-9), found)
    game._step = 1  # a block a profile
    np.testing.assert_array_equal(game.equilibria_among(every, 1e-9), found)
    assert len(found)


def test_its_continuous_prices_have_no_solver_and_the_error_names_the_grid():
    env = ttc_env.parallel_env(mechanism="luce", actions="continuous", infos="basic")
    with pytest.raises(ValueError, match=r"'luce' has no solver.*ttc_env.solve\(market, mechanism"):
        env.solve()


def test_it_is_compared_in_the_reading_that_it_has():
    """What users' tastes are worth is not known of it."""
    market = ttc_env.load_market(providers=SMALL["providers"], beta=200.0)
    rows = ttc_env.compare(market, ["luce"], resamples=0).rows
    assert {row["reading"] for row in rows} == {"without tastes"}
    mechanism = luce("fixed")
    assert account(mechanism, market, [0, 0, 0], tastes=True) is None
    offer = mechanism.offers(market).take(np.zeros(3, int))
    share, _ = by_hand(market, offer)
    found = account(mechanism, market, [0, 0, 0])
    assert float(found.welfare) == pytest.approx(float(share @ (offer.quality - offer.cost)))


def test_provider_view_and_learners_play_it():
    env = gymnasium.make(
        "ttc_env/Provider-v0", mechanism="luce", opponent=lambda seen: np.array([0, 1]), **SMALL
    )
    env.reset(seed=0)
    assert env.step(np.array([0, 1]))[1] > 0


@pytest.mark.parametrize(
    "mechanism", [make_mechanism("market", (0.8, 2.0)), second_price_auction((0.0, 1.0))]
)
def test_what_rules_know_is_what_enumeration_finds(mechanism):
    """Every override of the built-in rules against the default from the definition."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        cost = rng.uniform(0.1, 1.0, (3, 2))
        market = ttc_env.Market.from_arrays(
            rng.uniform(0.2, 2.0, (3, 2)), cost * 1.3, cost, beta=rng.choice([0.5, 5.0, 50.0])
        )
        rule, table = mechanism.rule, mechanism.offers(market)
        mixture = rng.dirichlet(np.ones(table.quality.shape[1]), 3)
        found = rule.expected_utilities(mixture, table, market)
        expected = enumeration.expected_utilities(rule, mixture, table, market)
        np.testing.assert_allclose(
            found.amount * np.exp(found.log_factor), expected.amount, rtol=1e-9, atol=1e-12
        )
        exhaustive = enumeration.solve(mechanism, market)
        solution = ttc_env.solve(market, mechanism)
        assert {tuple(p) for p in np.atleast_2d(solution.lowest)} <= {
            tuple(p) for p in exhaustive.equilibria
        }


def test_rules_are_leaves():
    with pytest.raises(TypeError, match="derive it from Rule"):

        class Reserve(SecondScore):
            pass

    with pytest.raises(TypeError, match="closed forms"):

        class Half(PostedPrice):
            pass


def test_definitions_are_equal_in_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    from ttc_env.game.tariffs import Offer

    rules = [
        *(PostedPrice(), SecondScore(), SecondScore("claimed", 0.2), Luce()),
        *(FirstScore(), FirstScore("claimed", 0.2), TasteAuction(), TasteAuction("claimed")),
    ]
    for rule in rules:
        parts = [rng.uniform(0.1, 1.0, (4, 50)) for _ in range(4)]
        parts[2][:, ::3] = parts[2][0, ::3]  # some ties
        offer = Offer(*parts)
        users = Users(np.full(50, 7.0), np.full(50, 0.1))
        found = rule.play(offer.map(torch.as_tensor), users.map(torch.as_tensor))
        expected = rule.play(offer, users)
        for name in ("log_share", "outside_share", "payment", "profit", "user_value", "welfare"):
            np.testing.assert_allclose(
                getattr(found, name).numpy(), getattr(expected, name), rtol=1e-14, atol=1e-15
            )


def test_best_rivals_are_the_loop():
    score = np.random.default_rng(3).integers(0, 4, (5, 200)) * 1.0
    found = best_rival(score)
    for i in range(5):
        others = np.delete(score, i, axis=0)
        np.testing.assert_array_equal(found.score[i], others.max(axis=0))
        np.testing.assert_array_equal(found.ties[i], (others == others.max(axis=0)).sum(axis=0))


def test_names_and_options_are_checked():
    with pytest.raises(ValueError, match="choose auction, first_score"):
        ttc_env.make_mechanism("lottery")
    with pytest.raises(TypeError, match="its options are prices, settlement, reserve, misreport"):
        ttc_env.make_mechanism("auction", fee=3)
    with pytest.raises(
        TypeError, match="its options are prices, misreport, audit_rate, fine, noticed, types"
    ):
        ttc_env.make_mechanism("market", reserve=3)
    with pytest.raises(TypeError, match="only option is prices"):
        ttc_env.make_mechanism("luce", reserve=3)
    with pytest.raises(ValueError, match="registered already"):
        ttc_env.register_mechanism("market", luce)
    with pytest.raises(TypeError, match="a parameter `prices`"):
        ttc_env.register_mechanism("other", lambda: luce())
    for name in ("", 3, None):
        with pytest.raises(ValueError, match="a mechanism's name is a word"):
            ttc_env.register_mechanism(name, luce)
    mine = luce("grid")
    assert ttc_env.make_mechanism(mine) is mine
    with pytest.raises(ValueError, match="set prices, fee there"):
        ttc_env.make_mechanism(mine, "grid", fee=3)
    with pytest.raises(ValueError, match="set fee there"):
        ttc_env.make_mechanism(mine, fee=3)
