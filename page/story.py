"""A story as it is on the page: drawn frame by frame, mended and saved."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from torch import Tensor

from building import pipeline_arguments
from common.files import writing, writing_folder
from datasets.story_hdf5 import is_story_id
from datasets.story_prompts import StoryPrompt
from evaluation.pictures.story_files import StoryFiles, write_story_files
from evaluation.samples import SamplesFolder
from models.pipeline import StoryPipeline
from page.model import PageModel

__all__ = ["Drawing", "Progress", "Settings", "Story", "candidates", "draw", "draw_rest", "redraw",
           "save"]  # fmt: skip

LONGEST_CAPTION = 1000  # characters
MOST_STEPS = 1000  # a frame

Picture = np.ndarray  # (H, W, 3) uint8
Drawn = tuple[np.ndarray, list[list[float]] | None]  # frames, how much each looked at the others


@dataclass(frozen=True)
class Settings:
    """How a story is drawn. name: the story's id, which its noise hangs on as in mode=sample."""

    name: str
    seed: int
    sampler: dict  # `building.sampler_settings`

    def check(self) -> None:
        """ValueError, in one sentence, for what cannot be drawn."""
        if not is_story_id(self.name):
            raise ValueError(f"The name {self.name!r} cannot name a folder: use plain letters.")
        most = 2**32 - 1  # as main.py
        if self.seed is None or not (0 <= self.seed <= most and self.seed == int(self.seed)):
            raise ValueError(f"The seed is {self.seed}: give a whole number from 0 to {most}.")
        for key in ("num_inference_steps", "first_frame_inference_steps"):
            steps = self.sampler[key]
            if steps is not None and not (1 <= steps <= MOST_STEPS and steps == int(steps)):
                raise ValueError(f"Steps are {steps}: give a whole number from 1 to {MOST_STEPS}.")


@dataclass
class Story:
    """What stands on the page: a picture or None for each caption; `first` was given, not drawn."""

    pictures: list[Picture | None] = field(default_factory=lambda: [None] * 5)
    first: Picture | None = None  # of its own size
    references: Sequence[Picture] = ()  # of a data set's story: its own pictures
    drawn: Settings | None = None  # how the whole was drawn
    tries: dict[int, int] = field(default_factory=dict)  # frame -> how often it was drawn anew
    redrawn: dict[str, dict] = field(default_factory=dict)  # frame -> how, as manifests say it
    looked: dict[int, list[float]] = field(default_factory=dict)  # frame -> at each earlier one
    # frame, its candidates by number, and what they were drawn with
    offered: tuple[int, list[tuple[int, Picture]], Settings] | None = None
    busy: bool = False

    def check(self, captions: Sequence[str]) -> list[str]:
        """The captions without spare blanks; ValueError for those that cannot be drawn."""
        captions = [" ".join((caption or "").split()) for caption in captions]
        if not any(captions):
            raise ValueError("There is no caption: type what happens in the first frame.")
        for number, caption in enumerate(captions, 1):
            if not caption:
                raise ValueError(f"Frame {number} has no caption: type one, or remove the frame.")
            if len(caption) > LONGEST_CAPTION:
                raise ValueError(
                    f"The caption of frame {number} has {len(caption)} characters: shorten it to "
                    f"{LONGEST_CAPTION} or fewer."
                )
        if self.first is not None and len(captions) == 1:
            raise ValueError("The only frame is the picture given: add a frame to be drawn.")
        return captions

    def clear(self, frames: int) -> None:
        """Nothing is drawn of so many frames; a picture that was given stays."""
        self.pictures = [None] * frames
        self.drawn = None
        self.give(self.first)

    def give(self, picture: Picture | None) -> None:
        """Start from a picture, or with None from a frame that is to be drawn."""
        self.first = self.pictures[0] = picture
        self._forget()

    def remove(self, frame: int) -> None:
        if len(self.pictures) == 1:
            raise ValueError("A story has one frame or more: change its caption instead.")
        if frame == 0 and self.first is not None:
            raise ValueError("Frame 1 is the picture that was given: remove that first.")
        del self.pictures[frame]
        self.references = ()
        self._forget()

    def move(self, frame: int, to: int) -> None:
        """Let two frames change places."""
        if not 0 <= to < len(self.pictures):
            where = "last" if to > frame else "first"
            raise ValueError(f"Frame {frame + 1} is the {where} one already.")
        if self.first is not None and 0 in (frame, to):
            raise ValueError("The picture that was given stays first.")
        shown = self.pictures
        shown[frame], shown[to] = shown[to], shown[frame]
        self.references = ()
        self._forget()

    def note(self, settings: Settings, frames: Iterable[int], number: int) -> None:
        """Put down how frames were drawn again, as `redraw.redraw` does."""
        how = {"seed": settings.seed, "candidate": number, "sampler": settings.sampler}
        self.redrawn |= {str(k): how for k in frames}

    def saw(self, frames: Iterable[int], weights: list[list[float]] | None) -> None:
        """Put down how much frames, just drawn, looked at earlier ones, if the model tells."""
        for k in frames:
            self.looked.pop(k, None)
            if weights is not None:
                self.looked[k] = weights[k][:k]

    def history_weights(self) -> list[list[float]] | None:
        """The same as a table (K, K), as manifests say it; None if the model does not tell."""
        count = len(self.pictures)
        rows = [self.looked.get(k, []) for k in range(count)]
        return [row + [0.0] * (count - len(row)) for row in rows] if self.looked else None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Frames keep their numbers meanwhile."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def _forget(self) -> None:
        """Frames may have other numbers: what was noted by number does not hold any more."""
        self.tries, self.redrawn, self.looked, self.offered = {}, {}, {}, None


