"""Words whose meaning is known in numbers: one map of the numbers trains in place of their rows.

Hundreds of words that are seen a few times each do not bind by themselves; the kinds of ears that
they stand for are seen all the time. What a row means that nobody has seen then follows from its
numbers, and the row of a new word can be looked for (`models.training.new_words`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

__all__ = ["MeaningTable", "fold_meanings", "learn_meanings"]

SPREAD = 0.8  # of untrained rows around their middle: somewhat more than trained words have
SPEED = 3.0  # the map trains so much faster than a row would


class MeaningTable(nn.Module):
    """A table (V, D) whose rows `ids` (W,) are `middle + numbers @ directions`, the numbers (W, M)
    around their mean."""

    def __init__(self, table: nn.Embedding, ids: Tensor, numbers: Tensor, trained: bool) -> None:
        super().__init__()
        rows = table.weight.detach()[ids]
        numbers, middle = SPEED * (numbers - numbers.mean(0)), rows.mean(0)  # (W, M), (D,)
        if trained:
            directions = torch.linalg.lstsq(numbers, rows - middle).solution
        else:
            directions = nn.init.orthogonal_(torch.empty(numbers.shape[1], rows.shape[1]))
            directions *= SPREAD / numbers.norm(dim=1).mean()
        self.weight = nn.Parameter(table.weight.detach().clone())
        self.middle, self.directions = nn.Parameter(middle), nn.Parameter(directions)
        self.register_buffer("ids", ids)
        self.register_buffer("numbers", numbers)

    def rows(self) -> Tensor:
        meant = self.middle + self.numbers @ self.directions
        return self.weight.index_copy(0, self.ids, meant)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.rows())


def learn_meanings(
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    meanings: Mapping[str, Sequence[float]],
    trained: bool = False,
) -> None:
    """Put such a table into the encoder, for those words that are a token each.

    trained: the rows mean something already, and the map starts as what fits them best.
    """
    ids = {word: tokenizer(word, add_special_tokens=False).input_ids for word in meanings}
    ids = {word: tokens[0] for word, tokens in ids.items() if len(tokens) == 1}
    if ids:
        numbers = torch.tensor([list(meanings[word]) for word in ids])
        rows, device = torch.tensor(list(ids.values())), encoder.device
        # Made on the CPU, whose least squares take numbers that depend on each other.
        table = MeaningTable(encoder.get_input_embeddings().cpu(), rows, numbers, trained)
        encoder.set_input_embeddings(table.to(device))


@torch.no_grad()
def fold_meanings(encoder: CLIPTextModel) -> None:
    """Make it a plain table again."""
    table = encoder.get_input_embeddings()
    if isinstance(table, MeaningTable):
        rows = table.rows()
        encoder.set_input_embeddings(nn.Embedding(*rows.shape, _weight=rows))
