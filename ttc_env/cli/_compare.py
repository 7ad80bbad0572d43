"""What `ttc-env compare` shows, with or without learners: one figure, one short table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ttc_env.cli._output import aligned, clean
from ttc_env.report.facts import LABELS

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
SAME = 0.01
"""Rules whose parts all differ by less than this share of the first best share a bar."""


def label(row: Mapping[str, Any]) -> str:
    """A rule's name in words."""
    name = LABELS.get(row["mechanism"], row["mechanism"])
    option = str(row["options"]).partition("=")[0]
    return {
        "reserve": f"{name} with reserve",
        "base": f"{name}, its full value",
        "": name,
    }.get(option, f"{name}, {row['options']}")


Row = Mapping[str, Any]


def _rules(rows: Sequence[Row]) -> dict[tuple[str, str, str], dict[str, Row]]:
    """(prices, mechanism, option) -> played by -> row, in the reading without tastes."""
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        if row["reading"] == "without tastes":
            key = row["prices"], row["mechanism"], str(row["options"]).partition("=")[0]
            name = row["played_by"]
            found.setdefault(key, {})["exact" if name in EXACT else name] = row
    return {key: played for key, played in found.items() if "exact" in played}


EXACT = ("equilibrium", "equilibrium, worst")


def groups(panels: Mapping[str, Sequence[Row]]) -> list[list[tuple[str, str, str]]]:
    """Rules in the order of the figure; those that come to the same in all panels share a bar."""
    each = [_rules(rows) for rows in panels.values()]
    names = list(LABELS)

    def place(key: tuple[str, str, str]) -> tuple[int, int, str]:
        prices, name, option = key
        return list(BLOCKS).index(prices), (names.index(name) if name in names else 99), option

    def alike(one: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
        if one[0] != other[0]:
            return False
        for rules in each:
            if (one in rules) != (other in rules):
                return False
            if one in rules:
                a, b = rules[one]["exact"], rules[other]["exact"]
                if not all(abs(a[part] - b[part]) < SAME * a["first_best"] for part in PARTS):
                    return False
        return True

    found: list[list[tuple[str, str, str]]] = []
    for key in sorted({key for rules in each for key in rules}, key=place):
        for group in found:
            if alike(group[0], key):
                group.append(key)
                break
        else:
            found.append([key])
    return found


def figure(panels: Mapping[str, Sequence[Row]], title: str) -> Any:
    """Who gets the first best, and what is lost of it: one bar a rule, in percent.

    Args:
        panels: title -> rows of a comparison, with learners' rows or without.
        title: of the whole.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    shown = groups(panels)
    width = 3.6 + (4.6 if len(panels) == 1 else 3.1 * len(panels))
    chart = Figure(figsize=(width, 2.2 + 0.44 * len(shown)), layout="constrained")
    axes = chart.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    places, y = [], 0.0
    for k, group in enumerate(shown):
        y -= 0.8 if k and group[0][0] != shown[k - 1][0][0] else 0.0
        places.append(y)
        y -= 1.0
    seen: dict[str, Any] = {}
    for axis, (name, rows) in zip(axes, panels.items(), strict=True):
        rules = _rules(rows)
        for at, group in zip(places, shown, strict=True):
            there = [rules[key] for key in group if key in rules]
            if there:
                _bar(axis, at, there, seen)
        best = max((played["exact"]["first_best"] for played in rules.values()), default=0.0)
        axis.set_title(f"{name}\n100% = {best:.2f} USD per 1000 users".strip(), fontsize=10)
        axis.xaxis.set_major_formatter(PercentFormatter(100))
        axis.set_xlim(0, 100)
        axis.set_xticks([0, 50, 100])
        axis.set_ylim(y + 0.4, 0.9)
        clean(axis)
    axes[0].set_yticks(places, [_ticks(group) for group in shown], fontsize=9)
    for k, group in enumerate(shown):
        if not k or group[0][0] != shown[k - 1][0][0]:
            axes[0].text(
                0, places[k] + 0.43, HEADS[group[0][0]], fontsize=8.5, style="italic", va="bottom"
            )
    chart.legend(
        seen.values(),
        seen.keys(),
        loc="outside lower center",
        ncols=2 if len(panels) == 1 else 4,
        fontsize=9,
        frameon=False,
    )
    chart.suptitle(title, fontsize=13)
    return chart


def _bar(axis: Any, y: float, there: Sequence[dict[str, Row]], seen: dict[str, Any]) -> None:
    """The exact parts of the first of some rules that are alike, and the learners of all."""
    row = there[0]["exact"]
    if row["welfare"] != row["welfare"]:
        axis.text(1, y, "no pure equilibrium", fontsize=8, va="center")
        return
    to_percent = 100.0 / row["first_best"]
    left = 0.0
    for part, (text, colour) in PARTS.items():
        width = to_percent * row[part]
        (drawn,) = axis.barh(y, width, left=left, color=colour, height=0.74)
        seen.setdefault(text, drawn)
        left += width
    low, high = (to_percent * row[f"welfare_{end}"] for end in ("low", "high"))
    if low == low:  # not NaN
        look = {"color": "black", "lw": 1.8, "solid_capstyle": "butt", "clip_on": False}
        (line,) = axis.plot([low, min(high, 103)], [y, y], **look)
        seen.setdefault("90% band of welfare", line)
    for played in there:
        for k, (name, (text, marker)) in enumerate(LEARNERS.items()):
            if name in played:
                x = to_percent * played[name]["welfare"]
                look = {"ms": 4.5, "mfc": "white", "mec": "black", "mew": 0.9, "ls": ""}
                (point,) = axis.plot(
                    [x], [y + 0.23 * (1 - k)], marker, **look, zorder=3, clip_on=False
                )
                seen.setdefault(f"as played: {text}", point)


def _ticks(group: Sequence[tuple[str, str, str]]) -> str:
    """Labels of rules that share a bar; a variant of the one before is named by its option."""
    texts: list[str] = []
    for k, (_, name, option) in enumerate(group):
        text = label({"mechanism": name, "options": f"{option}=" if option else ""})
        if k and option and group[k - 1][1] == name:
            text = {"reserve": "with reserve"}.get(option, text)
        texts.append(text)
    return textwrap.fill(", ".join(texts), 42, break_on_hyphens=False)


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


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the short table."""
    print(f"{title}   (USD per 1000 users, without tastes)\n")
    print("\n".join(aligned(text_table(rows))))
