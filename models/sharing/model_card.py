"""The README.md of a model that is handed on, made from its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from common.files import file_hash

__all__ = ["measured", "write_model_card"]

_SETTINGS = (
    "task", "dataset", "backbone", "max_epochs", "max_steps", "batch_size", "init_lr",
    "unet_lr_scale", "optimizer", "classifier_free_rate", "seed",
)  # fmt: skip
_HEAD = """---
library_name: diffusers
pipeline_tag: text-to-image
tags: [story-visualization, ar-ldm]
---

# {name}

Draws the frames of a story from its captions, one after another, each conditioned on all captions
and frames before it (AR-LDM, arXiv 2211.10950{causal}).

## Use

```python
from models import StoryPipeline  # with the repository's folder on Python's path

pipeline = StoryPipeline.from_pretrained("{name}"{variant})
story = pipeline(["first caption", "second caption"], {sampling})
story.frames[0]  # a list of PIL images
```

Without the repository, by the code that lies in this folder:

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(
    "{name}", custom_pipeline="{name}", trust_remote_code=True{variant}
)
```
{lora}
Captions are read to {max_length} tokens. New words: {words}.

## Training

{settings}
"""
_LORA = """
What was tuned lies beside the base: `pipeline.load_lora_weights("{name}")` adds it.
"""
_LICENCE = """
## Licence

The weights are under the licences of what they were made from: the pretrained parts
(`diffusion_model`, `blip_model`) and the data set. State them here before you publish; the code is
under the Apache License 2.0.
"""


def write_model_card(
    folder: Path,
    name: str,
    config: Any,
    trained: dict[str, Any],
    samples: str | None,
    *,
    causal_story: bool,
    lora: bool,
    variant: str | None,
) -> None:
    """Write `folder`/README.md, and the storyboard of a samples folder beside it.

    Args:
        name: what the model is called; config: how it draws.
        trained: the run's configuration, of which older ones lack keys, empty where none is known.
        samples: a folder that mode=sample wrote, whose metrics are shown with their intervals.
        causal_story: whether it has add-ons; lora: whether one lies beside; variant: of its files.

    Raises:
        ValueError: `samples` is no folder.
    """
    data = config[config.dataset]
    keys = ("num_inference_steps", "first_frame_inference_steps", "guidance_scale", "eta")
    sampling = ", ".join(f"{key}={config[key]}" for key in keys)
    card = _HEAD.format(
        name=name,
        causal=", with Causal-Story's additions, arXiv 2309.09553" if causal_story else "",
        variant=f', variant="{variant}"' if variant else "",
        sampling=sampling,
        lora=_LORA.format(name=name) if lora else "",
        max_length=data.max_length,
        words=", ".join([*data.new_tokens, *(one.word for one in config.new_characters)]) or "none",
        settings=_table(trained),
    )
    if samples is not None:
        card += measured(Path(samples))
        if (picture := Path(samples) / "storyboard.png").is_file():
            shutil.copyfile(picture, folder / "storyboard.png")
            card += "\n![stories it drew](storyboard.png)\n"
    (folder / "README.md").write_text(card + _LICENCE, encoding="utf-8")


def _table(trained: dict) -> str:
    if not trained:
        return "The checkpoint does not say how it was trained."
    rows = [f"| `{key}` | {trained[key]} |" for key in _SETTINGS if key in trained]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def measured(samples: Path) -> str:
    """What a samples folder's metrics.json says, for a card; nothing if there is none.

    Raises:
        ValueError: there is no such folder, or the file is broken or of other frames.
    """
    if not samples.is_dir():
        raise ValueError(f"samples: there is no folder {samples}; give one that mode=sample wrote")
    text = "\n## Results\n"
    metrics = samples / "metrics.json"
    if metrics.is_file():
        try:
            found = json.loads(metrics.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{metrics} is not whole ({error}); measure anew") from error
        manifest, then = samples / "manifest.jsonl", found.get("manifest")
        if then and manifest.is_file() and then != file_hash(manifest):
            raise ValueError(
                f"{metrics} is of what {samples} held before frames were drawn again or added; "
                f"measure anew: python -m evaluation samples={samples}"
            )
        text += f"\nOf {found['stories']} stories, {found['frames']} frames:\n\n"
        text += "| metric | value | 95 % interval | protocol |\n|---|---|---|---|\n"
        for metric, entry in found["metrics"].items():
            # Of stories in which nothing was to be counted there is no value.
            value = "–" if entry["value"] is None else f"{entry['value']:.4g}"
            around = " to ".join(f"{end:.4g}" for end in entry["interval"] or ()) or "–"
            text += f"| {metric} | {value} | {around} | {entry['protocol']} |\n"
    return text