@dataclass(frozen=True)
class Progress:
    """What has just been done: denoising step `step` of `frame`, or all of it with its picture."""

    frame: int
    step: int = 0
    picture: Picture | None = None


class _Stopped(Exception):
    pass


class Drawing:
    """Iterate over it to see `work` done in a thread of its own; what it returned is `result`.

    Whoever stops iterating stops the work, at its next step. What it raises is raised here.
    """

    def __init__(self, work: Callable[[dict], Any]) -> None:
        self.result: Any = None
        self._work, self._events, self._stop = work, queue.SimpleQueue(), threading.Event()

    def __iter__(self) -> Iterator[Progress]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            while isinstance(event := self._events.get(), Progress):
                yield event
            if isinstance(event, Exception):
                raise event
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            hooks = {"callback_on_step_end": self._step, "callback_on_frame_end": self._frame}
            self.result = self._work(hooks)
            self._events.put(None)
        except _Stopped:
            self._events.put(None)
        except Exception as error:  # told in the thread of whoever looks on
            self._events.put(error)

    def _step(self, pipeline: StoryPipeline, step: int, timestep: int, state: dict) -> dict:
        if self._stop.is_set():
            raise _Stopped
        self._events.put(Progress(state["frame"], step + 1))
        return {}

    def _frame(self, pipeline: StoryPipeline, frame: int, pictures: Tensor) -> None:
        self._events.put(Progress(frame, picture=_array(pictures[0])))


def draw(model: PageModel, story: Story, captions: list[str], settings: Settings) -> Drawing:
    """Draw the whole story, to the bit as mode=sample draws a story of that id alone."""
    settings.check()
    prompt = StoryPrompt(settings.name, captions, story.first)
    sampling, given = pipeline_arguments(settings.sampler), story.first is not None

    def work(hooks: dict) -> Drawn:
        with model.drawing(settings.sampler["scheduler"]) as pipeline:
            drawn = pipeline.draw([prompt], settings.seed, given, **sampling, **hooks)
        return next(drawn.stories())

    return Drawing(work)


def redraw(
    model: PageModel, story: Story, captions: list[str], settings: Settings, frame: int, rest: bool
) -> Drawing:
    """Draw a frame again, and with `rest` what comes after it; the others stay as they are."""
    number = story.tries.get(frame, 0)
    keep = _before(story, frame)
    if not rest:
        captions = captions[: frame + 1]
    return _draw_kept(model, captions, settings, keep, f"{frame}/{number}")


