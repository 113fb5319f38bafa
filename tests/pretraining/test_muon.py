"""Muon's step against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch

from pretraining.muon import Muon, _orthogonal


@pytest.mark.parametrize("shape, size", [((8, 8), 1), ((6, 20), 1e4), ((64, 32), 1e-4)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape, size):
    torch.manual_seed(0)
    assert _orthogonal(torch.zeros(shape)).abs().max() == 0
    matrix = size * torch.randn(shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    result = left.T @ _orthogonal(matrix) @ right.T
    assert result.shape == (min(shape),) * 2
    assert (result - result.diag().diag()).abs().max() < 1e-3
    # The smallest have the longest way to go: five rounds lift what is a hundredth of the norm.
    lifted = values > 0.02 * matrix.norm()
    assert lifted.any()
    assert result.diag()[lifted].min() > 0.6 and result.diag().max() < 1.3


def test_momentum_is_nesterov_s_and_the_rate_fits_the_shape():
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(16, 4))
    optimizer = Muon([parameter], lr=0.5, momentum=0.9)
    gradients = [torch.randn(16, 4) for _ in range(3)]
    velocity = torch.zeros(16, 4)
    for gradient in gradients:
        before = parameter.detach().clone()
        parameter.grad = gradient.clone()
        optimizer.step()
        velocity = 0.9 * velocity + 0.1 * gradient
        expected = 0.5 * (16 / 4) ** 0.5 * _orthogonal(0.1 * gradient + 0.9 * velocity)
        assert torch.allclose(before - parameter.detach(), expected, atol=1e-5)
        assert torch.equal(parameter.grad, gradient)
