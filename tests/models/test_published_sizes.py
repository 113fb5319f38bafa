"""The loaded parts are the original's in every size, also where weights show no trace of it.

Folders are written as they lie on the hub, their configurations word for word, but shallow (and
narrow where the width is seen in the weights), so that the real loading code reads them in seconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from test_blip import pth
from tiny_parts import S, tokenizers
from torch import nn
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    BlipTextModel,
    BlipVisionModel,
    CLIPTextConfig,
    CLIPTextModel,
)
from transformers.activations import GELUActivation, QuickGELUActivation

from models import blip_weights as blip
from models.components import load_components

UNET = {
    "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False, "cross_attention_dim": 768, "downsample_padding": 1,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "flip_sin_to_cos": True,
    "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}  # fmt: skip
VAE = {
    "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "in_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "latent_channels": 4, "layers_per_block": 2,
    "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
CLIP = {
    "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2,
    "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072,
    "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "model_type": "clip_text_model",
    "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1, "projection_dim": 768,
    "vocab_size": 49408,
}  # fmt: skip
SCHEDULER = {
    "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False,
}  # fmt: skip
# As copies of the large model say it: the library's heads and epsilon, pictures of 384 pixels.
BLIP = {
    "model_type": "blip", "image_text_hidden_size": 256,
    "text_config": {
        "model_type": "blip_text_model", "num_attention_heads": 8, "hidden_size": 768,
        "encoder_hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 12,
        "layer_norm_eps": 1e-12, "vocab_size": 30524, "max_position_embeddings": 512,
    },
    "vision_config": {
        "model_type": "blip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 384, "patch_size": 16,
        "layer_norm_eps": 1e-05,
    },
}  # fmt: skip
SHALLOW = {"num_hidden_layers": 1}
NARROW = {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1}
FORGETFUL = {  # what a copy's configuration says of dropout
    "omitted": {},
    "none": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "another": {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2, "dropout": 0.3},
}


def million(*networks) -> float:
    return sum(p.numel() for n in networks for p in n.parameters()) / 1e6


def write_config(folder: Path, config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def write_diffusion_model(folder: Path) -> None:
    clip, _ = tokenizers()
    clip.save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    for name, cls, config in (
        ("unet", UNet2DConditionModel, UNET), ("vae", AutoencoderKL, VAE),
    ):  # fmt: skip
        config = {"_class_name": cls.__name__, **config, **NARROW}
        write_config(folder / name, config)
        state = cls.from_config(config).state_dict()
        save_file(state, folder / name / "diffusion_pytorch_model.safetensors")
    config = {**CLIP, **SHALLOW, "vocab_size": len(clip)}
    model = CLIPTextModel(CLIPTextConfig(**config))
    model.save_pretrained(folder / "text_encoder")
    write_config(folder / "text_encoder", config)


def write_blip(folder: Path) -> dict:
    """Returns its configuration."""
    _, tokenizer = tokenizers()
    tokenizer.save_pretrained(folder)
    BlipImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder)
    text = {**BLIP["text_config"], **SHALLOW, "vocab_size": len(tokenizer)}
    config = {**BLIP, "text_config": text, "vision_config": {**BLIP["vision_config"], **SHALLOW}}
    BlipForImageTextRetrieval(BlipConfig(**config)).half().save_pretrained(folder)
    return config


def kinds(network: nn.Module, *kinds: type) -> list:
    return [module for module in network.modules() if isinstance(module, kinds)]


def assert_blip(vision, text, layers: tuple[int, int]) -> None:
    """Heads, epsilons, activations and dropout of FACTS' sizes."""
    assert (len(vision.encoder.layers), len(text.encoder.layer)) == layers
    for layer in vision.encoder.layers:
        assert (layer.self_attn.num_heads, layer.self_attn.head_dim) == (16, 64)
        assert layer.self_attn.dropout.p == 0
        assert layer.mlp.fc1.out_features == 4096
    for layer in text.encoder.layer:
        for attention in (layer.attention, layer.crossattention):
            assert attention.self.num_attention_heads == 12
            assert attention.self.attention_head_size == 64
        assert layer.crossattention.self.key.in_features == 1024
    for encoder, epsilon, norms in (
        (vision, 1e-6, 2 * layers[0] + 1), (text, 1e-12, 3 * layers[1] + 1),
    ):  # fmt: skip
        found = [norm.eps for norm in kinds(encoder, nn.LayerNorm)]
        assert found == [epsilon] * norms
        for gelu in kinds(encoder.encoder, GELUActivation):  # exact, none of its approximations
            assert abs(gelu(torch.ones(1)).item() - 0.8413447) < 1e-6
    assert len(kinds(vision, GELUActivation) + kinds(text, GELUActivation)) == sum(layers)
    # After the embeddings; in a layer twice within and twice behind attention, once behind the MLP.
    assert [drop.p for drop in kinds(text, nn.Dropout)] == [0.1] * (5 * layers[1] + 1)
    assert vision.embeddings.position_embedding.shape == (1, 1 + 14 * 14, 1024)
    assert text.config.max_position_embeddings == 512


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip")
    return folder, write_blip(folder)


