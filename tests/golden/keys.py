"""Every key of a full-size original checkpoint: where it goes, its shape, and the way back."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from models.checkpoints.upstream import from_upstream, to_upstream
from models.training.story_model import StoryModel
from tests.golden.model import Line, build_parts

__all__ = ["FULL", "compare_keys"]

FULL = {  # the published sizes; vocabularies and caption length are those of PororoSV
    "max_length": 85,
    "clip_tokens": 49416,
    "blip_tokens": 30530,
    "clip_ids": {"bos": 49406, "eos": 49407, "pad": 49407},
    "blip_ids": {"pad": 0, "cls": 101, "sep": 102, "dec": 30522, "enc": 30523},
    "clip": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "hidden_act": "quick_gelu",
    },
    "med": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 512,
    },
    "vit": {"img_size": 224, "patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16},
    "unet": {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
    "vae": {
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "image": 512,
}  # fmt: skip
LIBRARY = {  # the golden key map's names for the parts
    "clip:": "conditioner.text_encoder.",
    "med:": "conditioner.multimodal_encoder.",
    "vit:": "conditioner.vision_encoder.",
    "unet:": "unet.",
    "vae:": "vae.",
    "top:modal_type_embeddings.": "conditioner.type_embeddings.",
    "top:time_embeddings.": "conditioner.time_embeddings.",
}


def compare_keys(folder: Path) -> list[Line]:
    """`full_keys.json` and `full_keymap.json` against the full-size model, which has no numbers."""
    listed = json.loads((folder / "full_keys.json").read_text())["keys"]
    theirs = {
        key: torch.empty(about["shape"], dtype=getattr(torch, about["dtype"]), device="meta")
        for key, about in listed.items()
    }
    ours = from_upstream(theirs)
    with torch.device("meta"):
        parts = build_parts(FULL)
        conditioner = parts.conditioner
        nulls = (conditioner.null_caption_ids, conditioner.null_history_ids, conditioner.null_image)
        own = StoryModel(parts).state_dict()
        back = to_upstream(own, *nulls)
    mapped = json.loads((folder / "full_keymap.json").read_text())
    elsewhere = 0
    for key, target in mapped.items():
        for short, ours_prefix in LIBRARY.items():
            if target.startswith(short):
                name = next(iter(from_upstream({key: theirs[key]})), None)
                elsewhere += name != ours_prefix + target.removeprefix(short)
    return [
        Line("full-size keys that differ", len(ours.keys() ^ own.keys()), 0),
        Line("full-size keys mapped elsewhere", elsewhere, 0),
        Line("full-size shapes that differ", _unlike(ours, own), 0),
        Line("exported keys that differ", len(back.keys() ^ theirs.keys()), 0),
        Line("exported shapes and types that differ", _unlike(back, theirs), 0),
    ]


def _unlike(a: dict, b: dict) -> int:
    return sum((a[k].shape, a[k].dtype) != (b[k].shape, b[k].dtype) for k in a.keys() & b.keys())
