"""Infos that are worked out when somebody reads them.

Exact regrets take longer than the round itself, and most rounds' infos are never read. An `Info` is
a dict in every respect; its entries appear at the first look at any of them but the action mask.
What it needs is kept at the time of the round, so reading late changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Rows(Protocol):
    """One dict per provider."""

    def __getitem__(self, i: int, /) -> dict[str, Any]: ...


Source = Callable[[], Rows]


class LazyRound:
    """One round's infos, shared by its providers: worked out once, for all of them."""

    __slots__ = ("_rows", "_source")

    def __init__(self, source: Source):
        self._source: Source | None = source
        self._rows: Rows = []

    def row(self, i: int) -> dict[str, Any]:
        if self._source is not None:
            self._rows, self._source = self._source(), None
        return self._rows[i]


_UNREAD: Any = object()
"""A key that stands in for the entries until they are worked out, where there is no mask."""


class Info(dict[str, Any]):
    """One provider's infos of one round. Copies, pickles and unions are plain dicts."""

    __slots__ = ("_pending",)

    def __init__(self, pending: tuple[LazyRound, int], mask: Any):
        self._pending: tuple[LazyRound, int] | None = pending  # the round, the provider
        # Something is there from the start: C code may ask whether a dict is empty without asking
        # the dict.
        if mask is None:
            dict.__setitem__(self, _UNREAD, None)
        else:
            self["action_mask"] = mask

    def _fill(self) -> None:
        if self._pending is not None:
            (lazy, i), self._pending = self._pending, None
            dict.pop(self, _UNREAD, None)
            mine = dict.copy(self)  # what a wrapper wrote before anybody read
            dict.update(self, lazy.row(i))
            dict.update(self, mine)

    def __missing__(self, key: str) -> Any:
        if self._pending is None:
            raise KeyError(key)
        self._fill()
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        if dict.__contains__(self, key):
            return True
        self._fill()
        return dict.__contains__(self, key)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return dict.__iter__(self)

    def __reversed__(self) -> Iterator[str]:
        self._fill()
        return dict.__reversed__(self)

    def __len__(self) -> int:
        self._fill()
        return dict.__len__(self)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        self._fill()
        return dict.__eq__(self, dict(other) if isinstance(other, Info) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        self._fill()
        return dict.__repr__(self)

    def keys(self) -> Any:
        self._fill()
        return dict.keys(self)

    def values(self) -> Any:
        self._fill()
        return dict.values(self)

    def items(self) -> Any:
        self._fill()
        return dict.items(self)

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | dict(other)

    def __ror__(self, other: Any) -> Any:
        return dict(other) | self.copy()

    def pop(self, *args: Any) -> Any:
        self._fill()
        return dict.pop(self, *args)

    def popitem(self) -> Any:
        self._fill()
        return dict.popitem(self)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._fill()
        return dict.setdefault(self, key, default)

    def __delitem__(self, key: str) -> None:
        self._fill()
        dict.__delitem__(self, key)

    def clear(self) -> None:
        self._pending = None
        dict.clear(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (self.copy(),)
