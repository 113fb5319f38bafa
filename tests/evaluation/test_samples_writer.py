"""The samples folder survives kills, resumes, and is filled by several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.files import writing_folder
from evaluation.samples import SamplesFolder, read_picture, remove_stories

SAMPLER = {"scheduler": "ddim", "eta": 0.0}
SETTINGS = {"seed": 0, "given": 0, "checkpoint": "abc", "sampler": SAMPLER}
REPOSITORY = Path(__file__).parents[2]


def pictures(seed, count=2):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)


def add(folder, number, **how):
    folder.add(f"s{number}", ["First.", "Second – ‘ü’."], pictures(number), **how)


def entries(path):
    return [json.loads(line) for line in (path / "manifest.jsonl").read_text("utf-8").splitlines()]


def check_whole(path, numbers):
    """Every story once, with all the pictures its line names, and nothing half-written."""
    assert sorted(entry["story_id"] for entry in entries(path)) == [f"s{n}" for n in numbers]
    for entry in entries(path):
        expected = pictures(int(entry["story_id"][1:]))
        for name, frame in zip(entry["frames"], expected, strict=True):
            assert np.array_equal(np.asarray(Image.open(path / name)), frame)
    folders = {item.name for item in path.iterdir() if item.is_dir() and item.name[0] != "."}
    assert folders == {f"s{n}" for n in numbers}


def test_a_line_says_everything_about_a_story(tmp_path):
    folder = SamplesFolder(tmp_path / "a" / "b", SETTINGS, {"places": ["sea"]})
    labels = [{"place": "sea"}, {"place": "sea"}]
    add(folder, 1, reference_frames=list(pictures(7)), labels=labels)
    add(folder, 2)
    first, second = entries(folder.path)
    assert first == {
        "story_id": "s1", "captions": ["First.", "Second – ‘ü’."],
        "frames": ["s1/0000.png", "s1/0001.png"],
        "reference_frames": ["s1/reference_0000.png", "s1/reference_0001.png"],
        **SETTINGS, "labels": labels,
    }  # fmt: skip
    assert second["reference_frames"] == [] and second["labels"] is None
    reference = np.asarray(Image.open(folder.path / "s1/reference_0001.png"))
    assert np.array_equal(reference, pictures(7)[1])
    check_whole(folder.path, [1, 2])
    vocabulary = json.loads((folder.path / "label_vocabulary.json").read_text())
    assert vocabulary == {"places": ["sea"]}
    assert {item.name for item in folder.path.iterdir()} == {
        "s1", "s2", "manifest.jsonl", "label_vocabulary.json",
    }  # fmt: skip


def test_done_stories_are_skipped(tmp_path):
    add(SamplesFolder(tmp_path, SETTINGS), 1)
    before = (tmp_path / "manifest.jsonl").read_bytes()
    folder = SamplesFolder(tmp_path, SETTINGS)
    assert folder.done == {"s1"}
    folder.add("s1", ["Other."], pictures(9))
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    add(folder, 2)
    assert folder.done == {"s1", "s2"}
    check_whole(tmp_path, [1, 2])


def test_a_line_cut_short_is_dropped_and_its_story_drawn_again(tmp_path):
    folder = SamplesFolder(tmp_path, SETTINGS)
    add(folder, 1)
    for cut in (1, 40):
        add(folder, 2)
        manifest = tmp_path / "manifest.jsonl"
        manifest.write_bytes(manifest.read_bytes()[:-cut])
        folder = SamplesFolder(tmp_path, SETTINGS)
        assert folder.done == {"s1"}
    add(folder, 2)
    check_whole(tmp_path, [1, 2])


def test_a_folder_that_no_line_names_is_the_users_and_stays(tmp_path):
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "0000.png").write_bytes(b"a photograph")
    asked = {"s1": {"captions": ["First.", "Second – ‘ü’."]}}
    with pytest.raises(ValueError, match="s1/0000.png is there, but manifest.jsonl does not"):
        SamplesFolder(tmp_path, SETTINGS, asked=asked)
    with pytest.raises(ValueError, match="does not list it as ours: move it away, or"):
        add(SamplesFolder(tmp_path, SETTINGS), 1)
    assert (tmp_path / "s1" / "0000.png").read_bytes() == b"a photograph"
    assert not (tmp_path / "manifest.jsonl").read_bytes()


def test_a_story_that_is_drawn_again_takes_nothing_of_the_users_along(tmp_path):
    asked = {"s1": {"captions": ["First.", "Second – ‘ü’."]}}
    add(SamplesFolder(tmp_path, SETTINGS, asked=asked), 1)
    asked["s1"] = {"captions": ["Now.", "Another."]}
    folder = SamplesFolder(tmp_path, SETTINGS, asked=asked)
    assert folder.done == set() and len(entries(tmp_path)) == 1  # still there till it is replaced
    (tmp_path / "s1" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="s1/notes.txt is there, but manifest.jsonl does not list"):
        add(folder, 1)
    assert (tmp_path / "s1" / "notes.txt").read_text() == "mine"
    (tmp_path / "s1" / "notes.txt").unlink()
    (tmp_path / "s1" / "candidates").mkdir()  # of `redraw`
    with pytest.raises(ValueError, match="s1/candidates holds candidates for .* 's1', which now"):
        SamplesFolder(tmp_path, SETTINGS, asked=asked)
    (tmp_path / "s1" / "candidates").rmdir()
    add(SamplesFolder(tmp_path, SETTINGS, asked=asked), 1)
    assert [entry["captions"] for entry in entries(tmp_path)] == [["Now.", "Another."]]
    check_whole(tmp_path, [1])


@pytest.mark.parametrize("size", [0, 5, 60])
def test_a_story_with_a_picture_that_is_cut_short_is_drawn_again(tmp_path, size):
    asked = {"s1": {"captions": ["First.", "Second – ‘ü’."]}}
    add(SamplesFolder(tmp_path, SETTINGS, asked=asked), 1)
    path = tmp_path / "s1" / "0001.png"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="cannot be used .*: delete it and run the same samp"):
        read_picture(path)
    folder = SamplesFolder(tmp_path, SETTINGS, asked=asked)
    assert folder.done == set()
    assert folder.again == {"s1": "left with a picture missing or cut short"}
    add(folder, 1)
    check_whole(tmp_path, [1])
    Image.open(path).save(path, "BMP")  # of another program, but whole
    assert SamplesFolder(tmp_path, SETTINGS, asked=asked).done == {"s1"}


def test_frames_that_were_drawn_again_are_not_drawn_over(tmp_path):
    asked = {"s1": {"captions": ["First.", "Second – ‘ü’."]}}
    add(SamplesFolder(tmp_path, SETTINGS, asked=asked), 1)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({**entries(tmp_path)[0], "redrawn": {"1": {"seed": 5}}}) + "\n")
    before = manifest.read_bytes()
    assert SamplesFolder(tmp_path, SETTINGS, asked=asked).again == {}
    other = {"s1": {"captions": ["Now.", "Another."]}}
    with pytest.raises(ValueError, match="s1 has frames .* drawn from other captions .* delete th"):
        SamplesFolder(tmp_path, SETTINGS, asked=other)
    assert manifest.read_bytes() == before
    check_whole(tmp_path, [1])
    (tmp_path / "s1" / "0000.png").unlink()
    with pytest.raises(ValueError, match="s1 has frames .* left with a picture missing or cut"):
        SamplesFolder(tmp_path, SETTINGS, asked=asked)
    (tmp_path / "s1" / "0001.png").unlink()
    (tmp_path / "s1").rmdir()
    assert SamplesFolder(tmp_path, SETTINGS, asked=other).again == {}


def test_stories_make_room_for_others_and_leave_what_is_the_users(tmp_path):
    remove_stories(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    folder = SamplesFolder(tmp_path, SETTINGS)
    add(folder, 1, reference_frames=list(pictures(7)))
    add(folder, 2)
    (tmp_path / "s2" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="s2/notes.txt is there, but manifest.jsonl does not list"):
        remove_stories(tmp_path)
    check_whole(tmp_path, [1, 2])
    (tmp_path / "s2" / "notes.txt").unlink()
    (tmp_path / "s1" / "0001.png").unlink()
    remove_stories(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == {"notes.txt", "manifest.jsonl"}
    add(SamplesFolder(tmp_path, {**SETTINGS, "seed": 1}), 1)
    check_whole(tmp_path, [1])


def test_a_manifest_is_rewritten_whole_or_not_at_all(tmp_path, monkeypatch):
    asked = {"s1": {"captions": ["First.", "Second – ‘ü’."]}}
    add(SamplesFolder(tmp_path, SETTINGS, asked=asked), 1)
    asked["s1"] = {"captions": ["Now.", "Another."]}
    folder = SamplesFolder(tmp_path, SETTINGS, asked=asked)
    before, write = (tmp_path / "manifest.jsonl").read_bytes(), Path.write_bytes

    def half(path, content):
        write(path, content[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        add(folder, 1)
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    check_whole(tmp_path, [1])  # with the pictures that it had


def test_a_story_is_replaced_where_no_folder_can_be(tmp_path, monkeypatch):
    """As on Windows, not even an empty one."""
    asked = {"s1": {"captions": ["First.", "Second – ‘ü’."]}}
    add(SamplesFolder(tmp_path, SETTINGS, asked=asked), 1)
    asked["s1"] = {"captions": ["Now.", "Another."]}
    folder, replace = SamplesFolder(tmp_path, SETTINGS, asked=asked), os.replace

    def as_on_windows(source, target):
        if Path(target).is_dir():
            raise PermissionError(13, "Access is denied", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", as_on_windows)
    add(folder, 1)
    assert [entry["captions"] for entry in entries(tmp_path)] == [["Now.", "Another."]]
    check_whole(tmp_path, [1])
    (tmp_path / "s2").mkdir()
    add(folder, 2)
    check_whole(tmp_path, [1, 2])
    assert not list(tmp_path.glob(".*"))
    with writing_folder(tmp_path / "empty") as new:
        (tmp_path / "empty").mkdir()
        (new / "x").write_text("x")
    assert (tmp_path / "empty" / "x").read_text() == "x"
    with pytest.raises(OSError, match="cannot write .*empty"):
        with writing_folder(tmp_path / "empty") as new:
            (new / "y").write_text("y")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["x"]


@pytest.mark.parametrize("story", ["..", "../up"])
def test_a_manifest_of_somebody_else_leads_to_no_other_folder(tmp_path, story):
    (tmp_path / "0000.png").write_text("the user's")
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "0000.png").write_text("the user's")
    samples = tmp_path / "samples"
    add(SamplesFolder(samples, SETTINGS), 1)
    line = (samples / "manifest.jsonl").read_text("utf-8").replace("s1", story)
    (samples / "manifest.jsonl").write_text(line, "utf-8")
    with pytest.raises(ValueError, match="line 1 is not a story"):
        remove_stories(samples)
    with pytest.raises(ValueError, match="line 1 is not a story"):
        SamplesFolder(samples, SETTINGS, asked={story: {"captions": ["Other."]}})
    (samples / "manifest.jsonl").write_text(line[:-20], "utf-8")
    SamplesFolder(samples, SETTINGS)
    for name in ("0000.png", "up/0000.png"):
        assert (tmp_path / name).read_text() == "the user's"


def test_what_lies_beside_the_stories_is_neither_overwritten_nor_a_storys_name(tmp_path):
    for name in ("storyboard.png", "Manifest.jsonl"):
        with pytest.raises(ValueError, match=f"story '{name}' would take the place of"):
            SamplesFolder(tmp_path, SETTINGS, asked={name: {"captions": ["a"]}})
    (tmp_path / "metrics.json").write_text("the user's")
    with pytest.raises(ValueError, match="has a metrics.json but no manifest.jsonl that shows it"):
        SamplesFolder(tmp_path, SETTINGS)


def test_other_settings_are_refused(tmp_path):
    add(SamplesFolder(tmp_path, SETTINGS), 1)
    for key, value in (("seed", 1), ("given", 1), ("checkpoint", "abd"),
                       ("sampler", {**SAMPLER, "eta": 1.0})):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{tmp_path}.* drawn with {key} .*another fo") as e:
            SamplesFolder(tmp_path, {**SETTINGS, key: value})
        assert repr(SETTINGS[key]) in str(e.value) and repr(value) in str(e.value)
    check_whole(tmp_path, [1])


# Another process draws stories and dies at a chosen moment.
WRITER = f"""
import os, signal, sys
import numpy as np
from PIL import Image
from evaluation.samples import SamplesFolder, remove_stories

