"""Lightning's callbacks as training here needs them."""

from __future__ import annotations

from collections.abc import Callable

from pytorch_lightning.callbacks import Callback, ModelCheckpoint

__all__ = ["KeepConfiguration", "KeptCheckpoint", "TimedCheckpoint"]


class KeepConfiguration(Callback):
    """Puts the configuration of the run into its checkpoints, which are then enough to draw with.

    Args:
        config: the resolved configuration of this run; file: what config.yaml alone says.
        write: saves it as a file, called once by the first process.
    """

    def __init__(self, config: dict, file: dict, write: Callable[[], None]) -> None:
        self.content = {"config": config, "config_file": file}
        self.write = write

    def on_fit_start(self, trainer, module) -> None:
        if trainer.is_global_zero:
            self.write()

    def on_save_checkpoint(self, trainer, module, checkpoint: dict) -> None:
        checkpoint |= self.content


class KeptCheckpoint(ModelCheckpoint):
    """A class of its own: by that and their settings the library tells callbacks' states apart, and
    every epoch's checkpoint may be kept as well as the last."""


class TimedCheckpoint(ModelCheckpoint):
    """Saves between optimiser steps only: a checkpoint has no place for half of one's gradients."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
