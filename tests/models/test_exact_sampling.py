"""What makes drawing fast changes nothing of what is drawn, and really saves the work."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from tiny_parts import (
    EPSILON,
    IMAGE_SIZE,
    SAMPLE,
    STORIES,
    build_parts,
    quiet,
    random_frames,
    story_batch,
)
from torch import nn

from benchmarks.reference import Reference
from models import pipeline as pipeline_module
from models.causal_story.add_ons import add_causal_story
from models.conditioning import Context
from models.fused_attention import fuse_attention, unfuse_attention

STEPS = 3


def parts_of(add_ons: dict | None = None, config=EPSILON):
    parts = build_parts(config)
    if add_ons:
        add_causal_story(parts.unet, parts.conditioner, **add_ons)
        if weighting := parts.conditioner.history_weighting:
            with torch.random.fork_rng():
                torch.manual_seed(5)
                nn.init.normal_(weighting.query.weight)  # unequal weights
    for part in (parts.conditioner, parts.vae, parts.unet):
        part.double()  # random weights make a rounding visible
    return parts


def draw(parts, task="visualization", stories=STORIES, **how):
    """Frames and the last latents of every frame."""
    pipeline = how.pop("pipeline", None) or quiet(parts)
    ends = []

    def keep(pipeline, step, timestep, state):
        if step == STEPS - 1:
            ends.append(state["latents"])
        return {}

    given = pictures(stories)[:, 0] if task == "continuation" else None
    drawn = pipeline(
        stories, given, **{"num_inference_steps": STEPS, "guidance_scale": 3.0, **how},
        output_type="uint8",
        generator=[torch.Generator().manual_seed(i) for i in range(len(stories))],
        callback_on_step_end=keep,
    )  # fmt: skip
    return drawn, torch.stack(ends)


def pictures(stories):
    return random_frames(len(stories), len(stories[0]), IMAGE_SIZE)


@pytest.mark.parametrize("task, stories", [
    ("visualization", STORIES), ("continuation", STORIES[1:2]),
], ids=["three", "one"])  # fmt: skip
def test_stories_are_those_of_the_original_computation(task, stories):
    """Captions of unequal lengths, one cut."""
    parts = parts_of()
    drawn, ends = draw(parts, task, stories)
    batch = story_batch(parts, stories, pictures(stories), task)
    batch["history_images"] = batch["history_images"].double()
    generators = [torch.Generator().manual_seed(i) for i in range(len(stories))]
    noise = torch.stack([
        torch.cat([torch.randn(1, 4, 8, 8, generator=g, dtype=torch.float64) for g in generators])
        for _ in ends
    ])  # fmt: skip
    expected = Reference(parts).draw(batch, noise, STEPS, 3.0)
    torch.testing.assert_close(ends, expected.latents, rtol=0, atol=1e-6)
    frames = drawn.frames[:, -len(ends) :].transpose(0, 1)
    assert (frames.int() - expected.frames.int()).abs().max() <= 1


def without_techniques(parts, patch):
    """Keys, values and null states anew each time, all tokens, stock attention, usual layout."""
    patch.setattr(pipeline_module, "context_projected_once", lambda unet: nullcontext())
    patch.setattr(Context, "without_unseen", lambda self: self)
    unfuse_attention(parts.conditioner)
    patch.setattr(pipeline_module, "lay_out", lambda *_, **__: None)
    for part in (parts.unet, parts.vae):
        part.to(memory_format=torch.contiguous_format)


@pytest.mark.parametrize("add_ons, guidance, task", [
    (None, 3.0, "visualization"),
    ({"history_weights": True, "history_window": 2}, 1.0, "continuation"),
])  # fmt: skip
def test_techniques_are_exact(add_ons, guidance, task, monkeypatch):
    parts = parts_of(add_ons)
    for part in (parts.unet, parts.vae):
        part.to(memory_format=torch.channels_last)
    fast = draw(parts, task, guidance_scale=guidance)
    without_techniques(parts, monkeypatch)
    slow = draw(parts, task, guidance_scale=guidance)
    fuse_attention(parts.conditioner)
    torch.testing.assert_close(fast[1], slow[1], rtol=0, atol=1e-6)
    assert (fast[0].frames.int() - slow[0].frames.int()).abs().max() <= 1
    if add_ons:
        torch.testing.assert_close(fast[0].history_weights, slow[0].history_weights)


def test_what_stays_the_same_is_computed_once():
    parts = parts_of()
    calls = {"clip": 0, "blip": 0, "keys": 0}

    for name, module in (
        ("clip", parts.conditioner.text_encoder), ("blip", parts.conditioner.vision_encoder),
        ("keys", parts.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k),
    ):  # fmt: skip
        inner = module.forward  # not a hook, which runs whether the layer computes or not

        def counted(*args, inner=inner, name=name, **kwargs):
            calls[name] += 1
            return inner(*args, **kwargs)

        module.forward = counted
    pipeline = quiet(parts)

    def calls_of(**how):
        calls.update(dict.fromkeys(calls, 0))
        draw(parts, pipeline=pipeline, **how)
        return dict(calls)

    # Four frames: one call for all captions and one for the null ones; a frame's keys once.
    assert calls_of() == {"clip": 2, "blip": 4, "keys": 4}
    assert calls_of(guidance_scale=1.0) == {"clip": 1, "blip": 3, "keys": 4}


def test_unseen_tokens_do_not_reach_the_unet():
    parts, widths = parts_of(), []
    parts.unet.register_forward_pre_hook(
        lambda unet, args, kwargs: widths.append(kwargs["encoder_hidden_states"].shape[1]),
        with_kwargs=True,
    )
    story = [["Pip.", "Pip."]]  # three tokens each with their marks
    draw(parts, stories=story, guidance_scale=1.0)
    draw(parts, stories=story, guidance_scale=2.0)  # unconditional rows see all 12 of a block
    assert widths[::STEPS] == [widths[0], 2 * widths[0], 12, 24] and widths[0] < 7


def test_guidance_within_an_interval_of_the_steps():
    """Outside, only the conditional rows are asked; where it spans all, nothing changes."""
    parts, rows = parts_of(config=SAMPLE), []
    parts.unet.register_forward_pre_hook(lambda unet, args: rows.append(len(args[0])))
    part = draw(parts, guidance_interval=(0.3, 0.6))[1]
    assert rows[:STEPS] == [3, 6, 3]
    whole = draw(parts)[1]
    assert torch.equal(whole, draw(parts, guidance_interval=(0.0, 1.0))[1])
    never = draw(parts, guidance_interval=(0.0, 0.0))[1]
    torch.testing.assert_close(never, draw(parts, guidance_scale=1.0)[1], rtol=0, atol=1e-6)
    assert not torch.equal(part, whole) and not torch.equal(part, never)
