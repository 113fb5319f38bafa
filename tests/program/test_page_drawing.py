"""What the page draws, without a browser: what the program draws."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from on_the_page import alike, finished, frames_of, typed
from outcomes import CAPTIONS, picture

from datasets.cartoon.grammar import vocabulary
from evaluation.samples import read_samples
from page.model import load_model
from page.saving import save
from page.story import Origin, Settings, Story, candidates, draw, draw_rest, redraw


def test_frames_come_one_by_one_and_are_what_mode_sample_draws(told, sampled, own_story):
    story, events = told
    pictures = [event.picture for event in events if event.picture is not None]
    assert [event.frame for event in events] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [event.step for event in events] == [1, 2, 0] * 3
    folder, _ = sampled(own_story("my_story"))
    assert alike(pictures, frames_of(folder)) and alike(pictures, story.pictures)


def test_an_exported_folder_draws_the_same(told, exported, settings):
    folder = load_model(exported, "cpu")
    assert (folder.defaults, folder.is_cartoon) == (settings.sampler, True)
    assert folder.known_words == vocabulary()
    assert alike(finished(draw(folder, Story([None] * 3), CAPTIONS, settings)), told[0].pictures)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
@pytest.mark.long
def test_every_sampler_is_the_programs(model, settings, sampled, own_story, scheduler):
    how = Settings("my_story", 3, {**settings.sampler, "scheduler": scheduler})
    drawn = finished(draw(model, Story([None] * 3), CAPTIONS, how))
    folder, _ = sampled(own_story("my_story"), f"scheduler={scheduler}", "seed=3")
    assert alike(drawn, frames_of(folder))


@pytest.mark.long
def test_a_frame_is_drawn_again_as_by_redraw(told, model, settings, sampled, own_story):
    story, _ = told
    sampled(own_story("my_story"))
    folder, _ = sampled(own_story("my_story"), "redraw.frame=1", "seed=9")
    again = Settings("my_story", 9, settings.sampler)
    rest = finished(redraw(model, story, CAPTIONS, again, 1, rest=True))
    assert alike(rest, frames_of(folder)) and not np.array_equal(rest[2], story.pictures[2])
    alone = finished(redraw(model, story, CAPTIONS, again, 1, rest=False))
    assert alike(alone, rest[:2])
    story.tries[1] = 1
    assert not alike(finished(redraw(model, story, CAPTIONS, again, 1, False))[1:], alone[1:])


@pytest.mark.long
def test_candidates_are_those_of_redraw_and_go_on(told, model, settings, sampled, own_story):
    story, _ = told
    folder, _ = sampled(own_story("my_story"))
    sampled(own_story("my_story"), "redraw.frame=1", "redraw.candidates=2")
    offered = [
        event for event in candidates(model, story, CAPTIONS, settings, 1, 2)
        if isinstance(event, tuple)
    ]  # fmt: skip
    assert [number for number, *_ in offered] == [1, 2]
    for number, shown, _ in offered:
        path = folder / f"my_story/candidates/0001-{number}.png"
        assert np.array_equal(picture(path), shown)
    story.pictures[1] = offered[1][1]
    sampled(own_story("my_story"), "redraw.frame=1", "redraw.candidates=2", "redraw.choose=2")
    after = finished(draw_rest(model, story, CAPTIONS, settings, 1, 2))
    assert alike(after, frames_of(folder))


def test_two_at_once_get_what_each_gets_alone(model, settings, told):
    others = Settings("other", 5, {**settings.sampler, "scheduler": "dpm++"})
    alone = finished(draw(model, Story([None] * 3), CAPTIONS, others))
    found = {}

    def visit(how):
        found[how.name] = finished(draw(model, Story([None] * 3), CAPTIONS, how))

    visitors = [threading.Thread(target=visit, args=[how]) for how in (settings, others)]
    for one in visitors:
        one.start()
    for one in visitors:
        one.join()
    assert alike(found["my_story"], told[0].pictures) and alike(found["other"], alone)


def test_who_stops_looking_stops_the_work(model, settings):
    drawing = iter(draw(model, Story([None] * 3), CAPTIONS, settings))
    next(drawing)
    assert model.lock.locked()
    drawing.close()
    assert not model.lock.locked()


def given(story):
    story.give(np.zeros((8, 8, 3), np.uint8))


def drawn_one(story):
    story.pictures[0] = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "work, says",
    [
        (lambda s, m, h: s.check(["", "  ", ""]), "There is no caption: type"),
        (lambda s, m, h: s.check(["Pip waves.", "", "He waves."]), "Frame 2 has no caption"),
        (lambda s, m, h: s.check(["a" * 1001]), "frame 1 has 1001 characters: shorten"),
        (lambda s, m, h: (given(s), s.check(["Pip waves."])), "add a frame to be drawn"),
        (lambda s, m, h: (given(s), s.move(0, 1)), "The picture that was given stays first"),
        (lambda s, m, h: (given(s), s.remove(0)), "remove that first"),
        (lambda s, m, h: s.move(2, 3), "Frame 3 is the last one already"),
        (lambda s, m, h: (s.remove(0), s.remove(0), s.remove(0)), "has one frame or more"),
        (lambda s, m, h: redraw(m, s, CAPTIONS, h, 2, False), "Frame 1 is not drawn yet"),
        (lambda s, m, h: (given(s), redraw(m, s, CAPTIONS, h, 0, False)), "was given: remove"),
        (lambda s, m, h: (drawn_one(s), save(m, s, CAPTIONS, h, Path("out"))), "Frame 2 is not"),
        (lambda s, m, h: Settings("a/b", 0, h.sampler).check(), "'a/b' cannot name a folder"),
        (lambda s, m, h: Settings("a", -1, h.sampler).check(), "The seed is -1"),
        (lambda s, m, h: Settings("a", 0.5, h.sampler).check(), "The seed is 0.5"),
        (lambda s, m, h: Settings("a", 2**32, h.sampler).check(), "from 0 to 4294967295"),
        (lambda s, m, h: Settings("a", float("inf"), h.sampler).check(), "The seed is inf"),
        (
            lambda s, m, h: Settings("a", 0, {**h.sampler, "num_inference_steps": 0}).check(),
            "Steps are 0",
        ),
        (
            lambda s, m, h: Settings("a", 0, {"num_inference_steps": float("inf")}).check(),
            "Steps are inf",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(model, settings, work, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        work(Story([None] * 3), model, settings)
    assert says in str(error.value) and not list(tmp_path.iterdir())


def test_stories_of_the_data_set_are_those_of_mode_sample(model, settings, sampled):
    samples, _ = sampled()
    second = read_samples(samples).stories[1]
    prompt, count = model.references.story(2)
    assert (count, prompt.story_id, prompt.captions) == (3, second.story_id, second.captions)
    assert alike(prompt.reference_frames, map(picture, second.reference_frames))
    how = Settings(prompt.story_id, 0, settings.sampler)
    drawn = finished(draw(model, Story([None] * 5), prompt.captions, how))
    there = np.stack(frames_of(samples, prompt.story_id)).astype(int)
    assert np.abs(np.stack(drawn) - there).max() <= 1  # drawn in a batch with another story
    for number in (0, 4, 1.5):
        with pytest.raises(ValueError, match=f"Story {number}: there are stories 1 to 3"):
            model.references.story(number)
    with pytest.raises(ValueError, match="There is no number: give one from 1 to 3"):
        model.references.story(None)


def test_what_frames_looked_at_is_told_until_they_change():
    story = Story(["a", "b", "c"])
    story.saw(range(3), [[0, 0, 0], [1, 0, 0], [0.25, 0.75, 0]])
    assert story.looked == {0: [], 1: [1], 2: [0.25, 0.75]}
    story.saw([2], None)
    assert story.looked == {0: [], 1: [1]}
    assert story.history_weights() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    story.move(0, 1)
    assert not story.looked and story.history_weights() is None


def test_a_candidate_that_came_before_a_stop_is_taken_for_its_own_frame(page, told, settings):
    story, fields = told[0], typed(settings)
    before = list(story.pictures)
    list(page._redraw(1, 2, False, story, *fields))
    offers = page._redraw(2, 3, False, story, *fields)
    shown = next(event[page.gallery]["value"] for event in offers if page.gallery in event)
    offers.close()
    list(page._choose(1, False, story, *fields))  # of the frame before: it is gone
    assert alike(story.pictures, before)
    list(page._choose(0, False, story, *fields))
    assert alike(story.pictures, [*before[:2], shown[0][0]]) and story.tries == {1: 3, 2: 2}


def test_frames_move_with_their_pictures():
    story = Story([None] * 3, tries={1: 1})
    origin = Origin(Settings("a", 0, {}), ["x", "y", "z"], "", [None] * 3, None)
    for k, frame in enumerate("abc"):
        story.put(k, frame, replace(origin, candidate=None if k else 5))
    assert "drawn_as" not in story.notes()
    story.move(0, 2)
    story.remove(1)
    assert story.pictures == ["c", "a"] and not story.tries
    again = {"seed": 0, "candidate": 5, "sampler": {}}
    assert story.notes() == {"redrawn": {"1": again}, "drawn_as": [2, 0]}
