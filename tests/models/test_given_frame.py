"""The given frame of a continuation: BLIP sees in sampling what it saw in training, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_parts import BLIP_SIZE, EPSILON, IMAGE_SIZE, MEAN, STD, build_parts, quiet
from torchvision.transforms.v2 import functional as F

from datasets.specs import SPECS
from datasets.story_dataset import StoryDataset, collate
from datasets.story_hdf5 import SPLITS
from datasets.story_prompts import read_prompts
from datasets.story_writer import StoryWriter
from datasets.written_stories import read_written_stories

CAPTIONS = ["Luna sits.", "Pip waves."]
WAYS = {"num_inference_steps": 1, "guidance_scale": 1.0}
# Height and width of the first pictures of two stories, neither BLIP's size nor the drawn ones'.
SIZES = {"strip": [(40 * 5, 40), (33 * 3, 33)], "squash": [(40, 40), (50, 30)],
         "shorter_side": [(40, 61), (57, 33)]}  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    return build_parts(EPSILON)


def what_blip_sees(parts, prompts) -> torch.Tensor:
    """The pictures (B, 3, h, w) that sampling's first history block is made of."""
    seen = []
    hook = parts.conditioner.vision_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    frames = quiet(parts).draw(prompts, seed=0, continuation=True, **WAYS).frames
    hook.remove()
    assert frames.shape[-2:] == (IMAGE_SIZE, IMAGE_SIZE)  # the shown one is brought to this size
    (given,) = seen  # without guidance no black picture is asked for
    assert len(given) == len(prompts)
    return given


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", SPECS)
def test_sampling_sees_what_training_does(tmp_path, parts, name, split):
    spec, random = SPECS[name], np.random.default_rng(0)
    with StoryWriter(tmp_path / "s.h5", 2, (spec.text_key,)) as writer:
        for i, size in enumerate(SIZES["strip" if spec.strip else spec.crop]):
            pictures = [random.integers(0, 256, (*size, 3), np.uint8) for _ in range(2)]
            pictures[1] = pictures[1][: size[1]]  # frames of a story may differ as well
            for part in SPLITS:
                writer.add(part, pictures, {spec.text_key: CAPTIONS}, f"{part}{i}")
    data = StoryDataset(
        tmp_path / "s.h5", split, spec, "continuation", IMAGE_SIZE, parts.history_transform,
        parts.clip_tokenizer, parts.blip_tokenizer, parts.max_length,
    )  # fmt: skip
    batch = collate([data[0], data[1]])
    prompts = list(read_prompts(data.frames, [0, 1]))
    assert prompts[0].first_frame.shape != prompts[1].first_frame.shape
    given = what_blip_sees(parts, prompts)
    assert torch.equal(given, batch["history_images"][:, 0])


def test_an_own_picture_of_any_size_is_resized_once(tmp_path, parts):
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "first.png")
    (tmp_path / "mine.yaml").write_text(
        "captions: [Luna sits., Pip waves.]\nfirst_frame: first.png"
    )
    prompts = read_written_stories(tmp_path / "mine.yaml", continuation=True)
    given = what_blip_sees(parts, prompts)
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255
    once = F.resize(picture, [BLIP_SIZE, BLIP_SIZE], antialias=True)
    expected = (once - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    # uint8 pictures are rounded to a grey level, which the smallest deviation makes 0.02
    assert (given - expected).abs().max() < 0.02
