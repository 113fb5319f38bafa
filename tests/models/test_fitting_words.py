"""The words that pictures fit: against single frames, and where a new word starts."""

from __future__ import annotations

import pytest
import torch
from tiny_base import save_tiny_base

from models.caption_tokenizer import EXACT, read_blip, read_clip
from models.components import load_components
from models.frames import encode_frames
from models.training.fitting_words import candidates, fitting_words, start_words
from models.training.new_words import add_words, merge_words, token_tables
from models.training.story_model import StoryModel
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    base = save_tiny_base(tmp_path_factory.mktemp("base"))
    torch.manual_seed(0)
    return StoryModel(load_components(str(base), str(base / "blip"), 64, 16))


def captions(word):
    return [f"{word} waves.", f"Then the {word} sleeps in the house."]


def test_the_words_are_those_that_lead_to_the_pictures_as_first_frames(model):
    parts = model.parts
    words = candidates(parts.clip_tokenizer, parts.blip_tokenizer, ())
    assert {"bear", "waves"} <= set(words) and len(words) > 12
    pictures = torch.randn(2, 3, 64, 64).clamp(-1, 1)
    found = fitting_words(model, pictures, captions)
    assert not any(part.training for part in model.modules())  # training sets its own mode
    padded = {"padding": "max_length", "max_length": parts.max_length}
    random = torch.Generator().manual_seed(0)
    latents = encode_frames(parts.vae, pictures, random)
    noise = torch.randn(latents.shape, generator=random)
    drawn: list[torch.Tensor] = []
    hook = parts.unet.register_forward_hook(lambda unet, args, out: drawn.append(out.sample))

    @torch.no_grad()
    def predicted(word):
        drawn.clear()
        for n, caption in enumerate(captions(word)):
            tokens = parts.clip_tokenizer([caption], return_tensors="pt", **padded)
            ids, mask = tokens.input_ids[None], tokens.attention_mask.bool()[None]
            batch = {"caption_ids": ids, "caption_mask": mask}
            batch |= {"history_ids": ids, "history_mask": mask}
            batch["history_images"] = torch.zeros(1, 1, 3, 1, 1)
            times, never = torch.tensor([850]), torch.tensor([False])
            model.noise_loss(batch, latents[n : n + 1], noise[n : n + 1], times, never)
        return torch.cat(drawn)

    told = {word: predicted(word) for word in words}
    hook.remove()
    middle = torch.stack([told[word] for word in words[:: -(-len(words) // 40)]]).mean(0)
    target = model.target(latents, noise, torch.tensor([850, 850]))

    def fit(word):
        pairs = zip(told[word] - middle, target - middle, strict=True)
        return sum((one * two).sum() / one.norm() / two.norm() for one, two in pairs).item()

    others = set(words[::6]) - set(found)
    assert found == sorted(found, key=fit, reverse=True)
    assert fit(found[-1]) > max(map(fit, others))


def test_a_new_word_that_the_base_has_a_token_for_is_not_among_those_tried(tmp_path):
    base = save_tiny_base(tmp_path / "base")
    parts = load_components(str(base), str(base / "blip"), 64, 16)
    tokenizers = parts.clip_tokenizer, parts.blip_tokenizer
    words = candidates(*tokenizers, ())
    add_words(parts, {word: word for word in words[3:]}, beside=True)
    found = fitting_words(StoryModel(parts), torch.randn(2, 3, 64, 64).clamp(-1, 1), captions)
    assert sorted(found) == words[:3]
    start_words(parts, {words[3]: found})


def test_words_of_other_scripts_are_tried_too():
    said = ["Λούνα runs by the море.", "café", "לונה"]
    clip, blip = (build(said, 20) for build in (build_clip_tokenizer, build_blip_tokenizer))
    tokenizers = read_clip(clip, [], EXACT), read_blip(blip, [], EXACT)
    assert candidates(*tokenizers, ["לונה"]) == ["runs", "the", "море"]


@pytest.mark.parametrize("beside", [True, False])
def test_a_word_starts_in_the_middle_of_those_it_is_given(tmp_path, beside):
    base = save_tiny_base(tmp_path / "base")
    parts = load_components(str(base), str(base / "blip"), 64, 16)
    add_words(parts, {"milo": "milo", "olga": "cat"}, beside)
    start_words(parts, {"milo": ["bear", "cat", "waves"]})
    merge_words(parts.conditioner)
    for (_, table), tokenizer in zip(
        token_tables(parts.conditioner), (parts.clip_tokenizer, parts.blip_tokenizer), strict=True
    ):
        ids = tokenizer(["bear", "cat", "waves", "milo", "olga"], add_special_tokens=False)
        rows = torch.stack([table.weight[row].mean(0) for row in ids.input_ids])
        assert torch.allclose(rows[3], rows[:3].mean(0)) and torch.equal(rows[4], rows[1])
