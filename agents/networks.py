"""What PPO in plain torch is made of: several providers' networks as one batched network, and Adam.

Libraries of RL train one network a policy; here weights carry a leading provider axis, so that one
matrix product serves all providers and one call of Adam a step does for all weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.arena import NotFinite


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


class Tanh(torch.autograd.Function):
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


class Networks:
    """For each of k providers some networks with two hidden layers of tanh, and their Adam. No
    weight or gradient is shared between providers.

    Args:
        sizes: name of a network -> its numbers of inputs and outputs.
        gains: name -> of its last layer's first, orthogonal weights.
        generator: draws these, on the CPU on any device.
    """

    def __init__(
        self,
        k: int,
        sizes: Mapping[str, tuple[int, int]],
        gains: Mapping[str, float],
        hidden: int,
        rate: float,
        generator: torch.Generator,
        device: torch.device,
    ):
        shapes = {
            f"{net}{layer}.{part}": shape
            for net, (inputs, outputs) in sizes.items()
            for layer, rows, columns in (
                (1, inputs, hidden),
                (2, hidden, hidden),
                (3, hidden, outputs),
            )
            for part, shape in (("weight", (rows, columns)), ("bias", (1, columns)))
        }
        self.optimiser = Adam(k, shapes, rate, device)
        self.weights = self.optimiser.weights
        with torch.no_grad():
            for net in sizes:
                for layer, gain in ((1, 1.4), (2, 1.4), (3, gains[net])):
                    for one in self.weights[f"{net}{layer}.weight"]:
                        start = torch.empty(one.shape)
                        torch.nn.init.orthogonal_(start, gain, generator=generator)
                        one.copy_(start)

    def __call__(self, net: str, x: Tensor) -> Tensor:
        """`[k, batch, inputs]` -> `[k, batch, outputs]`."""
        w = self.weights
        for layer in (1, 2):
            x = Tanh.apply(torch.baddbmm(w[f"{net}{layer}.bias"], x, w[f"{net}{layer}.weight"]))
        return torch.baddbmm(w[f"{net}3.bias"], x, w[f"{net}3.weight"])

    def descend(self, loss: Tensor, where: Sequence[str], largest: float = 0.5) -> None:
        """A step of Adam, each provider's gradient shrunk to at most the norm `largest`.

        Args:
            loss: `[k, batch]`; each provider's is the mean over its batch.
            where: for each provider, words for the message of `NotFinite`.

        Raises:
            NotFinite: a gradient is NaN or infinite.
        """
        self.optimiser.zero_gradients()
        loss.mean(dim=1).sum().backward()
        gradients = [w.grad for w in self.weights.values() if w.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(g, dim=(1, 2)) for g in gradients])
        norms = torch.linalg.vector_norm(norms, dim=0)  # [k]
        if not torch.isfinite(norms).all():
            at = int(torch.nonzero(~torch.isfinite(norms))[0])
            raise NotFinite(f"gradient is not finite {where[at]}")
        if (norms > largest).any():
            shrink = (largest / (norms + 1e-6)).clamp_(max=1.0)[:, None, None]
            for gradient in gradients:
                gradient.mul_(shrink)
        self.optimiser.step()

    def layers(self, net: str, provider: int) -> list[dict[str, Any]]:
        """One provider's network as plain arrays (`agents.policies`)."""
        w = {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}
        return [
            {
                "weight": w[f"{net}{layer}.weight"][provider],
                "bias": w[f"{net}{layer}.bias"][provider, 0],
                "activation": "tanh" if layer < 3 else "",
            }
            for layer in (1, 2, 3)
        ]
