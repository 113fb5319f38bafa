"""Caption ids: those of the original's slow tokenizers, and what other data sets have instead."""

from __future__ import annotations

import pickle
import random
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from slow_bert import SlowBert
from tiny_parts import S, save_parts, tokenizers
from transformers import BertTokenizer

from datasets.cartoon.build import tell_stories
from datasets.notices import long_captions
from datasets.specs import SPECS
from datasets.story_dataset import StoryDataset
from datasets.story_writer import StoryWriter
from models.caption_tokenizer import EXACT, WHOLE_WORD, read_blip, read_clip
from models.components import BLIP_SPECIAL_TOKENS, load_components, load_tokenizers
from models.pipeline import StoryPipeline
from tests.golden.tokens import build_real_clip

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
# A vocabulary that knows some of the new words whole, and all others in letters.
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + (
    "the teddy bear is pretty pet ##ty por ##oro loop ##y eddy harry fred fr ##ed ##dy and ’ “ ” …"
).split()
VOCABULARY += [p + c for p in ("", "##") for c in "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-&"]


def known_bert() -> BertTokenizer:
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(VOCABULARY))}
    tokenizer = BertTokenizer(vocabulary)
    tokenizer.add_special_tokens(BLIP_SPECIAL_TOKENS)
    return tokenizer


SMALL = tokenizers()  # whose words are those of a few cartoon captions


def small(words, match):
    clip, blip = deepcopy(SMALL)
    return read_clip(clip, words, match), read_blip(blip, words, match)


