"""Whoever reads a message finds the keys that it names: main.py's in main.py, options elsewhere."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import torch
from known_keys import known_keys
from outcomes import read

from evaluation.__main__ import main as evaluation_main
from evaluation.options import Options
from models.export import Export, export

# What is wrong, in main.py's words, and what the message must name. FILE stands for a text file.
PROBLEMS = [
    (["metrics=[frame_accuracy]"], "evaluation.classifier=FILE"),
    (["metrics=[cartoon]", "evaluation.judge=FILE"], "evaluation.judge=FILE"),
    (["metrics=[fid]", "evaluation.inception_weights=gone"], "evaluation.inception_weights=gone"),
    (["metrics=[fid]", "evaluation.inception_weights=FILE"], "evaluation.allow_other_weights=true"),
    (["metrics=[lpips_adjacent]", "evaluation.lpips_weights=gone"], "evaluation.lpips_weights="),
    (["metrics=[clip]", "evaluation.clip_model=no-such"], "evaluation.clip_model=local-dir:FOLDER"),
    (["metrics=[clip]", "evaluation.cache=FILE"], "evaluation.cache=FILE"),
]  # fmt: skip
OPTIONS = {field.name for field in fields(Options)}


def named(message: str) -> set[str]:
    """What a message names as `key=`, and the options that it names in passing."""
    options = "|".join(name for name in OPTIONS if "_" in name)
    found = re.findall(rf"(?<![\w/.])[a-z][a-z_.]*=|[a-z.]*\b(?:{options})\b", message)
    return {name.rstrip("=") for name in found}


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("no weights")
    return path


@pytest.mark.parametrize("words, says", PROBLEMS)
def test_main_names_keys_of_its_configuration(sampled, text_file, words, says):
    words = [word.replace("FILE", str(text_file)) for word in words]
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        sampled(*words)
    message = str(caught.value)
    assert says in message.replace(str(text_file), "FILE")
    assert named(message) and named(message) <= known_keys()


@pytest.mark.parametrize("words, says", PROBLEMS)
def test_the_evaluation_names_its_own_options(sampled, text_file, words, says):
    words = [re.sub(r"^evaluation\.|[][]", "", word) for word in words]
    words = [word.replace("FILE", str(text_file)) for word in words]
    folder, _ = sampled()
    with pytest.raises(SystemExit) as caught:
        evaluation_main([f"samples={folder}", *words])
    message = str(caught.value)
    assert says.removeprefix("evaluation.") in message.replace(str(text_file), "FILE")
    assert named(message) and named(message) <= OPTIONS


def test_options_that_a_folder_does_not_take_are_not_offered(sampled, own_story, tmp_path):
    """A manifest says which real frames and captions there are: options cannot add any."""
    folder, _ = sampled(own_story())
    with pytest.raises(SystemExit, match="fid needs real frames; ") as caught:
        evaluation_main([f"samples={folder}", "metrics=fid"])
    assert "reference=" not in str(caught.value)


def test_a_missing_part_is_named_by_section(sampled, trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="^tiny.diffusion_model: 'gone'"):
        sampled("tiny.diffusion_model=gone")
    content, moved = read(trained), tmp_path / "moved.ckpt"
    content["config"]["tiny"]["diffusion_model"] = "gone"
    torch.save(content, moved)
    for layout in ("diffusers", "original"):
        with pytest.raises(FileNotFoundError, match="^tiny.diffusion_model: 'gone'"):
            export(Export(str(moved), str(tmp_path / "out"), layout))
