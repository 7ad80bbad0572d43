"""Curve files: what stands in them is what is read, or it is refused, with place and remedy."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_env.game.curve_table import lookalikes
from ttc_env.game.curves import load_market

HEADER = "provider,level,accuracy,tokens,price_per_token"


def write(tmp_path, *rows, header=HEADER):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def frame(**columns):
    rows = {
        "provider": ["a", "a", "b"],
        "level": [1, 4, 1],
        "accuracy": [0.5, 0.6, 0.4],
        "tokens": [100.0, 400.0, 50.0],
        "price_per_token": [1e-6, 1e-6, 2e-6],
    }
    return pd.DataFrame(rows | columns)


def test_names_are_texts(tmp_path):
    names = ["01", "1", "1e3", "NA", "nan", "None", "True", "2026-01-01", '"quoted, name"']
    path = write(tmp_path, *(f"{name},1,0.5,10,1e-6" for name in names))
    assert load_market(path, alpha=1).names == tuple(name.strip('"') for name in names)


@pytest.mark.parametrize("name", ["A ", " A", "\tA"])
def test_names_that_differ_by_a_blank_are_refused(tmp_path, name):
    path = write(tmp_path, "A,1,0.5,10,1e-6", f"{name},2,0.5,10,1e-6")
    with pytest.raises(ValueError, match=r"line 3.*begins or ends with a blank"):
        load_market(path, alpha=1)


@pytest.mark.parametrize("names", [[1, 1, 2], [1.0, 1.0, 2.0], [True, True, False]])
def test_names_in_a_frame_must_be_texts(names):
    with pytest.raises(ValueError, match=r"not a text.*dtype"):
        load_market(frame(provider=names), alpha=1)


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("Margin", "margin"),
        ("margins", "margin"),
        (" margin", "margin"),
        ("mu", "margin"),
        ("SE", "se"),
        ("std_err", "se"),
        ("Effort", "effort"),
        ("chars", "characters"),
        ("usd_per_task", "price_per_query"),
        ("Level", "level"),
        ("accuracy ", "accuracy"),
        ("Methods", "method"),
    ],
)
def test_columns_that_look_misspelt_are_refused(tmp_path, column, meant):
    path = write(tmp_path, "a,1,0.5,10,1e-6,0.1", header=f"{HEADER},{column}")
    with pytest.raises(ValueError, match=f"looks like {meant}.*Rename.*provider, level"):
        load_market(path, alpha=1)


def test_a_misspelt_price_is_not_replaced_by_a_published_one(tmp_path):
    path = write(tmp_path, "Qwen2-7B,1,0.5,10,7", header=HEADER.replace("token", "tok"))
    with pytest.raises(ValueError, match="'price_per_tok' looks like price_per_token"):
        load_market(path, alpha=1)


def test_all_misspelt_columns_are_listed(tmp_path):
    path = write(tmp_path, "a,1,0.5,10,1e-6,1,2", header=f"{HEADER},Margin,std_err")
    with pytest.raises(ValueError, match=r"'Margin' looks like margin; 'std_err' looks like se"):
        load_market(path, alpha=1)


def test_other_columns_are_ignored(tmp_path):
    extra = "accuracy_lo,accuracy_hi,tokens_lo,uncertainty_tokens,thinking_tokens,notes,cost"
    path = write(tmp_path, "a,1,0.5,10,1e-6,x,x,x,x,x,x,x", header=f"{HEADER},{extra}")
    assert load_market(path, alpha=1).names == ("a",)
    assert lookalikes([*HEADER.split(","), "accuracy_std", "level_name", "released"]) == {}


def test_a_header_with_a_name_twice_is_refused(tmp_path):
    path = write(tmp_path, "a,1,0.5,10,1e-6,0.7", header=f"{HEADER},accuracy")
    with pytest.raises(ValueError, match="'accuracy' stands more than once"):
        load_market(path, alpha=1)
    twice = pd.concat([frame(), frame()[["level"]]], axis=1)
    with pytest.raises(ValueError, match="'level' stands more than once"):
        load_market(twice, alpha=1)
    with pytest.raises(ValueError, match="'accuracy' stands more than once"):
        load_market(pd.read_csv(path), alpha=1)  # pandas calls the second one "accuracy.1"
    assert load_market(frame().assign(**{"note.1": "x"}), alpha=1).names == ("a", "b")


@pytest.mark.parametrize("entry", ["True", "0.5+0j", "2026-01-01", "1_0", "0x1", "inf", "nan", "½"])
@pytest.mark.parametrize("column", ["level", "accuracy", "tokens", "price_per_token"])
def test_a_number_in_a_file_is_a_plain_number(tmp_path, column, entry):
    values = ["a", "1", "0.5", "10", "1e-6"]
    values[HEADER.split(",").index(column)] = entry
    with pytest.raises(ValueError, match=f"line 2, column '{column}'"):
        load_market(write(tmp_path, ",".join(values)), alpha=1)


@pytest.mark.parametrize(
    "entry",
    [
        True,
        np.True_,
        0.5 + 0j,
        datetime.date(2026, 1, 1),
        pd.Timestamp("2026-01-01"),
        pd.Timedelta("1s"),
        np.timedelta64(1, "s"),
        pd.NaT,
        pd.NA,
        None,
        [0.5],
    ],
)
@pytest.mark.parametrize("column", ["level", "accuracy"])
def test_a_number_in_a_frame_is_a_plain_number(column, entry):
    values = pd.Series([0.2, entry, 0.3], dtype=object)
    with pytest.raises(ValueError, match=f"row 1, column '{column}'"):
        load_market(frame(**{column: values}), alpha=1)


def test_columns_of_one_dtype_are_no_numbers_either():
    for values in ([True, False, True], pd.to_datetime(["2026-01-01"] * 3), np.ones(3) * 1j):
        with pytest.raises(ValueError, match="row 0, column 'accuracy'"):
            load_market(frame(accuracy=values), alpha=1)


def test_numbers_of_every_numeric_type_are_taken():
    for kind in ("float32", "Float64", "string", "str"):
        market = load_market(frame(accuracy=pd.Series([0.5, 0.25, 0.75]).astype(kind)), alpha=1)
        np.testing.assert_array_equal(market.providers[0].curve.accuracy, [0.5, 0.25])
    exact = pd.Series([decimal.Decimal("0.5")] * 3, dtype=object)
    assert load_market(frame(accuracy=exact), alpha=1).providers[1].curve.accuracy == 0.5


def test_the_papers_alias_is_only_for_published_curves(tmp_path):
    header = f"{HEADER},method"
    rows = "a,1,0.5,10,1e-6,chain_of_thought", "a,1,0.7,10,1e-6,votes"
    market = load_market(write(tmp_path, *rows, header=header), "chain_of_thought", alpha=1)
    assert market.method == "chain_of_thought"
    assert market.providers[0].curve.accuracy == 0.5
    rows = "a,1,0.5,10,1e-6,reasoning", "a,1,0.7,10,1e-6,votes"
    assert load_market(
        write(tmp_path, *rows, header=header), "chain_of_thought", alpha=1
    ).method == ("reasoning")


def test_a_price_per_query_stands_in_place_of_tokens(tmp_path):
    header = "provider,level,accuracy,price_per_query,effort,characters"
    path = write(tmp_path, "a,2,0.6,0.4,high,90", "a,1,0.5,0.1,low,40", header=header)
    market = load_market(path, alpha=1)
    curve = market.providers[0].curve
    np.testing.assert_array_equal(market.price, [[0.1, 0.4]])
    np.testing.assert_allclose(market.cost, [[0.08, 0.32]])
    np.testing.assert_array_equal(curve.characters, [40, 90])
    assert curve.effort == ("low", "high")
    assert curve.tokens is None
    assert curve.price_per_token is None
    np.testing.assert_allclose(market.replace(margin=1.0).cost, [[0.05, 0.2]])


def test_providers_may_be_priced_in_different_ways(tmp_path):
    header = "provider,level,accuracy,tokens,price_per_token,price_per_query"
    path = write(
        tmp_path, "a,1,0.5,10,1e-6,", "b,1,0.5,,,0.1", "Qwen2-7B,1,0.5,10,,", header=header
    )
    np.testing.assert_allclose(load_market(path, alpha=1).price[:, 0], [1e-5, 0.1, 2e-6])


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ("a,1,0.5,10,1e-6,0.1", {}, "line 2.*price per query and a price per token"),
        ("a,1,0.5,,,0.1", {"prices_per_token": {"a": 1e-6}}, "price per query and a price per tok"),
        ("a,1,0.5,,1e-6,", {}, "neither tokens nor a price per query"),
        ("a,1,0.5,10,,", {}, "no price; add a column price_per_token"),
    ],
)
def test_a_provider_has_one_price(tmp_path, row, options, words):
    header = "provider,level,accuracy,tokens,price_per_token,price_per_query"
    with pytest.raises(ValueError, match=words):
        load_market(write(tmp_path, row, header=header), alpha=1, **options)


@pytest.mark.parametrize("column", ["price_per_query", "se", "effort"])
def test_an_optional_column_is_full_or_empty_within_a_provider(tmp_path, column):
    header = (
        f"{HEADER},{column}" if column != "price_per_query" else f"provider,level,accuracy,{column}"
    )
    start = "1e-6," if column != "price_per_query" else ""
    tokens = "10," if start else ""
    rows = f"a,1,0.5,{tokens}{start}0.1", f"a,2,0.5,{tokens}{start}"
    with pytest.raises(ValueError, match=f"line 3, column '{column}'"):
        load_market(write(tmp_path, *rows, header=header), alpha=1)


def test_short_rows_folders_and_latin_letters_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"line 2 has 4 fields, the header 5"):
        load_market(write(tmp_path, "a,1,0.5,10"), alpha=1)
    path = tmp_path / "folder.csv"
    path.mkdir()
    with pytest.raises(ValueError, match="not a readable CSV"):
        load_market(path, alpha=1)
    path = tmp_path / "latin.csv"
    path.write_bytes(f"{HEADER}\n".encode() + "Müller,1,0.5,10,1e-6\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not a readable CSV"):
        load_market(path, alpha=1)


def test_a_price_too_large_for_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="provider 'a': price at level index 0 is inf"):
        load_market(write(tmp_path, "a,1,0.5,1e300,1e300"), alpha=1)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_text(f"{HEADER}\r\na,1,0.5,10,1e-6\r\n", encoding="utf-8-sig")
    assert load_market(path, alpha=1).names == ("a",)


def test_lines_are_counted_with_those_inside_quotes(tmp_path):
    path = write(tmp_path, '"a\nb",1,0.5,10,1e-6', "c,1,5,10,1e-6")
    with pytest.raises(ValueError, match="line 4, column 'accuracy'"):
        load_market(path, alpha=1)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=12)
NAMES = TEXT.filter(lambda name: name == name.strip() and name != "")
POSITIVE = st.floats(1e-12, 1e12)


@st.composite
def providers(draw):
    levels = draw(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4, unique=True))
    m = len(levels)

    def column(numbers, optional=False):
        if optional and draw(st.booleans()):
            return None
        return draw(st.lists(numbers, min_size=m, max_size=m))

    by_query = draw(st.booleans())
    return {
        "level": levels,
        "accuracy": column(st.floats(0, 1)),
        "tokens": column(POSITIVE, optional=by_query),
        "price_per_token": None if by_query else [draw(POSITIVE)] * m,
        "price_per_query": column(POSITIVE) if by_query else None,
        "margin": [draw(st.floats(0, 10))] * m,
        "se": column(st.floats(0, 1), optional=True),
        "characters": column(POSITIVE, optional=True),
        "effort": column(NAMES, optional=True),
    }


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, providers(), min_size=1, max_size=4), st.randoms())
def test_random_curves_round_trip(tmp_path_factory, made, order):
    rows = []
    for name, columns in made.items():
        m = len(columns["level"])
        rows += [
            {"provider": name} | {k: None if x is None else x[j] for k, x in columns.items()}
            for j in range(m)
        ]
    order.shuffle(rows)
    table = pd.DataFrame(rows).astype({"provider": object})
    path = tmp_path_factory.mktemp("curves") / "mine.csv"
    table.to_csv(path, index=False, lineterminator="\n")
    for source in (path, table):
        market = load_market(source, alpha=1.0)
        assert market.names == tuple(dict.fromkeys(row["provider"] for row in rows))
        for provider in market.providers:
            columns, curve = made[provider.name], provider.curve
            rank = np.argsort(columns["level"])
            for field, column in {"levels": "level", "accuracy_se": "se"}.items() | {
                (x, x) for x in ("accuracy", "tokens", "price_per_query", "characters")
            }:
                values = columns[column]
                if values is None:
                    assert getattr(curve, field) is None
                else:
                    np.testing.assert_array_equal(getattr(curve, field), np.array(values)[rank])
            assert curve.margin == columns["margin"][0]
            assert curve.price_per_token == (columns["price_per_token"] or [None])[0]
            effort = columns["effort"]
            assert curve.effort == (None if effort is None else tuple(effort[j] for j in rank))


GOOD = f"{HEADER},se,effort\na,1,0.5,10,1e-6,0.1,low\nb,2,0.25,20,2e-6,0.1,high\n".encode()
EDITS = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.binary(max_size=6))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60).map(lambda x: [(0, len(GOOD), x)]), st.lists(EDITS)))
def test_a_damaged_file_is_read_or_refused_with_its_name(tmp_path_factory, edits):
    content = GOOD
    for at, length, new in edits:
        content = content[:at] + new + content[at + length :]
    path = tmp_path_factory.mktemp("damaged") / "mine.csv"
    path.write_bytes(content)
    refusal, market = "", None
    try:
        market = load_market(path, alpha=1)
    except ValueError as error:
        refusal = str(error)
    assert "mine.csv" in refusal or np.isfinite(market.quality[market.available]).all()
