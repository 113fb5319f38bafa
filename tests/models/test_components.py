"""Loading the parts from folders in the layout real weights come in."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderRAE
from tiny_parts import (
    BLIP_SIZE,
    EPSILON,
    MEAN,
    SLOTS,
    STD,
    WORDS,
    D,
    S,
    draw,
    save_parts,
    transformer_autoencoder,
)

from models.components import ROOT, load_components, load_scheduler_config, load_tokenizers

LONGER = S + 8


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    return folder, save_parts(folder, dtype=torch.float16)


def load(base, **changes):
    arguments = {
        "diffusion_model": str(base[0]), "blip_model": str(base[0] / "blip"), "image_size": 16,
        "max_length": S, "history_slots": SLOTS, **changes,
    }  # fmt: skip
    return load_components(**arguments)


def encoders(parts):
    conditioner = parts.conditioner
    return conditioner.text_encoder, conditioner.vision_encoder, conditioner.multimodal_encoder


def test_saved_weights_come_back_in_float32(base):
    parts, saved = load(base), base[1]
    text, vision, multimodal = encoders(parts)
    pairs = [
        (text, saved["text_encoder"]), (vision, saved["blip"].vision_model),
        (multimodal, saved["blip"].text_encoder), (parts.unet, saved["unet"]),
        (parts.vae, saved["vae"]),
    ]  # fmt: skip
    for loaded, part in pairs:
        state, expected = loaded.state_dict(), part.state_dict()
        for key in state.keys() & expected.keys():
            assert state[key].dtype == torch.float32, key
            assert torch.equal(state[key], expected[key].float()), key
        missing = {key for key in state.keys() ^ expected.keys() if not key.startswith("pooler")}
        assert not missing
        assert not loaded.training
    assert isinstance(parts.vae, AutoencoderKL)
    assert parts.conditioner.slots == SLOTS
    settings = {key: value for key, value in EPSILON.items() if not key.startswith("_")}
    assert {key: parts.scheduler_config[key] for key in settings} == settings


def test_the_history_transform_is_the_picture_encoders_own(base):
    transform = load(base).history_transform
    assert transform.size == BLIP_SIZE
    assert transform.mean.flatten().tolist() == pytest.approx(MEAN)
    assert transform.std.flatten().tolist() == pytest.approx(STD)


def test_new_words_get_trained_looking_rows(base, monkeypatch):
    old = load_tokenizers(str(base[0]), str(base[0] / "blip"))
    said = []
    handler = SimpleNamespace(level=0, handle=said.append)
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [handler])
    logging.Logger.warning_once.cache_clear()
    parts = load(base, new_tokens=["pororo", "luna", "waves"])  # BLIP has the last two
    assert not said
    text, _, multimodal = encoders(parts)
    for tokenizer, before, encoder, more in (
        (parts.clip_tokenizer, old[0], text, 3), (parts.blip_tokenizer, old[1], multimodal, 1),
    ):  # fmt: skip
        assert len(tokenizer) == len(before) + more
        assert tokenizer("Pip runs.").input_ids == before("Pip runs.").input_ids
        ids = tokenizer("pororo luna").input_ids
        assert len(ids) == 4
        table = encoder.get_input_embeddings()
        assert max(ids) < table.num_embeddings == len(tokenizer)
        rows = table.weight.detach()
        trained = rows[: len(before)]
        assert ((rows[len(before) :] - trained.mean(0)).abs() < 6 * trained.std(0)).all()
        states = encoder(torch.tensor([ids]), **({} if encoder is text else {
            "encoder_hidden_states": torch.zeros(1, 5, 24), "is_decoder": False,
        })).last_hidden_state  # fmt: skip
        assert states.shape == (1, len(ids), D)
    saved = base[1]["text_encoder"].get_input_embeddings().weight.float()
    assert torch.equal(text.get_input_embeddings().weight[: len(saved)], saved)
    words = {"new_tokens": ["pororo", "luna", "waves"], "new_tokens_match": "exact"}
    assert parts.tokenization == {**words, "max_length": S}


def test_whole_words_that_were_a_token_start_as_it_was(base):
    parts = load(base, new_tokens=["pororo", "Luna"], new_tokens_match="whole_word")
    old = load_tokenizers(str(base[0]), str(base[0] / "blip"))
    for tokenizer, before, encoder in zip(
        (parts.clip_tokenizer, parts.blip_tokenizer), old, encoders(parts)[::2], strict=True
    ):
        assert len(tokenizer) == len(before) + 2
        (known,), (new,) = (t("Luna").input_ids[1:-1] for t in (before, tokenizer))
        table = encoder.get_input_embeddings().weight
        assert new == len(before) + 1 and torch.equal(table[new], table[known])
        assert not torch.equal(table[new - 1], table[known])


def test_positions_are_extended_for_longer_captions(base):
    parts = load(base, max_length=LONGER)
    text, _, multimodal = encoders(parts)
    saved = (base[1]["text_encoder"], base[1]["blip"].text_encoder)
    for encoder, old, name in zip(
        (text, multimodal), saved, ("position_embedding", "position_embeddings"), strict=True
    ):
        table = getattr(encoder.embeddings, name).weight
        before = getattr(old.embeddings, name).weight.float()
        assert torch.equal(table[:S], before)
        assert torch.equal(table[S:], before[-1:].expand(LONGER - S, -1))
    frames = draw(parts, [" ".join(WORDS)] * 2, num_inference_steps=1).frames
    assert frames.shape == (1, 2, 3, 16, 16)
    empty = parts.conditioner.null_caption_ids, parts.conditioner.null_history_ids
    assert [ids.shape for ids in empty] == [(1, LONGER)] * 2


def test_enough_positions_are_left_alone(base):
    text, *_ = encoders(load(base, max_length=S - 4))
    assert text.embeddings.position_embedding.num_embeddings == S


def test_the_autoencoders_class_is_the_one_its_config_names(base, tmp_path):
    shutil.copytree(base[0], tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / "vae")
    transformer_autoencoder().save_pretrained(tmp_path / "base" / "vae")
    vae = load((tmp_path / "base",)).vae
    assert isinstance(vae, AutoencoderRAE) and not vae.training


@pytest.mark.parametrize("key", ["diffusion_model", "blip_model"])
@pytest.mark.parametrize("source", ["/no/such/folder", "nobody/nothing"])
def test_a_model_that_is_nowhere_is_named(base, key, source):
    with pytest.raises(FileNotFoundError, match=f"^{key}: '{source}'.*give its folder") as error:
        load(base, **{key: source})
    assert "\n" not in str(error.value)


def test_our_own_folders_are_found_from_anywhere_and_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_tokenizers("assets/cartoon-base", "assets/cartoon-base/blip")
    for name, place in (("assets/none", ROOT / "assets"), ("outputs/base", tmp_path / "outputs")):
        says = (
            f"^diffusion_model: '{place}/.*neither a whole model folder.*.there is no such folder"
        )
        with pytest.raises(FileNotFoundError, match=says):
            load_scheduler_config(name)
    (tmp_path / "assets" / "none" / "scheduler").mkdir(parents=True)  # one's own is stronger
    with pytest.raises(FileNotFoundError, match="^diffusion_model: 'assets/none' .scheduler"):
        load_scheduler_config("assets/none")


def test_a_vocabulary_beside_salesforces_file_is_its_tokenizer(base, tmp_path):
    _, expected = load_tokenizers(str(base[0]), str(base[0] / "blip"), ["zorp"])
    words = expected.tokenizer.get_vocab()
    known = sorted(words.keys() - {"[DEC]", "[ENC]", "zorp"}, key=words.get)
    (tmp_path / "vocab.txt").write_text("\n".join(known), encoding="utf-8")
    (tmp_path / "model_large.pth").touch()
    _, tokenizer = load_tokenizers(str(base[0]), str(tmp_path / "model_large.pth"), ["zorp"])
    assert tokenizer.tokenizer.get_vocab() == words
    for caption in WORDS:
        assert tokenizer(f"{caption} zorp").input_ids == expected(f"{caption} zorp").input_ids


def test_a_single_file_is_no_diffusion_model(base, tmp_path):
    (tmp_path / "v1-5-pruned.ckpt").touch()
    with pytest.raises(FileNotFoundError, match="^diffusion_model: .* is a file; give a folder"):
        load((tmp_path / "v1-5-pruned.ckpt",), blip_model=str(base[0] / "blip"))


@pytest.mark.parametrize("file, key", [
    ("tokenizer", "diffusion_model"), ("tokenizer/tokenizer.json", "diffusion_model"),
    ("text_encoder", "diffusion_model"), ("unet/diffusion_pytorch_model.safetensors",
    "diffusion_model"), ("vae", "diffusion_model"), ("scheduler", "diffusion_model"),
    ("blip/tokenizer.json", "blip_model"), ("blip/preprocessor_config.json", "blip_model"),
    ("blip/model.safetensors", "blip_model"),
])  # fmt: skip
def test_an_incomplete_folder_is_named(base, file, key, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base[0], folder)
    path = folder / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=f"^{key}: .*give its folder") as error:
        load((folder,))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file, key", [
    ("text_encoder/model.safetensors", "diffusion_model"),
    ("unet/diffusion_pytorch_model.safetensors", "diffusion_model"),
    ("blip/model.safetensors", "blip_model"),
])  # fmt: skip
def test_weights_cut_off_in_a_download_are_named(base, file, key, tmp_path):
    shutil.copytree(base[0], tmp_path / "base")
    path = tmp_path / "base" / file
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileNotFoundError, match=f"^{key}: "):
        load((tmp_path / "base",))
