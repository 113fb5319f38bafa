"""The original's checkpoints: every key there and back, forks' tables, configurations along."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from tiny_parts import STORIES, D, S, build_parts, random_frames, save_parts, story_batch
from torch import nn

from models.checkpoints.checkpoint import load_weights
from models.checkpoints.export_upstream import export_upstream
from models.checkpoints.upstream import from_upstream, is_upstream, to_upstream
from models.components import load_components
from models.training.story_model import StoryModel

NULLS = ("clip_text_null_token", "blip_text_null_token", "blip_image_null_token")


@pytest.fixture(scope="module")
def model():
    return StoryModel(build_parts())


@pytest.fixture
def original(model):
    """The model's weights as the original saves them."""
    conditioner = model.conditioner
    nulls = (conditioner.null_caption_ids, conditioner.null_history_ids, conditioner.null_image)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return to_upstream(state, *nulls)


def saved(path, state, **content):
    torch.save({"state_dict": state, "epoch": 1, **content}, path)
    return path


def equal(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_some_names_said_again(model, original):
    ours, vision = model.state_dict(), "conditioner.vision_encoder."
    for theirs, name in {
        "modal_type_embeddings.weight": "conditioner.type_embeddings.weight",
        "mm_encoder.visual_encoder.cls_token": f"{vision}embeddings.class_embedding",
        "mm_encoder.visual_encoder.norm.bias": f"{vision}post_layernorm.bias",
        "mm_encoder.visual_encoder.blocks.0.norm2.weight": f"{vision}encoder.layers.0.layer_norm2"
        ".weight",
        "mm_encoder.visual_encoder.blocks.0.attn.proj.bias": f"{vision}encoder.layers.0.self_attn"
        ".projection.bias",
        "mm_encoder.visual_encoder.blocks.0.mlp.fc1.bias": f"{vision}encoder.layers.0.mlp.fc1.bias",
        "text_encoder.text_model.final_layer_norm.bias": "conditioner.text_encoder.final_layer_norm"
        ".bias",
        "vae.decoder.mid_block.attentions.0.proj_attn.weight": "vae.decoder.mid_block.attentions.0"
        ".to_out.0.weight",
        "vae.encoder.mid_block.attentions.0.query.bias": "vae.encoder.mid_block.attentions.0.to_q"
        ".bias",
        "unet.conv_in.weight": "unet.conv_in.weight",
    }.items():
        assert torch.equal(original[theirs], ours[name]), theirs
    assert is_upstream(original) and not is_upstream(ours)
    positions = [key for key in original if key.endswith("position_ids")]
    assert len(positions) == 2 and len(original) == len(ours) + len(NULLS) + len(positions)


def test_there_and_back_and_there_again(model, original):
    equal(from_upstream(original), model.state_dict())
    equal(to_upstream(from_upstream(original), *(original[name] for name in NULLS)), original)


def test_what_the_original_cannot_hold_is_named(model, original):
    nulls = [original[name] for name in NULLS]
    for key in (
        "conditioner.history_weighting.weight",
        "unet.mid_block.adapter.weight",
        "head.bias",
    ):
        with pytest.raises(ValueError, match=key):
            to_upstream({**model.state_dict(), key: torch.zeros(1)}, *nulls)


def test_a_key_left_over_is_named_as_ours(model, original, tmp_path):
    extra = {"mm_encoder.visual_encoder.blocks.9.norm1.bias": torch.zeros(1)}
    (name,) = from_upstream(extra)
    with pytest.raises(ValueError, match=f"unknown here, 1 .*{name}"):
        load_weights(model, saved(tmp_path / "a.ckpt", {**original, **extra}))


def test_fids_network_and_configuration_may_be_along(original, tmp_path):
    config = OmegaConf.create({"run": "a", "pororo": {"new_tokens": ["loopy"], "rate": 1e-5}})
    state = {**original, "inception.conv.weight": torch.ones(2)}
    other = StoryModel(build_parts())
    with torch.no_grad():
        other.unet.conv_in.weight.zero_()
    load_weights(other, saved(tmp_path / "a.ckpt", state, hyper_parameters=config))
    assert torch.equal(other.unet.conv_in.weight, original["unet.conv_in.weight"])


@torch.no_grad()
def test_the_forks_tables_go_through_their_layer_norm(original, tmp_path):
    for name in ("modal_type_embeddings", "time_embeddings"):
        original[f"{name}.norm.weight"] = torch.rand(D) + 0.5
        original[f"{name}.norm.bias"] = torch.rand(D)
    model, plain = StoryModel(build_parts()).eval(), StoryModel(build_parts()).eval()
    load_weights(model, saved(tmp_path / "fork.ckpt", original))
    for name, table in (("modal_type", "type_embeddings"), ("time", "time_embeddings")):
        weight = original[f"{name}_embeddings.weight"]
        scale, shift = (original[f"{name}_embeddings.norm.{k}"] for k in ("weight", "bias"))
        getattr(plain.conditioner, table).weight.copy_(
            F.layer_norm(weight, (D,), scale, shift, eps=1e-5)
        )
    batch = story_batch(plain.parts, STORIES[:2], random_frames(2, 4, 16))
    null = torch.tensor([True] + [False] * 7)
    contexts = model.conditioner(batch, null), plain.conditioner(batch, null)
    for ours, expected in zip(*(context[:2] for context in contexts), strict=True):
        torch.testing.assert_close(ours, expected)
    # What the model then saves is known again, and goes back as it came.
    again = StoryModel(build_parts())
    load_weights(again, saved(tmp_path / "ours.ckpt", model.state_dict()))
    equal(again.state_dict(), model.state_dict())
    equal(to_upstream(again.state_dict(), *(original[name] for name in NULLS)), original)


def test_the_forks_tables_without_their_package_are_refused(original, tmp_path, monkeypatch):
    original["time_embeddings.norm.weight"] = original["time_embeddings.norm.bias"] = torch.ones(D)
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)
    path = saved(tmp_path / "fork.ckpt", original)
    with pytest.raises(ValueError, match="time_embeddings are bitsandbytes.*pip install"):
        load_weights(StoryModel(build_parts()), path)


