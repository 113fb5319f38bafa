"""The published sets: from raw files to story files, exactly; what is left out; what comes next."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import raw_sets
from PIL import Image
from raw_sets import SPLITS

from configuration import load_config
from data_script import flintstones_hdf5, folder_hdf5, pororo_hdf5, vist_hdf5
from data_script.flintstones_hdf5 import build_flintstones_file
from data_script.pororo_hdf5 import build_pororo_file
from data_script.vist_hdf5 import build_vist_file
from datasets.specs import SPECS
from datasets.story_hdf5 import StoryFile, validate_story_file


def vist_folders(raw: Path) -> dict[str, Path]:
    return {"sis_json_dir": raw / "sis", "dii_json_dir": raw / "dii", "img_dir": raw / "images"}


def build(name: str, raw: Path, target: Path, **how):
    """raw folder -> story file, in this process."""
    how = {"num_process": 1, **how}
    if name == "vist":
        return build_vist_file(**vist_folders(raw), save_path=target, **how)
    make = {"pororo": build_pororo_file, "flintstones": build_flintstones_file}[name]
    return make(raw, target, **how)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Raw sets and their story files: name -> (file, the stories that it should hold)."""
    folder, sets = tmp_path_factory.mktemp("sets"), {}
    for name in ("pororo", "flintstones", "vist"):
        stories = getattr(raw_sets, name)(folder / name)
        build(name, folder / name, folder / f"{name}.h5")
        sets[name] = folder / f"{name}.h5", stories
    return sets


@pytest.mark.parametrize("name, key", [
    ("pororo", "text"), ("flintstones", "text"), ("vistsis", "sis"), ("vistdii", "dii"),
])  # fmt: skip
def test_raw_to_file_is_exact_and_read_as_its_data_set_says(built, name, key):
    path, stories = built[name.removesuffix("sis").removesuffix("dii")]
    assert SPECS[name].text_key == key and SPECS[name].strip == (key == "text")
    assert validate_story_file(path, text_keys=(key,)) == raw_sets.STORIES
    for split in SPLITS:
        file = StoryFile(path, split, key)
        assert file.pictures_per_story == 5
        for i, (story_id, pictures, texts) in enumerate(stories[split]):
            assert file.story_id(i) == story_id and file.captions(i) == texts[key]
            for k, rgb in enumerate(pictures):
                np.testing.assert_array_equal(file.picture(i, k), rgb)


def test_pororo_names_in_other_types(tmp_path):
    for kind in "OU":
        stories = raw_sets.pororo(tmp_path / kind, kind=kind)["train"]
        build("pororo", tmp_path / kind, tmp_path / "s.h5")
        file = StoryFile(tmp_path / "s.h5", "train")
        assert [file.captions(i) for i in range(3)] == [told["text"] for _, _, told in stories]


def test_what_is_left_out_is_counted(tmp_path):
    raw_sets.flintstones(tmp_path / "f")
    report = build("flintstones", tmp_path / "f", tmp_path / "f.h5")
    assert report.kept == raw_sets.STORIES
    assert set(report.left_out.values()) == {2} and len(report.left_out) == 3
    assert "left out of val: 2, not exactly four shots follow" in str(report)

    raw_sets.vist(tmp_path / "v")
    report = build("vist", tmp_path / "v", tmp_path / "v.h5")
    reasons = {why for _, why in report.left_out}
    assert set(report.left_out.values()) == {1} and reasons == {
        "not five pictures", "a picture is missing", "a picture has no caption in isolation",
    }  # fmt: skip


def test_vist_leaves_out_what_is_broken_and_shrinks_what_is_large(tmp_path):
    stories = raw_sets.vist(tmp_path / "v")
    sis = tmp_path / "v" / "sis" / "train.story-in-sequence.json"
    content = json.loads(sis.read_text())
    content["annotations"][0][0]["original_text"] = "left | right"
    sis.write_text(json.dumps(content))
    second = content["annotations"][5][0]["photo_flickr_id"]
    (tmp_path / "v" / "images" / f"{second}.jpg").write_text("<html>gone</html>")
    third = content["annotations"][10][0]["photo_flickr_id"]
    Image.new("RGB", (1500, 1200)).save(tmp_path / "v" / "images" / f"{third}.jpg")
    report = build("vist", tmp_path / "v", tmp_path / "v.h5")
    assert report.kept["train"] == 1
    assert report.left_out["train", "'|' in a caption"] == 1
    assert report.left_out["train", "a picture is broken"] == 1
    file = StoryFile(tmp_path / "v.h5", "train", "sis")
    assert file.captions(0) == stories["train"][2][2]["sis"]
    assert file.picture(0, 0).shape == (512, 640, 3)  # shrunk


