"""Which of several processes speaks."""

from __future__ import annotations

import os

__all__ = ["is_main_process", "say"]


def is_main_process() -> bool:
    """Whether this is the first of the processes that a launcher or Lightning started, or alone."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(int(os.environ.get(name, 0)) == 0 for name in ranks)


def say(line: str) -> None:
    """Print a line once, however many processes there are."""
    if is_main_process():
        print(line)
