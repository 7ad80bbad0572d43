"""Players that do not learn: random, constant, truthful and shaded bidders; the planner's and the
equilibrium's profile.
"""

from __future__ import annotations

import numpy as np

from agents.base import Actions, Agent, Role, pure, sample
from agents.checks import one_of, whole
from ttc_env.game.rules.score_auction import AuctionSolution
from ttc_env.game.solution import Solution
from ttc_env.game.types import Array
from ttc_env.game.validation import is_number

EQUILIBRIA = ("worst", "lowest", "highest", "nearest")


class Random(Agent):
    """Every action that exists is equally likely, every round."""

    name = "random"
    stochastic = True
    feedback = "none"
    state = ("draws",)

    def __init__(self, role: Role):
        super().__init__(role)
        self.draws = role.draws()

    def act(self, observation: Array | None = None) -> Actions:
        return sample(self.strategy(), self.draws())

    def strategy(self) -> Array:
        return self.role.uniform()


class Fixed(Agent):
    """Base of players that always do one thing."""

    feedback = "none"
    rounds = 10

    def __init__(self, role: Role):
        super().__init__(role)
        self._action = self.choose()  # [k]

    def choose(self) -> Actions:
        """Flat action of each provider, `[k]`."""
        raise NotImplementedError

    def act(self, observation: Array | None = None) -> Actions:
        return np.repeat(self._action[:, None], self.role.shape[2], axis=1)

    def strategy(self) -> Array:
        return pure(self.act(), self.role.shape[1])

    def neutral(self) -> int:
        """Index of the price choice nearest to list price (truthful bid)."""
        return int(np.abs(np.array(self.role.price_choices) - self.role.neutral_price).argmin())

    def join(self, level: Actions, price: int) -> Actions:
        """Flat actions that tell no lie: report 0."""
        _, prices, reports = self.role.grid
        return (np.asarray(level) * prices + price) * reports

    def efficient_level(self) -> Actions:
        """`[k]`: argmax_l of q - c, the level that a truthful bidder offers (GAME.md, "Dominant
        strategy").
        """
        surplus = (self.role.quality - self.role.cost).reshape(
            len(self.role.index), self.role.grid[0], -1
        )[:, :, 0]
        return np.nanargmax(surplus, axis=1)


class Constant(Fixed):
    """Always one level, at the list price or truthful bid.

    Args:
        level: the level's label (samples, or effort); the highest of each provider if None.

    Raises:
        ValueError: a provider has no level of that label.
    """

    name = "constant"

    def __init__(self, role: Role, level: float | None = None):
        if level is not None and not is_number(level):
            raise ValueError(f"constant: level is {level!r}; it must be the label of a level")
        self._level = level
        super().__init__(role)

    def choose(self) -> Actions:
        levels = []
        for i, labels in zip(self.role.index, self.role.labels, strict=True):
            if self._level is None:
                levels.append(len(labels) - 1)
                continue
            at = np.flatnonzero(np.isclose(labels, self._level))
            if not at.size:
                raise ValueError(
                    f"level {self._level:g} is unknown: provider_{i} has levels"
                    f" {', '.join(f'{x:g}' for x in labels)}"
                )
            levels.append(int(at[0]))
        return self.join(np.array(levels), self.neutral())


class Truthful(Fixed):
    """The level with the largest quality minus cost, at cost (auction) or list price (market), with
    no lie: dominant in the auction ([TTC]).
    """

    name = "truthful"

    def choose(self) -> Actions:
        return self.join(self.efficient_level(), self.neutral())


class Shaded(Fixed):
    """As `Truthful`, but asking more: price choices above the truthful one, as many steps as
    `steps` (where the grid has them).
    """

    name = "shaded"

    def __init__(self, role: Role, steps: int = 1):
        self._steps = whole(f"{self.name}: steps", steps, least=0)
        super().__init__(role)

    def choose(self) -> Actions:
        price = self.neutral() + self._steps
        return self.join(self.efficient_level(), min(price, len(self.role.price_choices) - 1))


class Equilibrium(Fixed):
    """Plays its part of an equilibrium: market `which` = "worst" (in welfare), "lowest" or
    "highest" PNE, or "nearest", the profile of least regret, which exists in every game; auction:
    the dominant strategy.

    Raises:
        ValueError: the game has no such equilibrium.
    """

    name = "equilibrium"
    sees_solver = True

    def __init__(self, role: Role, which: str = "worst"):
        self._which = one_of("equilibrium: which", which, EQUILIBRIA)
        super().__init__(role)

    def choose(self) -> Actions:
        assert self.role.config is not None
        solution = self.role.config.solve()
        if isinstance(solution, AuctionSolution):
            return solution.actions[list(self.role.index)]
        if self._which == "nearest" and isinstance(solution, Solution):
            profile = solution.least_regret.profile
        elif isinstance(solution, Solution) and solution.no_equilibrium:
            raise ValueError(
                f"equilibrium: {solution.no_equilibrium}; play equilibrium:which=nearest, the"
                " profile of least regret"
            )
        else:
            profile = getattr(solution, self._which)
        if profile is None:
            raise ValueError(
                f"equilibrium: no equilibrium is the {self._which} for every provider here; choose"
                " which=worst or which=nearest"
            )
        return np.asarray(profile)[list(self.role.index)]


class Planner(Fixed):
    """Plays its part of the social optimum: what a planner would have everybody do under the
    market's rules.
    """

    name = "planner"
    sees_solver = True

    def choose(self) -> Actions:
        assert self.role.config is not None
        solution = self.role.config.solve()
        # In the auction the dominant strategies already reach the most welfare that there is.
        profile = solution.actions if isinstance(solution, AuctionSolution) else solution.optimum
        return np.asarray(profile)[list(self.role.index)]
