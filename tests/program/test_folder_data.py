"""Another data set: pictures of any size, no story to validate on."""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import pytest
import torch
from outcomes import picture, read
from PIL import Image

import building
import main
import sample
import train
from configuration import ConfigError
from datasets.damage import leave_out
from datasets.story_writer import StoryWriter
from page.model import load_model
from page.story import Story


@pytest.fixture
def folder_file(tmp_path):
    """Writes a story file of flat pictures and returns its overrides."""

    def write(sizes, pictures=3):
        path = tmp_path / "folder.h5"
        with StoryWriter(path, pictures=pictures) as writer:
            for split, count in sizes.items():
                for _ in range(count):
                    steps = range(pictures)
                    frames = [np.full((40, 60 + 4 * k, 3), 40 * k, np.uint8) for k in steps]
                    writer.add(split, frames, {"text": [f"A frog jumps {k}." for k in steps]})
        files = [f"folder.hdf5_file={path}", f"ckpt_dir={tmp_path}"]
        return ["dataset=folder", *files, "batch_size=2"]

    return write


def test_a_folder_trains_without_validation_stories_and_samples(
    shrunk, folder_file, own_story, page, tmp_path
):
    words = folder_file({"train": 3, "test": 1})
    path = train.train(shrunk(*words))
    assert read(path)["global_step"] == 1  # the odd story waits a turn
    folder = sample.sample(shrunk(*words, "mode=sample", f"sample_output_dir={tmp_path / 'out'}"))
    assert len(list(folder.glob("test-00000/0*.png"))) == 3
    assert picture(folder / "storyboard.png").std() > 5
    # A first picture of one's own is cropped as the data set's are, and the page's as well.
    ramp = np.broadcast_to(np.arange(120, dtype=np.uint8)[None, :, None], (64, 120, 3))
    Image.fromarray(ramp).save(tmp_path / "wide.png")
    asked = ["mode=sample", "task=continuation", f"test_model_file={path}"]
    (told,) = building.own_stories(shrunk(*asked, own_story(first_frame="wide.png")))
    np.testing.assert_array_equal(told.first_frame, ramp[:, 28:92])
    page.model, story = load_model(path, "cpu"), Story([None] * 2)
    page._give(story, str(tmp_path / "wide.png"))
    np.testing.assert_array_equal(story.first, told.first_frame)


def test_random_parts_of_pictures_are_cached_and_shown_in_turn(shrunk, tmp_path, capsys):
    path = tmp_path / "folder.h5"
    ramp = np.broadcast_to(np.arange(120, dtype=np.uint8)[None, :, None], (64, 120, 3))
    with StoryWriter(path, pictures=2) as writer:
        for split in ("train", "train", "val"):
            writer.add(split, [ramp, 2 * ramp], {"text": ["A frog.", "It jumps."]})
    words = ["dataset=folder", f"folder.hdf5_file={path}"]
    config = shrunk(*words, "cache_latents=true", "latent_draws=2", "freeze_blip=true")
    parts = building.build_parts(config)
    cached = train.build_data(config, parts, path)
    cached.latents.prepare(("train", "val"), cached.picture_batches)
    assert "at most 0 MB, for 18 pictures" in capsys.readouterr().out
    plain = train.build_data(shrunk(*words), parts, path).dataset("train")
    means = []
    for number in range(4):  # two stories in two epochs
        item, shown = cached.dataset("train")[number], plain[number]["target_images"]
        with torch.no_grad():
            expected = parts.vae.encode(shown).latent_dist.mean * parts.vae.config.scaling_factor
        torch.testing.assert_close(item["latents_mean"], expected)
        means.append(item["latents_mean"])
    assert not torch.allclose(means[0], means[2], atol=1e-3)
    assert torch.equal(cached.dataset("train")[4]["latents_mean"], means[0])
    for other, says in (
        ("latent_draws=3", "latent_draws=2, the configuration has latent_draws=3; set latent_draws="
                           "2, or delete it"),
        ("latent_draws=null", "has latent_draws=null; set latent_draws=2, or delete it"),
        ("seed=5", "made with seed=0, the configuration has seed=5; set seed=0, or delete it"),
        ("folder.independent_crops=true", "made with folder.independent_crops=false, the configurat"
                           "ion has folder.independent_crops=true; set folder.independent_crops="
                           "false, or delete it"),
    ):  # fmt: skip
        how = ("cache_latents=true", "latent_draws=2", "freeze_blip=true", other)
        stale = train.build_data(shrunk(*words, *how), parts, path).latents
        with pytest.raises(ValueError, match=says):
            stale.check(["train"])
    strips = "dataset=pororo", f"pororo.hdf5_file={path}"
    stale = train.build_data(shrunk(*strips, *how[:3]), parts, path).latents
    with pytest.raises(ValueError, match="was made with dataset=folder, the configuration has"):
        stale.check(["train"])
    with pytest.raises(ValueError, match="latent_draws is 2, but cache_latents is false"):
        shrunk(*words, "latent_draws=2")


