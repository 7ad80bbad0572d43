"""From traces to curve files: any estimator, any levels, without drawing a sample again."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ttc_env.measure.curve_file import (
    MeasuredCurve,
    budget_curve,
    observational_curve,
    parallel_curve,
    write_curves,
)
from ttc_env.measure.names import file_name
from ttc_env.measure.rescore import scored_by
from ttc_env.measure.samples import METHODS, SCORES, Samples, from_trace
from ttc_env.measure.scoring import SCORING_VERSION
from ttc_env.measure.traces import Trace, read_trace

OBSERVATIONAL = "reasoning_observational"
ALL_METHODS = (*METHODS, OBSERVATIONAL)
BUDGET_DIALS = ("thinking_budget", "coupled_budgets")


@dataclass(frozen=True)
class RewardOptions:
    """A reward model, as `ttc_env.measure.rewards.RewardModel` takes it."""

    model: str
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        from ttc_env.measure.rewards import RewardModel

        known = set(signature(RewardModel).parameters) - {"model"}
        for name in self.options:
            if name not in known:
                raise ValueError(
                    f"a reward model has no option {name!r}; choose among"
                    f" {', '.join(sorted(known))}"
                )


@dataclass(frozen=True)
class CurveOptions:
    """What is estimated from traces. Checked when it is made.

    Raises:
        ValueError: an unknown method or score, a level below 1, no resample, a margin of no use.
    """

    methods: Sequence[str] = ("majority", "best_of_n")
    levels: Sequence[int] | None = None  # numbers of samples; powers of two by default
    score: str = "logprob"  # what best_of_n and weighted_majority go by
    reward_model: RewardOptions | str | None = None  # scores samples first; implies score "reward"
    margin: float | None = None  # mu; the loader's default where None
    resamples: int = 2000  # of the bootstrap over questions

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in ALL_METHODS:
                raise ValueError(
                    f"method {method!r} is unknown; choose among {', '.join(ALL_METHODS)}"
                )
        if not self.methods:
            raise ValueError(f"no method is asked for; choose among {', '.join(ALL_METHODS)}")
        if self.score not in SCORES:
            raise ValueError(f"score {self.score!r} is unknown; choose one of {', '.join(SCORES)}")
        if self.score == "reward" and self.reward_model is None:
            raise ValueError("the score 'reward' needs a reward model; name one")
        if self.levels is not None and (not self.levels or min(self.levels) < 1):
            raise ValueError(f"levels are {list(self.levels)}; give numbers of samples, 1 or more")
        if self.levels is not None and len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels are {list(self.levels)}; a level stands there twice")
        if self.resamples < 1:
            raise ValueError(f"resamples is {self.resamples}; it must be at least 1")
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin > -1):
            raise ValueError(f"margin is {self.margin}; it must be a number above -1")
        reward = self.reward_model
        name = reward.model if isinstance(reward, RewardOptions) else reward
        if name is not None and _is_path(name) and not Path(name).is_dir():
            raise ValueError(f"there is no reward model in the folder {name}")


def _is_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def load_samples(path: Path, reward_model: RewardOptions | str | None) -> tuple[Trace, Samples]:
    """A trace and its table, with rewards where a reward model is given; they are kept beside the
    trace.
    """
    trace = read_trace(path)
    if reward_model is None:
        return trace, from_trace(trace)
    from ttc_env.measure.rewards import score_trace

    reward = RewardOptions(reward_model, {}) if isinstance(reward_model, str) else reward_model
    suffix = path.name.removesuffix(".gz").removesuffix(".jsonl")
    scorer = _reward_model(reward.model, tuple(sorted(reward.options.items())))
    rewards = score_trace(trace, scorer, path.with_name(f"{suffix}.rewards.jsonl"))
    return trace, from_trace(trace, rewards)


@lru_cache(maxsize=1)  # loaded once for all traces
def _reward_model(model: str, options: tuple[tuple[str, Any], ...]) -> Any:
    from ttc_env.measure.rewards import RewardModel

    return RewardModel(model, **dict(options))


def curves_of(
    paths: Sequence[Path], options: CurveOptions | Any, prices: Mapping[str, float]
) -> dict[tuple[str, str], list[MeasuredCurve]]:
    """(task, method) -> one curve for each provider.

    Traces of parallel samples give a curve for each method; traces of thinking budgets give
    `reasoning`.

    Args:
        paths: trace files.
        options: a `CurveOptions`, or anything with its attributes.
        prices: provider -> USD/token; a provider without one gets a curve without a price.
    """
    curves: dict[tuple[str, str], list[MeasuredCurve]] = defaultdict(list)
    budgets: dict[tuple[str, str], dict[int, Samples]] = defaultdict(dict)
    for path in paths:
        trace, samples = load_samples(path, options.reward_model)
        task, provider = named(trace)
        if trace.settings["dial"] == "thinking_budget":
            budgets[task, provider][int(trace.settings["budget"])] = samples
            continue
        if trace.settings["dial"] == "coupled_budgets":
            budgets[task, provider] |= by_budget(trace, samples)
            continue
        levels = options.levels or [2**e for e in range(samples.num_samples.bit_length())]
        price: dict[str, Any] = {
            "price_per_token": prices.get(provider),
            "margin": options.margin,
        }
        for method in options.methods:
            if method == OBSERVATIONAL:
                curve = observational_curve(samples, provider, **price)
            else:
                score = "reward" if options.reward_model else options.score
                curve = parallel_curve(samples, provider, method, levels, score=score, **price)
            curves[task, method].append(curve)
    for (task, provider), tables in budgets.items():
        price = {"price_per_token": prices.get(provider), "margin": options.margin}
        curves[task, "reasoning"].append(budget_curve(tables, provider, **price))
    for (task, method), group in curves.items():
        names = [curve.provider for curve in group]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(
                f"{len(twice)} traces are about {twice[0]!r} on {task} ({method}); give one trace"
                " for each provider, or estimate them into folders of their own"
            )
    return curves


def named(trace: Trace) -> tuple[str, str]:
    """(task, provider) of a trace. Both become parts of file names, so a header cannot choose a
    path.

    Raises:
        ValueError: the header names something that is no file name.
    """
    names = [str(trace.settings.get(key, "")) for key in ("task", "provider")]
    for key, name in zip(("task", "provider"), names, strict=True):
        try:
            file_name(name)
        except ValueError as error:
            raise ValueError(f"{trace.path}: the header's {key}: {error}") from None
    return names[0], names[1]


def by_budget(trace: Trace, samples: Samples) -> dict[int, Samples]:
    """Coupled budgets apart: budget -> its samples."""
    budget = np.array(
        [r["samples"]["budget"][: samples.num_samples] for r in trace.records.values()]
    )
    if (budget != budget[0]).any():
        raise ValueError(f"{trace.path}: questions have their budgets in different orders")
    return {int(b): samples.columns(budget[0] == b) for b in np.unique(budget[0])}


def curve_tables(
    curves: Mapping[tuple[str, str], Sequence[MeasuredCurve]], resamples: int
) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """(task, method) -> tidy rows of each provider."""
    return {
        key: [curve.table(resamples=resamples) for curve in group] for key, group in curves.items()
    }


def write_curve_files(
    tables: Mapping[tuple[str, str], Sequence[pd.DataFrame]], out: Path
) -> list[Path]:
    """One file for each task and method, `<task>-<method>.csv`."""
    files = []
    for (task, method), frames in tables.items():
        path = out / f"{file_name(task)}-{method}.csv"
        write_curves(path, list(frames))
        files.append(path)
    return files


def read_prices(prices: Sequence[float] | None, names: Sequence[str]) -> dict[str, float]:
    """Provider -> USD/token from USD per 1M tokens in the order of `names`; empty without prices
    (the curve file then has no price column, and the loader asks for one).
    """
    if prices is None:
        return {}
    if len(prices) != len(names):
        raise ValueError(
            f"--prices gives {len(prices)} numbers for {len(names)} providers ({', '.join(names)})"
        )
    if any(not (math.isfinite(price) and price > 0) for price in prices):
        raise ValueError(f"--prices are {list(prices)}; each must be a positive number")
    return {name: price * 1e-6 for name, price in zip(names, prices, strict=True)}


def summarise(path: Path, warn: Callable[[str], None] = print) -> dict[str, Any] | None:
    """What one trace says at a glance; None for an empty one."""
    trace = read_trace(path)
    if not trace.records:
        return None
    samples = from_trace(trace, warn=warn)
    old = scored_by(trace.sessions) - {SCORING_VERSION}
    if old:
        warn(
            f"{path} holds verdicts of older checks (version {', '.join(map(str, sorted(old)))},"
            f" today {SCORING_VERSION}); `ttc-env rescore {path}` scores its texts again"
        )
    baseline: dict[str, Any] = next(
        (s["constant_baseline"] for s in trace.sessions if s.get("constant_baseline")), {}
    )
    task, provider = named(trace)
    return {
        "provider": provider,
        "task": task,
        "setting": trace.settings.get("budget", trace.settings.get("dial")),
        "questions": len(samples.ids),
        "samples": samples.num_samples,
        "accuracy": float(samples.correct.mean()),
        "constant_baseline": baseline.get("accuracy"),
        "cut_off": float((~samples.finished).mean()),
        "unparsed": float(((samples.answer == -1) & samples.finished).mean()),
        "tokens": float(samples.tokens.mean()),
    }
