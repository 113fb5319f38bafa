"""Activation checkpointing of one module at a time, for a few rows of the batch at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint

__all__ = ["checkpoint_in_parts"]


def checkpoint_in_parts(size: int | None, module: nn.Module, *args: Any) -> Tensor:
    """`module(*args)`, whose rows do not depend on each other, computed again when it is needed.

    All tensors among `args`, also within dictionaries, have N rows; the result too. At most `size`
    rows hold activations at once; None: all. The parts of one module follow each other in the
    backward pass, so that its gradients are whole before the next module's begin. Autocast's copies
    of its weights are dropped: to the end of the forward pass they would pile up, half a model.
    """
    rows = next(len(leaf) for leaf in tree_leaves(args) if isinstance(leaf, Tensor))

    def part(start: int) -> Tensor:
        def cut(leaf: Any) -> Any:
            return leaf[start : start + size] if isinstance(leaf, Tensor) else leaf

        return checkpoint(module, *tree_map(cut, args), use_reentrant=False)

    if size is None or rows <= size:
        result = checkpoint(module, *args, use_reentrant=False)
    else:
        result = torch.cat([part(start) for start in range(0, rows, size)])
    torch.clear_autocast_cache()
    return result
