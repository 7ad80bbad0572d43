"""What a page shows of a solved market: plain numbers, ready for JSON.

The report (`ttc_env.report.pages`) and the explorer, which runs this file in the browser, show the
same facts. NumPy is all it needs. Money is USD per arriving user; pages show USD per 1000 users.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ttc_env.game import curves, frontier
from ttc_env.game.dynamics import best_response_dynamics
from ttc_env.game.mechanisms import (
    Mechanism,
    get_mechanism,
    make_mechanism,
    mechanism_options,
    mechanisms,
)
from ttc_env.game.regret import compare
from ttc_env.game.rules.base import Round
from ttc_env.game.solve import solve
from ttc_env.game.sweep import sweep
from ttc_env.game.types import Array, Market
from ttc_env.game.yardstick import first_best

BETAS = 61
"""Points of the curve of lost welfare against beta."""

MOST_MOVES = 400
"""Longer play is shown round by round, not move by move."""

LABELS = {
    "market": "pay per token",
    "flat_fee": "flat fee",
    "pay_per_correct": "pay per right answer",
    "two_part": "two-part tariff",
    "price_cap": "price cap",
    "per_character": "pay per character",
    "auction": "second-score auction",
    "first_score": "first-score auction",
    "taste_auction": "auction with tastes",
}
"""What pages, tables and figures call the rules; others appear under their registered name."""

TITLES = {
    "gsm8k": "GSM8K",
    "aime": "AIME",
    "gpqa": "GPQA",
    "arc_agi_1": "ARC-AGI-1",
    "arc_agi_2": "ARC-AGI-2",
    "measured": "Five tiny models",
    "measured_gsm8k": "GSM8K (open models)",
    "mmlu": "MMLU",
    "majority": "majority vote",
    "best_of_n": "best of n",
    "pass_at_k": "any of k right",
    "reasoning": "reasoning effort",
    "effort": "reasoning effort",
}


def facts(
    market: Market, mechanism: str | Mechanism = "market", *, types: Any = None
) -> dict[str, Any]:
    """Everything that a page shows of a market under one rule, and beside all others.

    Args:
        market: who sells, and what users are like.
        mechanism: a registered name with its neutral prices, or a `Mechanism`.
        types: of users, for the rules that take them (`pay_per_token`); None for users of one type.

    Returns:
        Numbers, texts and lists; None for NaN, and for what a game does not have.
    """
    mechanism = get_mechanism(mechanism)
    if types is not None:
        mechanism = _with_types(mechanism.name, types)
    solution, rule = solve(market, mechanism), mechanism.rule
    found = len(solution.equilibria) > 0
    page: dict[str, Any] = {
        "setting": _setting(market, mechanism),
        "providers": _providers(market),
        "first_best": first_best(market, tastes=rule.counts_tastes, rule=rule),
        "equilibria": len(solution.equilibria),
        "complete": bool(solution.complete),
        "unique": bool(getattr(solution, "unique", False)),
        "reason": solution.reason,
        "equilibrium": _outcome(solution, solution.worst) if found else None,
        "optimum": _outcome(solution, solution.optimum),
        "regret": _regret_map(solution, market) if found else None,
        "play": _play(solution),
        "inefficiency": _inefficiency(market, mechanism) if hasattr(solution, "game") else None,
        "rules": _rules(market, types),
    }
    page["headline"], page["detail"] = _sentences(page)
    return _plain(page)


def title(market: Market) -> str:
    """A name for a market: benchmark and method, where they are known."""
    parts = [TITLES.get(x, x) for x in (market.benchmark, market.method) if x]
    return ", ".join(parts) or "Own curves"


def label(mechanism: str) -> str:
    """What pages call a rule."""
    name = LABELS.get(mechanism, mechanism.replace("_", " "))
    return name[:1].upper() + name[1:]


def _setting(market: Market, mechanism: Mechanism) -> dict[str, Any]:
    samples = market.method in ("majority", "best_of_n")
    return {
        "title": title(market),
        "benchmark": market.benchmark,
        "method": market.method,
        "mechanism": mechanism.name,
        "rule": label(mechanism.name),
        "beta": market.beta,
        "alpha": market.alpha,
        "baseline": market.baseline,
        "outside_value": market.outside_value,
        "level": "samples per question" if samples else "effort",
    }


def _providers(market: Market) -> list[dict[str, Any]]:
    rows = []
    for provider in market.providers:
        curve = provider.curve
        efforts = curve.effort if curve is not None else None
        rows.append(
            {
                "name": provider.name,
                "levels": provider.levels,
                "labels": efforts or [f"{x:g}" for x in provider.levels],
                "accuracy": provider.accuracy,
                "tokens": curve.tokens if curve is not None else None,
                "quality": provider.quality,
                "price": provider.price,
                "cost": provider.cost,
            }
        )
    return rows


def _outcome(solution: Any, profile: Any) -> dict[str, Any]:
    """Who does what, and who gets what, if everybody plays `profile`."""
    outcome = _at(solution, profile)
    return {
        "level": solution.split(profile)[0] if hasattr(solution, "split") else _levels(solution),
        "price": outcome.payment,
        "share": outcome.share,
        "profit": outcome.utility,
        **_split(outcome),
    }


def _at(solution: Any, profile: Any) -> Round:
    table = solution.mechanism.offers(solution.market)
    return solution.mechanism.play(table.take(np.asarray(profile)), solution.market)


def _levels(solution: Any) -> Any:
    return solution.levels


def _split(outcome: Round) -> dict[str, Any]:
    """How a round's value is split, `[...]` over rounds. USD per arriving user."""
    return {
        "welfare": outcome.welfare,
        "users": outcome.user_value,
        "providers": outcome.utility.sum(axis=0),
        "compute": (outcome.share * outcome.offer.cost).sum(axis=0),
        "outside_share": outcome.outside_share,
    }


