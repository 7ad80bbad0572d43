"""Rounds of the second-score auction in plain Python, for one environment (see
`posted_price_python`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from ttc_env.game.envelope import AuctionEnvelope
from ttc_env.game.regret import TIE
from ttc_env.game.rules.base import Expected


def round_of(
    threshold: float, arrivals: int
) -> Callable[[Sequence[Sequence[Any]]], tuple[list[float], list[float]]]:
    """Columns of `SecondScore.tabulate`'s numbers to shares and rewards in USD."""

    def play(columns: Sequence[Sequence[Any]]) -> tuple[list[float], list[float]]:
        score, worth = columns
        n = len(score)
        share, reward = [0.0] * n, [0.0] * n
        *rest, best = sorted(score)
        if best >= threshold:
            leaders = score.count(best)
            beaten = max(rest[-1], threshold) if rest else threshold
            if leaders == 1:
                i = score.index(best)
                share[i], reward[i] = 1.0, arrivals * (worth[i] - beaten) + 0.0
            else:
                part = 1.0 / leaders
                for i, x in enumerate(score):
                    if x == best:
                        share[i] = part
                        reward[i] = part * (arrivals * (worth[i] - beaten)) + 0.0
        return share, reward

    return play


def infos_of(envelope: AuctionEnvelope, threshold: float, noise: float) -> Callable[..., Expected]:
    """`best_rival` and `AuctionEnvelope.replies`."""
    fields = envelope.score, envelope.worth, envelope.above
    stairs = [tuple(x[:, i, 0].tolist() for x in fields) for i in range(envelope.score.shape[1])]

    def counted(profit: float) -> float:
        return profit if abs(profit) > noise else 0.0

    def play(
        score: Sequence[float],
        settled: Sequence[float],
        worth: Sequence[float],
        cost: Sequence[float],
    ) -> Expected:
        *rest, best = sorted(score)
        second = rest[-1] if rest else -inf
        leaders = score.count(best)
        shares, payments, profits, regrets, relatives = [], [], [], [], []
        for i, v in enumerate(score):
            if v == best and leaders == 1:
                rival, ties = second, score.count(second)
            else:
                rival, ties = best, leaders - (v == best)
            beaten = max(rival, threshold)
            share = 0.0 if v < beaten else 1.0 / (1.0 + ties) if v == rival else 1.0
            own = counted(worth[i] - beaten) * share if share else 0.0
            # The best of staying out, winning and tying.
            steps, at_step, above = stairs[i]
            below = bisect_left(steps, beaten)
            tie = steps[below] == rival
            top = counted(above[below + tie] - beaten)
            if tie:
                top = max(top, counted(at_step[below] - beaten) * (1.0 / (1.0 + ties)))
            if below:
                top = max(top, 0.0)
            regret = max(top - own, 0.0)
            worse = own < 0.0 if top == 0.0 else own < top * (1.0 + TIE)
            shares.append(share)
            payments.append(settled[i] - beaten if share else 0.0)
            profits.append(settled[i] - beaten - cost[i] if share else 0.0)
            regrets.append(regret)
            relatives.append(regret / top if top > 0.0 else float(worse))
        return Expected(
            shares, 0.0 if best >= threshold else 1.0, payments, profits, regrets, relatives
        )

    return play
