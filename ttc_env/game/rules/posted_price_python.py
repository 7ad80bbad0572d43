"""Rounds of posted prices in plain Python, for one environment: at nine providers NumPy spends its
time on being called.

The same formulas as in `posted_price`, on numbers in place of arrays: `round_of` looks up the same
tables and does the same operations in the same order as the batched rounds, so that its answers
have the same bits; `infos_of` looks best replies up on the same envelope, and its regrets are those
of `ttc_env.game.regret.compare`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import exp, expm1, inf, log, log1p
from operator import mul
from typing import Any, NamedTuple

import numpy as np

from ttc_env.game.envelope import PostedEnvelope
from ttc_env.game.regret import OVERFLOW, TIE
from ttc_env.game.rules.base import Expected, PythonInfos, UsersLike
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array

_MOST_POWERS = 1 << 18  # entries of a list of powers of two


def round_of(
    numbers: dict[str, Array],
) -> Callable[[Sequence[Sequence[Any]]], tuple[list[float], list[float]]]:
    """`rounds.attractions` and `rounds.logit_shares`: columns of `PostedPrice.tabulate`'s numbers
    to shares and rewards in USD.
    """
    if "attraction" in numbers:

        def play_narrow(
            columns: Sequence[Sequence[Any]],
        ) -> tuple[list[float], list[float]]:
            attraction, gain = columns
            total = 1.0
            for x in attraction:
                total += x
            inverse = 1.0 / total
            share = [x * inverse for x in attraction]
            return share, list(map(mul, gain, share))

        return play_narrow
    # 2^-k by k: 2^-1022 is the smallest number of full precision, and beyond it counts as 0.
    # Long enough for all of this market's k.
    exponents = numbers["exponent"]
    spread = int(max(exponents.max(), 0) - min(exponents.min(), 0))
    every = spread < _MOST_POWERS
    powers = [2.0**-k if k < 1023 else 0.0 for k in range(spread + 1 if every else 1023)]

    def play_scaled(columns: Sequence[Sequence[Any]]) -> tuple[list[float], list[float]]:
        fraction, exponent, gain = columns
        top = max(exponent)
        if top < 0:
            top = 0
        if every:
            e = [f * powers[top - k] for f, k in zip(fraction, exponent)]
            total = powers[top]
        else:
            e = [f * powers[top - k] if top - k < 1023 else 0.0 for f, k in zip(fraction, exponent)]
            total = powers[top] if top < 1023 else 0.0
        for x in e:
            total += x
        inverse = 1.0 / total
        share = [x * inverse for x in e]
        return share, list(map(mul, gain, share))

    return play_scaled


def infos_of(table: Offer, envelope: PostedEnvelope, users: UsersLike) -> PythonInfos:
    """`demand.best_rivals` and `PostedEnvelope.replies`. table: `[n, a]`."""
    beta, outside_value = float(users.beta), float(users.outside_value)
    pieces = [_pieces(envelope, i) for i in range(len(table.quality))]
    pi = table.paid - table.cost - table.penalty
    columns = [table.score, table.paid, pi, np.sign(pi), _log_size(pi)]

    def play(
        score: Sequence[float],
        price: Sequence[float],
        profit: Sequence[float],
        sign: Sequence[float],
        size: Sequence[float],
    ) -> Expected:
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
            pieces, score, size, sign, attraction, strict=True
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
        share = [e / total for e in attraction]
        return Expected(share, nobody / total, price, profit, regrets, relatives)

    return PythonInfos(columns, play)


class _Pieces(NamedTuple):
    """One provider's `PostedEnvelope`."""

    kind: int  # 1 earning, 0 idle, -1 losing
    starts: list[float]  # log A_-i, of all pieces but the first; inf at the end
    slack: float
    replies: list[tuple[float, float]]  # value and log |pi|


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
