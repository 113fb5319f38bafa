"""Configurations and new characters that are not right: one sentence each.

Each row: a program, what spoils a good input of it, and a part of the sentence.
"""

from __future__ import annotations

import pytest
from good_inputs import configure, learn
from spoils import (
    ANIMATION,
    BOMB,
    DEEP,
    HEAD,
    Spoil,
    both,
    content,
    given,
    gone,
    rows,
    words,
)

CONFIGURATIONS: dict[str, tuple[Spoil, str]] = {
    "the environment": (words("run_name=${{oc.env:HOME}}"), "calls a function in ..oc.env:"),
    "the environment, nested": (words("run_name=a${{oc.decode:${{oc.env:HOME}}}}"), "calls a"),
    "the environment, in a file": (given("run_name: ${oc.env:HOME}\n"), "c.yaml .* calls a"),
    "the environment, in a list": (given("metrics: ['${oc.env:HOME}']\n"), "calls a function in"),
    "the environment, in a key": (given("tiny: {'${oc.env:HOME}': 1}\n"), "calls a function in"),
    "a function of dicts": (given("seed: ${oc.dict.values:tiny}\n"), "calls a function in"),
    "unknown key, in a file": (given("batchsize: 1\n"), "c.yaml: 'batchsize' is not a key "),
    "file missing": (words("config={home}/none.yaml"), "none.yaml cannot be read .*; mend it"),
    "file is broken": (given("seed: [1\n"), "cannot be read"),
    "file has a key twice": (given("seed: 1\nseed: 2\n"), "'seed' is there twice in the mapping"),
    "file is its own default": (given("defaults: [c]\n"), "it names itself in defaults"),
    "file is deep": (given("seed: " + DEEP + "\n"), "nested too deeply"),
    "file is a bomb": (given("a0: &a0 [a]\n" + BOMB), "with its aliases it has more than 100,000"),
    "file is its own alias": (given("tiny: &a [*a]\n"), "with its aliases it has more than"),
    "file runs code": (given("seed: !!python/object/apply:os.system [true]\n"), "cannot be read"),
    "an address": (words("sample_output_dir=s3://bucket/x"), "sample_output_dir: .* is an address"),
}  # fmt: skip

NEW_CHARACTERS = {
    "no picture": (
        lambda home: [gone(f"milo/{n}.png")(home) for n in range(3)],
        "milo holds no picture of 'milo' .*; put three to five there",
    ),
    "a broken picture": (content("milo/1.png", b"no"), r"milo/1.png cannot be used .*: replace it"),
    "an animated GIF": (
        content("milo/a.gif", ANIMATION.getvalue()),
        "a.gif cannot be used .it is an animation of 3 frames; save some",
    ),
    "a caption without the word": (
        content("milo/1.txt", "A dog, Camilo."),
        "milo/1.txt: the caption 'A dog, Camilo.' of 1.png does not "
        "say 'milo' as a word; name the character in every caption",
    ),
    "a caption without spaces": (
        both(words("word: 小明"), content("milo/0.txt", "小明在跑。")),
        "the caption '小明在跑。' of 0.png does not say '小明' as a word; words are found between "
        "spaces, so put these around it",
    ),
    "a caption of Windows": (
        content("milo/1.txt", "Milo, très beau.".encode("cp1252")),
        "milo/1.txt is not UTF-8",
    ),
    "two captions for a picture": (
        content("milo/captions.csv", HEAD + "a,0.png,Milo.\n"),
        "milo/0.txt: 0.png is 'Milo waves.', but 'Milo.' in .*csv, line 2; keep one of them",
    ),
    "two captions beside a picture": (
        content("milo/0.TXT", "Milo."),
        "milo/0.txt: 0.png is 'Milo waves.', but 'Milo.' in .*/milo/0.TXT; keep one of them",
    ),
    "two captions files": (
        both(content("milo/captions.csv", HEAD), content("milo/captions.jsonl", "")),
        "milo holds both captions.jsonl and captions.csv: keep one of them",
    ),
    "a caption that is a list": (
        content(
            "milo/captions.jsonl",
            '{"story": "a", "frames": [{"image": "1.png", "caption": ["Milo."]}]}',
        ),
        "jsonl, line 1: 'caption' is .*Milo.*, not a text: put it in quotes",
    ),
    "a picture of another kind": (
        content("milo/a.HEIC", b""),
        "milo/a.HEIC is of a kind that is not read: save it as PNG",
    ),
    "a captions file of others": (
        content("milo/captions.csv", HEAD + "a,x.png,Milo.\n"),
        "picture .*milo/x.png does not exist: correct the name",
    ),
    "an unknown class word": (
        words("class_word: dog"),
        "has never seen class_word 'dog'; give a word that it knows",
    ),
    "a common word": (
        words("word: waves", "caption: waves"),
        "knows the word 'waves' already, as another one; choose a word",
    ),
    "a known word but for its accent": (
        both(words("word: lúna"), gone("milo/0.txt")),
        "knows the word 'lúna' already, as another one, which BLIP reads as 'luna'; choose a word",
    ),
    "a digit": (
        both(words("word: '7'"), gone("milo/0.txt")),
        "the word '7' gets no token of its own, .*; choose another word",
    ),
    "two words": (words("word: Milo Dog"), "word is 'Milo Dog'; give one word of letters"),
    "no folder": (words("pictures: nowhere"), "there is no folder nowhere with pictures of 'milo'"),
    "a key that is none": (words("picture: x"), "new_characters is .*; it must be a list of char"),
}

CONFIGURATIONS |= {
    "new characters without a base": (
        words("new_characters=[{{word: milo, class_word: bear, pictures: .}}]"),
        "base_model_file is null; set base_model_file to that model's checkpoint",
    ),
    "the same word twice": (
        words("new_characters=[{{word: milo, class_word: bear, pictures: .}}, "
              "{{word: Milo, class_word: cat, pictures: .}}]", f"base_model_file={__file__}"),
        "give one word of letters and digits for each, all of them different",
    ),
    "the same word but for its accent": (
        words("new_characters=[{{word: \"andré\", class_word: bear, pictures: .}}, "
              "{{word: andre, class_word: cat, pictures: .}}]", f"base_model_file={__file__}"),
        "word is 'andré'; .* all of them different, not only in accents, which BLIP does not read",
    ),
    "words to tune without words": (
        words("tune=words", f"base_model_file={__file__}"), "tune is words, but new_characters is"
    ),
}  # fmt: skip


TABLES = {learn: NEW_CHARACTERS, configure: CONFIGURATIONS}


@pytest.mark.parametrize("program, spoil, says", rows(TABLES))
def test_a_bad_input_ends_in_one_sentence(program, spoil, says, ends_in_one_sentence):
    ends_in_one_sentence(program, spoil, says)
