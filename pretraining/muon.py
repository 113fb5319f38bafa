"""Muon: momentum made orthogonal, for the matrices inside transformer layers.

torch.optim.Muon runs its iteration in bfloat16, which takes CPUs without such units sixteen times
as long as float32 (9.4 s against 0.6 s a step of the autoencoder); hence this one.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Muon"]

_QUINTIC = (3.4445, -4.7750, 2.0315)  # drives all singular values towards 1 in five rounds


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised by Newton-Schulz iterations, for 2-D parameters."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                velocity = self.state[parameter].setdefault("v", torch.zeros_like(parameter))
                velocity.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(velocity, group["momentum"])
                rows, columns = parameter.shape
                scale = max(1.0, rows / columns) ** 0.5
                parameter.add_(_orthogonal(update), alpha=-group["lr"] * scale)


def _orthogonal(matrix: Tensor) -> Tensor:
    """The nearest half-orthogonal matrix, roughly."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
