"""Independent PPO in plain torch: all providers' networks as one batched network, all markets as
one batch.

Every provider has its own actor and critic (`agents.networks`); no weight, gradient or statistic is
shared between providers: gradients are clipped per provider, and Adam works entry by entry. The
file is short on purpose: read it beside Schulman et al. (2017), section 3 and algorithm 1. The
loss's slopes are written out, because autograd takes longer; a test holds them to autograd's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.arena import NotFinite
from agents.base import Actions, Agent, Role, pure, sample
from agents.networks import LAYERS, Adam, Network, shapes
from agents.scale import check_scale, scaled
from ttc_env.game.types import Array


def _entropy(log_policy: Tensor) -> Tensor:
    """`[k, a, batch]` -> `[k, batch]`."""
    return -(log_policy.exp() * log_policy.clamp_min(-1e9)).sum(dim=1)


class TorchPPO(Agent):
    """PPO with a clipped surrogate, for all providers at once.

    Args:
        steps: rounds between updates; each update sees steps x seeds samples per provider.
        epochs, minibatches: passes over the samples, and parts of each pass.
        clip: of the probability ratio.
        discount: 0 by default; a round's profit depends on that round's actions alone.
        entropy: weight of the entropy bonus.
        hidden: width of both hidden layers.
        scale: "log" or "raw", what is learned from (`agents.scale`).
        device: torch's name of a device, "cpu" or "cuda", for networks and updates. Rounds are
            played by the arena on the host, so that observations travel;
            `scripts/benchmark_device.py` has a loop that stays on the device.
    """

    name = "ppo_torch"
    stochastic = True
    learns = True
    needs_observation = True
    parallel = True
    rounds = 400

    def __init__(
        self,
        role: Role,
        steps: int = 16,
        epochs: int = 5,
        minibatches: int = 4,
        clip: float = 0.2,
        rate: float = 1e-3,
        discount: float = 0.0,
        entropy: float = 0.0,
        hidden: int = 64,
        scale: str = "log",
        device: str = "cpu",
    ):
        super().__init__(role)
        self.steps, self.epochs, self.minibatches = int(steps), int(epochs), int(minibatches)
        self.clip, self.discount, self.entropy, self.scale = (
            float(clip),
            float(discount),
            float(entropy),
            check_scale(self.name, scale),
        )
        self.device = torch.device(device)
        self._generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([*role.seeds[:1], *role.index, 4]).generate_state(1)[0])
        )
        self.draws = role.draws()
        _, a, _ = role.shape
        d = role.observation_size
        self._mask = torch.tensor(
            np.where(role.available, 0.0, -np.inf)[:, :, None],
            dtype=torch.float32,
            device=self.device,
        )
        self.optimiser = Adam(
            len(role.index),
            {**shapes("actor", d, hidden, a), **shapes("critic", d, hidden, 1)},
            float(rate),
            self.device,
        )
        self.weights = self.optimiser.weights
        self.actor, self.critic = (Network(name, self.optimiser) for name in ("actor", "critic"))
        with torch.no_grad():
            for net, gain in (("actor", 0.01), ("critic", 1.0)):
                for layer, scale_ in ((1, 1.4), (2, 1.4), (3, gain)):
                    self._start(self.weights[f"{net}{layer}.weight"], scale_)
        self._rollout: list[tuple[Array, Actions, Array, Array, bool]] = []
        self._observation = np.zeros((len(role.index), len(role.seeds), d), np.float32)
        self._last: tuple[Tensor, Tensor] | None = None  # log policy and error of the last batch

    def _start(self, weight: Tensor, gain: float) -> None:
        """Orthogonal weights, from the agent's own generator; drawn on the CPU on any device."""
        for one in weight:
            start = torch.empty(one.shape)
            torch.nn.init.orthogonal_(start, gain, generator=self._generator)
            one.copy_(start)

    def _log_policy(self, x: Tensor) -> Tensor:
        """`[k, batch, d]` -> `[k, a, batch]`."""
        return torch.log_softmax(self.actor(x) + self._mask, dim=1)

    def _tensor(self, values: Array) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def act(self, observation: Array | None = None) -> Actions:
        assert observation is not None
        self._observation = observation
        with torch.no_grad():
            chance = self._log_policy(self._tensor(observation)).exp().cpu().numpy()
        return sample(chance.astype(np.float64), self.draws())

    def update(self) -> None:
        feedback = self.last
        assert feedback is not None
        assert feedback.observation is not None
        self.t += 1
        self._rollout.append(
            (
                self._observation,
                feedback.action,
                scaled(feedback.reward, self.scale),
                feedback.observation,
                feedback.over,
            )
        )
        following = (
            feedback.first_observation
            if feedback.first_observation is not None
            else feedback.observation
        )
        self._observation = following
        if len(self._rollout) == self.steps:
            self._train()
            self._rollout.clear()

    @torch.no_grad()
    def _train(self) -> None:
        seen, actions, rewards, final, _ = (list(x) for x in zip(*self._rollout, strict=True))
        k, _, seeds = self.role.shape
        count = self.steps * seeds
        x = self._tensor(np.stack(seen, axis=1)).reshape(k, count, -1)
        target = self._tensor(np.stack(rewards, axis=1)).reshape(k, count)
        if self.discount:
            # One-step targets: episodes are truncated, never terminated, so that the value after
            # the round always counts.
            after = self._tensor(np.stack(final, axis=1)).reshape(k, count, -1)
            target += self.discount * self.critic(after)[:, 0]
        action = torch.as_tensor(np.stack(actions, axis=1).reshape(k, count), device=self.device)
        old = self._log_policy(x).gather(1, action[:, None])[:, 0]
        advantage = target - self.critic(x)[:, 0]
        for _ in range(self.epochs):
            order = torch.randperm(count, generator=self._generator).to(self.device)
            for part in order.chunk(self.minibatches):
                # index_select: several times faster than x[:, part]
                batch = (y.index_select(1, part) for y in (x, action, old, advantage, target))
                self._step(*batch)

    def _step(self, x: Tensor, action: Tensor, old: Tensor, gain: Tensor, target: Tensor) -> None:
        """One step down the loss: means over samples of -surrogate - entropy bonus + half the
        value's squared error. Slopes are those by the networks' outputs.

        Args:
            x: `[k, batch, d]`; the others `[k, batch]`.
        """
        count, action = x.shape[1], action[:, None]
        inputs = self.actor.forward(x)
        log_policy = torch.log_softmax(inputs[-1] + self._mask, dim=1)
        gain = (gain - gain.mean(dim=1, keepdim=True)) / (gain.std(dim=1, keepdim=True) + 1e-8)
        ratio = torch.exp(log_policy.gather(1, action)[:, 0] - old)
        unclipped = ratio * gain
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip) * gain
        # surrogate = min(unclipped, clipped), and d ratio / d log pi(action) = ratio;
        # d log pi(action) / d score = 1 at the action, less the policy everywhere
        slope = torch.where(unclipped <= clipped, unclipped, 0.0).div_(-count)[:, None]
        policy = log_policy.exp()
        scores = (policy * -slope).scatter_add_(1, action, slope)
        if self.entropy:
            # d entropy / d score = -pi (log pi + entropy)
            surprise = log_policy.clamp_min(-1e9) + _entropy(log_policy)[:, None]
            scores += surprise.mul_(policy).mul_(self.entropy / count)
        self.actor.backward(inputs, scores)
        inputs = self.critic.forward(x)
        error = inputs[-1] - target[:, None]
        self.critic.backward(inputs, error / count)
        strange = self.optimiser.shrink_gradients(0.5)
        if strange is not None:
            raise NotFinite(
                f"gradient is not finite in round {self.t} for provider_{self.role.index[strange]},"
                f" learner {self.name}, {self.role.description}"
            )
        self.optimiser.step()
        self._last = log_policy, error

    def greedy(self, observation: Array | None = None) -> Array:
        with torch.no_grad():
            choice = (
                self._log_policy(
                    self._tensor(self._observation if observation is None else observation)
                )
                .argmax(dim=1)
                .cpu()
                .numpy()
            )
        return pure(choice, self.role.shape[1])

    def strategy(self) -> Array:
        return self.greedy()

    def policies(self) -> list[dict[str, Any]]:
        w = {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}
        mask = self._mask[..., 0].cpu().numpy()
        return [
            {
                "form": "network",
                "layers": [
                    {
                        "weight": w[f"actor{layer}.weight"][i],
                        "bias": w[f"actor{layer}.bias"][i, 0],
                        "activation": "tanh" if layer < 3 else "",
                    }
                    for layer in LAYERS
                ],
                "mask": mask[i],
                "plays": np.arange(self.role.shape[1]),
            }
            for i in range(len(self.role.index))
        ]

    def diagnostics(self) -> Mapping[str, float]:
        if self._last is None:
            return {}
        log_policy, error = self._last
        return {
            "value_error": float(error.square().mean()),
            "entropy": float(_entropy(log_policy).mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        content = io.BytesIO()
        torch.save(
            {
                "optimiser": self.optimiser.state_dict(),
                "generator": self._generator.get_state(),
            },
            content,
        )
        rollout = (
            {
                name: np.stack(values)
                for name, values in zip(
                    ("seen", "actions", "rewards", "final", "over"),
                    zip(*self._rollout, strict=True),
                    strict=True,
                )
            }
            if self._rollout
            else {}
        )
        return {
            "t": self.t,
            "torch": np.frombuffer(content.getvalue(), np.uint8),
            "draws": self.draws.state_dict(),
            "observation": self._observation,
            "rollout": rollout,
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        self.t = int(content["t"])
        saved = torch.load(
            io.BytesIO(np.asarray(content["torch"], np.uint8).tobytes()), weights_only=True
        )
        self.optimiser.load_state_dict(saved["optimiser"])
        self._generator.set_state(saved["generator"])
        self.draws.load_state_dict(content["draws"])
        self._observation = np.asarray(content["observation"], np.float32)
        rollout = content["rollout"]
        fields = ("seen", "actions", "rewards", "final", "over")
        self._rollout = (
            [tuple(rollout[f][t] for f in fields) for t in range(len(rollout["over"]))]
            if rollout
            else []
        )  # type: ignore[misc]
