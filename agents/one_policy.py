"""One policy for every market: a network that scores any offer of any provider, trained by PPO on
markets that are new in each episode.

The agents of `agents.AGENTS` learn one market. This policy has one set of parameters for all
providers of all markets, whatever their number, levels and price choices: it reads an action's
economics (quality, price, cost), not its index; users' alpha and beta; and what the round before
made public of rivals, not who they are. Rivals' costs are private.

PPO libraries hand a network one vector an agent and one output an action index; a policy over
offers needs this loop, which is PPO's but for its baseline: each market is played in several
copies, and what a provider earns is compared with what it earned in the others (the group baseline
of GRPO: Shao et al. 2024). Profits of different markets span ten orders of magnitude, and no critic
is needed to tell them apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import checkpoint
from agents.arena import NotFinite
from agents.base import Actions, best, sample
from agents.checks import not_negative, positive, whole
from agents.scale import scaled
from ttc_env.envs.vector import VectorMarketEnv, vector_env
from ttc_env.game.demand import log_rivals
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.mechanisms import Mechanism
from ttc_env.game.types import Array

RIVALS = 8
"""Rivals that a provider looks at: those that served most, the largest first."""
ACTION_FEATURES = 7
CONTEXT_FEATURES = 3 + 3 * RIVALS


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What all providers of many environments see. n providers, b environments, a flat actions."""

    actions: Array  # [n, b, a, ACTION_FEATURES] float32, of every own action
    context: Array  # [n, b, CONTEXT_FEATURES] float32, of the round before
    exists: Array  # [n, b, a] bool


class Viewer:
    """Turns rounds of a `vector_env` into views. Money is in units of alpha, what a surely right
    answer is worth to a user.

    Raises:
        ValueError: a market without alpha, or users to whom prices mean nothing (beta = 0).
    """

    def __init__(self, env: VectorMarketEnv):
        batch, raw = env.batch, env.tables.raw
        if batch.alpha is None or not (batch.beta > 0).all():
            raise ValueError(
                "one policy for every market measures money in units of alpha, and quality against"
                " price by beta; give markets with alpha (ttc_env.load_market, random_markets) and"
                " beta > 0"
            )
        g = np.arange(env.num_envs) % len(batch)
        self._alpha, self._beta = batch.alpha[g], batch.beta[g]  # [b]
        self._outside = batch.outside_value[g]
        self._seen, self._price = raw.seen[:, g], raw.price[:, g]  # [n, b, a]
        self.exists = ~np.isnan(self._seen)
        alpha = self._alpha[:, None]
        quality, price, cost = (x / alpha for x in (raw.quality[:, g], self._price, raw.cost[:, g]))
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [
                quality,
                np.minimum(price, 2.0),  # who asks more than twice alpha has no users anyway
                np.minimum(cost, 2.0),
                np.log10(price),
                np.log10(cost),
                np.log(price / cost),
            ]
        static = np.stack([*parts, np.zeros_like(quality)], axis=3)
        self._static = np.nan_to_num(static, posinf=0.0, neginf=0.0).astype(np.float32)
        self._last: tuple[Actions, Array] | None = None

    def first(self) -> View:
        """Before the first round nothing is known of rivals."""
        self._last = None
        return self._view()

    def after(self, actions: Actions, share: Array) -> View:
        """After a round. actions: `[n, b]` flat; share: `[n, b]` of users."""
        self._last = actions, share
        return self._view()

    def _view(self) -> View:
        n, b, _ = self._seen.shape
        actions = self._static.copy()
        context = np.zeros((n, b, CONTEXT_FEATURES), np.float32)
        context[:, :, 0] = np.log10(self._beta * self._alpha) / 3.0
        if self._last is not None:
            chosen, share = self._last
            at = np.arange(n)[:, None], np.arange(b), chosen
            quality, price = self._seen[at], self._price[at]
            beta, outside = self._beta, self._outside
            against = log_rivals(beta * (quality - price - outside))  # [n, b]
            own = beta[:, None] * (self._seen - self._price - outside[:, None])
            ahead = np.nan_to_num(own - against[:, :, None])
            actions[..., 6] = np.sign(ahead) * np.log1p(np.abs(ahead)) / 4.0
            context[:, :, 1], context[:, :, 2] = 1.0, share
            public = np.stack([quality / self._alpha, price / self._alpha, share], axis=2)
            order = np.argsort(-share, axis=0, kind="stable").T  # [b, n]
            for i in range(n):
                rivals = order[order != i].reshape(b, n - 1)[:, :RIVALS]
                seen = public[rivals, np.arange(b)[:, None]]  # [b, rivals, 3]
                context[i, :, 3 : 3 + 3 * rivals.shape[1]] = seen.reshape(b, -1)
        return View(actions, context, self.exists)


