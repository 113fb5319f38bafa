"""The real configuration, shrunk, over a base of random weights."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from outcomes import CAPTIONS, read
from tiny_base import IMAGE_SIZE, save_tiny_base

import sample
import train
from configuration import load_config
from models.export import Export, export


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with the base in it; the cartoon data and the shared checkpoint come to it."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny_base(folder / "base")
    return folder


@pytest.fixture(scope="session")
def shrinking(home):
    """What makes the real configuration small."""
    return [
        f"tiny.diffusion_model={home / 'base'}",
        f"tiny.blip_model={home / 'base' / 'blip'}",
        f"tiny.image_size={IMAGE_SIZE}",
        f"cartoon.data_dir={home / 'data'}",
        "cartoon.stories={train:6,val:2,test:3}",
        f"ckpt_dir={home / 'checkpoints'}",
        f"sample_output_dir={home / 'samples'}",
        "batch_size=3",
        "num_inference_steps=2",
        "first_frame_inference_steps=null",
        "num_stories=2",
        "accelerator=cpu",
        "logger=none",
    ]


@pytest.fixture(scope="session")
def shrunk(shrinking):
    """Loads it; sampled stories go to a folder that the test names."""

    def load(*overrides):
        return load_config([*shrinking, *overrides])

    return load


@pytest.fixture(scope="session")
def trained(shrunk):
    """The checkpoint of one epoch: two steps of three stories."""
    return train.train(shrunk("logger=csv"))


@pytest.fixture(scope="session")
def drawn(shrunk, trained, tmp_path_factory):
    """Samples with the shared checkpoint and nothing else said, drawn once: copy them."""
    folder = tmp_path_factory.mktemp("drawn") / "samples"
    return sample.sample(shrunk("mode=sample", f"sample_output_dir={folder}"))


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """The shared checkpoint as a folder."""
    return export(Export(str(trained), str(tmp_path_factory.mktemp("exported") / "model")))


@pytest.fixture
def sampled(shrunk, trained, drawn, tmp_path):
    """Samples with the shared checkpoint; returns the folder and its manifest's entries by id."""

    def draw(*overrides, to="samples"):
        folder = tmp_path / to
        if overrides or folder.exists():
            sample.sample(shrunk("mode=sample", f"sample_output_dir={folder}", *overrides))
        else:
            shutil.copytree(drawn, folder)
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        return folder, {entry["story_id"]: entry for entry in entries}

    return draw


@pytest.fixture
def own_story(tmp_path):
    """Writes a story file and returns the override that names it."""

    def write(name="mine", **story):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"captions": CAPTIONS, **story}), encoding="utf-8")
        return f"story={path}"

    return write


@pytest.fixture(scope="session")
def model(trained):
    """The shared checkpoint as the page has it."""
    from page.model import load_model  # not for every test

    return load_model(trained, "cpu")


@pytest.fixture
def settings(model):
    from page.story import Settings

    return Settings("my_story", 0, dict(model.defaults))


@pytest.fixture
def told(model, settings):
    """A story that is drawn, and what was seen of it on the way."""
    from on_the_page import put

    from page.story import Story, draw

    story = Story([None] * len(CAPTIONS))
    drawing = draw(model, story, CAPTIONS, settings)
    events = list(drawing)
    put(story, drawing)
    return story, events


@pytest.fixture
def page(model, tmp_path):
    import gradio as gr

    from page.handlers import _Page

    with gr.Blocks():
        return _Page(model, tmp_path / "out")


FOUR = [
    "cartoon.stories.train=4", "batch_size=1", "save_every_minutes=null", "init_lr=1e-2",
    "num_workers=0",
]  # fmt: skip


@pytest.fixture
def four_batches(tmp_path, home):
    """An epoch of four stories, drawn once for all tests."""
    return [*FOUR, f"cartoon.data_dir={home / 'four'}", f"ckpt_dir={tmp_path}"]


@pytest.fixture(scope="session")
def undisturbed(shrunk, home):
    """The end of two epochs of such a run."""
    words = [*FOUR, f"cartoon.data_dir={home / 'four'}", "max_epochs=2", "run_name=undisturbed"]
    return read(train.train(shrunk(*words)))
