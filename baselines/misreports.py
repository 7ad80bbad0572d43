"""Which fine keeps providers honest in the published games, who pays where it does not, and at
which fine learners stop lying. `python -m scripts.misreports` writes what is kept here under
`baselines/misreports/`.

Learners play many fines at once: a fine is a column of their batch, as a seed is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ttc_env
from agents import Feedback, Payoffs, agent_class, make_role
from baselines.published import GAMES
from ttc_env.envs.config import make_config
from ttc_env.game.curves import STUDIED_BETAS
from ttc_env.game.deterrence import Deterrence, Fines, deterrence
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.solution import Profile
from ttc_env.game.types import Array, Market

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "market": ("market", {}),
    "market, bills seen before": ("market", {"noticed": True}),
    "flat fee": ("flat_fee", {}),
    "pay per correct": ("pay_per_correct", {}),
    "two-part": ("two_part", {}),
    "price cap": ("price_cap", {}),
    "auction, settled on delivery": ("auction", {"settlement": "delivered"}),
    "auction, settled on the claim": ("auction", {"settlement": "claimed"}),
}
"""Mechanisms by the name in the tables, and their options; prices are the neutral ones."""

LEARNERS: dict[str, int] = {"best_response": 300, "regret_matching": 1500, "epsilon_greedy": 6000}
"""Rounds of each learner."""

PLAYED = ("market", "flat fee")
"""Rules that learners play: every lie about tokens and levels, and under-serving alone."""

MULTIPLES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.01, 1.1, 1.5, 2.0)
"""Expected fines that learners play under, over the frontier."""

USERS = 1000  # money in tables is per 1000 users, or per 1000 queries


def frontier_table(
    games: Sequence[tuple[str, str]] = GAMES,
    betas: Sequence[float] = STUDIED_BETAS,
    progress: Callable[[list[Any]], Iterable[Any]] = iter,
) -> pd.DataFrame:
    """A row for each game, beta and rule: the frontier at the honest equilibrium of least welfare,
    and who pays for lies if nobody is fined.
    """
    rows = []
    cells = [(game, beta, rule) for game in games for beta in betas for rule in RULES]
    for (benchmark, method), beta, rule in progress(cells):
        name, options = RULES[rule]
        market = ttc_env.load_market(benchmark, method, beta=beta)
        found = deterrence(market, name, **options)
        where = {"benchmark": benchmark, "method": method, "beta": beta, "rule": rule}
        rows.append({**where, **_frontier(found), **_payers(found)})
    return pd.DataFrame(rows)


def _worst(found: Deterrence) -> int:
    """The honest equilibrium of least welfare."""
    table = found.mechanism.offers(found.market)
    played = found.mechanism.play(table.take(found.honest.T), found.market)
    return int(np.asarray(played.welfare).argmin())


def _frontier(found: Deterrence) -> dict[str, Any]:
    k = _worst(found)
    kinds = {kind: USERS * line[k] for kind, line in found.by_kind.items()}
    lie = found.binding(k)
    market = found.market
    return {
        "honest_equilibria": len(found.honest),
        "frontier": USERS * found.line[k],
        **{kind: kinds.get(kind, np.nan) for kind in ("over_report", "under_serve", "over_claim")},
        "at_own_level": USERS * found.at_own_level[k],
        "lie": "" if lie is None else str(lie.report),
        "liar": "" if lie is None else market.names[lie.provider],
        "level": np.nan if lie is None else market.providers[lie.provider].levels[lie.level],
    }


def _payers(found: Deterrence) -> dict[str, Any]:
    """Without a fine: one liar among honest rivals, and the equilibrium with lies."""
    k, market, mechanism = _worst(found), found.market, found.mechanism
    row: dict[str, Any] = {}
    one = found.best_lie(k)
    alone = None if one is None else one[1]
    for who in ("users", "liars", "rivals", "welfare"):
        row[f"one_{who}"] = 0.0 if alone is None else USERS * getattr(alone, who)
    solution = ttc_env.solve(market, mechanism)
    row["equilibria"] = len(solution.equilibria)
    lying = solution.worst
    paid = ttc_env.who_pays(market, mechanism, lying, found.honest[k])
    row["all_lying"] = len(paid.who)
    for who in ("users", "liars", "rivals", "welfare"):
        row[f"all_{who}"] = USERS * getattr(paid, who)
    return row


# --- learners -------------------------------------------------------------------------------------


def learn(
    market: Market,
    mechanism: Mechanism,
    fines: Sequence[float],
    learner: str,
    *,
    rounds: int,
    seeds: Sequence[int] = (0, 1, 2),
) -> Array:
    """`[fines, n]` how likely each provider lies by what it has learned, a mean over seeds.

    Every provider learns. All fines are played at once, side by side.

    Args:
        mechanism: with the lies that may be told; its own fine is not used.
        fines: expected ones, USD per query served with a lie.
        learner: a name in `agents.AGENTS` that reads no observations.
        rounds: how long.
    """
    config = make_config(mechanism, market=market, infos="basic")
    n, columns = market.num_providers, len(fines) * len(seeds)
    # Each column is a seed of its own to the learner.
    numbers = [int(seed) * 1000 + f for f in range(len(fines)) for seed in seeds]
    agent = agent_class(learner)(make_role(config, range(n), numbers, rounds))
    game, rule = Fines(mechanism, market), mechanism.rule
    table = game.offers(np.repeat(np.asarray(fines, dtype=np.float64), len(seeds)))  # [n, a, b]
    at = np.arange(n)[:, None], np.arange(columns)
    for _ in range(rounds):
        actions = agent.act()
        offer = table.map(lambda x, actions=actions: x[at[0], actions, at[1]])
        played = rule.play(offer, market)
        payoffs = None
        if agent.feedback == "full":
            payoffs = Payoffs(*rule.deviations(table, offer, market))
        agent.observe(
            Feedback(
                action=actions,
                reward=config.users * played.utility,
                over=False,
                actions=actions if agent.sees_rivals else None,
                shares=played.share if agent.sees_rivals else None,
                payoffs=payoffs,
            )
        )
        agent.update()
    lying = agent.strategy()[:, game.lies].sum(axis=1)  # [n, b]
    return lying.reshape(n, len(fines), len(seeds)).mean(axis=2).T


def learner_table(
    games: Sequence[tuple[str, str]] = GAMES,
    beta: float = STUDIED_BETAS[0],
    *,
    learners: dict[str, int] | None = None,
    multiples: Sequence[float] = MULTIPLES,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Callable[[list[Any]], Iterable[Any]] = iter,
) -> pd.DataFrame:
    """A row for each game, rule, player and fine: the share of providers that lie, by what learners
    have learned and in the exact equilibrium (`equilibrium`).
    """
    chosen = LEARNERS if learners is None else learners
    rows = []
    everybody = ("equilibrium", *chosen)
    players = [(g, rule, player) for g in games for rule in PLAYED for player in everybody]
    for (benchmark, method), rule, player in progress(players):
        market = ttc_env.load_market(benchmark, method, beta=beta)
        found = deterrence(market, RULES[rule][0])
        line = found.line[_worst(found)]
        fines = [line * x for x in multiples]
        if player == "equilibrium":
            lying = [_in_equilibrium(found.mechanism, market, fine) for fine in fines]
        else:
            lying = learn(
                market, found.mechanism, fines, player, rounds=chosen[player], seeds=seeds
            ).mean(axis=1)
        rows += [
            {
                "benchmark": benchmark, "method": method, "beta": beta, "rule": rule,
                "player": player, "fine_over_frontier": multiple,
                "expected_fine": USERS * fine, "lying": share,
            }
            for multiple, fine, share in zip(multiples, fines, lying, strict=True)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _in_equilibrium(mechanism: Mechanism, market: Market, fine: float) -> float:
    """The largest share of liars in any equilibrium under an expected fine."""
    from dataclasses import replace

    misreports = replace(mechanism.misreports, audit_rate=1.0, fine=fine)
    solution = ttc_env.solve(market, replace(mechanism, misreports=misreports))
    lies: Profile = solution.lies
    return float(lies.mean(axis=1).max()) if len(lies) else float("nan")


def stops(table: pd.DataFrame, least: float = 0.01) -> pd.DataFrame:
    """The smallest fine, over the frontier, from which on less than `least` of play is lies: a row
    for each game and a column for each player; NaN where lying never ends.
    """

    def first(rows: pd.DataFrame) -> float:
        rows = rows.sort_values("fine_over_frontier")
        lies = np.flatnonzero(~(rows.lying.to_numpy() < least))
        after = 0 if not len(lies) else int(lies[-1]) + 1
        return float(rows.fine_over_frontier.iloc[after]) if after < len(rows) else float("nan")

    keys = ["benchmark", "method", "rule", "player"]
    found = [(*key, first(rows)) for key, rows in table.groupby(keys, sort=False)]
    frame = pd.DataFrame(found, columns=[*keys, "stops"])
    return frame.pivot_table(
        index=keys[:-1], columns="player", values="stops", sort=False, dropna=False
    ).reset_index()


# --- figure and words ----------------------------------------------------------------------------

_TITLES = {"gsm8k": "GSM8K", "aime": "AIME", "gpqa": "GPQA"}
_METHODS = {"majority": "majority", "best_of_n": "best of n", "reasoning": "reasoning"}
_PLAYERS = {
    "equilibrium": ("exact equilibrium", "#cccccc", "-"),
    "best_response": ("best response", "#2b6a99", "o"),
    "regret_matching": ("regret matching", "#b5482d", "x"),
    "epsilon_greedy": ("epsilon-greedy", "#4f8f5b", "s"),
}
_RULES = {"market": "pay per token"}
_BARS = {
    "market": "#b5482d",
    "two-part": "#7a5195",
    "price cap": "#d79a2b",
    "flat fee": "#4f8f5b",
    "pay per correct": "#2b6a99",
}


def figure(frontier: pd.DataFrame, learners: pd.DataFrame) -> Figure:
    """Left, the frontier of each game by rule; right, who lies at which fine."""
    drawn = Figure(figsize=(13, 4.4), layout="constrained")
    left, *others = drawn.subplots(1, 3, width_ratios=(1.6, 1, 1))
    beta = frontier.beta.min()
    rows = frontier[frontier.beta == beta]
    games = list(dict.fromkeys(zip(rows.benchmark, rows.method, strict=True)))
    width = 0.8 / len(_BARS)
    for j, (rule, colour) in enumerate(_BARS.items()):
        lines = rows[rows.rule == rule].frontier.to_numpy()
        place = np.arange(len(games)) + (j - (len(_BARS) - 1) / 2) * width
        left.bar(place, np.maximum(lines, 1e-4), width, color=colour, label=_RULES.get(rule, rule))
    left.set_yscale("log")
    left.set_ylim(bottom=3e-4)
    names = [f"{_TITLES.get(b, b)}\n{_METHODS.get(m, m)}" for b, m in games]
    left.set_xticks(range(len(games)), names, fontsize=6.5)
    left.set_ylabel("expected fine that deters, USD per 1000 queries", fontsize=8)
    left.set_title(f"Paying by the token needs the largest fines (beta = {beta:g})", fontsize=10)
    left.legend(fontsize=8, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.0))
    left.set_ylim(top=left.get_ylim()[1] * 4)
    for axis, rule, words in zip(
        others, PLAYED, ("pay per token, any lie", "flat fee, under-serving"), strict=True
    ):
        for player, (label, colour, marker) in _PLAYERS.items():
            mine = learners[(learners.player == player) & (learners.rule == rule)]
            mean = mine.groupby("fine_over_frontier").lying.mean()
            exact = player == "equilibrium"
            axis.plot(
                mean.index, 100 * mean, marker, color=colour, label=label, ms=6,
                lw=4 if exact else 1, fillstyle="none", zorder=1 if exact else 2,
            )  # fmt: skip
        axis.axvline(1.0, color="#999999", lw=1, ls="--")
        axis.text(1.03, 97, "deterrence\nfrontier", fontsize=8, color="#666666", va="top")
        axis.set_xlabel("expected fine / frontier of the game", fontsize=8)
        axis.set_ylim(-3, 103)
        axis.set_title(f"Who lies ({words})", fontsize=10)
    others[0].set_ylabel("providers that lie, % (mean of the games)", fontsize=8)
    others[0].legend(fontsize=8, frameon=False, loc="center right")
    for axis in (left, *others):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", labelsize=8)
    for axis in others:
        axis.tick_params(axis="x", labelsize=8)
    return drawn


def report(frontier: pd.DataFrame, learners: pd.DataFrame, command: str) -> str:
    """The README of the kept results: what the tables say, in words."""
    beta = frontier.beta.min()
    at = frontier[frontier.beta == beta]
    by_rule = {rule: rows for rule, rows in at.groupby("rule", sort=False)}
    market = by_rule["market"]
    token, cap, flat = (by_rule[x].frontier for x in ("market", "price cap", "flat fee"))
    claimed = by_rule["auction, settled on the claim"]
    delivered = frontier[frontier.rule == "auction, settled on delivery"].frontier.max()
    low = frontier[(frontier.frontier > 0) & (frontier.at_own_level < 0.999 * frontier.frontier)]
    positive = frontier[frontier.frontier > 0]
    ends = stops(learners)
    players = [name for name in _PLAYERS if name in ends]
    worst = ends[players].max(skipna=False)
    seen = by_rule["market, bills seen before"]
    hurt = at[at.one_rivals < -1e-9]
    winners = frontier[(frontier.all_users > 1e-9)]
    count = len(frontier[frontier.rule == "auction, settled on delivery"])
    paragraphs = [
        f"""Written by `{command}`: `frontier.csv` (a row for each game, beta and rule; USD per 1000
        queries, or per 1000 users), `learners.csv` (who lies at which fine). Lies have their
        default sizes: tokens billed 1.25, 1.5 or 2 times, any lower level than the one announced,
        claims of 1.25, 1.5 or 2 times the quality. What the frontier is:
        [GAME.md](../../ttc_env/game/GAME.md), theorems 18 and 19.""",
        "![Frontiers, and who lies at which fine](misreports.png)",
        f"""**How large must a fine be?** At beta = {beta:g} honest play of the pay-per-token market
        survives from an expected fine of {token.min():.2f} to {token.max():.2f} USD per 1000
        queries on, by game: {_share(market):.2f} times the liar's list price at the median. So if
        one query in a hundred is audited, the fine is about a hundred bills. A price cap needs
        {_ratio(token, cap)} times less at the median, a flat fee {_ratio(token, flat)} times less:
        where nobody bills by the token, what is left is to serve less than was announced. An
        auction that settles on the quality delivered needs no fine (the largest of {count} cells:
        {delivered:g}); one that settles on the claim needs {claimed.frontier.min():.1f} to
        {claimed.frontier.max():.1f} USD per 1000 queries.""",
        f"""**Showing the bill before users choose** lowers the fine against over-reports from
        {market.over_report.median():.2f} to {seen.over_report.median():.2f} USD per 1000 queries at
        the median, at beta = {beta:g}: users leave a provider whose bill is higher.""",
        f"""**It is not enough to look at lies at the honest level.** In {len(low)} of
        {len(positive)} cells with a positive frontier the binding lie is told at another level, and
        the line for the honest level alone is too low.""",
        f"""**Who pays?** Without fines, users do: in the pay-per-token market at beta = {beta:g}
        the equilibrium with lies leaves them {-market.all_users.max():.2f} to
        {-market.all_users.min():.2f} USD per 1000 users less than the honest one. One liar among
        honest rivals takes profit from them in {len(hurt)} of {len(at)} cells, up to
        {-at.one_rivals.min():.3f} USD per 1000 users; an over-report that is not noticed takes
        nothing from rivals, since users choose as before. {_winners(winners)}""",
        f"""**At which fine do learners stop?** Every provider learns, at beta =
        {learners.beta.iloc[0]:g}, in the pay-per-token market and under a flat fee; a provider
        counts as lying by the probability of lies in what it has learned. Smallest fine tried, over
        the frontier, from which on less than 1% of play is lies:""",
        _markdown(ends, players),
        _verdict(worst, players),
    ]
    pages = [x if x.startswith(("|", "!")) else _wrapped(x) for x in paragraphs]
    return "\n\n".join(["# Lies, fines, and who pays", *pages]) + "\n"


def _wrapped(text: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, 100, break_long_words=False, break_on_hyphens=False)


def _share(rows: pd.DataFrame) -> float:
    """The frontier over the list price of the binding lie's provider and level, at the median."""
    shares = []
    for row in rows.itertuples():
        if not row.liar:
            continue
        market = ttc_env.load_market(row.benchmark, row.method, beta=row.beta)
        i = market.names.index(row.liar)
        at = int(np.flatnonzero(market.providers[i].levels == row.level)[0])
        shares.append(row.frontier / (USERS * market.price[i, at]))
    return float(np.median(shares))


