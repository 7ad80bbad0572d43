"""What `ttc-env compare` shows, with or without learners: one figure, one short table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ttc_env.cli._output import clean

NAMES = {
    "market": "pay per token",
    "flat_fee": "flat fee",
    "pay_per_correct": "pay per right answer",
    "two_part": "two-part tariff",
    "price_cap": "price cap",
    "per_character": "pay per character",
    "auction": "second-score auction",
    "first_score": "first-score auction",
    "taste_auction": "auction with tastes",
}
PARTS = {
    "user_value": ("users keep", "#7a5195"),
    "provider_profit": ("providers earn", "#4f8f5b"),
    "lost_to_compute": ("lost: wrong amount of compute", "#b5482d"),
    "lost_to_choice": ("lost: served by a worse provider", "#e0a890"),
    "lost_to_exclusion": ("lost: buy from nobody", "#d9d9d9"),
}
LEARNERS = {
    "best_response": ("best response", "^"),
    "regret_matching": ("regret matching", "D"),
    "ppo_torch": ("independent PPO", "o"),
}
BLOCKS = {"neutral": "list prices", "markups": "free prices"}
HEADS = {
    "neutral": "at list prices, providers choose compute alone",
    "markups": "providers choose compute and price",
}
SAME = 0.005
"""Rules whose parts all differ by less than this share of the first best share a bar."""


def label(row: Mapping[str, Any]) -> str:
    """A rule's name in words."""
    name = NAMES.get(row["mechanism"], row["mechanism"])
    option = str(row["options"]).partition("=")[0]
    return {
        "reserve": f"{name} with reserve",
        "base": f"{name}, its full value",
        "": name,
    }.get(option, f"{name}, {row['options']}")


def bars(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a panel shows: the worst equilibrium of each rule, in the reading without tastes; rules
    that come to the same share a bar, with the learners of all of them.
    """
    found: list[dict[str, Any]] = []
    chosen = [row for row in rows if row["reading"] == "without tastes"]
    names = list(NAMES)

    def place(row: Mapping[str, Any]) -> tuple[int, int]:
        name = row["mechanism"]
        return list(BLOCKS).index(row["prices"]), names.index(name) if name in names else len(names)

    for row in sorted(chosen, key=place):
        if row["played_by"] not in ("equilibrium", "equilibrium, worst"):
            continue
        played = {
            other["played_by"]: other
            for other in chosen
            if all(other[k] == row[k] for k in ("mechanism", "options", "prices"))
        }
        bar = {"row": row, "labels": [label(row)], "played": [played]}
        for other in found:
            twin = other["row"]
            if twin["prices"] == row["prices"] and all(
                abs(twin[part] - row[part]) < SAME * row["first_best"] for part in PARTS
            ):
                other["labels"].append(label(row))
                other["played"].append(played)
                break
        else:
            found.append(bar)
    return found


def figure(panels: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> Any:
    """Who gets the first best, and what is lost of it: one bar a rule, in percent.

    Args:
        panels: title -> rows of a comparison, with learners' rows or without.
        title: of the whole.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    shown = {name: bars(rows) for name, rows in panels.items()}
    most = max(len(one) for one in shown.values())
    size = (3.4 + 4.0 * len(panels), 1.5 + 0.42 * most)
    chart = Figure(figsize=size, layout="constrained")
    axes = chart.subplots(1, len(panels), squeeze=False)[0]
    seen: dict[str, Any] = {}
    for axis, (name, one) in zip(axes, shown.items(), strict=True):
        _panel(axis, one, seen)
        best = one[0]["row"]["first_best"] if one else float("nan")
        axis.set_title(f"{name}\n(100% = {best:.2f} USD per 1000 users)".lstrip("\n"), fontsize=10)
        axis.xaxis.set_major_formatter(PercentFormatter(100))
        clean(axis)
    chart.legend(
        seen.values(),
        seen.keys(),
        loc="outside lower center",
        ncols=2 if len(panels) == 1 else 5,
        fontsize=9,
        frameon=False,
    )
    chart.suptitle(title, fontsize=13)
    return chart


def _panel(axis: Any, shown: list[dict[str, Any]], seen: dict[str, Any]) -> None:
    places, ticks = [], []
    y = 0.0
    for number, bar in enumerate(shown):
        row = bar["row"]
        if number and row["prices"] != shown[number - 1]["row"]["prices"]:
            y -= 0.7
        to_percent = 100.0 / row["first_best"]
        left = 0.0
        for part, (text, colour) in PARTS.items():
            width = to_percent * row[part]
            (drawn,) = axis.barh(y, width, left=left, color=colour, height=0.74)
            seen.setdefault(text, drawn)
            left += width
        low, high = (to_percent * row[f"welfare_{end}"] for end in ("low", "high"))
        if low == low:  # not NaN
            seen.setdefault(
                "90% band of welfare",
                axis.plot(
                    [low, high], [y, y], color="black", lw=1.6, solid_capstyle="butt", clip_on=False
                )[0],
            )
        for played in bar["played"]:
            for k, (name, (text, marker)) in enumerate(LEARNERS.items()):
                if name in played:
                    x = to_percent * played[name]["welfare"]
                    look = {"ms": 5, "mfc": "white", "mec": "black", "mew": 1.0, "ls": ""}
                    (point,) = axis.plot(
                        [x], [y + 0.23 * (1 - k)], marker, **look, zorder=3, clip_on=False
                    )
                    seen.setdefault(f"as played: {text}", point)
        places.append(y)
        ticks.append(",\n".join(_pairs(bar["labels"])))
        y -= 1.0
    axis.set_yticks(places, ticks, fontsize=9)
    axis.set_ylim(y + 0.3, 0.6)
    axis.set_xlim(0, 100)
    first = 0
    for k in range(1, len(shown) + 1):
        if k == len(shown) or shown[k]["row"]["prices"] != shown[first]["row"]["prices"]:
            axis.text(
                0,
                places[first] + 0.45,
                HEADS[shown[first]["row"]["prices"]],
                fontsize=8,
                style="italic",
                va="bottom",
            )
            first = k


def _pairs(labels: list[str]) -> list[str]:
    """Two labels a line."""
    return [", ".join(labels[k : k + 2]) for k in range(0, len(labels), 2)]


SHOWN = {
    "mechanism": "rule",
    "prices": "prices",
    "played_by": "played by",
    "welfare": "welfare",
    "user_value": "users",
    "provider_profit": "providers",
    "overcompute": "over-compute",
    "lost_to_compute": "compute",
    "lost_to_choice": "choice",
    "lost_to_exclusion": "exclusion",
    "audit_gain": "audit gain",
}


def text_table(
    rows: Sequence[Mapping[str, Any]], reading: str = "without tastes"
) -> list[list[str]]:
    """Head and cells of a short table, USD per 1000 users; over-compute in doublings of tokens."""
    lines = [list(SHOWN.values())]
    for row in rows:
        if row["reading"] != reading or row["played_by"] == "own optimum":
            continue
        cells = []
        for name in SHOWN:
            value = row[name]
            if name == "mechanism":
                cells.append(label(row))
            elif isinstance(value, str):
                cells.append(BLOCKS.get(value, value))
            elif value != value:
                cells.append("-")
            elif name == "overcompute":
                cells.append(f"{value + 0.0:+.2f}")
            elif name == "welfare" and row["welfare_low"] == row["welfare_low"]:
                cells.append(f"{value:.2f} [{row['welfare_low']:.2f}, {row['welfare_high']:.2f}]")
            else:
                cells.append(f"{value + 0.0:.2f}")
        lines.append(cells)
    return lines
