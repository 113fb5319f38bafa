"""The plan counts what real tensors take, kind by kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.utils import logging

from benchmarks.gpu_autocast import GpuAutocast
from benchmarks.memory_plan import checkpoint_size, plan, read_config
from benchmarks.random_parts import SIZES, Sizes, random_batch, random_parts
from benchmarks.storages import StorageTracker
from benchmarks.training_step import PlannedAdam, training_step
from building import add_add_ons
from models.training.story_model import StoryModel
from train import build_model

MINUTE = Sizes((32, 32, 32, 32), (8, 8), (32, 1, 2), (32, 1, 2), 32, 16, 8, 100, 100)
KIB = 1024


@pytest.fixture(autouse=True)
def quiet():
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(before)


def test_storages_are_counted_while_they_live():
    tracker = StorageTracker()
    with tracker:
        first = torch.empty(KIB // 4)
        view = first.view(2, -1)  # no memory of its own
        both = torch.cat([first, first])
        assert tracker.now["activations"] == 3 * KIB
        del both
        assert tracker.now["activations"] == KIB
        del first
        assert tracker.now["activations"] == KIB  # the view holds it
        torch.empty(1)  # rounded up
        del view
    assert tracker.now.total() == 0 and tracker.peak.total() == 3 * KIB


def test_kinds_of_a_training_step():
    layer, tracker = nn.Linear(256, 256, bias=False), StorageTracker()
    tracker.watch(layer)
    state = PlannedAdam([layer.weight], bits=32).state
    tracker.add(state, "optimiser state")
    with tracker:
        layer(torch.ones(256, 256)).sum().backward()
    size = 256 * KIB
    assert tracker.now["parameters"] == tracker.now["gradients"] == size
    assert tracker.now["optimiser state"] == 2 * size
    assert tracker.peak["activations"] >= 2 * size  # input and output


def test_planned_states_are_those_of_bitsandbytes():
    optim = pytest.importorskip("bitsandbytes").optim
    parameters = [nn.Parameter(torch.ones(n)) for n in (100, 4096, 5000)]
    real = optim.AdamW8bit(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    real.step()
    maps = ("qmap1", "qmap2")  # one table that all share
    taken = sum(
        value.nbytes
        for state in real.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and key not in maps
    )
    assert sum(value.nbytes for value in PlannedAdam(parameters, bits=8).state) == taken


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


WORDS = ["pororo.max_length=8", "pororo.new_tokens=[]", "stochastic_depth=0"]


@pytest.mark.parametrize("words", [[], ["frames_per_micro_batch=2", "freeze_blip=true"]], ids=str)
def test_pretended_tensors_take_what_real_ones_do(words):
    config = read_config([*WORDS, *words])
    planned = plan(config, MINUTE)
    model = build_model(config, random_parts(MINUTE, 8), 1).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer, batch = PlannedAdam(trained, 32), random_batch(model.parts, config)
    tracker = StorageTracker()
    tracker.watch(model)
    tracker.add([x for x in batch.values() if isinstance(x, torch.Tensor)], "other")
    tracker.add(optimizer.state, "optimiser state")
    with tracker:
        assert training_step(model, batch, optimizer, config).isfinite()
    for kind in ("parameters", "gradients", "optimiser state"):
        assert planned[kind] == tracker.peak[kind], kind
    assert planned.total() == pytest.approx(tracker.peak.total(), rel=0.02)


@pytest.mark.parametrize("words", [[], ["tune=lora", "lora_rank=2"]], ids=str)
def test_a_checkpoint_holds_weights_and_moments(words):
    """As large as what AdamW and the model really give to save."""
    config = read_config([*WORDS, *words])
    parts = random_parts(MINUTE, 8)
    add_add_ons(parts, config, load=False)
    model = build_model(config, parts, 1000)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    content = {"state_dict": dict(model.state_dict())}
    model.on_save_checkpoint(content)
    saved = list(content["state_dict"].values())
    for state in optimizer.state.values():
        saved += [state["exp_avg"], state["exp_avg_sq"]]
    assert checkpoint_size(config, MINUTE) == sum(tensor.nbytes for tensor in saved)


@pytest.mark.parametrize("freeze, trained", [(False, 1427.9), (True, 328.7)])
def test_the_planned_model_is_the_published_one(freeze, trained):
    """1.5 billion numbers, of which the frozen model trains attention and token tables."""
    with torch.device("meta"):
        parts = random_parts(SIZES["sd15"], 85)
        how = {f"freeze_{part}": freeze for part in ("clip", "blip", "resnet")}
        model = StoryModel(parts, **how)
    numbers = sum(p.numel() for p in model.parameters()) / 1e6
    assert numbers == pytest.approx(1511.5, abs=0.1)
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    assert counted == pytest.approx(trained, abs=0.1)


def test_a_plan_of_another_backbone_is_refused():
    with pytest.raises(ValueError, match="backbone is tiny; a plan is made for sd15"):
        read_config(["backbone=tiny"])


@pytest.mark.parametrize("words", [["tune=lora", "lora_rank=2"],
                                   ["tune=adapter", "causal_story.adapter_width=4"]])  # fmt: skip
def test_tuning_keeps_moments_of_what_it_trains_only(words):
    config = read_config(words)
    tuned = plan(config, MINUTE)
    parts = random_parts(MINUTE)
    add_add_ons(parts, config, load=False)
    model = build_model(config, parts, 1)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert 0 < len(trained) < len(list(model.parameters())) / 2
    moments = 2 * sum(4 * p.numel() for p in trained)
    assert moments <= tuned["optimiser state"] <= moments + 2 * 512 * len(trained)
