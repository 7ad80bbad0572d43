"""load_market: what it builds, and what it refuses and how."""

import numpy as np
import pandas as pd
import pytest

from ttc_env.game.curves import load_market, published_curves
from ttc_env.game.types import Market, QualityFunction


def table(**columns):
    rows = {
        "provider": ["a", "a", "b"],
        "level": [1, 4, 1],
        "accuracy": [0.5, 0.6, 0.4],
        "tokens": [100.0, 400.0, 50.0],
    }
    return pd.DataFrame(rows | {"price_per_token": [1e-6, 1e-6, 2e-6]} | columns)


def test_published_market_follows_the_notation():
    market = load_market("gsm8k", "majority")
    rows = published_curves().query(
        "benchmark == 'gsm8k' and method == 'majority' and provider == 'Qwen2-7B'"
    )
    provider = market.providers[market.names.index("Qwen2-7B")]
    np.testing.assert_array_equal(provider.levels, [1, 4, 8, 16, 32, 64])
    # q = alpha (b + (1 - b) a)
    np.testing.assert_allclose(provider.quality, 0.008 * (0.1 + 0.9 * rows.accuracy))
    # p = rho T; 0.20 USD per 1M tokens
    np.testing.assert_allclose(provider.price, 0.20e-6 * rows.tokens)
    np.testing.assert_allclose(provider.cost, provider.price / 1.25)  # c = p / (1 + mu)
    assert market.beta == 1000
    assert market.outside_value == 0


def test_chain_of_thought_is_reasoning():
    a, b = load_market("aime", "chain_of_thought"), load_market("aime", "reasoning")
    np.testing.assert_array_equal(a.quality, b.quality)
    assert a.method == "reasoning"


def test_providers_are_kept_in_the_order_asked_for():
    market = load_market("gpqa", "best_of_n", ["Qwen2-7B", "Llama-3-8B"])
    assert market.names == ("Qwen2-7B", "Llama-3-8B")


def test_own_table_with_grids_of_different_length(tmp_path):
    path = tmp_path / "mine.csv"
    table().to_csv(path, index=False)
    for source in (path, str(path), table()):
        market = load_market(source, alpha=0.01)
        assert market.available.tolist() == [[True, True], [True, False]]
        assert np.isnan(market.quality[1, 1])
        np.testing.assert_allclose(market.price[1, 0], 1e-4)


def test_rows_may_come_in_any_order():
    shuffled = table().iloc[[2, 1, 0]]
    market = load_market(shuffled, alpha=0.01)
    np.testing.assert_array_equal(market.providers[1].levels, [1, 4])


def test_column_margin_and_argument():
    np.testing.assert_allclose(
        load_market(table(margin=[1.0, 1.0, 0.0]), alpha=1).cost[:, 0], [5e-5, 1e-4]
    )
    np.testing.assert_allclose(load_market(table(), alpha=1, margin=1.0).cost[:, 0], [5e-5, 5e-5])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": [0.5, 60.0, 0.4]}, ["line 3", "'accuracy'", "60.0", "[0, 1]", "percentage"]),
        ({"accuracy": [0.5, np.nan, 0.4]}, ["line 3", "'accuracy'", "empty"]),
        ({"accuracy": [0.5, "many", 0.4]}, ["line 3", "'accuracy'", "many"]),
        ({"tokens": [100.0, 400.0, 0.0]}, ["line 4", "'tokens'", "positive"]),
        ({"level": [1, 1, 1]}, ["line 3", "'level'", "twice"]),
        ({"level": [1, np.inf, 1]}, ["line 3", "'level'", "finite"]),
        (
            {"price_per_token": [1e-6, 2e-6, 2e-6]},
            ["line 3", "'price_per_token'", "more than one value"],
        ),
        ({"price_per_token": [0.0, 0.0, 1e-6]}, ["line 2", "'price_per_token'", "positive"]),
        ({"margin": [0.1, 0.1, -1.0]}, ["line 4", "'margin'", ">= 0"]),
        ({"se": [0.1, 0.1, -1.0]}, ["line 4", "'se'", ">= 0"]),
        ({"provider": ["a", None, "b"]}, ["line 3", "'provider'", "empty"]),
        ({"benchmark": ["x", "x", "y"]}, ["benchmark", "x, y"]),
    ],
)
def test_bad_tables_are_refused_with_file_row_column_and_remedy(tmp_path, changes, words):
    path = tmp_path / "mine.csv"
    table(**changes).to_csv(path, index=False)
    with pytest.raises(ValueError) as error:
        load_market(path, alpha=0.01)
    for word in ["mine.csv", *words]:
        assert word in str(error.value)


def test_unknown_price_is_not_guessed():
    with pytest.raises(ValueError, match="no price; add a column price_per_token"):
        load_market(table().drop(columns="price_per_token"), alpha=1)
    market = load_market(
        table().drop(columns="price_per_token"), alpha=1, prices_per_token={"a": 1e-6, "b": 1e-6}
    )
    np.testing.assert_allclose(market.price[0, 0], 1e-4)


