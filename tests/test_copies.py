"""What is frozen stays so in a copy, and says the same: markets, games, shocks, mechanisms."""

import copy
import pickle

import numpy as np
import pytest

import ttc_env
from tests.variants import UNEVEN
from ttc_env.game.mechanisms import make_mechanism
from ttc_env.game.types import PostedPriceGame

COPIES = [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
SHOCKS = ttc_env.Shocks(
    cost=[ttc_env.AR1(0.9, 0.1), ttc_env.Path([1.0, 2.0], cycle=True)],
    exit=(0.1, 0.2, 0.3),
    capital=1.0,
    present=[True, True, False],
)
FROZEN = {
    "market": UNEVEN,
    "provider": UNEVEN.providers[0],
    "batch": ttc_env.random_markets(3, seed=0),
    "game": PostedPriceGame.from_market(UNEVEN),
    "shocks": SHOCKS,
    "path": SHOCKS.costs[1],
}


MEASURED = ttc_env.Market.from_arrays(
    [[0.5, 0.7], [0.4, 0.8]],
    [[0.1, 0.2], [0.05, 0.3]],
    [[0.05, 0.1], [0.02, 0.1]],
    beta=5.0,
    alpha=1.0,
    accuracy=[[0.4, 0.6], [0.3, 0.8]],
    characters=[[100, 200], [50, 300]],
)


def arrays(thing):
    """Its arrays, of the fields that were given, by name; a market's are its providers'."""
    parts = enumerate(getattr(thing, "providers", [thing]))
    return {
        (k, name): x
        for k, part in parts
        for name, x in vars(part).items()
        if isinstance(x, np.ndarray)
    }


@pytest.mark.parametrize("through", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("name", FROZEN)
def test_arrays_stay_read_only(name, through):
    before, after = arrays(FROZEN[name]), arrays(through(FROZEN[name]))
    assert before
    for field, x in before.items():
        assert not x.flags.writeable, field
        assert not after[field].flags.writeable, field
        np.testing.assert_array_equal(after[field], x)


@pytest.mark.parametrize("through", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("name", ttc_env.mechanisms())
def test_mechanisms_equal_their_copies_and_play_alike(name, through):
    mechanism = make_mechanism(name, (0.5, 1.0))
    again = through(mechanism)
    assert again == mechanism == make_mechanism(name, (0.5, 1.0))
    assert hash(again) == hash(mechanism)
    assert repr(again) == repr(mechanism)
    for field in ("quality", "seen", "price", "paid", "cost"):
        np.testing.assert_array_equal(
            getattr(again.offers(MEASURED), field), getattr(mechanism.offers(MEASURED), field)
        )
