"""Another data set: pictures of any size, no story to validate on."""

from __future__ import annotations

import numpy as np
import pytest
from outcomes import picture, read

import sample
import train
from datasets.story_hdf5 import StoryWriter


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
    assert read(train.train(shrunk(*words)))["global_step"] == 1  # the odd story waits a turn
    folder = sample.sample(shrunk(*words, "mode=sample", f"sample_output_dir={tmp_path / 'out'}"))
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
    for program in (train, sample):
        monkeypatch.setattr(program, "build_parts", lambda config: pytest.fail("said too late"))
    words = [*folder_file(sizes, pictures), f"mode={mode}", f"test_model_file={trained}"]
    with pytest.raises(ValueError, match=says):
        (train.train if mode == "train" else sample.sample)(shrunk(*words))


def test_one_picture_cannot_be_continued(shrunk, folder_file):
    words = folder_file({"train": 2}, pictures=1)
    with pytest.raises(ValueError, match="one picture a story: continuation needs two or more"):
        train.train(shrunk(*words, "task=continuation"))
