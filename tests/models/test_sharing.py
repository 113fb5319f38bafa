"""Pipelines as folders: saved, and loaded elsewhere by our code and by what lies in the folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tiny_parts import STORIES, D, S, build_parts, random_frames

from models import StoryPipeline
from models.caption_tokenizer import read_blip, read_clip
from models.causal_story.add_ons import add_causal_story
from models.training.tuning import add_lora, has_lora, merge_lora, take_off_lora

ROOT = Path(__file__).parents[2]
ADD_ONS = {
    "adapter": {"adapter_width": 3, "blocks": ["mid", "up.0"]},
    "space": {"spatial_window": 3, "blocks": ["mid"]},
    "history": {"history_window": 2, "history_weights": True},
}
KINDS = ("plain", *ADD_ONS, "lora", "fp16", "words")
# Run with each folder in turn: by the code in the folder, then by this repository's.
DRAW = """
import hashlib, json, sys, torch
from diffusers import DiffusionPipeline
folders, captions, root = json.loads(sys.argv[1])
def drawn(load):
    hashes = []
    for folder in folders:
        pipeline = load(folder)
        pipeline.set_progress_bar_config(disable=True)
        noise, few = torch.Generator().manual_seed(0), {"num_inference_steps": 2}
        frames = pipeline(captions, generator=noise, output_type="uint8", **few).frames
        hashes.append(hashlib.sha256(frames.numpy().tobytes()).hexdigest())
    return hashes
alone = drawn(lambda folder: DiffusionPipeline.from_pretrained(
    folder, custom_pipeline=folder, trust_remote_code=True))
assert "models" not in sys.modules
sys.path.insert(0, root)
from models import StoryPipeline
print(json.dumps([alone, drawn(StoryPipeline.from_pretrained)]))
"""


def draw(pipeline, prompt=STORIES[0], **how):
    pipeline.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 2, "output_type": "uint8", **how}
    return pipeline(prompt, generator=torch.Generator().manual_seed(0), **how).frames


def make(kind) -> StoryPipeline:
    parts = build_parts()
    torch.manual_seed(3)
    if used := ADD_ONS.get(kind):
        add_causal_story(parts.unet, parts.conditioner, **used)
        parts.add_ons = {f"causal_story.{key}": value for key, value in used.items()}
    if kind == "lora":
        add_lora(parts.unet, 2)
    if kind == "words":
        words = {"new_tokens": ["zorp", "luna"], "new_tokens_match": "whole_word"}
        for name, read in (("clip", read_clip), ("blip", read_blip)):
            tokenizer = getattr(parts, f"{name}_tokenizer")
            read_one = read(tokenizer, words["new_tokens"], words["new_tokens_match"])
            setattr(parts, f"{name}_tokenizer", read_one)
        parts.conditioner.text_encoder.resize_token_embeddings(len(parts.clip_tokenizer))
        parts.conditioner.multimodal_encoder.resize_token_embeddings(len(parts.blip_tokenizer))
        parts.tokenization = words
    for module in (parts.unet, parts.conditioner):
        for name, parameter in module.named_parameters():  # what starts as nothing does something
            if any(part in name for part in ("adapter.up", "lora_B", "history_weighting")):
                torch.nn.init.normal_(parameter)
    if kind == "lora":
        merge_lora(parts.unet)
    return StoryPipeline.from_components(parts, "ddim", {"task": "visualization"})


class Saved(dict):
    """Kind -> its folder and what the pipeline drew before it was saved, when it is asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __missing__(self, kind: str) -> tuple[Path, torch.Tensor]:
        pipeline = make(kind)
        drawn = draw(pipeline)
        if kind == "fp16":
            pipeline.to(torch.float16).save_pretrained(self.home / kind, variant="fp16")
        else:
            pipeline.save_pretrained(self.home / kind)
            assert torch.equal(draw(pipeline), drawn)  # saving changed nothing
        self[kind] = self.home / kind, drawn
        return self[kind]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return Saved(tmp_path_factory.mktemp("pipelines"))


@pytest.mark.long
def test_another_process_draws_the_same_to_the_bit(saved, tmp_path):
    kinds = [kind for kind in KINDS if kind != "fp16"]
    words = json.dumps([[str(saved[kind][0]) for kind in kinds], list(STORIES[0]), str(ROOT)])
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRAW, words], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr[-2000:]
    expected = [sha256(saved[kind][1].numpy().tobytes()).hexdigest() for kind in kinds]
    assert len(set(expected)) == len(expected)
    for hashes in json.loads(out.stdout.splitlines()[-1]):
        assert dict(zip(kinds, hashes, strict=True)) == dict(zip(kinds, expected, strict=True))