def _ratio(one: pd.Series, other: pd.Series) -> str:
    return f"{np.median(one.to_numpy() / other.to_numpy()):.0f}"


def _winners(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "Users lose by lies under every rule."
    rules = ", ".join(f"{rule} ({len(part)})" for rule, part in rows.groupby("rule", sort=False))
    return (
        f"There are cells in which users are better off in the equilibrium with lies than in the"
        f" honest one: {rules}. There lies move levels or choices in their favour by more than they"
        " cost."
    )


def _markdown(ends: pd.DataFrame, players: list[str]) -> str:
    head = "| game | rule | " + " | ".join(_PLAYERS[name][0] for name in players) + " |"
    lines = [head, "| --- | --- |" + " --- |" * len(players)]
    for row in ends.to_dict("records"):
        game = f"{_TITLES.get(row['benchmark'], row['benchmark'])}, {row['method']}"
        cells = ["never" if np.isnan(row[name]) else f"{row[name]:g}" for name in players]
        lines.append(
            f"| {game} | {_RULES.get(row['rule'], row['rule'])} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _verdict(worst: pd.Series, players: list[str]) -> str:
    done = [name for name in players if worst[name] <= 1.01]
    late = [name for name in players if name not in done]
    text = []
    if done:
        names = ", ".join(_PLAYERS[name][0] for name in done)
        text.append(f"In all games lying ends at the frontier, or below it: {names}.")
    for name in late:
        until = "not at any fine tried" if np.isnan(worst[name]) else f"by {worst[name]:g} times it"
        text.append(
            f"In some game {_PLAYERS[name][0]} goes on past the frontier, and stops {until}."
        )
    return " ".join(text)
