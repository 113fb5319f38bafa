"""Whether the processes that read stories have room to hand batches over."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["workers_that_fit"]

SHARED = Path("/dev/shm")


def workers_that_fit(workers: int, batch_bytes: int, shared: Path = SHARED) -> tuple[int, str]:
    """`workers`, or 0 if what they share with the training process is too small; and why.

    Workers put batches there, each two ahead of what is read; where it is full, they die or hang.
    Both splits have workers of their own.
    """
    if not workers or not shared.is_dir():
        return workers, ""
    needed, free = 2 * (2 * workers + 2) * batch_bytes, shutil.disk_usage(shared).free
    if needed <= free:
        return workers, ""
    return 0, (
        f"{shared} has {free / 1e6:,.0f} MB, but num_workers={workers} needs about "
        f"{needed / 1e6:,.0f} MB there: stories are read in the training process (num_workers=0); "
        f"give the container more, docker run --shm-size=2g"
    )
