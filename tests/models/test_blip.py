"""BLIP's encoders from the library's layout and from Salesforce's file; token tables' sizes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from tiny_parts import MEAN, STD, WORDS, S
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    BlipTextModel,
    BlipVisionModel,
)

from models import blip_weights as blip
from pretraining.vocabulary import build_blip_tokenizer

SIZES = {"num_hidden_layers": 2, "intermediate_size": 32, "num_attention_heads": 2}
CONFIG = BlipConfig(
    vision_config={**SIZES, "hidden_size": 16, "image_size": 24, "patch_size": 4},
    text_config={**SIZES, "hidden_size": 24, "encoder_hidden_size": 16, "vocab_size": 60,
                 "max_position_embeddings": 16, "is_decoder": True},
    image_text_hidden_size=8,
)  # fmt: skip


@pytest.fixture
def large_is_small(monkeypatch):
    """Takes the minute model for the large one, of 8x8 pictures."""
    vision, text = CONFIG.vision_config.to_dict(), CONFIG.text_config.to_dict()
    monkeypatch.setattr(blip, "WIDTH", 16)
    monkeypatch.setattr(blip, "PICTURE_SIZE", 8)
    monkeypatch.setattr(blip, "VISION", type(CONFIG.vision_config)(**{**vision, "image_size": 8}))
    monkeypatch.setattr(blip, "TEXT", type(CONFIG.text_config)(**text))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A folder as on the hub, whose configuration says what the library says by default."""
    folder = tmp_path_factory.mktemp("copy")
    torch.manual_seed(0)
    model = BlipForImageTextRetrieval(CONFIG)
    torch.nn.init.normal_(model.vision_model.embeddings.position_embedding)
    model.save_pretrained(folder)
    build_blip_tokenizer(WORDS, S).save_pretrained(folder)
    BlipImageProcessor(image_mean=list(MEAN), image_std=list(STD)).save_pretrained(folder)
    return folder, model


def test_a_copy_of_the_large_model_becomes_the_published_one(copy, large_is_small):
    vision, text, transform = blip.load_blip(str(copy[0]))
    assert CONFIG.vision_config.layer_norm_eps == 1e-5  # what copies say
    norms = [m for m in vision.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6} and len(norms) == 5
    attention = text.encoder.layer[0].attention.self
    assert (attention.num_attention_heads, attention.attention_head_size) == (12, 2)
    assert transform.size == 8 and vision.embeddings.position_embedding.shape == (1, 5, 16)
    # As the library would stretch the table for pictures of that size.
    whole = copy[1].vision_model.embeddings
    stretched = whole.interpolate_pos_encoding(torch.zeros(1, 5, 16), 8, 8)
    torch.testing.assert_close(vision.embeddings.position_embedding, stretched)
    assert vision(pixel_values=torch.zeros(1, 3, 8, 8)).last_hidden_state.shape == (1, 5, 16)


def test_another_model_stays_as_it_is(copy):
    vision, text, transform = blip.load_blip(str(copy[0]))
    assert transform.size == 24 and vision.embeddings.position_embedding.shape == (1, 37, 16)
    assert text.encoder.layer[0].attention.self.num_attention_heads == 2
    assert vision.post_layernorm.eps == 1e-5


def test_a_model_without_these_encoders_is_refused(copy, tmp_path):
    model = BlipForImageTextRetrieval(CONFIG)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("text_encoder")}
    model.save_pretrained(tmp_path, state_dict=state)
    BlipImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"it lacks \d+ of the encoders' tensors, such as text_enc"):
        blip.load_blip(str(tmp_path))


def pth(path, vision, text, **changes):
    """Salesforce's file: their names, among tensors that nobody here needs."""
    names = {
        "embeddings.class_embedding": "cls_token", "embeddings.position_embedding": "pos_embed",
        "embeddings.patch_embedding": "patch_embed.proj", "post_layernorm": "norm",
        "encoder.layers": "blocks", "layer_norm": "norm", "self_attn.projection": "attn.proj",
        "self_attn": "attn",
    }  # fmt: skip
    state = {"vision_proj.weight": torch.zeros(2), "text_decoder.bert.x": torch.zeros(1)}
    for key, value in vision.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[f"visual_encoder.{key}"] = value
    for key, value in text.state_dict().items():
        state[f"text_encoder.{key}"] = value
    state["text_encoder.embeddings.position_ids"] = torch.arange(16)[None]
    torch.save({"model": {**state, **changes}}, path)
    return str(path)


@pytest.fixture
def encoders(large_is_small):
    torch.manual_seed(1)
    return BlipVisionModel(blip.VISION), BlipTextModel(blip.TEXT, add_pooling_layer=False)


WRAPPED = {
    "as published": lambda model: {"model": model},
    "bare": lambda model: model,
    "Lightning": lambda model: {"state_dict": {f"model.{k}": v for k, v in model.items()}},
    "parallel": lambda model: {"model": {f"module.{k}": v for k, v in model.items()}, "epoch": 1},
    "half": lambda model: {"model": {k: v.to(torch.float16) for k, v in model.items()}},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_salesforces_file_is_read(form, tmp_path, encoders):
    path = pth(tmp_path / "model_large.pth", *encoders)
    torch.save(WRAPPED[form](torch.load(path)["model"]), path)
    loaded = blip.load_blip(path)
    for part, expected in zip(loaded, encoders, strict=False):
        state = part.state_dict()
        assert state.keys() == expected.state_dict().keys()
        for key, value in expected.state_dict().items():
            value = value.half().float() if form == "half" else value
            assert state[key].dtype == torch.float32 and torch.equal(state[key], value), key
    assert loaded[2].size == 8
    assert loaded[2].mean.flatten().tolist() == pytest.approx([0.4815, 0.4578, 0.4082], abs=1e-4)


def test_salesforces_file_as_safetensors(tmp_path, encoders):
    path = pth(tmp_path / "model_large.pth", *encoders)
    save_file(torch.load(path)["model"], tmp_path / "model_large.safetensors")
    vision, *_ = blip.load_blip(str(tmp_path / "model_large.safetensors"))
    expected = encoders[0].post_layernorm.weight
    assert torch.equal(vision.post_layernorm.weight, expected)


def test_another_file_is_refused(tmp_path, encoders):
    changed = {"visual_encoder.cls_token": torch.ones(2)}
    other = pth(tmp_path / "other.pth", *encoders, **changed)
    with pytest.raises(OSError, match="^it is not BLIP's model_large.pth: .*class_embedding"):
        blip.load_blip(other)
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(OSError, match="^it is a web page saved under that name; download the"):
        blip.load_blip(str(tmp_path / "page.pth"))


def test_the_tokenizer_of_salesforces_file(tmp_path):
    path = tmp_path / "model_large.pth"
    with pytest.raises(FileNotFoundError) as caught:
        blip.tokenizer_source(str(path))
    message = str(caught.value)
    assert message.startswith(f"blip_model: there is no file {path}; download BLIP's pretrained")
    assert "/BLIP/models/model_large.pth to there, and vocab.txt of " in message
    path.touch()
    with pytest.raises(FileNotFoundError, match="^blip_model: no vocab.txt is beside .*; put "):
        blip.tokenizer_source(str(path))  # nothing is fetched that nobody named
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    assert blip.tokenizer_source(str(path)) == str(tmp_path)
    assert blip.tokenizer_source("Salesforce/blip") == "Salesforce/blip"
