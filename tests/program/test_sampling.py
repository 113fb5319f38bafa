"""Sampling through the program: data sets' stories and one's own, again and anew."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from outcomes import CAPTIONS, picture, state_of
from PIL import Image
from tiny_base import IMAGE_SIZE

import sample
from configuration import ConfigError
from configuration.checkpoint_settings import SAMPLER_KEYS
from datasets.cartoon.world import LABEL_VOCABULARY
from datasets.story_writer import StoryWriter
from evaluation.networks.judge import Judge, JudgeNetwork


def test_sampling_writes_frames_references_and_storyboards(sampled, trained, shrunk):
    folder, entries = sampled()
    asked = shrunk()
    assert asked.num_inference_steps == 2
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
        assert entry["sampler"] == {key: asked[key] for key in SAMPLER_KEYS}
    assert json.loads((folder / "label_vocabulary.json").read_text())["characters"]
    assert picture(folder / "storyboard.png").std() > 5
    page = (folder / "storyboard.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html") and page.count("data:image/") == 20
    assert "test-00001" in page


def test_a_second_run_keeps_what_is_drawn_and_draws_the_rest(sampled, monkeypatch):
    folder, first = sampled()
    before = state_of(folder)
    with monkeypatch.context() as patch:
        patch.setattr(sample, "build_pipeline", lambda *_: pytest.fail("nothing is left to draw"))
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
    (folder / ".storyboard.png.4711.tmp").touch()
    _, resumed = sampled("batch_size=1")
    assert resumed == whole and not list(folder.glob(".*"))
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


def test_a_folder_takes_stories_of_one_precision_and_crop(sampled):
    """What is not said is as usual, also in lines from before."""
    folder, _ = sampled("num_stories=1", "precision=bf16-mixed", "cartoon.crop=shorter_side")
    before = state_of(folder)
    for words in (["precision=bf16-mixed"], ["cartoon.crop=shorter_side"], ["precision=32"]):
        with pytest.raises(ValueError, match="sample_output_dir: .*choose another folder"):
            sampled("num_stories=1", *words)
    sampled("num_stories=1", "precision=bf16-mixed", "cartoon.crop=shorter_side")
    assert state_of(folder) == before


def test_stories_of_other_pictures_are_drawn_again(sampled, tmp_path):
    """A data set that was built again: ids and captions are as they were."""
    names = []
    for colour in (50, 200, 200):
        picture = np.full((64, 64, 3), colour, np.uint8)
        with StoryWriter(tmp_path / "told.h5", 2) as writer:
            for split in ("train", "val", "test"):
                writer.add(split, [picture] * 2, {"text": ["Pip waves.", "He sleeps."]})
        story_file = f"cartoon.hdf5_file={tmp_path / 'told.h5'}"
        folder, entries = sampled(story_file, "num_stories=1", "task=continuation")
        names.append(state_of(folder))
        assert (picture == np.asarray(Image.open(folder / "test-00000/0000.png"))).all()
    assert names[0] != names[1] == names[2]
    manifest, (line,) = folder / "manifest.jsonl", entries.values()
    del line["pictures"]
    manifest.write_text(json.dumps(line) + "\n")  # as it was before they were noted
    sampled(story_file, "num_stories=1", "task=continuation")
    assert state_of(folder) == names[2]


def test_metrics_that_need_labels_are_refused_before_stories_are_drawn(shrunk, trained, tmp_path):
    with StoryWriter(tmp_path / "told.h5", 2) as writer:
        for split in ("train", "val", "test"):
            writer.add(split, [np.zeros((64, 64, 3), np.uint8)] * 2, {"text": ["A cat.", "It."]})
    words = [f"cartoon.hdf5_file={tmp_path / 'told.h5'}", f"sample_output_dir={tmp_path / 'drawn'}"]
    words += [f"test_model_file={trained}", f"evaluation.classifier={__file__}"]
    with pytest.raises(ValueError, match="character_f1 needs labels .*told.h5 has none"):
        sample.sample(shrunk("mode=sample", "metrics=[character_f1]", *words))
    assert not (tmp_path / "drawn").exists()


def test_a_shell_within_a_slurm_allocation_waits_for_no_other_task(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for key, value in {"NTASKS": "4", "JOB_NAME": "bash", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    sample._follow_slurm()
    assert "WORLD_SIZE" not in os.environ
    monkeypatch.setenv("SLURM_JOB_NAME", "stories")
    with pytest.raises(ConfigError, match="SLURM_NTASKS is 4 .*ntasks-per-node"):
        sample._follow_slurm()


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


@pytest.mark.long
def test_an_edited_own_story_is_drawn_again(sampled, own_story, tmp_path, capsys):
    folder, _ = sampled(own_story())
    before = state_of(folder)
    edited = ["Luna is on the beach.", *CAPTIONS[1:]]
    assert "drawn again" not in capsys.readouterr().out
    _, entries = sampled(own_story(captions=edited))
    said = f"{folder}: mine was drawn from other captions and is drawn again\n"
    assert said in capsys.readouterr().out
    assert entries["mine"]["captions"] == edited
    after = state_of(folder)
    assert all(before[path][1] != after[path][1] for path in before)


@pytest.mark.long
def test_another_first_picture_is_another_story(sampled, own_story, tmp_path):
    for colour in ((200, 30, 60), (20, 130, 60)):
        Image.new("RGB", (30, 20), colour).save(tmp_path / "first.png")
        folder, _ = sampled(own_story(first_frame="first.png"), "task=continuation")
        assert (picture(folder / "mine" / "0000.png") == colour).all()


def test_stories_whose_pictures_are_gone_are_drawn_again(sampled):
    folder, entries = sampled()
    whole = {path.relative_to(folder) for path in folder.glob("*/*.png")}
    os.remove(folder / "test-00000" / "0002.png")
    shutil.rmtree(folder / "test-00001")
    _, again = sampled()
    assert sorted(again) == sorted(entries)
    assert {path.relative_to(folder) for path in folder.glob("*/*.png")} == whole


def test_a_sampler_that_cannot_is_refused_before_anything_is_loaded(sampled, home, monkeypatch):
    """The base predicts pictures, which PNDM cannot use."""
    monkeypatch.setattr(sample, "build_pipeline", lambda *_: pytest.fail("said too late"))
    with pytest.raises(ValueError, match="scheduler: 'pndm' cannot draw with a model that predic"):
        sampled("scheduler=pndm", to="never")
    assert not (home / "never").exists()


def test_what_was_drawn_is_measured(sampled, tmp_path):
    """By a judge of random weights, whose readings are worked out here once more."""
    torch.manual_seed(0)
    judge = Judge(JudgeNetwork(LABEL_VOCABULARY), LABEL_VOCABULARY)
    judge.save(tmp_path / "judge")
    files = (f"{name}={tmp_path / name}" for name in ("judge", "cache"))
    words = ("metrics=[cartoon]", *(f"evaluation.{file}" for file in files))
    folder, entries = sampled(*words, "task=continuation")
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert (found["stories"], found["frames"], len(found["metrics"])) == (2, 8, 18)
    right = []
    for entry in entries.values():
        frames = np.stack([picture(folder / name) for name in entry["frames"][1:]])
        read = judge.read(frames.astype(np.uint8))
        right += [a["place"] == b["place"] for a, b in zip(read, entry["labels"][1:], strict=True)
                  if not b["place_named"]]  # fmt: skip
    entry = found["metrics"]["cartoon/place_accuracy"]
    assert (entry["value"], entry["n"]) == (pytest.approx(np.mean(right)), len(right))
    sampled(*words, "task=continuation", "num_stories=1")  # of what the folder holds, its own
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert (found["stories"], found["frames"]) == (1, 4)


@pytest.mark.parametrize("words, missing", [
    (["calculate_fid=true", "evaluation.inception_weights=nowhere.pth"], "nowhere.pth"),
    (["metrics=[cartoon]", "evaluation.judge=no.safetensors"], "no.safetensors"),
    (["metrics=[character_f1]"], "character_f1 needs evaluation.classifier=FILE"),
    (["metrics=[clip_i]", "evaluation.cache=."], "evaluation.cache=. is no feature cache"),
    (["metrics=[fidd]"], "'fidd' is not known"),
])  # fmt: skip
def test_what_cannot_be_measured_is_said_before_drawing(
    sampled, tmp_path, monkeypatch, words, missing
):
    monkeypatch.chdir(tmp_path)  # where the cache of features goes
    with pytest.raises((OSError, ValueError), match=missing):
        sampled(*words, to="never")
    assert not (tmp_path / "never").exists()


def test_a_part_of_a_story_does_not_take_the_place_of_another_story(shrunk, trained, tmp_path):
    path, of_two = tmp_path / "told.json", ["He waves.", "He jumps."]
    told = [{"story_id": "a", "captions": 2 * of_two}, {"story_id": "a-part1", "captions": of_two}]
    path.write_text(json.dumps(told), encoding="utf-8")
    words = "mode=sample", f"story={path}", f"sample_output_dir={tmp_path / 'out'}"
    with pytest.raises(ValueError, match="frames_per_part=2 makes a story 'a-part1' of .*another"):
        sample.sample(shrunk(*words, "frames_per_part=2"))
    assert not (tmp_path / "out").exists()
