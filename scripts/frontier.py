"""The history of the frontier's market, solved month by month: `ttc_env.history` has the work.

python -m scripts.frontier [--out baselines/frontier] [--resamples 200] [--no-figures]
"""

import sys

from ttc_env.history import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(
        main(arguments if "--out" in arguments else ["--out", "baselines/frontier", *arguments])
    )
