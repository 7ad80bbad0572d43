"""A frozen dataclass as a command line: one field, one option, one line of help."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar, get_args, get_type_hints

T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Add an option for every field of the dataclass `kind`; its type parses, `metadata["help"]`
    explains.
    """
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"--{field.name.replace('_', '-')}"
        # `float | None` parses as a number; None is what stands there if the option is not given.
        given = next((t for t in get_args(hints[field.name]) if t is not type(None)), None)
        parses = given or hints[field.name]
        default = "" if field.default in (None, "") else f" (default {field.default})"
        text = f"{field.metadata.get('help', '')}{default}".replace("%", "%%")
        parser.add_argument(
            name,
            dest=field.name,
            type=parses,
            default=field.default,
            metavar=parses.__name__.upper(),
            help=text,
        )


def read_options(kind: type[T], options: argparse.Namespace) -> T:
    """The dataclass that the parsed options describe."""
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
