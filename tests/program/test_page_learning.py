"""New characters that are learnt on the page, without a browser."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import gradio as gr
import pytest
import yaml
from PIL import Image

import app
from datasets.cartoon.renderer import render
from datasets.cartoon.world import Scene
from page import handlers, learning
from page.model import load_model


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


@pytest.mark.parametrize("tune, again", [("all", []), ("lora", ["milo"])])
def test_what_all_weights_have_learnt_is_not_learnt_again(tune, again, tmp_path, monkeypatch):
    """Of a base of its own a model that was tuned knows what all the weights have learnt."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "olga.png")
    known = {"new_characters": [{"word": "milo"}], "tune": tune, "base_model_file": "base.ckpt"}
    monkeypatch.setattr(learning, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(learning, "read_settings", lambda base: {"config": known})
    monkeypatch.setattr(learning, "_train", lambda file: [file.read_text(encoding="utf-8")])
    pictures = [str(tmp_path / "olga.png")]
    (told,) = learning.learn(tmp_path / "milo.ckpt", "olga", "cat", "", pictures, tmp_path / "out")
    content = yaml.safe_load(told)
    assert [one["word"] for one in content["new_characters"]] == [*again, "olga"]
    assert Path(content["base_model_file"]).name == ("base.ckpt" if again else "milo.ckpt")


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


@pytest.mark.parametrize("word, like, count, says", [
    ("two words", "bear", 1, "give one word of letters"),
    ("milo", "bear", 0, "There are 0 pictures"),
    ("milo", "bear", 21, "There are 21 pictures"),
])  # fmt: skip
def test_what_cannot_be_learnt_is_said_at_once(word, like, count, says, trained, tmp_path):
    with pytest.raises(ValueError, match=says):
        next(learning.learn(trained, word, like, "", ["a.png"] * count, tmp_path))
    assert not list(tmp_path.iterdir())
