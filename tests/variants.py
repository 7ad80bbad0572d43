"""Environments that the tests of speed go through: every rule, and what is hard about numbers."""

import numpy as np

import ttc_env

UNEVEN = ttc_env.Market.from_arrays(
    [[0.5, 0.7, 0.9], [0.6, np.nan, np.nan], [0.4, 0.8, np.nan]],
    [[0.1, 0.2, 0.4], [0.1, np.nan, np.nan], [0.05, 0.3, np.nan]],
    [[0.05, 0.1, 0.2], [0.05, np.nan, np.nan], [0.02, 0.1, np.nan]],
    beta=5.0,
)
VARIANTS = {
    "market": {},
    "fixed prices": {"prices": "fixed"},
    "beta V in the thousands": {"benchmark": "aime", "beta": 1e5},
    "rational": {"benchmark": "aime", "beta": 1e7},
    "rational, fixed prices": {"benchmark": "aime", "beta": 1e7, "prices": "fixed"},
    "beta 0": {"beta": 0.0},
    "outside value": {"outside_value": 0.005, "beta": 1e4},
    "one provider": {"providers": ["Qwen2-7B"]},
    "one bidder": {"mechanism": "auction", "providers": ["Qwen2-7B"]},
    "uneven grids": {"market": UNEVEN},
    "flat": {"actions": "flat"},
    "flat auction, claims": {
        "actions": "flat",
        "mechanism": "auction",
        "misreport": {"over_claim": (0.8, 1.25)},
        "market": UNEVEN,
    },
    "auction": {"mechanism": "auction"},
    "auction, truthful": {"mechanism": "auction", "prices": "fixed"},
    "auction, claims": {
        "mechanism": "auction",
        "misreport": {"over_claim": (0.8, 1.25)},
        "settlement": "claimed",
    },
    "auction, ties": {
        "mechanism": "auction",
        "market": ttc_env.Market.from_arrays(
            [[1.0, 0.9]] * 3, [[0.2, 0.1]] * 3, [[0.1, 0.05]] * 3, beta=1
        ),
    },
    "auction nobody wins": {"mechanism": "auction", "market": UNEVEN.replace(outside_value=2.0)},
    "lies": {
        "misreport": ("over_report", "under_serve"),
        "audit_rate": 0.2,
        "fine": 0.05,
        "market": UNEVEN,
    },
    "lies, fixed prices, noticed": {
        "misreport": {"over_report": 1.5, "under_serve": 1},
        "noticed": True,
        "prices": "fixed",
        "benchmark": "aime",
    },
    "lies, flat": {
        "misreport": "under_serve",
        "fine": 0.01,
        "mechanism": "flat_fee",
        "actions": "flat",
        "market": UNEVEN,
    },
    "lies in an auction": {
        "mechanism": "auction",
        "misreport": ("under_serve", "over_claim"),
        "fine": 0.1,
        "settlement": "claimed",
        "market": UNEVEN,
    },
    "own": {"information": "own"},
    "prices public": {"information": "prices", "mechanism": "auction"},
    "continuous": {"actions": "continuous"},
    "continuous, fixed": {"actions": "continuous", "prices": "fixed", "market": UNEVEN},
    "continuous auction": {"actions": "continuous", "mechanism": "auction"},
    "continuous lies": {
        "actions": "continuous",
        "misreport": {"over_report": 1.5, "under_serve": 1},
        "fine": 0.05,
        "noticed": True,
        "market": UNEVEN,
    },
    "continuous auction, lies": {
        "actions": "continuous",
        "mechanism": "auction",
        "misreport": ("under_serve", "over_claim"),
        "settlement": "claimed",
        "fine": 0.1,
        "market": UNEVEN,
    },
}
SAMPLED = {
    "sampled": {"demand": "sampled"},
    "sampled auction": {"demand": "sampled", "mechanism": "auction", "prices": "fixed"},
    "sampled lies": {
        "demand": "sampled",
        "misreport": "under_serve",
        "fine": 1e-3,
        "audit_rate": 0.3,
    },
}


def actions_of(env, seed):
    env.action_space.seed(seed)
    return env.action_space.sample()


def as_dict(single, row):
    return {agent: row[i] for i, agent in enumerate(single.agents)}
