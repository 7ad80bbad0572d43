"""From per-cell files to the kept results: csv, README.md, figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from baselines.records import write_atomically, write_csv, write_text
from baselines.statistics import estimate, profile
from baselines.suite import KEPT, SETTINGS, Cell, Entry, cells
from ttc_env.game.curves import load_market
from ttc_env.game.yardstick import first_best

KEY = ["learner", "family", "setting", "benchmark", "method", "beta"]
PURE_LEARNERS = ("best_response", "nearest_improving", "fictitious_play", "double_oracle")
MIXED_LEARNERS = (
    "hedge",
    "optimistic_hedge",
    "replicator",
    "regret_matching",
    "regret_matching_plus",
)
BANDITS = ("epsilon_greedy", "ucb", "thompson", "exp3")
PPOS = ("ppo", "ppo_torch")

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

"""


def gather(folder: Path, suite: tuple[Entry, ...]) -> pd.DataFrame:
    """All rows of all cells of the suite that were run."""
    tables = [pd.read_csv(path) for cell in cells(suite) if (path := folder / cell.file).exists()]
    if not tables:
        raise SystemExit(f"{folder} holds no results; run python -m baselines.run first")
    rows = pd.concat(tables, ignore_index=True)
    # A setting's own columns are missing where no cell of it was run.
    return rows.reindex(columns=[*rows.columns, *(c for c in KEPT if c not in rows)])


def with_kept(
    new: pd.DataFrame, path: Path, key: list[str], suite: tuple[Entry, ...]
) -> pd.DataFrame:
    """`new`, and the rows of the kept table at `path` whose `key` is not among it, in the order of
    the suite. Rows that the suite does not ask for, or asks for with other steps, are left out.
    """
    kept = pd.read_csv(path) if path.exists() else new.iloc[:0]
    there = new[key].drop_duplicates()
    others = kept.merge(there, on=key, how="left", indicator="found").found == "left_only"
    table = new if not others.any() else pd.concat([new, kept[others.to_numpy()]])
    asked = {
        tuple(cell.key[name] for name in key): (place, cell.entry.steps)
        for place, cell in enumerate(cells(suite))
    }
    parts = []
    for values, rows in table.groupby(key, sort=False):
        place, steps = asked.get(tuple(values), (-1, -1))
        if steps == rows.step.max():
            parts.append((place, rows))
    parts.sort(key=lambda part: part[0])
    return pd.concat([rows for _, rows in parts], ignore_index=True)


def shortfall(final: pd.DataFrame, suite: tuple[Entry, ...]) -> list[tuple[Cell, int]]:
    """Cells with fewer runs of the suite's length than the suite asks for, and how many are missing."""
    counts = final.groupby([*KEY, "step"]).size().to_dict()
    short = []
    for cell in cells(suite):
        done = counts.get((*cell.key.values(), cell.entry.steps), 0)
        if done < cell.entry.seeds:
            short.append((cell, cell.entry.seeds - done))
    return short


def last(rows: pd.DataFrame) -> pd.DataFrame:
    """The last evaluation of every run."""
    return rows[rows.step == rows.groupby(KEY).step.transform("max")].reset_index(drop=True)


