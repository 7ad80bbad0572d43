"""What `ttc-env history` writes: tables, figures, and a page that says what the numbers mean."""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttc_env.atomic import write_bytes, write_text
from ttc_env.cli._output import (
    clean,
    csv_bytes,
    need_matplotlib,
    png_bytes,
    progress,
    rounded,
)
from ttc_env.game.curves import load_market
from ttc_env.game.frontier import ALPHA, TASKS
from ttc_env.game.history import HistoryPoint, history, market_facts

TITLES = {"arc_agi_1": "ARC-AGI-1", "arc_agi_2": "ARC-AGI-2"}
COLOURS = {"arc_agi_1": "#2b6a99", "arc_agi_2": "#b5482d"}

ASSUMPTIONS: dict[str, dict[str, float]] = {
    "default (alpha 3 USD, beta alpha 8, b 0.1, margin 0.25)": {},
    "beta alpha 1.6: users choose almost at random": {"beta": 1.6 / ALPHA},
    "beta alpha 800: users look closely": {"beta": 800.0 / ALPHA},
    "b = 0: a wrong answer is worth nothing": {"baseline": 0.0},
    "margin 0.1": {"margin": 0.1},
    "margin 1": {"margin": 1.0},
    "alpha 1 USD, beta alpha 8": {"alpha": 1.0, "beta": 8.0},
    "alpha 10 USD, beta alpha 8": {"alpha": 10.0, "beta": 0.8},
}
"""What the default market assumes, changed one at a time."""

REPORT = """# The frontier's market, from January 2025 to June 2026

Written by `{command}`. Curves, prices and dates:
`frontier_curves.csv` (see its entry in [SOURCES.md](../../ttc_env/data/SOURCES.md)). Every date's
market holds all models released by then.

![Inefficiency over time, and against what the best offer is worth](frontier.png)

**The market wastes where the task is hard for everybody.** On ARC-AGI-2 the social optimum beat the
equilibrium by {early:.0f}% in May 2025, when the best model solved {early_accuracy:.0%} of the tasks,
and by {peak:.0f}% at the most ({peak_date}); in June 2026, when the best model solves
{late_accuracy:.0%}, by {late:.0f}%. On ARC-AGI-1, which was never as hard, it is
{easy_least:.0f}% to {easy_most:.0f}% throughout. The turn on ARC-AGI-2 is one model: {turn_model}
({turn_date}) took inefficiency from {turn_before:.0f}% to {turn_after:.0f}%.

What "hard" means here is the right-hand panel: how much the best offer on sale is worth after its
cost. Where that is little (below 0.5 USD of the 3 that a sure answer is worth), more thinking hardly
helps anybody; a provider who thinks longer earns more per query and loses few users to rivals who are
no better. Where somebody solves the task for much less than it is worth, users leave those who only
bill more. The best accuracy alone does not tell: GPT-5.2 Pro solved 54% of ARC-AGI-2 in December
2025, at 15.72 USD a task, and changed nothing. (On the first date nothing is wasted, as
each of the three models sells one effort only.)

| | {heads} |
| --- | {rules} |
{dates_table}

Bands in brackets: 5% to 95% of {resamples} markets with redrawn accuracies (binomial over 100 and 120
tasks). A redrawn market has the leaderboard's own sampling noise and once more as much, and noise
roughens curves, so a point can lie at the edge of its band or outside (on ARC-AGI-1, below it).

## What else the numbers say

- **Most of what an auction would add is not over-compute.** On ARC-AGI-2 in June 2026 the auction is
  worth {auction:.2f} USD per user, the planner's optimum {optimal:.2f}, the market {welfare:.2f}:
  {choice:.0%} of the gap is choice among {models} models by users who err, {compute:.0%} is compute.
  (Under the reading in which users have tastes, that part is variety and not lost.)
- **Who would win the auction**, since when, and in how many of that date's redrawn markets:
{winners}

  With 100 and 120 tasks the leaderboard often cannot tell the first two apart: the stated winner of
  a date wins in {least_chance:.0%} to {most_chance:.0%} of its redrawn markets.
- **Over-compute** is in USD of cost per user, as there are no token counts: at most
  {overcompute:.3f} USD on ARC-AGI-2 ({overcompute_date}). It can be negative, where the planner
  would move users to models that cost more.
- **Concentration** falls with every entrant and jumps when one model is ahead: the Herfindahl index
  on ARC-AGI-2 is {hhi_first:.2f} in January 2025, {hhi_low:.2f} in {hhi_low_date}, and {hhi_last:.2f}
  in June 2026 (1/n would be {hhi_equal:.2f}).
- The equilibrium is unique on {unique} of {points} dates.

![Welfare, price, over-compute and concentration](details.png)

## How much rests on assumptions

Price of anarchy, all models of the date. NaN: welfare at the equilibrium is not positive.

{sensitivity}

ARC-AGI-2 in 2025 wastes most under every assumption but two, and by how much depends on them:

- Users who look closely (beta alpha 800) leave next to no waste anywhere.
- With b = 0 the ARC-AGI-2 market of May 2025 is worth less than nothing to society: what any answer
  is worth (b = 0.1: 0.30 USD) is most of welfare while hardly anything is solved.
- With alpha 1 USD the waste on ARC-AGI-2 is still there in June 2026: what counts is whether somebody
  solves the task for clearly less than it is worth, not whether somebody solves it.
- Costs are not public. A larger margin makes the waste smaller: compute then costs society less.

## What to know

- Models stay in the market when their successors come: who sells what is not in the data. The
  default market, `load_market("arc_agi_2")`, holds the newest of each maker's lines instead: eighteen
  models, price of anarchy {current_2:.3f} (ARC-AGI-1: {current_1:.3f}).
- Prices are what one run of the benchmark cost per task, at list prices of its day.
- A model counts from its release, although the leaderboard may have tried it later.
"""


