"""Exported frames are a samples folder that evaluation reads: real frames, captions, labels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from data_script.export_frames import export
from datasets.story_writer import StoryWriter
from evaluation.samples import read_samples

LABEL = {"place": "beach", "cast": ["luna"], "clothes": {"luna": "red"}, "action": "wave"}
VOCABULARY = (
    '{"places": ["beach"], "characters": ["luna"], "clothes": ["red"], "actions": ["wave"]}'
)


def test_frames_captions_and_labels_arrive(tmp_path):
    path, random = tmp_path / "stories.h5", np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)
    with StoryWriter(path, pictures=2, attributes={"label_vocabulary": VOCABULARY}) as writer:
        for i in range(2):
            captions = {"text": [f"One {i}.", "Two."]}
            writer.add("train", list(pictures[i]), captions, f"s{i}", [LABEL, LABEL])
    samples = read_samples(export(path, "train", tmp_path / "out"))
    assert [story.story_id for story in samples.stories] == ["s0", "s1"]
    for story, expected in zip(samples.stories, pictures, strict=True):
        assert story.labels == [LABEL, LABEL]
        for frame, picture in zip(story.frames, expected, strict=True):
            assert np.array_equal(np.asarray(Image.open(samples.folder / frame)), picture)
    assert samples.stories[1].captions == ["One 1.", "Two."]
