"""What PPO in plain torch is made of: small networks of many providers at once, forward, backward
and Adam.

Libraries of RL train one network a policy; here weights carry a leading provider axis, so that one
matrix product serves all providers. Small batches on a CPU spend as much time on passes over memory
as on products, so the passes are few:

- tanh(x) = 2 s - 1 with s = 1 / (1 + exp(-2 x)). Layers hand on s; the products that follow take
  the 2 and the -1 along. (`torch.tanh` alone takes three times as long as a sigmoid.)
- Slopes are written out, layer by layer; a test holds them to autograd's.
- All weights lie in one array, so that Adam and the norm of a gradient are single calls. (The first
  `torch.optim.Adam` of a process imports torch's compiler, most of a second.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.arena import NotFinite

LAYERS = (1, 2, 3)


def shapes(name: str, inputs: int, hidden: int, outputs: int) -> dict[str, tuple[int, int]]:
    """Of the weights of one `Network`: name -> (rows, columns), as `Adam` takes them."""
    sizes = ((inputs, hidden), (hidden, hidden), (hidden, outputs))
    return {
        f"{name}{layer}.{part}": shape
        for layer, (rows, columns) in zip(LAYERS, sizes, strict=True)
        for part, shape in (("weight", (rows, columns)), ("bias", (1, columns)))
    }


class Adam:
    """Adam (Kingma and Ba 2015) for weights that lie in one array, a row per provider.

    weights, gradients: name -> `[k, rows, columns]`, views of `values` and `gradient`, `[k, size]`.
    Whoever differentiates a loss writes into `gradients` before a `step`.
    """

    beta1, beta2, eps = 0.9, 0.999, 1e-5

    def __init__(
        self, k: int, shapes: Mapping[str, tuple[int, int]], rate: float, device: torch.device
    ):
        sizes = [rows * columns for rows, columns in shapes.values()]
        self.rate, self.steps = rate, 0
        self.values, self.gradient, self.mean, self.square, self._size = (
            torch.zeros(k, sum(sizes), device=device) for _ in range(5)
        )
        self.weights: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        parts = zip(
            shapes.items(),
            self.values.split(sizes, dim=1),
            self.gradient.split(sizes, dim=1),
            strict=True,
        )
        for (name, shape), value, gradient in parts:
            self.weights[name] = value.unflatten(1, shape).requires_grad_()
            self.gradients[name] = gradient.unflatten(1, shape)

    @torch.no_grad()
    def shrink_gradients(self, largest: float) -> int | None:
        """Shrink each provider's gradient to at most this norm. Returns the row of a provider whose
        gradient is not finite, or None.
        """
        norms = torch.linalg.vector_norm(self.gradient, dim=1)  # [k]
        top = float(norms.max())
        if top <= largest:
            return None
        if not torch.isfinite(norms).all():
            return int(torch.nonzero(~torch.isfinite(norms))[0])
        self.gradient.mul_((largest / (norms + 1e-6)).clamp_(max=1.0)[:, None])
        return None

    @torch.no_grad()
    def step(self) -> None:
        """One step. Biases of both means are corrected in the rate and in eps, which leaves the
        formula as it is, and two passes over the weights out.
        """
        self.steps += 1
        self.mean.lerp_(self.gradient, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(self.gradient, self.gradient, value=1 - self.beta2)
        root = (1 - self.beta2**self.steps) ** 0.5
        torch.sqrt(self.square, out=self._size).add_(self.eps * root)
        rate = self.rate * root / (1 - self.beta1**self.steps)
        self.values.addcdiv_(self.mean, self._size, value=-rate)

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            **{name: getattr(self, name).cpu() for name in ("values", "mean", "square")},
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        self.steps = int(content["steps"])
        for name in ("values", "mean", "square"):
            getattr(self, name).copy_(content[name])


class Network:
    """Every provider's network of one kind: two hidden layers of tanh units, and a linear one."""

    def __init__(self, name: str, optimiser: Adam):
        self.weights, self.biases, self._weight_slopes, self._bias_slopes = (
            [part[f"{name}{layer}.{what}"] for layer in LAYERS]
            for part, what in (
                (optimiser.weights, "weight"),
                (optimiser.weights, "bias"),
                (optimiser.gradients, "weight"),
                (optimiser.gradients, "bias"),
            )
        )

    def __call__(self, x: Tensor) -> Tensor:
        """`[k, batch, inputs]` -> `[k, outputs, batch]`. Autograd can differentiate it."""
        return self.forward(x)[-1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What goes into each layer, `[k, batch, ...]`, and the output, `[k, outputs, batch]`."""
        (w1, w2, w3), (b1, b2, b3) = self.weights, self.biases
        s1 = torch.baddbmm(b1, x, w1, beta=2, alpha=2).sigmoid_()
        s2 = torch.baddbmm(b2 - w2.sum(1, keepdim=True), s1, w2, beta=2, alpha=4).sigmoid_()
        # Outputs are few: operations along them are fast where they are not the last axis.
        out = torch.baddbmm((b3 - w3.sum(1, keepdim=True)).mT, w3.mT, s2.mT, alpha=2)
        return x, s1, s2, out

    @torch.no_grad()
    def backward(self, inputs: tuple[Tensor, ...], slope: Tensor) -> None:
        """Write the gradients of a loss.

        Args:
            inputs: what `forward` returned.
            slope: the loss's slopes by the last layer's outputs, `[k, outputs, batch]`.
        """
        x, s1, s2, _ = inputs
        slope = slope.mT
        for layer, s in ((2, s2), (1, s1)):
            bias = torch.sum(slope, dim=1, keepdim=True, out=self._bias_slopes[layer])
            # y = 2 s - 1, so that y' slope = 2 s' slope - 1' slope
            product = torch.bmm(s.mT, slope)
            torch.add(-bias, product, alpha=2, out=self._weight_slopes[layer])
            # dy/dx = 1 - y^2 = 4 s (1 - s)
            slope = torch.bmm(slope, (4.0 * self.weights[layer]).mT)
            slope = torch.ops.aten.sigmoid_backward.grad_input(slope, s, grad_input=slope)
        torch.sum(slope, dim=1, keepdim=True, out=self._bias_slopes[0])
        self._weight_slopes[0].copy_(torch.bmm(x.mT, slope))


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
        every: dict[str, tuple[int, int]] = {}
        for net, (inputs, outputs) in sizes.items():
            every.update(shapes(net, inputs, hidden, outputs))
        self.optimiser = Adam(k, every, rate, device)
        self.weights = self.optimiser.weights
        self.net = {name: Network(name, self.optimiser) for name in sizes}
        with torch.no_grad():
            for name in sizes:
                for layer, gain in zip(LAYERS, (1.4, 1.4, gains[name]), strict=True):
                    for one in self.weights[f"{name}{layer}.weight"]:
                        start = torch.empty(one.shape)
                        torch.nn.init.orthogonal_(start, gain, generator=generator)
                        one.copy_(start)

    def __call__(self, net: str, x: Tensor) -> Tensor:
        """`[k, batch, inputs]` -> `[k, batch, outputs]`. Autograd can differentiate it."""
        return self.net[net](x).mT

    def descend(self, loss: Tensor, where: Sequence[str], largest: float = 0.5) -> None:
        """A step of Adam down a loss that autograd differentiates.

        Args:
            loss: `[k, batch]`; each provider's is the mean over its batch.
            where, largest: as `step` has them.

        Raises:
            NotFinite: a gradient is NaN or infinite.
        """
        found = torch.autograd.grad(loss.mean(dim=1).sum(), list(self.weights.values()))
        for name, gradient in zip(self.weights, found, strict=True):
            self.optimiser.gradients[name].copy_(gradient)
        self.step(where, largest)

    def step(self, where: Sequence[str], largest: float = 0.5) -> None:
        """A step of Adam along the gradients that are there, each provider's shrunk to at most the
        norm `largest`.

        Args:
            where: for each provider, words for the message of `NotFinite`.

        Raises:
            NotFinite: a gradient is NaN or infinite.
        """
        strange = self.optimiser.shrink_gradients(largest)
        if strange is not None:
            raise NotFinite(f"gradient is not finite {where[strange]}")
        self.optimiser.step()

    def layers(self, net: str, provider: int) -> list[dict[str, Any]]:
        """One provider's network as plain arrays (`agents.policies`)."""
        w = {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}
        return [
            {
                "weight": w[f"{net}{layer}.weight"][provider],
                "bias": w[f"{net}{layer}.bias"][provider, 0],
                "activation": "tanh" if layer < LAYERS[-1] else "",
            }
            for layer in LAYERS
        ]