def test_vist_captions_in_isolation_come_from_all_splits(tmp_path):
    """The longest wins wherever it is, and a story needs none in its own split's file."""
    stories = raw_sets.vist(tmp_path / "v")
    files = {
        split: tmp_path / "v" / "dii" / f"{split}.description-in-isolation.json" for split in SPLITS
    }
    rows = {split: json.loads(path.read_text())["annotations"] for split, path in files.items()}
    first, second = (rows["train"][i][0]["photo_flickr_id"] for i in (0, 3))
    moved = [row for row in rows["train"] if row[0]["photo_flickr_id"] == first]
    rows["train"] = [row for row in rows["train"] if row not in moved]
    rows["test"] += moved
    rows["val"].append([{"photo_flickr_id": second, "original_text": "a dog, by far the longest"}])
    for split, path in files.items():
        path.write_text(json.dumps({"annotations": rows[split]}))
    report = build("vist", tmp_path / "v", tmp_path / "v.h5")
    assert report.kept == raw_sets.STORIES
    told = stories["train"][0][2]["dii"]
    captions = StoryFile(tmp_path / "v.h5", "train", "dii").captions(0)
    assert captions == [told[0], "a dog, by far the longest", *told[2:]]


def test_skip_broken_leaves_out_what_would_be_an_error(tmp_path):
    stories = raw_sets.pororo(tmp_path / "raw")
    names = np.load(tmp_path / "raw" / "img_cache4.npy")
    gone, cut = (tmp_path / "raw" / names[int(stories["train"][i][0])].decode() for i in (0, 1))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:50])
    with pytest.raises(FileNotFoundError, match="complete the download, or .* --skip_broken"):
        build("pororo", tmp_path / "raw", tmp_path / "s.h5")
    report = build("pororo", tmp_path / "raw", tmp_path / "s.h5", skip_broken=True)
    assert report.kept == {"train": 1, "val": 2, "test": 2}
    assert report.left_out == {
        ("train", "a picture is missing"): 1,
        ("train", "a picture is broken"): 1,
    }
    file = StoryFile(tmp_path / "s.h5", "train")
    np.testing.assert_array_equal(file.picture(0, 4), stories["train"][2][1][4])


@pytest.mark.parametrize("name", ["pororo_hdf5", "flintstones_hdf5", "vist_hdf5", "pororo_labels"])
def test_help_shows_a_command_that_the_script_takes(tmp_path, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        import_module(f"data_script.{name}").main()
    example = capsys.readouterr().out.split("example: ")[1].split()
    assert example[:2] == ["python", f"data_script/{name}.py"]
    monkeypatch.setattr(sys, "argv", example[1:])
    monkeypatch.chdir(tmp_path)  # where there is no such data
    with pytest.raises(SystemExit, match="^error: data/.*$"):
        import_module(f"data_script.{name}").main()
    assert list(tmp_path.iterdir()) == []


RAW = {
    "pororo": (raw_sets.pororo, pororo_hdf5.main, ["--data_dir", "RAW"]),
    "flintstones": (raw_sets.flintstones, flintstones_hdf5.main, ["--data_dir", "RAW"]),
    "vistsis": (raw_sets.vist, vist_hdf5.main, ["--sis_json_dir", "RAW/sis", "--dii_json_dir",
                                                "RAW/dii", "--img_dir", "RAW/images"]),
}  # fmt: skip


@pytest.mark.parametrize("data", RAW)
def test_what_a_builder_says_comes_next_trains_as_published(data, tmp_path, monkeypatch, capsys):
    make, main, arguments = RAW[data]
    make(tmp_path / "raw")
    words = [word.replace("RAW", str(tmp_path / "raw")) for word in arguments]
    saved = tmp_path / "my (odd) 'set', 1.h5"
    monkeypatch.setattr("sys.argv", ["x", *words, "--save_path", str(saved), "--num_process", "1"])
    main()
    config = next_config(capsys.readouterr().out)
    assert config[data].hdf5_file == str(saved) and config.dataset == data
    assert (config.backbone, config.max_epochs, config.init_lr) == ("sd15", 50, 1e-5)


@pytest.mark.parametrize("size, expected", [
    (128, {"backbone": "tiny", "max_epochs": 5000, "init_lr": 8e-4}),  # one story a step
    (512, {"backbone": "sd15", "max_epochs": 50, "init_lr": 1e-5, "precision": "bf16-mixed"}),
])  # fmt: skip
def test_what_the_folder_builder_says_comes_next(size, expected, tmp_path):
    saved = tmp_path / "Märchen.h5"  # letters that Hydra's grammar has not
    saved.touch()
    config = next_config("next: " + folder_hdf5.next_command(str(saved), size, 1))
    assert config.folder.hdf5_file == str(saved)
    assert {key: config[key] for key in expected} == expected


def next_config(printed: str):
    command = shlex.split(printed.partition("next: ")[2].splitlines()[0])
    assert command[:2] == ["python", "main.py"]
    return load_config(command[2:])
