"""Muon's step against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch

from pretraining.muon import Muon, _orthogonal

SHAPES = [(8, 8), (6, 20), (20, 6), (64, 32), (1, 5)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape, size):
    matrix = size * torch.randn(shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    result = left.T @ _orthogonal(matrix) @ right.T
    assert result.shape == (min(shape),) * 2
    assert (result - result.diag().diag()).abs().max() < 1e-3
    # The smallest have the longest way to go: five rounds lift what is a hundredth of the norm.
    lifted = values > 0.02 * matrix.norm()
    assert lifted.any()
    assert result.diag()[lifted].min() > 0.6 and result.diag().max() < 1.3


def test_a_matrix_that_is_orthogonal_keeps_its_direction():
    matrix = torch.linalg.qr(torch.randn(12, 12))[0]
    result = _orthogonal(matrix)
    assert torch.nn.functional.cosine_similarity(result.flatten(), matrix.flatten(), 0) > 0.999


def test_nothing_comes_of_nothing():
    assert _orthogonal(torch.zeros(4, 6)).abs().max() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_as_long_as_the_rate_says_and_goes_down(shape):
    parameter = torch.nn.Parameter(torch.randn(shape))
    before, target = parameter.detach().clone(), torch.randn(shape)
    optimizer = Muon([parameter], lr=0.01)
    loss = (parameter - target).square().sum()
    loss.backward()
    optimizer.step()
    step = parameter.detach() - before
    scale = 0.01 * max(1.0, shape[0] / shape[1]) ** 0.5
    assert 0.6 * scale < torch.linalg.matrix_norm(step, 2) < 1.3 * scale
    assert (parameter - target).square().sum() < loss


def test_momentum_is_nesterov_s():
    parameter = torch.nn.Parameter(torch.zeros(3, 4))
    optimizer = Muon([parameter], lr=1.0, momentum=0.9)
    gradients = [torch.randn(3, 4) for _ in range(3)]
    velocity = torch.zeros(3, 4)
    for gradient in gradients:
        before = parameter.detach().clone()
        parameter.grad = gradient.clone()
        optimizer.step()
        velocity = 0.9 * velocity + 0.1 * gradient
        expected = _orthogonal(0.1 * gradient + 0.9 * velocity)
        assert torch.allclose(before - parameter.detach(), expected, atol=1e-5)
        assert torch.equal(parameter.grad, gradient)