def interval(final: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean over runs, and the half-width of its 95% interval over seeds."""
    from scipy.stats import t

    by_seed = final.groupby("seed")[column].mean().dropna()
    if len(by_seed) < 2:
        return float(by_seed.mean()) if len(by_seed) else float("nan"), float("nan")
    return float(by_seed.mean()), float(
        t.ppf(0.975, len(by_seed) - 1) * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    )


def aggregate(final: pd.DataFrame) -> pd.DataFrame:
    """One row a cell: means over seeds, 95% half-widths of the main columns, and the worst run."""
    rows = []
    for key, group in final.groupby(KEY, sort=False):
        row = dict(zip(KEY, key, strict=True))
        row.update(
            seeds=len(group),
            steps=int(group.step.max()),
            cpu_seconds_per_run=float(group.cpu_seconds.mean()),
        )
        for column in (
            "nash_conv",
            "relative_regret",
            "welfare_to_equilibrium",
            "welfare_ratio",
            "levels_off",
        ):
            row[column], row[f"{column}_ci95"] = interval(group, column)
        for column in (
            "median_relative_regret",
            "levels_exact",
            "inside_bracket",
            "user_value",
            "overcompute",
            "collusion",
            "shading",
            "efficient_winner",
        ):
            row[column] = float(group[column].mean()) if column in group else float("nan")
        row["worst_relative_regret"] = float(group.relative_regret.max())
        rows.append(row)
    return pd.DataFrame(rows)


def percent(x: float, digits: int = 2) -> str:
    if np.isnan(x):
        return "-"
    return "0" if x == 0 else f"{x:.{digits}%}" if abs(x) >= 10 ** -(digits + 2) else f"{x:.0e}"


def signed(x: float) -> str:
    return "-" if np.isnan(x) else f"{x:+.2f}"


def first_bests(final: pd.DataFrame) -> pd.Series:
    """The first best of every row's game, USD per arriving user: one number for all rules (GAME.md,
    theorem 20), where each rule's own optimum would be another.
    """
    games = {
        game: first_best(load_market(game[0], game[1], beta=float(game[2])))
        for game in set(zip(final.benchmark, final.method, final.beta, strict=True))
    }
    rows = zip(final.benchmark, final.method, final.beta, strict=True)
    return pd.Series([games[game] for game in rows], index=final.index)


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
            f" levels exact | W / W(equilibrium) | W / first best | over-compute | {special} | CPU s a"
            " run |"
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


@dataclass(frozen=True)
class Target:
    """What is asked of some learners in a setting. needed: share of runs that must meet it."""

    learners: tuple[str, ...]
    text: str
    met: Callable[[pd.DataFrame], pd.Series]
    needed: float = 1.0


def _within(column: pd.Series, distance: float) -> pd.Series:
    return (column - 1).abs() <= distance


MARKET_TARGETS = (
    Target(
        PURE_LEARNERS,
        "inside the PNE bracket, every counted regret <= 1e-6, all runs",
        lambda x: (x.largest_counted_regret <= 1e-6) & (x.inside_bracket >= 1 - 1e-9),
    ),
    Target(
        MIXED_LEARNERS,
        "inside the PNE bracket with chance >= 99% for every provider, relative regret <= 1%, all"
        " runs",
        lambda x: (x.relative_regret <= 0.01) & (x.inside_bracket >= 0.99),
    ),
    Target(MIXED_LEARNERS, "relative regret <= 1% alone", lambda x: x.relative_regret <= 0.01),
    Target(
        BANDITS,
        "welfare within 2% of equilibrium, median relative regret <= 2%, all runs",
        lambda x: _within(x.welfare_to_equilibrium, 0.02) & (x.median_relative_regret <= 0.02),
    ),
    Target(
        PPOS,
        "relative regret <= 1% and welfare within 1% in >= 90% of runs",
        lambda x: (x.relative_regret <= 0.01) & _within(x.welfare_to_equilibrium, 0.01),
        0.9,
    ),
    Target(
        PPOS,
        "no counted provider off its PNE level at a cost over 3%, all runs",
        lambda x: (x.levels_exact == 1) | (x.largest_counted_regret <= 0.03),
    ),
)
AUCTION_TARGETS = (
    Target(
        PPOS,
        "efficient winner and its level exact in >= 95% of runs",
        lambda x: (x.efficient_winner >= 0.99) & (x.levels_off == 0),
        0.95,
    ),
)
TARGETS = {
    "market, fixed prices": MARKET_TARGETS,
    "market, level and price": MARKET_TARGETS,
    "auction": AUCTION_TARGETS,
}
"""Setting -> what is asked there. The market's targets are the same with a price grid."""


def targets(final: pd.DataFrame) -> tuple[str, str]:
    """The targets beside what was measured, and where runs miss them, by learner and beta."""
    rows: list[str] = []
    misses: list[str] = []
    for setting, wanted in TARGETS.items():
        part = final[final.setting == setting]
        for target in wanted:
            for learner in target.learners:
                runs = part[part.learner == learner]
                head = f"| {len(rows) + 1} | {setting} | {learner} | {target.text} |"
                if not len(runs):
                    rows.append(f"{head} not run | |")
                    continue
                passed = target.met(runs)
                share = float(passed.mean())
                rows.append(
                    f"{head} {int(passed.sum())} of {len(runs)} runs in"
                    f" {len(runs.drop_duplicates(KEY))} cells ({share:.1%}) |"
                    f" {'met' if share >= target.needed else 'missed'} |"
                )
                if share < target.needed:
                    misses += _misses(len(rows), setting, learner, runs, passed)
    head = "| target | setting | learner | asked | measured | |\n" + "| --- " * 6 + "|\n"
    miss = (
        "| target | setting | learner | beta | runs that miss | in the games | largest relative regret |"
        " largest median regret | W / W(equilibrium) |\n" + "| --- " * 9 + "|\n"
    )
    return head + "\n".join(rows), (miss + "\n".join(misses)) if misses else "None."


