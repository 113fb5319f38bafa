"""Stories drawn while training, to see how it goes."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torchvision.utils import make_grid

from common.files import replacing, writing
from models.pipeline import StoryPipeline

__all__ = ["Previews"]


class Previews(pl.Callback):
    """Every few epochs draws the first validation stories, a row each, into a PNG and the log.

    Always from the same noise, so that pictures can be compared. scheduler: its name; sampling: as
    `StoryPipeline.draw` takes it.
    """

    def __init__(
        self, folder: Path, every_n_epochs: int, scheduler: str, sampling: dict, stories: int = 4
    ) -> None:
        self.folder = folder
        self.every_n_epochs = every_n_epochs
        self.scheduler = scheduler
        self.sampling = sampling
        self.stories = stories

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.pipeline = StoryPipeline.from_components(module.parts, self.scheduler)
        self.pipeline.set_progress_bar_config(disable=True)
        self.prompts = trainer.datamodule.prompts("val", self.stories)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs:
            return
        # All processes draw, as sharded weights would need; the first one keeps it.
        with trainer.precision_plugin.forward_context():
            frames = self.pipeline.draw(self.prompts, **self.sampling).frames  # (B, K, 3, H, W)
        if trainer.is_global_zero:
            grid = make_grid(frames.flatten(0, 1).cpu(), nrow=frames.shape[1])
            path = self.folder / f"epoch-{epoch:04d}.png"
            with writing(path), replacing(path) as temporary:
                Image.fromarray(grid.permute(1, 2, 0).numpy()).save(temporary, "PNG")
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("stories", grid, trainer.global_step)
                elif isinstance(logger, WandbLogger):
                    logger.log_image("stories", [str(path)], trainer.global_step)
