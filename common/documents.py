"""JSON and YAML that people write, read so that nothing in them is lost or grows without a word."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

__all__ = ["check_yaml", "parse_json", "parse_yaml"]

MOST_NODES = 100_000  # of a YAML file with its aliases written out


def parse_json(text: str | bytes) -> Any:
    """ValueError where a key is there twice, a text has half a letter, or a number is none."""
    try:
        return _with_whole_letters(
            json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str, root: yaml.Node | None = None) -> Any:
    """Plain values; ValueError as `check_yaml`. `root`: what that function gave, changed or not."""
    loader = yaml.SafeLoader("")
    try:
        root = root or check_yaml(text)
        return None if root is None else _with_whole_letters(loader.construct_document(root))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(_reason(error)) from None


def check_yaml(text: str) -> yaml.Node | None:
    """The tree of a YAML text, not made into values yet; None if it is empty.

    Raises:
        ValueError: it is none, a key is there twice, or a few aliases stand for a huge tree.
    """
    try:
        if re.search(r"([\[{]\s*){100}", text):  # on which the library spends its time squared
            raise ValueError("it is nested too deeply")
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None:
            _size(root, {})
        return root
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(_reason(error)) from None


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are below and with `node`, those behind aliases each time."""
    if id(node) not in known:
        known[id(node)] = MOST_NODES  # what contains itself never ends
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in below if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if key != "<<" and keys.count(key) > 1), None)
            if twice is not None:
                line = node.start_mark.line + 1
                raise ValueError(f"{twice!r} is there twice in the mapping of line {line}")
            below = [one for pair in below for one in pair]
        known[id(node)] = 1 + sum(_size(one, known) for one in below)
        if known[id(node)] >= MOST_NODES:
            raise ValueError(f"with its aliases it has more than {MOST_NODES:,} entries")
    return known[id(node)]


def _reason(error: Exception) -> str:
    nested = isinstance(error, RecursionError)
    return "it is nested too deeply" if nested else " ".join(str(error).split())


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _with_whole_letters(value: Any) -> Any:
    """Pairs of surrogates, as JSON writes emoji, become the letters they stand for."""
    if isinstance(value, str):
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise ValueError(f"the text {value!r} has half a letter (a lone surrogate)") from None
    if isinstance(value, list):
        return [_with_whole_letters(one) for one in value]
    if isinstance(value, dict):
        return {_with_whole_letters(k): _with_whole_letters(v) for k, v in value.items()}
    return value
