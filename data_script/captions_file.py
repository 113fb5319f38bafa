"""Reads the captions file of a folder of pictures, row by row, and finds the pictures it names.

JSON lines or CSV, as the docstring of folder_hdf5.py shows.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from common.documents import parse_json

__all__ = ["CAPTIONS", "KEYS", "caption_rows", "find_picture", "read_utf8", "row_text"]

KEYS = ("story", "image", "caption")
CAPTIONS = ("captions.jsonl", "captions.csv")
OPEN_QUOTE = "a quote that opens here is not closed on its line: close it, or double quotes inside"


def caption_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """One (place in the file, {story, image, caption, split}) a frame."""
    text = read_utf8(path)
    yield from _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict]]:
    reader, names, line = csv.reader(io.StringIO(text, newline=""), strict=True), None, 1
    try:
        for row in reader:
            where, before, line = f"{path}, line {line}", line, reader.line_num + 1
            if names is None:
                names = [name.strip() for name in row]
                if not set(KEYS) <= set(names):
                    raise ValueError(
                        f"{path} must begin with the line 'story,image,caption' (commas, not "
                        "semicolons): add it"
                    )
                twice = next((name for name in names if names.count(name) > 1), None)
                if twice is not None:
                    raise ValueError(f"{where}: column {twice!r} is there twice: keep one")
            elif line - before > 1:
                raise ValueError(f"{where}: {OPEN_QUOTE}")
            elif len(row) > len(names):
                raise ValueError(
                    f"{where} has {len(row)} fields, more than the {len(names)} of the header: put "
                    "a caption with commas in quotes"
                )
            elif any(map(str.strip, row)):  # spreadsheets leave rows of commas
                yield where, dict(zip(names, row, strict=False))
    except csv.Error as error:
        opened_here = reader.line_num > line or "end of data" in str(error)
        what = OPEN_QUOTE if opened_here else f"{error}: correct it"
        raise ValueError(f"{path}, line {line}: {what}") from None
    if names is None:
        raise ValueError(f"{path} must begin with the line 'story,image,caption': add it")


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            story = parse_json(line)
            frames = [{**frame} for frame in story["frames"]]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f'{where} is not {{"story": ..., "frames": [{{"image": ..., "caption": ...}}, '
                f"...]}} ({type(error).__name__}: {error}): correct it, see --help"
            ) from None
        for frame in frames or [{}]:
            yield where, {**frame, "story": story.get("story"), "split": story.get("split")}


def row_text(value: object, key: str, where: str) -> str:
    """On one line; ValueError for what is no text. A story may be called by a number."""
    if value is None:
        return ""
    if not isinstance(value, str) and not (key == "story" and type(value) is int):
        shown = json.dumps(value, ensure_ascii=False)[:100]
        raise ValueError(f"{where}: {key!r} is {shown}, not a text: put it in quotes")
    return " ".join(str(value).split())


def find_picture(folder: Path, name: str, where: str) -> Path:
    """The file as its name is written, or as another system writes the same letters."""
    for one in (name, name.strip()):
        for form in (one, *(unicodedata.normalize(form, one) for form in ("NFC", "NFD"))):
            if "\0" not in form and (folder / form).is_file():
                return folder / form
    raise FileNotFoundError(f"{where}: picture {folder / name} does not exist: correct the name")


def read_utf8(path: Path) -> str:
    """The text of a file, without the mark that some editors put before it."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from None
