"""A world that moves, round by round, for many environments at once (GAME.md, "A world that
moves").

A `Stage` is what one round is played in. `World.first` makes the first, `World.after` the next one
from a round that was played: pure functions but for the generator, so that a refused action leaves
the world as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ttc_env.envs.config import EnvConfig, action_masks
from ttc_env.envs.generators import SeparateGenerators, from_states, states_of
from ttc_env.envs.observations import BatchObservation, ObservationLayout
from ttc_env.envs.rounds import BatchRounds, Played
from ttc_env.envs.world.shocks import MOST, Shocks, row_of
from ttc_env.envs.world.stage import Stage
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.types import Array

_STREAM = 0x576F726C  # so that the world is drawn apart from users' choices under the same seed


def world_generator(seed: Any) -> np.random.Generator | SeparateGenerators:
    """A generator for the batch; or, of a seed per environment, one each. None: from the system."""
    if seed is None or isinstance(seed, (int, np.integer)):
        return np.random.default_rng(None if seed is None else (int(seed), _STREAM))
    return SeparateGenerators([np.random.default_rng((int(one), _STREAM)) for one in seed])


class World:
    """How the world of `num_envs` environments moves."""

    def __init__(self, config: EnvConfig, rounds: BatchRounds):
        self.config, self._rounds = config, rounds
        self._n, self._b = rounds.n, rounds.num_envs
        self._shocks = config.shocks or Shocks()
        self._layout = ObservationLayout(config)

    def first(self, rng: Any) -> Stage:
        """The world of round 0."""
        present = capital = None
        if "presence" in self._shocks.moves:
            present = np.ones((self._n, self._b), bool)
            if (first := self._shocks.first) is not None:
                present &= first[:, None]
        if self._shocks.capital is not None:
            capital = self._whole_capital() + 0.0
        costs, demands = (
            tuple(one.first(self._noise(one, rng)) for one in processes)
            for processes in (self._shocks.costs, self._shocks.demands)
        )
        return self._stage(0, costs, demands, present, capital, self._free())

    def after(self, stage: Stage, played: Played, rng: Any) -> Stage:
        """The world of the next round."""
        t = stage.t + 1
        costs = self._moved(self._shocks.costs, t, stage.costs, rng)
        demands = self._moved(self._shocks.demands, t, stage.demands, rng)
        present, capital = self._presence(t, stage, played, rng)
        held = self._free()
        if held is not None and t % self.config.price_period:
            held = played.asked
            if present is not None and stage.present is not None:
                xp, stays = self._rounds.xp, self._rounds.put(present & stage.present)
                held = xp.where(stays, held, self._free())
        return self._stage(t, costs, demands, present, capital, held)

    def later(self, stage: Stage, t: int) -> Stage | None:
        """Round t's world, where it follows from that of an earlier one whatever is played; else
        None. Prices must be free to change in it, and nothing may be drawn.
        """
        free = t % self.config.price_period == 0
        if not (free and self._shocks.known(self._n)):
            return None
        nobody = np.random.default_rng(0)  # draws nothing
        costs, demands = stage.costs, stage.demands
        for s in range(stage.t + 1, t + 1):
            costs = self._moved(self._shocks.costs, s, costs, nobody)
            demands = self._moved(self._shocks.demands, s, demands, nobody)
        present = stage.present
        if (schedule := self._shocks.schedule) is not None:
            present = self._scheduled(schedule, t)
        return self._stage(t, costs, demands, present, None, self._free())

    def _scheduled(self, schedule: np.ndarray, t: int) -> np.ndarray:
        return np.repeat(row_of(schedule, t)[:, None], self._b, axis=1)

    def _presence(
        self, t: int, stage: Stage, played: Played, rng: Any
    ) -> tuple[np.ndarray | None, Array | None]:
        """Who is there in round t, and what they may still lose."""
        present, capital = stage.present, stage.capital
        if present is None:
            return None, None
        shocks = self._shocks
        if shocks.schedule is not None:
            return self._scheduled(shocks.schedule, t), None
        leaves = np.zeros_like(present)
        enters = np.zeros_like(present)
        if shocks.chances:
            u = _rows(rng, "random", self._b, self._n)
            leaves = present & (u < np.reshape(shocks.exit, (-1, 1)))
            enters = ~present & (u < np.reshape(shocks.entry, (-1, 1)))
        if capital is not None:
            capital = capital + np.where(present, self._rounds.host(played.reward), 0.0)
            leaves |= present & (capital < 0)
            capital = np.where(enters, self._whole_capital(), capital)
        return (present & ~leaves) | enters, capital

    def _moved(self, processes: Any, t: int, factors: tuple[Array, ...], rng: Any) -> Any:
        """Each process's factors in round t."""
        return tuple(
            one.after(t, factor, self._noise(one, rng))
            for one, factor in zip(processes, factors, strict=True)
        )

    def _stage(
        self,
        t: int,
        costs: tuple[Array, ...],
        demands: tuple[Array, ...],
        present: np.ndarray | None,
        capital: Array | None,
        held: Any,
    ) -> Stage:
        cost = arrivals = None
        if costs:
            cost = np.ones((self._n, self._b))
            for factor in costs:
                cost = cost * factor
        if demands:
            factor = np.prod([x[0] for x in demands], axis=0).clip(1.0 / MOST, MOST)
            size = float(self.config.users) * factor
            arrivals = np.maximum(np.rint(size), 1.0).astype(np.int64)
        return Stage(t, costs, demands, cost, arrivals, present, capital, held)

    def _whole_capital(self) -> Array:
        given = np.reshape(np.asarray(self._shocks.capital, dtype=np.float64), (-1, 1))
        return np.broadcast_to(given, (self._n, self._b))

    def _free(self) -> Any:
        """`held` where every price may be changed; None where prices never hold."""
        if self.config.price_period == 1:
            return None
        shape = self._n, self._b
        free = np.full(shape, np.nan) if self.config.continuous else np.full(shape, -1)
        return self._rounds.put(free)

    def _noise(self, process: Any, rng: Any) -> Array:
        return _rows(rng, "standard_normal", self._b, process.draws(self._n))

    # --- what is seen of it ---

    def show(self, obs: BatchObservation, stage: Stage) -> BatchObservation:
        """Write what is known of the coming round into observations."""
        at = self._layout.slices
        first, public = self._layout.constant_size, self._layout.private_size

        def write(name: str, values: Any) -> None:
            """values: `[k, b]`, k as the block's size."""
            part = slice(at[name].start - public, at[name].stop - public)
            obs.public[:, part] = self._rounds.put(np.asarray(values, np.float32)).T

        if stage.cost is not None:
            write("cost_factor", _squashed(stage.cost))
        if stage.present is not None:
            write("present", stage.present)
        if stage.arrivals is not None:
            write("arrivals", _squashed(stage.arrivals / self.config.users)[None])
        if stage.held is not None:
            period = self.config.price_period
            left = (-stage.t % period) / period
            own = at["price_wait"].start - first
            obs.own[:, :, own] = (self.locked(stage) * left).T
        return obs

    def locked(self, stage: Stage) -> Any:
        """`[n, b]` bool: whose price may not be changed."""
        xp = self._rounds.xp
        return ~xp.isnan(stage.held) if self.config.continuous else stage.held >= 0

    def masks(self, stage: Stage, batch: MarketBatch) -> np.ndarray | None:
        """`[b, n, k]` int8: which choices there are in this round, as `EnvConfig.action_masks`;
        None for a Box.

        Of a price that may not be changed, that price alone. An absent provider has the first
        choice of every part, whatever it does being ignored: an empty mask could not be sampled.
        """
        config = self.config
        if config.continuous:
            return None
        markets = np.arange(self._b) % len(batch)
        mask = action_masks(batch, config)[:, markets]  # [n, b, k]
        levels, prices, *rest = config.parts
        reports = int(np.prod(rest))
        if stage.held is not None:
            held = np.asarray(self._rounds.host(stage.held))[..., None]
            allowed = (held < 0) | (held == np.arange(prices))  # [n, b, prices]
            if len(config.grid) == 1:
                wide = mask.reshape(*mask.shape[:2], levels, prices, reports)
                mask = (wide & allowed[:, :, None, :, None]).reshape(mask.shape)
            else:
                mask[..., levels : levels + prices] &= allowed
        if stage.present is not None:
            starts = np.cumsum([0, *config.grid[:-1]])
            mask = np.where(
                stage.present[..., None], mask, np.isin(np.arange(mask.shape[-1]), starts)
            )
        return mask.swapaxes(0, 1).astype(np.int8)

    # --- to be kept ---

    def state_dict(self, stage: Stage, rng: Any) -> dict[str, Any]:
        """All of it as numbers and NumPy arrays."""
        content: dict[str, Any] = {"t": stage.t, "generators": states_of(rng)}
        for name in ("costs", "demands"):
            content |= {f"{name}_{k}": x for k, x in enumerate(getattr(stage, name))}
        for name in ("cost", "arrivals", "present", "capital"):
            if (x := getattr(stage, name)) is not None:
                content[name] = np.array(x)
        if stage.held is not None:  # on the device, as actions are
            content["held"] = np.array(self._rounds.host(stage.held))
        return content

    def from_state(self, content: Any) -> tuple[Stage, Any]:
        """The stage and the generator that `state_dict` saw."""
        many = {
            name: tuple(
                np.asarray(content[f"{name}_{k}"]) for k in range(len(getattr(self._shocks, which)))
            )
            for name, which in (("costs", "cost"), ("demands", "demand"))
        }
        one = {
            name: np.asarray(content[name])
            for name in ("cost", "arrivals", "present", "capital", "held")
            if name in content
        }
        if "held" in one:
            one["held"] = self._rounds.put(one["held"])
        rng = from_states(content["generators"], np.random.default_rng)
        return Stage(int(content["t"]), **many, **one), rng  # type: ignore[arg-type]


