"""Infos of one round of one environment, in plain Python: what `ttc_env.envs.batch_infos` does, on
numbers in place of arrays.

A second implementation for the reason that `ttc_env.envs.single` gives. Best replies are looked up
on the same envelopes (`ttc_env.game.envelope`), and regrets are those of
`ttc_env.game.regret.compare`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import exp, expm1, inf, log, log1p
from operator import getitem, mul, sub
from typing import Any, NamedTuple

import numpy as np

from ttc_env.envs.tables import RoundTables
from ttc_env.game.envelope import AuctionEnvelope, PostedEnvelope
from ttc_env.game.regret import OVERFLOW, TIE


class _Round(NamedTuple):
    """A round in expectation, provider by provider, and what each leaves on the table in it."""

    share: list[float]
    outside_share: float
    payment: Sequence[float]  # USD/query; 0 for a provider without users
    profit: Sequence[float]  # USD/query; 0 likewise
    regret: list[float]  # USD per arriving user
    relative: list[float]


class SingleInfoRows:
    """One round's infos. A provider's dict is made when it is asked for."""

    __slots__ = ("_begin", "_common", "_counts", "_numbers")

    def __init__(
        self,
        begin: list[dict[str, Any]],
        numbers: list[tuple[float, ...]],
        counts: dict[str, Sequence[int]],
        common: dict[str, float],
    ):
        self._begin, self._numbers, self._counts, self._common = begin, numbers, counts, common

    def __getitem__(self, i: int, /) -> dict[str, Any]:
        payment, profit, share, utility, regret, relative = self._numbers[i]
        row = {
            **self._begin[i], "payment": payment, "profit": profit, "share": share,
            "utility": utility, "regret": regret, "relative_regret": relative, **self._common,
        }  # fmt: skip
        for name, count in self._counts.items():
            row[name] = count[i]
        return row


class _Pieces(NamedTuple):
    """One provider's `PostedEnvelope`."""

    kind: int  # 1 earning, 0 idle, -1 losing
    starts: list[float]  # log A_-i, of all pieces but the first; inf at the end
    slack: float
    replies: list[tuple[float, float]]  # value and log |pi|


