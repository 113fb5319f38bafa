"""Writes stories as one HTML file: pictures inside it, nothing loaded, light and dark.

Pictures go in as WebP where that is smaller than their file, which looks the same and takes about a
sixth; who needs exact pixels has the folder."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from evaluation.heat_map import draw_heat_map, say_weights
from evaluation.samples import read_picture, replacing
from evaluation.storyboard import Folders, FrameNotes, Notes, Row, Strip, gather

QUALITY = 90  # of WebP; 100 is the best
STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1d1f23; --grey: #6b7079; --rule: #e4e6ea;
  --wrong: #c0392b }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171b; --ink: #e8eaee; --grey: #989da7; --rule: #2b2f36;
    --wrong: #ef7d6f } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: clamp(1rem, 4vw, 3.5rem); max-width: 88rem; background: var(--page);
  color: var(--ink); font: 1rem/1.4 system-ui, sans-serif }
h1 { margin: 0 0 2rem; font-weight: 600; letter-spacing: -.01em }
section { border-top: 1px solid var(--rule); padding: .8rem 0 2.6rem }
h2 { margin: 0 0 .8rem; font-size: .875rem; font-weight: 400; color: var(--grey) }
.strip { display: grid; gap: .7rem; overflow-x: auto; padding-bottom: .4rem;
  grid-template-columns: minmax(5rem, 7rem) repeat(var(--frames), minmax(8rem, 1fr)) }
.name { align-self: center; font-size: .875rem; color: var(--grey) }
.name span { display: block; font-size: .8125rem }
figure { margin: 0; position: relative }
figcaption { font-size: .75rem; color: var(--grey); padding-top: .2rem }
.wrong { font-weight: 400; color: var(--wrong) }
.plot { display: block; border-radius: .6rem; width: auto; max-width: 100%; margin-bottom: 2rem }
img { display: block; width: 100%; border-radius: .6rem }
.map { width: 4.5rem; margin-top: .5rem; border-radius: 0; background: #fff }
.given { position: absolute; top: .5rem; left: .5rem; padding: .05rem .6rem; border-radius: 1rem;
  background: #2f6fde; color: #fff; font-size: .8125rem }
p { margin: 0 }
footer { border-top: 1px solid var(--rule); padding-top: 1rem; color: var(--grey);
  font-size: .875rem; overflow-wrap: anywhere }
@media (max-width: 40rem) {
  .strip { grid-template-columns: repeat(var(--frames), minmax(8rem, 1fr)) }
  .name { grid-column: 1 / -1; justify-self: start; position: sticky; left: 0 }
  .name span { display: inline; margin-left: .6rem } .blank { display: none } }
"""


def write_storyboard_html(folders: Folders, out_html: str | os.PathLike,
                          stories: int | Sequence[str] | None = None, title: str = "Storyboard",
                          notes: Notes | None = None, frame_notes: FrameNotes | None = None,
                          plot: Image.Image | None = None) -> Path:
    """Write the page and return its path; `stories` limits how many (all), or names which."""
    strips, settings = gather(folders, stories, notes, frame_notes)
    chart = "" if plot is None else f'<img class="plot" alt="metrics by frame" {_source(plot)}>'
    page = "\n".join([
        "<!doctype html>", '<html lang="en">', '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>", chart, *map(_section, strips),
        f"<footer>{escape(settings)}</footer>", "</html>", ""])
    with replacing(out_html) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(out_html)


def _section(strip: Strip) -> str:
    captions = "".join(f"<p>{escape(caption)}</p>" for caption in strip.captions)
    return (f'<section><h2>{escape(strip.heading)}</h2>'
            f'<div class="strip" style="--frames: {len(strip.captions)}">'
            + "".join(_row(row, strip) for row in strip.rows)
            + f'<div class="blank"></div>{captions}</div></section>')


def _row(row: Row, strip: Strip) -> str:
    note = "".join(f"<span>{escape(part)}</span>" for part in row.note.split(" · ") if part)
    if row.history_weights:
        said = escape(say_weights(row.history_weights))
        note += (f'<img class="map" alt="{said}" title="{said}" '
                 f'{_source(draw_heat_map(row.history_weights))}>')
    under = row.frame_notes or [""] * len(row.frames)
    return f'<div class="name">{escape(row.name)}{note}</div>' + "".join(
        _figure(path, f"{row.name}: {caption}", words, k < row.given)
        for k, (path, caption, words) in enumerate(zip(row.frames, strip.captions, under,
                                                       strict=True)))


def _figure(path: Path, alt: str, words: str, given: bool) -> str:
    picture = Image.fromarray(read_picture(path))
    mark = '<span class="given">given</span>' if given else ""
    lines = "<br>".join(
        f'<b class="wrong">{escape(part)}</b>' if part.startswith("wrong") else escape(part)
        for part in words.split(" · ")
    )
    under = f"<figcaption>{lines}</figcaption>" if words else ""
    return f'<figure><img alt="{escape(alt)}" {_source(picture, path)}>{mark}{under}</figure>'


def _source(picture: Image.Image, path: Path | None = None) -> str:
    """A `src` that holds the picture; small PNG files go in as they are."""
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=QUALITY, method=4)
    kind, data = "webp", packed.getvalue()
    if path is not None and path.suffix.lower() == ".png" and path.stat().st_size <= len(data):
        kind, data = "png", path.read_bytes()
    return f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}"'
