"""Folders of other people's models hold data, never a program to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.documents import parse_json

__all__ = ["refuse_code"]

ASKING = ("auto_map", "custom_pipelines")  # keys that name Python files of the folder


def refuse_code(folder: str | Path) -> None:
    """ValueError if a JSON file of `folder` asks the libraries to run Python, or is no JSON."""
    for path in sorted(Path(folder).glob("*.json")):
        if path.name == "tokenizer.json" or path.stat().st_size > 10_000_000:
            continue  # a vocabulary
        try:
            asks = _asks(parse_json(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as JSON ({error}); get it again") from None
        if asks:
            raise ValueError(
                f"{path} has {asks!r}, which asks for Python code of its own to be run; take a "
                f"model that a library knows, or remove that key if it is one"
            )


def _asks(value: Any) -> str | None:
    """The first key, at any depth, that would have code run."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ASKING or (key == "trust_remote_code" and inner):
                return key
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_asks, below)), None)
