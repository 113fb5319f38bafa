"""Reads the few pictures of a new character, with their captions or without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageOps

from common.picture_files import SUFFIXES, read_picture
from data_script.folder_hdf5 import caption_rows, find_picture, read_utf8
from datasets.new_characters import NewCharacter, finds

__all__ = ["picture_files", "read_character"]

TEMPLATE = "{word}."  # of a picture without a caption


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder, by name."""
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def read_character(entry: Mapping) -> NewCharacter:
    """Pictures and captions of `{word, pictures, caption, pronoun}`.

    Captions are in a text file beside each picture (`a.txt` of `a.png`), or in a captions file as
    `data_script/folder_hdf5.py` takes it; other pictures have the template `caption`.

    Raises:
        ValueError: no picture, a broken one, an animation, a caption without the word.
    """
    word, folder = entry["word"], Path(entry["pictures"])
    said = _captions(folder)
    pictures, captions = [], []
    for path in sorted({*picture_files(folder), *said}):
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
        pictures.append(_square(Image.fromarray(read_picture(path))))
        captions.append(caption)
    if not pictures:
        raise ValueError(
            f"new_characters: {folder} holds no picture of {word!r} ({', '.join(sorted(SUFFIXES))})"
            f"; put three to five there"
        )
    return NewCharacter(word, pictures, captions, entry.get("pronoun"))


def _captions(folder: Path) -> dict[Path, tuple[str, str]]:
    """A picture, which may be in a folder below -> its caption, and where that stands."""
    said = {}
    for name in ("captions.jsonl", "captions.csv"):
        if (folder / name).is_file():
            for where, row in caption_rows(folder / name):
                path = find_picture(folder, str(row.get("image") or ""), where)
                said[path] = (" ".join(str(row.get("caption") or "").split()), where)
    for path in picture_files(folder):
        if (beside := path.with_suffix(".txt")).is_file():
            said[path] = (" ".join(read_utf8(beside).split()), str(beside))
    for caption, where in said.values():
        if strange := next((c for c in "|\0" if c in caption), None):
            raise ValueError(f"{where}: remove {strange!r} from the caption {caption!r}")
    return said


def _square(picture: Image.Image) -> Image.Image:
    """Its middle."""
    return ImageOps.fit(picture, (min(picture.size),) * 2)
