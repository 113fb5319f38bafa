"""What the text-to-image stages and BLIP read, and what of it the U-Net may see."""

from __future__ import annotations

import torch

from datasets.cartoon.world import CHARACTERS, SHIRTS
from pretraining.schedule import Plan
from pretraining.sizes import Size
from pretraining.source import Example, standing_alone
from pretraining.telling import rank_tokens, telling_order, telling_part
from pretraining.text_to_image import build_text_encoder, build_unet, train_text_to_image
from pretraining.vocabulary import build_clip_tokenizer

PLAIN = [Example(0, "Milo wakes.", "Milo wakes.")]
LATER = [Example(1, "He jumps.", "Milo wakes. He jumps.") for _ in range(30)]
SMALL = Size(width=32, text_layers=1, unet_channels=(16, 16))


def captions_read(examples, steps, unet_reading=None, **shares):
    """All captions that training on `examples` reads; `unet_reading`: a hook before the U-Net."""
    tokenizer = build_clip_tokenizer([e.full for e in examples], 32)
    read = []

    def reading(module, args, how):
        rows = zip(args[0], how["attention_mask"], strict=True)
        read.extend(known[tuple(ids[mask.bool()].tolist())] for ids, mask in rows)

    torch.manual_seed(0)
    encoder, unet = build_text_encoder(tokenizer, SMALL), build_unet(64, SMALL)
    known = {tuple(tokenizer(t).input_ids): t for e in examples for t in ("", e.caption, e.full)}
    encoder.register_forward_pre_hook(reading, with_kwargs=True)
    if unet_reading:
        unet.register_forward_pre_hook(unet_reading, with_kwargs=True)
    latents = torch.randn(2, 64, 8, 8)
    plan = Plan(steps, 24)
    taken = train_text_to_image(encoder, unet, latents, examples, tokenizer, plan, **shares)
    assert taken == steps
    return read


def test_captions_are_full_or_the_stories_own_as_often_as_asked_and_some_empty():
    assert set(captions_read(LATER, 1)) <= {"", "Milo wakes. He jumps."}
    read = captions_read(LATER, 6, story_share=0.5, summary_share=0.25)
    assert 4 < read.count("") < 30
    assert 45 < read.count("He jumps.") < 85 and 45 < read.count("Milo wakes. He jumps.") < 85


def test_words_are_bound_by_captions_that_stand_alone_if_there_are_some():
    assert standing_alone(PLAIN + LATER[:10]) == PLAIN
    assert standing_alone(PLAIN + LATER) == PLAIN + LATER  # one of 31 is too few


def test_of_a_share_of_captions_the_unet_sees_as_many_tokens_as_their_own_have():
    masks = []

    def reading(module, args, how):
        masks.append(how["encoder_attention_mask"])

    captions_read(LATER, 20, reading, summary_share=0.25)
    seen = torch.cat([mask.sum(dim=1) for mask in masks])
    empty, own, full = 2, 5, 8  # with begin and end of text
    assert set(seen.tolist()) == {empty, own, full}
    assert 0.15 < (seen == own).float().mean() < 0.3
    masks.clear()
    captions_read(LATER, 20, reading)
    assert {int(n) for mask in masks for n in mask.sum(dim=1)} == {empty, full}


def test_of_a_part_the_telling_tokens_are_seen_first_and_the_last_before_them():
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    rank = torch.tensor([[3, 2, 1, 3, 3], [3, 3, 3, 1, 3]])  # rows end at places 3 and 4
    seen = {n: telling_part(mask, rank, torch.tensor([n, n])).int().tolist() for n in (1, 2, 3, 9)}
    assert seen[1] == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert seen[2] == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    assert seen[3] == [[0, 1, 1, 1, 0], [1, 0, 0, 1, 1]]
    assert seen[9] == mask.tolist()


CAPTION = "Momo the rabbit in a red shirt waves."


def test_colours_come_before_names_and_the_summary_before_all():
    captions = [CAPTION, "Bruno the bear in a blue shirt and Luna the cat in a white shirt jump."]
    colours_and_names = ["Pip Tiko Zara red yellow purple"]
    tokenizer = build_clip_tokenizer(captions * 50 + colours_and_names * 50, 32)
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    ids = tokens.input_ids
    rank = rank_tokens(tokenizer, (SHIRTS, CHARACTERS))
    ordered = ids.gather(1, telling_order(tokens.attention_mask, rank[ids]))
    words = [[tokenizer.decode([int(i)]).strip() for i in row] for row in ordered]
    end = tokenizer.decode([tokenizer.eos_token_id]).strip()
    assert words[0][:3] == [end, "red", "momo"]
    assert words[1][:5] == [end, "blue", "white", "bruno", "luna"]
    seen = int(tokens.attention_mask[0].sum())
    assert sorted(ordered[0, :seen].tolist()) == sorted(ids[0, :seen].tolist())
    # what is padded stays behind, hidden by the unchanged mask
    assert ordered[0, seen:].tolist() == ids[0, seen:].tolist()