@pytest.mark.parametrize("dropout", FORGETFUL)
def test_a_copy_of_blip_becomes_the_originals_whatever_it_says(blip_folder, dropout):
    folder, config = blip_folder
    write_config(folder, {**config, "text_config": config["text_config"] | FORGETFUL[dropout]})
    vision, text, transform = blip.load_blip(str(folder))
    assert_blip(vision, text, (1, 1))
    assert transform.size == 224


def test_folders_as_on_the_hub_become_the_originals_parts(blip_folder, tmp_path):
    write_diffusion_model(tmp_path)
    parts = load_components(str(tmp_path), str(blip_folder[0]), 512, S + 8)
    conditioner = parts.conditioner
    assert_blip(conditioner.vision_encoder, conditioner.multimodal_encoder, (1, 1))

    clip = conditioner.text_encoder
    (layer,) = clip.encoder.layers
    assert (layer.self_attn.num_heads, layer.self_attn.head_dim) == (12, 64)
    assert layer.self_attn.dropout == 0 and not kinds(clip, nn.Dropout)
    assert isinstance(layer.mlp.activation_fn, QuickGELUActivation)
    assert [norm.eps for norm in kinds(clip, nn.LayerNorm)] == [1e-5] * 3

    attentions = [m for name, m in parts.unet.named_modules() if name.endswith(("attn1", "attn2"))]
    assert len(attentions) == 2 * (3 + 1 + 6) and {a.heads for a in attentions} == {8}
    assert {a.cross_attention_dim for a in attentions[1::2]} == {768}
    assert {norm.eps for norm in kinds(parts.unet, nn.LayerNorm)} == {1e-5}
    assert {drop.p for drop in kinds(parts.unet, nn.Dropout)} == {0}
    groups = {name: norm for name, norm in parts.unet.named_modules() if type(norm) is nn.GroupNorm}
    for name, norm in groups.items():
        spatial = "attentions." in name  # the norm before a spatial transformer
        assert (norm.num_groups, norm.eps) == (32, 1e-6 if spatial else 1e-5), name

    vae = parts.vae
    assert {(norm.num_groups, norm.eps) for norm in kinds(vae, nn.GroupNorm)} == {(32, 1e-6)}
    assert [c.mid_block.attentions[0].heads for c in (vae.encoder, vae.decoder)] == [1, 1]
    assert vae.config.scaling_factor == 0.18215
    assert {drop.p for drop in kinds(vae, nn.Dropout)} <= {0}


def test_salesforces_file_at_full_depth(tmp_path):
    """A single number stands for every tensor's, so that the whole model is a small file."""
    with torch.device("meta"):
        vision = BlipVisionModel(blip.VISION)
        text = BlipTextModel(blip.TEXT, add_pooling_layer=False)
    for network in (vision, text):
        for name, tensor in network.state_dict().items():
            owner, _, last = name.rpartition(".")
            one = nn.Parameter(torch.tensor(0.5).expand(tensor.shape))
            setattr(network.get_submodule(owner), last, one)
    path = pth(tmp_path / "model_large.pth", vision, text)
    vision, text, transform = blip.load_blip(path)
    assert_blip(vision, text, (24, 12))
    assert round(million(vision)) == 303 and round(million(text)) == 142
    assert all(p.device.type == "cpu" and p[(0,) * p.ndim] == 0.5 for p in text.parameters())
    assert transform.size == 224 and not vision.training and not text.training
    buffers = [*vision.buffers(), *text.buffers()]
    assert buffers and all(buffer.device.type == "cpu" for buffer in buffers)
