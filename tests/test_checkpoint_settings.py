"""What a checkpoint says of its configuration."""

from __future__ import annotations

import pytest
import torch
from known_keys import sentence
from omegaconf import OmegaConf

from configuration import ConfigError, load_config


def save(path, settings):
    torch.save({"config": settings, "config_file": settings, "state_dict": {}}, path)
    return ["mode=sample", f"test_model_file={path}"]


def refusal(path, settings):
    """What is said of a checkpoint with these settings, after its name."""
    with pytest.raises(ConfigError) as caught:
        load_config(save(path, settings))
    return sentence(caught).removeprefix(f"{path}, in its settings: ")


def test_settings_read_nothing_of_this_machine(tmp_path):
    settings = OmegaConf.to_container(load_config())
    settings["tiny"]["blip_model"] = "${oc.env:HOME}"
    assert refusal(tmp_path / "a.ckpt", settings).startswith("'${oc.env:HOME}' calls a function")


def test_settings_say_what_model_it_is(tmp_path):
    settings = OmegaConf.to_container(load_config())
    del settings["history_slots"]
    assert refusal(tmp_path / "a.ckpt", settings).startswith("history_slots is not said: take the")


def test_settings_that_are_keys_no_more_are_left_out(tmp_path):
    settings = OmegaConf.to_container(load_config())
    for section in (settings, settings["causal_story"], settings["tiny"]):
        section["gone"] = 1
    words = save(tmp_path / "a.ckpt", settings)
    assert "gone" not in load_config(words, needs_stories=False)
