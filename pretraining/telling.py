"""Tokens of a full caption in the order in which BLIP is taught to say them.

A short caption has few tokens, and what its picture shows has to fit into them: end of text, which
sums up the rest, then words that stories leave out, by rank.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from pretraining.vocabulary import is_unspaced

__all__ = ["rank_tokens", "telling_order", "telling_part"]


def rank_tokens(tokenizer: CLIPTokenizer, telling: Sequence[Collection[str]]) -> Tensor:
    """A rank for each id: 1 for the most telling words, and so on, any other word last."""
    rank = torch.full((len(tokenizer),), len(telling) + 1)
    for value, words in enumerate(telling, 1):
        for word in words:
            # Twice, such a letter is read as within a run and as at its end.
            times = 1 + is_unspaced(word)
            rank[tokenizer(word * times).input_ids[1 : 1 + times]] = value
    return rank


def telling_order(mask: Tensor, rank: Tensor) -> Tensor:
    """Places (B, S) of tokens by their ranks (B, S), the end of text first, what is padded last."""
    length = mask.shape[1]
    rank = rank.masked_fill(mask == 0, rank.max() + 1)
    places = torch.arange(length, device=mask.device)
    rank = rank.masked_fill(places == mask.sum(dim=1, keepdim=True) - 1, 0)
    return (rank * length + places).argsort(dim=1)


def telling_part(mask: Tensor, rank: Tensor, lengths: Tensor) -> Tensor:
    """The mask (B, S), bool, of so many (B,) tokens as come first."""
    place_in_order = telling_order(mask, rank).argsort(dim=1)
    return mask.bool() & (place_in_order < lengths[:, None])
