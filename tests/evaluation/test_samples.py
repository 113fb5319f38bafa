from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from sample_folders import write_manifest, write_samples

from common.files import replacing
from evaluation.samples import open_samples, read_picture, read_samples


def test_reads_stories_and_their_pictures(tmp_path):
    write_samples(tmp_path, stories=2)
    samples = read_samples(tmp_path)
    first = samples.stories[0]
    assert [story.story_id for story in samples.stories] == ["story0", "story1"]
    assert first.captions == ["Frame 0.", "Frame 1."] and first.sampler == {"steps": 12}
    assert len(first.reference_frames) == 2 and samples.vocabulary is None
    frame = read_picture(first.frames[0])
    assert frame.shape == (128, 128, 3) and tuple(frame[0, 0]) == (200, 30, 30)


def test_own_stories_have_no_references(tmp_path):
    write_samples(tmp_path, references=False)
    assert read_samples(tmp_path).stories[0].reference_frames == []


def test_line_separators_inside_captions_do_not_end_a_manifest_line(tmp_path):
    entry = write_samples(tmp_path, stories=1)[0]
    entry["captions"][0] = "one\u2028two"
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry, ensure_ascii=False), "utf-8")
    assert read_samples(tmp_path).stories[0].captions[0] == "one\u2028two"


def test_missing_folder_and_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_samples(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no manifest.jsonl"):
        read_samples(tmp_path)


def test_empty_manifest(tmp_path):
    (tmp_path / "manifest.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="lists no story"):
        read_samples(tmp_path)


def test_manifest_line_that_is_not_json_is_named(tmp_path):
    write_samples(tmp_path, stories=1)
    with open(tmp_path / "manifest.jsonl", "a") as file:
        file.write('{"story_id": "half')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": ["gone.png", "story0/0001.png"]}, "'gone.png', which is not in"),
        ({"frames": ["../secret.png", "story0/0001.png"]}, "outside the samples folder"),
        ({"frames": ["/etc/passwd", "story0/0001.png"]}, "outside the samples folder"),
        ({"captions": ["only one"]}, "2 frames but 1 captions"),
        ({"captions": [1, 2]}, r"'captions' is \[1, 2\]"),
        ({"reference_frames": ["story0/reference_0000.png"]}, "2 frames but 1 reference_frames"),
        ({"labels": [{}, {}, {}]}, "2 frames but 3 labels"),
        ({"story_id": None}, "'story_id' is None"),
        ({"frames": None}, "'frames' is None"),
        ({"given": 3}, "'given' is 3"),
        ({"given": "1"}, "'given' is '1'"),
    ],
)
def test_bad_entry_is_one_clear_error(tmp_path, change, message):
    entry = write_samples(tmp_path, stories=1)[0]
    write_manifest(tmp_path, [{**entry, **change}])
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read_samples(tmp_path)
    assert "manifest.jsonl line 1" in str(caught.value)


def test_a_story_listed_twice(tmp_path):
    entry = write_samples(tmp_path, stories=1)[0]
    write_manifest(tmp_path, [entry, entry])
    with pytest.raises(ValueError, match="'story0' 2 times"):
        read_samples(tmp_path)


def test_incomplete_vocabulary(tmp_path):
    write_samples(tmp_path)
    (tmp_path / "label_vocabulary.json").write_text('{"characters": ["ann"], "places": []}')
    with pytest.raises(ValueError, match="label_vocabulary.json.*non-empty list 'places'"):
        read_samples(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"no picture", None])
def test_unreadable_picture_is_named(tmp_path, damage):
    path = tmp_path / "frame.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:500] if damage is None else damage)
    with pytest.raises(ValueError, match="frame.png cannot be used"):
        read_picture(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "out.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    assert (tmp_path / "out.txt").read_text() == "old"


def test_story_folders_named_by_signs_that_look_like_digits(tmp_path):
    for name in ("②", "10", "2", "①"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    stories = open_samples(tmp_path).stories
    assert [story.story_id for story in stories] == ["2", "10", "①", "②"]
