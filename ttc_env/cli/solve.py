"""Solve a market: its equilibria, the social optimum, who wins the auction.

    ttc-env solve gsm8k --beta 200
    ttc-env solve gsm8k --mechanism auction
    ttc-env solve curves.csv --alpha 0.01 --json
    ttc-env solve gsm8k --types "weight=0.5 beta=1000; weight=0.5 beta=10000"

The table shows every provider at the worst equilibrium (the one with the least welfare), in USD per
query; where there is no pure equilibrium, as with several user types, at the profile of least
regret, and it says so. `--json` prints the same, and all equilibria, for other programs.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from ttc_env.cli._market import add_market_options, mechanism_options, read_market

if TYPE_CHECKING:
    from ttc_env.game.types import Market


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_market_options(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable, on one line")
    parser.add_argument("--list", action="store_true", help="print the providers, solve nothing")


def run(args: argparse.Namespace) -> None:
    import ttc_env

    market = read_market(args)
    if args.list:
        print("\n".join(market.names))
        return
    mechanism = ttc_env.make_mechanism(args.mechanism, **mechanism_options(args))
    solution = ttc_env.solve(market, mechanism)
    found = {"market": _facts(market, args.mechanism), **_numbers(solution)}
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


#: What a solution may have, and its name in the output; not every rule's solution has all.
_SINGLE = {
    "welfare": "welfare",
    "optimal_welfare": "optimal welfare",
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
    found: dict[str, Any] = {}
    for name in _SINGLE:
        value = getattr(solution, name, None)
        if isinstance(value, (bool, int, float, str)) or hasattr(value, "item"):
            found[name] = getattr(value, "item", lambda value=value: value)()
    if hasattr(solution, "equilibria"):
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
        market = solution.market
        found["winner"] = None if solution.winner is None else market.names[int(solution.winner)]
    return found


def _profile(solution: Any) -> Any:
    """`[n]` actions at the equilibrium that is shown, or nearest to one."""
    if getattr(solution, "no_equilibrium", ""):
        return solution.least_regret.profile
    if hasattr(solution, "equilibria"):
        return solution.worst
    return getattr(solution, "actions", None)


def _providers(market: Market, solution: Any) -> list[dict[str, Any]]:
    profile = _profile(solution)
    if profile is None:
        return [{"provider": name} for name in market.names]
    outcome = solution.at(profile) if hasattr(solution, "at") else solution.outcome
    split = solution.mechanism.split  # flat actions as (level, price, claim)
    levels = split(profile, market)[0]
    optimum = getattr(solution, "optimum", None)
    best = split(optimum, market)[0] if optimum is not None else None
    rows = []
    for i, provider in enumerate(market.providers):
        row: dict[str, Any] = {
            "provider": provider.name,
            "level": float(provider.levels[int(levels[i])]),
        }
        if best is not None:
            row["optimal_level"] = float(provider.levels[int(best[i])])
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
    if isinstance(value, list):
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
    shown = [columns, *([_cell(column, row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[c]) for line in shown) for c in range(len(columns))]
    for line in shown:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.append("")
    if "equilibria" in found:
        count = len(found["equilibria"])
        lines.append(f"{'equilibria':<22} {count}")
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
            lines.append(f"{label:<22} {text}")
    return "\n".join(lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if column == "share":
        return f"{value:.1%}"
    return f"{value:g}" if column.endswith("level") else f"{value:.3g}"