def run(options: argparse.Namespace) -> None:
    """Solve, and write tables, figures and what they say into `options.out`.

    Raises:
        ImportError: figures are wanted, and matplotlib is not installed.
    """
    if not options.no_figures:
        need_matplotlib("--no-figures")
    options.out.mkdir(parents=True, exist_ok=True)  # refused now, not when all is solved
    points: dict[str, list[HistoryPoint]] = {}
    for benchmark in TASKS:
        points[benchmark] = history(
            benchmark,
            resamples=options.resamples,
            seed=options.seed,
            progress=progress(f"{TITLES[benchmark]}, dates", options.quiet),
        )
    out: Path = options.out
    every = [point for of_benchmark in points.values() for point in of_benchmark]
    write_bytes(out / "history.csv", csv_bytes([rounded(point.row()) for point in every]))
    winners = [
        {
            "benchmark": point.benchmark,
            "date": point.date.isoformat(),
            "provider": name,
            "chance": chance,
        }
        for point in every
        for name, chance in point.winners.items()
    ]
    write_bytes(out / "winners.csv", csv_bytes(winners))
    assumed = sensitivity()
    write_bytes(out / "sensitivity.csv", csv_bytes([rounded(row) for row in assumed]))
    if not options.no_figures:
        write_bytes(out / "frontier.png", png_bytes(headline(points)))
        write_bytes(out / "details.png", png_bytes(details(points)))
    command = f"python -m scripts.frontier --resamples {options.resamples} --seed {options.seed}"
    write_text(out / "README.md", report(points, assumed, command, options.resamples))
    if not options.quiet:
        print(f"{len(every)} markets solved; written to {out}")


def sensitivity(dates: Sequence[str] = ("2025-05", "2026-06")) -> list[dict[str, Any]]:
    """Price of anarchy at some dates, under each of `ASSUMPTIONS`: one row each."""
    rows = []
    for assumption, changes in ASSUMPTIONS.items():
        row: dict[str, Any] = {"assumption": assumption}
        for benchmark in TASKS:
            for date in dates:
                facts = market_facts(load_market(benchmark, as_of=date, **changes))  # type: ignore[arg-type]
                row[f"{benchmark} {date}"] = facts.price_of_anarchy
        rows.append(row)
    return rows


