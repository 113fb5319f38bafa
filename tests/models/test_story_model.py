"""What is trained, on what, and at which rate; what repeats exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from diffusers.configuration_utils import FrozenDict
from tiny_parts import (
    EPSILON,
    SAMPLE,
    STORIES,
    build_parts,
)
from torch.utils.data import DataLoader

from benchmarks.random_parts import Sizes, random_parts
from models.training.story_model import StoryModel

CAPTIONS = [STORIES[0], STORIES[2]]  # 2 stories of 4 frames
FREEZES = ("clip", "blip", "resnet")
CALM = "ignore:.*(in eval mode|does not have many workers|no `val_dataloader`)"
pytestmark = pytest.mark.filterwarnings(CALM)


def trainer(tmp_path, **how):
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path, **how,
    )  # fmt: skip


def loader(batch, count):
    return DataLoader([batch] * count, batch_size=None)


# What is trained

TABLES = {"conditioner.type_embeddings.weight", "conditioner.time_embeddings.weight"}
CLIP_TOKENS = "conditioner.text_encoder.embeddings.token_embedding.weight"
BLIP_TOKENS = "conditioner.multimodal_encoder.embeddings.word_embeddings.weight"


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("blip", [False, True])
@pytest.mark.parametrize("resnet", [False, True])
def test_exactly_what_is_not_frozen_is_trained(clip, blip, resnet):
    model = StoryModel(build_parts(), freeze_clip=clip, freeze_blip=blip, freeze_resnet=resnet)
    expected = set()
    for name, _ in model.named_parameters():
        part = ".".join(name.split(".")[:2])
        if part == "conditioner.text_encoder":
            trained = not clip or name == CLIP_TOKENS
        elif part in ("conditioner.vision_encoder", "conditioner.multimodal_encoder"):
            trained = not blip or name == BLIP_TOKENS
        elif name.startswith("unet."):
            trained = not resnet or ".attentions." in name
        else:
            assert name.startswith("vae.") or name in TABLES, name
            trained = name in TABLES
        expected |= {name} if trained else set()
    got = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert got == expected
    assert TABLES | {CLIP_TOKENS, BLIP_TOKENS} <= got
    frozen = [model.vae] + [model.conditioner.text_encoder] * clip
    frozen += [model.conditioner.vision_encoder, model.conditioner.multimodal_encoder] * blip
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for part in frozen for module in part.modules())
        assert all(module.training == mode for module in model.unet.modules())
        assert model.conditioner.text_encoder.training == (mode and not clip)
        assert model.conditioner.multimodal_encoder.training == (mode and not blip)


def test_at_full_size_there_is_as_much_as_in_the_original():
    with torch.device("meta"):
        parts = random_parts(Sizes())
    for freeze, tensors, millions in ((False, 1494, 1427.9), (True, 420, 328.7)):
        model = StoryModel(parts, **{f"freeze_{part}": freeze for part in FREEZES})
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert len(model.state_dict()) == 1742  # 1747 less position numbers and null tokens
        assert len(trained) == tensors
        counts = [sum(p.numel() for p in some) / 1e6 for some in (
            model.parameters(), model.unet.parameters(), trained,
        )]  # fmt: skip
        assert counts == pytest.approx([1511.5, 859.5, millions], abs=0.1)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_fit_moves_what_is_trained_in_training_mode(batch, tmp_path, freeze):
    """Also what the library hands over in evaluation mode, where BLIP would not drop out."""
    how = {f"freeze_{part}": freeze for part in FREEZES}
    model = StoryModel(build_parts(), init_lr=1e-2, classifier_free_rate=0.5, **how)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = []
    model.conditioner.multimodal_encoder.register_forward_pre_hook(
        lambda module, args: modes.append(module.training)
    )
    trainer(tmp_path, max_steps=2).fit(model, loader(batch, 2))
    assert set(modes) == {not freeze}
    unused = ("pooler", "unet.conv_norm_out")
    for name, parameter in model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        if not parameter.requires_grad:
            assert not moved, name
        elif not any(word in name for word in unused):
            assert moved, name


def test_the_unet_outside_cross_attention_moves_by_its_own_rate(batch, tmp_path):
    """AdamW's first step is as long as the rate, for every number that has a gradient."""
    how = {"init_lr": 1e-2, "unet_lr_scale": 0.25, "weight_decay": 0.0, "classifier_free_rate": 0.0}
    model = StoryModel(build_parts(), **how)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer(tmp_path, max_steps=1).fit(model, loader(batch, 1))
    shares = {True: [], False: []}  # of the rate, for what should be slow and what should not
    for name, parameter in model.named_parameters():
        slow = name.startswith("unet.") and ".attn2." not in name
        length = (parameter - before[name]).abs().max().item()
        shares[slow].append(length / (2.5e-3 if slow else 1e-2))
    for some in shares.values():
        assert max(some) == pytest.approx(1, abs=1e-3)
        assert np.median([share for share in some if share]) == pytest.approx(1, abs=1e-3)


