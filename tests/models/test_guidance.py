"""Guidance for the caption and for the history apart, and away from a negative caption."""

from __future__ import annotations

import pytest
import tiny_parts
import torch
from tiny_parts import ContextRecorder, S, build_parts

from models.pipeline import StoryPipeline

CAPTIONS = ["Luna waves.", "She sleeps.", "Pip runs to her."]


def draw(parts, **how):
    return tiny_parts.draw(parts, CAPTIONS, **{"guidance_scale": 3.0, **how}).frames.int()


def test_equal_scales_are_one_scale():
    parts = build_parts()
    plain = draw(parts)
    assert torch.equal(draw(parts, history_guidance_scale=3.0), plain)
    assert not torch.equal(draw(parts, history_guidance_scale=1.0), plain)
    almost = draw(parts, history_guidance_scale=3.0 + 1e-7)  # three rows, the same sum
    assert (almost - plain).abs().max() <= 1
    first = draw(parts, history_guidance_scale=6.0)[:, 0]  # where there is no history
    assert (first - plain[:, 0]).abs().max() <= 1


def test_the_rows_are_nothing_the_caption_and_all():
    """Output is what the formula makes of the U-Net's answers to each alone."""
    parts = build_parts()
    answers = []
    hook = parts.unet.register_forward_hook(lambda m, a, out: answers.append(out.sample))
    with ContextRecorder(parts.unet) as recorder:
        latents = []
        draw(
            parts, num_inference_steps=1, guidance_scale=2.0, history_guidance_scale=5.0,
            callback_on_step_end=lambda p, i, t, state: latents.append(state["latents"]) or {},
        )  # fmt: skip
    hook.remove()
    (states, mask), out = recorder.calls[2], answers[2]
    nothing, caption, everything = out
    pipeline = StoryPipeline.from_components(parts)
    pipeline.scheduler.set_timesteps(1)
    noise = torch.Generator().manual_seed(0)
    start = [torch.randn(1, 4, 8, 8, generator=noise) for _ in range(3)][2]
    guided = nothing + 2 * (caption - nothing) + 5 * (everything - caption)
    t = pipeline.scheduler.timesteps[0]
    expected = pipeline.scheduler.step(guided[None], t, start).prev_sample
    torch.testing.assert_close(latents[2], expected)
    null_caption, null_history = parts.conditioner.null_states()
    kinds = parts.conditioner.type_embeddings.weight
    times = parts.conditioner.time_embeddings.weight
    assert torch.allclose(states[0, :S], null_caption[0] + kinds[0])
    assert torch.equal(states[1, :S][mask[1, :S]], states[2, :S][mask[2, :S]])
    for row in (0, 1):
        for slot in range(2):
            block = states[row, (slot + 1) * S : (slot + 2) * S]
            assert torch.allclose(block, null_history[0] + kinds[1] + times[slot], atol=1e-6)
            assert mask[row, (slot + 1) * S : (slot + 2) * S].all()


def test_a_negative_caption_takes_the_place_of_the_empty_one():
    parts = build_parts()
    plain, other = draw(parts), draw(parts, negative_prompt="a green frog")
    assert not torch.equal(plain, other)
    own = draw(parts, negative_prompt=CAPTIONS[0])[:, 0]  # away from itself: no guidance at all
    assert (own - draw(parts, guidance_scale=1)[:, 0]).abs().max() <= 1
    assert torch.equal(
        draw(parts, guidance_scale=1, negative_prompt="x"), draw(parts, guidance_scale=1)
    )


@pytest.mark.parametrize("task", ["drawn", "given"])
def test_it_works_for_several_stories(task):
    parts = build_parts()
    image = torch.zeros(2, 3, 16, 16, dtype=torch.uint8) if task == "given" else None
    how = {
        "num_inference_steps": 1, "history_guidance_scale": 2.0, "negative_prompt": "a frog",
        "image": None if image is None else list(image),
    }  # fmt: skip
    both = tiny_parts.draw(parts, [CAPTIONS, CAPTIONS[::-1]], **how).frames.int()
    how["image"] = None if image is None else image[1]
    alone = tiny_parts.draw(parts, CAPTIONS[::-1], 1, **how).frames.int()
    assert (both[1] - alone[0]).abs().max() <= 1
