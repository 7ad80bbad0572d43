"""The kept comparison of pricing rules: tables, figures and the page of `baselines/mechanisms`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from baselines.comparison import (
    DIGITS,
    ENTRANTS,
    LEARNED_BETA,
    LEARNERS,
    Part,
    gather,
)
from baselines.figures import TITLES
from baselines.records import rounded, write_csv, write_text
from ttc_env.atomic import write_bytes
from ttc_env.cli import _compare
from ttc_env.cli._output import png_bytes
from ttc_env.game.curves import BENCHMARKS, METHODS
from ttc_env.report.facts import LABELS

SHOWN_BETA = LEARNED_BETA
"""Of the figures and of the tables by rule."""
POSTED = ("market", "flat_fee", "pay_per_correct", "two_part")

PAGE = """# Which pricing rule? The nine published games

Written by `{command}`; `ttc-env compare` gives the exact
rows of any market without a checkout. Every rule is played in two ways: at list prices, where
providers choose compute alone, and on one grid of markups, where they choose compute and price.
Money is in USD per 1000 users, beside one first best for all rules: the largest quality less cost
of any provider. Numbers, with bands: `gsm8k.csv`, `aime.csv`, `gpqa.csv` (all rules, {cells} cells:
nine games at three betas), `users.csv` (users under the auction). Columns:
`help("ttc_env.game.comparison")`.

## The answer

{answer}

## For whom each rule is better or worse

Against pay per token at list prices (its worst equilibrium), in how many of the {cells} cells:

{whom}

## Benchmark by benchmark

At beta = {beta:g}, worst equilibrium where there are several, in the reading without tastes (users
who do not take the best offer err). Black lines: 90% bands of welfare over redrawn accuracies.
White marks: where learners ended. Tables: welfare with its band, what users keep of it,
over-compute in doublings of tokens over each provider's efficient level.

{benchmarks}

## Users under the auction

{users}

## As played by learners

{played}

## What to know

