"""What programs print, whatever letters the terminal knows."""

from __future__ import annotations

import io
import sys

__all__ = ["print_any_letter"]


def print_any_letter() -> None:
    """From now on a letter that the terminal's encoding lacks is printed as its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
