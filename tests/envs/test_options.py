"""Every option is a type: an editor completes it, mypy refuses a misspelt one, and what runs takes
the same names.
"""

import importlib.util
import subprocess
import sys
from functools import partial
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import ttc_env
from ttc_env.envs import options
from ttc_env.envs.config import make_config
from ttc_env.game import mechanisms
from ttc_env.game.mechanisms import get_mechanism, make_mechanism, mechanism_options
from ttc_env.game.rules.score_auction import second_price_auction

ROOT = Path(__file__).parents[2]

GOOD = """
import gymnasium
import ttc_env
from ttc_env.game.types import Market

one = ttc_env.parallel_env("auction", beta=200.0, actions="flat", misreport="over_claim")
market: Market = one.unwrapped.market
one.unwrapped.solve().welfare
turns = ttc_env.env(prices=(1.0, 2.0), users=10, infos="basic", quality_function="power")
turns.unwrapped.solve().welfare
many = ttc_env.vector_env(4, demand="sampled", market=[market], backend="torch", compile=True)
many.solve()[0].welfare
ttc_env.MarketEnv("market", "aime", "majority", settlement="delivered", margin=0.1).unwrapped.config
provider = ttc_env.ProviderEnv("truthful", 2, mechanism="auction", information="own", max_cycles=5)
provider.unwrapped.solve().welfare
ttc_env.solve(market).welfare
ttc_env.solve(market, "auction").winner
"""
BAD = [
    'ttc_env.parallel_env(benchmrk="aime")',
    "ttc_env.env(bta=1.0)",
    'ttc_env.vector_env(3, action="flat")',
    'ttc_env.MarketEnv(actions="flt")',
    'ttc_env.ProviderEnv(opponents="truthful")',
    'ttc_env.parallel_env(users="many")',
    "ttc_env.parallel_env().unwrapped.solve().welfar",
    "ttc_env.solver(1)",
]


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy (extra dev)")
def test_mypy_takes_every_option_and_refuses_misspelt_ones(tmp_path):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(GOOD)
    bad.write_text("\n".join(["import ttc_env", *BAD]))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")),
            *("--follow-imports", "silent", "--no-error-summary", "--warn-unused-ignores"),
            *(str(good), str(bad)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not [line for line in lines if "good.py" in line], done.stdout
    refused = {int(line.split(":")[1]) for line in lines if "bad.py" in line}
    assert refused == set(range(2, len(BAD) + 2)), done.stdout


def test_the_types_name_what_the_functions_take():
    market = set(signature(ttc_env.load_market).parameters) - {"benchmark", "method"}
    assert set(options.MarketOptions.__annotations__) == market
    own = set(signature(make_config).parameters) - {"options"}
    apart = {"mechanism", "benchmark", "method", "market", "infos"}  # keywords of their own
    mechanism = {name for known in ttc_env.mechanisms() for name in mechanism_options(known)}
    assert set(options.MechanismOptions.__annotations__) == mechanism | {"prices"}
    assert set(get_type_hints(options.GameOptions)) == market | mechanism | own - apart
    for face in (ttc_env.MarketEnv, ttc_env.parallel_env, ttc_env.env, ttc_env.vector_env):
        assert apart <= set(signature(face).parameters)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"benchmrk": "aime"}, "there is no option benchmrk; options are mechanism, benchmark"),
        ({"bta": 1.0, "claim": 1}, "there is no option bta, claim; .*beta.*'market'"),
        (
            {"claims": (1.0, 2.0)},
            "no option claims; .*of mechanism 'market': misreport, audit_rate",
        ),
        (
            {"mechanism": "auction", "clams": ()},
            "of mechanism 'auction': settlement, reserve, misreport, audit_rate, fine",
        ),
        ({"mechanism": get_mechanism("market"), "fine": 1.0}, "Mechanism object"),
        ({"num_envs": 3}, "vector_env"),
    ],
)
@pytest.mark.parametrize("face", ["parallel_env", "env", "MarketEnv", "ProviderEnv"])
def test_unknown_options_are_refused_with_those_that_exist(face, given, words):
    with pytest.raises(TypeError, match=words):
        getattr(ttc_env, face)(**given)


def test_a_mechanism_of_ones_own_by_name_takes_its_own_options(monkeypatch):
    def half_price(prices="fixed", share=0.5):
        return make_mechanism("market", [share * choice for choice in prices])

    monkeypatch.setattr(mechanisms, "_FACTORIES", dict(mechanisms._FACTORIES))
    ttc_env.register_mechanism("half", half_price)
    env = ttc_env.parallel_env("half", prices=(2.0, 4.0), share=0.25)
    assert env.config.mechanism.tariff.choices == (0.5, 1.0)
    with pytest.raises(TypeError, match="of mechanism 'half': share"):
        ttc_env.parallel_env("half", prices=(1.0,), reserve=3)


def test_what_an_environment_is_can_be_read():
    market = "Market(gsm8k majority: 9 providers, up to 6 levels, beta=1000)"
    assert (
        repr(ttc_env.parallel_env())
        == f"MarketEnv('market', {market}, actions=MultiDiscrete([6 9]))"
    )
    assert (
        repr(ttc_env.env("auction", actions="flat", demand="sampled"))
        == f"MarketAEC('auction', sampled demand, {market}, actions=Discrete(54))"
    )
    assert repr(ttc_env.ProviderEnv(provider=1, prices="fixed")) == (
        f"ProviderEnv(provider_1 of 'market', {market}, actions=Discrete(6))"
    )


def test_options_that_are_settled_by_the_mechanism_reach_it():
    lies = {"over_claim": (0.5,)}
    env = ttc_env.env("auction", misreport=lies, settlement="claimed", prices="fixed")
    assert env.unwrapped.config.mechanism == second_price_auction((0.0,), "claimed", misreport=lies)


TYPES = {"types": "weight=0.5 beta=1e308; weight=0.5 beta=1"}


@pytest.mark.parametrize(
    "money, beta, options, message",
    [
        (1.0, 1e308, {}, "overflows with amounts of up to"),
        (1.0, 5.0, TYPES, "overflows with amounts of up to"),
        (1e300, 1e-300, {"users": 10**9}, "times users=1000000000, are out of the range"),
        (1e-311, 1.0, {"users": 1, "prices": "fixed"}, "times users=1, are out of the range"),
    ],
)
@pytest.mark.parametrize("face", [ttc_env.parallel_env, partial(ttc_env.vector_env, 2)])
def test_numbers_beyond_double_precision_are_refused(face, money, beta, options, message):
    tables = money * np.array([[[2.0, 3.0]], [[0.2, 0.4]], [[0.1, 0.2]]])
    market = ttc_env.Market.from_arrays(*tables, beta=beta)
    with pytest.raises(ValueError, match=message):
        face(market=market, **options)
