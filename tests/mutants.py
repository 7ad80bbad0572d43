"""Mutants of one module of `ttc_env/game`, all or a uniform sample of them, each against a few
files of tests; the row of tests/MUTANTS.md is written by this command.

    python -m tests.mutants free_prices --tests test_free_prices --sample 40

It works in a copy of the checkout, so that both can be used meanwhile, and needs mutmut
(`make .venv/.mutants`). The same seed draws the same mutants. What is out of time counts as
neither killed nor survived: mutmut gives a mutant 15 times as long as its tests took before.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "tests" / "MUTANTS.md"
HEAD = "| module | tests | mutants | tried | killed | out of time | survived | seed |"
KILLED, SURVIVED, NO_TESTS, NOT_TRIED = (1, 3), (0,), (5, 33), (None,)


def copy_of_the_checkout(folder: Path, module: str, tests: Sequence[str]) -> None:
    """Everything that git knows, with mutmut's settings narrowed to a module and its tests."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    settings = folder / "pyproject.toml"
    text = settings.read_text("utf-8")
    files = json.dumps([f"tests/game/{name}.py" for name in tests])
    for key, value in (
        ("only_mutate", json.dumps([f"ttc_env/game/{module}.py"])),
        ("pytest_add_cli_args_test_selection", files),
    ):
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert found == 1, key
    settings.write_text(text, "utf-8")


def mutmut(folder: Path, *names: str) -> None:
    """Run mutmut on these mutants; a name that fits none makes the mutants and tries none."""
    command = [str(Path(sys.executable).with_name("mutmut")), "run", *names]
    subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL)


def results(folder: Path, module: str) -> dict[str, int | None]:
    """Every mutant, and how its tests ended (see mutmut.stats)."""
    path = folder / "mutants" / "ttc_env" / "game" / f"{module}.py.meta"
    found: dict[str, int | None] = json.loads(path.read_text("utf-8"))["exit_code_by_key"]
    return found


def write_row(module: str, row: str) -> None:
    """Put a row into the page's table, in place of the one there was of the module."""
    lines = PAGE.read_text("utf-8").splitlines()
    at = lines.index(HEAD) + 2
    end = next(k for k in range(at, len(lines)) if not lines[k].startswith("|"))
    kept = [line for line in lines[at:end] if not line.startswith(f"| `{module}` |")]
    PAGE.write_text("\n".join([*lines[:at], *sorted([*kept, row]), *lines[end:]]) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("module", help="of ttc_env/game, such as free_prices or rules/user_types")
    parser.add_argument("--tests", nargs="+", required=True, help="files of tests/game")
    parser.add_argument("--sample", type=int, help="how many mutants; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_the_checkout(folder, told.module, told.tests)
        mutmut(folder, "makes none")
        everything = sorted(results(folder, told.module))
        count = min(told.sample or len(everything), len(everything))
        chosen = sorted(random.Random(told.seed).sample(everything, count))
        mutmut(folder, *chosen)
        found = results(folder, told.module)
        codes = Counter(found[mutant] for mutant in chosen)
        survivors = [m for m in chosen if found[m] in SURVIVED + NO_TESTS]
        for mutant in survivors:
            subprocess.run(
                [str(Path(sys.executable).with_name("mutmut")), "show", mutant],
                cwd=folder,
                check=False,
            )
    killed, survived = (sum(codes[code] for code in some) for some in (KILLED, SURVIVED + NO_TESTS))
    tried = count - sum(codes[code] for code in NOT_TRIED)
    tests = ", ".join(f"`{name}`" for name in told.tests)
    row = (
        f"| `{told.module}` | {tests} | {len(everything)} | {tried} | {killed} |"
        f" {tried - killed - survived} | {survived} | {told.seed} |"
    )
    write_row(told.module, row)
    print("\n".join([*survivors, row]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
