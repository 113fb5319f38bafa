"""The plan counts what real tensors take."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint
from transformers.utils import logging

from benchmarks.gpu_autocast import GpuAutocast
from benchmarks.memory_plan import PeakMemory, fitting, gpu_optimizer, main, plan, read_config
from benchmarks.random_parts import Sizes, random_batch, random_parts
from benchmarks.training_step import training_step
from building import attach_add_ons
from models.training.optimizer import build_optimizer, step_in_backward
from train import build_model

MINUTE = Sizes((32, 32), (8, 8), (32, 1, 2), (32, 1, 2), 32, 16, 8, 100, 100)
PRESET = "config=presets/arldm-pororo-visualization.yaml"
SMALL = ["pororo.max_length=8", "pororo.new_tokens=[]", "stochastic_depth=0"]


@pytest.fixture(autouse=True)
def quiet():
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(before)


def test_tensors_are_counted_while_they_live():
    frozen = nn.Linear(256, 256, bias=False).requires_grad_(False)  # 256 KiB
    memory = PeakMemory()
    memory.track_external(frozen)
    with memory:
        states = frozen(torch.empty(128, 256))  # the argument and the result: 128 KiB each
        view = states.view(2, -1)  # no memory of its own
        del states
        torch.empty(64, 256)  # 64 KiB, gone at once
        del view
        torch.empty(32, 256)
    assert memory.bytes == (256 + 2 * 128) * 1024


def test_autocast_as_on_a_gpu_also_where_checkpoints_compute_again():
    layer, norm = nn.Linear(4, 4), nn.LayerNorm(4)
    seen = []

    def forward(x):
        states = layer(x)
        seen.append((states.dtype, norm(states).dtype))
        return norm(states)

    with GpuAutocast(torch.bfloat16):
        checkpoint(forward, torch.ones(2, 4), use_reentrant=False).sum().backward()
    assert seen == [(torch.bfloat16, torch.float32)] * 2
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("words", [
    ["tune=lora", "lora_rank=2", "optimizer=adamw8bit"],
    ["freeze_clip=true", "freeze_blip=true", "freeze_resnet=true",
     "optimizer_in_backward=true", "accumulate_grad_batches=1"],
], ids=str)  # fmt: skip
@pytest.mark.long
def test_fake_tensors_take_what_real_ones_do(words):
    if "optimizer=adamw8bit" in words:
        pytest.importorskip("bitsandbytes")
    config = read_config([PRESET, *SMALL, *words])
    planned = plan(config, MINUTE)
    parts = random_parts(MINUTE, 8)
    attach_add_ons(parts, config, load=False)
    model = build_model(config, parts, 1000).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(config.optimizer, trained, 1e-4, 0, fused=True)
    if config.optimizer_in_backward:
        step_in_backward(optimizer)
    batch, memory = random_batch(parts, config), PeakMemory()
    training_step(model, batch, optimizer, config)
    memory.track_external(model, optimizer, *(x for x in batch.values() if torch.is_tensor(x)))
    with memory:
        assert training_step(model, batch, optimizer, config).isfinite()
    assert planned["peak"] == pytest.approx(memory.bytes, rel=0.02)
    assert planned["parameters"] == sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    assert planned["gradients"] == sum(gradient.nbytes for gradient in gradients)
    content = {"state_dict": dict(model.state_dict())}
    model.on_save_checkpoint(content)
    moments = [v for state in optimizer.state.values() for v in state.values()]
    saved = [x for x in [*content["state_dict"].values(), *moments] if torch.is_tensor(x)]
    assert planned["checkpoint"] == sum(tensor.nbytes for tensor in saved)


@pytest.mark.long
def test_an_average_is_a_copy_of_the_whole_model():
    words = [PRESET, *SMALL, "tune=lora", "lora_rank=2"]
    plain, averaged = (
        plan(read_config([*words, *more]), MINUTE) for more in ([], ["ema_decay=0.99"])
    )
    assert averaged.pop("average of the weights") == plain["parameters"]
    assert averaged.pop("peak") - plain.pop("peak") == plain["parameters"]
    assert averaged == plain


@pytest.mark.parametrize("words, moments, temporaries", [
    ([], 2, 0),
    (["precision=bf16-mixed"], 2, 1),  # not fused there: the step takes all square roots at once
    (["precision=bf16-mixed", "optimizer=adamw8bit"], 0.5, 0),
], ids=str)  # fmt: skip
def test_what_a_step_of_the_optimiser_takes(words, moments, temporaries):
    """In sizes of what it trains."""
    if "optimizer=adamw8bit" in words:
        pytest.importorskip("bitsandbytes")
    with (fake := FakeTensorMode(allow_non_fake_inputs=True)):
        model = nn.ModuleList(nn.Linear(512, 512, bias=False) for _ in range(4))
    optimizer = gpu_optimizer(read_config([PRESET, *words]), list(model.parameters()))
    memory, size = PeakMemory(), 4 * 512 * 512 * 4
    with fake:
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        memory.track_external(model)
        with memory:
            optimizer.step()
    assert memory.bytes == pytest.approx((2 + moments + temporaries) * size, rel=0.01)


@pytest.mark.long
def test_drawing_is_planned_from_the_same_words():
    def planned(*words):
        return plan(read_config([PRESET, *SMALL, "mode=sample", *words]), MINUTE)

    whole, more = planned(), planned("batch_size=3", "guidance_scale=1")
    assert whole.keys() == {"parameters", "activations and temporaries", "peak"}
    assert whole["parameters"] == more["parameters"]
    # Three rows, not the two of a guided story.
    kept = whole["parameters"]
    assert 1.3 < (more["peak"] - kept) / (whole["peak"] - kept) < 1.7
    # The scores of no attention are ever there: 5 blocks of 8 tokens, 64x64 positions, 8 heads.
    assert whole["activations and temporaries"] < 2 * 8 * 4096 * 4096 * 4


def test_which_cards_hold_it():
    """Two GiB are left to the GPU itself."""
    assert fitting(9 * 2**30).startswith("fits GPUs of 80, 48, 40, 24, 16, 12 GB; not: 8 (2 GiB")
    assert fitting(79 * 2**30).startswith("fits GPUs of none GB; not: 80")


def test_other_configurations_are_refused():
    with pytest.raises(ValueError, match="backbone is tiny; a plan is made for backbone=sd15, s"):
        read_config(["seed=1"])
    with pytest.raises(ValueError, match="there is no file nowhere.ckpt"):
        read_config([PRESET, "mode=sample", "test_model_file=nowhere.ckpt"])


def test_drawing_is_not_measured_as_if_it_were_training(monkeypatch):
    monkeypatch.setattr("sys.argv", ["plan", PRESET, "mode=sample", "--measure"])
    with pytest.raises(SystemExit, match="error: --measure runs a training step; leave it out"):
        main()
