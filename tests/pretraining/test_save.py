"""The saved base: half precision, safe files, the layout and classes that real weights have."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models import modeling_utils
from safetensors.torch import load_file
from tiny_base import tiny_parts
from transformers import (
    AutoImageProcessor,
    BertTokenizer,
    BlipForImageTextRetrieval,
    CLIPTextModel,
    CLIPTokenizer,
)

from pretraining.align import IMAGE_SIZE as BLIP_SIZE
from pretraining.align import history_transform
from pretraining.save import save_base

LAYOUT = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel,
          "blip": BlipForImageTextRetrieval}  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    return tiny_parts()


@pytest.fixture(scope="module")
def base(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_utils.logger, "warning", pytest.fail)
        save_base(folder, **parts)
    return folder


def test_only_safe_files_in_half_precision(base):
    assert not [path for path in base.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]
    for name in LAYOUT:
        (file,) = (base / name).glob("*.safetensors")
        tensors = load_file(file).values()
        assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float16}
    size = sum(path.stat().st_size for path in base.rglob("*") if path.is_file())
    assert size < 1_000_000


def test_each_part_loads_with_the_library_s_own_class(base, parts):
    for name, kind in LAYOUT.items():
        loaded, saved = kind.from_pretrained(base / name).float().state_dict(), parts[name]
        assert loaded.keys() == saved.state_dict().keys()
        for key, value in saved.state_dict().items():
            assert torch.equal(loaded[key], value.half().float()), key
        assert {p.dtype for p in saved.parameters()} == {torch.float32}  # left as they were
    index = json.loads((base / "model_index.json").read_text())
    for name in ("vae", "unet", "text_encoder", "scheduler"):
        assert index[name][1] == type(parts[name]).__name__
    assert index["tokenizer"] == ["transformers", "CLIPTokenizer"]


def test_scheduler_tokenizers_and_pictures_load_too(base, parts):
    scheduler = DDIMScheduler.from_pretrained(base, subfolder="scheduler")
    assert scheduler.config.prediction_type == "sample"
    assert torch.equal(scheduler.alphas_cumprod, parts["scheduler"].alphas_cumprod)
    text = "Luna waves at Pip."
    clip = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
    blip = BertTokenizer.from_pretrained(base / "blip")
    assert clip(text)["input_ids"] == parts["clip_tokenizer"](text)["input_ids"]
    assert blip(text)["input_ids"] == parts["blip_tokenizer"](text)["input_ids"]
    processor = AutoImageProcessor.from_pretrained(base / "blip")
    expected = history_transform()
    frames = torch.randint(0, 256, (2, 3, BLIP_SIZE, BLIP_SIZE), dtype=torch.uint8)
    prepared = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    assert torch.allclose(prepared, expected(frames), atol=1e-5)
