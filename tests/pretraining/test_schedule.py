"""The training loop of the base and its Muon, on problems whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from pretraining import schedule
from pretraining.muon import Muon, _orthogonal
from pretraining.schedule import Plan, fit


class Point(nn.Module):
    def __init__(self, *start: float) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(start))


class Layered(nn.Module):
    """A matrix Muon may take, one it may not, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.out = nn.Linear(4, 6, bias=False)


@pytest.fixture
def rates():
    """The learning rates of all steps, one list an optimiser class."""
    seen: dict[type, list[float]] = {}

    def note(optimizer, *_):
        seen.setdefault(type(optimizer), []).append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_post_hook(note)
    yield seen
    handle.remove()


def test_what_is_left_is_the_average_of_the_way():
    model, way = Point(2.0), []
    handle = register_optimizer_step_post_hook(lambda *_: way.append(model.place.item()))
    try:
        fit(model, lambda: model.place.square().sum(), Plan(60), 0.02, 0.02, "test")
    finally:
        handle.remove()
    assert way[0] > 1.9 > way[-1]  # the way goes down
    average = way[0]
    for n, place in enumerate(way[1:], 1):
        decay = min(0.998, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * place
    assert model.place.item() == pytest.approx(average, abs=1e-5)
    assert abs(average - way[-1]) > 1e-3 and min(way) < average < max(way)


def test_the_rate_warms_up_stays_and_falls_to_nearly_nothing(rates):
    model = Point(1.0)
    fit(model, lambda: model.place.square().sum(), Plan(200), 0.1, 0.1, "test")
    (rate,) = rates.values()
    assert rate[0] == pytest.approx(0.1 / 50) and rate[24] == pytest.approx(0.1 / 2)
    assert rate[50] == rate[80] == pytest.approx(0.1)
    assert rate[140] == pytest.approx(0.1 * 60 / 120) and rate[-1] == pytest.approx(0.1 / 120)
    assert max(rate) == pytest.approx(0.1)


def test_both_optimisers_follow_the_schedule_and_both_learn(rates):
    torch.manual_seed(0)
    model = Layered()
    inputs = torch.randn(32, 6)
    goal = inputs @ torch.randn(6, 6) * 0.3
    losses = []

    def loss_fn():
        losses.append((model.out(model.layer(inputs)) - goal).square().mean())
        return losses[-1]

    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, loss_fn, Plan(100), lr=0.01, matrix_lr=0.02, description="test")
    assert losses[-1] < 0.6 * losses[0]
    assert all((model.state_dict()[name] != value).any() for name, value in before.items())
    assert [rate / 0.02 for rate in rates[Muon]] == [r / 0.01 for r in rates[torch.optim.AdamW]]


def noisy_problem(cut=None):
    """A model and a loss with chance in it, which is interrupted when it is asked a `cut`th time;
    how often it was asked."""
    torch.manual_seed(0)
    model, goal, asked = Layered(), torch.randn(6, 6) * 0.3, []

    def loss_fn():
        asked.append(1)
        if len(asked) == cut:
            raise KeyboardInterrupt
        inputs = torch.randn(8, 6)
        return (model.out(model.layer(inputs)) - inputs @ goal).square().mean()

    return model, loss_fn, asked


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path, monkeypatch):
    how = {"lr": 0.01, "matrix_lr": 0.02, "description": "test"}
    whole, loss_fn, _ = noisy_problem()
    assert fit(whole, loss_fn, Plan(30), **how) == 30
    monkeypatch.setattr(schedule, "_SAVE_SECONDS", 0)
    plan = Plan(30, state=tmp_path / "work" / "state.pt")
    model, loss_fn, _ = noisy_problem(cut=19)
    with pytest.raises(KeyboardInterrupt):
        fit(model, loss_fn, plan, **how)
    again, loss_fn, asked = noisy_problem()
    assert fit(again, loss_fn, plan, **how) == 30 and len(asked) == 12
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_minutes_decide_where_they_are_given(monkeypatch, rates):
    now, model = [100.0], Point(1.0)
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now[0])

    def loss_fn():
        now[0] += 0.5
        return model.place.square().sum()

    assert fit(model, loss_fn, Plan(7, seconds=120), 0.1, 0.1, "test") == 240
    (rate,) = rates.values()
    assert len(rate) == 240 and max(rate) == pytest.approx(0.1)
    assert rate[-1] == pytest.approx(0.1 * 0.5 / 72)


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


@pytest.mark.parametrize("shape", [(16, 4), (16, 1, 2, 2)])
def test_momentum_is_nesterov_s_and_the_rate_fits_the_shape(shape):
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(shape))
    optimizer = Muon([parameter], lr=0.5, momentum=0.9)
    gradients = [torch.randn(16, 4) for _ in range(3)]
    velocity = torch.zeros(16, 4)
    for gradient in gradients:
        before = parameter.detach().clone()
        parameter.grad = gradient.view(shape).clone()
        optimizer.step()
        velocity = 0.9 * velocity + 0.1 * gradient
        expected = 0.5 * (16 / 4) ** 0.5 * _orthogonal(0.1 * gradient + 0.9 * velocity)
        assert torch.allclose((before - parameter.detach()).view(16, 4), expected, atol=1e-5)
        assert torch.equal(parameter.grad, gradient.view(shape))
