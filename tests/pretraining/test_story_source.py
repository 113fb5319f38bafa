"""A story file as a source: training stories alone, every picture once, the story so far."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.pictures import encode_picture
from datasets.story_writer import StoryWriter
from pretraining.source import Example
from pretraining.story_source import LONGEST, so_far, story_source, telling_words
from pretraining.vocabulary import token_counter

FRAMES = 3
CAPTIONS = ["Milo the cat wakes.", "He jumps.", "He sleeps by the sea."]


def picture(number, side=64):
    return np.full((side, side, 3), number, np.uint8)


@pytest.fixture
def file(tmp_path):
    """Two training stories with a picture in common; of validation one seen, one new picture."""
    with StoryWriter(tmp_path / "stories.h5", FRAMES) as writer:
        for split, numbers in (("train", (1, 2, 3)), ("train", (3, 4, 5)), ("val", (5, 90, 91))):
            shown = [encode_picture(picture(n)) for n in numbers]
            writer.add(split, shown, {"text": CAPTIONS})
    return tmp_path / "stories.h5"


def test_training_pictures_are_learnt_once_and_others_measured(file):
    source = story_source(file, 64)
    assert [int(frame[0, 0, 0]) for frame in source.frames] == [1, 2, 3, 4, 5]
    assert [example.frame for example in source.examples] == [0, 1, 2, 2, 3, 4]
    assert [example.caption for example in source.examples] == 2 * CAPTIONS
    assert source.examples[1].full == "Milo the cat wakes. He jumps."
    assert [int(frame[0, 0, 0]) for frame in source.held_out] == [90, 91]  # 5 was trained on
    assert [example.frame for example in source.held_out_examples] == [0, 1]
    assert source.max_length == 32 and not source.determined
    assert source.captions.count("He jumps.") == 2


def test_pictures_of_another_size_are_resized_and_training_stories_asked_for(tmp_path):
    with StoryWriter(tmp_path / "a.h5", 1) as writer:
        half = picture(0, 100)
        half[:, 50:] = 200
        writer.add("train", [encode_picture(half)], {"text": ["It is."]})
    with StoryWriter(tmp_path / "b.h5", 1) as writer:
        writer.add("val", [encode_picture(half)], {"text": ["It is."]})
    with pytest.raises(ValueError, match="'train' holds no story"):
        story_source(tmp_path / "b.h5", 64)
    (frame,) = story_source(tmp_path / "a.h5", 64).frames
    assert frame.shape == (3, 64, 64) and frame.dtype == torch.uint8
    assert (frame[:, :, :30] == 0).all() and (frame[:, :, 34:] == 200).all()


def test_an_oblong_picture_is_one_in_every_story_and_split(tmp_path):
    wide = np.tile(np.arange(160, dtype=np.uint8)[None, :, None], (64, 1, 3))
    with StoryWriter(tmp_path / "wide.h5", 2) as writer:
        for split in ("train", "train", "val"):
            writer.add(split, [encode_picture(wide)] * 2, {"text": CAPTIONS[:2]})
    source = story_source(tmp_path / "wide.h5", 64)
    assert len(source.frames) == 1 and not len(source.held_out)
    assert source.frames[0, 0, 0].tolist() == list(range(48, 112))  # its middle
    assert [example.frame for example in source.examples] == [0] * 4


def test_too_long_a_story_loses_its_oldest_captions():
    captions = [f"word{'x' * n} " * 30 for n in range(3)]
    count = token_counter(captions)
    told = so_far(captions, count)
    assert told.split() == (captions[1] + captions[2]).split()
    assert len(told.split()) + 2 <= LONGEST
    assert so_far(["a " * 100], count).split() == ["a"] * 100  # its own is never dropped


def test_captions_without_spaces_are_counted_as_they_are_read():
    captions = ["小猫在海边跳舞。", "她在雪山上睡着了。"]  # of eight and nine letters
    count = token_counter(captions)
    assert [count(caption) for caption in captions] == [10, 11]
    assert so_far(captions, count, longest=19) == " ".join(captions)
    assert so_far(captions, count, longest=18) == captions[1]


def test_words_tell_that_captions_leave_out_and_that_are_rare():
    examples = [
        Example(0, "They jump.", f"{name} is in the {place}. They jump.")
        for name in ("Milo", "Gus", "Olga", "Pip")
        for place in ("city", "sea")
    ] + [Example(0, "Zara jumps.", "Zara jumps.")]
    first = telling_words(examples)[0]
    assert first[:4] == ["gus", "milo", "olga", "pip"] and set(first[4:6]) == {"city", "sea"}
    rest = [word for words in telling_words(examples) for word in words]
    assert rest.index("the") > rest.index("sea")  # as often left out, but in nearly all
    assert rest.index("zara") > rest.index("the")  # never left out
    assert "." not in rest
