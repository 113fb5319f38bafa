"""Training and sampling see the same, and the past never depends on what comes after it."""

from __future__ import annotations

import pytest
import torch
from tiny_parts import STORIES, ContextRecorder, S, build_parts, draw, random_frames, story_batch

import models.pipeline
from models.training.story_model import StoryModel

CAPTIONS = [STORIES[0], STORIES[2]]
K = 4


@pytest.fixture(scope="module")
def parts():
    return build_parts()


@torch.no_grad()
@pytest.mark.parametrize("task", ["visualization", "continuation"])
def test_frame_n_is_conditioned_alike_in_training_and_sampling(parts, task, monkeypatch):
    given = int(task == "continuation")
    frames = random_frames(2, K, 16)
    # Sampling, except that each frame it "draws" is the true one: teacher forcing.
    truth = iter(frames[:, given:].unbind(1))
    monkeypatch.setattr(models.pipeline, "decode_latents", lambda vae, latents: next(truth))
    first = frames[:, 0] if given else None
    with ContextRecorder(parts.unet) as sampled:
        drawn = draw(parts, CAPTIONS, image=first, num_inference_steps=1).frames
    assert torch.equal(drawn, frames)
    assert len(sampled.calls) == K - given

    batch = story_batch(parts, CAPTIONS, frames, task)
    halves = []  # a row for each story and target, unconditional ones first as in sampling
    for unconditional in (True, False):
        drop = torch.full((2 * (K - given),), unconditional)
        context, mask = parts.conditioner(batch, drop)[:2]
        halves.append((context.unflatten(0, (2, -1)), mask.unflatten(0, (2, -1))))
    for target, (context, mask) in enumerate(sampled.calls):
        assert len(context) == 4
        for row in range(4):
            half, story = divmod(row, 2)
            trained, seen = (part[story, target] for part in halves[half])
            live = context[row][mask[row]]  # (tokens, D), in order
            assert live.shape == trained[seen].shape
            torch.testing.assert_close(live, trained[seen], atol=1e-5, rtol=0)
            if half == 0:  # nothing is padded away in the unconditional half
                assert mask[row].all() and mask.shape[1] == S * (target + given + 1)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["caption", "picture"])
@pytest.mark.parametrize("changed", [1, 2, 3])
def test_noise_prediction_of_earlier_frames_is_untouched(parts, kind, changed):
    """Exactly untouched. A frame's own caption matters to it, its own picture does not."""
    model = StoryModel(parts).eval()
    predictions = []
    handle = parts.unet.register_forward_hook(
        lambda module, args, output: predictions.append(output.sample.unflatten(0, (1, K)))
    )
    frames, captions = random_frames(1, K, 16), list(STORIES[0])
    noise = torch.randn(K, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    arguments = (0.5 * noise, noise, torch.full((K,), 300), torch.zeros(K, dtype=torch.bool))
    model.noise_loss(story_batch(parts, [captions], frames), *arguments)
    if kind == "caption":
        captions[changed] = "Pip sleeps on the beach."
    else:
        frames[:, changed] = 255 - frames[:, changed]
    model.noise_loss(story_batch(parts, [captions], frames), *arguments)
    handle.remove()
    before, after = predictions
    same = changed if kind == "caption" else changed + 1  # how many frames must not change
    assert torch.equal(before[:, :same], after[:, :same])
    for later in range(same, K):
        assert not torch.equal(before[:, later], after[:, later])


@pytest.mark.parametrize("changed", [1, 3])
def test_a_later_caption_never_changes_an_earlier_drawing(parts, changed):
    runs = []
    for captions in (list(STORIES[0]), list(STORIES[0])):
        if runs:
            captions[changed] = "Pip sleeps on the beach."
        latents = []

        def keep(pipeline, step, timestep, state, latents=latents):
            latents.append(state["latents"].clone())
            return {}

        frames = draw(parts, captions, 7, callback_on_step_end=keep).frames
        runs.append((frames, torch.stack(latents).unflatten(0, (K, 2))))
    (frames, latents), (other_frames, other_latents) = runs
    assert torch.equal(frames[:, :changed], other_frames[:, :changed])
    assert torch.equal(latents[:changed], other_latents[:changed])
    for later in range(changed, K):  # but it and what follows do see the new caption
        assert not torch.equal(latents[later], other_latents[later])


def contexts(parts, captions, **how):
    with ContextRecorder(parts.unet) as recorder:
        draw(parts, captions, 7, num_inference_steps=1, **how)
    return recorder.calls


@pytest.mark.parametrize("task", ["visualization", "continuation"])
def test_hidden_history_conditions_every_frame_as_a_first_one(parts, task):
    given = int(task == "continuation")
    first = random_frames(2, 1, 16)[:, 0] if given else None
    hidden = contexts(parts, CAPTIONS, image=first, use_history=False)
    assert len(hidden) == K - given
    for target, (context, mask) in enumerate(hidden):
        alone = [[story[target + given]] for story in CAPTIONS]
        ((expected, expected_mask),) = contexts(parts, alone)
        assert torch.equal(context, expected) and torch.equal(mask, expected_mask)
