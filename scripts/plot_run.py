"""Draw how a run came to the exact equilibrium: `python -m scripts.plot_run results/train/<name>`.

Several folders are drawn together, those of one game in one column (extra `plot`). Exit status 1 if
a folder holds no run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from baselines.errors import failed


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.plot_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument(
        "--out", type=Path, default=None, help="the figure (default: learning.png in the first run)"
    )
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        from baselines.learning_curves import plot_run

        path = plot_run(options.runs, options.out or options.runs[0] / "learning.png")
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return failed(ImportError("figures need matplotlib: pip install 'ttc-env[plot]'"), 1)
    except (ValueError, OSError) as error:
        return failed(error, 1)
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
