"""Stories written by hand: what is read, and what the sentence says when it cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.story_file import read_story_file
from datasets.story_prompts import StoryPrompt

CAPTIONS = ["Pip is in the meadow.", "He waves.", "He falls asleep."]
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def write(tmp_path):
    """Writes a story file (text as it is, anything else as YAML or JSON) and returns its path."""

    def write_file(content, name="mine.yaml"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif name.endswith(".json"):
            path.write_text(json.dumps(content, indent="\t"), encoding="utf-8")
        else:
            path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def picture(tmp_path):
    """Writes 6x4 pixels, left half red and right half blue, and returns the file's name."""

    def write_picture(name, **how):
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[:, :3], pixels[:, 3:] = RED, BLUE
        Image.fromarray(pixels).save(tmp_path / name, **how)
        return name

    return write_picture


def read(path, continuation=False):
    return read_story_file(path, continuation)


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.json", "mine.JSON", "mine"])
def test_one_story_takes_its_id_from_the_file(write, name):
    content = {"captions": CAPTIONS}
    path = write(json.dumps(content, indent="\t") if "JSON" in name else content, name)
    assert read(path) == [StoryPrompt("mine", CAPTIONS)]


def test_the_form_of_the_docstring_reads(write, picture):
    picture("pip.png")
    path = write(
        "captions: [Pip is in the meadow., He waves., He falls asleep.]\n"
        "first_frame: pip.png        # only for continuation\n"
    )
    (story,) = read(path, continuation=True)
    assert story.captions == CAPTIONS
    assert story.first_frame.shape == (4, 6, 3)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("name", ["two.yaml", "two.json"])
def test_several_stories_with_and_without_ids(write, wrapped, name):
    entries = [{"captions": CAPTIONS, "story_id": "pip"}, {"captions": CAPTIONS[:2]}]
    stories = read(write({"stories": entries} if wrapped else entries, name))
    assert [story.story_id for story in stories] == ["pip", "two-002"]
    assert [len(story.captions) for story in stories] == [3, 2]


def test_ids_may_be_numbers_and_null_means_none(write):
    entries = [{"captions": CAPTIONS, "story_id": 7}, {"captions": CAPTIONS, "story_id": None}]
    assert [story.story_id for story in read(write(entries))] == ["7", "mine-002"]


def test_captions_lose_line_breaks_and_keep_other_alphabets(write):
    path = write({"captions": ["Pip\n  geht   über\tdie Brücke. ", "他挥手。"]})
    assert read(path)[0].captions == ["Pip geht über die Brücke.", "他挥手。"]


@pytest.mark.parametrize("name", ["mine.yaml", "mine.json"])
def test_the_mark_some_editors_put_first_is_no_text(write, name):
    path = write(b"\xef\xbb\xbf" + json.dumps({"captions": CAPTIONS}).encode(), name)
    assert read(path)[0].captions == CAPTIONS


def test_json_is_read_by_its_own_rules(write):
    path = write('{"captions": ["A \\ud83d\\ude00 face\\/smile."]}', "mine.json")
    assert read(path)[0].captions == ["A 😀 face/smile."]


def test_first_frame_is_relative_to_the_file_not_to_the_working_folder(
    write, picture, tmp_path, monkeypatch
):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "elsewhere").mkdir()
    picture("pictures/pip.png")
    path = write({"captions": CAPTIONS, "first_frame": "pictures/pip.png"})
    monkeypatch.chdir(tmp_path / "elsewhere")
    frame = read(path, continuation=True)[0].first_frame
    assert frame.dtype == np.uint8 and frame.flags.writeable
    assert tuple(frame[0, 0]) == RED and tuple(frame[0, -1]) == BLUE


def test_first_frame_may_be_absolute(write, picture, tmp_path):
    picture("pip.png")
    path = write({"captions": CAPTIONS, "first_frame": str(tmp_path / "pip.png")})
    assert read(path, continuation=True)[0].first_frame.shape == (4, 6, 3)


def test_a_file_name_that_cannot_name_a_folder_asks_for_an_id(write):
    path = write({"captions": CAPTIONS}, "my story (1).yaml")
    with pytest.raises(ValueError, match="give a story_id of plain letters"):
        read(path)
    (story,) = read(write({"captions": CAPTIONS, "story_id": "pip"}, "b (1).yaml"))
    assert story.story_id == "pip"


@pytest.mark.parametrize("story_id", ["007", "no", "1e3", "2026-01-01", "0x1F", "1.50"])
def test_ids_are_taken_as_they_are_written(write, story_id):
    (story,) = read(write(f"captions: [A.]\nstory_id: {story_id}\n"))
    assert story.story_id == story_id


def test_what_yaml_keeps_whole_is_read(write):
    text = (
        'captions:\n- "Luna, the cat #7: asleep."\n- Luna wakes, yawns, jumps\n# a remark\n'
        '- She \'s C#.\n- "Luna \\ud83d\\ude00 waves."\n'
    )
    assert read(write(text))[0].captions == [
        "Luna, the cat #7: asleep.", "Luna wakes, yawns, jumps", "She 's C#.", "Luna 😀 waves."
    ]  # fmt: skip
    anchors = "- &one\n  captions: [He waves.]\n- <<: *one\n  story_id: b\n"
    assert [story.captions for story in read(write(anchors))] == [["He waves."]] * 2
