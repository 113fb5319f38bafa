"""Who sees what, and how blocks, embeddings and masks are put together."""

from __future__ import annotations

import pytest
import torch
from tiny_parts import (
    BLIP_SIZE,
    MEAN,
    SLOTS,
    STD,
    STORIES,
    D,
    S,
    build_parts,
    random_frames,
    story_batch,
)

from models.conditioning import history_visibility


@pytest.fixture(scope="module")
def parts():
    return build_parts()


@pytest.mark.parametrize("given", [0, 1])
@pytest.mark.parametrize("targets", range(1, 8))
def test_visibility_against_a_plain_loop(targets, given):
    slots = targets + given
    visible = history_visibility(targets, slots)
    assert visible.shape == (targets, slots) and visible.dtype == torch.bool
    for target in range(targets):
        frame = target + given  # in continuation, target 0 is the story's frame 1
        for slot in range(slots):
            assert visible[target, slot].item() == (slot < frame), (target, slot)
        assert not visible[target, frame]  # never its own frame


def assembled_by_hand(
    conditioner, captions, caption_mask, history, history_mask, visible, unconditional, null_states
):
    """`assemble` said again, a token at a time."""
    null_caption, null_history = null_states
    kind, time = conditioner.type_embeddings.weight, conditioner.time_embeddings.weight
    context, mask = [], []
    for row in range(len(captions)):
        drop = bool(unconditional[row])
        states, seen = [], []
        for token in range(S):
            own = null_caption[0, token] if drop else captions[row, token]
            states.append(own + kind[0])
            seen.append(drop or bool(caption_mask[row, token]))
        for slot in range(history.shape[1]):
            for token in range(S):
                block = null_history[0, token] if drop else history[row, slot, token]
                states.append(block + kind[1] + time[slot])
                real = drop or bool(history_mask[row, slot, token])
                seen.append(bool(visible[row, slot]) and real)
        context.append(torch.stack(states))
        mask.append(torch.tensor(seen))
    return torch.stack(context), torch.stack(mask)


@pytest.mark.parametrize("slots", range(SLOTS + 1))
def test_assemble_against_plain_loops(parts, slots):
    rows, generator = 5, torch.Generator().manual_seed(slots)

    def coin(*shape):
        return torch.rand(*shape, generator=generator) < 0.5

    arguments = {
        "captions": torch.randn(rows, S, D, generator=generator),
        "caption_mask": coin(rows, S),
        "history": torch.randn(rows, slots, S, D, generator=generator),
        "history_mask": coin(rows, slots, S),
        "visible": coin(rows, slots),
        "unconditional": torch.tensor([True, False, True, False, False]),
        "null_states": tuple(torch.randn(1, S, D, generator=generator) for _ in range(2)),
    }
    context, mask = parts.conditioner.assemble(*arguments.values())[:2]
    expected_context, expected_mask = assembled_by_hand(parts.conditioner, **arguments)
    assert context.shape == (rows, (slots + 1) * S, D)
    torch.testing.assert_close(context, expected_context)
    assert mask.dtype == torch.bool and torch.equal(mask, expected_mask)


@torch.no_grad()
def test_a_batch_is_encoded_row_by_row(parts):
    """Stories, targets and slots are not mixed up on the way into the U-Net's rows.

    The last of four frames is nobody's history: it has no block.
    """
    frames = random_frames(2, 4, 16)
    batch = story_batch(parts, STORIES[:2], frames, "continuation")
    unconditional = torch.tensor([False, True, False, False, False, True])
    context, mask = parts.conditioner(batch, unconditional)[:2]
    conditioner, row = parts.conditioner, 0
    null_states = conditioner.null_states()
    for story in range(2):
        history_mask = batch["history_mask"][story, :3]
        history = conditioner.encode_history(
            batch["history_images"][story, :3], batch["history_ids"][story, :3], history_mask
        )
        for target in range(3):
            ids, real = batch["caption_ids"][story], batch["caption_mask"][story]
            caption = conditioner.encode_captions(ids[target : target + 1], real[target][None])
            expected = assembled_by_hand(
                conditioner, caption, real[target][None], history[None], history_mask[None],
                torch.arange(3)[None] < target + 1, unconditional[row : row + 1], null_states,
            )  # fmt: skip
            torch.testing.assert_close(context[row], expected[0][0], atol=1e-5, rtol=0)
            assert torch.equal(mask[row], expected[1][0])
            row += 1
    assert row == len(context) == len(mask)