def draw_rest(
    model: PageModel, story: Story, captions: list[str], settings: Settings, frame: int
) -> Drawing:
    """Draw what comes after a frame that was chosen."""
    keep = _before(story, frame + 1)
    return _draw_kept(model, captions, settings, keep, f"{frame}/0")


def candidates(
    model: PageModel, story: Story, captions: list[str], settings: Settings, frame: int, count: int
) -> Iterator[Progress | tuple[int, Picture]]:
    """Draw a frame `count` times; yields progress, and each picture with its number."""
    keep = _before(story, frame)
    first = max(1, story.tries.get(frame, 0))  # 0 is what drawing it again draws first
    for number in range(first, first + count):
        work = _draw_kept(model, captions[: frame + 1], settings, keep, f"{frame}/{number}")
        for event in work:
            if event.picture is None:
                yield event
        yield number, work.result[0][frame]


def _before(story: Story, frame: int) -> dict[int, Picture]:
    """What the frame is drawn after; ValueError if it may not or cannot be drawn."""
    if frame == 0 and story.first is not None:
        raise ValueError("Frame 1 is the picture that was given: remove that to have one drawn.")
    missing = next((k for k in range(frame) if story.pictures[k] is None), None)
    if missing is not None:
        raise ValueError(f"Frame {missing + 1} is not drawn yet: draw it first, it is seen later.")
    keep = {k: story.pictures[k] for k in range(frame)}
    if frame and story.first is not None:
        keep[0] = story.first
    return keep


def _draw_kept(
    model: PageModel, captions: list[str], settings: Settings, keep: dict, noise: str
) -> Drawing:
    settings.check()
    sampling, name = pipeline_arguments(settings.sampler), f"{settings.name}/{noise}"

    def work(hooks: dict) -> Drawn:
        with model.drawing(settings.sampler["scheduler"]) as pipeline:
            drawn = pipeline.redraw(captions, keep, settings.seed, name, **sampling, **hooks)
        return next(drawn.stories())

    return Drawing(work)


def save(
    model: PageModel, story: Story, captions: list[str], settings: Settings, out: Path
) -> list[Path]:
    """Write a samples folder with strip, GIF, PDF and story file; their paths, the folder zipped.

    The folder is `out`/NAME, or NAME-2 and so on where that is taken: nothing is overwritten.
    """
    settings.check()
    for number, picture in enumerate(story.pictures, 1):
        if picture is None:
            raise ValueError(f"Frame {number} is not drawn yet: draw it, or remove it, then save.")
    if len({picture.shape for picture in story.pictures}) > 1:  # one was given after the others
        raise ValueError("The frames are of several sizes: draw the story again, then save.")
    asked = StoryPrompt(settings.name, captions, story.first).asked()
    content: dict = {"captions": captions}
    if story.first is not None:
        content["first_frame"] = "first_frame.png"
    if story.redrawn:
        asked["redrawn"] = story.redrawn
    of_all = {
        "seed": settings.seed,
        "given": int(story.first is not None),
        "checkpoint": model.digest,
        "sampler": settings.sampler,
    }
    with _new_folder(out, settings.name) as (folder, new):
        samples = SamplesFolder(new / "samples", of_all, asked={settings.name: asked})
        samples.add(
            settings.name,
            captions,
            np.stack(story.pictures),
            history_weights=story.history_weights(),
            captions_read=model.characters_read(captions),
        )
        written = write_story_files(StoryFiles(str(samples.path), str(new)))
        names = {".gif": "gif", ".png": "strip.png", ".pdf": "pdf"}
        files = [
            path.rename(new / f"{settings.name}.{names[path.suffix]}") for path in sorted(written)
        ]
        if story.first is not None:
            Image.fromarray(story.first).save(new / "first_frame.png")
        text = yaml.safe_dump({"story_id": settings.name, **content}, allow_unicode=True)
        story_file = new / f"{settings.name}.yaml"
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


def _array(frame: Tensor) -> Picture:
    return frame.permute(1, 2, 0).cpu().numpy()
