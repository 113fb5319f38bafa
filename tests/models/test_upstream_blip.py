"""BLIP as the original builds it: numbers that leave no trace in the weights' names or shapes."""

from __future__ import annotations

import torch
from torch import nn
from transformers import BlipTextModel, BlipVisionModel

from models import blip


def test_the_published_blip_has_the_originals_heads_epsilons_and_dropout():
    with torch.device("meta"):
        vision, text = BlipVisionModel(blip.VISION), BlipTextModel(blip.TEXT)
    assert len(vision.encoder.layers) == 24 and len(text.encoder.layer) == 12
    for layer in vision.encoder.layers:
        assert (layer.self_attn.num_heads, layer.self_attn.head_dim) == (16, 64)
        one = layer.mlp.activation_fn(torch.ones(1, device="cpu")).item()
        assert abs(one - 0.8413447) < 1e-6  # the exact GELU, none of its approximations
    for layer in text.encoder.layer:
        for attention in (layer.attention, layer.crossattention):
            assert attention.self.num_attention_heads == 12
            assert attention.self.attention_head_size == 64
            assert attention.self.dropout.p == attention.output.dropout.p == 0.1
    for encoder, epsilon, count in ((vision, 1e-6, 2 * 24 + 1), (text, 1e-12, 3 * 12 + 1)):
        norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
        assert {norm.eps for norm in norms} == {epsilon} and len(norms) == count