def test_blips_first_token_is_enc_in_the_encoder_only(parts):
    batch = story_batch(parts, STORIES[:1], random_frames(1, 4, 16))
    before = batch["history_ids"].clone()
    received = []
    handle = parts.conditioner.multimodal_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: received.append(kwargs), with_kwargs=True
    )
    parts.conditioner(batch, torch.zeros(4, dtype=torch.bool))
    handle.remove()
    assert torch.equal(batch["history_ids"], before)  # the caller's ids are left alone
    tokenizer = parts.blip_tokenizer
    assert (before[..., 0] == tokenizer.cls_token_id).all()
    enc = tokenizer.convert_tokens_to_ids("[ENC]")
    assert enc not in (tokenizer.unk_token_id, tokenizer.cls_token_id)
    frames, null = received
    assert (frames["input_ids"][:, 0] == enc).all() and (null["input_ids"][:, 0] == enc).all()
    assert torch.equal(frames["input_ids"][:, 1:], before[0, :3, 1:])


@torch.no_grad()
@pytest.mark.parametrize("unconditional", [False, True])
def test_a_story_of_one_frame_has_its_caption_only(parts, unconditional):
    batch = story_batch(parts, [["Luna waves."]], random_frames(1, 1, 16))
    context, mask = parts.conditioner(batch, torch.tensor([unconditional]))[:2]
    assert context.shape == (1, S, D)
    assert mask[0].tolist() == [unconditional or bool(m) for m in batch["caption_mask"][0, 0]]


@torch.no_grad()
def test_blip_reads_both_ways(parts):
    """The first token must know of the last: queries are not decoded causally."""
    ids = parts.blip_tokenizer(["Luna sits on the beach."], return_tensors="pt").input_ids
    image = torch.zeros(1, 3, BLIP_SIZE, BLIP_SIZE)
    changed = ids.clone()
    changed[0, -2] = parts.blip_tokenizer.convert_tokens_to_ids("rain")
    one, other = (parts.conditioner.encode_history(image, i, None)[0, 0] for i in (ids, changed))
    assert (one - other).abs().max() > 1e-6


@torch.no_grad()
def test_padding_changes_no_real_token(parts):
    batch = story_batch(parts, [["Luna waves."]], random_frames(1, 1, 16))
    ids, mask = batch["history_ids"][0], batch["history_mask"][0]
    length = int(mask.sum())
    image = batch["history_images"][0]
    padded = parts.conditioner.encode_history(image, ids, mask)[:, :length]
    alone = parts.conditioner.encode_history(image, ids[:, :length], None)
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_null_states_are_an_empty_caption_and_a_black_frame(parts):
    conditioner = parts.conditioner
    empty = parts.clip_tokenizer("", padding="max_length", max_length=S, return_tensors="pt")
    caption, history = conditioner.null_states()
    expected = conditioner.text_encoder(input_ids=empty.input_ids).last_hidden_state
    torch.testing.assert_close(caption, expected)
    black = (-torch.tensor(MEAN) / torch.tensor(STD)).view(1, 3, 1, 1)
    assert torch.allclose(conditioner.null_image, black.expand(1, 3, BLIP_SIZE, BLIP_SIZE))
    ids = parts.blip_tokenizer("", padding="max_length", max_length=S, return_tensors="pt")
    expected = conditioner.encode_history(
        conditioner.null_image, ids.input_ids, torch.ones(1, S, dtype=torch.bool)
    )
    torch.testing.assert_close(history, expected)
    assert caption.shape == history.shape == (1, S, D)
