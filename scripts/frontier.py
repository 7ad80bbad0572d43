"""`ttc-env history` from a checkout, into the kept results: `python -m scripts.frontier ...`."""

import sys

from ttc_env.cli import main

if __name__ == "__main__":
    sys.exit(main(["history", "--out", "baselines/frontier", *sys.argv[1:]]))
