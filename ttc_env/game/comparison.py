"""Which pricing rule? Every registered rule on one market, in one yardstick.

Each rule is played in two ways:

- at *neutral* prices, the choice that the theory singles out (the list price): providers choose
  levels alone;
- on one grid of *markups* (`ttc_env.game.markups`): providers choose level and markup. Auctions are
  here alone, since bids at cost are on the grid.

Every row is in USD per 1000 arriving users beside the same first best (`ttc_env.game.yardstick`),
in the reading without tastes, and, where the rule has it, in the one with tastes. Columns with
`_low` and `_high` are the ends of the band over redrawn accuracies (`ttc_env.resample`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ttc_env.game.audit import audit
from ttc_env.game.display import Columns, Tabular, as_html
from ttc_env.game.markups import markup_grid, on_markups
from ttc_env.game.mechanisms import Mechanism, make_mechanism, mechanisms
from ttc_env.game.regret import assess
from ttc_env.game.resampling import interval, resample
from ttc_env.game.solve import solve
from ttc_env.game.types import Array, Market, check_market
from ttc_env.game.validation import is_number
from ttc_env.game.yardstick import Account, account

MEASURES = Account._fields
MONEY = tuple(name for name in MEASURES if name not in ("efficiency", "overcompute"))
"""Measures that are given per 1000 users."""
BANDED = tuple(name for name in MEASURES if name != "first_best")
MOST_RESAMPLES = 100_000
EVERYWHERE = (-np.inf, np.inf)
RANGE = {name: (0.0, np.inf) for name in MONEY if name.startswith("lost_to") or name == "tokens"}
RANGE["efficiency"] = (-np.inf, 1.0)
"""What measures can be, if not any number."""
COLUMNS = (
    "mechanism",
    "options",
    "prices",
    "reading",
    "played_by",
    *MEASURES,
    "nash_conv",
    "audit_gain",
    "certificate",
    "equilibria",
    *(f"{name}_{end}" for name in BANDED for end in ("low", "high")),
    "band",
)

RESERVE = "what users keep today"
"""A reserve at the users' value of the market at list prices, in its worst equilibrium. It costs no
welfare: users never keep more than max w there unless providers lose, so that there is trade.
"""
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pay_per_correct", {"base": "value"}),
    ("auction", {"reserve": RESERVE}),
)
"""Options under which a rule is compared once more."""
READINGS = {"without tastes": False, "with tastes": True}
"""Whether the noise in users' choices is taste (GAME.md, theorem 20)."""


@dataclass(frozen=True)
class Entry:
    """A rule under its options, at neutral prices or on the grid of markups."""

    name: str
    options: tuple[tuple[str, Any], ...]
    prices: str  # "neutral" or "markups"
    mechanism: Mechanism

    @property
    def options_text(self) -> str:
        """`reserve=0.0048857`"""
        return ", ".join(
            f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.options
        )


def entries(
    market: Market, names: Sequence[str] | None = None
) -> tuple[list[Entry], dict[str, str]]:
    """What is compared on this market, and what is left out and why.

    names: of registered mechanisms; default all.

    Raises:
        ValueError: an unknown name, or a market that has no grid of markups.
    """
    known = mechanisms()
    if isinstance(names, str):
        names = [names]
    if names is not None and not len(names):
        raise ValueError(f"no mechanism is named; choose from {', '.join(known)}")
    if unknown := sorted(set(names or ()) - set(known)):
        raise ValueError(
            f"mechanism {', '.join(unknown)} is unknown; choose from {', '.join(known)}"
        )
    grid = markup_grid(market)
    wanted: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in known] + [
        (name, dict(o)) for name, o in VARIANTS
    ]
    wanted.sort(key=lambda one: known.index(one[0]))
    found: list[Entry] = []
    left_out: dict[str, str] = {}
    for name, options in wanted:
        if names is not None and name not in names:
            continue
        if options.get("reserve") == RESERVE:
            options["reserve"] = float(solve(market).user_value)
        label = f"{name} {', '.join(options)}".strip()
        try:
            plain = make_mechanism(name, "fixed", **options)
            laid_out = on_markups(plain.tariff, market, grid)
            on_grid = replace(plain, tariff=laid_out)
            on_grid.offers(market)
        except (ValueError, TypeError) as error:
            left_out[label] = str(error)
            continue
        chosen = {"neutral": plain, "markups": on_grid}
        if laid_out.neutral == 0.0:  # a bid at cost is on the grid
            del chosen["neutral"]
        for prices, mechanism in chosen.items():
            entry = Entry(name, tuple(options.items()), prices, mechanism)
            if not any(_same_game(entry, other, market) for other in found):
                found.append(entry)
    return found, left_out


