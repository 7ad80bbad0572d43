"""Frozen dataclasses of options as TOML files, commands, and structured configs of Hydra.

    config = settings.load(SweepConfig, "sweep.toml")
    settings.save(config, "copy.toml")
    print(settings.command(config, "ttc-env sweep"))
    ConfigStore.instance().store(name="sweep", node=settings.structured(SweepConfig))

Fields are numbers, words, paths, lists and dicts of these, other such dataclasses, or None. Where a
field allows None, None is its default, since TOML has no word for it. `metadata["help"]` is the
option's line of help.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shlex
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ttc_env.atomic import write_text

T = TypeVar("T")

# --- fields -------------------------------------------------------------------------------------


def described(default: Any, text: str) -> Any:
    """A field with a line of help, and a default that is no list."""
    return dataclasses.field(default=default, metadata={"help": text})


def listed(text: str, *entries: Any) -> Any:
    """A field with a line of help, whose default is a list of `entries`."""
    return dataclasses.field(default_factory=lambda: list(entries), metadata={"help": text})


# --- files --------------------------------------------------------------------------------------


def load(kind: type[T], path: str | Path) -> T:
    """A dataclass from a TOML file; what the file leaves out has its default.

    Raises:
        ValueError: not TOML, an entry that does not exist, or one of the wrong kind.
        OSError: the file cannot be read.
    """
    return of(kind, read_toml(path), str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        ValueError: not TOML.
        OSError: the file cannot be read.
    """
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        raise ValueError(f"{path} is no TOML file: {error}") from None


def save(config: Any, path: str | Path) -> None:
    """Write a dataclass as a TOML file that `load` reads."""
    write_text(Path(path), to_toml(content(config)))


