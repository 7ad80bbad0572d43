"""Bandits: players that see their own profit and nothing else. Epsilon-greedy, UCB, Thompson
sampling, EXP3.

Rivals learn at the same time, so that old rewards mislead: all weigh recent rounds more. They learn
from log profit (`agents.scale`). Libraries of bandits (SMPyBandits, MABWiser) have one bandit an
object; ours play all providers and seeds as one array, and go on exactly from a checkpoint.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from agents.base import Actions, Agent, Role, best, pure, sample
from agents.checks import fraction, not_negative, positive
from agents.scale import check_scale, scaled
from ttc_env.game.types import Array


class Bandit(Agent):
    """Base: estimates of what each action earns.

    `strategy` is the action with the best estimate.
    """

    stochastic = True
    learns = True
    rounds = 20_000

    def __init__(self, role: Role, scale: str = "log"):
        super().__init__(role)
        self.scale = check_scale(self.name, scale)
        self.draws = role.draws()
        self._there = np.broadcast_to(role.available[:, :, None], role.shape)
        k, _, seeds = role.shape
        self._rows = np.arange(k)[:, None], np.arange(seeds)

    def _at(self, action: Actions) -> tuple[Array, Actions, Array]:
        """Index of the entries `[k, seeds]` of a table `[k, a, seeds]`."""
        return self._rows[0], action, self._rows[1]

    def update(self) -> None:
        assert self.last is not None
        self.t += 1
        self.learn(self.last.action, scaled(self.last.reward, self.scale))

    def learn(self, action: Actions, reward: Array) -> None:
        """action, reward: `[k, seeds]`."""
        raise NotImplementedError

    def estimates(self) -> Array:
        """`[k, a, seeds]`, -inf where an action does not exist."""
        raise NotImplementedError

    def strategy(self) -> Array:
        return pure(self.estimates().argmax(axis=1), self.role.shape[1])


class EpsilonGreedy(Bandit):
    """Mostly the best estimate, sometimes anything.

    Args:
        step: weight of the newest reward in its action's estimate.
        final_exploration: epsilon falls geometrically from 1 to this over the planned rounds.
    """

    name = "epsilon_greedy"
    state = ("draws", "mean", "count")

    def __init__(
        self, role: Role, step: float = 0.1, final_exploration: float = 0.01, scale: str = "log"
    ):
        super().__init__(role, scale)
        self.step = fraction(f"{self.name}: step", step)
        self.final_exploration = fraction(f"{self.name}: final_exploration", final_exploration)
        self.mean = np.zeros(role.shape)
        self.count = np.zeros(role.shape)

    def act(self, observation: Array | None = None) -> Actions:
        epsilon = self.final_exploration ** min(1.0, self.t / max(1, self.role.horizon - 1))
        explores, choice = self.draws() < epsilon, self.draws()
        return np.where(
            explores, sample(self._there.astype(np.float64), choice), best(self.estimates(), choice)
        )

    def learn(self, action: Actions, reward: Array) -> None:
        at = self._at(action)
        self.count[at] += 1.0
        # A plain mean until there are enough rewards for a running one.
        self.mean[at] += np.maximum(1.0 / self.count[at], self.step) * (reward - self.mean[at])

    def estimates(self) -> Array:
        return (
            np.where(self._there & (self.count > 0), self.mean, -np.inf)
            if self.t
            else np.where(self._there, 0.0, -np.inf)
        )


def _fade(name: str, memory: float) -> float:
    """What a round leaves of the weight of an old reward. memory: rounds, or infinity."""
    return float(np.exp(-1.0 / positive(f"{name}: memory", memory, endless=True)))


class FadingMeans(Bandit):
    """Base: means of rewards, of which old ones count less.

    Args:
        memory: rounds after which an old reward weighs 1/e.
    """

    state = ("draws", "total", "count")

    def __init__(self, role: Role, memory: float, scale: str):
        super().__init__(role, scale)
        self.fade = _fade(self.name, memory)
        self.total = np.zeros(role.shape)
        self.count = np.zeros(role.shape)

    def learn(self, action: Actions, reward: Array) -> None:
        self.total *= self.fade
        self.count *= self.fade
        at = self._at(action)
        self.total[at] += reward
        self.count[at] += 1.0

    def estimates(self) -> Array:
        tried = self.count > 0
        return (
            np.where(self._there & tried, self.total / np.where(tried, self.count, 1.0), -np.inf)
            if self.t
            else np.where(self._there, 0.0, -np.inf)
        )


class UCB(FadingMeans):
    """Discounted upper confidence bounds (Garivier and Moulines 2011): mean + width sqrt(log N /
    n), rewards and counts fading.

    Args:
        memory: rounds after which an old reward weighs 1/e.
        width: of the bonus, in e-folds of profit (or in USD with scale="raw").
    """

    name = "ucb"

    def __init__(self, role: Role, memory: float = 2000.0, width: float = 0.05, scale: str = "log"):
        super().__init__(role, memory, scale)
        self.width = not_negative(f"{self.name}: width", width)

    def act(self, observation: Array | None = None) -> Actions:
        tried = self.count > 1e-3
        bonus = self.width * np.sqrt(
            np.log(self.count.sum(axis=1, keepdims=True) + 2.0) / np.where(tried, self.count, 1.0)
        )
        keys = np.where(self._there, np.where(tried, self.estimates() + bonus, np.inf), -np.inf)
        return best(keys, self.draws())


class Thompson(FadingMeans):
    """Thompson sampling (Thompson 1933): plays an action with the probability that it is the best,
    by drawing every action's mean reward from its posterior and playing the largest draw.

    Rewards are taken for Gaussian with standard deviation `width` around means that drift, with a
    flat prior: after n (faded) rewards of mean x the posterior is normal(x, width^2 / n). Fading
    as in discounted Thompson sampling (Raj and Kalyani 2017). Actions that were never played come
    first, in random order.

    Args:
        memory: rounds after which an old reward weighs 1/e.
        width: standard deviation of a reward, in e-folds of profit (in USD with scale="raw").
    """

    name = "thompson"

    def __init__(self, role: Role, memory: float = 2000.0, width: float = 0.2, scale: str = "log"):
        super().__init__(role, memory, scale)
        self.width = not_negative(f"{self.name}: width", width)

    def act(self, observation: Array | None = None) -> Actions:
        uniform = np.stack([self.draws() for _ in range(self.role.shape[1])], axis=1)
        normal = ndtri(np.maximum(uniform, 2.0**-54))  # [k, a, seeds]
        tried = self.count > 0
        posterior = self.estimates() + self.width * normal / np.sqrt(
            np.where(tried, self.count, 1.0)
        )
        keys = np.where(self._there, np.where(tried, posterior, np.inf), -np.inf)
        return best(keys, self.draws())


class EXP3(Bandit):
    """Exponential weights on importance-weighted losses, with implicit exploration (EXP3-IX: Neu
    2015).

    A loss is how far the reward falls short of the best recent one, in units of `width`, capped at
    1: rewards have no known range here.

    Args:
        width: e-folds of profit (or USD with scale="raw") that count as a total loss.
        memory: rounds after which old losses weigh 1/e.
        recent: rounds after which the best recent reward has come 1 - 1/e of the way down to
            current ones.
    """

    name = "exp3"
    state = ("draws", "loss", "top")

    def __init__(
        self,
        role: Role,
        width: float = 1.0,
        memory: float = 5000.0,
        recent: float = 500.0,
        scale: str = "log",
    ):
        super().__init__(role, scale)
        self.recent = positive(f"{self.name}: recent", recent, endless=True)
        self.width, self.fade = positive(f"{self.name}: width", width), _fade(self.name, memory)
        self.loss = np.zeros(role.shape)
        self.top = np.zeros((role.shape[0], role.shape[2]))

    @property
    def _rate(self) -> Array:
        count = self.role.available.sum(axis=1)[:, None, None]
        # Losses fade, so the effective horizon is `memory` at most.
        horizon = min(max(self.t, 1), 1.0 / (1.0 - self.fade) if self.fade < 1.0 else np.inf)
        return 2.0 * np.sqrt(np.log(np.maximum(count, 2)) / (count * horizon))

    def weights(self) -> Array:
        loss = np.where(self._there, self.loss, np.inf)
        weight = np.exp(-self._rate * (loss - loss.min(axis=1, keepdims=True)))
        return weight / weight.sum(axis=1, keepdims=True)

    def act(self, observation: Array | None = None) -> Actions:
        return sample(self.weights(), self.draws())

    def learn(self, action: Actions, reward: Array) -> None:
        chance = self.weights()[self._at(action)]
        # Rivals' first, clumsy rounds pay rewards that never come back; a benchmark that remembered
        # them would make every action a total loss.
        before = np.where(self.t == 1, reward, self.top)
        self.top = np.maximum(before + (reward - before) / self.recent, reward)
        loss = np.minimum((self.top - reward) / self.width, 1.0)
        self.loss *= self.fade
        self.loss[self._at(action)] += loss / (chance + 0.5 * self._rate[:, 0])

    def estimates(self) -> Array:
        return np.where(self._there, -self.loss, -np.inf)
