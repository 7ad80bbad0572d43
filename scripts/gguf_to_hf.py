"""Turn a model in a GGUF file, whole or in parts, into a Hugging Face folder for vLLM.

    python -m scripts.gguf_to_hf Qwen2.5-Coder-0.5B-Instruct.gguf --out models/qwen-0.5b
    python -m scripts.gguf_to_hf part1.bin part2.bin --sha256 1d961463 --out models/qwen-0.5b

Several inputs are parts of one file: they are joined in the order given. `--sha256` is compared
with the hash of the joined file, or with its beginning, before anything is converted. Quantized
weights become full numbers of `--dtype`; what quantization rounded away does not come back, so a
curve measured on the folder is the quantized model's.

Needs: pip install torch transformers gguf accelerate. They are imported only here, and only when
there is something to convert.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MAGIC = b"GGUF"
DTYPES = ("bfloat16", "float16", "float32")
INSTALL = "pip install torch transformers gguf accelerate"
_CHUNK = 1 << 22


class ConversionError(ValueError):
    """A model that cannot be converted as asked; the message says why and what to do."""


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def check_hash(path: str | Path, expected: str) -> str:
    """The file's sha256, which must begin with `expected`.

    Args:
        path: the file.
        expected: the hash, or its first digits (8 at least), in hexadecimal.

    Raises:
        ConversionError: `expected` is no such beginning, or the file's hash begins differently.
    """
    wanted = expected.strip().lower()
    if not 8 <= len(wanted) <= 64 or set(wanted) - set("0123456789abcdef"):
        raise ConversionError(
            f"--sha256 {expected!r} is no sha256; give its 64 hexadecimal digits, or at least"
            " the first 8"
        )
    found = sha256_of(path)
    if not found.startswith(wanted):
        raise ConversionError(
            f"the model's sha256 is {found}, but {wanted} was expected; are all parts there, and in"
            " order?"
        )
    return found


def join_parts(parts: Sequence[str | Path], target: str | Path) -> Path:
    """Write the parts' bytes, one part after the other, to `target`.

    Raises:
        ConversionError: no part is given, one is missing or stands twice, or the first does not
            begin as a GGUF file does.
    """
    paths = [Path(part) for part in parts]
    if not paths:
        raise ConversionError("no file is given; name the .gguf file, or all its parts in order")
    for path in paths:
        if not path.is_file():
            raise ConversionError(
                f"{path} is no file; name the .gguf file, or all its parts in order"
            )
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConversionError("a part stands twice in the list; name each part once, in order")
    with paths[0].open("rb") as stream:
        start = stream.read(len(MAGIC))
    if start != MAGIC:
        raise ConversionError(
            f"{paths[0]} begins with {start!r}, but a GGUF file begins with {MAGIC!r}; "
            "is it the first part? Unpack archives (a .whl is a .zip) first"
        )
    target = Path(target)
    with target.open("wb") as joined:
        for path in paths:
            with path.open("rb") as stream:
                while block := stream.read(_CHUNK):
                    joined.write(block)
    return target


@contextmanager
def joined_file(parts: Sequence[str | Path], folder: Path) -> Iterator[Path]:
    """The one GGUF file that `parts` make up, as a copy in `folder` that is deleted afterwards.

    Raises:
        ConversionError: see `join_parts`.
    """
    handle, name = tempfile.mkstemp(dir=folder, prefix="joined-", suffix=".gguf")
    os.close(handle)
    joined = Path(name)
    try:
        yield join_parts(parts, joined)
    finally:
        joined.unlink()


def convert(
    parts: Sequence[str | Path],
    out: str | Path,
    *,
    dtype: str = "bfloat16",
    sha256: str | None = None,
) -> str:
    """Write the model of a GGUF file to the folder `out`: weights, configuration, tokenizer.

    Args:
        parts: the file, or its parts in order.
        out: a folder that does not exist yet, or is empty.
        dtype: number format of the weights, one of `DTYPES`.
        sha256: what the (joined) file's hash must begin with; not checked where None.

    Returns:
        The sha256 of the GGUF file.

    Raises:
        ConversionError: bad parts, another hash, a folder that is not empty, an unknown dtype, or
            packages that are not installed.
    """
    out = Path(out)
    if dtype not in DTYPES:
        raise ConversionError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConversionError(
            f"{out} exists and is not empty; choose another folder, or delete it first"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with joined_file(parts, out.parent) as gguf:
        found = check_hash(gguf, sha256) if sha256 else sha256_of(gguf)
        _save(gguf, out, dtype)
    return found


def _save(gguf: Path, out: Path, dtype: str) -> None:
    try:
        import accelerate  # noqa: F401  transformers needs it to load GGUF
        import gguf as reader  # noqa: F401
        import torch
        import transformers
    except ImportError as error:
        raise ConversionError(f"{error.name} is not installed; {INSTALL}") from error
    options = {"gguf_file": gguf.name, "dtype": getattr(torch, dtype)}
    if hasattr(transformers, "GgufConfig"):  # since 5.x blocks stay quantized unless asked for
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    folder = str(gguf.parent)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    if hasattr(model.config, "quantization_config"):  # the folder holds plain numbers
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", type=Path, nargs="+", help="the .gguf file, or its parts in order")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the model")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the weights")
    parser.add_argument("--sha256", help="of the whole file, or the first digits (8 or more)")
    args = parser.parse_args()
    try:
        found = convert(args.parts, args.out, dtype=args.dtype, sha256=args.sha256)
    except ConversionError as error:
        raise SystemExit(str(error)) from None
    print(f"{args.out}: {args.dtype}, from a GGUF file with sha256 {found}")


if __name__ == "__main__":
    main()
