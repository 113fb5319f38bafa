"""The running average of weights: what it keeps, early and late."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import AveragedModel

from models.training.averaging import RunningAverage, running_average


def means_after(decay, steps, frozen=0.3):
    layer = torch.nn.Linear(1, 1)
    layer.bias.requires_grad_(False).fill_(frozen)
    average, course = AveragedModel(layer, multi_avg_fn=running_average(decay)), []
    for step in range(steps):
        with torch.no_grad():
            layer.weight.fill_(step)
        average.update_parameters(layer)
        course.append(average.module.weight.item())
    assert average.module.bias.item() == layer.bias.item()  # what stands still does not drift
    return course


def test_a_short_run_is_not_its_first_weights():
    """0.9999 kept from the first step on would be at 0.5 after 100 steps that reach 99."""
    course = means_after(0.9999, 100)
    expected = 0.0
    for step in range(1, 100):
        keep = (1 + step) / (10 + step)
        expected = keep * expected + (1 - keep) * step
    assert course[-1] == pytest.approx(expected, rel=1e-5) and 80 < course[-1] < 99


def test_later_it_keeps_as_much_as_asked():
    course = means_after(0.5, 40)
    for step in range(10, 40):
        assert course[step] == pytest.approx((course[step - 1] + step) / 2, rel=1e-5)


def test_it_lies_on_the_device_that_trains():
    """Where the model comes only after it was made."""
    average, module = RunningAverage(0.9), pl.LightningModule()
    module.layer = torch.nn.Linear(1, 1)
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    average.setup(SimpleNamespace(strategy=strategy), module, "fit")
    assert {value.device.type for value in average._average_model.state_dict().values()} == {"meta"}
    assert module.layer.weight.device.type == "cpu"
    assert average.state_key == WeightAveraging().state_key  # checkpoints from before have it
