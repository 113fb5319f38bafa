"""Random weights in the forms in which evaluation takes its networks."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from evaluation.networks.inception import fid_inception

__all__ = ["write_clip", "write_inception"]

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_clip(folder: Path, seed: int = 0) -> nn.Module:
    """A folder that open_clip loads; the model that it holds."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**CLIP)
    folder.mkdir(parents=True)
    preparation = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"model_cfg": CLIP, "preprocess_cfg": preparation}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model.eval()


def write_inception(path: Path) -> nn.Module:
    """Save weights that keep pictures apart where FID's own would lie; the network with them."""
    torch.manual_seed(0)
    network = fid_inception().eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            nn.init.normal_(value, 0, value[0].numel() ** -0.5 if value.ndim > 1 else 1)
        if name.endswith(("running_var", "bn.weight")):
            nn.init.ones_(value)
    torch.save(network.state_dict(), path)
    return network
