"""Reads a file of labels for pictures that have no manifest: JSON lines, or CSV.

    {"picture": "story1/0001.png", "cast": ["fred", "wilma"], "place": "kitchen"}

    picture,fred,wilma,…            or      picture,cast,place
    story1/0001.png,1,0,…                   story1/0001.png,fred;wilma,kitchen

A picture is named as it lies in its folder. `label_vocabulary.json` beside the file, or else the
names heading a CSV's columns of zeros and ones, say in which order a classifier gives its answers.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from common.documents import parse_json
from evaluation.samples.reader import VOCABULARY, check_vocabulary, is_label

__all__ = ["read_labels"]


def read_labels(path: str | os.PathLike) -> tuple[dict[str, dict], dict | None]:
    """{picture: label} and the vocabulary, if any; ValueError names the line that is wrong."""
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"labels={path} cannot be read ({error})") from error
    vocabulary = None
    if path.suffix.lower() in (".jsonl", ".json"):
        rows = _json_lines(path, text)
    else:
        rows, vocabulary = _csv(path, text)
    labels: dict[str, dict] = {}
    for where, picture, label in rows:
        if not isinstance(picture, str) or not picture:
            raise ValueError(f"{where} names no picture: give its path within the folder")
        if picture in labels:
            raise ValueError(f"{where} labels {picture!r} a second time: keep one line a picture")
        labels[picture] = label
    if not labels:
        raise ValueError(f"labels={path} holds no label: give one line a picture")
    if (names := path.with_name(VOCABULARY)).is_file():
        try:
            vocabulary = parse_json(names.read_bytes())
        except ValueError as error:
            raise ValueError(f"{names} is not JSON ({error}): write it anew") from error
        check_vocabulary(vocabulary, str(names), optional=("places", "clothes", "actions"))
    return labels, vocabulary


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, object, dict]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            entry = parse_json(line)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON ({error}): give one object a line") from error
        entry = entry if isinstance(entry, dict) else {}
        label = {key: entry[key] for key in ("cast", "place") if key in entry}
        if not label or not is_label(label):
            raise ValueError(f"{where}: give a list of names as cast, or a name or list as place")
        yield where, entry.get("picture"), label


def _csv(path: Path, text: str) -> tuple[Iterator[tuple[str, object, dict]], dict | None]:
    lines = csv.reader(io.StringIO(text), strict=True)
    try:
        rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{path} line {lines.line_num} is no CSV ({error}): mend it") from error
    head = [name.strip() for name in rows[0][1]] if rows else []
    names = head[1:]
    if head[:1] != ["picture"] or not names or "" in names or len({*names}) < len(names):
        raise ValueError(
            f"{path} begins with {','.join(head)!r}: head it picture,cast,place, or picture and "
            "one column a character"
        )
    listed = {*names} <= {"cast", "place"}

    def read() -> Iterator[tuple[str, object, dict]]:
        for number, row in rows[1:]:
            where = f"{path} line {number}"
            if len(row) != len(head):
                raise ValueError(f"{where} has {len(row)} columns for {len(head)} names: mend it")
            picture, *cells = (cell.strip() for cell in row)
            if listed:
                parts = ([name.strip() for name in cell.split(";") if name.strip()]
                         for cell in cells)  # fmt: skip
                yield where, picture, dict(zip(names, parts, strict=True))
                continue
            if strange := {*cells} - {"0", "1"}:
                raise ValueError(f"{where} holds {min(strange)!r}: give 0 or 1 in every column")
            cast = [name for name, cell in zip(names, cells, strict=True) if cell == "1"]
            yield where, picture, {"cast": cast}

    return read(), None if listed else {"characters": names}
