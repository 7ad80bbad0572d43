"""Lines and branches that the tests run, against their floors: `python -m scripts.coverage_floors
coverage.json --floor 95` reads what `coverage json` wrote, prints a row for the package and one for
its game, and ends with status 1 where one is below. A floor is of lines and branches counted
together, as coverage's own figure is; the game's is 100. `make coverage` runs this.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PAIRS = {
    "lines": ("covered_lines", "num_statements"),
    "branches": ("covered_branches", "num_branches"),
}


def percent(files: dict[str, Any], begins: str) -> dict[str, float]:
    """Lines, branches, and both together, of the files whose path begins so, in percent.

    Args:
        files: what `coverage json` has under `files`.

    Raises:
        ValueError: there is no such file, or branches were not counted.
    """
    totals = [
        one["summary"] for path, one in files.items() if Path(path).as_posix().startswith(begins)
    ]
    if not totals:
        raise ValueError(
            f"no file under {begins} in the report; run `make coverage` in the checkout"
        )
    if any("num_branches" not in one for one in totals):
        raise ValueError("branches were not counted; run coverage with --branch")
    counts = {
        name: [sum(one[field] for one in totals) for field in pair] for name, pair in PAIRS.items()
    }
    counts["both"] = [sum(pair) for pair in zip(*counts.values(), strict=True)]
    return {name: 100.0 * covered / max(there, 1) for name, (covered, there) in counts.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="lines and branches against their floors")
    parser.add_argument("report", type=Path, help="a file of `coverage json`")
    parser.add_argument("--floor", type=float, default=95.0, help="percent, of the whole package")
    told = parser.parse_args(argv)
    files = json.loads(told.report.read_text())["files"]
    below = 0
    for begins, floor in (("ttc_env/", told.floor), ("ttc_env/game/", 100.0)):
        found = percent(files, begins)
        below += found["both"] < floor
        each = ", ".join(f"{share:6.2f}% of {name}" for name, share in found.items())
        print(f"{begins:14s} {each}: at least {floor:g}%")
    return int(below > 0)


if __name__ == "__main__":
    sys.exit(main())
