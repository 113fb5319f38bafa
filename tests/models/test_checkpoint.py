"""Checkpoints that do not belong to the model are refused by name, before anything is loaded."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from common.files import file_hash
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


def test_weights_arrive_exactly(tmp_path):
    target = model(0)
    load_weights(target, saved(tmp_path / "a.ckpt"))
    for key, value in model(1).state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


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


def test_the_hash_tells_files_apart(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"weights" * 100_000)
    assert file_hash(path) == hashlib.sha256(b"weights" * 100_000).hexdigest()
