"""Where the numbers of a training go."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from common.files import writing

__all__ = ["build_logger"]


def _without_writers(about: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread prints what it raises again in who logs next."""
    if type(about.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(about)


threading.excepthook = _without_writers


class _Telling:
    """Put before a logger, says where it cannot write, and what to do."""

    def log_metrics(self, *told: Any, **how: Any) -> None:
        with self._writing():
            try:
                super().log_metrics(*told, **how)
            except ValueError as error:  # as TensorBoard's calls all trouble
                raise error.__cause__ or error from None

    def log_hyperparams(self, *told: Any, **how: Any) -> None:
        with self._writing():
            super().log_hyperparams(*told, **how)

    def save(self) -> None:
        with self._writing():
            super().save()

    def finalize(self, status: str) -> None:
        with self._writing():
            super().finalize(status)

    def _writing(self):
        return writing(Path(self.save_dir) / "logs", otherwise="set logger=none")


class _TensorBoard(_Telling, TensorBoardLogger): ...


class _CSV(_Telling, CSVLogger): ...


class _Wandb(_Telling, WandbLogger): ...


def build_logger(kind: str, folder: Path, run_name: str) -> Logger | bool:
    """The logger called `kind`, beside a run's checkpoints; False: none."""
    if kind == "none":
        return False
    if kind == "wandb":
        return _Wandb(run_name, save_dir=folder)
    return {"tensorboard": _TensorBoard, "csv": _CSV}[kind](folder, name="logs")
