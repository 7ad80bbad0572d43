"""Best replies in a posted-price game: exact to a named tolerance, O(m) per provider, vectorised
over providers.

Everything here rests on one identity (GAME.md, theorem 3, "All PNE without search"; derived in
docs, not in the paper):

    1 / U_l = 1/pi_l + A_-i / (pi_l e_l),        e_l = exp(z_l),  z_l = beta (V_l - V_0)

so the rivals enter through the one number A_-i, and the best reply is the lowest of m lines in it.
Providers come in three kinds:

* *earning*: some action has pi > 0. Actions with pi <= 0 earn at most 0 and are strictly dominated;
* *idle*: the best profit is exactly 0. Every action with pi = 0 is a best reply, whatever the
  rivals do;
* *losing*: every action has pi < 0. The best reply loses least; it does not rise with A_-i, so
  theorem 3's bracket leaves it free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttc_env.game.demand import logits
from ttc_env.game.types import Array, PostedPriceGame
from ttc_env.game.validation import validate_tolerance

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

_BLOCK = 1 << 16  # table entries per pass: temporaries then stay in the processor's cache


@dataclass(frozen=True, eq=False)
class ReplyTable:
    """A game as best replies see it.

    Columns are the game's own, so an index here is an index there.
    """

    value: Array  # [n, m] USD/query, orders a provider's actions
    z: Array  # [n, m] logits; z_top where the action is no candidate
    z_top: Array  # [n] highest logit among the candidates
    # [n, m] 1/|pi|, query/USD; inf where the action is no candidate, 1 where an idle provider's is
    inverse: Array
    candidate: Mask  # [n, m] actions that can be best replies
    sign: NDArray[np.int8]  # [n] 1 earning, 0 idle, -1 losing
    regular: bool  # every provider earns

    @classmethod
    def of(cls, game: PostedPriceGame, kept: Mask | None = None) -> ReplyTable:
        """kept: `[n, m]` the actions that may be candidates at all; None for all."""
        available, profit = game.available, game.profit
        best = np.fmax.reduce(profit, axis=1)
        sign = np.sign(best).astype(np.int8)
        regular = bool((sign > 0).all())
        # A comparison with NaN is False: padding is no candidate.
        candidate = profit > 0.0
        if not regular:
            candidate = np.where(
                sign[:, None] > 0, candidate, np.where(sign[:, None] == 0, profit == 0.0, available)
            )
        if kept is not None:
            candidate = candidate & kept
        z = logits(game.value, game.beta, game.outside_value)
        if not candidate.all():
            z_top = np.where(candidate, z, -np.inf).max(axis=1)
            np.copyto(z, z_top[:, None], where=~candidate)
        else:
            z_top = z.max(axis=1)
        inverse = np.full(z.shape, np.inf)
        np.divide(1.0, np.abs(profit), out=inverse, where=candidate & (profit != 0.0))
        if not regular:
            inverse[candidate & (profit == 0.0)] = 1.0
        return cls(game.value, z, z_top, inverse, candidate, sign, regular)

    def rows(self, index: Index | slice) -> ReplyTable:
        """The table of some providers only."""
        return ReplyTable(
            self.value[index],
            self.z[index],
            self.z_top[index],
            self.inverse[index],
            self.candidate[index],
            self.sign[index],
            self.regular or bool((self.sign[index] > 0).all()),
        )

    def with_losing_idle(self) -> ReplyTable:
        """Losing providers may play anything: the relaxation in which the bracket of theorem 3
        holds for everybody else.
        """
        return dataclasses.replace(self, sign=np.maximum(self.sign, 0))

    def blocks(self) -> Iterator[slice]:
        """Row ranges small enough for the cache."""
        n, m = self.z.shape
        step = max(1, _BLOCK // m)
        return (slice(start, start + step) for start in range(0, n, step))

    def rounding(self) -> float:
        """How far log utilities may be off by rounding alone: beta V of size 1e7 is known to 1e-9
        only.
        """
        top = max(float(self.z.max()), -float(self.z.min()))
        return 4.0 * float(np.finfo(np.float64).eps) * top


def scores(table: ReplyTable, log_rivals: Array) -> Array:
    """1/|U_l| for every action, up to one positive factor per provider. log_rivals: `[..., n]`;
    returns `[..., n, m]`.

    (1 + A_-i/e_l) / |pi_l|, scaled by min(1, e_top/A_-i) so that the best actions neither overflow
    nor underflow.
    """
    anchor = np.minimum(log_rivals, table.z_top)
    ratio = anchor[..., None] - table.z
    np.exp(ratio, out=ratio)
    ratio += np.exp(anchor - log_rivals)[..., None]
    ratio *= table.inverse
    return ratio


def reply_mask(table: ReplyTable, log_rivals: Array, tolerance: float) -> tuple[Mask, Array]:
    """Which actions are best replies, and the largest log-utility regret among them.

    Args:
        log_rivals: `[..., n]` log A_-i, in units of e_0.
        tolerance: an action is a best reply if its log U is within this of the best.

    Returns:
        mask `[..., n, m]` and the worst log regret of a masked action `[...]` (0 for idle
        providers: they earn 0 in any case).
    """
    with np.errstate(over="ignore"):  # an action that overflows is hopeless, and inf says so
        score = scores(table, log_rivals)
    best = score.min(axis=-1, keepdims=True)
    mask = score <= best * np.exp(tolerance)
    regret = np.log(np.where(mask, score, best) / best)
    if not table.regular:
        idle, losing = table.sign == 0, table.sign < 0
        mask[..., idle, :] = table.candidate[idle]
        regret[..., idle, :] = 0.0
        if losing.any():
            log_loss = _log_losses(table.rows(np.flatnonzero(losing)), log_rivals[..., losing])
            excess = log_loss - log_loss.min(axis=-1, keepdims=True)
            mask[..., losing, :] = excess <= tolerance
            regret[..., losing, :] = np.where(excess <= tolerance, excess, 0.0)
    return mask, regret.max(axis=(-1, -2))


def _log_losses(table: ReplyTable, log_rivals: Array) -> Array:
    """log |U| of losing providers, inf where there is no action. `[..., n, m]`."""
    log_share = -np.logaddexp(0.0, log_rivals[..., None] - table.z)
    return np.where(table.candidate, log_share - np.log(table.inverse), np.inf)


def extreme_replies(table: ReplyTable, log_rivals: Array, tolerance: float) -> Index:
    """The lowest-V best reply to `log_rivals[0]` and the highest-V best reply to `log_rivals[1]`;
    equal V: the first column.

    log_rivals: `[2, n]`; returns `[2, n]` columns. Losing providers must have been made idle
    (`with_losing_idle`).
    """
    replies = np.empty(log_rivals.shape, dtype=np.intp)
    factor = np.exp(tolerance)
    for rows in table.blocks():
        part = table.rows(rows) if len(table.z) > rows.stop - rows.start else table
        with np.errstate(over="ignore"):
            score = scores(part, log_rivals[:, rows])
        mask = score <= score.min(axis=-1, keepdims=True) * factor
        if not part.regular:
            mask[:, part.sign == 0] = part.candidate[part.sign == 0]
        np.where(mask[0], part.value, np.inf).argmin(axis=-1, out=replies[0, rows])
        np.where(mask[1], part.value, -np.inf).argmax(axis=-1, out=replies[1, rows])
    return replies


def best_reply(
    game: PostedPriceGame,
    log_rivals: ArrayLike,
    provider: int | None = None,
    *,
    ties: Literal["lowest", "highest"] = "lowest",
    tolerance: float = 1e-9,
) -> Index:
    """The action that earns most against rivals of total weight A_-i. O(m) per provider.

    Args:
        log_rivals: `[n]` log A_-i in units of e_0 (`demand.log_rivals` of the logits), or a number
            if `provider` is given.
        provider: one provider's index; None for all.
        ties: among actions whose log utility is within `tolerance` of the best, take the one with
            the lowest or the highest V (of equal ones the first column).

    Returns:
        `[n]` columns, or one column (0-d) if `provider` is given.

    Source: derived in docs, not in the paper (GAME.md, theorem 2).
    """
    if ties not in ("lowest", "highest"):
        raise ValueError(f"ties is {ties!r}; choose 'lowest' or 'highest' (V)")
    validate_tolerance(tolerance)
    table = ReplyTable.of(game)
    rivals = np.asarray(log_rivals, dtype=np.float64)
    if provider is not None:
        table, rivals = table.rows(slice(provider, provider + 1)), rivals.reshape(1)
    if rivals.shape != table.sign.shape:
        raise ValueError(
            f"log_rivals has shape {rivals.shape}; give one number per provider, {table.sign.shape}"
        )
    tolerance = tolerance + table.rounding()
    replies = np.empty(len(rivals), dtype=np.intp)
    for rows in table.blocks():
        part = table.rows(rows)
        mask, _ = reply_mask(part, rivals[rows], tolerance)
        if ties == "lowest":
            replies[rows] = np.where(mask, part.value, np.inf).argmin(axis=-1)
        else:
            replies[rows] = np.where(mask, part.value, -np.inf).argmax(axis=-1)
    return replies if provider is None else replies[0]
