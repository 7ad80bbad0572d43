"""Independent PPO with continuous actions, for the ids that end in `Continuous-v0`: a level (equal
bins of [-1, 1]) and any price between the tariff's lowest and highest.

Agents of the arena choose from a list of actions, so this learner has a loop of its own, over
`ttc_env.vector_env`. As in `agents.ppo_torch` every provider has its own actor and critic, held in
one batch of networks, which libraries (Stable-Baselines3, CleanRL) do not do; a run goes on exactly
from `state_dict`.

    config = make_config("auction", actions="continuous", prices="grid")
    learner = ContinuousPPO(config, markets=64, seed=0)
    learner.train(400)
    score(config, learner.play())["nash_conv"]
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Beta, Distribution, Normal

from agents.checks import fraction, not_negative, one_of, parts_of, positive, whole
from agents.networks import Networks
from agents.scale import check_scale, scaled
from ttc_env.envs.config import EnvConfig
from ttc_env.envs.observations import ObservationLayout
from ttc_env.envs.vector import VectorMarketEnv
from ttc_env.game.continuous import ContinuousSolution
from ttc_env.game.market_batch import MarketBatch
from ttc_env.game.types import Array

DISTRIBUTIONS = ("beta", "gaussian")


class ContinuousPPO:
    """PPO with a clipped surrogate for all providers of one market at once.

    Args:
        config: an environment with `actions="continuous"`.
        markets: parallel copies of the market; each update sees steps x markets samples a provider.
        seed: of networks, play and sampled demand.
        steps: rounds between updates.
        epochs, minibatches, clip, rate, hidden: as in `agents.ppo_torch`; the rate falls linearly
            to a tenth over `horizon` rounds.
        horizon: planned number of rounds.
        discount: 0 by default; a round's profit depends on that round's actions alone.
        entropy: weight of the entropy bonus; falls linearly to 0 over `horizon`.
        distribution: of actions: "beta", on [-1, 1] (Chou, Maturana and Scherer 2017), which puts
            nothing outside; or "gaussian", whose draws the environment clips.
        scale: "log" or "raw", what is learned from (`agents.scale`).

    Raises:
        ValueError: discrete actions, or an option out of range.
    """

    name = "ppo_continuous"
    rounds = 600  # that usually suffice

    def __init__(
        self,
        config: EnvConfig,
        markets: int = 64,
        seed: int = 0,
        *,
        horizon: int = 400,
        steps: int = 8,
        epochs: int = 5,
        minibatches: int = 4,
        clip: float = 0.2,
        rate: float = 2e-3,
        discount: float = 0.0,
        entropy: float = 0.0,
        hidden: int = 64,
        distribution: str = "beta",
        scale: str = "log",
    ):
        if not config.continuous:
            raise ValueError(
                f"ContinuousPPO plays continuous actions, and this environment has"
                f" actions={config.actions!r}; make it with actions='continuous', or use the"
                " learner ppo_torch"
            )
        self.config = config
        self.distribution = one_of("distribution", distribution, DISTRIBUTIONS)
        self.markets, self.horizon = whole("markets", markets), whole("horizon", horizon)
        self.steps, self.epochs = whole("steps", steps), whole("epochs", epochs)
        self.minibatches = parts_of("minibatches", minibatches, self.steps * self.markets)
        self.clip, self.rate = positive("clip", clip), positive("rate", rate)
        self.discount = fraction("discount", discount)
        self.entropy = not_negative("entropy", entropy)
        self.scale = check_scale(self.name, scale)
        words = np.random.SeedSequence([int(seed), 11]).generate_state(2)
        self._generator = torch.Generator().manual_seed(int(words[0]))
        self.env = VectorMarketEnv(self.markets, config, MarketBatch.of(config.market))
        n, d, parts = config.market.num_providers, ObservationLayout(config).size, len(config.grid)
        self.networks = Networks(
            n,
            {"actor": (d, 2 * parts), "critic": (d, 1)},
            {"actor": 0.01, "critic": 1.0},
            whole("hidden", hidden),
            self.rate,
            self._generator,
            torch.device("cpu"),
        )
        self.t = 0
        # [n, markets, d] what everybody saw last
        self.seen = self._vectors(self.env.reset(seed=int(words[1]))[0])
        self._rollout: list[dict[str, Array]] = []

    @staticmethod
    def _vectors(obs: Any) -> Array:
        """`[n, markets, d]`."""
        return np.ascontiguousarray(obs.full().swapaxes(0, 1))

    def _policy(self, x: Tensor) -> Distribution:
        """Of actions `[n, batch, parts]`; a Beta's are on [0, 1]."""
        first, second = self.networks("actor", x).chunk(2, dim=-1)
        softplus = torch.nn.functional.softplus
        if self.distribution == "beta":
            return Beta(1.0 + softplus(first), 1.0 + softplus(second))
        return Normal(torch.tanh(first), softplus(second - 0.5) + 1e-3)

    def _on_box(self, drawn: Tensor) -> Array:
        """Draws as the environment's actions, `[n, batch, parts]` in [-1, 1] (a Gaussian's are
        clipped there by the environment).
        """
        return (2.0 * drawn - 1.0 if self.distribution == "beta" else drawn).double().numpy()

    def greedy(self, observations: Array) -> Array:
        """Actions without exploration, the policy's mode: `[n, b, parts]` in [-1, 1] for
        observations `[n, b, d]`.
        """
        with torch.no_grad():
            policy = self._policy(torch.as_tensor(observations, dtype=torch.float32))
            if isinstance(policy, Beta):
                a, b = policy.concentration1, policy.concentration0
                mode = (a - 1.0) / (a + b - 2.0).clamp_min(1e-6)
            else:
                mode = policy.mean
            return self._on_box(mode).clip(-1.0, 1.0)

    def play(self) -> Array:
        """What everybody has learned: actions `[n, markets, parts]` after what was seen last."""
        return self.greedy(self.seen)

    def policies(self) -> list[dict[str, Any]]:
        """What `agents.policies` needs to play what was learned, for each provider."""
        return [
            {
                "form": "continuous",
                "distribution": self.distribution,
                "layers": self.networks.layers("actor", i),
            }
            for i in range(self.config.market.num_providers)
        ]

    def train(self, rounds: int, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> None:
        """Play and learn for so many rounds more. progress: wraps the loop, such as tqdm.

        Raises:
            NotFinite: a gradient is not finite.
        """
        for _ in progress(range(rounds)):
            self._round()

    def _round(self) -> None:
        with torch.no_grad():
            drawn = self._sample(self._policy(torch.as_tensor(self.seen)))
        obs, reward, _, _, infos = self.env.step(self._on_box(drawn).swapaxes(0, 1))
        final = infos.get("final_obs")
        following = self._vectors(obs)
        self._rollout.append(
            {
                "seen": self.seen,
                "drawn": drawn.numpy(),
                "reward": scaled(reward.T, self.scale),
                "final": following if final is None else self._vectors(final),
            }
        )
        self.seen = following
        self.t += 1
        if len(self._rollout) == self.steps:
            self._improve()
            self._rollout = []

    def _sample(self, policy: Distribution) -> Tensor:
        """Draws from the learner's own generator, which torch's distributions do not take."""
        if isinstance(policy, Beta):
            gammas = [
                torch._standard_gamma(x, generator=self._generator)
                for x in (policy.concentration1, policy.concentration0)
            ]
            drawn = gammas[0] / (gammas[0] + gammas[1])
            return drawn.clamp(1e-5, 1.0 - 1e-5)
        normal = torch.randn(policy.mean.shape, generator=self._generator)
        return policy.mean + policy.stddev * normal

    def _improve(self) -> None:
        n = self.config.market.num_providers

        def samples(name: str) -> Tensor:
            """`[n, steps x markets, ...]`."""
            x = np.stack([one[name] for one in self._rollout], axis=1)
            return torch.as_tensor(x, dtype=torch.float32).flatten(1, 2)

        seen, drawn, reward = samples("seen"), samples("drawn"), samples("reward")
        with torch.no_grad():
            # Episodes are truncated, never terminated: the value after the round always counts.
            after = self.networks("critic", samples("final"))[..., 0] if self.discount else 0.0
            target = reward + self.discount * after
            old = self._policy(seen).log_prob(drawn).sum(dim=2)
            advantage = target - self.networks("critic", seen)[..., 0]
        left = max(0.0, 1.0 - self.t / self.horizon)
        self.networks.optimiser.rate = self.rate * (0.1 + 0.9 * left)
        where = [f"in round {self.t} for provider_{i}, ContinuousPPO" for i in range(n)]
        for _ in range(self.epochs):
            order = torch.randperm(seen.shape[1], generator=self._generator)
            for part in order.chunk(self.minibatches):
                x = seen.index_select(1, part)
                policy = self._policy(x)
                log_chance = policy.log_prob(drawn.index_select(1, part)).sum(dim=2)
                ratio = torch.exp(log_chance - old.index_select(1, part))
                gain = advantage.index_select(1, part)
                gain = (gain - gain.mean(dim=1, keepdim=True)) / (
                    gain.std(dim=1, keepdim=True) + 1e-8
                )
                surrogate = torch.minimum(
                    ratio * gain, ratio.clamp(1 - self.clip, 1 + self.clip) * gain
                )
                value = self.networks("critic", x)[..., 0]
                loss = 0.5 * (value - target.index_select(1, part)) ** 2 - surrogate
                if self.entropy:
                    loss = loss - self.entropy * left * policy.entropy().sum(dim=2)
                self.networks.descend(loss, where)

    # --- to go on exactly ---

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly (`agents.checkpoint.save`)."""
        content = io.BytesIO()
        torch.save(
            {
                "optimiser": self.networks.optimiser.state_dict(),
                "generator": self._generator.get_state(),
            },
            content,
        )
        return {
            "t": self.t,
            "torch": np.frombuffer(content.getvalue(), np.uint8),
            "env": self.env.state_dict(),
            "seen": self.seen,
            "rollout": self._rollout,
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`, on a learner made with the same arguments."""
        self.t = int(content["t"])
        saved = torch.load(
            io.BytesIO(np.asarray(content["torch"], np.uint8).tobytes()), weights_only=True
        )
        self.networks.optimiser.load_state_dict(saved["optimiser"])
        self._generator.set_state(saved["generator"])
        self.env.load_state_dict(content["env"])
        self.seen = np.asarray(content["seen"], np.float32)
        self._rollout = [dict(one) for one in content["rollout"]]


def score(config: EnvConfig, actions: Array) -> dict[str, float]:
    """Play `[n, b, parts]` against the exact solution of the same game, means over b markets.

    Returns:
        nash_conv (USD per arriving user) and relative_regret (by share of users), both exact
        against every level and every price of the range; welfare (USD per arriving user),
        welfare_ratio (of the optimum's), welfare_to_equilibrium; levels_exact (of providers with a
        share over 1%, those at the equilibrium's level: the nearer of lowest and highest).
    """
    batch = MarketBatch.of(config.market)
    env = VectorMarketEnv(actions.shape[1], config, batch)
    env.reset(seed=0)
    env.step(actions.swapaxes(0, 1))
    infos = env.round_infos()
    share = infos["share"]
    weight = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    solution = config.solve()
    equilibria = (
        [solution.lowest_levels, solution.highest_levels]
        if isinstance(solution, ContinuousSolution)
        else [solution.levels]
    )
    counts = config.level_counts
    level = np.minimum(
        ((actions[:, :, 0].clip(-1, 1) + 1.0) / 2.0 * counts[:, None]).astype(int),
        counts[:, None] - 1,
    ).T  # [b, n]
    counted = share > 0.01
    exact = [
        np.where(counted, level == e, False).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
        for e in equilibria
    ]
    welfare = infos["welfare"]
    return {
        "nash_conv": float(infos["nash_conv"].mean()),
        "relative_regret": float((weight * infos["relative_regret"]).sum(axis=1).mean()),
        "welfare": float(welfare.mean()),
        "welfare_ratio": float(welfare.mean() / config.optimal_welfare),
        "welfare_to_equilibrium": float(welfare.mean() / solution.welfare),
        "levels_exact": float(np.max(exact, axis=0).mean()),
    }
