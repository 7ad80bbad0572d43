"""Checkpoints: nested dicts and lists of arrays, numbers and strings, in one .npz file without
pickles, written whole or not at all.

`torch.save` and joblib write pickles, which run code when they are read (SECURITY.md), and most
learners here have no torch; safetensors and Orbax hold tensors alone, and a checkpoint is more.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ttc_env.atomic import write_atomically

#: What NumPy, zipfile and json make of a damaged file.
_DAMAGED = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    RuntimeError,  # NotImplementedError and RecursionError with it
    SyntaxError,  # an array's header
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def save(path: Path, content: dict[str, Any], *, compress: bool = False) -> None:
    """Write `content` to `path`. A run killed at any moment leaves the old file or the new one."""
    arrays: dict[str, np.ndarray] = {}
    skeleton = json.dumps(_strip(content, arrays))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            (np.savez_compressed if compress else np.savez)(
                file, skeleton=np.frombuffer(skeleton.encode(), np.uint8), **arrays
            )
            file.flush()
            os.fsync(file.fileno())

    write_atomically(path, write)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote.

    Raises:
        ValueError: not a checkpoint.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        skeleton = json.loads(arrays.pop("skeleton").tobytes().decode())
        return _fill(skeleton, arrays)
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is not a checkpoint of this program ({error}); delete it to start again"
        ) from error


def _strip(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        return {str(key): _strip(inner, arrays) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strip(inner, arrays) for inner in value]
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"__array__": name}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _fill(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__array__"}:
            return arrays[value["__array__"]]
        return {key: _fill(inner, arrays) for key, inner in value.items()}
    return [_fill(inner, arrays) for inner in value] if isinstance(value, list) else value
