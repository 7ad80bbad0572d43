"""What one round is played in where the world moves, and the round itself (GAME.md, "A world that
moves").

A round is that of the *stage market*: costs as they are now, and those providers that are present.
It is played by the rule's definition, so that every rule has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ttc_env.game.arrays import array_module
from ttc_env.game.rules.base import Round, Rule, Users
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array


class Stage(NamedTuple):
    """What one round is played in: b environments, arrays on the host, None where nothing moves."""

    t: int  # which round, from 0
    costs: tuple[Array, ...] = ()  # [1 or n, b] factors of each process
    demands: tuple[Array, ...] = ()  # [1, b]
    cost: Array | None = None  # [n, b] factors on costs
    arrivals: Array | None = None  # [b] users, whole numbers
    present: np.ndarray | None = None  # [n, b] bool: who offers something
    capital: Array | None = None  # [n, b] USD that a provider may still lose
    # [n, b] the price that may not be changed in this round: its choice's index, or with continuous
    # actions its place in [-1, 1]; -1, or NaN, where it may. The backend's own array
    held: Any = None

    def of(self, columns: slice) -> Stage:
        """The same of some environments."""

        def cut(x: Any) -> Any:
            if isinstance(x, tuple):
                return tuple(map(cut, x))
            return x if x is None or isinstance(x, int) else x[..., columns]

        return Stage(*map(cut, self))

    def at_rest(self, b: int, users: int) -> np.ndarray:
        """`[b]` bool: which environments are as in a world that does not move, whose rounds have so
        many users. Prices that hold change nothing but what may be chosen.
        """
        rests = np.ones(b, bool)
        if self.cost is not None:
            rests &= (self.cost == 1.0).all(axis=0)
        if self.arrivals is not None:
            rests &= self.arrivals == users
        if self.present is not None:
            rests &= self.present.all(axis=0)
        return rests


def same_presence(present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Environments with the same providers, together: their providers `[k]` and columns `[c]`.

    present: `[n, b]`.
    """
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    which = which.reshape(-1)
    for j, pattern in enumerate(patterns.T):
        yield np.flatnonzero(pattern), np.flatnonzero(which == j)


def play_present(
    rule: Rule,
    offer: Offer,
    users: Users,
    present: np.ndarray | None,
    put: Callable[[Any], Any] = np.asarray,
) -> Round:
    """`Rule.play` among those who are present; whoever is absent offers nothing, and its entries
    are 0. With nobody there, all users are left with the outside option.

    Args:
        offer: `[n, b]`.
        users: numbers, `[1]` or `[b]`.
        present: `[n, b]` bool, NumPy; None: everybody is.
        put: makes an array the backend's own.
    """
    if present is None or present.all():
        return rule.play(offer, users)
    xp, there = array_module(offer.quality), put(present)
    nothing = xp.zeros_like(offer.quality)
    alone = xp.zeros_like(offer.quality[0])
    shown = offer.map(lambda x: xp.where(there, x, nothing))
    outside_value = alone + users.outside_value
    found: dict[str, Any] = {
        "log_share": nothing - np.inf,
        "outside_share": alone + 1.0,
        "payment": nothing + 0.0,
        "profit": nothing + 0.0,
        "user_value": outside_value + 0.0,
        "welfare": outside_value + 0.0,
        "fines": alone + 0.0,
    }
    summary_of = rule.rivals(shown, users)
    # [n, b], or with more axes after these
    rivals = type(summary_of)(*(xp.zeros_like(x, dtype=nothing.dtype) + np.nan for x in summary_of))
    for rows, columns in same_presence(present):
        if not len(rows):
            continue
        at, cell = put(columns), (put(rows)[:, None], put(columns)[None, :])
        some = users.map(partial(_of_columns, at=at))
        played = rule.play(cells(offer, cell), some)
        for name, x in found.items():
            here = cell if x.ndim == 2 else at
            x[here] = getattr(played, name) + xp.zeros_like(x[here])  # torch wants one type
        for summary, part in zip(rivals, played.rivals, strict=True):
            summary[cell] = part + xp.zeros_like(summary[cell])
    return Round(offer=shown, rivals=rivals, **found)


def _of_columns(x: Any, at: Any) -> Any:
    """Some environments' entries of a number, `[1]` or `[b]`."""
    return x if np.ndim(x) == 0 or len(x) == 1 else x[at]


def part_of(played: Round, rows: np.ndarray, columns: np.ndarray) -> Round:
    """The rounds of some environments among some providers, who are those that are present."""
    cell = np.ix_(rows, columns)
    of_round = ("outside_share", "user_value", "welfare", "fines")
    of_provider = ("log_share", "payment", "profit")
    fields: dict[str, Any] = {
        **{name: getattr(played, name)[columns] for name in of_round},
        **{name: getattr(played, name)[cell] for name in of_provider},
    }
    rivals = type(played.rivals)(*(summary[cell] for summary in played.rivals))
    return Round(cells(played.offer, cell), rivals=rivals, **fields)


def cells(offer: Offer, cell: Any) -> Offer:
    """The entries of offers at an index."""
    return offer.map(lambda x: x[cell])
