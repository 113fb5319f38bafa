"""The embedding table that some forks of the original train: bitsandbytes' `StableEmbedding`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["StableEmbedding", "adopt_stable_embeddings"]

_TABLES = ("type_embeddings", "time_embeddings")


class StableEmbedding(nn.Embedding):
    """A table whose rows go through a LayerNorm (Dettmers et al., arXiv 2110.02861, section 2.3).

    The paper's version, which those forks' checkpoints bring along as `.norm.*`.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(super().forward(ids))


def adopt_stable_embeddings(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the conditioner of `model` the kind of tables that `state`, in our names, comes from."""
    conditioner = getattr(model, "conditioner", None)
    for name in _TABLES:
        if conditioner is not None and f"conditioner.{name}.norm.weight" in state:
            plain = getattr(conditioner, name)
            table = StableEmbedding(plain.num_embeddings, plain.embedding_dim)
            setattr(conditioner, name, table.to(plain.weight.device))
