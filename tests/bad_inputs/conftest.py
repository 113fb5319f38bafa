"""What the tests of bad inputs share: a small checkpoint, quick configurations, and the check."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from good_inputs import GOOD, MODEL, draw_data, dress, go_on, load, start_with_lora, tell, tell_json
from omegaconf import OmegaConf

import main
from configuration import load_config

FILES = ("test_model_file", "story", "folder.hdf5_file")
PLACES = (*FILES, "sample_output_dir", "tiny.diffusion_model", "tiny.blip_model")
COMPOSED: dict[tuple, object] = {}
# A file of this test's, and what a samples folder begins with.
PASSING = ("words", "cache.sqlite", "new", "new/manifest.jsonl", "new/label_vocabulary.json")


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory):
    MODEL[:] = [tmp_path_factory.mktemp("model") / "model.ckpt"]
    torch.save({"state_dict": {"unet.conv_in.weight": torch.zeros(1)}}, MODEL[0])


@pytest.fixture
def quick(monkeypatch):
    """Only the configuration's own words are composed; a story's file goes over one made before."""

    def load(words):
        chosen = dict(word.split("=", 1) for word in words)
        place = {key: chosen.pop(key) for key in PLACES if key in chosen}
        base = tuple(f"{key}={value}" for key, value in chosen.items())
        if base not in COMPOSED:
            there = [f"{key}={__file__}" for key in place if key in FILES]
            COMPOSED[base] = load_config([*base, *there])
        config = COMPOSED[base].copy()
        for key, value in place.items():
            OmegaConf.update(config, key, value)
        return config

    monkeypatch.setattr(main, "load_config", load)


def everything(home: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in home.rglob("*")
    }


@pytest.fixture
def ends_in_one_sentence(tmp_path, capsys, request):
    """Runs a program on a good input that was spoilt."""

    def run(program, spoil, says):
        GOOD[program](tmp_path)
        spoil(tmp_path)
        if program in (tell, tell_json, go_on, draw_data, load, dress, start_with_lora):
            request.getfixturevalue("quick")
        before = everything(tmp_path)
        request.getfixturevalue("monkeypatch").setattr(sys, "argv", ["program"])
        with pytest.raises(SystemExit) as caught:
            program(tmp_path)
        out, err = capsys.readouterr()
        sentence = str(caught.value.code)
        if caught.value.code == 1:  # the check of story files lists its findings
            (sentence,) = ["error: " + line for line in out.splitlines() if "s.h5" in line][:1]
        assert sentence.startswith("error: ") and "\n" not in sentence and "Traceback" not in err
        assert re.search(says, sentence), sentence
        after = everything(tmp_path)
        for found in (before, after):
            for name in PASSING:
                found.pop(name, None)
        if program is dress:
            before["model.ckpt"] = before.pop("whole.ckpt")
        if program is start_with_lora:
            before["model.ckpt"] = before.pop("lora.safetensors")
        if program is tell_json:
            before["mine.json"] = before.pop("mine.yaml")
        assert after == before

    return run
