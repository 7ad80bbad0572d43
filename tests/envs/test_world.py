"""A world that moves, against a plain re-implementation: costs, demand, presence and prices are
stepped by hand, and every round is a fresh market that `Mechanism.play` plays.
"""

import copy
import dataclasses
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test

import ttc_env
from tests.variants import UNEVEN, VARIANTS, as_dict
from ttc_env.game import enumeration
from ttc_env.game.mechanisms import make_mechanism, mechanism_options
from ttc_env.game.tariffs import Offer
from ttc_env.testing import check_env

COST, DEMAND = ttc_env.AR1(0.8, 0.3, shared=False), ttc_env.AR1(0.5, 0.6)
MOVING = ttc_env.Shocks(cost=COST, demand=DEMAND, entry=0.3, exit=0.2)
PRICES = {"prices": (0.8, 1.0, 2.0, 8.0)}
FEW = {"providers": ["Qwen2-7B", "Qwen2.5-3B", "Llama-3.1-8B"], **PRICES}
TYPES = [
    ttc_env.UserType(0.6, beta=30.0),
    ttc_env.UserType(0.4, beta=600.0, alpha=1.5, baseline=0.2),
]
BETAS = [ttc_env.UserType(0.6, beta=3.0), ttc_env.UserType(0.4, beta=40.0)]
LIES = {
    "misreport": {"over_report": 1.5, "under_serve": "every"}, "audit_rate": 0.5, "fine": 0.05,
    **PRICES,
}  # fmt: skip
WORLDS = {
    "all": {"shocks": MOVING, "price_period": 3},
    "costs": {"shocks": ttc_env.Shocks(cost=[COST, ttc_env.Path([1.0, 1.5, 0.5], cycle=True)])},
    "demand": {"shocks": ttc_env.Shocks(demand=DEMAND)},
    "presence": {"shocks": ttc_env.Shocks(entry=0.2, exit=(0.3, 0.1, 0.5)), "market": UNEVEN},
    "ruin": {"shocks": ttc_env.Shocks(cost=ttc_env.AR1(1.0, 1.0), capital=0.2, entry=0.5)},
    "prices": {"price_period": 4},
    "all, auction": {"shocks": MOVING, "price_period": 3, "mechanism": "auction"},
    "all, flat": {
        "shocks": MOVING, "price_period": 2, "mechanism": "auction", "actions": "flat",
        "misreport": {"over_claim": (0.8, 1.25)},
    },
    "two part": {"shocks": MOVING, "price_period": 3, "mechanism": "two_part"},
    "tastes": {
        "shocks": MOVING, "mechanism": "taste_auction", "price_period": 2, **FEW,
        "prices": (-0.2, 0.0, 1.0),
    },
    "uneven": {"shocks": ttc_env.Shocks(cost=COST, entry=0.5, exit=0.5), "market": UNEVEN},
    "fixed": {"shocks": MOVING, "prices": "fixed", "information": "own"},
    "lies": {"shocks": MOVING, "price_period": 3, "market": UNEVEN, **LIES},
    "lies, auction": {
        "shocks": MOVING, "price_period": 2, "market": UNEVEN, "mechanism": "auction",
        "actions": "flat", "misreport": ("under_serve", "over_claim"), "settlement": "claimed",
        "fine": 0.1, "prices": (-0.2, 0.0, 1.0),
    },
    "types": {"shocks": MOVING, "price_period": 3, "types": TYPES, **FEW, "prices": (1.0, 4.0)},
    "types, lies": {
        "shocks": ttc_env.Shocks(cost=COST, entry=0.5, exit=0.5), "market": UNEVEN, "types": BETAS,
        "noticed": True, **LIES,
    },
}  # fmt: skip
CONTINUOUS = {
    "continuous": {"shocks": MOVING, "price_period": 3, "actions": "continuous"},
    "continuous auction": {
        "shocks": MOVING, "price_period": 2, "actions": "continuous", "mechanism": "auction",
    },
    "continuous, fixed": {"shocks": MOVING, "actions": "continuous", "prices": "fixed"},
    "continuous lies": {
        "shocks": MOVING, "price_period": 3, "market": UNEVEN, "actions": "continuous",
        "noticed": True, **LIES,
    },
    "continuous auction, lies": {
        "shocks": MOVING, "price_period": 2, "market": UNEVEN, "actions": "continuous",
        "mechanism": "auction", "misreport": ("under_serve", "over_claim"), "fine": 0.1,
        "settlement": "claimed",
    },
}  # fmt: skip
SAMPLED = {
    "sampled": {"shocks": MOVING, "price_period": 3, "demand": "sampled"},
    "sampled lies": {"shocks": MOVING, "demand": "sampled", "market": UNEVEN, **LIES},
    "sampled types": {
        "shocks": MOVING,
        "demand": "sampled",
        "types": BETAS,
        "market": UNEVEN,
        **PRICES,
    },
}
EVERY = {**WORLDS, **CONTINUOUS, **SAMPLED}
QUICK = (
    "all", "ruin", "prices", "all, auction", "continuous auction", "sampled", "lies", "types, lies",
    "continuous lies", "sampled lies",
)  # fmt: skip


def worlds(names):
    """All of these, those beyond a quick few among the slow tests."""
    return [w if w in QUICK else pytest.param(w, marks=pytest.mark.slow) for w in names]


class ByHand:
    """The world of one environment in plain Python, from the same random numbers."""

    def __init__(self, env, seed):
        config = env.config
        self.shocks, self.users, self.period = config.shocks, config.users, config.price_period
        self.n = config.market.num_providers
        self.rng = np.random.default_rng((seed, 0x576F726C))
        self.t, self.held = 0, [None] * self.n
        self.present, self.capital = [True] * self.n, None
        if self.shocks is not None and self.shocks.capital is not None:
            self.capital = [float(self.shocks.capital)] * self.n
        self.factors = {name: self._first(name) for name in ("costs", "demands")}

    def _processes(self, name):
        return () if self.shocks is None else getattr(self.shocks, name)

    def _first(self, name):
        found = []
        for one in self._processes(name):
            if isinstance(one, ttc_env.AR1):
                self.rng.standard_normal(1 if one.shared else self.n)
                found.append([1.0] * (1 if one.shared else self.n))
            else:
                found.append([float(one.values[0])])
        return found

    def _next(self, name):
        for k, one in enumerate(self._processes(name)):
            if isinstance(one, ttc_env.AR1):
                e = self.rng.standard_normal(len(self.factors[name][k]))
                self.factors[name][k] = [
                    x**one.rho * np.exp(one.sigma * z)
                    for x, z in zip(self.factors[name][k], e, strict=True)
                ]
            else:
                self.factors[name][k] = [float(one.values[self.t % len(one.values)])]

    def cost(self, i):
        product = 1.0
        for factors in self.factors["costs"]:
            product *= factors[i if len(factors) > 1 else 0]
        return product

    @property
    def arrivals(self):
        size = self.users
        for (factor,) in self.factors["demands"]:
            size *= factor
        return max(1, round(size))

    def choices(self, config, actions):
        """Flat actions with the prices that are held, and what is held from now on."""
        parts = list(np.unravel_index(config.choose(actions), config.parts))
        for i, price in enumerate(self.held):
            if price is not None:
                parts[1][i] = price
        return np.ravel_multi_index(parts, config.parts), parts[1]

    def step(self, prices, rewards):
        self.t += 1
        self._next("costs")
        self._next("demands")
        stayed = list(self.present)
        if self.shocks is not None and "presence" in self.shocks.moves:
            u = self.rng.random(self.n) if self.shocks.chances else [1.0] * self.n
            entry = np.broadcast_to(self.shocks.entry, self.n)
            leave = np.broadcast_to(self.shocks.exit, self.n)
            for i in range(self.n):
                if self.present[i]:
                    self.present[i] = not u[i] < leave[i]
                    if self.capital is not None:
                        self.capital[i] += rewards[i]
                        self.present[i] &= self.capital[i] >= 0
                    stayed[i] &= self.present[i]
                elif u[i] < entry[i]:
                    self.present[i] = True
                    if self.capital is not None:
                        self.capital[i] = float(self.shocks.capital)
        locked = self.t % self.period != 0
        self.held = [int(prices[i]) if locked and stayed[i] else None for i in range(self.n)]


