"""BLIP's picture and multimodal encoders, from the library's layout or Salesforce's `.pth` file."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
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

from models.frames import HistoryTransform
from models.upstream_checkpoint import from_upstream

__all__ = ["load_blip", "require_configuration", "tokenizer_source"]

BERT = "google-bert/bert-base-uncased"  # BLIP's tokenizer is its
# Of the published large model. Copies of it say other sizes of pictures and the library's epsilon,
# and heads leave no trace in the weights: a wrong number of them would load without a word.
WIDTH, PICTURE_SIZE, VISION_EPS, TEXT_HEADS = 1024, 224, 1e-6, 12
VISION = BlipVisionConfig(
    hidden_size=WIDTH,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    image_size=PICTURE_SIZE,
    patch_size=16,
    layer_norm_eps=VISION_EPS,
)
TEXT = BlipTextConfig(
    vocab_size=30524,
    encoder_hidden_size=WIDTH,
    num_attention_heads=TEXT_HEADS,
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    is_decoder=True,
)


def require_configuration(cls: type[PretrainedConfig], source: str, **where: str) -> None:
    """OSError if there is none: the library would take sizes of its own and find nothing fits."""
    if "model_type" not in cls.get_config_dict(source, **where)[0]:
        raise OSError("it has no config.json that names a model")


def tokenizer_source(blip_model: str) -> str:
    """Where the tokenizer of `blip_model` is: of a `.pth` file, beside it or else on the hub."""
    folder = Path(blip_model).parent
    if not blip_model.endswith(".pth"):
        return blip_model
    beside = any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json"))
    return str(folder) if beside else BERT


def load_blip(source: str) -> tuple[BlipVisionModel, BlipTextModel, HistoryTransform]:
    """Both encoders in float32 and what pictures go through before; large ones as published.

    Raises:
        OSError: it is not there, or not whole.
    """
    if source.endswith(".pth"):
        vision, text = _load_pth(source)
        transform = HistoryTransform(PICTURE_SIZE, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
        return vision, text, transform
    require_configuration(BlipConfig, source)
    config = BlipConfig.from_pretrained(source)
    large = config.vision_config.hidden_size == WIDTH
    if large:
        config.vision_config.layer_norm_eps = VISION_EPS
        config.text_config.num_attention_heads = TEXT_HEADS
    blip, info = BlipForImageTextRetrieval.from_pretrained(
        source, config=config, output_loading_info=True
    )
    encoders = ("vision_model.", "text_encoder.")
    lacking = [key for key in info["missing_keys"] if key.startswith(encoders)]
    if lacking:
        raise OSError(f"it lacks {len(lacking)} of the encoders' tensors, such as {lacking[0]}")
    if large:
        _resize_positions(blip.vision_model, PICTURE_SIZE)
    processor = AutoImageProcessor.from_pretrained(source)
    size = blip.vision_model.config.image_size
    transform = HistoryTransform(size, processor.image_mean, processor.image_std)
    return blip.vision_model.float(), blip.text_encoder.float(), transform


def _load_pth(path: str) -> tuple[BlipVisionModel, BlipTextModel]:
    vision, text = BlipVisionModel(VISION), BlipTextModel(TEXT, add_pooling_layer=False)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        state = from_upstream({f"mm_encoder.{key}": value for key, value in state.items()})
        for name, encoder in (("vision_encoder.", vision), ("multimodal_encoder.", text)):
            own = f"conditioner.{name}"
            weights = {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
            encoder.load_state_dict(weights)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch.load raises many kinds
        reason = " ".join(str(error).split())
        raise OSError(f"it is not BLIP's model_large.pth: {reason[:200]}") from error
    return vision, text


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
