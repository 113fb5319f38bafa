"""What programs print: letters that the terminal lacks, lines where there is no terminal, errors in
one line, and keys with their values as one would type them."""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm as bar

__all__ = [
    "as_quoted_word", "as_word", "error_in_one_line", "in_one_line", "print_any_letter",
    "script_parser", "setting", "tqdm",
]  # fmt: skip


def print_any_letter() -> None:
    """From now on a letter that the terminal's encoding lacks is printed as its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def script_parser(doc: str, example: str | None = None) -> argparse.ArgumentParser:
    """A parser whose --help shows a script's docstring as it stands, and maybe an example."""
    print_any_letter()
    return argparse.ArgumentParser(
        description=doc,
        epilog=example and f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def error_in_one_line() -> Iterator[None]:
    """What ends a script is one line on standard error and status 1, not a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_one_line(error)}")


def in_one_line(error: Exception) -> str:
    """What an error says, or else its kind; of a loader process's traceback the last line."""
    text = str(error)
    if "\nOriginal Traceback " in text:
        text = re.split(r"\n[\w.]+: ", text)[-1]
    return " ".join(text.split()) or type(error).__name__


def as_word(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(str, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def as_quoted_word(key: str, text: object) -> str:
    """`key="text"` as Hydra takes it, whatever characters the text has."""
    # A backslash means something before a quote alone.
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), str(text))
    return f'{key}="{escaped}"'


def setting(key: str, path: str | os.PathLike, listed: bool = False) -> str:
    """`key=path` as main.py takes it from a shell, whatever characters the path has; `listed`:
    `key=[path]`."""
    plain = re.fullmatch(r"[\w./:@%+ -]+", str(path), re.ASCII) and _is_text(str(path))
    value = str(path) if plain else as_quoted_word("", path)[1:]
    return shlex.quote(f"{key}=[{value}]" if listed else f"{key}={value}")


def _is_text(word: str) -> bool:
    """Whether Hydra reads it as it stands: not as a number, a truth value, nothing, or shorter."""
    try:
        float(word)
    except ValueError:
        return word == word.strip() and word.lower() not in {"null", "true", "false"}
    return False


class tqdm(bar):
    """The library's; into a file it writes a line every half minute, not one over the other."""

    def __init__(self, *arguments, **options) -> None:
        if not sys.stderr.isatty():
            options = {**options, "file": _Lines(), "mininterval": 30.0, "maxinterval": 30.0}
        super().__init__(*arguments, **options)


class _Lines:
    """What the bar writes onto itself, as lines."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n\x1b[A "):
            print(text, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
