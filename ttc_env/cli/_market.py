"""Options that choose a market and its rules, shared by `solve` and `play`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttc_env.game.types import Market


def add_market_options(parser: argparse.ArgumentParser) -> None:
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
    group.add_argument("--mechanism", default="market", help=f"one of {', '.join(mechanisms())}")
    group.add_argument(
        "--types",
        help="users of several types, with what each has of its own (posted prices): 'weight=0.5"
        " beta=10; weight=0.5 beta=1000 alpha=0.02 baseline=0'",
    )


def mechanisms() -> tuple[str, ...]:
    """Names of the rules that can be played: the only place here that asks for them."""
    import ttc_env

    if hasattr(ttc_env, "mechanisms"):
        return tuple(ttc_env.mechanisms())
    return ("market", "auction")


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

    options = {} if args.types is None else {"types": args.types}
    known = registry.mechanism_options(check_mechanism(args.mechanism))
    for name in options:
        if name not in known:
            have = [m for m in mechanisms() if name in registry.mechanism_options(m)]
            raise ValueError(
                f"mechanism {args.mechanism!r} has no --{name}; these have: {', '.join(have)}"
            )
    return options


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
