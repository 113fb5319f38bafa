"""Stories written by hand: what is read, and what the sentence says when it cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.story_prompts import StoryPrompt
from datasets.written_stories import read_written_stories

CAPTIONS = ["Pip is in the meadow.", "He waves.", "He falls asleep."]
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def read(tmp_path):
    """The stories of a file with this content: bytes and text as they are, else as YAML or JSON."""

    def read_written(content, name="mine.yaml", continuation=False):
        if not isinstance(content, bytes | str):
            as_json = name.lower().endswith(".json")
            content = json.dumps(content, indent="\t") if as_json else yaml.safe_dump(content)
        text = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(text)
        return read_written_stories(tmp_path / name, continuation)

    return read_written


def test_one_story_takes_its_id_from_the_file(read):
    for name in ("mine.yaml", "mine.yml", "mine.JSON", "mine"):
        assert read({"captions": CAPTIONS}, name) == [StoryPrompt("mine", CAPTIONS)]
    with pytest.raises(ValueError, match="give a story_id of plain letters"):
        read({"captions": CAPTIONS}, "my story (1).yaml")
    (story,) = read({"captions": CAPTIONS, "story_id": "pip"}, "b (1).yaml")
    assert story.story_id == "pip"
    for story_id in ("007", "no", "1e3", "2026-01-01", "0x1F", "1.50"):  # as they are written
        (story,) = read(f"captions: [A.]\nstory_id: {story_id}\n")
        assert story.story_id == story_id


MARKED = b"\xef\xbb\xbf" + json.dumps({"captions": CAPTIONS}).encode()
WRITTEN = {  # content, name, captions
    "line breaks": ({"captions": ["Pip\n  geht   über\tdie Brücke. ", "他挥手。"]}, "mine.yaml",
                    ["Pip geht über die Brücke.", "他挥手。"]),
    "a mark that some editors put first": (MARKED, "mine.yaml", CAPTIONS),
    "the mark in JSON": (MARKED, "mine.json", CAPTIONS),
    "JSON by its own rules": ('{"captions": ["A \\ud83d\\ude00 face\\/smile."]}', "mine.json",
                              ["A 😀 face/smile."]),
    "what YAML keeps whole": (
        'captions:\n- "Luna, the cat #7: asleep."\n- Luna wakes, yawns, jumps\n# a remark\n'
        '- She \'s C#.\n- "Luna \\ud83d\\ude00 waves."\n', "mine.yaml",
        ["Luna, the cat #7: asleep.", "Luna wakes, yawns, jumps", "She 's C#.", "Luna 😀 waves."]),
}  # fmt: skip


@pytest.mark.parametrize("content, name, captions", WRITTEN.values(), ids=WRITTEN)
def test_captions_are_read_as_they_are_meant(read, content, name, captions):
    assert read(content, name)[0].captions == captions


@pytest.mark.parametrize("wrapped, name", [(True, "two.yaml"), (False, "two.json")])
def test_several_stories_with_and_without_ids(read, wrapped, name):
    entries = [
        {"captions": CAPTIONS, "story_id": "pip"}, {"captions": CAPTIONS[:2]},
        {"captions": ["A."], "story_id": None}, {"captions": ["A."], "story_id": 7},
    ]  # fmt: skip
    stories = read({"stories": entries} if wrapped else entries, name)
    assert [story.story_id for story in stories] == ["pip", "two-002", "two-003", "7"]
    assert [len(story.captions) for story in stories] == [3, 2, 1, 1]


def test_stories_may_share_what_an_anchor_names(read):
    stories = read("- &one\n  captions: [He waves.]\n- <<: *one\n  story_id: b\n")
    assert [story.captions for story in stories] == [["He waves."]] * 2


def test_a_first_frame_is_found_beside_the_file_or_by_its_whole_path(read, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :3], pixels[:, 3:] = RED, BLUE
    Image.fromarray(pixels).save(tmp_path / "pictures" / "pip.png")
    monkeypatch.chdir(tmp_path / "pictures")  # not relative to the working folder
    for path in ("pictures/pip.png", tmp_path / "pictures" / "pip.png"):
        text = f"captions: [Pip., He waves.]\nfirst_frame: {path}        # for continuation\n"
        frame = read(text, continuation=True)[0].first_frame
        assert frame.dtype == np.uint8 and frame.flags.writeable
        np.testing.assert_array_equal(frame, pixels)
