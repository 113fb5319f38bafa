"""A story of the page written into a folder, with what it was drawn with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from common.files import writing, writing_folder
from datasets.story_prompts import StoryPrompt
from evaluation.pictures.story_files import StoryFiles, write_story_files
from evaluation.samples import SamplesFolder
from page.model import PageModel
from page.story import Settings, Story

__all__ = ["save"]


def save(
    model: PageModel, story: Story, captions: list[str], settings: Settings, out: Path
) -> list[Path]:
    """Write a samples folder with strip, GIF, PDF and story file; their paths, the folder zipped.

    The folder is `out`/NAME, or NAME-2 and so on where that is taken: nothing is overwritten. What
    is in it says what the story was drawn with, its name too; of `settings` NAME alone counts.
    """
    settings.check()
    drawn = story.drawn or settings
    for number, picture in enumerate(story.pictures, 1):
        if picture is None:
            raise ValueError(f"Frame {number} is not drawn yet: draw it, or remove it, then save.")
    if len({picture.shape for picture in story.pictures}) > 1:  # one was given after the others
        raise ValueError("The frames are of several sizes: draw the story again, then save.")
    kept = map(story.made.get, range(len(captions)))
    read = [one and one[1].read[one[0]] for one in kept]
    digest = story.check_drawn(captions, model.digest)
    asked = {**StoryPrompt(drawn.name, captions, story.first).asked(), **story.notes()}
    content: dict = {"captions": captions}
    if story.first is not None:
        content["first_frame"] = "first_frame.png"
    of_all = {
        "seed": drawn.seed,
        "given": int(story.first is not None),
        "checkpoint": digest,
        "sampler": drawn.sampler,
        **model.unusual,
    }
    with _new_folder(out, settings.name) as (folder, new):
        samples = SamplesFolder(new / "samples", of_all, asked={drawn.name: asked})
        samples.add(
            drawn.name,
            captions,
            np.stack(story.pictures),
            history_weights=story.history_weights(),
            captions_read=read,
        )
        written = write_story_files(StoryFiles(str(samples.path), str(new)))
        names = {".gif": "gif", ".png": "strip.png", ".pdf": "pdf"}
        files = [
            path.rename(new / f"{drawn.name}.{names[path.suffix]}") for path in sorted(written)
        ]
        if story.first is not None:
            Image.fromarray(story.first).save(new / "first_frame.png")
        text = yaml.safe_dump({"story_id": drawn.name, **content}, allow_unicode=True)
        story_file = new / f"{drawn.name}.yaml"
        story_file.write_text(text, encoding="utf-8")
        zipped = shutil.make_archive(str(new / "samples"), "zip", new / "samples")
    return [folder / Path(file).name for file in (*files, story_file, zipped)]


@contextmanager
def _new_folder(out: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """A folder `out`/NAME[-NUMBER] that is nobody else's, and one to fill that takes its name."""
    for number in range(1, 100_000):
        folder = out / (name if number == 1 else f"{name}-{number}")
        with writing(folder):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
        break
    else:
        raise ValueError(f"{out} is full of stories called {name}: choose another name.")
    try:
        with writing_folder(folder) as new:
            yield folder, new
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise
