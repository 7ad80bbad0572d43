"""Train PPO with continuous actions, and measure it against the exact equilibrium.

    python -m scripts.train_continuous --mechanism market --benchmark gsm8k --seeds 0..2
    python -m scripts.train_continuous --learner ppo_continuous:distribution=gaussian --beta 200
    python -m scripts.train_continuous --market curves.csv --alpha 0.01 --mechanism auction

Actions are a level and any price of a range (agents/ppo_continuous.py); learners that choose from a
list of actions are those of `scripts.train`. Options, files, resuming and exit statuses are as
there; --out is by default results/train_continuous/<name>. metrics.csv has NashConv and relative
regret against every level and every price of the range, and welfare beside optimum and equilibrium.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from baselines.errors import failed
from scripts.train import Command, execute, interrupted


def main(arguments: Iterable[str] | None = None) -> int:
    try:
        from baselines.continuous import ContinuousConfig, ContinuousPlan, ContinuousRun
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return failed(ImportError("this needs torch: pip install 'ttc-env[train]'"), 2)
    except KeyboardInterrupt:
        return interrupted()
    command = Command(
        "train_continuous",
        __doc__,
        config=ContinuousConfig,
        plan=ContinuousPlan,
        run=ContinuousRun,
    )
    return execute(command, arguments)


if __name__ == "__main__":
    sys.exit(main())