def _misses(
    number: int, setting: str, learner: str, runs: pd.DataFrame, passed: pd.Series
) -> list[str]:
    lines = []
    for beta, group in runs[~passed].groupby("beta"):
        games = [
            f"{benchmark} {method} {count}"
            for (benchmark, method), count in group.groupby(
                ["benchmark", "method"], sort=False
            ).size().items()
        ]  # fmt: skip
        lines.append(
            f"| {number} | {setting} | {learner} | {beta:g} |"
            f" {len(group)} of {int((runs.beta == beta).sum())} | {', '.join(games)} |"
            f" {percent(group.relative_regret.max())} |"
            f" {percent(group.median_relative_regret.max())} |"
            f" {group.welfare_to_equilibrium.min():.4f} to"
            f" {group.welfare_to_equilibrium.max():.4f} |"
        )
    return lines


THRESHOLDS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of relative regret, for the performance profiles in the tables."""


def statistics(final: pd.DataFrame) -> pd.DataFrame:
    """Interquartile mean of the relative regret and of W / W(equilibrium) for every setting and
    learner, with bootstrap bands over seeds, and over games and seeds; and the share of runs within
    each threshold of regret. A game is a benchmark, a method and a beta.
    """
    rows = []
    for (setting, learner), runs in final.groupby(["setting", "learner"], sort=False):
        row = {"setting": setting, "learner": learner, "runs": len(runs)}
        for column in ("relative_regret", "welfare_to_equilibrium", "worst_provider_regret"):
            if column not in runs or runs[column].isna().any():
                continue
            games = [x.to_numpy() for _, x in runs.groupby(["benchmark", "method", "beta"])[column]]
            found = estimate(games)
            row[f"games_{column}"] = len(games)
            row[f"iqm_{column}"] = found.value
            for name in ("seeds", "games"):
                low, high = getattr(found, name)
                row[f"iqm_{column}_low_{name}"], row[f"iqm_{column}_high_{name}"] = low, high
        shares = profile(runs.relative_regret.to_numpy(), np.array(THRESHOLDS))
        row.update({f"within_{x:g}": y for x, y in zip(THRESHOLDS, shares, strict=True)})
        rows.append(row)
    return pd.DataFrame(rows)


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Interquartile means over games and seeds at every evaluation, for every setting and learner,
    with 95% bootstrap bands over seeds; step 0 is before the first round.
    """
    found = []
    for key, runs in rows.groupby([*KEY[:3], "step"], sort=False):
        row = dict(zip((*KEY[:3], "step"), key, strict=True))
        for column in ("nash_conv", "relative_regret", "welfare_to_equilibrium"):
            games = [x.to_numpy() for _, x in runs.groupby(["benchmark", "method", "beta"])[column]]
            one = estimate(games, repetitions=500)
            row[column] = one.value
            row[f"{column}_low"], row[f"{column}_high"] = one.seeds
        found.append(row)
    return pd.DataFrame(found)


def statistics_table(table: pd.DataFrame) -> str:
    """The statistics of learners that do not simply play what the solver or a rule says."""
    lines = [
        "| setting | learner | runs | relative regret, IQM | band, seeds | band, games and seeds |"
        " W / W(equilibrium), IQM | worst provider's regret, IQM | "
        + " | ".join(f"regret <= {x:g}" for x in THRESHOLDS)
        + " |",
        "| --- " * (8 + len(THRESHOLDS)) + "|",
    ]
    worst = "iqm_worst_provider_regret"
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
            f" {percent(row.get(worst, float('nan')))} | "
            + " | ".join(f"{row[f'within_{x:g}']:.0%}" for x in THRESHOLDS)
            + " |"
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


def impulse_section(out: Path) -> str:
    """What `baselines.impulse` found, if its tables are there."""
    results = out / "results"
    if not (results / "impulse.csv").exists() or not (results / "duopolies.csv").exists():
        return ""
    table, duopolies = (pd.read_csv(results / f"{x}.csv") for x in ("impulse", "duopolies"))
    lines = [
        "| duopoly, beta | mechanism, discount | sessions (converged) | rounds, median | collusion"
        " index | at a PNE | over-compute (at the PNE) | W / W* | deviations | gain at once | over 16"
        " rounds | rival answers | back in the path | in step |",
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
    text = f"""
## Q-learning: is cooperation on compute punished and restored? Does the auction stop it?

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
        "\n\nIn the auction the loser earns nothing whatever it does, so that it can stand aside at no"
        " cost: the index there is what the winner gains by that, at users' expense. It is no"
        " collusion on compute, which stays near the optimum.\n"
    )
    text += "\n![impulse](results/impulse.png)\n"
    if (results / "collusion_map.csv").exists():
        text += (
            "\nThe collusion index for other values of a right answer and other users"
            " (`results/collusion_map.csv`):\n\n![map](results/collusion_map.png)\n"
        )
    return text


def variations_section(out: Path) -> str:
    """What `baselines.variations` found, if its tables are there."""
    text = ""
    path = out / "results" / "held_out.csv"
    if path.exists():
        text += f"""
## Held-out markets

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
beta = 1000 (Stable-Baselines3: GSM8K alone), per run in `results/sensitivity.csv`. What is not
named is as in the tables above, but 20,480 steps.

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
            f" {percent(runs.relative_regret.max())} | {(runs.relative_regret <= 0.01).mean():.0%} |"
            f" {welfare.value:.4f} |"
        )
    return "\n".join(lines)


