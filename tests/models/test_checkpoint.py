"""Checkpoints that do not belong to the model are refused by name, before anything is loaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.checkpoints.checkpoint import load_weights


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def saved(path, **changes):
    state = model(1).state_dict()
    for key, value in changes.items():
        key = key.replace("_", ".", 1)
        if value is None:
            del state[key]
        else:
            state[key] = value
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("changes, message", [
    ({"1_bias": None}, r"lacks 1 .*1\.bias"),
    ({"1_bias": None, "0_weight": None}, r"lacks 2 .*0\.weight"),
    ({"2_bias": torch.zeros(1)}, r"unknown here.*2\.bias"),
    ({"0_weight": torch.zeros(4, 2)}, r"another shape.*0\.weight"),
], ids=["missing", "two missing", "extra", "shape"])  # fmt: skip
def test_a_checkpoint_of_another_model_is_refused(tmp_path, changes, message):
    target, path = model(0), saved(tmp_path / "a.ckpt", **changes)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        load_weights(target, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
