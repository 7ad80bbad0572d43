"""Infos of a batch: the last round of every environment in full, exact regrets included, as NumPy
arrays.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ttc_env.envs.batch import BatchRounds, Played
from ttc_env.game.continuous import Dial, best_continuous_reply
from ttc_env.game.envelope import PostedEnvelope
from ttc_env.game.mechanisms import Offer, Outcome
from ttc_env.game.regret import compare
from ttc_env.game.types import Array

_BLOCK = 2048  # environments per pass: temporaries then stay in the processor's cache
_OUTCOME = tuple(field.name for field in dataclasses.fields(Outcome) if field.name != "offer")


class BatchInfos:
    """Works out infos of rounds that a `BatchRounds` has played.

    Inside, arrays are columns, `[n, num_envs]`.
    """

    def __init__(self, rounds: BatchRounds):
        self.rounds, self.tables, self.config = rounds, rounds.tables, rounds.config
        self.start = self._host(rounds.start)

    def _host(self, x: object) -> np.ndarray:
        return np.asarray(x if self.rounds.backend == "numpy" else x.detach().cpu())  # type: ignore[attr-defined]

    def _hosted(self, played: Played) -> Played:
        return Played(*(None if x is None else self._host(x) for x in played))

    def of(self, played: Played) -> dict[str, np.ndarray]:
        """`[num_envs, n]` per provider, `[num_envs]` for the round: `VectorMarketEnv`, "Infos"."""
        played = self._hosted(played)
        offer, market = self.rounds.offer(played.index, played.price), self.rounds.market()
        outcome = self.config.mechanism.play(offer, market)
        expected = played.served is None
        columns = {
            "level": self.tables.level.reshape(-1)[played.index],
            "action": played.index - self.start,
            "quality": offer.quality,
            "price": offer.price,
            "cost": offer.cost,
            "payment": outcome.payment,
            "profit": outcome.profit_per_query,
            "share": played.share if expected else outcome.share,
            "utility": played.reward / self.config.users if expected else outcome.utility,
        }
        for name, count in (("served", played.served), ("correct", played.correct)):
            if count is not None:
                columns[name] = count.astype(np.int64)
        columns["regret"], columns["relative_regret"] = self.regrets(played.index, offer, outcome)
        # a copy: the columns are the next round's
        infos = {name: np.array(x.T, order="C") for name, x in columns.items()}
        infos["welfare"], infos["user_value"] = outcome.welfare.copy(), outcome.user_value.copy()
        infos["nash_conv"] = infos["regret"].sum(axis=1)
        return infos

    def regrets(self, index: np.ndarray, offer: Offer, outcome: Outcome) -> tuple[Array, Array]:
        """Regret, USD per arriving user, and relative regret, `[n, num_envs]`, against every
        action.
        """
        if self.rounds.dialled:
            return self._dialled_regrets(offer, outcome)
        regret, relative = np.empty(index.shape), np.empty(index.shape)
        step = (
            _BLOCK
            if self.tables.envelope is not None
            else max(1, (1 << 18) // (len(index) * self.tables.num_actions))
        )
        replies = self._listed_replies if self.tables.envelope is not None else self._all_replies
        for start in range(0, index.shape[1], step):
            at = slice(start, min(start + step, index.shape[1]))
            # the market of each environment
            which = np.arange(at.start, at.stop) % len(self.tables.batch)
            profit, log_share, own_profit, own_log_share = replies(at, which, index, offer, outcome)
            shape = own_profit.shape
            noise = np.broadcast_to(self.tables.resolution[which], shape).reshape(-1)
            rows = profit.reshape(-1, profit.shape[-1]), log_share.reshape(-1, profit.shape[-1])
            found = compare(*rows, own_profit.reshape(-1), own_log_share.reshape(-1), noise)
            regret[:, at], relative[:, at] = (x.reshape(shape) for x in found[1:])
        return regret, relative

    def _listed_replies(
        self, at: slice, which: np.ndarray, index: np.ndarray, offer: Offer, outcome: Outcome
    ) -> tuple[Array, ...]:
        """The few actions among which the best reply is (`game.envelope`): profit and log share
        `[n, b, c]`, then one's own `[n, b]`.
        """
        market, own_log_share = self.rounds.market(at), outcome.log_share[:, at]
        score = offer.score[:, at]
        rivals = self.config.mechanism.allocation.rivals(score, market)
        envelope = self.tables.envelope
        assert envelope is not None
        if len(self.tables.batch) > 1:
            in_a_row = which[-1] - which[0] == len(which) - 1
            # a slice copies nothing
            envelope = envelope.markets(slice(which[0], which[-1] + 1) if in_a_row else which)
        if isinstance(envelope, PostedEnvelope):
            own = outcome.profit_per_query[:, at]
            return *envelope.replies(rivals, market.beta, market.outside_value), own, own_log_share
        charge = np.maximum(rivals.score, market.outside_value)
        own = np.where(
            own_log_share > -np.inf, self.tables.worth.reshape(-1)[index[:, at]] - charge, 0.0
        )
        return *envelope.replies(rivals, market.outside_value), own, own_log_share

    def _all_replies(
        self, at: slice, which: np.ndarray, index: np.ndarray, offer: Offer, outcome: Outcome
    ) -> tuple[Array, ...]:
        """The same from every action, for mechanisms with rules of their own."""
        some = Offer(*(x[:, at] for x in (offer.quality, offer.claim, offer.price, offer.cost)))
        return (
            *self._deviations(at, which, some),
            outcome.profit_per_query[:, at],
            outcome.log_share[:, at],
        )

    def _deviations(self, at: slice, which: np.ndarray, offer: Offer) -> tuple[Array, Array]:
        """`Mechanism.deviations` of environments `at`, `[n, b, a]`; which: their markets, offer:
        theirs.
        """
        raw = self.tables.raw
        # [n, G, a] -> [n, a, b]; one market serves all environments.
        markets = which if len(self.tables.batch) > 1 else np.zeros(1, np.intp)
        table = Offer(
            *(
                np.moveaxis(x[:, markets], 1, 2)
                for x in (raw.quality, raw.claim, raw.price, raw.cost)
            )
        )
        found = self.config.mechanism.deviations(table, offer, self.rounds.market(at))
        shape = (len(raw.quality), self.tables.num_actions, len(which))
        profit, log_share = (np.moveaxis(np.broadcast_to(x, shape), 1, 2) for x in found)
        return profit, log_share

    def deviations(self, played: Played) -> tuple[Array, Array]:
        """`[num_envs, n, a]`; see `VectorMarketEnv.deviations`."""
        played = self._hosted(played)
        which = np.arange(self.rounds.num_envs) % len(self.tables.batch)
        profit, log_share = self._deviations(
            slice(None), which, self.rounds.offer(played.index, played.price)
        )
        return profit.swapaxes(0, 1), log_share.swapaxes(0, 1)

    def _dialled_regrets(self, offer: Offer, outcome: Outcome) -> tuple[Array, Array]:
        """Where prices are dialled: against best replies in closed form."""
        tables, regret, relative = (
            self.tables,
            np.empty(offer.quality.shape),
            np.empty(offer.quality.shape),
        )
        for start in range(0, self.rounds.num_envs, _BLOCK):
            at = slice(start, start + _BLOCK)
            which = np.arange(self.rounds.num_envs)[at] % len(tables.batch)
            dial = (
                tables.dial
                if len(tables.batch) == 1
                else Dial(*(x[:, :, which] for x in tables.dial))
            )
            offers = Offer(
                *(x[:, at] for x in (offer.quality, offer.claim, offer.price, offer.cost))
            )
            parts = {name: getattr(outcome, name)[..., at] for name in _OUTCOME}
            found = best_continuous_reply(
                self.config.mechanism,
                self.rounds.market(at),
                offers,
                Outcome(offers, **parts),
                dial=dial,
                resolution=tables.resolution[which],
            )
            regret[:, at], relative[:, at] = found.regret, found.relative
        return regret, relative
