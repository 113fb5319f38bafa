"""Processes that die or run out of disk: copies of this one, with everything imported already."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from tempfile import TemporaryFile

import torch


def in_a_fork(work: Callable[[], object]) -> tuple[int, str]:
    """What `os.waitstatus_to_exitcode` gives, 1 after an error; and what was printed."""
    with TemporaryFile("w+") as out:
        sys.stdout.flush()
        process = os.fork()
        if not process:
            status = 1
            try:
                torch.set_num_threads(1)  # the threads of OpenMP do not come along
                os.dup2(out.fileno(), 1)
                sys.stdout = os.fdopen(1, "w")
                work()
                status = 0
            except BaseException:
                traceback.print_exc(file=sys.stdout)
            finally:
                sys.stdout.flush()
                os._exit(status)
        _, status = os.waitpid(process, 0)
        out.seek(0)
        return os.waitstatus_to_exitcode(status), out.read()
