"""`python -m ttc_env`: the same as the command `ttc-env`."""

import sys

from ttc_env.cli import main

if __name__ == "__main__":  # a process that checks answers imports this file again
    sys.exit(main())
