"""Reads the few pictures of a new character, with their captions or without."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

from PIL import Image, ImageOps

from common.picture_files import OTHER_SUFFIXES, SUFFIXES, read_picture
from data_script.captions_file import CAPTIONS, caption_rows, find_picture, read_utf8, row_text
from data_script.raw_pictures import is_oblong
from datasets.new_characters import NewCharacter, finds

__all__ = ["picture_files", "read_character"]

TEMPLATE = "{word}."  # of a picture without a caption


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder, by name."""
    return _of_kinds(folder, SUFFIXES)


def read_character(entry: Mapping) -> NewCharacter:
    """Pictures and captions of `{word, pictures, caption, pronoun}`.

    Captions are in a text file beside each picture (`a.txt` of `a.png`), or in a captions file as
    `data_script/folder_hdf5.py` takes it; other pictures have the template `caption`.

    Raises:
        ValueError: no picture, a broken one, an animation, one of another kind, a caption without
            the word, two for one picture.
    """
    word, folder = entry["word"], Path(entry["pictures"])
    if strange := _of_kinds(folder, OTHER_SUFFIXES):
        raise ValueError(f"{strange[0]} is of a kind that is not read: save it as PNG")
    said = _captions(folder)
    pictures, captions, oblong = [], [], 0
    for path in sorted({*map(_place, picture_files(folder)), *said}):
        caption, where = said.get(path, ((entry.get("caption") or TEMPLATE), "caption"))
        caption = caption.replace("{word}", word[:1].upper() + word[1:])
        if not finds(word).search(caption):
            remedy = "name the character in every caption"
            if word in caption and word.upper() == word.lower():  # scripts that run on, as Chinese
                remedy = "words are found between spaces, so put these around it"
            raise ValueError(
                f"{where}: the caption {caption!r} of {path.name} does not say {word!r} as a word; "
                f"{remedy}"
            )
        picture = Image.fromarray(read_picture(path))
        oblong += is_oblong(*picture.size)
        pictures.append(_square(picture))
        captions.append(caption)
    if not pictures:
        raise ValueError(
            f"new_characters: {folder} holds no picture of {word!r} ({', '.join(sorted(SUFFIXES))})"
            f"; put three to five there"
        )
    return NewCharacter(word, pictures, captions, entry.get("pronoun"), oblong)


def _of_kinds(folder: Path, suffixes: Set[str]) -> list[Path]:
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in found if path.suffix.lower() in suffixes)


def _captions(folder: Path) -> dict[Path, tuple[str, str]]:
    """A picture, which may be in a folder below -> its caption, and where that stands."""
    told = []
    found = [folder / name for name in CAPTIONS if (folder / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} holds both {' and '.join(CAPTIONS)}: keep one of them")
    for where, row in caption_rows(found[0]) if found else ():
        row_text(image := row.get("image"), "image", where)
        path = find_picture(folder, image or "", where)
        told.append((path, row_text(row.get("caption"), "caption", where), where))
    texts = _of_kinds(folder, {".txt"})
    for path in picture_files(folder):
        for beside in (text for text in texts if text.stem == path.stem):
            told.append((path, " ".join(read_utf8(beside).split()), str(beside)))
    said: dict[Path, tuple[str, str]] = {}
    for path, caption, where in told:
        if strange := next((c for c in "|\0" if c in caption), None):
            raise ValueError(f"{where}: remove {strange!r} from the caption {caption!r}")
        before, there = said.setdefault(_place(path), (caption, where))
        if before != caption:
            raise ValueError(
                f"{where}: {path.name} is {caption!r}, but {before!r} in {there}; keep one of them"
            )
    return said


def _place(path: Path) -> Path:
    """However its folder is written: `s/../a.png` is `a.png`."""
    return path.parent.resolve() / path.name


def _square(picture: Image.Image) -> Image.Image:
    """Its middle."""
    return ImageOps.fit(picture, (min(picture.size),) * 2)
