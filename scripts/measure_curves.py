"""`ttc-env measure` from a checkout: `python -m scripts.measure_curves ...`."""

import sys

from ttc_env.cli import main

if __name__ == "__main__":
    sys.exit(main(["measure", *sys.argv[1:]]))
