"""ViStoryBench's stories (arXiv 2505.24862), from a local copy of its data set.

    ROOT/NN/story.json              UTF-8, with or without a byte order mark
        Shots                       a list of {index, "Setting Description", "Plot Correspondence",
                                    "Characters Appearing", "Static Shot Description",
                                    "Shot Perspective Design"}, each field as {en, ch}
        Characters                  key -> {name_en, name_ch, prompt_en, prompt_ch, tag, …}
    ROOT/NN/image/KEY/*.jpg         reference pictures of a character

Drawing and judging read it, so that it has no room of its own.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CAPTION", "LANGUAGES", "SPLITS", "BenchmarkStory", "Character", "Shot", "read_benchmark",
]  # fmt: skip

LITE = "01 08 09 15 17 19 24 27 28 29 32 41 52 53 55 57 60 64 68 79".split()
SPLITS, LANGUAGES = ("full", "lite"), ("en", "ch")
CAPTION = "{Static Shot Description}"  # made from a shot's fields
CAST = "Characters Appearing"
REALISTIC = "realistic_human"
TAGS = (REALISTIC, "unrealistic_human", "non_human")


@dataclass(frozen=True)
class Character:
    """pictures: of reference, in order of their names; there may be none."""

    key: str
    tag: str
    pictures: tuple[Path, ...]

    @property
    def realistic(self) -> bool:
        return self.tag == REALISTIC


@dataclass(frozen=True)
class Shot:
    """index: from 1, some may be missing; cast: keys of characters."""

    index: int
    caption: str
    cast: tuple[str, ...]


@dataclass(frozen=True)
class BenchmarkStory:
    story_id: str  # NN
    shots: tuple[Shot, ...]  # by index
    characters: tuple[Character, ...]


def read_benchmark(
    root: str | os.PathLike, split: str = "full", language: str = "en", caption: str = CAPTION
) -> list[BenchmarkStory]:
    """The stories of a split, in order; `caption` is a template of fields in braces.

    Raises:
        ValueError: no such split, language or field; a story that is not as described above.
    """
    for name, value, known in (("split", split, SPLITS), ("language", language, LANGUAGES)):
        if value not in known:
            raise ValueError(f"vistorybench {name} {value!r} is none of {', '.join(known)}")
    root = Path(root)
    found = sorted(path.parent for path in root.glob("*/story.json"))
    if split == "lite":
        found = [folder for folder in found if folder.name in LITE]
    if not found:
        raise ValueError(f"{root} holds no NN/story.json of the {split} split: give its folder")
    return [_story(folder, language, caption) for folder in found]


def _story(folder: Path, language: str, caption: str) -> BenchmarkStory:
    path = folder / "story.json"
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}): get it again") from error
    shots, people = (content.get(key) if isinstance(content, dict) else None
                     for key in ("Shots", "Characters"))  # fmt: skip
    if not isinstance(shots, list) or not shots or not isinstance(people, dict):
        raise ValueError(f"{path} has no list of Shots or no Characters: get it again")
    characters = []
    for key, about in people.items():
        tag = about.get("tag") if isinstance(about, dict) else None
        if tag not in TAGS:
            raise ValueError(
                f"{path}: character {key!r} has tag {tag!r}, none of {', '.join(TAGS)}"
            )
        pictures = sorted((folder / "image" / key).rglob("*.jpg"))
        characters.append(Character(key, tag, tuple(pictures)))
    read = [_shot(shot, f"{path}, shot {n}", people, language, caption)
            for n, shot in enumerate(shots, 1)]  # fmt: skip
    indices = [shot.index for shot in read]
    if twice := next((index for index in indices if indices.count(index) > 1), None):
        raise ValueError(f"{path} has two shots of index {twice}: number them apart")
    by_index = tuple(sorted(read, key=lambda shot: shot.index))
    return BenchmarkStory(folder.name, by_index, tuple(characters))


def _shot(shot: object, where: str, people: dict, language: str, caption: str) -> Shot:
    shot = shot if isinstance(shot, dict) else {}
    index = shot.get("index")
    if isinstance(index, str) and index.strip().isascii() and index.strip().isdigit():
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or index < 1:
        raise ValueError(f"{where} has index {index!r}: it counts from 1")
    fields, cast = {}, []
    for name, told in shot.items():
        if isinstance(told, dict):
            said = told.get(language)
            parts = said if isinstance(said, list) else [said or ""]
            fields[name] = ", ".join(map(str, parts)).strip()
    if isinstance(told := shot.get(CAST), dict):
        cast = told.get("en") or []  # its English names are the keys, in either language
    if not isinstance(cast, list):
        raise ValueError(f"{where} shows {cast!r}: give a list of names as {CAST!r}")
    if unknown := [name for name in cast if name not in list(people)]:
        raise ValueError(f"{where} shows {unknown[0]!r}, who is not among the Characters: add them")
    asked = re.findall(r"{([^{}]*)}", caption)
    if strange := [name for name in asked if name not in fields]:
        raise ValueError(
            f"{where} has no field {strange[0]!r}, which the caption {caption!r} asks for: take of "
            f"{', '.join(fields)}"
        )
    text = " ".join(re.sub(r"{([^{}]*)}", lambda field: fields[field[1]], caption).split())
    if not text:
        raise ValueError(f"{where} has no caption: {caption!r} is empty in {language!r}")
    return Shot(index, text, tuple(dict.fromkeys(cast)))