def lying_offer(mechanism, market, rows, costs, parts):
    """Offers of per-token prices or of bids, lie by lie."""
    offers, lies = [], mechanism.misreports
    for i, cost, level, price, report in zip(rows, costs, *parts, strict=True):
        kind, size = mechanism.reports(market)[report]
        fine = 0.0 if kind == "truth" else lies.audit_rate * lies.fine
        announced = level + int(size) if kind == "under_serve" else level
        seen = market.quality[i, announced] * (size if kind == "over_claim" else 1.0)
        choice = mechanism.tariff.choices[price]
        if mechanism.name == "auction":
            asked = paid = cost[level] * (1.0 + choice) + fine
        else:
            asked = market.price[i, announced] * choice
            paid = asked * (size if kind == "over_report" else 1.0)
            asked = paid if lies.noticed else asked
        offers.append((market.quality[i, level], seen, asked, cost[level], paid, fine))
    return Offer(*np.array(offers).T)


def squashed(x):
    return np.log(x) / (1 + abs(np.log(x)))


def sampled_actions(env, infos):
    return {
        agent: env.action_space(agent).sample(infos[agent].get("action_mask"))
        for agent in env.agents
    }


@pytest.mark.parametrize("world", WORLDS)
def test_every_round_is_a_fresh_market_played_by_hand(world):
    env = ttc_env.parallel_env(max_cycles=14, **WORLDS[world])
    for k, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(k)
    obs, _ = env.reset(seed=5)
    hand, config = ByHand(env, 5), env.config
    market, mechanism = config.market, config.mechanism
    at = env.layout.slices
    while env.agents:
        rows = [i for i in range(hand.n) if hand.present[i]]
        mine = next(iter(obs.values()))
        if "cost_factor" in at and config.information == "full":
            seen = [squashed(hand.cost(i)) for i in range(hand.n)]
            np.testing.assert_allclose(mine[at["cost_factor"]], seen, atol=1e-6)
        if "present" in at and config.information == "full":
            assert mine[at["present"]].tolist() == [float(x) for x in hand.present]
        if "arrivals" in at:
            seen = squashed(hand.arrivals / hand.users)
            np.testing.assert_allclose(mine[at["arrivals"]], seen, atol=1e-6)
        if "price_wait" in at:
            wait = (hand.period - hand.t % hand.period) / hand.period
            waits = [wait * (held is not None) for held in hand.held]
            found = [float(x[at["price_wait"]][0]) for x in obs.values()]
            np.testing.assert_allclose(found, waits, atol=1e-7)
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        flat, prices = hand.choices(config, list(actions.values()))
        t, arrivals, present = hand.t, hand.arrivals, list(hand.present)
        costs = [market.cost[i] * hand.cost(i) for i in rows]
        obs, rewards, _, _, infos = env.step(actions)
        earned = list(rewards.values())
        assert env.stage(t).arrivals == arrivals
        assert env.stage(t).providers == tuple(rows)
        if rows:
            fresh = ttc_env.Market.from_arrays(
                market.quality[rows], market.price[rows], costs, beta=market.beta,
                outside_value=market.outside_value, alpha=market.alpha, baseline=market.baseline,
            )  # fmt: skip
            np.testing.assert_allclose(
                env.market_at(t).cost, np.stack(costs)[:, : env.market_at(t).num_levels], rtol=1e-12
            )
            parts = np.unravel_index(flat[rows], config.parts)
            if mechanism.misreports.kinds:
                offer = lying_offer(mechanism, market, rows, costs, parts)
            else:
                at = np.ravel_multi_index(parts, mechanism.grid(fresh))
                offer = mechanism.offers(fresh).take(at)
            played = mechanism.play(offer, fresh)
            for j, i in enumerate(rows):
                info = infos[f"provider_{i}"]
                assert earned[i] == pytest.approx(arrivals * played.utility[j], rel=1e-9, abs=1e-15)
                for name in ("share", "payment", "profit"):
                    expected = getattr(played, name)[j]
                    assert info[name] == pytest.approx(expected, rel=1e-9, abs=1e-15), name
                if mechanism.misreports.kinds:
                    assert info["report"] == parts[2][j]
                    assert info["seen"] == pytest.approx(offer.seen[j])
                    assert info["penalty"] == offer.penalty[j]
            assert info["welfare"] == pytest.approx(float(played.welfare), rel=1e-9)
            assert info.get("fines", 0.0) == pytest.approx(float(played.fines), abs=1e-15)
        for i in set(range(hand.n)) - set(rows):
            info = infos[f"provider_{i}"]
            assert earned[i] == info["share"] == info["utility"] == info["regret"] == 0.0
            assert info["level"] == info.get("report", -1) == -1
            assert info.get("seen", 0.0) == info.get("penalty", 0.0) == 0.0
            assert not info["present"]
        assert infos["provider_0"].get("arrivals", arrivals) == arrivals
        hand.step(prices, earned)
        assert not any(env.last_round.share[[not x for x in present]])


@pytest.mark.parametrize("world", worlds([*WORLDS, "continuous"]))
def test_regrets_are_what_other_actions_would_have_earned(world):
    """Regret and deviations against a batch of the same world, in which one provider tries all."""
    options = {"max_cycles": 7, "infos": "full", **EVERY[world]}
    env = ttc_env.vector_env(1, autoreset="disabled", **options)
    config, n = env.config, env.num_agents
    if config.continuous:
        levels, prices = np.linspace(-0.9, 0.9, 6), np.linspace(-1, 1, 161)
        tried = np.stack(np.meshgrid(levels, prices), -1).reshape(-1, 2)
    else:
        tried = np.stack([config.action_of(0, a) for a in range(len(config.table.quality[0]))])
    copies = ttc_env.vector_env(len(tried), autoreset="disabled", **{**options, "infos": "basic"})
    env.reset(seed=[3])
    copies.reset(seed=[3] * len(tried))
    for t in range(7):
        users = env.stages()[0].arrivals
        env.action_space.seed(t)
        actions = env.action_space.sample()
        same = np.repeat(actions, len(tried), axis=0)
        _, rewards, _, _, infos = env.step(actions)
        profit, log_share = env.deviations()
        for i in range(n):
            others = same.copy()
            others[:, i] = tried
            earned = copies.rewards(others)[:, i]
            gain = max(earned.max() - rewards[0, i], 0.0)
            regret = infos["regret"][0, i] * users
            if config.continuous:  # no finite grid reaches the best price
                assert gain - 1e-12 <= regret <= gain + 0.002 * abs(earned.max()) + 1e-12
                continue
            assert regret == pytest.approx(gain, rel=1e-7, abs=1e-11)
            found = users * (profit * np.exp(log_share))[0, i]
            exists = ~np.isnan(found)
            np.testing.assert_allclose(found[exists], earned[exists], rtol=1e-9, atol=1e-12)
        copies.step(same)


