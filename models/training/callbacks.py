"""Lightning's callbacks as training here needs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from models.checkpoints.run_folder import BEST, LAST

__all__ = [
    "BestCheckpoint", "KeepConfiguration", "KeptCheckpoint", "LastCheckpoint", "TimedCheckpoint",
]  # fmt: skip


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


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`, which stays the best where its run's folder was moved; the library would begin
    anew and put a worse one in its place.

    start: the checkpoint that training goes on from; None: it begins.
    """

    def __init__(self, start: Path | None, **how) -> None:
        super().__init__(filename=Path(BEST).stem, monitor="val_loss", **how)
        self.start = start

    def load_state_dict(self, state_dict: dict) -> None:
        best = Path(self.dirpath, BEST)
        if self.start and self.start.resolve().parent == best.parent and best.is_file():
            scores = {str(best): score for score in state_dict["best_k_models"].values()}
            at = dict.fromkeys(("best_model_path", "kth_best_model_path"), str(best))
            state_dict = {**state_dict, **at, "best_k_models": scores, "dirpath": self.dirpath}
        super().load_state_dict(state_dict)


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt` at the end of an epoch, unless one was written less than `seconds` ago: epochs of
    a few stories are over sooner than it is written. The last epoch, one that is the best, and
    one that a signal ends (`StopOnSignal` calls `write`) leave it always.
    """

    def __init__(self, seconds: float, **how) -> None:
        super().__init__(filename=Path(LAST).stem, save_on_train_epoch_end=True, **how)
        self.seconds, self.written = seconds, -float("inf")

    def on_train_epoch_end(self, trainer, module) -> None:
        loop, steps = trainer.fit_loop, trainer.global_step
        ends = trainer.should_stop or loop.epoch_progress.current.processed == loop.max_epochs
        best = [c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)]
        known = any(one._last_global_step_saved == steps for one in best)
        due = time.monotonic() - self.written >= self.seconds
        # All processes write together.
        if trainer.strategy.broadcast(ends or steps == trainer.max_steps or known or due):
            self.write(trainer, module)

    def write(self, trainer, module) -> None:
        """Write it, unless that was done after this step."""
        super().on_train_epoch_end(trainer, module)
        self.written = time.monotonic()


class KeptCheckpoint(ModelCheckpoint):
    """`epoch-0010.ckpt` after ten epochs, as they are counted elsewhere; the library says 9.

    A class of its own: by that and their settings it tells callbacks' states apart, and every
    epoch's checkpoint may be kept as well as the last.
    """

    def format_checkpoint_name(self, metrics, *arguments, **how) -> str:
        counted = {**metrics, "epoch": metrics["epoch"] + 1}
        return super().format_checkpoint_name(counted, *arguments, **how)


class TimedCheckpoint(ModelCheckpoint):
    """Saves between optimiser steps only: a checkpoint has no place for half of one's gradients."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