# What the loss is


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_loss_is_that_of_the_models_prediction_type(batch, kind):
    config = FrozenDict({**(SAMPLE if kind != "epsilon" else EPSILON), "prediction_type": kind})
    model = StoryModel(build_parts(config)).eval()
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 8, 4, 8, 8, generator=generator)
    timesteps = torch.tensor([0, 10, 100, 300, 500, 700, 900, 999])
    calls = []
    model.unet.register_forward_hook(
        lambda module, args, output: calls.append((args, output.sample))
    )
    with torch.no_grad():
        loss = model.noise_loss(batch, latents, noise, timesteps, torch.zeros(8).bool())
    ((noisy, t), predicted) = calls[0]
    alpha = model.schedule.alphas_cumprod[timesteps].view(8, 1, 1, 1)
    torch.testing.assert_close(noisy, alpha.sqrt() * latents + (1 - alpha).sqrt() * noise)
    target = {
        "epsilon": noise, "sample": latents,
        "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * latents,
    }[kind]  # fmt: skip
    torch.testing.assert_close(loss, (predicted - target).square().mean())
    assert torch.equal(t, timesteps)


class Draws:
    """A model whose `noise_loss` only notes what it was asked."""

    def __init__(self, rate: float, times: int) -> None:
        model = StoryModel(build_parts(), classifier_free_rate=rate)
        model.log = lambda *args, **kwargs: None
        model.noise_loss = lambda *args: self.calls.append(args[1:]) or torch.zeros(())
        self.calls: list[tuple] = []
        stories, frames = 20, 5
        zeros = torch.zeros(stories, frames, 1, 2, 2)
        batch = {"latents_mean": zeros, "latents_std": zeros, "story_id": ["a"] * stories}
        torch.manual_seed(0)
        for i in range(times):
            model.training_step(batch, i)
        self.noise, self.timesteps, self.dropped = (
            torch.stack(part).unflatten(1, (stories, frames)).flatten(0, 1)
            for part in list(zip(*self.calls, strict=True))[1:]
        )  # (stories of all steps, frames, ...)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_classifier_free_rate_is_that_of_each_frame_alone(rate):
    dropped = Draws(rate, 200).dropped  # 4000 stories of 5 frames
    count, frames = dropped.numel(), dropped.shape[1]
    bound = 4.5 * math.sqrt(count * rate * (1 - rate))
    assert abs(dropped.sum().item() - count * rate) < bound
    for frame in range(frames):  # no frame is favoured
        spread = 4.5 * math.sqrt(len(dropped) * rate * (1 - rate))
        assert abs(dropped[:, frame].sum().item() - len(dropped) * rate) < spread
    # Drawn by story, all or no frames of a story would be dropped.
    alike = rate**frames + (1 - rate) ** frames
    seen = (dropped.all(1) | ~dropped.any(1)).sum().item()
    spread = 4.5 * math.sqrt(len(dropped) * alike * (1 - alike))
    assert abs(seen - len(dropped) * alike) < spread


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_classifier_free_rates_of_none_and_all_are_exact(rate):
    assert (Draws(rate, 20).dropped == bool(rate)).all()


