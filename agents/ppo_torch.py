"""Independent PPO in plain torch: all providers' networks as one batched network, all markets as
one batch.

Every provider has its own actor and critic; weights carry a leading provider axis, so one matrix
product serves all. No weight, gradient or statistic is shared between providers: gradients are
clipped per provider, and Adam works entry by entry. The file is short on purpose: read it beside
Schulman et al. (2017), section 3 and algorithm 1.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.base import Actions, Agent, Feedback, Role, pure, sample
from agents.networks import Networks
from agents.scale import check_scale, scaled
from ttc_env.game.types import Array


def _entropy(log_policy: Tensor) -> Tensor:
    """`[k, batch, a]` -> `[k, batch]`."""
    return -(log_policy.exp() * log_policy.clamp_min(-1e9)).sum(dim=2)


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
            np.where(role.available, 0.0, -np.inf)[:, None, :],
            dtype=torch.float32,
            device=self.device,
        )
        self.networks = Networks(
            len(role.index),
            {"actor": (d, a), "critic": (self._critic_inputs(role), 1)},
            {"actor": 0.01, "critic": 1.0},
            int(hidden),
            float(rate),
            self._generator,
            self.device,
        )
        # A round each: arrays by name, as `update` enters them.
        self._rollout: list[dict[str, Any]] = []
        self._observation = np.zeros((len(role.index), len(role.seeds), d), np.float32)
        self._log: dict[str, float] = {}

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
        return torch.log_softmax(self.networks("actor", x) + self._mask, dim=-1)

    def _tensor(self, values: Array) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def act(self, observation: Array | None = None) -> Actions:
        assert observation is not None
        self._observation = observation
        with torch.no_grad():
            chance = self._log_policy(self._tensor(observation)).exp().cpu().numpy()
        return sample(np.moveaxis(chance, 2, 1).astype(np.float64), self.draws())

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

    def _train(self) -> None:
        rollout = {name: [one[name] for one in self._rollout] for name in self._rollout[0]}
        k = len(self.role.index)
        x, judged = self._samples(rollout["seen"]), self._critic_sees(rollout, after=False)
        with torch.no_grad():
            # One-step targets: episodes are truncated, never terminated, so that the value after
            # the round always counts.
            after = (
                self.networks("critic", self._critic_sees(rollout, after=True))[..., 0]
                if self.discount
                else 0.0
            )
            rewards = self._tensor(np.stack(rollout["rewards"], axis=1)).reshape(k, -1)
            target = rewards + self.discount * after
            action = torch.as_tensor(
                np.stack(rollout["actions"], axis=1).reshape(k, -1, 1), device=self.device
            )
            old = self._log_policy(x).gather(2, action)[..., 0]
            advantage = target - self.networks("critic", judged)[..., 0]
        where = [
            f"in round {self.t} for provider_{i}, learner {self.name}, {self.role.description}"
            for i in self.role.index
        ]
        count = x.shape[1]
        for _ in range(self.epochs):
            order = torch.randperm(count, generator=self._generator).to(self.device)
            for part in order.chunk(self.minibatches):
                # index_select: several times faster than x[:, part]
                seen_, action_ = x.index_select(1, part), action.index_select(1, part)
                log_policy = self._log_policy(seen_)
                ratio = torch.exp(log_policy.gather(2, action_)[..., 0] - old.index_select(1, part))
                gain = advantage.index_select(1, part)
                gain = (gain - gain.mean(dim=1, keepdim=True)) / (
                    gain.std(dim=1, keepdim=True) + 1e-8
                )
                surrogate = torch.minimum(
                    ratio * gain, ratio.clamp(1 - self.clip, 1 + self.clip) * gain
                )
                value = self.networks("critic", judged.index_select(1, part))[..., 0]
                error = (value - target.index_select(1, part)) ** 2
                # Means over samples, sums over providers: each has its own loss.
                loss = 0.5 * error - surrogate
                if self.entropy:
                    loss = loss - self.entropy * _entropy(log_policy)
                self.networks.descend(loss, where)
        self._log = {
            "value_error": float(error.detach().mean()),
            "entropy": float(_entropy(log_policy.detach()).mean()),
        }

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
                .argmax(dim=2)
                .cpu()
                .numpy()
            )
        return pure(choice, self.role.shape[1])

    def strategy(self) -> Array:
        return self.greedy()

    def policies(self) -> list[dict[str, Any]]:
        mask = self._mask[:, 0].cpu().numpy()
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
        return self._log

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
