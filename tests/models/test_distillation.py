"""Latent consistency distillation: its loss, its boundary, what trains, what it comes to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from tiny_parts import EPSILON, SAMPLE, STORIES, build_parts

from models.schedulers import sampling_scheduler
from models.training.distillation import DistilledStoryModel
from models.training.tuning import add_lora

CAPTIONS = [STORIES[0], STORIES[2]]  # 2 stories of 4 frames
VELOCITY = DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction").config
TIMES = torch.tensor([19, 39, 199, 499, 519, 799, 979, 999])
NOBODY = torch.zeros(8, dtype=torch.bool)


def distilled(config=EPSILON, lora=False, **how):
    parts = build_parts(config)
    if lora:
        add_lora(parts.unet, rank=2)
        how["tune"] = "lora"
    model = DistilledStoryModel(parts, **how).train()
    model.log = lambda *args, **how: None
    return model


def moved(model):
    """So that the student is not its teacher any more."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def draws(batch, model):
    latents = model.latents(batch, torch.Generator().manual_seed(1))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    return latents, noise


@pytest.mark.parametrize("config, lora", [
    (EPSILON, False), (SAMPLE, True), (VELOCITY, False),
], ids=["epsilon", "sample", "velocity"])  # fmt: skip
def test_the_loss_is_the_papers(batch, config, lora):
    """Algorithm 1 of 2310.04378, with its DDIM solver (eq. 14), frame by frame in float64."""
    scale, kind, steps = 3.0, config["prediction_type"], 10 if lora else 50
    model = moved(distilled(config, lora, guidance_scale=scale, teacher_steps=steps))
    latents, noise = draws(batch, model)
    times = TIMES if kind != "epsilon" else TIMES.clamp(max=979)
    found = model.noise_loss(batch, latents, noise, times, NOBODY)

    alphas = model.schedule.alphas_cumprod.double().numpy()
    context = model.conditioner(batch, NOBODY)
    null = model.conditioner(batch, ~NOBODY)
    first = build_parts(config).unet

    def asked(unet, row, x, t, seen):
        seen = type(seen)(*(None if field is None else field[row : row + 1] for field in seen))
        x = torch.from_numpy(x).float()[None]
        with torch.no_grad():
            return unet(x, torch.tensor([t]), **seen.unet_arguments()).sample[0].double().numpy()

    def clean_and_noise(out, x, t):
        a, s = np.sqrt(alphas[t]), np.sqrt(1 - alphas[t])
        if kind == "epsilon":
            return (x - s * out) / a, out
        if kind == "sample":
            return out, (x - a * out) / s
        return a * x - s * out, a * out + s * x

    def f(row, x, t):
        skip = 0.25 / ((10 * t) ** 2 + 0.25)
        out = 10 * t / np.sqrt((10 * t) ** 2 + 0.25)
        return skip * x + out * clean_and_noise(asked(model.unet, row, x, t, context), x, t)[0]

    total = 0
    for row, t in enumerate(times.tolist()):
        z, e = latents[row].double().numpy(), noise[row].double().numpy()
        x, s = np.sqrt(alphas[t]) * z + np.sqrt(1 - alphas[t]) * e, max(t - 1000 // steps, 0)
        both = [clean_and_noise(asked(first, row, x, t, c), x, t) for c in (context, null)]
        (clean, eps), (clean0, eps0) = both
        clean, eps = clean0 + scale * (clean - clean0), eps0 + scale * (eps - eps0)
        before = np.sqrt(alphas[s]) * clean + np.sqrt(1 - alphas[s]) * eps
        off = f(row, x, t) - f(row, before, s)
        total += np.mean(np.sqrt(off**2 + 1e-6) - 1e-3) / len(times)
    assert found.item() == pytest.approx(total, rel=1e-4) and total > 1e-3


@pytest.mark.parametrize("config", [EPSILON, SAMPLE], ids=["epsilon", "sample"])
def test_at_the_boundary_it_answers_with_what_it_is_given(batch, config):
    model = moved(distilled(config))
    noisy = torch.randn(8, 4, 8, 8)
    context = model.conditioner(batch, NOBODY)
    assert torch.equal(model.answer(noisy, torch.zeros(8, dtype=torch.long), context), noisy)
    assert not torch.allclose(model.answer(noisy, TIMES, context), noisy, atol=0.1)


@pytest.mark.parametrize("config", [EPSILON, SAMPLE], ids=["epsilon", "sample"])
def test_it_trains_what_the_sampler_takes_for_clean_latents(batch, config):
    model = moved(distilled(config))
    scheduler = sampling_scheduler("lcm", config)
    assert type(scheduler) is LCMScheduler
    scheduler.set_timesteps(4)
    assert {int(t) for t in scheduler.timesteps} <= {*range(19, 1000, 20)}
    context = model.conditioner(batch, NOBODY)
    for t in scheduler.timesteps[1:]:
        noisy = torch.randn(8, 4, 8, 8)
        out = model.unet(noisy, t, **context.unet_arguments()).sample
        scheduler._step_index = None
        taken = scheduler.step(out, t, noisy).denoised
        torch.testing.assert_close(model.answer(noisy, t.expand(8), context), taken)


def test_timesteps_are_the_samplers(batch):
    model = distilled(teacher_steps=10)
    _, times = model._draws(torch.zeros(4000, 1, 1, 1), torch.Generator().manual_seed(0))
    assert {*times.tolist()} == {*range(19, 1000, 20)}


@pytest.mark.parametrize("how", [{}, {"lora": True}, {"frozen_dtype": torch.bfloat16}])
def test_only_the_u_net_trains_also_under_autocast(batch, how):
    """Weights that are cast for the target, without gradients, must not be used for the rest."""
    model = moved(distilled(guidance_scale=2.0, **how))
    teacher = model.teacher.unet.state_dict() if model.teacher else {}
    before = {name: value.clone() for name, value in teacher.items()}
    with torch.autocast("cpu", torch.bfloat16):
        model.training_step(batch, 0).backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    wanted = {
        name for name, _ in model.named_parameters()
        if name.startswith("unet.") and (".lora_" in name or "lora" not in how)
    }  # fmt: skip
    assert wanted - reached <= {n for n in wanted if n.endswith(("to_k.bias", "to_q.bias"))}
    assert reached <= wanted
    for name, value in before.items():
        assert torch.equal(value, teacher[name])
    assert not any("teacher" in name for name in model.state_dict())
    model.load_state_dict(model.state_dict())  # nothing is missed
    with pytest.raises(RuntimeError, match="Missing"):
        model.load_state_dict({k: v for k, v in model.state_dict().items() if "mid" not in k})
    assert not any(part.training for part in model.conditioner.encoders)


def test_less_memory_is_the_same_step(batch):
    pictures = ("target_images", "history_images")
    batch = {**batch, **{key: batch[key].double() for key in pictures}}

    def gradients(**how):
        model = moved(distilled(guidance_scale=2.0, **how)).double()  # rounding is no difference
        latents, noise = draws(batch, model)
        model.noise_loss(batch, latents, noise.double(), TIMES.clamp(max=979), NOBODY).backward()
        return [p.grad for p in model.unet.parameters()]

    how = {"frames_per_micro_batch": 3, "gradient_checkpointing": True}
    for one, other in zip(gradients(), gradients(**how), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-6)


@pytest.mark.long
def test_a_short_training_brings_one_step_nearer_to_where_many_of_the_teacher_end(batch):
    model = distilled(SAMPLE, teacher_steps=5)
    latents, noise = draws(batch, model)
    context = model.conditioner(batch, NOBODY)
    scheduler = sampling_scheduler("ddim", SAMPLE)
    scheduler.set_timesteps(50)
    end = noise
    with torch.no_grad():
        for t in scheduler.timesteps:
            out = model.teacher.unet(end, t, **context.unet_arguments()).sample
            end = scheduler.step(out, t, end).prev_sample

    @torch.no_grad()
    def error():
        return (model.answer(noise, torch.full((8,), 999), context) - end).square().mean().item()

    before = error()
    optimizer = torch.optim.Adam(model.unet.parameters(), 5e-4)
    for step in range(80):
        torch.manual_seed(step)
        model.training_step(batch, 0).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert error() < 0.8 * before
