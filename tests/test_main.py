"""The program from end to end: the real configuration, shrunk, over a base of random weights."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_base import IMAGE_SIZE, save_tiny_base

import building
import main
from config import ConfigError, load_config
from datasets.story_hdf5 import StoryWriter
from pretraining.autoencoder import build_autoencoder

ROOT = Path(__file__).parents[1]
CAPTIONS = ["Pip is in the meadow.", "He waves.", "He sleeps in the same place."]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the base in it; the cartoon data and the shared checkpoint come to it."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny_base(folder / "base")
    return folder


@pytest.fixture(scope="module")
def shrunk(home):
    """The real configuration, small; sampled stories go to a folder that the test names."""

    def load(*overrides):
        words = [
            f"tiny.diffusion_model={home / 'base'}",
            f"tiny.blip_model={home / 'base' / 'blip'}",
            f"tiny.image_size={IMAGE_SIZE}",
            f"cartoon.data_dir={home / 'data'}",
            "cartoon.stories={train:6,val:2,test:3}",
            f"ckpt_dir={home / 'checkpoints'}",
            f"sample_output_dir={home / 'samples'}",
            "batch_size=3",
            "num_inference_steps=2",
            "num_stories=2",
            "storyboard_stories=1",
            "accelerator=cpu",
            "logger=none",
        ]
        return load_config([*words, *overrides])

    return load


@pytest.fixture(scope="module")
def trained(shrunk):
    """The checkpoint of one epoch: two steps of three stories."""
    return main.train(shrunk("logger=csv"))


@pytest.fixture
def sampled(shrunk, trained, tmp_path):
    """Samples with the shared checkpoint; returns the folder and its manifest's entries by id."""

    def sample(*overrides, to="samples"):
        config = shrunk("mode=sample", f"sample_output_dir={tmp_path / to}", *overrides)
        folder = main.sample(config)
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        return folder, {entry["story_id"]: entry for entry in entries}

    return sample