@pytest.mark.parametrize(
    "world", ["all", "costs", "fixed", "two part", "uneven", "prices", "lies", "types"]
)
def test_nobody_regrets_the_equilibrium_of_a_round(world):
    env = ttc_env.parallel_env(max_cycles=9, **WORLDS[world])
    env.reset(seed=1)
    for t in range(9):
        stage = env.stage(t)
        if stage.providers:
            solution = env.solve(t)
            assert solution.complete
            if solution.no_equilibrium:
                infos = env.step(stage.actions(solution.least_regret.profile))[4]
                worst = max(info["relative_regret"] for info in infos.values())
                assert worst == pytest.approx(solution.least_regret.relative, rel=1e-6)
                assert worst > 1e-9
                assert np.isnan(solution.welfare)
                continue
            infos = env.step(stage.actions(solution.worst))[4]
            assert max(info["relative_regret"] for info in infos.values()) < 1e-8
            assert infos["provider_0"]["optimal_welfare"] == pytest.approx(solution.optimal_welfare)
            assert infos["provider_0"]["welfare"] == pytest.approx(solution.welfare)
        else:
            infos = env.step({agent: env.action_space(agent).sample() for agent in env.agents})[4]
            assert infos["provider_0"]["welfare"] == env.market.outside_value
            with pytest.raises(ValueError, match="nobody is present"):
                env.solve(t)


@pytest.mark.parametrize("world", ["lies", "lies, auction", "types, lies", "fewer levels"])
def test_a_rounds_solution_is_what_enumeration_finds(world):
    fewer = {"shocks": ttc_env.Shocks(cost=COST, present=[False, True, True]), **WORLDS["lies"]}
    options = {"fewer levels": {**fewer, "price_period": 2, "prices": (0.8, 1.0, 2.0)}}
    env = ttc_env.parallel_env(max_cycles=8, **{**WORLDS, **options}[world])
    env.reset(seed=1)
    seen, mechanism = set(), env.config.mechanism
    for t in range(8):
        stage = env.stage(t)
        if stage.providers:
            seen.add((stage.market.num_levels, stage.holds))
            # reports count as in the environment, whoever is there
            assert stage.mechanism.reports(stage.market) == mechanism.reports(env.market)
            solution = stage.solve()
            expected = enumeration.solve(stage.mechanism, stage.market)
            assert expected.complete
            everything = {tuple(row) for row in expected.equilibria}
            assert {tuple(row) for row in solution.equilibria} <= everything
            if env.config.mechanism.name == "market":
                assert solution.optimal_welfare == pytest.approx(expected.optimal_welfare)
                assert bool(everything) == bool(len(solution.equilibria))
                stays = np.zeros(env.num_agents, int)
                stays[list(stage.providers)] = solution.optimum
                for j, i in enumerate(stage.providers):  # best replies, one by one
                    reply, tried = stage.best_reply(i, stays), solution.optimum.copy()
                    earned = []
                    for a in np.flatnonzero(
                        ~np.isnan(stage.mechanism.offers(stage.market).cost[j])
                    ):
                        tried[j] = a
                        earned.append(stage.mechanism.play(
                            stage.mechanism.offers(stage.market).take(tried), stage.market
                        ).utility[j])  # fmt: skip
                    tried[j] = reply
                    mine = stage.mechanism.offers(stage.market).take(tried)
                    found = stage.mechanism.play(mine, stage.market).utility[j]
                    assert found == pytest.approx(max(earned), rel=1e-8, abs=1e-15)
            action = solution.least_regret.profile if world != "lies, auction" else solution.worst
            infos = env.step(stage.actions(action))[4]
            for i, flat in zip(stage.providers, action, strict=True):
                assert infos[f"provider_{i}"]["action"] == flat
        else:
            env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    assert {held for _, held in seen} == {False, True} or env.config.price_period == 1
    assert world == "lies, auction" or len({levels for levels, _ in seen}) > 1


def test_an_auctions_round_with_untruthful_prices_held_is_enumerated():
    two = {"providers": ["Qwen2-7B", "Qwen2.5-3B"], "price_period": 3, "max_cycles": 6}
    env = ttc_env.parallel_env("auction", actions="flat", **two)
    env.reset(seed=0)
    env.step({"provider_0": 3 * 9 + 5, "provider_1": 2 * 9 + 1})
    stage = env.stage(1)
    assert stage.held == (5, 1)
    solution = stage.solve()
    assert solution.complete
    assert {x % 9 for x in np.array(solution.equilibria)[:, 0]} == {5}
    expected = enumeration.solve(stage.mechanism, stage.market)
    np.testing.assert_array_equal(solution.equilibria, expected.equilibria)
    infos = env.step(stage.actions(solution.worst))[4]
    assert infos["provider_0"]["nash_conv"] < 1e-12
    # truthful prices are held: dominant strategies
    env.reset(seed=0)
    env.step({"provider_0": 2, "provider_1": 2})
    assert env.stage(1).solve().actions.tolist() == env.solve().actions.tolist()


