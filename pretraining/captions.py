"""Captions of examples, read by a tokenizer once, from which every step draws its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pretraining.source import Example

__all__ = ["CaptionTable", "CaptionsOfExamples"]


class CaptionTable:
    """Texts as `ids` and `mask` (N, S), padded to the longest; `row` of each text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> None:
        different = list(dict.fromkeys(texts))
        tokens = tokenizer(different, padding=True, truncation=True, return_tensors="pt")
        self.ids, self.mask = tokens.input_ids, tokens.attention_mask
        self.row = {text: row for row, text in enumerate(different)}

    def rows(self, texts: Iterable[str]) -> Tensor:
        return torch.tensor([self.row[text] for text in texts])

    def read(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """ids and mask (B, S) of `rows` (B,), padded to their longest."""
        mask = self.mask[rows]
        longest = int(mask.sum(dim=1).max())
        return self.ids[rows, :longest].to(device), mask[:, :longest].to(device)


class CaptionsOfExamples(CaptionTable):
    """What text to image reads of each example: its full, short or own caption, or none."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], short_share: float
    ) -> None:
        """short_share: how often the shorter one of two full captions is taken."""
        self.short_share = short_share
        ways = [(e.full, e.short or e.full, e.caption) for e in examples]
        super().__init__(tokenizer, ["", *(text for texts in ways for text in texts)])
        self._rows = torch.stack([self.rows(texts) for texts in ways])  # (N, 3)

    def draw(self, chosen: Tensor, story_share: float, empty_share: float) -> Tensor:
        """Rows (B,) of captions for the examples `chosen` (B,); by PyTorch's random numbers."""
        empty, told, short = torch.rand(3, len(chosen))
        way = torch.where(told < story_share, 2, (short < self.short_share).long())
        rows = self._rows[chosen, way]
        return torch.where(empty < empty_share, self.row[""], rows)

    def told_lengths(self, chosen: Tensor) -> Tensor:
        """Tokens (B,) of the examples' own captions."""
        return self.mask[self._rows[chosen, 2]].sum(dim=1)