@pytest.fixture
def own_story(tmp_path):
    """Writes a story file and returns the override that names it."""

    def write(name="mine", **story):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"captions": CAPTIONS, **story}), encoding="utf-8")
        return f"story={path}"

    return write


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def same(one: dict, other: dict) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def state_of(folder: Path) -> dict:
    """Every frame's time of writing and content."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.glob("*/*.png")
    }


# training


def test_training_writes_a_checkpoint_and_logs(trained, home):
    assert trained == home / "checkpoints" / "cartoon" / "last.ckpt"
    checkpoint = read(trained)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 2)
    (log,) = trained.parent.glob("logs/*/metrics.csv")
    with log.open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]
    assert len(losses) == 1 and 0 < losses[0] < 100


def test_training_moves_what_trains_and_only_that(trained, shrunk):
    start = building.build_model(shrunk(), building.build_parts(shrunk()), 1).state_dict()
    end = read(trained)["state_dict"]
    moved = {key.split(".")[0] for key in end if not torch.equal(start[key], end[key])}
    assert moved == {"unet", "conditioner"}
    tables = ("conditioner.type_embeddings.weight", "conditioner.time_embeddings.weight")
    assert not any(torch.equal(start[key], end[key]) for key in tables)


def test_one_seed_gives_one_result_and_a_new_run_takes_the_place_of_the_old(trained, shrunk):
    again = main.train(shrunk("run_name=again"))
    assert same(read(again)["state_dict"], read(trained)["state_dict"])
    before = read(again)["state_dict"]
    assert main.train(shrunk("run_name=again", "seed=1", "max_steps=1")) == again
    assert read(again)["global_step"] == 1
    assert not same(read(again)["state_dict"], before)
    assert [path.name for path in again.parent.glob("*.ckpt")] == ["last.ckpt"]


def test_training_resumes_where_it_stopped(trained, shrunk):
    words = [f"train_model_file={trained}", "run_name=resumed", "max_epochs=2"]
    resumed = read(main.train(shrunk(*words)))
    assert (resumed["epoch"], resumed["global_step"]) == (2, 4)
    assert resumed["lr_schedulers"][0]["last_epoch"] == 4
    moments = resumed["optimizer_states"][0]["state"][0]["step"]
    assert moments == 4  # Adam's own count went on as well
    assert not same(resumed["state_dict"], read(trained)["state_dict"])


@pytest.mark.parametrize(
    "words, says",
    [
        (["max_epochs=1"], "max_epochs is 1, which counts what .* has behind it, 1; raise max_ep"),
        (["max_epochs=9", "max_steps=2"], "max_steps is 2, which .*, 2; raise max_steps"),
    ],
)
def test_nothing_left_to_train_is_said(trained, shrunk, words, says):
    with pytest.raises(ConfigError, match=says):
        main.train(shrunk(f"train_model_file={trained}", "run_name=none", *words))


def test_a_batch_may_be_larger_than_the_data(shrunk):
    checkpoint = main.train(shrunk("run_name=large", "batch_size=50"))
    assert read(checkpoint)["global_step"] == 1


def test_warm_up_counts_epochs_in_optimiser_steps(shrunk, trained, monkeypatch):
    asked = []
    monkeypatch.setattr(main, "build_model", lambda *arguments: asked.append(arguments[2]))
    for words in ([], ["batch_size=2"], ["batch_size=2", "accumulate_grad_batches=3"]):
        with pytest.raises(AttributeError):  # there is no model to count the parameters of
            main.train(shrunk(*words))
    assert asked == [2, 3, 1]


# sampling


def test_sampling_writes_frames_references_and_storyboards(sampled, trained):
    folder, entries = sampled()
    assert list(entries) == ["test-00000", "test-00001"]
    for name, entry in entries.items():
        assert len(entry["captions"]) == len(entry["labels"]) == 5
        assert entry["frames"] == [f"{name}/{k:04d}.png" for k in range(5)]
        assert entry["reference_frames"] == [f"{name}/reference_{k:04d}.png" for k in range(5)]
        for frame in entry["frames"]:
            assert picture(folder / frame).shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        assert picture(folder / entry["reference_frames"][0]).shape == (128, 128, 3)
        assert (entry["given"], entry["seed"]) == (0, 0)
        assert entry["checkpoint"] == hashlib.sha256(trained.read_bytes()).hexdigest()
        assert entry["sampler"] == {
            "scheduler": "ddim", "num_inference_steps": 2, "guidance_scale": 2.0, "eta": 0.0,
            "use_history": True,
        }  # fmt: skip
    assert json.loads((folder / "label_vocabulary.json").read_text())["characters"]
    assert picture(folder / "storyboard.png").std() > 5
    page = (folder / "storyboard.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html") and page.count("data:image/png") == 20
    assert "test-00001" in page


def test_a_second_run_keeps_what_is_drawn_and_draws_the_rest(sampled, monkeypatch):
    folder, first = sampled()
    before = state_of(folder)
    with monkeypatch.context() as patch:
        patch.setattr(main, "build_parts", lambda config: pytest.fail("nothing is left to draw"))
        sampled()
    assert state_of(folder) == before
    _, more = sampled("num_stories=-1")
    assert list(more) == [*first, "test-00002"]
    after = state_of(folder)
    assert len(after) == 30 and before.items() <= after.items()


def test_a_killed_run_resumes_with_the_same_pictures(sampled):
    folder, whole = sampled()
    before, first = state_of(folder), {path: picture(folder / path) for path in state_of(folder)}
    manifest = folder / "manifest.jsonl"
    kept, cut = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(kept + cut[: len(cut) // 2])
    os.remove(folder / "test-00001" / "0003.png")
    _, resumed = sampled("batch_size=1")
    assert resumed == whole
    after = state_of(folder)
    redrawn = {path for path in before if before[path][0] != after[path][0]}
    assert {path.parts[0] for path in redrawn} == {"test-00001"}
    for path in redrawn:
        if not path.name.startswith("reference"):
            # Another size of the batch sums in another order, which may move a pixel by one.
            assert abs(picture(folder / path) - first[path]).max() <= 1


def test_a_folder_takes_stories_of_one_setting(sampled):
    folder, _ = sampled()
    before = state_of(folder)
    for words in (["seed=1"], ["use_history=false"], ["task=continuation"]):
        with pytest.raises(ValueError, match="sample_output_dir: .*choose another folder"):
            sampled(*words)
    assert state_of(folder) == before


def test_another_seed_draws_other_pictures_of_the_same_stories(sampled):
    folder, entries = sampled("num_stories=1")
    other_folder, other = sampled("num_stories=1", "seed=1", to="other")
    (name,) = entries
    assert entries[name]["captions"] == other[name]["captions"]
    assert (picture(folder / name / "0000.png") != picture(other_folder / name / "0000.png")).any()


def test_without_history_only_the_first_frame_stays_as_it_was(sampled):
    folder, entries = sampled("num_stories=1")
    hidden_folder, hidden = sampled("num_stories=1", "use_history=false", to="hidden")
    assert entries["test-00000"]["captions"] == hidden["test-00000"]["captions"]
    frames = entries["test-00000"]["frames"]
    moved = [(picture(folder / f) != picture(hidden_folder / f)).any() for f in frames]
    assert moved == [False, True, True, True, True]


def test_continuation_starts_from_the_given_frame(sampled):
    folder, entries = sampled("task=continuation")
    for entry in entries.values():
        assert entry["given"] == 1 and len(entry["frames"]) == 5
        with Image.open(folder / entry["reference_frames"][0]) as reference:
            shrunken = reference.resize((IMAGE_SIZE,) * 2, Image.Resampling.BILINEAR)
        given = picture(folder / entry["frames"][0])
        assert abs(given - np.asarray(shrunken).astype(int)).max() <= 2
    assert "given" in (folder / "storyboard.html").read_text(encoding="utf-8")


def test_an_own_story_needs_no_data(sampled, own_story, tmp_path):
    words = [f"cartoon.data_dir={tmp_path / 'none'}", "cartoon.stories.train=4000"]
    folder, entries = sampled(own_story(), *words)
    assert not (tmp_path / "none").exists()
    entry = entries["mine"]
    assert entry["captions"] == CAPTIONS and entry["labels"] is None
    assert entry["reference_frames"] == [] and len(entry["frames"]) == 3
    assert not (folder / "label_vocabulary.json").exists()
    assert picture(folder / "storyboard.png").std() > 5


def test_an_own_story_continues_an_own_picture(sampled, own_story, tmp_path):
    Image.new("RGB", (30, 20), (200, 30, 60)).save(tmp_path / "first.png")
    folder, entries = sampled(own_story(first_frame="first.png"), "task=continuation")
    assert entries["mine"]["given"] == 1
    given = picture(folder / "mine" / "0000.png")
    assert given.shape == (IMAGE_SIZE, IMAGE_SIZE, 3) and (given == (200, 30, 60)).all()
    drawn = picture(folder / "mine" / "0001.png")
    assert (drawn != given).any()


def test_storyboards_show_what_was_asked_for(sampled, own_story):
    folder, _ = sampled()
    _, entries = sampled(own_story())
    assert list(entries) == ["test-00000", "test-00001", "mine"]
    page = (folder / "storyboard.html").read_text(encoding="utf-8")
    assert CAPTIONS[0] in page and "test-00000" not in page


# another data set: pictures of any size, no story to validate on


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


def test_a_folder_trains_without_validation_stories_and_samples(shrunk, folder_file, tmp_path):
    words = folder_file({"train": 3, "test": 1})
    assert read(main.train(shrunk(*words)))["global_step"] == 1  # the odd story waits a turn
    folder = main.sample(shrunk(*words, "mode=sample", f"sample_output_dir={tmp_path / 'out'}"))
    assert len(list(folder.glob("test-00000/0*.png"))) == 3
    assert picture(folder / "storyboard.png").std() > 5


@pytest.mark.parametrize(
    "mode, sizes, pictures, says",
    [
        ("train", {"test": 1}, 2, "split 'train' holds no story; build it with some"),
        ("sample", {"train": 1}, 2, "split 'test' holds no story; build it with some"),
        ("train", {"train": 1}, 6, "has 6 pictures a story; build it with at most 5"),
        ("sample", {"test": 1}, 6, "has 6 pictures a story; build it with at most 5"),
    ],
)
def test_files_that_cannot_be_used(
    shrunk, trained, folder_file, monkeypatch, mode, sizes, pictures, says
):
    monkeypatch.setattr(main, "build_parts", lambda config: pytest.fail("said too late"))
    words = [*folder_file(sizes, pictures), f"mode={mode}", f"test_model_file={trained}"]
    with pytest.raises(ValueError, match=says):
        (main.train if mode == "train" else main.sample)(shrunk(*words))


def test_one_picture_cannot_be_continued(shrunk, folder_file):
    words = folder_file({"train": 2}, pictures=1)
    with pytest.raises(ValueError, match="one picture a story: continuation needs two or more"):
        main.train(shrunk(*words, "task=continuation"))


# what only the machine, the base or a checkpoint can find wrong


@pytest.mark.parametrize(
    "word, says",
    [
        ("tiny.image_size=66", "^tiny.image_size is 66, which .*; set it to a multiple of 4$"),
        ("tiny.diffusion_model=no/where", "^diffusion_model: 'no/where'.*set diffusion_model to"),
        ("tiny.blip_model=no/where", "^blip_model: 'no/where'.*set blip_model to its folder"),
    ],
)
def test_backbones_that_do_not_fit(shrunk, word, says):
    with pytest.raises((ConfigError, FileNotFoundError), match=says):
        building.build_parts(shrunk(word))


def test_an_autoencoder_of_one_size_names_it(shrunk, monkeypatch):
    parts = SimpleNamespace(vae=build_autoencoder())  # the one that the real base has
    monkeypatch.setattr(building, "load_components", lambda **how: parts)
    assert building.build_parts(shrunk("tiny.image_size=128")) is parts
    with pytest.raises(ConfigError, match="tiny.image_size is 64, which .*; set it to 128$"):
        building.build_parts(shrunk())


@pytest.mark.parametrize("words", [["strategy=fast"], ["gpu_ids=[0]"], ["accelerator=gpu"]])
def test_machines_that_cannot_do_it(shrunk, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(main, "open_stories", lambda *how: pytest.fail("said too late"))
    with pytest.raises(ConfigError) as caught:
        main.train(shrunk(*words))
    message = str(caught.value)
    assert message.startswith("this machine cannot do") and words[0] in message
    assert "\n" not in message and message.endswith("set them to auto")


def test_checkpoints_that_do_not_fit(shrunk, trained, own_story, tmp_path):
    other = tmp_path / "other.ckpt"
    other.write_text("not a checkpoint")
    bare = tmp_path / "bare.ckpt"
    torch.save({"state_dict": read(trained)["state_dict"]}, bare)
    sampling = ["mode=sample", f"sample_output_dir={tmp_path / 'out'}", own_story()]
    with pytest.raises(ValueError, match="other.ckpt is not a Lightning checkpoint"):
        main.sample(shrunk(*sampling, f"test_model_file={other}"))
    with pytest.raises(ValueError, match="other.ckpt is not a Lightning checkpoint"):
        main.train(shrunk(f"train_model_file={other}"))
    with pytest.raises(ValueError, match="holds weights but not how far they were trained"):
        main.train(shrunk(f"train_model_file={bare}"))
    with pytest.raises(ValueError, match="use the dataset and backbone it was trained with"):
        main.train(shrunk(f"train_model_file={trained}", "cartoon.new_tokens=[zorg]"))


def test_an_own_story_too_long_is_said_before_anything_is_drawn(sampled, own_story, monkeypatch):
    monkeypatch.setattr(main, "build_parts", lambda config: pytest.fail("said too late"))
    with pytest.raises(ValueError, match="has 7 captions; give 1 to 6"):
        sampled(own_story(captions=["He waves."] * 7))


# the command line


def test_help_says_how_to_use_it(capsys):
    main.main(["--help"])
    shown = capsys.readouterr().out
    assert "python main.py mode=sample" in shown and "config.yaml" in shown


def test_the_command_line_trains_and_samples(shrunk, monkeypatch):
    done = []
    monkeypatch.setattr(main, "load_config", lambda words: shrunk(*words))
    monkeypatch.setattr(main, "train", lambda config: done.append(("train", config.seed)))
    monkeypatch.setattr(main, "sample", lambda config: done.append(("sample", config.seed)))
    monkeypatch.setattr(torch, "set_num_threads", done.append)
    main.main(["seed=3"])
    main.main(["mode=sample", f"test_model_file={__file__}", "num_cpu_cores=1"])
    assert done == [("train", 3), 1, ("sample", 0)]


@pytest.mark.parametrize(
    "error",
    [ConfigError("seed is 5;\nuse 4"), FileNotFoundError("no\nbase"), OSError("disk\nfull")],
)
def test_errors_become_one_line(monkeypatch, error):
    def fail(words):
        raise error

    monkeypatch.setattr(main, "load_config", fail)
    with pytest.raises(SystemExit) as caught:
        main.main([])
    assert caught.value.code == "error: " + " ".join(str(error).split())


def test_the_program_ends_with_one_line_and_status_1(tmp_path):
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, str(ROOT / "main.py"), "sed=1"], check=False, **how)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: 'sed' is not a key of the configuration; did you mean seed?\n"
