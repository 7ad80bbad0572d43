"""Which mathematical expression a text settles on, and whether it equals another.

The comparison itself is `math-verify`'s; this file decides what it gets to see: the last box that
holds something (also `\\fbox`, and a box that was never closed), mixed numbers as fractions (`3
1/2` is 7/2, not 3 times 1/2), and numbers without their units where the gold answer is a number.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ttc_env.measure.backends.base import MissingExtra
from ttc_env.measure.choice import boxes

LONGEST_BOX = 2_000  # characters; a longer box holds no answer
TAIL = 4_000  # characters at the end of a text without a box


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Bounded repetitions, each of another class of characters than its neighbours.
_MIXED = re.compile(r"(?<![\d./^_}])(\d{1,9})[ ~]{1,4}(\d{1,9}) ?/ ?(\d{1,9})(?![\d/.]\d|\d)")
_MIXED_LATEX = re.compile(
    r"(?<![\d./^_}])(\d{1,9})[ ~]{1,4}\\[dt]?frac ?\{?(\d{1,9})\}? ?\{(\d{1,9})\}"
)
_THOUSANDS = re.compile(r"(?<=\d)\\[,;!] ?(?=\d{3}(?!\d))")
_WRAPPED = re.compile(r"^\\(?:text|textbf|mathrm|mathbf|textrm) ?\{([^{}]{1,200})\}$")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|textrm|mbox|operatorname) ?\{([^{}]{0,100})\}")
_NUMBER = re.compile(
    r"^(?P<sign>[-+−]?) ?\\?[$£€]? ?(?P<number>\d[\d.,{}!]{0,60}(?: ?/ ?\d{1,20})?"
    r"|\\[dt]?frac ?\{[\d.]{1,20}\} ?\{[\d.]{1,20}\}|\.\d{1,40}) ?(?P<unit>[^=]{0,80})$"
)
_SHORT_UNITS = _set(
    "m cm mm km kg g mg s h hr hrs min ml l L ft in yd lb lbs oz mph kmh mi V W N J K C F Hz Pa mol"
    " cents USD"
)


class BadGold(ValueError):
    """A task's gold answer cannot be read, so no answer to that question can be checked."""


def expression(text: str, *, number: bool = True) -> str | None:
    """What `math-verify` is to parse of a text, or None where there is nothing.

    Args:
        text: a generated answer.
        number: the expected answer is a number, so a unit after a number says nothing.
    """
    filled = [content for content in boxes(text) if content.strip(" .$\\,~\n{}")]
    if filled:
        if len(filled[-1]) > LONGEST_BOX:
            return None
        return f"\\boxed{{{_balanced(plain(filled[-1], number=number))}}}"
    rest = re.sub(r"\\(?:boxed|fbox)", " ", text[-TAIL:]).strip()
    return _without_mixed(rest) or None


def plain(content: str, *, number: bool = True) -> str:
    """An expression without a wrapping `\\text{}`, without mixed numbers and, if a `number` is
    expected, without units.
    """
    content = _THOUSANDS.sub("", content.strip().strip("$").strip())
    wrapped = _WRAPPED.match(content)
    content = _without_mixed(wrapped[1].strip() if wrapped else content)
    return _without_unit(content) if number else content


def _without_mixed(text: str) -> str:
    """`3 1/2` as `7/2`."""

    def improper(match: re.Match[str]) -> str:
        whole, over, under = (int(part) for part in match.groups())
        return f"{whole * under + over}/{under}" if 0 < over < under else match[0]

    return _MIXED.sub(improper, _MIXED_LATEX.sub(improper, text))


def _without_unit(content: str) -> str:
    """`12 cm`, `$12`, `12\\text{ dollars}` as `12`; anything else as it is."""
    bare = re.sub(r"\\[,;:! ]", " ", _TEXT.sub(r" \1", content)).strip().rstrip(".")
    match = _NUMBER.match(bare)
    if match is None:
        return content
    unit = re.sub(r"\^ ?\{?\\?(?:circ|[23])\}?|[°²³]", " ", match["unit"]).strip()
    if not unit or unit == "\\%" or unit == "%":
        return content if not unit and "^" in match["unit"] else _joined(match, unit)
    words = re.split(r"[ /*·\\-]{1,4}", unit)
    if all(w in _SHORT_UNITS or (w.isalpha() and len(w) >= 3) or w == "" for w in words):
        return _joined(match, "")
    return content


def _joined(match: re.Match[str], unit: str) -> str:
    return f"{match['sign']}{match['number']}{unit}"


def _balanced(content: str) -> str:
    """`content` with as many closing braces as opening ones: an unclosed box cuts an inner one."""
    missing = content.count("{") - content.count("}")
    return content + "}" * missing if missing > 0 else content


def same_expression(text: str, gold: str) -> tuple[str | None, bool]:
    """The expression that a text settles on in its normal form (None without one), and whether it
    equals the gold answer.

    Runs in the calling process and can hang: use `ttc_env.measure.scoring.check_answers`.

    Raises:
        BadGold: the gold answer is no expression.
        MissingExtra: math-verify is not installed.

    Source: math-verify (Hugging Face), `parse` and `verify`.
    """
    try:
        import math_verify
    except ImportError as error:
        raise MissingExtra("math-verify", "to check mathematical answers") from error
    # Its own timeouts use signals, which work in a main thread only and do not interrupt C code:
    # ours kills the process instead.
    target, number = _gold(gold)
    shown = expression(text, number=number)
    parsed = math_verify.parse(shown, parsing_timeout=None) if shown else []
    if not parsed:
        return None, False
    return (
        _normal_form(parsed[0]),
        bool(math_verify.verify(list(target), parsed, timeout_seconds=None)),
    )


@cache
def _gold(gold: str) -> tuple[tuple[Any, ...], bool]:
    """The gold answer parsed, and whether it is a number."""
    import math_verify

    content = boxes(gold)[-1] if boxes(gold) else gold
    content = plain(content)
    parsed = math_verify.parse(f"${content}$", parsing_timeout=None)
    if not parsed:
        raise BadGold(
            f"the gold answer {gold!r} is no mathematical expression; check the task's data"
        )
    return tuple(parsed), bool(getattr(parsed[0], "is_number", False))


def _normal_form(expression: Any) -> str:
    """One string for equal numbers (1/2, 0.5, 50%) and for equations that name a value (x = 3)."""
    import sympy

    if isinstance(expression, sympy.Eq) and isinstance(expression.lhs, sympy.Symbol):
        expression = expression.rhs
    if isinstance(expression, sympy.Expr) and expression.is_number:
        expression = (
            sympy.nsimplify(expression, rational=True)
            if expression.has(sympy.Float)
            else sympy.simplify(expression)
        )
    return str(expression)
