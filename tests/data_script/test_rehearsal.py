"""From raw data to a table beside the published numbers, by the commands that README.md gives."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import raw_sets
import torch
from PIL import Image
from tiny_networks import write_inception

import main
from data_script import pororo_hdf5
from evaluation.networks.weights import INCEPTION

ROOT = Path(__file__).parents[2]
OVERLAY = "config=presets/tiny.yaml"


def blocks() -> tuple[list[str], list[str]]:
    """README's commands for PororoSV: the real ones, and their rehearsal."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [block.strip().splitlines() for block in text.split("```")[1::2]]
    start = "python data_script/pororo_hdf5.py "
    real, rehearsal = (block for block in found if block[0].startswith(start))
    return real, rehearsal


def test_the_rehearsal_is_the_real_thing_with_one_overlay():
    real, rehearsal = blocks()
    assert [line.replace(f" {OVERLAY}", "") for line in rehearsal] == real
    assert [OVERLAY in line for line in rehearsal] == ["main.py" in line for line in rehearsal]
    assert not re.search(r"=\d", " ".join(real))  # no number is given by hand


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder as the repository's root is to a user with the raw download, without a network."""
    raw_sets.pororo(tmp_path / "data" / "pororo_png", side=16)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    write_inception(tmp_path / "hub" / "checkpoints" / INCEPTION.name)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # no processes to start for seven stories
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, monkeypatch) -> None:
    """A command in this process: what it imports is here already."""
    python, program, *words = shlex.split(line)
    assert python == "python"
    if program == "main.py":
        main.main(words)
    else:
        assert program == "data_script/pororo_hdf5.py"
        monkeypatch.setattr("sys.argv", [program, *words])
        pororo_hdf5.main()


@pytest.mark.long
def test_the_commands_lead_from_raw_data_to_the_published_table(workplace, monkeypatch, capsys):
    for line in blocks()[1]:
        run(line, monkeypatch)
    checkpoint = torch.load(
        "outputs/checkpoints/rehearsal/last.ckpt", weights_only=True, map_location="cpu"
    )
    assert checkpoint["global_step"] == 2
    folder = Path("outputs/samples/rehearsal")
    entries = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert len(entries) == raw_sets.STORIES["test"]
    for entry in entries:
        assert len(entry["frames"]) == 5
        drawn = np.stack([np.asarray(Image.open(folder / name)) for name in entry["frames"]])
        assert drawn.shape == (5, 128, 128, 3) and drawn.std() > 0
    measured = json.loads((folder / "metrics.json").read_text())["metrics"]
    fid = measured["fid@64"]
    assert fid["value"] > 0 and fid["n"] == 5 * len(entries)
    said = capsys.readouterr().out
    assert re.search(r"^AR-LDM +16\.59 +11040 ", said, re.MULTILINE)
    assert re.search(rf"^yours, fid@64 +{fid['value']:.2f} +10 ", said, re.MULTILINE)
    assert "your fid@64 did not use the TensorFlow-2015 weights: it does not compare" in said
