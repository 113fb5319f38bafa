"""BLIP's picture and multimodal encoders, from the library's layout or Salesforce's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import init_empty_weights
from torch import nn
from transformers import (
    AutoImageProcessor,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    PretrainedConfig,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from common.terminal import in_one_line
from models.checkpoints.safe_loading import read_content
from models.checkpoints.state_dicts import plain_names, unwrap
from models.checkpoints.upstream import from_upstream
from models.frames import HistoryTransform

__all__ = ["is_blip_file", "load_blip", "require_configuration", "tokenizer_source"]

MODEL_LARGE = (
    "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_large.pth"
)
BERT = "google-bert/bert-base-uncased"  # BLIP's tokenizer is its
FILES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
WIDTH, PICTURE_SIZE = 1024, 224  # of the published large model
# What leaves no trace in its weights, so that a wrong value would load without a word. Copies of it
# say the library's defaults: 8 heads for the text, another epsilon, no dropout.
VISION_SETTINGS = {
    "num_attention_heads": 16,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "attention_dropout": 0.0,
}
TEXT_SETTINGS = {
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
VISION = BlipVisionConfig(
    hidden_size=WIDTH,
    intermediate_size=4096,
    num_hidden_layers=24,
    image_size=PICTURE_SIZE,
    patch_size=16,
    **VISION_SETTINGS,
)
TEXT = BlipTextConfig(
    vocab_size=30524,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    max_position_embeddings=512,
    encoder_hidden_size=WIDTH,
    is_decoder=True,
    **TEXT_SETTINGS,
)


def require_configuration(cls: type[PretrainedConfig], source: str, **where: Any) -> None:
    """OSError if there is none: the library would take sizes of its own and find nothing fits."""
    if "model_type" not in cls.get_config_dict(source, **where)[0]:
        raise OSError("it has no config.json that names a model")


def is_blip_file(source: str) -> bool:
    """Whether `source` names a file such as Salesforce's `model_large.pth`, not a folder."""
    return source.endswith(FILES)


def tokenizer_source(blip_model: str) -> str:
    """Where the tokenizer of `blip_model` is: of a file, beside it.

    Raises:
        FileNotFoundError: the file is not there, or no vocabulary beside it.
    """
    if not is_blip_file(blip_model):
        return blip_model
    path = Path(blip_model)
    if not path.is_file():
        raise FileNotFoundError(
            f"blip_model: there is no file {path}; download BLIP's pretrained network from "
            f"{MODEL_LARGE} to there, and vocab.txt of https://huggingface.co/{BERT} beside it"
        )
    if any((path.parent / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        return str(path.parent)
    raise FileNotFoundError(
        f"blip_model: no vocab.txt is beside {path}; put the one of https://huggingface.co/{BERT} "
        f"there, which BLIP's tokenizer is"
    )


def load_blip(source: str, **where: Any) -> tuple[BlipVisionModel, BlipTextModel, HistoryTransform]:
    """Both encoders in float32 and what pictures go through before; large ones as published.

    `where`: `local_files_only`, as the libraries take it.

    Raises:
        OSError: it is not there, or not whole.
    """
    if is_blip_file(source):
        vision, text = _load_file(source)
        transform = HistoryTransform(PICTURE_SIZE, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
        return vision, text, transform
    require_configuration(BlipConfig, source, **where)
    config = BlipConfig.from_pretrained(source, **where)
    large = config.vision_config.hidden_size == WIDTH
    if large:
        config.vision_config.update(VISION_SETTINGS)
        config.text_config.update(TEXT_SETTINGS)
    blip, info = BlipForImageTextRetrieval.from_pretrained(
        source, config=config, output_loading_info=True, **where
    )
    encoders = ("vision_model.", "text_encoder.")
    lacking = [key for key in info["missing_keys"] if key.startswith(encoders)]
    if lacking:
        raise OSError(f"it lacks {len(lacking)} of the encoders' tensors, such as {lacking[0]}")
    if large:
        _resize_positions(blip.vision_model, PICTURE_SIZE)
    processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False, **where)
    size = blip.vision_model.config.image_size
    transform = HistoryTransform(size, processor.image_mean, processor.image_std)
    return blip.vision_model.float(), blip.text_encoder.float(), transform


def _load_file(path: str) -> tuple[BlipVisionModel, BlipTextModel]:
    with init_empty_weights(include_buffers=False):  # the file's tensors take their place
        vision, text = BlipVisionModel(VISION), BlipTextModel(TEXT, add_pooling_layer=False)
    try:
        state = plain_names(unwrap(read_content(path))[0])
    except ValueError as error:
        raise OSError(f"it {error}") from error
    state = from_upstream({f"mm_encoder.{key}": value for key, value in state.items()})
    try:
        for name, encoder in (("vision_encoder.", vision), ("multimodal_encoder.", text)):
            own = f"conditioner.{name}"
            weights = {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
            encoder.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = in_one_line(error)
        raise OSError(f"it is not BLIP's model_large.pth: {reason[:200]}") from error
    return vision.float().eval(), text.float().eval()


@torch.no_grad()
def _resize_positions(vision: BlipVisionModel, size: int) -> None:
    """Fit the table of positions, (1, 1 + n * n, D), to pictures of `size` pixels: bicubic."""
    embeddings, side = vision.embeddings, size // vision.config.patch_size
    first, grid = embeddings.position_embedding.split([1, embeddings.num_patches], dim=1)
    old = round(embeddings.num_patches**0.5)
    grid = grid.unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, D, n, n)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    table = torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)
    embeddings.position_embedding = nn.Parameter(table)
    embeddings.num_patches, embeddings.num_positions = side**2, side**2 + 1
    embeddings.image_size = vision.config.image_size = size
