"""Stepping within the backward pass: the same weights to the bit, taken up either way."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from tiny_parts import build_parts
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.memory_plan import PeakMemory
from models.training.half_weights import cast_weights, rounded_at_random
from models.training.optimizer import build_optimizer, step_in_backward
from models.training.story_model import StoryModel

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(in eval mode|does not have many workers|no `val_dataloader`|ended before)"
)


class SaveAfter(pl.Callback):
    """Leaves a checkpoint after two steps, as if the run ended there."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.path)


def fit(folder, batch, in_backward, checkpoint=None, precision=32, **how):
    """Weights after four steps of training; as they were after two in a checkpoint."""
    pl.seed_everything(1)
    model = StoryModel(
        build_parts(), init_lr=1e-3, optimizer_in_backward=in_backward, warmup_steps=1, **how
    )
    trainer = pl.Trainer(
        accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        max_steps=4, max_epochs=9,
        callbacks=[SaveAfter(folder / f"{in_backward}.ckpt")],
    )  # fmt: skip
    trainer.fit(
        model, DataLoader([batch] * 6, batch_size=None), ckpt_path=checkpoint, weights_only=True
    )
    left = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert bool(left) != in_backward
    return model.state_dict()


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("how", [
    {},
    {"optimizer": "adamw8bit", "freeze_clip": True},
    {"gradient_checkpointing": True, "frames_per_micro_batch": 3},
], ids=str)  # fmt: skip
@pytest.mark.long
def test_training_is_the_same_to_the_bit(tmp_path, batch, how):
    """Dropout included; weights are used several times, in checkpoints and micro-batches."""
    if "optimizer" in how:
        pytest.importorskip("bitsandbytes")
    ordinary, within = (fit(tmp_path, batch, kind, **how) for kind in (False, True))
    same(ordinary, within)
    start = StoryModel(build_parts()).state_dict()
    assert not torch.equal(start["unet.conv_in.weight"], within["unet.conv_in.weight"])
    if not how:  # a run that was cut off is taken up either way
        for kind in (True, False):
            same(ordinary, fit(tmp_path, batch, not kind, tmp_path / f"{kind}.ckpt"))


def test_rounding_at_random_is_right_on_average():
    torch.manual_seed(0)
    values = torch.tensor([1 + 2**-9, -3.0 - 2**-10, 2.0**-30, 0.5, 0.0])  # beside bfloat16's
    drawn = torch.stack([rounded_at_random(values).float() for _ in range(4000)])
    torch.testing.assert_close(drawn.mean(0), values, rtol=2e-4, atol=0)
    spread = [sorted(set(column.tolist())) for column in drawn.T]
    assert spread[0] == [1, 1 + 2**-7] and spread[1] == [-3 - 2**-6, -3]
    assert spread[2:] == [[2**-30], [0.5], [0]]  # exact ones stay


def test_steps_too_small_for_bfloat16_add_up():
    torch.manual_seed(0)
    layer = nn.Linear(64, 64, bias=False)
    nn.init.ones_(layer.weight)
    cast_weights(layer, torch.bfloat16, trained=True)
    step_in_backward(build_optimizer("adamw", layer.parameters(), 1e-4, 0.0, fused=True))
    for _ in range(100):  # of a bfloat16's distance below 1 they are a fortieth
        layer.weight.float().sum().backward()
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.float().mean().item() == pytest.approx(0.99, abs=5e-4)


@pytest.mark.long
def test_trained_weights_in_half_precision_learn_alike_and_are_taken_up(tmp_path, batch):
    how = {"trained_dtype": torch.bfloat16, "precision": "bf16-mixed"}
    half = fit(tmp_path, batch, True, **how)
    same(half, fit(tmp_path, batch, True, tmp_path / "True.ckpt", **how))
    full = fit(tmp_path, batch, True, precision="bf16-mixed")
    start = StoryModel(build_parts()).state_dict()
    moved = {name: full[name] - start[name] for name in full if full[name].is_floating_point()}
    name = max(moved, key=lambda name: moved[name].abs().sum() * (half[name].element_size() == 2))
    assert (
        half[name].dtype == torch.bfloat16 and half["unet.conv_norm_out.weight"].element_size() == 4
    )
    ours, theirs = (half[name].float() - start[name]).flatten(), moved[name].flatten()
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.8


def test_gradients_are_never_all_there():
    layers = nn.Sequential(*[nn.Linear(128, 128, bias=False) for _ in range(8)])
    size = 128 * 128 * 4
    peaks = []
    for within in (False, True):
        optimizer = build_optimizer("adamw", layers.parameters(), 1e-3, 0.0, fused=True)
        hooks = step_in_backward(optimizer) if within else []
        for _ in range(2):  # moments are there the second time
            memory = PeakMemory()
            memory.track_external(layers, optimizer)
            with memory:
                layers(torch.ones(1, 128)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
        peaks.append(memory.bytes / size)
        for hook in hooks:
            hook.remove()
    assert peaks[0] == pytest.approx(8 * 4, abs=0.5)  # weights, gradients, two moments
    assert peaks[1] == pytest.approx(8 * 3 + 1, abs=0.6)


def test_hooks_go_when_training_is_over(tmp_path, batch):
    model = StoryModel(build_parts(), optimizer_in_backward=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model._hooks = step_in_backward(build_optimizer("adamw", trained, 1, 0, True))
    model.teardown("fit")
    parameter = model.unet.conv_in.weight
    before = parameter.detach().clone()
    parameter.sum().backward()
    assert torch.equal(before, parameter.detach()) and parameter.grad is not None
