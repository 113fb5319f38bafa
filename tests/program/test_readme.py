"""The README's Python snippet runs as it stands, only in fewer denoising steps."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from building import build_parts
from configuration import load_config
from models.pipeline import StoryPipeline

ROOT = Path(__file__).parents[2]


def test_the_snippet_draws_a_story(tmp_path, monkeypatch):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    (folder,) = re.findall(r'from_pretrained\("(\S+)"\)', snippet)
    monkeypatch.chdir(tmp_path)
    Path("assets").symlink_to(ROOT / "assets")
    StoryPipeline.from_components(build_parts(load_config())).save_pretrained(folder)
    names = {}
    exec(snippet.replace("num_inference_steps=10", "num_inference_steps=1"), names)
    assert [len(story) for story in names["story"].frames] == [3]
    for n in range(3):
        with Image.open(f"frame{n}.png") as picture:
            assert picture.size == (128, 128)