def of(kind: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """A dataclass from a dict (of a TOML file, or of OmegaConf's `to_container`), with names and
    types checked.

    Raises:
        ValueError: an entry that does not exist, one of the wrong kind, or one missing.
    """
    fields, hints = _fields(kind), typing.get_type_hints(kind)
    made = {}
    for name, value in values.items():
        if name not in fields:
            raise ValueError(
                f"{where}: {name!r} is unknown; choose among {', '.join(sorted(fields))}"
            )
        made[name] = _read(value, hints[name], f"{where}: {name}")
    missing = [name for name, field in fields.items() if name not in made and _required(field)]
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing")
    try:
        return kind(**made)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def content(config: Any) -> dict[str, Any]:
    """What differs from a dataclass's defaults, as `of` takes it."""
    values = {}
    for name, field in _fields(type(config)).items():
        value = getattr(config, name)
        if _required(field) or value != _default(field):
            values[name] = _plain(value)
    return values


def _fields(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return content(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows, without None."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return tuple(x for x in (typing.get_args(hint) if union else (hint,)) if x is not type(None))


def _read(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint has it: 1 as 1.0 for a float, a table as a dataclass.

    Raises:
        ValueError: a value of another kind.
    """
    kinds = _kinds(hint)
    if value is None and type(None) in typing.get_args(hint):
        return None
    for kind in kinds:
        origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
        if kind is Any:
            return value
        if dataclasses.is_dataclass(kind) and isinstance(value, origin):
            return value
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            return of(typing.cast("type[Any]", kind), value, where)
        if origin in (dict, Mapping) and isinstance(value, Mapping):
            return {key: _read(entry, inner[1], f"{where}.{key}") for key, entry in value.items()}
        if origin in (list, Sequence) and isinstance(value, (list, tuple)):
            try:
                return [_read(entry, inner[0], where) for entry in value]
            except ValueError:
                break
        if origin is Path and isinstance(value, (str, Path)):
            return Path(value)
        if origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise ValueError(f"{where} is too large; numbers end at 1e308") from None
        if origin in (str, int, bool) and type(value) is origin:
            return value
    expected = " or ".join(map(_named, kinds))
    raise ValueError(f"{where} is {value!r}; expected {expected}")


def _named(kind: Any) -> str:
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (list, Sequence):
        return f"a list of {_named(inner[0])}"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(origin):
        return "a table"
    return str(getattr(origin, "__name__", origin))


# --- TOML ---------------------------------------------------------------------------------------
# The standard library reads TOML and does not write it; this is all that the dataclasses need.


def to_toml(values: Mapping[str, Any], section: str = "") -> str:
    """A dict as TOML: entries, then tables. None is left out, since TOML has none.

    Raises:
        TypeError: a value that TOML cannot hold.
    """
    entries = {key: value for key, value in values.items() if value is not None}
    tables = {key: value for key, value in entries.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_value(entries[key])}" for key in entries if key not in tables]
    if section and (lines or not tables):
        lines.insert(0, f"[{section}]")
    text = "".join(f"{line}\n" for line in lines)
    for key, table in tables.items():
        inner = to_toml(table, f"{section}.{_key(key)}" if section else _key(key))
        text += ("\n" if text else "") + inner
    return text


def _key(key: str) -> str:
    plain = key.replace("-", "").replace("_", "")
    return key if plain.isascii() and plain.isalnum() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        special = {math.inf: "inf", -math.inf: "-inf"}
        return "nan" if math.isnan(value) else special.get(value, repr(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inner} }}"
    raise TypeError(f"TOML cannot hold {value!r}")


# --- command lines ------------------------------------------------------------------------------


def add_options(parser: argparse._ActionsContainer, kind: type[Any]) -> None:
    """Add an option for every field of the dataclass `kind`, of numbers, words, and lists of
    these, which are written with commas; `metadata["help"]` explains.
    """
    hints = typing.get_type_hints(kind)
    for name, field in _fields(kind).items():
        parses, shown = _parser(_kinds(hints[name])[0])
        default = _default(field)
        told = ",".join(map(str, default)) if isinstance(default, list) else default
        text = field.metadata.get("help", "")
        if told not in (None, ""):
            text = f"{text} (default {told})".lstrip()
        parser.add_argument(
            option(name), dest=name, type=parses, metavar=shown, help=text.replace("%", "%%")
        )


def read_options(kind: type[T], options: argparse.Namespace, file: Path | None = None) -> T:
    """The dataclass that the parsed options describe: those that were given, on top of a TOML
    file's.

    Raises:
        ValueError: see `load`, and what the dataclass itself refuses.
        OSError: the file cannot be read.
    """
    given = {name: getattr(options, name) for name in _fields(kind)}
    told = {name: value for name, value in given.items() if value is not None}
    before = {} if file is None else read_toml(file)
    return of(kind, {**before, **told}, "options" if file is None else str(file))


def command(config: Any, program: str) -> str:
    """The command that means the same as the config: an option for every field that differs from
    its default.

        python -m scripts.train --learner hedge --beta 200.0
    """
    words = []
    for name, value in content(config).items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        # a value that begins with a hyphen would be read as an option
        words += [f"{option(name)}={text}"] if text.startswith("-") else [option(name), text]
    return f"{program} {shlex.join(words)}".rstrip()


def show(config: Any, program: str) -> str:
    """The config as a TOML file, with its command in the first line."""
    return f"# {command(config, program)}\n{to_toml(content(config))}"


def option(name: str) -> str:
    """A field's option."""
    return f"--{name.replace('_', '-')}"


def _parser(kind: Any) -> tuple[Callable[[str], Any], str]:
    """How an option's words are read, and what help calls them."""
    if (typing.get_origin(kind) or kind) in (list, Sequence):
        (inner,) = typing.get_args(kind)

        def parse(text: str) -> list[Any]:
            return [inner(part.strip()) for part in text.split(",") if part.strip()]

        parse.__name__ = f"list of {inner.__name__}"  # in argparse's message
        return parse, f"{inner.__name__.upper()},..."
    return kind, kind.__name__.upper()


# --- Hydra --------------------------------------------------------------------------------------


def structured(kind: type[Any]) -> type[Any]:
    """The dataclass as one that Hydra and OmegaConf take: not frozen, since they would refuse
    every override, with lists and dicts for sequences and mappings. Nothing is imported.

        ConfigStore.instance().store(name="train", node=settings.structured(TrainConfig))

        @hydra.main(version_base=None, config_name="train")
        def main(chosen):
            config = settings.of(TrainConfig, OmegaConf.to_container(chosen, resolve=True))
    """
    hints = typing.get_type_hints(kind)
    fields: list[tuple[str, Any, Any]] = []
    for name, one in _fields(kind).items():
        if _required(one):
            default: Any = dataclasses.field(default="???")  # OmegaConf's sign for "must be given"
        else:
            value = _default(one)
            if isinstance(value, (list, tuple, Mapping)):
                default = dataclasses.field(default_factory=partial(_copy, value))
            else:
                default = dataclasses.field(default=value)
        fields.append((name, _unfrozen(hints[name]), default))
    return dataclasses.make_dataclass(kind.__name__, fields)


def _copy(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)


def _unfrozen(hint: Any) -> Any:
    optional = type(None) in typing.get_args(hint)
    (kind,) = _kinds(hint)
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        kind = structured(typing.cast("type[Any]", kind))
    elif origin in (list, Sequence):
        kind = list[_unfrozen(inner[0])]  # type: ignore[misc]
    elif origin in (dict, Mapping):
        kind = dict[inner[0], _unfrozen(inner[1])]  # type: ignore[misc, valid-type]
    return typing.Optional[kind] if optional else kind  # noqa: UP045 (OmegaConf reads it)
