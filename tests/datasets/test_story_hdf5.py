"""The story file: round trips, the colour trap, other people's files, ways to break one."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from datasets.check import check_story_file
from datasets.pictures import encode_picture
from datasets.story_hdf5 import SPLITS, StoryFile, is_story_id, validate_story_file
from datasets.story_writer import BLOCK, StoryWriter
from tests.noise import noise

ROOT = Path(__file__).resolve().parents[2]


def picture(height: int = 8, width: int = 8) -> np.ndarray:
    return noise(height, width)


def write(path: Path) -> Path:
    with StoryWriter(path, 2) as writer:
        for split in SPLITS:
            writer.add(split, [picture(), picture()], {"text": [f"{split} 0", f"{split} 1"]})
    return path


def original_file(path: Path, texts: dict[str, list[str]], k: int = 5) -> list[np.ndarray]:
    """A file as the original programs write it: fixed-size data sets, no extras, BGR in the PNG.

    texts: key -> the joined captions of every story; all stories have the pictures returned.
    """
    pictures = [picture(12, 4) for _ in range(k)]
    with h5py.File(path, "w") as file:
        for split in SPLITS:
            for key, told in texts.items():
                file.create_dataset(f"{split}/{key}", dtype=h5py.string_dtype("utf-8"), data=told)
            for i, rgb in enumerate(pictures):
                stream = io.BytesIO()
                Image.fromarray(rgb[..., ::-1].copy()).save(stream, "PNG")
                kind = h5py.vlen_dtype(np.uint8)
                column = file.create_dataset(f"{split}/image{i}", (len(told),), kind)
                for n in range(len(told)):
                    column[n] = np.frombuffer(stream.getvalue(), np.uint8)
    return pictures


@pytest.mark.parametrize("k", [1, 5])
def test_round_trip(tmp_path, k):
    sizes = {"train": 2 * BLOCK + 3, "val": BLOCK, "test": 1}
    stories = {
        split: [[picture(8 * (1 + i % 3), 8) for _ in range(k)] for i in range(count)]
        for split, count in sizes.items()
    }
    vocabulary, keys = {"places": ["beach"], "characters": ["pip"]}, ("sis", "dii")
    with StoryWriter(tmp_path / "s.h5", k, keys, {"label_vocabulary": vocabulary}) as writer:
        for i in range(2 * BLOCK + 3):
            for split in SPLITS:  # splits interleaved
                if i < sizes[split]:
                    captions = {key: [f"é {key} {split} {i} {j}" for j in range(k)] for key in keys}
                    labels = [{"place": "beach", "n": i + j} for j in range(k)]
                    pictures = stories[split][i]
                    pictures = pictures if i % 2 else [encode_picture(p) for p in pictures]
                    writer.add(split, pictures, captions, f"{split} {i}", labels)
    assert validate_story_file(tmp_path / "s.h5", text_keys=keys) == sizes
    for split in SPLITS:
        file = StoryFile(tmp_path / "s.h5", split, "dii")
        assert (len(file), file.pictures_per_story) == (sizes[split], k)
        assert file.label_vocabulary == vocabulary
        for i, pictures in enumerate(stories[split]):
            assert file.story_id(i) == f"{split} {i}"
            assert file.captions(i) == [f"é dii {split} {i} {j}" for j in range(k)]
            assert file.labels(i) == [{"place": "beach", "n": i + j} for j in range(k)]
            for j in range(k):
                np.testing.assert_array_equal(file.picture(i, j), pictures[j])
    del file
    with h5py.File(tmp_path / "s.h5", "a") as content:
        content["test/story_id"][0] = "../../etc"  # an unsafe id is not used
    assert StoryFile(tmp_path / "s.h5", "test", "sis").story_id(0) == "test-00000"


def test_red_and_blue_are_swapped_in_the_bytes_and_nowhere_else(tmp_path):
    red_over_blue = np.zeros((4, 4, 3), np.uint8)
    red_over_blue[:2] = (250, 20, 0)
    red_over_blue[2:] = (0, 60, 240)
    with StoryWriter(tmp_path / "s.h5", 1) as writer:
        writer.add("train", [red_over_blue], {"text": ["flag"]})
    with h5py.File(tmp_path / "s.h5") as file:
        as_pil_sees_it = np.asarray(Image.open(io.BytesIO(file["train/image0"][0])))
    assert as_pil_sees_it[0, 0].tolist() == [0, 20, 250]
    np.testing.assert_array_equal(as_pil_sees_it[..., ::-1], red_over_blue)
    ours = StoryFile(tmp_path / "s.h5", "train").picture(0, 0)
    np.testing.assert_array_equal(ours, red_over_blue)


def test_a_file_of_the_originals_is_read(tmp_path):
    told = "|".join(f"Szene {i}: schön" for i in range(5))
    pictures = original_file(tmp_path / "pororo.h5", {"text": [told]})
    found = check_story_file(tmp_path / "pororo.h5", len)
    assert found.problems == [] and found.frames == 5 and found.sizes == {(12, 4): 15}
    assert validate_story_file(tmp_path / "pororo.h5") == dict.fromkeys(SPLITS, 1)
    file = StoryFile(tmp_path / "pororo.h5", "val")
    for k, rgb in enumerate(pictures):
        np.testing.assert_array_equal(file.picture(0, k), rgb)
    assert file.captions(0)[4] == "Szene 4: schön"
    assert file.story_id(0) == "val-00000"
    assert file.labels(0) is None and file.label_vocabulary is None


def test_every_process_has_its_own_handle(tmp_path):
    file = StoryFile(write(tmp_path / "s.h5"), "train")
    here = file.picture(0, 1).tobytes()
    copy = pickle.loads(pickle.dumps(file))  # as a spawned worker gets it
    assert copy._handle is None and copy.picture(0, 1).tobytes() == here

    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    child = fork.Process(  # inherits the open handle and must not use it
        target=lambda: answer.put((file.picture(0, 1).tobytes(), file._handle[0], os.getpid()))
    )
    child.start()
    there, owner, pid = answer.get()
    child.join()
    assert there == here and owner == pid != os.getpid()


def test_story_ids_are_those_that_can_name_a_folder():
    assert all(map(is_story_id, ("a", "Ünï-1.b c", "x" * 100, "7", "a_b", "राम", "cafe\u0301")))
    strange = ("", ".", "..", "../a", "a/b", "a\\b", "a\n", "a.", " a", "x" * 101, "-")
    assert not any(map(is_story_id, strange))


GOOD = {"split": "train", "pictures": [picture(), picture()], "texts": {"text": ["a", "b"]}}
BAD_STORIES = {
    "split": ({"split": "validation"}, "'validation' is unknown: use one of train, val, test"),
    "one picture": ({"pictures": [picture()]}, "has 1 pictures: give 2"),
    "grey": ({"pictures": [picture(), picture()[..., 0]]}, r"picture 1: give a uint8 .*\(8, 8\)"),
    "jpeg": ({"pictures": [picture(), np.frombuffer(b"\xff\xd8\xff", np.uint8)]}, "picture 1"),
    "captions": ({"texts": {"text": ["a"]}}, "has 1 text: give 2"),
    "text key": ({"texts": {"sis": ["a", "b"]}}, r"texts \['sis'\], expected \['text'\]"),
    "separator": ({"texts": {"text": ["a", "b|c"]}}, "remove '|' from the caption 'b|c'"),
    "path id": ({"story_id": "../up"}, "'../up': use 1-100 letters"),
    "long id": ({"story_id": "字" * 90}, "use 1-100 letters .200 bytes"),
    "twice": ({"story_id": "first"}, "'first' was added twice: give every story its own id"),
    "labels": ({"labels": [{}]}, "label every story of a file, or none"),
}


@pytest.mark.parametrize("change, message", BAD_STORIES.values(), ids=BAD_STORIES)
def test_bad_stories_are_refused_and_nothing_is_left(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):  # noqa: PT012
        with StoryWriter(tmp_path / "s.h5", 2) as writer:
            writer.add(**GOOD, story_id="first")
            writer.add(**{**GOOD, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    path = write(tmp_path / "s.h5")
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        with StoryWriter(path, 2) as writer:
            writer.add(**GOOD)
            raise KeyboardInterrupt
    with pytest.raises(ValueError, match="s.h5 was not written: add at least one story"):
        with StoryWriter(path, 2):
            pass

    def full(*_):
        raise OSError(28, "No space left on device")

    for place in ("datasets.story_writer.StoryWriter._append", "os.replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="MB left; free some sp"):
            patch.setattr(place, full)
            write(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for place, error, message in (
        ("file/s.h5", OSError, "cannot write .*file/s.h5: .*/file is a file; move it away, or ch"),
        ("/proc/s.h5", OSError, "cannot write /proc/s.h5: .*; make /proc writable, or choose ano"),
        ("", ValueError, "is a folder: give the name of a file"),
    ):
        with pytest.raises(error, match=message) as caught:
            write(tmp_path / place)
        assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_stories_with_missing_captions_are_left_out(tmp_path):
    """As the originals write VIST: `dii` lacks what two pictures share."""
    path = tmp_path / "vist.h5"
    texts = {
        key: ["|".join(f"{key} {n} {j}" for j in range(count)) for n, count in enumerate(counts)]
        for key, counts in {"sis": [5] * 5, "dii": [5, 4, 5, 6, 5]}.items()
    }
    original_file(path, texts)
    assert validate_story_file(path, text_keys=("sis",)) == dict.fromkeys(SPLITS, 5)
    assert validate_story_file(path, text_keys=("sis", "dii")) == dict.fromkeys(SPLITS, 3)
    file = StoryFile(path, "val", "dii")
    assert (len(file), file.rows) == (3, [0, 2, 4])
    assert file.left_out == {
        1: "4 captions in 'dii' for 5 pictures", 3: "6 captions in 'dii' for 5 pictures"
    }  # fmt: skip
    # A story is called as in a file that holds it and its neighbours whole.
    assert [file.story_id(i) for i in range(3)] == ["val-00000", "val-00002", "val-00004"]
    assert [file.captions(i)[3] for i in range(3)] == ["dii 0 3", "dii 2 3", "dii 4 3"]
    assert file.all_captions()[5:10] == file.captions(1)
    assert StoryFile(path, "val", "sis").story_id(2) == "val-00002"
    del file
    with h5py.File(path, "a") as content:
        content["val/image3"][4] = np.frombuffer(b"<html>gone</html>", np.uint8)
    says = "vist.h5: story 4 of 'val' is broken .image3: .*again, or .*check .* --leave_out"
    with pytest.raises(ValueError, match=says):
        StoryFile(path, "val", "dii").picture(2, 3)
