"""Actions and their masks, in the forms that learning libraries read."""

import numpy as np
import pytest
from gymnasium import spaces

import ttc_env
from tests.variants import UNEVEN
from ttc_env.envs.spaces import MaskedMultiDiscrete

UNEVEN_LEVELS = [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
CLAIMS = {"mechanism": "auction", "prices": (-0.5, 0.0, 1.0), "misreport": {"over_claim": 0.5}}


@pytest.mark.parametrize(
    ("options", "masks"),
    [
        ({"prices": "fixed"}, UNEVEN_LEVELS),
        ({"prices": (1.0, 2.0)}, [[*row, 1, 1] for row in UNEVEN_LEVELS]),
        (CLAIMS, [[*row, 1, 1, 1, 1, 1] for row in UNEVEN_LEVELS]),
        ({"prices": (1.0, 2.0), "actions": "flat"}, np.repeat(UNEVEN_LEVELS, 2, axis=1).tolist()),
        ({**CLAIMS, "actions": "flat"}, np.repeat(UNEVEN_LEVELS, 6, axis=1).tolist()),
        ({"actions": "continuous"}, None),
        ({"actions": "continuous", "prices": "fixed"}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("infos", ["full", "basic"])
def test_masks_are_one_flat_array_in_every_face(options, masks, infos):
    options = {**options, "market": UNEVEN, "max_cycles": 3, "infos": infos}
    env = ttc_env.parallel_env(**options)
    one = ttc_env.ProviderEnv(provider=1, **options)
    many = ttc_env.vector_env(2, **options)
    actions = {a: env.action_space(a).sample() for a in env.possible_agents}
    told = [env.reset(seed=0)[1], env.step(actions)[-1]]
    own = [one.reset(seed=0)[1], one.step(one.action_space.sample())[-1]]
    batch = [many.reset(seed=0)[1], many.step(many.action_space.sample())[-1]]
    for each, mine, both in zip(told, own, batch, strict=True):
        if masks is None:
            for info in (*each.values(), mine, both):
                assert "action_mask" not in info
                assert "action_mask" not in dict(info)
            assert many.action_mask() is None
            continue
        for agent, mask in zip(env.possible_agents, masks, strict=True):
            found = each[agent]["action_mask"]
            assert (found.dtype, found.tolist()) == (np.int8, mask)
            assert not found.flags.writeable  # one array for all steps
            for _ in range(10):
                action = env.action_space(agent).sample(found)
                assert np.all(np.ravel(action)[0] < sum(mask))
                assert action in env.action_space(agent)
        assert (mine["action_mask"].dtype, mine["action_mask"].tolist()) == (np.int8, masks[1])
        assert mine["action_mask"] is not own[0]["action_mask"] or mine is own[0]
        assert many.action_mask().tolist() == [masks]
        assert ("action_mask" in both) == (infos == "full")
        if infos == "full":
            assert both["action_mask"].dtype == np.int8
            assert both["action_mask"].tolist() == [masks, masks]


def test_turns_show_the_same_masks():
    env = ttc_env.env(actions="flat", market=UNEVEN)
    env.reset(seed=0)
    for agent in env.agent_iter(max_iter=6):
        *_, info = env.last()
        i = env.possible_agents.index(agent)
        assert info["action_mask"].tolist() == np.repeat(UNEVEN_LEVELS[i], 9).tolist()
        env.step(env.action_space(agent).sample(info["action_mask"]))


def test_flat_masks_draw_what_tuples_draw():
    space, plain = MaskedMultiDiscrete([3, 2], seed=1), spaces.MultiDiscrete([3, 2], seed=1)
    mask = np.array([1, 0, 1, 0, 1], np.int8)
    for _ in range(20):
        flat = space.sample(mask)
        np.testing.assert_array_equal(flat, plain.sample((mask[:3], mask[3:])))
        assert flat[0] != 1
        assert flat[1] == 1
    np.testing.assert_array_equal(
        space.sample((mask[:3], mask[3:])), plain.sample((mask[:3], mask[3:]))
    )
    np.testing.assert_array_equal(space.sample(), plain.sample())
    assert (space, repr(space)) == (plain, repr(plain))
    with pytest.raises(ValueError, match=r"shape \(4,\).*needs \(5,\)"):
        space.sample(mask[1:])


@pytest.mark.parametrize("rules", [{"prices": (0.8, 1.0, 4.0)}, CLAIMS], ids=["market", "auction"])
def test_a_flat_action_is_the_same_action_in_parts(rules):
    """Absent levels included: they play the highest level at the same price and claim."""
    parted, flat = (
        ttc_env.parallel_env(market=UNEVEN, max_cycles=1000, actions=actions, **rules)
        for actions in ("discrete", "flat")
    )
    rng = np.random.default_rng(0)
    grid = parted.config.grid
    assert flat.config.grid == (np.prod(grid),)
    assert flat.action_space("provider_0") == spaces.Discrete(int(np.prod(grid)))
    parted.reset(seed=0)
    flat.reset(seed=0)
    for _ in range(30):
        chosen = rng.integers(np.prod(grid), size=3)
        parts = np.stack(np.unravel_index(chosen, grid), axis=1)
        a = parted.step(dict(zip(parted.agents, parts, strict=True)))
        b = flat.step(dict(zip(flat.agents, chosen, strict=True)))
        assert a[1] == b[1]
        for agent in flat.agents:
            mask = dict(a[4][agent]), dict(b[4][agent])
            for info in mask:
                info.pop("action_mask")
            assert mask[0] == mask[1]
        np.testing.assert_array_equal(
            parted.config.choose(list(parts)), flat.config.choose(chosen.tolist())
        )
        level, *rest = parts.T
        counts = np.array([3, 1, 2])
        played = np.ravel_multi_index((np.minimum(level, counts - 1), *rest), grid)
        np.testing.assert_array_equal(flat.config.choose(chosen), played)
        assert [flat.config.parse(i, x) for i, x in enumerate(chosen)] == played.tolist()
        assert [parted.config.parse(i, x) for i, x in enumerate(parts)] == played.tolist()


@pytest.mark.parametrize("mechanism", ["market", "auction"])
def test_profiles_of_the_solver_are_flat_actions(mechanism):
    env = ttc_env.parallel_env(mechanism, "gpqa", beta=300, actions="flat")
    solution = env.solve()
    profile = solution.worst if mechanism == "market" else solution.actions
    env.reset(seed=0)
    infos = env.step(dict(zip(env.agents, profile.tolist(), strict=True)))[4]
    assert infos["provider_0"]["nash_conv"] == pytest.approx(0.0, abs=1e-14)
    many = ttc_env.vector_env(2, mechanism, "gpqa", beta=300, actions="flat", infos="full")
    many.reset(seed=0)
    told = many.step(np.stack([profile, profile]))[-1]
    np.testing.assert_allclose(told["nash_conv"], 0.0, atol=1e-14)
    assert told["welfare"][0] == pytest.approx(infos["provider_0"]["welfare"], rel=1e-12)


def test_flat_actions_outside_the_space_are_refused():
    env = ttc_env.parallel_env(actions="flat")
    env.reset(seed=0)
    fine = dict.fromkeys(env.agents, 0)
    for action in (54, -1, 0.5, np.array([0, 1])):
        with pytest.raises(ValueError, match=r"provider_3: action|integer"):
            env.step({**fine, "provider_3": action})


@pytest.mark.parametrize("options", [{}, {"prices": "fixed"}, CLAIMS, {"actions": "flat"}], ids=str)
@pytest.mark.parametrize("continuous", [False, True])
def test_action_of_is_the_inverse_of_choose(options, continuous):
    """In a Box a level and a claim come back exactly, and the price is the choice's own."""
    if continuous:
        options = {**options, "actions": "continuous"}
    env = ttc_env.parallel_env(market=UNEVEN, max_cycles=1000, **options)
    env.reset(seed=0)
    config = env.config
    exists = ~np.isnan(config.table.quality)
    for flat in range(exists.shape[1]):
        chosen = [flat if exists[i, flat] else 0 for i in range(3)]
        actions = [config.action_of(i, a) for i, a in enumerate(chosen)]
        env.step(dict(zip(env.agents, actions, strict=True)))
        offer, wanted = env.last_round.offer, config.table.take(np.array(chosen))
        np.testing.assert_allclose(offer.price, wanted.price, rtol=1e-12)
        np.testing.assert_array_equal(offer.quality, wanted.quality)
        np.testing.assert_array_equal(offer.seen, wanted.seen)
        if not continuous:
            assert config.choose(actions).tolist() == chosen


@pytest.mark.parametrize(
    ("prices", "action"),
    [
        ("grid", np.array([5e-324, 0.0])),  # the bytes of the integers 1 and 0
        ("grid", np.array([1, 0, 2, 0], np.int32)),  # the bytes of 1 and 2
        ("grid", np.array([1.0, 0.0])),
        ("fixed", 1.0),  # equal to 1, as the next
        ("fixed", True),
    ],
)
def test_other_types_with_the_same_bytes_or_value_are_refused(prices, action):
    env = ttc_env.parallel_env(prices=prices)
    env.reset()
    before = env.state()
    with pytest.raises(ValueError, match=r"provider_0: action .* is not in"):
        env.step(dict.fromkeys(env.agents, action))
    np.testing.assert_array_equal(env.state(), before)
