"""From tables of samples to quality curves with intervals, to a curve file that
`ttc_env.load_market` reads, and to resampled markets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ttc_env.atomic import write_text
from ttc_env.game.types import Curve, Market, Provider
from ttc_env.measure import estimators
from ttc_env.measure.resampling import joint_bootstrap, mean_interval, standard_error
from ttc_env.measure.samples import Samples

__all__ = ["MeasuredCurve", "write_curves"]

Array = NDArray[np.float64]

COLUMNS = (
    "provider",
    "level",
    "accuracy",
    "accuracy_lo",
    "accuracy_hi",
    "se",
    "tokens",
    "price_per_token",
    "margin",
)


@dataclass(frozen=True, eq=False)
class MeasuredCurve:
    """One provider's curve, still question by question, so that it can be resampled."""

    provider: str
    method: str
    levels: tuple[int, ...]  # K labels
    ids: tuple[str, ...]  # Q questions
    # [Q, K] chance of a right answer; a row is NaN where the estimator says nothing about a
    # question
    accuracy: Array
    tokens: Array  # [Q, K] tokens/query
    price_per_token: float | None = None  # USD/token
    margin: float | None = None  # mu; the loader's default where None

    def select(self, ids: Sequence[str]) -> MeasuredCurve:
        """The curve over the given questions alone, in the given order."""
        row = {question: i for i, question in enumerate(self.ids)}
        order = [row[question] for question in ids]
        return replace(
            self, ids=tuple(ids), accuracy=self.accuracy[order], tokens=self.tokens[order]
        )

    def to_curve(self) -> Curve:
        """The means over questions, as the game takes them.

        Raises:
            ValueError: no price is known.
        """
        if self.price_per_token is None:
            raise ValueError(f"provider {self.provider!r} has no price; give one in USD per token")
        return Curve(
            self.provider,
            np.array(self.levels),
            self.accuracy.mean(axis=0),
            self.tokens.mean(axis=0),
            self.price_per_token,
            0.25 if self.margin is None else self.margin,
            standard_error(self.accuracy),
        )

    def table(self, *, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
        """Tidy rows with the columns `COLUMNS`: means, standard errors, and intervals of the
        bootstrap over questions that hold at the edges, too (`resampling.mean_interval`).
        """
        low, high = mean_interval(self.accuracy, level=level, resamples=resamples, seed=seed)
        return pd.DataFrame(
            {
                "provider": self.provider,
                "level": self.levels,
                "accuracy": self.accuracy.mean(axis=0),
                "accuracy_lo": low,
                "accuracy_hi": high,
                "se": standard_error(self.accuracy),
                "tokens": self.tokens.mean(axis=0),
                "price_per_token": np.nan if self.price_per_token is None else self.price_per_token,
                "margin": np.nan if self.margin is None else self.margin,
            },
            columns=list(COLUMNS),
        )


def parallel_curve(
    samples: Samples,
    provider: str,
    method: str,
    levels: Sequence[int],
    *,
    score: str = "logprob",
    price_per_token: float | None = None,
    margin: float | None = None,
) -> MeasuredCurve:
    """A curve over numbers of samples: majority, weighted_majority, best_of_n or pass_at_k."""
    accuracy = samples.accuracy(method, levels, score)
    return MeasuredCurve(
        provider,
        method,
        tuple(levels),
        samples.ids,
        accuracy,
        samples.tokens_at(levels),
        price_per_token,
        margin,
    )


def budget_curve(
    by_budget: Mapping[int, Samples],
    provider: str,
    *,
    price_per_token: float | None = None,
    margin: float | None = None,
) -> MeasuredCurve:
    """A curve over enforced thinking budgets (one sample each), over the questions that all budgets
    share.

    Raises:
        ValueError: a realised thought is longer than its budget, or no question is shared.
    """
    budgets = sorted(by_budget)
    for budget in budgets:
        longest = by_budget[budget].thinking_tokens.max()
        if longest > budget:
            raise ValueError(
                f"provider {provider!r}: a thought of {longest:.0f} tokens stands under the budget"
                f" {budget}; the budget was not enforced"
            )
    shared = [
        q for q in by_budget[budgets[0]].ids if all(q in set(by_budget[b].ids) for b in budgets[1:])
    ]
    if not shared:
        raise ValueError(
            f"provider {provider!r}: no question was measured under all of the budgets {budgets}"
        )
    tables = [by_budget[budget].select(shared) for budget in budgets]
    accuracy = np.stack([table.correct.mean(axis=1) for table in tables], axis=1)
    tokens = np.stack([table.tokens.mean(axis=1) for table in tables], axis=1)
    return MeasuredCurve(
        provider,
        "reasoning",
        tuple(budgets),
        tuple(shared),
        accuracy,
        tokens,
        price_per_token,
        margin,
    )


def observational_curve(
    samples: Samples,
    provider: str,
    bins: int = 5,
    *,
    price_per_token: float | None = None,
    margin: float | None = None,
    warn: Callable[[str], None] = print,
) -> MeasuredCurve:
    """The paper's effort bins (`estimators.effort_bins`), over the questions of which a sample
    finished.

    Thoughts are sorted by their own length where the dial recorded it, by the whole sample's length
    otherwise.
    """
    length = samples.thinking_tokens if samples.thinking_tokens.any() else samples.tokens
    accuracy, tokens = estimators.effort_bins(
        samples.correct, length, samples.tokens, samples.finished, bins
    )
    kept = ~np.isnan(accuracy[:, 0])
    if not kept.all():
        warn(
            f"{provider}: {int((~kept).sum())} of {len(kept)} questions have no finished sample and"
            " are left out of the effort bins"
        )
    ids = tuple(q for q, k in zip(samples.ids, kept, strict=True) if k)
    levels = tuple(range(1, bins + 1))
    return MeasuredCurve(
        provider,
        "reasoning_observational",
        levels,
        ids,
        accuracy[kept],
        tokens[kept],
        price_per_token,
        margin,
    )


def resampled_markets(
    market: Market, curves: Sequence[MeasuredCurve], *, resamples: int = 200, seed: int = 0
) -> Iterator[Market]:
    """Markets as other sets of questions would have shown them: carries the curves' uncertainty
    through to whatever is solved.

    All providers are resampled with the same questions, those that all of them answered. Prices,
    margins, alpha and beta stay.

    Args:
        market: the market whose providers have these curves, in any order.
        curves: one for each provider, matched by name.

    Raises:
        ValueError: names differ, no question is shared, or the market was given as arrays (it has
            no alpha).
    """
    by_name = {curve.provider: curve for curve in curves}
    if set(by_name) != set(market.names) or len(by_name) != len(curves):
        raise ValueError(
            f"the market's providers are {sorted(market.names)}, the curves'"
            f" {sorted(c.provider for c in curves)}; give one curve for each"
        )
    if market.alpha is None:
        raise ValueError("this market was given as arrays and has no alpha; load it from curves")
    everywhere = set.intersection(*(set(curve.ids) for curve in curves))
    shared = [q for q in curves[0].ids if q in everywhere]
    if not shared:
        raise ValueError(
            "no question was answered by all providers; measure them on the same task and seed"
        )
    chosen = {name: curve.select(shared) for name, curve in by_name.items()}
    accuracy = joint_bootstrap(
        {name: c.accuracy for name, c in chosen.items()}, resamples=resamples, seed=seed
    )
    tokens = joint_bootstrap(
        {name: c.tokens for name, c in chosen.items()}, resamples=resamples, seed=seed
    )
    for b in range(resamples):
        providers = []
        for provider in market.providers:
            if provider.curve is None:
                raise ValueError(f"provider {provider.name!r} has no curve")
            drawn = replace(
                provider.curve,
                accuracy=accuracy[provider.name][b],
                tokens=tokens[provider.name][b],
                accuracy_se=None,
            )
            providers.append(
                Provider.from_curve(drawn, market.alpha, market.baseline, market.quality_function)
            )
        yield replace(market, providers=tuple(providers))


def write_curves(path: str | Path, tables: Sequence[pd.DataFrame]) -> None:
    """One tidy CSV; columns that no row fills (an unknown price, say) are left out, so that the
    loader's own checks apply.
    """
    frame = pd.concat(tables, ignore_index=True).dropna(axis="columns", how="all")
    write_text(path, frame.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
