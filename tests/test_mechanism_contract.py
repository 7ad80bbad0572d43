"""What every registered mechanism owes: its closed forms are its definition's, torch plays as NumPy
does, and one environment plays as a batch does.
"""

import gymnasium
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

import ttc_env
from ttc_env.game import enumeration
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import make_mechanism, mechanism_options
from ttc_env.game.rules.base import EveryAction, Users

TYPES = [
    ttc_env.UserType(0.6, beta=3.0),
    ttc_env.UserType(0.4, beta=60.0, alpha=1.5, baseline=0.2),
]
#: Every mechanism, and every one that takes user types once more with them: name and options.
CASES = {
    **{name: (name, {}) for name in ttc_env.mechanisms()},
    **{
        f"{name}, user types": (name, {"types": TYPES})
        for name in ttc_env.mechanisms()
        if "types" in mechanism_options(name)
    },
}
every_mechanism = pytest.mark.parametrize(("name", "options"), CASES.values(), ids=CASES)


def market(seed=0, beta=5.0):
    """With everything that a tariff may read, and level grids of different lengths."""
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(0.2, 1.0, (3, 3))
    price = np.sort(rng.uniform(0.02, 0.5, (3, 3)), axis=1)
    cost = price / 1.25
    tables = [0.1 + 0.9 * accuracy, price, cost, accuracy, rng.integers(1, 9, (3, 3)) * 100.0]
    for table in tables:
        table[1, 2] = np.nan
    return ttc_env.Market.from_arrays(
        *tables[:3], accuracy=tables[3], characters=tables[4], alpha=1.0, baseline=0.1, beta=beta
    )


def grid(name):
    """Three price choices with the neutral one among them."""
    neutral = make_mechanism(name).tariff.neutral
    return (neutral - 0.5, neutral, neutral + 1.0)


def test_the_built_in_mechanisms_are_there():
    names = set(ttc_env.mechanisms())
    assert {"market", "auction", "flat_fee", "pay_per_correct", "two_part"} <= names
    assert {"price_cap", "per_character"} <= names
    assert "flat_fee, user types" in CASES


@every_mechanism
def test_what_is_known_of_the_game_is_what_enumeration_finds(name, options):
    rng = np.random.default_rng(1)
    for seed in range(15):
        world = market(seed, beta=float(rng.choice([0.5, 5.0, 50.0])))
        mechanism = make_mechanism(name, grid(name), **options)
        rule, table = mechanism.rule, mechanism.offers(world)
        exhaustive = enumeration.solve(mechanism, world)
        solution = ttc_env.solve(world, mechanism)
        every = {tuple(p) for p in exhaustive.equilibria}
        ends = [p for p in (solution.lowest, solution.highest) if p is not None]
        listed = getattr(solution, "equilibria", None)  # rules with dominant strategies list none
        for profile in [*ends, *(() if listed is None else np.atleast_2d(listed))]:
            assert tuple(profile) in every
        # A game of several user types may have none; all others here have.
        assert ends or len(listed) or ("types" in options and not every)
        assert rule.optimal_welfare(mechanism, world) == pytest.approx(
            enumeration.optimum(mechanism, world).welfare, rel=1e-12
        )
        mixture = np.where(np.isnan(table.quality), 0.0, rng.uniform(0, 1, table.quality.shape))
        mixture /= mixture.sum(axis=1, keepdims=True)
        found = rule.expected_utilities(mixture, table, world)
        expected = enumeration.expected_utilities(rule, mixture, table, world)
        np.testing.assert_allclose(
            found.amount * np.exp(found.log_factor), expected.amount, rtol=1e-9, atol=1e-12
        )


@every_mechanism
def test_best_replies_are_those_of_every_action(name, options):
    rng = np.random.default_rng(2)
    mechanism = make_mechanism(name, grid(name), **options)
    batch = MarketBatch.of([market(k) for k in (0, 1)])
    raw = batch.offers(mechanism)
    users = Users.of(batch)
    at = rng.integers(0, 2, 50)
    action = np.stack(
        [[rng.choice(np.flatnonzero(~np.isnan(raw.quality[i, g]))) for g in at] for i in range(3)]
    )
    offer = raw.map(lambda table: table[np.arange(3)[:, None], at, action])
    chosen = users.map(lambda x: x[at])
    played = mechanism.play(offer, chosen)
    noise = np.array([mechanism.rule.noise(raw.map(lambda x, g=g: x[:, g])) for g in at])
    found = mechanism.rule.best_replies(raw, users).regrets(action, played, chosen, at, noise)
    expected = EveryAction(mechanism.rule, raw).regrets(action, played, chosen, at, noise)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-13)


@every_mechanism
def test_prices_and_rounds_are_equal_in_torch(name, options):
    torch = pytest.importorskip("torch")
    mechanism, world = make_mechanism(name, grid(name), **options), market()
    terms = mechanism.tariff.terms(world)
    for choice in (0.3, 1.0, 7.0):
        found = mechanism.tariff.price(
            tuple(torch.tensor(term) for term in terms), torch.tensor(choice, dtype=torch.float64)
        )
        np.testing.assert_allclose(
            np.asarray(found), mechanism.tariff.price(terms, choice), rtol=1e-15
        )
    profiles = np.random.default_rng(3).integers(0, 6, (3, 40))
    offer = mechanism.offers(world).take(profiles)
    users = Users.of(world.replace(outside_value=0.1)).map(lambda x: np.full(40, x))
    found = mechanism.play(offer.map(torch.as_tensor), users.map(torch.as_tensor))
    expected = mechanism.play(offer, users)
    for field in ("log_share", "outside_share", "payment", "profit", "user_value", "welfare"):
        np.testing.assert_allclose(
            np.asarray(getattr(found, field)), getattr(expected, field), rtol=1e-13, atol=1e-15
        )


