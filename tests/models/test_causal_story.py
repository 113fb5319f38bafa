"""Causal-Story's add-ons in a whole story model: where they sit and what they change."""

from __future__ import annotations

from functools import partial

import pytest
import tiny_parts
import torch
from tiny_parts import STORIES, ContextRecorder, build_parts, random_frames, story_batch

from models.causal_story.add_ons import add_causal_story, in_use, transformer_blocks
from models.conditioning import history_visibility
from models.pipeline import StoryPipeline
from models.training.story_model import StoryModel

CAPTIONS = [STORIES[0], STORIES[2]]
NEUTRAL = {"adapter_width": 3, "history_weights": True, "blocks": ["mid", "down.1", "up.0"]}


def with_add_ons(**how):
    parts = build_parts()
    torch.manual_seed(7)
    add_causal_story(parts.unet, parts.conditioner, **how)
    return parts


def prefer(parts, scale=1.0):
    """Make history weights unequal."""
    torch.manual_seed(5)
    torch.nn.init.normal_(parts.conditioner.history_weighting.query.weight, std=scale)
    return parts


draw = partial(tiny_parts.draw, captions=CAPTIONS)


def training_loss(parts, batch, **how):
    model = StoryModel(parts, classifier_free_rate=0.3, **how)
    model.log = lambda *args, **kwargs: None
    model.train()
    torch.manual_seed(3)
    return model, model.training_step(batch, 0)


def loss_and_gradients(parts, batch, **how):
    model, loss = training_loss(parts, batch, **how)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_blocks_are_found_by_name_and_unknown_ones_named():
    unet = build_parts().unet  # attention in its lower resolution
    counts = {name: len(list(transformer_blocks(unet, name))) for name in ("mid", "down.1", "up.0")}
    assert counts == {"mid": 1, "down.1": 1, "up.0": 2}
    for name in ("down.0", "down.9", "side.1"):
        with pytest.raises(ValueError, match=f"names '{name}', .* in mid, down.1, up.0$"):
            list(transformer_blocks(unet, name))


def test_what_is_in_use_is_told_from_what_is_off():
    off = {
        "spatial_window": None, "adapter_width": None, "blocks": ["mid"],
        "history_window": None, "history_weights": False,
    }  # fmt: skip
    assert in_use(off) == {}
    assert in_use({**off, "history_window": 2}) == {"history_window": 2}
    assert in_use({**off, "adapter_width": 8}) == {"adapter_width": 8, "blocks": ["mid"]}
    assert in_use({**off, "spatial_window": 32}).keys() == {"spatial_window", "blocks"}


def test_neutral_add_ons_change_no_sample_and_no_loss_to_the_bit(batch):
    plain, added = draw(build_parts()), draw(with_add_ons(**NEUTRAL))
    assert torch.equal(plain.frames, added.frames)
    assert plain.history_weights is None
    with torch.no_grad():
        parts = build_parts(), with_add_ons(**NEUTRAL)
        expected, loss = (training_loss(each, batch)[1] for each in parts)
    assert torch.equal(loss, expected)
    # A bias that learns takes another kernel of attention: equal up to rounding.
    loss = loss_and_gradients(with_add_ons(**NEUTRAL), batch)[0]
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_the_spatial_mask_acts_where_it_was_put():
    plain = draw(build_parts()).frames
    assert not torch.equal(draw(with_add_ons(spatial_window=3)).frames, plain)
    parts = with_add_ons(spatial_window=3, blocks=["mid"])
    kinds = {
        name.split(".")[0]: type(module.processor).__name__
        for name, module in parts.unet.named_modules()
        if name.endswith("attn1")
    }
    assert kinds["mid_block"] == "LocalCausalAttnProcessor"
    assert kinds["down_blocks"] == kinds["up_blocks"] == "AttnProcessor2_0"


@torch.no_grad()
def test_the_figures_mask_shows_every_position_up_to_itself():
    """8x8 latents are 4x4 positions in the mid block."""
    windows = ("all", 16, 15)
    unets = [with_add_ons(spatial_window=w, blocks=["mid"]).unet.eval() for w in windows]
    torch.manual_seed(0)
    noise = torch.randn(1, unets[0].config.in_channels, 8, 8)
    context = torch.randn(1, 3, unets[0].config.cross_attention_dim)
    all_of_them, as_many, one_fewer = (unet(noise, 10, context).sample for unet in unets)
    torch.testing.assert_close(all_of_them, as_many)
    assert not torch.allclose(all_of_them, one_fewer)


# history window


@pytest.mark.parametrize("given", [0, 1])
@pytest.mark.parametrize("window", [1, 2, 9])
def test_window_against_a_plain_loop(given, window):
    visible = history_visibility(4, 4 + given, window)
    for target in range(4):
        frame = target + given
        seen = [slot for slot in range(4 + given) if frame - window <= slot < frame]
        assert visible[target].nonzero().flatten().tolist() == seen


@torch.no_grad()
def test_a_frame_outside_the_window_changes_nothing_to_the_bit(batch):
    """For frame 3, slot 0 is three frames back, slot 1 is two."""
    conditioner = prefer(with_add_ons(history_window=2, history_weights=True)).conditioner

    def seen(changed_slot=None):
        images = batch["history_images"].clone()
        if changed_slot is not None:
            images[:, changed_slot] += 1
        context = conditioner({**batch, "history_images": images}, torch.zeros(8).bool())
        shown = torch.where(context.mask[..., None], context.states, 0)
        return shown[3], context.bias[3], context.weights[3]

    plain, outside, inside = seen(), seen(0), seen(1)
    assert all(torch.equal(a, b) for a, b in zip(plain, outside, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))
    assert plain[2][0] == 0


