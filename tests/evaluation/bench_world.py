"""A miniature of ViStoryBench in its published shape, drawn by the cartoon renderer."""

from __future__ import annotations

import json
import random

from PIL import Image

from datasets.cartoon.renderer import render
from datasets.cartoon.world import all_scenes

SHOTS = {"01": [1, 2, 4, 7, 8, 9], "02": [1, 2], "80": [3]}  # indices that skip


def write_bench(root):
    """Three stories of two characters; the last shot of each shows nobody; in story 02 one has no
    pictures; story 80 begins with a byte order mark, and is not of the lite split (nor is 02)."""
    scenes = random.Random(0).sample(list(all_scenes()), 40)
    cast = {"Pip": "non_human", "Ada": "realistic_human"}
    for name, indices in SHOTS.items():
        folder = root / name
        shots = []
        for index in indices[::-1]:  # no order is promised
            there = [] if index == indices[-1] and len(indices) > 1 else list(cast)
            fields = {
                "Setting Description": "A meadow.", "Plot Correspondence": "They meet.",
                "Static Shot Description": f"Shot {index} of {name}.",
                "Shot Perspective Design": "Wide.",
            }  # fmt: skip
            shot = {key: {"en": text, "ch": f"镜头{index}：{text}"} for key, text in fields.items()}
            shot["Characters Appearing"] = {"en": there, "ch": ["皮普", "艾达"][: len(there)]}
            shots.append({"index": index, **shot})
        people = {
            key: {"name_en": key, "name_ch": "皮普", "prompt_en": "A fox.", "prompt_ch": "狐狸",
                  "tag": tag, "num_of_appearances": len(indices)}
            for key, tag in cast.items()
        }  # fmt: skip
        for key in cast:
            for number in range(0 if (name, key) == ("02", "Ada") else 2):
                path = folder / "image" / key / f"{number:02d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(render(scenes.pop())).resize((96 + 32 * number, 128)).save(path)
        folder.mkdir(exist_ok=True)
        content = {"Story_type": {"en": "fable", "ch": "寓言"}, "Shots": shots,
                   "Characters": people}  # fmt: skip
        text = json.dumps(content, ensure_ascii=False)
        (folder / "story.json").write_text(text, "utf-8-sig" if name == "80" else "utf-8")
    return root
