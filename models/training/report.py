"""What training tells of itself: what trains, the course of it in a bar on a terminal, as lines
elsewhere and in the log, and what came of it."""

from __future__ import annotations

import sys
import time

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import Tensor, nn

from models.training.tuning import parameters_by_part

__all__ = ["TrainingReport", "trainable_table"]

EVERY_SECONDS = 30.0  # between two lines


def peak_memory() -> int:
    """The most bytes of memory that this process has had."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # there is none on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trainable_table(model: nn.Module) -> str:
    """What trains, part by part."""
    counts = parameters_by_part(model)
    lines = [f"{'part':32}{'trains':>14}{'of':>14}"]
    for part, (trains, numbers) in counts.items():
        lines.append(f"{part:32}{trains:14,}{numbers:14,}")
    sums = (sum(column) for column in zip(*counts.values(), strict=True))
    return "\n".join([*lines, "{:32}{:14,}{:14,}".format("all", *sums)])


class TrainingReport(TQDMProgressBar):
    """Mean loss since the last entry, learning rate, gradient norm, stories a second, peak memory.

    Every `log_every_n_steps` and at the end of an epoch they go into the log; on a terminal the bar
    shows them, elsewhere a line every half minute does.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        self.shown: dict[str, float] = {}
        self.first_loss: float | None = None  # of the first entry of this run
        self.terminal = sys.stderr.isatty()
        if not self.terminal:
            self.disable()

    @property
    def total_train_batches(self) -> int | float:
        """Of this epoch, of which `max_steps` may leave a part."""
        trainer, total = self.trainer, super().total_train_batches
        if trainer.max_steps < 0:
            return total
        batches = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
        return min(total, trainer.fit_loop.batch_idx + 1 + batches)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        super().on_train_start(trainer, module)
        self.terminal = self.terminal or not trainer.is_global_zero
        self.first_step, self.began, self.said = trainer.global_step, time.monotonic(), 0.0
        self._start_anew()

    def _start_anew(self) -> None:
        self._losses: list[Tensor] = []
        self._stories, self._since = 0, time.monotonic()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        # Lightning hands over the batch's share of a step's gradient.
        self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)
        self._stories += len(batch["story_id"]) * trainer.world_size
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        last = trainer.is_last_batch or trainer.global_step == trainer.max_steps
        if last or (whole and trainer.global_step % trainer.log_every_n_steps == 0):
            self.shown = self._measure(trainer)
            if self.first_loss is None:
                self.first_loss = self.shown["loss"]
            entry = {**self.shown, "epoch": trainer.current_epoch}
            for logger in trainer.loggers:
                logger.log_metrics(entry, trainer.global_step)
            self._start_anew()
            if not self.terminal and (last or time.monotonic() > self.said + EVERY_SECONDS):
                self.said = time.monotonic()
                print(self._line(trainer), flush=True)
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def _measure(self, trainer: pl.Trainer) -> dict[str, float]:
        device = trainer.strategy.root_device
        cuda = device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(device) if cuda else peak_memory()
        norm = trainer.callback_metrics.get("gradient_norm")
        return {
            "loss": torch.stack(self._losses).mean().item(),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            **({} if norm is None else {"gradient_norm": float(norm)}),
            "stories_per_second": self._stories / max(time.monotonic() - self._since, 1e-9),
            "memory_gib": peak / 2**30,
        }

    def _line(self, trainer: pl.Trainer) -> str:
        step, all_steps = trainer.global_step, trainer.estimated_stepping_batches
        a_step = (time.monotonic() - self.began) / max(1, step - self.first_step)
        left = max(0.0, (all_steps - step) * a_step)
        values = ", ".join(f"{name.replace('_', ' ')} {v:.3g}" for name, v in self.shown.items())
        place = f"epoch {trainer.current_epoch + 1}, step {step} of {all_steps:.0f}"
        return f"{place}: {values}, {left / 60:.0f} min left"

    def summary(self, stories: int) -> str:
        """What was trained since the start of this program, and where the best of it is."""
        step, seconds = self.trainer.global_step, time.monotonic() - self.began
        said = f"Trained to step {step}, on {stories} stories: {step - self.first_step} steps in "
        said += f"{seconds / 60:.1f} min"
        if self.shown:
            said += f", loss {self.first_loss:.3g} at first, {self.shown['loss']:.3g} at the end"
        for saved in self.trainer.checkpoint_callbacks:
            if getattr(saved, "monitor", None) and (best := saved.best_model_path):
                said += f"\n{best}: the best, val_loss {saved.best_model_score:.4g}"
        return said

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict:
        metrics = super().get_metrics(trainer, module)
        for name in ("v_num", "gradient_norm"):
            metrics.pop(name, None)
        return {**metrics, **{name: f"{value:.3g}" for name, value in self.shown.items()}}
