"""What the page saves of a story, without a browser."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from on_the_page import alike, frames_of, put, typed
from outcomes import CAPTIONS, picture
from PIL import Image

from evaluation.samples import read_samples
from page.handlers import _Page
from page.saving import save
from page.story import Origin, Settings, Story, draw


def test_a_given_picture_stays_and_the_story_is_saved(
    model, settings, sampled, own_story, tmp_path
):
    given = np.random.default_rng(0).integers(0, 255, (96, 80, 3), dtype=np.uint8)
    Image.fromarray(given).save(tmp_path / "given.png")
    story = Story([None] * 3)
    story.give(given)
    drawing = draw(model, story, CAPTIONS, settings)
    list(drawing)
    put(story, drawing)
    own = own_story("my_story", first_frame="given.png")
    folder, _ = sampled(own, "task=continuation")
    assert alike(story.pictures, frames_of(folder))
    story.put(2, story.pictures[2], replace(drawing.origin, candidate=4))
    files = save(model, story, CAPTIONS, settings, tmp_path / "out")
    assert [path.name for path in files] == [
        "my_story.gif", "my_story.strip.png", "my_story.pdf", "my_story.yaml", "samples.zip",
    ]  # fmt: skip
    (kept,) = read_samples(files[0].parent / "samples").stories
    assert kept.given == 1 and kept.captions == CAPTIONS
    assert alike([picture(path) for path in kept.frames], story.pictures)
    manifest = (files[0].parent / "samples/manifest.jsonl").read_text()
    assert json.loads(manifest)["redrawn"] == {
        "2": {"seed": 0, "candidate": 4, "sampler": settings.sampler}
    }
    # The story file that lies beside draws it again.
    again, _ = sampled(f"story={files[3]}", "task=continuation", to="again")
    assert alike(frames_of(again), frames_of(folder))
    other = save(model, story, CAPTIONS, settings, tmp_path / "out")
    assert other[0].parent.name == "my_story-2" and files[0].exists()


def test_a_saved_story_says_what_mode_sample_says(model, settings, sampled, own_story, tmp_path):
    captions = [*CAPTIONS[:2], "She sleeps" + " and sleeps" * 20 + "."]
    folder, entries = sampled(own_story("my_story", captions=captions))
    assert entries["my_story"]["captions_read"][2] < len(captions[2])
    frames = [frame.astype(np.uint8) for frame in frames_of(folder)]
    story, read = Story([None] * 3), model.characters_read(captions)
    for k, frame in enumerate(frames):
        story.put(k, frame, Origin(settings, captions, model.digest, read, None))

    def saved():
        files = save(model, story, captions, settings, tmp_path / "out")
        return json.loads((files[0].parent / "samples/manifest.jsonl").read_text())

    assert saved() == entries["my_story"]
    weights = [[0, 0, 0], [1, 0, 0], [0.25, 0.75, 0]]
    story.saw(range(3), weights)
    assert saved() == {**entries["my_story"], "history_weights": weights}


def test_a_chosen_candidate_is_noted_as_it_was_drawn(settings):
    """Though other settings are typed by the time it is chosen."""
    black = np.zeros((8, 8, 3), np.uint8)
    origin = Origin(settings, CAPTIONS, "", [None] * 3, None, candidate=2)
    story = Story([black] * 3, offered=(1, [(1, black, origin), (2, black, origin)]))
    later = Settings("my_story", 9, settings.sampler)
    page = SimpleNamespace(
        _read=lambda *_: (CAPTIONS, later), _looks=lambda _: {}, story=0, images=range(1, 4),
        gallery=4, status=5,
    )  # fmt: skip
    list(_Page._choose(page, 1, False, story))
    how = {"seed": 0, "candidate": 2, "sampler": settings.sampler}
    assert story.notes() == {"redrawn": {"1": how}}


def saved_line(page, story, fields):
    (shown,) = [page._save(story, *fields)]
    assert page.files in shown, shown
    (manifest,) = Path(shown[page.files]["value"][0]).parent.rglob("manifest.jsonl")
    return json.loads(manifest.read_text())


def test_a_saved_story_says_what_it_was_drawn_with(page, settings):
    """Though the model was replaced, as learning does, and another name and seed are typed."""
    story, drawn_by = Story([None] * 3), page.model
    list(page._draw(story, *typed(settings)))
    page.model = copy.copy(drawn_by)
    page.model.digest = "another"
    line = saved_line(page, story, typed(Settings("other", 9, settings.sampler)))
    assert (page.out / "other").is_dir()
    assert (line["story_id"], line["seed"]) == ("my_story", 0)
    assert (line["checkpoint"], line["captions"]) == (drawn_by.digest, CAPTIONS)


def test_what_is_no_story_of_one_drawing_is_not_saved(page, settings):
    def refused(fields):
        return page._save(story, *fields)[page.status]

    story, fields = Story([None] * 3), typed(settings)
    list(page._draw(story, *fields))
    said = refused(typed(settings, [CAPTIONS[0], "Luna jumps.", CAPTIONS[2]]))
    assert said.startswith("⚠ Frame 2 was drawn with another caption: draw it, or")
    page.model = copy.copy(page.model)
    page.model.digest = "another"
    list(page._redraw(2, 1, False, story, *fields))
    assert "Frame 1 was drawn with another model: draw it" in refused(fields)
    list(page._redraw(0, 1, True, story, *fields))
    assert saved_line(page, story, fields)["checkpoint"] == "another"
    story.give(np.zeros((64, 64, 3), np.uint8))
    assert "Frame 2 was drawn with another first picture" in refused(fields)


def test_a_frame_that_was_drawn_before_a_stop_is_noted(page, settings):
    story, again = Story([None] * 3), typed(Settings("other", 9, settings.sampler))
    list(page._draw(story, *typed(settings)))
    old = list(story.pictures)
    work = page._redraw(1, 1, True, story, *again)
    while np.array_equal(story.pictures[1], old[1]):
        next(work)
    work.close()
    line = saved_line(page, story, again)
    assert line["story_id"] == "my_story" and line["seed"] == 0
    assert line["redrawn"]["1"]["seed"] == 9 and "0" not in line["redrawn"]
    # The name it was drawn with is what the noise of its frames hangs on.
    story.tries.clear()
    list(page._redraw(1, 1, False, story, *typed(Settings("my_story", 9, settings.sampler))))
    story.tries.clear()
    same = story.pictures[1]
    list(page._redraw(1, 1, False, story, *again))
    assert np.array_equal(story.pictures[1], same)
