"""Write a page that shows a solved market, a trained run, or rules compared: one HTML file.

    python -m scripts.report gsm8k --beta 200 -o report.html
    python -m scripts.report --run results/train/<name>
    python -m scripts.report --compare results/compare

As `ttc-env report`, and runs of `scripts.train` besides. The page opens from disk and needs no
network. Exit status 1 if there is nothing to show.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from baselines.errors import failed
from baselines.learned import Curves, Reference
from ttc_env.cli import report
from ttc_env.game.yardstick import first_best
from ttc_env.report.facts import label, title
from ttc_env.report.pages import assemble

FLOOR = 1e-5
"""Smaller relative regrets are drawn here."""
FINAL = ("seed", "nash_conv", "relative_regret", "levels_off", "welfare", "user_value")
"""Columns of the table seed by seed."""


def run_content(folder: Path) -> dict[str, Any]:
    """What the page shows of a run. USD per arriving user.

    Raises:
        ValueError: there is no run, or its game has no pure equilibrium to compare with.
    """
    run = Curves.read(folder)
    config, market = run.plan.config, run.plan.environment.market
    exact = Reference(run.plan).landmarks("overcompute")
    if np.isnan(exact.lowest):
        raise ValueError(f"{folder}: its game has no pure equilibrium, so that there is no band")
    columns = {
        name: run.band(name) for name in ("overcompute", "relative_regret", "welfare", "user_value")
    }
    step = columns["welfare"].step.astype(int).tolist()
    regrets = [f"relative_regret_{i}" for i in range(market.num_providers)]
    means = run.rows.groupby("step")[regrets].mean().to_numpy().T  # [n, evaluations]
    last = run.rows[run.rows.step == step[-1]]
    regret = float(columns["relative_regret"].value.iloc[-1])
    compute = float(columns["overcompute"].value.iloc[-1])
    low, high = exact.lowest, exact.highest
    return {
        "learner": config.learner,
        "market": f"{title(market)}, {label(config.mechanism).lower()}, beta = {market.beta:g}",
        "headline": (
            f"After {step[-1]:,} rounds, learners ({config.learner}) still forgo"
            f" {regret:.1%} of their best profit by a change."
            if regret >= FLOOR
            else f"After {step[-1]:,} rounds, learners ({config.learner}) play the exact"
            " equilibrium: nobody gains by a change."
        ),
        "detail": (
            f"They spend {2.0**compute:.2g} times the compute that is best for society; at the"
            f" exact equilibrium it is {_range(2.0**low, 2.0**high)} times."
        ),
        "seeds": int(run.rows.seed.nunique()),
        "step": step,
        "overcompute": _band(columns["overcompute"]),
        "regret": _band(columns["relative_regret"]),
        "welfare": columns["welfare"].value.tolist(),
        "users": columns["user_value"].value.tolist(),
        "first_best": first_best(market),
        "band": [low, high],
        "random": exact.random,
        "floor": FLOOR,
        "providers": list(market.names),
        "regret_of": np.clip(means, 0.0, 1.0).tolist(),
        "final": {"columns": list(FINAL), "rows": last[list(FINAL)].to_numpy().tolist()},
    }


def _band(table: Any) -> dict[str, list[float]]:
    return {name: table[name].tolist() for name in ("value", "low", "high")}


def _range(low: float, high: float) -> str:
    return f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"


def run_page(folder: Path) -> str:
    """The page of a run."""
    content = run_content(folder)
    return assemble(
        content,
        title=f"{content['learner']} on {content['market']}",
        scripts=("run.js",),
        shown_by="TrainedRun",
        footer=f"Written by python -m scripts.report --run {folder.name}; the run's own numbers are"
        " in its metrics.csv and final.csv.",
    )


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_arguments(parser)
    parser.add_argument("--run", type=Path, metavar="DIR", help="show a run of scripts.train")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        if options.run is not None and options.compare is not None:
            raise ValueError("--run and --compare are two pages; give one of them")
        page = run_page(options.run) if options.run is not None else report.page(options)
        report.write(options.out, page)
    except (ValueError, ImportError, OSError) as error:
        return failed(error, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
