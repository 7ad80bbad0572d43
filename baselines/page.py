"""The page of learners, baselines/README.md: its words and tables, from the kept results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from baselines.statistics import estimate
from baselines.suite import SETTINGS, Cell, Entry, cells
from baselines.summaries import KEY, THRESHOLDS, first_bests, interval, statistics
from baselines.targets import percent, targets

INTRO = """# Learners beside the exact equilibrium

Written by `python -m baselines.run` (`--report` gathers the cells that were run; `--tables` writes
this page again from `results/final.csv` alone). A *cell* is one learner on one game at one beta in
one setting, a *run* is one seed of a cell. Each run is scored at its end against the exact solution
of its own game. Columns are explained in `baselines/evaluation.py`. One set of hyperparameters for
all games. Exploration is off when play is scored. Per run: `results/final.csv`; per cell:
`results/table.csv`; over time: `results/curves.csv`; statistics: `results/statistics.csv`.

Welfare is compared in two ways: with the equilibrium of the same game, and with the first best, one
number for all rules: the largest quality less cost of any provider. What a rule's own game could
reach at most is a third (`welfare_ratio` in the files), which cannot be compared between rules.

Learners that see only their own profit learn from its logarithm above 1e-6 USD a round
(`agents/scale.py`); no reported number is scaled. At beta = 100000 a losing provider's profit is
below that floor whatever it does, so nobody can learn its best reply from rewards; its regret in
USD is as small, and share-weighted columns do not see it.

CPU seconds hold the evaluations, too. The machine was shared: they compare roughly.
"""
MONEY = """## Market beside auction, in money

USD per 1000 arriving users, means over the nine games at beta = 1000, where play of each learner
ended. Users: their quality minus what they pay.

"""
STATISTICS = """## Statistics over games and seeds

Interquartile means (IQM) with 95% bootstrap bands (`baselines/statistics.py`, after Agarwal et al.
2021): over seeds within each game, and over games and seeds. The last columns are the performance
profile: the share of runs with at most that relative regret. The share-weighted regret hides
providers that few users choose; the worst provider's does not.

"""
FIGURES = """## Figures

![Learning curves](results/learning_curves.png)

Four learners from before the first round, interquartile means over seeds with 95% bands:
`python -m baselines.learning_curves`.

![NashConv against steps](results/nash_conv.png)

