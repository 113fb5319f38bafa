"""The checkpoints in a run's folder: which one is the last that can be read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from models.checkpoints.file_kinds import whole_kind
from models.main_process import say

__all__ = ["BEST", "KEPT", "LAST", "NON_FINITE", "PREVIOUS", "last_good"]

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
KEPT = "epoch-{epoch:04d}"  # of every n-th epoch, without its suffix
NON_FINITE = "non_finite.ckpt"  # the state before a step whose numbers were not finite


def last_good(folder: Path) -> Path | None:
    """`last.ckpt`, or the one before it where that is damaged, which is said; None without any.

    Raises:
        ValueError: there are some, and all are damaged.
    """
    problems = []
    for path in (folder / LAST, folder / PREVIOUS):
        try:
            if path.exists():
                # A folder, of sharded weights, is told what it is when it is read.
                if path.is_file():
                    whole_kind(path)
                if path.name == PREVIOUS:
                    why = "; ".join(problems) or f"there is no {folder / LAST}"
                    _say_once(f"{why}: the checkpoint before it is taken, {path}")
                return path
        except ValueError as error:
            problems.append(f"{path} {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return None


_say_once = cache(say)  # it is looked for at several places
