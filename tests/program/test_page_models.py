"""The models that the page opens, and where it is opened."""

from __future__ import annotations

import json
import os
import shutil

import gradio as gr
import pytest
from outcomes import CAPTIONS

from datasets.cartoon.grammar import make_story, vocabulary
from models.schedulers import sampling_scheduler
from page import model as models
from page.model import load_model, newest_model
from page.opening import launch


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
    (tmp_path / "swept" / "seed=1").mkdir(parents=True)
    (tmp_path / "runs" / "many").symlink_to(tmp_path / "swept")
    (tmp_path / "swept" / "seed=1" / "last.ckpt").write_bytes(trained.read_bytes())
    assert newest_model() == tmp_path / "runs/many/seed=1/last.ckpt"


def test_a_folder_is_drawn_from_with_the_samplers_of_its_checkpoint(model, exported, tmp_path):
    def steps(of):
        samplers = {name: sampling_scheduler(name, of.noise) for name in of.samplers}
        for sampler in samplers.values():
            sampler.set_timesteps(10)
        return {name: sampler.timesteps.tolist() for name, sampler in samplers.items()}

    folder = load_model(exported, "cpu")
    assert steps(folder) == steps(model) and dict(folder.noise) == dict(model.noise)
    older = shutil.copytree(exported, tmp_path / "older")
    index = json.loads((older / "model_index.json").read_bytes())
    del index["trained_for"]["scheduler"]
    (older / "model_index.json").write_text(json.dumps(index))
    noise = load_model(older, "cpu").noise  # what its sampler has overwritten is not known
    assert noise.items() <= model.noise.items() and "timestep_spacing" not in noise


def test_a_folder_tells_its_crop_and_may_not_ask_this_machine(exported, tmp_path):
    other = shutil.copytree(exported, tmp_path / "other")
    index = json.loads((other / "model_index.json").read_bytes())
    config = index["trained_for"]["config"]
    config["cartoon"]["crop"] = "shorter_side"
    (other / "model_index.json").write_text(json.dumps(index))
    assert load_model(other, "cpu").unusual == {"crop": "shorter_side"}
    config["negative_prompt"] = "${oc.env:HOME}"
    (other / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="calls a function in .*oc.env"):
        load_model(other, "cpu")


@pytest.mark.parametrize("name", ["gone.ckpt", "text.ckpt", "folder"])
def test_what_is_no_model_is_said(tmp_path, name):
    (tmp_path / "text.ckpt").write_text("no weights")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=name):
        load_model(tmp_path / name, "cpu")
