"""The command that a builder prints at its end does what its user wants next."""

from __future__ import annotations

import shlex

import pytest
import raw_sets

from configuration import load_config
from data_script import flintstones_hdf5, folder_hdf5, pororo_hdf5, vist_hdf5

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
    (tmp_path / "x.h5").touch()
    config = next_config("next: " + folder_hdf5.next_command(str(tmp_path / "x.h5"), size, 1))
    assert config.folder.hdf5_file == str(tmp_path / "x.h5")
    assert {key: config[key] for key in expected} == expected


def next_config(printed: str):
    command = shlex.split(printed.partition("next: ")[2].splitlines()[0])
    assert command[:2] == ["python", "main.py"]
    return load_config(command[2:])
