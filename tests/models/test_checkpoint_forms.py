"""Every form in which people have weights: loaded tensor for tensor, or refused with the cause."""

from __future__ import annotations

import json
import pickle
import re
import zipfile

import pytest
import torch
import torch.distributed.checkpoint as dcp
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny_parts import build_parts
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from models.checkpoints.checkpoint import load_base, load_weights
from models.checkpoints.upstream import to_upstream
from models.training.story_model import StoryModel
from models.training.tuning import add_lora

CLIP = "text_encoder."


@pytest.fixture(scope="module")
def model():
    return StoryModel(build_parts())


@pytest.fixture(scope="module")
def states(model):
    """The same weights under the original's names and under ours."""
    conditioner = model.conditioner
    nulls = (conditioner.null_caption_ids, conditioner.null_history_ids, conditioner.null_image)
    ours = {key: value.clone() for key, value in model.state_dict().items()}
    return {"theirs": to_upstream(ours, *nulls), "ours": ours}


@pytest.fixture(scope="module")
def built():
    return StoryModel(build_parts())


@pytest.fixture
def other(built, states):
    """A model of other weights, as one just built."""
    built.load_state_dict({key: value + 1 for key, value in states["ours"].items()})
    return built


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def renamed(old, new, state):
    return {key.replace(old, new): value for key, value in state.items()}


def without(part, state):
    return {key: value for key, value in state.items() if part not in key}


def cast(dtype, state):
    floats = torch.is_floating_point
    return {key: value.to(dtype) if floats(value) else value for key, value in state.items()}


def with_lora(state):
    """As PEFT saves it: the projections moved into its layers."""
    lora = {}
    for key, value in state.items():
        if ".to_q.weight" in key and key.startswith("unet."):
            layer = key.removesuffix(".weight")
            lora[f"{layer}.lora_A.default.weight"] = torch.ones(2, value.shape[1])
            lora[f"{layer}.lora_B.default.weight"] = torch.ones(value.shape[0], 2)
            key = f"{layer}.base_layer.weight"
        lora[key] = value
    return lora


FORMS = {  # what is saved, of a state dict, and what is said of it besides
    "Lightning": (lambda s: {"state_dict": s, "epoch": 3}, None),
    "official": (
        lambda s: {
            "model_state_dict": prefixed("module.", s),
            "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []},
        },
        None,
    ),
    "bare": (lambda s: s, None),
    "bare with settings": (lambda s: {**s, "epoch": 3, "model": {"name": "arldm"}}, None),
    "model": (lambda s: {"model": s}, None),
    "wrapped twice": (lambda s: {"model": {"state_dict": s}, "step": 1}, None),
    "DeepSpeed's model": (lambda s: {"module": prefixed("_forward_module.", s)}, None),
    "LightningModule": (lambda s: {"state_dict": prefixed("model.", s)}, None),
    "compiled": (lambda s: {"state_dict": prefixed("_orig_mod.", s)}, None),
    "all at once": (lambda s: prefixed("_forward_module.module._orig_mod.model.", s), None),
    "U-Net compiled": (lambda s: renamed("unet.", "unet._orig_mod.", s), None),
    "FSDP": (lambda s: renamed("unet.", "unet._fsdp_wrapped_module.", s), None),
    "half": (lambda s: cast(torch.float16, s), None),
    "bfloat16": (lambda s: {"state_dict": cast(torch.bfloat16, s)}, None),
    "without position_ids": (lambda s: without("position_ids", s), None),
    "without text_model": (lambda s: renamed(f"{CLIP}text_model.", CLIP, s), None),
    "with text_model": (
        lambda s: renamed("conditioner.text_encoder.", "conditioner.text_encoder.text_model.", s),
        None,
    ),
    "without null tokens": (lambda s: without("null_token", s), None),
    "LitEma": (
        lambda s: {"state_dict": {
            **s, "unet_ema.decay": torch.tensor(0.9), "unet_ema.conv_inweight": torch.ones(3),
            "model_ema.num_updates": torch.tensor(1),
        }},
        r"left out model_ema\.\*, unet_ema\.\*, averages beside the weights",
    ),
    "averages in a dict": (
        lambda s: {"model": s, "ema": prefixed("module.", s)},
        "left out ema, averages beside the weights",
    ),
    "LoRA": (with_lora, r"left out \d+ tensors of a LoRA, such as unet\..*lora_A\S+"),
    "without VAE": (lambda s: without("vae.", s), "it has no VAE; the backbone's is taken"),
}  # fmt: skip


