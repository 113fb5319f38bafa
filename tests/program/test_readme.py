"""The README's Python snippet runs as it stands, only in fewer denoising steps, and its stories
are told in words that the demo's model knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from building import build_parts, known_words
from configuration import load_config
from datasets.notices import unknown_words
from models.pipeline import StoryPipeline
from page.texts import EXAMPLE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parts():
    return build_parts(load_config())


def test_its_stories_hold_only_words_that_the_model_knows(parts):
    (story,) = re.findall(r"^```yaml\n(.*?)^```", README, re.M | re.S)
    (snippet,) = re.findall(r"^captions = (.*)$", README, re.M)
    stories = yaml.safe_load(story)["captions"], ast.literal_eval(snippet), EXAMPLE
    tokenizers = (parts.clip_tokenizer, parts.blip_tokenizer)
    for captions in stories:
        assert not unknown_words(captions, tokenizers, known_words(load_config()))


def test_the_snippet_draws_a_story(parts, tmp_path, monkeypatch):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    (folder,) = re.findall(r'from_pretrained\("(\S+)"\)', snippet)
    monkeypatch.chdir(tmp_path)
    Path("assets").symlink_to(ROOT / "assets")
    StoryPipeline.from_components(parts).save_pretrained(folder)
    names = {}
    exec(snippet.replace("num_inference_steps=10", "num_inference_steps=1"), names)
    assert [len(story) for story in names["story"].frames] == [3]
    for n in range(3):
        with Image.open(f"frame{n}.png") as picture:
            assert picture.size == (128, 128)