BACKENDS = ["numpy", "torch"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("world", worlds([*WORLDS, *CONTINUOUS]))
def test_one_seed_is_one_world_in_every_face(world, backend):
    pytest.importorskip(backend)
    options = {"max_cycles": 5, "infos": "full", **EVERY[world]}
    batch = ttc_env.vector_env(4, backend=backend, **options)
    seeds = [3, 4, 5, 6]
    singles = [ttc_env.parallel_env(**options) for _ in seeds]
    turns = ttc_env.env(**options)
    if backend == "torch":  # its users would be drawn by one generator
        batch._world_rng = None
    obs, infos = _reset(batch, seeds, backend)
    seen = [single.reset(seed=seed) for single, seed in zip(singles, seeds, strict=True)]
    turns.reset(seed=3)
    _same_view(obs, infos, seen)
    for t in range(7):
        batch.action_space.seed(t)
        actions = batch.action_space.sample()
        given = actions
        if backend == "torch":
            import torch

            given = torch.as_tensor(actions)
        obs, rewards, _, truncations, infos = batch.step(given)
        played = []
        for b, single in enumerate(singles):
            if not single.agents:
                single.reset()
            played.append(single.step(as_dict(single, actions[b])))
            np.testing.assert_allclose(
                list(played[-1][1].values()), np.asarray(rewards[b]), rtol=1e-11, atol=1e-15
            )
        if t % 5 == 0 and t:
            turns.reset()
        for i, agent in enumerate(turns.possible_agents):
            turns.step(actions[0, i] if actions.shape[2:] else int(actions[0, i]))
            assert agent in turns.possible_agents
        np.testing.assert_allclose(turns.state(), singles[0].state(), atol=1e-7)
        over = bool(np.asarray(truncations).all())
        shown = infos["final_obs"] if over else obs
        _same_view(shown, None if over else infos, [(one[0], one[4]) for one in played])
        for name in ("regret", "share", "nash_conv", "optimal_welfare", "level"):
            for b, one in enumerate(played):
                expected = [info[name] for info in one[4].values()]
                np.testing.assert_allclose(
                    np.broadcast_to(infos[name][b], len(expected)), expected, rtol=1e-9, atol=1e-13
                )


def _reset(batch, seeds, backend):
    if backend == "numpy":
        return batch.reset(seed=seeds)
    from ttc_env.envs.world.world import world_generator

    batch._world_rng = world_generator(seeds)  # torch takes one seed for users' draws
    return batch.reset()


def _same_view(obs, infos, seen):
    full = np.asarray(obs.full())
    for b, (observations, info) in enumerate(seen):
        np.testing.assert_allclose(full[b], list(observations.values()), atol=2e-7)
        if infos is not None and "action_mask" in infos:
            mine = [one["action_mask"] for one in info.values()]
            np.testing.assert_array_equal(infos["action_mask"][b], mine)


def test_torch_has_the_world_of_one_seed():
    torch = pytest.importorskip("torch")
    options = {"max_cycles": 20, **WORLDS["all"]}
    ours, theirs = (ttc_env.vector_env(50, backend=name, **options) for name in BACKENDS)
    ours.reset(seed=9)
    theirs.reset(seed=9)
    for t in range(20):
        ours.action_space.seed(t)
        actions = ours.action_space.sample()
        aside = ours.rewards(actions)
        rewards = ours.step(actions)[1]
        np.testing.assert_array_equal(aside, rewards)
        other = theirs.step(torch.as_tensor(actions))[1]
        np.testing.assert_allclose(np.asarray(other), rewards, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("world", ["all", "ruin", "prices", "continuous"])
def test_torch_goes_on_from_a_saved_state(world):
    torch = pytest.importorskip("torch")
    options = {"max_cycles": 8, **EVERY[world]}
    plain, other = (ttc_env.vector_env(3, backend="torch", **options) for _ in range(2))
    plain.reset(seed=9)
    for t in range(12):
        plain.action_space.seed(t)
        actions = torch.as_tensor(plain.action_space.sample())
        if t == 5:
            other.load_state_dict(pickle.loads(pickle.dumps(plain.state_dict())))
        rewards = plain.step(actions)[1]
        if t >= 5:
            np.testing.assert_array_equal(np.asarray(other.step(actions)[1]), np.asarray(rewards))


def test_prices_hold_in_compiled_rounds():
    pytest.importorskip("numba")
    options = {"max_cycles": 9, "price_period": 4}
    lies = {"misreport": "under_serve", "fine": 0.01}
    claims = {"mechanism": "auction", "misreport": {"over_claim": 0.8}}
    for more in ({}, {"actions": "flat"}, claims, lies, {**lies, "actions": "flat"}):
        ours, theirs = (
            ttc_env.vector_env(600, backend=name, **options, **more) for name in ("numpy", "numba")
        )
        ours.reset(seed=0)
        theirs.reset(seed=0)
        for t in range(11):
            ours.action_space.seed(t)
            actions = ours.action_space.sample()
            obs, rewards, *_ = ours.step(actions)
            nobs, nrewards, *_ = theirs.step(actions)
            np.testing.assert_array_equal(rewards, nrewards)
            np.testing.assert_array_equal(obs.full(), nobs.full())
            np.testing.assert_array_equal(ours.action_mask(), theirs.action_mask())


def test_sampled_users_are_those_of_a_batch_with_the_same_seeds():
    lies = {"misreport": ("over_report", "under_serve"), "audit_rate": 0.5, "fine": 0.01}
    types = {"types": BETAS, "market": UNEVEN, **PRICES}
    for more in ({}, {"mechanism": "auction"}, lies, types):
        options = {"max_cycles": 8, "infos": "full", **SAMPLED["sampled"], **more}
        batch = ttc_env.vector_env(3, autoreset="disabled", **options)
        singles = [ttc_env.parallel_env(**options) for _ in range(3)]
        batch.reset(seed=[7, 8, 9])
        for b, single in enumerate(singles):
            single.reset(seed=7 + b)
        for t in range(8):
            batch.action_space.seed(t)
            actions = batch.action_space.sample()
            rewards, infos = batch.step(actions)[1::3]
            for b, single in enumerate(singles):
                reward, info = single.step(as_dict(single, actions[b]))[1::3]
                np.testing.assert_allclose(list(reward.values()), rewards[b], rtol=1e-12)
                served = [one["served"] for one in info.values()]
                assert served == infos["served"][b].tolist()
                there = [one["present"] for one in info.values()]
                assert sum(served) <= info["provider_0"]["arrivals"]
                assert not any(s for s, here in zip(served, there, strict=True) if not here)
                for agent, one in info.items():
                    fines = 0.01 * one.get("caught", 0)
                    assert 0 <= one.get("caught", 0) <= one["served"] * (one.get("report", 1) > 0)
                    earned = one["served"] * (one["payment"] - one["cost"]) - fines
                    assert reward[agent] == pytest.approx(earned, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("more", ["", "lies", "types", "lies, types"])
@pytest.mark.parametrize("mechanism", ttc_env.mechanisms())
def test_every_mechanism_plays_in_a_world_that_moves(mechanism, more):
    market = ttc_env.random_markets(1, "gsm8k", seed=1)[0]
    options = {"benchmark": "gsm8k"}
    if "types" in more and "types" not in mechanism_options(mechanism):
        pytest.skip("takes no user types")
    if mechanism == "per_character":
        base = ttc_env.load_market("gsm8k")
        characters = 4.0 * np.stack([p.curve.tokens for p in base.providers])
        options = {
            "market": ttc_env.Market.from_arrays(
                base.quality, base.price, base.cost, beta=base.beta, characters=characters
            )
        }
    if "lies" in more:
        options |= {"misreport": make_mechanism(mechanism).tariff.lies, "fine": 0.01}
    if "types" in more:  # two providers: an optimum of all takes a search
        options |= {"types": [*TYPES[:1], ttc_env.UserType(0.4, beta=600.0)]}
        market = options.pop("market", None) or ttc_env.load_market(options.pop("benchmark"))
        options |= {"market": market.replace(providers=market.providers[:2])}
    assert market.num_providers == 9
    env = ttc_env.parallel_env(
        mechanism, prices="grid", shocks=MOVING, price_period=2, max_cycles=4, **options
    )
    _, infos = env.reset(seed=0)
    while env.agents:
        _, rewards, _, _, infos = env.step(sampled_actions(env, infos))
        assert np.isfinite(list(rewards.values())).all()
        for info in infos.values():
            assert 0 <= info["regret"] < 1
            assert info["welfare"] <= info["optimal_welfare"] + 1e-12


# --- the processes ---


@pytest.mark.parametrize(("rho", "sigma"), [(0.9, 0.1), (0.0, 0.5), (-0.6, 0.2)])
def test_ar1_has_the_moments_it_says(rho, sigma):
    process, rng = ttc_env.AR1(rho, sigma, start=None), np.random.default_rng(0)
    b, rounds = 4000, 60
    x = process.first(rng.standard_normal((1, b)))
    logs = [np.log(x[0])]
    for t in range(1, rounds):
        x = process.after(t, x, rng.standard_normal((1, b)))
        logs.append(np.log(x[0]))
    logs = np.array(logs)
    variance = sigma**2 / (1 - rho**2)
    for t in (0, 1, rounds - 1):  # stationary from the start; four standard errors
        assert logs[t].var() == pytest.approx(variance, rel=4 * np.sqrt(2 / b))
        assert abs(logs[t].mean()) < 4 * np.sqrt(variance / b)
    for k in (1, 3):
        found = (logs[20] * logs[20 + k]).mean() / variance
        assert found == pytest.approx(rho**k, abs=5 / np.sqrt(b))


def test_ar1_from_its_start_and_per_provider():
    process, rng = ttc_env.AR1((0.5, 1.0), (0.1, 0.0), shared=False, start=2.0), np.random
    rng = np.random.default_rng(1)
    x = process.first(np.zeros((2, 5000)))
    assert (x == 2.0).all()
    for t in range(1, 4):
        x = process.after(t, x, rng.standard_normal((2, 5000)))
    assert np.log(x[0]).mean() == pytest.approx(0.5**3 * np.log(2), abs=0.01)
    np.testing.assert_allclose(x[1], 2.0)
    walk = ttc_env.AR1(1.0, 1e3)
    assert walk.after(1, np.ones((1, 1)), np.ones((1, 1))) == pytest.approx(1e6)


def test_shared_shocks_hit_everybody_alike_and_environments_apart():
    env = ttc_env.vector_env(40, shocks=ttc_env.Shocks(cost=ttc_env.AR1(0.9, 0.3)))
    env.reset(seed=0)
    env.step(np.zeros((40, 9, 2), int))
    cost = env._stage.cost
    assert (cost == cost[0]).all()
    assert len(np.unique(cost[0])) == 40


def test_presence_is_a_two_state_chain():
    shocks = ttc_env.Shocks(entry=0.3, exit=0.1)
    env = ttc_env.vector_env(300, prices="fixed", shocks=shocks, max_cycles=1000)
    env.reset(seed=0)
    there = []
    for _ in range(25):
        env.step(np.zeros((300, 9), int))
        there.append(env._stage.present)
    there = np.array(there)
    assert there[-10:].mean() == pytest.approx(0.75, abs=0.02)
    stays = there[1:][there[:-1]].mean()
    returns = there[1:][~there[:-1]].mean()
    assert stays == pytest.approx(0.9, abs=0.01)
    assert returns == pytest.approx(0.3, abs=0.02)


# --- entry, exit, prices: by hand ---

LOSING = ttc_env.Market.from_arrays([[1.0], [1.0]], [[0.3], [0.3]], [[0.2], [0.2]], beta=1.0)


def test_a_provider_leaves_when_its_losses_exceed_its_capital():
    # costs double: each of two equal providers loses 0.1 USD a query; shares are e / (1 + 2 e)
    share = np.exp(0.7) / (1 + 2 * np.exp(0.7))
    loss = 100 * share * 0.1
    shocks = ttc_env.Shocks(cost=ttc_env.Path([2.0]), capital=(2.5 * loss, 1e9))
    env = ttc_env.parallel_env(market=LOSING, prices="fixed", users=100, shocks=shocks)
    env.reset(seed=0)
    for t in range(3):  # after three rounds 3 losses exceed 2.5
        assert env.stage(t).present.all()
        rewards = env.step({"provider_0": 0, "provider_1": 0})[1]
        assert rewards["provider_0"] == pytest.approx(-loss)
    assert env.stage(3).present.tolist() == [False, True]
    alone = np.exp(0.7) / (1 + np.exp(0.7))
    observations, rewards, _, _, infos = env.step({"provider_0": 0, "provider_1": 0})
    assert rewards == {"provider_0": 0.0, "provider_1": pytest.approx(-100 * alone * 0.1)}
    assert list(observations) == ["provider_0", "provider_1"]  # it stays an agent
    mask = infos["provider_0"]["action_mask"]
    assert mask.tolist() == [1]
    assert env.market_at(4).names == env.market.names[1:]
    with pytest.raises(ValueError, match="round 5 is not known"):
        env.market_at(5)


def test_capital_is_whole_again_on_entry():
    # 1.5 losses, as above: out after two rounds, for one
    loss = 1000 * np.exp(0.7) / (1 + 2 * np.exp(0.7)) * 0.1
    shocks = ttc_env.Shocks(cost=ttc_env.Path([2.0]), capital=1.5 * loss, entry=1.0)
    env = ttc_env.parallel_env(market=LOSING, prices="fixed", shocks=shocks, max_cycles=6)
    env.reset(seed=0)
    there = []
    while env.agents:
        there.append(env.stage(env.round).present.all())
        env.step({"provider_0": 0, "provider_1": 0})
    assert there == [True, True, False] * 2


def test_nobody_there():
    market = LOSING.replace(outside_value=0.1)
    shocks = ttc_env.Shocks(present=[[True, False], [False, False], [True, True]])
    for actions in ("discrete", "continuous"):
        env = ttc_env.parallel_env(market=market, actions=actions, shocks=shocks, max_cycles=4)
        env.reset(seed=0)
        play = {agent: env.action_space(agent).sample() for agent in env.agents}
        assert env.step(play)[4]["provider_1"]["share"] == 0.0
        _, rewards, _, _, infos = env.step(play)
        assert list(rewards.values()) == [0.0, 0.0]
        info = infos["provider_0"]
        assert info["welfare"] == info["user_value"] == info["optimal_welfare"] == 0.1
        assert info["nash_conv"] == 0.0
        assert env.step(play)[4]["provider_1"]["share"] > 0.0
        assert env.stage(3).present.all()


@pytest.mark.parametrize("actions", ["discrete", "flat"])
def test_prices_change_every_so_many_rounds(actions):
    env = ttc_env.parallel_env(
        price_period=3, actions=actions, max_cycles=7, providers=["Qwen2-7B"]
    )
    _, infos = env.reset(seed=0)
    asked = [4, 1, 2, 3, 5, 6, 7]
    kept = [4, 4, 4, 3, 3, 3, 7]
    for t in range(7):
        mask = infos["provider_0"]["action_mask"]
        free = mask.reshape(6, 9) if actions == "flat" else mask[None, 6:]
        expected = np.ones(9) if t % 3 == 0 else np.arange(9) == kept[t]
        assert (free == expected).all()
        action = [2, asked[t]] if actions == "discrete" else 2 * 9 + asked[t]
        infos = env.step({"provider_0": np.array(action)})[4]
        info = infos["provider_0"]
        assert info["level"] == 2
        assert info["action"] == 2 * 9 + kept[t]
        assert info["price"] == pytest.approx(
            env.market.price[0, 2] * env.config.mechanism.tariff.choices[kept[t]]
        )


def test_continuous_prices_hold_too():
    env = ttc_env.parallel_env(
        price_period=2, actions="continuous", max_cycles=4, providers=["Qwen2-7B"]
    )
    env.reset(seed=0)
    prices = [
        env.step({"provider_0": np.array([-0.9, x])})[4]["provider_0"]["price"]
        for x in (0.1, 0.9, -0.4, 0.3)
    ]
    assert prices[0] == prices[1] != prices[2] == prices[3]
    stage = env.stage(1)
    assert stage.held[0] == pytest.approx(prices[0] / env.market.price[0, 0])
    solution = stage.solve()  # one price: the best level at it
    assert solution.outcome.offer.price[0] / prices[0] == pytest.approx(
        env.market.price[0, int(solution.lowest_levels[0])] / env.market.price[0, 0]
    )


def test_a_continuous_price_outside_its_box_is_held_at_the_nearest_end():
    rounds = []
    for price in (7.0, 1.0):
        env = ttc_env.parallel_env(price_period=2, actions="continuous", max_cycles=2)
        env.reset(seed=0)
        env.step({agent: np.array([0.1, price]) for agent in env.agents})
        held = env.stage(1).held
        played = env.step({agent: np.array([0.1, -0.5]) for agent in env.agents})
        rounds.append((held, played[1], played[4]["provider_0"]["relative_regret"]))
        batch = ttc_env.vector_env(1, price_period=2, actions="continuous", max_cycles=3)
        batch.reset(seed=0)
        batch.step(np.full((1, 9, 2), [0.1, price]))
        assert batch.stages()[0].held == held
    assert rounds[0] == rounds[1]


def test_an_auctions_continuous_prices_held_away_from_the_truth_are_not_solved():
    env = ttc_env.parallel_env("auction", price_period=2, actions="continuous", max_cycles=2)
    env.reset(seed=0)
    env.step({agent: np.array([0.1, 0.5]) for agent in env.agents})
    with pytest.raises(ValueError, match="bids are held away from cost"):
        env.stage(1).solve()


@pytest.mark.parametrize("world", ["all", "lies", "all, auction"])
def test_payoffs_of_a_round_are_what_the_environment_would_have_paid(world):
    """Every action of every provider, against the others' actions of that round."""
    env = ttc_env.parallel_env(**{"max_cycles": 6, **EVERY[world]})
    env.reset(seed=3)
    rng, absent, held = np.random.default_rng(0), 0, 0
    while env.agents:
        stage, n = env.stage(env.round), len(env.possible_agents)
        exists = ~np.isnan(env.config.table.quality)
        flat = np.array([rng.choice(np.flatnonzero(row)) for row in exists])
        before = copy.deepcopy(env)
        infos = env.step(
            {a: env.config.action_of(i, int(flat[i])) for i, a in enumerate(env.agents)}
        )[4]
        (profit, log_share), share = stage.payoffs(flat)
        np.testing.assert_array_equal(np.isnan(profit[:, :, 0]), ~exists)
        utility = profit[:, :, 0] * np.exp(log_share[:, :, 0])
        for i in range(n):
            info = infos[f"provider_{i}"]
            assert share[i, 0] == pytest.approx(info["share"], abs=1e-14)
            own = utility[i, flat[i]]
            assert own == pytest.approx(info["utility"], rel=1e-9, abs=1e-15)
            most = np.nanmax(utility[i])
            assert most - own == pytest.approx(info["regret"], rel=1e-7, abs=1e-13)
            absent += not stage.present[i]
            other = int(rng.choice(np.flatnonzero(exists[i])))
            changed, again = flat.copy(), copy.deepcopy(before)
            changed[i] = other
            told = again.step(
                {a: again.config.action_of(j, int(changed[j])) for j, a in enumerate(again.agents)}
            )[4][f"provider_{i}"]
            assert utility[i, other] == pytest.approx(told["utility"], rel=1e-9, abs=1e-15)
        held += stage.holds
    assert absent or "present" not in str(EVERY[world])
    assert held or "price_period" not in EVERY[world]


def test_a_round_with_nobody_says_so():
    shocks = ttc_env.Shocks(present=[[True, False], [False, False]])
    env = ttc_env.parallel_env(market=LOSING, shocks=shocks, max_cycles=2)
    env.reset(seed=0)
    assert repr(env.stage(0)) == "StageGame(round 0: 1 of 2 providers, 1000 users)"
    env.step({agent: [0, 0] for agent in env.agents})
    stage = env.stage(1)
    with pytest.raises(ValueError, match="nobody is present in round 1, so there is no game"):
        _ = stage.market
    (profit, log_share), share = stage.payoffs(np.zeros(2, int))
    assert (profit[~np.isnan(profit)] == 0.0).all()
    assert (log_share[~np.isnan(profit)] == -np.inf).all()
    assert not share.any()


def test_actions_that_a_held_price_leaves_out_earn_no_number():
    env = ttc_env.parallel_env(price_period=2, max_cycles=2, providers=["Qwen2-7B", "Qwen2.5-3B"])
    env.reset(seed=0)
    env.step({"provider_0": [1, 3], "provider_1": [2, 5]})
    stage = env.stage(1)
    table = stage.mechanism.offers(stage.market)
    held = np.unravel_index(np.arange(table.price.shape[1]), stage.mechanism.grid(stage.market))[1]
    out = held != np.array([[3], [5]])
    offer = table.take(stage.as_played(np.array([0, 0])))
    for found in (table.price, *stage.mechanism.deviations(table, offer, stage.market)):
        np.testing.assert_array_equal(np.isnan(found), out)


def test_an_entrant_chooses_its_price_and_keeps_it():
    schedule = np.array([[True, False], [True, True], [True, True], [True, True]])
    env = ttc_env.parallel_env(
        market=LOSING, price_period=4, shocks=ttc_env.Shocks(present=schedule), max_cycles=6
    )
    _, infos = env.reset(seed=0)
    prices = []
    for price in (0, 5, 2, 3, 1, 8):
        prices.append(infos["provider_1"]["action_mask"][1:].sum())
        infos = env.step({agent: np.array([0, price]) for agent in env.agents})[4]
    # absent: one choice; entering: all; then what it chose; round 4: all
    assert prices == [1, 9, 1, 1, 9, 1]
    assert [env.stage(t).held for t in range(4)] == [(None, None), (0, None), (0, 5), (0, 5)]


# --- the contract ---


@pytest.mark.parametrize("world", worlds(EVERY))
def test_the_contract_of_environments_holds(world):
    check_env(lambda: ttc_env.parallel_env(max_cycles=7, **EVERY[world]))


@pytest.mark.parametrize("world", ["all", "ruin", "continuous", "sampled"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pettingzoo_and_gymnasium_accept_it(world):
    options = {"max_cycles": 6, **EVERY[world]}
    parallel_api_test(ttc_env.parallel_env(**options), num_cycles=20)
    parallel_seed_test(lambda: ttc_env.parallel_env(**options))
    api_test(ttc_env.env(**options), num_cycles=20)
    gymnasium_check(ttc_env.ProviderEnv(**options))


@pytest.mark.parametrize("opponent", ["equilibrium", "truthful", "best_response"])
@pytest.mark.parametrize(
    "world", ["all", "all, auction", "fixed", "lies", "lies, auction", "types"]
)
def test_opponents_play_the_rounds_game(world, opponent):
    options = {"max_cycles": 9, **WORLDS[world]}
    if (world, opponent) == ("types", "equilibrium"):
        none = {**options, "prices": "grid"}  # in the market at rest
        with pytest.raises(ValueError, match="no pure Nash equilibrium"):
            gymnasium.make("ttc_env/Provider-v0", opponent=opponent, **none)
    env = gymnasium.make("ttc_env/Provider-v0", opponent=opponent, **options).unwrapped
    env.action_space.seed(0)
    for _ in range(2):
        _, info = env.reset(seed=2)
        over, rewards = False, []
        while not over:
            t = env._env.round
            _, reward, _, over, info = env.step(env.action_space.sample(info["action_mask"]))
            rewards.append(reward)
            stage = env.stage(t)
            if opponent == "truthful" and stage.providers:
                level = np.nanargmax(stage.market.quality - stage.market.cost, axis=1)
                levels = env._env._game.tables.level.reshape(-1)
                played = levels[env._env._last.played().index[list(stage.providers), 0]]
                mine = np.array(stage.providers) == env.provider
                np.testing.assert_array_equal(played[~mine], level[~mine])


def test_best_responses_follow_the_moving_equilibrium():
    """Costs jump and stay; in turns, opponents end in the new equilibrium."""
    shocks = ttc_env.Shocks(cost=ttc_env.Path([1.0] * 40 + [6.0]))
    env = ttc_env.ProviderEnv(
        "best_response", prices="fixed", shocks=shocks, max_cycles=80, beta=200
    )
    env.reset(seed=0)
    gaps = []
    for t in range(80):
        own = env.solve(t).worst[0] if t in (0, 40) else own  # noqa: F821
        info = env.step(int(own))[4]
        gaps.append(info["nash_conv"])
    assert gaps[39] < 1e-12 < gaps[40]
    assert gaps[79] < 1e-12
    assert (env.solve(0).worst != env.solve(79).worst).any()


@pytest.mark.parametrize("world", ["all", "ruin", "continuous", "sampled"])
def test_a_refused_step_leaves_the_world_as_it_was(world):
    options = {"max_cycles": 6, **EVERY[world]}
    env, twin = (ttc_env.parallel_env(**options) for _ in range(2))
    for one in (env, twin):
        one.reset(seed=4)
    space = env.action_space("provider_0")
    bad = np.full(space.shape, np.nan) if options.get("actions") == "continuous" else [99, 0]
    for t in range(6):
        space.seed(t)
        good = {agent: space.sample() for agent in env.agents}
        for wrong in ({**good, "provider_2": bad}, {"provider_0": good["provider_0"]}):
            with pytest.raises(ValueError, match="action"):
                env.step(wrong)
        ours, theirs = env.step(good), twin.step(good)
        assert ours[1] == theirs[1]
        for agent in ours[0]:
            np.testing.assert_array_equal(ours[0][agent], theirs[0][agent])
    batch, other = (ttc_env.vector_env(5, **options) for _ in range(2))
    for one in (batch, other):
        one.reset(seed=4)
    for t in range(8):
        batch.action_space.seed(t)
        actions = batch.action_space.sample()
        wrong = actions.astype(float)
        wrong[1, 2] = np.nan
        with pytest.raises(ValueError, match="actions"):
            batch.step(wrong)
        np.testing.assert_array_equal(batch.step(actions)[1], other.step(actions)[1])


@pytest.mark.parametrize("world", worlds(EVERY))
def test_pickles_and_saved_states_go_on(world):
    options = {"max_cycles": 8, **EVERY[world]}
    env = ttc_env.parallel_env(**options)
    _, infos = env.reset(seed=0)
    for _ in range(3):
        infos = env.step(sampled_actions(env, infos))[4]
    twin = pickle.loads(pickle.dumps(env))
    while env.agents:
        actions = sampled_actions(env, infos)
        _, rewards, _, _, infos = env.step(actions)
        assert twin.step(actions)[1] == rewards
    batch, other = (ttc_env.vector_env(3, **options) for _ in range(2))
    batch.reset(seed=[1, 2, 3])
    for t in range(12):
        batch.action_space.seed(t)
        actions = batch.action_space.sample()
        if t == 5:
            other.load_state_dict(pickle.loads(pickle.dumps(batch.state_dict())))
        rewards = batch.step(actions)[1]
        if t >= 5:
            np.testing.assert_array_equal(other.step(actions)[1], rewards)


def test_information_hides_what_rivals_costs_are():
    shocks = {"shocks": MOVING, "max_cycles": 9}
    for information, costs, present in (
        ("full", 9, True), ("prices", 1, True), ("own", 1, False),
    ):  # fmt: skip
        env = ttc_env.parallel_env(information=information, **shocks)
        env.reset(seed=0)
        play = {agent: np.zeros(2, int) for agent in env.agents}
        for _ in range(3):
            obs = env.step(play)[0]["provider_1"]
        at = env.layout.slices
        assert (obs[at["cost_factor"]] != 0).sum() == costs
        assert (obs[at["present"]].sum() > 1) == present
        assert env.state_space.contains(env.state())


def test_rounds_to_come_are_known_where_nothing_is_left_to_chance():
    path = np.linspace(1.0, 2.0, 9)[:, None] * np.linspace(1.0, 1.5, 9)
    shocks = ttc_env.Shocks(
        cost=path, demand=lambda t: 1 + t % 2, present=np.eye(9, dtype=bool) | True
    )
    env = ttc_env.parallel_env(shocks=shocks, price_period=3, max_cycles=20)
    with pytest.raises(ValueError, match="call reset"):
        env.solve(0)
    env.reset(seed=0)
    np.testing.assert_allclose(env.market_at(6).cost, env.market.cost * path[6][:, None])
    np.testing.assert_allclose(env.market_at(15).cost, env.market.cost * path[8][:, None])
    assert env.stage(3).arrivals == 2000
    assert env.solve(6).welfare < env.solve(0).welfare
    for t, why in ((4, "left to chance or to play"), (-1, "count from 0")):
        with pytest.raises(ValueError, match=why):
            env.stage(t)
    later = env.stage(6)
    for _ in range(6):
        env.step({agent: np.array([1, 2]) for agent in env.agents})
    np.testing.assert_array_equal(env.stage(6).cost, later.cost)
    assert env.stage(5).held == (2,) * 9
    still = ttc_env.parallel_env()
    assert still.solve(1000).worst.tolist() == still.solve().worst.tolist()


def test_the_default_world_does_not_move():
    env = ttc_env.parallel_env()
    assert env.config.moves == frozenset()
    assert env._timeline is None
    assert {block.moves for block in env.layout.blocks} == {""}
    still = ttc_env.parallel_env(shocks=ttc_env.Shocks(), price_period=1)
    assert still.config.shocks is None
    assert still.layout.describe() == env.layout.describe()
    batch = ttc_env.vector_env(3)
    batch.reset(seed=0)
    assert [game.market for game in batch.stages()] == [batch.config.market] * 3
    assert "world" not in batch.state_dict()


AT_REST = {**VARIANTS, "types": {"types": TYPES, **FEW}, "lies, types": {
    "market": UNEVEN, "types": BETAS, **LIES,
}, "lies, types, flat fee": {
    "market": UNEVEN, "types": BETAS, "mechanism": "flat_fee", "misreport": "under_serve",
    "fine": 0.1, "actions": "flat", "prices": (0.8, 1.0, 2.0),
}}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("variant", AT_REST)
def test_a_world_whose_factors_are_1_is_the_default_to_the_last_bit(variant, backend):
    """In a batch, one environment of which leaves its rest halfway, and in one environment."""
    pytest.importorskip(backend)
    options = {"max_cycles": 6, "infos": "full", **AT_REST[variant]}
    if variant == "types":  # whose optimum is not what this is about
        options["prices"] = "fixed"
    still = ttc_env.vector_env(5, backend=backend, **options)
    n = still.num_agents
    ones = ttc_env.Shocks(
        cost=[ttc_env.Path([1.0]), _Late()], demand=[1.0], present=np.ones((1, n), bool)
    )
    moving = ttc_env.vector_env(5, backend=backend, shocks=ones, **options)
    single, alone = (
        ttc_env.parallel_env(shocks=shocks, **options)
        for shocks in (None, dataclasses.replace(ones, cost=ttc_env.Path([1.0])))
    )
    for env in (still, moving, single, alone):
        env.reset(seed=0)
    common = [block for block in still.layout.slices if block in moving.layout.slices]
    for t in range(6):
        still.action_space.seed(t)
        sent = given = still.action_space.sample()
        if backend == "torch":
            import torch

            given = torch.as_tensor(sent)
        obs, rewards, *_, infos = still.step(given)
        mobs, mrewards, *_, minfos = moving.step(given)
        kept = slice(0, 5) if t < 3 else slice(1, 5)
        if backend == "torch" and still.config.continuous_prices:
            # whose vector exp depends on how memory is laid out
            np.testing.assert_allclose(rewards[kept], mrewards[kept], rtol=1e-13)
            continue
        np.testing.assert_array_equal(np.asarray(rewards)[kept], np.asarray(mrewards)[kept])
        assert (
            t < 3
            or variant == "auction nobody wins"
            or (np.asarray(rewards)[0] != np.asarray(mrewards)[0]).any()
        )
        if t < 5:  # not the next episode's
            full, mfull = (np.asarray(x.full())[kept] for x in (obs, mobs))
            for block in common:
                np.testing.assert_array_equal(
                    full[..., still.layout.slices[block]], mfull[..., moving.layout.slices[block]]
                )
        for name in ("action", "share", "utility", "report", "seen", "penalty", "optimal_welfare"):
            if name in infos:
                np.testing.assert_array_equal(infos[name][kept], minfos[name][kept], err_msg=name)
        for name in ("regret", "welfare", "payment", "nash_conv"):
            np.testing.assert_allclose(infos[name][kept], minfos[name][kept], rtol=1e-9, atol=1e-13)
        ours, theirs = (env.step(as_dict(env, sent[1])) for env in (single, alone))
        assert ours[1] == theirs[1]
        for name, value in ours[4]["provider_0"].items():
            np.testing.assert_allclose(theirs[4]["provider_0"][name], value, rtol=1e-9, atol=1e-13)


class _Late(ttc_env.Process):
    """1 everywhere; in the first environment of a batch 2 from round 3 on."""

    def width(self, providers):
        return 1

    def first(self, noise):
        return np.ones((1, noise.shape[1]))

    def after(self, t, factor, noise):
        return np.where((np.arange(noise.shape[1]) == 0) & (t >= 3), 2.0, 1.0)[None]


def test_markets_of_their_own_move_too():
    markets = ttc_env.random_markets(3, "gsm8k", seed=0, beta=(100, 1000))
    batch = ttc_env.vector_env(6, market=markets, infos="full", **WORLDS["all"])
    batch.reset(seed=list(range(6)))
    for t in range(5):
        games = batch.stages()
        batch.action_space.seed(t)
        actions = batch.action_space.sample()
        _, rewards, _, _, infos = batch.step(actions)
        for b, game in enumerate(games):
            rows = list(game.providers)
            flat = game.as_played(actions[b, :, 0] * 9 + actions[b, :, 1])[rows]
            mechanism, market = game.mechanism, game.market
            played = mechanism.play(mechanism.offers(market).take(flat), market)
            np.testing.assert_allclose(rewards[b, rows], game.arrivals * played.utility, rtol=1e-11)
            assert infos["optimal_welfare"][b] == pytest.approx(game.optimal_welfare)
    drawn = ttc_env.parallel_env(market=[markets[g] for g in range(3)], **WORLDS["all"])
    for seed in range(4):
        drawn.reset(seed=seed)
        np.testing.assert_allclose(drawn.market_at(0).cost, drawn.market.cost)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shocks": 0.1}, "give ttc_env.Shocks"),
        ({"price_period": 0}, "price_period is 0"),
        ({"shocks": lambda: ttc_env.Shocks(capital=10**400)}, "give numbers"),
        ({"users": 10**12 + 1}, "users is 1000000000001; it must be at most 1,000,000,000,000"),
        ({"price_period": 2, "prices": "fixed"}, "one price choice alone"),
        ({"shocks": lambda: ttc_env.Shocks(entry=1.5)}, "chance per round"),
        ({"shocks": lambda: ttc_env.Shocks(exit=(0.1, 0.2))}, "about 2 providers"),
        ({"shocks": lambda: ttc_env.Shocks(capital=-1.0)}, "capital is"),
        ({"shocks": lambda: ttc_env.Shocks(present=[1, 0])}, "True and False"),
        ({"shocks": lambda: ttc_env.Shocks(present=[[True]], exit=0.1)}, "schedule"),
        ({"shocks": lambda: ttc_env.Shocks(cost=[1.0, -1.0])}, "must be positive"),
        ({"shocks": lambda: ttc_env.Shocks(cost=np.ones((4, 2)))}, "for 2 providers"),
        ({"shocks": lambda: ttc_env.Shocks(cost=lambda t: 1.0 - t)}, "must be positive"),
        ({"shocks": lambda: ttc_env.Shocks(cost="ar1")}, "give numbers"),
        ({"shocks": lambda: ttc_env.Shocks(cost=[COST, 2.0])}, "wrap numbers in Path"),
        ({"shocks": lambda: ttc_env.Shocks(demand=COST)}, "one factor a round"),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1(1.1))}, "rho is 1.1"),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1(0.9, -1))}, "sigma is -1"),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1("a"))}, "rho is 'a'"),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1(None))}, "rho is None"),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1(0.9, True))}, "sigma is True"),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1(start="1"))}, "start is '1'"),
        (
            {"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1([0.9, "b"], shared=False))},
            "rho is 'b'",
        ),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1((0.9, 0.1)))}, "shared=False"),
        (
            {"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1((0.9, 0.1), shared=False))},
            "rho has 2 numbers for 9",
        ),
        ({"shocks": lambda: ttc_env.Shocks(cost=ttc_env.AR1(1.0, start=None))}, "random walk"),
        ({"shocks": lambda: ttc_env.Shocks(cost=lambda t: 1.0), "max_cycles": 10**9}, "an array"),
    ],
)
def test_bad_options_are_refused_with_a_remedy(given, words):
    with pytest.raises((ValueError, TypeError), match=words):
        ttc_env.parallel_env(
            **{name: value() if callable(value) else value for name, value in given.items()}
        )


