"""Double oracle, which learning calls PSRO: solve a small game, ask what would beat its solution,
add the answers, and solve again.

| step | here |
| --- | --- |
| restricted game | every provider has a subset of its actions, at first one drawn at random |
| meta-strategy | an equilibrium of the restricted game, on exact payoffs |
| oracle | each provider's best reply to it among all actions: exact, or a learner's answer |

McMahan, Gordon and Blum (2003) for two players; policy-space response oracles with learned replies:
Lanctot et al. (2017). Where nobody's best reply is new and worth more, the meta-strategy is an
equilibrium of the whole game. OpenSpiel has PSRO for games in extensive form and for payoff tables
of all profiles; ours keeps the market's formulas (no table of m^n profiles), plays under all seeds
at once, and goes on exactly from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents import agent_class, make_role
from agents.arena import Arena
from agents.base import Actions, Agent, Role, pure, sample
from agents.checks import not_negative, whole
from agents.draws import Draws
from ttc_env.envs.config import EnvConfig
from ttc_env.game import regret
from ttc_env.game.types import Array

MOST_SWEEPS = 100
"""Sweeps of best replies in a restricted game, after which it is taken to have no pure
equilibrium that they come to."""


class DoubleOracle(Agent):
    """One iteration a round: everybody's best reply to the meta-strategy joins its actions. Plays
    its part of the meta-strategy.

    The meta-strategy is a pure equilibrium of the restricted game, found by best replies in turn;
    where these cycle, the mean play of regret matching+ on exact expected payoffs, which is near an
    equilibrium, not at one. All providers' agents work the whole game out alike, from the same
    public draws.

    Args:
        oracle: "exact"; or a learner (`ucb`, `q_learning`, `ppo_torch`, ...), which is trained
            against the meta-strategy and whose answer without exploration counts.
        oracle_rounds: of its training; 0: the learner's own default.
        oracle_markets: parallel markets that it is trained on. Independent learners vote.
        tolerance: relative regret up to which a provider has no better reply.
        meta_iterations: of regret matching+, where there is no pure equilibrium.
    """

    name = "double_oracle"
    sees_solver = True
    stochastic = True
    feedback = "none"
    rounds = 50
    state = ("draws", "chosen", "meta", "done", "gap")

    def __init__(
        self,
        role: Role,
        oracle: str = "exact",
        oracle_rounds: int = 0,
        oracle_markets: int = 16,
        tolerance: float = 1e-9,
        meta_iterations: int = 300,
    ):
        super().__init__(role)
        assert role.config is not None
        self.game: EnvConfig = role.config
        self.oracle = oracle
        self.tolerance = not_negative(f"{self.name}: tolerance", tolerance)
        self.oracle_rounds = whole(f"{self.name}: oracle_rounds", oracle_rounds, least=0)
        self.oracle_markets = whole(f"{self.name}: oracle_markets", oracle_markets)
        self.meta_iterations = whole(f"{self.name}: meta_iterations", meta_iterations)
        if oracle != "exact" and agent_class(oracle).sees_solver:
            raise ValueError(
                f"double_oracle: oracle is {oracle!r}, which knows the game's solution; choose"
                " 'exact' or a learner, such as 'ucb' or 'ppo_torch'"
            )
        self.draws = role.draws()
        there = ~np.isnan(self.game.table.quality)
        n, a = there.shape
        # The same start in every provider's agent: the whole game's is public.
        public = Draws(role.seeds, range(n), 3)
        start = sample(np.repeat(there[:, :, None], len(role.seeds), axis=2) * 1.0, public())
        self.chosen = pure(start, a) > 0  # [n, a, seeds] the restricted game
        self.meta = pure(start, a)  # [n, a, seeds]
        self.done = np.zeros(len(role.seeds), bool)  # no best reply is new
        # [seeds] the largest relative regret of any provider in the whole game
        self.gap = np.full(len(role.seeds), np.nan)

    def act(self, observation: Array | None = None) -> Actions:
        return sample(self.strategy(), self.draws())

    def strategy(self) -> Array:
        return self.meta[list(self.role.index)]

    @property
    def certified(self) -> NDArray[np.bool_]:
        """`[seeds]`: whether the meta-strategy is an equilibrium of the whole game, checked against
        every action, up to `tolerance`.
        """
        return self.done & (self.gap <= self.tolerance)

    def update(self) -> None:
        self.t += 1
        for k in np.flatnonzero(~self.done):
            self._iterate(int(k))

    def _iterate(self, k: int) -> None:
        """One iteration under seed k."""
        chosen, meta = self.chosen[:, :, k], self.meta[:, :, k]
        self.meta[:, :, k] = meta = self._meta_strategy(chosen, meta.argmax(axis=1))
        exact = regret.assess(_profile(meta), self.game.mechanism, self.game.market)
        self.gap[k] = exact.relative.max()
        if self.oracle == "exact":
            rows = np.flatnonzero(exact.relative > self.tolerance)
            answers = exact.best_action
        else:
            rows = np.arange(len(chosen))
            answers = np.array([self._learned(i, meta, k) for i in rows])
        new = rows[~chosen[rows, answers[rows]]]
        self.chosen[new, answers[new], k] = True
        self.done[k] = not len(new)

    def _meta_strategy(self, chosen: NDArray[np.bool_], start: Actions) -> Array:
        """An equilibrium of the restricted game, `[n, a]`. start: `[n]`, where best replies
        begin.
        """
        game, profile = self.game, start.copy()
        noise = game.mechanism.rule.noise(game.table)
        for _ in range(MOST_SWEEPS):
            moved = False
            for i in range(len(profile)):
                profit, log_share = game.mechanism.deviations(
                    game.table, game.table.take(profile), game.market
                )
                row = slice(i, i + 1)
                own = (row, profile[i])
                best, _, relative = regret.compare(
                    np.where(chosen[row], profit[row], np.nan),
                    log_share[row],
                    profit[own],
                    log_share[own],
                    noise,
                )
                if relative[0] > self.tolerance:
                    profile[i], moved = best[0], True
            if not moved:
                return pure(profile[:, None], chosen.shape[1])[:, :, 0]
        return self._mixed(chosen)

    def _mixed(self, chosen: NDArray[np.bool_]) -> Array:
        """The mean play, later rounds weighing more, of regret matching+ (Tammelin 2014) in the
        restricted game, everybody's payoffs divided by its best: `[n, a]`.
        """
        game = self.game
        uniform = chosen / chosen.sum(axis=1, keepdims=True)
        mixture, total = uniform, np.zeros(chosen.shape)
        sums = np.zeros(chosen.shape)
        for t in range(1, self.meta_iterations + 1):
            expected = game.mechanism.rule.expected_utilities(mixture, game.table, game.market)
            payoff = _relative(expected.amount, expected.log_factor, chosen)
            mean = (mixture * payoff).sum(axis=1, keepdims=True)
            sums = np.where(chosen, np.maximum(sums + payoff - mean, 0.0), 0.0)
            weight = sums.sum(axis=1, keepdims=True)
            mixture = np.where(weight > 0, sums / np.where(weight > 0, weight, 1.0), uniform)
            total += t * mixture
        return total / total.sum(axis=1, keepdims=True)

    def _learned(self, i: int, meta: Array, k: int) -> int:
        """The action that the learner `oracle` comes to as provider i against the meta-strategy
        `[n, a]` under seed k.
        """
        learner = agent_class(self.oracle)
        rounds = self.oracle_rounds or learner.rounds
        entropy = [self.role.seeds[k], 6, self.t, i]
        seeds = [
            int(x) for x in np.random.SeedSequence(entropy).generate_state(self.oracle_markets)
        ]
        others = [j for j in range(len(meta)) if j != i]
        agents: list[Agent] = [learner(make_role(self.game, [i], seeds, rounds))]
        if others:
            agents.append(_Mixed(make_role(self.game, others, seeds, rounds), meta[others]))
        arena = Arena(self.game, agents, seeds)
        for _ in range(rounds):
            arena.step()
        return int(arena.strategies()[i].mean(axis=1).argmax())

    def diagnostics(self) -> Mapping[str, float]:
        return {
            "actions": float(self.chosen.sum(axis=1).mean()),
            "relative_regret": float(self.gap.max()),
        }


class _Mixed(Agent):
    """Rivals of a learning oracle: they draw from the meta-strategy, and do not learn."""

    name = "meta_strategy"
    stochastic = True
    feedback = "none"
    state = ("draws",)

    def __init__(self, role: Role, mixture: Array):
        super().__init__(role)
        self.draws = role.draws()
        self._mixture = np.repeat(mixture[:, :, None], len(role.seeds), axis=2)

    def act(self, observation: Array | None = None) -> Actions:
        return sample(self._mixture, self.draws())

    def strategy(self) -> Array:
        return self._mixture


def _profile(meta: Array) -> Array | Actions:
    """A pure profile `[n]` where nobody mixes, else the mixture `[n, a]`."""
    return meta.argmax(axis=1) if (meta.max(axis=1) == 1.0).all() else meta


def _relative(amount: Array, log_factor: Array, chosen: NDArray[np.bool_]) -> Array:
    """Payoffs amount * exp(log_factor) `[n, a]` as parts of the provider's largest profit or loss
    among `chosen`, in [-1, 1]; 0 elsewhere.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(np.abs(amount)) + log_factor
    counts = chosen & (amount != 0)
    unit = np.where(counts, log, -np.inf).max(axis=1, keepdims=True)
    size = np.exp(np.where(counts, log - np.where(np.isfinite(unit), unit, 0.0), -np.inf))
    return np.where(counts, np.sign(amount) * size, 0.0)
