"""Takes the samplers' square roots as the machine that made a recording took them.

The schedulers keep their tables in float32 and take square roots of single entries of them, also
when everything else is in float64. The recording machine did not round these roots to the nearest
float32: a third of them lie one unit in the last place beside ours, and for this alone sampled
latents differ by 1e-5. Which ones is linear algebra: a few units, the same for all frames and
stories, against all latents of one frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["SquareRoots", "find_units"]


class SquareRoots(TorchFunctionMode):
    """While entered, the float32 square root of the number x is `units[x]` units too large."""

    def __init__(self, units: dict[float, int] | None = None) -> None:
        super().__init__()
        self.units = units or {}
        self.taken: dict[float, None] = {}  # in the order of first use

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        power = function.__name__ in ("pow", "__pow__") and isinstance(args[1], float)
        if power and args[1] == 0.5 and result.ndim == 0 and result.dtype == torch.float32:
            number = float(args[0])
            if float(result) ** 2 != number:  # exact ones are the same everywhere
                self.taken[number] = None
            if units := self.units.get(number, 0):
                result = result + units * float(np.spacing(np.float32(result)))
        return result


def find_units(draw: Callable[[], Tensor], golden: Tensor) -> dict[float, int]:
    """The units that lead `draw()` to `golden`, from one draw with each root changed."""
    with SquareRoots() as roots:
        missing = (golden - draw()).flatten().numpy()
    effects = []
    for number in roots.taken:
        with SquareRoots({number: 1}):
            effects.append((golden - draw()).flatten().numpy())
    matrix = missing[:, None] - np.stack(effects, axis=1)
    units = np.linalg.lstsq(matrix, missing, rcond=None)[0].round().astype(int)
    return {number: int(unit) for number, unit in zip(roots.taken, units, strict=True) if unit}
