"""Words learnt later: rows beside a table that stays, found by both tokenizers."""

from __future__ import annotations

import pytest
import torch
from tiny_base import save_tiny_base

from models.caption_tokenizer import EXACT, read_blip, read_clip
from models.components import load_components
from models.training.new_words import GrownEmbedding, add_words, merge_words, token_tables
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer


def test_a_grown_table_reads_as_one_table_and_trains_its_new_rows_alone():
    table = torch.nn.Embedding(7, 4)  # two rows more than tokens: some tables are padded
    grown = GrownEmbedding(table, torch.randn(3, 4), 5)
    table.weight.requires_grad_(False)
    ids = torch.tensor([[0, 4, 5], [7, 6, 1]])
    expected = torch.cat([table.weight[:5], grown.new_rows])
    assert torch.equal(grown(ids), expected[ids])
    assert torch.equal(grown.merged()(ids), expected[ids])
    grown(ids).sum().backward()
    assert torch.equal(grown.new_rows.grad, torch.ones(3, 4)) and table.weight.grad is None


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("match, beside", [("exact", True), ("whole_word", False)])
def test_a_word_starts_as_its_class_word_and_is_found_whole_in_any_case(base, match, beside):
    parts = load_components(str(base), str(base / "blip"), 64, 16, ["zorp"], match)
    tokenizers = parts.clip_tokenizer, parts.blip_tokenizer
    plain = ["Pip and Zorp wave.", "Camilo sleeps."]
    before = [one(plain).input_ids for one in tokenizers]
    old = [table.weight.clone() for _, table in token_tables(parts.conditioner)]
    add_words(parts, {"milo": "bear", "olga": "cat"}, beside)
    assert parts.tokenization["new_words"] == ["milo", "olga"]
    assert [one(plain).input_ids for one in tokenizers] == before  # nothing else has changed
    for (_, table), tokenizer, was in zip(
        token_tables(parts.conditioner), tokenizers, old, strict=True
    ):
        said = tokenizer(["Milo waves.", "MILO waves.", "milo waves."]).input_ids
        assert said[0] == said[1] == said[2] and len(was) in said[0]
        assert len(was) in tokenizer("Luna and Milo's cat.").input_ids
        ids = tokenizer(["bear", "milo", "cat", "olga"], add_special_tokens=False).input_ids
        bear, milo, cat, olga = (table(torch.tensor(row)).mean(0) for row in ids)
        assert torch.equal(bear, milo) and torch.equal(cat, olga) and not torch.equal(bear, cat)
        assert torch.equal(table.weight[: len(was)], was)
    if beside:  # what pipelines are made from
        merge_words(parts.conditioner)
    sizes = [table.num_embeddings for _, table in token_tables(parts.conditioner)]
    assert sizes == [len(one) for one in tokenizers] == [len(one) + 2 for one in old]
    again = load_components(
        str(base), str(base / "blip"), 64, 16, ["zorp"], match, ["milo", "olga"]
    )
    for one, other in zip(tokenizers, (again.clip_tokenizer, again.blip_tokenizer), strict=True):
        assert one(["Milo, zorp."]).input_ids == other(["Milo, zorp."]).input_ids
    state = parts.modules().state_dict()
    again.modules().load_state_dict(state)


OTHER_SCRIPTS = "מילו and गगन meet Νίκος and 桃 by the sea."


def in_other_scripts():
    """Both tokenizers of a world that knows OTHER_SCRIPTS."""
    builders = build_clip_tokenizer, build_blip_tokenizer
    clip, blip = (build([OTHER_SCRIPTS], 20) for build in builders)
    return read_clip(clip, [], EXACT), read_blip(blip, [], EXACT)


def rows(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def test_a_known_word_without_capitals_gets_a_row_of_its_own_too():
    for tokenizer in in_other_scripts():
        before, words = len(tokenizer), ["מילו", "olga", "गगन", "桃", "milo"]
        tokenizer.add_words(words)
        expected = list(range(before, before + len(words)))
        assert [rows(tokenizer, word) for word in words] == [[row] for row in expected]
        assert expected[0] in rows(tokenizer, "Olga, מילו.") and len(tokenizer) == expected[-1] + 1
        tokenizer.add_words(words)  # which it has, as tokenizers of a saved folder do
        assert len(tokenizer) == expected[-1] + 1


def test_a_word_that_ends_in_a_sigma_is_found():
    for tokenizer in in_other_scripts():
        row = len(tokenizer)
        tokenizer.add_words(["Ρένος"])
        assert rows(tokenizer, "ρένος") == rows(tokenizer, "Ρένος") == [row]


@pytest.mark.parametrize("words, read_as", [(["olga", "7"], "7</w>"), (["ΝΊΚΟΣ"], None)])
def test_a_word_that_gets_no_row_of_its_own_is_refused(words, read_as):
    clip, _ = in_other_scripts()
    with pytest.raises(ValueError, match=f"word '{words[-1]}' gets no token .*; choose") as said:
        clip.add_words(words)
    assert read_as is None or f"reads it as '{read_as}'" in str(said.value)