def report(
    points: dict[str, list[HistoryPoint]],
    assumed: list[dict[str, Any]],
    command: str,
    resamples: int,
) -> str:
    """The page that says what the numbers mean."""
    hard, easy = points["arc_agi_2"], points["arc_agi_1"]

    def percent(point: HistoryPoint) -> float:
        return 100.0 * (point.facts.price_of_anarchy - 1.0)

    def month(date: Any) -> str:
        return date.strftime("%B %Y")

    may = [p for p in hard if p.date.isoformat() < "2025-06"][-1]
    peak = max(hard, key=percent)
    # From one date to the next, with all models of both.
    steps = list(itertools.pairwise(hard))
    before, after = min(
        (step for step in steps if step[1].date > peak.date),
        key=lambda step: percent(step[1]) - percent(step[0]),
    )
    new = [name for name in after.market.names if name not in before.market.names]
    last, first = hard[-1], hard[0]
    facts = last.facts
    gap = facts.auction_welfare - facts.welfare
    most = max(hard, key=lambda p: p.facts.overcompute_usd)
    lowest = min(hard, key=lambda p: p.facts.concentration)
    rows = {
        benchmark: [p.row() for p in of_benchmark] for benchmark, of_benchmark in points.items()
    }
    chances = [r["winner_chance"] for x in rows.values() for r in x if r["winner"]]
    shown = ["2025-02", "2025-05", "2025-08", "2025-11", "2025-12", "2026-06"]
    table = []
    for benchmark, title in TITLES.items():
        cells = []
        for date in shown:
            row = [r for r in rows[benchmark] if r["date"][:7] <= date][-1]
            cells.append(
                f"{row['price_of_anarchy']:.2f} [{row['price_of_anarchy_lo']:.2f},"
                f" {row['price_of_anarchy_hi']:.2f}], {row['models']} models"
            )
        table.append(f"| {title}: price of anarchy | {' | '.join(cells)} |")
    columns = list(assumed[0])[1:]
    lines = [
        f"| assumption | {' | '.join(f'{TITLES[c.split()[0]]}, {c.split()[1]}' for c in columns)} |",
        "| --- |" + " --- |" * len(columns),
    ]
    lines += [
        f"| {row['assumption']} | {' | '.join(_ratio(row[c]) for c in columns)} |"
        for row in assumed
    ]
    return REPORT.format(
        command=command,
        resamples=resamples,
        early=percent(may),
        early_accuracy=may.facts.best_accuracy,
        peak=percent(peak),
        peak_date=f"{peak.date:%-d %B %Y}" if os.name != "nt" else peak.date.isoformat(),
        late=percent(last),
        late_accuracy=facts.best_accuracy,
        easy_least=min(map(percent, easy)),
        easy_most=max(map(percent, easy)),
        turn_model=" and ".join(new),
        turn_date=month(after.date),
        turn_before=percent(before),
        turn_after=percent(after),
        heads=" | ".join(shown),
        rules=" | ".join("---" for _ in shown),
        dates_table="\n".join(table),
        auction=facts.auction_welfare,
        optimal=facts.optimal_welfare,
        welfare=facts.welfare,
        choice=(facts.auction_welfare - facts.optimal_welfare) / gap,
        compute=(facts.optimal_welfare - facts.welfare) / gap,
        models=last.market.num_providers,
        winners="\n".join(
            textwrap.fill(
                f"{TITLES[benchmark]}: {_winners(of_rows)}",
                width=100,
                initial_indent="  - ",
                subsequent_indent="    ",
            )
            for benchmark, of_rows in rows.items()
        ),
        least_chance=min(chances),
        most_chance=max(chances),
        overcompute=most.facts.overcompute_usd,
        overcompute_date=month(most.date),
        hhi_first=first.facts.concentration,
        hhi_low=lowest.facts.concentration,
        hhi_low_date=month(lowest.date),
        hhi_last=facts.concentration,
        hhi_equal=1.0 / last.market.num_providers,
        unique=sum(p.facts.unique for p in hard + easy),
        points=len(hard + easy),
        sensitivity="\n".join(lines),
        current_1=market_facts(load_market("arc_agi_1")).price_of_anarchy,
        current_2=market_facts(load_market("arc_agi_2")).price_of_anarchy,
    )


def _ratio(value: float) -> str:
    return "NaN" if np.isnan(value) else f"{value:.2f}"