path, moment, *numbers = sys.argv[1:]
die = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
folder = SamplesFolder(path, {SETTINGS!r})
for number in map(int, numbers):
    if number == 3:
        if moment == "before the folder":
            os.replace = die
        elif moment == "within the line":
            write = os.write
            os.write = lambda handle, line: (write(handle, line[:30]), die())
        elif moment == "within a picture":
            Image.Image.save = lambda self, file: (open(file, "wb").write(b"PNG"), die())
    frames = np.random.default_rng(number).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    folder.add(f"s{{number}}", ["First.", "Second."], frames)
"""


def writer(path, moment, *numbers):
    command = [sys.executable, "-c", WRITER, str(path), moment, *map(str, numbers)]
    return subprocess.Popen(command, cwd=REPOSITORY)


@pytest.mark.parametrize("moment", [
    "within a picture", "within the line", "before the folder",
])  # fmt: skip
def test_a_killed_run_is_resumed(tmp_path, moment):
    assert writer(tmp_path, moment, 1, 2, 3, 4).wait(60) == -signal.SIGKILL
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        folder = SamplesFolder(tmp_path, SETTINGS)
    left = [path for path in tmp_path.iterdir() if path.name[0] == "."]
    assert len(said) == len(left) == 1 and str(left[0]) in str(said[0].message)
    assert folder.done == {"s1", "s2"}
    assert [entry["story_id"] for entry in entries(tmp_path)] == ["s1", "s2"]
    for number in (1, 2, 3, 4):
        add(folder, number)
    check_whole(tmp_path, [1, 2, 3, 4])


def test_processes_at_once_write_whole_lines(tmp_path):
    shares = ([*range(start, 60, 2), *range(10)] for start in (0, 1))  # some stories twice
    processes = [writer(tmp_path, "never", *share) for share in shares]
    assert [process.wait(60) for process in processes] == [0, 0]
    check_whole(tmp_path, sorted(range(60), key=str))
