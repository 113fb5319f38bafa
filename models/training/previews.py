"""Stories drawn while training, to see how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torchvision.utils import make_grid

from common.files import replacing
from models.pipeline import StoryPipeline
from models.story_batch import StoryPrompt

__all__ = ["Previews"]


class Previews(pl.Callback):
    """Draws stories before training and every few epochs or steps, into a PNG and the log.

    A row each, always from the same noise, so that pictures can be compared.

    Args:
        every_n_epochs, every_n_steps: None: not so.
        scheduler: its name; sampling: as `StoryPipeline.draw` takes it.
        prompts: stories to draw; None: the first validation stories.
    """

    def __init__(
        self,
        folder: Path,
        every_n_epochs: int | None,
        every_n_steps: int | None,
        scheduler: str,
        sampling: dict,
        prompts: Sequence[StoryPrompt] | None = None,
    ) -> None:
        self.folder = folder
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self.scheduler = scheduler
        self.sampling = sampling
        self.prompts = prompts

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.pipeline = StoryPipeline.from_components(module.parts, self.scheduler)
        self.pipeline.set_progress_bar_config(disable=True)
        if self.prompts is None:
            self.prompts = trainer.datamodule.prompts("val", 4)
        if trainer.global_step == 0:
            self._draw_between_steps(trainer, module)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if whole and self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._draw_between_steps(trainer, module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._draw(trainer, f"epoch-{epoch:04d}")

    def _draw_between_steps(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """With the weights of this step, though an average of them may be kept."""
        module.eval()
        self._draw(trainer, f"step-{trainer.global_step:06d}")
        module.train()

    def _draw(self, trainer: pl.Trainer, name: str) -> None:
        # All processes draw, as sharded weights would need; the first one keeps it.
        with trainer.precision_plugin.forward_context():
            drawn = [self.pipeline.draw([one], **self.sampling).frames[0] for one in self.prompts]
        if trainer.is_global_zero:  # of (K, 3, H, W), K a story's own
            longest = max(map(len, drawn))
            rows = [F.pad(one, (0, 0) * 3 + (0, longest - len(one)), value=255) for one in drawn]
            grid = make_grid(torch.cat(rows).cpu(), nrow=longest)
            path = self.folder / f"{name}.png"
            with replacing(path) as temporary:
                Image.fromarray(grid.permute(1, 2, 0).numpy()).save(temporary, "PNG")
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("stories", grid, trainer.global_step)
                elif isinstance(logger, WandbLogger):
                    logger.log_image("stories", [str(path)], trainer.global_step)
