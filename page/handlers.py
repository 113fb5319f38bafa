"""What is done when the page's widgets are used."""

from __future__ import annotations

import functools
import inspect
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random, randrange

import gradio as gr

from common.picture_files import read_picture
from common.terminal import in_one_line
from datasets.cartoon.grammar import make_story
from datasets.cartoon.worlds import WORLDS
from page.learning import learn
from page.model import PageModel, load_model
from page.saving import save
from page.story import Drawing, Settings, Story, candidates, draw, draw_rest, redraw
from page.texts import BLANK
from page.widgets import MOST_FRAMES, Widgets

__all__ = ["build_page"]

STOPPED = "Stopped. What is drawn stays."
WAITING = (
    "Somebody else teaches the model a character: yours comes after it, or press Stop learning."
)
TURN = 1.0  # seconds after which who waits is told so, and can stop
PAUSE = 0.3  # seconds between two reports: a browser on the same machine takes its time from us
# All that draws waits in one line, as there is one model; the rest is done at once.
IN_LINE = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "hidden"}
AT_ONCE = {"concurrency_limit": None, "show_progress": "hidden"}


def build_page(model: PageModel, out: Path) -> gr.Blocks:
    """The page, to be launched; stories are saved in `out`."""
    with gr.Blocks(title="Story diffusion", delete_cache=(3600, 24 * 3600)) as blocks:
        _Page(model, out)
    return blocks


def _told(handler: Callable) -> Callable:
    """What is wrong with somebody's input is said on the status line."""

    def said(page: _Page, error: Exception) -> dict:
        return {page.status: f"⚠ {in_one_line(error)}"}

    @functools.wraps(handler)
    def steps(page: _Page, *values) -> Iterator[dict]:
        try:
            yield from handler(page, *values)
        except (ValueError, OSError) as error:
            yield said(page, error)

    @functools.wraps(handler)
    def whole(page: _Page, *values) -> dict:
        try:
            return handler(page, *values)
        except (ValueError, OSError) as error:
            return said(page, error)

    return steps if inspect.isgeneratorfunction(handler) else whole


