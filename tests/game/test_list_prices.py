"""prices_from: an optional source of list prices."""

import datetime
import sys
import types

import pytest

import ttc_env


class FakeUsage:
    def __init__(self, output_tokens):
        self.output_tokens = output_tokens


def fake_calc_price(usage, model, *, provider_id=None, genai_request_timestamp):
    assert genai_request_timestamp.tzinfo is datetime.UTC
    cheaper = genai_request_timestamp.date() >= datetime.date(2026, 1, 1)
    table = {"big": 8.0 if cheaper else 10.0, "small": 1.0, "free": 0.0}
    if model not in table or provider_id not in (None, "shop"):
        raise LookupError(model)
    return types.SimpleNamespace(output_price=table[model] * usage.output_tokens / 1e6)


@pytest.fixture
def fake(monkeypatch):
    package = types.ModuleType("genai_prices")
    package.Usage, package.calc_price = FakeUsage, fake_calc_price
    snapshot = types.ModuleType("genai_prices.data_snapshot")
    models = [types.SimpleNamespace(id=name) for name in ("big", "small", "free", "unpriced")]
    shop = types.SimpleNamespace(id="shop", models=models)
    snapshot.get_snapshot = lambda: types.SimpleNamespace(providers=[shop])
    monkeypatch.setitem(sys.modules, "genai_prices", package)
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", snapshot)


def test_prices_are_usd_per_output_token_on_the_date(fake):
    assert ttc_env.prices_from("genai-prices", "2025-12-31", ["big"]) == {"big": 1e-5}
    assert ttc_env.prices_from("genai-prices", "2025-12-31", "big") == {"big": 1e-5}
    after = datetime.date(2026, 1, 1)
    assert ttc_env.prices_from("genai-prices", after, {"mine": "shop:big"}) == {"mine": 8e-6}
    assert ttc_env.prices_from("genai-prices", after) == {"shop:big": 8e-6, "shop:small": 1e-6}


def test_prices_go_into_a_market(fake, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("provider,level,accuracy,tokens\nmine,1,0.5,1000\n")
    prices = ttc_env.prices_from("genai-prices", "2025-01-01", {"mine": "small"})
    assert ttc_env.load_market(path, alpha=1, prices_per_token=prices).price[0, 0] == pytest.approx(
        1e-3
    )


@pytest.mark.parametrize("model", ["huge", "free", "other:big"])
def test_a_model_without_a_price_is_named(fake, model):
    with pytest.raises(ValueError, match=f"no price per output token for '{model}'"):
        ttc_env.prices_from("genai-prices", "2025-01-01", [model])


def test_bad_arguments_are_refused(fake):
    with pytest.raises(ValueError, match="choose genai-prices"):
        ttc_env.prices_from("somewhere", "2025-01-01")
    for date in ("2025", "May", 2025, None):
        with pytest.raises(ValueError, match="date is"):
            ttc_env.prices_from("genai-prices", date)


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ImportError, match="pip install genai-prices"):
        ttc_env.prices_from("genai-prices", "2025-01-01")


def test_the_real_package():
    pytest.importorskip("genai_prices", reason="genai-prices is not installed: not tested with it")
    prices = ttc_env.prices_from("genai-prices", "2025-06-01", {"a": "openai:gpt-4o-mini"})
    assert prices["a"] == pytest.approx(0.6e-6)
    everything = ttc_env.prices_from("genai-prices", "2025-06-01")
    assert len(everything) > 100
    assert everything["openai:gpt-4o-mini"] == prices["a"]
    assert all(price > 0 for price in everything.values())
