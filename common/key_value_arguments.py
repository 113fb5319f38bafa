"""key=value arguments as the fields of a dataclass: parsed by type, checked, and explained.

A command answers `--help` and a mistyped option before anything heavy is imported. Text is taken as
it stands: `samples=007` and `samples='run #2'` name those folders.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, field, fields
from difflib import get_close_matches
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from common.terminal import error_in_one_line, print_any_letter

__all__ = ["check", "help_text", "option", "option_prefix", "parse", "run", "spelled"]

T = TypeVar("T")
_PREFIX = ContextVar("prefix", default="")
_BOOLS = {"true": True, "yes": True, "on": True, "1": True,
          "false": False, "no": False, "off": False, "0": False}  # fmt: skip


def option(text: str, default: Any = MISSING, choices: Sequence[str] = (), least: float = 1) -> Any:
    """A dataclass field with its line of `--help`; numbers are `least` or more."""
    return field(
        default=default, metadata={"text": text, "choices": tuple(choices), "least": least}
    )


@contextmanager
def option_prefix(prefix: str) -> Iterator[None]:
    """Within it messages call an option by `prefix` and its name: main.py has a section of them."""
    token = _PREFIX.set(prefix)
    try:
        yield
    finally:
        _PREFIX.reset(token)


def spelled(name: str) -> str:
    """What whoever reads a message has to type for the option `name`."""
    return _PREFIX.get() + name


def run(kind: type[T], usage: str, work: Callable[[T], Any], arguments: Sequence[str]) -> None:
    """Parse, then work; what is wrong with the input ends the program in one line."""
    print_any_letter()
    if {"-h", "--help"} & set(arguments):
        return print(help_text(kind, usage.strip()))
    with error_in_one_line():
        work(parse(kind, arguments))


def parse(kind: type[T], arguments: Sequence[str]) -> T:
    """A `kind` from key=value arguments; ValueError names what is wrong."""
    known, types, values = {one.name: one for one in fields(kind)}, get_type_hints(kind), {}
    for argument in arguments:
        name, _, text = argument.partition("=")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}=…?" if near else "--help lists them all"
            raise ValueError(f"{argument!r} is not an option=value; {hint}")
        if not text:
            raise ValueError(f"{argument!r} has no value: give {name}=…, or leave it out")
        values[name] = _read(name, text, get_args(types[name]) or (types[name],))
    for name, one in known.items():
        if one.default is MISSING and name not in values:
            raise ValueError(f"{name}=… is missing: give the {one.metadata['text']}")
    options = kind(**values)
    check(options)
    return options


def _read(name: str, text: str, types: Sequence[type]) -> Any:
    if NoneType in types and text == "null":
        return None
    if list[str] in types and not ("," in text and os.path.isdir(text)):  # a folder of that name
        return [word.strip() for word in text.removeprefix("[").removesuffix("]").split(",")]
    if str in types:
        return text
    if bool in types:
        if text.lower() not in _BOOLS:
            raise ValueError(f"{name}={text} must be true or false")
        return _BOOLS[text.lower()]
    number = int if int in types else float
    try:
        return number(text)
    except ValueError:
        what = "a whole number" if number is int else "a number"
        raise ValueError(f"{name}={text} must be {what}") from None


def check(options: Any) -> None:
    """ValueError for a number below its least and a text that is none of its choices."""
    for one in fields(options):
        value, about = getattr(options, one.name), one.metadata
        least, choices = about["least"], about["choices"]
        if isinstance(value, int | float) and not isinstance(value, bool) and not value >= least:
            raise ValueError(f"{spelled(one.name)}={value} is too small: give {least} or more")
        if choices and value is not None and value not in choices:
            raise ValueError(f"{spelled(one.name)}={value} is none of {', '.join(choices)}")


def help_text(kind: type, usage: str) -> str:
    """Usage, then every option with its default and what it means."""
    lines = [usage, ""]
    for one in fields(kind):
        left = f"  {one.name}={'…' if one.default is MISSING else _shown(one.default)}"
        text = one.metadata["text"] + (" (required)" if one.default is MISSING else "")
        if one.metadata["choices"]:
            text += f": {', '.join(one.metadata['choices'])}"
        wrapped = textwrap.wrap(text, min(66, 99 - len(left)))
        lines.append(f"{left:33} {wrapped[0]}")
        lines += [f"{'':33} {line}" for line in wrapped[1:]]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
