"""`ttc-env estimate` from a checkout: `python -m scripts.estimate ...`."""

import sys

from ttc_env.cli import main
from ttc_env.measure.estimate import OBSERVATIONAL, curves_of

__all__ = ["OBSERVATIONAL", "curves_of"]

if __name__ == "__main__":
    sys.exit(main(["estimate", *sys.argv[1:]]))
