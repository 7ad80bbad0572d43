"""One policy for every market: what it bids and which levels it chooses on markets that it never
saw. `python -m scripts.one_policy` writes what is kept here under `baselines/one_policy/`.

A policy (`agents/one_policy.py`) is trained on markets new in each episode: 2 to 9 providers
like the published ones, users with beta from 100 to 200,000. It is scored where its play without
exploration is after some rounds, against the exact solution (`baselines/evaluation.py`), on

- `held out`: random markets of the same kinds, from a seed of their own;
- `published`: the nine games of the paper at its betas, none of which is among the drawn.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ttc_env
from agents import checkpoint, make_agents
from agents.base import pure, sample
from agents.one_policy import OnePolicy, Settings, Source, train
from baselines.evaluation import Evaluator
from baselines.published import GAMES
from baselines.suite import SETTINGS
from ttc_env.envs.config import EnvConfig, make_config
from ttc_env.game.curves import STUDIED_BETAS
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.types import Array, Market

BETAS = (100.0, 2e5)
"""Users of random markets: log-uniform between these, 1/USD."""
PROVIDERS = (2, 9)
"""Providers of random markets: any number from the first to the second."""
STOCK = 32
"""Markets of one kind that are drawn together."""
CONTENDERS = 2
"""In a second-price auction the bids of so many providers, those with the largest surplus w, decide
who serves and what is paid."""
CURVE = 20
"""Evaluations on the way."""
WATCHED = 1
"""Held-out markets of each game on which these are: to score all takes ten times as long."""


@dataclass(frozen=True)
class Plan:
    """One experiment."""

    settings: tuple[str, ...] = ("market, fixed prices", "auction")
    seeds: tuple[int, ...] = (0, 1, 2)
    games: tuple[tuple[str, str], ...] = GAMES
    betas: tuple[float, ...] = STUDIED_BETAS
    held_out: int = 10  # markets like those of each game
    rounds: int = 8  # after which play is scored
    updates: tuple[int, ...] = (150, 200)  # of each setting


QUICK = Plan(seeds=(0,), games=GAMES[:2], betas=(1000.0,), held_out=1, rounds=2, updates=(2, 2))
"""For tests: seconds."""

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def source(benchmark: str, method: str) -> Source:
    """Markets of providers that resemble those of a published game, none of them drawn twice."""
    drawn: dict[int, MarketBatch] = {}  # by number of providers, in stock
    used: dict[int, int] = {}

    def draw(rng: np.random.Generator, count: int) -> MarketBatch:
        n = int(rng.integers(PROVIDERS[0], PROVIDERS[1] + 1))
        if n not in drawn or used[n] + count > len(drawn[n]):
            # Many at once: a draw reads the published curves.
            drawn[n], used[n] = (
                ttc_env.random_markets(
                    max(count, STOCK), benchmark, method, num_providers=n, beta=BETAS, seed=rng
                ),
                0,
            )
        used[n] += count
        return drawn[n].part(slice(used[n] - count, used[n]))

    return draw


@dataclass(frozen=True, eq=False)
class Case:
    """A market that no policy was trained on."""

    kind: str  # "held out" or "published"
    benchmark: str
    method: str
    number: int
    market: Market

    @property
    def key(self) -> dict[str, Any]:
        return {
            "set": self.kind,
            "benchmark": self.benchmark,
            "method": self.method,
            "market": self.number,
            "beta": self.market.beta,
        }


def cases(plan: Plan) -> list[Case]:
    """All markets that policies are scored on."""
    found = []
    for number, (benchmark, method) in enumerate(plan.games):
        rng, held = np.random.default_rng([number, 9]), source(benchmark, method)
        for k in range(plan.held_out):
            market = held(rng, 1)[0]
            found.append(Case("held out", benchmark, method, k, market))
    for benchmark, method in plan.games:
        for k, beta in enumerate(plan.betas):
            market = ttc_env.load_market(benchmark, method, beta=beta)
            found.append(Case("published", benchmark, method, k, market))
    return found


# --- training -------------------------------------------------------------------------------------


def policy_file(folder: Path, setting: str, seed: int) -> Path:
    mechanism, prices = SETTINGS[setting]
    return folder / "policies" / f"{mechanism}-{prices}_seed{seed}.npz"


def train_all(plan: Plan, folder: Path, progress: Progress) -> None:
    """Train every setting's and seed's policy that `folder` does not hold yet."""
    for setting, updates in zip(plan.settings, plan.updates, strict=True):
        for seed in plan.seeds:
            path = policy_file(folder, setting, seed)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                train_one(plan, setting, seed, updates, path, progress)


def train_one(
    plan: Plan, setting: str, seed: int, updates: int, path: Path, progress: Progress
) -> None:
    """Train one policy and write it, with its curve on the held-out markets that are watched."""
    mechanism, prices = SETTINGS[setting]
    config = Settings(updates=updates)
    watched = [case for case in cases(plan) if case.kind == "held out" and case.number < WATCHED]
    environments = [make_config(mechanism, market=c.market, prices=prices) for c in watched]
    evaluators = [Evaluator(environment) for environment in environments]
    every = max(1, updates // CURVE)
    bar = iter(progress(range(updates + 1), f"{setting}, seed {seed}"))
    curve: list[tuple[float, float, float]] = []

    def watch(update: int, policy: OnePolicy) -> None:
        next(bar, None)
        if update % every and update != updates:
            return
        rows = [
            evaluator.score_actions(played(policy, evaluator.config, plan.rounds))
            for evaluator in evaluators
        ]
        regret, welfare = (
            float(np.mean([row[x] for row in rows]))
            for x in ("relative_regret", "welfare_to_equilibrium")
        )
        curve.append((update, regret, welfare))

    sources = [source(*game) for game in plan.games]
    policy = train(sources, mechanism, prices, seed, config, watch)
    next(bar, None)
    policy.save(path, curve=np.array(curve))


def played(policy: OnePolicy, config: EnvConfig, rounds: int) -> Array:
    """`[n]` flat actions: where play is after `rounds` rounds."""
    batch = MarketBatch.of(config.market)
    return policy.play(batch, config.mechanism, rounds)[:, 0]


# --- scores ---------------------------------------------------------------------------------------


def strategies(config: EnvConfig, policies: Sequence[OnePolicy], rounds: int) -> Iterator[Any]:
    """(player, seed, strategy `[n, a]`) of policies, random play and truthful play."""
    a = config.table.quality.shape[1]
    for seed, policy in enumerate(policies):
        yield "one policy", seed, pure(played(policy, config, rounds)[:, None], a)[:, :, 0]
    there = ~np.isnan(config.table.quality)
    yield "random", 0, there / there.sum(axis=1, keepdims=True)
    (truthful,) = make_agents(config, "truthful", seeds=[0], horizon=1)
    yield "truthful", 0, truthful.strategy()[:, :, 0]


def score(plan: Plan, folder: Path, progress: Progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores, a row for each market, setting and player; and the auction's bids, a row for each
    provider as well. Random play's bids are one draw.
    """
    scores: list[dict[str, Any]] = []
    bids: list[dict[str, Any]] = []
    found = cases(plan)
    for setting in plan.settings:
        mechanism, prices = SETTINGS[setting]
        policies = [OnePolicy.load(policy_file(folder, setting, seed)) for seed in plan.seeds]
        for number, case in enumerate(progress(found, f"scores, {setting}")):
            config = make_config(mechanism, market=case.market, prices=prices)
            evaluator = Evaluator(config)
            for player, seed, strategy in strategies(config, policies, plan.rounds):
                row = evaluator.score(strategy)
                scores.append(
                    {
                        "setting": setting, "player": player, "seed": seed, **case.key,
                        "providers": case.market.num_providers,
                        **{name: row.get(name, np.nan) for name in SCORES},
                        "argmax_w": _efficient(config, strategy),
                    }
                )  # fmt: skip
                if setting == "auction":
                    rng = np.random.default_rng([number, 10])
                    drawn = sample(strategy[:, :, None], rng.random((len(strategy), 1)))[:, 0]
                    where = {"player": player, "seed": seed, **case.key}
                    bids += [{**where, **bid} for bid in _bids(config, drawn)]
    return pd.DataFrame(scores), pd.DataFrame(bids)


