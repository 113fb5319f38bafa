"""The base's tokenizers: whole words where training has them, pieces elsewhere, kept by saving."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path

import pytest
import yaml
from tiny_base import MAX_LENGTH, training_captions
from transformers import BertTokenizer, CLIPTokenizer

from datasets.cartoon.world import all_scenes
from models.components import load_tokenizers
from pretraining.telling import rank_tokens
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

BUILDERS = {"clip": build_clip_tokenizer, "blip": build_blip_tokenizer}
CLASSES = {"clip": CLIPTokenizer, "blip": BertTokenizer}
KINDS = pytest.mark.parametrize("kind", BUILDERS)
STRANGE = ["A zebra's hüt is xylophone-shaped!", "他在海边挥手。",
           "😀 {weird} <tags> #1234567890", "\t \n", ""]  # fmt: skip


@pytest.fixture(scope="module")
def captions():
    """Of stories, and those that say everything; a part of the scenes names every word."""
    scenes = islice(all_scenes(), 0, None, 7)
    return training_captions(150) + [scene.explicit_caption() for scene in scenes]


@pytest.fixture(scope="module")
def tokenizers(captions):
    return {kind: build(captions, MAX_LENGTH) for kind, build in BUILDERS.items()}


@KINDS
def test_every_word_of_training_is_one_token(tokenizers, captions, kind):
    tokenizer = tokenizers[kind]
    known = set()
    for caption in dict.fromkeys(captions):
        words = caption.lower().replace(".", " .").replace(",", " ,").split()
        tokens = tokenizer.tokenize(caption)
        assert [token.removesuffix("</w>") for token in tokens] == words
        known |= set(tokens)
    assert 80 < len(known) < 150 and tokenizer.unk_token not in known
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


@KINDS
def test_captions_are_framed_padded_and_lower_cased(tokenizers, kind):
    tokenizer = tokenizers[kind]
    frame = ("<|startoftext|>", "<|endoftext|>") if kind == "clip" else ("[CLS]", "[SEP]")
    first, last = tokenizer.convert_tokens_to_ids(list(frame))
    out = tokenizer("Luna waves.", padding="max_length", max_length=8, truncation=True)
    ids, mask = out["input_ids"], out["attention_mask"]
    assert mask == [1] * 5 + [0] * 3
    assert ids[0] == first and ids[4] == last and ids[5:] == [tokenizer.pad_token_id] * 3
    assert ids == tokenizer("luna WAVES .", padding="max_length", max_length=8)["input_ids"]
    cut = tokenizer("Luna waves.", max_length=4, truncation=True)["input_ids"]
    assert len(cut) == 4 and cut[0] == first and cut[-1] == last


@KINDS
def test_unknown_words_are_read_in_pieces(tokenizers, kind):
    tokenizer = tokenizers[kind]
    for text in STRANGE:
        ids = tokenizer(text)["input_ids"]
        assert len(ids) >= 2 and max(ids) < len(tokenizer)
        if kind == "clip":  # writes down any text
            spaceless = tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
            assert spaceless == "".join(text.lower().split())
    assert len(tokenizer.tokenize("zebra")) > 1
    assert tokenizer.tokenize("zebra") != tokenizer.tokenize("hebra")


@KINDS
def test_saving_and_another_order_of_captions_keep_every_id(tokenizers, captions, kind, tmp_path):
    tokenizers[kind].save_pretrained(tmp_path)
    loaded = CLASSES[kind].from_pretrained(tmp_path)
    texts = [*captions[::10], *STRANGE]
    for other in (loaded, BUILDERS[kind](captions[::-1], MAX_LENGTH)):
        assert other.get_vocab() == tokenizers[kind].get_vocab()
        assert other(texts)["input_ids"] == tokenizers[kind](texts)["input_ids"]
    assert loaded.model_max_length == MAX_LENGTH
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(loaded, name) == getattr(tokenizers[kind], name), name


def test_blip_s_extra_tokens_come_last_and_the_loader_finds_them(tokenizers, tmp_path):
    blip = tokenizers["blip"]
    decoder, encoder = blip.convert_tokens_to_ids(["[DEC]", "[ENC]"])
    assert blip.bos_token == "[DEC]" and blip.bos_token_id == decoder
    assert {decoder, encoder} == {len(blip) - 2, len(blip) - 1}
    assert blip("[ENC] luna")["input_ids"][1] == encoder  # special: never cut into pieces
    tokenizers["clip"].save_pretrained(tmp_path / "tokenizer")
    blip.save_pretrained(tmp_path / "blip")
    clip, loaded = load_tokenizers(str(tmp_path), str(tmp_path / "blip"))
    assert len(loaded) == len(blip) and len(clip) == len(tokenizers["clip"])
    assert loaded.tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [decoder, encoder]
    clip, loaded = load_tokenizers(str(tmp_path), str(tmp_path / "blip"), ["zorg"])
    assert loaded("zorg").input_ids[1:-1] == [len(blip)] and len(loaded) == len(blip) + 1
    assert clip("zorg").input_ids[1:-1] == [len(tokenizers["clip"])]


SPACED = ["A frog wakes.", "Milo's frog jumps, it's 12 o'clock.", "Größe 고양이가 잔다."]
UNSPACED = ["小猫在海边跳舞。", "她在雪山上睡着了。", "Milo 和ねこがねる。"]


@KINDS
def test_of_scripts_without_spaces_letters_are_learnt(kind):
    tokenizer = BUILDERS[kind]([*SPACED, *UNSPACED], MAX_LENGTH)
    for text in (*UNSPACED, "小猫睡着了。"):  # the last in other words of the same letters
        spaceless = text.lower().replace("milo ", "")
        assert len(tokenizer.tokenize(text)) == len(spaceless) + ("Milo" in text)
    first, second = (tokenizer.tokenize(text)[:2] for text in ("小猫在海边跳舞。", "小猫睡着了。"))
    assert first == second and tokenizer.unk_token not in first
    for text in SPACED:
        assert tokenizer.tokenize(text) == BUILDERS[kind](SPACED, MAX_LENGTH).tokenize(text)


def test_tokenizers_of_captions_with_spaces_are_what_they_were():
    """As at commit 345f510: bases that are there have such tokenizers."""
    before = {"clip": "2539a0180ba332f4", "blip": "93392178801cb913"}
    for kind, build in BUILDERS.items():
        content = build(SPACED, MAX_LENGTH).backend_tokenizer.to_str()
        assert hashlib.sha256(content.encode()).hexdigest()[:16] == before[kind]


def test_both_tokens_of_a_telling_letter_are_ranked():
    tokenizer = build_clip_tokenizer(UNSPACED, MAX_LENGTH)
    rank = rank_tokens(tokenizer, [["猫"]])
    ids = [tokenizer(text).input_ids for text in ("小猫在", "小猫")]
    assert [int(rank[one[2]]) for one in ids] == [1, 1] and int(rank[ids[0][1]]) == 2


@KINDS
def test_the_configuration_leaves_room_for_every_caption_of_a_story(tokenizers, kind):
    config = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text("utf-8"))
    ids = tokenizers[kind](list(dict.fromkeys(training_captions(300))))["input_ids"]
    assert max(map(len, ids)) <= config["cartoon"]["max_length"] <= MAX_LENGTH
