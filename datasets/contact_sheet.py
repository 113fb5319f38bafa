"""A picture of a few stories of a story file, frames side by side, captions below."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from common.files import replacing
from common.lettering import wrap, write
from datasets.pictures import frames_in_strip
from datasets.story_hdf5 import SPLITS, StoryFile

CELL, GAP, LINE = 160, 8, 14  # pixels
TEXT, LINES = 11, 4  # a caption: pixels high, lines


def draw_contact_sheet(
    path: str | os.PathLike, target: str | os.PathLike, keys: Sequence[str], stories: int = 6
) -> None:
    """Write a PNG of stories that lie evenly over all splits; of a strip its middle frame.
    ValueError if none is whole."""
    files = [{key: StoryFile(path, split, key) for key in keys} for split in SPLITS]
    places = [(columns, number) for columns in files for number in _whole(columns)]
    if not places:
        raise ValueError(
            f"{path} has no story that is whole under {' and '.join(keys)}: nothing can be drawn; "
            "build it with some"
        )
    chosen = np.unique(np.linspace(0, len(places) - 1, min(stories, len(places))).round())
    rows = [_row(*places[int(n)]) for n in chosen]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    with replacing(target) as temporary:
        sheet.save(temporary, "PNG")


def _whole(columns: dict[str, StoryFile]) -> list[int]:
    """The numbers in the file of the stories that are whole under every key."""
    return sorted(set.intersection(*(set(file.rows) for file in columns.values())))


def _row(columns: dict[str, StoryFile], number: int) -> Image.Image:
    """One story: a title, its frames, and below each its caption under every key."""
    file = next(iter(columns.values()))
    index = file.rows.index(number)
    told = {key: texts.captions(texts.rows.index(number)) for key, texts in columns.items()}
    frames = file.pictures_per_story
    size = frames * (CELL + GAP) + GAP, 3 * LINE + CELL + GAP + LINE * LINES * len(columns)
    row = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(row)
    write(draw, GAP, LINE // 2, f"{file.split}: {file.story_id(index)}", TEXT, "black")
    bottom = 0
    for k in range(frames):
        left, top = GAP + k * (CELL + GAP), 2 * LINE
        row.paste(_cell(file.picture(index, k)), (left, top))
        top += CELL + GAP // 2
        for captions, colour in zip(told.values(), ("black", "dimgrey", "black"), strict=False):
            lines = wrap(captions[k].strip() or "(empty)", TEXT, CELL)
            if len(lines) > LINES:
                lines[LINES - 1] += " …"
            for line in lines[:LINES]:
                write(draw, left, top, line, TEXT, colour)
                top += LINE
        bottom = max(bottom, top)
    return row.crop((0, 0, row.width, bottom + GAP))


def _cell(rgb: np.ndarray) -> Image.Image:
    height, width = rgb.shape[:2]
    if frames := frames_in_strip(height, width):
        rgb = rgb[frames // 2 * width :][:width]
    return ImageOps.pad(Image.fromarray(rgb), (CELL, CELL), color="lightgrey")
