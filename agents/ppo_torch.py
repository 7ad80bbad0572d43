"""Independent PPO in plain torch: all providers' networks as one batched network, all markets as
one batch.

Every provider has its own actor and critic; weights carry a leading provider axis, so one matrix
product serves all. No weight, gradient or statistic is shared between providers: gradients are
clipped per provider, and Adam works entry by entry. The file is short on purpose: read it beside
Schulman et al. (2017), section 3 and algorithm 1.
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
from agents.scale import check_scale, scaled
from ttc_env.game.types import Array


class Adam:
    """Adam (Kingma and Ba 2015) for weights that lie in one array: one call a step does for all.
    (The first `torch.optim.Adam` of a process imports torch's compiler, most of a second.)

    weights: name -> `[k, rows, columns]`, views that autograd differentiates; their gradients are
    views of `gradient`.
    """

    beta1, beta2, eps = 0.9, 0.999, 1e-5

    def __init__(
        self, k: int, shapes: Mapping[str, tuple[int, int]], rate: float, device: torch.device
    ):
        sizes = [k * rows * columns for rows, columns in shapes.values()]
        self.rate, self.steps = rate, 0
        self.values, self.gradient, self.mean, self.square = (
            torch.zeros(sum(sizes), device=device) for _ in range(4)
        )
        self.weights: dict[str, Tensor] = {}
        parts = zip(
            shapes.items(), self.values.split(sizes), self.gradient.split(sizes), strict=True
        )
        for (name, shape), value, gradient in parts:
            weight = value.view(k, *shape).requires_grad_()
            weight.grad = gradient.view(k, *shape)
            self.weights[name] = weight

    def zero_gradients(self) -> None:
        self.gradient.zero_()

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        self.mean.lerp_(self.gradient, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(self.gradient, self.gradient, value=1 - self.beta2)
        size = (self.square / (1 - self.beta2**self.steps)).sqrt_().add_(self.eps)
        self.values.addcdiv_(self.mean, size, value=-self.rate / (1 - self.beta1**self.steps))

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            **{name: getattr(self, name).cpu() for name in ("values", "mean", "square")},
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        self.steps = int(content["steps"])
        for name in ("values", "mean", "square"):
            getattr(self, name).copy_(content[name])


class _Tanh(torch.autograd.Function):
    """tanh(x) as 2 / (1 + exp(-2 x)) - 1: within 2e-7 of `torch.tanh`, which takes three times as
    long on a CPU, a quarter of all training.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = (2.0 * x).sigmoid_().mul_(2.0).sub_(1.0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, y)


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
        shapes = {
            f"{net}{layer}.{part}": shape
            for net, out in (("actor", a), ("critic", 1))
            for layer, rows, columns in ((1, d, hidden), (2, hidden, hidden), (3, hidden, out))
            for part, shape in (("weight", (rows, columns)), ("bias", (1, columns)))
        }
        self.optimiser = Adam(len(role.index), shapes, float(rate), self.device)
        self.weights = self.optimiser.weights
        with torch.no_grad():
            for net, gain in (("actor", 0.01), ("critic", 1.0)):
                for layer, scale_ in ((1, 1.4), (2, 1.4), (3, gain)):
                    self._start(self.weights[f"{net}{layer}.weight"], scale_)
        self._rollout: list[tuple[Array, Actions, Array, Array, bool]] = []
        self._observation = np.zeros((len(role.index), len(role.seeds), d), np.float32)
        self._log: dict[str, float] = {}

    def _start(self, weight: Tensor, gain: float) -> None:
        """Orthogonal weights, from the agent's own generator; drawn on the CPU on any device."""
        for one in weight:
            start = torch.empty(one.shape)
            torch.nn.init.orthogonal_(start, gain, generator=self._generator)
            one.copy_(start)

    def _net(self, net: str, x: Tensor) -> Tensor:
        """`[k, batch, d]` -> `[k, batch, out]`."""
        w = self.weights
        for layer in (1, 2):
            x = _Tanh.apply(torch.baddbmm(w[f"{net}{layer}.bias"], x, w[f"{net}{layer}.weight"]))
        return torch.baddbmm(w[f"{net}3.bias"], x, w[f"{net}3.weight"])

    def _log_policy(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self._net("actor", x) + self._mask, dim=-1)

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

    def _train(self) -> None:
        seen, actions, rewards, final, _ = (list(x) for x in zip(*self._rollout, strict=True))
        k, _, seeds = self.role.shape
        x = self._tensor(np.stack(seen, axis=1)).reshape(k, self.steps * seeds, -1)
        with torch.no_grad():
            # One-step targets: episodes are truncated, never terminated, so that the value after
            # the round always counts.
            after = (
                self._net(
                    "critic",
                    self._tensor(np.stack(final, axis=1)).reshape(k, self.steps * seeds, -1),
                )[..., 0]
                if self.discount
                else 0.0
            )
            target = self._tensor(np.stack(rewards, axis=1)).reshape(k, -1) + self.discount * after
            action = torch.as_tensor(
                np.stack(actions, axis=1).reshape(k, -1, 1), device=self.device
            )
            old = self._log_policy(x).gather(2, action)[..., 0]
            advantage = target - self._net("critic", x)[..., 0]
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
                error = (self._net("critic", seen_)[..., 0] - target.index_select(1, part)) ** 2
                # Means over samples, sums over providers: each has its own loss.
                loss = 0.5 * error - surrogate
                if self.entropy:
                    loss = loss - self.entropy * _entropy(log_policy)
                self.optimiser.zero_gradients()
                loss.mean(dim=1).sum().backward()
                self._clip_gradients()
                self.optimiser.step()
        self._log = {
            "value_error": float(error.detach().mean()),
            "entropy": float(_entropy(log_policy.detach()).mean()),
        }

    def _clip_gradients(self, largest: float = 0.5) -> None:
        """Shrink each provider's gradient to at most this norm."""
        gradients = [w.grad for w in self.weights.values() if w.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(g, dim=(1, 2)) for g in gradients])
        norms = torch.linalg.vector_norm(norms, dim=0)  # [k]
        if not torch.isfinite(norms).all():
            at = int(torch.nonzero(~torch.isfinite(norms))[0])
            raise NotFinite(
                f"gradient is not finite in round {self.t} for provider_{self.role.index[at]},"
                f" learner {self.name}, {self.role.description}"
            )
        if (norms > largest).any():
            shrink = (largest / (norms + 1e-6)).clamp_(max=1.0)[:, None, None]
            for gradient in gradients:
                gradient.mul_(shrink)

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
        w = {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}
        mask = self._mask[:, 0].cpu().numpy()
        return [
            {
                "form": "network",
                "layers": [
                    {
                        "weight": w[f"actor{layer}.weight"][i],
                        "bias": w[f"actor{layer}.bias"][i, 0],
                        "activation": "tanh" if layer < 3 else "",
                    }
                    for layer in (1, 2, 3)
                ],
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
