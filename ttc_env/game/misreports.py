"""Misreports: the lies that providers may tell, and the fine for those who are caught.

| lie | what it is | size |
| --- | --- | --- |
| `over_report` | bill r times the tokens (or characters) that were used | r > 1 |
| `under_serve` | announce a level, and serve one that is some steps lower | steps, or `"every"` |
| `over_claim` | promise k times the true quality | k, not 1; below 1 it is an understatement |

A query is audited with probability `audit_rate`, and a lie then costs `fine`: audit_rate x fine USD
per query served in expectation, the `penalty` of an offer. Users believe an announced level and a
claim. An over-report they see in the bill alone, or, if it is `noticed`, before they choose.

A provider tells one lie at a time. What it reports is the last part of its action: number 0 is the
truth, then the lies in the order of the table (`Misreports.reports`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ttc_env.game.validation import is_number

MOST_STEPS = 1000
"""Of `under_serve`: more than any curve has levels."""

EVERY = "every"
"""Size of `under_serve`: every number of steps that the levels allow."""

DEFAULT_SIZES: dict[str, Any] = {
    "over_report": (1.25, 1.5, 2.0),
    "under_serve": EVERY,
    "over_claim": (1.25, 1.5, 2.0),
}
"""The lies, and their sizes where none are given."""

Misreport: TypeAlias = str | Sequence[str] | Mapping[str, Any]
"""The option: a lie, several, or each with its sizes: `{"over_report": (1.1, 2.0)}`."""


class Report(NamedTuple):
    """What a provider reports: the truth, or a lie of some size."""

    kind: str  # "truth", or a name of `DEFAULT_SIZES`
    size: float  # 1 for the truth

    def __str__(self) -> str:
        return self.kind if self.kind == "truth" else f"{self.kind} {self.size:g}"


TRUTH = Report("truth", 1.0)


@dataclass(frozen=True)
class Misreports:
    """Which lies a mechanism's providers may tell, and what is done about them."""

    over_report: tuple[float, ...] = ()  # factors on the tokens billed
    under_serve: tuple[int, ...] | str = ()  # levels below the announced one, or EVERY
    over_claim: tuple[float, ...] = ()  # factors on the true quality
    audit_rate: float = 1.0  # the chance that a query is audited
    fine: float = 0.0  # USD per query whose lie is found
    noticed: bool = False  # whether users see an over-report before they choose

    def __post_init__(self) -> None:
        for kind, least in (("over_report", 1.0), ("over_claim", 0.0)):
            sizes = _numbers(kind, getattr(self, kind))
            object.__setattr__(self, kind, sizes)
            wrong = [x for x in sizes if x == 1.0 or x < least]
            if wrong or list(sizes) != sorted(set(sizes)):
                raise ValueError(
                    f"sizes of {kind} are factors {'> 1' if least else '>= 0, and not 1'}, in"
                    f" rising order; got {sizes}"
                )
        if self.under_serve != EVERY:
            if isinstance(self.under_serve, str):
                raise ValueError(
                    f"sizes of under_serve are {self.under_serve!r}; give {EVERY!r}, or numbers of"
                    " levels"
                )
            steps = _numbers("under_serve", self.under_serve)
            wrong = [x for x in steps if not 1 <= x <= MOST_STEPS or x != int(x)]
            if wrong or list(steps) != sorted(set(steps)):
                raise ValueError(
                    "sizes of under_serve are whole numbers of levels, from 1 to"
                    f" {MOST_STEPS}, in rising order; got {steps}"
                )
            object.__setattr__(self, "under_serve", tuple(map(int, steps)))
        if not (is_number(self.audit_rate) and 0.0 <= self.audit_rate <= 1.0):
            raise ValueError(f"audit_rate is {self.audit_rate!r}; it is a probability, from 0 to 1")
        if not (is_number(self.fine) and np.isfinite(self.fine) and self.fine >= 0):
            raise ValueError(
                f"fine is {self.fine!r}; it must be a number >= 0 of USD per query whose lie is"
                " found"
            )
        if self.noticed and not self.over_report:
            raise ValueError(
                "noticed says that users see an over-report before they choose, and misreport"
                " allows none; name 'over_report' there"
            )
        object.__setattr__(self, "audit_rate", float(self.audit_rate))
        object.__setattr__(self, "fine", float(self.fine))

    @classmethod
    def of(
        cls,
        misreport: Misreport = (),
        audit_rate: float = 1.0,
        fine: float = 0.0,
        noticed: bool = False,
    ) -> Misreports:
        """Of the options of a mechanism.

        Raises:
            ValueError: a lie or a size that does not exist, or a fine where nobody can lie.
        """
        if isinstance(misreport, str):
            misreport = (misreport,)
        if not isinstance(misreport, (Mapping, Sequence)):
            raise ValueError(
                f"misreport is {misreport!r}; give the name of a lie, several, or a dict of each"
                " with its sizes"
            )
        sizes = (
            dict(misreport)
            if isinstance(misreport, Mapping)
            else {kind: DEFAULT_SIZES.get(kind) for kind in misreport}
        )
        if unknown := [kind for kind in sizes if kind not in DEFAULT_SIZES]:
            raise ValueError(
                f"misreport {', '.join(map(repr, unknown))} is unknown; choose among"
                f" {', '.join(map(repr, DEFAULT_SIZES))}"
            )
        if not sizes and (fine or noticed or audit_rate != 1.0):
            raise ValueError(
                "audit_rate, fine and noticed speak of lies, and none can be told: name them with"
                f" misreport, among {', '.join(map(repr, DEFAULT_SIZES))}"
            )
        return cls(**sizes, audit_rate=audit_rate, fine=fine, noticed=noticed)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The lies that can be told."""
        return tuple(kind for kind in DEFAULT_SIZES if len(getattr(self, kind)))

    @property
    def expected_fine(self) -> float:
        """audit_rate x fine, USD per query served with a lie."""
        return self.audit_rate * self.fine

    def counted(self, num_levels: int) -> Misreports:
        """The same reports as with so many levels, in markets that have fewer, too."""
        if self.under_serve != EVERY:
            return self
        return replace(self, under_serve=tuple(range(1, num_levels)))

    def reports(self, num_levels: int) -> tuple[Report, ...]:
        """What may be reported, the truth first.

        num_levels: the longest level grid, by which `under_serve` counts its steps.
        """
        steps = range(1, num_levels) if self.under_serve == EVERY else self.under_serve
        lies = {
            "over_report": self.over_report,
            "under_serve": steps,
            "over_claim": self.over_claim,
        }
        return TRUTH, *(Report(k, float(size)) for k, sizes in lies.items() for size in sizes)


def read_misreport(text: str) -> dict[str, Any]:
    """The option as written on a command line: `over_report=1.25/2,under_serve`.

    Raises:
        ValueError: a lie that does not exist, or sizes that are no numbers.
    """
    given = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, equals, sizes = part.partition("=")
        if kind not in DEFAULT_SIZES:
            raise ValueError(
                f"misreport {kind!r} is unknown; choose among"
                f" {', '.join(map(repr, DEFAULT_SIZES))}, with sizes as in over_report=1.25/2"
            )
        every = not equals or sizes == EVERY
        given[kind] = (EVERY if sizes else DEFAULT_SIZES[kind]) if every else sizes.split("/")
    return given


def _numbers(kind: str, sizes: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(x) for x in np.atleast_1d(np.asarray(sizes, dtype=np.float64)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"sizes of {kind} are {sizes!r}; they must be numbers") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"sizes of {kind} are {sizes!r}; they must be finite numbers")
    return numbers


HONEST = Misreports()
"""No lies can be told."""