def _regret_map(solution: Any, market: Market) -> Array:
    """`[n, m]` what part of its best profit each provider would forgo at each level, the others
    staying at the equilibrium: 0 is a best reply. The best price or bid at a level counts.
    """
    mechanism = solution.mechanism
    table = mechanism.offers(market)
    actions = np.asarray(solution.worst)
    profit, log_share = mechanism.deviations(table, table.take(actions), market)
    noise = mechanism.rule.noise(table)
    relative = np.stack(
        [
            compare(profit, log_share, profit[:, a], log_share[:, a], noise)[2]
            for a in range(profit.shape[1])
        ],
        axis=1,
    )
    relative = np.where(np.isnan(table.quality), np.inf, relative)
    by_level = relative.reshape(market.num_providers, market.num_levels, -1).min(axis=2)
    return np.where(market.available, np.minimum(by_level, 1.0), np.nan)


def _play(solution: Any) -> dict[str, Any] | None:
    """Best replies in turn, from everybody's lowest level: in posted-price games, where the
    potential rises at every move (GAME.md, theorem 1).
    """
    game = getattr(solution, "game", None)
    if game is None:
        return None
    path = best_response_dynamics(game, record="moves")
    if len(path.profiles) > MOST_MOVES:
        path = best_response_dynamics(game)
    outcome = solution.at(path.profiles.T)
    return {
        "level": solution.split(path.profiles)[0],  # [t, n]
        "share": outcome.share.T,  # [t, n]
        "potential": path.potential,  # [t] log
        **_split(outcome),
        "converged": path.converged,
    }


def _inefficiency(market: Market, mechanism: Mechanism) -> dict[str, Any]:
    """Welfare lost at the worst equilibrium against users' rationality, the market's included.

    Of posted prices alone: other rules' games are solved one by one, which takes seconds, and the
    score auctions do not depend on beta.
    """
    scale = market.alpha if market.alpha is not None else float(np.nanmax(market.quality))
    betas = np.geomspace(0.5 / scale, 1000.0 / scale, BETAS)
    if market.beta > 0:
        betas = np.unique(np.append(betas, market.beta))
    solved = sweep(market, betas, mechanism=mechanism)
    return {"beta": betas, "percent": solved.inefficiency[0], "unique": solved.unique[0]}


def _in_order() -> list[str]:
    """The registered rules, those of `LABELS` first, in its order."""
    place = {name: k for k, name in enumerate(LABELS)}
    return sorted(mechanisms(), key=lambda name: place.get(name, len(place)))


def _with_types(name: str, types: Any) -> Mechanism:
    """A registered mechanism, with these types of users where it can have them."""
    if types is None or "types" not in mechanism_options(name):
        return make_mechanism(name)
    return make_mechanism(name, types=types)


def _rules(market: Market, types: Any) -> list[dict[str, Any]]:
    """The market under every registered rule; `note` says why a rule has no numbers."""
    rows = []
    for name in _in_order():
        row: dict[str, Any] = {"mechanism": name, "rule": label(name), "note": ""}
        rows.append(row)
        try:
            solution = solve(market, _with_types(name, types))
        except ValueError as error:
            row["note"] = str(error)
            continue
        if not len(solution.equilibria):
            row["note"] = "no pure equilibrium"
            continue
        outcome = _at(solution, solution.worst)
        kept = (outcome.share * (outcome.offer.quality - outcome.payment)).sum()
        kept += outcome.outside_share * market.outside_value
        if not np.isclose(outcome.user_value, kept, rtol=1e-9, atol=1e-15):
            row["note"] = "counts users' tastes as value, so that it has another yardstick"
            continue
        row |= _split(outcome)
        row |= {"equilibria": len(solution.equilibria), "complete": bool(solution.complete)}
    return rows


