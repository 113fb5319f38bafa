"""Samples, networks, bases and LoRAs that are not right: one sentence each.

Each row: a program, what spoils a good input of it, and a part of the sentence.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from good_inputs import (
    dress,
    judge,
    load,
    measure,
    plain,
    png,
    start_with_lora,
)
from spoils import (
    DEEP,
    Spoil,
    both,
    clip_settings,
    content,
    entry,
    fifo,
    gone,
    in_place,
    lines,
    png_bytes,
    renamed,
    resized,
    rows,
    saved,
    tensors,
    with_key,
)

FOLDERS_OF_SAMPLES: dict[str, tuple[Spoil, str]] = {
    "nowhere": (lambda h: shutil.rmtree(h / "out"), "out does not exist: give the folder"),
    "no manifest": (
        lambda h: shutil.rmtree(h / "out") or (h / "out").mkdir(),
        "has no manifest.jsonl",
    ),
    "empty manifest": (lines(""), "lists no story: sample at least one"),
    "half a line": (lines('{"story_id": "half'), "line 1 is not JSON"),
    "deep": (lines(DEEP), "line 1 is not JSON .it is nested too deeply"),
    "key twice": (lines('{"story_id": "a", "story_id": "b"}'), "'story_id' is there twice"),
    "half a letter": (entry(captions=["\ud83d", "b"]), "has half a letter"),
    "twice": (
        lambda h: (h / "out/manifest.jsonl").write_text((h / "out/manifest.jsonl").read_text() * 2),
        "'s0' 2 times",
    ),
    "gone": (entry(frames=["gone.png", "s0/1.png"]), "'gone.png', which is not in"),
    "above": (entry(frames=["../secret.png", "s0/1.png"]), "outside the samples folder"),
    "one caption": (entry(captions=["only one"]), "2 frames but 1 captions"),
    "captions are a text": (entry(captions="ab"), "'captions' is 'ab', not a list of texts"),
    "given": (entry(given=3), "'given' is 3"),
    "seed": (entry(seed="x"), "'seed' is 'x', not a whole number"),
    "vocabulary is cut": (content("out/label_vocabulary.json", "{"), "vocabulary.json is not JSON"),
    "picture is a page": (content("out/s0/1.png", "<html>"), "1.png cannot be used"),
    "picture is a pipe": (fifo("out/s0/1.png"), "'s0/1.png', which is not in"),
    "picture is a bomb": (content("out/s0/1.png", png_bytes(9_000, 9_000)), "pixels are too many"),
}


def evaluated(make: Callable[[Path], object]) -> Spoil:
    """A plain folder in place of the samples."""
    return lambda home: (shutil.rmtree(home / "out"), plain(home), make(home))


FOLDERS_OF_SAMPLES |= {
    f"plain folder: {name}": (evaluated(make), says)
    for name, (make, says) in {
        "both kinds": (lambda h: png(h / "out/x.png", 8, 8), "holds both pictures and folders"),
        "one name twice": (
            lambda h: (h / "out/1/0.jpg").write_bytes(saved("JPEG")),
            "0.jpg and 0.png have one name: keep one",
        ),
        "heic": (lambda h: (h / "out/1/3.heic").touch(), "3.heic is of a kind that is not read"),
        "nothing": (
            lambda h: [shutil.move(h / "out", h / "x"), (h / "out/.hidden").mkdir(parents=True)],
            "has no manifest.jsonl",
        ),
    }.items()
}  # fmt: skip

CODE = "which asks for Python code of its own to be run"
CLIPS: dict[str, tuple[Spoil, str]] = {
    "code of a tokenizer": (
        clip_settings(hf_tokenizer_name="{home}", tokenizer_kwargs={"trust_remote_code": True}),
        f"open_clip_config.json has 'trust_remote_code', {CODE}",
    ),
    "code beside it": (
        both(clip_settings(), content("clip/tokenizer_config.json", '{"auto_map": {"A": "b.C"}}')),
        f"tokenizer_config.json has 'auto_map', {CODE}",
    ),
    "a tokenizer of the hub": (
        clip_settings(hf_tokenizer_name="someone/else"),
        "its hf_tokenizer_name 'someone/else' is no folder, and would be fetched",
    ),
    "a text model of the hub": (clip_settings(hf_model_name="someone/else"), "would be fetched"),
    "no JSON": (content("clip/open_clip_config.json", "{"), "cannot be read as JSON"),
    "no settings": (gone("clip/open_clip_config.json"), "cannot be loaded"),
    "no weights": (clip_settings(), "cannot be loaded"),
}

BASES: dict[str, tuple[Spoil, str]] = {
    "code of BLIP": (with_key("blip/config.json", auto_map={"AutoConfig": "x.Y"}), CODE),
    "code of its pictures": (
        with_key("blip/preprocessor_config.json", auto_map={"AutoImageProcessor": "x.Y"}),
        f"^error: tiny.blip_model: .*preprocessor_config.json has 'auto_map', {CODE}",
    ),
    "code of the tokenizer": (
        with_key("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
        CODE,
    ),
    "code of the U-Net": (with_key("unet/config.json", custom_pipelines={"x": 1}), CODE),
    "no autoencoder": (with_key("vae/config.json", _class_name=None), "says _class_name 'None'"),
    "a pipeline for an autoencoder": (
        with_key("vae/config.json", _class_name="StableDiffusionPipeline"),
        "which is no autoencoder of diffusers",
    ),
    "settings cut": (
        in_place("base/unet/config.json", '{"act_fn": '),
        "unet/config.json cannot",
    ),
    "settings deep": (in_place("base/vae/config.json", DEEP), "it is nested too deeply"),
}

NO_LORA = "^error: lora_files: .*lora.safetensors does not go onto this U-Net .*%s.*; give a LoRA"
LORAS: dict[str, tuple[Spoil, str]] = {
    "another width": (resized((1, 2), (2, 1)), NO_LORA % "size mismatch"),
    "other blocks": (renamed("down_blocks", "layers"), NO_LORA % "only [0-9]+ of its [0-9]+"),
    "another model": (renamed("unet.", "transformer."), NO_LORA % "it holds nothing for the U-Net"),
    "not finite": (tensors(lambda k, v: (k, v / 0)), NO_LORA % "is not finite"),
    "no LoRA": (tensors(lambda k, v: ("unet.conv_in.weight", v)), NO_LORA % "Invalid LoRA"),
    "a page": (content("lora.safetensors", "<html>"), NO_LORA % "Unable to load"),
    "gone": (gone("lora.safetensors"), NO_LORA % "there is no such folder"),
}
AS_A_MODEL = {"itself": (lambda home: None, "holds a LoRA alone; .* as 'lora_files=.*model.ckpt")}


TABLES = {
    judge: FOLDERS_OF_SAMPLES,
    measure: CLIPS,
    load: BASES,
    dress: LORAS,
    start_with_lora: AS_A_MODEL,
}


@pytest.mark.parametrize("program, spoil, says", rows(TABLES))
def test_a_bad_input_ends_in_one_sentence(program, spoil, says, ends_in_one_sentence):
    ends_in_one_sentence(program, spoil, says)
