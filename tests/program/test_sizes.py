"""Frames that are no squares, from training to what is handed on."""

from __future__ import annotations

import numpy as np
import pytest
from outcomes import picture

import train
from configuration import ConfigError
from models import StoryPipeline
from models.export import Export, export
from models.seeds import story_generator
from page.model import load_model

TALL = (96, 64)


@pytest.mark.parametrize("crop", ["squash", "shorter_side"])
@pytest.mark.long
def test_height_and_width_go_all_the_way(shrunk, sampled, tmp_path, crop):
    words = [f"cartoon.crop={crop}", "cache_latents=false", f"run_name=tall-{crop}"]
    tall = train.train(shrunk(f"tiny.image_size=[{TALL[0]},{TALL[1]}]", "max_steps=1", *words))
    asked = [f"test_model_file={tall}", f"tiny.image_size=[{TALL[0]},{TALL[1]}]"]
    folder, entries = sampled(*asked)
    name, entry = next(iter(entries.items()))
    frames = [picture(folder / path) for path in entry["frames"]]
    assert {frame.shape for frame in frames} == {(*TALL, 3)}
    real = picture(folder / entry["reference_frames"][0])
    if crop == "shorter_side":  # the drawn pictures are squares of 128
        assert real.shape == (128, 85, 3)
        return
    assert real.shape == (128, 128, 3)

    sampled(*asked, "redraw.frame=3", "seed=5", "redraw.rest=false")
    again = [picture(folder / path) for path in entry["frames"]]
    assert [(one != two).any() for one, two in zip(frames, again, strict=True)] == [
        False, False, False, True, False,
    ]  # fmt: skip

    loaded = StoryPipeline.from_pretrained(export(Export(str(tall), str(tmp_path / "model"))))
    how = {key: entry["sampler"][key] for key in ("num_inference_steps", "guidance_scale", "eta")}
    noise = story_generator(entry["seed"], name)
    drawn = loaded(entry["captions"], generator=noise, output_type="uint8", **how).frames[0]
    drawn = drawn.permute(0, 2, 3, 1).numpy().astype(int)
    assert np.abs(drawn - np.stack(frames)).max() <= 1  # they were drawn two together
    config = load_model(tall, "cpu").pipeline.config
    assert (config.height, config.width) == TALL


def test_a_model_says_its_size(trained, shrunk):
    with pytest.raises(ConfigError, match=r"trained with tiny.image_size=64, .* has tiny.*\[64,9"):
        shrunk("mode=sample", f"test_model_file={trained}", "tiny.image_size=[64,96]")
    with pytest.raises(ConfigError, match="image_size is .*; set it to multiples of 4$"):
        train.train(shrunk("tiny.image_size=[64,66]", "run_name=odd"))
    with pytest.raises(ConfigError, match=r"image_size is \[64\]; it must be .* \[height, width\]"):
        shrunk("tiny.image_size=[64]")
