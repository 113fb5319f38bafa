"""New words: a checkpoint carries how they were found in captions, and is asked for them alike."""

from __future__ import annotations

import pytest
import torch
from outcomes import read

import building
import sample
import train
from models.checkpoints.export_upstream import export_upstream
from models.export import Export, export

WORDS = ["cartoon.new_tokens=[zorp]"]
CAPTION = "Zorp and azorps."


@pytest.fixture(scope="module")
def worded(shrunk):
    """A checkpoint trained with a new word, found whole."""
    return train.train(shrunk(*WORDS, "run_name=worded"))


@pytest.fixture
def original(worded, shrunk, tmp_path):
    """The same as an original AR-LDM checkpoint."""
    parts = building.build_parts(shrunk(*WORDS))
    tokenizers = parts.clip_tokenizer, parts.blip_tokenizer
    export_upstream(worded, tmp_path / "original.ckpt", tokenizers)
    return tmp_path / "original.ckpt"


def new_rows(parts) -> list[int]:
    """How often each tokenizer finds the new word in CAPTION."""
    tokenizers = parts.clip_tokenizer, parts.blip_tokenizer
    return [t(CAPTION).input_ids.count(len(t) - 1) for t in tokenizers]


def test_a_checkpoint_says_how_its_words_are_found(worded, trained):
    length = {"new_tokens_match": "whole_word", "max_length": 20}
    assert read(worded)["tokenization"] == {"new_tokens": ["zorp"], **length}
    assert read(trained)["tokenization"] == {"new_tokens": [], **length}


OTHERWISE = {  # what the configuration says, and how the sentence names it
    "new_tokens=[]": ("new_tokens=[zorp]", "new_tokens=[]"),
    "new_tokens=[zorp,gorp]": ("new_tokens=[zorp]", "new_tokens=[zorp,gorp]"),
    "new_tokens_match=exact": ("new_tokens_match=whole_word", "new_tokens_match=exact"),
    "max_length=24": ("max_length=20", "max_length=24"),
}


@pytest.mark.parametrize("mode, word", [
    ("train", "max_length=24"), *(("sample", word) for word in OTHERWISE),
])  # fmt: skip
def test_a_configuration_that_says_otherwise_is_refused(
    worded, shrunk, monkeypatch, tmp_path, mode, word
):
    monkeypatch.setattr(building, "load_components", lambda **how: pytest.fail("said too late"))
    file = "train_model_file" if mode == "train" else "test_model_file"
    words = [*WORDS, f"mode={mode}", f"{file}={worded}", f"cartoon.{word}", "max_epochs=2"]
    words += ["run_name=new"]
    with pytest.raises(ValueError) as caught:
        run = {"train": train.train, "sample": sample.sample}[mode]
        run(shrunk(*words, f"sample_output_dir={tmp_path}"))
    was, now = (f"cartoon.{part}" for part in OTHERWISE[word])
    assert str(caught.value) == (
        f"{worded} was trained with {was}, but the configuration has {now}; set "
        f"{was.split('=')[0]} as it was in training, or give another checkpoint"
    )


def test_a_checkpoint_brings_its_words_along(worded, shrunk):
    for words in ([f"test_model_file={worded}"], ["run_name=worded"]):
        assert new_rows(building.build_parts(shrunk("mode=sample", *words))) == [1, 1]


def test_bare_weights_are_asked_as_the_configuration_says(worded, shrunk, tmp_path):
    torch.save(read(worded)["state_dict"], tmp_path / "bare.ckpt")
    words = ["mode=sample", *WORDS, f"test_model_file={tmp_path / 'bare.ckpt'}"]
    for match, rows in (("exact", [1, 2]), ("whole_word", [1, 1])):
        config = shrunk(*words, f"cartoon.new_tokens_match={match}")
        assert new_rows(building.build_parts(config)) == rows


def test_an_originals_checkpoint_is_asked_as_the_original_asks(original, shrunk, trained, tmp_path):
    words = ["mode=sample", *WORDS, f"test_model_file={original}"]
    says = "trained with cartoon.new_tokens_match=exact, but the configuration has .*=whole_word; "
    with pytest.raises(ValueError, match=says):
        building.build_parts(shrunk(*words))
    parts = building.build_parts(shrunk(*words, "cartoon.new_tokens_match=exact"))
    assert new_rows(parts) == [1, 2]  # CLIP finds it as it is written, BLIP in lower case
    # Without new words there is nothing to find.
    plain = building.build_parts(shrunk())
    tokenizers = plain.clip_tokenizer, plain.blip_tokenizer
    export_upstream(trained, tmp_path / "plain.ckpt", tokenizers)
    building.build_parts(shrunk("mode=sample", f"test_model_file={tmp_path / 'plain.ckpt'}"))


def test_tuning_needs_the_bases_words_but_may_read_longer_captions(worded, shrunk):
    words = [f"base_model_file={worded}", "tune=lora", "cartoon.max_length=24"]
    parts = building.build_parts(shrunk(*WORDS, *words))
    assert parts.tokenization["max_length"] == parts.max_length == 24
    with pytest.raises(ValueError, match=r"trained with cartoon.new_tokens=\[zorp\]"):
        building.build_parts(shrunk(*words))


def test_an_export_keeps_the_length_and_warns_of_other_words(worded, tmp_path, capsys):
    state = read(export(Export(str(worded), str(tmp_path / "a.ckpt"), "original")))["state_dict"]
    assert state["clip_text_null_token"].shape == (1, 20)
    assert "trained with new_tokens_match=whole_word; the original's" in capsys.readouterr().err