![Learned welfare](results/welfare.png)
"""


def page(final: pd.DataFrame, out: Path, suite: tuple[Entry, ...]) -> str:
    """The text of README.md. final: a row a run, as in `out`/results/final.csv."""
    met, misses = targets(final)
    reasons = out / "reasons.md"
    parts = [
        INTRO,
        f"## Targets\n\n{met}\n\n### Where runs miss\n\n{misses}\n",
        reasons.read_text() if reasons.exists() else "",
        *(
            f"## {setting.capitalize()}\n\n{setting_table(final, setting)}\n"
            for setting in SETTINGS
            if (final.setting == setting).any()
        ),
        MONEY + money_table(final) + "\n",
        STATISTICS + statistics_table(statistics(final)) + "\n",
        "![Performance profiles](results/profiles.png)\n",
        FIGURES,
        variations_section(out),
        impulse_section(out),
        f"## What was run\n\n{_what_was_run(shortfall(final, suite), suite)}",
    ]
    return "\n".join(part for part in parts if part)


def setting_table(final: pd.DataFrame, setting: str) -> str:
    part = final[final.setting == setting]
    part = part.assign(efficiency=part.welfare / first_bests(part))
    auction = SETTINGS[setting][0] == "auction"
    special = (
        "winner efficient | winner's markup"
        if auction
        else "inside bracket | collusion index, median"
    )
    lines = [
        (
            "| learner | cells x seeds | steps | NashConv, USD | relative regret | worst run |"
            f" levels exact | W / W(equilibrium) | W / first best | over-compute | {special} |"
            " CPU s a run |"
        ),
        "| --- " * 13 + "|",
    ]
    for learner, group in part.groupby("learner", sort=False):
        regret, ci = interval(group, "relative_regret")
        welfare, welfare_ci = interval(group, "welfare_to_equilibrium")
        if auction:
            extra = f"{percent(group.efficient_winner.mean(), 1)} | {group.shading.mean():+.2f}"
        else:
            extra = (
                f"{percent(group.inside_bracket.mean(), 1)} | {signed(group.collusion.median())}"
            )
        seeds = group.seed.nunique()
        lines.append(
            f"| {learner} | {len(group) // seeds} x {seeds} | {group.step.max():,} |"
            f" {group.nash_conv.mean():.1e} | {percent(regret)} ± {percent(ci)} |"
            f" {percent(group.relative_regret.max())} | {percent(group.levels_exact.mean(), 1)} |"
            f" {welfare:.4f} ± {welfare_ci:.4f} | {group.efficiency.mean():.3f} |"
            f" {group.overcompute.mean():+.2f} | {extra} | {group.cpu_seconds.mean():.2f} |"
        )
    return "\n".join(lines)


def money_table(final: pd.DataFrame, beta: float = 1000.0) -> str:
    """What society and users get in each setting, USD per 1000 arriving users: means over the games
    at one beta, for learners that played all games in all settings.
    """
    part = final[final.beta == beta]
    games = part.drop_duplicates(["learner", "setting", "benchmark", "method"])
    counts = games.groupby(["learner", "setting"]).size().unstack()
    settings = list(SETTINGS)
    everywhere = counts.reindex(columns=settings).eq(counts.max().max()).all(axis=1)
    means = 1e3 * part.groupby(["learner", "setting"])[["welfare", "user_value"]].mean()
    lines = [
        "| learner | " + " | ".join(f"{s}: welfare | users" for s in settings) + " |",
        "| --- " * (1 + 2 * len(settings)) + "|",
    ]
    if len(part):
        best = 1e3 * first_bests(part.drop_duplicates(["benchmark", "method"])).mean()
        lines.append(
            f"| first best, of any rule | {' | '.join([f'{best:.2f} | -'] * len(settings))} |"
        )
    for learner in dict.fromkeys(part.learner):
        if not everywhere.get(learner, False):
            continue
        numbers = [
            f"{means.loc[(learner, s), column]:.2f}"
            for s in settings
            for column in ("welfare", "user_value")
        ]
        lines.append(f"| {learner} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def statistics_table(table: pd.DataFrame) -> str:
    """The statistics of learners that do not simply play what the solver or a rule says."""
    lines = [
        "| setting | learner | runs | relative regret, IQM | band, seeds | band, games and seeds |"
        " W / W(equilibrium), IQM | worst provider's regret, IQM | "
        + " | ".join(f"regret <= {x:g}" for x in THRESHOLDS)
        + " |",
        "| --- " * (8 + len(THRESHOLDS)) + "|",
    ]
    for row in table.to_dict("records"):
        if row["learner"] in ("random", "truthful", "shaded", "planner", "equilibrium"):
            continue
        bands = [
            " to ".join(
                percent(row[f"iqm_relative_regret_{end}_{name}"]) for end in ("low", "high")
            )
            for name in ("seeds", "games")
        ]
        lines.append(
            f"| {row['setting']} | {row['learner']} | {row['runs']} |"
            f" {percent(row['iqm_relative_regret'])} | {bands[0]} | {bands[1]} |"
            f" {row['iqm_welfare_to_equilibrium']:.4f} |"
            f" {percent(row['iqm_worst_provider_regret'])} | "
            + " | ".join(f"{row[f'within_{x:g}']:.0%}" for x in THRESHOLDS)
            + " |"
        )
    return "\n".join(lines)


def variations_section(out: Path) -> str:
    """What `baselines.variations` found, if its tables are there."""
    text = ""
    path = out / "results" / "held_out.csv"
    if path.exists():
        text += f"""## Held-out markets

`python -m baselines.variations`: the same learners, unchanged, on games that nobody looked at when
hyperparameters were chosen: three published games at beta 100, 500 and 5000; the same with half and
twice the value of a right answer; and random markets of nine providers (`ttc_env.random_markets`).
Numbers as above, per run in `results/held_out.csv`.

{_varied(pd.read_csv(path), ["change", "learner"])}
"""
    path = out / "results" / "sensitivity.csv"
    if path.exists():
        text += f"""
## Other hyperparameters

