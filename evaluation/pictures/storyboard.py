"""Draws stories as one PNG: reference above drawn frames, captions beneath, given frames marked.
Beside stories drawn with history weights, a heat map tells which frames each one looked at.

`gather` lines up the rows of each story, from one samples folder or from several of the same
stories (with history, history masked, ...), for this file and for `page.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from common.files import replacing
from common.lettering import wrap, write
from evaluation.own_files import png_mark
from evaluation.pictures.heat_map import draw_heat_map
from evaluation.samples import SampledStory, Samples, read_picture, read_samples

__all__ = [
    "Folders", "FrameNotes", "Notes", "Row", "Strip", "draw_block", "draw_storyboard", "gather",
]  # fmt: skip

Folder = str | os.PathLike | Samples  # by its path, or read
Folders = Folder | Mapping[str, Folder]  # one, or {row name: folder}
Notes = Mapping[str, Mapping[str, str]]  # {row name: {story id: "cast 5/5 · place 4/5"}}
FrameNotes = Mapping[str, Mapping[str, Sequence[str]]]  # {row name: {story id: [one a frame]}}

WIDEST, SMALLEST = 2000, 192  # of the whole picture, of one frame; pixels
MARGIN, GUTTER, GAP, BETWEEN = 56, 128, 12, 60  # page edge, row names, frames, stories
INK, GREY, RULE, PAGE, GIVEN = "#1d1f23", "#80858e", "#e4e6ea", "#ffffff", "#2f6fde"
WRONG = "#c0392b"  # under a frame
MOST_LINES = 6  # of one caption


@dataclass(frozen=True)
class Row:
    """A line of frames with its name; the first `given` were handed in."""

    name: str
    frames: list[Path]
    given: int = 0
    note: str = ""
    frame_notes: Sequence[str] = ()  # one a frame, or none
    history_weights: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class Strip:
    """One story: its rows, all as long as its captions."""

    story_id: str
    heading: str
    captions: list[str]
    rows: list[Row]


def gather(
    folders: Folders,
    stories: int | Sequence[str] | None = None,
    notes: Notes | None = None,
    frame_notes: FrameNotes | None = None,
) -> tuple[list[Strip], str]:
    """The first `stories` (or those ids, or all) that every folder has, and a line on how they
    were sampled."""
    if not isinstance(folders, Mapping):
        folders = {"drawn": folders}
    sets, places = {}, []
    for name, folder in folders.items():
        samples = folder if isinstance(folder, Samples) else read_samples(folder)
        sets[name] = {story.story_id: story for story in samples.stories}
        places.append(str(samples.folder))
    first, *others = sets.values()
    shared = [name for name in first if all(name in other for other in others)]
    wanted = shared[:stories] if stories is None or isinstance(stories, int) else list(stories)
    if missing := [name for name in wanted if name not in shared]:
        raise ValueError(
            f"story {missing[0]!r} is not in every samples folder ({', '.join(places)}): "
            f"choose among {shared[:5]}"
        )
    if not wanted:
        raise ValueError(
            f"no story to show from {', '.join(places)}: ask for at least one, and give folders "
            "that share stories"
        )
    strips = []
    for name in wanted:
        versions = {row: found[name] for row, found in sets.items()}
        strips.append(_strip(name, versions, notes or {}, frame_notes or {}))
    return strips, f"{len(wanted)} of {len(shared)} stories{_settings(sets, wanted[0])}"


def draw_storyboard(
    folders: Folders,
    out_png: str | os.PathLike,
    stories: int | Sequence[str] = 8,
    notes: Notes | None = None,
    frame_notes: FrameNotes | None = None,
) -> Path:
    """Write the PNG and return its path; frames are 192 pixels or more while 2000 hold them."""
    strips, settings = gather(folders, stories, notes, frame_notes)
    columns = max(len(strip.captions) for strip in strips)
    native = read_picture(strips[0].rows[0].frames[0]).shape[1]
    room = (WIDEST - 2 * MARGIN - GUTTER + GAP) // columns - GAP
    side = max(1, min(room, max(SMALLEST, min(native, 320))))
    width = 2 * MARGIN + GUTTER + columns * (side + GAP) - GAP
    blocks = [draw_block(strip, width, side) for strip in strips]
    head = MARGIN + 78
    page = Image.new("RGB", (width, head + sum(b.height + BETWEEN for b in blocks)), PAGE)
    draw = ImageDraw.Draw(page)
    _write(draw, MARGIN, MARGIN - 8, ["Storyboard"], 34, INK)
    _write(draw, MARGIN, MARGIN + 36, wrap(settings, 15, width - 2 * MARGIN)[:2], 15, GREY, 20)
    top = head
    for block in blocks:
        page.paste(block, (0, top))
        top += block.height + BETWEEN
    with replacing(out_png) as temporary:
        page.save(temporary, "PNG", optimize=True, pnginfo=png_mark())
    return Path(out_png)


def _strip(
    story_id: str, versions: dict[str, SampledStory], notes: Notes, frame_notes: FrameNotes
) -> Strip:
    first = next(iter(versions.values()))
    for name, story in versions.items():
        if story.captions != first.captions:
            raise ValueError(
                f"story {story_id!r} has other captions in {name!r}: give folders "
                "sampled from the same stories"
            )
    rows = [Row("reference", first.reference_frames)] if first.reference_frames else []
    rows += [
        Row(
            name,
            story.frames,
            story.given,
            notes.get(name, {}).get(story_id, ""),
            frame_notes.get(name, {}).get(story_id, ()),
            story.history_weights,
        )
        for name, story in versions.items()
    ]
    heading = story_id if first.seed is None else f"{story_id}  ·  seed {first.seed}"
    return Strip(story_id, heading, first.shown_captions, rows)


def _settings(sets: dict[str, dict[str, SampledStory]], story_id: str) -> str:
    """What all sets have in common: sampler settings and checkpoint of this story."""
    versions = [found[story_id] for found in sets.values()]
    parts = [
        f"{key.replace('_', ' ')} {value}"
        for key, value in versions[0].sampler.items()
        if all(story.sampler.get(key) == value for story in versions)
    ]
    if (checkpoint := versions[0].checkpoint) and len({v.checkpoint for v in versions}) == 1:
        parts.append(f"checkpoint {checkpoint.removeprefix('sha256:')[:12]}")
    return "".join(f"  ·  {part}" for part in parts)


def draw_block(strip: Strip, width: int, side: int) -> Image.Image:
    """One story: thin rule, heading, rows of frames, captions."""
    captions = [wrap(caption, 17, side) for caption in strip.captions]
    captions = [
        lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "…"] for lines in captions
    ]
    under = [_under(row, side) for row in strip.rows]
    deep = [18 * max(map(len, texts), default=0) for texts in under]
    top, lines = 44, max(map(len, captions))
    height = top + len(strip.rows) * (side + GAP) + sum(deep) + 8 + 23 * lines
    block = Image.new("RGB", (width, height), PAGE)
    draw = ImageDraw.Draw(block)
    draw.line((MARGIN, 0, width - MARGIN, 0), RULE, 2)
    _write(draw, MARGIN, 14, [strip.heading], 15, GREY)
    left = [MARGIN + GUTTER + k * (side + GAP) for k in range(len(captions))]
    for row, below, depth in zip(strip.rows, under, deep, strict=True):
        label = wrap(row.name, 15, GUTTER - 12)
        notes = row.note.split(" · ") if row.note else []
        looked = row.history_weights and draw_heat_map(row.history_weights)
        high = looked.height + 12 if looked else 0
        y = top + (side - 21 * len(label) - 18 * len(notes) - high) // 2
        y = _write(draw, MARGIN, y, label, 15, INK if notes else GREY, 21)
        y = _write(draw, MARGIN, y, notes, 14, GREY, 18)
        if looked:
            block.paste(looked, (MARGIN, y + 8))
        for k, path in enumerate(row.frames):
            _place(block, path, left[k], top, side, k < row.given)
        for x, texts in zip(left, below, strict=False):
            y = top + side + 3
            for text in texts:
                colour = WRONG if text.startswith("wrong") else GREY
                y = _write(draw, x, y, [text], 13, colour, 18)
        top += side + GAP + depth
    for x, wrapped in zip(left, captions, strict=True):
        _write(draw, x, top + 2, wrapped, 17, INK, 23)
    return block


def _write(
    draw: ImageDraw.ImageDraw, x: int, y: int, lines: list[str], size: int, colour: str, step=0
) -> int:
    """Lines from the top left corner, `step` pixels apart; where the next one would begin."""
    for line in lines:
        write(draw, x, y, line, size, colour)
        y += step
    return y


def _under(row: Row, side: int) -> list[list[str]]:
    """Lines under each frame of a row; none without notes."""
    return [
        [line for part in note.split(" · ") for line in wrap(part, 13, side)][:MOST_LINES]
        for note in row.frame_notes
    ]


def _place(block: Image.Image, path: Path, x: int, y: int, side: int, given: bool) -> None:
    """Paste a frame in a side x side box, whole, with round corners; mark a given one."""
    picture = Image.fromarray(read_picture(path))
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    box = Image.new("L", (4 * size[0], 4 * size[1]), 0)  # four times as large: smooth corners
    ImageDraw.Draw(box).rounded_rectangle((0, 0, box.width - 1, box.height - 1), 32, 255)
    corner = (x + (side - size[0]) // 2, y + (side - size[1]) // 2)
    block.paste(
        picture.resize(size, Image.Resampling.LANCZOS),
        corner,
        box.resize(size, Image.Resampling.LANCZOS),
    )
    if given:
        draw = ImageDraw.Draw(block)
        draw.rounded_rectangle((x + 8, y + 8, x + 62, y + 30), 11, GIVEN)
        draw.text((x + 35, y + 19), "given", "#ffffff", ImageFont.load_default(14), anchor="mm")
