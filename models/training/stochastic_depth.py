"""BLIP's picture encoder trained as it was published: whole branches skipped at random.

Huang et al., *Deep Networks with Stochastic Depth*, arXiv 1603.09382; the library's class lacks it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

__all__ = ["add_stochastic_depth"]


def add_stochastic_depth(vision_encoder: nn.Module, rate: float = 0.1) -> None:
    """In training mode, drop each picture's two branches of layer l of L at `rate` * l / (L - 1).

    What is kept is scaled up, so that expectations stay; in evaluation mode nothing changes.
    """
    layers = vision_encoder.encoder.layers
    rates = np.linspace(0, rate, len(layers), dtype=np.float32).tolist()  # rounded as published
    for layer, p in zip(layers, rates, strict=True):
        if p > 0:
            for branch in (layer.self_attn, layer.mlp):
                branch.register_forward_hook(partial(_drop, p))


def _drop(p: float, branch: nn.Module, inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
    """A branch's (N, P, D), or a tuple that starts with it, with whole rows set to 0."""
    if isinstance(output, tuple):
        return _drop(p, branch, inputs, output[0]), *output[1:]
    return stochastic_depth(output, p, "row", branch.training)
