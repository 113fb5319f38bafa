"""The page's widgets: a card for each frame, settings, and what is done when they are used."""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random, randrange

import gradio as gr

from common.picture_files import read_picture
from datasets.cartoon.grammar import make_story
from page.model import PageModel
from page.story import Drawing, Settings, Story, candidates, draw, draw_rest, redraw, save
from page.texts import BLANK, EXAMPLE, understood

__all__ = ["MOST_FRAMES", "build_page"]

MOST_FRAMES = 12
STOPPED = "Stopped. What is drawn stays."
PAUSE = 0.3  # seconds between two reports: a browser on the same machine takes its time from us
TOOLS = {"left": "◀", "right": "▶", "gone": "✕", "again": "↻"}
# All that draws waits in one line, as there is one model; the rest is done at once.
IN_LINE = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "hidden"}
AT_ONCE = {"concurrency_limit": None, "show_progress": "hidden"}


def build_page(model: PageModel, out: Path) -> gr.Blocks:
    """The page, to be launched; stories are saved in `out`."""
    return _Page(model, out).blocks


def _told(handler: Callable) -> Callable:
    """What is wrong with somebody's input is said on the status line."""

    def said(page: _Page, error: Exception) -> dict:
        return {page.status: f"⚠ {' '.join(str(error).split())}"}

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