class Network(torch.nn.Module):
    """A number for each action of each decision: the policy's logits."""

    def __init__(self, hidden: int, generator: torch.Generator):
        super().__init__()
        self.action = torch.nn.Linear(ACTION_FEATURES, hidden)
        self.context = torch.nn.Linear(CONTEXT_FEATURES, hidden, bias=False)
        self.middle = torch.nn.Linear(hidden, hidden)
        self.out = torch.nn.Linear(hidden, 1)
        with torch.no_grad():
            gains = {"action": 1.4, "context": 1.4, "middle": 1.4, "out": 0.01}
            for name, gain in gains.items():
                layer = getattr(self, name)
                torch.nn.init.orthogonal_(layer.weight, gain, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()

    def forward(self, actions: Tensor, context: Tensor) -> Tensor:
        """`[..., a, ACTION_FEATURES]`, `[..., CONTEXT_FEATURES]` -> `[..., a]`."""
        x = torch.relu(self.action(actions) + self.context(context)[..., None, :])
        return self.out(torch.relu(self.middle(x)))[..., 0]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a policy is trained."""

    updates: int = 200
    markets: int = 1  # drawn for each source and episode
    copies: int = 16  # of each market
    rounds: int = 3  # of an episode; an update sees one episode
    epochs: int = 4
    minibatches: int = 4
    rate: float = 2e-3  # falls to a tenth over the updates
    entropy: float = 0.01  # weight of the bonus; falls to 0 over the updates
    clip: float = 0.2
    hidden: int = 32

    def __post_init__(self) -> None:
        """Raises ValueError if a setting is out of range."""
        # One copy has no other to compare itself with.
        for name, least in {"updates": 0, "copies": 2}.items():
            whole(name, getattr(self, name), least)
        for name in ("markets", "rounds", "epochs", "minibatches", "hidden"):
            whole(name, getattr(self, name))
        for name in ("rate", "clip"):
            positive(name, getattr(self, name))
        not_negative("entropy", self.entropy)


class OnePolicy:
    """The policy. Made by `train`, or `OnePolicy.load`."""

    def __init__(self, network: Network):
        self.network = network

    def logits(self, view: View) -> Array:
        """`[n, b, a]`, -inf where an action does not exist."""
        with torch.no_grad():
            out = self.network(torch.from_numpy(view.actions), torch.from_numpy(view.context))
        return np.where(view.exists, out.numpy(), -np.inf)

    def act(self, view: View, rng: np.random.Generator) -> Actions:
        """`[n, b]`, drawn."""
        logits = np.moveaxis(self.logits(view), 2, 1)
        chance = np.exp(logits - logits.max(axis=1, keepdims=True))
        return sample(chance, rng.random(chance[:, 0].shape))

    def greedy(self, view: View) -> Actions:
        """`[n, b]`, the likeliest actions; of equal ones the first."""
        logits = np.moveaxis(self.logits(view), 2, 1)
        return best(logits, np.zeros(logits[:, 0].shape))

    def play(self, markets: MarketBatch, mechanism: Mechanism, rounds: int) -> Actions:
        """Where play without exploration is after `rounds` rounds: flat actions `[n, G]`."""
        env = vector_env(
            len(markets), mechanism, market=markets, max_cycles=rounds, autoreset="disabled"
        )
        env.reset(seed=0)
        viewer = Viewer(env)
        view = viewer.first()
        for _ in range(rounds):
            actions = self.greedy(view)
            step(env, actions)
            view = viewer.after(actions, env.last.share)
        return actions

    def save(self, path: Path, **facts: Any) -> None:
        """Write the weights, whole or not at all, without pickles. facts: arrays, numbers and
        texts to keep beside them (`agents.checkpoint.load` reads all).
        """
        weights = {name: x.numpy() for name, x in self.network.state_dict().items()}
        checkpoint.save(path, {"weights": weights, **facts}, compress=True)

    @classmethod
    def load(cls, path: Path) -> OnePolicy:
        """What `save` wrote. Raises ValueError if it is something else."""
        weights = checkpoint.load(path)["weights"]
        network = Network(len(weights["middle.bias"]), torch.Generator())
        network.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
        return cls(network)


def step(env: VectorMarketEnv, actions: Actions) -> Array:
    """Play flat actions `[n, b]`. Returns rewards `[n, b]`, USD a round."""
    parts = np.stack(np.unravel_index(actions, env.config.grid))  # [k, n, b]
    return env.step(parts.transpose(2, 1, 0))[1].T


Source = Callable[[np.random.Generator, int], MarketBatch]
"""Draws markets of one shape: `source(rng, count)`."""


def train(
    sources: Sequence[Source],
    mechanism: str,
    prices: Any,
    seed: int,
    settings: Settings | None = None,
    watch: Callable[[int, OnePolicy], None] = lambda update, policy: None,
) -> OnePolicy:
    """Train a policy on markets that are drawn from every source in each episode.

    Args:
        mechanism, prices: as for `ttc_env.vector_env`.
        seed: of markets, play and network.
        watch: called with the number of updates done, before the first and after each.

    Raises:
        NotFinite: a gradient is not finite.
    """
    settings = settings or Settings()
    rng = np.random.default_rng([seed, 7])
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence([seed, 8]).generate_state(1)[0])
    )
    policy = OnePolicy(Network(settings.hidden, generator))
    optimiser = torch.optim.Adam(policy.network.parameters(), lr=settings.rate, eps=1e-5)
    watch(0, policy)
    for update in range(settings.updates):
        done = update / settings.updates
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * (1.0 - 0.9 * done)
        samples = [
            x
            for source in sources
            for x in _episode(
                policy, source(rng, settings.markets), mechanism, prices, settings, rng
            )
        ]
        _improve(policy, optimiser, samples, settings, settings.entropy * (1.0 - done), generator)
        watch(update + 1, policy)
    return policy


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """One round of some environments."""

    view: View
    chosen: Actions  # [n, b]
    advantage: Array  # [n, b]


def _episode(
    policy: OnePolicy,
    markets: MarketBatch,
    mechanism: str,
    prices: Any,
    settings: Settings,
    rng: np.random.Generator,
) -> Iterator[_Sample]:
    env = vector_env(
        len(markets) * settings.copies, mechanism, market=markets, prices=prices,
        max_cycles=settings.rounds, autoreset="disabled",
    )  # fmt: skip
    env.reset(seed=0)
    viewer = Viewer(env)
    view = viewer.first()
    for _ in range(settings.rounds):
        chosen = policy.act(view, rng)
        reward = scaled(step(env, chosen), "log")
        # Environment b plays market b modulo G: axis 1 are the copies of a market.
        groups = reward.reshape(len(reward), settings.copies, len(markets))
        spread = groups - groups.mean(axis=1, keepdims=True)
        size = np.sqrt((spread**2).mean(axis=1, keepdims=True))
        yield _Sample(view, chosen, (spread / (size + 1e-3)).reshape(reward.shape))
        view = viewer.after(chosen, env.last.share)


def _improve(
    policy: OnePolicy,
    optimiser: torch.optim.Optimizer,
    samples: Sequence[_Sample],
    settings: Settings,
    entropy: float,
    generator: torch.Generator,
) -> None:
    """PPO's epochs on one episode of all sources."""
    widest = max(s.view.exists.shape[2] for s in samples)

    def rows(x: Array, told: Array) -> Array:
        """`[n, b, a, ...]` -> `[decisions, widest, ...]`."""
        x = x[told]
        return np.pad(x, [(0, 0), (0, widest - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])

    # What a provider earned in all copies alike, such as nothing, tells nothing.
    told = [np.abs(s.advantage) > 1e-6 for s in samples]
    pairs = list(zip(samples, told, strict=True))
    actions = torch.from_numpy(np.concatenate([rows(s.view.actions, at) for s, at in pairs]))
    exists = torch.from_numpy(np.concatenate([rows(s.view.exists, at) for s, at in pairs]))
    context = torch.from_numpy(np.concatenate([s.view.context[at] for s, at in pairs]))
    chosen = torch.from_numpy(np.concatenate([s.chosen[at] for s, at in pairs]))[:, None]
    advantage = torch.from_numpy(
        np.concatenate([s.advantage[at] for s, at in pairs]).astype(np.float32)
    )
    if not len(actions):
        return

    def log_policy(part: Tensor) -> Tensor:
        logits = policy.network(actions[part], context[part])
        return torch.log_softmax(logits.masked_fill(~exists[part], -1e9), dim=1)

    parts = max(1, len(actions) // 4096)
    with torch.no_grad():
        old = torch.cat(
            [
                log_policy(part).gather(1, chosen[part])[:, 0]
                for part in torch.arange(len(actions)).chunk(parts)
            ]
        )
    for _ in range(settings.epochs):
        order = torch.randperm(len(actions), generator=generator)
        for part in order.chunk(settings.minibatches):
            logs = log_policy(part)
            ratio = torch.exp(logs.gather(1, chosen[part])[:, 0] - old[part])
            gain = advantage[part]
            surrogate = torch.minimum(
                ratio * gain, ratio.clamp(1 - settings.clip, 1 + settings.clip) * gain
            )
            loss = -surrogate.mean()
            if entropy > 0:
                loss = loss + entropy * (logs.exp() * logs).sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(policy.network.parameters(), 0.5)
            if not torch.isfinite(norm):
                raise NotFinite("gradient of the policy for every market is not finite")
            optimiser.step()
