"""Solve a market: its equilibria, the social optimum, who wins the auction.

    ttc-env solve gsm8k --beta 200
    ttc-env solve gsm8k --mechanism auction
    ttc-env solve gsm8k --misreport over_report --fine 0.001
    ttc-env solve curves.csv --alpha 0.01 --json
    ttc-env solve gsm8k --types "weight=0.5 beta=1000; weight=0.5 beta=10000"

The table shows every provider at the worst equilibrium (the one with the least welfare), in USD per
query; where there is no pure equilibrium, as with several user types, at the profile of least
regret, and it says so. Below it, `optimal welfare` is the most that this rule's own game reaches;
`first best` is one number for all rules (`help(ttc_env.first_best)`). Brackets are 90% bands over
redrawn accuracies (`ttc_env.resample`). `--json` prints the same, and all equilibria, for other
programs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from ttc_env.cli._market import add_market_options, mechanism_options, read_market
from ttc_env.cli._output import aligned

if TYPE_CHECKING:
    from ttc_env.game.types import Market


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_market_options(parser)
    parser.add_argument(
        "--resamples",
        type=int,
        default=50,
        help="markets with redrawn accuracies, for the bands (default 50); 0 for none",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the redrawing (default 0)")
    parser.add_argument("--json", action="store_true", help="machine-readable, on one line")
    parser.add_argument("--list", action="store_true", help="print the providers, solve nothing")


def run(args: argparse.Namespace) -> None:
    import ttc_env

    market = read_market(args)
    if args.list:
        print("\n".join(market.names))
        return
    for name in ("resamples", "seed"):
        if getattr(args, name) < 0:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be at least 0")
    mechanism = ttc_env.make_mechanism(args.mechanism, **mechanism_options(args))
    solution = ttc_env.solve(market, mechanism)
    found = {"market": _facts(market, args.mechanism), **_numbers(solution)}
    found |= _bands(solution, args, found)
    found["providers"] = _providers(market, solution)
    if args.json:
        print(json.dumps(_finite(found), allow_nan=False))
    else:
        print(_table(found))


def _facts(market: Market, mechanism: str) -> dict[str, Any]:
    return {
        "benchmark": market.benchmark,
        "method": market.method,
        "beta": market.beta,
        "alpha": market.alpha,
        "mechanism": mechanism,
    }


#: What these can be, if not any number.
_RANGE = {"efficiency": (-math.inf, 1.0), "price_of_anarchy": (1.0, math.inf)}

#: What a solution may have, and its name in the output; not every rule's solution has all.
_SINGLE = {
    "welfare": "welfare",
    "optimal_welfare": "optimal welfare",
    "first_best": "first best",
    "efficiency": "of the first best",
    "price_of_anarchy": "price of anarchy",
    "user_value": "users' value",
    "mean_price": "mean price",
    "payment": "payment to the winner",
    "unique": "unique",
    "complete": "complete",
    "converged": "converged",
    "reason": "reason",
    "ratio_reason": "why no ratio",
    "no_equilibrium": "no equilibrium",
}


def _numbers(solution: Any) -> dict[str, Any]:
    from ttc_env.game.yardstick import first_best

    found: dict[str, Any] = {}
    for name in _SINGLE:
        value = getattr(solution, name, None)
        if isinstance(value, (bool, int, float, str)) or hasattr(value, "item"):
            found[name] = getattr(value, "item", lambda value=value: value)()
    market = solution.market
    rule = solution.mechanism.rule
    best = first_best(market, tastes=rule.counts_tastes, rule=rule)
    found["first_best"] = best
    found["efficiency"] = found["welfare"] / best if best > 0 else float("nan")
    found["equilibria"] = [[int(a) for a in profile] for profile in solution.equilibria]
    if found.get("no_equilibrium"):
        del found["ratio_reason"]  # the same
        nearest = solution.least_regret
        found["least_regret"] = {
            "actions": nearest.profile.tolist(),
            "relative": nearest.relative,
            "nash_conv": nearest.nash_conv,
            "exact": nearest.exact,
        }
    if hasattr(solution, "winner"):
        found["winner"] = None if solution.winner is None else market.names[int(solution.winner)]
    return found


def _bands(solution: Any, args: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """`bands`: name -> [low, high]; in an auction `winners`, how often each provider wins a redrawn
    market. `no_bands` says why there are none.
    """
    import ttc_env
    from ttc_env.game.resampling import interval

    if not args.resamples:
        return {}
    try:
        drawn = list(ttc_env.resample(solution.market, args.resamples, args.seed))
    except ValueError as error:
        return {"no_bands": str(error)}
    redrawn = [_numbers(ttc_env.solve(one, solution.mechanism)) for one in drawn]
    bands = {
        name: interval(
            value, [one[name] for one in redrawn], within=_RANGE.get(name, (-math.inf, math.inf))
        )
        for name, value in found.items()
        if isinstance(value, float)
    }
    result: dict[str, Any] = {"bands": bands, "resamples": len(redrawn)}
    if "winner" in found:
        winners = Counter(one["winner"] or "nobody" for one in redrawn)
        result["winners"] = {k: n / len(redrawn) for k, n in winners.most_common()}
    return result


def _profile(solution: Any) -> Any:
    """`[n]` actions at the equilibrium that is shown, or nearest to one."""
    none = getattr(solution, "no_equilibrium", "")
    return solution.least_regret.profile if none else solution.worst


def _providers(market: Market, solution: Any) -> list[dict[str, Any]]:
    profile = _profile(solution)
    outcome = solution.at(profile) if hasattr(solution, "at") else solution.outcome
    split = solution.mechanism.split  # flat actions as (level, price, report)
    levels, _, told = split(profile, market)
    reports = solution.mechanism.reports(market)
    best = split(solution.optimum, market)[0]
    rows = []
    for i, provider in enumerate(market.providers):
        row: dict[str, Any] = {
            "provider": provider.name,
            "level": float(provider.levels[int(levels[i])]),
            "optimal_level": float(provider.levels[int(best[i])]),
        }
        if len(reports) > 1:
            row["report"] = str(reports[int(told[i])])
        row |= {
            "quality": float(outcome.offer.quality[i]),
            "price": float(outcome.offer.price[i]),
            "cost": float(outcome.offer.cost[i]),
            "share": float(outcome.share[i]),
            "profit": float(outcome.utility[i]),
        }
        rows.append(row)
    return rows


def _finite(value: Any) -> Any:
    """NaN and infinities are no JSON: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(found: dict[str, Any]) -> str:
    facts = found["market"]
    name = facts["benchmark"] or "own curves"
    lines = [
        f"{name} {facts['method'] or ''}, beta {facts['beta']:g}, {facts['mechanism']}"
        "   (USD per query)",
        "",
    ]
    rows = found["providers"]
    columns = list(rows[0])
    shown = [columns, *([_cell(column, row[column]) for column in columns] for row in rows)]
    lines += aligned(shown)
    lines.append("")
    lines.append(f"{'equilibria':<22} {len(found['equilibria'])}")
    if "least_regret" in found:
        nearest = found["least_regret"]
        lines.append(
            f"{'shown above':<22} the profile of least regret"
            f"{'' if nearest['exact'] else ' that was found'}: the best change gains"
            f" {nearest['relative']:.2%} (NashConv {nearest['nash_conv']:.3g})"
        )
    if "winner" in found:
        lines.append(f"{'winner':<22} {found['winner'] or 'nobody'}")
    for key, label in _SINGLE.items():
        if found.get(key) not in (None, ""):
            value = found[key]
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            low, high = found.get("bands", {}).get(key, (math.nan, math.nan))
            band = "" if math.isnan(low) else f"  [{low:.6g}, {high:.6g}]"
            lines.append(f"{label:<22} {text}{band}")
    if "winners" in found:
        chances = ", ".join(f"{k} {chance:.0%}" for k, chance in found["winners"].items())
        lines.append(f"{'wins redrawn markets':<22} {chances}")
    if "no_bands" in found:
        lines.append(f"{'no bands':<22} {found['no_bands']}")
    return "\n".join(lines)


def _cell(column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if column == "share":
        return f"{value:.1%}"
    return f"{value:g}" if column.endswith("level") else f"{value:.3g}"
