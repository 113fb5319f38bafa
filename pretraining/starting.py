"""A base as the start of another: what fits is taken over, words by their spelling."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderRAE, UNet2DConditionModel
from torch import nn
from transformers import BlipForImageTextRetrieval, CLIPTextModel, PreTrainedTokenizerBase

from models.components import load_tokenizers
from pretraining.vocabulary import split_words

__all__ = ["start_from"]

PARTS = {"vae": AutoencoderRAE, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}


def start_from(
    folder: Path,
    parts: dict[str, nn.Module],
    clip_tokenizer: PreTrainedTokenizerBase,
    blip_tokenizer: PreTrainedTokenizerBase,
    captions: Iterable[str],
) -> dict[str, str]:
    """Put weights of the base in `folder` into `parts`; of each part, how much they fill and, if it
    reads `captions`, how many of their words they know.

    Raises:
        FileNotFoundError: there is no base in `folder`.
    """
    missing = [name for name in (*PARTS, "blip") if not (folder / name / "config.json").exists()]
    if missing:
        raise FileNotFoundError(
            f"--start {folder} has no {missing[0]}/: give a folder that this program has made, "
            "such as assets/cartoon-base"
        )
    theirs = load_tokenizers(str(folder), str(folder / "blip"))
    said = {}
    for name, part in parts.items():
        cls = PARTS.get(name, BlipForImageTextRetrieval)
        old = cls.from_pretrained(folder / name).float()
        new, known = 0, ""
        if name in ("text_encoder", "blip"):
            own = clip_tokenizer if name == "text_encoder" else blip_tokenizer
            other = (theirs[0] if name == "text_encoder" else theirs[1]).tokenizer
            new = _take_words(part, old, own, other)
            words = {word for text in set(captions) for word in split_words(text) if word.isalpha()}
            both = [word for word in words if _is_known(word, own) and _is_known(word, other)]
            known = f" ({len(both)} of {len(words)} words)"
        said[name] = f"{_take(part, old, new):.0%} of {name}{known}"
    return said


def _is_known(word: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it is one token."""
    tokens = tokenizer.tokenize(word)
    return len(tokens) == 1 and tokens[0] != tokenizer.unk_token


def _take(part: nn.Module, old: nn.Module, new: int) -> float:
    """Copy tensors of the same name and shape; the share of `part`'s numbers they are, without
    `new` ones that `old` had not."""
    known, taken, total = old.state_dict(), -new, 0
    with torch.no_grad():
        for name, value in part.state_dict().items():
            total += value.numel()
            if name in known and known[name].shape == value.shape:
                value.copy_(known[name])
                taken += value.numel()
    return taken / total


def _take_words(
    part: nn.Module,
    old: nn.Module,
    own: PreTrainedTokenizerBase,
    other: PreTrainedTokenizerBase,
) -> int:
    """Copy the rows of tokens that both vocabularies have; `old` then has the new table, of which
    so many numbers are not its own."""
    table, theirs = _word_table(part), _word_table(old)
    known = other.get_vocab()
    with torch.no_grad():
        for token, row in own.get_vocab().items():
            if token in known:
                table.weight[row] = theirs.weight[known[token]]
    theirs.weight = nn.Parameter(table.weight.detach().clone())
    shared = len(own.get_vocab().keys() & known.keys())
    return (len(table.weight) - shared) * table.weight.shape[1]


def _word_table(part: nn.Module) -> nn.Embedding:
    if isinstance(part, BlipForImageTextRetrieval):
        return part.text_encoder.get_input_embeddings()
    return part.get_input_embeddings()