def test_timesteps_and_noise_are_each_frames_own():
    draws = Draws(0.1, 100)
    steps = draws.timesteps.flatten()
    assert steps.min() >= 0 and steps.max() <= 999
    assert len(steps.unique()) > 990  # of 10,000 uniform draws: all but 0.05 of the 1000
    assert (draws.timesteps[:, 0] == draws.timesteps[:, 1]).float().mean() < 0.02
    assert draws.noise.flatten(2)[:, :, 0].unique().numel() == steps.numel()
    assert abs(draws.noise.std() - 1) < 0.02


# The learning rate


class Rates(pl.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


class OneNumber(StoryModel):
    """The real optimiser and schedule, around a loss that costs nothing."""

    def training_step(self, batch, batch_idx):
        return self.conditioner.type_embeddings.weight.sum()


@pytest.mark.parametrize("batches, accumulate, warmup, how", [
    (5, 2, 0, {"max_epochs": 3}),  # 2 full and 1 rest a pass: 9 steps
    (5, 2, 4, {"max_epochs": 3}),
    (6, 1, 3, {"max_epochs": 2}),
    (4, 1, 2, {"max_epochs": -1, "max_steps": 10}),
    (4, 1, 2, {"max_epochs": 5, "max_steps": 7}),
])  # fmt: skip
def test_the_cosine_ends_with_the_training(batches, accumulate, warmup, how, tmp_path):
    rates = Rates()
    model = OneNumber(build_parts(), init_lr=0.01, warmup_steps=warmup)
    run = trainer(tmp_path, accumulate_grad_batches=accumulate, callbacks=[rates], **how)
    run.fit(model, loader({"x": 0}, batches))
    epochs = how["max_epochs"] if how["max_epochs"] > 0 else 99
    steps = min(how.get("max_steps", 99), epochs * math.ceil(batches / accumulate))
    assert len(rates.rates) == steps == run.global_step
    expected = [(i + 1) / (warmup + 1) for i in range(warmup)]
    rest = steps - warmup
    expected += [0.5 + 0.5 * math.cos(math.pi * i / rest) for i in range(rest)]
    assert rates.rates == pytest.approx([0.01 * factor for factor in expected])
    assert rates.rates[0] > 0 and max(rates.rates) == pytest.approx(0.01)
    assert rates.rates[-1] < 0.1 * 0.01
    final = run.optimizers[0].param_groups[0]["lr"]  # for the step after the last
    assert final == pytest.approx(0, abs=1e-9)


# What repeats exactly


def test_validation_noise_is_a_batchs_own_and_takes_none_from_training(batch):
    model = StoryModel(build_parts()).eval()
    losses = []
    model.log = lambda name, value, **how: losses.append(value.item())
    state = torch.get_rng_state()
    with torch.no_grad():
        for index in (0, 1, 0):
            model.validation_step(batch, index)
    assert losses[0] == losses[2] != losses[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_has_draws_of_its_own(monkeypatch):
    """By seed, rank, epoch and place in the epoch, whatever was drawn before."""

    def drawn(seed=5, rank=0, epoch=0, batch=0):
        model = StoryModel(build_parts())
        monkeypatch.setattr(StoryModel, "global_rank", rank)
        monkeypatch.setattr(StoryModel, "current_epoch", epoch)
        torch.manual_seed(seed)
        model.on_fit_start()
        torch.rand(batch)
        model.on_train_batch_start({}, batch)
        return tuple(torch.rand(4).tolist())

    changes = ({}, {"seed": 6}, {"rank": 1}, {"rank": 2}, {"epoch": 1}, {"batch": 1}, {"batch": 2})
    draws = [drawn(**change) for change in changes]
    assert len(set(draws)) == len(changes)
    assert draws == [drawn(**change) for change in changes]
