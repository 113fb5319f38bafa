"""What BLIP is taught: the telling states first, nothing that is padding."""

from __future__ import annotations

from datasets.cartoon.world import CHARACTERS, SHIRTS
from pretraining.align import _telling_first, _telling_words
from pretraining.vocabulary import build_clip_tokenizer

CAPTION = "Momo the rabbit in a red shirt waves."


def test_colours_come_before_names_and_the_summary_before_all():
    captions = [CAPTION, "Bruno the bear in a blue shirt and Luna the cat in a white shirt jump."]
    colours_and_names = ["Pip Tiko Zara red yellow purple"]
    tokenizer = build_clip_tokenizer(captions * 50 + colours_and_names * 50, 32)
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    ids = tokens.input_ids
    states = ids[..., None].float()  # a state that names its token
    rank = _telling_words(tokenizer, (SHIRTS, CHARACTERS))
    ordered = _telling_first(states, tokens.attention_mask, rank[ids])
    words = [[tokenizer.decode([int(i)]).strip() for i in row] for row in ordered[..., 0]]
    end = tokenizer.decode([tokenizer.eos_token_id]).strip()
    assert words[0][:3] == [end, "red", "momo"]
    assert words[1][:5] == [end, "blue", "white", "bruno", "luna"]
    seen = int(tokens.attention_mask[0].sum())
    assert sorted(ordered[0, :seen, 0].tolist()) == sorted(ids[0, :seen].tolist())
    # what is padded stays behind, hidden by the unchanged mask
    assert ordered[0, seen:, 0].tolist() == ids[0, seen:].tolist()
