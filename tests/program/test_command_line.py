"""The command line: help, dispatch, and errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from configuration import ConfigError

ROOT = Path(__file__).parents[2]


def test_help_says_how_to_use_it(capsys):
    main.main(["--help"])
    shown = capsys.readouterr().out
    assert "python main.py mode=sample" in shown and "config.yaml" in shown


def test_the_command_line_trains_and_samples(shrunk, monkeypatch):
    done = []
    monkeypatch.setattr(main, "load_config", lambda words: shrunk(*words))
    monkeypatch.setattr(main, "train", lambda config: done.append(("train", config.seed)))
    monkeypatch.setattr(main, "sample", lambda config: done.append(("sample", config.seed)))
    monkeypatch.setattr(torch, "set_num_threads", done.append)
    main.main(["seed=3"])
    main.main(["mode=sample", f"test_model_file={__file__}", "num_cpu_cores=1"])
    assert done == [("train", 3), 1, ("sample", 0)]


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


def test_the_program_ends_with_one_line_and_status_1(tmp_path):
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, str(ROOT / "main.py"), "sed=1"], check=False, **how)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: 'sed' is not a key of the configuration; did you mean seed?\n"
