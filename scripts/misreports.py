"""Lies in the published games: which fine deters, who pays, and at which fine learners stop.

    python -m scripts.misreports --out baselines/misreports

Writes frontier.csv, learners.csv, misreports.png and README.md: a few CPU minutes. One market's
frontier: `ttc-env deterrence`. `--quick`: one game and one seed, for a look.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines import misreports
from baselines.published import GAMES
from baselines.records import write_atomically, write_csv, write_text
from ttc_env.game.curves import STUDIED_BETAS


def progress(description: str, quiet: bool) -> Any:
    """A wrapper for loops: tqdm where it is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return iter
    return lambda items: tqdm(items, desc=description, disable=quiet, leave=False)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/misreports"))
    parser.add_argument("--quick", action="store_true", help="one game, one beta, one seed")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    games = GAMES[:1] if args.quick else GAMES
    betas = STUDIED_BETAS[:1] if args.quick else STUDIED_BETAS
    seeds = (0,) if args.quick else (0, 1, 2)
    frontier = misreports.frontier_table(games, betas, progress("frontiers", args.quiet))
    write_csv(args.out / "frontier.csv", frontier)
    learners = misreports.learner_table(
        games, betas[0], seeds=seeds, progress=progress("learners", args.quiet)
    )
    write_csv(args.out / "learners.csv", learners)
    drawn = misreports.figure(frontier, learners)
    write_atomically(
        args.out / "misreports.png", lambda path: drawn.savefig(path, dpi=130, format="png")
    )
    command = f"python -m scripts.misreports --out {args.out}{' --quick' * args.quick}"
    write_text(args.out / "README.md", misreports.report(frontier, learners, command))
    print(f"{args.out}: README.md, frontier.csv, learners.csv, misreports.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
