"""Best replies by looking up: for every provider the few actions that are ever best, and against
which rivals each of them is.

A provider sees its rivals through one number (GAME.md, theorem 2), so that its best replies lie
along one line. They are worked out here once per market; after that a best reply is a search in a
short sorted list. Derived in docs, not in the paper.

**Posted prices.** The number is A_-i, and every action is a line in it: 1/U_l = 1/pi_l + A_-i /
(pi_l e_l), e = exp(beta (V - V_0)) (GAME.md, theorem 3). The best replies of a provider that can
earn are the lower envelope of these lines. At A_-i = 0 the largest pi is best; from there the
envelope goes to actions of higher V and lower pi. Of two actions with e_l < e_h and pi_l > pi_h,
the second is the better one from

    A_-i = e_l (pi_l / pi_h - 1) / (1 - pi_l e_l / (pi_h e_h))

on, and never if pi_l e_l >= pi_h e_h. A provider that loses by every action wants 1/|U| to be
large: the upper envelope, with the same crossings, walked from high V to low V. Where the best pi
is 0, any action with pi = 0 is a best reply.

**Auction.** The number is the score to beat, c = max(best rival's score, V_0), and serving is worth
omega - c, omega being settled quality less cost. A score above c serves everybody. So of the
actions only a staircase matters: those whose omega exceeds that of every higher score. K rivals at
c share with an action that ties with them; to tie with an action that is no step is no better than
to win by the step above. One more entry is kept, the lowest score of all: a score below c serves
nobody, and a provider whose scores all reach c cannot stay out.

**Rounding.** log U falls by at most 1 per unit of log A_-i, so a piece chosen wrongly for the
rounding of log A_-i or of a crossing costs no more than that rounding. Moreover every piece within
`slack` of log A_-i is looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.demand import log_share_against, logits
from ttc_env.game.types import Array

_BLOCK = 1 << 18  # table entries per pass

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PostedEnvelope:
    """The best replies of n providers in G markets of posted prices, k pieces each at most."""

    # [k, n, G] log A_-i, in units of e_0, from which the piece is best; the first -inf, unused ones
    # inf
    start: Array
    value: Array  # [k, n, G] USD/query, V of the action that is best there
    profit: Array  # [k, n, G] USD/query, its pi
    slack: Array  # [n, G] a start this near to log A_-i may lie on either side of it

    @classmethod
    def of(
        cls, value: Array, profit: Array, beta: ArrayLike, outside_value: ArrayLike
    ) -> PostedEnvelope:
        """value, profit: `[n, G, a]`, NaN where an action does not exist; beta, outside_value:
        `[G]`.
        """
        n, g, a = value.shape
        users = [
            np.broadcast_to(np.asarray(x, dtype=np.float64), (n, g)).reshape(-1)
            for x in (beta, outside_value)
        ]
        table = [value.reshape(-1, a), profit.reshape(-1, a), *users]
        walks = [_walk(*(x[rows] for x in table)) for rows in _blocks(n * g, a)]
        action = _joined([walk[0] for walk in walks], 0).astype(np.intp)
        rows = np.arange(n * g)
        z = logits(table[0], users[0][:, None], users[1][:, None])
        return cls(
            _joined([walk[1] for walk in walks], np.inf).reshape(-1, n, g),
            table[0][rows, action].reshape(-1, n, g),
            table[1][rows, action].reshape(-1, n, g),
            (1e-9 + 8.0 * np.finfo(np.float64).eps * np.nanmax(np.abs(z), axis=1)).reshape(n, g),
        )

    def of_markets(self, which: Index) -> PostedEnvelope:
        """Those of some of the G markets, in this order; itself where there is one market only."""
        return self if self.value.shape[2] == 1 else PostedEnvelope(*_of_markets(self, which))

    def replies(
        self, rivals: Any, beta: ArrayLike, outside_value: ArrayLike
    ) -> tuple[Array, Array]:
        """Actions among which the best reply is: pi and log share `[n, b, c]`, c nearly always 1.

        Args:
            rivals: log A_-i and the value that its unit refers to, `[n, b]` (`Attraction`).
            beta, outside_value: `[b]`; b is the number of markets, or any if that is one.
        """
        log_rivals = rivals.log_rivals + logits(rivals.reference, beta, outside_value)
        start = self.start[1:]
        low = (log_rivals - self.slack >= start).sum(axis=0)
        high = (log_rivals + self.slack >= start).sum(axis=0)
        found = []
        for step in range(int((high - low).max()) + 1):
            piece = np.minimum(low + step, high)
            value, profit = _take(self.value, piece), _take(self.profit, piece)
            found.append(
                (
                    profit,
                    log_share_against(logits(value, beta, rivals.reference), rivals.log_rivals),
                )
            )
        if len(found) == 1:
            return found[0][0][..., None], found[0][1][..., None]
        profits, log_shares = zip(*found, strict=True)
        return np.stack(profits, axis=-1), np.stack(log_shares, axis=-1)


def _walk(value: Array, profit: Array, beta: Array, outside_value: Array) -> tuple[Index, Array]:
    """Along the envelope of every row of `[r, a]`: the actions `[k, r]` and where they start, `[k,
    r]` log A_-i.
    """
    best = np.fmax.reduce(profit, axis=1)
    kind = np.sign(best)[:, None]  # 1 earning, 0 idle, -1 losing
    candidate = np.where(kind > 0, profit > 0, np.where(kind == 0, profit == 0, ~np.isnan(profit)))
    place = np.where(candidate, kind * value, -np.inf)  # the walk goes upwards in it
    # At A_-i = 0: the best pi, and of equal ones the one that stays best.
    action = np.where(profit == best[:, None], place, -np.inf).argmax(axis=1)
    actions, starts = [action], [np.full(len(best), -np.inf)]
    rows = np.arange(len(best))
    while True:
        here = action[rows, None]
        crossing = _crossing(
            np.take_along_axis(value[rows], here, 1), np.take_along_axis(profit[rows], here, 1),
            value[rows], profit[rows], beta[rows, None], outside_value[rows, None],
        )  # fmt: skip
        crossing = np.where(
            place[rows] > np.take_along_axis(place[rows], here, 1), crossing, np.inf
        )
        nearest = crossing.argmin(axis=1)
        first = crossing[np.arange(len(rows)), nearest]
        moves = first < np.inf
        if not moves.any():
            return np.stack(actions), np.stack(starts)
        rows, action, start = rows[moves], action.copy(), np.full(len(best), np.inf)
        action[rows] = nearest[moves]
        start[rows] = np.maximum(first[moves], starts[-1][rows])
        actions.append(action)
        starts.append(start)


def _crossing(
    value: Array,
    profit: Array,
    other_value: Array,
    other_profit: Array,
    beta: Array,
    outside_value: Array,
) -> Array:
    """log A_-i at which the lines of two actions cross, in units of e_0; inf where they do not. See
    the module's docstring.

    One of higher V that earns as much is better from -inf on.
    """
    earning = profit > 0  # an earning provider's walk comes from l, a losing one's from h
    value_low = np.where(earning, value, other_value)
    low, high = (
        np.abs(np.where(earning, x, y)) for x, y in ((profit, other_profit), (other_profit, profit))
    )
    # what is no candidate comes out as anything, and is not looked at
    with np.errstate(all="ignore"):
        excess = np.where(low > high, (low - high) / high, 0.0)  # pi_l / pi_h - 1
        # log (pi_h e_h) - log (pi_l e_l)
        lead = beta * np.abs(other_value - value) - np.log1p(excess)
        return np.where(
            lead > 0,
            logits(value_low, beta, outside_value) + np.log(excess) - np.log(-np.expm1(-lead)),
            np.inf,
        )


@dataclass(frozen=True, eq=False)
class AuctionEnvelope:
    """The best replies of n providers in G auctions: the lowest score and the steps above it, k - 1
    at most, and an end.
    """

    score: Array  # [k, n, G] USD/query, rising; inf after the last
    worth: Array  # [k, n, G] USD/query, omega: the most that serving is worth with this score
    above: Array  # [k, n, G] USD/query: with this score or a higher one; -inf after the last

    @classmethod
    def of(cls, score: Array, worth: Array) -> AuctionEnvelope:
        """score, worth: `[n, G, a]`, settled quality less cost; NaN where there is no action."""
        n, g, a = score.shape
        table = score.reshape(-1, a), worth.reshape(-1, a)
        steps = [_staircase(*(x[rows] for x in table)) for rows in _blocks(n * g, a)]
        joined = (
            _joined([step[j] for step in steps], fill).reshape(-1, n, g)
            for j, fill in enumerate((np.inf, -np.inf, -np.inf))
        )
        return cls(*joined)

    def of_markets(self, which: Index) -> AuctionEnvelope:
        """Those of some of the G markets, in this order; itself where there is one market only."""
        return self if self.worth.shape[2] == 1 else AuctionEnvelope(*_of_markets(self, which))

    def replies(self, rivals: Any, threshold: ArrayLike) -> tuple[Array, Array]:
        """Actions among which the best reply is: profit and log share `[n, b, 3]`, of staying out,
        winning and tying; NaN if impossible.

        Args:
            rivals: the best rival's score and how many have it, `[n, b]` (`BestRival`).
            threshold: USD/query, what the best score has to reach, `[b]`; b is the number of
                markets, or any if that is one.
        """
        beaten = np.maximum(rivals.score, threshold)
        below = (self.score < beaten).sum(axis=0)
        ties = _take(self.score, below) == rivals.score
        win = _take(self.above, below + ties)
        profit = [
            np.where(below > 0, 0.0, np.nan),
            np.where(win > -np.inf, win - beaten, np.nan),
            np.where(ties, _take(self.worth, below) - beaten, np.nan),
        ]
        log_share = [np.full(beaten.shape, -np.inf), np.zeros(beaten.shape), -np.log1p(rivals.ties)]
        return np.stack(profit, axis=-1), np.stack(log_share, axis=-1)


def _staircase(score: Array, worth: Array) -> tuple[Array, Array, Array]:
    """`AuctionEnvelope`'s fields, `[k, r]`, of rows `[r, a]`."""
    absent = np.isnan(score)
    score, worth = np.where(absent, np.inf, score), np.where(absent, -np.inf, worth)
    order = np.lexsort((worth, score), axis=1)
    score, worth = np.take_along_axis(score, order, 1), np.take_along_axis(worth, order, 1)
    above = np.maximum.accumulate(worth[:, ::-1], axis=1)[:, ::-1]
    end = np.full((len(score), 1), -np.inf)
    keep = worth > np.hstack([above[:, 1:], end])
    # the last of those with the lowest score: of them, it is worth most
    lowest = (score == score[:, :1]).sum(axis=1) - 1
    keep[np.arange(len(score)), lowest] = True
    front = np.argsort(~keep, axis=1, kind="stable")[:, : int(keep.sum(axis=1).max())]
    kept = np.take_along_axis(keep, front, 1)
    score, worth, above = (
        np.hstack([np.where(kept, np.take_along_axis(x, front, 1), fill), np.full_like(end, fill)])
        for x, fill in ((score, np.inf), (worth, -np.inf), (above, -np.inf))
    )
    return score.T, worth.T, above.T


def _of_markets(envelope: PostedEnvelope | AuctionEnvelope, which: Index) -> list[Array]:
    fields = [getattr(envelope, field.name) for field in dataclasses.fields(envelope)]
    in_a_row = which[-1] - which[0] == len(which) - 1
    # a slice copies nothing
    at = slice(which[0], which[-1] + 1) if in_a_row else which
    return [field[..., at] for field in fields]


def _take(table: Array, piece: Index) -> Array:
    """Of `[k, n, G]`, one piece each: `[n, b]`."""
    _, n, g = table.shape
    if g > 1:
        return np.take_along_axis(table, piece[None], axis=0)[0]
    return table.reshape(-1).take(piece * n + np.arange(n)[:, None])


def _blocks(rows: int, columns: int) -> list[slice]:
    step = max(1, _BLOCK // columns)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _joined(blocks: Sequence[np.ndarray], fill: float) -> Array:
    """Blocks `[k, r]` side by side, the shorter ones filled up."""
    longest = max(len(block) for block in blocks)
    return np.concatenate(
        [np.pad(x, ((0, longest - len(x)), (0, 0)), constant_values=fill) for x in blocks], axis=1
    )
