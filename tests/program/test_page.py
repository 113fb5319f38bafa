"""What the page does, without a browser."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import yaml
from outcomes import CAPTIONS, picture
from PIL import Image

import app
from datasets.cartoon.grammar import make_story, vocabulary
from datasets.cartoon.renderer import render
from datasets.cartoon.world import Scene
from evaluation.samples import read_samples
from page import handlers, learning
from page import model as models
from page.handlers import _Page
from page.model import load_model, newest_model
from page.opening import launch
from page.saving import save
from page.story import Origin, Settings, Story, candidates, draw, draw_rest, redraw


@pytest.fixture(scope="session")
def model(trained):
    return load_model(trained, "cpu")


@pytest.fixture
def settings(model):
    return Settings("my_story", 0, dict(model.defaults))


@pytest.fixture
def told(model, settings):
    """A story that is drawn, and what was seen of it on the way."""
    story = Story([None] * len(CAPTIONS))
    drawing = draw(model, story, CAPTIONS, settings)
    events = list(drawing)
    put(story, drawing)
    return story, events


def put(story, drawing):
    for k, frame in enumerate(drawing.result[0]):
        story.put(k, frame, drawing.origin)


@pytest.fixture
def page(model, tmp_path):
    with gr.Blocks():
        return _Page(model, tmp_path / "out")


def typed(settings, captions=CAPTIONS):
    """What stands in the page's fields."""
    how = settings.sampler
    steps, first = how["num_inference_steps"], how["first_frame_inference_steps"]
    last = [steps, first or steps, how["guidance_scale"], how["scheduler"]]
    blank = [""] * (handlers.MOST_FRAMES - len(captions))
    return [*captions, *blank, settings.name, settings.seed, *last]


def finished(drawing):
    list(drawing)
    return list(drawing.result[0])