- **Each rule's own optimum is another number**, and a ratio to it compares nothing: rows `own
  optimum` of the tables have it. In GSM8K majority at beta 200, at list prices, pay per token could
  reach {own_market:.3f} and a flat fee {own_flat:.3f} USD per 1000 users, of a first best of
  {own_first:.3f}.
- **Free prices on a grid.** Choices are markups at the efficient level, from 0 to twice the largest
  markup in free prices, in steps of a quarter of an octave; nothing is capped by the grid. What is
  left of the grid's steps is below 1% of welfare.
- **Tastes.** If the noise in users' choices is taste, variety is worth something: rows with reading
  `with tastes`, beside a first best of their own. The two readings are never mixed.
- **Bands** are hulls of the quantiles over redrawn accuracies and of their mirror image
  (`ttc_env.game.resampling.interval`). The best of noisy numbers is too high on average, so that
  quantiles alone often miss the truth: in the simulations of `tests/game/test_resampling.py` a
  nominal 90% covered it in 1% to 98% of cases, the hull in 73% to 99%. Published accuracies are
  treated as counts over questions, which is an upper bound of their error.
- **Audit.** `audit_gain` is the most that a provider gains by leaving the efficient level at the
  neutral price (the list price; a bid at cost) while its rivals stay there, over all levels and
  prices of the same game, claims being verified.
- **Users of several types, lies and moving worlds** are not in these tables.
"""


def write(
    out: Path, work: Sequence[Part], folder: Path, users: pd.DataFrame, *, figures: bool = True
) -> None:
    """Gather the parts in `folder` into `out`: three tables, users.csv, figures, README.md."""
    tables = []
    missing: list[Part] = []
    for game in dict.fromkeys(part.game for part in work):
        of_game = [part for part in work if part.game == game]
        table, left = gather(of_game, folder)
        benchmark, method, beta = game.rsplit("-", 2)
        for at, (name, value) in enumerate(
            {"benchmark": benchmark, "method": method, "beta": float(beta)}.items()
        ):
            table.insert(at, name, value)
        tables.append(table)
        missing += left
    table = pd.concat(tables, ignore_index=True)
    for benchmark in BENCHMARKS:
        write_csv(
            out / f"{benchmark}.csv",
            rounded(table[table.benchmark == benchmark].drop(columns="cpu_seconds"), DIGITS),
        )
    write_csv(out / "users.csv", rounded(users, DIGITS))
    if figures:
        for benchmark in BENCHMARKS:
            write_bytes(out / f"{benchmark}.png", png_bytes(_figure(table, benchmark)))
    write_text(out / "README.md", page(table, users, missing))


def _figure(table: pd.DataFrame, benchmark: str) -> object:
    shown = table[(table.benchmark == benchmark) & (table.beta == SHOWN_BETA)]
    panels = {
        TITLES[method]: shown[shown.method == method].to_dict("records")
        for method in METHODS
        if (shown.method == method).any()
    }
    return _compare.figure(
        panels, f"{TITLES[benchmark]}: who gets the first best under each pricing rule"
    )


def page(table: pd.DataFrame, users: pd.DataFrame, missing: Sequence[Part]) -> str:
    """README.md."""
    own = table[
        (table.benchmark == "gsm8k") & (table.method == "majority") & (table.beta == 200)
        & (table.played_by == "own optimum") & (table.prices == "neutral")
        & (table.reading == "without tastes") & (table.options == "")
    ].set_index("mechanism")  # fmt: skip
    return PAGE.format(
        command="python -m scripts.compare_mechanisms --published",
        cells=len(users),
        beta=SHOWN_BETA,
        answer=_answer(table, users),
        whom=_whom(table),
        benchmarks="\n\n".join(_benchmark(table, benchmark) for benchmark in BENCHMARKS),
        users=_users(users),
        played=_played(table, missing),
        own_market=own.welfare.get("market", np.nan),
        own_flat=own.welfare.get("flat_fee", np.nan),
        own_first=own.first_best.get("market", np.nan),
    )


KEY = ["benchmark", "method", "beta"]


def _worst(table: pd.DataFrame, reading: str = "without tastes") -> pd.DataFrame:
    """Rows of worst equilibria."""
    worst = table.played_by.isin(["equilibrium", "equilibrium, worst"])
    return table[worst & (table.reading == reading)]


def _rule(table: pd.DataFrame, name: str, prices: str, option: str = "") -> pd.DataFrame:
    """A rule's worst equilibria, a row a cell."""
    rows = _worst(table)
    options = rows.options.str.partition("=")[0]
    return rows[(rows.mechanism == name) & (rows.prices == prices) & (options == option)].set_index(
        KEY
    )


def _answer(table: pd.DataFrame, users: pd.DataFrame) -> str:
    n = len(users)
    market, flat, right, two, cap = (
        _rule(table, name, "neutral")
        for name in ("market", "flat_fee", "pay_per_correct", "two_part", "price_cap")
    )
    auction = _rule(table, "auction", "markups")
    free = {name: _rule(table, name, "markups") for name in POSTED}
    free_cap = _rule(table, "price_cap", "markups")

    def percent(rows: pd.DataFrame, name: str, beta: float) -> str:
        part = 100 * (rows[name] / rows.first_best).xs(beta, level="beta")
        return f"{part.min():.0f} to {part.max():.0f}%"

    def count(flags: pd.Series) -> str:
        return f"{int(flags.sum())} of {n}"

    apart = max(
        float(
            ((free[name].welfare - free["market"].welfare).abs() / free["market"].first_best).max()
        )
        for name in POSTED
    )
    over = market.overcompute
    lines = [
        f"- **Pay per token at list prices over-computes** in {count(over > 1e-9)} cells, by up"
        f" to {over.max():.1f} doublings of tokens; at beta 200 that alone loses"
        f" {percent(market, 'lost_to_compute', 200.0)} of the first best.",
        f"- **A flat fee shades quality**: less compute than efficient in"
        f" {count(flat.overcompute < -1e-9)} cells, by up to {-flat.overcompute.min():.1f}"
        " doublings;"
        f" more in {int((flat.overcompute > 1e-9).sum())}. Paying for right answers does the same,"
        " by"
        f" less ({count(right.overcompute < -1e-9)} cells, up to"
        f" {-right.overcompute.min():.1f} doublings).",
        f"- **A two-part tariff and a cap at the efficient bill are efficient in compute** at list"
        f" prices ({count(two.overcompute.abs() < 1e-9)} and"
        f" {count(cap.overcompute.abs() < 1e-9)} cells). What is left is users' choice noise: at"
        " beta"
        f" 200 users keep {percent(two, 'user_value', 200.0)} of the first best.",
        "- **Let providers set prices, and the tariff hardly matters**: pay per token, flat fee,"
        " pay"
        f" per right answer and two-part tariff come within {100 * apart:.1f}% of the first best of"
        " each other. Compute is efficient; market power takes over: at beta 200 users keep"
        f" {percent(free['market'], 'user_value', 200.0)} of the first best and providers"
        f" {percent(free['market'], 'provider_profit', 200.0)}.",
        "- **A cap keeps users' value when prices are free** (beta 200:"
        f" {percent(free_cap, 'user_value', 200.0)}), but no longer efficient compute: providers"
        " ask"
        f" the cap at a low level, as under a flat fee (too little compute in"
        f" {count(free_cap.overcompute < -1e-9)} cells).",
        f"- **An auction reaches the first best** in {count(auction.efficiency > 1 - 1e-9)} cells:"
        " compute and choice noise are cured together. Users keep what the second best provider is"
        f" worth, {percent(auction, 'user_value', 200.0)} of the first best; that is less than"
        f" at list prices in {count(users.change < -1e-9)} cells (below).",
    ]
    return "\n".join(_wrapped(line) for line in lines)


def _wrapped(text: str, indent: str = "  ") -> str:
    import textwrap

    return textwrap.fill(
        text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _rules(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(mechanism, prices, option) in the order of the figures."""
    rows = rows.drop_duplicates(["mechanism", "prices", "options"])
    found = {(r.mechanism, r.prices, r.options.partition("=")[0]): None for r in rows.itertuples()}
    names, blocks = list(LABELS), list(_compare.BLOCKS)
    return sorted(found, key=lambda k: (blocks.index(k[1]), names.index(k[0]), k[2]))


def _label(name: str, option: str) -> str:
    return _compare.label({"mechanism": name, "options": f"{option}=" if option else ""})


def _whom(table: pd.DataFrame) -> str:
    base = _rule(table, "market", "neutral")
    lines = [
        "| rule | prices | users better | worse | providers better | worse | welfare better | worse"
        " |"
        " fewer tokens | change for users, median |",
        "| --- " * 10 + "|",
    ]
    for name, prices, option in _rules(_worst(table)):
        rows = _rule(table, name, prices, option).reindex(base.index)
        if (name, prices, option) == ("market", "neutral", ""):
            continue
        slack = 1e-9 * base.first_best
        cells = []
        for column in ("user_value", "provider_profit", "welfare"):
            change = rows[column] - base[column]
            cells += [f"{int((change > slack).sum())}", f"{int((change < -slack).sum())}"]
        fewer = int((rows.tokens < base.tokens * (1 - 1e-9)).sum())
        median = float(((rows.user_value - base.user_value) / base.first_best).median())
        lines.append(
            f"| {_label(name, option)} | {_compare.BLOCKS[prices]} | {' | '.join(cells)} |"
            f" {fewer} | {100 * median:+.1f}% of the first best |"
        )
    return "\n".join(lines)


def _benchmark(table: pd.DataFrame, benchmark: str) -> str:
    shown = table[(table.benchmark == benchmark) & (table.beta == SHOWN_BETA)]
    methods = [m for m in METHODS if (shown.method == m).any()]
    lines = [
        f"### {TITLES[benchmark]}",
        "",
        f"![{TITLES[benchmark]}: users, providers and losses by rule]({benchmark}.png)",
        "",
        "| rule | prices | " + " | ".join(
            f"{TITLES[m]}: welfare | users | over-compute" for m in methods
        ) + " |",
        "| --- " * (2 + 3 * len(methods)) + "|",
    ]  # fmt: skip
    for name, prices, option in _rules(_worst(shown)):
        cells = []
        for method in methods:
            row = _rule(shown[shown.method == method], name, prices, option)
            if len(row) != 1:
                cells.append("- | - | -")
                continue
            r = row.iloc[0]
            if np.isnan(r.welfare):
                cells.append("no pure equilibrium | - | -")
                continue
            cells.append(
                f"{r.welfare:.2f} [{r.welfare_low:.2f}, {r.welfare_high:.2f}] | {r.user_value:.2f}"
                " |"
                f" {r.overcompute + 0.0:+.2f}"
            )
        lines.append(
            f"| {_label(name, option)} | {_compare.BLOCKS[prices]} | {' | '.join(cells)} |"
        )
    firsts = _rule(shown, "market", "neutral")
    best = [f"{TITLES[m]} {firsts.xs(m, level='method').first_best.max():.2f}" for m in methods]
    several = _worst(shown)
    several = several[several.equilibria > 1]
    note = f"First best: {', '.join(best)} USD per 1000 users."
    if len(several):
        what = sorted(
            {
                f"{TITLES[r.method]}: {_compare.label(r._asdict())} ({r.prices})"
                for r in several.itertuples()
            }
        )
        note += (
            " Several equilibria, of which the table shows the worst (the file has the best, too): "
            + "; ".join(what) + "."
        )  # fmt: skip
    return "\n".join(lines) + "\n\n" + _wrapped(note, "")


def _users(users: pd.DataFrame) -> str:
    n = len(users)
    lose = users[users.change < -1e-9]
    keeps = int((users.users_with_reserve < users.users_market - 1e-9).sum())
    whole = int((users.welfare_with_reserve > users.best_surplus - 1e-9).sum())
    free = int((users.users_auction < users.users_free_prices).sum())
    tastes = int((users.users_auction < users.users_market_with_tastes).sum())
    taste = int((users.users_taste_auction < users.users_market_with_tastes).sum())
    taste_free = int((users.users_taste_auction < users.users_free_prices_with_tastes).sum())
    at = {beta: int((lose.beta == beta).sum()) for beta in (200.0, 1000.0, 100000.0)}
    entrants = {k: int((users[f"loses_{k}_entrants"] > 0.5).sum()) for k in ENTRANTS}
    text = [
        f"**Where.** Users keep less under the auction than at list prices in {len(lose)} of {n}"
        " cells:"
        f" {at[200.0]} at beta 200, {at[1000.0]} at beta 1000, {at[100000.0]} at beta 100000.",
        "**Why.** Under the auction users keep the surplus of the *second best* provider, the"
        " winner its"
        " lead. At list prices users keep the value of what they choose, nearly all of the surplus"
        " since"
        " list prices are only a margin of 25% over cost. So users lose where they choose well"
        " (high"
        " beta), and where one provider is far ahead: the lead goes to the winner.",
        f"**Against free prices** the auction is worse for users in {free} of {n} cells only: it is"
        " the"
        " list price that protects users there, not the market.",
        "**A reserve** at what users keep today ends it: nobody loses"
        f" ({keeps} of {n} cells), and welfare stays the first best in {whole} of {n}. Users never"
        " keep"
        " more than the best surplus at list prices, so that the winner can always meet the"
        " reserve.",
        "**More entrants** help where one provider is ahead, and not where users already choose"
        " well:"
        f" with {', '.join(map(str, ENTRANTS))} further providers drawn like the published ones"
        " users lose in"
        f" most draws in {', '.join(str(entrants[k]) for k in ENTRANTS)} of {n} cells. The market"
        " at list"
        " prices gains from entrants as well.",
        "**Tastes.** If choice noise is taste, one winner for everybody is a loss of variety: users"
        " then"
        f" keep less under the auction than at list prices in {tastes} of {n} cells. An auction"
        " with"
        " tastes, held user by user, is efficient, but gives providers as much market power as"
        " free"
        f" prices do: users keep less than at list prices in {taste} of {n} cells, and less than"
        " under"
        f" free prices in {taste_free} of {n}.",
    ]
    lines = [
        "| game | beta | market, list | auction | change | best, second surplus | with reserve |"
        " free prices | loses with " + ", ".join(map(str, ENTRANTS)) + " entrants |",
        "| --- " * 9 + "|",
    ]
    for r in lose.to_dict("records"):
        chances = ", ".join(f"{r[f'loses_{k}_entrants']:.0%}" for k in ENTRANTS)
        lines.append(
            f"| {TITLES[r['benchmark']]}, {TITLES[r['method']]} | {r['beta']:g} |"
            f" {r['users_market']:.2f} | {r['users_auction']:.2f} | {r['change']:+.2f} |"
            f" {r['best_surplus']:.2f}, {r['second_surplus']:.2f} | {r['users_with_reserve']:.2f} |"
            f" {r['users_free_prices']:.2f} | {chances} |"
        )
    return "\n\n".join(_wrapped(part, "") for part in text) + "\n\n" + "\n".join(lines)


def _signed(x: float) -> str:
    """One digit, and no -0.0."""
    return f"{round(x, 1) + 0.0:+.1f}"


def _played(table: pd.DataFrame, missing: Sequence[Part]) -> str:
    shown = table[(table.beta == LEARNED_BETA)]
    reading = np.where(shown.mechanism == "taste_auction", "with tastes", "without tastes")
    shown = shown[shown.reading == reading]
    key = ["benchmark", "method", "mechanism", "options", "prices"]
    worst = shown[shown.played_by.isin(["equilibrium", "equilibrium, worst"])].set_index(key)
    names = {one.name: _compare.LEARNERS[one.name][0] for one in LEARNERS}
    heads = " | ".join(f"{text}: welfare | users | NashConv" for text in names.values())
    lines = [f"| rule | prices | {heads} |", "| --- " * (2 + 3 * len(LEARNERS)) + "|"]
    far_off: dict[str, list[str]] = {}
    for name, prices, option in _rules(shown):
        cells = []
        for learner, text in names.items():
            rows = shown[
                (shown.played_by == learner) & (shown.mechanism == name) & (shown.prices == prices)
                & (shown.options.str.partition("=")[0] == option)
            ].set_index(key)  # fmt: skip
            if not len(rows):
                cells.append("- | - | -")
                continue
            exact = worst.loc[rows.index]
            for column in ("welfare", "user_value"):
                gap = 100 * (rows[column] - exact[column]) / exact.first_best
                far = float(gap.loc[gap.abs().idxmax()])
                cells.append(f"{_signed(float(gap.mean()))}% ({_signed(far)}%)")
            nash = 100 * float((rows.nash_conv / rows.first_best).mean())
            cells.append(f"{nash:.2f}%")
            if nash > 1:
                far_off.setdefault(text, []).append(f"{_label(name, option)} ({prices})")
        lines.append(
            f"| {_label(name, option)} | {_compare.BLOCKS[prices]} | {' | '.join(cells)} |"
        )
    budgets = "; ".join(
        f"{names[one.name]} {one.steps:,} steps"
        + (f" (in {one.parallel} markets at once)" if one.parallel > 1 else "")
        for one in LEARNERS
    )
    once = table.drop_duplicates([*KEY, *key[2:], "played_by"])
    cpu = ", ".join(
        f"{text} {once[once.played_by == name].cpu_seconds.sum() / 60:.0f}"
        for name, text in names.items()
    )
    text = [
        f"At beta {LEARNED_BETA:g}, five seeds each: {budgets}. Budgets are the same for all rules"
        f" and games. CPU minutes in all: {cpu}. Shown: what learners came to less the worst"
        " equilibrium, mean over games and, in brackets, the game furthest off; and the sum of"
        " regrets (NashConv); all in percent of the first best. The auction with tastes is in the"
        " reading with tastes.",
        "Learners that reach an auction's winner may still leave users another amount than truth"
        " does: what losers bid is a matter of indifference to them, and users keep the second"
        " score. A reserve limits the damage.",
    ]
    text += [
        f"NashConv above 1%, so that {learner} is not at an equilibrium after these steps:"
        f" {', '.join(rules)}."
        for learner, rules in far_off.items()
    ]
    if missing:
        count = pd.Series([part.learner.name if part.learner else "exact" for part in missing])
        left = (f"{k} in {v} of its rules and games" for k, v in count.value_counts().items())
        text.append(f"Not run: {', '.join(left)}; the same command goes on.")
    return "\n\n".join(_wrapped(part, "") for part in text) + "\n\n" + "\n".join(lines)
