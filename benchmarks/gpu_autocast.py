"""What a GPU's autocast casts, for fake tensors on a CPU.

PyTorch's own needs the device: fake tensors may be said to be on a GPU, but not go through autograd
there without one. Its autocast for CPUs runs norms in half precision, where a GPU keeps them, and
what they save for the backward pass, in 32 bits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

__all__ = ["GpuAutocast"]

HALF = {
    F.linear, F.conv1d, F.conv2d, F.conv3d, F.scaled_dot_product_attention, torch.conv2d,
    torch.matmul, torch.bmm, torch.baddbmm, torch.addmm, torch.mm, Tensor.matmul, Tensor.bmm,
    Tensor.__matmul__,
}  # fmt: skip
WHOLE = {
    F.layer_norm, F.group_norm, F.softmax, F.log_softmax, F.mse_loss, torch.softmax, torch.exp,
    torch.pow, Tensor.softmax, Tensor.exp, Tensor.pow, torch.layer_norm, torch.group_norm,
}  # fmt: skip


class GpuAutocast(TorchFunctionMode):
    """While entered, casts the arguments of listed functions to `half` or to float32."""

    def __init__(self, half: torch.dtype) -> None:
        super().__init__()
        self.half = half

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.backward:
            # A mode is off within what it handles, but checkpoints compute forward in there.
            start = (args[0],), (torch.ones_like(args[0]),)
            how = {"allow_unreachable": True, "accumulate_grad": True}
            with self:
                return _engine_run_backward(*start, False, False, (), **how)
        dtype = self.half if func in HALF else torch.float32 if func in WHOLE else None

        def cast(value):
            floating = isinstance(value, Tensor) and value.is_floating_point()
            return value.to(dtype) if floating and value.dtype != dtype else value

        given = (args, kwargs or {})
        args, kwargs = tree_map(cast, given) if dtype else given
        return func(*args, **kwargs)