def continuous(name, options):
    """Options for continuous prices, with regrets where the rule has a formula for them."""
    try:
        make_mechanism(name, **options).rule.check_continuous()
    except ValueError:
        return {"actions": "continuous", "infos": "basic"}
    return {"actions": "continuous", "infos": "full"}


@every_mechanism
def test_it_plays_in_pettingzoo_and_gymnasium(name, options):
    for more in ({}, {"prices": "fixed"}, continuous(name, options), {"demand": "sampled"}):
        env = ttc_env.parallel_env(mechanism=name, market=market(), max_cycles=4, **options, **more)
        parallel_api_test(env, num_cycles=10)
    view = gymnasium.make(
        "ttc_env/Provider-v0",
        mechanism=name,
        market=market(),
        opponent=lambda seen: np.array([0, 1]),
        **options,
    )
    view.reset(seed=0)
    assert np.isfinite(view.step(np.array([1, 1]))[1])


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
@every_mechanism
def test_a_batch_plays_as_one_environment_does(name, options, backend, actions):
    if backend != "numpy":
        pytest.importorskip(backend)
    if (backend, actions) == ("numba", "continuous"):
        pytest.skip("numba plays discrete actions")
    own = options
    options = {"mechanism": name, "prices": grid(name), "infos": "full", **own}
    if actions == "continuous":
        options.update(continuous(name, own))
    markets = [market(0), market(1)]
    try:
        batch = ttc_env.vector_env(4, market=markets, backend=backend, **options)
        batch.reset(seed=0)
    except ValueError as refused:
        if backend == "numba" and "no compiled round" in str(refused):
            pytest.skip(str(refused))
        raise
    rng = np.random.default_rng(4)
    if actions == "discrete":
        sent = np.stack([rng.integers(0, 2, (4, 3)), rng.integers(0, 3, (4, 3))], axis=2)
    else:
        sent = rng.uniform(-1, 1, (4, 3, 2))
    given = sent
    if backend == "torch":
        import torch

        given = torch.as_tensor(sent)
    _, rewards, *_, infos = batch.step(given)
    for b in range(4):
        env = ttc_env.parallel_env(market=markets[b % 2], **options)
        env.reset(seed=0)
        _, own, *_, own_infos = env.step(dict(zip(env.agents, sent[b], strict=True)))
        np.testing.assert_allclose(np.asarray(rewards)[b], list(own.values()), rtol=1e-11)
        if options["infos"] == "basic":
            continue
        for field in ("share", "regret", "relative_regret", "utility"):
            mine = [info[field] for info in own_infos.values()]
            np.testing.assert_allclose(
                np.asarray(infos[field])[b], mine, rtol=1e-9, atol=1e-13, err_msg=field
            )
        for field in ("welfare", "optimal_welfare"):
            mine = own_infos[env.possible_agents[0]][field]
            np.testing.assert_allclose(np.asarray(infos[field])[b], mine, rtol=1e-11)


@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
@every_mechanism
def test_lies_play_alike_everywhere(name, options, backend):
    """Every lie that makes sense under it, against the pure functions and in one environment."""
    if backend != "numpy":
        pytest.importorskip(backend)
    lies = make_mechanism(name).tariff.lies
    options = {
        "mechanism": name, "prices": grid(name), "misreport": lies, "audit_rate": 0.5,
        "fine": 0.1, "actions": "flat", "infos": "full", **options,
    }  # fmt: skip
    markets = [market(0), market(1)]
    try:
        batch = ttc_env.vector_env(30, market=markets, backend=backend, **options)
        batch.reset(seed=0)
    except ValueError as refused:
        if backend == "numba" and "no compiled round" in str(refused):
            pytest.skip(str(refused))
        raise
    mechanism = batch.config.mechanism
    count = mechanism.offers(markets[0]).quality.shape[1]
    sent = np.random.default_rng(5).integers(0, count, (30, 3))
    given = sent
    if backend == "torch":
        import torch

        given = torch.as_tensor(sent)
    _, rewards, *_, infos = batch.step(given)
    for b in range(30):
        world = markets[b % 2]
        table = mechanism.offers(world)
        actions = mechanism.existing([3, 2, 3], world)[np.arange(3), sent[b]]
        played = mechanism.play(table.take(actions), world)
        np.testing.assert_allclose(
            np.asarray(rewards)[b], 1000 * played.utility, rtol=1e-10, atol=1e-12
        )
        expected = {
            "action": actions, "report": mechanism.split(actions, world)[2],
            "seen": played.offer.seen, "penalty": played.offer.penalty,
            "payment": played.payment, "profit": played.profit,
            "regret": ttc_env.regret(world, actions, mechanism),
        }  # fmt: skip
        one = ttc_env.parallel_env(market=world, **options)
        one.reset(seed=0)
        _, _, _, _, own = one.step(dict(zip(one.agents, sent[b].tolist(), strict=True)))
        for field, values in expected.items():
            mine = [info[field] for info in own.values()]
            for found in (np.asarray(infos[field])[b], mine):
                np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-13, err_msg=field)
        for found in (np.asarray(infos["fines"])[b], own["provider_0"]["fines"]):
            assert found == pytest.approx(float(played.fines), rel=1e-10, abs=1e-15)
