"""What stands in for the published networks is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from benchmarks import stand_in_networks

MAKERS = ("train", "train_clip", "make_judge", "train_dino", "train_csd", "train_aesthetic",
          "train_detector", "save_file")  # fmt: skip


@pytest.mark.parametrize("stopped", MAKERS)
def test_what_was_interrupted_is_made_again(tmp_path, monkeypatch, stopped):
    written = []

    def maker(name, *arguments):
        path = Path(getattr(arguments[-1], "out", arguments[-1]))
        if name == "train_detector":  # the only folder
            path.mkdir(exist_ok=True)
            path /= "model.safetensors"
        half = name == stopped and name not in written
        path.write_text("half" if half else "whole")
        written.append(name)
        if half:
            raise KeyboardInterrupt

    for name in MAKERS:
        monkeypatch.setattr(
            stand_in_networks, name, lambda *arguments, name=name: maker(name, *arguments)
        )
    for name in ("write_labelled", "load_file", "inception_from", "with_calm_answers"):
        monkeypatch.setattr(stand_in_networks, name, lambda *_: {})
    monkeypatch.setattr(stand_in_networks, "random_alexnet", nn.Identity)
    with pytest.raises(KeyboardInterrupt):
        stand_in_networks.prepare_networks(tmp_path)
    stand_in_networks.prepare_networks(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_text() for path in files] == ["whole"] * 10, files
