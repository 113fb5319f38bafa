"""A folder of pictures and captions becomes a story file, or one clear sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from data_script import folder_hdf5
from data_script.folder_hdf5 import build_folder_file, load_picture
from datasets.story_hdf5 import SPLITS, StoryFile, validate_story_file
from tests.noise import noise

ROOT = Path(__file__).resolve().parents[2]


def draw(path: Path, height: int = 6, width: int = 9) -> np.ndarray:
    rgb = noise(height, width)
    Image.fromarray(rgb).save(path)
    return rgb


def story(name: object, images=("a.png", "b.png"), **more) -> dict:
    frames = [{"image": image, "caption": f"{name} sees {image}."} for image in images]
    return {"story": name, "frames": frames, **more}


def folder(path: Path, stories: list, name: str = "captions.jsonl") -> Path:
    path.mkdir(exist_ok=True)
    draw(path / "a.png"), draw(path / "b.png", 4, 5), draw(path / "c.png")
    lines = [line if isinstance(line, str) else json.dumps(line) for line in stories]
    (path / name).write_text("\n".join(lines), "utf-8")
    return path


def names(path: Path, split: str) -> list[str]:
    file = StoryFile(path, split)
    return [file.story_id(i) for i in range(len(file))]


def test_json_lines_round_trip(tmp_path):
    data = folder(tmp_path / "d", [])
    (data / "deep").mkdir()
    pictures = [draw(data / "deep" / f"{i}.png", 5 + i, 12 - i) for i in range(3)]
    frames = [{"image": f"deep/{i}.png", "caption": f" Größe\n{i} "} for i in range(3)]
    (data / "captions.jsonl").write_text(json.dumps({"story": 7, "frames": frames}) + "\n\n")
    build_folder_file(data, tmp_path / "new" / "s.h5")
    assert validate_story_file(tmp_path / "new" / "s.h5", ("train",)) == {"train": 1}
    file = StoryFile(tmp_path / "new" / "s.h5", "train")
    assert file.pictures_per_story == 3 and file.story_id(0) == "7" and file.labels(0) is None
    assert file.captions(0) == ["Größe 0", "Größe 1", "Größe 2"]
    for k, rgb in enumerate(pictures):
        np.testing.assert_array_equal(file.picture(0, k), rgb)


def test_csv_with_interleaved_stories_and_splits(tmp_path):
    data = folder(tmp_path / "d", [])
    (data / "captions.jsonl").unlink()
    rows = ['x,a.png,"One, two.",val', "y,a.png,Y one.,train", "x,b.png,X two.,val", ",,,"]
    text = "\r\n".join(["story,image,caption,split", *rows, "y,b.png,Y two.,train", ""])
    (data / "captions.csv").write_text(text, "utf-8-sig")
    assert build_folder_file(data, tmp_path / "s.h5") == {"train": 1, "val": 1, "test": 0}
    file = StoryFile(tmp_path / "s.h5", "val")
    assert file.captions(0) == ["One, two.", "X two."] and file.story_id(0) == "x"
    assert names(tmp_path / "s.h5", "train") == ["y"]


def test_stories_to_draw_alone_are_not_called_ones_to_train_on(tmp_path):
    counts = build_folder_file(folder(tmp_path / "d", [story("x", split="test")]), tmp_path / "t")
    assert counts == {"train": 0, "val": 0, "test": 1}
    said = folder_hdf5.next_command(str(tmp_path / "t"), 128, counts["train"])
    assert "mode=sample" in said and "max_epochs" not in said
    with pytest.raises(ValueError, match="every story names the split val, .*; give some train or"):
        build_folder_file(folder(tmp_path / "v", [story("x", split="val")]), tmp_path / "v.h5")
    assert not (tmp_path / "v.h5").exists()


def test_splits_by_hash_are_stable_and_about_right(tmp_path):
    data = folder(tmp_path / "d", [story(f"s{i}") for i in range(150)])
    counts = build_folder_file(data, tmp_path / "s.h5", size=8)
    assert sum(counts.values()) == 150 and 105 <= counts["train"] <= 135
    assert counts["val"] >= 6 and counts["test"] >= 6
    before = {split: set(names(tmp_path / "s.h5", split)) for split in SPLITS}
    more = [story(f"s{i}") for i in reversed(range(160))]
    build_folder_file(folder(tmp_path / "d", more), tmp_path / "t.h5", size=8)
    for split in SPLITS:  # more stories in another order move none of the old ones
        assert before[split] <= set(names(tmp_path / "t.h5", split))
    told = folder(tmp_path / "told", [story(f"s{i}", split="test") for i in range(4)])
    assert build_folder_file(told, tmp_path / "s.h5")["test"] == 4
    assert build_folder_file(told, tmp_path / "s.h5", split="hash")["test"] < 4


@pytest.mark.parametrize("count, expected", [
    (1, (1, 0, 0)), (2, None), (3, (1, 1, 1)), (7, None), (10, (8, 1, 1)), (99, (79, 10, 10)),
])  # fmt: skip
def test_few_stories_are_shared_out_exactly(tmp_path, count, expected):
    for salt in "ab":
        data = folder(tmp_path / salt, [story(f"{salt}{i}") for i in range(count)])
        counts = build_folder_file(data, tmp_path / "s.h5", size=8)
        shares = tuple(counts[split] for split in SPLITS)
        assert shares == expected or expected is None and sum(shares) == count
        assert shares[0] and (count < 3 or min(shares))


def test_size_shrinks_the_shorter_side_and_pad_keeps_the_whole_picture_on_white(tmp_path):
    rgb = draw(tmp_path / "wide.png", 4, 10)
    draw(tmp_path / "tall.png", 100, 40), draw(tmp_path / "photo.png", 600, 800)
    draw(tmp_path / "line.png", 1, 2000)  # would be of no height when shrunk in proportion
    for name, how, shape in (
        ("tall", {"size": 20}, (50, 20)), ("wide", {"size": 20}, (4, 10)), ("tall", {}, (100, 40)),
        ("photo", {}, (512, 683)), ("wide", {"pad": True}, (10, 10)),
        ("wide", {"pad": True, "size": 5}, (5, 5)), ("line", {"pad": True}, (512, 512)),
    ):  # fmt: skip
        assert load_picture(tmp_path / f"{name}.png", **how).shape == (*shape, 3), (name, how)
    padded = load_picture(tmp_path / "wide.png", pad=True)
    np.testing.assert_array_equal(padded[3:7], rgb)
    assert padded[:3].min() == padded[7:].min() == 255


def test_oblong_pictures_are_pointed_out_unless_padded(tmp_path, capsys):
    data = folder(tmp_path / "d", [story("x"), story("y", ("a.png", "c.png"))])
    draw(data / "c.png", 50, 52)
    build_folder_file(data, tmp_path / "s.h5")  # a.png is 9x6, twice, and b.png 5x4
    assert "3 of 4 pictures are not square" in capsys.readouterr().out
    build_folder_file(data, tmp_path / "s.h5", pad=True)
    assert "not square" not in capsys.readouterr().out
    file = StoryFile(tmp_path / "s.h5", "train")
    assert file.picture(0, 0).shape == (9, 9, 3)


def script(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "data_script/folder_hdf5.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_script_builds_replaces_and_explains(tmp_path):
    data = folder(tmp_path / "d", [story(f"s{i}") for i in range(3)])
    target = tmp_path / "s.h5"
    done = script("--data_dir", data, "--save_path", target)
    assert done.returncode == 0, done.stderr
    assert "1 train, 1 val, 1 test stories" in done.stdout and "writes it" in done.stdout
    before = target.read_bytes()
    (data / "b.png").write_bytes(b"")
    (tmp_path / ".s.h5.77.tmp").write_bytes(b"")
    failed = script("--data_dir", data, "--save_path", target)
    assert failed.returncode == 1 and "replaces it" in failed.stdout
    assert "removed .s.h5.77.tmp, left by a build that was killed" in failed.stdout
    assert "error: picture" in failed.stderr and "Traceback" not in failed.stderr
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 2
    with FileLock(tmp_path / ".s.h5.lock"):
        second = script("--data_dir", data, "--save_path", target)
    says = f"error: --save_path: {target} is in use by another process; wait for its end, or give"
    assert second.returncode == 1 and second.stderr.startswith(says)
    for place, says in (
        (tmp_path, f"{tmp_path} is a folder: give the name of a file"),
        (data / "a.png" / "s.h5", f"cannot write {data}/a.png/s.h5: {data}/a.png is a file; move "),
    ):
        refused = script("--data_dir", data, "--save_path", place)
        assert refused.returncode == 1 and not refused.stdout  # before it says what it will do
        assert refused.stderr.startswith(f"error: --save_path: {says}")
    (tmp_path / "mine").mkdir()
    lost = script("--data_dir", tmp_path / "gone", "--save_path", tmp_path / "mine" / "s.h5")
    assert lost.returncode == 1 and (tmp_path / "mine").is_dir()  # though empty: we did not make it


def test_the_examples_of_the_help_and_of_the_readme_run(tmp_path):
    readme = (ROOT / "data_script" / "README.md").read_text("utf-8")
    blocks = folder_hdf5.__doc__.split("\n\n")
    for kind, name, marker in (("json", "captions.jsonl", '{"story"'),
                               ("csv", "captions.csv", "story,image")):  # fmt: skip
        block = next(part for part in blocks if part.lstrip().startswith(marker))
        content = "\n".join(line.strip() for line in block.splitlines())
        content = content.replace("\n", " ") if kind == "json" else content  # wrapped in the help
        for number, text in enumerate((content, readme.split(f"```{kind}\n")[1].split("```")[0])):
            data = folder(tmp_path / f"{kind}{number}", [], name="none")
            (data / "pond").mkdir()
            for picture in ("frog.png", "heron.jpg", "moon.png"):
                draw(data / "pond" / picture)
            (data / name).write_text(text, "utf-8")
            told = [(s.name, len(s.captions)) for s in folder_hdf5.read_stories(data)]
            assert told == ([("pond-1", 3), ("pond-2", 3)] if number else [("pond", 2)])


NAMES = [  # in the captions file, on disk
    ("Screenshot at 3.15.20\u202fPM.png", "Screenshot at 3.15.20\u202fPM.png"),
    ("two  spaces\xa0.png", "two  spaces\xa0.png"),
    ("caf\xe9.png", "cafe\u0301.png"),
    ("cafe\u0301.png", "caf\xe9.png"),
    (" a.png", "a.png"),
]


@pytest.mark.parametrize("told, there", NAMES)
def test_files_are_found_under_the_name_that_is_written(tmp_path, told, there):
    data = folder(tmp_path / "d", [story("x", (told, "b.png"))])
    draw(data / there)
    (data / "other.csv").write_text(f"story, image,caption\nx,{told},A.\nx,b.png,B.\n")
    for captions in (None, "other.csv"):
        (found,) = folder_hdf5.read_stories(data, captions)
        assert [path.name for path in found.images] == [there, "b.png"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    data = folder(tmp_path / "d", [story("x")])
    (tmp_path / "big").mkdir()
    (tmp_path / "s.h5").symlink_to(tmp_path / "big" / "real.h5")
    for _ in range(2):
        build_folder_file(data, tmp_path / "s.h5")
        assert (tmp_path / "s.h5").is_symlink()
    assert names(tmp_path / "big" / "real.h5", "train") == ["x"]
    assert [path.name for path in (tmp_path / "big").iterdir()] == ["real.h5"]
