"""No-regret learning with full feedback: Hedge, optimistic Hedge, replicator dynamics, regret
matching, regret matching+.

All work on `Payoffs.loss`, each round's payoffs divided by their best, which lies in [0, 2]. It
keeps their guarantees (losses are bounded) and theorem 3's conclusion (dominated actions are played
ever more rarely), and what they drive to zero is the mean *relative* regret. Raw utilities would
not do: at beta = 1e5 a losing provider's utilities span hundreds of orders of magnitude between
rounds.

OpenSpiel has some of these, for games given as the payoffs of all profiles; nine providers with six
levels have ten million. So ours learn from each round's payoffs, under all seeds at once.
"""

from __future__ import annotations

import numpy as np

from agents.base import Actions, Agent, Role, sample
from agents.checks import positive
from ttc_env.game.types import Array


class NoRegret(Agent):
    """Base: draws from a mixed strategy, and updates it from the losses of all own actions."""

    sees_rivals = True
    stochastic = True
    learns = True
    feedback = "full"
    rounds = 5000

    def __init__(self, role: Role):
        super().__init__(role)
        self.draws = role.draws()
        self._there = np.broadcast_to(role.available[:, :, None], role.shape)

    def act(self, observation: Array | None = None) -> Actions:
        return sample(self.strategy(), self.draws())

    def update(self) -> None:
        assert self.last is not None
        assert self.last.payoffs is not None
        self.t += 1
        loss = np.where(self._there, self.last.payoffs.loss(), 0.0)
        self.learn(loss)

    def learn(self, loss: Array) -> None:
        """loss: `[k, a, seeds]`, 0 where an action does not exist."""
        raise NotImplementedError


class Hedge(NoRegret):
    """Weights exp(-rate_t x cumulative loss), rate_t = scale sqrt(log m / t) (Freund and Schapire
    1997; anytime rate: Cesa-Bianchi and Lugosi 2006, theorem 2.3).
    """

    name = "hedge"
    state = ("draws", "total")

    def __init__(self, role: Role, scale: float = 2.0):
        super().__init__(role)
        self.scale = positive(f"{self.name}: scale", scale)
        self.total = np.zeros(role.shape)

    def learn(self, loss: Array) -> None:
        self.total += loss

    def strategy(self) -> Array:
        count = self.role.available.sum(axis=1)[:, None, None]
        rate = self.scale * np.sqrt(np.log(np.maximum(count, 2)) / max(self.t, 1))
        total = np.where(self._there, self.total, np.inf)
        weight = np.exp(-rate * (total - total.min(axis=1, keepdims=True)))
        return weight / weight.sum(axis=1, keepdims=True)


class OptimisticHedge(NoRegret):
    """Optimistic mirror descent with the entropy as its mirror: Hedge at a constant rate that
    counts the last round's loss twice, as a guess of the next one's (Rakhlin and Sridharan 2013;
    Syrgkanis, Agarwal, Luo and Schapire 2015).

    The guess damps the cycles of simultaneous learners, so that the rate need not fall, and the
    last iterate is what is scored, not an average (last-iterate convergence is proved for zero-sum
    games: Daskalakis and Panageas 2019). Where an equilibrium is strict, distance to it falls
    geometrically.

    Args:
        rate: constant, of losses in [0, 2].
    """

    name = "optimistic_hedge"
    state = ("draws", "total", "newest")

    def __init__(self, role: Role, rate: float = 0.3):
        super().__init__(role)
        self.rate = positive(f"{self.name}: rate", rate)
        self.total = np.zeros(role.shape)
        self.newest = np.zeros(role.shape)

    def learn(self, loss: Array) -> None:
        self.total += loss
        self.newest = loss

    def strategy(self) -> Array:
        total = np.where(self._there, self.total + self.newest, np.inf)
        weight = np.exp(-self.rate * (total - total.min(axis=1, keepdims=True)))
        return weight / weight.sum(axis=1, keepdims=True)


class Replicator(NoRegret):
    """Replicator dynamics in rounds: a share of a population grows by how much better its action
    did than the mean, x_a <- x_a (1 + step (mean loss - loss_a)) (Taylor and Jonker 1978; in rounds
    with background fitness 1 / step: Maynard Smith 1982, appendix D). It is the Polynomial Weights
    algorithm (Cesa-Bianchi, Mansour and Stoltz 2007), and as step falls the replicator equation.

    Fitness comes from what rivals played, drawn from their populations. Shares are kept as
    logarithms, so that no action is lost for ever by rounding.

    Args:
        step: length of a round in the dynamics' time, in (0, 0.5): a loss is at most 2, so that
            shares stay positive.
    """

    name = "replicator"
    state = ("draws", "log_share")

    def __init__(self, role: Role, step: float = 0.3):
        super().__init__(role)
        self.step = positive(f"{self.name}: step", step)
        if self.step >= 0.5:
            raise ValueError(f"replicator: step is {step}; it must be below 0.5")
        self.log_share = np.where(self._there, 0.0, -np.inf)

    def learn(self, loss: Array) -> None:
        mean = (self.strategy() * loss).sum(axis=1, keepdims=True)
        self.log_share = self.log_share + np.log1p(self.step * (mean - loss))
        self.log_share -= self.log_share.max(axis=1, keepdims=True)

    def strategy(self) -> Array:
        weight = np.exp(self.log_share)
        return weight / weight.sum(axis=1, keepdims=True)


class RegretMatching(NoRegret):
    """Plays each action in proportion to how much better it would have done, summed over all
    rounds; uniform where none would (Hart and Mas-Colell 2000).
    """

    name = "regret_matching"
    state = ("draws", "regret")

    def __init__(self, role: Role):
        super().__init__(role)
        self.regret = np.zeros(role.shape)

    def learn(self, loss: Array) -> None:
        mean = (self.strategy() * loss).sum(axis=1, keepdims=True)
        self.regret += np.where(self._there, mean - loss, 0.0)

    def strategy(self) -> Array:
        positive = np.where(self._there, np.maximum(self.regret, 0.0), 0.0)
        total = positive.sum(axis=1, keepdims=True)
        # In pure play the mean regret is exactly 0, and rounding can turn all of it negative: then
        # the least bad action, not noise.
        if self.t == 0:
            return self.role.uniform()
        regret = np.where(self._there, self.regret, -np.inf)
        least = (regret == regret.max(axis=1, keepdims=True)).astype(np.float64)
        return np.where(
            total > 0,
            positive / np.where(total > 0, total, 1.0),
            least / least.sum(axis=1, keepdims=True),
        )


class RegretMatchingPlus(RegretMatching):
    """Regret matching that forgets negative sums (Tammelin 2014)."""

    name = "regret_matching_plus"

    def learn(self, loss: Array) -> None:
        super().learn(loss)
        np.maximum(self.regret, 0.0, out=self.regret)
