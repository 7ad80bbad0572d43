"""Market, Provider and Curve: bad input is refused with the remedy, good input is cheap and
read-only.
"""

import copy
import datetime
import pickle

import numpy as np
import pytest

import ttc_env
from ttc_env.game.types import Curve, Market, PostedPriceGame, Provider, QualityFunction

ROW = ([[1.0, 2.0]], [[0.1, 0.2]], [[0.0, 0.0]])


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([[True, False]], [[0.1, 0.2]], [[0.0, 0.0]]), {}, "quality is an array of bool"),
        (([[1j, 1.0]], [[0.1, 0.2]], [[0.0, 0.0]]), {}, "complex"),
        ((np.array([["1", "2"]]), [[0.1, 0.2]], [[0.0, 0.0]]), {}, "plain numbers"),
        ((np.array([[1, 2]], dtype="m8[s]"), *ROW[1:]), {}, "timedelta"),
        (([[1.0, 2.0], [1.0]], [[0.1, 0.2]], [[0.0, 0.0]]), {}, "fill the end"),
        (([[1.0, np.inf]], [[0.1, 0.2]], [[0.0, 0.0]]), {}, "level index 1 is inf"),
        (([[1.0, np.nan]], [[0.1, 0.2]], [[0.0, 0.0]]), {}, "NaN may only fill the end"),
        (([[np.nan]], [[np.nan]], [[np.nan]]), {}, "at least one level"),
        ((np.ones((0, 2)),) * 3, {}, "at least one provider"),
        (ROW, {"names": "a"}, "list with one name per row"),
        (ROW, {"names": [1]}, "no provider name"),
        (ROW, {"names": [""]}, "no provider name"),
        (ROW, {"names": ["a", "b"]}, "2 names for 1 providers"),
        (ROW, {"beta": True}, "beta is True"),
        (ROW, {"beta": "1"}, "beta is '1'"),
        (ROW, {"beta": 1j}, "beta is 1j"),
        (ROW, {"beta": datetime.date(2026, 1, 1)}, "beta is datetime"),
        (ROW, {"beta": np.nan}, "beta is nan"),
        (ROW, {"outside_value": np.inf}, "outside_value is inf"),
        (ROW, {"beta": np.array([1.0])}, "beta is array"),
        ((*ROW[:2], [[0.0]]), {}, r"of one shape; got \(1, 2\), \(1, 2\), \(1, 1\)"),
        (([1.0, 2.0], [0.1, 0.2], [0.0, 0.0]), {}, r"must be \[n, m\]"),
    ],
)
def test_bad_arrays_are_refused_with_the_remedy(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        Market.from_arrays(*arguments, **{"beta": 1.0} | options)


def test_a_row_without_levels_names_its_provider():
    bad = [[1.0, 2.0], [1.0, np.nan]], [[0.1, 0.2], [0.1, 0.2]], [[0.0, 0.0], [0.0, np.nan]]
    with pytest.raises(ValueError, match=r"row 1 \('b'\)"):
        Market.from_arrays(*bad, beta=1, names=["a", "b"])


def test_names_that_repeat_are_listed_once():
    with pytest.raises(ValueError, match="'a' stands more than once"):
        Market.from_arrays(*(np.repeat(x, 3, axis=0) for x in ROW), beta=1, names=["a", "b", "a"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"providers": ["a"]}, "providers holds a str"),
        ({"alpha": True}, "alpha is True"),
        ({"alpha": np.nan}, "alpha is nan"),
        ({"baseline": "0.1"}, "baseline is '0.1'"),
        ({"baseline": 2.0}, "baseline is 2.0"),
        ({"quality_function": np.sqrt}, "ttc_env.QualityFunction"),
        ({"margin": True}, "margin is True"),
    ],
)
def test_bad_fields_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ttc_env.load_market().replace(**changes)


def test_quality_functions_take_numbers_only():
    with pytest.raises(ValueError, match="parameter is True"):
        QualityFunction("power", True)


def test_another_quality_function_names_those_there_are():
    with pytest.raises(ValueError, match="'quadratic' is unknown; choose 'linear', 'power' or"):
        QualityFunction("quadratic")


OFFERED = {"levels": [1, 2], "quality": [1.0, 2.0], "price": [0.1, 0.2], "cost": [0.0, 0.1]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"levels": []}, "at least one level"),
        ({"levels": [[1, 2]]}, "flat list"),
        ({"cost": [0.0]}, r"cost has shape \(1,\), levels \(2,\)"),
        ({"accuracy": [0.5, 1.5]}, "accuracy needs one number from 0 to 1 per level"),
        ({"accuracy": [0.5]}, "accuracy needs one number"),
        ({"characters": [-1.0, 2.0]}, "characters needs one number from 0 to inf"),
    ],
)
def test_a_provider_that_cannot_be_is_refused_by_its_name(changes, words):
    with pytest.raises(ValueError, match=f"'mine'.*{words}"):
        Provider("mine", **OFFERED | changes)


