"""From per-cell files to the kept results: csv, README.md, figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from baselines.records import write_atomically, write_csv, write_text
from baselines.suite import KEPT, SETTINGS, Entry, cells

KEY = ["learner", "family", "setting", "benchmark", "method", "beta"]
FIXED_MARKET = "market, fixed prices"
PURE_LEARNERS = ("best_response", "nearest_improving", "fictitious_play")
MIXED_LEARNERS = ("hedge", "regret_matching", "regret_matching_plus")
BANDITS = ("epsilon_greedy", "ucb", "exp3")
PPOS = ("ppo", "ppo_torch")

INTRO = """# Learners beside the exact equilibrium

Written by `python -m baselines.run` (`--report` gathers what is there without running). One line is one learner in one setting: means over games, betas and seeds, each run scored at its end against
the exact solution of its own game. Columns are explained in `baselines/evaluation.py`; intervals are 95% t-intervals over seeds (each seed averaged over its cells). One set of hyperparameters
for all games. Exploration is off when play is scored. Per-run numbers: `results/final.csv`; per cell: `results/table.csv`; over time: `results/curves.csv`.

Learners that see only their own profit learn from its logarithm above 1e-6 USD a round (`agents/scale.py`); no reported number is scaled. At beta = 100000 a losing provider's profit is below that
floor whatever it does, so nobody can learn its best reply from rewards; its regret in USD is as small, and share-weighted columns do not see it.

