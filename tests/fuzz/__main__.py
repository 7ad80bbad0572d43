"""Runs the slow tests of this folder, and writes what they counted into README.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
HEAD = """# What was tried

Random inputs that the slow tests of this folder drew, and what they did. *Refused* inputs raised
an error that names what is wrong, as they should; a *failure* is a wrong answer, another error, or
a changed state. Each row is of the last run of its test:

    python -m tests.fuzz             # all
    python -m tests.fuzz games       # one

| test | inputs | refused | failures | CPU seconds | seed | what an input is |
| --- | --- | --- | --- | --- | --- | --- |
"""


def main(parts: list[str]) -> int:
    """Run all tests, or those named, and merge their rows into the table."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.jsonl"
        out.touch()
        chosen = ["-k", " or ".join(parts)] if parts else []
        command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "slow", "-s", str(HERE)]
        done = subprocess.run(
            [*command, *chosen], env={**os.environ, "TTC_FUZZ_OUT": str(out)}, check=False
        )
        rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    table = {}
    if PAGE.exists():
        for line in PAGE.read_text("utf-8").splitlines():
            if line.startswith("| `"):
                table[line.split("`")[1]] = line
    for row in rows:
        table[row["name"]] = (
            f"| `{row['name']}` | {row['inputs']:,} | {row['refused']:,} | {row['failures']} |"
            f" {row['seconds']} | {row['seed']} | {row['what']} |"
        )
    PAGE.write_text(HEAD + "".join(table[name] + "\n" for name in sorted(table)), "utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
