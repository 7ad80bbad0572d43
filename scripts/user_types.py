"""How often the published markets have no pure equilibrium if users are not all alike.

    python -m scripts.user_types                  # into baselines/user_types; some minutes
    python -m scripts.user_types --games 10 --out results/user_types

Half of the users are as in the paper, with a beta from 10 to 100,000; the other half differs in
one way (SETTINGS). For each of the nine published markets and every beta all pure equilibria at
list prices are found, or it is certified that none exists. `games.csv` has a row a game,
`counts.csv` a row a setting, `user_types.png` shows where games without equilibrium are, and
README.md says what came out. A game
takes a tenth of a second to a second; interrupted, the command writes nothing.
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
from baselines.published import GAMES
from baselines.records import write_atomically, write_csv, write_text
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.rules.user_types import UserTypes
from ttc_env.game.types import Market

#: What the other half of users has, as factors on the market's: of beta, and of alpha.
SETTINGS = {
    "beta x 3": (3.0, 1.0),
    "beta x 10": (10.0, 1.0),
    "beta x 100": (100.0, 1.0),
    "alpha x 4": (1.0, 4.0),
}


def mechanism_of(market: Market, setting: str) -> Mechanism:
    """The pay-per-token market with both halves of users."""
    beta, alpha = SETTINGS[setting]
    assert market.alpha is not None
    other = ttc_env.UserType(0.5, beta=beta * market.beta, alpha=alpha * market.alpha)
    return ttc_env.make_mechanism("market", types=[ttc_env.UserType(0.5), other])


def game(market: Market, setting: str) -> dict[str, Any]:
    """One row of `games.csv`."""
    mechanism = mechanism_of(market, setting)
    rule = mechanism.rule
    assert isinstance(rule, UserTypes)
    found = rule.equilibria(mechanism, market)
    count = len(found.profiles)
    nearest = rule.least_regret(mechanism, market) if not count else None
    return {
        "benchmark": market.benchmark,
        "method": market.method,
        "setting": setting,
        "beta": market.beta,
        "equilibria": count,
        "complete": found.complete,
        "least_regret": 0.0 if nearest is None else nearest.relative,
        "least_regret_exact": True if nearest is None else nearest.exact,
    }


def counts(games: pd.DataFrame) -> pd.DataFrame:
    """`counts.csv`: a row a setting. least_regret: of the games without equilibrium."""
    rows = []
    for setting, group in games.groupby("setting", sort=False):
        none = group[group.equilibria == 0]
        rows.append(
            {
                "setting": setting,
                "games": len(group),
                "no_equilibrium": len(none),
                "several": int((group.equilibria > 1).sum()),
                "certified": int(group.complete.sum()),
                "least_regret_median": none.least_regret.median(),
                "least_regret_max": none.least_regret.max(),
            }
        )
    return pd.DataFrame(rows)


PAGE = """# Users who differ, and games without a pure equilibrium

Written by `{command}`: {games} games a row, the nine published
markets at list prices with beta from 10 to 100,000. Half of the users are as in the market; the
other half differs as the row says. All pure equilibria were found, or it was certified that none
exists, in {certified} of {all} games (GAME.md, theorem 22).

![Share of markets without a pure equilibrium, over beta](user_types.png)

| other half of users | no pure equilibrium | several | least regret (median) | (largest) |
| --- | --- | --- | --- | --- |
{rows}

**Least regret** is that of the profile nearest to an equilibrium: the largest share of its best
profit that any provider would gain by changing its level alone. Where it is large no pure profile
is close to stable; where it is tiny, a pure profile will do for all practical purposes.

With one type best replies rise with the value that rivals offer (GAME.md, theorem 3), and so an
equilibrium exists. With several types they need not (theorem 17).