SCORES = (
    "relative_regret",
    "worst_provider_regret",
    "levels_exact",
    "welfare_to_equilibrium",
    "welfare_ratio",
    "overcompute",
    "efficient_winner",
)
"""Columns of `baselines.evaluation` that are kept."""


def _surplus(config: EnvConfig) -> Array:
    """`[n, m]` USD/query, w; NaN where a level does not exist."""
    return config.market.quality - config.market.cost


def _efficient(config: EnvConfig, strategy: Array) -> float:
    """How likely a provider chooses the level with its largest surplus, the mean over providers."""
    n, _ = strategy.shape
    by_level = strategy.reshape(n, config.market.num_levels, -1).sum(axis=2)
    return float(by_level[np.arange(n), np.nanargmax(_surplus(config), axis=1)].mean())


def _bids(config: EnvConfig, actions: Array) -> Iterator[dict[str, Any]]:
    level, _, _ = config.mechanism.split(actions, config.market)
    offer = config.table.take(actions)
    best = np.nanmax(_surplus(config), axis=1)
    place = np.empty(len(best), int)
    place[np.argsort(-best, kind="stable")] = np.arange(len(best))
    for i in range(len(actions)):
        yield {
            "provider": i,
            "place": int(place[i]),  # by surplus, 0 first
            "level": int(level[i]),
            "best_level": int(np.nanargmax(_surplus(config)[i])),
            "cost": float(offer.cost[i]),  # USD/query, at the level chosen
            "bid": float(offer.price[i]),  # USD/query
        }


