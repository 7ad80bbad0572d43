"""Compare pricing rules, exactly and as learners play them: which rule should a platform use?

    python -m scripts.compare_mechanisms --benchmark gsm8k --method majority --beta 200 --out DIR
    python -m scripts.compare_mechanisms --published

The first writes DIR/table.csv (a row for each rule and equilibrium, and for each rule and learner;
USD per 1000 users) and DIR/comparison.png (extra `plot`). The second writes baselines/mechanisms:
the nine published games, with a page that says what they come to. Parts that were done are not done
again, so that either can be stopped and started. Exact rows alone, without a checkout:
`ttc-env compare`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

from agents import agent_class
from baselines import comparison, mechanism_report
from baselines.records import manifest, rounded, write_csv, write_json
from ttc_env.atomic import write_bytes
from ttc_env.cli import _compare
from ttc_env.cli._market import add_market_options, read_market
from ttc_env.cli._output import need_matplotlib, png_bytes, progress


def parse(arguments: Iterable[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.compare_mechanisms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_market_options(parser, mechanism=False)
    parser.set_defaults(beta=200.0)
    parser.add_argument("--benchmark", dest="named", help="as the first argument")
    parser.add_argument("--mechanisms", help="names, separated by commas; default all")
    known = ",".join(one.name for one in comparison.LEARNERS)
    parser.add_argument(
        "--learners", default=known, help=f"separated by commas, or '' (default {known})"
    )
    parser.add_argument("--seeds", type=int, help="of every learner (default 5)")
    parser.add_argument("--resamples", type=int, default=30, help="for the bands (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the redrawing (default 0)")
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--parts", type=Path, help="folder of parts (default OUT/parts)")
    parser.add_argument("--no-figure", action="store_true", help="tables only: no matplotlib")
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    published = parser.add_argument_group("the nine published games")
    published.add_argument("--published", action="store_true", help="all nine, with a page")
    published.add_argument(
        "--report", action="store_true", help="gather the parts that are there; run nothing"
    )
    options = parser.parse_args(None if arguments is None else list(arguments))
    options.benchmark = options.named or options.benchmark
    for name in ("resamples", "seed"):
        if getattr(options, name) < 0:
            parser.error(f"--{name} is {getattr(options, name)}; it must be at least 0")
    if options.seeds is not None and options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; it must be at least 1")
    return options


def learners(options: argparse.Namespace) -> list[comparison.Learner]:
    """The learners asked for, with their budgets.

    Raises:
        ValueError: one that has no budget.
        ImportError: one that needs what is not installed.
    """
    budgets = {one.name: one for one in comparison.LEARNERS}
    names = [name.strip() for name in options.learners.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(budgets)):
        raise ValueError(
            f"learner {', '.join(unknown)} is not compared; choose from {', '.join(budgets)}"
        )
    chosen = [budgets[name] for name in names]
    for one in chosen:
        agent_class(one.name)
    if options.seeds is not None:
        chosen = [dataclasses.replace(one, seeds=options.seeds) for one in chosen]
    return chosen


def compare_one(options: argparse.Namespace) -> None:
    out: Path = options.out or Path("results/compare")
    folder: Path = options.parts or out / "parts"
    market = read_market(options)
    names = None if options.mechanisms is None else options.mechanisms.split(",")
    game = f"{Path(options.benchmark).stem}-{market.method or 'own'}-{market.beta:g}"
    work = comparison.parts(game, market, learners(options), names)
    asked = "benchmark method providers beta alpha baseline outside_value margin"
    config = {
        name: getattr(options, name) for name in [*asked.split(), "resamples", "seed", "seeds"]
    }
    comparison.check_same(folder, config)
    comparison.run(
        work,
        folder,
        resamples=options.resamples,
        seed=options.seed,
        progress=progress("parts", options.quiet),
    )
    table, _ = comparison.gather(work, folder)
    write_csv(out / "table.csv", rounded(table, comparison.DIGITS))
    write_json(out / "manifest.json", manifest(config=config))
    rows = table.to_dict("records")
    title = f"{market.benchmark or 'own curves'} {market.method or ''}, beta {market.beta:g}"
    if not options.no_figure:
        chart = _compare.figure({"": rows}, f"Who gets the first best, by pricing rule: {title}")
        write_bytes(out / "comparison.png", png_bytes(chart))
    if not options.quiet:
        _compare.show(title, rows)
        print(f"written to {out}")


def compare_published(options: argparse.Namespace) -> None:
    out: Path = options.out or Path(__file__).parents[1] / "baselines" / "mechanisms"
    folder: Path = options.parts or Path("results/mechanisms")
    work = list(comparison.published_parts(learners(options)))
    comparison.check_same(folder, {"resamples": options.resamples, "seed": options.seed})
    if not options.report:
        comparison.run(
            work,
            folder,
            resamples=options.resamples,
            seed=options.seed,
            progress=progress("parts", options.quiet),
        )
    users = comparison.users_under_the_auction(progress=progress("games", options.quiet))
    mechanism_report.write(out, work, folder, users, figures=not options.no_figure)


def main(arguments: Iterable[str] | None = None) -> int:
    options = parse(arguments)
    try:
        if not options.no_figure:
            need_matplotlib("--no-figure")
        (compare_published if options.published else compare_one)(options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"compare_mechanisms: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
