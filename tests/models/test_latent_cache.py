"""Cached latents: a training step is the same with them, stale files are refused, none is half."""

from __future__ import annotations

import os
import pickle
import resource
import signal
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tiny_parts import (
    BLIP_SIZE,
    IMAGE_SIZE,
    MEAN,
    STD,
    STORIES,
    IdentityVae,
    autoencoder,
    build_parts,
    random_frames,
    story_batch,
    transformer_autoencoder,
    unet,
)

from models.frames import HistoryTransform
from models.training.latent_cache import LatentCache
from models.training.story_model import StoryModel
from tests.forks import in_a_fork

FRAMES = random_frames(3, 4, IMAGE_SIZE)  # stories, pictures a story
FRAMES[2, :2] = FRAMES[0, 1:3]  # pictures that are told twice
TARGETS = FRAMES / 127.5 - 1
# Relative, of the loss; a hundred times that of gradients.
STEP_TOLERANCE = 1e-5  # latents: other sums over other batch sizes
STATES_TOLERANCE = 1e-4  # picture states in half precision: 11 bits


@pytest.fixture
def story_file(tmp_path) -> Path:
    path = tmp_path / "stories.h5"
    path.write_bytes(b"only its hash matters here")
    return path


def prepared(vae, story_file: Path, size: int = IMAGE_SIZE, vision=None) -> LatentCache:
    cache = LatentCache(vae, story_file, size, vision)
    transform = vision[1] if vision else HistoryTransform(BLIP_SIZE, MEAN, STD)
    history = transform(FRAMES.flatten(0, 1)).unflatten(0, FRAMES.shape[:2])
    batches = list(zip(TARGETS.split(2), history.split(2), strict=True))
    cache.prepare(("train", "val"), {"train": batches, "val": ()}.__getitem__)
    return cache


@pytest.mark.parametrize("task, given, states, posterior", [
    ("visualization", 0, False, True), ("visualization", 0, True, True),
    ("continuation", 1, True, True), ("visualization", 0, False, False),
])  # fmt: skip
def test_a_training_step_with_the_cache_is_the_step_without(
    story_file, task, given, states, posterior
):
    parts = build_parts(dropout=0.0)
    if not posterior:
        torch.manual_seed(0)
        parts = replace(parts, vae=transformer_autoencoder().eval(), unet=unet(64).eval())
    # As configured for frozen BLIP; what would drop pictures in training must not reach the cache.
    model = StoryModel(parts, freeze_blip=states, stochastic_depth=0.5 * states).train()
    model.log = lambda *args, **how: None
    vision = (parts.conditioner.vision_encoder, parts.history_transform) if states else None
    batch = story_batch(parts, STORIES, FRAMES, task)
    latents = prepared(parts.vae, story_file, vision=vision).split("train")
    kept = [latents[i] for i in range(len(batch["story_id"]))]
    replaced = {"target_images", "history_images"} if states else {"target_images"}
    cached = {k: v for k, v in batch.items() if k not in replaced}
    for key in kept[0]:
        start = given if key.startswith("latents") else 0
        cached[key] = torch.stack([values[key] for values in kept])[:, start:]
    assert ("picture_states" in cached) == states
    tolerance = STATES_TOLERANCE if states else STEP_TOLERANCE

    tables = model.conditioner.multimodal_encoder.get_input_embeddings(), model.unet.conv_in

    def step(batch: dict, seed: int) -> tuple[float, list[torch.Tensor]]:
        torch.manual_seed(seed)
        model.zero_grad()
        loss = model.training_step(batch, 0)
        loss.backward()
        return loss.item(), [table.weight.grad.clone() for table in tables]

    losses = []
    for seed in range(2):
        (loss, gradients), (ours, others) = step(batch, seed), step(cached, seed)
        assert ours == pytest.approx(loss, rel=tolerance)
        for one, gradient in zip(others, gradients, strict=True):
            assert (one - gradient).norm() < 100 * tolerance * gradient.norm()
        losses.append(ours)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)  # sampled anew