def regression(bids: pd.DataFrame) -> pd.DataFrame:
    """log bid on log cost by least squares, for each set, player, seed and group of bidders: slope
    and intercept (1 and 0 for who bids its cost), R^2, the share that bids its cost exactly and the
    mean markup in the logarithm.
    """
    groups = {"all": bids.place >= 0, f"first {CONTENDERS}": bids.place < CONTENDERS}
    rows = []
    for who, chosen in groups.items():
        for key, part in bids[chosen].groupby(["set", "player", "seed"], sort=False):
            x, y = np.log(part.cost.to_numpy()), np.log(part.bid.to_numpy())
            slope, intercept = np.polyfit(x, y, 1)
            rest = y - slope * x - intercept
            rows.append(
                {
                    **dict(zip(("set", "player", "seed"), key, strict=True)),
                    "bidders": who, "bids": len(part),
                    "slope": slope, "intercept": intercept,
                    "r2": 1.0 - rest.var() / y.var(),
                    "at_cost": float(np.isclose(x, y).mean()),
                    "log_markup": float((y - x).mean()),
                    "spread": float((y - x).std()),
                    "best_level": float((part.level == part.best_level).mean()),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def curves(plan: Plan, folder: Path) -> pd.DataFrame:
    """How scores on the watched markets moved while policies were trained: a row an evaluation."""
    rows = []
    for setting in plan.settings:
        for seed in plan.seeds:
            curve = checkpoint.load(policy_file(folder, setting, seed))["curve"]
            rows += [
                {
                    "setting": setting, "seed": seed, "update": int(update),
                    "relative_regret": regret, "welfare_to_equilibrium": welfare,
                }
                for update, regret, welfare in curve.tolist()
            ]  # fmt: skip
    return pd.DataFrame(rows)


# --- figure and words ----------------------------------------------------------------------------

PLAYERS = ("one policy", "truthful", "random")
_COLOURS = {"one policy": "#2b6a99", "truthful": "#4f8f5b", "random": "#999999"}
_SETTING_COLOURS = {"market, fixed prices": "#b5482d", "auction": "#2b6a99"}


def _watched(plan: Plan) -> str:
    """How many held-out markets are watched, of how many."""
    return f"{WATCHED * len(plan.games)} of the {plan.held_out * len(plan.games)} held-out markets"


def figure(plan: Plan, scores: pd.DataFrame, bids: pd.DataFrame, learned: pd.DataFrame) -> Figure:
    """Regret while learning; learned bids on costs; how markups are spread; welfare."""
    drawn = Figure(figsize=(13.5, 3.9), layout="constrained")
    first, second, third, fourth = drawn.subplots(1, 4, width_ratios=(1, 1.1, 1, 1))
    for setting, rows in learned.groupby("setting", sort=False):
        by_update = rows.groupby("update").relative_regret
        colour = _SETTING_COLOURS.get(str(setting), "#000000")
        mean = by_update.mean()
        first.plot(mean.index, 100 * mean, color=colour, lw=2, label=setting)
        first.fill_between(
            mean.index, 100 * by_update.min(), 100 * by_update.max(), color=colour, alpha=0.2, lw=0
        )
    first.set_xlabel("updates", fontsize=8)
    first.set_ylabel("relative regret, % (mean; all seeds)", fontsize=8)
    first.set_ylim(bottom=0)
    first.set_title(f"Learning, on {_watched(plan)}", fontsize=10)
    first.legend(fontsize=8, frameon=False)

    mine = bids[(bids["set"] == "held out") & (bids.player == "one policy")]
    for who, part, colour, size in (
        ("other bidders", mine[mine.place >= CONTENDERS], "#bbbbbb", 5),
        (f"the {CONTENDERS} with most surplus", mine[mine.place < CONTENDERS], "#2b6a99", 9),
    ):
        second.scatter(part.cost, part.bid, s=size, color=colour, label=who, lw=0)
    ends = [bids.cost.min(), bids.cost.max()]
    second.plot(ends, ends, color="#333333", lw=1)
    second.set(xscale="log", yscale="log")
    second.set_xlabel("cost at the level chosen, USD/query", fontsize=8)
    second.set_ylabel("bid, USD/query", fontsize=8)
    second.set_title("Learned bids (line: bid = cost)", fontsize=10)
    second.legend(fontsize=8, frameon=False)

    held = bids[bids["set"] == "held out"]
    markup = (held.bid / held.cost - 1).round(3)  # six digits are kept of either
    choices = sorted(markup.unique())
    width = 0.4
    for k, player in enumerate(("one policy", "random")):
        part = markup[held.player == player]
        share = [100 * float((part == x).mean()) for x in choices]
        place = np.arange(len(choices)) + (k - 0.5) * width
        third.bar(place, share, width, color=_COLOURS[player], label=player)
    third.set_xticks(range(len(choices)), [f"{x:+.0%}" for x in choices], fontsize=7, rotation=45)
    third.set_ylabel("bids, %", fontsize=8)
    third.set_title("Markup of bid over cost", fontsize=10)
    third.legend(fontsize=8, frameon=False)

    names = [(s, k) for s in dict.fromkeys(scores.setting) for k in ("held out", "published")]
    for k, player in enumerate(PLAYERS):
        values = [
            scores[(scores.setting == s) & (scores["set"] == kind) & (scores.player == player)]
            .welfare_to_equilibrium.mean()
            for s, kind in names
        ]  # fmt: skip
        place = np.arange(len(names)) + (k - 1) * 0.27
        fourth.bar(place, values, 0.27, color=_COLOURS[player], label=player)
    fourth.axhline(1.0, color="#333333", lw=1)
    labels = [f"{s.split(',')[0]}\n{kind}" for s, kind in names]
    fourth.set_xticks(range(len(names)), labels, fontsize=7)
    fourth.set_ylabel("welfare over the equilibrium's, mean", fontsize=8)
    fourth.set_ylim(0.0, 1.45)
    fourth.set_title("Welfare", fontsize=10)
    fourth.legend(fontsize=8, frameon=False, loc="upper right")
    for axis in (first, second, third, fourth):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
    return drawn


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over markets (and seeds) for each setting, set and player."""
    keys = ["setting", "set", "player"]
    rows = []
    for key, part in scores.groupby(keys, sort=False):
        regret = part.relative_regret
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "runs": len(part),
                "relative_regret": regret.mean(),
                "median_regret": regret.median(),
                "within_1": float((regret <= 0.01).mean()),
                "levels_exact": part.levels_exact.mean(),
                "argmax_w": part.argmax_w.mean(),
                "welfare": part.welfare_to_equilibrium.mean(),
                "lowest_seed": part.groupby("seed").welfare_to_equilibrium.mean().min(),
                "winner": part.efficient_winner.mean(),
            }
        )
    return pd.DataFrame(rows)


def report(
    plan: Plan, scores: pd.DataFrame, bids: pd.DataFrame, learned: pd.DataFrame, command: str
) -> str:
    """The README of the kept results: what the tables say, in words."""
    table, fits = summary(scores), regression(bids)
    paragraphs = [
        f"""Written by `{command}`: `scores.csv` (a row for each market, setting and player),
        `bids.csv` (the auction's, a row for each provider), `regression.csv`, `curves.csv` and the
        policies themselves, `policies/` (`agents.one_policy.OnePolicy.load`). One policy is shared
        by all providers of all markets, {len(plan.seeds)} seeds in each setting. It is told
        its own curves, alpha and beta, and of its rivals what the round before made public: their
        offers and shares, and how far each of its own offers would have been ahead of these. It is
        trained by PPO on its own profit ({_updates(plan)}). No market below is among those it was
        trained on: `held out` are random ones of the same kinds, `published` the
        {len(plan.games)} games at beta {_listed(plan.betas)}.""",
        "![Learning, bids on costs, markups, welfare](one_policy.png)",
        f"""The first panel follows {_watched(plan)} while policies learn, {_first(WATCHED)} of each
        game; the table is about all of them. At the end the mean relative regret is
        {_ends(scores, learned)}.""",
        """**Where play ends up.** Relative regret: what providers leave of their best profit, by
        share of users. Levels exact: of providers with a share over 1%, those at their level of
        the nearest exact equilibrium (auction: dominant strategy). Argmax w: of all providers,
        those at the level with their largest quality less cost. Regret below 1% counts the markets
        where play is as good as an equilibrium. Welfare is the mean over markets, for the
        policy with the lowest seed's mean beside it; in the market, whose equilibrium wastes
        compute, it can exceed 1.""",
        _markdown(table),
        *(_verdict(table, fits, setting) for setting in plan.settings),
    ]
    if len(bids):
        paragraphs += [
            f"""**Bids on costs** (least squares of log bid on log cost at the level chosen; who
            bids its cost has slope 1 and intercept 0). Costs of these markets span
            {np.log10(bids.cost.max() / bids.cost.min()):.0f} decades and choices lie between half
            and nine times the cost, so that random bids fit well, too: look at the share of bids
            that is the cost, and at the spread of bid over cost. The bids of the
            {CONTENDERS} providers with the largest surplus decide who serves and what is paid;
            another's bid changes nothing, neither for it nor for anybody, unless it is among the
            best two.""",
            _fits(fits),
        ]
    paragraphs += [
        "**Game by game**, the policy at the published betas, means over seeds:",
        _games(scores),
    ]
    pages = [x if x.startswith(("|", "!")) else _wrapped(x) for x in paragraphs]
    return "\n\n".join(["# One policy for every market", *pages]) + "\n"


def _first(count: int) -> str:
    return "the first" if count == 1 else f"the first {count}"


def _ends(scores: pd.DataFrame, learned: pd.DataFrame) -> str:
    """Where the first panel's curves end, beside the table's means."""
    last = learned[learned["update"] == learned.groupby("setting")["update"].transform("max")]
    watched = last.groupby("setting", sort=False).relative_regret.mean()
    held = scores[(scores["set"] == "held out") & (scores.player == "one policy")]
    every = held.groupby("setting").relative_regret.mean()
    return " and ".join(
        f"{x:.1%} on these and {every[setting]:.1%} on all in {setting}"
        for setting, x in watched.items()
    )


def _updates(plan: Plan) -> str:
    one = Settings()
    decisions = one.markets * one.copies * one.rounds * len(plan.games)
    parts = [f"{u} updates in {s}" for s, u in zip(plan.settings, plan.updates, strict=True)]
    return f"{' and '.join(parts)}, each on {decisions:,} rounds of freshly drawn markets"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:,.0f}" for x in numbers)


def _wrapped(text: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, 100, break_long_words=False, break_on_hyphens=False)


def _number(x: float, form: str) -> str:
    return "-" if np.isnan(x) else format(x, form)


def _markdown(table: pd.DataFrame) -> str:
    lines = [
        "| setting | markets | player | relative regret: mean | median | below 1% | levels exact |"
        " argmax w | welfare over the equilibrium's | efficient winner |",
        "| --- " * 10 + "|",
    ]
    for r in table.itertuples():
        seeds = f" (lowest seed {r.lowest_seed:.3f})" if r.player == "one policy" else ""
        lines.append(
            f"| {r.setting} | {r.set} | {r.player} | {r.relative_regret:.2%} |"
            f" {r.median_regret:.2%} | {r.within_1:.0%} | {_number(r.levels_exact, '.0%')} |"
            f" {r.argmax_w:.0%} | {r.welfare:.3f}{seeds} | {_number(r.winner, '.0%')} |"
        )
    return "\n".join(lines)


def _fits(fits: pd.DataFrame) -> str:
    lines = [
        "| markets | player | bidders | slope | intercept | R² | bids its cost | mean of log(bid /"
        " cost) | its spread | chooses argmax w |",
        "| --- " * 10 + "|",
    ]
    keys = ["set", "player", "bidders"]
    for key, part in fits.groupby(keys, sort=False):
        mean = part.drop(columns=keys).mean()
        lines.append(
            f"| {' | '.join(map(str, key))} | {mean.slope:.3f} | {mean.intercept:+.3f} |"
            f" {mean.r2:.3f} | {mean.at_cost:.0%} | {mean.log_markup:+.3f} | {mean.spread:.3f} |"
            f" {mean.best_level:.0%} |"
        )
    return "\n".join(lines)


def _games(scores: pd.DataFrame) -> str:
    mine = scores[(scores["set"] == "published") & (scores.player == "one policy")]
    settings = list(dict.fromkeys(mine.setting))
    lines = [
        "| game | beta | "
        + " | ".join(f"{s}: regret | levels exact | welfare" for s in settings)
        + " |",
        "| --- | --- |" + " --- |" * (3 * len(settings)),
    ]
    for (benchmark, method, beta), part in mine.groupby(
        ["benchmark", "method", "beta"], sort=False
    ):
        cells = []
        for setting in settings:
            mean = part[part.setting == setting][
                ["relative_regret", "levels_exact", "welfare_to_equilibrium"]
            ].mean()
            cells.append(
                f"{mean.relative_regret:.2%} | {mean.levels_exact:.0%} |"
                f" {mean.welfare_to_equilibrium:.3f}"
            )
        lines.append(f"| {benchmark}, {method} | {beta:,.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _verdict(table: pd.DataFrame, fits: pd.DataFrame, setting: str) -> str:
    """One paragraph: the questions asked of a setting, answered by its numbers."""

    def of(kind: str, player: str) -> Any:
        at = (table.setting == setting) & (table["set"] == kind) & (table.player == player)
        return table[at].iloc[0]

    held, games = of("held out", "one policy"), of("published", "one policy")
    chance, truth = of("held out", "random"), of("held out", "truthful")
    compared = (
        f"Random play has {chance.relative_regret:.1%} and {chance.welfare:.3f} on held-out"
        f" markets, truthful play {truth.relative_regret:.1%} and {truth.welfare:.3f}."
    )
    if setting != "auction":
        return f"""**{setting[0].upper()}{setting[1:]}.** The policy picks the equilibrium's level
        in {held.levels_exact:.0%} of cases on held-out markets and {games.levels_exact:.0%} in the
        published games, with a mean relative regret of {held.relative_regret:.1%} and
        {games.relative_regret:.1%} (below 1% in {held.within_1:.0%} and {games.within_1:.0%} of
        runs) and {held.welfare:.3f} and {games.welfare:.3f} of the equilibrium's welfare.
        {compared}"""
    mine = fits[(fits["set"] == "held out") & (fits.player == "one policy")]
    top = mine[mine.bidders != "all"].mean(numeric_only=True)
    all_ = mine[mine.bidders == "all"].mean(numeric_only=True)
    leaning = "above" if top.log_markup > 0 else "below"
    return f"""**Auction.** Among the {CONTENDERS} providers with the largest surplus, which decide,
    the policy bids exactly its cost in {top.at_cost:.0%} of held-out markets and chooses argmax w
    in {top.best_level:.0%} ({all_.at_cost:.0%} and {all_.best_level:.0%} of all bidders); the mean
    of log(bid / cost) is {top.log_markup:+.3f}, {leaning} the truth. The efficient provider serves
    {held.winner:.0%} of users on held-out markets and {games.winner:.0%} in the published games, so
    that welfare is {held.welfare:.3f} and {games.welfare:.3f} of the dominant strategies', with a
    mean relative regret of {held.relative_regret:.1%} and {games.relative_regret:.1%} (below 1% in
    {held.within_1:.0%} and {games.within_1:.0%} of runs). {compared}"""