"""


def gather(folder: Path, suite: tuple[Entry, ...]) -> tuple[pd.DataFrame, list[str]]:
    """All rows of all cells of the suite that were run, and the cells that were not."""
    tables, missing = [], []
    for cell in cells(suite):
        path = folder / cell.file
        if path.exists():
            tables.append(pd.read_csv(path))
        else:
            missing.append(cell.file)
    if not tables:
        raise SystemExit(f"{folder} holds no results; run python -m baselines.run first")
    rows = pd.concat(tables, ignore_index=True)
    # A setting's own columns are missing where no cell of it was run.
    return rows.reindex(columns=[*rows.columns, *(c for c in KEPT if c not in rows)]), missing


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
            cpu_seconds_per_run=float(group.cpu_seconds.iloc[0]),
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


def setting_table(final: pd.DataFrame, setting: str) -> str:
    part = final[final.setting == setting]
    auction = SETTINGS[setting][0] == "auction"
    special = (
        "winner efficient | winner's markup"
        if auction
        else "inside bracket | collusion index, median"
    )
    lines = [
        (
            "| learner | cells x seeds | steps | NashConv, USD | relative regret | worst run |"
            f" levels exact | W / W(equilibrium) | W / W* | over-compute | {special} | CPU s a"
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
            f" {welfare:.4f} ± {welfare_ci:.4f} | {group.welfare_ratio.mean():.3f} |"
            f" {group.overcompute.mean():+.2f} | {extra} | {group.cpu_seconds.mean():.2f} |"
        )
    return "\n".join(lines)


def targets(final: pd.DataFrame) -> tuple[str, str]:
    """The targets beside what was measured, and every cell that misses one."""
    rows, misses = [], []
    market = final[final.setting == FIXED_MARKET]
    auction = final[final.setting == "auction"]

    def check(
        learner: str, part: pd.DataFrame, text: str, passed: pd.Series, needed: float = 1.0
    ) -> None:
        if not len(part):
            rows.append(f"| {learner} | {text} | not run | |")
            return
        share = float(passed.mean())
        rows.append(
            f"| {learner} | {text} | {int(passed.sum())} of {len(part)} runs in"
            f" {len(part.drop_duplicates(KEY))} cells ({share:.1%}) |"
            f" {'met' if share >= needed else 'missed'} |"
        )
        for key, group in part[~passed].groupby(["benchmark", "method", "beta"], sort=False):
            misses.append(
                f"| {learner} | {part.setting.iloc[0]} | {key[0]} {key[1]} | {key[2]:g} |"
                f" {len(group)} | {percent(group.relative_regret.max())} |"
                f" {percent(group.median_relative_regret.max())} |"
                f" {group.welfare_to_equilibrium.min():.4f} to"
                f" {group.welfare_to_equilibrium.max():.4f} |"
            )

    for learner in PURE_LEARNERS:
        part = market[market.learner == learner]
        check(
            learner,
            part,
            "inside the PNE bracket, every counted regret <= 1e-6, all runs",
            (part.largest_counted_regret <= 1e-6) & (part.inside_bracket >= 1 - 1e-9),
        )
    for learner in MIXED_LEARNERS:
        part = market[market.learner == learner]
        check(
            learner,
            part,
            "inside the PNE bracket with chance >= 99% for every provider, relative regret <= 1%,"
            " all runs",
            (part.relative_regret <= 0.01) & (part.inside_bracket >= 0.99),
        )
        check(learner, part, "relative regret <= 1% alone", part.relative_regret <= 0.01)
    for learner in BANDITS:
        part = market[market.learner == learner]
        check(
            learner,
            part,
            "welfare within 2% of equilibrium, median relative regret <= 2%, all runs",
            ((part.welfare_to_equilibrium - 1).abs() <= 0.02)
            & (part.median_relative_regret <= 0.02),
        )
    for learner in PPOS:
        part = market[market.learner == learner]
        check(
            learner,
            part,
            "relative regret <= 1% and welfare within 1% in >= 90% of runs",
            (part.relative_regret <= 0.01) & ((part.welfare_to_equilibrium - 1).abs() <= 0.01),
            0.9,
        )
        check(
            learner,
            part,
            "no counted provider off its PNE level at a cost over 3%, all runs",
            (part.levels_exact == 1) | (part.largest_counted_regret <= 0.03),
        )
        part = auction[auction.learner == learner]
        check(
            learner,
            part,
            "auction: efficient winner and its level exact in >= 95% of runs",
            (part.efficient_winner >= 0.99) & (part.levels_off == 0),
            0.95,
        )
    head = "| learner | target | measured | |\n| --- | --- | --- | --- |\n"
    miss = (
        "| learner | setting | game | beta | runs that miss | largest relative regret | largest"
        " median regret | W / W(equilibrium) |\n| --- " + "| --- " * 7 + "|\n"
    )
    return head + "\n".join(rows), (miss + "\n".join(misses)) if misses else "None."


def impulse_section(out: Path) -> str:
    path = out / "results" / "impulse.csv"
    if not path.exists():
        return ""
    lines = [
        (
            "| duopoly | beta | sessions | collusion index | at a PNE | deviator gains at once |"
            " over 16 rounds | rival answers | both back after 15 |"
        ),
        "| --- " * 9 + "|",
    ]
    table = pd.read_csv(path)
    for row in table.itertuples():
        lines.append(
            f"| {row.benchmark} {row.method}: {row.providers} | {row.beta:g} | {row.sessions} |"
            f" {row.collusion_index:+.2f} ± {1.96 * row.collusion_index_se:.2f} |"
            f" {percent(row.at_equilibrium, 0)} | {row.deviator_gain_at_once:+.1%} |"
            f" {row.deviator_gain_over_window:+.1%} | {percent(row.answered, 0)} |"
            f" {percent(row.restored, 0)} |"
        )
    answered = (
        float((table.answered * table.deviation_exists).sum() / table.deviation_exists.sum())
        if table.deviation_exists.sum()
        else float("nan")
    )
    worse = int((table.deviator_gain_over_window < 0).sum())
    restored = (
        float((table.restored * table.deviation_exists).sum() / table.deviation_exists.sum())
        if table.deviation_exists.sum()
        else float("nan")
    )
    verdict = (
        "Learned compute lies between equilibrium and cartel (index"
        f" {table.collusion_index.min():.2f} to {table.collusion_index.max():.2f}). Provider 0 was"
        f" not already at its best reply in {percent(float(table.deviation_exists.mean()), 0)} of"
        " sessions. In these the rival changed its level in the next round in"
        f" {percent(answered, 0)}, and after 15 rounds both were back where they had been in"
        f" {percent(restored, 0)}; over the 16 rounds deviating left provider 0 worse off in"
        f" {worse} of {len(table)} duopolies. Gains are relative to the round before the deviation,"
        " as means of ratios: where greedy play runs in a cycle, that round can be a poor one for"
        " provider 0, and the ratio large."
    )
    return (
        "\n## Q-learning: is cooperation on compute punished and restored?\n\n`python -m"
        " baselines.impulse`: two Q-learners with memory of both last levels (Calvano et al. 2020),"
        " fixed prices, so that compute is all they can cooperate on; a cartel here means *more*"
        " compute, because list prices pay by the token. Provider 0 is forced for one round to its"
        " best reply. Mean paths: `results/impulse_paths.csv`.\n\n"
        + "\n".join(lines)
        + f"\n\n{verdict}\n\n![impulse](results/impulse.png)\n"
    )


def write(folder: Path, out: Path, suite: tuple[Entry, ...]) -> None:
    """Gather the cells in `folder` into `out`/results/*.csv, `out`/README.md and figures (where
    matplotlib is installed).
    """
    rows, missing = gather(folder, suite)
    final = last(rows)
    results = out / "results"
    significant = {
        c: final[c].map(lambda x: float(f"{x:.6g}")) for c in final.select_dtypes("float")
    }
    write_csv(results / "final.csv", final.assign(**significant))
    write_csv(
        results / "table.csv",
        aggregate(final).map(lambda x: float(f"{x:.6g}") if isinstance(x, float) else x),
    )
    curves = rows.groupby([*KEY[:3], "step"], as_index=False, sort=False)[
        ["nash_conv", "relative_regret", "welfare_to_equilibrium", "welfare_ratio"]
    ].mean()
    write_csv(
        results / "curves.csv",
        curves.map(lambda x: float(f"{x:.6g}") if isinstance(x, float) else x),
    )
    met, misses = targets(final)
    text = INTRO + "## Targets\n\n" + met + "\n\n### Cells that miss\n\n" + misses + "\n"
    reasons = out / "reasons.md"
    if reasons.exists():
        text += "\n" + reasons.read_text()
    for setting in SETTINGS:
        if (final.setting == setting).any():
            text += f"\n## {setting.capitalize()}\n\n" + setting_table(final, setting) + "\n"
    text += (
        "\n## Figures\n\n![NashConv against steps](results/nash_conv.png)\n\n![Learned"
        " welfare](results/welfare.png)\n" + impulse_section(out)
    )
    done = len(list(cells(suite))) - len(missing)
    text += f"\n## What was run\n\n{done} of the suite's {done + len(missing)} cells. " + (
        "Not run: " + "; ".join(_grouped(missing)) + ".\n" if missing else "None is missing.\n"
    )
    write_text(out / "README.md", text)
    try:
        from baselines import learning_figures
    except ImportError:
        print(
            "figures need matplotlib: pip install 'ttc-env[plot]'; tables were written without them"
        )
        return
    for name, figure in learning_figures.all_figures(rows, final, out).items():
        write_atomically(
            results / f"{name}.png", lambda path, figure=figure: figure.savefig(path, dpi=130)
        )


def _grouped(missing: list[str]) -> list[str]:
    """Missing cells as "learner in setting (count)"."""
    counts: dict[str, int] = {}
    for file in missing:
        learner, rest = file.split("/")
        name = f"{learner} in {rest.split('_')[0]}"
        counts[name] = counts.get(name, 0) + 1
    return [f"{name} ({count})" for name, count in counts.items()]
