"""What saves memory changes no result: micro-batches, checkpointing, frozen halves, optimisers."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import pytest
import torch
from tiny_parts import EPSILON, build_parts
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.memory_plan import PeakMemory
from models.frames import encode_frames
from models.training.micro_batches import checkpoint_in_parts
from models.training.optimizer import build_optimizer
from models.training.story_model import StoryModel

FROZEN = {"freeze_clip": True, "freeze_blip": True, "freeze_resnet": True}


def one_step(batch, autocast=False, tracked=False, change=None, **how):
    """Loss and gradients of a step, from one seed, and the most bytes it took beside weights."""
    model = StoryModel(build_parts(EPSILON), classifier_free_rate=0.3, **how)
    model.train()
    if change:
        change(model)
    model.log = lambda *args, **kwargs: None
    torch.manual_seed(3)
    memory = PeakMemory()
    with memory if tracked else nullcontext():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model.training_step(batch, 0)
        loss.backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), named, memory.bytes


@pytest.fixture(scope="module")
def whole(batch):
    return one_step(batch, tracked=True)


@pytest.mark.parametrize("how", [
    {"frames_per_micro_batch": 3}, {"frames_per_micro_batch": 50},
    {"gradient_checkpointing": True}, {"gradient_checkpointing": True, "frames_per_micro_batch": 2},
], ids=str)  # fmt: skip
def test_less_memory_gives_the_same_step(batch, whole, how):
    """8 frames: in uneven parts, all at once; with dropout in BLIP."""
    loss, gradients, _ = one_step(batch, **how)
    torch.testing.assert_close(loss, whole[0], rtol=1e-5, atol=0)
    assert gradients.keys() == whole[1].keys()
    for name, gradient in gradients.items():
        size = whole[1][name].abs().max()
        assert (gradient - whole[1][name]).abs().max() <= 1e-4 * size + 1e-7, name


@pytest.mark.long
def test_each_saves_activations(batch, whole):
    parts = one_step(batch, tracked=True, frames_per_micro_batch=2)[2]
    checkpointed = one_step(batch, tracked=True, gradient_checkpointing=True)[2]
    assert parts < 0.7 * whole[2] and checkpointed < 0.9 * whole[2]


def test_checkpointing_reaches_every_encoder(batch):
    """BLIP's text model is left out by the library's own switch."""
    model = StoryModel(build_parts(), gradient_checkpointing=True)
    for encoder in model.conditioner.children():
        if hasattr(encoder, "encoder"):
            layers = [m for m in encoder.modules() if getattr(m, "gradient_checkpointing", False)]
            assert len(layers) == encoder.config.num_hidden_layers


def test_frozen_halves_are_what_autocast_makes_of_them(batch):
    """Bit for bit, with half of their bytes; what trains stays in 32 bits."""
    full = one_step(batch, autocast=True, **FROZEN)
    half = one_step(batch, autocast=True, frozen_dtype=torch.bfloat16, **FROZEN)
    assert torch.equal(full[0], half[0])
    assert full[1].keys() == half[1].keys()
    assert all(torch.equal(full[1][name], half[1][name]) for name in full[1])
    model = StoryModel(build_parts(), frozen_dtype=torch.bfloat16, **FROZEN)
    kinds = {(p.requires_grad, p.dtype) for p in model.parameters() if p.ndim > 1}
    assert (False, torch.bfloat16) in kinds and (True, torch.bfloat16) not in kinds


def test_eight_bits_round_and_do_nothing_else(batch):
    """Against the same weights rounded there and back; the autoencoder's stay in 16 bits."""

    def rounded(model):
        for part in (model.unet, model.conditioner):
            for parameter in part.parameters():
                if parameter.dtype == torch.bfloat16 and parameter.ndim > 1:
                    parameter.data = parameter.data.to(torch.float8_e4m3fn).bfloat16()

    how = {"autocast": True, "tune": "attention", "frozen_dtype": torch.bfloat16}
    expected = one_step(batch, change=rounded, **how)
    found = one_step(batch, float8_frozen_weights=True, gradient_checkpointing=True, **how)
    assert torch.equal(found[0], expected[0]) and found[0] != one_step(batch, **how)[0]
    assert all(torch.equal(found[1][name], gradient) for name, gradient in expected[1].items())
    del how["autocast"]
    model = StoryModel(build_parts(), float8_frozen_weights=True, **how)
    for part, kind in ((model.unet, torch.float8_e4m3fn), (model.vae, torch.bfloat16)):
        assert {p.dtype for p in part.parameters() if p.ndim == 4} == {kind}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_encoding_in_parts_draws_the_same_latents():
    vae = build_parts().vae
    frames = torch.rand(5, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        one, other = (
            encode_frames(vae, frames, torch.Generator().manual_seed(1), size) for size in (None, 2)
        )
        mean = vae.encode(frames).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(one, other)
    assert (one - mean).abs().max() > 0  # sampled, not the mean


def train(name, fused=True, steps=30):
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 96)
    optimizer = build_optimizer(name, layer.parameters(), lr=1e-2, weight_decay=0.1, fused=fused)
    target, losses = torch.randn(96, 96), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (layer(torch.eye(96)) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, layer.weight.detach(), optimizer


def test_fused_adamw_is_adamw():
    torch.testing.assert_close(train("adamw")[1], train("adamw", fused=False)[1])
    assert train("adamw", steps=1)[2].defaults["fused"]


def test_eight_bits_train_almost_like_32_in_a_quarter_of_the_memory():
    pytest.importorskip("bitsandbytes")
    (losses, weight, optimizer), (expected, reference, _) = train("adamw8bit"), train("adamw")
    assert losses[-1] == pytest.approx(expected[-1], rel=0.02)
    assert (weight - reference).abs().mean() < 0.06 * reference.abs().mean()
    state = optimizer.state[next(iter(optimizer.state))]
    assert state["state1"].dtype == state["state2"].dtype == torch.uint8


def test_eight_bits_without_the_package_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ValueError, match="optimizer is adamw8bit, which needs bitsandbytes"):
        train("adamw8bit")


class _Casts(TorchDispatchMode):
    """Counts how often tensors of one shape are cast."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default and args[0].shape == self.shape
        return func(*args, **(kwargs or {}))


def test_a_checkpointed_block_leaves_no_copies_of_its_weights():
    layer, rows = torch.nn.Linear(5, 7), torch.randn(3, 5)
    with torch.autocast("cpu", torch.bfloat16), _Casts(layer.weight.shape) as casts:
        for size, times in ((None, 1), (1, 2), (2, 3)):  # within a block, parts share one copy
            checkpoint_in_parts(size, layer, rows)
            assert casts.count == times
