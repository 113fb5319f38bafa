"""Stories as files to show: `python -m evaluation.pictures.story_files samples=DIR [formats=…] …`.

From a samples folder: a GIF and a strip (PNG) for each story, and a PDF with a page a story.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from common.key_value_arguments import option, run

FORMATS = ("gif", "strip", "pdf")
ENDINGS = {"gif": ".gif", "strip": ".png"}  # of what there is one a story
GIF_SECONDS = 655  # that a frame can last, and equal ones in a row together


@dataclass
class StoryFiles:
    """What to make of which stories."""

    samples: str = option("folder that mode=sample wrote")
    out: str | None = option("folder for the files; null: story_files in the samples folder", None)
    formats: list[str] | str = option("gif, strip, pdf with commas between them, or all", "all")
    stories: list[str] | str = option("ids with commas between them, or all", "all")
    seconds: float = option("how long the GIF shows a frame", 1.0, least=0.02)


def write_story_files(options: StoryFiles) -> list[Path]:
    """Write what is asked for; the paths of the files.

    Raises:
        ValueError: an unknown format or story; FileNotFoundError: no samples folder.
    """
    formats = _listed(options.formats) or FORMATS
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"formats={unknown[0]}: use {', '.join(FORMATS)} or all")
    from PIL import Image

    from common.files import replacing
    from evaluation.own_files import MARK, png_mark, refuse_others
    from evaluation.pictures.storyboard import gather
    from evaluation.pictures.strips import Pages, draw_strip
    from evaluation.samples import read_picture, read_samples

    samples = read_samples(options.samples)
    strips, _ = gather(samples, _listed(options.stories))
    most = 100 * GIF_SECONDS // max(len(strip.captions) for strip in strips) / 100
    if "gif" in formats and options.seconds > most:
        raise ValueError(
            f"seconds={options.seconds:g} is too long for a GIF of these stories: give "
            f"{most:g} or less"
        )
    folder = Path(options.out) if options.out else samples.folder / "story_files"
    if folder.is_file():
        raise ValueError(f"out={folder} is a file; give a folder")
    names = [
        f"{number:04}_{''.join(c if c.isalnum() else '-' for c in strip.story_id)[:60]}"
        for number, strip in enumerate(strips)
    ]
    if options.out:
        kinds = [ending for kind, ending in ENDINGS.items() if kind in formats]
        to_write = [f"{name}{kind}" for name in names for kind in kinds]
        refuse_others(folder, [*to_write, *["stories.pdf"] * ("pdf" in formats)], samples.folder)
    written = []

    def save(name: str, first: Image.Image, **how) -> None:
        with replacing(folder / name) as temporary:
            first.save(temporary, **how)
        written.append(folder / name)

    for name, strip in zip(names, strips, strict=True):
        frames = [Image.fromarray(read_picture(path)) for path in strip.rows[-1].frames]
        if "gif" in formats:
            size = frames[0].size  # a given frame may have another
            frames = [frame.resize(size, Image.Resampling.LANCZOS) for frame in frames]
            how = {"save_all": True, "append_images": frames[1:], "loop": 0, "comment": MARK}
            save(f"{name}.gif", frames[0], format="GIF", duration=options.seconds * 1000, **how)
        if "strip" in formats:
            save(f"{name}.png", draw_strip(strip), format="PNG", pnginfo=png_mark())
    if "pdf" in formats:
        how = {"title": "Stories", "creator": MARK, "save_all": True}
        save("stories.pdf", Pages(strips), format="PDF", **how)
    return written


def _listed(names: list[str] | str) -> list[str] | None:
    """None for all."""
    names = names.split(",") if isinstance(names, str) else names
    return None if names == ["all"] else names


def _run(options: StoryFiles) -> None:
    written = write_story_files(options)
    print(f"{len(written)} files are in {written[0].parent}")


if __name__ == "__main__":
    run(StoryFiles, __doc__, _run, sys.argv[1:])