def hold(config: EnvConfig, actions: Any, held: Any, xp: Any) -> tuple[Any, Any]:
    """Actions `[b, n]` or `[b, n, k]` with the prices that may not be changed as they are; and
    everybody's price `[n, b]`, as `Stage.held` has it.
    """
    held = held.T
    if config.continuous:
        asked = xp.where(xp.isnan(held), actions[..., 1].clip(-1.0, 1.0), held)
        return xp.stack(
            [actions[..., 0], asked, *(actions[..., j] for j in _from_2(actions))], -1
        ), asked.T
    if len(config.grid) == 1:
        _, prices, *rest = config.parts
        reports = int(np.prod(rest))
        actions = actions.reshape(actions.shape[:2])
        price = actions // reports % prices
        asked = xp.where(held < 0, price, held)
        return actions + (asked - price) * reports, asked.T
    asked = xp.where(held < 0, actions[..., 1], held)
    return xp.stack(
        [actions[..., 0], asked, *(actions[..., j] for j in _from_2(actions))], -1
    ), asked.T


def _from_2(actions: Any) -> range:
    return range(2, actions.shape[-1])


def _squashed(factor: Array) -> Array:
    """log x / (1 + |log x|), in (-1, 1): 0 where nothing moved, and no two factors alike."""
    log = np.log(factor)
    return np.asarray(log / (1.0 + np.abs(log)))


def _rows(rng: Any, method: str, b: int, k: int) -> Array:
    """`[k, b]` random numbers, the same in an environment of its own as in a batch."""
    if isinstance(rng, SeparateGenerators):
        return np.stack([getattr(one, method)(k) for one in rng.generators], axis=1)
    return np.asarray(getattr(rng, method)((b, k))).T
