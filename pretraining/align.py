"""A BLIP that reads a frame with its story caption as the text encoder reads a full one.

The multimodal states are taught to equal the text encoder's states of the full caption, the
telling ones first. So what a frame shows, and its caption leaves out, is in the tokens. (To
cross-attention their order is nothing.)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPTextModel,
    CLIPTokenizer,
)

from models.blip import read_frames
from models.conditioning import Context
from models.frames import HistoryTransform
from pretraining.captions import CaptionTable
from pretraining.schedule import Plan, fit
from pretraining.source import Example
from pretraining.telling import rank_tokens, telling_order

__all__ = ["build_blip", "history_transform", "read_pictures", "train_alignment"]

IMAGE_SIZE, PATCH_SIZE = 64, 8
IMAGE_MEAN = IMAGE_STD = (0.5, 0.5, 0.5)  # pixels in [-1, 1]
LR, MATRIX_LR = 1e-3, 1e-2  # of AdamW, of Muon


def build_blip(
    tokenizer: BertTokenizer, width: int, vision_layers: int = 3
) -> BlipForImageTextRetrieval:
    """Stock BLIP: vision layers on 8x8 patches, two multimodal text layers."""
    vision = {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": vision_layers,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "layer_norm_eps": 1e-6,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "encoder_hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-12,
        "is_decoder": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    config = BlipConfig(
        vision_config=vision, text_config=text, projection_dim=width, image_text_hidden_size=width
    )
    return BlipForImageTextRetrieval(config)


def history_transform() -> HistoryTransform:
    """The picture preparation this BLIP is trained with."""
    return HistoryTransform(IMAGE_SIZE, IMAGE_MEAN, IMAGE_STD)


def train_alignment(
    blip: BlipForImageTextRetrieval,
    frames: Tensor,
    examples: Sequence[Example],
    telling: Sequence[Collection[str]],
    clip_tokenizer: CLIPTokenizer,
    blip_tokenizer: BertTokenizer,
    text_encoder: CLIPTextModel,
    plan: Plan,
) -> int:
    """Train `blip` on uint8 `frames` of `examples`; `telling`: words by rank. Steps taken."""
    blip.train()
    rank = rank_tokens(clip_tokenizer, telling).to(frames.device)
    text_encoder.requires_grad_(False)

    full = CaptionTable(clip_tokenizer, (e.full for e in examples))
    told = CaptionTable(blip_tokenizer, (e.caption for e in examples))
    full_rows = full.rows(e.full for e in examples)
    told_rows = told.rows(e.caption for e in examples)
    pictures = torch.tensor([example.frame for example in examples])

    def loss_fn() -> Tensor:
        chosen = torch.randint(len(examples), (plan.batch_size,))
        with torch.no_grad():
            ids, mask = full.read(full_rows[chosen], frames.device)
            states = text_encoder(ids, attention_mask=mask).last_hidden_state
            order = telling_order(mask, rank[ids])
            target = states.gather(1, order[..., None].expand_as(states))
        words = told.read(told_rows[chosen], frames.device)
        read = _read(blip, blip_tokenizer, _disturb(frames[pictures[chosen]]), *words)
        states = read.states
        length = min(states.shape[1], target.shape[1])
        seen = read.mask[:, :length] & mask[:, :length].bool()
        return (states[:, :length] - target[:, :length])[seen].square().mean()

    steps = fit(blip, loss_fn, plan, lr=LR, matrix_lr=MATRIX_LR, description="align BLIP")
    blip.eval()
    return steps


def read_pictures(
    blip: BlipForImageTextRetrieval,
    tokenizer: BertTokenizer,
    pictures: Tensor,
    captions: Sequence[str],
) -> Context:
    """What BLIP makes of uint8 pictures (N, 3, H, W) with their captions, as the U-Net sees it."""
    words = tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
    words = words.to(pictures.device)
    return _read(blip, tokenizer, pictures, words.input_ids, words.attention_mask)


def _read(
    blip: BlipForImageTextRetrieval,
    tokenizer: BertTokenizer,
    pictures: Tensor,
    ids: Tensor,
    mask: Tensor,
) -> Context:
    enc = tokenizer.convert_tokens_to_ids("[ENC]")
    shown = history_transform()(pictures)
    states = read_frames(blip.vision_model, blip.text_encoder, enc, shown, ids, mask)
    return Context(states, mask.bool())


def _disturb(frames: Tensor) -> Tensor:
    """A little noise: later BLIP reads frames a diffusion model drew."""
    level = 8 * torch.rand(len(frames), 1, 1, 1).to(frames.device)
    noise = level * torch.randn(frames.shape, device=frames.device)
    return (frames + noise).clamp(0, 255).to(torch.uint8)