@pytest.mark.parametrize("form, names", [
    *((form, "theirs") for form in FORMS),
    *((form, "ours") for form in ("Lightning", "bare", "with text_model", "LoRA", "without VAE")),
])  # fmt: skip
def test_a_form_is_loaded_tensor_for_tensor(form, names, states, other, tmp_path, capsys):
    save, said = FORMS[form]
    state = states[names]
    torch.save(save(state), tmp_path / "weights.pth")
    expected = {key: value.float() for key, value in states["ours"].items()}
    if form in ("half", "bfloat16"):
        dtype = {"half": torch.float16, "bfloat16": torch.bfloat16}[form]
        expected = {key: value.to(dtype).float() for key, value in expected.items()}
    if form == "without VAE":
        expected |= {k: v.clone() for k, v in other.state_dict().items() if k.startswith("vae.")}
    load_weights(other, tmp_path / "weights.pth")
    loaded = other.state_dict()
    assert loaded.keys() == expected.keys()
    for key, value in expected.items():
        assert loaded[key].dtype == torch.float32 and torch.equal(loaded[key], value), key
    out = capsys.readouterr().out
    if said is None:
        assert out == ""
    else:
        assert re.fullmatch(rf"{re.escape(str(tmp_path / 'weights.pth'))}: {said}\n", out)


@pytest.mark.parametrize("file, names", [
    ("old pickle", "theirs"), ("safetensors", "ours"), ("safetensors under another name", "theirs"),
])  # fmt: skip
def test_a_kind_of_file_is_loaded(file, names, states, other, tmp_path):
    if file == "old pickle":
        path = tmp_path / "weights.pth"
        content = {"state_dict": prefixed("module.", states[names])}
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path = tmp_path / ("weights.safetensors" if file == "safetensors" else "weights.ckpt")
        save_file({k: v.contiguous() for k, v in prefixed("model.", states[names]).items()}, path)
    load_weights(other, path)
    for key, value in states["ours"].items():
        assert torch.equal(other.state_dict()[key], value), key


def test_a_form_serves_as_base(states, other, tmp_path):
    torch.save({"model_state_dict": prefixed("module.", states["theirs"])}, tmp_path / "a.pth")
    parts = other.parts
    load_base(parts, tmp_path / "a.pth")
    for key, value in parts.modules().state_dict().items():
        assert torch.equal(value, states["ours"][key]), key


def test_a_lora_of_ours_is_not_left_out(states, tmp_path, capsys):
    tuned = StoryModel(build_parts())
    add_lora(tuned.unet, 2)
    state = {key: torch.rand_like(value) for key, value in tuned.state_dict().items()}
    torch.save(state, tmp_path / "bare.pth")
    load_weights(tuned, tmp_path / "bare.pth")
    assert all(torch.equal(tuned.state_dict()[key], value) for key, value in state.items())
    assert capsys.readouterr().out == ""


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


def cut(content, share, **how):
    def write(path, state):
        torch.save(content(state), path, **how)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return write


def raw(data):
    return lambda path, state: path.write_bytes(data)


def content(make, **how):
    return lambda path, state: torch.save(make(state), path, **how)


def zipped(path, state):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.ckpt", b"weights")