@pytest.mark.long
def test_stories_longer_than_the_time_table_train_and_are_drawn_whole(
    shrunk, folder_file, tmp_path
):
    words = folder_file({"train": 3, "test": 1}, pictures=7)
    assert read(train.train(shrunk(*words)))["global_step"] == 1
    folder = sample.sample(shrunk(*words, "mode=sample", f"sample_output_dir={tmp_path / 'out'}"))
    assert len(list(folder.glob("test-00000/0*.png"))) == 7


@pytest.mark.parametrize(
    "mode, sizes, pictures, says",
    [
        ("train", {"test": 1}, 2, "split 'train' holds no story; build it with some"),
        ("sample", {"train": 1}, 2, "split 'test' holds no story; build it with some"),
        ("train", {"train": 2}, 1, ".h5 has one picture a story: continuation needs two or more"),
        ("sample", {"test": 2}, 1, ".h5 has one picture a story: continuation needs two or more"),
    ],
)
def test_files_that_cannot_be_used(
    shrunk, trained, folder_file, monkeypatch, mode, sizes, pictures, says
):
    for program, build in ((train, "build_parts"), (sample, "build_pipeline")):
        monkeypatch.setattr(program, build, lambda *_: pytest.fail("said too late"))
    words = [*folder_file(sizes, pictures), f"mode={mode}", f"test_model_file={trained}"]
    words.append("task=continuation")
    with pytest.raises(ValueError, match=says):
        (train.train if mode == "train" else sample.sample)(shrunk(*words))


@pytest.mark.parametrize("asked", ["save_best=true", "sample_every_n_epochs=1",
                                   "sample_every_n_steps=2"])  # fmt: skip
def test_what_validation_gives_needs_stories_for_it(shrunk, folder_file, monkeypatch, asked):
    monkeypatch.setattr(train, "build_parts", lambda *_: pytest.fail("said too late"))
    says = asked.replace("=", " is ") + ", but .* has no validation stories; build it with some, or"
    with pytest.raises(ConfigError, match=says):
        train.train(shrunk(*folder_file({"train": 2}), asked))


def cut(words, split, row):
    """Damages a picture of a story, so that it can be found but not decoded."""
    path = words[1].removeprefix("folder.hdf5_file=")
    with h5py.File(path, "a") as file:
        file[f"{split}/image1"][row] = file[f"{split}/image1"][row][:60]
    return path


def test_stories_that_cannot_be_read_are_not_drawn(shrunk, trained, folder_file, tmp_path):
    words = [*folder_file({"test": 3}), "num_stories=-1", "mode=sample"]
    words += [f"test_model_file={trained}", f"sample_output_dir={tmp_path / 'out'}"]
    words += ["folder.max_length=20"]  # as the checkpoint has it
    path = cut(words, "test", 1)
    said = r"1 of 3 stories cannot be drawn: .*folder.h5: story 1 of 'test' is broken \(image1: "
    with pytest.warns(UserWarning, match=said):
        folder = sample.sample(shrunk(*words))
    assert sorted(p.name for p in folder.glob("test-*")) == ["test-00000", "test-00002"]
    assert "test-00001" not in (folder / "storyboard.html").read_text()
    with pytest.warns(UserWarning, match="1 of 3 stories cannot be drawn"):
        sample.sample(shrunk(*words))  # nothing is left, and it stays so
    leave_out(path, {"test": [1]})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "1 of")
        sample.sample(shrunk(*words))
    cut(words, "test", 0), cut(words, "test", 2)
    words[-2] = f"sample_output_dir={tmp_path / 'new'}"
    with pytest.raises(ValueError, match="story 0 of 'test' is broken .* --leave_out"):
        sample.sample(shrunk(*words))


def test_training_stops_at_a_broken_picture_with_one_sentence(shrinking, folder_file):
    """Though the process that reads it hands over its whole traceback."""
    words = folder_file({"train": 3})
    path = cut(words, "train", 2)
    with pytest.raises(SystemExit) as caught:
        main.main([*shrinking, *words, "batch_size=3", "num_workers=1"])
    assert caught.value.code == (
        f"error: {path}: story 2 of 'train' is broken (image1: the picture cannot be decoded (image"
        " file is truncated)); build the file again, or have such stories left out with python -m "
        f"datasets.check {path} --leave_out"
    )
