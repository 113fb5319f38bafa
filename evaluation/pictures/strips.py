"""One story as a picture: a strip of frames over their captions, or a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from evaluation.pictures.storyboard import GAP, GUTTER, MARGIN, PAGE, SMALLEST, Strip, draw_block
from evaluation.samples import read_picture

__all__ = ["Pages", "draw_page", "draw_strip"]

A4 = 297 / 210  # width to height, landscape
ROW, ROW_SIDE = 3, 320  # frames beside each other on a page, pixels of one
HEADING = 44  # what `draw_block` leaves for it


def draw_strip(strip: Strip) -> Image.Image:
    """The drawn frames in one row, captions beneath; frames at their own size or larger."""
    side = max(SMALLEST, *read_picture(strip.rows[-1].frames[0]).shape[:2])
    return _draw(strip, 0, len(strip.captions), side)


def draw_page(strip: Strip) -> Image.Image:
    """The story on a landscape page: its drawn frames in rows of three, captions beneath."""
    starts = range(0, len(strip.captions), ROW)
    blocks = [_draw(strip, k, k + ROW, ROW_SIDE) for k in starts]
    high = sum(block.height for block in blocks) + (len(blocks) - 1) * MARGIN // 2
    height = max(high + 2 * MARGIN, round((blocks[0].width + 2 * MARGIN) / A4))
    page = Image.new("RGB", (max(blocks[0].width + 2 * MARGIN, round(height * A4)), height), PAGE)
    left, top = (page.width - blocks[0].width) // 2, (height - high) // 2
    for block in blocks:
        page.paste(block, (left, top))
        top += block.height + MARGIN // 2
    return page


class Pages(Image.Image):
    """A page a story, drawn when Pillow turns to it: all of a data set would fill memory."""

    def __init__(self, strips: Sequence[Strip]) -> None:
        super().__init__()
        self.strips, self.n_frames = strips, len(strips)

    def seek(self, frame: int) -> None:
        if frame >= self.n_frames:
            raise EOFError  # which ends Pillow's loop over frames
        page = draw_page(self.strips[frame])
        self.im, self._mode, self._size = page.im, page.mode, page.size


def _draw(strip: Strip, first: int, last: int, side: int) -> Image.Image:
    """Drawn frames `first` to `last` - 1 and their captions, without names and headings."""
    row = strip.rows[-1]
    row = replace(
        row,
        frames=row.frames[first:last],
        given=max(0, row.given - first),
        frame_notes=row.frame_notes[first:last],
        history_weights=None,
    )
    captions = strip.captions[first:last]
    width = 2 * MARGIN + GUTTER + len(captions) * (side + GAP) - GAP
    block = draw_block(replace(strip, rows=[row], captions=captions, heading=""), width, side)
    return block.crop((MARGIN + GUTTER - GAP, HEADING - GAP, width - MARGIN + GAP, block.height))