class SingleInfos:
    """Infos of rounds of one market in which every offer is an entry of the tables."""

    @staticmethod
    def can_tell(tables: RoundTables) -> bool:
        config = tables.config
        dialled = config.actions == "continuous" and len(config.mechanism.tariff.choices) > 1
        return tables.kind in ("logit", "auction") and not dialled

    def __init__(self, tables: RoundTables):
        batch, offer, envelope = tables.batch, tables.offer, tables.envelope
        self.users, self.optimal_welfare = tables.config.users, tables.config.optimal_welfare
        self.beta, self.outside_value = float(batch.beta[0]), float(batch.outside_value[0])
        self.resolution = float(tables.resolution[0])
        n = range(batch.num_providers)
        # By provider and action: how its dict begins, and then the numbers that its round needs.
        shown = {
            "level": tables.level,
            "quality": offer.quality,
            "price": offer.price,
            "cost": offer.cost,
        }
        self._begin = [
            [
                dict(zip(shown, row, strict=True))
                for row in zip(*(x[i].tolist() for x in shown.values()), strict=True)
            ]
            for i in n
        ]
        columns = [offer.quality, offer.cost, offer.quality - offer.cost, offer.score]
        self._pieces: list[_Pieces] = []
        self._steps: list[tuple[list[float], ...]] = []
        if isinstance(envelope, PostedEnvelope):
            profit = offer.price - offer.cost
            columns += [offer.price, profit, np.sign(profit), _log_size(profit)]
            self._pieces = [_pieces(envelope, i) for i in n]
        elif isinstance(envelope, AuctionEnvelope):
            columns += [tables.settled, tables.worth]
            self._steps = [
                tuple(x[:, i, 0].tolist() for x in (envelope.score, envelope.worth, envelope.above))
                for i in n
            ]
        self._numbers = [list(zip(*(x[i].tolist() for x in columns), strict=True)) for i in n]

    def of(
        self,
        flat: Sequence[int],
        share: list[float] | None,
        reward: Sequence[float] | None,
        counts: dict[str, Sequence[int]],
    ) -> SingleInfoRows:
        """The infos of a round.

        Args:
            flat: actions as played.
            share, reward: the round's, where they are expectations; else None.
            counts: further entries, by name.
        """
        quality, cost, surplus, *offers = zip(*map(getitem, self._numbers, flat), strict=True)
        found = self._market(share, *offers) if self._pieces else self._auction(cost, *offers)
        share = found.share if share is None else share
        utility = (
            list(map(mul, found.profit, share))
            if reward is None
            else [x / self.users for x in reward]
        )
        nobody = found.outside_share * self.outside_value
        common = {
            "welfare": sum(map(mul, share, surplus)) + nobody,
            "optimal_welfare": self.optimal_welfare,
            "nash_conv": sum(found.regret),
            "user_value": sum(map(mul, share, map(sub, quality, found.payment))) + nobody,
        }
        numbers = list(
            zip(
                found.payment,
                found.profit,
                share,
                utility,
                found.regret,
                found.relative,
                strict=True,
            )
        )
        return SingleInfoRows(list(map(getitem, self._begin, flat)), numbers, counts, common)

    def _market(
        self,
        share: list[float] | None,
        score: Sequence[float],
        price: Sequence[float],
        profit: Sequence[float],
        sign: Sequence[float],
        size: Sequence[float],
    ) -> _Round:
        """Users choose by logit; `demand.best_rivals` and `PostedEnvelope.replies` in numbers.
        share: if it is known; size: log |pi|.
        """
        beta, outside_value = self.beta, self.outside_value
        best = max(max(score), outside_value)
        attraction, nobody = (
            [exp(beta * (v - best)) for v in score],
            exp(beta * (outside_value - best)),
        )
        total = nobody + sum(attraction)
        log_total = log(total)
        regrets, relatives = [], []
        lone = best > outside_value and score.count(best) == 1
        for (kind, starts, slack, replies), v, mine, gains, e in zip(
            self._pieces, score, size, sign, attraction, strict=True
        ):
            if lone and v == best:
                others = [x for x in score if x != best]
                reference = max(max(others, default=outside_value), outside_value)
                rest = exp(beta * (outside_value - reference)) + sum(
                    [exp(beta * (x - reference)) for x in others]
                )
                own = mine + _log_share(beta * (v - reference), rest)
            else:
                reference, rest = best, total - e
                own = mine + beta * (v - best) - log_total
            log_rivals = log(rest) + beta * (reference - outside_value)
            piece = bisect_right(starts, log_rivals - slack)
            value, log_profit = replies[piece]
            same = value == v and log_profit == mine
            top = own if same else log_profit + _log_share(beta * (value - reference), rest)
            while starts[piece] <= log_rivals + slack:
                piece += 1
                value, log_profit = replies[piece]
                same = value == v and log_profit == mine
                other = own if same else log_profit + _log_share(beta * (value - reference), rest)
                top = max(top, other) if kind > 0 else min(top, other)
            if kind > 0 and gains > 0.0:
                relative = -expm1(own - top) if own < top else 0.0
                regret = exp(top) * relative
            else:
                regret, relative = _lost(gains, own, kind, top)
            regrets.append(regret)
            relatives.append(relative)
        share = [e / total for e in attraction] if share is None else share
        return _Round(share, nobody / total, price, profit, regrets, relatives)

    def _auction(
        self,
        cost: Sequence[float],
        score: Sequence[float],
        settled: Sequence[float],
        worth: Sequence[float],
    ) -> _Round:
        """The highest score serves; `HighestScore.rivals`, `AuctionEnvelope.replies` in numbers."""
        outside_value = self.outside_value
        *rest, best = sorted(score)
        second = rest[-1] if rest else -inf
        leaders = score.count(best)
        shares, payments, profits, regrets, relatives = [], [], [], [], []
        for i, v in enumerate(score):
            if v == best and leaders == 1:
                rival, ties = second, score.count(second)
            else:
                rival, ties = best, leaders - (v == best)
            charge = max(rival, outside_value)
            share = 0.0 if v < charge else 1.0 / (1.0 + ties) if v == rival else 1.0
            own = self._counted(worth[i] - charge) * share if share else 0.0
            # The best of staying out, winning and tying.
            steps, at_step, above = self._steps[i]
            below = bisect_left(steps, charge)
            tie = steps[below] == rival
            top = self._counted(above[below + tie] - charge)
            if tie:
                top = max(top, self._counted(at_step[below] - charge) * (1.0 / (1.0 + ties)))
            if below:
                top = max(top, 0.0)
            regret = max(top - own, 0.0)
            worse = own < 0.0 if top == 0.0 else own < top * (1.0 + TIE)
            shares.append(share)
            payments.append(settled[i] - charge if share else 0.0)
            profits.append(settled[i] - charge - cost[i] if share else 0.0)
            regrets.append(regret)
            relatives.append(regret / top if top > 0.0 else float(worse))
        return _Round(
            shares, 0.0 if best >= outside_value else 1.0, payments, profits, regrets, relatives
        )

    def _counted(self, profit: float) -> float:
        return profit if abs(profit) > self.resolution else 0.0


def _log_size(profit: np.ndarray) -> np.ndarray:
    """log |pi|; 0 where pi = 0."""
    return np.log(np.where(profit == 0, 1.0, np.abs(profit)))


def _pieces(envelope: PostedEnvelope, i: int) -> _Pieces:
    start, value, profit = (x[:, i, 0] for x in (envelope.start, envelope.value, envelope.profit))
    used = start < np.inf
    replies = list(zip(value[used].tolist(), _log_size(profit[used]).tolist(), strict=True))
    return _Pieces(
        int(np.sign(profit[0])),
        [*start[used][1:].tolist(), inf],
        float(envelope.slack[i, 0]),
        replies,
    )


def _log_share(x: float, rest: float) -> float:
    """log s = -log(1 + S exp(-x)) with x = beta (V - r); `demand.log_share_against` in numbers."""
    return -log1p(rest * exp(-x)) if x >= 0.0 else x - log(rest + exp(x))


def _lost(sign: float, size: float, best_sign: int, best_size: float) -> tuple[float, float]:
    """Regret and relative regret where not both utilities are positive, from signs and log |U|; the
    size of a zero is not read.
    """
    if best_sign > 0:
        best = exp(best_size)
        return (
            (best, 1.0)
            if sign == 0.0
            else (best + exp(size), 1.0 + exp(min(size - best_size, OVERFLOW)))
        )
    if best_sign == 0:
        return (exp(size), 1.0) if sign < 0.0 else (0.0, 0.0)
    return max(exp(size) - exp(best_size), 0.0), float(size - best_size > TIE)
