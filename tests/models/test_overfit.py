"""The whole loop on one story: training drives the loss to near zero, sampling gives it back."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import tiny_parts
import torch
from tiny_parts import SAMPLE, build_parts, random_frames, story_batch
from torch import Tensor
from torch.utils.data import DataLoader

from models.training.story_model import StoryModel

# Two captions are alike: only what came before them says which picture is meant.
CAPTIONS = [["Luna sits on the beach.", "She waves.", "Pip runs.", "She waves."]]
STEPS, COPIES = 120, 3  # of the story in a batch


class Keep(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.losses.append(outputs["loss"].item())


def halves(seed: int) -> Tensor:
    """A story of four 8x8 pictures, each with a colour on the left and one on the right."""
    colours = random_frames(1, 4, 2, seed)[..., :1, :]  # (1, 4, 3, 1, 2)
    return colours.expand(-1, -1, -1, 8, -1).repeat_interleave(4, dim=-1)


def psnr(drawn: Tensor, truth: Tensor) -> float:
    error = (drawn.float() - truth.float()).square().mean()
    return (10 * torch.log10(255**2 / error.clamp(min=1e-3))).item()


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    pl.seed_everything(0)
    parts = build_parts(SAMPLE, identity_vae=True, dropout=0.0)
    truth = halves(seed=0)
    batch = story_batch(parts, CAPTIONS * COPIES, truth.repeat(COPIES, 1, 1, 1, 1))
    model = StoryModel(parts, init_lr=4e-3, weight_decay=0.0, warmup_steps=8)
    keep = Keep()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=STEPS, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0,
        callbacks=[keep], default_root_dir=tmp_path_factory.mktemp("fit"),
    )  # fmt: skip
    trainer.fit(model, DataLoader([batch] * STEPS, batch_size=None))
    return model.eval(), truth, keep.losses


def draw(model: StoryModel, captions, **how) -> Tensor:
    how = {"num_inference_steps": 4, "guidance_scale": 1.0, **how}
    return tiny_parts.draw(model.parts, captions, 5, **how).frames


def test_the_loss_goes_to_near_zero(learned):
    losses = torch.tensor(learned[2])
    assert len(losses) == STEPS
    assert losses[-20:].mean() < 0.06 * losses[:5].mean()


def test_the_story_is_drawn_again(learned):
    model, truth, _ = learned
    frames = draw(model, CAPTIONS)[0]
    for k in range(4):
        assert psnr(frames[k], truth[0, k]) > 20
        others = [psnr(frames[k], truth[0, other]) for other in range(4) if other != k]
        assert max(others) < 13
    assert psnr(frames, halves(seed=1)[0]) < 12


def test_guidance_keeps_the_story(learned):
    model, truth, _ = learned
    assert psnr(draw(model, CAPTIONS, guidance_scale=1.5)[0], truth[0]) > 18


def test_without_history_equal_captions_give_equal_pictures(learned):
    model, truth, _ = learned
    frames = draw(model, CAPTIONS, use_history=False)[0]
    assert psnr(frames[0], truth[0, 0]) > 20  # it never saw any
    assert psnr(frames[1], frames[3]) > 20 > 12 > psnr(truth[0, 1], truth[0, 3])
    assert min(psnr(frames[k], truth[0, k]) for k in (1, 3)) < 15
