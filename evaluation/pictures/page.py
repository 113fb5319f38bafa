"""Writes stories as one HTML file: pictures inside it, nothing loaded, light and dark.

`page.html` is its template. Pictures go in as WebP where that is smaller than their file, which
looks the same and takes about a sixth; who needs exact pixels has the folder.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from common.files import replacing
from evaluation.own_files import MARK
from evaluation.pictures.heat_map import draw_heat_map, say_weights
from evaluation.pictures.storyboard import Folders, FrameNotes, Notes, gather
from evaluation.samples import read_picture

__all__ = ["write_storyboard_html"]

QUALITY = 90  # of WebP; 100 is the best


def write_storyboard_html(
    folders: Folders,
    out_html: str | os.PathLike,
    stories: int | Sequence[str] | None = None,
    notes: Notes | None = None,
    frame_notes: FrameNotes | None = None,
    plot: Path | None = None,
) -> Path:
    """Write the page and return its path; `stories` limits how many (all), or names which."""
    strips, settings = gather(folders, stories, notes, frame_notes)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "embedded": _embedded,
        "heat_map": draw_heat_map,
        "parts": lambda note: [part for part in note.split(" · ") if part],
        "said": say_weights,
    }
    template = environment.get_template("page.html")
    text = template.render(strips=strips, settings=settings, plot=plot, mark=MARK)
    with replacing(out_html) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(out_html)


def _embedded(picture: Image.Image | Path) -> str:
    """An address that holds the picture; small PNG files go in as they are."""
    path = picture if isinstance(picture, Path) else None
    if path:
        picture = Image.fromarray(read_picture(path))
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=QUALITY, method=4)
    kind, data = "webp", packed.getvalue()
    if path and path.suffix.lower() == ".png" and path.stat().st_size <= len(data):
        kind, data = "png", path.read_bytes()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