@pytest.mark.long
def test_half_precision_draws_almost_the_same(saved):
    folder, drawn = saved["fp16"]
    pipeline = StoryPipeline.from_pretrained(folder, variant="fp16", torch_dtype=torch.float16)
    assert {p.dtype for p in pipeline.conditioner.parameters()} == {torch.float16}
    assert (draw(pipeline).int() - drawn.int()).abs().float().mean() < 2
    assert (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()


def test_what_a_checkpoint_knows_comes_back(saved):
    pipeline = StoryPipeline.from_pretrained(saved["words"][0])
    config = pipeline.config
    assert config.trained_for == {"task": "visualization"}
    words = {"new_tokens": ["zorp", "luna"], "new_tokens_match": "whole_word"}
    assert config.tokenization == {**words, "max_length": S}
    expected = make("words").clip_tokenizer("a Zorp").input_ids
    assert pipeline.clip_tokenizer("a Zorp").input_ids == expected
    assert set(pipeline.components) == {
        "vae", "unet", "scheduler", "tokenizer", "history_tokenizer", "conditioner", "add_ons",
    }  # fmt: skip
    keys = ("tokenization", "height", "width")
    again = StoryPipeline(**pipeline.components, **{key: config[key] for key in keys})
    assert torch.equal(draw(again), saved["words"][1])


def test_parts_move_together(saved):
    pipeline = StoryPipeline.from_pretrained(saved["history"][0])
    pipeline.to("meta")
    for part in (pipeline.vae, pipeline.unet, pipeline.conditioner, pipeline.add_ons):
        assert {p.device.type for p in part.parameters()} == {"meta"}
    pipeline = StoryPipeline.from_pretrained(saved["history"][0]).to(torch.bfloat16)
    for part in (pipeline.vae, pipeline.unet, pipeline.conditioner, pipeline.add_ons):
        assert {p.dtype for p in part.parameters()} == {torch.bfloat16}
    assert (draw(pipeline).int() - saved["history"][1].int()).abs().float().mean() < 20


def test_offloading_brings_each_model_when_it_is_called(saved):
    """No second device here: the hooks' order is what can be seen."""
    pipeline = StoryPipeline.from_pretrained(saved["plain"][0])
    pipeline.enable_model_cpu_offload(device="cpu")
    order = []
    for name in ("conditioner", "unet", "vae"):
        hook = getattr(pipeline, name)._hf_hook
        before = hook.pre_forward

        def note(module, *args, name=name, before=before, **kwargs):
            if order[-1:] != [name]:
                order.append(name)
            return before(module, *args, **kwargs)

        hook.pre_forward = note
    drawn = draw(pipeline)
    assert order == ["conditioner", "unet", "vae"] * len(STORIES[0])
    assert torch.equal(drawn, saved["plain"][1])


def test_offloaded_models_get_their_inputs_where_they_work(saved, monkeypatch):
    """Weights lie on the cpu between calls; `meta` stands in for the second device."""
    monkeypatch.setattr(torch, "meta", SimpleNamespace(empty_cache=lambda: None), raising=False)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it has none
    pipeline = StoryPipeline.from_pretrained(saved["plain"][0])
    pipeline.enable_model_cpu_offload(device="meta")
    seen = []

    def note(ids, mask):
        seen.append((ids.device.type, pipeline.conditioner.type_embeddings.weight.device.type))
        return torch.zeros(*ids.shape, D, device="meta")

    def stop(images, ids, mask):
        seen.append((images.device.type, ids.device.type))
        raise InterruptedError

    pipeline.conditioner.encode_captions, pipeline.conditioner.encode_history = note, stop
    with pytest.raises(InterruptedError):
        draw(pipeline, guidance_scale=2.0)
    assert seen == [("meta", "cpu"), ("meta", "meta")]


def test_device_maps_and_slices_change_nothing(saved):
    folder, drawn = saved["plain"]
    for where in ("cpu", "balanced"):
        pipeline = StoryPipeline.from_pretrained(folder, device_map=where)
        assert torch.equal(draw(pipeline), drawn)
    pipeline.enable_attention_slicing()
    pipeline.vae.enable_slicing()
    assert (draw(pipeline).int() - drawn.int()).abs().max() <= 1


def test_outputs_and_arguments_are_the_fields(saved):
    folder, drawn = saved["plain"]
    pipeline = StoryPipeline.from_pretrained(folder)
    as_numpy = draw(pipeline, output_type="np")
    assert as_numpy.shape == (1, len(STORIES[0]), 16, 16, 3) and as_numpy.max() <= 1
    assert torch.equal((draw(pipeline, output_type="pt") * 255).round().byte(), drawn)
    images = draw(pipeline, output_type="pil")
    assert [image.size for image in images[0]] == [(16, 16)] * len(STORIES[0])
    given = random_frames(1, 1, 20)[0, 0]
    as_image = Image.fromarray(given.permute(1, 2, 0).numpy())
    ways = (given, as_image, [as_image], given.permute(1, 2, 0).numpy())
    continued = [draw(pipeline, image=way) for way in ways]
    assert all(torch.equal(continued[0], other) for other in continued[1:])
    assert draw(pipeline, height=32, width=16).shape[-2:] == (32, 16)
    with pytest.raises(ValueError, match="height 31 and width 16 must be multiples of 2"):
        draw(pipeline, height=31, width=16)
    with pytest.raises(ValueError, match="^a story has no captions; give one or more"):
        pipeline([])
    with pytest.raises(ValueError, match="output_type='jpg': use one of pil, np, pt, uint8"):
        draw(pipeline, output_type="jpg")
    with pytest.raises(ValueError, match=r"a picture is \(20, 20\)"):
        draw(pipeline, image=[given[0]])


def test_loras_are_loaded_fused_and_mixed(saved, tmp_path):
    """What diffusers' loaders do with ours: one, several by weights, merged, taken off; each has a
    rank of its own, and one that does not fit leaves nothing behind."""
    pipeline = StoryPipeline.from_pretrained(saved["plain"][0])
    for name, rank in (("a", 2), ("b", 3)):
        parts = build_parts()
        torch.manual_seed(ord(name))
        add_lora(parts.unet, rank)
        for key, parameter in parts.unet.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter)
        beside = draw(StoryPipeline.from_components(parts))
        tensors = take_off_lora(parts.unet)
        StoryPipeline.save_lora_weights(tmp_path / name, unet_lora_layers=tensors)
        pipeline.load_lora_weights(tmp_path / name, adapter_name=name)
        pipeline.set_adapters(name)
        assert (draw(pipeline).int() - beside.int()).abs().max() <= 1
        assert not torch.equal(beside, saved["plain"][1])
    pipeline.set_adapters(["a", "b"], [0.5, 0.5])
    mixed = draw(pipeline)
    for wrong in ({k: v[:1] for k, v in tensors.items()}, {"unet.conv_in.weight": torch.ones(1)}):
        wrong = {f"unet.{key}": value for key, value in wrong.items()}
        with pytest.raises(ValueError, match="^the LoRA does not go onto this U-Net .*; give a"):
            pipeline.load_lora_weights(wrong, adapter_name="c")
    assert torch.equal(draw(pipeline), mixed)
    with pytest.raises(ValueError, match="the U-Net has a LoRA beside its weights; merge it first"):
        pipeline.save_pretrained(tmp_path / "whole")
    pipeline.fuse_lora(adapter_names=["a", "b"])
    pipeline.unload_lora_weights()
    assert not has_lora(pipeline.unet)
    assert (draw(pipeline).int() - mixed.int()).abs().max() <= 1


