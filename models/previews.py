"""Stories drawn while training, to see how it goes."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torchvision.io import write_png
from torchvision.utils import make_grid

__all__ = ["Previews"]


class Previews(pl.Callback):
    """Every few epochs draws the first validation stories, a row each, into a PNG and the log.

    It samples as `predict_step` does, always with the same noise, so that pictures can be compared.
    """

    def __init__(self, folder: Path, every_n_epochs: int, stories: int = 4) -> None:
        self.folder = folder
        self.every_n_epochs = every_n_epochs
        self.stories = stories

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs:
            return
        # All processes draw, as sharded weights would need; the first one keeps it.
        data = trainer.datamodule.dataset("val", raw_frames=True)
        picked = [data[i] for i in range(min(self.stories, len(data)))]
        batch = trainer.val_dataloaders.collate_fn(picked)
        with trainer.precision_plugin.forward_context():
            frames = module.predict_step(batch, 0).frames  # (B, K, 3, H, W)
        if trainer.is_global_zero:
            grid = make_grid(frames.flatten(0, 1).cpu(), nrow=frames.shape[1])
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"epoch-{epoch:04d}.png"
            write_png(grid, str(path))
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("stories", grid, trainer.global_step)
                elif isinstance(logger, WandbLogger):
                    logger.log_image("stories", [str(path)], trainer.global_step)
