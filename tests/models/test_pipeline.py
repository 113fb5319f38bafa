"""Sampling: guidance, every scheduler, reproducible noise, and what it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_parts import (
    EPSILON,
    SAMPLE,
    STORIES,
    ContextRecorder,
    build_parts,
    quiet,
    random_frames,
)
from torch import nn

from models.pipeline import StoryPipeline
from models.schedulers import NOISE_ONLY, SCHEDULERS, sampling_scheduler, training_schedule
from models.seeds import story_generator

CAPTIONS = [["Luna sits.", "She waves at the sea."], ["Pip runs.", "He waves."]]


def pipeline_of(parts, scheduler="ddim"):
    return partial(quiet(parts, scheduler), output_type="uint8")


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class PerfectUnet(nn.Module):
    """Knows the one true picture of every frame, and answers with it or with the noise on it."""

    def __init__(self, truth: torch.Tensor, config: dict) -> None:
        super().__init__()
        self.truth = truth  # (B, K, 3, 8, 8), latents
        self.config = SimpleNamespace(in_channels=3)
        self.alphas = training_schedule(config).alphas_cumprod
        self.kind = config["prediction_type"]
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.noise_sizes: list[float] = []

    def forward(self, noisy, t, encoder_hidden_states, encoder_attention_mask):
        frame = encoder_hidden_states.shape[1] // 12 - 1  # blocks before this frame
        clean = self.truth[:, frame].repeat(len(noisy) // len(self.truth), 1, 1, 1)
        alpha = self.alphas[int(t)]
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        if alpha < 0.5:  # later, a sampler's own error outweighs what noise is left
            self.noise_sizes.append(noise.std().item())
        return SimpleNamespace(sample=clean if self.kind == "sample" else noise)


@pytest.mark.parametrize(
    "name, config",
    [(name, EPSILON) for name in SCHEDULERS]
    + [(name, SAMPLE) for name in SCHEDULERS if name not in NOISE_ONLY],
    ids=lambda value: value if isinstance(value, str) else value["prediction_type"],
)
def test_a_perfect_model_draws_the_truth_with_every_scheduler(name, config):
    parts = build_parts(config, identity_vae=True)
    frames = random_frames(2, 2, 8)
    parts.unet = PerfectUnet((frames / 127.5 - 1) * 0.5, config)
    drawn = pipeline_of(parts, name)(
        CAPTIONS, num_inference_steps=8, guidance_scale=3.0, generator=generators(1, 2)
    ).frames
    assert drawn.dtype == torch.uint8
    # Each sampler has its own scale of latents; the U-Net must always see the one it learned.
    assert len(parts.unet.noise_sizes) > 4
    assert parts.unet.noise_sizes == pytest.approx([1] * len(parts.unet.noise_sizes), abs=0.25)
    error = (drawn.int() - frames.int()).abs()
    if name == "pndm":  # ends at the first noise level, not at none
        assert error.float().mean() < 8
    else:
        assert error.max() <= 1


@pytest.mark.parametrize("name", NOISE_ONLY)
def test_some_samplers_are_refused_for_a_model_that_predicts_pictures(name):
    with pytest.raises(ValueError, match=f"scheduler: '{name}'.*'sample'.*ddim") as caught:
        sampling_scheduler(name, SAMPLE)
    assert not any(f"{other}," in str(caught.value) for other in NOISE_ONLY)


def test_an_unknown_scheduler_is_refused_by_name():
    with pytest.raises(ValueError, match="scheduler: 'heun' is unknown.*ddim.*euler"):
        sampling_scheduler("heun", EPSILON)


def test_ddim_is_set_up_as_upstream_builds_it():
    scheduler = sampling_scheduler("ddim", EPSILON)  # whatever the model's own config says
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [750, 500, 250, 0]
    assert scheduler.final_alpha_cumprod == 1 and not scheduler.config.clip_sample
    expected = 1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    expected = expected.cumprod(0).float()
    torch.testing.assert_close(scheduler.alphas_cumprod, expected, atol=1e-6, rtol=0)
    pndm = sampling_scheduler("pndm", EPSILON)
    pndm.set_timesteps(4)
    assert pndm.timesteps.tolist() == [750, 500, 500, 250, 0]
    assert pndm.final_alpha_cumprod == pndm.alphas_cumprod[0]


def test_the_cartoon_bases_schedule_starts_from_pure_noise():
    scheduler = sampling_scheduler("ddim", SAMPLE)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    for schedule in (scheduler, training_schedule(SAMPLE)):
        assert schedule.alphas_cumprod[-1] < 1e-6
        assert schedule.config.prediction_type == "sample"


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance(scale):
    """One DDIM step by hand from the U-Net's two answers; at 1 only the conditional is asked."""
    parts = build_parts(EPSILON, identity_vae=True)
    answers, asked, latents = [], [], []
    parts.unet.register_forward_pre_hook(lambda module, args: asked.append(args[0]))
    parts.unet.register_forward_hook(lambda module, args, output: answers.append(output.sample))
    pipeline_of(parts)(
        [["Luna waves."], ["Pip."]], num_inference_steps=2, guidance_scale=scale,
        generator=generators(1, 2),
        callback_on_step_end=lambda p, i, t, state: latents.append(state["latents"]) or {},
    )  # fmt: skip
    assert len(answers[0]) == (2 if scale == 1 else 4)
    unconditional, conditional = answers[0].chunk(2) if scale != 1 else (0, answers[0])
    noise = unconditional + scale * (conditional - unconditional)
    alphas = training_schedule(EPSILON).alphas_cumprod
    now, then = alphas[500], alphas[0]
    start = torch.cat([torch.randn(1, 3, 8, 8, generator=g) for g in generators(1, 2)])
    assert torch.equal(asked[0][:2], start)
    clean = (start - (1 - now).sqrt() * noise) / now.sqrt()
    expected = then.sqrt() * clean + (1 - then).sqrt() * noise
    torch.testing.assert_close(latents[0], expected, atol=1e-5, rtol=1e-5)


