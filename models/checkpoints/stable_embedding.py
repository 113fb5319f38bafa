"""The embedding tables that some forks of the original train: bitsandbytes' `StableEmbedding`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["adopt_stable_embeddings"]

_TABLES = ("type_embeddings", "time_embeddings")


def adopt_stable_embeddings(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the conditioner of `model` the kind of tables that `state`, in our names, comes from.

    Their rows go through a LayerNorm, `.norm.*` in the checkpoint (Dettmers et al., arXiv
    2110.02861, section 2.3).

    Raises:
        ValueError: such tables without bitsandbytes.
    """
    conditioner = getattr(model, "conditioner", None)
    for name in _TABLES:
        if conditioner is not None and f"conditioner.{name}.norm.weight" in state:
            try:
                from bitsandbytes.nn import StableEmbedding  # slow to import, and rarely needed
            except ImportError as error:
                raise ValueError(
                    f"the checkpoint's {name} are bitsandbytes' StableEmbedding ({error}); "
                    f"pip install bitsandbytes"
                ) from error
            plain = getattr(conditioner, name)
            table = StableEmbedding(plain.num_embeddings, plain.embedding_dim)
            setattr(conditioner, name, table.to(plain.weight.device))