class _Page:
    def __init__(self, model: PageModel, out: Path) -> None:
        self.model, self.out = model, out
        self.cards, self.images, self.captions, self.tools = [], [], [], []
        with gr.Blocks(title="Story diffusion", delete_cache=(3600, 24 * 3600)) as self.blocks:
            self.story, self.chosen = gr.State(Story()), gr.State(0)
            gr.Markdown(
                f"# Story diffusion\nEvery frame is drawn after all captions and frames before it. "
                f"Model: `{model.path}`"
            )
            with gr.Row(elem_classes="cards"):
                for k in range(MOST_FRAMES):
                    self._card(k)
            self._buttons()
            self._settings()
            if model.is_cartoon:
                with gr.Accordion("What this model understands", open=True):
                    gr.Markdown(understood())
            self._wire()

    def _card(self, k: int) -> None:
        shown = len(Story().pictures)
        with gr.Column(min_width=150, visible=k < shown, elem_classes="card") as card:
            image = gr.Image(
                BLANK,
                interactive=False,
                format="png",
                show_label=False,
                buttons=["download", "fullscreen"],
                elem_id=f"frame-{k + 1}",
                elem_classes="frame",
            )
            caption = gr.Textbox(
                lines=3,
                max_lines=6,
                show_label=False,
                container=False,
                elem_id=f"caption-{k + 1}",
                placeholder=EXAMPLE[k % len(EXAMPLE)] if self.model.is_cartoon else "",
            )
            with gr.Row(elem_classes="tools"):
                tools = [
                    gr.Button(sign, size="sm", min_width=20, elem_id=f"{name}-{k + 1}")
                    for name, sign in TOOLS.items()
                ]
        self.cards.append(card)
        self.images.append(image)
        self.captions.append(caption)
        self.tools.append(tools)

    def _buttons(self) -> None:
        self.notices = gr.Markdown(elem_id="notices", visible=False)
        with gr.Row():
            self.draw = gr.Button("Draw the story", variant="primary", elem_id="draw", scale=2)
            self.stop = gr.Button("Stop", elem_id="stop", min_width=80)
            self.add = gr.Button("Add a frame", elem_id="add", min_width=120)
            self.tell = gr.Button("Tell me one", visible=self.model.is_cartoon, min_width=120)
            self.upload = gr.UploadButton(
                "First picture", elem_id="upload", file_types=["image"], min_width=140
            )
            self.take_away = gr.Button("Remove the picture", visible=False, elem_id="take-away")
            self.keep = gr.Button("Save", elem_id="save", min_width=80)
        self.status = gr.Markdown("Type a caption for each frame, then draw.", elem_id="status")
        self.gallery = gr.Gallery(
            label="Candidates: click the one to take",
            visible=False,
            columns=6,
            fit_columns=False,
            height="auto",
            object_fit="contain",
            allow_preview=False,
            format="png",
            elem_id="candidates",
        )
        self.files = gr.File(label="Saved", visible=False, file_count="multiple", elem_id="files")

    def _settings(self) -> None:
        was = self.model.defaults
        usual = was["num_inference_steps"]
        first_steps = was["first_frame_inference_steps"] or usual
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            with gr.Row():
                seed = gr.Number(
                    0, label="Seed", info="another one, other pictures", elem_id="seed"
                )
                steps = gr.Slider(1, 250, usual, step=1, label="Steps a frame")
                first = gr.Slider(1, 250, first_steps, step=1, label="Steps of the first frame")
                scale = gr.Slider(
                    0, 15, was["guidance_scale"], step=0.5, label="Guidance", info="1: none, faster"
                )
                sampler = gr.Dropdown(
                    self.model.samplers, value=was["scheduler"], label="Sampler", elem_id="sampler"
                )
            with gr.Row():
                name = gr.Textbox(
                    "my_story",
                    label="Name",
                    elem_id="name",
                    info="NAME.yaml drawn by main.py with this seed gives the same pictures",
                )
                self.count = gr.Slider(
                    1,
                    6,
                    1,
                    step=1,
                    label="Candidates of ↻",
                    elem_id="count",
                    info="2 or more: choose which one to take",
                )
                self.rest = gr.Checkbox(
                    False, label="↻ draws what follows the frame, too", elem_id="rest"
                )
        self.settings = [name, seed, steps, first, scale, sampler]

    def _wire(self) -> None:
        outputs = [
            self.story, *self.cards, *self.images, *self.captions, self.status, self.gallery,
            self.take_away, self.files,
        ]  # fmt: skip
        told, how = [self.story, *self.captions], self.settings
        draws = [self.draw.click(self._draw, [*told, *how], outputs, **IN_LINE)]
        for k, (left, right, gone, again) in enumerate(self.tools):
            for button, work in (
                (left, functools.partial(self._move, k, k - 1)),
                (right, functools.partial(self._move, k, k + 1)),
                (gone, functools.partial(self._remove, k)),
            ):
                button.click(work, told, outputs, **AT_ONCE)
            work, inputs = functools.partial(self._redraw, k), [self.count, self.rest, *told, *how]
            draws.append(again.click(work, inputs, outputs, **IN_LINE))
        choice = self.gallery.select(_number, None, self.chosen, **AT_ONCE)
        inputs = [self.chosen, self.rest, *told, *how]
        draws.append(choice.then(self._choose, inputs, outputs, **IN_LINE))
        self.stop.click(lambda: STOPPED, None, self.status, cancels=draws, **AT_ONCE)
        self.add.click(self._add, told, outputs, **AT_ONCE)
        self.tell.click(self._tell, told, outputs, **AT_ONCE)
        self.upload.upload(self._give, [self.story, self.upload], outputs, **AT_ONCE)
        self.take_away.click(self._take_away, self.story, outputs, **AT_ONCE)
        self.keep.click(self._save, [*told, *how], outputs, **AT_ONCE)
        changes = [caption.change for caption in self.captions]
        gr.on(changes, self._notice, told, self.notices, trigger_mode="always_last", **AT_ONCE)

    def _show(self, story: Story, captions: Sequence[str], status: str) -> dict:
        """Every card anew."""
        shown = {self.story: story, self.status: status}
        for k in range(MOST_FRAMES):
            there = k < len(story.pictures)
            shown[self.cards[k]] = gr.update(visible=there)
            shown[self.captions[k]] = captions[k] if there and k < len(captions) else ""
            if there:
                shown[self.images[k]] = _pictured(story, k)
        shown[self.gallery] = gr.update(visible=story.offered is not None)
        shown[self.take_away] = gr.update(visible=story.first is not None)
        return shown

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
        told = make_story(Random(randrange(10**9)), True, len(story.pictures))
        story.clear(len(story.pictures))
        return self._show(story, told.captions, "A story of the cartoon world: draw it.")

    @_told
    def _give(self, story: Story, path: str) -> dict:
        _refuse_busy(story)
        try:
            picture = read_picture(Path(path))
        except ValueError as error:
            reason = str(error).replace(f"{Path(path).parent}{os.sep}", "")
            raise ValueError(f"{reason[0].upper()}{reason[1:]}.") from error
        story.give(picture)
        return self._first(story, "Say in frame 1 what the picture shows, then draw.")

    @_told
    def _take_away(self, story: Story) -> dict:
        _refuse_busy(story)
        story.give(None)
        return self._first(story, "The first frame will be drawn.")

    def _first(self, story: Story, status: str) -> dict:
        return {
            self.story: story,
            self.images[0]: _pictured(story, 0),
            self.take_away: gr.update(visible=story.first is not None),
            self.status: status,
        }

    @_told
    def _draw(self, story: Story, *values) -> Iterator[dict]:
        captions, settings = self._read(story, values)
        drawing = draw(self.model, story, captions, settings)
        story.clear(len(captions))
        yield self._show(story, values[:MOST_FRAMES], "Drawing …")
        yield from self._watch(drawing, story, range(len(captions)), settings)
        story.pictures, story.drawn = drawing.result, settings  # a given one at our size
        yield self._first(story, "Drawn. ↻ below a frame draws it again, Save keeps the story.")

    @_told
    def _redraw(self, frame: int, count: int, rest: bool, story: Story, *values) -> Iterator[dict]:
        captions, settings = self._read(story, values)
        if count > 1:
            yield from self._offer(story, captions, settings, frame, int(count))
            return
        frames = range(frame, len(captions) if rest else frame + 1)
        drawing = redraw(self.model, story, captions, settings, frame, rest)
        yield from self._watch(drawing, story, frames, settings)
        story.note(settings, frames, story.tries.get(frame, 0))
        story.tries[frame] = story.tries.get(frame, 0) + 1
        what = f"Frame {frame + 1}{' and what follows are' if rest else ' is'} drawn again"
        yield {self.story: story, self.status: f"{what}; the others are as they were."}

    def _offer(self, story, captions, settings, frame: int, count: int) -> Iterator[dict]:
        found: list = []
        with story.working():
            for event in candidates(self.model, story, captions, settings, frame, count):
                if isinstance(event, tuple):
                    found.append(event)
                    shown = [(picture, str(n)) for n, (_, picture) in enumerate(found, 1)]
                    yield {self.gallery: gr.update(value=shown, visible=True)}
                elif event.step == 1:
                    which = f"Candidate {len(found) + 1} of {count} for frame {frame + 1} …"
                    yield {self.status: which}
        story.offered, story.tries[frame] = (frame, found), found[-1][0] + 1
        yield {self.story: story, self.status: "Click a candidate to take it, or go on without."}

    @_told
    def _choose(self, chosen: int, rest: bool, story: Story, *values) -> Iterator[dict]:
        captions, settings = self._read(story, values)
        if story.offered is None:
            return
        (frame, found), story.offered = story.offered, None
        number, story.pictures[frame] = found[chosen]
        story.note(settings, [frame], number)
        yield {
            self.story: story,
            self.images[frame]: _pictured(story, frame),
            self.gallery: gr.update(value=None, visible=False),
            self.status: f"Frame {frame + 1} is candidate {chosen + 1} now.",
        }
        after = range(frame + 1, len(captions))
        if rest and after:
            drawing = draw_rest(self.model, story, captions, settings, frame)
            yield from self._watch(drawing, story, after, settings)
            story.note(settings, after, number)
            yield {self.story: story, self.status: "What follows is drawn after it."}

    @_told
    def _save(self, story: Story, *values) -> dict:
        captions, settings = self._read(story, values)
        settings = replace(story.drawn or settings, name=settings.name)
        files = save(self.model, story, captions, settings, self.out)
        return {
            self.files: gr.update(value=list(map(str, files)), visible=True),
            self.status: f"Saved in `{files[0].parent}`.",
        }

    def _watch(
        self, drawing: Drawing, story: Story, frames: Sequence[int], settings: Settings
    ) -> Iterator[dict]:
        """Show each frame as soon as it is drawn, and now and then which step is being done."""
        said = 0.0
        with story.working():
            for event in drawing:
                k = event.frame
                if event.picture is not None:
                    story.pictures[k] = event.picture
                    yield {self.images[k]: _pictured(story, k)}
                elif time.monotonic() > said + PAUSE or event.step == 1:
                    said = time.monotonic()
                    yield {self.status: _progress(event.step, k, frames[-1] + 1, settings)}

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


def _pictured(story: Story, frame: int) -> dict:
    picture, given = story.pictures[frame], frame == 0 and story.first is not None
    classes = ["frame", *["given"] * given]
    return gr.update(value=BLANK if picture is None else picture, elem_classes=classes)
