"""Infos are worked out when they are read."""

import copy
import json
import pickle

import numpy as np
import pytest

import ttc_env
from ttc_env.envs.infos import Info, LazyRound
from ttc_env.envs.round_infos import DERIVED


def test_an_info_is_a_dict_that_is_worked_out_once():
    worked_out = []

    def source():
        worked_out.append(1)
        return [{"share": 0.25, "regret": 1.0}]

    def info():
        return Info((LazyRound(source), 0), "mask")

    assert info()["action_mask"] == "mask"
    assert info().get("action_mask") == "mask"
    assert "action_mask" in info()
    assert not worked_out
    whole = {"action_mask": "mask", "share": 0.25, "regret": 1.0}
    readings = [
        dict,
        lambda x: {**x},
        lambda x: x.copy(),
        lambda x: {k: x[k] for k in x},
        lambda x: dict(x.items()),
        copy.copy,
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
        lambda x: json.loads(json.dumps(x)),
        lambda x: x | {},
        lambda x: {} | x,
    ]
    for reading in readings:
        assert reading(info()) == whole
    assert info() == whole
    assert whole == info()
    assert len(info()) == 3
    assert "regret" in info()
    assert "nothing" not in info()
    assert info().get("nothing", 7) == 7
    assert info().pop("share") == 0.25
    assert repr(info()) == repr(whole)
    with pytest.raises(KeyError):
        info()["nothing"]
    written = info()
    written["share"] = 9.0
    assert written == {**whole, "share": 9.0}
    one = info()
    count = len(worked_out)
    assert (one["share"], one["regret"], len(one)) == (0.25, 1.0, 3)
    assert len(worked_out) == count + 1


CHANGES = {
    "reversed": lambda x: list(reversed(x)),
    "values": lambda x: list(x.values()),
    "popitem": lambda x: x.popitem(),
    "setdefault": lambda x: (x.setdefault("share", 7.0), x.setdefault("new", 7.0)),
    "delete": lambda x: x.__delitem__("share"),
    "clear": lambda x: x.clear(),
    "true": bool,
    "differs": lambda x: (x != {"share": 0.25}, x != {}, x != dict(x)),
    "update": lambda x: x.update(share=1.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_done_first_an_info_is_as_a_dict(name):
    whole = {"share": 0.25, "regret": 1.0}
    info, plain = Info((LazyRound(lambda: [dict(whole)]), 0), None), dict(whole)
    assert CHANGES[name](info) == CHANGES[name](plain)
    assert dict(info) == plain
    assert list(info) == list(plain)


@pytest.mark.parametrize("options", [{}, {"actions": "continuous"}, {"mechanism": "first_score"}])
def test_a_derived_info_is_one_line_for_one_environment_and_for_many(options, monkeypatch):
    monkeypatch.setitem(DERIVED, "margin", lambda info: info["payment"] - info["cost"])
    env = ttc_env.parallel_env(**options)
    env.reset(seed=0)
    for k, agent in enumerate(env.agents):
        env.action_space(agent).seed(k)
    infos = env.step({agent: env.action_space(agent).sample() for agent in env.agents})[4]
    for info in infos.values():
        assert info["margin"] == info["payment"] - info["cost"]
        assert info["surplus"] == info["quality"] - info["cost"]
    many = ttc_env.vector_env(num_envs=2, infos="full", **options)
    many.reset(seed=0)
    many.action_space.seed(0)
    told = many.step(many.action_space.sample())[4]
    np.testing.assert_array_equal(told["margin"], told["payment"] - told["cost"])
    np.testing.assert_array_equal(told["surplus"], told["quality"] - told["cost"])


def test_infos_read_late_are_those_of_their_round():
    env = ttc_env.parallel_env()
    env.reset(seed=0)
    early = env.step({agent: np.array([1, 1]) for agent in env.agents})[4]
    env.step({agent: np.array([5, 0]) for agent in env.agents})
    fresh = ttc_env.parallel_env()
    fresh.reset(seed=0)
    now = dict(fresh.step({agent: np.array([1, 1]) for agent in fresh.agents})[4]["provider_2"])
    now.pop("action_mask")
    late = dict(early["provider_2"])
    late.pop("action_mask")
    assert late == now


def test_infos_without_a_mask_are_not_empty_before_they_are_read():
    """json, for one, asks the dict's memory whether it is empty."""

    def info():
        return Info((LazyRound(lambda: [{"share": 0.25}]), 0), None)

    assert json.loads(json.dumps(info())) == info() == {"share": 0.25}
    assert list(info()) == ["share"]
    assert "action_mask" not in info()
    assert info().get("action_mask") is None
    assert len(info()) == 1
    assert pickle.loads(pickle.dumps(info())) == {"share": 0.25}