def test_alpha_is_not_guessed():
    with pytest.raises(ValueError, match="alpha is unknown"):
        load_market(table())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("humaneval",), "ttc-env measure"),
        (("hellaswag",), "gsm8k, aime, gpqa, measured, measured_gsm8k, mmlu"),
        (("gsm8k", "beam"), "majority, best_of_n, reasoning"),
        (("gsm8k", "majority", ["GPT-9"]), "there are Llama-3-8B"),
        ((3,), "benchmark is 3; give a name .gsm8k, .*a path to a CSV file, or a DataFrame"),
    ],
)
def test_unknown_names_list_what_exists(arguments, words):
    with pytest.raises(ValueError, match=words):
        load_market(*arguments)


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "blank.csv"
    path.write_text(
        "provider,level,accuracy,tokens,price_per_token\na,1,0.5,10,1e-6\n\n\na,2,1.5,20,1e-6\n"
    )
    with pytest.raises(ValueError, match="line 5"):
        load_market(path, alpha=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "provider,level,accuracy,tokens\na,1,0.5,10,7,8\n",
        "provider,level,accuracy,tokens\na,1,0.5,10\nb,1,0.5,10,9\n",
    ],
)
def test_files_that_are_no_tables_are_named(tmp_path, text):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.csv: not a readable CSV"):
        load_market(path, alpha=1)


def test_misspelt_names_are_not_ignored():
    with pytest.raises(ValueError, match="no provider 'Qwen2-7b'"):
        load_market("gsm8k", prices_per_token={"Qwen2-7b": 1e-6})
    with pytest.raises(ValueError, match="no column 'method'"):
        load_market(table(), "votes", alpha=1)
    with pytest.raises(ValueError, match="margin"):
        load_market("gsm8k").replace(margin=-0.5)
    with pytest.raises(ValueError, match="give a list of names"):
        load_market("gsm8k", providers=3)
    assert load_market("gsm8k", providers="Qwen2-7B").names == ("Qwen2-7B",)


def test_rows_that_are_not_there_are_said_with_those_that_are(tmp_path):
    methods = table().assign(method=["votes"] * len(table()))
    with pytest.raises(ValueError, match="no rows with method 'beam'; there are votes"):
        load_market(methods, "beam", alpha=1)
    with pytest.raises(ValueError, match="DataFrame: no rows; give at least one row per provider"):
        load_market(table().iloc[:0], alpha=1)
    path = tmp_path / "empty.csv"
    path.write_text("provider,level,accuracy,tokens,price_per_token\n")
    with pytest.raises(ValueError, match=r"empty\.csv.*no rows"):
        load_market(path, alpha=1)


@pytest.mark.parametrize("price", ["1e-6", 0.0, -1e-6, float("nan"), None])
def test_a_price_that_is_none_is_refused_by_name(price):
    with pytest.raises(ValueError, match=r"prices_per_token\['Qwen2-7B'\] is .*positive number"):
        load_market("gsm8k", prices_per_token={"Qwen2-7B": price})


def test_missing_file_and_missing_column(tmp_path):
    with pytest.raises(FileNotFoundError, match="no curve file"):
        load_market(tmp_path / "none.csv", alpha=1)
    with pytest.raises(ValueError, match="no column 'tokens'"):
        load_market(table().drop(columns="tokens"), alpha=1)


@pytest.mark.parametrize("form", ["linear", "power", "exponential"])
def test_quality_functions_run_from_0_to_1_and_rise(form):
    f = QualityFunction(form)
    accuracy = np.linspace(0, 1, 101)
    values = f(accuracy)
    np.testing.assert_allclose(values[[0, -1]], [0, 1], atol=1e-15)
    assert (np.diff(values) > 0).all()


def test_replace_works_a_new_alpha_through():
    market = load_market("gsm8k", beta=200)
    changed = market.replace(alpha=0.016, quality_function="power", margin=0.5, beta=7)
    expected = 0.016 * (0.1 + 0.9 * market.providers[0].curve.accuracy ** 2)
    np.testing.assert_allclose(changed.providers[0].quality, expected)
    np.testing.assert_allclose(changed.cost, changed.price / 1.5)
    assert (changed.beta, market.beta) == (7, 200)


def test_markets_are_frozen_and_validated():
    market = Market.from_arrays(
        [[1.0, 2.0], [1.0, np.nan]],
        [[0.1, 0.2], [0.1, np.nan]],
        [[0.0, 0.0], [0.0, np.nan]],
        beta=1,
    )
    with pytest.raises(ValueError, match="read-only"):
        market.quality[0, 0] = 3
    with pytest.raises(AttributeError):
        market.beta = 2
    with pytest.raises(ValueError, match="no accuracy curves"):
        market.replace(alpha=1.0)
    with pytest.raises(TypeError, match="no field gamma"):
        market.replace(gamma=1.0)
    with pytest.raises(ValueError, match="beta"):
        market.replace(beta=-1)
    with pytest.raises(ValueError, match="NaN may only fill the end"):
        Market.from_arrays([[np.nan, 1.0]], [[np.nan, 1.0]], [[np.nan, 1.0]], beta=1)


def test_the_callers_arrays_are_copied():
    quality = np.ones((2, 2))
    market = Market.from_arrays(quality, quality / 2, quality / 4, beta=1)
    quality[:] = 7
    assert (market.quality == 1).all()


def test_numbers_and_names_of_any_length_are_refused_by_name():
    for option in ("beta", "alpha", "margin", "baseline", "outside_value"):
        with pytest.raises(ValueError, match=f"{option} is 1000"):
            load_market("gsm8k", **{option: 10**400})
    with pytest.raises(ValueError, match="is unknown; choose gsm8k"):
        load_market("x" * 5000, alpha=1.0)
    with pytest.raises(FileNotFoundError, match="give an existing CSV file"):
        load_market("x" * 5000 + ".csv", alpha=1.0)


def test_the_other_name_of_reasoning_is_offered_where_there_is_reasoning():
    with pytest.raises(ValueError, match=r"reasoning \(or chain_of_thought\)$"):
        load_market("gsm8k", "beam")
    with pytest.raises(ValueError, match=r"choose majority, best_of_n, pass_at_k$"):
        load_market("mmlu", "beam")
