"""How a learner that only sees its own profit handles scale.

Profits per round span ten orders of magnitude between providers of one market, and a losing
provider's change by hundreds as its rivals move. A learning rate, a network's initialisation or a
confidence width all presume a scale. So bandit and RL agents learn, by default, from log profit:
sign(r) log(1 + |r| / FLOOR).

- It is a rising function of the profit of a round, so best replies to what rivals do, dominance,
  and the interval in which adaptive play must end (GAME.md, theorem 3) stay as they are; in the
  market it is, up to the floor, the very payoff that has an exact potential (theorem 1).
- What it changes is the attitude to risk against rivals who randomise: that fades as they stop
  exploring.
- Profits far below FLOOR look alike. That is what a losing provider at high beta cannot know: with
  a share of exp(-400) no user ever comes, and no action of its own changes that.

It never touches reported numbers: every metric is computed from actions, in USD. `scale="raw"`
switches it off.
"""

from __future__ import annotations

import numpy as np

from agents.checks import one_of
from ttc_env.game.types import Array

FLOOR = 1e-6
"""USD per round: 1e-9 USD per arriving user at the default 1,000 users a round."""

SCALES = ("log", "raw")


def scaled(reward: Array, scale: str) -> Array:
    """The reward (USD per round, any shape) as a learner should see it."""
    return reward if scale == "raw" else np.sign(reward) * np.log1p(np.abs(reward) / FLOOR)


def check_scale(name: str, scale: str) -> str:
    return one_of(f"{name}: scale", scale, SCALES)
