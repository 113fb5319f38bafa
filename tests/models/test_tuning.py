"""Parameter-efficient tuning: who trains, who is in the graph, what starts as identity."""

from __future__ import annotations

import pytest
import torch
from tiny_parts import STORIES, build_parts, draw

from models.causal_story.add_ons import add_causal_story
from models.checkpoints.checkpoint import load_base, load_weights
from models.training.story_model import StoryModel
from models.training.tuning import add_lora, parameters_by_part


def frames(parts):
    return draw(parts, STORIES[0]).frames


def tuned_model(tune, **how):
    parts = build_parts()
    add_causal_story(parts.unet, parts.conditioner, adapter_width=3, history_weights=True)
    if tune == "lora":
        add_lora(parts.unet, rank=2)
    return StoryModel(parts, tune=tune, classifier_free_rate=0, **how)


NAMED = {
    "attention": lambda name: ".attn1." in name or ".attn2." in name,
    "adapter": lambda name: ".adapter." in name,
    "lora": lambda name: ".lora_" in name,
}


@pytest.mark.parametrize("tune", NAMED)
def test_gradients_reach_what_is_named_and_nothing_else(batch, tune):
    model = tuned_model(tune).train()
    model.log = lambda *args, **how: None
    for parameter in model.parameters():  # what starts at zero would hide others' gradients
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    torch.manual_seed(0)
    model.training_step(batch, 0).backward()
    expected = {
        name for name, _ in model.named_parameters()
        if NAMED[tune](name) or "history_weighting" in name
    }  # fmt: skip
    reached = {
        name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum()
    }
    assert reached == expected and len(expected) > 4
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trains == expected


def test_what_is_frozen_is_out_of_the_graph_and_draws_no_dropout(batch):
    model = tuned_model("lora").train()
    context = model.conditioner(batch, torch.zeros(8, dtype=torch.bool))
    assert not context.states.requires_grad and context.bias.requires_grad
    assert torch.equal(context.states, model.conditioner(batch, torch.zeros(8).bool()).states)
    whole = tuned_model("all").train()
    assert whole.conditioner(batch, torch.zeros(8, dtype=torch.bool)).states.requires_grad


def test_freezing_and_tuning_go_together():
    model = tuned_model("attention", freeze_resnet=True, freeze_clip=True)
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trains and all(".attn" in n or "history_weighting" in n for n in trains)


def test_lora_starts_as_identity_to_the_bit():
    parts = build_parts()
    plain = frames(parts)
    add_lora(parts.unet, rank=2)
    assert torch.equal(frames(parts), plain)
    for name, parameter in parts.unet.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    assert not torch.equal(frames(parts), plain)


def test_parts_are_counted_right():
    model = tuned_model("adapter")
    counts = parameters_by_part(model)
    width, rank = model.unet.config.block_out_channels[-1], 3
    assert counts["unet"][0] == 2 * width * rank + width + rank
    query = model.conditioner.history_weighting.query.weight
    assert counts["conditioner.history_weighting"] == (2 * query.numel(), 2 * query.numel())
    assert sum(trains for trains, _ in counts.values()) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    assert sum(all_ for _, all_ in counts.values()) == sum(p.numel() for p in model.parameters())
    text = counts["conditioner.text_encoder"]
    assert text == (0, sum(p.numel() for p in model.conditioner.text_encoder.parameters()))


@pytest.mark.parametrize("tune", ["adapter", "lora", "all"])
def test_saved_and_loaded_onto_the_base_it_draws_the_same_to_the_bit(tune, tmp_path):
    def build():
        parts = build_parts()
        width = None if tune == "lora" else 3
        parts.add_ons = {"tune": tune, "causal_story.adapter_width": width}
        torch.manual_seed(1)
        add_causal_story(parts.unet, parts.conditioner, adapter_width=width)
        load_base(parts, base)
        if tune == "lora":
            add_lora(parts.unet, rank=2)
        return StoryModel(parts, tune=tune).eval()

    base, path = tmp_path / "base.ckpt", tmp_path / "tuned.ckpt"
    torch.save({"state_dict": build_parts().modules().state_dict()}, base)
    trained, again = build(), build()
    torch.manual_seed(2)
    for parameter in trained.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    content = {"state_dict": trained.state_dict()}
    trained.on_save_checkpoint(content)
    torch.save(content, path)
    untrained = frames(again.parts)
    load_weights(again, path)
    assert torch.equal(frames(again.parts), frames(trained.parts))
    assert not torch.equal(frames(again.parts), untrained)
    whole = len(trained.state_dict())
    assert (len(content["state_dict"]) == whole) == (tune == "all")
