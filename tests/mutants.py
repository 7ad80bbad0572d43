"""Mutants of `ttc_env/game`, all or a uniform sample of them, each against the tests that run what
it changes; the rows of tests/MUTANTS.md are written by this command.

    python -m tests.mutants --sample 400
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
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "tests" / "MUTANTS.md"
HEAD = "| module | tests | mutants | tried | killed | out of time | survived | seed |"
KILLED, SURVIVED, NO_TESTS, NOT_TRIED = (1, 3), (0,), (5, 33), (None,)


def copy_of_the_checkout(folder: Path, modules: Sequence[str], tests: Sequence[str]) -> None:
    """Everything that git knows, with mutmut's settings narrowed to modules and tests."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    settings = folder / "pyproject.toml"
    text = settings.read_text("utf-8")
    narrowed = {
        "only_mutate": [f"ttc_env/game/{module}.py" for module in modules],
        "pytest_add_cli_args_test_selection": [f"tests/game/{name}.py" for name in tests],
    }
    for key, values in narrowed.items():
        if values:
            text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(values)}", text)
            assert found == 1, key
    settings.write_text(text, "utf-8")


def mutmut(folder: Path, *names: str) -> str:
    """Run mutmut on these mutants, and return what it printed. Without names it makes all mutants
    and tries none.
    """
    command = [str(Path(sys.executable).with_name("mutmut")), "run", *(names or ["none"])]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


def results(folder: Path) -> dict[str, dict[str, int | None]]:
    """Module -> its mutants, and how the tests of each ended (see mutmut.stats)."""
    game = folder / "mutants" / "ttc_env" / "game"
    return {
        str(path.relative_to(game)).removesuffix(".py.meta"): json.loads(path.read_text("utf-8"))[
            "exit_code_by_key"
        ]
        for path in sorted(game.rglob("*.meta"))
    }


def write_rows(rows: Mapping[str, str]) -> None:
    """Put rows into the page's table, in place of those there were of the same modules."""
    lines = PAGE.read_text("utf-8").splitlines()
    at = lines.index(HEAD) + 2
    end = next(k for k in range(at, len(lines)) if not lines[k].startswith("|"))
    kept = {line.split("`")[1]: line for line in lines[at:end] if line.startswith("| `")}
    table = [row for _, row in sorted((kept | dict(rows)).items())]
    sums = [sum(int(row.split("|")[at]) for row in table) for at in range(3, 8)]
    table.append(f"| all | | {' | '.join(map(str, sums))} | |")
    PAGE.write_text("\n".join([*lines[:at], *table, *lines[end:]]) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "modules", nargs="*", help="of ttc_env/game, such as free_prices or rules/user_types"
    )
    parser.add_argument(
        "--tests", nargs="+", default=[], help="files of tests/game; all by default"
    )
    parser.add_argument("--sample", type=int, help="how many mutants; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--folder", type=Path, help="keep the copy here; what was tried in it is not tried again"
    )
    told = parser.parse_args(arguments)
    files = [ROOT / "ttc_env" / "game" / f"{name}.py" for name in told.modules]
    files += [ROOT / "tests" / "game" / f"{name}.py" for name in told.tests]
    if missing := [str(path.relative_to(ROOT)) for path in files if not path.exists()]:
        parser.error(f"there is no {', no '.join(missing)}")
    with tempfile.TemporaryDirectory() as name:
        folder = told.folder or Path(name)
        if not (folder / "pyproject.toml").exists():
            copy_of_the_checkout(folder, told.modules, told.tests)
        said = mutmut(folder)
        everything = sorted(mutant for found in results(folder).values() for mutant in found)
        if not everything:
            print(f"mutmut made no mutants; it ends with:\n{said[-2000:]}", file=sys.stderr)
            return 1
        count = min(told.sample or len(everything), len(everything))
        chosen = sorted(random.Random(told.seed).sample(everything, count))
        mutmut(folder, *chosen)
        rows, survivors = {}, []
        for module, found in results(folder).items():
            mine = [mutant for mutant in chosen if mutant in found]
            codes = Counter(found[mutant] for mutant in mine)
            killed, survived, untried = (
                sum(codes[code] for code in some)
                for some in (KILLED, SURVIVED + NO_TESTS, NOT_TRIED)
            )
            tried = len(mine) - untried
            if tried:
                tests = ", ".join(f"`{name}`" for name in told.tests) or "all"
                rows[module] = (
                    f"| `{module}` | {tests} | {len(found)} | {tried} | {killed} |"
                    f" {tried - killed - survived} | {survived} | {told.seed} |"
                )
            survivors += [m for m in mine if found[m] in SURVIVED + NO_TESTS]
        for mutant in survivors:
            subprocess.run(
                [str(Path(sys.executable).with_name("mutmut")), "show", mutant],
                cwd=folder,
                check=False,
            )
    write_rows(rows)
    print("\n".join([*survivors, *rows.values()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