class _Page(Widgets):
    def __init__(self, model: PageModel, out: Path) -> None:
        super().__init__(model)
        self.out, self.teaching = out, threading.Lock()
        self._wire()

    def _wire(self) -> None:
        # A field loses what is typed while an event is at work that may change it: each event
        # names only what it changes, drawing no field at all. The status is changed last.
        drawn = [
            self.story, *self.images, *self.looked, self.gallery, self.take_away, self.status,
        ]  # fmt: skip
        cards = [*self.cards, *self.captions, *self.references, *drawn]
        told, how = [self.story, *self.captions], self.settings
        draws = [self.draw.click(self._draw, [*told, *how], drawn, **IN_LINE)]
        for k, (left, right, gone, again) in enumerate(self.tools):
            for button, work in (
                (left, functools.partial(self._move, k, k - 1)),
                (right, functools.partial(self._move, k, k + 1)),
                (gone, functools.partial(self._remove, k)),
            ):
                button.click(work, told, cards, **AT_ONCE)
            work, inputs = functools.partial(self._redraw, k), [self.count, self.rest, *told, *how]
            draws.append(again.click(work, inputs, drawn, **IN_LINE))
        choice = self.gallery.select(_number, None, self.chosen, **AT_ONCE)
        inputs = [self.chosen, self.rest, *told, *how]
        draws.append(choice.then(self._choose, inputs, drawn, **IN_LINE))
        self.stop.click(lambda: STOPPED, None, self.status, cancels=draws, **AT_ONCE)
        self.add.click(self._add, told, cards, **AT_ONCE)
        self.tell.click(self._tell, told, cards, **AT_ONCE)
        shelf, seen = [self.number, self.given, self.story], [self.number, self.settings[0], *cards]
        for button, on in ((self.browse, 0), (self.next, 1)):
            button.click(functools.partial(self._browse, on), shelf, seen, **AT_ONCE)
        self.upload.upload(self._give, [self.story, self.upload], drawn, **AT_ONCE)
        self.take_away.click(self._take_away, self.story, drawn, **AT_ONCE)
        told_of = [self.word, self.class_word, self.pronoun, self.pictures]
        learns = self.learn.click(self._learn, told_of, [self.learning, self.title], **AT_ONCE)
        self.leave.click(lambda: "Stopped.", None, self.learning, cancels=[learns], **AT_ONCE)
        self.keep.click(self._save, [*told, *how], [self.status, self.files], **AT_ONCE)
        changes = [caption.change for caption in self.captions]
        gr.on(changes, self._notice, told, self.notices, trigger_mode="always_last", **AT_ONCE)

    def _show(self, story: Story, captions: Sequence[str], status: str) -> dict:
        """Every card anew."""
        shown = self._pictures(story, status)
        for k in range(MOST_FRAMES):
            there = k < len(story.pictures)
            shown[self.cards[k]] = gr.update(visible=there)
            shown[self.captions[k]] = captions[k] if there and k < len(captions) else ""
            own = story.references[k] if k < len(story.references) else None
            shown[self.references[k]] = gr.update(value=own, visible=own is not None)
        return shown

    def _pictures(self, story: Story, status: str) -> dict:
        """What is drawn, and which earlier frames each frame looked at."""
        return {
            self.story: story,
            self.status: status,
            **{self.images[k]: _pictured(story, k) for k in range(len(story.pictures))},
            self.gallery: gr.update(visible=story.offered is not None),
            self.take_away: gr.update(visible=story.first is not None),
            **self._looks(story),
        }

    def _looks(self, story: Story) -> dict:
        """Which earlier frames each frame looked at."""
        return {
            self.looked[k]: gr.update(value=_looked(story, k), visible=any(story.looked.get(k, ())))
            for k in range(len(story.pictures))
        }

    def _notice(self, story: Story, *texts: str) -> dict:
        said = self.model.notices([text or "" for text in texts[: len(story.pictures)]])
        return gr.update(value="<br>".join(f"{one}" for one in said), visible=bool(said))

    @_told
    def _add(self, story: Story, *captions: str) -> dict:
        _refuse_busy(story)
        if len(story.pictures) == MOST_FRAMES:
            raise ValueError(
                f"The page has room for {MOST_FRAMES} frames: draw longer stories with main.py."
            )
        story.pictures.append(None)
        story.references = ()
        return self._show(story, captions, f"Frame {len(story.pictures)} is added.")

    @_told
    def _remove(self, frame: int, story: Story, *texts: str) -> dict:
        _refuse_busy(story)
        captions = list(texts)
        story.remove(frame)
        del captions[frame]
        return self._show(story, captions, f"Frame {frame + 1} is removed.")

    @_told
    def _move(self, frame: int, to: int, story: Story, *texts: str) -> dict:
        _refuse_busy(story)
        captions = list(texts)
        story.move(frame, to)
        captions[frame], captions[to] = captions[to], captions[frame]
        return self._show(story, captions, f"Frames {frame + 1} and {to + 1} changed places.")

    @_told
    def _tell(self, story: Story, *_: str) -> dict:
        _refuse_busy(story)
        teller = WORLDS[self.model.world].teller
        told = make_story(Random(randrange(10**9)), True, len(story.pictures), teller)
        story.references = ()
        story.clear(len(story.pictures))
        return self._show(story, told.captions, "A story of the cartoon world: draw it.")

    @_told
    def _browse(self, on: int, number: int | None, give: bool, story: Story) -> dict:
        _refuse_busy(story)
        number = number and number + on
        prompt, count = self.model.references.story(number)
        frames = len(prompt.captions)
        if frames > MOST_FRAMES:
            raise ValueError(
                f"Story {number} has {frames} frames, the page has room for {MOST_FRAMES}: draw it "
                f"with main.py."
            )
        story.references, story.first = prompt.reference_frames, None
        story.clear(frames)
        if give:
            story.give(prompt.first_frame)
        said = f"Story {number} of {count}: draw it to see it beside its own pictures."
        return {
            **self._show(story, prompt.captions, said),
            self.number: number,
            self.settings[0]: prompt.story_id,
        }

    def _learn(self, word: str, class_word: str, pronoun: str, pictures: list[str]) -> Iterator:
        """The model of the page becomes the one that knows the character: one at a time, as each
        is learnt beside those before."""
        while not self.teaching.acquire(timeout=TURN):
            yield {self.learning: WAITING}
        try:
            old = self.model.path
            lines = learn(old, word, class_word, pronoun, pictures, self.out, self.model.base)
            path = yield from self._learning(lines)
            kind = self.model.device.type
            self.model = load_model(path, "gpu" if kind == "cuda" else kind)
        except (ValueError, OSError) as error:
            yield {self.learning: f"⚠ {in_one_line(error)}"}
            return
        finally:
            self.teaching.release()
        said = f"Learnt: say {word.strip()} in a caption. The model is `{path}`, its base `{old}`."
        yield {self.learning: said, self.title: self.told_title()}

    def _learning(self, lines: Generator[str, None, Path]) -> Generator[dict, None, Path]:
        with closing(lines):
            while True:
                try:
                    yield {self.learning: f"`{next(lines)}`"}
                except StopIteration as end:
                    return end.value

    @_told
    def _give(self, story: Story, path: str) -> dict:
        _refuse_busy(story)
        try:
            picture = self.model.given_frame(read_picture(Path(path)))
        except ValueError as error:
            reason = str(error).replace(f"{Path(path).parent}{os.sep}", "")
            raise ValueError(f"{reason[0].upper()}{reason[1:]}.") from error
        story.give(picture)
        return self._pictures(story, "Say in frame 1 what the picture shows, then draw.")

    @_told
    def _take_away(self, story: Story) -> dict:
        _refuse_busy(story)
        story.give(None)
        return self._pictures(story, "The first frame will be drawn.")

    @_told
    def _draw(self, story: Story, *values) -> Iterator[dict]:
        captions, settings = self._read(story, values)
        drawing = draw(self.model, story, captions, settings)
        story.clear(len(captions))
        yield self._pictures(story, "Drawing …")
        yield from self._watch(drawing, story, range(len(captions)))
        pictures, looked = drawing.result
        story.put(0, pictures[0], drawing.origin)  # a given one at our size
        story.saw(range(len(captions)), looked)
        said = "Drawn. ↻ below a frame draws it again, Save keeps the story."
        yield self._pictures(story, said)

    @_told
    def _redraw(self, frame: int, count: int, rest: bool, story: Story, *values) -> Iterator[dict]:
        captions, settings = self._read(story, values)
        if count > 1:
            yield from self._offer(story, captions, settings, frame, int(count))
            return
        frames = range(frame, len(captions) if rest else frame + 1)
        drawing = redraw(self.model, story, captions, settings, frame, rest)
        yield from self._watch(drawing, story, frames)
        story.saw(frames, drawing.result[1])
        story.tries[frame] = story.tries.get(frame, 0) + 1
        what = f"Frame {frame + 1}{' and what follows are' if rest else ' is'} drawn again"
        said = f"{what}; the others are as they were."
        yield {self.story: story, self.status: said, **self._looks(story)}

    def _offer(self, story, captions, settings, frame: int, count: int) -> Iterator[dict]:
        found: list = []
        with story.working():
            for event in candidates(self.model, story, captions, settings, frame, count):
                if isinstance(event, tuple):
                    found.append(event)  # each at once: who stops may click those that came
                    story.offered, story.tries[frame] = (frame, found), event[0] + 1
                    shown = [(picture, str(n)) for n, (_, picture, _) in enumerate(found, 1)]
                    yield {self.gallery: gr.update(value=shown, visible=True)}
                elif event.step == 1:
                    which = f"Candidate {len(found) + 1} of {count} for frame {frame + 1} …"
                    yield {self.status: which}
        yield {self.story: story, self.status: "Click a candidate to take it, or go on without."}

    @_told
    def _choose(self, chosen: int, rest: bool, story: Story, *values) -> Iterator[dict]:
        captions, settings = self._read(story, values)
        if story.offered is None or chosen >= len(story.offered[1]):
            return
        (frame, found), story.offered = story.offered, None
        number, picture, origin = found[chosen]
        story.put(frame, picture, origin)
        yield {
            **self._looks(story),
            self.story: story,
            self.images[frame]: _pictured(story, frame),
            self.gallery: gr.update(value=None, visible=False),
            self.status: f"Frame {frame + 1} is candidate {chosen + 1} now.",
        }
        after = range(frame + 1, len(captions))
        if rest and after:
            drawing = draw_rest(self.model, story, captions, settings, frame, number)
            yield from self._watch(drawing, story, after)
            story.saw(after, drawing.result[1])
            said = "What follows is drawn after it."
            yield {self.story: story, self.status: said, **self._looks(story)}

    @_told
    def _save(self, story: Story, *values) -> dict:
        captions, settings = self._read(story, values)
        files = save(self.model, story, captions, settings, self.out)
        return {
            self.files: gr.update(value=list(map(str, files)), visible=True),
            self.status: f"Saved in `{files[0].parent}`.",
        }

    def _watch(self, drawing: Drawing, story: Story, frames: Sequence[int]) -> Iterator[dict]:
        """Show each frame as soon as it is drawn, and now and then which step is being done."""
        said = 0.0
        with story.working():
            for event in drawing:
                k = event.frame
                if event.picture is not None:
                    story.put(k, event.picture, drawing.origin)
                    yield {self.images[k]: _pictured(story, k)}
                elif time.monotonic() > said + PAUSE or event.step == 1:
                    said = time.monotonic()
                    how, last = drawing.origin.settings, frames[-1] + 1
                    yield {self.status: _progress(event.step, k, last, how)}

    def _read(self, story: Story, values: Sequence) -> tuple[list[str], Settings]:
        """Captions and settings; ValueError if the story cannot be drawn with them now."""
        _refuse_busy(story)
        captions = story.check(values[: len(story.pictures)])
        name, seed, steps, first, scale, sampler = values[MOST_FRAMES:]
        how = {
            **self.model.defaults,
            "scheduler": sampler,
            "num_inference_steps": steps,
            "first_frame_inference_steps": None if first == steps else first,
            "guidance_scale": float(scale),
        }
        settings = Settings((name or "").strip(), seed, how)
        settings.check()
        return captions, settings


def _number(event: gr.SelectData) -> int:
    return event.index


def _refuse_busy(story: Story) -> None:
    if story.busy:
        raise ValueError("This story is being drawn: wait for it, or press Stop.")


def _progress(step: int, frame: int, frames: int, settings: Settings) -> str:
    steps = settings.sampler["num_inference_steps"]
    if frame == 0:
        steps = settings.sampler["first_frame_inference_steps"] or steps
    done = min(12, round(12 * step / steps))
    return f"`{'█' * done}{'░' * (12 - done)}` Frame {frame + 1} of {frames}, step {step}"


def _looked(story: Story, frame: int) -> str:
    shares = enumerate(story.looked.get(frame, ()), 1)
    return "looked at " + ", ".join(f"{k}: {share:.0%}" for k, share in shares if share)


def _pictured(story: Story, frame: int) -> dict:
    picture, given = story.pictures[frame], frame == 0 and story.first is not None
    classes = ["frame", *["given"] * given]
    return gr.update(value=BLANK if picture is None else picture, elem_classes=classes)
