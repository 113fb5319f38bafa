"""Being stopped from outside: one line, and an exit code that says so.

Imported first by the program, so that Ctrl-C while libraries are being imported is one line too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FROM_OUTSIDE", "REQUEUE", "ending_at_signals"]

REQUEUE = getattr(signal, "SIGUSR1", None)  # SLURM's; Windows has none
FROM_OUTSIDE = (signal.SIGTERM,) if REQUEUE is None else (signal.SIGTERM, REQUEUE)


def _excepthook(kind: type[BaseException], error: BaseException, trace: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        # Python ends by the signal itself after this, which shells count as 130.
        os.write(2, f"\n{': '.join(['Interrupted (Ctrl-C)', *map(str, error.args)])}\n".encode())
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _excepthook


@contextmanager
def ending_at_signals(says: str) -> Iterator[None]:
    """Within, SIGTERM and SIGUSR1 end the process at once with code 128 + their number, say `says`,
    as Ctrl-C then does, and let everything under way clean up after itself."""

    def end(number: int, frame: object) -> None:
        os.write(2, f"\n{signal.Signals(number).name}: {says}\n".encode())
        raise SystemExit(128 + number)

    numbers = FROM_OUTSIDE
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(says) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
