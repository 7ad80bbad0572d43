"""The command `ttc-env`, also `python -m ttc_env`.

Every module here whose name does not begin with an underscore is a subcommand, found by walking the
folder. To add one, write `ttc_env/cli/<name>.py` with

- a docstring; its first line is the help line, and all of it the text of `--help`;
- `add_arguments(parser)`;
- `run(args)`, which imports what it needs when it runs, so that `ttc-env --help` stays quick.

An underscore in a module's name is a hyphen in the command's. What a user can do wrong raises
ValueError (or OSError, or a missing package's ImportError) with a message that names the remedy: it
becomes one line on stderr and exit code 2. `--traceback` shows where it came from.

argparse, here and in `scripts`, because the wheel then needs no package for its command; options of
a dataclass are made by `ttc_env.settings.add_options`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

PROGRAM = "ttc-env"
USER_ERROR, INTERRUPTED = 2, 130  # exit codes


def commands() -> dict[str, str]:
    """Subcommand -> the module that holds it."""
    return {
        module.name.replace("_", "-"): f"{__name__}.{module.name}"
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")
    }


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the list of all options."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(prog=PROGRAM, description="Test-time compute games: solve, play, measure.")
    top.add_argument("--version", action="store_true", help="print the version")
    top.add_argument(
        "--traceback", action="store_true", help="where an error came from, not its message alone"
    )
    parts = top.add_subparsers(dest="command", metavar="command", parser_class=_Parser)
    for name, path in commands().items():
        module = importlib.import_module(path)
        text = module.__doc__ or ""
        part = parts.add_parser(
            name,
            help=" ".join(text.strip().partition("\n\n")[0].split()).replace("%", "%%"),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        part.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
        module.add_arguments(part)
        part.set_defaults(module=module)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (the process's own by default) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    top = parser()
    args = top.parse_args(arguments)
    if args.version:
        import ttc_env

        print(f"{PROGRAM} {ttc_env.__version__}")
        return 0
    if args.command is None:
        top.print_help()
        return USER_ERROR
    return _run(args.module, args)


def _run(module: ModuleType, args: argparse.Namespace) -> int:
    try:
        module.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{PROGRAM} {args.command}: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if args.traceback:
            raise
        message = of_the_system(error) if isinstance(error, OSError) else str(error)
        message = " ".join(message.split()) or type(error).__name__
        print(f"{PROGRAM} {args.command}: {message}", file=sys.stderr)
        return USER_ERROR
    return 0


def of_the_system(error: OSError) -> str:
    """What the operating system refused: which file, why, and what to do."""
    if not error.strerror:
        return str(error)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        remedy = "make room: what is stored stays, and the same command goes on from there"
    else:
        remedy = "name another file or folder"
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror}; {remedy}"