@pytest.mark.parametrize("demand", ["expected", "sampled"])
def test_the_most_users_and_the_largest_factors_are_still_counted(demand):
    """Arrivals beyond an int64 came out negative, and with them what was earned."""
    shocks = ttc_env.Shocks(demand=[ttc_env.Path([1e6]), ttc_env.Path([1e6])])
    env = ttc_env.parallel_env(users=10**12, demand=demand, shocks=shocks, prices="fixed")
    env.reset(seed=0)
    rewards = env.step(dict.fromkeys(env.agents, 0))[1]
    assert min(rewards.values()) > 0
    one = ttc_env.parallel_env(users=1, prices="fixed")
    one.reset(seed=0)
    expected = one.step(dict.fromkeys(one.agents, 0))[1]
    for agent, reward in rewards.items():
        assert reward == pytest.approx(1e18 * expected[agent], rel=1e-6)


def test_a_batch_refuses_optima_that_take_seconds():
    slow = {"types": TYPES, "shocks": MOVING}
    with pytest.raises(ValueError, match="use infos='basic'"):
        ttc_env.vector_env(2, infos="full", **slow)
    ttc_env.vector_env(2, **slow)  # by default infos are basic
    ttc_env.vector_env(2, infos="full", **slow, **FEW)
    ttc_env.vector_env(2, infos="full", types=TYPES, shocks=ttc_env.Shocks(demand=DEMAND), **FEW)


def test_what_a_backend_does_not_play_it_refuses():
    pytest.importorskip("numba")
    with pytest.raises(ValueError, match="use backend='numpy'"):
        ttc_env.vector_env(2, backend="numba", shocks=MOVING)
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="compile=False"):
        ttc_env.vector_env(2, backend="torch", compile=True, shocks=MOVING)
