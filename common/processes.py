"""Work that several processes or threads share, whose results come in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

__all__ = ["in_order", "in_processes"]


def in_processes(
    work: Callable,
    items: Iterable,
    processes: int,
    ahead: int,
    killed: str,
    method: str = "spawn",  # a fork would copy threads' locks
) -> Iterator:
    """`work` of each of `items`, at most `ahead` ahead, in processes that end with this one.

    Raises:
        OSError: `killed`, as one of them was. (multiprocessing.Pool would wait for it for ever.)
    """
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(processes, context, initializer=_start_worker)
    try:
        yield from in_order(pool, work, items, ahead)
    except BrokenProcessPool:
        raise OSError(killed) from None
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(pool: Executor, work: Callable, items: Iterable, ahead: int) -> Iterator:
    """Like pool.map, but at most `ahead` results wait: work may outrun who takes them."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work, and says so once
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has the parent's, which may go on

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)  # it was killed; nobody waits for our results

    threading.Thread(target=follow_parent, daemon=True).start()