def test_one_number_may_be_an_array_of_no_dimension():
    market = Market.from_arrays(*ROW, beta=np.array(2.0), outside_value=np.array(1))
    assert (market.beta, market.outside_value) == (2.0, 1.0)
    assert type(market.beta) is float


def test_what_things_print_as_says_what_they_are():
    assert repr(Provider("mine", **OFFERED)) == "Provider('mine', 2 levels)"
    game = PostedPriceGame.from_market(Market.from_arrays(*ROW, beta=300.0))
    assert repr(game) == "PostedPriceGame(1 providers, 2 actions, beta=300)"


GOOD = {"name": "a", "levels": [1, 2], "accuracy": [0.1, 0.2], "price_per_query": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": [0.1, 20.0]}, "not percentages"),
        ({"accuracy": [0.1]}, "one entry per level"),
        ({"price_per_query": [0.1, 0.0]}, "price_per_query"),
        ({"price_per_query": None}, "no price"),
        ({"price_per_query": None, "price_per_token": 1e-6}, "needs tokens"),
        ({"price_per_token": 1e-6}, "two prices"),
        (
            {"price_per_query": None, "tokens": [5, 9], "price_per_token": 0.0},
            "it must be positive",
        ),
        ({"price_per_query": None, "tokens": [5, 9], "price_per_token": -1.0}, "must be positive"),
        ({"levels": [1, np.inf]}, "levels is .*give finite numbers"),
        ({"characters": [1.0, -1.0]}, "characters"),
        ({"accuracy_se": [0.1, -0.1]}, "accuracy_se"),
        ({"effort": ("low",)}, "one per level"),
        ({"margin": -0.5}, "margin"),
    ],
)
def test_bad_curves_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Curve(**GOOD | changes)


def test_a_curve_without_tokens_says_so_where_they_are_needed():
    curve = Curve(**GOOD)
    np.testing.assert_array_equal(curve.price, [0.1, 0.2])
    with pytest.raises(ValueError, match="no token counts"):
        curve.known_tokens()


def random_tables(n, m, seed=0):
    rng = np.random.default_rng(seed)
    tables = rng.random((3, n, m))
    tables[:, np.arange(m) >= rng.integers(1, m + 1, n)[:, None]] = np.nan
    return tables


def test_from_arrays_is_what_providers_one_by_one_make():
    tables = random_tables(50, 5)
    tables[:, :, -1] = np.nan  # nobody has the last level
    tables[:, 7, :4] = 0.5
    market = Market.from_arrays(*tables, beta=2.0)
    providers = []
    for i in range(50):
        m = int((~np.isnan(tables[0, i])).sum())
        providers.append(Provider(f"provider_{i}", np.arange(m), *tables[:, i, :m]))
    other = Market(tuple(providers), beta=2.0)
    assert market.names == other.names
    assert market.num_levels == other.num_levels == 4
    for field in ("quality", "price", "cost", "available"):
        np.testing.assert_array_equal(getattr(market, field), getattr(other, field))
        assert not getattr(market, field).flags.writeable
    for one, two in zip(market.providers, other.providers, strict=True):
        for field in ("levels", "quality", "price", "cost"):
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
            assert not getattr(one, field).flags.writeable


def test_changing_beta_keeps_the_tables():
    market = ttc_env.load_market()
    table = market.quality
    assert market.replace(beta=3.0).quality is table
    changed = market.replace(alpha=1.0)
    assert changed.quality is not market.quality
    assert changed.replace(providers=market.providers[:2]).num_providers == 2


@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_market_stays_read_only_and_carries_no_tables(through):
    market = ttc_env.load_market()
    bare = len(pickle.dumps(market))
    table = market.quality
    assert len(pickle.dumps(market)) == bare
    again = through(market)
    np.testing.assert_array_equal(again.quality, table)
    assert not again.providers[0].quality.flags.writeable
    assert not again.providers[0].curve.accuracy.flags.writeable


def test_validation_is_done_in_bulk(monkeypatch):
    """100,000 providers took ten seconds, one by one."""
    monkeypatch.setattr(Provider, "__post_init__", lambda self: pytest.fail("one by one"))
    market = Market.from_arrays(*random_tables(1000, 6), beta=1.0)
    assert market.num_providers == 1000


def test_units_are_those_of_the_number_that_is_wrong():
    good = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=r"levels at level index 1 is nan; .* a finite number$"):
        ttc_env.Provider("a", np.array([1.0, np.nan]), good, good, good)
    with pytest.raises(ValueError, match=r"cost at level index 0 is inf; .* number of USD/query$"):
        ttc_env.Provider("a", good, good, good, np.array([np.inf, 1.0]))