def test_sampling_within_a_window_keeps_only_what_it_sees():
    """A window over everything is no window; a small one hides the first frame from the last."""
    whole = draw(build_parts()).frames
    assert torch.equal(draw(with_add_ons(history_window=9)).frames, whole)
    short = draw(with_add_ons(history_window=1))
    assert torch.equal(short.frames[:, :2], whole[:, :2])
    assert not torch.equal(short.frames[:, 2:], whole[:, 2:])


@torch.no_grad()
def test_within_a_window_training_and_sampling_see_the_same_blocks():
    """Also which frame of the story a block comes from: its row in the time table."""
    parts = with_add_ons(history_window=1)
    torch.nn.init.normal_(parts.conditioner.time_embeddings.weight)
    with ContextRecorder(parts.unet) as recorder:
        frames = draw(parts, guidance_scale=1.0).frames
    batch = story_batch(parts, CAPTIONS, frames)
    context = parts.conditioner(batch, torch.zeros(8, dtype=torch.bool))
    for k in (1, 2, 3):
        drawn, seen = recorder.calls[2 * k]  # of two steps a frame, the first
        for story in range(2):
            row = 4 * story + k
            blocks = context.states[row].unflatten(0, (4, -1))[[0, k]]  # caption, the frame before
            mask = context.mask[row].unflatten(0, (4, -1))[[0, k]]
            expected = blocks[mask]
            torch.testing.assert_close(drawn[story][seen[story]], expected, atol=1e-4, rtol=1e-4)


# history weights


def test_weights_are_read_out_and_add_up():
    parts = prefer(with_add_ons(history_weights=True, history_window=2))
    for scale in (1.0, 3.0):
        weights = draw(parts, guidance_scale=scale).history_weights
        assert weights.shape == (2, 4, 4)
        seen = weights > 0
        expected = history_visibility(4, 4, 2).expand(2, 4, 4)
        assert torch.equal(seen, expected)
        torch.testing.assert_close(weights.sum(-1), torch.tensor([[0.0, 1, 1, 1]] * 2))
    assert not torch.allclose(weights[:, 3, 1], torch.tensor(0.5), atol=1e-3)


def test_given_frames_and_hidden_history_have_weights_too():
    parts = prefer(with_add_ons(history_weights=True))
    first = random_frames(2, 1, 16)[:, 0]
    weights = draw(parts, image=first).history_weights
    assert weights[:, 0].sum() == 0 and weights[0, 1].tolist() == [1, 0, 0, 0]
    assert draw(parts, use_history=False).history_weights is None


@torch.no_grad()
def test_training_and_sampling_prefer_alike(batch):
    parts = prefer(with_add_ons(history_weights=True))
    context = parts.conditioner(batch, torch.zeros(8, dtype=torch.bool))
    pipeline = StoryPipeline.from_components(parts)
    ids, mask = pipeline._tokens(parts.clip_tokenizer, CAPTIONS)
    flat = [batch[f"history_{part}"].flatten(0, 1) for part in ("images", "ids", "mask")]
    states = parts.conditioner.encode_history(*flat).unflatten(0, (2, 4))
    for k in range(1, 4):
        captions = parts.conditioner.encode_captions(ids[:, k], mask[:, k])
        past = list(states[:, :k].unbind(1))
        step = pipeline._context(
            captions, mask[:, k], past, batch["history_mask"][:, :k], None, 0, None, False
        )
        for story in range(2):
            row = context.weights[4 * story + k, :k]
            torch.testing.assert_close(step.weights[story], row, atol=1e-5, rtol=0)
            bias = context.bias[4 * story + k][:, context.mask[4 * story + k]]
            drawn = step.bias[story][:, step.mask[story]]
            torch.testing.assert_close(drawn, bias, atol=1e-5, rtol=0)


@torch.no_grad()
def test_classifier_free_rows_prefer_nothing(batch):
    conditioner = prefer(with_add_ons(history_weights=True)).conditioner
    dropped = torch.arange(8) % 2 == 0
    bias = conditioner(batch, dropped).bias
    assert torch.equal(bias[dropped], torch.zeros_like(bias[dropped]))
    assert bias[~dropped][1].abs().sum() > 0


@pytest.mark.parametrize(
    "how", [{"frames_per_micro_batch": 3}, {"gradient_checkpointing": True}], ids=str
)
def test_less_memory_gives_the_same_step(batch, how):
    """The bias reaches the U-Net in parts and a second time as well."""
    loss, gradients = loss_and_gradients(prefer(with_add_ons(history_weights=True)), batch)
    plain = loss_and_gradients(build_parts(), batch)[0]
    assert not torch.isclose(loss, plain, rtol=1e-6)
    again, others = loss_and_gradients(prefer(with_add_ons(history_weights=True)), batch, **how)
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=0)
    assert gradients.keys() == others.keys()
    for name in ("query", "key"):
        name = f"conditioner.history_weighting.{name}.weight"
        size = gradients[name].abs().max()
        assert size > 0 and (gradients[name] - others[name]).abs().max() <= 1e-3 * size
