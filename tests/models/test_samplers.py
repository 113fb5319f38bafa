"""Samplers on schedules like Stable Diffusion's agree on where one noise leads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_parts import EPSILON, build_parts, quiet
from torch import nn

from models.pipeline import StoryPipeline
from models.schedulers import training_schedule

CAPTIONS = [["Luna sits."], ["Pip runs."]]


class Denoiser(nn.Module):
    """The best possible noise prediction for pixels spread around `mean` by `std`."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.mean = torch.rand(3, 8, 8, generator=generator) - 0.5
        self.std = 0.05 + 0.15 * torch.rand(3, 8, 8, generator=generator)
        self.config = SimpleNamespace(in_channels=3)
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.alphas = training_schedule(EPSILON).alphas_cumprod
        self.calls = 0

    def forward(self, noisy, t, encoder_hidden_states, encoder_attention_mask):
        self.calls += 1
        place = float(t)  # some samplers stop between two steps
        low = int(place)
        share = place - low
        logs = self.alphas.log()
        alpha = (logs[low] * (1 - share) + logs[min(low + 1, 999)] * share).exp()
        noise = (1 - alpha).sqrt() * (noisy - alpha.sqrt() * self.mean)
        return SimpleNamespace(sample=noise / (alpha * self.std**2 + 1 - alpha))


def draw(name: str, steps: int):
    parts = build_parts(EPSILON, identity_vae=True)
    parts.unet = Denoiser()
    noise = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    frames = quiet(parts, name)(
        CAPTIONS, num_inference_steps=steps, guidance_scale=1, generator=noise, output_type="uint8"
    ).frames
    return frames.float(), parts.unet.calls


@pytest.fixture(scope="module")
def truth():
    """Where DDIM ends in the limit of small steps."""
    return draw("ddim", 500)[0]


@pytest.mark.parametrize("name, steps", [
    ("ddim", 250), ("pndm", 50), ("dpm++", 20), ("unipc", 20), ("euler", 40),
])  # fmt: skip
def test_few_steps_of_any_sampler_lead_where_many_of_ddim_do(truth, name, steps):
    frames, calls = draw(name, steps)
    assert calls == steps + (name == "pndm")
    # Of 255; frames differ by their pixels' own means and by the noise they start from.
    assert (frames - truth).abs().mean() < 1
    assert (truth[0] - truth[1]).abs().mean() > 10
    assert truth.std() > 25


@pytest.mark.parametrize("name, steps", [("sde-dpm++", 40), ("euler-a", 400)])
def test_samplers_with_noise_draw_from_the_right_distribution(truth, name, steps):
    """Every pixel around its mean, as far as its spread says; another noise, another picture."""
    frames, _ = draw(name, steps)
    denoiser = Denoiser()
    off = frames / 127.5 - 1 - 2 * denoiser.mean  # the identity VAE halves pictures
    scores = off / (2 * denoiser.std)
    assert abs(scores.mean()) < 0.15 and abs(scores.std() - 1) < 0.25
    assert (frames - truth).abs().mean() > 10
    assert torch.equal(frames, draw(name, steps)[0])


def test_one_step_of_lcm_is_what_the_model_takes_for_clean():
    """Of what was not distilled, from noise alone: the mean of all pictures."""
    frames, calls = draw("lcm", 1)
    means = (2 * Denoiser().mean + 1).clamp(0, 2) * 127.5
    assert calls == 1 and (frames - means).abs().mean() < 2


@pytest.mark.parametrize("name", ["ddim", "pndm", "lcm"])
def test_the_progress_bar_ends_with_the_last_call(name, monkeypatch):
    totals, updates = [], []

    class Bar:
        def __init__(self, total):
            totals.append(total)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self):
            updates.append(1)

    monkeypatch.setattr(StoryPipeline, "progress_bar", lambda self, total: Bar(total))
    _, calls = draw(name, 4)
    assert totals == [calls] and len(updates) == calls
