"""Branches of BLIP's picture encoder are dropped in training, each picture's alone."""

from __future__ import annotations

import torch
from transformers import BlipVisionConfig, BlipVisionModel

from models.training.stochastic_depth import add_stochastic_depth


def encoder(layers=3):
    torch.manual_seed(0)
    config = BlipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2,
        image_size=8, patch_size=4, initializer_range=0.5,
    )  # fmt: skip
    return BlipVisionModel(config)


def states(model, pictures):
    with torch.no_grad():
        return model(pixel_values=pictures).last_hidden_state


def test_evaluation_is_as_it_was():
    model, pictures = encoder().eval(), torch.randn(2, 3, 8, 8)
    before = states(model, pictures)
    add_stochastic_depth(model, 0.9)
    assert torch.equal(states(model, pictures), before)


def watch(model):
    """What the branches of each layer give from now on, by layer and name."""
    seen = {}

    def note(key):
        def hook(module, inputs, output):
            seen[key] = output[0] if isinstance(output, tuple) else output

        return hook

    for number, layer in enumerate(model.encoder.layers):
        for name in ("self_attn", "mlp"):
            getattr(layer, name).register_forward_hook(note((number, name)))
    return seen


def test_rates_rise_evenly_and_branches_fall_picture_by_picture():
    model, rate, pictures = encoder(layers=3).train(), 0.6, 400
    raw = watch(model)
    add_stochastic_depth(model, rate)
    kept = watch(model)  # hooks run in the order they came
    states(model, torch.randn(pictures, 3, 8, 8))
    assert len(raw) == len(kept) == 6
    for (number, name), output in kept.items():
        p = (0.0, rate / 2, rate)[number]
        dropped = (output == 0).flatten(1).all(1)
        torch.testing.assert_close(output[~dropped], raw[number, name][~dropped] / (1 - p))
        spread = 4.5 * (p * (1 - p) / pictures) ** 0.5
        assert abs(dropped.float().mean().item() - p) <= spread
