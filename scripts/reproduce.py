"""Reproduce the paper: solve and play the nine published games, compare with print, draw the
figures.

    python -m scripts.reproduce [--out results/reproduce] [--betas 100] [--no-figures]

Writes table.csv (every quantity beside print), summary.csv, sweep.csv, README.md (figures with what
to know about them), figures, manifest.json. Exit status 1 if a number differs from print other than
by two known underflow artefacts and two roundings within the error of the digitised curves, or if
play does not end where the solver says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ttc_env
from baselines import published
from baselines.records import manifest, write_atomically, write_csv, write_json, write_text
from ttc_env.game.curves import STUDIED_BETAS

REPORT = """# The nine published games, reproduced

Written by `{command}`. Numbers: `table.csv` (every quantity beside print), `summary.csv` (27
cells), `sweep.csv` (inefficiency against beta).

- {met} of {printed} printed entries are met to the last printed digit; the others: {exceptions}.
- Best-response providers, played through the environment from everybody's lowest level, came to
  rest at the solver's equilibrium in {rest} of {cells} cells; the auction environment with truthful
  bids gave the solver's outcome in as many.
- The equilibrium is unique in {unique} of {cells} cells.

![headline](headline.png)

GSM8K, majority vote, beta = 200: the paper's dynamics, from one sample each.

![curves](curves.png)

What to know: GSM8K majority and best-of-n differ at *one* sample for eight of nine models
(Llama-3-8B: 49.1% against 65.1%), although both return the same sample; the published majority
estimator counts an answer only if its parser reads it, so GSM8K majority is biased down.
Llama-3.1-8B's best-of-n stays at 66% at every level on GSM8K while its majority climbs to 88%.
Reasoning curves are conditional on samples that finished in time, and their "effort" is a quantile
of observed thinking length within a question, not a dial; on AIME one of them reaches 100% where
instruct models stay under 13%. Levels 2 and 128 are left out by the paper.

![dynamics](dynamics.png)

What to know: these are the paper's dynamics (nearest improving level, random order, seed 0). Best
responses in turn end at the same equilibrium, which is unique. In the published run of AIME
reasoning at beta = 100000 two providers with underflowed shares never move; computed in logs they
do (table.csv, `note`).

![inefficiency](inefficiency.png)

Bands: 90% over redrawn accuracies (`inefficiency_low`, `inefficiency_high` in `sweep.csv`). The
other figures have none: they show the published curves and the paper's own numbers, as printed.

![gains](gains.png)

What to know: at beta >= 1000 the "optimal SW" profile sends inferior providers to their *worst*
value (often 64 samples), so that they lose share: it is the planner's optimum under logit choice,
not everybody's own best level.
"""


def progress(description: str, quiet: bool) -> Any:
    """A wrapper for loops: tqdm where it is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return iter
    return lambda items: tqdm(items, desc=description, disable=quiet, leave=False)


def show(summary: pd.DataFrame, table: pd.DataFrame) -> None:
    """One line per cell on the terminal."""
    numbers = table[
        (table.printed != "") & (table.note == "") & ~table.quantity.isin(["winner", "runner_up"])
    ]
    error = (numbers.computed.astype(float) - numbers.printed.astype(float)).abs()
    worst = error.groupby([numbers.benchmark, numbers.method, numbers.beta]).max()
    columns = (
        f"{'game':<20}{'beta':>8}{'W(PNE)':>11}{'printed':>9}{'W*':>10}{'printed':>9}{'PoA':>7}"
        f"{'users':>9}{'price':>9}{'W':>10}{'users':>9}{'price':>9}  {'winner':<13}"
        f"{'largest error':>14}"
    )
    print(f"{'':36}{'market':^44}{'auction':^38}\n{columns}")
    printed = table.set_index(["benchmark", "method", "beta", "quantity"]).printed
    for row in summary.itertuples():
        key = (row.benchmark, row.method, f"{row.beta:.0f}")
        of_print = [
            printed.get((*key, quantity), "") or "-"
            for quantity in ("equilibrium_sw", "optimal_sw")
        ]
        errors = [worst.get((*key[:2], beta), float("nan")) for beta in (key[2], "auction")]
        error = "-" if all(np.isnan(errors)) else f"{np.nanmax(errors):.1e}"
        game = f"{row.benchmark} {row.method}"
        print(
            f"{game:<20}{row.beta:>8g}{row.equilibrium_welfare:>11.5f}{of_print[0]:>9}"
            f"{row.optimal_welfare:>10.5f}{of_print[1]:>9}{row.price_of_anarchy:>7.3f}"
            f"{row.market_user_value:>9.5f}{row.market_mean_price:>9.5f}"
            f"{row.auction_welfare:>10.5f}{row.auction_user_value:>9.5f}{row.auction_price:>9.5f}"
            f"  {row.winner:<13}{error:>14}"
        )