{details}
"""


def page(games: pd.DataFrame, table: pd.DataFrame, command: str) -> str:
    """README.md: the counts in words."""

    def percent(x: float) -> str:
        return "-" if np.isnan(x) else f"{x:.3%}" if x < 0.001 else f"{x:.1%}"

    rows = [
        f"| {row.setting} | {row.no_equilibrium} of {row.games}"
        f" ({row.no_equilibrium / row.games:.1%}) | {row.several} |"
        f" {percent(row.least_regret_median)} | {percent(row.least_regret_max)} |"
        for row in table.itertuples()
    ]
    by_market = games.assign(none=games.equilibria == 0).pivot_table(
        index=["benchmark", "method"], columns="setting", values="none", aggfunc="sum", sort=False
    )
    details = [
        f"Games without equilibrium by market, of {len(games.beta.unique())} each:",
        "",
        f"| market | {' | '.join(by_market.columns)} |",
        f"| --- |{' --- |' * len(by_market.columns)}",
        *(
            f"| {' '.join(market)} | {' | '.join(str(int(x)) for x in row)} |"
            for market, row in zip(by_market.index, by_market.to_numpy(), strict=True)
        ),
    ]
    return PAGE.format(
        command=command,
        games=int(table.games.iloc[0]),
        certified=int(table.certified.sum()),
        all=int(table.games.sum()),
        rows="\n".join(rows),
        details="\n".join(details),
    )


def figure(games: pd.DataFrame) -> Any:
    """The share of markets without a pure equilibrium, over beta."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    drawn = Figure(figsize=(7, 3.6), layout="constrained")
    axis = drawn.subplots()
    colours = dict(zip(SETTINGS, ("#e0a458", "#cc6f3c", "#8c2d1e", "#2b6a99"), strict=True))
    betas = np.sort(games.beta.unique())
    # Neighbouring betas together: nine markets alone make coarse steps.
    bins = np.geomspace(betas[0], betas[-1], min(21, len(betas) + 1))
    middles = np.sqrt(bins[1:] * bins[:-1])
    for setting, group in games.groupby("setting", sort=False):
        which = np.clip(np.searchsorted(bins, group.beta, side="right") - 1, 0, len(middles) - 1)
        share = (group.equilibria == 0).groupby(which).mean().reindex(range(len(middles)))
        label = (
            f"{str(setting).replace('x', 'times')} ({(group.equilibria == 0).mean():.0%} of games)"
        )
        axis.plot(middles, share, color=colours[str(setting)], lw=2.2, label=label)
    axis.legend(title="the other half has", fontsize=9, frameon=False, loc="upper right")
    axis.set_xscale("log")
    axis.set_xlabel("beta of the first half of users, 1/USD", fontsize=9)
    axis.set_ylabel("markets without a pure equilibrium", fontsize=9)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_ylim(0, None)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(
        "Where users differ in how closely they look, pure equilibria vanish", fontsize=11
    )
    return drawn


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.user_types",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--games", type=int, default=100, help="betas per market (default 100)")
    parser.add_argument("--out", type=Path, default=Path("baselines/user_types"))
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.games < 1:
        parser.error(f"--games is {options.games}; it must be at least 1")
    from tqdm import tqdm

    betas = np.geomspace(10.0, 1e5, options.games)
    cells = [
        (setting, benchmark, method, float(beta))
        for setting in SETTINGS
        for benchmark, method in GAMES
        for beta in betas
    ]
    rows = [
        game(ttc_env.load_market(benchmark, method, beta=beta), setting)
        for setting, benchmark, method, beta in tqdm(cells, unit="game", disable=options.quiet)
    ]
    games = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "games.csv", games)
    table = counts(games)
    write_csv(options.out / "counts.csv", table)
    write_atomically(
        options.out / "user_types.png",
        lambda temporary: figure(games).savefig(temporary, dpi=150, format="png"),
    )
    command = f"python -m scripts.user_types --games {options.games}"
    write_text(options.out / "README.md", page(games, table, command))
    print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
