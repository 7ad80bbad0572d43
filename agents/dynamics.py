"""Adaptive dynamics: players that answer what the others did, and know what each own action would
have earned.

Who may move in a round is an *order*: "turns" (provider t mod n), "random" (one provider a round,
drawn from numbers that the seed makes public, as in [TTC]), or "all" (everybody at once,
which may cycle).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Actions, Agent, Payoffs, Role, best, pure, sample
from agents.checks import fraction, not_negative, one_of, positive
from agents.draws import Draws
from ttc_env.game.types import Array

ORDERS = ("turns", "random", "all")
STARTS = ("random", "lowest", "highest")


class Reviser(Agent):
    """Base: starts somewhere, stays put, and moves when it is its turn.

    Args:
        order: one of ORDERS.
        start: one of STARTS; the lowest and the highest are the first and the last flat action.
    """

    sees_rivals = True
    stochastic = True
    learns = True
    feedback = "full"
    rounds = 600
    state = ("draws", "turns", "action")

    def __init__(self, role: Role, order: str = "turns", start: str = "random"):
        super().__init__(role)
        self.order = one_of(f"{self.name}: order", order, ORDERS)
        one_of(f"{self.name}: start", start, STARTS)
        self.draws = role.draws()
        # All agents under one seed draw the same movers: the order is public.
        self.turns = Draws(role.seeds, [role.num_providers], 1)
        there = role.available
        column = {
            "lowest": there.argmax(axis=1),
            "highest": there.shape[1] - 1 - there[:, ::-1].argmax(axis=1),
        }
        if start == "random":
            self.action = sample(role.uniform(), self.draws())
        else:
            self.action = np.repeat(column[start][:, None], role.shape[2], axis=1)

    def act(self, observation: Array | None = None) -> Actions:
        return self.action.copy()

    def update(self) -> None:
        assert self.last is not None
        assert self.last.payoffs is not None
        answer = self.answer(self.last.payoffs)
        self.action = np.where(self._moves(), answer, self.action)
        self.t += 1

    def _moves(self) -> NDArray[np.bool_]:
        """`[k, seeds]`: who may move now."""
        provider = np.array(self.role.index)[:, None]
        if self.order == "all":
            return np.ones_like(self.action, dtype=bool)
        if self.order == "turns":
            return np.broadcast_to(provider == self.t % self.role.num_providers, self.action.shape)
        return provider == (self.turns() * self.role.num_providers).astype(np.intp)

    def answer(self, payoffs: Payoffs) -> Actions:
        """Where each provider would move to, `[k, seeds]`."""
        raise NotImplementedError

    def strategy(self) -> Array:
        return pure(self.action, self.role.shape[1])

    def _own(self, table: Array) -> Array:
        """Of `[k, a, seeds]`, the entries of the current actions, `[k, 1, seeds]`."""
        return np.take_along_axis(table, self.action[:, None, :], axis=1)


class BestResponse(Reviser):
    """Moves to the action that would have earned most, if that raises log utility by more than
    `tolerance`; ties stay put. Ends in a PNE (GAME.md, theorem 1).
    """

    name = "best_response"

    def __init__(
        self, role: Role, order: str = "turns", start: str = "random", tolerance: float = 1e-9
    ):
        super().__init__(role, order, start)
        self.tolerance = not_negative(f"{self.name}: tolerance", tolerance)

    def answer(self, payoffs: Payoffs) -> Actions:
        rank = payoffs.rank()
        gains = rank.max(axis=1) > self._own(rank)[:, 0] + self.tolerance
        return np.where(gains, rank.argmax(axis=1), self.action)


class NearestImproving(Reviser):
    """The paper's dynamics: moves to the improving action nearest to its own in the list of
    actions, of two equally near ones the lower ([TTC]).
    """

    name = "nearest_improving"

    def __init__(
        self, role: Role, order: str = "random", start: str = "random", tolerance: float = 1e-9
    ):
        super().__init__(role, order, start)
        self.tolerance = not_negative(f"{self.name}: tolerance", tolerance)

    def answer(self, payoffs: Payoffs) -> Actions:
        sign, log = payoffs.sign, payoffs.log_size
        own_sign, own_log = self._own(sign), self._own(log)
        improves = (sign > own_sign) | (
            (sign == own_sign)
            & (sign != 0)
            & (sign * (log - own_log) > self.tolerance)
            & (sign != -2)
        )
        distance = np.abs(np.arange(sign.shape[1])[:, None] - self.action[:, None, :]).astype(
            np.float64
        )
        distance = np.where(improves, distance, np.inf)
        return np.where(improves.any(axis=1), distance.argmin(axis=1), self.action)


class LogitResponse(Reviser):
    """Log-linear learning: moves to an action with probability proportional to U^(1/temperature).

    In log utility the market has an exact potential, so that at a fixed temperature play is a Gibbs
    sampler of exp(potential / temperature), and as the temperature falls it settles on the
    potential maximiser (Blume 1993; GAME.md, theorem 1). The temperature falls geometrically over
    the planned rounds. Where nothing can be earned (a losing bidder), all actions that lose nothing
    are equally likely.

    Args:
        temperature, final_temperature: of log utility, without unit.
    """

    name = "logit_response"
    rounds = 3000

    def __init__(
        self,
        role: Role,
        order: str = "random",
        start: str = "random",
        temperature: float = 1.0,
        final_temperature: float = 1e-4,
    ):
        super().__init__(role, order, start)
        self.temperature = positive(f"{self.name}: temperature", temperature)
        self.final_temperature = positive(f"{self.name}: final_temperature", final_temperature)
        if self.final_temperature > self.temperature:
            raise ValueError(
                f"logit_response: temperatures must fall; got {temperature} to {final_temperature}"
            )

    def answer(self, payoffs: Payoffs) -> Actions:
        done = min(1.0, self.t / max(1, self.role.horizon - 1))
        temperature = self.temperature * (self.final_temperature / self.temperature) ** done
        rank = payoffs.rank()
        weight = np.exp((rank - rank.max(axis=1, keepdims=True)) / temperature)
        return sample(weight, self.draws())


class FictitiousPlay(Agent):
    """Answers the past: plays the action with the least mean loss over the rounds seen, recent ones
    weighing more.

    That is a best reply to the empirical distribution of the rivals' joint play, with each round's
    payoffs divided by their best (`Payoffs.loss`). Weights follow generalised weakened fictitious
    play: belief += (newest - belief) t^-rate; rate = 1 is the classic mean, which at high beta
    remembers the first rounds for too long (Leslie and Collins 2006 show convergence for any rate
    in (0, 1] in potential games; the market is one in log utility).
    """

    name = "fictitious_play"
    sees_rivals = True
    stochastic = True
    learns = True
    feedback = "full"
    rounds = 2000
    state = ("draws", "loss", "action")

    def __init__(self, role: Role, rate: float = 0.6):
        super().__init__(role)
        self.rate = fraction(f"{self.name}: rate", positive(f"{self.name}: rate", rate))
        self.draws = role.draws()
        self.loss = np.where(role.available[:, :, None], np.zeros(role.shape), np.inf)
        self.action = best(-self.loss, self.draws())

    def act(self, observation: Array | None = None) -> Actions:
        return self.action.copy()

    def update(self) -> None:
        assert self.last is not None
        assert self.last.payoffs is not None
        self.t += 1
        there = self.role.available[:, :, None]
        newest = self.last.payoffs.loss()
        step = self.t**-self.rate
        self.loss = np.where(
            there,
            (1.0 - step) * np.where(there, self.loss, 0.0) + step * np.where(there, newest, 0.0),
            np.inf,
        )
        self.action = self.loss.argmin(axis=1)

    def strategy(self) -> Array:
        return pure(self.action, self.role.shape[1])
