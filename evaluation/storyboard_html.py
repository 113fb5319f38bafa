"""Writes stories as one HTML file: pictures inside it, nothing loaded, light and dark."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from evaluation.samples import read_picture, replacing
from evaluation.storyboard import Folders, Notes, Row, Strip, gather

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1d1f23; --grey: #6b7079; --rule: #e4e6ea }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171b; --ink: #e8eaee; --grey: #989da7; --rule: #2b2f36 } }
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
img { display: block; width: 100%; border-radius: .6rem }
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
                          notes: Notes | None = None) -> Path:
    """Write the page and return its path; `stories` limits how many (all), or names which."""
    strips, settings = gather(folders, stories, notes)
    page = "\n".join([
        "<!doctype html>", '<html lang="en">', '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>", *map(_section, strips),
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
    return f'<div class="name">{escape(row.name)}{note}</div>' + "".join(
        _figure(path, f"{row.name}: {caption}", k < row.given)
        for k, (path, caption) in enumerate(zip(row.frames, strip.captions, strict=True)))


def _figure(path: Path, words: str, given: bool) -> str:
    read_picture(path)  # a damaged file is named here rather than shown as a gap
    data = base64.b64encode(path.read_bytes()).decode()
    mark = '<span class="given">given</span>' if given else ""
    return (f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{data}">{mark}'
            "</figure>")
