"""Writes a run's checkpoints so that a kill or a full disk at any moment leaves a good one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from common.files import replacing, writing
from models.checkpoints.file_kinds import check_sums
from models.checkpoints.run_folder import LAST, PREVIOUS
from models.checkpoints.weights import not_finite
from models.training.tuning import tuned_names

__all__ = ["CheckpointWriter", "check_room", "checkpoint_size"]


class CheckpointWriter(TorchCheckpointIO):
    """Lightning's way to a checkpoint file, beside the target and then under its name.

    Lightning's own goes through `$TMPDIR`, and takes "permission denied" for success. `last.ckpt`
    becomes `previous.ckpt` when a new one is there.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        """Write, flush, read back and rename.

        Raises:
            ValueError: weights that are not finite; nothing is written. OSError: as `writing`.
        """
        path = Path(path)
        for key in ("state_dict", "current_model_state"):
            if names := not_finite(checkpoint.get(key, {})):
                raise ValueError(
                    f"{len(names)} tensors of the model are not finite, such as {names[0]}: "
                    f"{path} is left as it was; go on from it with a lower init_lr"
                )
        with replacing(path, _size(checkpoint)) as temporary:
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
            try:
                check_sums(temporary)
            except ValueError as error:
                raise OSError(f"what was written {error}") from error
            if path.name == LAST and path.is_file():
                _keep(path, path.with_name(PREVIOUS))


def _keep(last: Path, previous: Path) -> None:
    """Give the file a second name, so that `last` is there at every moment."""
    link = previous.with_name(f".{previous.name}.{os.getpid()}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(last, link)
    except OSError:  # not every file system can
        link = last
    os.replace(link, previous)


def _size(content: Any) -> int:
    """Bytes of all tensors in a checkpoint."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        content = content.values()
    return sum(map(_size, content)) if not isinstance(content, str | int | float | None) else 0


def checkpoint_size(model: nn.Module, tune: str, moment_bytes: int, average: bool) -> int:
    """Bytes that a checkpoint of `model` will have, about.

    moment_bytes: of one of the optimiser's two moments of a number; average: is it kept as well?
    """
    state = model.state_dict()
    names = state if tune == "all" else tuned_names(state, tune)
    weights = sum(state[name].numel() * state[name].element_size() for name in names)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return weights * (1 + average) + trained * 2 * moment_bytes


def check_room(folder: Path, names: Iterable[str], size: int) -> None:
    """OSError unless files of `size` bytes each can be written as `names` into `folder`.

    One more is there while one of them is renewed.
    """
    probe = folder / f".{LAST}.{os.getpid()}.tmp"
    with writing(folder / LAST, size):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"?" * 4096)
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
    needed = size * (1 + sum(not (folder / name).exists() for name in names))
    if (free := disk_usage(folder).free) < needed:
        raise OSError(
            f"{folder} has {free / 1e6:,.0f} MB left, but this run's checkpoints need about "
            f"{needed / 1e6:,.0f} MB more, of {size / 1e6:,.0f} MB each; free some space, or set "
            f"ckpt_dir to another disk"
        )
