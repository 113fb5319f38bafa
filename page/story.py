"""A story as it is on the page: drawn frame by frame, and mended."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from building import pipeline_arguments
from datasets.story_hdf5 import is_story_id
from datasets.story_prompts import StoryPrompt
from models.pipeline import StoryPipeline
from page.model import PageModel

__all__ = ["Drawing", "Origin", "Progress", "Settings", "Story", "candidates", "draw", "draw_rest",
           "redraw"]  # fmt: skip

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


@dataclass(frozen=True)
class Origin:
    """What frames were drawn from: a caption may be edited since, or the page's model replaced.

    candidate: the number of their noise, None for what was drawn as the whole story.
    """

    settings: Settings
    captions: list[str]
    digest: str  # of the model
    read: list[int | None]  # `PageModel.characters_read`
    first: Picture | None
    candidate: int | None = None


@dataclass
class Story:
    """What stands on the page: a picture or None for each caption; `first` was given, not drawn."""

    pictures: list[Picture | None] = field(default_factory=lambda: [None] * 5)
    first: Picture | None = None  # of its own size
    references: Sequence[Picture] = ()  # of a data set's story: its own pictures
    drawn: Settings | None = None  # how the whole was drawn, or its first frame that was
    tries: dict[int, int] = field(default_factory=dict)  # frame -> how often it was drawn anew
    # frame -> its number as it was drawn, and from what
    made: dict[int, tuple[int, Origin]] = field(default_factory=dict)
    looked: dict[int, list[float]] = field(default_factory=dict)  # frame -> at each earlier one
    # frame, and its candidates: each with its number and what it was drawn from
    offered: tuple[int, list[tuple[int, Picture, Origin]]] | None = None
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
        self.pictures, self.made = [None] * frames, {}
        self.drawn = None
        self.give(self.first)

    def give(self, picture: Picture | None) -> None:
        """Start from a picture, or with None from a frame that is to be drawn."""
        self.first = self.pictures[0] = picture
        self.made.pop(0, None)
        self._forget()

    def remove(self, frame: int) -> None:
        if len(self.pictures) == 1:
            raise ValueError("A story has one frame or more: change its caption instead.")
        if frame == 0 and self.first is not None:
            raise ValueError("Frame 1 is the picture that was given: remove that first.")
        self._arrange([k for k in range(len(self.pictures)) if k != frame])

    def move(self, frame: int, to: int) -> None:
        """Let two frames change places."""
        if not 0 <= to < len(self.pictures):
            where = "last" if to > frame else "first"
            raise ValueError(f"Frame {frame + 1} is the {where} one already.")
        if self.first is not None and 0 in (frame, to):
            raise ValueError("The picture that was given stays first.")
        order = list(range(len(self.pictures)))
        order[frame], order[to] = to, frame
        self._arrange(order)

    def put(self, frame: int, picture: Picture, origin: Origin) -> None:
        """Show a frame that was drawn."""
        self.pictures[frame], self.made[frame] = picture, (frame, origin)
        self.looked.pop(frame, None)
        self.drawn = self.drawn or origin.settings

    def notes(self) -> dict:
        """What manifests say of frames that were drawn again, as `redraw.redraw` does, or have had
        other numbers."""
        redrawn = {
            str(k): {"seed": how.seed, "candidate": of.candidate, "sampler": how.sampler}
            for k, (_, of) in self.made.items()
            for how in [of.settings]
            if of.candidate is not None
        }
        drawn_as = [self.made.get(k, (k,))[0] for k in range(len(self.pictures))]
        moved = drawn_as != list(range(len(self.pictures)))
        notes = {"redrawn": redrawn} if redrawn else {}
        return {**notes, "drawn_as": drawn_as} if moved else notes

    def check_drawn(self, captions: Sequence[str], model: str) -> str:
        """The digest of the model that drew the frames; ValueError if they are not all of one
        model, these captions and this first picture. model: that of the page, which may be
        another by now."""
        models = {one.digest for _, one in self.made.values()}
        by = models.pop() if len(models) == 1 else model
        for k, (place, one) in sorted(self.made.items()):
            for what, same in (
                ("caption", one.captions[place] == captions[k]),
                ("first picture", one.first is self.first),
                ("model", one.digest == by),
            ):
                if not same:
                    raise ValueError(
                        f"Frame {k + 1} was drawn with another {what}: draw it, or the whole "
                        f"story, again, then save."
                    )
        return by

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

    def _arrange(self, order: Sequence[int]) -> None:
        """Frames get other numbers, or are left out."""
        self.pictures = [self.pictures[k] for k in order]
        self.made = {n: self.made[k] for n, k in enumerate(order) if k in self.made}
        self.references = ()
        self._forget()

    def _forget(self) -> None:
        """Frames may have other numbers: what was noted by number does not hold any more."""
        self.tries, self.looked, self.offered = {}, {}, None


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

    origin: what it draws from. Whoever stops iterating stops the work, at its next step. What it
    raises is raised here.
    """

    def __init__(self, work: Callable[[dict], Any], origin: Origin) -> None:
        self.result: Any = None
        self.origin = origin
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

    return Drawing(work, _origin(model, story, captions, settings, None))


def redraw(
    model: PageModel, story: Story, captions: list[str], settings: Settings, frame: int, rest: bool
) -> Drawing:
    """Draw a frame again, and with `rest` what comes after it; the others stay as they are."""
    number = story.tries.get(frame, 0)
    keep = _before(story, frame)
    if not rest:
        captions = captions[: frame + 1]
    origin = _origin(model, story, captions, settings, number)
    return _draw_kept(model, story, origin, keep, f"{frame}/{number}")


def draw_rest(
    model: PageModel, story: Story, captions: list[str], settings: Settings, frame: int, chosen: int
) -> Drawing:
    """Draw what comes after a frame that was chosen, whose number they are noted with."""
    keep = _before(story, frame + 1)
    origin = _origin(model, story, captions, settings, chosen)
    return _draw_kept(model, story, origin, keep, f"{frame}/0")


def candidates(
    model: PageModel, story: Story, captions: list[str], settings: Settings, frame: int, count: int
) -> Iterator[Progress | tuple[int, Picture, Origin]]:
    """Draw a frame `count` times; yields progress, and each picture with number and origin."""
    keep = _before(story, frame)
    first = max(1, story.tries.get(frame, 0))  # 0 is what drawing it again draws first
    for number in range(first, first + count):
        origin = _origin(model, story, captions[: frame + 1], settings, number)
        work = _draw_kept(model, story, origin, keep, f"{frame}/{number}")
        for event in work:
            if event.picture is None:
                yield event
        yield number, work.result[0][frame], origin


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


def _origin(
    model: PageModel, story: Story, captions: list[str], settings: Settings, candidate: int | None
) -> Origin:
    settings.check()
    read = model.characters_read(captions)
    return Origin(settings, captions, model.digest, read, story.first, candidate)


def _draw_kept(model: PageModel, story: Story, origin: Origin, keep: dict, noise: str) -> Drawing:
    how, captions = origin.settings, origin.captions
    sampling = pipeline_arguments(how.sampler)
    name = f"{(story.drawn or how).name}/{noise}"  # the story's, whatever is typed by now

    def work(hooks: dict) -> Drawn:
        with model.drawing(how.sampler["scheduler"]) as pipeline:
            drawn = pipeline.redraw(captions, keep, how.seed, name, **sampling, **hooks)
        return next(drawn.stories())

    return Drawing(work, origin)


def _array(frame: Tensor) -> Picture:
    return frame.permute(1, 2, 0).cpu().numpy()
