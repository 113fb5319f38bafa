"""Follows the memory of tensors, real or fake: what lives, of which kind, and when it was most."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["KINDS", "StorageTracker"]

KINDS = ("parameters", "gradients", "optimiser state", "activations", "other")
ROUNDING = 512  # bytes a GPU's allocator hands out at least


class StorageTracker(TorchDispatchMode):
    """While entered, counts the bytes of all storages by kind and keeps their highest sum.

    A new storage is an activation till `add` says otherwise, as it does of gradients when they
    reach their parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._kinds: dict[int, str] = {}  # of every living storage, by address of its record

    def add(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Count tensors as `kind`, whether they are known or not."""
        for tensor in tensors:
            self._count(tensor.untyped_storage(), kind)

    def watch(self, module: nn.Module) -> None:
        """Count a module's parameters, and their gradients now and later."""
        self.add([*module.parameters(), *module.buffers()], "parameters")
        self.add([p.grad for p in module.parameters() if p.grad is not None], "gradients")
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(
                    lambda p: self.add([p.grad], "gradients")
                )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._kinds:
                    self._count(storage, "activations")
        return result

    def _count(self, storage: torch.UntypedStorage, kind: str) -> None:
        key, size = storage._cdata, -(-storage.nbytes() // ROUNDING) * ROUNDING
        known = self._kinds.get(key)
        if known is None:
            weakref.finalize(storage, self._forget, key, size)
        else:
            self.now[known] -= size
        self._kinds[key] = kind
        self.now[kind] += size
        if self.now.total() > self.peak.total():
            self.peak = self.now.copy()

    def _forget(self, key: int, size: int) -> None:
        self.now[self._kinds.pop(key)] -= size