def _sentences(page: Mapping[str, Any]) -> tuple[str, str]:
    """What happens, in one sentence with numbers; and where the loss comes from, in another."""
    rule, best = page["setting"]["rule"], page["first_best"]
    here, ideal = page["equilibrium"], page["optimum"]
    if here is None:
        return (
            f"{rule}: no stable outcome, providers keep changing how long they think.",
            "There is no pure equilibrium: whatever all of them do, one gains by a change.",
        )
    if best <= 0:
        return (
            f"{rule}: no offer is worth its cost, so the best is that nobody buys.",
            f"Welfare is {_usd(here['welfare'])} USD per 1000 questions.",
        )
    lost = 1.0 - float(here["welfare"]) / best
    served, wanted = (x["compute"] / max(1.0 - x["outside_share"], 1e-300) for x in (here, ideal))
    times = served / wanted if wanted > 0 else 1.0
    if times > 1.05:
        think = f"providers spend {_times(times)} the compute that is best for society"
    elif times < 0.95:
        think = f"providers spend {times:.0%} of the compute that is best for society"
    else:
        think = "providers spend about as much compute as is best for society"
    but = "and" if (lost >= 0.01) == (abs(times - 1.0) > 0.05) else "but"
    gone = (
        f"{lost:.0%} of the possible value is lost" if lost >= 0.005 else "almost nothing is lost"
    )
    headline = f"{rule}: {think}, {but} {gone}."
    compute = float(ideal["welfare"] - here["welfare"])
    choice = float(best - ideal["welfare"])
    detail = (
        f"Of {_usd(best)} USD that 1000 questions could be worth, users keep"
        f" {_usd(here['users'])} and providers earn {_usd(here['providers'])}."
    )
    if lost >= 0.005:
        detail += (
            f" {_usd(best - here['welfare'])} is lost: {_usd(max(compute, 0.0))} to wrong compute,"
            f" {_usd(max(choice, 0.0))} because users do not all choose the best offer."
        )
    return headline, detail


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"


def _usd(per_user: Any) -> str:
    """USD per 1000 users, three digits."""
    amount = 1000.0 * float(per_user)
    return f"{amount:,.2f}" if abs(amount) < 1000 else f"{amount:,.0f}"


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and dicts; NaN and infinities, which JSON has not, become None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def market_of(options: Mapping[str, Any]) -> Market:
    """The market that the explorer's settings describe.

    Args:
        options: any of `benchmark`, `method`, `as_of`, `providers` (names), `beta`, `alpha`,
            `margin`, as `load_market` takes them; or `curves`, a curve file's text, in place of a
            benchmark, with `file`, its name. What is missing or None has its default.
    """
    known = ("as_of", "beta", "alpha", "margin")
    given = {key: options[key] for key in known if options.get(key) is not None}
    providers = options.get("providers")
    text = options.get("curves")
    if text is None:
        benchmark = options.get("benchmark") or "gsm8k"
        return curves.load_market(benchmark, options.get("method"), providers, **given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (Path(options.get("file") or "").name or "curves.csv")
        path = path.with_suffix(".csv")
        path.write_text(text, encoding="utf-8")
        return curves.load_market(path, None, providers, **given)


def explore(options: Mapping[str, Any]) -> dict[str, Any]:
    """The facts for the explorer's settings: those of `market_of`, `mechanism` and `types`.

    `sellers` names all providers that can be had, whichever `providers` keeps.
    """
    everybody = market_of({**options, "providers": None})
    kept = options.get("providers")
    market = everybody if kept is None else market_of(options)
    page = facts(market, options.get("mechanism") or "market", types=options.get("types"))
    page["sellers"] = list(everybody.names)
    return page


def catalogue() -> dict[str, Any]:
    """What the explorer offers to choose from: markets and their defaults, rules, dates, and
    whether users may be of several types.
    """
    choices = []
    for name, methods in curves.packaged_markets().items():
        for method in methods:
            market = curves.load_market(name, method)
            choices.append(
                {
                    "benchmark": name,
                    "method": method,
                    "title": title(market),
                    "beta": market.beta,
                    "alpha": market.alpha,
                    "dated": name in frontier.TASKS,
                }
            )
    dates = sorted({day.isoformat()[:7] for day in curves.release_dates()})
    rules = [{"mechanism": name, "rule": label(name)} for name in _in_order()]
    return {
        "markets": choices,
        "dates": dates,
        "rules": rules,
        "types": "types" in mechanism_options("market"),
    }
