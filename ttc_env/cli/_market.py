"""Options that choose a market and its rules, shared by the commands that play or solve one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttc_env.game.types import Market


def add_market_options(parser: argparse.ArgumentParser, *, mechanism: bool = True) -> None:
    """mechanism: whether the command plays one rule, which is then asked for."""
    group = parser.add_argument_group("market")
    group.add_argument(
        "benchmark",
        nargs="?",
        default="gsm8k",
        help="gsm8k (the default), aime, gpqa, measured, ..., or a curve file (.csv)",
    )
    group.add_argument("--method", help="majority, best_of_n, reasoning; the benchmark's default")
    group.add_argument(
        "--providers", help="names to keep, separated by commas (see `ttc-env solve --list`)"
    )
    group.add_argument("--beta", type=float, default=1000.0, help="user rationality, 1/USD")
    group.add_argument("--alpha", type=float, help="USD value of a surely right answer")
    group.add_argument("--baseline", type=float, default=0.1, help="what any answer is worth")
    group.add_argument("--outside-value", type=float, default=0.0, help="V_0, USD/query")
    group.add_argument("--margin", type=float, help="cost = list price / (1 + margin)")
    if mechanism:
        add_mechanism_options(parser)


def add_mechanism_options(parser: argparse.ArgumentParser) -> None:
    """`--mechanism`, and the options that some mechanisms have (`mechanism_options`)."""
    group = parser.add_argument_group("mechanism")
    group.add_argument("--mechanism", default="market", help=f"one of {', '.join(mechanisms())}")
    group.add_argument(
        "--types",
        help="users of several types, with what each has of its own (posted prices): 'weight=0.5"
        " beta=10; weight=0.5 beta=1000 alpha=0.02 baseline=0'",
    )
    group.add_argument(
        "--misreport",
        help="lies that may be told, and their sizes: over_report=1.25/2,under_serve",
    )
    group.add_argument("--audit-rate", type=float, help="how likely an audit is (1)")
    group.add_argument("--fine", type=float, help="USD per query whose lie is found (0)")
    group.add_argument(
        "--noticed",
        action="store_true",
        default=None,
        help="users see an over-report before they choose",
    )
    group.add_argument("--settlement", help="auctions: the quality paid for, delivered or claimed")
    group.add_argument("--reserve", type=float, help="auctions: the least score that serves, USD")


#: Attributes of the arguments, and options of mechanisms.
_OPTIONS = ("types", "misreport", "audit_rate", "fine", "noticed", "settlement", "reserve")


def mechanisms() -> tuple[str, ...]:
    """Names of the rules that can be played: the only place here that asks for them."""
    import ttc_env

    return tuple(ttc_env.mechanisms())


def check_mechanism(name: str) -> str:
    if name not in mechanisms():
        raise ValueError(f"mechanism {name!r} is unknown; choose one of {', '.join(mechanisms())}")
    return name


def mechanism_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of the mechanism beside its prices.

    Raises:
        ValueError: an unknown mechanism, or one without the option.
    """
    from ttc_env.game import mechanisms as registry
    from ttc_env.game.misreports import read_misreport

    given = {name: getattr(args, name) for name in _OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    if "misreport" in options:
        options["misreport"] = read_misreport(options["misreport"])
    known = registry.mechanism_options(check_mechanism(args.mechanism))
    for name in options:
        if name not in known:
            have = [m for m in mechanisms() if name in registry.mechanism_options(m)]
            raise ValueError(
                f"mechanism {args.mechanism!r} has no --{name.replace('_', '-')}; these have:"
                f" {', '.join(have)}"
            )
    return options


def given_options(args: argparse.Namespace) -> list[str]:
    """Names of those options of a market and its rules that differ from their defaults."""
    parser = argparse.ArgumentParser()
    add_market_options(parser)
    defaults = vars(parser.parse_args([]))
    return [name for name, value in defaults.items() if getattr(args, name) != value]


def read_market(args: argparse.Namespace) -> Market:
    """The market that the options describe."""
    import ttc_env

    options: dict[str, Any] = {
        "beta": args.beta,
        "alpha": args.alpha,
        "baseline": args.baseline,
        "outside_value": args.outside_value,
        "margin": args.margin,
    }
    providers = None if args.providers is None else args.providers.split(",")
    return ttc_env.load_market(args.benchmark, args.method, providers, **options)