def predict(parts, captions, ids, seed=3, task="visualization", **how):
    frames = random_frames(len(ids), len(captions[0]), 16)
    prompts = [
        SimpleNamespace(story_id=name, captions=told, first_frame=shown[0].permute(1, 2, 0).numpy())
        for name, told, shown in zip(ids, captions, frames, strict=True)
    ]
    pipeline = StoryPipeline.from_components(parts)
    continuation = task == "continuation"
    how = {"num_inference_steps": 2, "guidance_scale": 2.0, **how}
    return pipeline.draw(prompts, seed=seed, continuation=continuation, **how).frames


def test_one_seed_draws_one_story_in_any_batch():
    parts = build_parts(EPSILON, identity_vae=True)
    together = predict(parts, CAPTIONS, ["a", "b"])
    assert torch.equal(together, predict(parts, CAPTIONS, ["a", "b"]))
    alone = predict(parts, CAPTIONS[1:], ["b"])
    assert (alone[0].int() - together[1].int()).abs().max() <= 1
    for other in (predict(parts, CAPTIONS[1:], ["c"]), predict(parts, CAPTIONS[1:], ["b"], 4)):
        assert (alone.int() - other.int()).abs().float().mean() > 5


def test_the_noise_of_a_story_is_its_own():
    draws = [torch.randn(4, generator=story_generator(*key)) for key in [(0, "a"), (0, "a")]]
    assert torch.equal(*draws)
    firsts = {
        tuple(torch.randn(4, generator=story_generator(seed, story)).tolist())
        for seed in (0, 1, 11, 111) for story in ("a", "b", "1", "11")
    }  # fmt: skip
    assert len(firsts) == 16


def test_eta_adds_the_storys_own_noise():
    parts = build_parts(EPSILON, identity_vae=True)
    plain, noisy = (predict(parts, CAPTIONS, ["a", "b"], eta=eta) for eta in (0.0, 1.0))
    assert not torch.equal(plain, noisy)
    assert torch.equal(noisy, predict(parts, CAPTIONS, ["a", "b"], eta=1.0))


def test_the_first_drawn_frame_may_take_more_steps():
    """As many as asked for; a frame that was given has none, and others keep theirs."""

    def draw(**how):
        taken = []
        pipeline = pipeline_of(build_parts())
        frames = pipeline(
            CAPTIONS, generator=generators(0, 1), **how,
            callback_on_step_end=lambda p, i, t, state: taken.append(state["frame"]) or {},
        ).frames  # fmt: skip
        return frames, [taken.count(k) for k in range(2)]

    both, counts = draw(num_inference_steps=2, first_frame_inference_steps=5)
    slow, _ = draw(num_inference_steps=5)
    quick, _ = draw(num_inference_steps=2)
    assert counts == [5, 2]
    assert torch.equal(both[:, 0], slow[:, 0]) and not torch.equal(both[:, 0], quick[:, 0])
    given = random_frames(2, 1, 16)[:, 0]
    _, counts = draw(num_inference_steps=2, first_frame_inference_steps=5, image=given)
    assert counts == [0, 2]


