"""Words that a trained model learns later, each a row of its own (textual inversion, 2208.01618).

All other rows stay as they are, so that the new ones are all that a tuned checkpoint holds of the
tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from models.components import Components

__all__ = ["GrownEmbedding", "add_words", "merge_words", "token_tables"]


class GrownEmbedding(nn.Embedding):
    """A table (V, D) with `rows` (n, D) beside it, for the ids from `first` on."""

    def __init__(self, table: nn.Embedding, rows: Tensor, first: int) -> None:
        super().__init__(*table.weight.shape, table.padding_idx, _weight=table.weight)
        self.weight = table.weight
        self.new_rows = nn.Parameter(rows)
        self.first = first

    def forward(self, ids: Tensor) -> Tensor:
        old = F.embedding(ids.clamp(max=self.num_embeddings - 1), self.weight, self.padding_idx)
        new = F.embedding((ids - self.first).clamp(min=0), self.new_rows)
        return torch.where((ids >= self.first)[..., None], new, old)

    @torch.no_grad()
    def merged(self) -> nn.Embedding:
        """One table with all rows."""
        behind = self.weight[self.first + len(self.new_rows) :]
        weight = torch.cat([self.weight[: self.first], self.new_rows, behind])
        return nn.Embedding(*weight.shape, self.padding_idx, _weight=weight)


@torch.no_grad()
def add_words(parts: Components, starts: Mapping[str, str], beside: bool) -> None:
    """Teach both tokenizers words; each row starts as the mean of its class word's.

    starts: word -> class word, of known tokens. beside: keep the rows apart, to train them alone.
    """
    for (encoder, table), tokenizer in zip(
        token_tables(parts.conditioner), (parts.clip_tokenizer, parts.blip_tokenizer), strict=True
    ):
        ids = tokenizer(list(starts.values()), add_special_tokens=False).input_ids
        rows = torch.stack([table.weight[row].mean(0) for row in ids])
        grown = GrownEmbedding(table, rows, len(tokenizer))
        tokenizer.add_words(list(starts))
        _put(encoder, grown if beside else grown.merged())
    known = parts.tokenization.get("new_words", [])
    parts.tokenization = {**parts.tokenization, "new_words": [*known, *starts]}


def merge_words(conditioner: nn.Module) -> None:
    """Make one table again of each that has grown; nothing if none has."""
    for encoder, table in token_tables(conditioner):
        if isinstance(table, GrownEmbedding):
            _put(encoder, table.merged())


def token_tables(conditioner: nn.Module) -> Iterator[tuple[nn.Module, nn.Embedding]]:
    """CLIP and BLIP, each with its table of tokens."""
    for encoder in (conditioner.text_encoder, conditioner.multimodal_encoder):
        yield encoder, encoder.get_input_embeddings()


def _put(encoder: nn.Module, table: nn.Embedding) -> None:
    encoder.set_input_embeddings(table)
    if not isinstance(table, GrownEmbedding):
        encoder.config.vocab_size = table.num_embeddings
