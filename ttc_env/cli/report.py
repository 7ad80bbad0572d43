"""Write a page that shows a solved market, or rules compared: one HTML file, opened from disk.

    ttc-env report gsm8k --beta 200 -o report.html
    ttc-env report curves.csv --alpha 0.01 --mechanism flat_fee
    ttc-env report --compare results/compare

The page has interactive charts and needs no network. In a checkout, `python -m scripts.report`
takes the same options, and `--run DIR` for a run of `python -m scripts.train`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ttc_env.cli._market import (
    add_market_options,
    given_options,
    mechanism_options,
    read_market,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_market_options(parser)
    parser.add_argument(
        "--compare", type=Path, metavar="DIR", help="show a folder of `ttc-env compare` instead"
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("report.html"), help="file (default report.html)"
    )


def run(args: argparse.Namespace) -> None:
    write(args.out, page(args))


def page(args: argparse.Namespace) -> str:
    """The page that the options ask for."""
    import ttc_env
    from ttc_env.report.pages import comparison_page, market_page

    if args.compare is not None:
        if given := given_options(args):
            raise ValueError(
                f"--compare shows the markets of its folder; leave out {', '.join(given)}"
            )
        return comparison_page(args.compare)
    mechanism = ttc_env.make_mechanism(args.mechanism, **mechanism_options(args))
    return market_page(read_market(args), mechanism)


def write(path: Path, text: str) -> None:
    """Write a page, whole or not at all, and say where it is."""
    from ttc_env.atomic import write_text

    write_text(path, text)
    print(f"written to {path}: open it in a browser")