def test_fewer_positions_than_ours_are_filled_up(model, original, tmp_path):
    key = "text_encoder.text_model.embeddings.position_embedding.weight"
    whole = original[key]
    original[key] = whole[: S - 3] + 1
    target = StoryModel(build_parts())
    load_weights(target, saved(tmp_path / "short.ckpt", original))
    table = target.conditioner.text_encoder.embeddings.position_embedding.weight
    assert torch.equal(table, torch.cat([whole[: S - 3] + 1, whole[S - 3 :]]))


def test_what_is_written_loads_here_and_there(tmp_path):
    save_parts(tmp_path)
    folders = {"diffusion_model": str(tmp_path), "blip_model": str(tmp_path / "blip")}
    parts = load_components(**folders, image_size=16, max_length=S, new_tokens=["zorp"])
    model = StoryModel(parts)
    path, out = saved(tmp_path / "ours.ckpt", model.state_dict()), tmp_path / "theirs.ckpt"
    export_upstream(path, out, (parts.clip_tokenizer, parts.blip_tokenizer))
    theirs = torch.load(out, weights_only=True)["state_dict"]
    conditioner = parts.conditioner
    assert torch.equal(theirs["clip_text_null_token"], conditioner.null_caption_ids)
    assert torch.equal(theirs["blip_text_null_token"], conditioner.null_history_ids)
    assert theirs["blip_image_null_token"].shape == conditioner.null_image.shape
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    load_weights(model, out)
    equal(model.state_dict(), before)


def test_shorter_captions_cut_the_positions_and_what_is_no_story_model_is_refused(model, tmp_path):
    tokenizers = model.parts.clip_tokenizer, model.parts.blip_tokenizer
    out, told = tmp_path / "theirs.ckpt", {"tokenization": {"max_length": S - 2}}
    export_upstream(saved(tmp_path / "a.ckpt", model.state_dict(), **told), out, tokenizers)
    theirs = torch.load(out, weights_only=True)["state_dict"]
    assert theirs["text_encoder.text_model.embeddings.position_embedding.weight"].shape[0] == S - 2
    assert theirs["clip_text_null_token"].shape == (1, S - 2)
    with pytest.raises(ValueError, match="no story model"):
        export_upstream(
            saved(tmp_path / "b.ckpt", {"x": torch.ones(1)}), tmp_path / "c", tokenizers
        )
    assert not list(tmp_path.glob("c*"))
