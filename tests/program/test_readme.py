"""The README's Python snippet runs as it stands, only in fewer denoising steps."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from PIL import Image

from building import build_parts
from configuration import load_config

ROOT = Path(__file__).parents[2]


def test_the_snippet_draws_a_story(tmp_path, monkeypatch):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    (checkpoint,) = re.findall(r'"(\S+\.ckpt)"', snippet)
    monkeypatch.chdir(tmp_path)
    Path("assets").symlink_to(ROOT / "assets")
    Path(checkpoint).parent.mkdir(parents=True)
    torch.save({"state_dict": build_parts(load_config()).modules().state_dict()}, checkpoint)
    names = {}
    exec(snippet.replace("num_inference_steps=10", "num_inference_steps=1"), names)
    assert tuple(names["story"].frames.shape) == (1, 3, 3, 128, 128)
    with Image.open("story.png") as picture:
        assert picture.width > 3 * 128 and picture.height >= 128
