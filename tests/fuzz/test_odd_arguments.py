"""Public functions and commands with arguments that make no sense: each is refused with a message,
or gives an answer; never another error.
"""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest

import ttc_env
from tests.fuzz import SEED, tally
from ttc_env import cli
from ttc_env.export import payoffs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

MARKET = ttc_env.load_market("gsm8k", providers=["Qwen2-7B", "Qwen2.5-7B"])
GAME = payoffs(MARKET)
LIES = ttc_env.deterrence(MARKET)
ODD = [
    None, True, 0, -1, 1, 2, 99, 10**30, 10**400, 0.0, 0.5, -0.5, 1.9, 1e300, -1e300, 5e-324,
    float("nan"), float("inf"), 1j, "", "x", "nan", "gsm8k", "\0", "9" * 400, b"x", [], [0], [0, 0],
    [0, 99], [-1, 0], [0.5, 0.5], ["x", "y"], [[0, 0]], [None, None], [float("nan"), 1.0],
    [True, False], (0.5, 2.0), (2.0, 0.5), (1e-300, 1e300), {}, {"x": 1}, {"weight": [1.0]},
    {"over_report": 2.0}, {"under_serve": 1e30}, np.zeros(2), np.zeros((2, 6)), np.ones(2, int),
    np.array(3), Fraction(1, 3), object, MARKET,
]  # fmt: skip
CALLS = {
    "audit": (ttc_env.audit, {"mechanism": "market", "market": MARKET, "rivals": [0, 0],
                              "claims": (0.5, 2.0)}),
    "auction_gain": (ttc_env.auction_gain, {"market": MARKET}),
    "best_lie": (LIES.best_lie, {"k": 0, "provider": 1}),
    "binding": (LIES.binding, {"k": 0}),
    "compare": (ttc_env.compare, {"market": MARKET, "names": ["flat_fee"], "resamples": 0,
                                  "band": 0.9}),
    "deterrence": (ttc_env.deterrence, {"market": MARKET, "mechanism": "market", "fine": 0.1,
                                        "audit_rate": 0.5, "misreport": "over_report"}),
    "fit_beta": (ttc_env.fit_beta, {"market": MARKET, "shares": [3, 5], "users": 10,
                                    "profile": [0, 1], "outside_seen": True}),
    "first_best": (ttc_env.first_best, {"market": MARKET, "tastes": False}),
    "load_market": (ttc_env.load_market, {"benchmark": "gsm8k", "method": "majority",
                                          "beta": 1.0, "alpha": 0.01, "baseline": 0.1,
                                          "margin": 0.2, "outside_value": 0.0}),
    "make_mechanism": (ttc_env.make_mechanism, {"name": "market", "prices": (1.0, 2.0),
                                                "misreport": "under_serve", "fine": 0.1,
                                                "types": "weight=1 beta=3"}),
    "mixture": (GAME.mixture, {"found": [0, 0]}),
    "nash_conv": (ttc_env.nash_conv, {"market": MARKET, "profile": [0, 0], "mechanism": "market"}),
    "parallel_env": (ttc_env.parallel_env, {"market": MARKET, "users": 5, "max_cycles": 3,
                                            "price_period": 1, "information": "full",
                                            "actions": "flat", "agent_names": ["a", "b"]}),
    "payoffs": (payoffs, {"game": MARKET, "mechanism": "market", "providers": [0], "rest": [0, 0],
                          "max_profiles": 100}),
    "profile": (GAME.profile, {"strategies": [0, 0]}),
    "resample": (ttc_env.resample, {"market": MARKET, "n": 2}),
    "shocks": (ttc_env.Shocks, {"entry": 0.1, "exit": 0.2, "capital": 1.0, "cost": [1.0],
                                "demand": [2.0]}),
    "solve": (ttc_env.solve, {"market": MARKET, "mechanism": "market", "tolerance": 1e-9}),
    "vector_env": (ttc_env.vector_env, {"num_envs": 2, "market": MARKET, "users": 5}),
    "who_pays": (ttc_env.who_pays, {"market": MARKET, "mechanism": "market", "lying": [0, 0],
                                    "honest": [1, 1]}),
}  # fmt: skip


def test_odd_arguments():
    rng = np.random.default_rng(SEED)
    what = "a public function with one or two arguments that make no sense"
    with tally("odd_arguments", what, 3_000) as found:
        for name, (function, good) in CALLS.items():
            for _ in range(150):
                given = dict(good)
                for key in rng.choice(list(good), size=min(len(good), int(rng.integers(1, 3)))):
                    given[key] = ODD[rng.integers(len(ODD))]
                found.inputs += 1
                try:
                    function(**given)
                except (ValueError, TypeError, FileNotFoundError):
                    found.refused += 1
                except Exception as error:
                    found.failures.append(f"{name}({given}): {error!r}")


WORDS = [
    "", "x", "0", "-1", "1", "2.5", "nan", "inf", "1e400", "9" * 400, "é", "\0", ",", "a=b",
    "weight=nan", "weight=1 beta=1 beta=2", "over_report=nan", "auction", "grid", "Qwen2-7B", "{",
]  # fmt: skip
OPTIONS = [
    "--beta", "--alpha", "--baseline", "--outside-value", "--margin", "--providers", "--method",
    "--mechanism", "--types", "--misreport", "--audit-rate", "--fine", "--settlement", "--reserve",
]  # fmt: skip


def test_odd_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(SEED)
    what = "a command with two options that make no sense: an answer, or one line and no file"
    kinds = {
        "solve": ["--resamples", "--seed"],
        "play": ["--rounds", "--policy", "--seed"],
        "deterrence": ["--prices"],
        "sweep": ["--benchmarks", "--mechanisms", "--prices", "--betas", "--shard", "--patience"],
    }
    with tally("odd_commands", what, 1_000) as found:
        for k in range(1_000):
            command = list(kinds)[k % len(kinds)]
            options = kinds[command] if command == "sweep" else [*kinds[command], *OPTIONS]
            words = ["--dry-run"] if command == "sweep" else ["gsm8k"]
            if command != "sweep":
                words += ["--providers", "Qwen2-7B,Qwen2.5-7B"]
            for option in rng.choice(options, size=2):
                words += [str(option), WORDS[rng.integers(len(WORDS))]]
            found.inputs += 1
            try:
                code = cli.main([command, *words])
            except SystemExit as left:
                code = left.code
            except Exception as error:
                found.failures.append(f"{command} {words}: {error!r}")
                continue
            told = capsys.readouterr().err
            found.refused += code == cli.USER_ERROR
            if code == cli.USER_ERROR and (told.count("\n") != 1 or os.listdir()):
                found.failures.append(f"{command} {words}: {told!r}, {os.listdir()}")
