"""List prices by date from an optional source, for curves of your own.

prices = ttc_env.prices_from("genai-prices", "2026-06-01", {"mine": "openai:gpt-4o-mini"})
market = ttc_env.load_market("curves.csv", alpha=0.01, prices_per_token=prices)
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

SOURCES = ("genai-prices",)


def prices_from(
    source: str,
    date: str | datetime.date,
    models: Mapping[str, str] | Sequence[str] | None = None,
) -> dict[str, float]:
    """USD per *output* token on a date, by name.

    The source `"genai-prices"` is the PyPI package of that name (MIT licence), which is not
    installed with this one: `pip install genai-prices`. Its prices come with the package and are
    as good as its collectors know; where it knows no price for the date, it gives the earliest
    known. Nothing is downloaded.

    Args:
        source: `"genai-prices"`.
        date: YYYY-MM-DD or a `datetime.date`; prices at noon UTC.
        models: the names to price: a mapping from provider names of your curves to model names of
            the source, such as `{"mine": "openai:gpt-4o-mini"}`, or a list of the latter. A model
            name may begin with its seller and a colon; without one, the source picks a seller.
            None: every model with a positive price, as `"seller:model"`.

    Returns:
        USD/token by name: what `load_market(prices_per_token=...)` takes. Input tokens are left
        out, as in the paper.

    Raises:
        ValueError: an unknown source, a bad date, or a model without a price.
        ImportError: the package is not installed.
    """
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}; choose {', '.join(SOURCES)}")
    when = _noon(date)
    try:
        import genai_prices
    except ImportError as error:
        raise ImportError(
            "prices_from('genai-prices', ...) needs the package genai-prices: pip install"
            " genai-prices"
        ) from error
    if models is None:
        found = {
            f"{seller.id}:{model.id}": _output_price(genai_prices, model.id, seller.id, when)
            for seller in _sellers(genai_prices)
            for model in seller.models
        }
        return {name: price for name, price in found.items() if price}
    if isinstance(models, str):
        models = [models]
    named = models if isinstance(models, Mapping) else {name: name for name in models}
    prices = {}
    for name, reference in named.items():
        seller, colon, model = reference.partition(":")
        price = _output_price(
            genai_prices, model if colon else reference, seller if colon else None, when
        )
        if not price:
            raise ValueError(
                f"genai-prices has no price per output token for {reference!r}; give another model"
                " name ('seller:model'; prices_from without models lists them), or write the price"
                " into the column price_per_token"
            )
        prices[name] = price
    return prices


def _noon(date: str | datetime.date) -> datetime.datetime:
    try:
        if isinstance(date, str):
            date = datetime.date.fromisoformat(date)
        day = datetime.date(date.year, date.month, date.day)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"date is {date!r}; give YYYY-MM-DD, such as '2026-06-01', or a datetime.date"
        ) from error
    return datetime.datetime.combine(day, datetime.time(12), datetime.UTC)


def _sellers(package: Any) -> Sequence[Any]:
    from importlib import import_module

    snapshot = import_module(f"{package.__name__}.data_snapshot").get_snapshot()
    return list(snapshot.providers)


def _output_price(
    package: Any, model: str, seller: str | None, when: datetime.datetime
) -> float | None:
    """USD/token; None where the package knows no price per output token."""
    million = package.Usage(output_tokens=1_000_000)
    try:
        price = package.calc_price(
            million, model, provider_id=seller, genai_request_timestamp=when
        ).output_price
    except (LookupError, ValueError):
        return None
    return float(price) / 1e6 or None
