"""What ends training between two steps, without a whole training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from models.training.stopping import StopAtNonFinite


def test_a_step_without_gradients_is_judged_by_its_loss_alone(tmp_path, monkeypatch):
    """The norm of none would be a number on the processor, wherever the loss is."""
    monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda of: pytest.fail("there are none"))
    stops, seen = StopAtNonFinite(tmp_path), []
    module = SimpleNamespace(optimizer_in_backward=False)
    stops.on_before_backward(None, module, torch.zeros(()))
    strategy = SimpleNamespace(reduce_boolean_decision=lambda fine: seen.append(fine) or fine)
    trainer = SimpleNamespace(precision_plugin=None, strategy=strategy)
    optimizer = SimpleNamespace(param_groups=[{"params": [nn.Parameter(torch.zeros(3))]}])
    stops.on_before_optimizer_step(trainer, module, optimizer)
    assert seen == [True]
