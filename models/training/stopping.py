"""Ends training between two optimiser steps: when a signal asks for it, or the numbers do."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from common.interrupts import FROM_OUTSIDE, REQUEUE
from common.terminal import setting
from models.checkpoints.run_folder import LAST, NON_FINITE
from models.checkpoints.weights import not_finite
from models.main_process import say
from models.training.callbacks import LastCheckpoint

__all__ = ["StopAtNonFinite", "StopOnSignal", "requeue"]

_SIGNALS = (signal.SIGINT, *FROM_OUTSIDE)


class StopOnSignal(Checkpoint):
    """SIGTERM, SIGUSR1 and Ctrl-C end training after the optimiser step at hand, and save first.

    Lightning's own handlers save in the middle of a step, or not at all. SIGUSR1 also asks SLURM to
    start the job again, as Lightning's does. A second Ctrl-C ends it at once. Being a `Checkpoint`,
    Lightning calls it after the other callbacks.

    Args:
        goes_on: whether the same command takes training up again. Else SLURM is not asked.
    """

    def __init__(self, folder: Path, last: LastCheckpoint, goes_on: bool = True) -> None:
        self.path, self.last, self.goes_on = folder / LAST, last, goes_on
        self.signal = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Only now, as Lightning sets its own just before; it puts back what was there at the end.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        name = signal.Signals(number).name
        # Not print: the signal may have come within one.
        os.write(2, f"\n{name}: training stops after this step and saves\n".encode())

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        loop = trainer.fit_loop.epoch_loop
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            if not loop.batch_progress.is_last_batch and self._asked(trainer):
                trainer.save_checkpoint(self.path)
                self._stop(trainer)

    def on_train_epoch_end(self, trainer, module) -> None:
        if self._asked(trainer):
            self.last.write(trainer, module)
            self._stop(trainer)

    def _asked(self, trainer: pl.Trainer) -> bool:
        """Whether any of the processes had a signal."""
        if trainer.received_sigterm:  # before training began
            self.signal = self.signal or signal.SIGTERM
        if trainer.world_size > 1:
            number = torch.tensor(self.signal, device=trainer.strategy.root_device)
            self.signal = int(trainer.strategy.reduce(number, reduce_op="max"))
        return bool(self.signal)

    def _stop(self, trainer: pl.Trainer) -> None:
        trainer.strategy.barrier()
        name = signal.Signals(self.signal).name
        if trainer.is_global_zero:
            more = "the same command goes on from it"
            if not self.goes_on:
                more = "with resume=auto it can be gone on from; resume=never starts anew"
            print(f"\nStopped by {name}: {self.path} is saved, {more}")
            if self.signal == REQUEUE and self.goes_on:
                requeue()
        raise SystemExit(128 + self.signal)


def requeue() -> None:
    """Have SLURM start this job again, if this is one."""
    job = os.environ.get("SLURM_JOB_ID")
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    if job is None:
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except OSError:
        done = False
    print(f"SLURM starts job {job} again" if done else f"scontrol could not requeue job {job}")


class StopAtNonFinite(Callback):
    """Stops before an optimiser step whose loss or gradient norm is not finite.

    What leads there is saved as `non_finite.ckpt`: training taken up from it comes to that step
    again. With `optimizer_in_backward` the backward pass makes the step, so the loss alone is
    judged, before it.

    Args:
        allowed: so many such steps of a run are left out instead.
    """

    def __init__(self, folder: Path, allowed: int = 0) -> None:
        self.path = folder / NON_FINITE
        self.allowed = allowed
        self.skipped = 0
        self._losses: list[Tensor] = []
        self._stories: list[list[str]] = []

    def state_dict(self) -> dict:
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict) -> None:
        self.skipped = state["skipped"]

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._losses, self._stories = [], []
        self._stories.append(batch["story_id"])

    def on_before_backward(self, trainer, module, loss: Tensor) -> None:
        self._losses.append(loss.detach())
        if module.optimizer_in_backward:
            module.leaves_out_backward = not self._may_step(trainer, module, self._losses)

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        if module.optimizer_in_backward:
            return
        numbers = [loss.float() for loss in self._losses]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        plugin = trainer.precision_plugin
        scaled = isinstance(plugin, MixedPrecision) and plugin.scaler is not None
        if not scaled:  # a gradient scaler tries too large a scale on purpose, and leaves that out
            gradients = [p.grad for p in parameters if p.grad is not None]
            numbers.append(torch.nn.utils.get_total_norm(gradients))
            module.log("gradient_norm", numbers[-1], logger=False)
        if not self._may_step(trainer, module, numbers):
            for parameter in parameters:
                parameter.grad = None

    def _may_step(self, trainer: pl.Trainer, module: pl.LightningModule, numbers: list) -> bool:
        """Whether all of the step's losses, and what comes after them in `numbers`, are finite;
        False if it is to be left out, ValueError if training is to end."""
        finite = torch.stack(numbers).isfinite()
        if trainer.strategy.reduce_boolean_decision(bool(finite.all())):
            return True
        ruined = [ids for ids, fine in zip(self._stories, finite, strict=False) if not fine]
        ids = ", ".join(dict.fromkeys(sum(ruined or self._stories, [])))
        what = "loss" if ruined else "gradient"
        step = f"the {what} of step {trainer.global_step + 1} (stories {ids}) is not finite"
        if not_finite(module.state_dict()):  # another step would be no better
            raise ValueError(
                f"{step}, and neither are the weights by now: training stopped, with {LAST} as it "
                f"was; lower init_lr"
            )
        if self.skipped < self.allowed:
            self.skipped += 1
            say(f"{step}: left out, {self.skipped} of max_skipped_steps={self.allowed}")
            return False
        trainer.save_checkpoint(self.path)
        raise ValueError(
            f"{step}: training stopped before it, with {LAST} as it was; lower init_lr, or leave "
            f"such steps out with max_skipped_steps=10; {setting('train_model_file', self.path)} "
            f"comes to it again"
        )