def test_continuation_starts_from_the_given_frame():
    parts = build_parts(EPSILON, identity_vae=True)
    drawn = predict(parts, CAPTIONS, ["a", "b"], task="continuation")
    given = random_frames(2, 2, 16)[:, 0]  # twice our size: fitted
    assert drawn.shape == (2, 2, 3, 8, 8)
    halves = given.unflatten(-1, (8, 2)).unflatten(-3, (8, 2)).float().mean((-1, -3))
    error = (drawn[:, 0].float() - halves).abs()  # antialiasing looks a little further than 2x2
    assert error.mean() < 25 < (drawn[:, 0].float() - halves.flip(0)).abs().mean()


def test_the_callback_is_called_every_step_and_may_change_the_latents():
    parts = build_parts(EPSILON, identity_vae=True)
    calls = []
    white = torch.full((2, 3, 8, 8), 0.5)

    def callback(pipeline, step, timestep, state):
        assert pipeline is drawer.func and state["latents"].shape == (2, 3, 8, 8)
        calls.append((state["frame"], step, timestep))
        return {"latents": white} if state["frame"] == 1 else {}

    drawer = pipeline_of(parts)
    captions = [[*story, "Luna sleeps."] for story in CAPTIONS]
    frames = drawer(
        captions, num_inference_steps=4, guidance_scale=1.0, generator=generators(1, 2),
        callback_on_step_end=callback,
    ).frames  # fmt: skip
    steps = [(0, 750), (1, 500), (2, 250), (3, 0)]
    assert calls == [(k, step, timestep) for k in range(3) for step, timestep in steps]
    assert (frames[:, 1] == 255).all() and not (frames[:, 2] == 255).all()


def test_a_text_is_a_story_of_one_caption():
    pipeline = pipeline_of(build_parts())
    one, other = generators(3, 3)
    frames = [
        pipeline("Pip.", num_inference_steps=1, generator=one).frames,
        pipeline(["Pip."], num_inference_steps=1, generator=other).frames,
    ]
    assert frames[0].shape[:2] == (1, 1) and torch.equal(*frames)


@pytest.mark.parametrize("given, message", [
    ({"prompt": [["a", "b"], ["a"]]}, r"\[1, 2\] captions"),
    ({"prompt": [[]]}, "a story has no captions"),
    ({"prompt": []}, "a story has no captions"),
    ({"prompt": ["a", None]}, r"prompt=\['a', None\]: give the captions"),
    ({"prompt": [["a"], "b"]}, "prompt=.*: give the captions"),
    ({"prompt": {"a": "b"}}, "prompt=.*: give the captions"),
    ({"guidance_scale": float("nan")}, "guidance_scale=nan: give a finite number"),
    ({"num_inference_steps": 0}, "num_inference_steps=0: give a whole number from 1 on"),
    ({"num_inference_steps": True}, "num_inference_steps=True: give a whole number"),
    ({"first_frame_inference_steps": "6"}, "first_frame_inference_steps='6': give a whole"),
    ({"generator": []}, "0 generators for 1 stories"),
    ({"generator": 3}, "generator=3: give a torch.Generator"),
    ({"prompt": ["a"], "image": list(random_frames(3, 1, 16)[:, 0])}, "3 first frames for 1 sto"),
    ({"image": "x.png"}, "image='x.png': open it first, with PIL.Image.open"),
    ({"image": [Path("x.png")]}, "image='x.png': open it first"),
    ({"image": 3}, r"image=3: give a PIL image, \(H, W, 3\) uint8 or a tensor"),
    ({"image": np.zeros((9, 9, 3))}, r"a picture is \(9, 9, 3\) of float64; give a PIL image"),
    ({"negative_prompt": ["a"]}, r"negative_prompt=\['a'\]: give one text"),
    ({"height": "16"}, "height='16' and width=16: give numbers of pixels"),
    ({"height": 0}, "height=0 and width=16: give numbers of pixels"),
], ids=str)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        pipeline_of(build_parts())(**{"prompt": ["a"], **given})


def test_the_longest_story_uses_the_whole_time_table():
    parts = build_parts(EPSILON, identity_vae=True)
    captions = [STORIES[0] + ("She wakes.",)]
    with ContextRecorder(parts.unet) as recorder:
        pipeline_of(parts)(
            captions, num_inference_steps=1, generator=generators(1), history_frames=4
        )
    assert recorder.calls[-1][0].shape[1] == 5 * 12