def test_folders_that_are_something_else(saved, tmp_path):
    config = json.loads((saved["plain"][0] / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**config, "_class_name": "Other"}))
    with pytest.raises(ValueError, match="holds a Other, not a StoryPipeline"):
        StoryPipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps(config))
    for gone, why in (("out/mine/again", "there is no such folder"), ("o/m", "HF_HUB_OFFLINE")):
        with pytest.raises(OSError, match=f"^{gone} is no folder of this .* the hub {why}"):
            StoryPipeline.from_pretrained(gone)
    with pytest.raises(OSError, match="is not whole: it has no conditioner/"):
        StoryPipeline.from_pretrained(tmp_path)
    folder = shutil.copytree(saved["plain"][0], tmp_path / "folder")
    for weights in (folder / "unet").glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))  # a pickle, for all that is known
    with pytest.raises(OSError, match="is not whole: unet/ holds no safetensors; export"):
        StoryPipeline.from_pretrained(folder)
    folder = shutil.copytree(saved["plain"][0], tmp_path / "other")
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    assert len(modes) == 1  # whoever may read the folder may read the weights
    configs = [path.read_text() for path in folder.glob("*/config.json")]
    assert configs and not any("_name_or_path" in text for text in configs)  # of this machine
    for path in (folder / "history_tokenizer").glob("*"):
        if path.name in ("tokenizer.json", "vocab.txt"):
            path.unlink()
    with pytest.raises(OSError, match="is not whole: history_tokenizer/ holds no vocabulary"):
        StoryPipeline.from_pretrained(folder)


@pytest.mark.parametrize("file, change, says", [
    ("model_index.json", lambda c: c.pop("tokenization"), "model_index.json has no 'tokenization'"),
    ("model_index.json", lambda c: c.pop("conditioner"), "model_index.json has no 'conditioner'"),
    ("model_index.json", lambda c: c.update(conditioner=["models", "Later"]), "conditioner is f"),
    ("conditioner/config.json", lambda c: c.pop("history_slots"), "conditioner is from .*_slots"),
    ("add_ons/config.json", lambda c: c.pop("arguments"), "add_ons is from"),
    ("model_index.json", lambda c: c["tokenization"].update(max_length=-1), "are no sizes"),
    ("model_index.json", lambda c: c.update(height="x"), "are no sizes"),
])  # fmt: skip
def test_another_versions_folder_is_refused(saved, tmp_path, file, change, says):
    folder = shutil.copytree(saved["history"][0], tmp_path / "folder")
    config = json.loads((folder / file).read_text())
    change(config)
    (folder / file).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{says}.*; export the model again from its checkpoint"):
        StoryPipeline.from_pretrained(folder)
