"""What a trainer predicts is written as a samples folder, story by story."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.samples import SamplesFolder, read_picture, read_samples
from models.pipeline import StoryPipelineOutput
from trainers import SamplesWriter

SETTINGS = {"seed": 0, "given": 0, "checkpoint": "abc", "sampler": {"eta": 0.0}}


def pictures(seed, count=2):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)


def entries(path):
    return [json.loads(line) for line in (path / "manifest.jsonl").read_text("utf-8").splitlines()]


def check_whole(path, numbers):
    """Every story with the frames that were predicted."""
    stories = read_samples(path).stories
    assert [story.story_id for story in stories] == [f"s{n}" for n in numbers]
    for number, story in zip(numbers, stories, strict=True):
        for frame, expected in zip(story.frames, pictures(number), strict=True):
            assert np.array_equal(read_picture(frame), expected)


def write(tmp_path, batch, stories=2, weights=None):
    frames = torch.from_numpy(np.stack([pictures(i) for i in range(stories)]))
    folder = SamplesFolder(tmp_path, SETTINGS)
    drawn = StoryPipelineOutput(frames.permute(0, 1, 4, 2, 3), weights)
    SamplesWriter(folder).write_on_batch_end(SimpleNamespace(), None, drawn, [0, 1], batch, 0, 0)
    return entries(tmp_path)


def test_a_predicted_batch_is_written_story_by_story(tmp_path):
    labels = [[{"place": "sea"}] * 2, [{"place": "hill"}] * 2]
    references = [pictures(10), pictures(11)]
    batch = {"story_id": ["s0", "s1"], "captions": [["a", "b"], ["c", "d"]], "labels": labels,
             "frames": references}  # fmt: skip
    lines = write(tmp_path, batch)
    assert [line["captions"] for line in lines] == batch["captions"]
    assert [line["labels"] for line in lines] == labels
    for line, reference in zip(lines, references, strict=True):
        saved = [np.asarray(Image.open(tmp_path / name)) for name in line["reference_frames"]]
        assert np.array_equal(np.stack(saved), reference)
    check_whole(tmp_path, [0, 1])


def test_real_frames_of_different_sizes_are_brought_to_the_drawn_ones(tmp_path):
    large = np.repeat(np.repeat(pictures(10), 3, 1), 3, 2)  # (2, 12, 18, 3)
    references = [[large[0], pictures(11)[1]], list(large)]
    batch = {"story_id": ["s0", "s1"], "captions": [["a", "b"]] * 2, "labels": None,
             "frames": references}  # fmt: skip
    first, second = write(tmp_path, batch)
    shown = [read_picture(tmp_path / name) for name in first["reference_frames"]]
    assert shown[0].shape == (4, 6, 3) and np.array_equal(shown[1], pictures(11)[1])
    assert np.abs(shown[0].astype(int) - pictures(10)[0]).mean() < 30  # noise: 85
    shown = [read_picture(tmp_path / name) for name in second["reference_frames"]]
    assert np.array_equal(np.stack(shown), large)  # alike: left as they are


def test_history_weights_are_written_with_their_story(tmp_path):
    batch = {"story_id": ["s0", "s1"], "captions": [["a", "b"]] * 2, "labels": None}
    weights = torch.tensor([[[0, 0], [1, 0]], [[0, 0], [0.123456, 0]]])
    lines = write(tmp_path, batch, weights=weights)
    assert [line["history_weights"][1] for line in lines] == [[1, 0], [0.1235, 0]]
    assert all("history_weights" not in line for line in write(tmp_path / "plain", batch))


@pytest.mark.parametrize("given", [0, 1])
def test_an_own_story_has_no_references(tmp_path, given):
    """Not even in continuation, where its batch carries the one given frame."""
    frames = [list(pictures(5, 1)[:given])] * 2
    batch = {"story_id": ["s0", "s1"], "captions": [["a", "b"]] * 2, "labels": None,
             "frames": frames}  # fmt: skip
    for line in write(tmp_path, batch):
        assert line["reference_frames"] == [] and len(line["frames"]) == 2
        assert line["labels"] is None
    check_whole(tmp_path, [0, 1])
    assert not list(tmp_path.glob("*/reference*"))
