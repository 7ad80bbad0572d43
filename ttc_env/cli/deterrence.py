"""Which fine keeps providers honest, and who pays where it does not.

    ttc-env deterrence gsm8k --beta 200
    ttc-env deterrence gsm8k --mechanism auction --settlement claimed
    ttc-env deterrence aime --misreport over_report=1.25/2,under_serve --audit-rate 0.01 --fine 0.2

Without `--misreport`, every lie that makes sense under the mechanism can be told. For every honest
equilibrium: the least expected fine (audit rate x fine, USD per 1000 queries
served with a lie) from which on no lie pays, by kind of lie and by provider; the lie that pays most
under the fine given; and who pays for it (GAME.md, theorems 18 and 19). `--json` prints the same
for other programs, in USD per query. The published games, with learners: `baselines/misreports` in
a checkout.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from ttc_env.cli._market import add_market_options, mechanism_options, read_market

if TYPE_CHECKING:
    from ttc_env.game.deterrence import Deterrence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_market_options(parser)
    parser.add_argument("--prices", help="fixed or grid; the mechanism's default")
    parser.add_argument("--json", action="store_true", help="machine-readable, on one line")


def run(args: argparse.Namespace) -> None:
    import ttc_env

    options = mechanism_options(args)
    if args.misreport is None:
        options["misreport"] = ttc_env.make_mechanism(args.mechanism).tariff.lies
    mechanism = ttc_env.make_mechanism(args.mechanism, args.prices, **options)
    found = ttc_env.deterrence(read_market(args), mechanism)
    facts = _facts(found)
    if args.json:
        print(json.dumps(facts, allow_nan=False))
    else:
        print(_table(facts))


def _finite(x: float) -> float | None:
    """null where no fine deters."""
    return float(x) if math.isfinite(x) else None


def _facts(found: Deterrence) -> dict[str, Any]:
    market, mechanism = found.market, found.mechanism
    equilibria = []
    for k in range(len(found.honest)):
        level = mechanism.split(found.honest[k], market)[0]
        lie, best = found.binding(k), found.best_lie(k)
        entry: dict[str, Any] = {
            "levels": [float(p.levels[at]) for p, at in zip(market.providers, level, strict=True)],
            "frontier": _finite(found.line[k]),
            "by_kind": {kind: _finite(line[k]) for kind, line in found.by_kind.items()},
            "by_provider": dict(zip(market.names, map(_finite, found.by_provider[k]), strict=True)),
            "at_own_level": _finite(found.at_own_level[k]),
            "holds": bool(found.holds[k]),
            "binding_lie": None if lie is None else _lie(found, lie),
            "best_lie": None,
        }
        if best is not None:
            paid = best[1]._asdict()
            who = {key: paid[key] for key in ("users", "liars", "rivals", "fines", "welfare")}
            entry["best_lie"] = {**_lie(found, best[0]), "who_pays": who}
        equilibria.append(entry)
    return {
        "benchmark": market.benchmark,
        "method": market.method,
        "beta": market.beta,
        "mechanism": mechanism.name,
        "lies": [str(report) for report in mechanism.reports(market)[1:]],
        "expected_fine": mechanism.misreports.expected_fine,
        "complete": found.complete,
        "honest_equilibria": equilibria,
    }


def _lie(found: Deterrence, lie: Any) -> dict[str, Any]:
    provider = found.market.providers[lie.provider]
    return {
        "provider": provider.name,
        "level": float(provider.levels[lie.level]),
        "report": str(lie.report),
    }


def _table(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['benchmark'] or 'own curves'} {facts['method'] or ''}, beta {facts['beta']:g},"
        f" {facts['mechanism']}   (expected fines in USD per 1000 queries)",
        f"lies: {', '.join(facts['lies'])}",
    ]
    if not facts["honest_equilibria"]:
        lines.append("no honest pure equilibrium: there is nothing to deter from")
    for k, entry in enumerate(facts["honest_equilibria"]):
        lines += [
            "",
            f"honest equilibrium {k}: levels {' '.join(f'{x:g}' for x in entry['levels'])}",
        ]
        lines.append(f"{'  fine that deters':<32}{_money(entry['frontier'])}")
        for kind, line in entry["by_kind"].items():
            lines.append(f"{'    ' + kind:<32}{_money(line)}")
        for name, line in entry["by_provider"].items():
            lines.append(f"{'    ' + name:<32}{_money(line)}")
        lines.append(f"{'  at the own level alone':<32}{_money(entry['at_own_level'])}")
        if entry["binding_lie"]:
            lines.append(f"{'  set by':<32}{_words(entry['binding_lie'])}")
        now = "an equilibrium" if entry["holds"] else "no equilibrium"
        lines.append(f"{'  under a fine of':<32}{_money(facts['expected_fine'])}: {now}")
        if best := entry["best_lie"]:
            lines.append(f"{'  the lie that pays most':<32}{_words(best)}")
            paid = ", ".join(f"{who} {1e3 * x:+.4g}" for who, x in best["who_pays"].items())
            lines.append(f"{'    USD per 1000 users':<32}{paid}")
    return "\n".join(lines)


def _money(x: float | None) -> str:
    return "none deters" if x is None else f"{1e3 * x:.6g}"


def _words(lie: dict[str, Any]) -> str:
    return f"{lie['provider']} at level {lie['level']:g}, {lie['report']}"