def alike(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def frames_of(folder, name="my_story"):
    return [picture(path) for path in sorted((folder / name).glob("0*.png"))]


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


@pytest.mark.long
def test_a_character_is_learnt_from_pictures_and_a_second_beside_it(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "RUNS", tmp_path / "runs")
    train = learning._train

    def train_shortly(file):
        how = yaml.safe_load(file.read_text(encoding="utf-8"))
        how |= {"max_steps": 1, "decoder_steps": 0, "tune": "words"}
        file.write_text(yaml.safe_dump(how), encoding="utf-8")
        return train(file)

    monkeypatch.setattr(learning, "_train", train_shortly)
    for name in ("milo", "olga"):
        frame = render(Scene("house", ((name, "red"),), "wave"))
        Image.fromarray(frame).save(tmp_path / f"{name}.png")
    base = trained
    for name, like, pronoun in (("Milo", "bear", "he"), ("Olga", "cat", "")):
        pictures = [str(tmp_path / f"{name.lower()}.png")]
        lines = learning.learn(base, name, like, pronoun, pictures, tmp_path)
        said = []
        while True:
            try:
                said.append(next(lines))
            except StopIteration as end:
                base = end.value
                break
        assert any("Trained to step 1" in line for line in said)
    assert load_model(base, "cpu").known_words >= {"milo", "olga"}
    with pytest.raises(ValueError, match="luna"):
        list(learning.learn(trained, "luna", "bear", "", pictures, tmp_path))


def test_what_is_no_picture_is_said_under_its_own_name_and_leaves_nothing(trained, tmp_path):
    out, seen = tmp_path / "out", tmp_path / "seen"
    seen.mkdir()
    (seen / "text.png").write_text("no picture")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(seen / "moves.gif", save_all=True, append_images=frames[1:])
    frames[0].save(seen / "whole.png")
    (seen / "notes.txt").write_text("no picture")
    for name, says in (
        ("text.png", "picture text.png cannot be used"),
        ("moves.gif", "picture moves.gif cannot be used .it is an animation of 2 frames"),
        ("notes.txt", "notes.txt is no picture that can be read: give .bmp"),
    ):
        files = [str(seen / one) for one in ("whole.png", name)]
        with pytest.raises(ValueError, match=says):
            next(learning.learn(trained, "milo", "bear", "", files, out))
        assert not [path for path in out.rglob("*") if path.name != "characters"]


def test_a_learning_that_is_stopped_ends_its_process_and_leaves_nothing(
    trained, tmp_path, monkeypatch
):
    """As it trains and has written a checkpoint, which would be the newest model."""
    runs, picture = tmp_path / "runs", tmp_path / "milo.png"
    Image.new("RGB", (8, 8), "red").save(picture)
    (tmp_path / "main.py").write_text(
        "import pathlib, sys, time, yaml\n"
        "told = yaml.safe_load(open(sys.argv[1].removeprefix('config=')))\n"
        "run = pathlib.Path(told['ckpt_dir'], told['run_name'])\n"
        "run.mkdir(parents=True)\n"
        "(run / 'last.ckpt').write_text('half')\n"
        "print('it trains', flush=True)\n"
        "time.sleep(600)\n"
    )
    started, popen = [], subprocess.Popen

    def start(*arguments, **how):
        started.append(popen(*arguments, **how))
        return started[-1]

    monkeypatch.setattr(learning, "RUNS", runs)
    monkeypatch.setattr(learning, "ROOT", tmp_path)
    monkeypatch.setattr(subprocess, "Popen", start)
    lines = learning.learn(trained, "milo", "bear", "", [str(picture)], tmp_path / "out")
    while next(lines) != "it trains":
        pass
    assert next(lines) == "it trains"  # it is silent, and can be stopped all the same
    assert (runs / "milo" / "last.ckpt").is_file() and started[0].poll() is None
    lines.close()
    assert started[0].poll() is not None
    left = [*runs.iterdir(), *(tmp_path / "out" / "characters").iterdir()]
    assert not left


def test_two_pages_that_learn_a_word_at_once_leave_each_other_alone(trained, tmp_path, monkeypatch):
    """Both found the name free; the other was faster."""
    monkeypatch.setattr(learning, "_free", lambda word, folders: word)
    for path in ("characters/milo/01-milo.png", "characters/milo.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("of the other page")
    with pytest.raises(ValueError, match="Another page has just begun to learn milo"):
        next(learning.learn(trained, "milo", "bear", "", ["milo.png"], tmp_path))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_a_page_that_is_ended_from_outside_lets_what_it_learns_clean_up(monkeypatch, tmp_path):
    """Which happens at exit: not where the signal ends the process itself."""

    class Empty:
        def block_thread(self):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("page.model.load_model", lambda *_: None)
    monkeypatch.setattr("page.handlers.build_page", lambda *_: Empty())
    monkeypatch.setattr("page.opening.launch", lambda *_: "here")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as ended:
            app.serve(app.App(model="a.ckpt", out=str(tmp_path)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM


def test_who_wants_to_teach_while_somebody_does_is_told(model, tmp_path, monkeypatch):
    def learn(*told):
        yield f"{told[1]} is learnt"

    monkeypatch.setattr(handlers, "learn", learn)
    monkeypatch.setattr(handlers, "TURN", 0.01)
    with gr.Blocks():
        page = handlers._Page(model, tmp_path)
    first, second = (page._learn(word, "", "", []) for word in ("milo", "olga"))
    assert next(first) == {page.learning: "`milo is learnt`"}
    for _ in range(2):
        assert next(second) == {page.learning: handlers.WAITING}
    first.close()
    assert next(second) == {page.learning: "`olga is learnt`"}


def test_it_opens_behind_a_proxy(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "example.org")
    with gr.Blocks() as empty:
        gr.Markdown("nothing")
    assert launch(empty, 0, 1, tmp_path).startswith("http://127.0.0.1:")
    empty.close(verbose=False)
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "example.org,127.0.0.1,localhost"


@pytest.mark.parametrize("word, like, count, says", [
    ("two words", "bear", 1, "give one word of letters"),
    ("milo", "bear", 0, "There are 0 pictures"),
    ("milo", "bear", 21, "There are 21 pictures"),
])  # fmt: skip
def test_what_cannot_be_learnt_is_said_at_once(word, like, count, says, trained, tmp_path):
    with pytest.raises(ValueError, match=says):
        next(learning.learn(trained, word, like, "", ["a.png"] * count, tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_frames_looked_at_is_told_until_they_change():
    story = Story(["a", "b", "c"])
    story.saw(range(3), [[0, 0, 0], [1, 0, 0], [0.25, 0.75, 0]])
    assert story.looked == {0: [], 1: [1], 2: [0.25, 0.75]}
    story.saw([2], None)
    assert story.looked == {0: [], 1: [1]}
    assert story.history_weights() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    story.move(0, 1)
    assert not story.looked and story.history_weights() is None


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


def test_words_that_the_model_never_saw_are_named(model, sampled, own_story):
    assert model.notices(CAPTIONS) == []
    said = model.notices(["Pip's friend Milo waves ☂.", "Milo " + "jumps " * 30])
    assert said[0] == "Frame 1: this model has never seen “friend”, “Milo”, “☂”."
    assert said[1] == "Frame 2: this model has never seen “Milo”."
    assert said[2].startswith("Frame 2: the caption is too long, “jumps jumps")
    with pytest.warns(UserWarning, match="has never seen 'Milo', so expect nothing of it"):
        sampled(own_story(captions=["Milo waves.", "Then Milo jumps high."]))


def test_the_world_knows_its_own_words():
    from random import Random

    from datasets.notices import unknown_words

    captions = [c for n in range(300) for c in make_story(Random(n), True).captions]
    assert unknown_words(captions, [], vocabulary()) == []
    told = {w for caption in captions for w in caption.lower().replace(",", "").split()}
    assert len({w.strip(".") for w in told} - {"him", "her"}) > 60
    assert "milo" not in vocabulary() and "purple" in vocabulary()


def test_the_newest_model_is_found(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(models, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(models, "DEMO", tmp_path / "demo")
    with pytest.raises(ValueError, match="there is no trained model in .*; make one"):
        newest_model()
    for age, name in enumerate(("demo", "runs/new", "runs/old")):
        path = tmp_path / name / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.symlink_to(trained)
        assert newest_model() == tmp_path / ("demo" if not age else "runs/new") / "last.ckpt" or age
    for name, when in (("new", 2000), ("old", 1000)):
        path = tmp_path / "runs" / name / "last.ckpt"
        path.unlink()
        path.write_bytes(trained.read_bytes())
        os.utime(path, (when, when))
    assert newest_model() == tmp_path / "runs/new/last.ckpt"


@pytest.mark.parametrize("name", ["gone.ckpt", "text.ckpt", "folder"])
def test_what_is_no_model_is_said(tmp_path, name):
    (tmp_path / "text.ckpt").write_text("no weights")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=name):
        load_model(tmp_path / name, "cpu")