def pieces(tokenizer, caption: str) -> list[str]:
    ids = tokenizer(caption, add_special_tokens=False).input_ids
    return [token.removesuffix("</w>") for token in tokenizer.tokenizer.convert_ids_to_tokens(ids)]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Both tokenizers of a published data set, as the program loads them: CLIP's own, a small BERT.

    Loading CLIP's takes a second.
    """
    folder = tmp_path_factory.mktemp("clip")
    build_real_clip().save_pretrained(folder / "tokenizer")
    known_bert().save_pretrained(folder / "blip")

    @cache
    def load(dataset):
        data = CONFIG[dataset]
        where = str(folder), str(folder / "blip")
        return load_tokenizers(*where, data["new_tokens"], data["new_tokens_match"])

    return load


# As the original: ids that transformers 4.24.0 and ftfy gave

CLIP_ROWS = [
    ("pororo", "Pororo, Eddy and Petty wave.", [817, 14573, 267, 25959, 537, 17324, 4535, 269]),
    ("pororo", "pororo’s hat …", [49408, 568, 3801, 959]),
    ("pororo", "the teddy bear is pretty petty", [518, 339, 49410, 4298, 533, 2111, 49415]),
    ("pororo", "AT&amp;T  pororo\u00a0land", [536, 261, 339, 49408, 973]),
    ("flintstones", "Fred says, “alfred”", [6678, 1563, 267, 257, 16553, 257]),
    ("flintstones", "fred translates", [6678, 22031, 49411, 338]),
    ("vistsis", "[male] \n It's café", [314, 2801, 316, 585, 568, 15304]),
]


@pytest.mark.parametrize("dataset, caption, ids", CLIP_ROWS)
def test_clips_ids_are_the_originals(published, dataset, caption, ids):
    clip, _ = published(dataset)
    assert clip(caption).input_ids == [49406, *ids, 49407]
    assert clip([caption, ""]).input_ids[0] == [49406, *ids, 49407]


@pytest.mark.parametrize("dataset, size", [
    ("pororo", 49416), ("flintstones", 49412), ("vistsis", 49408),
])  # fmt: skip
def test_clips_table_comes_to_the_originals_size(published, dataset, size):
    assert len(published(dataset)[0]) == size
    assert CONFIG["vistdii"]["new_tokens"] == CONFIG["vistsis"]["new_tokens"] == []


BLIP_TOKENS = {  # with Pororo's words
    "Pororo and PORORO": ["pororo", "and", "pororo"],  # lower-cased before: unlike CLIP's
    "the Teddy bear": ["the", "teddy", "bear"],
    "pororoland": ["pororo", "l", "##a", "##n", "##d"],
    "pororó": ["por", "##oro"],
    "Eddy’s crong.": ["eddy", "’", "s", "crong", "."],
    "loopy!petty": ["loopy", "!", "petty"],
    "&amp;": ["&", "a", "##m", "##p", ";"],  # nothing is mended
}


@pytest.mark.parametrize("caption", BLIP_TOKENS)
def test_blips_tokens_are_the_originals(published, caption):
    _, blip = published("pororo")
    assert pieces(blip, caption) == BLIP_TOKENS[caption]
    assert len(blip) == len(known_bert()) + 7  # of nine words it knows two


def random_captions(words: list[str], count: int) -> list[str]:
    draw = random.Random(0)
    rest = "the teddy bear alfred dinosaur 's ’s . , ! & - é \u200b 5 [ENC]".split()
    parts = [*words, *rest, " "]
    forms = (str, str.capitalize, str.upper)
    return [
        "".join(draw.choice(forms)(draw.choice(parts)) + draw.choice(["", " "]) for _ in range(6))
        for _ in range(count)
    ]


@pytest.mark.parametrize("words", [
    CONFIG["pororo"]["new_tokens"], CONFIG["flintstones"]["new_tokens"], [],
    ["Milo", "MILO", "milo", "mr slate", "o", "pororo", "pororoland", "zoë"],
], ids=["pororo", "flintstones", "none", "odd"])  # fmt: skip
def test_blip_reads_any_caption_as_a_slow_tokenizer(words):
    ours = read_blip(known_bert(), words, EXACT)
    reference = SlowBert(list(dict.fromkeys(VOCABULARY)), words)
    captions = random_captions(words, 500)
    for caption, ids in zip(captions, ours(captions).input_ids, strict=True):
        assert ids == reference(caption), caption
    assert len(ours) == len(reference.ids)


# Whole words, for new data sets

READ = {"clip": (build_real_clip, read_clip), "blip": (known_bert, read_blip)}


@pytest.mark.parametrize("kind", READ)
def test_a_whole_word_is_one_token_however_it_is_written(kind):
    build, read = READ[kind]
    plain, ours = build(), read(build(), ["milo", "Fred", "mr slate"], WHOLE_WORD)
    milo, fred, slate = range(len(plain), len(ours))  # a row each, known before or not
    (known,) = plain("fred", add_special_tokens=False).input_ids
    assert ours.starts[fred] == known and slate not in ours.starts

    def rows(caption):
        return [i for i in ours(caption, add_special_tokens=False).input_ids if i >= len(plain)]

    assert rows("Milo, MILO and milo's friend") == [milo] * 3
    assert rows("FRED-fred (Fred)") == [fred] * 3
    assert rows("Milo meets Mr Slate.") == [milo, slate]
    others = "Alfred, a camilo and freddy: milos fredo 5"
    assert rows(others) == [] and ours(others).input_ids == plain(others).input_ids


def test_whole_words_are_found_in_captions_that_clip_mends():
    clip, _ = small(["milo"], WHOLE_WORD)
    assert pieces(clip, "Milo’s &amp;") == ["milo", "'", "s", "&"]


@pytest.mark.parametrize("match", [EXACT, WHOLE_WORD])
def test_the_cartoon_worlds_captions_read_as_the_base_learnt_them(match):
    told = tell_stories({"train": 300, "val": 0, "test": 50}, 0)
    captions = sorted({c for split in told.values() for story in split for c in story.captions})
    base = str(ROOT / "assets" / "cartoon-base")
    for ours in load_tokenizers(base, f"{base}/blip", (), match):
        assert len(captions) > 200
        assert ours(captions).input_ids == ours.tokenizer(captions).input_ids


# Wherever captions are read


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_parts(folder)
    how = {"image_size": 16, "max_length": S, "new_tokens": ["zorp"], "new_tokens_match": EXACT}
    return load_components(str(folder), str(folder / "blip"), **how)


def test_training_and_sampling_read_captions_alike(parts, tmp_path):
    captions = ["“Zorp”’s zorp &amp; Pip", "Luna …"]
    with StoryWriter(tmp_path / "a.h5", pictures=2) as writer:
        writer.add("test", [np.zeros((16, 16, 3), np.uint8)] * 2, {"text": captions})
    data = StoryDataset(
        tmp_path / "a.h5", "test", SPECS["folder"], "visualization", 16, parts.history_transform,
        parts.clip_tokenizer, parts.blip_tokenizer, S,
    )  # fmt: skip
    pipeline = StoryPipeline.from_components(parts)
    for name, tokenizer in (("caption", parts.clip_tokenizer), ("history", parts.blip_tokenizer)):
        ids, mask = pipeline._tokens(tokenizer, [captions])
        assert (data[0][f"{name}_ids"] == ids[0]).all() and (data[0][f"{name}_mask"] == mask).all()
        assert pieces(tokenizer, captions[0]).count("zorp") == (1 if name == "caption" else 2)
    mended, _ = pipeline._tokens(parts.clip_tokenizer, [['"Zorp"\'s zorp & Pip', "Luna …"]])
    assert (data[0]["caption_ids"] == mended[0]).all()


def test_captions_too_long_are_counted_as_they_are_read(parts):
    """Entities are one mark each to CLIP, five tokens to BLIP, which alone cuts them."""
    caption = " ".join(["&amp;"] * (S // 2))
    clip, blip = parts.clip_tokenizer, parts.blip_tokenizer
    lengths = {}
    for name, both in {"clip": (clip, clip), "blip": (blip, blip)}.items():
        lengths[name] = long_captions([caption], both, S)
    assert lengths == {"clip": {}, "blip": {caption: 1}}


@pytest.mark.parametrize("match", [EXACT, WHOLE_WORD])
def test_workers_get_tokenizers_whole(match):
    for tokenizer in small(["milo", "eddy"], match):
        copy = pickle.loads(pickle.dumps(tokenizer))
        captions = random_captions(["milo", "eddy"], 50)
        assert copy(captions).input_ids == tokenizer(captions).input_ids