def draw(out: Path, summary: pd.DataFrame, sweep: pd.DataFrame) -> None:
    try:
        from baselines import figures
    except ImportError as error:
        raise SystemExit(
            f"figures need matplotlib: pip install 'ttc-env[plot]', or pass --no-figures ({error})"
        ) from error
    runs = {
        f"beta = {beta:g}": published.trajectory(
            ttc_env.load_market("gsm8k", "majority", beta=beta)
        )
        for beta in (200.0, 1000.0, 1e5)
    }
    drift = next(iter(runs.values()))
    solution = ttc_env.solve(drift.market)
    auction = ttc_env.solve(drift.market, "auction")
    assert auction.winner is not None
    curve = drift.market.providers[auction.winner].curve
    assert curve is not None
    made = {
        "headline": figures.headline(
            drift,
            curve.known_tokens()[auction.levels[auction.winner]],
            auction.welfare,
            solution.optimal_welfare,
        ),
        "curves": figures.curves(),
        "dynamics": figures.dynamics(
            runs,
            "GSM8K, majority vote: providers climb to the equilibrium; the less rational users are,"
            " the more compute",
        ),
        "inefficiency": figures.inefficiency(sweep),
        "gains": figures.gains(summary),
    }
    for name, figure in made.items():
        write_atomically(
            out / f"{name}.png", lambda path, figure=figure: figure.savefig(path, **figures.SAVE)
        )


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results/reproduce"), help="folder to write to"
    )
    parser.add_argument(
        "--betas", type=int, default=100, help="points of the beta sweep, 1 to 1e6 (default 100)"
    )
    parser.add_argument(
        "--no-figures", action="store_true", help="numbers only; needs no matplotlib"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.betas < 2:
        parser.error("--betas must be at least 2")

    cells = published.solve_cells(progress("cells", options.quiet))
    table, summary = published.comparison(cells), published.summary(cells)
    sweep = published.beta_sweep(
        np.logspace(0, 6, options.betas), progress("beta sweep", options.quiet)
    )
    out: Path = options.out
    write_csv(out / "table.csv", table)
    write_csv(out / "summary.csv", summary)
    write_csv(out / "sweep.csv", sweep)
    if not options.no_figures:
        draw(out, summary, sweep)
    facts = manifest(
        seeds="0, for the order of moves in the dynamics figures; nothing else is random",
        betas=[*STUDIED_BETAS],
        sweep_betas=options.betas,
    )
    write_json(out / "manifest.json", facts)

    show(summary, table)
    print(
        "Money in USD per query. The largest error is against the printed five decimals, so up to"
        f" {published.PRINT_RESOLUTION:.1e} is equality; entries listed below are left out of it."
    )
    compared = table[table.printed != ""]
    off = compared[compared.note != ""]
    for row in off.itertuples():
        print(
            f"{row.benchmark} {row.method} {row.beta} {row.quantity}: computed {row.computed:.5f},"
            f" printed {row.printed}: {row.note}"
        )
    resting = int(summary.play_agrees.sum())
    print(
        f"{len(compared) - len(off)} of {len(compared)} printed entries met to the last printed"
        f" digit; play ended at the solver's equilibrium in {resting} of {len(summary)} cells;"
        f" written to {out}"
    )
    write_text(
        out / "README.md",
        REPORT.format(
            command=facts["command"],
            met=len(compared) - len(off),
            printed=len(compared),
            exceptions="; ".join(
                f"{r.benchmark} {r.method} {r.beta} `{r.quantity}` ({r.note})"
                for r in off.itertuples()
            )
            or "none",
            rest=resting,
            cells=len(summary),
            unique=int(summary.unique_equilibrium.sum()),
        ),
    )
    unexplained = (off.note == "differs from print").any() or (
        (compared.note == "") & (compared.relative_error == np.inf)
    ).any()
    return int(unexplained or resting < len(summary))


if __name__ == "__main__":
    sys.exit(main())