def write(folder: Path, out: Path, suite: tuple[Entry, ...]) -> None:
    """Gather the cells in `folder` into `out`/results/*.csv, `out`/README.md and figures (where
    matplotlib is installed). Cells of the suite that are not in `folder` keep their rows.
    """
    rows = gather(folder, suite)
    results = out / "results"
    final = with_kept(rounded(last(rows)), results / "final.csv", KEY, suite)
    write_csv(results / "final.csv", final)
    key = [*KEY[:3]]
    write_csv(
        results / "curves.csv", with_kept(rounded(curves(rows)), results / "curves.csv", key, suite)
    )
    rewrite(out, suite)


def rewrite(out: Path, suite: tuple[Entry, ...]) -> None:
    """Write again, from the files in `out`/results: the page, its statistics, and the figures."""
    path = out / "results" / "final.csv"
    if not path.exists():
        raise SystemExit(f"there is no {path}; run python -m baselines.run first")
    final = pd.read_csv(path)
    final = final.reindex(columns=[*final.columns, *(c for c in KEPT if c not in final)])
    write_csv(out / "results" / "table.csv", rounded(aggregate(final)))
    write_page(final, out, suite)
    _draw(out / "results", final, out)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Six significant digits."""
    return table.assign(
        **{c: table[c].map(lambda x: float(f"{x:.6g}")) for c in table.select_dtypes("float")}
    )


def write_page(final: pd.DataFrame, out: Path, suite: tuple[Entry, ...]) -> None:
    """README.md and statistics.csv."""
    numbers = statistics(final)
    write_csv(out / "results" / "statistics.csv", rounded(numbers))
    met, misses = targets(final)
    text = INTRO + "## Targets\n\n" + met + "\n\n### Where runs miss\n\n" + misses + "\n"
    reasons = out / "reasons.md"
    if reasons.exists():
        text += "\n" + reasons.read_text()
    for setting in SETTINGS:
        if (final.setting == setting).any():
            text += f"\n## {setting.capitalize()}\n\n" + setting_table(final, setting) + "\n"
    text += (
        "\n## Market beside auction, in money\n\nUSD per 1000 arriving users, means over the nine"
        " games at beta = 1000, where play of each learner ended. Users: their quality minus what they"
        " pay.\n\n" + money_table(final) + "\n"
    )
    text += (
        "\n## Statistics over games and seeds\n\nInterquartile means (IQM) with 95% bootstrap bands"
        " (`baselines/statistics.py`, after Agarwal et al. 2021): over seeds within each game, and"
        " over games and seeds. The last columns are the performance profile: the share of runs with"
        " at most that relative regret. The share-weighted regret hides providers that few users"
        " choose; the worst provider's regret is kept by runs of this version and later (-: not"
        " kept).\n\n" + statistics_table(numbers) + "\n\n![Performance profiles]"
        "(results/profiles.png)\n"
    )
    text += (
        "\n## Figures\n\n![Learning curves](results/learning_curves.png)\n\nFour learners from before the first"
        " round, interquartile means over seeds with 95% bands: `python -m baselines.learning_curves`."
        "\n\n![NashConv against steps](results/nash_conv.png)\n\n![Learned"
        " welfare](results/welfare.png)\n" + variations_section(out) + impulse_section(out)
    )
    text += f"\n## What was run\n\n{_what_was_run(shortfall(final, suite), suite)}"
    write_text(out / "README.md", text)


def _draw(results: Path, final: pd.DataFrame, out: Path) -> None:
    """Draw all figures, where matplotlib is installed."""
    try:
        from baselines import learning_figures
    except ImportError:
        print(
            "figures need matplotlib: pip install 'ttc-env[plot]'; tables were written without them"
        )
        return
    for name, figure in learning_figures.all_figures(final, out).items():
        write_atomically(
            results / f"{name}.png", lambda path, figure=figure: figure.savefig(path, dpi=130)
        )


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