`python -m baselines.variations`: one change at a time, on GSM8K majority vote and GPQA reasoning at
beta = 1000, per run in `results/sensitivity.csv`. The learner is PPO in plain torch, or, where
named SB3's, Stable-Baselines3's on GSM8K alone. What is not named is as in the tables above, but
20,480 steps (SB3's A2C and DQN: 32,000).

{_varied(pd.read_csv(path), ["change"])}
"""
    return text


def _varied(table: pd.DataFrame, by: list[str]) -> str:
    """A row for each setting and change: runs, regret and welfare, and how many end within 1%."""
    lines = [
        f"| setting | {' | '.join(by)} | games x seeds | steps | relative regret, IQM | band, games"
        " and seeds | worst run | runs within 1% | W / W(equilibrium), IQM |",
        "| --- " * (8 + len(by)) + "|",
    ]
    for key, runs in table.groupby(["setting", *by], sort=False):
        games = runs.groupby(["benchmark", "method", "beta", "alpha", "draw"])
        regret, welfare = (
            estimate([x.to_numpy() for _, x in games[column]])
            for column in ("relative_regret", "welfare_to_equilibrium")
        )
        lines.append(
            f"| {' | '.join(key)} | {games.ngroups} x {runs.seed.nunique()} | {runs.step.max():,} |"
            f" {percent(regret.value)} | {' to '.join(percent(x) for x in regret.games)} |"
            f" {percent(runs.relative_regret.max())} |"
            f" {(runs.relative_regret <= 0.01).mean():.0%} | {welfare.value:.4f} |"
        )
    return "\n".join(lines)


def impulse_section(out: Path) -> str:
    """What `baselines.impulse` found, if its tables are there."""
    results = out / "results"
    if not (results / "impulse.csv").exists() or not (results / "duopolies.csv").exists():
        return ""
    table, duopolies = (pd.read_csv(results / f"{x}.csv") for x in ("impulse", "duopolies"))
    lines = [
        "| duopoly, beta | mechanism, discount | sessions (converged) | rounds, median | collusion"
        " index | at a PNE | over-compute (at the PNE) | W / W* | deviations | gain at once |"
        " over 16 rounds | rival answers | back in the path | in step |",
        "| --- " * 14 + "|",
    ]

    def interval(row: Any, name: str) -> str:
        value, half = getattr(row, name), getattr(row, f"{name}_ci95")
        width = "" if np.isnan(half) else f" ± {half:.1%}"
        return "-" if np.isnan(value) else f"{value:+.1%}{width}"

    for row in table.itertuples():
        index = f"{row.collusion_index:+.2f} ± {row.collusion_index_ci95:.2f}"
        lines.append(
            f"| {row.benchmark} {row.method}: {row.providers}, {row.beta:g} | {row.mechanism},"
            f" {row.discount:g} | {row.sessions} ({row.converged:.0%}) | {row.rounds_median:,.0f} |"
            f" {index} | {percent(row.at_equilibrium, 0)} | {row.overcompute:+.2f}"
            f" ({row.overcompute_equilibrium:+.2f}) | {row.welfare_ratio:.3f} |"
            f" {row.deviations} | {interval(row, 'gain_at_once')} |"
            f" {interval(row, 'gain_over_window')} | {percent(row.answered, 0)} |"
            f" {percent(row.restored, 0)} | {percent(row.in_step, 0)} |"
        )
    room = int(duopolies.something_to_collude_on.sum())
    text = f"""## Q-learning: is cooperation on compute punished? Does the auction stop it?

`python -m baselines.impulse`: two Q-learners with memory of both last levels, with the parameters
and the convergence rule of Calvano et al. (2020), fixed prices, so that compute is all they can
cooperate on. A cartel here means *more* compute, because list prices pay by the token. All
{len(duopolies)} pairs of providers of the nine games at beta 200 and 1000 were solved
(`results/duopolies.csv`): in {len(duopolies) - room} there is nothing to collude on (a cartel would
earn at most 1% more than the equilibrium). From each benchmark the pair with the largest room is
trained. Discount 0 is the control. Deviations are forced best replies of provider 0 in sessions
where it does not play one anyway; gains are relative to the same rounds without the deviation; ±
are 95% over sessions. Over-compute is in doublings of the compute of the social optimum.
Mean paths: `results/impulse_paths.csv`.

"""
    text += "\n".join(lines) + (
        "\n\nIn the auction the loser earns nothing whatever it does, so that it can stand aside at"
        " no cost: the index there is what the winner gains by that, at users' expense. It is no"
        " collusion on compute, which stays near the optimum.\n"
    )
    text += "\n![impulse](results/impulse.png)\n"
    if (results / "collusion_map.csv").exists():
        text += (
            "\nThe collusion index for other values of a right answer and other users"
            " (`results/collusion_map.csv`):\n\n![map](results/collusion_map.png)\n"
        )
    return text


def shortfall(final: pd.DataFrame, suite: tuple[Entry, ...]) -> list[tuple[Cell, int]]:
    """Cells with fewer runs of full length than the suite asks for, and how many are missing."""
    counts = final.groupby([*KEY, "step"]).size().to_dict()
    short = []
    for cell in cells(suite):
        done = counts.get((*cell.key.values(), cell.entry.steps), 0)
        if done < cell.entry.seeds:
            short.append((cell, cell.entry.seeds - done))
    return short


def _what_was_run(short: list[tuple[Cell, int]], suite: tuple[Entry, ...]) -> str:
    """How much of the suite, and what is missing: "learner in setting: seeds of cells"."""
    everything = list(cells(suite))
    runs = sum(cell.entry.seeds for cell in everything)
    missing = sum(count for _, count in short)
    text = f"{runs - missing} of the suite's {runs} runs, in {len(everything)} cells."
    if not short:
        return f"{text} None is missing.\n"
    groups: dict[str, list[int]] = {}
    for cell, count in short:
        groups.setdefault(f"{cell.entry.learner} in {cell.setting}", []).append(count)
    parts = [f"{name} ({sum(x)} runs of {len(x)} cells)" for name, x in groups.items()]
    return f"{text} Not run: {'; '.join(parts)}.\n"


def signed(x: float) -> str:
    return "-" if np.isnan(x) else f"{x:+.2f}"