def _winners(rows: list[dict[str, Any]]) -> str:
    """Each winner, since when, and how sure that was on its first day."""
    spells, previous = [], None
    for row in rows:
        if row["winner"] != previous:
            spells.append(f"{row['winner']} ({row['date'][:7]}, {row['winner_chance']:.0%})")
        previous = row["winner"]
    return ", ".join(spells)


def headline(points: dict[str, list[HistoryPoint]]) -> Any:
    """Inefficiency over time, and against what the best offer is worth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
    for benchmark, of_benchmark in points.items():
        dates = np.array([point.date for point in of_benchmark])
        ratios = np.array([point.facts.price_of_anarchy for point in of_benchmark])
        bands = np.array([point.bands["price_of_anarchy"] for point in of_benchmark])
        colour = COLOURS[benchmark]
        left.fill_between(
            dates, *(100 * (bands.T - 1)), step="post", color=colour, alpha=0.18, lw=0
        )
        left.step(dates, 100 * (ratios - 1), where="post", color=colour, lw=2.2)
        worth = [point.facts.auction_welfare for point in of_benchmark]
        right.plot(worth, 100 * (ratios - 1), "o", color=colour, ms=5, alpha=0.75)
    easy = points["arc_agi_1"]
    left.annotate(
        "ARC-AGI-2:\nhard for everybody\nuntil December 2025",
        (datetime.date(2026, 1, 5), 22.0),
        color=COLOURS["arc_agi_2"],
        fontsize=10,
        va="bottom",
        ha="left",
    )
    left.annotate(
        "ARC-AGI-1",
        (easy[len(easy) // 3].date, -1.2),
        color=COLOURS["arc_agi_1"],
        fontsize=10,
        va="top",
        ha="center",
    )
    left.set_ylabel("welfare lost at equilibrium,\npercent of it")
    left.set_title("Over time (band: 90% of redrawn markets)", fontsize=10)
    right.set_title("Against what the best offer is worth", fontsize=10)
    right.set_xlabel("best quality less cost on sale, USD per task")
    right.set_xlim(0, None)
    left.set_ylim(-5.0, None)
    _dates(left)
    for axis in (left, right):
        axis.axhline(0, color="grey", lw=0.6)
        clean(axis)
    figure.suptitle(
        "The market for thinking wastes most where the task is hard for everybody", fontsize=13
    )
    return figure


def details(points: dict[str, list[HistoryPoint]]) -> Any:
    """Welfare, what users pay, over-compute and concentration over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for benchmark, of_benchmark in points.items():
        dates = np.array([point.date for point in of_benchmark])
        colour = COLOURS[benchmark]
        for axis, name, style in (
            (axes[0, 0], "welfare", "-"),
            (axes[0, 0], "auction_welfare", ":"),
            (axes[0, 1], "mean_price", "-"),
            (axes[1, 0], "overcompute_usd", "-"),
            (axes[1, 1], "concentration", "-"),
        ):
            values = [getattr(point.facts, name) for point in of_benchmark]
            bands = np.array([point.bands[name] for point in of_benchmark]).T
            axis.fill_between(dates, *bands, step="post", color=colour, alpha=0.15, lw=0)
            label = TITLES[benchmark] + (", auction" if name == "auction_welfare" else "")
            axis.step(dates, values, where="post", color=colour, lw=1.8, ls=style, label=label)
    for axis, title, unit in (
        (axes[0, 0], "Welfare rises as models improve", "USD per user"),
        (axes[0, 1], "What a user pays on average", "USD per user"),
        (axes[1, 0], "Compute beyond the optimum's", "USD of cost per user"),
        (axes[1, 1], "Concentration of shares (Herfindahl)", "1/n to 1"),
    ):
        axis.set_title(title, fontsize=11)
        axis.set_ylabel(unit, fontsize=9)
        axis.set_ylim(None if axis is axes[1, 0] else 0, None)
        _dates(axis)
        clean(axis)
    axes[1, 0].axhline(0, color="grey", lw=0.6)
    axes[0, 0].legend(fontsize=9, frameon=False, loc="upper left")
    return figure


def _dates(axis: Any) -> None:
    from matplotlib.dates import DateFormatter, MonthLocator

    axis.xaxis.set_major_locator(MonthLocator(bymonth=(1, 4, 7, 10)))
    axis.xaxis.set_major_formatter(DateFormatter("%b %Y"))