def _same_game(one: Entry, other: Entry, market: Market) -> bool:
    """Whether two variants of a rule are one game here, prices equal up to rounding."""
    if (one.name, one.prices) != (other.name, other.prices):
        return False
    if getattr(one.mechanism.rule, "__dict__", {}) != getattr(other.mechanism.rule, "__dict__", {}):
        return False
    a, b = (x.mechanism.offers(market).price for x in (one, other))
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True))


@dataclass(frozen=True, eq=False)
class Comparison(Tabular):
    """Rules compared on one market."""

    market: Market
    rows: list[dict[str, Any]]  # of `COLUMNS`
    left_out: dict[str, str] = field(default_factory=dict)  # rules that cannot be had here: why

    def __repr__(self) -> str:
        rules = len({row["mechanism"] for row in self.rows})
        return f"Comparison({self.market!r}: {rules} rules in {len(self.rows)} rows)"

    def columns(self) -> Columns:
        """The rows as columns, as `COLUMNS` names them."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name) for row in self.rows] for name in names}

    def _repr_html_(self) -> str:
        """The rows of equilibria without tastes, and the columns that say who gets what."""
        kept = [
            row
            for row in self.rows
            if row["reading"] == "without tastes" and row["played_by"].startswith("equilibrium")
        ]
        names = ("mechanism", "options", "prices", "played_by", "efficiency", "welfare",
                 "user_value", "provider_profit", "overcompute")  # fmt: skip
        return as_html(
            f"{self!r}; equilibria without tastes", {k: [row[k] for row in kept] for k in names}
        )


def compare(
    market: Market,
    names: Sequence[str] | None = None,
    *,
    resamples: int = 50,
    seed: int = 0,
    band: float = 0.9,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Comparison:
    """Every rule's exact equilibria, and its own optimum, in one yardstick.

    Args:
        market: who sells, and what users are like.
        names: of registered mechanisms; default all.
        resamples: markets with redrawn accuracies, for the bands; 0 for none, as it must be for
            markets given as arrays.
        seed: of the redrawing.
        band: chance inside the bands, cut equally at both ends.
        progress: a wrapper for the loop over rules.

    Raises:
        TypeError: `market` is something else.
        ValueError: an unknown name or none, a market without a grid of markups, a band outside
            (0, 1), or as `ttc_env.resample` does.
    """
    check_market("compare", market)
    if not is_number(band) or not 0.0 < band < 1.0:
        raise ValueError(f"band is {band!r}; it must lie between 0 and 1, such as 0.9")
    if isinstance(resamples, int) and resamples > MOST_RESAMPLES:
        raise ValueError(f"resamples is {resamples}; give at most {MOST_RESAMPLES:,}")
    compared, left_out = entries(market, names)
    drawn = list(resample(market, resamples, seed)) if resamples else []
    rows: list[dict[str, Any]] = []
    for entry in progress(compared):
        rows += exact_rows(entry, market, drawn, band)
    return Comparison(market, rows, left_out)


def exact_rows(
    entry: Entry, market: Market, drawn: Sequence[Market] = (), band: float = 0.9
) -> list[dict[str, Any]]:
    """The rows of one rule: its equilibria and its own optimum, in the readings that it has.

    drawn: markets with redrawn accuracies, which make the bands.
    """
    mechanism = entry.mechanism
    solution = solve(market, mechanism)
    checked = audit(mechanism, market, claims=(1.0, 1.0))
    redrawn = [(one, _profiles(solve(one, mechanism), mechanism, one)) for one in drawn]
    rows = []
    for reading, tastes in READINGS.items():
        for played_by, profile in _profiles(solution, mechanism, market).items():
            if played_by == "equilibrium, best" and len(solution.equilibria) == 1:
                continue
            if played_by == "own optimum" and tastes != mechanism.rule.counts_tastes:
                continue  # what the rule's planner maximises is of one reading
            found = None
            if profile is not None:
                found = account(mechanism, market, profile, tastes=tastes)
                if found is None:
                    break  # this rule does not have this reading
            row = blank_row(entry, reading, _name(played_by, solution))
            row |= {"audit_gain": 1e3 * checked.grid_gain, "equilibria": len(solution.equilibria)}
            row["certificate"] = f"{_proof(played_by, solution)}; {AUDITED}"
            if found is not None and profile is not None:
                row |= money(found)
                row["nash_conv"] = 1e3 * assess(profile, mechanism, market).nash_conv
                row |= _band(row, mechanism, redrawn, played_by, tastes, band)
            rows.append(row)
    return rows


AUDITED = "audit exact over this game's levels and prices, against truthful rivals"


def blank_row(entry: Entry, reading: str, played_by: str) -> dict[str, Any]:
    """A row of `COLUMNS` in which nothing is known yet."""
    return dict.fromkeys(COLUMNS, float("nan")) | {
        "mechanism": entry.name,
        "options": entry.options_text,
        "prices": entry.prices,
        "reading": reading,
        "played_by": played_by,
        "certificate": "",
        "band": "",
    }


def money(found: Account) -> dict[str, float]:
    """An account as a row has it: means over its profiles, money per 1000 users."""
    return {
        name: float(np.mean(value)) * (1e3 if name in MONEY else 1.0)
        for name, value in found._asdict().items()
    }


def _profiles(solution: Any, mechanism: Mechanism, market: Market) -> dict[str, Array | None]:
    """Played by whom -> flat actions `[n]`. Worst and best are those of least and of most welfare,
    among equals of least and of most value to users.
    """
    found: dict[str, Array | None] = {"equilibrium, worst": None}
    if len(solution.equilibria):
        outcomes = mechanism.play(mechanism.offers(market).take(solution.equilibria.T), market)
        order = np.lexsort((outcomes.user_value, np.round(outcomes.welfare, 15)))
        found["equilibrium, worst"] = solution.equilibria[order[0]]
        found["equilibrium, best"] = solution.equilibria[order[-1]]
    undominated: Any = getattr(solution, "undominated", ())
    if len(undominated) and len(solution.equilibria) > 1:
        found["equilibrium, undominated"] = undominated[0]
    found["own optimum"] = solution.optimum
    return found


def _name(played_by: str, solution: Any) -> str:
    one = len(solution.equilibria) <= 1 and played_by == "equilibrium, worst"
    return "equilibrium" if one else played_by


def _proof(played_by: str, solution: Any) -> str:
    """Why these are the numbers of what the row says."""
    if played_by == "own optimum":
        return "the most that this rule's game can reach"
    count = len(solution.equilibria)
    missing = "" if solution.complete else f", and some may be missing: {solution.reason}"
    if not count:
        return f"no pure equilibrium{missing or ', all profiles accounted for'}"
    if played_by == "equilibrium, undominated":
        return "nobody plays a dominated action"
    if count == 1:
        return f"the only equilibrium{missing}" if solution.unique else f"one equilibrium{missing}"
    return f"one of {count} equilibria{missing}"


def _band(
    row_now: dict[str, Any],
    mechanism: Mechanism,
    redrawn: list[tuple[Market, dict[str, Array | None]]],
    played_by: str,
    tastes: bool,
    band: float,
) -> dict[str, Any]:
    """`_low` and `_high` of every measure from redrawn markets, and what they are."""
    values = []
    for market, profiles in redrawn:
        profile = profiles.get(played_by)
        if profile is not None:
            found = account(mechanism, market, profile, tastes=tastes)
            assert found is not None  # the rule has this reading in the market as it is
            values.append(money(found))
    if not values:
        return {}
    row: dict[str, Any] = {}
    for name in BANDED:
        redrawn_values = [one[name] for one in values]
        low, high = interval(row_now[name], redrawn_values, band, RANGE.get(name, EVERYWHERE))
        row[f"{name}_low"], row[f"{name}_high"] = low, high
    without = len(redrawn) - len(values)
    note = f"; {without} more have no such equilibrium" if without else ""
    return row | {"band": f"{band:.0%} of {len(values)} markets with redrawn accuracies{note}"}
