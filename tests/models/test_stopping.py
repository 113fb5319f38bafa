"""What ends training between two steps, without a whole training."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from tiny_parts import build_parts
from torch.utils.data import DataLoader

from models.training.stopping import StopAtNonFinite
from models.training.story_model import StoryModel

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(in eval mode|does not have many workers|no `val_dataloader`)"
)


class OneTable(StoryModel):
    """The real model around a loss that costs nothing; `broken` says what it does at step 2."""

    def training_step(self, batch, batch_idx):
        self.now = self.conditioner.type_embeddings.weight.detach().clone()
        loss = self.conditioner.type_embeddings.weight.square().sum()
        return self.broken(loss) if batch_idx == 1 else loss


def fit(folder, broken, allowed=0):
    """The model and what judges its steps, after three steps or until it stops."""
    model = OneTable(build_parts(), optimizer_in_backward=True)
    model.broken, stops = broken, StopAtNonFinite(folder, allowed)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, max_epochs=1, callbacks=[stops],
    )  # fmt: skip
    batches = [{"story_id": [name]} for name in "abc"]
    try:
        trainer.fit(model, DataLoader(batches, batch_size=None))
    except ValueError as error:
        return model, str(error)
    return model, stops.skipped


def spoilt(loss):
    """A gradient that is not finite of a loss that is."""
    return (loss - loss.detach()).sqrt()


def test_a_loss_that_is_not_finite_moves_no_weight_in_backward(tmp_path):
    model, said = fit(tmp_path, lambda loss: loss * float("nan"))
    path = tmp_path / "non_finite.ckpt"
    assert said.startswith("the loss of step 2 (stories b) is not finite: ") and str(path) in said
    name = "conditioner.type_embeddings.weight"
    saved = torch.load(path, weights_only=True)["state_dict"][name]
    assert torch.equal(saved, model.state_dict()[name]) and saved.isfinite().all()


def test_such_a_step_is_left_out_in_backward(tmp_path):
    model, skipped = fit(tmp_path, lambda loss: loss * float("nan"), allowed=1)
    assert skipped == 1 and not list(tmp_path.iterdir())
    after = model.conditioner.type_embeddings.weight
    assert after.isfinite().all() and not torch.equal(after, model.now)  # the third was made


def test_what_is_not_there_is_not_named(tmp_path):
    _, said = fit(tmp_path, spoilt, allowed=9)
    assert said.startswith("the loss of step 3 (stories c) is not finite, and neither are the")
    assert "non_finite.ckpt" not in said and not list(tmp_path.iterdir())
