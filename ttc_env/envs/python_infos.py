"""Infos of one round of one environment, in plain Python, where the rule has such a round
(`Rule.python_infos`): what `ttc_env.envs.round_infos` says, on numbers in place of arrays.

A second writer, for the reason that `ttc_env.envs.backends.python` gives: arrays of one take three
to five times as long, whatever is done to them.
"""

from __future__ import annotations

from operator import getitem, mul, sub
from typing import Any

from ttc_env.envs.round_infos import DERIVED
from ttc_env.envs.rounds import Played
from ttc_env.envs.tables import RoundTables
from ttc_env.game.rules.base import PythonInfos


class PlainInfos:
    """Infos of rounds in which every offer is an entry of the tables."""

    @staticmethod
    def of_rule(tables: RoundTables) -> PlainInfos | None:
        """None where the rule has no such round."""
        config = tables.config
        if config.continuous_prices or config.infos == "basic":
            return None
        found = config.mechanism.rule.python_infos(
            tables.offer, tables.best_replies, config.market, float(tables.noise[0])
        )
        return None if found is None else PlainInfos(tables, found)

    def __init__(self, tables: RoundTables, rule: PythonInfos):
        config, offer = tables.config, tables.offer
        self._arrivals, self._play = config.users, rule.play
        self._outside_value = config.market.outside_value
        self._optimal_welfare = float(tables.optimal_welfare[0])
        self._actions = tables.num_actions
        # By provider and action: how its dict begins, and then the numbers that a round needs.
        shown = {
            "level": tables.level,
            "action": tables.as_played,
            "quality": offer.quality,
            "price": offer.price,
            "cost": offer.cost,
        }
        self._lies = bool(config.mechanism.misreports.kinds)
        if self._lies:
            shown |= tables.lies
        n = range(len(offer.quality))
        self._begin = [
            [
                dict(zip(shown, row, strict=True))
                for row in zip(*(table[i].tolist() for table in shown.values()), strict=True)
            ]
            for i in n
        ]
        columns = [offer.quality, offer.quality - offer.cost, *rule.columns]
        self._numbers = [list(zip(*(x[i].tolist() for x in columns), strict=True)) for i in n]

    def rows(self, played: Played) -> list[dict[str, Any]]:
        """One dict per provider. played: columns `[n, 1]`."""
        n, a = len(self._begin), self._actions
        flat = [entry - i * a for i, entry in enumerate(played.index[:, 0].tolist())]
        quality, surplus, *columns = zip(*map(getitem, self._numbers, flat), strict=True)
        found = self._play(*columns)
        if played.served is None:
            share = played.share[:, 0].tolist()
            utility = [reward / self._arrivals for reward in played.reward[:, 0].tolist()]
        else:
            share, utility = found.share, list(map(mul, found.profit, found.share))
        nobody = found.outside_share * self._outside_value
        value = sum(map(mul, share, map(sub, quality, found.payment))) + nobody
        common = {
            "welfare": sum(map(mul, share, surplus)) + nobody,
            "user_value": value,
            "optimal_welfare": self._optimal_welfare,
            "nash_conv": sum(found.regret),
        }
        if self._lies:
            penalty = [
                row[action]["penalty"] for row, action in zip(self._begin, flat, strict=True)
            ]
            common["fines"] = sum(map(mul, share, penalty))
        counts: dict[str, Any] = {
            name: count[:, 0].astype(int).tolist()
            for name in ("served", "correct", "caught")
            if (count := getattr(played, name)) is not None
        }
        rows = [
            {
                **self._begin[i][flat[i]],
                "payment": found.payment[i],
                "profit": found.profit[i],
                "share": share[i],
                "utility": utility[i],
                **{name: count[i] for name, count in counts.items()},
                "regret": found.regret[i],
                "relative_regret": found.relative[i],
                **common,
            }
            for i in range(n)
        ]
        for row in rows:
            for name, of in DERIVED.items():
                row[name] = of(row)
        return rows
