"""A frozen dataclass as a command line: one field, one option, one line of help."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Add an option for every field of the dataclass `kind`; its type parses, `metadata["help"]`
    explains.
    """
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"--{field.name.replace('_', '-')}"
        text = f"{field.metadata.get('help', '')} (default {field.default})".replace("%", "%%")
        parser.add_argument(
            name,
            dest=field.name,
            type=hints[field.name],
            default=field.default,
            metavar=hints[field.name].__name__.upper(),
            help=text,
        )


def read_options(kind: type[T], options: argparse.Namespace) -> T:
    """The dataclass that the parsed options describe."""
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
