"""The command line: help, dispatch, and errors in one line."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from outcomes import read

import main
import sample
import train
from common.terminal import as_quoted_word, setting
from configuration import ConfigError, load_config, load_to_draw, plain
from configuration.rules import RULES

ROOT = Path(__file__).parents[2]


def test_help_lists_every_key_with_its_comment(capsys):
    main.main(["--help"])
    assert (ROOT / "config.yaml").read_text(encoding="utf-8") in capsys.readouterr().out


def test_the_command_line_trains_and_samples(shrunk, monkeypatch):
    done = []
    monkeypatch.setattr(main, "load_config", lambda words: shrunk(*words))
    monkeypatch.setattr(train, "train", lambda config: done.append(("train", config.seed)))
    monkeypatch.setattr(sample, "sample", lambda config: done.append(("sample", config.seed)))
    monkeypatch.setattr(torch, "set_num_threads", done.append)
    main.main(["seed=3"])
    main.main(["mode=sample", f"test_model_file={__file__}", "num_cpu_cores=1"])
    assert done == [("train", 3), 1, ("sample", 0)]


def test_a_sweep_makes_runs_with_folders_of_their_own(monkeypatch):
    runs = []
    monkeypatch.setattr(main, "run", lambda words: runs.append((list(sys.argv[1:]), words)))
    monkeypatch.setattr(sys, "argv", ["main.py"])
    words = ["config=presets/arldm.yaml", "run_name=swept", "--multirun", "seed=3,4"]
    main.main([*words, "eta=0.5,0"])
    runs, both = runs[1::2], runs
    assert [argv for argv, _ in runs] == [
        words for _, words in runs
    ]  # for other devices' processes
    there = [f"{dataset}.hdf5_file={__file__}" for dataset in ("pororo", "cartoon")]
    configs = [load_config([*words, *there]) for _, words in runs]
    assert [config.seed for config in configs] == [3, 4]
    names = ["seed=3+eta=0", "seed=4+eta=0"]  # without commas, by which evaluation lists folders
    assert [config.run_name for config in configs] == [f"swept/{name}" for name in names]
    folders = [config.sample_output_dir for config in configs]
    assert [folder.rpartition("/")[2] for folder in folders] == names and len(both) == 4
    assert [config.backbone for config in configs] == ["sd15"] * 2


def test_a_sweep_takes_values_in_quotes(monkeypatch):
    runs = []
    monkeypatch.setattr(main, "run", runs.append)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    main.main(["-m", 'run_name="it\'s"', "negative_prompt='grey, dull',\"it's\""])
    configs = [load_config(words) for words in runs]
    assert [config.negative_prompt for config in configs] == ["grey, dull", "it's"]
    names = ["it's/negative_prompt=grey+ dull", "it's/negative_prompt=its"]
    assert [config.run_name for config in configs] == names


@pytest.mark.parametrize(
    "text",
    ['a"b', "it's", r"C:\x\y", "end\\", r"q\"z", r'two\\"', "x=1,[2]", "ü ~", "2024",
     "-1e5", "Null", " a b "],
)  # fmt: skip
def test_any_text_comes_back_from_its_word(text):
    assert load_config([as_quoted_word("negative_prompt", text)]).negative_prompt == text
    assert load_config(shlex.split(setting("negative_prompt", text))).negative_prompt == text
    listed = shlex.split(setting("lora_files", text, listed=True))
    assert load_config(listed).lora_files == [text]


@pytest.mark.parametrize(
    "words, says",
    [(["--mode", "sample"], "'--mode': keys are given without dashes; write mode=sample"),
     (["seed=1", "-seed=2"], "'-seed=2': keys are given without dashes; write seed=2"),
     (["--config=my.yaml"], "keys are given without dashes; write config=my.yaml"),
     (["-m", "seed=1,2", "--tiny.image_size"], "without dashes; write tiny.image_size=…")],
)  # fmt: skip
def test_a_key_with_dashes_is_told_how_it_is_given(words, says):
    with pytest.raises(SystemExit, match=f"^error: .*{says}$"):
        main.main(words)


def test_a_wrong_key_in_a_sweep_is_said_as_everywhere():
    with pytest.raises(SystemExit) as caught:
        main.main(["-m", "sed=1,2"])
    assert caught.value.code == "error: 'sed' is not a key of the configuration; did you mean seed?"


QUICK = """
import sys
import main
sys.argv = ["main.py", *sys.argv[1:]]
try:
    main.main(sys.argv[1:])
finally:
    assert not {"torch", "diffusers", "pytorch_lightning"} & sys.modules.keys()
"""


def quick(tmp_path, *words, **environment) -> subprocess.CompletedProcess:
    """What a command prints that must not import anything heavy."""
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300, "check": False}
    paths = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-c", QUICK, *words], env={**os.environ, **paths, **environment}, **how
    )


def test_the_configuration_is_shown_at_once(tmp_path):
    shown = quick(tmp_path, "--cfg", "job", "max_epochs=3", "config=presets/tiny.yaml")
    config = yaml.safe_load(shown.stdout)
    assert (config["max_epochs"], config["run_name"], config["max_steps"]) == (3, "rehearsal", 2)
    assert set(config) == set(RULES)


def test_what_is_shown_is_what_would_be_done(tmp_path, trained, capsys):
    def shown(*words):
        main.main([*words, "--cfg", "job"])
        return yaml.safe_load(capsys.readouterr().out)

    drawn = shown("mode=sample", f"test_model_file={trained}")
    assert drawn == plain(load_to_draw(trained))
    assert drawn["tiny"]["image_size"] == read(trained)["config"]["tiny"]["image_size"] != 128
    milo = f"new_characters=[{{word: milo, class_word: auto, pictures: {tmp_path}}}]"
    assert shown(milo, f"base_model_file={trained}")["tune"] == "lora"
    for word, says in (
        ("max_stepz=3", "'max_stepz' is not a key of the configuration; did you mean max_steps?"),
        ("max_steps=abc", 'max_steps is "abc"; it must be a whole number above 0, or -1 for no'),
    ):
        with pytest.raises(SystemExit) as caught:
            shown(word)
        assert caught.value.code.startswith(f"error: {says}")


def test_keys_are_completed(tmp_path):
    line = "python main.py cartoon.max"
    shown = quick(tmp_path, "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert shown.stdout.split() == ["cartoon.max_length="]


@pytest.mark.parametrize(
    "error",
    [ConfigError("seed is 5;\nuse 4"), FileNotFoundError("no\nbase"), OSError("disk\nfull")],
)
def test_errors_become_one_line(monkeypatch, error):
    def fail(words):
        raise error

    monkeypatch.setattr(main, "load_config", fail)
    with pytest.raises(SystemExit) as caught:
        main.main([])
    assert caught.value.code == "error: " + " ".join(str(error).split())


def test_a_terminal_that_knows_few_letters_is_printed_to(tmp_path):
    shown = quick(tmp_path, "--cfg", "job", "run_name='挥手'", PYTHONIOENCODING="ascii")
    assert shown.returncode == 0 and "\\u6325\\u624b" in shown.stdout


def test_the_program_ends_with_one_line_and_status_1(tmp_path):
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, str(ROOT / "main.py"), "sed=1"], check=False, **how)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: 'sed' is not a key of the configuration; did you mean seed?\n"
