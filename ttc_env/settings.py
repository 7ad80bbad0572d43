"""Frozen dataclasses of options as TOML files and as commands.

    config = settings.load(SweepConfig, "sweep.toml")
    settings.save(config, "copy.toml")
    print(settings.command(config, "python -m scripts.train"))

The dataclasses are plain ones, whose fields are numbers, words, lists of these, or None: what
Hydra takes as structured configs, too (`ConfigStore.store(name="sweep", node=SweepConfig)`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ttc_env.atomic import write_text

T = TypeVar("T")


def load(kind: type[T], path: str | Path) -> T:
    """A dataclass from a TOML file; what the file leaves out has its default.

    Raises:
        ValueError: not TOML, an entry that does not exist, or one of the wrong kind.
        OSError: the file cannot be read.
    """
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from None
    return of(kind, content, str(path))


def of(kind: type[T], content: Mapping[str, Any], where: str = "config") -> T:
    """A dataclass from a dict, with names and types checked.

    Raises:
        ValueError: an entry that does not exist, one of the wrong kind, or one missing.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    made = {}
    for name, value in content.items():
        if name not in fields:
            raise ValueError(f"{where}: {name!r} is unknown; choose among {', '.join(fields)}")
        if not _is(value, hints[name]):
            raise ValueError(f"{where}: {name} is {value!r}; expected {_named(hints[name])}")
        made[name] = _as(value, hints[name])
    missing = [
        name
        for name, field in fields.items()
        if name not in made
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing")
    return kind(**made)


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.get_args(hint)
    return (hint,)


def _is(value: Any, hint: Any) -> bool:
    for one in _options(hint):
        origin, inner = typing.get_origin(one) or one, typing.get_args(one)
        if origin is list:
            if isinstance(value, (list, tuple)) and all(_is(entry, inner[0]) for entry in value):
                return True
        elif origin is dict:
            if isinstance(value, Mapping):
                return True
        elif origin is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return True
        elif origin in (types.NoneType, None):
            if value is None:
                return True
        elif isinstance(value, origin) and (origin is bool or not isinstance(value, bool)):
            return True
    return False


def _as(value: Any, hint: Any) -> Any:
    """1 as 1.0 where a float is meant, so that equal files make equal dataclasses."""
    for one in _options(hint):
        if one is float and isinstance(value, int):
            return float(value)
        if typing.get_origin(one) is list and isinstance(value, (list, tuple)):
            return [_as(entry, typing.get_args(one)[0]) for entry in value]
    return value


def _named(hint: Any) -> str:
    return " or ".join(str(getattr(one, "__name__", one)) for one in _options(hint))


def save(config: Any, path: str | Path) -> None:
    """Write a dataclass as TOML."""
    write_text(Path(path), to_toml(dataclasses.asdict(config)))


def to_toml(content: Mapping[str, Any], section: str = "") -> str:
    """A dict as TOML: entries, then tables. None is left out, since TOML has none.

    Raises:
        TypeError: a value that TOML cannot hold.
    """
    entries = {key: value for key, value in content.items() if value is not None}
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
    return key if plain.isascii() and plain.isalnum() else json.dumps(key)


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


def command(config: Any, program: str) -> str:
    """The command that means the same as the config: an option for every field that differs from
    its default, lists with commas.

        python -m scripts.train --learner hedge --beta 200.0
    """
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = (
            field.default_factory()
            if field.default_factory is not dataclasses.MISSING
            else field.default
        )
        if value == default or value is None:
            continue
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        name = f"--{field.name.replace('_', '-')}"
        # a value that begins with a hyphen would be read as an option
        words += [f"{name}={text}"] if text.startswith("-") else [name, text]
    return f"{program} {shlex.join(words)}".rstrip()