def pair(values: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    assert values.keys() == {"latents_mean", "latents_std"}
    return values["latents_mean"], values["latents_std"]


def test_latents_are_those_of_the_autoencoder_and_repeated_pictures_are_kept_once(story_file):
    vae = autoencoder().eval()
    cache = prepared(vae, story_file)
    latents = cache.split("train")
    assert len(latents) == 3 and len(cache.split("val")) == 0
    for story in range(3):
        mean, std = pair(latents[story])
        with torch.no_grad():
            distribution = vae.encode(TARGETS[story]).latent_dist
        torch.testing.assert_close(mean, distribution.mean * 0.18215, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(std, distribution.std * 0.18215, rtol=1e-5, atol=1e-6)
    with h5py.File(cache.path) as file:
        assert len(file["mean"]) == len(file["std"]) == 10  # of 12 pictures
    again = pickle.loads(pickle.dumps(latents))  # as spawned workers do
    assert pair(again[1])[0].equal(pair(latents[1])[0])


def test_picture_states_are_the_encoders_own_and_left_out_where_it_trains(story_file):
    parts = build_parts()
    vision = parts.conditioner.vision_encoder, parts.history_transform
    cache = prepared(parts.vae, story_file, vision=vision)
    for story in range(3):
        states = cache.split("train")[story]["picture_states"]
        with torch.no_grad():
            expected = vision[0](pixel_values=vision[1](FRAMES[story])).last_hidden_state
        assert states.dtype == torch.float16
        torch.testing.assert_close(states.float(), expected, rtol=2**-11, atol=1e-6)
    training = LatentCache(
        parts.vae, story_file, IMAGE_SIZE
    )  # BLIP trains: the latents still serve
    training.prepare(("train", "val"), None)
    pair(training.split("train")[0])


def test_weights_kept_in_half_precision_encode_too(story_file):
    parts = build_parts()
    whole = prepared(parts.vae, story_file, vision=None).split("train")[1]
    (story_file.parent / "stories.latents.h5").unlink()
    StoryModel(parts, freeze_blip=True, frozen_dtype=torch.bfloat16)
    vision = parts.conditioner.vision_encoder, parts.history_transform
    half = prepared(parts.vae, story_file, vision=vision).split("train")[1]
    assert half["latents_mean"].dtype == torch.float32
    torch.testing.assert_close(
        half["latents_mean"],
        whole["latents_mean"],
        rtol=0.05,
        atol=0.05 * whole["latents_mean"].std(),
    )


STALE_VISION = {
    "weights": "picture encoder",
    "normalisation": "normalisation",
    "latents only": "picture encoder",
}


@pytest.mark.parametrize("change, message", STALE_VISION.items(), ids=STALE_VISION)
def test_stale_picture_states_are_refused(story_file, change, message):
    parts = build_parts()
    encoder, transform = parts.conditioner.vision_encoder, parts.history_transform
    kept = None if change == "latents only" else (encoder, transform)
    prepared(parts.vae, story_file, vision=kept)
    if change == "weights":
        changed_weights(encoder, story_file)
    if change == "normalisation":
        transform = HistoryTransform(BLIP_SIZE, MEAN, MEAN)
    stale = LatentCache(parts.vae, story_file, IMAGE_SIZE, (encoder, transform))
    with pytest.raises(
        ValueError, match=f"stories.latents.h5 was made with another {message}; del"
    ):
        stale.prepare(("train",), None)


def test_a_second_run_reads_the_file_and_encodes_nothing(story_file):
    vae = autoencoder().eval()
    first = prepared(vae, story_file)
    before = first.path.stat()
    again = LatentCache(vae, story_file, IMAGE_SIZE)
    again.prepare(("train", "val"), lambda split: pytest.fail("pictures were read again"))
    assert again.path.stat().st_mtime_ns == before.st_mtime_ns
    assert pair(again.split("train")[0])[0].equal(pair(first.split("train")[0])[0])


def changed_weights(vae, story_file):
    with torch.no_grad():
        next(vae.parameters()).view(-1)[0] += 1e-3


def changed_config(vae, story_file):
    vae.register_to_config(scaling_factor=0.2)


def changed_stories(vae, story_file):
    story_file.write_bytes(b"one more story")


STALE = {  # what is changed, how the second cache is asked for, and what the sentence names
    "weights": (changed_weights, {}, "autoencoder"),
    "scale": (changed_config, {}, "autoencoder"),
    "stories": (changed_stories, {}, "story file"),
    "size": (lambda *_: None, {"image_size": 2 * IMAGE_SIZE}, "image_size"),
    # Under other captions other stories of one file may be damaged, and the numbers shift.
    "captions": (lambda *_: None, {"text_key": "dii"}, "kind of captions"),
    "crop": (lambda *_: None, {"crop": "shorter_side"}, "crop"),
}


def test_a_decoder_that_learns_more_leaves_the_cache_as_it_is(story_file):
    vae = autoencoder().eval()
    prepared(vae, story_file)
    with torch.no_grad():
        for weights in (*vae.decoder.parameters(), *vae.post_quant_conv.parameters()):
            weights.add_(1)
    LatentCache(vae, story_file, image_size=IMAGE_SIZE).prepare(("train",), None)


@pytest.mark.parametrize("change, how, what", STALE.values(), ids=STALE)
def test_stale_caches_are_refused_and_left_alone(story_file, change, how, what):
    vae = autoencoder().eval()
    path = prepared(vae, story_file).path
    content = path.read_bytes()
    change(vae, story_file)
    stale = LatentCache(vae, story_file, **{"image_size": IMAGE_SIZE, **how})
    for use in (lambda: stale.prepare(("train",), None), lambda: stale.split("train")):
        with pytest.raises(ValueError, match=f"latents.h5 was made with another {what}; delete it"):
            use()
    assert path.read_bytes() == content


def test_what_is_no_cache_is_refused(story_file):
    cache = LatentCache(autoencoder().eval(), story_file, IMAGE_SIZE)
    with pytest.raises(ValueError, match="stories.latents.h5 cannot be read .*delete it"):
        cache.split("train")
    cache.path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="stories.latents.h5 cannot be read .*delete it"):
        cache.prepare(("train",), None)
    cache.path.unlink()
    cache = prepared(cache.vae, story_file)
    with pytest.raises(ValueError, match="stories.latents.h5 lacks 'test'; delete it"):
        cache.split("test")


def test_an_interrupted_pass_leaves_nothing(story_file):
    def batches(split):
        yield TARGETS[:1], FRAMES[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LatentCache(autoencoder().eval(), story_file, IMAGE_SIZE).prepare(("train",), batches)
    assert list(story_file.parent.iterdir()) == [story_file]


def run_pass(story_file: Path, after_a_batch=lambda: None) -> tuple[int, str]:
    """In another process."""

    def batches(split):
        yield torch.rand(2, 4, 3, 8, 8), torch.rand(2, 4, 3, 4, 4)
        after_a_batch()

    cache = LatentCache(IdentityVae(), story_file, 8)
    return in_a_fork(lambda: cache.prepare(("train",), batches))


def test_a_killed_pass_leaves_no_cache_and_the_next_one_makes_it(story_file):
    status, _ = run_pass(story_file, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert status == -signal.SIGKILL
    cache = LatentCache(IdentityVae(), story_file, IMAGE_SIZE)
    assert not cache.path.exists()
    assert len(prepared(IdentityVae(), story_file).split("train")) == 3


def test_a_full_disk_is_said_and_leaves_nothing(story_file):
    def filling():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        prepared(IdentityVae(), story_file)

    path = story_file.parent / "stories.latents.h5"
    status, out = in_a_fork(filling)
    assert status == 1 and "or train without" in out
    assert f": cannot write {path}: {path.parent} has " in out
    assert list(story_file.parent.iterdir()) == [story_file]


def test_every_process_opens_its_own_handle(story_file):
    latents = prepared(autoencoder().eval(), story_file).split("train")
    here = pair(latents[1])[0]
    assert latents._handle[0] == os.getpid()
    latents._handle = (-1, None)  # as a forked worker finds it
    np.testing.assert_array_equal(pair(latents[1])[0], here)
