"""What may be handed in: numbers and names are checked here, with errors that name the remedy."""

from __future__ import annotations

import numbers as numbers_abc
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def frozen_array(values: ArrayLike, dtype: Any = np.float64) -> NDArray[Any]:
    """A read-only copy of `values`."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def numbers(what: str, values: ArrayLike) -> Array:
    """A read-only float copy of an array of numbers.

    Raises:
        ValueError: truth values, complex numbers, dates, texts, or rows of different lengths, which
            NumPy would convert or refuse without saying which argument it was.
    """
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{what}: rows of different lengths; fill the end of the shorter ones with NaN"
        ) from error
    plain = given.dtype.kind in "iuf"
    if not plain and not (given.dtype.kind == "O" and all(map(is_number, given.flat))):
        raise ValueError(f"{what} is an array of {given.dtype}; give plain numbers (int or float)")
    return frozen_array(given)


def number(what: str, value: Any, remedy: str) -> float:
    """One finite number as a float.

    Raises:
        ValueError: `value` is something else: a truth value, a text, a complex number, a date, NaN.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not is_number(value) or not np.isfinite(float(value)):
        raise ValueError(f"{what} is {value!r}; it must be a finite number: {remedy}")
    return float(value)


def is_number(value: object) -> bool:
    """Whether a value is a real number that a double can hold; infinities and NaN count."""
    # NumPy's timedelta64 counts as an integer, Python's bool too.
    if isinstance(value, (bool, np.bool_, np.timedelta64)):
        return False
    if not isinstance(value, (numbers_abc.Real, Decimal)):
        return False
    try:
        float(value)
    except OverflowError:  # an integer or a fraction of hundreds of digits
        return False
    return True


def index(what: str, value: Any, count: int, names: Sequence[str] = ()) -> int:
    """A place from 0 to count - 1, or of one of `names`.

    Raises:
        ValueError: `value` is something else: below 0, too large, a truth value, a fraction.
    """
    if isinstance(value, str) and value in names:
        return names.index(value)
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not 0 <= value < count:
        have = f"give an index from 0 to {count - 1}" if count else "there is none at all"
        known = f"choose from {', '.join(names)}, or " if names else ""
        raise ValueError(f"there is no {what} {value!r}; {known}{have}")
    return int(value)


def generator(seed: Any) -> np.random.Generator:
    """The generator of a seed; a generator is itself, and None makes a fresh one.

    Raises:
        ValueError: `seed` is neither.
    """
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and seed >= 0
    if not (whole or seed is None or isinstance(seed, np.random.Generator)):
        raise ValueError(
            f"seed is {seed!r}; give a whole number >= 0, a numpy.random.Generator, or None for a"
            " fresh one"
        )
    return np.random.default_rng(seed)


def within(values: Array, most: float) -> NDArray[np.bool_]:
    """Which numbers lie in [0, most], but for the rounding of means."""
    return (values >= -1e-9) & (values <= most + 1e-9)


def measured_table(field: str, values: ArrayLike, quality: Array, most: float) -> Array:
    """`[n, m]` a measured number of every level that has a quality."""
    table = numbers(field, values)
    if table.shape != quality.shape:
        raise ValueError(
            f"{field} has shape {table.shape}, quality {quality.shape}; give one of the same"
        )
    wrong = ~np.isnan(quality) & ~within(table, most)
    if wrong.any():
        i, at = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"{field} of provider {i}, level index {at}, is {table[i, at]}; it needs one number"
            f" from 0 to {most:g} per level"
        )
    return table


def validate_names(names: Sequence[object]) -> None:
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"{name!r} is no provider name; names are texts of at least one letter: str(...)"
            )


def validate_margin(margin: float) -> None:
    """Raise unless margin >= 0: list price / cost - 1."""
    if not (is_number(margin) and np.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin is {margin!r}; it must be a number >= 0: list price / cost - 1")


def validate_quality(alpha: float, baseline: float) -> None:
    """Raise unless alpha > 0 (USD) and 0 <= baseline <= 1."""
    if not is_number(alpha) or not (np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha is {alpha!r}; it must be a positive number of USD")
    if not is_number(baseline) or not 0.0 <= baseline <= 1.0:
        raise ValueError(f"baseline is {baseline!r}; it is a share of alpha and must lie in [0, 1]")


def validate_tolerance(tolerance: float) -> None:
    """Raise unless tolerance is a finite number >= 0: with any other, every profile, or none, would
    pass for an equilibrium.
    """
    if not (is_number(tolerance) and np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance is {tolerance!r}; it must be a finite number >= 0")
