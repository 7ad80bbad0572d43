"""Independent PPO in plain torch: all providers' networks as one batched network, all markets as
one batch.

Every provider has its own actor and critic (`agents.networks`); no weight, gradient or statistic is
shared between providers: gradients are clipped per provider, and Adam works entry by entry. The
file is short on purpose: read it beside Schulman et al. (2017), section 3 and algorithm 1. The
loss's slopes are written out, because autograd takes longer; a test holds them to autograd's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.base import Actions, Agent, Feedback, Role, pure, sample
from agents.checks import fraction, not_negative, parts_of, positive, whole
from agents.networks import Networks
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
        self.steps = whole(f"{self.name}: steps", steps)
        self.epochs = whole(f"{self.name}: epochs", epochs)
        self.minibatches = parts_of(
            f"{self.name}: minibatches", minibatches, self.steps * len(role.seeds)
        )
        self.clip = positive(f"{self.name}: clip", clip)
        self.discount = fraction(f"{self.name}: discount", discount)
        self.entropy = not_negative(f"{self.name}: entropy", entropy)
        self.scale = check_scale(self.name, scale)
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
        self.networks = Networks(
            len(role.index),
            {"actor": (d, a), "critic": (self._critic_inputs(role), 1)},
            {"actor": 0.01, "critic": 1.0},
            whole(f"{self.name}: hidden", hidden),
            positive(f"{self.name}: rate", rate),
            self._generator,
            self.device,
        )
        self.actor, self.critic = self.networks.net["actor"], self.networks.net["critic"]
        # A round each: arrays by name, as `update` enters them.
        self._rollout: list[dict[str, Any]] = []
        self._observation = np.zeros((len(role.index), len(role.seeds), d), np.float32)
        self._last: tuple[Tensor, Tensor] | None = None  # log policy and error of the last batch

    def _critic_inputs(self, role: Role) -> int:
        """How much the critic sees."""
        return role.observation_size

    def _judged(self, feedback: Feedback) -> dict[str, Array]:
        """What the rollout must hold of a round for the critic, besides what the actor sees."""
        return {}

    def _critic_sees(self, rollout: Mapping[str, Sequence[Any]], *, after: bool) -> Tensor:
        """`[k, steps x seeds, inputs]`, before or after each round."""
        return self._samples(rollout["final" if after else "seen"])

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
            {
                "seen": self._observation,
                "actions": feedback.action,
                "rewards": scaled(feedback.reward, self.scale),
                "final": feedback.observation,
                "over": feedback.over,
                **self._judged(feedback),
            }
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
        rollout = {name: [one[name] for one in self._rollout] for name in self._rollout[0]}
        k = len(self.role.index)
        x, judged = self._samples(rollout["seen"]), self._critic_sees(rollout, after=False)
        count = x.shape[1]
        target = self._tensor(np.stack(rollout["rewards"], axis=1)).reshape(k, count)
        if self.discount:
            # One-step targets: episodes are truncated, never terminated, so that the value after
            # the round always counts.
            target += self.discount * self.critic(self._critic_sees(rollout, after=True))[:, 0]
        action = torch.as_tensor(
            np.stack(rollout["actions"], axis=1).reshape(k, count), device=self.device
        )
        old = self._log_policy(x).gather(1, action[:, None])[:, 0]
        gain = target - self.critic(judged)[:, 0]
        for _ in range(self.epochs):
            order = torch.randperm(count, generator=self._generator).to(self.device)
            for part in order.chunk(self.minibatches):
                # index_select: several times faster than x[:, part]
                batch = (y.index_select(1, part) for y in (x, judged, action, old, gain, target))
                self._step(*batch)

    def _step(
        self, x: Tensor, judged: Tensor, action: Tensor, old: Tensor, gain: Tensor, target: Tensor
    ) -> None:
        """One step down the loss: means over samples of -surrogate - entropy bonus + half the
        value's squared error. Slopes are those by the networks' outputs.

        Args:
            x, judged: what actors and critics see, `[k, batch, ...]`; the others `[k, batch]`.
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
        inputs = self.critic.forward(judged)
        error = inputs[-1] - target[:, None]
        self.critic.backward(inputs, error / count)
        self.networks.step(
            [
                f"in round {self.t} for provider_{i}, learner {self.name}, {self.role.description}"
                for i in self.role.index
            ]
        )
        self._last = log_policy, error

    def _samples(self, rounds: Sequence[Array]) -> Tensor:
        """Arrays `[k, seeds, d]` of each round as `[k, steps x seeds, d]`."""
        return self._tensor(np.stack(rounds, axis=1)).reshape(
            len(self.role.index), len(rounds) * len(self.role.seeds), -1
        )

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
        mask = self._mask[..., 0].cpu().numpy()
        return [
            {
                "form": "network",
                "layers": self.networks.layers("actor", i),
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
                "optimiser": self.networks.optimiser.state_dict(),
                "generator": self._generator.get_state(),
            },
            content,
        )
        rollout = {
            name: np.stack([one[name] for one in self._rollout])
            for name in (self._rollout[0] if self._rollout else ())
        }
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
        self.networks.optimiser.load_state_dict(saved["optimiser"])
        self._generator.set_state(saved["generator"])
        self.draws.load_state_dict(content["draws"])
        self._observation = np.asarray(content["observation"], np.float32)
        rollout = content["rollout"]
        rounds = len(rollout["over"]) if rollout else 0
        self._rollout = [{name: x[t] for name, x in rollout.items()} for t in range(rounds)]
