"""All that a round looks up, worked out once: for every provider and action of every market, its
offer and how observations show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ttc_env.envs.observations import ObservationLayout, blocks, scales
from ttc_env.game.continuous import PriceRange
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.rules.base import BestReplies, Users
from ttc_env.game.tariffs import Offer
from ttc_env.game.types import Array

if TYPE_CHECKING:
    from ttc_env.envs.config import EnvConfig


@dataclass(frozen=True, eq=False)
class RoundTables:
    """Tables `[n, G a]`: column g a + action is that action in market g.

    An action that does not exist is the nearest one that does (`Mechanism.existing`).
    """

    config: EnvConfig  # the rules; its own market is not used
    batch: MarketBatch

    def __post_init__(self) -> None:
        self._check_sizes()

    def __reduce__(self) -> Any:
        return RoundTables, (self.config, self.batch)  # the rest is worked out again

    @property
    def num_actions(self) -> int:
        """a: flat actions per provider."""
        levels, prices, reports = self.config.mechanism.grid(self.batch.stacked)
        return levels * prices * reports

    @cached_property
    def level_counts(self) -> np.ndarray:
        """`[n, G]`: how many levels each provider has."""
        return self.batch.available.sum(axis=1)

    @cached_property
    def raw(self) -> Offer:
        """Every action's offer, `[n, G, a]`, NaN where the level does not exist."""
        return self.batch.offers(self.config.mechanism)

    @cached_property
    def played(self) -> np.ndarray:
        """`[n, G, a]`: the action that is played when this one is asked for."""
        return self.config.mechanism.existing(self.level_counts, self.batch.stacked)

    def _flat(self, table: np.ndarray) -> Any:
        """`[n, G, a]` -> `[n, G a]`, absent levels replaced."""
        return np.ascontiguousarray(np.take_along_axis(table, self.played, axis=2)).reshape(
            len(table), -1
        )

    @cached_property
    def offer(self) -> Offer:
        """`[n, G a]` USD/query."""
        return self.raw.map(self._flat)

    @cached_property
    def level(self) -> np.ndarray:
        """`[n, G a]`: level index."""
        return self.config.mechanism.split(self.as_played, self.batch.stacked)[0]

    @cached_property
    def promise(self) -> np.ndarray:
        """`[n, G a]`: the pair of level and report, `level * reports + report`."""
        mechanism, market = self.config.mechanism, self.batch.stacked
        level, _, report = mechanism.split(self.as_played, market)
        return np.asarray(level * mechanism.grid(market)[2] + report)

    @cached_property
    def price_terms(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """`[n, G a]` each: what continuous prices depend on besides their choice: those that users
        see, and those that are billed.
        """
        promise = self.promise
        shape = self.batch.num_providers, len(self.batch), -1

        def played(term: Array) -> Array:
            by_promise = np.take_along_axis(term.reshape(shape), promise.reshape(shape), axis=2)
            return by_promise.reshape(len(promise), -1)

        seen, billed = self.config.mechanism.terms(self.batch.stacked)
        shown = tuple(map(played, seen))
        return shown, shown if billed is seen else tuple(map(played, billed))

    @cached_property
    def caught(self) -> Array | None:
        """`[n, G a]` the chance that a served query is found to be a lie; None where nobody can
        lie.
        """
        misreports = self.config.mechanism.misreports
        if not misreports.kinds:
            return None
        lies = self.config.mechanism.lies(self.as_played, self.batch.stacked)
        return np.where(lies, misreports.audit_rate, 0.0)

    def per_action(self, x: Array) -> Array:
        """`[G]` -> `[G a]`."""
        return np.repeat(x, self.num_actions)

    @cached_property
    def users(self) -> Users:
        """`[G a]`: the users of each entry's market."""
        return Users.of(self.batch).map(self.per_action)

    @cached_property
    def numbers(self) -> dict[str, np.ndarray] | None:
        """`[n, G a]` each: what rounds look up (`Rule.tabulate`); None where the rule's definition
        plays: it tabulates nothing, or prices are continuous.
        """
        if self.config.continuous_prices:
            return None
        return self.config.mechanism.rule.tabulate(self.offer, self.users, self.config.users)

    @cached_property
    def best_replies(self) -> BestReplies:
        """Best replies to any round (`Rule.best_replies`)."""
        users = Users.of(self.batch)
        return self.config.mechanism.rule.best_replies(self.raw, users)

    @cached_property
    def price_range(self) -> PriceRange:
        """`[n, m, G]` USD/query: what can be promised where prices are continuous."""
        return PriceRange.of_batch(self.config.mechanism, self.batch)

    @cached_property
    def noise(self) -> Array:
        """`[G]` USD/query: profits closer to 0 than this count as 0 (`Rule.noise`)."""

        def of_market(g: int) -> float:
            return self.config.mechanism.rule.noise(self.raw.map(lambda table: table[:, g]))

        return np.array([of_market(g) for g in range(len(self.batch))])

    @cached_property
    def optimal_welfare(self) -> Array:
        """`[G]` USD per arriving user: the most welfare that any profile reaches."""
        mechanism, batch = self.config.planned, self.batch
        best = mechanism.rule.optimal_welfare
        return np.array([best(mechanism, batch.market(g)) for g in range(len(batch))])

    @cached_property
    def lies(self) -> dict[str, np.ndarray]:
        """`[n, G a]` each: what infos say of an action where lies can be told: the `report` (0 is
        the truth), the quality as users `seen` it, and the expected fine of a served query.
        """
        report = self.config.mechanism.split(self.as_played, self.batch.stacked)[2]
        penalty = self.offer.penalty + np.zeros(report.shape)  # with one level there may be no lie
        return {"report": report, "seen": self.offer.seen, "penalty": penalty}

    # --- as observations show it ---

    @cached_property
    def layout(self) -> ObservationLayout:
        """Where each number of an observation stands."""
        return ObservationLayout(self.config)

    @cached_property
    def scales(self) -> dict[str, Array]:
        """`[G]` each; see `observations.scales`."""
        raw, batch = self.raw, self.batch
        listed = batch.stacked.price.reshape(*raw.quality.shape[:2], -1)
        beyond = self.config.mechanism.rule.most_beyond(Users.of(batch))
        return scales(raw, listed, batch.outside_value, beyond)

    def _check_sizes(self) -> None:
        """Raise ValueError where rewards or beta V leave the range of doubles."""
        with np.errstate(over="ignore", divide="ignore"):
            amount = self.scales["profit"]
            rewards = self.config.users * amount
            fits = np.isfinite(rewards) & np.isfinite(1.0 / rewards)
            rule = self.config.mechanism.rule
            logits = np.isfinite(rule.largest_logit(amount, Users.of(self.batch)))
        if not fits.all():
            at = int(fits.argmin())
            raise ValueError(
                f"amounts of up to {amount[at]:g} USD/query, times users={self.config.users}, are"
                " out of the range of double precision; choose other units of money, or other users"
            )
        if not logits.all():
            at = int(logits.argmin())
            raise ValueError(
                f"beta (V - V_0) overflows with amounts of up to {amount[at]:g} USD/query; choose a"
                " smaller beta, or see ttc_env.game.limits for perfectly rational users"
            )

    @cached_property
    def as_played(self) -> np.ndarray:
        """`[n, G a]`: the action that is played, of every entry."""
        return self._flat(np.broadcast_to(self.played, self.raw.quality.shape))

    def _shown(self, whose: str) -> np.ndarray:
        """`[rows, n, G a]` float32: what observations show of actions."""
        tables = [block.values(self) for block in blocks(whose, "action")]  # type: ignore[operator]
        return np.concatenate(tables).astype(np.float32)

    @cached_property
    def seen_by_all(self) -> np.ndarray:
        """`[rows, n, G a]` float32: what everybody sees of an action."""
        return self._shown("all")

    @cached_property
    def seen_by_one(self) -> np.ndarray:
        """`[rows, n, G a]` float32: what a provider sees of its own action."""
        return self._shown("own")

    @cached_property
    def static(self) -> np.ndarray:
        """`[G, n, s]` float32: the part of observations that never changes."""
        tables = [block.values(self) for block in blocks("own", "constant")]  # type: ignore[operator]
        return np.concatenate(tables, axis=2).astype(np.float32)

    @cached_property
    def profit_scale(self) -> Array:
        """`[G]`: rewards times this are what observations show."""
        return 1.0 / (self.config.users * self.scales["profit"])

    def columns(self, num_envs: int) -> Any:
        """Where each environment's market starts in the tables: `[num_envs]`, environment b playing
        market b modulo G; 0 if G = 1.
        """
        if len(self.batch) == 1:
            return 0
        return (np.arange(num_envs) % len(self.batch)) * self.num_actions