def safetensors(keep):
    def write(path, state):
        save_file({"unet.a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:keep])

    return write


def folder(*names):
    def write(path, state):
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).touch()

    return write


def sharded(path, state):
    dcp.save({"state_dict": state}, checkpoint_id=path, no_dist=True)


OLD = {"_use_new_zipfile_serialization": False}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6050000000\n"
ADAM = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-5}]}
REFUSED = {  # how the file is written, and what is said after its name
    "missing": (lambda path, state: None, "is not there; give a path that exists"),
    "empty": (raw(b""), "is empty; copy or download it again"),
    "cut short": (cut(dict, 0.7), "is cut short: the table at its end is missing; copy or "),
    "cut short, old": (cut(dict, 0.7, **OLD), "is cut short; copy or download it again"),
    "cut in a name, old": (lambda path, state: (
        torch.save(state, path, **OLD), path.write_bytes(path.read_bytes()[:173])),
        "is cut short; copy or download it again"),
    "cut safetensors": (safetensors(1000), r"is cut short: 1,000 of 4,\d+ bytes; copy or download"),
    "cut header": (safetensors(20), "is cut short; copy or download it again"),
    "unfilled": (raw(bytes(4000)), "is cut short: it begins with zeros, which a download left"),
    "web page": (raw(b"\n<!DOCTYPE html>\n<html>"), "is a web page saved under that name; "),
    "web page with a mark": (raw("\ufeff<html lang=de>".encode()), "is a web page saved under"),
    "pointer": (raw(LFS), "is a git-lfs pointer, not the file it stands for; run git lfs pull"),
    "text": (raw(b"Entry not found"), "is a text file that begins with 'Entry not found'; give"),
    "noise": (raw(b"\x07\x91\xfe\x00" * 99), "is no file of weights: it begins with b'"),
    "zip": (zipped, "is an archive; unpack it and give the checkpoint that is in it"),
    "gzip": (raw(b"\x1f\x8b\x08" * 9), "is an archive; unpack it"),
    "HDF5": (raw(b"\x89HDF\r\n\x1a\n" * 9), "is an HDF5 file, as stories are kept in; give"),
    "pickle": (raw(pickle.dumps({"a": 1})), "is a pickle that torch.save did not write, and could"),
    "code": (content(lambda s: {"state_dict": s, "args": OmegaConf.create({"a": 1}), "x": Evil()}),
             "holds objects of builtins.print, which could run code; if you trust it, read"),
    "code, old": (content(lambda s: [Evil()], **OLD), "holds objects of print, which could"
                  " run code; if you trust it, read it with torch.load"),
    "module": (content(lambda s: torch.nn.Linear(1, 1)), "holds objects of torch.nn.modules.linear."
               "Linear, which could run code"),
    "list": (content(lambda s: [1, 2]), "holds a list, not tensors by name; give a checkpoint"),
    "no weights": (content(lambda s: {"weights": {}, "epoch": 1}), "holds no weights; its keys are "
                   "weights, epoch"),
    "nothing": (content(lambda s: {}), "holds no weights; its keys are none"),
    "no tensor": (content(lambda s: {"state_dict": {**s, "a": 3}}), "holds more than tensors in its"
                  " state dict, such as a"),
    "optimizer": (content(lambda s: ADAM), "holds an optimizer's state only; give the file with"),
    "optimizer, named": (content(lambda s: {"optimizer_state_dict": ADAM}), "holds an optimizer's"),
    "averages": (content(lambda s: prefixed("model_ema.", s)), "holds averages of weights only"),
    "one gone": (content(lambda s: without("unet.conv_in.weight", s)), r"lacks 1 .*\.conv_in\.wei"),
    "one too many": (content(lambda s: {**s, "head.bias": torch.ones(1)}), "has, unknown here, 1 "
                     ".*head"),
    "another shape": (content(lambda s: {**s, "unet.conv_in.weight": torch.ones(1)}),
                      r"has in another shape 1 .*unet\.conv_in"),
    "twice": (content(lambda s: {**s, "module.unet.conv_in.weight": torch.ones(1)}),
              "holds unet.conv_in.weight twice, once as module.unet.conv_in.weight; leave one"),
    "Stable Diffusion": (content(lambda s: {"state_dict": {
        "model.diffusion_model.out.bias": torch.ones(1), "first_stage_model.a": torch.ones(1)}}),
        "has keys that begin with diffusion_model., first_stage_model., but this model's begin with"
        " .*conditioner.*; give a checkpoint of the whole model"),
    "U-Net alone": (content(lambda s: {"conv_in.weight": torch.ones(1)}), "has keys that begin "
                    "with conv_in., but this model's begin with"),
    "DeepSpeed": (folder("latest", "zero_to_fp32.py"), "is a DeepSpeed folder; run its "
                  "zero_to_fp32.py"),
    "DeepSpeed's inner": (folder("mp_rank_00_model_states.pt"), "is a DeepSpeed folder; run its"),
    "FSDP": (sharded, "is a sharded folder of FSDP; run python -m torch.distributed.checkpoint"),
    "exported": (folder("model_index.json", "conditioner/config.json"), "is a folder that "
                 "models.export wrote; .* python -m models.export checkpoint=.*weights.pth out="),
    "diffusers": (folder("model_index.json", "unet/config.json"), "is a folder in diffusers' "
                  "layout, as the backbone's diffusion_model takes; give a checkpoint here"),
    "folder": (folder("last.ckpt"), "is a folder; give a checkpoint file, such as last.ckpt"),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_checkpoint_is_refused_with_its_cause(form, states, other, tmp_path, capsys):
    write, says = REFUSED[form]
    path = tmp_path / "weights.pth"
    write(path, states["theirs"])
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=f"weights.pth {says}") as caught:
        load_weights(other, path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())
    assert "must never run" not in capsys.readouterr().out


def test_a_sharded_folder_can_be_joined_as_it_says(states, other, tmp_path):
    sharded(tmp_path / "folder", states["theirs"])
    dcp_to_torch_save(tmp_path / "folder", tmp_path / "joined.pt")
    load_weights(other, tmp_path / "joined.pt")
    for key, value in states["ours"].items():
        assert torch.equal(other.state_dict()[key], value), key


def test_a_damaged_header_is_no_traceback(other, tmp_path):
    text = json.dumps({"a": {"dtype": "F32"}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="is no whole safetensors file; copy or download it again"):
        load_weights(other, tmp_path / "a.safetensors")
