"""The two worlds by name, with all in which they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datasets.cartoon.grammar import Teller, vocabulary
from datasets.cartoon.wide import WideTeller, wide_vocabulary
from datasets.cartoon.world import LABEL_VOCABULARY, WIDE_LABEL_VOCABULARY

__all__ = ["WORLDS", "World"]


@dataclass(frozen=True)
class World:
    """Who tells its stories, what labels may say, and every word of a caption, in lower case."""

    teller: type[Teller]
    labels: dict[str, list[str]]
    vocabulary: Callable[[], frozenset[str]]


WORLDS = {
    "small": World(Teller, LABEL_VOCABULARY, vocabulary),
    "wide": World(WideTeller, WIDE_LABEL_VOCABULARY, wide_vocabulary),
}
