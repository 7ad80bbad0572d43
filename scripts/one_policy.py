"""One policy for every market: train it on random markets, score it on markets it never saw.

    python -m scripts.one_policy --out baselines/one_policy

Writes policies/, scores.csv, bids.csv, regression.csv, curves.csv, one_policy.png and README.md:
some CPU minutes (extras `train` and `plot`). Policies that are there are not trained again, so that
the command can be stopped and started. `--quick`: two games, one seed, two updates, for a look.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from baselines import one_policy
from baselines.errors import failed
from baselines.records import make_folder, rounded, write_atomically, write_csv, write_text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/one_policy"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a look")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    args = parser.parse_args(argv)
    try:
        make_folder(args.out / "policies")
    except OSError as error:
        return failed(error, 1)
    torch.set_num_threads(1)  # results repeat themselves exactly

    def progress(items: Iterable[Any], description: str) -> Iterable[Any]:
        try:
            from tqdm import tqdm
        except ImportError:
            return items
        return tqdm(items, desc=description, disable=args.quiet, leave=False)

    plan = one_policy.QUICK if args.quick else one_policy.Plan()
    one_policy.train_all(plan, args.out, progress)
    scores, bids = (rounded(x) for x in one_policy.score(plan, args.out, progress))
    learned = rounded(one_policy.curves(plan, args.out))
    write_csv(args.out / "scores.csv", scores)
    write_csv(args.out / "bids.csv", bids)
    write_csv(args.out / "regression.csv", rounded(one_policy.regression(bids)))
    write_csv(args.out / "curves.csv", learned)
    drawn = one_policy.figure(plan, scores, bids, learned)
    write_atomically(
        args.out / "one_policy.png", lambda path: drawn.savefig(path, dpi=130, format="png")
    )
    command = f"python -m scripts.one_policy --out {args.out}{' --quick' * args.quick}"
    write_text(args.out / "README.md", one_policy.report(plan, scores, bids, learned, command))
    print(
        f"{args.out}: README.md, scores.csv, bids.csv, regression.csv, curves.csv, one_policy.png"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
